//! Hundreds of forgeries of a good token of a tenant, and of a good one of each class of the site's
//! own: all refused, and outside nobody can tell one refusal from another.

mod forged;

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use forged::{Attacked, Forged, Genuine, Key, Members, object};
use proto::entra::{EntraError, EntraSubject, PublishedTenant, TenantSet, entra_issuers};
use proto::id::{Guid, Thumbprint};
use proto::jose::{Jwk, JwkSet};
use proto::reason::Reason;
use proto::time::Timestamp;
use proto::token::{KeySet, Token, TokenClass, TokenError, x5t};
use serde_json::{Value, json};

/// The least that each kind of token must withstand.
const LEAST: usize = 200;
const NOW: i64 = 1_800_000_000;
const TENANT: &str = "c8c82542-203c-4df9-9d86-cdd4dae67e0a";
const NEIGHBOUR: &str = "9aaf466a-3f40-4468-b3cd-f0010f21f05a";
const DEVICE: &str = "8d2b4ff9-0172-4998-9851-b5324303385f";
const USER: &str = "e8838041-db7a-42d5-b9ae-78813910e4cc";
const KID: &str = "Qy1mPz0cVnDsoSSD5cPYEWKoZ5s";
const AUDIENCE: &str = "https://ConfigMgrService";

fn key() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(Key::generate)
}

fn stranger() -> &'static Key {
    static KEY: OnceLock<Key> = OnceLock::new();
    KEY.get_or_init(Key::generate)
}

fn members(object: &Value, order: &[&str]) -> Members {
    order.iter().map(|name| ((*name).to_owned(), object[name].clone())).collect()
}

fn exactly(name: &'static str, others: Vec<Value>) -> Attacked {
    Attacked { name, required: true, exact: true, others }
}

/// A claim of which another value is as good, so that only what it must not look like is a forgery.
fn freely(name: &'static str, required: bool, others: Vec<Value>) -> Attacked {
    Attacked { name, required, exact: false, others }
}

/// Refused, with the same words as every other forgery.
fn assert_refused<T: std::fmt::Debug>(forged: &Forged, judged: Result<T, Reason>) {
    assert_eq!(judged.err(), Some(Reason::TokenNotAccepted), "{}: {}", forged.what, forged.text);
}

// --- tenants ---

fn tenant(id: &str, key: &Key) -> PublishedTenant {
    let id: Guid = id.parse().unwrap();
    let more = json!({"keys": [
        key.jwk(KID, "RS256"),
        key.jwk("pss", "PS256"),
        {"kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig",
         "x": "04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY", "y": "UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw"},
    ]});
    PublishedTenant {
        tenant: id,
        name: "a tenant".into(),
        issuers: entra_issuers(id).to_vec(),
        audiences: vec![AUDIENCE.into()],
        client_app_id: "0b7c8ab3-9ea1-4ffa-b2b9-8ffdd944bd8b".into(),
        resource: AUDIENCE.into(),
        authority: format!("https://login.microsoftonline.com/{id}"),
        enabled: true,
        keys: JwkSet::parse(more.to_string().as_bytes()).unwrap(),
        keys_until: Timestamp::from_seconds(NOW + 86_400),
    }
}

/// Two tenants with one set of keys, as Entra has for all of its own.
fn tenants(key: &Key) -> [PublishedTenant; 2] {
    let neighbour = tenant(NEIGHBOUR, key);
    [tenant(TENANT, key), PublishedTenant { audiences: vec!["api://neighbour".into()], ..neighbour }]
}

fn tenant_header() -> Members {
    members(&json!({"typ": "JWT", "alg": "RS256", "x5t": KID, "kid": KID}), &["typ", "alg", "x5t", "kid"])
}

fn user_token() -> Genuine<'static> {
    let claims = json!({
        "aud": AUDIENCE, "iss": entra_issuers(TENANT.parse().unwrap())[0], "iat": NOW, "nbf": NOW,
        "exp": NOW + 3_900, "appid": "0b7c8ab3-9ea1-4ffa-b2b9-8ffdd944bd8b", "deviceid": DEVICE, "oid": USER,
        "onprem_sid": "S-1-5-21-1527250992-855612568-2252598708-1604", "scp": "user_impersonation",
        "tid": TENANT, "upn": "megan@example.org", "ver": "1.0",
    });
    let order = [
        "aud",
        "iss",
        "iat",
        "nbf",
        "exp",
        "appid",
        "deviceid",
        "oid",
        "onprem_sid",
        "scp",
        "tid",
        "upn",
        "ver",
    ];
    let mut attacked = attacked_origin();
    let no_ids = || vec![json!("nobody"), json!(Guid::nil().to_string()), json!(7)];
    attacked.extend([
        freely("oid", true, no_ids()),
        freely("deviceid", false, no_ids()),
        freely("scp", true, vec![json!(1), json!(["user_impersonation"])]),
        freely("onprem_sid", false, vec![json!("S-1-"), json!("S-1-5' OR 1=1 --"), json!(1)]),
        freely("upn", false, vec![json!(1), json!("a\u{0}b"), json!("a\nb"), json!("x".repeat(300))]),
        freely(
            "idtyp",
            false,
            vec![json!("app"), json!("device"), json!("User"), json!("service"), json!(1)],
        ),
    ]);
    Genuine {
        header: tenant_header(),
        claims: members(&claims, &order),
        key: key(),
        stranger: stranger(),
        attacked,
        names_key: "kid",
    }
}

fn device_token() -> Genuine<'static> {
    let claims = json!({
        "aud": AUDIENCE, "iss": entra_issuers(TENANT.parse().unwrap())[1], "nbf": NOW, "exp": NOW + 3_900,
        "azp": "0b7c8ab3-9ea1-4ffa-b2b9-8ffdd944bd8b", "deviceid": DEVICE, "idtyp": "device", "tid": TENANT,
        "ver": "2.0",
    });
    let mut attacked = attacked_origin();
    attacked.extend([
        freely("deviceid", true, vec![json!("nobody"), json!(Guid::nil().to_string()), json!([DEVICE])]),
        freely("idtyp", false, vec![json!("app"), json!("user"), json!("Device"), json!(0)]),
        freely("scp", false, vec![json!("user_impersonation"), json!([])]),
    ]);
    Genuine {
        claims: members(&claims, &["aud", "iss", "nbf", "exp", "azp", "deviceid", "idtyp", "tid", "ver"]),
        attacked,
        ..user_token()
    }
}

/// Whose token it is, for whom, and when.
fn attacked_origin() -> Vec<Attacked> {
    let neighbour = entra_issuers(NEIGHBOUR.parse().unwrap());
    vec![
        exactly(
            "iss",
            vec![
                json!(neighbour[0]),
                json!(neighbour[1]),
                json!(format!("http://sts.windows.net/{TENANT}/")),
                json!(format!("https://sts.windows.net/{TENANT}")),
                json!("https://sts.windows.net/{tenantid}/"),
                json!("https://sts.windows.net/common/"),
                json!(format!("https://sts.windows.net.example.org/{TENANT}/")),
                json!(format!("https://sts.windows.net/{NEIGHBOUR}/../{TENANT}/")),
                json!(1),
            ],
        ),
        exactly(
            "aud",
            vec![
                json!("api://neighbour"),
                json!("https://graph.microsoft.com"),
                json!("00000003-0000-0000-c000-000000000000"),
                json!("urn:sccm:service"),
                json!("https://configmgrservice"),
                json!(1),
            ],
        ),
        exactly(
            "tid",
            vec![
                json!(NEIGHBOUR),
                json!(Guid::nil().to_string()),
                json!("common"),
                json!("organizations"),
                json!(TENANT.to_ascii_uppercase()),
                json!(TENANT.replace('-', "")),
                json!(format!("urn:uuid:{TENANT}")),
                json!(1),
            ],
        ),
        exactly("exp", Vec::new()),
        exactly("nbf", Vec::new()),
    ]
}

/// Forgeries that only a tenant's keys and kinds of tokens make possible.
fn of_tenants_only(genuine: &Genuine<'_>) -> Vec<Forged> {
    let mut list = Vec::new();
    let claims = object(&genuine.claims);
    for (alg, kid) in [("RS256", "pss"), ("PS256", KID), ("RS256", "ec"), ("ES256", KID), ("ES384", "ec")] {
        let header = json!({"alg": alg, "kid": kid, "typ": "JWT"}).to_string();
        let text = genuine.sealed(header.as_bytes(), claims.as_bytes());
        list.push(Forged { what: format!("{alg} by the key {kid}"), text, signed: true });
    }
    // An ECDSA signature of zeros was valid for everything in some libraries.
    for length in [64, 63, 65, 70, 96] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": "ec"}).to_string());
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(&claims));
        let text = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(vec![0; length]));
        list.push(Forged { what: format!("ES256 with {length} zeros"), text, signed: false });
    }
    for claims in [
        json!({"idtyp": "app", "appid": "x", "oid": USER}),
        json!({"idtyp": "app", "appid": "x", "oid": USER, "deviceid": DEVICE}),
        json!({"appid": "x", "oid": USER, "roles": ["Directory.Read.All"]}),
        json!({"azp": "x", "oid": USER}),
        json!({"appid": "x", "deviceid": DEVICE, "roles": ["Device.ReadWrite.All"]}),
        json!({"deviceid": DEVICE, "upn": "a@example.org", "oid": USER}),
        json!({"oid": USER, "preferred_username": "a@example.org"}),
        json!({"scp": "user_impersonation", "deviceid": DEVICE}),
        json!({}),
    ] {
        let mut claims = claims;
        for (name, value) in &genuine.claims {
            if ["aud", "iss", "tid", "nbf", "exp"].contains(&name.as_str()) {
                claims[name] = value.clone();
            }
        }
        let text = genuine.sealed(object(&genuine.header).as_bytes(), claims.to_string().as_bytes());
        list.push(Forged { what: format!("speaks for nobody: {claims}"), text, signed: true });
    }
    list
}

fn site_keys() -> KeySet {
    KeySet::new(hierarchy(), [certificate().as_slice()]).unwrap()
}

#[test]
fn no_forgery_of_a_tenants_token_is_accepted_and_all_get_one_answer() {
    let set = TenantSet::new(&tenants(key()));
    for (name, genuine) in [("user", user_token()), ("device", device_token())] {
        let good = set.verify(&genuine.text()).unwrap();
        assert_eq!(good.check_time(Timestamp::from_seconds(NOW)), Ok(()));
        assert_eq!(good.subject.device().map(|id| id.to_string()).as_deref(), Some(DEVICE));
        assert_eq!(matches!(good.subject, EntraSubject::User { .. }), name == "user");

        let mut forgeries = genuine.forgeries();
        forgeries.extend(of_tenants_only(&genuine));
        let mut errors = std::collections::BTreeMap::<&str, usize>::new();
        for forged in &forgeries {
            let judged = set.verify(&forged.text);
            *errors.entry(kind(&judged)).or_default() += 1;
            assert_refused(forged, judged.as_ref().map_err(EntraError::reason_at_gateway));
            let inside = judged.unwrap_err();
            let expected = match inside {
                EntraError::NoSubject(_) => Reason::StsNotADevice,
                _ => Reason::StsTokenNotAccepted,
            };
            assert_eq!(inside.reason_at_token_service(), expected, "{}", forged.what);
            assert!(forged.signed || !matches!(inside, EntraError::NoSubject(_) | EntraError::Claim(_)));
            // Whichever verifier a gateway picks for it.
            assert_refused(
                forged,
                site_keys().verify(&forged.text).map_err(|error| error.reason_at_gateway()),
            );
        }
        println!("{} forgeries of a {name} token of a tenant refused: {errors:?}", forgeries.len());
        assert!(forgeries.len() >= LEAST);
    }
}

fn kind<T>(judged: &Result<T, EntraError>) -> &'static str {
    match judged {
        Ok(_) => "accepted",
        Err(EntraError::Malformed(_) | EntraError::Kind(_)) => "form",
        Err(EntraError::UnknownTenant) => "unknown tenant",
        Err(EntraError::UnknownKey { .. } | EntraError::NoKeyNamed) => "unknown key",
        Err(EntraError::Signature) => "signature",
        Err(EntraError::Foreign(_)) => "foreign",
        Err(EntraError::Claim(_)) => "claim",
        Err(EntraError::NoSubject(_)) => "nobody",
        Err(_) => "state",
    }
}

#[test]
fn before_the_signature_holds_nobody_learns_that_a_tenant_is_off_or_its_keys_are_old() {
    let [one, other] = tenants(key());
    let off = TenantSet::new(&[PublishedTenant { enabled: false, ..one.clone() }, other.clone()]);
    let stale =
        TenantSet::new(&[PublishedTenant { keys_until: Timestamp::from_seconds(NOW - 1), ..one }, other]);
    let genuine = user_token();
    let good = off.verify(&genuine.text()).unwrap_err();
    assert_eq!(good.reason_at_gateway(), Reason::TenantDisabled);
    assert_eq!(good.reason_at_token_service(), Reason::StsTenantDisabled);
    let old = stale.verify(&genuine.text()).unwrap().check_time(Timestamp::from_seconds(NOW)).unwrap_err();
    assert_eq!(old.reason_at_gateway(), Reason::TenantKeysTooOld);
    assert_eq!(old.reason_at_token_service(), Reason::StsTenantKeysTooOld);
    for forged in genuine.forgeries().iter().filter(|forged| !forged.signed) {
        for set in [&off, &stale] {
            assert_refused(forged, set.verify(&forged.text).map_err(|error| error.reason_at_gateway()));
        }
    }
}

/// With another key under the good key's name no signature holds. What is still called malformed was
/// found without one.
#[test]
fn what_is_malformed_is_refused_before_a_signature_is_computed() {
    let set = TenantSet::new(&tenants(key()));
    let other = TenantSet::new(&tenants(stranger()));
    let genuine = user_token();
    assert_eq!(other.verify(&genuine.text()), Err(EntraError::Signature));
    let mut malformed = 0;
    for forged in genuine.forgeries() {
        let judged = set.verify(&forged.text);
        if matches!(judged, Err(EntraError::Malformed(_) | EntraError::Kind(_))) {
            malformed += 1;
            assert_eq!(other.verify(&forged.text), judged, "{}", forged.what);
        }
    }
    println!("{malformed} malformed tokens refused without computing a signature");
    assert!(malformed >= 100);
}

#[test]
fn the_time_is_told_to_the_bearer_of_a_good_token_only() {
    let set = TenantSet::new(&tenants(key()));
    let token = set.verify(&device_token().text()).unwrap();
    for (at, outside, inside) in [
        (NOW + 3_900 + 300, Reason::TokenExpired, Reason::StsTokenExpired),
        (NOW - 301, Reason::TokenNotYetValid, Reason::StsTokenNotAccepted),
    ] {
        let error = token.check_time(Timestamp::from_seconds(at)).unwrap_err();
        assert_eq!((error.reason_at_gateway(), error.reason_at_token_service()), (outside, inside));
    }
}

#[test]
fn a_token_that_brings_keys_along_is_verified_by_the_published_one_all_the_same() {
    let set = TenantSet::new(&tenants(key()));
    let genuine = user_token();
    let mut header = genuine.header.clone();
    header.push(("jwk".into(), stranger().jwk("mine", "RS256")));
    header.push(("jku".into(), json!("https://keys.example.org/jwks")));
    let text = genuine.sealed(object(&header).as_bytes(), object(&genuine.claims).as_bytes());
    assert!(set.verify(&text).is_ok(), "the members are ignored, as if they were not there");
}

#[test]
fn a_nameless_key_verifies_nameless_tokens_and_no_others() {
    let mut jwk = key().jwk("", "RS256");
    jwk.as_object_mut().unwrap().remove("kid");
    let keys = JwkSet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
    let set = TenantSet::new(&[PublishedTenant { keys, ..tenant(TENANT, key()) }]);
    let genuine = user_token();
    let claims = object(&genuine.claims);
    let nameless = genuine.sealed(br#"{"alg":"RS256"}"#, claims.as_bytes());
    assert!(set.verify(&nameless).is_ok());
    assert!(matches!(set.verify(&genuine.text()), Err(EntraError::UnknownKey { .. })));
    let named = TenantSet::new(&tenants(key()));
    assert_eq!(named.verify(&nameless), Err(EntraError::NoKeyNamed));
}

#[test]
fn a_key_of_a_snapshot_that_cannot_be_used_is_as_good_as_none() {
    let keys = JwkSet { keys: vec![Jwk { kid: KID.into(), alg: "RS256".into(), key: vec![4; 65] }] };
    let set = TenantSet::new(&[PublishedTenant { keys, ..tenant(TENANT, key()) }]);
    assert!(matches!(set.verify(&user_token().text()), Err(EntraError::UnknownKey { .. })));
}

// --- the site's own ---

fn hierarchy() -> Guid {
    "7b0c3806-d28c-4a45-adb2-fb9f94a462f8".parse().unwrap()
}

fn certificate() -> &'static Vec<u8> {
    static CERTIFICATE: OnceLock<Vec<u8>> = OnceLock::new();
    CERTIFICATE.get_or_init(|| {
        let der: Pkcs8V1Der<'_> = key().pair().as_der().unwrap();
        let signer = rcgen::KeyPair::try_from(der.as_ref()).unwrap();
        rcgen::CertificateParams::default().self_signed(&signer).unwrap().der().to_vec()
    })
}

fn site_token(class: TokenClass) -> Token {
    let is_bulk = class == TokenClass::Bulk;
    let registered = !is_bulk && class != TokenClass::PreAuth;
    let entra = proto::token::EntraOrigin {
        tenant: TENANT.parse().unwrap(),
        device: DEVICE.parse().ok(),
        user: USER.parse().ok(),
    };
    Token {
        class,
        unique_id: "ea2fc510-a3be-4cef-90b0-2a0515c4e40c".parse().unwrap(),
        hierarchy: hierarchy(),
        device: registered.then(|| "GUID:C806EBF9-8740-441E-AE7B-8B360ADCAECB".parse().unwrap()),
        user: (class == TokenClass::User).then(|| USER.parse().unwrap()),
        bulk: (class == TokenClass::PreAuth).then(|| Guid::from_bytes([7; 16])),
        entra: (class == TokenClass::User).then_some(entra),
        confirmation: (!is_bulk).then(|| Thumbprint::of(b"the device's certificate")),
        not_before: Timestamp::from_seconds(NOW),
        expires: Timestamp::from_seconds(NOW + 28_800),
    }
}

fn mint(token: &Token) -> String {
    token.mint(&x5t(certificate()), |signed| Ok::<_, std::convert::Infallible>(key().rs256(signed))).unwrap()
}

/// The members of a minted token, in the order in which the site writes them.
fn taken_apart(class: TokenClass) -> Genuine<'static> {
    let text = mint(&site_token(class));
    let parts: Vec<Value> = text
        .split('.')
        .take(2)
        .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
        .collect();
    let order = [
        "SCCMTokenCategory",
        "Authority",
        "License",
        "Type",
        "TenantId",
        "UniqueId",
        "DeviceId",
        "UserId",
        "BulkId",
        "EntraTenantId",
        "EntraDeviceId",
        "EntraUserId",
        "cnf",
        "iss",
        "aud",
        "exp",
        "nbf",
    ];
    let present: Vec<&str> = order.into_iter().filter(|name| parts[1].get(name).is_some()).collect();
    let (category, kind) = class.pair();
    let other_hierarchy = Guid::from_bytes([9; 16]);
    let mut attacked = vec![
        exactly("SCCMTokenCategory", vec![json!(kind), json!("SCCMAdminToken")]),
        exactly("Authority", vec![json!("sccm"), json!("Entra")]),
        exactly("License", vec![json!("sccm")]),
        exactly("Type", vec![json!(category), json!("Admin"), json!(kind.to_ascii_lowercase())]),
        exactly("TenantId", vec![json!(other_hierarchy.upper()), json!(hierarchy().to_string())]),
        exactly("UniqueId", Vec::new()),
        exactly(
            "iss",
            vec![json!(proto::token::issuer(other_hierarchy)), json!(format!("https://{TENANT}/"))],
        ),
        exactly("aud", vec![json!("urn:sccm"), json!(AUDIENCE)]),
        exactly("exp", Vec::new()),
        exactly("nbf", Vec::new()),
    ];
    for name in ["DeviceId", "UserId", "cnf"] {
        if present.contains(&name) {
            attacked.push(exactly(name, vec![json!(1), json!("GUID:"), json!({"x5t#S256": "AAAA"})]));
        }
    }
    Genuine {
        header: members(&parts[0], &["typ", "alg", "x5t"]),
        claims: members(&parts[1], &present),
        key: key(),
        stranger: stranger(),
        attacked,
        names_key: "x5t",
    }
}

/// Tokens that the site's key signed and that say more or less than their class has to say.
fn ill_fitting(class: TokenClass) -> Vec<Forged> {
    let good = site_token(class);
    let other = TokenClass::ALL.map(site_token);
    let mut list: Vec<(&str, Token)> = vec![("no key", Token { confirmation: None, ..good.clone() })];
    if class == TokenClass::Bulk {
        list = vec![("a key", Token { confirmation: other[1].confirmation, ..good.clone() })];
        list.push(("a device", Token { device: other[1].device, ..good.clone() }));
    } else if class != TokenClass::PreAuth {
        list.push(("no device", Token { device: None, ..good.clone() }));
    }
    if class == TokenClass::User {
        list.push(("no user", Token { user: None, ..good.clone() }));
    } else {
        list.push(("a user", Token { user: other[4].user, ..good.clone() }));
    }
    if class != TokenClass::PreAuth {
        list.push(("a bulk token", Token { bulk: other[2].bulk, ..good.clone() }));
    }
    if matches!(class, TokenClass::Bulk | TokenClass::SelfProve) {
        list.push(("a tenant", Token { entra: other[4].entra, ..good.clone() }));
    }
    list.push(("another hierarchy", Token { hierarchy: Guid::nil(), ..good }));
    list.into_iter()
        .map(|(what, token)| Forged {
            what: format!("well-formed, with {what}"),
            text: mint(&token),
            signed: true,
        })
        .collect()
}

#[test]
fn no_forgery_of_a_site_token_of_any_class_is_accepted_and_all_get_one_answer() {
    let tenants = TenantSet::new(&tenants(key()));
    for class in TokenClass::ALL {
        let genuine = taken_apart(class);
        assert_eq!(genuine.text(), mint(&site_token(class)), "what the forger starts from is good");
        assert_eq!(site_keys().verify(&genuine.text()), Ok(site_token(class)));
        let mut forgeries = genuine.forgeries();
        let ill_fitting = ill_fitting(class);
        for forged in &ill_fitting {
            let judged = site_keys().verify(&forged.text);
            assert!(
                matches!(judged, Err(TokenError::Class | TokenError::Foreign(_))),
                "{}: {judged:?}",
                forged.what
            );
        }
        forgeries.extend(ill_fitting);
        for forged in &forgeries {
            assert_refused(
                forged,
                site_keys().verify(&forged.text).map_err(|error| error.reason_at_gateway()),
            );
            assert_refused(forged, tenants.verify(&forged.text).map_err(|error| error.reason_at_gateway()));
        }
        println!("{} forgeries of a token of class {class:?} refused", forgeries.len());
        assert!(forgeries.len() >= LEAST);
    }
}

#[test]
fn each_verifier_is_asked_about_its_own_tokens() {
    assert!(TenantSet::looks_like(&user_token().text()) && TenantSet::looks_like(&device_token().text()));
    for class in TokenClass::ALL {
        assert!(!TenantSet::looks_like(&mint(&site_token(class))));
    }
    assert!(!TenantSet::looks_like("") && !TenantSet::looks_like("a.b.c"));
}
