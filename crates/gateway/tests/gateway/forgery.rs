//! Forged tokens: each is refused, and all of them look alike from outside (R10, R11, R14).

use std::collections::BTreeSet;

use proto::snapshot::{Change, TokenCertificate};
use proto::token::TokenClass;
use serde_json::{Value, json};

use crate::device::{Device, get};
use crate::provider::{AUDIENCE, FIRST, SECOND, TENANT, device_claims, encode, header, sign, tenant, token};
use crate::tenant::onboarded;

/// A good token with one character exchanged, in many places; with parts cut, added, swapped, and written in
/// other ways.
fn damaged(good: &str) -> Vec<String> {
    let mut variants = Vec::new();
    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, signature] = parts[..] else { panic!("three parts") };
    for part in 0..3 {
        let length = parts[part].len();
        for step in 0..60 {
            let at = step * length / 60;
            let mut parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            let other = if parts[part].as_bytes()[at] == b'A' { "B" } else { "A" };
            parts[part].replace_range(at..=at, other);
            variants.push(parts.join("."));
        }
    }
    variants.extend([
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        head.into(),
        format!("{head}.{body}"),
        format!("{head}.{body}."),
        format!(".{body}.{signature}"),
        format!("{head}..{signature}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}"),
        format!("{head}.{body}.{signature}="),
        format!("{head}=.{body}.{signature}"),
        format!("{body}.{head}.{signature}"),
        format!("{head}.{body}.{}", signature.get(..signature.len() - 4).unwrap()),
        format!("{head}.{body}.{signature}AAAA"),
        format!("{head}.{body}.{}", encode([0; 256])),
        format!("{head}.{body}.{}", encode([255; 256])),
        format!("{head}.{body},{signature}"),
        good.to_uppercase(),
        good.chars().rev().collect(),
        "a".repeat(16 * 1024 + 1),
        format!("{good}{}", "A".repeat(16 * 1024)),
    ]);
    for header in ["none", "None", "NONE", "", "HS256", "HS512", "RS1", "RS256 ", "rs256", "ES256", "EdDSA"] {
        let head = encode(json!({"typ": "JWT", "alg": header, "kid": FIRST.kid}).to_string());
        variants.extend([format!("{head}.{body}.{signature}"), format!("{head}.{body}.")]);
    }
    variants
}

/// Good signatures of the provider's own key under claims and headers that it would never write, and others'
/// signatures under those that it would.
fn signed_nonsense() -> Vec<String> {
    let good = device_claims();
    let mut variants = Vec::new();
    let mut claim = |name: &str, value: Option<Value>| {
        let mut claims = good.clone();
        match value {
            Some(value) => claims[name] = value,
            None => drop(claims.as_object_mut().unwrap().remove(name)),
        }
        variants.push(token(&claims, FIRST));
    };
    for (name, values) in [
        ("aud", vec![json!("https://other"), json!([AUDIENCE]), json!(format!("{AUDIENCE}/")), json!(1)]),
        ("aud", vec![json!(AUDIENCE.to_lowercase()), json!(""), json!(null), json!({"a": AUDIENCE})]),
        ("iss", vec![json!("https://sts.windows.net/"), json!("https://evil.example/"), json!(null)]),
        ("iss", vec![json!([good["iss"]]), json!(format!("{}x", good["iss"].as_str().unwrap()))]),
        ("tid", vec![json!("common"), json!(null), json!([TENANT.to_string()]), json!(1)]),
        (
            "tid",
            vec![json!("dddddddd-dddd-dddd-dddd-dddddddddddd"), json!(TENANT.to_string().to_uppercase())],
        ),
        ("exp", vec![json!("1790003600"), json!(null), json!([1]), json!(1.5e300), json!(true)]),
        ("nbf", vec![json!("0"), json!(null), json!({}), json!(-1e300)]),
        ("idtyp", vec![json!("app"), json!("Device"), json!("user"), json!(1), json!("")]),
        ("deviceid", vec![json!("x"), json!(1), json!(null), json!("00000000-0000-0000-0000-000000000000")]),
    ] {
        claim(name, None);
        for value in values {
            claim(name, Some(value));
        }
    }
    // Without its kind a token that names a device is still a device's: it stays good.
    let mut kindless = good.clone();
    kindless.as_object_mut().unwrap().remove("idtyp");
    let kindless = token(&kindless, FIRST);
    variants.retain(|text| *text != kindless);

    let text = good.to_string();
    let mut head = |value: Value, number| variants.push(sign(&value.to_string(), text.as_bytes(), number));
    let other = SECOND.number;
    head(header(FIRST), other);
    head(header(SECOND), FIRST.number);
    let of = |name: &str, value: Value| {
        let mut header = header(FIRST);
        header[name] = value;
        header
    };
    for (name, value) in [
        ("jwk", json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"})),
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/certificate")),
        ("x5c", json!(["AAAA"])),
    ] {
        head(of(name, value), other);
    }
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("typ", json!("secevent+jwt")),
        ("typ", json!("logout+jwt")),
        ("kid", json!("../../../../dev/null")),
        ("kid", json!("' OR 1=1 --")),
        ("kid", json!(["first"])),
        ("kid", json!("FIRST")),
        ("kid", json!("")),
        ("kid", json!(null)),
        ("alg", json!(null)),
        ("alg", json!("PS256")),
        ("alg", json!("RS384")),
    ] {
        head(of(name, value), FIRST.number);
    }
    let good_head = header(FIRST).to_string();
    let mut raw = |header: &str, claims: &[u8]| variants.push(sign(header, claims, FIRST.number));
    raw(r#"{"alg":"RS256","kid":"first","kid":"first"}"#, text.as_bytes());
    raw(&good_head, text.replacen('{', r#"{"aud":"https://other","#, 1).as_bytes());
    raw(&good_head, &[text.as_bytes(), b"x"].concat());
    raw(&good_head, &[b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat());
    raw(&good_head, text.replace("device", "devic\u{7f}").as_bytes());
    raw(&good_head, &text.as_bytes().iter().map(|byte| byte | 0x80).collect::<Vec<_>>());
    raw(&good_head, format!("[{text}]").as_bytes());
    raw(&good_head, format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500)).as_bytes());
    raw(&good_head, b"");
    raw("[]", text.as_bytes());
    raw("", text.as_bytes());
    // A tenant that calls itself the site.
    let mut site = good;
    site["iss"] = json!("urn:sccm:oauth2:03030303-0303-0303-0303-030303030303");
    raw(r#"{"typ":"JWT","alg":"RS256"}"#, site.to_string().as_bytes());
    raw(&good_head, site.to_string().as_bytes());
    variants
}

#[tokio::test]
async fn every_forgery_of_a_tenants_or_a_sites_token_gets_the_same_answer() {
    let (gateway, connector) = onboarded().await;
    let device = Device::new(1);
    let holder = Some((device.id, device.thumbprint()));
    let mut connection = device.connect(&gateway).await;
    let mut expected = BTreeSet::new();
    let mut counts = Vec::new();
    let good = token(&device_claims(), FIRST);
    assert_eq!(connection.ask(get("ServerAuth", "/CCM_STS", Some(&good))).await.refusal(), (200, None));
    let mut sets = vec![("tenant", damaged(&good)), ("signed nonsense", signed_nonsense())];
    for class in TokenClass::ALL {
        let good = gateway.site.token(class, holder.filter(|_| class != TokenClass::Bulk));
        sets.push((class_name(class), damaged(&good)));
    }
    for (name, forged) in sets {
        let distinct: BTreeSet<_> = forged.iter().filter(|text| !text.is_empty()).collect();
        for text in &distinct {
            let got = connection.ask(get("ServerAuth", "/CCM_STS", Some(text))).await;
            assert_eq!(got.refusal(), (401, Some("RG-1202")), "{name}: {text}");
            expected.insert(got.face());
        }
        counts.push((name, distinct.len()));
    }
    assert_eq!(expected.len(), 1, "all look alike");
    println!("refused alike: {counts:?}");
    assert!(counts[0].1 + counts[1].1 >= 200 && counts[2..].iter().all(|(_, count)| *count >= 200));
    assert_eq!(connector.requests().len(), 1);
    gateway.stop().await;
}

const fn class_name(class: TokenClass) -> &'static str {
    match class {
        TokenClass::Bulk => "bulk",
        TokenClass::SelfProve => "self-prove",
        TokenClass::PreAuth => "pre-auth",
        TokenClass::Device => "device",
        TokenClass::User => "user",
    }
}

#[tokio::test]
async fn tokens_of_nobody_onboarded_look_like_every_other_forgery() {
    let (gateway, connector) = onboarded().await;
    let mut connection = Device::new(1).connect(&gateway).await;
    let good = token(&device_claims(), FIRST);
    let faces = async |connection: &mut crate::device::Connection| {
        let face = connection.ask(get("ServerAuth", "/CCM_STS", Some(&good))).await.face();
        (face, connection.ask(get("ServerAuth", "/CCM_STS", Some("x.y.z"))).await.face())
    };
    connector.change(&gateway.site, 6, vec![Change::RemoveTenant(TENANT)]).await;
    let (stranger, forged) = faces(&mut connection).await;
    assert_eq!(stranger, forged);
    let mut elsewhere = tenant(&[SECOND]);
    elsewhere.audiences = vec!["https://another.site".into()];
    connector.change(&gateway.site, 7, vec![Change::SetTenant(elsewhere)]).await;
    let (unknown_key, forged) = faces(&mut connection).await;
    assert_eq!(unknown_key, forged);
    let no_keys: Vec<TokenCertificate> = Vec::new();
    connector.change(&gateway.site, 8, vec![Change::SetTokenCertificates(no_keys)]).await;
    let (still, forged) = faces(&mut connection).await;
    assert_eq!(still, forged);
    gateway.stop().await;
}
