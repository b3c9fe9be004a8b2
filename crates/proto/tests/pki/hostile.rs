//! Chains that somebody made to be a burden.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::pki::{
    Crl, CrlPolicy, Distrust, IssuerId, RevocationSettings, TrustList, TrustStore, TrustedCa, Usage,
};

use crate::lab::{CA, ListWish, NOW, Wish, kept, lab, store};

const NO_CHECK: RevocationSettings =
    RevocationSettings { check: false, policy: CrlPolicy::Hard, grace_seconds: 0 };

#[test]
fn no_cut_or_changed_leaf_is_trusted() {
    let Some(lab) = lab() else { return };
    let root = lab.root("/O=Lab/CN=Lab Root", "root");
    let issuing = lab.authority(&root, "/O=Lab/CN=Lab Issuing", "issuing", "21");
    let good = lab.issue(&issuing, &Wish::default());
    let store =
        store(vec![root.as_root(), issuing.as_intermediate()], Vec::new(), NO_CHECK).expect("a store");
    let judge = |leaf: &[u8]| store.judge(&[leaf.to_vec()], Usage::Client, NOW);
    assert!(judge(&good).is_ok());
    for end in 0..good.len() {
        assert_eq!(judge(&good[..end]), Err(Distrust::Unreadable), "cut at {end}");
        assert_eq!(IssuerId::of(&good[..end]), None);
    }
    assert_eq!(judge(&[&good[..], &[0]].concat()), Err(Distrust::Unreadable), "something follows");
    let mut changed = good.clone();
    for (place, byte) in good.iter().enumerate() {
        for bit in 0..8 {
            changed[place] = byte ^ (1 << bit);
            assert!(judge(&changed).is_err(), "byte {place}, bit {bit}");
        }
        changed[place] = *byte;
    }
    // An authority in the trust list, cut: it does not come into it.
    for end in 0..root.der.len() {
        let list = TrustList { authorities: vec![TrustedCa { der: root.der[..end].to_vec(), root: true }] };
        assert!(
            TrustStore::new(&list, &std::collections::BTreeMap::new(), NO_CHECK).is_err(),
            "cut at {end}"
        );
    }
}

#[test]
fn a_knot_of_authorities_of_one_name_is_given_up_soon() {
    let Some(lab) = lab() else { return };
    let root = lab.root("/O=Lab/CN=Twin", "root");
    // All of one name, signed by each other: by name alone there are thousands of paths.
    let keys = ["issuing", "deeper", "other", "p384", "rsa", "rsa-authority", "leaf"];
    let stranger = lab.root("/O=Lab/CN=Twin", "issuing");
    let mut twins = vec![stranger];
    for key in &keys[1..] {
        let above = twins.last().expect("one").clone();
        twins.push(lab.authority(&above, "/O=Lab/CN=Twin", key, "51"));
    }
    let leaf = lab.issue(twins.last().expect("one"), &Wish { key: "leaf", ..Wish::default() });
    let mut chain = vec![leaf];
    chain.extend(twins.iter().map(|twin| twin.der.clone()));
    let mut authorities = vec![root.as_root()];
    authorities.extend(twins.iter().take(3).map(crate::lab::Authority::as_intermediate));
    let store = store(authorities, Vec::new(), NO_CHECK).expect("a store");
    let before = Instant::now();
    let judged = store.judge(&chain, Usage::Client, NOW);
    println!("seven twins: {:?} after {:?}", judged, before.elapsed());
    assert!(matches!(judged, Err(Distrust::UnknownIssuer { .. } | Distrust::Invalid { .. })), "{judged:?}");
    assert!(before.elapsed() < Duration::from_millis(500), "it took {:?}", before.elapsed());
}

#[test]
fn a_certificate_that_is_too_long_or_has_too_many_extensions_is_not_looked_at() {
    let Some(lab) = lab() else { return };
    let root = lab.root("/O=Lab/CN=Lab Root", "root");
    let store = store(vec![root.as_root()], Vec::new(), NO_CHECK).expect("a store");
    let names: Vec<_> = (0..1_000).map(|n| format!("DNS:host-number-{n}.lab.example")).collect();
    let long = format!("subjectAltName={}\n", names.join(","));
    let leaf = lab.issue(&root, &Wish { extensions: &long, ..Wish::default() });
    assert!(leaf.len() > proto::limits::CHAIN_CERTIFICATE_BYTES);
    assert_eq!(store.judge(&[leaf], Usage::Client, NOW), Err(Distrust::Unreadable));
    let many: Vec<_> = (0..65).map(|n| format!("1.2.3.{n}=ASN1:NULL\n")).collect();
    let many = many.concat();
    let leaf = lab.issue(&root, &Wish { extensions: &many, ..Wish::default() });
    match store.judge(&[leaf], Usage::Client, NOW) {
        Err(Distrust::Invalid { detail, .. }) => assert!(detail.ends_with("extensions"), "{detail}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn inputs_that_fuzzers_found_are_refused() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/corpus");
    let trusted = lab().map(|lab| lab.root("/O=Lab/CN=Lab Root", "root").as_root());
    let store = store(trusted.into_iter().collect(), Vec::new(), NO_CHECK).expect("a store");
    let mut cases = 0;
    for file in ["go-fuzz-x509.json", "go-fuzz-asn1.json"] {
        let Ok(text) = std::fs::read_to_string(folder.join(file)) else {
            println!("skipped: {} is not there", folder.join(file).display());
            return;
        };
        let document = serde_json::from_str(&text).expect("JSON");
        for input in strings(&document).into_iter().filter_map(|text| STANDARD.decode(text).ok()) {
            for end in (0..input.len()).step_by(input.len() / 20 + 1).chain([input.len()]) {
                let input = &input[..end];
                assert!(store.judge(&[input.to_vec(), input.to_vec()], Usage::Client, NOW).is_err());
                let _ = (Crl::parse(input), Crl::distribution_points(input));
                let list = TrustList { authorities: vec![TrustedCa { der: input.to_vec(), root: true }] };
                let _ = TrustStore::new(&list, &std::collections::BTreeMap::new(), NO_CHECK);
                cases += 1;
            }
        }
    }
    println!("{cases} inputs");
    assert!(cases > 1_000, "the corpus is there: {cases}");
}

fn strings(value: &serde_json::Value) -> Vec<&str> {
    match value {
        serde_json::Value::String(text) => vec![text],
        serde_json::Value::Array(list) => list.iter().flat_map(strings).collect(),
        serde_json::Value::Object(map) => map.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

/// No bound on a busy machine and without optimisation: the number is printed.
#[test]
fn a_judgement_takes_little() {
    let Some(lab) = lab() else { return };
    let root = lab.root("/O=Lab/CN=RSA Root", "rsa-authority");
    let wish = Wish {
        subject: "/O=Lab/CN=RSA Issuing",
        key: "rsa",
        serial: "21",
        extensions: CA,
        ..Wish::default()
    };
    let issuing = lab.authority_as(&root, &wish);
    let lists =
        [&root, &issuing].map(|authority| kept(lab, authority, &ListWish::default())).into_iter().collect();
    let store = store(vec![root.as_root()], lists, RevocationSettings::default()).expect("a store");
    let chain = [lab.issue(&issuing, &Wish::default()), issuing.der.clone()];
    let before = Instant::now();
    for _ in 0..200 {
        store.judge(&chain, Usage::Client, NOW).expect("good");
    }
    println!("one judgement of leaf, issuing authority and root (RSA-2048): {:?}", before.elapsed() / 200);
}
