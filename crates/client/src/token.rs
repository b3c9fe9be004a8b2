//! Tokens as the device holds them, and when it renews them.
//!
//! A device cannot verify its tokens: they are for the site and its gateways. It believes
//! them because they came in an answer that the site signed, and reads from them only until
//! when they are good.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::id::{Guid, Thumbprint};
use proto::limits;
use proto::time::Timestamp;
use proto::token::TokenClass;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// The account in whose name the machine's tokens are cached, as the field's log lines write it.
pub const MACHINE_ACCOUNT: &str = "S-1-5-18";

/// A CCM token is renewed when less than this part of its life is left (an hour of eight):
/// long enough that an outage of the token service is over before the token is.
const CCM_RENEWAL_PART: u32 = 8;
/// A self-prove token is renewed from this part of its life on (settled: a third).
const SELF_PROVE_RENEWAL_PART: u32 = 3;
/// The renewal of a self-prove token is spread over this part of its life behind that moment,
/// so that a fleet that was set up in one hour does not come back in one hour.
const SELF_PROVE_JITTER_PART: u32 = 12;

/// The text of a token. `Debug` shows a fingerprint; only the private state file and the
/// `Authorization` header ever see the text.
#[derive(Clone)]
pub struct TokenText(SecretString);

impl TokenText {
    /// The text, for a request header or the command `token`.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for TokenText {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = Thumbprint::of(self.expose().as_bytes()).to_string();
        write!(f, "token {}…", fingerprint.get(..12).unwrap_or_default())
    }
}

impl Serialize for TokenText {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for TokenText {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(Self::from)
    }
}

/// Which of the tokens a device may hold this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A CCM token from before registration.
    PreAuth,
    /// A CCM token of the registered device.
    Device,
    /// The token that proves the device when it asks for CCM tokens.
    SelfProve,
}

/// A token that the device holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredToken {
    /// The text.
    pub text: TokenText,
    /// What it is.
    pub kind: Kind,
    /// When the device got it.
    pub received: Timestamp,
    /// When it stops to count.
    pub expires: Timestamp,
    /// From when on the device asks for the next one.
    pub renew_from: Timestamp,
}

/// Why a text is no token that the device can keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFormError {
    /// Longer than [`limits::TOKEN_BYTES`].
    #[error("the token is longer than {} bytes", limits::TOKEN_BYTES)]
    TooLong,
    /// Not three parts with readable claims.
    #[error("the token cannot be read; was it copied whole, without line breaks?")]
    Malformed,
    /// A token for something else.
    #[error("the token is a {0}, which is not what is needed here")]
    Class(&'static str),
}

/// The claims that a holder reads; nothing is verified here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// What it is for.
    pub class: TokenClass,
    /// When it stops to count.
    pub expires: Timestamp,
    /// The hierarchy that issued it.
    pub hierarchy: Option<Guid>,
}

#[derive(Deserialize)]
struct RawClaims {
    #[serde(rename = "SCCMTokenCategory")]
    category: String,
    #[serde(rename = "Type")]
    kind: String,
    exp: i64,
    #[serde(rename = "TenantId")]
    hierarchy: Option<Guid>,
}

/// Reads class and end of a token without judging it.
pub fn read_claims(text: &str) -> Result<Claims, TokenFormError> {
    if text.len() > limits::TOKEN_BYTES {
        return Err(TokenFormError::TooLong);
    }
    let mut parts = text.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenFormError::Malformed);
    };
    let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| TokenFormError::Malformed)?;
    let raw: RawClaims = serde_json::from_slice(&claims).map_err(|_| TokenFormError::Malformed)?;
    let class = TokenClass::ALL
        .into_iter()
        .find(|class| class.pair() == (raw.category.as_str(), raw.kind.as_str()))
        .ok_or(TokenFormError::Class("token of an unknown class"))?;
    Ok(Claims { class, expires: Timestamp::from_seconds(raw.exp), hierarchy: raw.hierarchy })
}

/// Checks that a text is a bulk registration token before it is sent anywhere.
pub fn read_bulk_token(text: &str) -> Result<Claims, TokenFormError> {
    let claims = read_claims(text)?;
    if claims.class == TokenClass::Bulk {
        Ok(claims)
    } else {
        Err(TokenFormError::Class(describe(claims.class)))
    }
}

fn describe(class: TokenClass) -> &'static str {
    match class {
        TokenClass::Bulk => "bulk registration token",
        TokenClass::SelfProve => "self-prove token of one device",
        TokenClass::PreAuth | TokenClass::Device | TokenClass::User => "CCM token",
    }
}

impl StoredToken {
    /// A CCM token as `CCM_STS` gave it, good for `lifetime` from now.
    pub fn ccm(text: String, lifetime: Duration, now: Timestamp) -> Result<Self, TokenFormError> {
        let claims = read_claims(&text)?;
        let kind = match claims.class {
            TokenClass::PreAuth => Kind::PreAuth,
            TokenClass::Device | TokenClass::User => Kind::Device,
            other => return Err(TokenFormError::Class(describe(other))),
        };
        // By the device's own clock: whatever it shows, the token ages as fast.
        let expires = now.plus(lifetime.min(proto::token::CCM_LIFETIME));
        let renew_from = expires.minus(expires.since(now) / CCM_RENEWAL_PART);
        Ok(Self { text: text.into(), kind, received: now, expires, renew_from })
    }

    /// A self-prove token from a confirmation. `random` spreads the renewal.
    pub fn self_prove(text: String, now: Timestamp, random: u64) -> Result<Self, TokenFormError> {
        let claims = read_claims(&text)?;
        if claims.class != TokenClass::SelfProve {
            return Err(TokenFormError::Class(describe(claims.class)));
        }
        let life = claims.expires.since(now);
        let jitter = scale(life / SELF_PROVE_JITTER_PART, random);
        let renew_from = now.plus(life / SELF_PROVE_RENEWAL_PART).plus(jitter);
        Ok(Self {
            text: text.into(),
            kind: Kind::SelfProve,
            received: now,
            expires: claims.expires,
            renew_from,
        })
    }

    /// What to do about it now.
    pub fn judge(&self, now: Timestamp) -> Freshness {
        if now >= self.expires {
            Freshness::Expired
        } else if now >= self.renew_from {
            Freshness::Renew
        } else {
            Freshness::Good
        }
    }
}

/// How a token stands at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Use it.
    Good,
    /// It still counts; get the next one.
    Renew,
    /// It counts no more.
    Expired,
}

/// What to show `CCM_STS` for a CCM token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The tenant's token: the device's, or its user's.
    Entra,
    /// The self-prove token. One that has ended still shows who asks: within the recovery window the
    /// site gives for it what a confirmation needs, and nothing else.
    SelfProve,
    /// The bulk registration token that setup was given.
    Bulk,
}

/// What the device does to have a CCM token of the kind it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CcmStep {
    /// The cached one does.
    UseCached,
    /// Ask for one; the cached one, if any, still counts should that fail.
    Ask(Proof, CachedMeanwhile),
    /// The self-prove token has ended: confirm first, which brings a new one, then look again.
    Recover,
    /// Nothing to ask with: the device must confirm its registration where it can without a
    /// token (inside), or be set up with a new bulk registration token.
    NoProof,
}

/// Whether the cached token still counts while a new one is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachedMeanwhile {
    /// It does.
    Good,
    /// There is none, or not one of this kind, or it is past its end.
    None,
}

/// What a CCM token is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Registration, confirmation, locations: any will do.
    Any,
    /// Everything that only an approved device may do.
    Device,
}

/// What there is to ask with, besides the self-prove token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proofs {
    /// A bulk registration token.
    pub bulk: bool,
    /// The device proves itself by its tenant's tokens, and can get one.
    pub entra: bool,
}

/// Decides how to get a CCM token: cached, or by which proof. The bulk registration token is
/// shown only while there is no self-prove token; the tenant's comes before both.
pub fn ccm_step(
    cached: Option<&StoredToken>,
    wanted: Wanted,
    self_prove: Option<&StoredToken>,
    proofs: Proofs,
    now: Timestamp,
) -> CcmStep {
    let fits = |token: &&StoredToken| wanted == Wanted::Any || token.kind == Kind::Device;
    let standing = cached.filter(fits).map(|token| token.judge(now));
    if standing == Some(Freshness::Good) {
        return CcmStep::UseCached;
    }
    let ended = self_prove.is_some_and(|token| token.judge(now) == Freshness::Expired);
    let proof = match (self_prove, wanted) {
        _ if proofs.entra => Some(Proof::Entra),
        (Some(_), _) if !ended => Some(Proof::SelfProve),
        (_, Wanted::Any) if proofs.bulk => Some(Proof::Bulk),
        (Some(_), Wanted::Any) => Some(Proof::SelfProve),
        _ => None,
    };
    match (proof, standing) {
        (Some(proof), Some(Freshness::Renew)) => CcmStep::Ask(proof, CachedMeanwhile::Good),
        (Some(proof), _) => CcmStep::Ask(proof, CachedMeanwhile::None),
        (None, Some(Freshness::Renew)) => CcmStep::UseCached,
        (None, _) if ended => CcmStep::Recover,
        (None, _) => CcmStep::NoProof,
    }
}

/// Whether a confirmation is due that brings a new self-prove token.
pub fn confirmation_is_due(self_prove: Option<&StoredToken>, now: Timestamp) -> bool {
    self_prove.is_none_or(|token| token.judge(now) != Freshness::Good)
}

/// `span · random / 2^64`.
fn scale(span: Duration, random: u64) -> Duration {
    let nanos = (span.as_nanos() * u128::from(random >> 32)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The hierarchy of these tokens.
    pub(crate) const HIERARCHY: &str = "7B0C3806-D28C-4A45-ADB2-FB9F94A462F8";

    /// A text with the claims of a class; its signature is nobody's.
    pub(crate) fn text_of(class: TokenClass, expires: i64) -> String {
        let (category, kind) = class.pair();
        let claims = format!(
            r#"{{"SCCMTokenCategory":"{category}","Type":"{kind}","TenantId":"{HIERARCHY}","exp":{expires},"nbf":0}}"#
        );
        format!("e30.{}.AAAA", URL_SAFE_NO_PAD.encode(claims))
    }

    const DAY: i64 = 86_400;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_self_prove_token_is_renewed_from_a_third_of_its_life_with_jitter() {
        let text = text_of(TokenClass::SelfProve, 90 * DAY);
        let early = StoredToken::self_prove(text.clone(), at(0), 0).unwrap();
        assert_eq!(early.renew_from, at(30 * DAY));
        let late = StoredToken::self_prove(text, at(0), u64::MAX).unwrap();
        assert!(
            late.renew_from > at(37 * DAY) && late.renew_from <= at(37 * DAY + DAY / 2),
            "{}",
            late.renew_from
        );
        assert_eq!(early.judge(at(30 * DAY - 1)), Freshness::Good);
        assert_eq!(early.judge(at(30 * DAY)), Freshness::Renew);
        assert_eq!(early.judge(at(90 * DAY)), Freshness::Expired);
        assert!(confirmation_is_due(None, at(0)));
        assert!(
            !confirmation_is_due(Some(&early), at(DAY)) && confirmation_is_due(Some(&early), at(31 * DAY))
        );
    }

    #[test]
    fn a_ccm_token_is_renewed_before_its_end_and_kept_while_that_fails() {
        let hours = |n: i64| at(n * 3600);
        let ccm = StoredToken::ccm(text_of(TokenClass::Device, 0), Duration::from_hours(8), at(0)).unwrap();
        let prove = StoredToken::self_prove(text_of(TokenClass::SelfProve, 90 * DAY), at(0), 0).unwrap();
        let step = |now| ccm_step(Some(&ccm), Wanted::Device, Some(&prove), Proofs::default(), now);
        let bulk = Proofs { bulk: true, entra: false };
        assert_eq!(step(hours(6)), CcmStep::UseCached);
        assert_eq!(step(hours(7)), CcmStep::Ask(Proof::SelfProve, CachedMeanwhile::Good));
        assert_eq!(step(hours(8)), CcmStep::Ask(Proof::SelfProve, CachedMeanwhile::None));
        assert_eq!(ccm_step(Some(&ccm), Wanted::Device, None, bulk, hours(7)), CcmStep::UseCached);
        assert_eq!(ccm_step(Some(&ccm), Wanted::Device, None, bulk, hours(8)), CcmStep::NoProof);
    }

    #[test]
    fn the_bulk_token_is_a_proof_before_registration_only() {
        let pre = StoredToken::ccm(text_of(TokenClass::PreAuth, 0), Duration::from_hours(8), at(0)).unwrap();
        let prove = StoredToken::self_prove(text_of(TokenClass::SelfProve, 90 * DAY), at(0), 0).unwrap();
        let ask = |proof| CcmStep::Ask(proof, CachedMeanwhile::None);
        for (cached, wanted, prove, bulk, expected) in [
            (None, Wanted::Any, None, true, ask(Proof::Bulk)),
            (None, Wanted::Any, None, false, CcmStep::NoProof),
            (Some(&pre), Wanted::Any, None, true, CcmStep::UseCached),
            (Some(&pre), Wanted::Device, None, true, CcmStep::NoProof),
            (Some(&pre), Wanted::Device, Some(&prove), true, ask(Proof::SelfProve)),
            (None, Wanted::Any, Some(&prove), true, ask(Proof::SelfProve)),
        ] {
            let proofs = Proofs { bulk, entra: false };
            assert_eq!(ccm_step(cached, wanted, prove, proofs, at(1)), expected, "{wanted:?}");
        }
    }

    #[test]
    fn the_tenants_token_comes_first_where_the_device_proves_itself_by_it() {
        let prove = StoredToken::self_prove(text_of(TokenClass::SelfProve, 90 * DAY), at(0), 0).unwrap();
        let proofs = Proofs { bulk: true, entra: true };
        for wanted in [Wanted::Any, Wanted::Device] {
            let step = ccm_step(None, wanted, Some(&prove), proofs, at(1));
            assert_eq!(step, CcmStep::Ask(Proof::Entra, CachedMeanwhile::None));
        }
    }

    #[test]
    fn an_ended_self_prove_token_leads_back_over_a_confirmation() {
        let prove = StoredToken::self_prove(text_of(TokenClass::SelfProve, 90 * DAY), at(0), 0).unwrap();
        let late = at(91 * DAY);
        let step = |wanted, bulk| ccm_step(None, wanted, Some(&prove), Proofs { bulk, entra: false }, late);
        assert_eq!(step(Wanted::Device, false), CcmStep::Recover);
        assert_eq!(step(Wanted::Any, false), CcmStep::Ask(Proof::SelfProve, CachedMeanwhile::None));
        assert_eq!(step(Wanted::Any, true), CcmStep::Ask(Proof::Bulk, CachedMeanwhile::None));
    }

    #[test]
    fn a_token_never_claims_a_longer_life_than_eight_hours() {
        let ccm = StoredToken::ccm(text_of(TokenClass::Device, 0), Duration::MAX, at(0)).unwrap();
        assert_eq!(ccm.expires, at(8 * 3600));
        let none = StoredToken::ccm(text_of(TokenClass::Device, 0), Duration::ZERO, at(0)).unwrap();
        assert_eq!(none.judge(at(0)), Freshness::Expired);
    }

    #[test]
    fn only_a_bulk_token_passes_for_one() {
        assert!(read_bulk_token(&text_of(TokenClass::Bulk, 5)).is_ok());
        for class in [TokenClass::SelfProve, TokenClass::PreAuth, TokenClass::Device, TokenClass::User] {
            assert!(matches!(read_bulk_token(&text_of(class, 5)), Err(TokenFormError::Class(_))));
        }
        for text in ["", "a.b", "a.b.c", "a.b.c.d", "e30.e30.e30", "x y z"] {
            assert_eq!(read_bulk_token(text), Err(TokenFormError::Malformed), "{text}");
        }
        assert_eq!(read_claims(&"a".repeat(limits::TOKEN_BYTES + 1)), Err(TokenFormError::TooLong));
    }

    #[test]
    fn a_token_does_not_show_itself_in_debug_output() {
        let text = text_of(TokenClass::Device, 0);
        let token = StoredToken::ccm(text.clone(), Duration::from_hours(1), at(0)).unwrap();
        let shown = format!("{token:?}");
        assert!(text.split('.').all(|part| !shown.contains(part)), "{shown}");
    }
}
