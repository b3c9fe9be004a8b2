//! The Wycheproof signature vectors of `../shared/vectors`, through every place where the key of a
//! certificate verifies something.

use std::path::Path;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use proto::client_certificate::Scheme;
use proto::trust::verify_rsa;
use serde_json::Value;

/// One vector: key (public key info), message, signature.
struct Vector<'a> {
    key: &'a [u8],
    message: &'a [u8],
    signature: &'a [u8],
}

/// Runs a file; `verify` says whether a signature holds, or `None` where a vector cannot be put to it.
fn run(file: &str, verify: impl Fn(&Vector<'_>) -> Option<bool>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/wycheproof").join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {} is not there", path.display());
        return;
    };
    let document: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    let bytes = |value: &Value| hex(value.as_str().expect("hex"));
    let (mut valid, mut invalid, mut left_out) = (0, 0, 0);
    for group in document["testGroups"].as_array().expect("groups") {
        let key = bytes(&group["publicKeyDer"]);
        for test in group["tests"].as_array().expect("tests") {
            let (message, signature) = (bytes(&test["msg"]), bytes(&test["sig"]));
            let vector = Vector { key: &key, message: &message, signature: &signature };
            match (verify(&vector), test["result"].as_str().expect("a result")) {
                (None, _) | (Some(_), "acceptable") => left_out += 1,
                (Some(true), "valid") => valid += 1,
                (Some(false), "invalid") => invalid += 1,
                (Some(holds), wanted) => panic!("{file} {}: {wanted}, and holds: {holds}", test["tcId"]),
            }
        }
    }
    println!("{file}: {valid} hold, {invalid} do not, {left_out} left out");
    assert!(valid > 5 && invalid > 30, "the vectors are there");
}

fn hex(text: &str) -> Vec<u8> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    text.as_bytes().chunks(2).map(pair).collect()
}

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).expect("short").to_be_bytes();
    let header = match content.len() {
        0..=127 => vec![tag, length[1]],
        128..=255 => vec![tag, 0x81, length[1]],
        _ => vec![tag, 0x82, length[0], length[1]],
    };
    [header, content].concat()
}

/// A certificate with this key. Nobody signed it: possession of keys is judged here, not trust.
fn certificate(key: &[u8]) -> Vec<u8> {
    let algorithm = element(0x30, &[&element(6, &[&[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2]])]);
    let name = element(0x30, &[]);
    let date = element(0x17, &[b"260101000000Z"]);
    let dates = element(0x30, &[&date, &date]);
    let version = element(0xA0, &[&[2, 1, 2]]);
    let tbs = element(0x30, &[&version, &[2, 1, 1], &algorithm, &name, &dates, &name, key]);
    element(0x30, &[&tbs, &algorithm, &element(3, &[&[0, 1]])])
}

fn proves(scheme: Scheme) -> impl Fn(&Vector<'_>) -> Option<bool> {
    move |vector| {
        let certificate = certificate(vector.key);
        assert_eq!(Scheme::of(&certificate), Some(scheme));
        Some(scheme.verify(&certificate, vector.message, vector.signature).is_ok())
    }
}

#[test]
fn rsa_signatures_of_requests_and_snapshots() {
    for bits in ["2048", "3072", "4096"] {
        run(&format!("rsa_signature_{bits}_sha256_test.json"), |vector| {
            Some(verify_rsa(&certificate(vector.key), vector.message, vector.signature).is_ok())
        });
    }
}

#[test]
fn rsa_pss_signatures_of_certificate_proofs() {
    run("rsa_pss_2048_sha256_mgf1_32_test.json", proves(Scheme::RsaPssSha256));
}

#[test]
fn ecdsa_signatures_of_certificate_proofs() {
    run("ecdsa_secp256r1_sha256_test.json", proves(Scheme::EcdsaP256Sha256));
    // There are none for P-384 in ASN.1: those of two plain numbers, written so.
    run("ecdsa_secp384r1_sha384_p1363_test.json", |vector| {
        if vector.signature.len() != 96 {
            return None;
        }
        let (r, s) = vector.signature.split_at(48);
        let signature = element(0x30, &[&integer(r), &integer(s)]);
        proves(Scheme::EcdsaP384Sha384)(&Vector { signature: &signature, ..*vector })
    });
}

/// Signed answers: the call that `http_signature` makes, which lets nobody choose the message.
#[test]
fn ecdsa_signatures_of_answers() {
    run("ecdsa_secp256r1_sha256_p1363_test.json", |vector| {
        let certificate = certificate(vector.key);
        let (_, read) = x509_parser::parse_x509_certificate(&certificate).expect("a certificate");
        let point = read.public_key().subject_public_key.data.as_ref();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        Some(key.verify(vector.message, vector.signature).is_ok())
    });
}

fn integer(digits: &[u8]) -> Vec<u8> {
    let zeros = digits.iter().take_while(|byte| **byte == 0).count().min(digits.len() - 1);
    let digits = &digits[zeros..];
    let sign: &[u8] = if digits[0] >= 0x80 { &[0] } else { &[] };
    element(2, &[sign, digits])
}
