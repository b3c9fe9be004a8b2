//! An identity provider of the tests: one key, and tokens as its tenant would sign them.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::id::Guid;
use proto::jose::JwkSet;
use proto::message::SigningKey as _;
use proto::time::Timestamp;
use serde_json::{Value, json};
use site::{FoundUser, NewTenant, SyncEnd, SyncSource};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::{Bench, TestDevice, operator};

const AUDIENCE: &str = "https://ConfigMgrService";

/// A tenant with its signing key.
pub(crate) struct Tenant {
    pub(crate) id: Guid,
    kid: &'static str,
    key: &'static TestDevice,
}

fn key() -> &'static TestDevice {
    static KEY: OnceLock<TestDevice> = OnceLock::new();
    KEY.get_or_init(TestDevice::new)
}

impl Tenant {
    pub(crate) fn new(number: u8) -> Self {
        Self { id: Guid::from_bytes([number; 16]), kid: "key-1", key: key() }
    }

    /// The same tenant with a key that nobody published.
    pub(crate) fn with_unpublished_key(&self) -> Self {
        Self { kid: "key-2", ..*self }
    }

    fn issuer(&self) -> String {
        format!("https://login.example.org/{}/v2.0", self.id)
    }

    /// The published key set.
    fn keys(&self) -> JwkSet {
        let (_, certificate) = X509Certificate::from_der(&self.key.certificate).unwrap();
        let Ok(PublicKey::RSA(rsa)) = certificate.public_key().parsed() else { panic!("an RSA key") };
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(&bytes[usize::from(bytes[0] == 0)..]);
        let document = json!({ "keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid,
            "n": number(rsa.modulus), "e": number(rsa.exponent),
        }] });
        JwkSet::parse(document.to_string().as_bytes()).unwrap()
    }

    /// Onboards it at a site, its keys fetched.
    pub(crate) async fn onboard(&self, bench: &Bench) {
        let new = NewTenant {
            tenant: self.id,
            name: format!("Tenant {}", self.id),
            issuers: vec![self.issuer()],
            audiences: vec![AUDIENCE.into()],
            client_app_id: "0b7c8ab3-9ea1-4ffa-b2b9-8ffdd944bd8b".into(),
            resource: AUDIENCE.into(),
            authority: "https://login.example.org".into(),
            graph_url: "https://graph.example.org".into(),
            discovery_app_id: String::new(),
            secret: None,
            secret_expires_at: None,
            ca_pem: None,
            discovery: true,
        };
        bench.site.add_tenant(&operator(), new).await.unwrap();
        self.fetch_keys(bench).await;
    }

    pub(crate) async fn fetch_keys(&self, bench: &Bench) {
        bench.site.put_tenant_keys(self.id, &[self.issuer()], self.keys(), bench.now()).await.unwrap();
    }

    /// Its users as its discovery finds them.
    pub(crate) async fn discover(&self, bench: &Bench, users: &[(Guid, Option<&str>)]) {
        let sync = bench.site.begin_sync(SyncSource::Tenant(self.id)).await.unwrap();
        let found = |(user, sid): &(Guid, Option<&str>)| FoundUser {
            object_id: Some(*user),
            sid: sid.map(str::to_owned),
            principal_name: "user@example.org".into(),
            ..FoundUser::default()
        };
        bench.site.put_users(sync, users.iter().map(found).collect()).await.unwrap();
        bench.site.finish_sync(sync, SyncEnd { full: true, delta_link: None }).await.unwrap();
    }

    /// Claims that are good for an hour.
    pub(crate) fn claims(&self, now: Timestamp) -> Value {
        json!({
            "iss": self.issuer(), "aud": AUDIENCE, "tid": self.id.to_string(),
            "nbf": now.seconds() - 60, "exp": now.seconds() + 3600,
        })
    }

    pub(crate) fn device_claims(&self, device: Guid, now: Timestamp) -> Value {
        with(self.claims(now), json!({ "idtyp": "device", "deviceid": device.to_string() }))
    }

    pub(crate) fn user_claims(&self, user: Guid, sid: Option<&str>, device: Guid, now: Timestamp) -> Value {
        let claims = json!({
            "scp": "user_impersonation", "oid": user.to_string(), "upn": "user@example.org",
            "deviceid": device.to_string(),
        });
        let claims = with(self.claims(now), claims);
        match sid {
            Some(sid) => with(claims, json!({ "onprem_sid": sid })),
            None => claims,
        }
    }

    pub(crate) fn device_token(&self, device: Guid, now: Timestamp) -> String {
        self.sign(&self.device_claims(device, now))
    }

    pub(crate) fn user_token(&self, user: Guid, sid: Option<&str>, device: Guid, now: Timestamp) -> String {
        self.sign(&self.user_claims(user, sid, device, now))
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_under(&json!({ "typ": "JWT", "alg": "RS256", "kid": self.kid }), claims)
    }

    /// A token with this header, too.
    pub(crate) fn sign_under(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.key.key.sign_pkcs1_sha256(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Claims, some of them replaced; `null` takes one away.
pub(crate) fn with(mut claims: Value, others: Value) -> Value {
    let (Value::Object(claims_map), Value::Object(others)) = (&mut claims, others) else { panic!("objects") };
    for (name, value) in others {
        if value.is_null() {
            claims_map.remove(&name);
        } else {
            claims_map.insert(name, value);
        }
    }
    claims
}
