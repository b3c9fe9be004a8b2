//! How a device proves itself: which of its proofs counts, why that one, and why none better.
//!
//! The registered key is the device's identity for life. A certificate of a PKI and an identity of
//! a tenant are credentials that come and go on its record, so a device changes its method without
//! a new id. The best of what a registration proved counts, unless an operator prefers another for
//! a collection; a fall from the certificate is never silent (R74).

use proto::id::{ClientId, Guid, Thumbprint};
use proto::identity::Method;
use proto::limits::NAME_CHARS;
use proto::time::Timestamp;
use proto::token::EntraOrigin;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Site;
use crate::audit::By;
use crate::db::{self, DbError};
use crate::device::Device;

/// A certificate of a trusted PKI, possession of its key proved and its chain judged by the
/// management point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PkiCredential {
    /// SHA-256 of the leaf.
    pub thumbprint: Thumbprint,
    /// Subject of the leaf in RFC 4514 form.
    pub subject: String,
    /// When the leaf ends.
    pub not_after: Timestamp,
    /// Leaf first, then what was shown besides, DER.
    #[serde(skip)]
    pub chain: Vec<Vec<u8>>,
}

/// The tenant's identity on a device's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeviceEntra {
    /// The tenant.
    pub tenant: Guid,
    /// The device's id there; `None` while only users without a device claim came.
    pub device: Option<Guid>,
    /// The user whose token came last; `None` where it was the device's own.
    pub user: Option<Guid>,
}

impl From<EntraOrigin> for DeviceEntra {
    fn from(origin: EntraOrigin) -> Self {
        Self { tenant: origin.tenant, device: origin.device, user: origin.user }
    }
}

/// What a registration proved besides its own key, judged by the management point. What was not
/// shown, or did not hold, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A certificate of a trusted PKI.
    pub pki: Option<PkiCredential>,
    /// The tenant's identity that its CCM token came from.
    pub entra: Option<EntraOrigin>,
    /// The bulk registration token that its CCM token came from.
    pub bulk: Option<Guid>,
}

/// A method that does not carry the device, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedMethod {
    /// The method.
    pub method: Method,
    /// Why not, in one line.
    pub reason: String,
}

/// The order in which methods are preferred, and who said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preference {
    /// Every method once, the preferred one first.
    pub(crate) order: [Method; 4],
    /// The client settings that say so; `None` is the standard order.
    pub(crate) from: Option<String>,
}

impl Default for Preference {
    fn default() -> Self {
        Self { order: Method::PREFERENCE, from: None }
    }
}

impl Preference {
    /// Puts the named methods first, in their order; the others follow in the standard order.
    pub(crate) fn new(first: &[Method], from: String) -> Self {
        let mut order = Method::PREFERENCE;
        // A stable sort keeps the standard order among those that are not named.
        order.sort_by_key(|method| first.iter().position(|named| named == method).unwrap_or(first.len()));
        Self { order, from: (order != Method::PREFERENCE).then_some(from) }
    }
}

/// What counts from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) method: Method,
    pub(crate) reason: String,
    pub(crate) refused: Vec<RefusedMethod>,
}

/// Chooses among what was proved. `how` is why the site token carries the device when nothing
/// better does; `why_not` what management point and device said about the others.
pub(crate) fn choose(
    preference: &Preference,
    proved: &Credentials,
    how: &str,
    why_not: &[(Method, String)],
    now: Timestamp,
) -> Choice {
    let proof = |method| proof_of(method, proved, how, now);
    let chosen = preference.order.iter().find_map(|method| proof(*method).map(|reason| (*method, reason)));
    // The site's token always carries: its key signed the registration.
    let (method, mut reason) = chosen.unwrap_or_else(|| (Method::SiteToken, bounded(how)));
    if let Some(from) = preference.from.as_ref().filter(|_| is_better_proved(method, &proof)) {
        reason = bounded(&format!("the client settings {from:?} prefer it; {reason}"));
    }
    let before = |other: &&Method| {
        let rank = |order: &[Method; 4], wanted| order.iter().position(|m| *m == wanted);
        rank(&Method::PREFERENCE, **other) < rank(&Method::PREFERENCE, method)
            || rank(&preference.order, **other) < rank(&preference.order, method)
    };
    let refused = Method::PREFERENCE.iter().filter(before).map(|other| RefusedMethod {
        method: *other,
        reason: match (proof(*other), &preference.from) {
            (Some(_), Some(from)) => {
                bounded(&format!("it was proved, but the client settings {from:?} prefer {method}"))
            }
            _ => why_not_of(*other, why_not),
        },
    });
    Choice { method, reason, refused: refused.collect() }
}

/// Whether a fall from the certificate to this is one that nobody asked for.
pub(crate) fn is_fall(before: Method, after: &Choice, proved: &Credentials, now: Timestamp) -> bool {
    let still_proved = proof_of(Method::Certificate, proved, "", now).is_some();
    before == Method::Certificate && after.method != Method::Certificate && !still_proved
}

fn is_better_proved(chosen: Method, proof: &impl Fn(Method) -> Option<String>) -> bool {
    Method::PREFERENCE.iter().take_while(|method| **method != chosen).any(|method| proof(*method).is_some())
}

/// What proves a method, in one line; `None`: it was not proved.
fn proof_of(method: Method, proved: &Credentials, how: &str, now: Timestamp) -> Option<String> {
    let text = match method {
        Method::Certificate => {
            let pki = proved.pki.as_ref().filter(|pki| pki.not_after > now)?;
            format!("it proved the certificate {} of a trusted PKI", pki.subject)
        }
        Method::EntraDevice => {
            let entra = proved.entra.filter(|entra| entra.user.is_none())?;
            format!("it proved Entra device {} of tenant {}", entra.device?, entra.tenant)
        }
        Method::EntraUser => {
            let entra = proved.entra?;
            format!("it proved Entra user {} of tenant {}", entra.user?, entra.tenant)
        }
        Method::SiteToken => how.to_owned(),
    };
    Some(bounded(&text))
}

fn why_not_of(method: Method, why_not: &[(Method, String)]) -> String {
    let said = why_not.iter().find(|(named, reason)| *named == method && !reason.trim().is_empty());
    match (said, method) {
        (Some((_, reason)), _) => bounded(reason),
        (None, Method::Certificate) => "no certificate of a trusted PKI was proved".to_owned(),
        (None, Method::EntraDevice) => "no Entra device token was shown".to_owned(),
        (None, Method::EntraUser) => "no Entra user token was shown".to_owned(),
        (None, Method::SiteToken) => "not asked for".to_owned(),
    }
}

/// One printable line of bounded length: parts of it are a device's own words (R28).
fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect()
}

/// Reads a method's name.
pub(crate) fn parse(word: &str) -> Option<Method> {
    Method::PREFERENCE.into_iter().find(|method| method.name() == word)
}

impl Site {
    /// Notes that a device goes on by a token of the site while the certificate that carried it does not
    /// hold any more. It fell and did not say so (R74): an alarm, until a registration shows a good one.
    pub async fn note_fall(&self, device: ClientId, why: &str) -> Result<(), DbError> {
        let scribe = self.scribe(&By::site());
        let why = bounded(why);
        self.db()
            .write(move |tx| {
                let found = db::device::find(tx, device)?;
                let carried = |device: &Device| device.method == Method::Certificate;
                let Some(mut device) = found.filter(|known| carried(known) && known.fell_back_at.is_none())
                else {
                    return Ok(());
                };
                device.fell_back_at = Some(scribe.now);
                db::device::set_credentials(tx, &device)?;
                let detail = json!({
                    "name": device.name, "from": device.method.name(), "to": Method::SiteToken.name(),
                    "reason": why, "fell-back": true,
                });
                scribe.note(tx, "device.method", device.id, &detail)
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1000);

    fn certificate(end: i64) -> PkiCredential {
        PkiCredential {
            thumbprint: Thumbprint::of(b"leaf"),
            subject: "CN=PC1".to_owned(),
            not_after: Timestamp::from_seconds(end),
            chain: vec![b"leaf".to_vec()],
        }
    }

    fn entra(device: bool, user: bool) -> Credentials {
        let some = |given: bool| given.then(Guid::nil);
        let origin = EntraOrigin { tenant: Guid::nil(), device: some(device), user: some(user) };
        Credentials { entra: Some(origin), ..Credentials::default() }
    }

    fn with_certificate(end: i64) -> Credentials {
        Credentials { pki: Some(certificate(end)), ..Credentials::default() }
    }

    fn method(proved: &Credentials) -> Method {
        choose(&Preference::default(), proved, "a bulk token", &[], NOW).method
    }

    #[test]
    fn the_best_of_what_was_proved_counts() {
        let both = |end| Credentials { pki: Some(certificate(end)), ..entra(true, false) };
        assert_eq!(method(&both(2000)), Method::Certificate);
        assert_eq!(method(&both(1000)), Method::EntraDevice, "the certificate has ended");
        assert_eq!(method(&entra(true, true)), Method::EntraUser);
        assert_eq!(method(&entra(false, false)), Method::SiteToken);
        assert_eq!(method(&Credentials::default()), Method::SiteToken);
    }

    #[test]
    fn every_better_method_has_its_reason_why_not() {
        let why = [(Method::Certificate, "CN=PC1 expired\non Monday".to_owned())];
        let choice = choose(&Preference::default(), &Credentials::default(), "a bulk token", &why, NOW);
        assert_eq!((choice.method, choice.reason.as_str()), (Method::SiteToken, "a bulk token"));
        let reasons: Vec<_> = choice.refused.iter().map(|r| (r.method, r.reason.as_str())).collect();
        assert_eq!(
            reasons,
            [
                (Method::Certificate, "CN=PC1 expiredon Monday"),
                (Method::EntraDevice, "no Entra device token was shown"),
                (Method::EntraUser, "no Entra user token was shown"),
            ]
        );
        let best = with_certificate(2000);
        assert!(choose(&Preference::default(), &best, "", &[], NOW).refused.is_empty());
    }

    #[test]
    fn a_collection_may_prefer_another_method_and_that_is_no_fall() {
        let prefer = Preference::new(&[Method::SiteToken], "Kiosks".to_owned());
        assert_eq!(
            prefer.order,
            [Method::SiteToken, Method::Certificate, Method::EntraDevice, Method::EntraUser]
        );
        let proved = with_certificate(2000);
        let choice = choose(&prefer, &proved, "a bulk token", &[], NOW);
        assert_eq!(choice.method, Method::SiteToken);
        assert!(choice.reason.contains("Kiosks"), "{}", choice.reason);
        assert!(choice.refused[0].reason.contains("Kiosks"), "{:?}", choice.refused);
        assert!(!is_fall(Method::Certificate, &choice, &proved, NOW));
        let lost = Credentials::default();
        let fallen = choose(&Preference::default(), &lost, "a bulk token", &[], NOW);
        assert!(is_fall(Method::Certificate, &fallen, &lost, NOW));
        assert!(!is_fall(Method::EntraDevice, &fallen, &lost, NOW));
    }

    #[test]
    fn a_preference_for_what_was_not_proved_says_so() {
        let prefer = Preference::new(&[Method::EntraDevice], "Laptops".to_owned());
        let proved = with_certificate(2000);
        let choice = choose(&prefer, &proved, "", &[], NOW);
        assert_eq!(choice.method, Method::Certificate);
        assert_eq!(choice.refused.len(), 1);
        assert_eq!(choice.refused[0].method, Method::EntraDevice);
    }
}
