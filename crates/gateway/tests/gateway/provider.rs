//! An identity provider: tokens of its devices and users, and of whoever would like to be one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::entra::{PublishedTenant, entra_issuers};
use proto::id::Guid;
use proto::jose::{Jwk, JwkSet};
use proto::time::Timestamp;
use rcgen::{PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};

use crate::site::{FOREIGN, NOW, rsa};

pub(crate) const TENANT: Guid = Guid::from_bytes([0xc8; 16]);
pub(crate) const AUDIENCE: &str = "https://ConfigMgrService";
const DEVICE: &str = "8d2b4ff9-0172-4998-9851-b5324303385f";
const USER: &str = "e8838041-db7a-42d5-b9ae-78813910e4cc";

/// A key of the provider: its name, and which of the tests' keys it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) kid: &'static str,
    pub(crate) number: usize,
}

pub(crate) const FIRST: Key = Key { kid: "first", number: FOREIGN[0] };
pub(crate) const SECOND: Key = Key { kid: "second", number: FOREIGN[1] };

/// The tenant, onboarded with these keys.
pub(crate) fn tenant(keys: &[Key]) -> PublishedTenant {
    let jwk = |key: &Key| Jwk {
        kid: key.kid.to_owned(),
        alg: "RS256".to_owned(),
        key: rsa(key.number).der_bytes().to_vec(),
    };
    PublishedTenant {
        tenant: TENANT,
        name: "Contoso".to_owned(),
        issuers: entra_issuers(TENANT).to_vec(),
        audiences: vec![AUDIENCE.to_owned()],
        client_app_id: "0b7c8ab3-9ea1-4ffa-b2b9-8ffdd944bd8b".to_owned(),
        resource: AUDIENCE.to_owned(),
        authority: "https://login.example/common".to_owned(),
        enabled: true,
        keys: JwkSet { keys: keys.iter().map(jwk).collect() },
        keys_until: Timestamp::from_seconds(NOW.seconds() + 86_400),
    }
}

/// What a device's token says.
pub(crate) fn device_claims() -> Value {
    json!({
        "aud": AUDIENCE,
        "iss": entra_issuers(TENANT)[0],
        "tid": TENANT.to_string(),
        "iat": NOW.seconds() - 60,
        "nbf": NOW.seconds() - 60,
        "exp": NOW.seconds() + 3600,
        "idtyp": "device",
        "deviceid": DEVICE,
        "ver": "1.0",
    })
}

/// What a user's token says.
pub(crate) fn user_claims() -> Value {
    let mut claims = device_claims();
    claims["idtyp"] = json!("user");
    claims["oid"] = json!(USER);
    claims["scp"] = json!("user_impersonation");
    claims["upn"] = json!("a@example.org");
    claims
}

pub(crate) fn header(key: Key) -> Value {
    json!({"typ": "JWT", "alg": "RS256", "kid": key.kid})
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with this header and these claims, as texts, signed with this key.
pub(crate) fn sign(header: &str, claims: &[u8], number: usize) -> String {
    let text = format!("{}.{}", encode(header), encode(claims));
    let signature = rsa(number).sign(text.as_bytes()).unwrap();
    format!("{text}.{}", encode(signature))
}

/// A token of the provider.
pub(crate) fn token(claims: &Value, key: Key) -> String {
    sign(&header(key).to_string(), claims.to_string().as_bytes(), key.number)
}
