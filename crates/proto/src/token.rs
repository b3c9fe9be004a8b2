//! Tokens that the site signs: claims, classes, verification.
//!
//! A bulk registration token has exactly the claims of the published sample. The others are
//! ours, in the same envelope: they add the device and `cnf`, the thumbprint of the
//! certificate whose key must be shown with the token ([ours]; protocol reference 10.4).
//!
//! Verification has two steps, so that the dear one can be cached: [`KeySet::verify`] checks
//! form and signature and never looks at a clock; [`Token::check_time`] is cheap and judges
//! `exp` and `nbf` at a given moment.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::endpoint::Caller;
use crate::id::{ClientId, Guid, Thumbprint};
use crate::limits;
use crate::reason::Reason;
use crate::time::Timestamp;

/// Audience of every token of ours [docs].
pub const AUDIENCE: &str = "urn:sccm:service";
/// How far two clocks of the site's own hosts may differ (R11).
pub const CLOCK_SKEW: Duration = Duration::from_mins(1);
/// Life of a CCM token [docs].
pub const CCM_LIFETIME: Duration = Duration::from_hours(8);
/// Life of a self-prove token [docs].
pub const SELF_PROVE_LIFETIME: Duration = Duration::from_hours(90 * 24);
/// Life of a bulk registration token unless the operator says otherwise [docs].
pub const BULK_LIFETIME: Duration = Duration::from_hours(72);
/// Longest life of a bulk registration token [docs].
pub const BULK_LIFETIME_MAX: Duration = Duration::from_hours(168);
/// Shortest life of a bulk registration token [ours].
pub const BULK_LIFETIME_MIN: Duration = Duration::from_mins(1);

/// `iss` of a hierarchy's tokens: the same GUID as `TenantId`, in lower case [docs].
pub fn issuer(hierarchy: Guid) -> String {
    format!("urn:sccm:oauth2:{hierarchy}")
}

/// What a token is for: the exact pair of `SCCMTokenCategory` and `Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenClass {
    /// Opens `CCM_STS`, to register devices that nobody knows yet.
    Bulk,
    /// Given at registration: this certificate belongs to this client.
    SelfProve,
    /// A CCM token before registration: site facts, locations, registration.
    PreAuth,
    /// A CCM token of a registered device.
    Device,
    /// A CCM token of a registered device and its user.
    User,
}

impl TokenClass {
    /// Every class, for tests that walk the whole matrix.
    pub const ALL: [Self; 5] = [Self::Bulk, Self::SelfProve, Self::PreAuth, Self::Device, Self::User];

    /// The pair (`SCCMTokenCategory`, `Type`).
    pub const fn pair(self) -> (&'static str, &'static str) {
        match self {
            Self::Bulk => ("SCCMPreAuthToken", "BulkRegistration"),
            Self::SelfProve => ("SCCMPreAuthToken", "ClientAuthentication"),
            Self::PreAuth => ("SCCMToken", "PreAuth"),
            Self::Device => ("SCCMToken", "Device"),
            Self::User => ("SCCMToken", "UDA"),
        }
    }

    /// The class of callers that holds such a token and has shown its key.
    pub const fn caller(self) -> Caller {
        match self {
            Self::Bulk => Caller::Bulk,
            Self::SelfProve => Caller::SelfProve,
            Self::PreAuth => Caller::PreAuth,
            Self::Device => Caller::Device,
            Self::User => Caller::User,
        }
    }

    fn from_pair(category: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.pair() == (category, kind))
    }
}

/// The header of a token. Exactly these members, in this order, as in the sample [docs].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    typ: String,
    alg: String,
    x5t: String,
}

/// `cnf` of RFC 7800 with the confirmation method of RFC 8705.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    thumbprint: String,
}

/// The claims in the order of the sample, ours between `UniqueId` and `iss`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    #[serde(rename = "SCCMTokenCategory")]
    category: String,
    #[serde(rename = "Authority")]
    authority: String,
    #[serde(rename = "License")]
    license: String,
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "TenantId")]
    tenant_id: String,
    #[serde(rename = "UniqueId")]
    unique_id: Guid,
    #[serde(rename = "DeviceId", skip_serializing_if = "Option::is_none", default)]
    device: Option<ClientId>,
    #[serde(rename = "UserId", skip_serializing_if = "Option::is_none", default)]
    user: Option<Guid>,
    #[serde(rename = "BulkId", skip_serializing_if = "Option::is_none", default)]
    bulk: Option<Guid>,
    #[serde(rename = "EntraTenantId", skip_serializing_if = "Option::is_none", default)]
    entra_tenant: Option<Guid>,
    #[serde(rename = "EntraDeviceId", skip_serializing_if = "Option::is_none", default)]
    entra_device: Option<Guid>,
    #[serde(rename = "EntraUserId", skip_serializing_if = "Option::is_none", default)]
    entra_user: Option<Guid>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    cnf: Option<Confirmation>,
    iss: String,
    aud: String,
    exp: i64,
    nbf: i64,
}

/// The tenant's identity that a CCM token was given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntraOrigin {
    /// The tenant.
    pub tenant: Guid,
    /// The device's id there, where its token named it.
    pub device: Option<Guid>,
    /// The user's object id there, where it was a user's token.
    pub user: Option<Guid>,
}

/// What a token says. The same type is written by the site and read by everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is for.
    pub class: TokenClass,
    /// Names this token: the handle by which a bulk token is blocked.
    pub unique_id: Guid,
    /// The hierarchy that signed it.
    pub hierarchy: Guid,
    /// The device, in every class but bulk and (before registration) `PreAuth`.
    pub device: Option<ClientId>,
    /// The user, in class `User`.
    pub user: Option<Guid>,
    /// The bulk registration token that a `PreAuth` token came from.
    pub bulk: Option<Guid>,
    /// The Entra identity that a CCM token came from.
    pub entra: Option<EntraOrigin>,
    /// The certificate whose key must be shown; in every class but bulk.
    pub confirmation: Option<Thumbprint>,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub expires: Timestamp,
}

/// Why a token was not accepted. What of this a caller may learn is decided by
/// [`crate::identity`]: before a key is proved, nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`limits::TOKEN_BYTES`].
    #[error("the token is longer than {} bytes", limits::TOKEN_BYTES)]
    TooLong,
    /// Not three parts of canonical base64url with the JSON that we write.
    #[error("the token is malformed")]
    Malformed,
    /// Signed with something else than RS256.
    #[error("the token names the algorithm {0:?}; only RS256 is accepted")]
    Algorithm(String),
    /// No key of the ring has this thumbprint.
    #[error("the token was signed by the unknown key {0}")]
    UnknownKey(String),
    /// The signature does not fit.
    #[error("the token's signature does not fit")]
    Signature,
    /// Issuer, audience, tenant or constant claims are not ours.
    #[error("the token was not made by this site: wrong {0}")]
    Foreign(&'static str),
    /// Category and type are no class that we know, or the claims do not fit the class.
    #[error("the token is of no known class")]
    Class,
    /// Expired.
    #[error("the token expired at {expired}; it is {now}")]
    Expired {
        /// When it ended.
        expired: Timestamp,
        /// When it was judged.
        now: Timestamp,
    },
    /// Not valid yet.
    #[error("the token is valid from {from}; it is {now}")]
    NotYetValid {
        /// When it begins.
        from: Timestamp,
        /// When it was judged.
        now: Timestamp,
    },
}

impl TokenError {
    /// What a gateway answers before anybody's key was proved: one code for every forgery. What the
    /// time says of a token that was verified is [`crate::identity::judge_token`]'s.
    pub const fn reason_at_gateway(&self) -> Reason {
        match self {
            Self::TooLong
            | Self::Malformed
            | Self::Algorithm(_)
            | Self::UnknownKey(_)
            | Self::Signature
            | Self::Foreign(_)
            | Self::Class => Reason::TokenNotAccepted,
            Self::Expired { .. } => Reason::TokenExpired,
            Self::NotYetValid { .. } => Reason::TokenNotYetValid,
        }
    }
}

impl Token {
    /// The token's text, signed by `sign` over its first two parts (RS256).
    ///
    /// `x5t` names the signing certificate as [`x5t`] does. Fails only as `sign` fails.
    pub fn mint<E>(&self, x5t: &str, sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>) -> Result<String, E> {
        let header = Header { typ: "JWT".into(), alg: "RS256".into(), x5t: x5t.into() };
        let mut text = format!("{}.{}", encode(&header), encode(&self.claims()));
        let signature = sign(text.as_bytes())?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(text)
    }

    /// Judges `exp` and `nbf` at `now`, with [`CLOCK_SKEW`] in the token's favour.
    pub fn check_time(&self, now: Timestamp) -> Result<(), TokenError> {
        if now >= self.expires.plus(CLOCK_SKEW) {
            return Err(TokenError::Expired { expired: self.expires, now });
        }
        if now < self.not_before.minus(CLOCK_SKEW) {
            return Err(TokenError::NotYetValid { from: self.not_before, now });
        }
        Ok(())
    }

    fn claims(&self) -> Claims {
        let (category, kind) = self.class.pair();
        Claims {
            category: category.into(),
            authority: "SCCM".into(),
            license: "SCCM".into(),
            kind: kind.into(),
            tenant_id: self.hierarchy.upper(),
            unique_id: self.unique_id,
            device: self.device,
            user: self.user,
            bulk: self.bulk,
            entra_tenant: self.entra.map(|entra| entra.tenant),
            entra_device: self.entra.and_then(|entra| entra.device),
            entra_user: self.entra.and_then(|entra| entra.user),
            cnf: self.confirmation.map(|thumbprint| Confirmation { thumbprint: thumbprint.base64url() }),
            iss: issuer(self.hierarchy),
            aud: AUDIENCE.into(),
            exp: self.expires.seconds(),
            nbf: self.not_before.seconds(),
        }
    }

    fn from_claims(claims: &Claims, hierarchy: Guid) -> Result<Self, TokenError> {
        let foreign = [
            (claims.authority == "SCCM", "Authority"),
            (claims.license == "SCCM", "License"),
            (claims.tenant_id == hierarchy.upper(), "TenantId"),
            (claims.iss == issuer(hierarchy), "iss"),
            (claims.aud == AUDIENCE, "aud"),
        ];
        if let Some((_, claim)) = foreign.into_iter().find(|(ours, _)| !ours) {
            return Err(TokenError::Foreign(claim));
        }
        let class = TokenClass::from_pair(&claims.category, &claims.kind).ok_or(TokenError::Class)?;
        let confirmation = claims
            .cnf
            .as_ref()
            .map(|cnf| Thumbprint::from_base64url(&cnf.thumbprint))
            .transpose()
            .map_err(|_| TokenError::Malformed)?;
        let entra = claims.entra_tenant.map(|tenant| EntraOrigin {
            tenant,
            device: claims.entra_device,
            user: claims.entra_user,
        });
        // A token without its key, or a device token without its device, is none; nor is one that says
        // more than its class has to say.
        let is_bound = confirmation.is_some();
        let (device, user, bulk) = (claims.device.is_some(), claims.user.is_some(), claims.bulk.is_some());
        let fits = match class {
            TokenClass::Bulk => !is_bound && !device && !user && !bulk && entra.is_none(),
            TokenClass::PreAuth => is_bound && !user,
            TokenClass::SelfProve => is_bound && device && !user && !bulk && entra.is_none(),
            TokenClass::Device => is_bound && device && !user && !bulk,
            TokenClass::User => is_bound && device && user && !bulk,
        };
        let is_nobodys = entra.is_none() && (claims.entra_device.is_some() || claims.entra_user.is_some());
        if !fits || is_nobodys {
            return Err(TokenError::Class);
        }
        Ok(Self {
            class,
            unique_id: claims.unique_id,
            hierarchy,
            device: claims.device,
            user: claims.user,
            bulk: claims.bulk,
            entra,
            confirmation,
            not_before: Timestamp::from_seconds(claims.nbf),
            expires: Timestamp::from_seconds(claims.exp),
        })
    }
}

/// `x5t` of a certificate: base64url of the SHA-1 of its DER. SHA-1 because the format says
/// so; nothing here trusts it for more than finding a key.
pub fn x5t(certificate: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, certificate);
    URL_SAFE_NO_PAD.encode(digest)
}

/// SHA-256 of a token's text: what a cache and a signed request name it by.
pub fn token_hash(text: &str) -> [u8; 32] {
    *Thumbprint::of(text.as_bytes()).as_bytes()
}

/// The public halves of the site's token signing keys, parsed once.
#[derive(Debug, Default)]
pub struct KeySet {
    hierarchy: Option<Guid>,
    keys: BTreeMap<String, ParsedPublicKey>,
}

/// A token signing certificate that holds no usable key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a token signing certificate does not hold a readable RSA key")]
pub struct KeySetError;

impl KeySet {
    /// The keys in these certificates (DER), for tokens of this hierarchy.
    pub fn new<'a>(
        hierarchy: Guid,
        certificates: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, KeySetError> {
        let mut keys = BTreeMap::new();
        for der in certificates {
            let (_, certificate) = X509Certificate::from_der(der).map_err(|_| KeySetError)?;
            let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, certificate.public_key().raw)
                .map_err(|_| KeySetError)?;
            keys.insert(x5t(der), key);
        }
        Ok(Self { hierarchy: Some(hierarchy), keys })
    }

    /// Checks form, signature and origin. Not the time: see [`Token::check_time`].
    pub fn verify(&self, text: &str) -> Result<Token, TokenError> {
        if text.len() > limits::TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        // A further part would be a dot inside the claims, which is no base64url.
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = decode(header)?;
        if header.typ != "JWT" {
            return Err(TokenError::Malformed);
        }
        if header.alg != "RS256" {
            return Err(TokenError::Algorithm(header.alg.chars().take(20).collect()));
        }
        let Some(key) = self.keys.get(&header.x5t) else {
            return Err(TokenError::UnknownKey(header.x5t.chars().take(40).collect()));
        };
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        // Everything malformed goes before anything is computed (R14).
        let claims: Claims = decode(claims)?;
        key.verify_sig(signed.as_bytes(), &signature).map_err(|_| TokenError::Signature)?;
        Token::from_claims(&claims, self.hierarchy.ok_or(TokenError::Foreign("iss"))?)
    }
}

fn encode<T: Serialize>(part: &T) -> String {
    // A struct of strings and integers always has a JSON form.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).expect("plain data has a JSON form"))
}

/// Reads a part in the one spelling in which [`encode`] writes it. Every other reading of the same
/// bytes (a list for an object, `null` for nothing, another order, case or escape) is refused with it.
fn decode<T: Serialize + for<'de> Deserialize<'de>>(part: &str) -> Result<T, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    let read: T = serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)?;
    if encode(&read) == part { Ok(read) } else { Err(TokenError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::RSA_PKCS1_SHA256;
    use std::sync::OnceLock;

    fn key() -> &'static (KeyPair, Vec<u8>) {
        static KEY: OnceLock<(KeyPair, Vec<u8>)> = OnceLock::new();
        KEY.get_or_init(|| {
            use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
            let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
            let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
            let signer = rcgen::KeyPair::try_from(der.as_ref()).unwrap();
            let certificate = rcgen::CertificateParams::default().self_signed(&signer).unwrap();
            (pair, certificate.der().to_vec())
        })
    }

    fn sign(bytes: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        let mut signature = vec![0; 256];
        key().0.sign(&RSA_PKCS1_SHA256, &aws_lc_rs::rand::SystemRandom::new(), bytes, &mut signature)?;
        Ok(signature)
    }

    fn hierarchy() -> Guid {
        "7b0c3806-d28c-4a45-adb2-fb9f94a462f8".parse().unwrap()
    }

    fn bulk() -> Token {
        Token {
            class: TokenClass::Bulk,
            unique_id: "ea2fc510-a3be-4cef-90b0-2a0515c4e40c".parse().unwrap(),
            hierarchy: hierarchy(),
            device: None,
            user: None,
            bulk: None,
            entra: None,
            confirmation: None,
            not_before: Timestamp::from_seconds(1_589_442_318),
            expires: Timestamp::from_seconds(1_589_701_518),
        }
    }

    fn keys() -> KeySet {
        KeySet::new(hierarchy(), [key().1.as_slice()]).unwrap()
    }

    #[test]
    fn a_bulk_token_has_exactly_the_claims_of_the_published_sample() {
        let text = bulk().mint(&x5t(&key().1), sign).unwrap();
        let parts: Vec<_> = text.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        assert_eq!(
            String::from_utf8(parts[0].clone()).unwrap(),
            format!(r#"{{"typ":"JWT","alg":"RS256","x5t":"{}"}}"#, x5t(&key().1))
        );
        assert_eq!(
            String::from_utf8(parts[1].clone()).unwrap(),
            concat!(
                r#"{"SCCMTokenCategory":"SCCMPreAuthToken","Authority":"SCCM","License":"SCCM","#,
                r#""Type":"BulkRegistration","TenantId":"7B0C3806-D28C-4A45-ADB2-FB9F94A462F8","#,
                r#""UniqueId":"ea2fc510-a3be-4cef-90b0-2a0515c4e40c","#,
                r#""iss":"urn:sccm:oauth2:7b0c3806-d28c-4a45-adb2-fb9f94a462f8","#,
                r#""aud":"urn:sccm:service","exp":1589701518,"nbf":1589442318}"#
            )
        );
        assert_eq!(parts[2].len(), 256);
        assert_eq!(text.len(), 858, "the sample has 858 characters");
    }

    #[test]
    fn what_was_minted_is_read_back() {
        let device = Token {
            class: TokenClass::Device,
            device: Some("GUID:C806EBF9-8740-441E-AE7B-8B360ADCAECB".parse().unwrap()),
            confirmation: Some(Thumbprint::of(b"x")),
            ..bulk()
        };
        for token in [bulk(), device] {
            let text = token.mint(&x5t(&key().1), sign).unwrap();
            assert_eq!(keys().verify(&text), Ok(token));
        }
    }

    #[test]
    fn time_is_judged_with_a_minute_of_grace() {
        let token = bulk();
        assert!(token.check_time(token.expires).is_ok());
        assert!(token.check_time(token.expires.plus(CLOCK_SKEW)).is_err());
        assert!(token.check_time(token.not_before.minus(CLOCK_SKEW)).is_ok());
        assert!(token.check_time(token.not_before.minus(CLOCK_SKEW * 2)).is_err());
    }

    #[test]
    fn altered_foreign_and_malformed_tokens_are_refused() {
        let good = bulk().mint(&x5t(&key().1), sign).unwrap();
        let foreign = Token { hierarchy: Guid::nil(), ..bulk() }.mint(&x5t(&key().1), sign).unwrap();
        assert_eq!(keys().verify(&foreign), Err(TokenError::Foreign("TenantId")));
        let unknown = bulk().mint("AAAA", sign).unwrap();
        assert!(matches!(keys().verify(&unknown), Err(TokenError::UnknownKey(_))));
        let keyless = Token { class: TokenClass::Device, ..bulk() }.mint(&x5t(&key().1), sign).unwrap();
        assert_eq!(keys().verify(&keyless), Err(TokenError::Class));
        let mut refused = 0;
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let text = String::from_utf8(bytes).unwrap();
            refused += usize::from(keys().verify(&text).is_err());
            assert!(keys().verify(&good[..at]).is_err());
        }
        assert_eq!(refused, good.len(), "every changed character must be noticed");
        println!("{} changed and {} cut tokens refused", good.len(), good.len());
    }

    #[test]
    fn members_that_name_other_keys_or_stand_twice_are_refused() {
        let claims = good_claims();
        for header in [
            r#"{"typ":"JWT","alg":"none","x5t":"K"}"#,
            r#"{"typ":"JWT","alg":"HS256","x5t":"K"}"#,
            r#"{"typ":"JWT","alg":"RS256","x5t":"K","jwk":{}}"#,
            r#"{"typ":"JWT","alg":"RS256","x5t":"K","crit":["exp"]}"#,
            r#"{"typ":"JWT","alg":"RS256","alg":"RS256","x5t":"K"}"#,
        ] {
            let header = header.replace('K', &x5t(&key().1));
            let signed = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(header));
            let text = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()).unwrap()));
            assert!(keys().verify(&text).is_err(), "{signed}");
        }
    }

    fn good_claims() -> String {
        bulk().mint("K", sign).unwrap().split('.').nth(1).unwrap().to_owned()
    }
}
