//! The proof of a device: a signed statement made with its workplace-join key.
//!
//! ```text
//! header  { "alg": "RS256" | "PS256" | "ES256", "x5c"?: [certificate] }
//! claims  { "sub": device id, "aud": address of the token endpoint, "exp", "nbf"?, "jti" }
//! ```
//! `iss`, where it stands, must equal `sub`.

use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proto::id::Guid;
use proto::time::Timestamp;
use serde::Deserialize;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::DeviceSeed;
use crate::refusal::Refusal;
use crate::state::Tenant;

/// Longest proof in bytes: a certificate in its header and a signature.
const PROOF_BYTES: usize = 16 * 1024;
/// A proof counts for at most this long, so that what must be remembered stays small.
const LONGEST: Duration = Duration::from_mins(10);
/// How far the device's clock may be off.
const SKEW: Duration = Duration::from_mins(5);

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    x5c: Vec<String>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Guid,
    #[serde(default)]
    iss: Option<String>,
    aud: String,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
    jti: String,
}

/// Which device proved itself. `endpoints` are the addresses that the proof may be made out to.
pub(crate) fn prove_device(
    tenant: &mut Tenant,
    proof: &str,
    endpoints: &[String],
    now: Timestamp,
) -> Result<DeviceSeed, Refusal> {
    let unreadable = || Refusal::client(50_027, "The assertion is not a readable signed token.");
    if proof.len() > PROOF_BYTES {
        return Err(unreadable());
    }
    let (signed, signature) = proof.rsplit_once('.').ok_or_else(unreadable)?;
    let (header, payload) = signed.split_once('.').ok_or_else(unreadable)?;
    let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| unreadable());
    let header: Header = serde_json::from_slice(&bytes(header)?).map_err(|_| unreadable())?;
    let claims: Claims = serde_json::from_slice(&bytes(payload)?).map_err(|_| unreadable())?;

    let unknown = || Refusal::client(700_003, format!("Device '{}' is not in the directory.", claims.sub));
    let device = tenant.device(claims.sub).cloned().ok_or_else(unknown)?;
    let certificate = device.certificate.as_deref().and_then(|text| STANDARD.decode(text).ok());
    let certificate = certificate.ok_or_else(unknown)?;
    let wrong_key =
        || Refusal::client(700_027, "The assertion is not signed with the device's registered key.");
    let shown = header.x5c.first();
    if shown.is_some_and(|shown| STANDARD.decode(shown).ok().as_deref() != Some(&*certificate)) {
        return Err(wrong_key());
    }
    let (_, certificate) = X509Certificate::from_der(&certificate).map_err(|_| unknown())?;
    let algorithm = algorithm(&header.alg).ok_or_else(wrong_key)?;
    let key = &certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(algorithm, key.as_ref())
        .verify(signed.as_bytes(), &bytes(signature)?)
        .map_err(|_| wrong_key())?;

    if claims.iss.is_some_and(|issuer| !issuer.eq_ignore_ascii_case(&claims.sub.to_string())) {
        return Err(Refusal::client(700_021, "The assertion's issuer is not the device."));
    }
    if !endpoints.contains(&claims.aud) {
        return Err(Refusal::client(700_212, "The assertion is for another audience."));
    }
    let expires = Timestamp::from_seconds(claims.exp);
    let not_before = claims.nbf.map_or(now, Timestamp::from_seconds);
    if now >= expires.plus(SKEW) || not_before > now.plus(SKEW) || expires > now.plus(LONGEST + SKEW) {
        return Err(Refusal::client(700_024, "The assertion is not within its valid time."));
    }
    if !device.enabled {
        return Err(Refusal::bad("invalid_grant", 135_011, "The device is disabled."));
    }
    // Last, so that a stranger cannot use up another's proof.
    if claims.jti.is_empty() || !tenant.proofs.insert(&claims.jti, expires.plus(SKEW), (), now) {
        return Err(Refusal::client(700_028, "The assertion was used before."));
    }
    Ok(device)
}

fn algorithm(name: &str) -> Option<&'static dyn VerificationAlgorithm> {
    match name {
        "RS256" => Some(&RSA_PKCS1_2048_8192_SHA256),
        "PS256" => Some(&RSA_PSS_2048_8192_SHA256),
        "ES256" => Some(&ECDSA_P256_SHA256_FIXED),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::TenantConfig;

    const ENDPOINT: &str = "https://localhost:1/t/oauth2/v2.0/token";
    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const DEVICE: Guid = Guid::from_bytes([3; 16]);

    struct Joined {
        tenant: Tenant,
        key: RsaKeyPair,
        certificate: Vec<u8>,
    }

    fn joined() -> Joined {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = key.as_der().unwrap();
        let signer = rcgen::KeyPair::try_from(&PrivatePkcs8KeyDer::from(der.as_ref())).unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&signer).unwrap().der().to_vec();
        let mut config = TenantConfig::new(Guid::from_bytes([7; 16]), "Contoso");
        config.devices.push(DeviceSeed::joined(DEVICE, "PC1", &certificate));
        Joined { tenant: Tenant::make(config).unwrap(), key, certificate }
    }

    impl Joined {
        fn claims(jti: &str) -> Value {
            json!({ "sub": DEVICE, "aud": ENDPOINT, "exp": NOW.seconds() + 300, "jti": jti })
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let signed = format!("{}.{}", part(header), part(claims));
            let mut signature = vec![0; self.key.public_modulus_len()];
            self.key
                .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
                .unwrap();
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        }

        fn prove(&mut self, proof: &str) -> Result<Guid, u32> {
            let proved = prove_device(&mut self.tenant, proof, &[ENDPOINT.to_owned()], NOW);
            proved.map(|device| device.id).map_err(|refusal| refusal.code())
        }
    }

    #[test]
    fn a_device_proves_itself_once_with_each_proof() {
        let mut joined = joined();
        let header = json!({ "alg": "RS256", "x5c": [STANDARD.encode(&joined.certificate)] });
        let proof = joined.sign(&header, &Joined::claims("one"));
        assert_eq!(joined.prove(&proof), Ok(DEVICE));
        assert_eq!(joined.prove(&proof), Err(700_028), "the same again");
        let next = joined.sign(&json!({ "alg": "RS256" }), &Joined::claims("two"));
        assert_eq!(joined.prove(&next), Ok(DEVICE), "without the certificate in it");
    }

    #[test]
    fn wrong_proofs_are_refused_with_their_own_number() {
        let mut joined = joined();
        let header = json!({ "alg": "RS256" });
        let changed = |name: &str, value: Value| {
            let mut claims = Joined::claims(name);
            claims[name] = value;
            claims
        };
        for (claims, code) in [
            (changed("aud", json!("https://elsewhere/token")), 700_212),
            (changed("exp", json!(NOW.seconds() - 301)), 700_024),
            (changed("exp", json!(NOW.seconds() + 3_600)), 700_024),
            (changed("nbf", json!(NOW.seconds() + 301)), 700_024),
            (changed("iss", json!("somebody")), 700_021),
            (changed("jti", json!("")), 700_028),
            (changed("sub", json!(Guid::from_bytes([9; 16]))), 700_003),
            (changed("exp", json!("soon")), 50_027),
        ] {
            let proof = joined.sign(&header, &claims);
            assert_eq!(joined.prove(&proof), Err(code), "{claims}");
        }
        let good = joined.sign(&header, &Joined::claims("good"));
        let (signed, _) = good.rsplit_once('.').unwrap();
        assert_eq!(joined.prove(&format!("{signed}.AAAA")), Err(700_027));
        let none = joined.sign(&json!({ "alg": "none" }), &Joined::claims("none"));
        assert_eq!(joined.prove(&none), Err(700_027));
        let other = joined.sign(&json!({ "alg": "RS256", "x5c": ["AAAA"] }), &Joined::claims("other"));
        assert_eq!(joined.prove(&other), Err(700_027));
        assert_eq!(joined.prove("nothing"), Err(50_027));
        assert_eq!(joined.prove(&good), Ok(DEVICE), "none of these used it up");
    }

    #[test]
    fn a_disabled_device_gets_nothing() {
        let mut joined = joined();
        let mut device = joined.tenant.device(DEVICE).unwrap().clone();
        device.enabled = false;
        joined.tenant.devices.put(device.object, device);
        let proof = joined.sign(&json!({ "alg": "RS256" }), &Joined::claims("one"));
        assert_eq!(joined.prove(&proof), Err(135_011));
    }
}
