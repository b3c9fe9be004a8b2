//! The x509-limbo cases of `../shared/vectors`, as a client and as a server.
//!
//! Every wrong answer must stand in [`DIVERGENCES`] with its reason, and every row there must still be
//! a wrong answer, so that the list never holds more than it must.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proto::pki::{Crl, CrlPolicy, RevocationSettings, TrustList, TrustStore, TrustedCa, Usage};
use proto::time::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

/// Cases in which we answer otherwise than the vectors, and why. The first word says what we do.
const DIVERGENCES: &[(&str, &str)] = &[
    (
        "pathlen::self-issued-certs-pathlen",
        "refused: webpki counts an authority that issued a certificate to itself against the path length; the \
         safe side",
    ),
    (
        "rfc5280::nc::permitted-self-issued",
        "refused: webpki applies name constraints to such a certificate too; the safe side",
    ),
    (
        "rfc5280::nc::permitted-dn-match",
        "refused: webpki does not compare directory names, so a constraint on them lets none pass; the safe side",
    ),
    (
        "rfc5280::nc::nc-permits-email-exact",
        "refused: webpki does not compare mail addresses, so a constraint on them lets none pass; the safe side",
    ),
    ("rfc5280::nc::nc-permits-email-literal-asterisk-exact-match", "refused: as nc-permits-email-exact"),
    (
        "rfc5280::ca-as-leaf",
        "refused: R8, an authority's certificate opens no door; webpki::ca-as-leaf agrees",
    ),
    (
        "rfc5280::aki::leaf-missing-aki",
        "accepted: a duty of the issuer without a meaning for the path; small authorities leave it out",
    ),
    (
        "rfc5280::nc::permitted-dns-match-noncritical",
        "accepted: the constraints are obeyed, critical or not; many authorities mark them so",
    ),
    (
        "webpki::aki::root-with-aki-authoritycertissuer",
        "accepted: a rule of public authorities; a root says nothing by it, and openssl wrote it for years",
    ),
    (
        "webpki::aki::root-with-aki-authoritycertserialnumber",
        "accepted: as root-with-aki-authoritycertissuer",
    ),
    (
        "webpki::eku::ee-anyeku",
        "accepted: a rule of public authorities; the usage that is asked for stands beside 'any'",
    ),
    (
        "webpki::eku::root-has-eku",
        "accepted: a rule of public authorities; the root's usages are obeyed, and name the one asked for",
    ),
];

/// Cases about nothing but the name of a server, which is judged elsewhere (README of the vectors).
const NAME_ONLY: &[&str] = &["webpki::san", "webpki::cn", "rfc5280::san", "invalid::"];

#[test]
fn client_chains_are_judged_as_the_vectors_say() {
    run("limbo-client-even.json", Usage::Client);
}

#[test]
fn server_chains_are_judged_as_the_vectors_say() {
    run("limbo-server-even.json", Usage::Server);
}

fn run(file: &str, usage: Usage) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/x509-limbo").join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {} is not there", path.display());
        return;
    };
    let cases: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    let cases = cases["testcases"].as_array().expect("cases");
    let mut counts = [0; 3];
    let mut surprises = Vec::new();
    for case in cases {
        let id = case["id"].as_str().expect("an id");
        if NAME_ONLY.iter().any(|prefix| id.starts_with(prefix)) {
            counts[0] += 1;
            continue;
        }
        // A few are made for clients in both files.
        let usage = if case["validation_kind"] == "CLIENT" { Usage::Client } else { usage };
        let wanted = case["expected_result"] == "SUCCESS";
        let answer = judge(case, usage);
        let listed = DIVERGENCES.iter().any(|(listed, _)| *listed == id);
        counts[1 + usize::from(listed)] += 1;
        if (answer.is_ok() == wanted) == listed {
            surprises.push(format!("{id}: wanted {wanted}, listed {listed}: {answer:?}"));
        }
    }
    println!(
        "{file}: {} cases agree, {} are listed divergences, {} are about names only",
        counts[1], counts[2], counts[0]
    );
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    assert!(counts[1] > 60, "the vectors are there");
}

fn judge(case: &Value, usage: Usage) -> Result<(), String> {
    let at = moment(&case["validation_time"]);
    let mut chain = pem(&[&case["peer_certificate"]]);
    chain.extend(pem_list(&case["untrusted_intermediates"]));
    let authorities: Vec<_> =
        pem_list(&case["trusted_certs"]).into_iter().map(|der| TrustedCa { der, root: true }).collect();
    let mut revocations = BTreeMap::new();
    let lists = case["crls"].as_array().cloned().unwrap_or_default();
    for list in &lists {
        let list = Crl::parse(list.as_str().expect("PEM").as_bytes()).map_err(|error| error.to_string())?;
        for authority in &authorities {
            if let Ok(read) = list.verify(&authority.der, None, at) {
                revocations.insert(read.issuer, Arc::new(read));
            }
        }
    }
    let settings = RevocationSettings { check: !lists.is_empty(), policy: CrlPolicy::Hard, grace_seconds: 0 };
    let mut store = TrustStore::new(&TrustList { authorities }, &revocations, settings)
        .map_err(|error| error.to_string())?;
    if let Some(intermediates) = case["max_chain_depth"].as_u64() {
        store = store.with_longest_path(usize::try_from(intermediates).expect("small") + 2);
    }
    store.judge(&chain, usage, at).map(|_| ()).map_err(|distrust| distrust.to_string())
}

fn moment(text: &Value) -> Timestamp {
    let text = text.as_str().unwrap_or("2026-01-01T00:00:00Z").replace("+00:00", "Z");
    Timestamp::parse_iso8601(&text).expect("a time")
}

fn pem_list(list: &Value) -> Vec<Vec<u8>> {
    pem(&list.as_array().expect("a list").iter().collect::<Vec<_>>())
}

fn pem(list: &[&Value]) -> Vec<Vec<u8>> {
    list.iter()
        .map(|text| {
            CertificateDer::from_pem_slice(text.as_str().expect("PEM").as_bytes()).expect("PEM").to_vec()
        })
        .collect()
}
