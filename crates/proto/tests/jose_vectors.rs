//! Public test vectors for signatures, keys and JSON, from `../shared/vectors` where it is present.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::jose::{Compact, JsonError, Jwk, JwkSet, Unusable, parse_json};
use serde_json::Value;

/// Valid signatures that are refused all the same, each with the reason.
const REFUSED_ON_PURPOSE: &[(u64, &str)] = &[
    (346, "signed with PS384 by a key for PS256: a key has one algorithm"),
    (347, "P-521, by a key whose algorithm does not exist (ES521)"),
    (350, "signed with PS384 by a key for PS256: a key has one algorithm"),
    (351, "P-521, by a key whose algorithm does not exist (ES521)"),
];

/// Reads a file of vectors, or says why there is none.
fn vectors(file: &str) -> Option<Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let path = folder.join(file);
    let Ok(text) = std::fs::read(&path) else {
        println!("skipped: ../shared/vectors/{file} is not there");
        return None;
    };
    Some(serde_json::from_slice(&text).expect("vectors are JSON"))
}

/// Every test of a Wycheproof file, with its group.
fn tests(file: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    file["testGroups"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|group| group["tests"].as_array().into_iter().flatten().map(move |test| (group, test)))
}

/// The public half where the vectors have one.
fn key_of(group: &Value) -> &Value {
    group.get("public").unwrap_or(&group["private"])
}

fn is_accepted(key: &Jwk, test: &Value) -> bool {
    // Another serialisation than the compact one is no text at all.
    let Some(text) = test["jws"].as_str() else { return false };
    let key = key.prepare().expect("a key that was read can be used");
    Compact::parse(text).is_ok_and(|token| token.verify(&key).is_ok())
}

#[test]
fn no_signature_is_judged_otherwise_than_wycheproof_says() {
    let Some(file) = vectors("wycheproof/json_web_signature_test.json") else { return };
    let (mut total, mut accepted, mut refused, mut mac, mut wrong) = (0, 0, 0, 0, Vec::new());
    let mut on_purpose = Vec::new();
    for (group, test) in tests(&file) {
        total += 1;
        let id = test["tcId"].as_u64().expect("an id");
        if key_of(group)["kty"] == "oct" {
            assert_eq!(Jwk::from_json(key_of(group)), Err(Unusable::Secret));
            mac += 1;
            continue;
        }
        let holds = Jwk::from_json(key_of(group)).is_ok_and(|key| is_accepted(&key, test));
        match (holds, test["result"].as_str()) {
            (true, Some("valid" | "acceptable")) => accepted += 1,
            (false, Some("invalid" | "acceptable")) => refused += 1,
            (false, Some("valid")) if REFUSED_ON_PURPOSE.iter().any(|(known, _)| *known == id) => {
                on_purpose.push(id);
            }
            _ => wrong.push((id, holds, test["comment"].clone(), group["comment"].clone())),
        }
    }
    println!(
        "{total} cases: {accepted} accepted, {refused} refused, {mac} with a message authentication code \
         (all refused by design), {} valid ones refused on purpose: {on_purpose:?}",
        on_purpose.len()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(on_purpose.len(), REFUSED_ON_PURPOSE.len(), "the list names only what is refused");
}

#[test]
fn no_key_set_is_judged_otherwise_than_wycheproof_says() {
    let Some(file) = vectors("wycheproof/json_web_key_test.json") else { return };
    let (mut total, mut accepted, mut refused, mut mac, mut wrong) = (0, 0, 0, 0, Vec::new());
    for (group, test) in tests(&file) {
        total += 1;
        let set = key_of(group);
        let symmetric = set["keys"].as_array().into_iter().flatten().all(|key| key["kty"] == "oct");
        let document = serde_json::to_vec(set).expect("JSON");
        let holds = JwkSet::parse(&document).is_ok_and(|set| {
            let named = test["jws"].as_str().and_then(|text| Compact::parse(text).ok()).and_then(|token| {
                let kid = token.kid()?.to_owned();
                set.keys.into_iter().find(|key| key.kid == kid)
            });
            named.is_some_and(|key| is_accepted(&key, test))
        });
        match (holds, test["result"].as_str()) {
            _ if symmetric => {
                assert!(!holds);
                mac += 1;
            }
            (true, Some("valid" | "acceptable")) => accepted += 1,
            (false, Some("invalid" | "acceptable")) => refused += 1,
            _ => wrong.push((test.clone(), holds)),
        }
    }
    println!(
        "{total} cases: {accepted} accepted, {refused} refused, {mac} with symmetric keys only (refused)"
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_other_token_is_judged_otherwise_than_wycheproof_says() {
    let Some(file) = vectors("wycheproof/json_web_crypto_test.json") else { return };
    let (mut encrypted, mut mac, mut signed) = (0, 0, 0);
    for (group, test) in tests(&file) {
        let key = key_of(group);
        if let Some(jwe) = test.get("jwe") {
            encrypted += 1;
            let is_signed = jwe.as_str().is_some_and(|text| Compact::parse(text).is_ok());
            assert!(!is_signed, "nothing encrypted is taken for something signed: {test}");
            continue;
        }
        let keys = key["keys"].as_array().map_or(vec![key], |keys| keys.iter().collect());
        let holds = keys.iter().any(|key| Jwk::from_json(key).is_ok_and(|key| is_accepted(&key, test)));
        if keys.iter().all(|key| key["kty"] == "oct") {
            mac += 1;
            assert!(!holds, "{test}");
        } else {
            signed += 1;
            assert_eq!(holds, test["result"] == "valid", "{test}");
        }
    }
    println!("{encrypted} encrypted and {mac} authenticated by a symmetric key (refused), {signed} signed");
    assert!(encrypted > 0);
}

#[test]
fn json_is_read_as_the_json_test_suite_says_but_for_members_that_stand_twice() {
    let Some(file) = vectors("json/JSONTestSuite.json") else { return };
    let (mut accepted, mut refused, mut either, mut wrong) = (0, 0, 0, Vec::new());
    let mut twice = Vec::new();
    for case in file.as_array().expect("a list") {
        let name = case["name"].as_str().expect("a name");
        let text = STANDARD.decode(case["base64"].as_str().expect("base64")).expect("base64");
        let read = parse_json(&text);
        match (case["expect"].as_str(), &read) {
            (Some("accept"), Ok(_)) => accepted += 1,
            (Some("accept"), Err(JsonError::Duplicate)) => twice.push(name.to_owned()),
            (Some("reject"), Err(_)) => refused += 1,
            (Some("either"), _) => either += 1,
            _ => wrong.push((name.to_owned(), read)),
        }
    }
    println!(
        "JSON texts: {accepted} read, {refused} refused, {either} that may be either; refused because a member \
         stands twice: {twice:?}"
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(twice.iter().all(|name| name.contains("duplicated_key")), "{twice:?}");
}
