//! Attacks on the header: another algorithm, another key, extensions, and JSON that two readers read
//! in two ways. Whoever can, signs them with the good key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::key::mac;
use super::{Forged, Genuine, object, seal, with};

pub(super) fn forgeries(genuine: &Genuine<'_>) -> Vec<Forged> {
    let mut list = algorithms(genuine);
    list.extend(keys_of_the_sender(genuine));
    list.extend(names_of_keys(genuine));
    list.extend(extensions(genuine));
    list.extend(spellings(genuine));
    list
}

fn sealed(genuine: &Genuine<'_>, what: String, header: &str) -> Forged {
    let text = genuine.sealed(header.as_bytes(), object(&genuine.claims).as_bytes());
    Forged { what, text, signed: true }
}

fn with_member(genuine: &Genuine<'_>, name: &str, value: Option<Value>) -> Forged {
    let what = format!("{name} is {}", value.as_ref().map_or("missing".to_owned(), short));
    sealed(genuine, what, &object(&with(&genuine.header, name, value)))
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

fn algorithms(genuine: &Genuine<'_>) -> Vec<Forged> {
    let mut list: Vec<Forged> = [
        json!("none"),
        json!("None"),
        json!("NONE"),
        json!("nOnE"),
        json!(""),
        json!(" RS256"),
        json!("RS256 "),
        json!("rs256"),
        json!("RS256\u{0}"),
        json!("RS1"),
        json!("RSA"),
        json!("RS384"),
        json!("RS512"),
        json!("PS256"),
        json!("ES256"),
        json!("ES256K"),
        json!("EdDSA"),
        json!("HS256"),
        json!("dir"),
        json!("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"),
        json!(256),
        json!(null),
        json!(true),
        json!(["RS256"]),
        json!({"name": "RS256"}),
    ]
    .into_iter()
    .map(|name| with_member(genuine, "alg", Some(name)))
    .collect();
    list.push(with_member(genuine, "alg", None));
    let claims = object(&genuine.claims);
    for name in ["none", "None", "NONE", "nOnE"] {
        let header = object(&with(&genuine.header, "alg", Some(json!(name))));
        let text = seal(header.as_bytes(), claims.as_bytes(), |_| Vec::new());
        list.push(Forged { what: format!("alg is {name}, and no signature"), text, signed: false });
    }
    for name in ["HS256", "HS384", "HS512"] {
        let header = object(&with(&genuine.header, "alg", Some(json!(name))));
        for (form, key) in genuine.key.public_forms() {
            let text = seal(header.as_bytes(), claims.as_bytes(), |signed| mac(name, &key, signed));
            list.push(Forged { what: format!("{name} with the public key ({form})"), text, signed: false });
        }
    }
    for (name, sign) in [
        ("RS384", &(|signed: &[u8]| genuine.key.rs384(signed)) as &dyn Fn(&[u8]) -> Vec<u8>),
        ("PS256", &|signed| genuine.key.ps256(signed)),
    ] {
        let header = object(&with(&genuine.header, "alg", Some(json!(name))));
        let text = seal(header.as_bytes(), claims.as_bytes(), sign);
        list.push(Forged { what: format!("signed with {name} by a key for RS256"), text, signed: false });
    }
    list
}

/// Members by which the token brings its own key, signed by that key: by itself, and as a member of
/// a header that also names the good key.
fn keys_of_the_sender(genuine: &Genuine<'_>) -> Vec<Forged> {
    let jwk = genuine.stranger.jwk("mine", "RS256");
    let certificate = STANDARD.encode(genuine.stranger.public_forms()[2].1.as_slice());
    let members = [
        ("jwk", jwk.clone()),
        ("jwk", json!({"kty": "oct", "k": "AAAA"})),
        ("jwks", json!({"keys": [jwk]})),
        ("jku", json!("https://keys.example.org/jwks")),
        ("jku", json!("http://127.0.0.1:1/jwks")),
        ("jku", json!("file:///etc/passwd")),
        ("x5u", json!("https://keys.example.org/certificate.pem")),
        ("x5c", json!([certificate])),
        ("x5c", json!(certificate)),
        ("x5t#S256", json!("AAAA")),
    ];
    let stranger = |header: &str| {
        seal(header.as_bytes(), object(&genuine.claims).as_bytes(), |signed| genuine.stranger.rs256(signed))
    };
    let mut list = Vec::new();
    for (name, value) in members {
        let named = with(&genuine.header, name, Some(value.clone()));
        let alone = with(&named, genuine.names_key, None);
        let other = with(&named, genuine.names_key, Some(json!("mine")));
        for (what, header) in
            [("beside the key's name", named), ("alone", alone), ("under its own name", other)]
        {
            let what = format!("{name} {} {what}", short(&value));
            list.push(Forged { what, text: stranger(&object(&header)), signed: false });
        }
    }
    list
}

fn names_of_keys(genuine: &Genuine<'_>) -> Vec<Forged> {
    let name = genuine.header.iter().find(|(name, _)| name == genuine.names_key);
    let good = name.and_then(|(_, value)| value.as_str()).unwrap();
    let mut values: Vec<Option<Value>> = vec![
        None,
        Some(json!("")),
        Some(json!(null)),
        Some(json!(1)),
        Some(json!(true)),
        Some(json!([good])),
        Some(json!({"kid": good})),
    ];
    for text in [
        "unknown".to_owned(),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\0"),
        format!("x{good}"),
        format!("{good}x"),
        good[..good.len() - 1].to_owned(),
        swap_case(good),
        "../../../../dev/null".to_owned(),
        "/proc/sys/kernel/randomize_va_space".to_owned(),
        "' OR '1'='1".to_owned(),
        "x'; DROP TABLE key; --".to_owned(),
        "| sleep 5".to_owned(),
        "https://keys.example.org/k".to_owned(),
        "*".to_owned(),
        "%s%s%s%n".to_owned(),
        "x".repeat(4_000),
    ] {
        values.push(Some(Value::from(text)));
    }
    values.into_iter().map(|value| with_member(genuine, genuine.names_key, value)).collect()
}

pub(super) fn swap_case(text: &str) -> String {
    let swap = |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    text.chars().map(swap).collect()
}

fn extensions(genuine: &Genuine<'_>) -> Vec<Forged> {
    let mut list: Vec<Forged> = [
        ("crit", json!(["exp"])),
        ("crit", json!(["alg"])),
        ("crit", json!([])),
        ("crit", json!("exp")),
        ("crit", json!(null)),
        ("crit", json!({})),
        ("crit", json!(["urn:example:unknown"])),
        ("b64", json!(false)),
        ("b64", json!("false")),
        ("b64", json!(null)),
        ("typ", json!("logout+jwt")),
        ("typ", json!("dpop+jwt")),
        ("typ", json!("secevent+jwt")),
        ("typ", json!("")),
        ("typ", json!(1)),
        ("typ", json!(null)),
        ("typ", json!(["JWT"])),
    ]
    .into_iter()
    .map(|(name, value)| with_member(genuine, name, Some(value)))
    .collect();
    let unencoded = with(&with(&genuine.header, "b64", Some(json!(false))), "crit", Some(json!(["b64"])));
    list.push(sealed(genuine, "crit b64, and an encoded payload".to_owned(), &object(&unencoded)));
    list
}

/// JSON that is not what it should be, or not only that.
fn spellings(genuine: &Genuine<'_>) -> Vec<Forged> {
    let good = object(&genuine.header);
    let inside = &good[1..good.len() - 1];
    let values: Vec<String> = genuine.header.iter().map(|(_, value)| value.to_string()).collect();
    let deep = |levels: usize| format!(r#"{{{inside},"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let mut texts = vec![
        ("alg twice", format!(r#"{{"alg":"none",{inside}}}"#)),
        ("alg twice, the good one first", format!(r#"{{{inside},"alg":"none"}}"#)),
        ("alg twice alike", format!(r#"{{{inside},"alg":"RS256"}}"#)),
        ("alg twice, once escaped", format!(r#"{{{inside},"\u0061lg":"none"}}"#)),
        ("key named twice", format!(r#"{{"{}":"mine",{inside}}}"#, genuine.names_key)),
        ("key named twice, the good one first", format!(r#"{{{inside},"{}":"mine"}}"#, genuine.names_key)),
        ("an unknown member twice", format!(r#"{{{inside},"x":1,"x":1}}"#)),
        ("a member twice deep inside", format!(r#"{{{inside},"x":[{{"y":1,"y":2}}]}}"#)),
        ("a list of the values", format!("[{}]", values.join(","))),
        ("a list with the header in it", format!("[{good}]")),
        ("a text", Value::from(good.as_str()).to_string()),
        ("null", "null".to_owned()),
        ("a number", "1".to_owned()),
        ("an empty object", "{}".to_owned()),
        ("nothing", String::new()),
        ("text behind", format!("{good}x")),
        ("a second object behind", format!("{good}{good}")),
        ("NUL behind", format!("{good}\0")),
        ("a byte order mark in front", format!("\u{feff}{good}")),
        ("a comma too many", format!("{{{inside},}}")),
        ("a comment", format!("{{/* x */{inside}}}")),
        ("single quotes", good.replace('"', "'")),
        ("no end", good[..good.len() - 1].to_owned()),
        ("half a surrogate pair", format!(r#"{{{inside},"x":"\ud800"}}"#)),
        ("a raw control character", format!("{{{inside},\"x\":\"\u{1}\"}}")),
        ("a number out of range", format!(r#"{{{inside},"x":1e999}}"#)),
        ("NaN", format!(r#"{{{inside},"x":NaN}}"#)),
        ("17 levels", deep(16)),
        ("128 levels", deep(128)),
        ("5,000 levels", deep(5_000)),
    ];
    let mut list: Vec<Forged> =
        texts.drain(..).map(|(what, header)| sealed(genuine, format!("header: {what}"), &header)).collect();
    for (what, header) in broken_utf8(&good) {
        let text = genuine.sealed(&header, object(&genuine.claims).as_bytes());
        list.push(Forged { what: format!("header: {what}"), text, signed: true });
    }
    list
}

/// The object with one more member whose text is no UTF-8, and the object in other encodings.
pub(super) fn broken_utf8(object: &str) -> Vec<(&'static str, Vec<u8>)> {
    let with = |bytes: &[u8]| {
        let (start, _) = object.as_bytes().split_at(object.len() - 1);
        [start, b",\"x\":\"", bytes, b"\"}"].concat()
    };
    let wide = |to_bytes: fn(u16) -> [u8; 2]| object.encode_utf16().flat_map(to_bytes).collect();
    vec![
        ("a lone continuation byte", with(b"\x80")),
        ("a cut sequence", with(b"\xe2\x82")),
        ("an overlong slash", with(b"\xc0\xaf")),
        ("an overlong NUL", with(b"\xc0\x80")),
        ("a surrogate", with(b"\xed\xa0\x80")),
        ("beyond Unicode", with(b"\xf4\x90\x80\x80")),
        ("a byte of no encoding", with(b"\xff")),
        ("Latin-1", with(b"\xe9")),
        ("UTF-16, little end first", wide(u16::to_le_bytes)),
        ("UTF-16, big end first", wide(u16::to_be_bytes)),
    ]
}
