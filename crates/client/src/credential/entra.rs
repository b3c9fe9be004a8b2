//! Tokens of Entra ID, or of any OpenID provider that serves the same: what is sent, what comes back,
//! and what can be read from it. Nothing here opens a socket; see [`super::source`].
//!
//! The device proves its workplace-join key by a signed statement (RFC 7523) that it makes out to the
//! token endpoint: what another server got of it is of no use there.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proto::id::Guid;
use proto::limits;
use proto::time::Timestamp;
use rustls::SignatureScheme;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::pki::{StoredCertificate, StoredKey};
use crate::token::TokenText;

/// How long a proof of the device counts. Long enough for a slow network, short enough that it is of
/// no use to whoever finds it.
const ASSERTION_LIFETIME: Duration = Duration::from_mins(5);
/// Longest address of an endpoint, in characters.
const ADDRESS_CHARS: usize = 500;
/// A token whose end is this near is not shown any more.
const MARGIN: Duration = Duration::from_mins(2);

/// The device's workplace-join certificate with its key.
#[derive(Debug, Clone)]
pub struct JoinKey {
    own: std::sync::Arc<runtime::tls::OwnCertificate>,
    device: Guid,
}

/// Why there is no usable workplace-join key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinKeyError {
    /// No certificate whose name is a device id.
    #[error("there is no workplace-join certificate (one whose subject is the device's id)")]
    Missing,
    /// There is one without a usable key.
    #[error("the key of the workplace-join certificate cannot be used: {0}")]
    Key(String),
    /// Past its end.
    #[error("the workplace-join certificate expired at {0}")]
    Expired(Timestamp),
    /// A kind of key that providers do not take.
    #[error("the key of the workplace-join certificate is neither RSA nor P-256")]
    Algorithm,
}

impl JoinKey {
    /// Finds it in a store: the subject's common name is the device's id in the tenant, as Windows
    /// writes it.
    pub fn find(store: &[StoredCertificate], now: Timestamp) -> Result<Self, JoinKeyError> {
        let mut problem = JoinKeyError::Missing;
        for stored in store {
            let Some(leaf) = stored.chain.first() else { continue };
            let Ok(certificate) = runtime::tls::PeerCertificate::parse(&leaf.clone().into()) else {
                continue;
            };
            let Some(device) = certificate.common_name().and_then(|name| name.parse().ok()) else { continue };
            let ends = Timestamp::from_seconds(certificate.not_after());
            problem = match &stored.key {
                _ if now >= ends => JoinKeyError::Expired(ends),
                StoredKey::Missing => JoinKeyError::Key("it is not there".to_owned()),
                StoredKey::Unusable(why) => JoinKeyError::Key(why.clone()),
                StoredKey::Usable(own) => {
                    let key = Self { own: std::sync::Arc::clone(own), device };
                    match key.scheme() {
                        Some(_) => return Ok(key),
                        None => JoinKeyError::Algorithm,
                    }
                }
            };
        }
        Err(problem)
    }

    /// The device's id in its tenant.
    pub fn device(&self) -> Guid {
        self.device
    }

    fn scheme(&self) -> Option<SignatureScheme> {
        let key = &self.own.certified().key;
        [SignatureScheme::RSA_PKCS1_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256]
            .into_iter()
            .find(|scheme| key.choose_scheme(&[*scheme]).is_some())
    }

    /// The proof, made out to a token endpoint: taken once, for five minutes.
    pub fn assertion(&self, endpoint: &str, id: Guid, now: Timestamp) -> Result<TokenText, JoinKeyError> {
        let scheme = self.scheme().ok_or(JoinKeyError::Algorithm)?;
        let algorithm = if scheme == SignatureScheme::RSA_PKCS1_SHA256 { "RS256" } else { "ES256" };
        let certificate = self.own.chain().first().map(|leaf| STANDARD.encode(leaf)).unwrap_or_default();
        let header = json!({ "typ": "JWT", "alg": algorithm, "x5c": [certificate] });
        let claims = json!({
            "iss": self.device,
            "sub": self.device,
            "aud": endpoint,
            "jti": id,
            "nbf": now.seconds(),
            "exp": now.plus(ASSERTION_LIFETIME).seconds(),
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let failed = |why: &str| JoinKeyError::Key(why.to_owned());
        let signer = self.own.certified().key.choose_scheme(&[scheme]).ok_or(JoinKeyError::Algorithm)?;
        let signature = signer.sign(signed.as_bytes()).map_err(|_| failed("it does not sign"))?;
        let signature = if algorithm == "ES256" {
            fixed_signature(&signature).ok_or_else(|| failed("it does not sign"))?
        } else {
            signature
        };
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into())
    }
}

/// Turns an ECDSA signature from ASN.1 (two integers) into the 64 bytes that tokens hold.
fn fixed_signature(der: &[u8]) -> Option<Vec<u8>> {
    let [0x30, length, rest @ ..] = der else { return None };
    if usize::from(*length) != rest.len() {
        return None;
    }
    let mut fixed = Vec::with_capacity(64);
    let mut rest = rest;
    for _ in 0..2 {
        let [0x02, length, tail @ ..] = rest else { return None };
        let (number, tail) = tail.split_at_checked(usize::from(*length))?;
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        fixed.resize(fixed.len() + 32_usize.checked_sub(number.len())?, 0);
        fixed.extend_from_slice(number);
        rest = tail;
    }
    rest.is_empty().then_some(fixed)
}

/// Which app asks for tokens to what, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Onboarding {
    /// The tenant.
    pub tenant: Guid,
    /// `AADCLIENTAPPID`.
    pub client_app_id: String,
    /// `AADRESOURCEURI`.
    pub resource: String,
    /// Below which the discovery document lies.
    pub authority: String,
}

/// The public service's authority for a tenant, for a device that was told everything but this.
pub fn public_authority(tenant: Guid) -> String {
    format!("https://login.microsoftonline.com/{tenant}")
}

/// Where a provider is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// For tokens.
    pub token: String,
    /// For the sign-in of a user by a code, if it has that.
    pub device_code: Option<String>,
}

/// Why a provider's document or address is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Not an address of the right kind.
    #[error("{0:?} is not an address that begins with https://")]
    Address(String),
    /// No discovery document.
    #[error("the discovery document cannot be read")]
    Document,
    /// An endpoint of another host.
    #[error("the discovery document names an endpoint at {found}, and the authority is {expected}")]
    OtherHost {
        /// Where it lies.
        found: String,
        /// Where it should.
        expected: String,
    },
}

/// `host[:port]` of an `https://` address.
pub fn host_of(address: &str) -> Result<&str, ProviderError> {
    let error = || ProviderError::Address(address.chars().take(80).collect());
    if address.len() > ADDRESS_CHARS || !address.chars().all(|c| c.is_ascii_graphic()) {
        return Err(error());
    }
    let rest = address.strip_prefix("https://").ok_or_else(error)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest.get(..end).unwrap_or_default();
    if host.is_empty() || host.contains('@') { Err(error()) } else { Ok(host) }
}

impl Endpoints {
    /// Reads a discovery document. Its endpoints must lie at the authority's own host: a proof of the
    /// device goes nowhere else.
    pub fn read(document: &[u8], authority: &str) -> Result<Self, ProviderError> {
        #[derive(Deserialize)]
        struct Document {
            token_endpoint: String,
            device_authorization_endpoint: Option<String>,
        }
        let document: Document = serde_json::from_slice(document).map_err(|_| ProviderError::Document)?;
        let expected = host_of(authority)?;
        let check = |address: &str| {
            let found = host_of(address)?;
            if found.eq_ignore_ascii_case(expected) {
                Ok(())
            } else {
                Err(ProviderError::OtherHost { found: found.to_owned(), expected: expected.to_owned() })
            }
        };
        check(&document.token_endpoint)?;
        if let Some(endpoint) = &document.device_authorization_endpoint {
            check(endpoint)?;
        }
        Ok(Self { token: document.token_endpoint, device_code: document.device_authorization_endpoint })
    }

    /// How the resource is named in a request: as a scope where the endpoint is of the newer form, by
    /// itself elsewhere.
    pub fn audience(&self, resource: &str, for_user: bool) -> Vec<(&'static str, String)> {
        let openid = if for_user { "openid offline_access " } else { "" };
        if self.token.contains("/oauth2/v2.0/") {
            vec![("scope", format!("{openid}{resource}/.default"))]
        } else if for_user {
            vec![("resource", resource.to_owned()), ("scope", openid.trim_end().to_owned())]
        } else {
            vec![("resource", resource.to_owned())]
        }
    }
}

/// A form as it is sent: `name=value&…`.
pub fn form(fields: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push('%');
                text.push_str(&proto::text::hex::encode(&[byte]));
            }
        }
    }
    text
}

/// A token that a provider gave.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The text.
    pub token: TokenText,
    /// When it ends.
    pub expires: Timestamp,
    /// With what the next one is had, for users.
    pub refresh: Option<TokenText>,
}

/// A provider's refusal: its code and the first line of what it says to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Such as `invalid_grant`.
    pub error: String,
    /// Such as `AADSTS70016: …`.
    pub description: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.description)
    }
}

/// Reads a token endpoint's answer; `None`: it is neither a token nor a refusal.
pub fn read_answer(body: &[u8], now: Timestamp) -> Option<Result<Granted, Refusal>> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: Option<String>,
        expires_in: Option<serde_json::Value>,
        refresh_token: Option<String>,
        error: Option<String>,
        error_description: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    if let Some(error) = answer.error {
        let line =
            |text: String| -> String { text.chars().take_while(|c| !c.is_control()).take(200).collect() };
        let description = line(answer.error_description.unwrap_or_default());
        return Some(Err(Refusal { error: line(error), description }));
    }
    let token =
        answer.access_token.filter(|token| !token.is_empty() && token.len() <= limits::TOKEN_BYTES)?;
    // Version 1 endpoints write the number as text.
    let seconds = answer.expires_in.and_then(|value| match value {
        serde_json::Value::Number(number) => number.as_u64(),
        serde_json::Value::String(text) => text.parse().ok(),
        _ => None,
    });
    let told = seconds.map(|seconds| now.plus(Duration::from_secs(seconds)));
    let claimed = Claims::read(&token).map(|claims| claims.expires);
    let expires = match (told, claimed) {
        (Some(told), Some(claimed)) => told.min(claimed),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return None,
    };
    let refresh =
        answer.refresh_token.filter(|token| token.len() <= limits::TOKEN_BYTES).map(TokenText::from);
    Some(Ok(Granted { token: token.into(), expires, refresh }))
}

impl Granted {
    /// Whether it can still be shown.
    pub fn is_good(&self, now: Timestamp) -> bool {
        now.plus(MARGIN) < self.expires
    }
}

/// What a holder reads from a tenant's token. Nothing is verified: the site does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The tenant.
    pub tenant: Option<Guid>,
    /// The user's object id, in a user's token.
    pub user: Option<Guid>,
    /// The device's id, where it is named.
    pub device: Option<Guid>,
    /// The user's name, for people.
    pub name: Option<String>,
    /// The on-premises SID of a hybrid user.
    pub sid: Option<String>,
    /// When it ends.
    pub expires: Timestamp,
}

impl Claims {
    /// Reads them; `None`: not a token with claims.
    pub fn read(token: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Raw {
            tid: Option<Guid>,
            oid: Option<Guid>,
            deviceid: Option<Guid>,
            idtyp: Option<String>,
            scp: Option<String>,
            upn: Option<String>,
            preferred_username: Option<String>,
            unique_name: Option<String>,
            onprem_sid: Option<String>,
            exp: f64,
        }
        if token.len() > limits::TOKEN_BYTES {
            return None;
        }
        let mut parts = token.split('.');
        let (_, Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let bytes = URL_SAFE_NO_PAD.decode(claims).ok()?;
        let raw: Raw = serde_json::from_slice(&bytes).ok()?;
        let name = raw.upn.or(raw.preferred_username).or(raw.unique_name);
        let is_user = match raw.idtyp.as_deref() {
            Some(kind) => kind.eq_ignore_ascii_case("user"),
            // Older tokens do not say what they are; only a user's has delegated rights.
            None => raw.scp.is_some() || name.is_some(),
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float as large saturates, and is judged as late"
        )]
        let expires = Timestamp::from_seconds(raw.exp as i64);
        let short = |text: String| -> String { text.chars().filter(|c| !c.is_control()).take(200).collect() };
        Some(Self {
            tenant: raw.tid,
            user: raw.oid.filter(|_| is_user),
            device: raw.deviceid,
            name: name.map(short),
            sid: raw.onprem_sid.map(short),
            expires,
        })
    }
}

/// The SID of a tenant's object: `S-1-12-1-` and its id as four numbers, as Windows shows users that
/// only the tenant knows.
pub fn sid_of(object: Guid) -> String {
    // A GUID's first three fields are numbers, which our order writes most significant byte first and
    // a SID, as memory holds them, least significant first.
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let bytes = object.as_bytes();
    let number = |four: &[usize]| {
        four.iter()
            .rev()
            .fold(0_u32, |sum, at| sum << 8 | u32::from(bytes.get(*at).copied().unwrap_or_default()))
    };
    let numbers: Vec<String> = ORDER.chunks(4).map(|four| number(four).to_string()).collect();
    format!("S-1-12-1-{}", numbers.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pki::{Leaf, Pki};

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);
    const DEVICE: &str = "8d2b4ff9-0172-4998-9851-b5324303385f";

    pub(crate) fn token_of(claims: &serde_json::Value) -> String {
        format!("e30.{}.AAAA", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn the_workplace_join_key_is_the_one_named_after_the_device() {
        let pki = Pki::new("MS-Organization-Access");
        let store = [pki.stored(&Leaf::client("pc1")), pki.stored(&Leaf::client(DEVICE))];
        let key = JoinKey::find(&store, NOW).unwrap();
        assert_eq!(key.device().to_string(), DEVICE);
        assert_eq!(JoinKey::find(&store[..1], NOW).map(|_| ()), Err(JoinKeyError::Missing));
        let old = [pki.stored(&Leaf { years: (2020, 2021), ..Leaf::client(DEVICE) })];
        assert!(matches!(JoinKey::find(&old, NOW), Err(JoinKeyError::Expired(_))));
        let mut bare = pki.stored(&Leaf::client(DEVICE));
        bare.key = StoredKey::Missing;
        assert!(matches!(JoinKey::find(&[bare], NOW), Err(JoinKeyError::Key(_))));
    }

    #[test]
    fn a_proof_is_made_out_to_its_endpoint_and_signed_as_tokens_are() {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
        use x509_parser::prelude::{FromDer as _, X509Certificate};
        let stored = Pki::new("MS-Organization-Access").stored(&Leaf::client(DEVICE));
        let key = JoinKey::find(std::slice::from_ref(&stored), NOW).unwrap();
        let proof = key.assertion("https://login.example/t/oauth2/v2.0/token", Guid::nil(), NOW).unwrap();
        let (signed, signature) = proof.expose().rsplit_once('.').unwrap();
        let (_, certificate) = X509Certificate::from_der(&stored.chain[0]).unwrap();
        let point = certificate.public_key().subject_public_key.data.as_ref();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
            .unwrap();
        let claims = signed.split('.').nth(1).unwrap();
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(claims["sub"], DEVICE);
        assert_eq!(claims["aud"], "https://login.example/t/oauth2/v2.0/token");
        assert_eq!(claims["exp"], NOW.seconds() + 300);
    }

    #[test]
    fn asn1_signatures_of_any_length_become_sixty_four_bytes() {
        let der = [&[0x30, 8, 2, 1, 5, 2, 3, 0, 0x80, 1][..]].concat();
        let fixed = fixed_signature(&der).unwrap();
        assert_eq!((fixed.len(), fixed[31], &fixed[62..]), (64, 5, &[0x80, 1][..]));
        for wrong in
            [&[][..], &[0x30, 3, 2, 1, 5], &[0x30, 9, 2, 1, 5, 2, 1, 5], &[0x31, 6, 2, 1, 5, 2, 1, 5]]
        {
            assert_eq!(fixed_signature(wrong), None);
        }
    }

    #[test]
    fn endpoints_lie_at_the_authority_or_nowhere() {
        let document = |host: &str| {
            format!(
                r#"{{"token_endpoint":"https://{host}/t/oauth2/v2.0/token","device_authorization_endpoint":"https://login.example/t/code"}}"#
            )
        };
        let read = |text: &str| Endpoints::read(text.as_bytes(), "https://login.example/t/v2.0");
        let endpoints = read(&document("LOGIN.example")).unwrap();
        assert!(endpoints.device_code.is_some());
        assert_eq!(endpoints.audience("api://x", false), [("scope", "api://x/.default".to_owned())]);
        assert!(matches!(read(&document("evil.example")), Err(ProviderError::OtherHost { .. })));
        assert_eq!(read("<html>"), Err(ProviderError::Document));
        for wrong in ["http://login.example", "login.example", "https://", "https://a@b", "https://a b"] {
            assert!(host_of(wrong).is_err(), "{wrong}");
        }
        assert_eq!(host_of("https://a:8443/x?y"), Ok("a:8443"));
    }

    #[test]
    fn answers_are_tokens_refusals_or_nothing() {
        let text = token_of(&json!({ "exp": NOW.seconds() + 100, "oid": DEVICE, "scp": "x", "upn": "a@b" }));
        let body = format!(r#"{{"access_token":"{text}","expires_in":"3600","refresh_token":"r"}}"#);
        let granted = read_answer(body.as_bytes(), NOW).unwrap().unwrap();
        assert_eq!(granted.expires, NOW.plus(Duration::from_secs(100)), "the earlier end counts");
        assert!(!granted.is_good(NOW) && granted.refresh.is_some());
        let refused = read_answer(
            b"{\"error\":\"invalid_grant\",\"error_description\":\"AADSTS1: no\\r\\nTrace\"}",
            NOW,
        );
        assert_eq!(refused.unwrap().unwrap_err().to_string(), "invalid_grant: AADSTS1: no");
        for nothing in ["", "<html>", "{}", r#"{"access_token":"x"}"#, "[]"] {
            assert!(read_answer(nothing.as_bytes(), NOW).is_none(), "{nothing}");
        }
    }

    #[test]
    fn a_users_token_is_told_from_a_devices() {
        let user =
            token_of(&json!({ "exp": 5, "oid": DEVICE, "idtyp": "user", "deviceid": DEVICE, "upn": "a@b" }));
        let claims = Claims::read(&user).unwrap();
        assert!(claims.user.is_some() && claims.device.is_some() && claims.name.as_deref() == Some("a@b"));
        let device = token_of(&json!({ "exp": 5, "oid": DEVICE, "idtyp": "device", "deviceid": DEVICE }));
        let claims = Claims::read(&device).unwrap();
        assert!(claims.user.is_none() && claims.device.is_some());
        assert_eq!(Claims::read("a.b"), None);
    }

    #[test]
    fn a_sid_is_made_from_an_object_id_as_windows_does() {
        // 0x01020304-0506-0708-090a-0b0c0d0e0f10
        let id: Guid = "01020304-0506-0708-090a-0b0c0d0e0f10".parse().unwrap();
        let expected = format!(
            "S-1-12-1-{}-{}-{}-{}",
            0x0102_0304_u32, 0x0708_0506_u32, 0x0c0b_0a09_u32, 0x100f_0e0d_u32
        );
        assert_eq!(sid_of(id), expected);
    }

    #[test]
    fn a_form_keeps_letters_and_encodes_the_rest() {
        assert_eq!(
            form(&[("a", "x y".into()), ("scope", "api://t/.default".into())]),
            "a=x%20y&scope=api%3A%2F%2Ft%2F.default"
        );
    }
}
