//! The stand-in over real TLS, asked as devices and sites ask it.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::entra::{EntraError, EntraSubject, PublishedTenant, TenantSet};
use proto::id::Guid;
use proto::jose::JwkSet;
use proto::time::Timestamp;
use reqwest::{Certificate, Client, StatusCode};
use runtime::{Clock, Drain};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use stand_in::{
    ApproveError, Config, Control, DeviceSeed, Fault, Part, StandIn, TenantConfig, TokenVersion, UserSeed,
};

const TENANT: Guid = Guid::from_bytes([0x11; 16]);
const DEVICE: Guid = Guid::from_bytes([0x22; 16]);
const USER: Guid = Guid::from_bytes([0x33; 16]);
const START: i64 = 1_800_000_000_000_000;

/// A running stand-in with one tenant, one device and one user.
struct Lab {
    client: Client,
    control: Control,
    clock: Clock,
    drain: Drain,
    config: TenantConfig,
    base: String,
    issuers: Vec<String>,
    endpoint: String,
    device_key: RsaKeyPair,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.drain.begin(std::time::Duration::ZERO);
    }
}

impl Lab {
    fn start(version: TokenVersion) -> Self {
        let device_key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = device_key.as_der().unwrap();
        let signer = rcgen::KeyPair::try_from(&PrivatePkcs8KeyDer::from(der.as_ref())).unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&signer).unwrap();
        let mut config = TenantConfig::new(TENANT, "Contoso");
        config.version = version;
        config.devices.push(DeviceSeed::joined(DEVICE, "PC1", certificate.der()));
        config
            .users
            .push(UserSeed::cloud(USER, "ada@contoso.example", "Ada").with_sid("S-1-5-21-1-2-3-1104"));
        let clock = Clock::manual(START);
        let all = Config { tenants: vec![config.clone()], ..Config::default() };
        let bound = StandIn::bind(all, clock.clone()).unwrap();
        let client = Client::builder()
            .tls_certs_only([Certificate::from_pem(bound.ca_pem().as_bytes()).unwrap()])
            .no_proxy()
            .build()
            .unwrap();
        let drain = Drain::new();
        let lab = Self {
            client,
            control: bound.control(),
            clock,
            drain: drain.clone(),
            config,
            base: bound.base().to_owned(),
            issuers: bound.issuers(TENANT),
            endpoint: bound.token_endpoints(TENANT)[0].clone(),
            device_key,
        };
        drain.spawn(bound.run(drain.clone()));
        lab
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> (StatusCode, Value) {
        let encode = |text: &str| text.replace('%', "%25").replace('&', "%26").replace('+', "%2B");
        let body: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let request = self.client.post(format!("{}{path}", self.base));
        let answer = request.body(body.join("&")).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    async fn token(&self, fields: &[(&str, &str)]) -> (StatusCode, Value) {
        self.post(&format!("/{TENANT}/oauth2/v2.0/token"), fields).await
    }

    fn proof(&self, jti: &str) -> String {
        let claims = json!({
            "sub": DEVICE, "iss": DEVICE, "aud": self.endpoint, "jti": jti,
            "exp": self.clock.now_seconds() + 300,
        });
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(json!({ "alg": "RS256" })), part(claims));
        let mut signature = vec![0; self.device_key.public_modulus_len()];
        let random = SystemRandom::new();
        self.device_key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    async fn device_token(&self, jti: &str) -> (StatusCode, Value) {
        let (app, scope) = (self.config.client_app.to_string(), format!("{}/.default", self.config.resource));
        self.token(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("client_id", &app),
            ("scope", &scope),
            ("assertion", &self.proof(jti)),
        ])
        .await
    }

    /// The tenant as the site publishes it, with the keys that are served now.
    async fn published(&self) -> TenantSet {
        let document = self.get(&format!("/{TENANT}/v2.0/.well-known/openid-configuration")).await.1;
        assert_eq!(document["issuer"], self.issuers[1].as_str());
        let keys = self.client.get(document["jwks_uri"].as_str().unwrap()).send().await.unwrap();
        let keys = JwkSet::parse(&keys.bytes().await.unwrap()).unwrap();
        TenantSet::new([&PublishedTenant {
            tenant: TENANT,
            name: "Contoso".to_owned(),
            issuers: self.issuers.clone(),
            audiences: vec![self.config.resource.clone(), self.config.server_app.to_string()],
            client_app_id: self.config.client_app.to_string(),
            resource: self.config.resource.clone(),
            authority: self.issuers[1].clone(),
            enabled: true,
            keys,
            keys_until: Timestamp::from_micros(START).plus(proto::entra::KEYS_LIFETIME),
        }])
    }
}

fn text(answer: &Value) -> &str {
    answer["access_token"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_gets_a_token_for_its_proof_and_a_site_accepts_it() {
    for version in [TokenVersion::V1, TokenVersion::V2] {
        let lab = Lab::start(version);
        let (status, granted) = lab.device_token("one").await;
        assert_eq!(status, StatusCode::OK, "{granted}");
        let token = lab.published().await.verify(text(&granted)).unwrap();
        assert_eq!(token.subject, EntraSubject::Device { device: DEVICE });
        token.check_time(Timestamp::from_micros(lab.clock.now())).unwrap();
        let late = Timestamp::from_micros(lab.clock.now()).plus(std::time::Duration::from_hours(2));
        assert!(matches!(token.check_time(late), Err(EntraError::Expired(_))));

        let (status, refused) = lab.device_token("one").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "the same proof again");
        assert_eq!(refused["error"], "invalid_client");
        assert_eq!(refused["error_codes"], json!([700_028]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_in_with_a_code_and_on_a_proved_device_it_is_named() {
    let lab = Lab::start(TokenVersion::V1);
    let (app, scope) =
        (lab.config.client_app.to_string(), format!("{}/.default openid", lab.config.resource));
    let path = format!("/{TENANT}/oauth2/v2.0/devicecode");
    let begun = lab.post(&path, &[("client_id", &app), ("scope", &scope)]).await.1;
    let (device_code, user_code) =
        (begun["device_code"].as_str().unwrap(), begun["user_code"].as_str().unwrap());
    assert_eq!(lab.control.waiting_codes(TENANT).unwrap(), [user_code]);
    let proof = lab.proof("user");
    let poll = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", &app),
        ("scope", &scope),
        ("device_code", device_code),
        ("client_assertion", &proof),
    ];
    let (status, waiting) = lab.token(&poll).await;
    assert_eq!((status, &waiting["error"]), (StatusCode::BAD_REQUEST, &json!("authorization_pending")));
    let unknown = lab.control.approve(TENANT, user_code, "nobody@contoso.example");
    assert!(matches!(unknown, Err(ApproveError::User(_))));

    let page = lab.client.get(begun["verification_uri"].as_str().unwrap()).send().await.unwrap();
    assert!(page.text().await.unwrap().contains("ada@contoso.example"));
    let path = format!("/{TENANT}/device");
    let (status, _) = lab.post(&path, &[("user_code", user_code), ("account", "ada@contoso.example")]).await;
    assert_eq!(status, StatusCode::OK);

    let (status, granted) = lab.token(&poll).await;
    assert_eq!(status, StatusCode::OK, "{granted}");
    let set = lab.published().await;
    let expected = EntraSubject::User {
        user: USER,
        device: Some(DEVICE),
        sid: Some("S-1-5-21-1-2-3-1104".to_owned()),
        name: "ada@contoso.example".to_owned(),
    };
    assert_eq!(set.verify(text(&granted)).unwrap().subject, expected);

    let refresh = granted["refresh_token"].as_str().unwrap();
    let again =
        [("grant_type", "refresh_token"), ("client_id", &app), ("scope", &scope), ("refresh_token", refresh)];
    let (status, renewed) = lab.token(&again).await;
    assert_eq!(status, StatusCode::OK, "{renewed}");
    assert_eq!(set.verify(text(&renewed)).unwrap().subject, expected);
    assert_eq!(lab.token(&again).await.1["error"], "invalid_grant", "a refresh token counts once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_own_token_is_refused_as_a_device() {
    let lab = Lab::start(TokenVersion::V1);
    let app = lab.config.discovery_app.to_string();
    let ask = |secret, resource| {
        [
            ("grant_type", "client_credentials"),
            ("client_id", &app),
            ("client_secret", secret),
            ("resource", resource),
        ]
    };
    let (status, granted) = lab.token(&ask(&lab.config.discovery_secret, &lab.config.resource)).await;
    assert_eq!(status, StatusCode::OK, "{granted}");
    let refused = lab.published().await.verify(text(&granted));
    assert!(matches!(refused, Err(EntraError::NoSubject(_))), "{refused:?}");

    let (status, refused) = lab.token(&ask("wrong", &lab.config.resource)).await;
    assert_eq!((status, &refused["error_codes"]), (StatusCode::UNAUTHORIZED, &json!([7_000_215])));
    let refused = lab.token(&ask(&lab.config.discovery_secret, "api://elsewhere")).await.1;
    assert_eq!(refused["error"], "invalid_resource");
    let refused = lab.post(&format!("/{USER}/oauth2/token"), &[("grant_type", "client_credentials")]).await.1;
    assert_eq!(refused["error_codes"], json!([90_002]), "no such tenant");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_with_the_next_one_known_beforehand() {
    let lab = Lab::start(TokenVersion::V1);
    let device = DeviceSeed::joined(DEVICE, "PC1", b"");
    let before = lab.published().await;
    let old = lab.control.device_token(TENANT, &device).unwrap();
    let kids = lab.control.kids(TENANT).unwrap();

    lab.control.rotate_keys(TENANT).unwrap();
    let new = lab.control.device_token(TENANT, &device).unwrap();
    assert!(before.verify(&new).is_ok(), "the next key was published already");
    let after = lab.published().await;
    assert!(after.verify(&old).is_ok() && after.verify(&new).is_ok());
    assert_eq!(lab.control.kids(TENANT).unwrap()[0], kids[1]);

    lab.control.drop_retired_keys(TENANT).unwrap();
    let later = lab.published().await;
    assert!(matches!(later.verify(&old), Err(EntraError::UnknownKey { .. })));
    lab.control.replace_keys(TENANT).unwrap();
    let foreign = lab.control.device_token(TENANT, &device).unwrap();
    assert!(matches!(later.verify(&foreign), Err(EntraError::UnknownKey { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_listed_by_pages_for_a_token_that_may() {
    let lab = Lab::start(TokenVersion::V1);
    for number in 0..4 {
        let user =
            UserSeed::cloud(Guid::from_bytes([number; 16]), &format!("u{number}@contoso.example"), "U");
        lab.control.put_user(TENANT, user).unwrap();
    }
    assert_eq!(lab.get("/v1.0/users").await.0, StatusCode::UNAUTHORIZED);
    let app = lab.config.discovery_app.to_string();
    let scope = format!("{}/.default", lab.base);
    let request = [
        ("grant_type", "client_credentials"),
        ("client_id", &app),
        ("client_secret", &lab.config.discovery_secret),
        ("scope", &scope),
    ];
    let granted = lab.token(&request).await.1;
    let list = async |url: &str| {
        let answer = lab.client.get(url).bearer_auth(text(&granted)).send().await.unwrap();
        (answer.status(), answer.json::<Value>().await.unwrap())
    };
    let mut url = format!("{}/v1.0/users/delta?%24select=userPrincipalName&%24top=2", lab.base);
    let mut names = Vec::new();
    let delta = loop {
        let page = list(&url).await.1;
        let values = page["value"].as_array().unwrap();
        assert!(values.len() <= 2 && values.iter().all(|value| value.get("displayName").is_none()), "{page}");
        names.extend(values.iter().map(|value| value["userPrincipalName"].as_str().unwrap().to_owned()));
        match page["@odata.nextLink"].as_str() {
            Some(next) => url = next.to_owned(),
            None => break page["@odata.deltaLink"].as_str().unwrap().to_owned(),
        }
    };
    assert_eq!(names.len(), 5, "{names:?}");

    lab.control.remove_user(TENANT, USER).unwrap();
    let changed = list(&delta).await.1;
    assert_eq!(changed["value"], json!([{ "id": USER, "@removed": { "reason": "changed" } }]));
    lab.control.throttle(TENANT, 1, 7).unwrap();
    assert_eq!(list(&delta).await.0, StatusCode::TOO_MANY_REQUESTS);
    lab.control.forget_changes(TENANT).unwrap();
    assert_eq!(list(&delta).await.0, StatusCode::GONE);
    lab.control.consent(TENANT, false).unwrap();
    let refused = list(&delta).await;
    assert_eq!(refused.0, StatusCode::FORBIDDEN);
    assert_eq!(refused.1["error"]["code"], "Authorization_RequestDenied");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_fails_in_the_ways_that_providers_fail() {
    let lab = Lab::start(TokenVersion::V1);
    let keys = format!("{}/{TENANT}/discovery/v2.0/keys", lab.base);
    let ask = async || lab.client.get(&keys).send().await;
    lab.control.fail(Part::Keys, Fault::EmptyKeySet);
    assert_eq!(ask().await.unwrap().text().await.unwrap(), "{\"keys\":[]}");
    lab.control.fail(Part::Keys, Fault::HugeKeySet);
    assert!(ask().await.unwrap().bytes().await.unwrap().len() > 50_000_000);
    lab.control.fail(Part::Everything, Fault::Html);
    assert!(ask().await.unwrap().text().await.unwrap().starts_with("<!doctype"));
    lab.control.fail(Part::Everything, Fault::ServerError);
    assert_eq!(ask().await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    lab.control.fail(Part::Everything, Fault::Refuse);
    assert!(ask().await.is_err());
    lab.control.fail(Part::Discovery, Fault::Hang);
    assert!(ask().await.unwrap().status().is_success(), "only the document hangs");
    lab.control.heal();
    assert!(ask().await.unwrap().status().is_success());
    // On a kept connection the refused request arrives before the connection is closed.
    let counts = lab.control.counts();
    assert!(counts.keys >= 6 && counts.discovery == 0, "{counts:?}");
}
