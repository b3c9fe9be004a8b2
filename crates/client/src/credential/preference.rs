//! Which method a device uses. Pure: what each method could do now goes in, the choice with its
//! reason and the reasons against the better ones comes out.
//!
//! The choice is made by the device's own facts and by policy that the site signed. An answer from
//! the network is no input (R74): a certificate that somebody on the way refused is noted as
//! refused, which shows everywhere, and it is tried again.

use proto::identity::Method;
use proto::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Longest reason that is kept or sent, in characters: a property of a registration holds no more.
const REASON_CHARS: usize = 240;

/// What a method could do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It can be used; what with.
    Usable(String),
    /// It cannot; why.
    Unusable(String),
}

/// What each of the better methods could do now. The site token needs no line: the device's own
/// key is always there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standings {
    /// A certificate of the PKI.
    pub certificate: Standing,
    /// A device token of a tenant.
    pub entra_device: Standing,
    /// A user token of a tenant.
    pub entra_user: Standing,
}

impl Standings {
    fn of(&self, method: Method) -> Option<&Standing> {
        match method {
            Method::Certificate => Some(&self.certificate),
            Method::EntraDevice => Some(&self.entra_device),
            Method::EntraUser => Some(&self.entra_user),
            Method::SiteToken => None,
        }
    }
}

/// A better method that is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The method.
    pub method: Method,
    /// Why it is not used.
    pub why: String,
}

/// A choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The method to use.
    pub method: Method,
    /// Why.
    pub reason: String,
    /// Why not the better ones, the best first.
    pub refused: Vec<Refused>,
}

/// The order in which methods are tried: those that the site prefers for this device's collection
/// (client setting `MethodPreference`) first, the others behind them in the usual order. So no
/// preference can leave a device without any method.
pub fn order(preference: &[Method]) -> Vec<Method> {
    let mut order: Vec<Method> = Vec::with_capacity(Method::PREFERENCE.len());
    for method in preference.iter().chain(&Method::PREFERENCE) {
        if !order.contains(method) {
            order.push(*method);
        }
    }
    order
}

/// Chooses the first usable method.
pub fn choose(standings: &Standings, preference: &[Method]) -> Choice {
    let mut refused = Vec::new();
    for method in order(preference) {
        let reason = match standings.of(method) {
            Some(Standing::Unusable(why)) => {
                refused.push(Refused { method, why: shorten(why) });
                continue;
            }
            Some(Standing::Usable(with)) => with.clone(),
            None if refused.is_empty() => "the site prefers it for this device".to_owned(),
            None => "the device's own key is always there; no better method can be used".to_owned(),
        };
        return Choice { method, reason: shorten(&reason), refused };
    }
    // Not reached: the order holds every method, and the site token is never unusable.
    Choice { method: Method::SiteToken, reason: String::new(), refused }
}

/// Reads the client setting: names of methods, separated by commas. Unknown ones are passed over.
pub fn read_preference(text: &str) -> Vec<Method> {
    let named = |word: &str| Method::PREFERENCE.into_iter().find(|method| method.name() == word);
    let mut methods = Vec::new();
    for method in text.split([',', ';']).filter_map(|word| named(&word.trim().to_ascii_lowercase())) {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    methods
}

/// What made the device look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// Setup.
    Setup,
    /// The service began.
    ServiceStart,
    /// A registration or confirmation.
    RegistrationRefresh,
    /// The device is elsewhere than before.
    NetworkChange,
    /// The site settled another preference.
    Policy,
    /// What it was proved with failed, or was refused.
    Failure,
}

/// The method in use, kept in the device's memory, reported to the site, shown by `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodState {
    /// The method that the site has last taken.
    pub method: Method,
    /// With which credential: a thumbprint, an account.
    pub credential: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: String,
    /// Why not the better ones.
    pub refused: Vec<Refused>,
    /// What the last look was made for.
    pub trigger: Trigger,
    /// When it was made.
    pub looked: Timestamp,
    /// The method before this one, if there was another.
    pub before: Option<Method>,
}

impl MethodState {
    /// The state before the first look: the device's own key.
    pub fn initial(now: Timestamp) -> Self {
        Self {
            method: Method::SiteToken,
            credential: None,
            since: now,
            reason: "nothing was looked at yet".to_owned(),
            refused: Vec::new(),
            trigger: Trigger::Setup,
            looked: now,
            before: None,
        }
    }

    /// Takes a choice that was put to use with `credential`.
    pub fn take(&mut self, choice: Choice, credential: Option<String>, trigger: Trigger, now: Timestamp) {
        if self.method != choice.method {
            self.before = Some(self.method);
            self.method = choice.method;
            self.since = now;
        }
        self.credential = credential;
        self.reason = choice.reason;
        self.refused = choice.refused;
        self.trigger = trigger;
        self.looked = now;
    }

    /// Whether a choice with its credential is another than what the site has last taken.
    pub fn differs(&self, choice: &Choice, credential: Option<&str>) -> bool {
        self.method != choice.method || self.credential.as_deref() != credential
    }

    /// Whether the device stands below the certificate that it once used.
    pub fn fell_from_certificate(&self) -> bool {
        self.before == Some(Method::Certificate) && self.method != Method::Certificate
    }

    /// The reasons against better methods in one line, for a report.
    pub fn refused_line(&self) -> String {
        refused_line(&self.refused)
    }
}

/// Reasons against better methods in one line: `name: why; name: why`.
pub fn refused_line(refused: &[Refused]) -> String {
    let parts: Vec<_> =
        refused.iter().map(|refused| format!("{}: {}", refused.method.name(), refused.why)).collect();
    parts.join("; ")
}

/// The beginning of a reason, on one line.
pub(crate) fn shorten(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Method::{Certificate, EntraDevice, EntraUser, SiteToken};

    fn standings(certificate: bool, device: bool, user: bool) -> Standings {
        let of = |usable: bool, name: &str| {
            if usable { Standing::Usable(name.into()) } else { Standing::Unusable(format!("no {name}")) }
        };
        Standings {
            certificate: of(certificate, "certificate"),
            entra_device: of(device, "device token"),
            entra_user: of(user, "user token"),
        }
    }

    #[test]
    fn the_first_usable_method_wins_and_the_better_ones_say_why_not() {
        for ((certificate, device, user), expected, refused) in [
            ((true, true, true), Certificate, 0),
            ((false, true, true), EntraDevice, 1),
            ((false, false, true), EntraUser, 2),
            ((false, false, false), SiteToken, 3),
        ] {
            let choice = choose(&standings(certificate, device, user), &[]);
            assert_eq!((choice.method, choice.refused.len()), (expected, refused));
            assert!(!choice.reason.is_empty());
            assert!(choice.refused.iter().all(|refused| refused.why.starts_with("no ")));
        }
    }

    #[test]
    fn a_collections_preference_is_followed_and_never_leaves_a_device_without_a_method() {
        let all = standings(true, true, true);
        for (preference, expected) in [
            (&[SiteToken][..], SiteToken),
            (&[EntraDevice, Certificate], EntraDevice),
            (&[EntraUser], EntraUser),
        ] {
            assert_eq!(choose(&all, preference).method, expected);
        }
        let choice = choose(&standings(true, false, false), &[EntraDevice]);
        assert_eq!((choice.method, choice.refused.len()), (Certificate, 1));
        assert_eq!(order(&[EntraUser]), [EntraUser, Certificate, EntraDevice, SiteToken]);
    }

    #[test]
    fn the_setting_is_read_as_people_write_it() {
        assert_eq!(
            read_preference("entra-device, Site-Token;nonsense,entra-device"),
            [EntraDevice, SiteToken]
        );
        assert_eq!(read_preference(""), []);
    }

    #[test]
    fn since_changes_with_the_method_and_with_nothing_else() {
        let at = Timestamp::from_seconds;
        let mut state = MethodState::initial(at(1));
        let choice = |certificate| choose(&standings(certificate, false, false), &[]);
        assert!(state.differs(&choice(true), Some("AB")));
        state.take(choice(true), Some("AB".into()), Trigger::RegistrationRefresh, at(5));
        assert_eq!((state.method, state.since), (Certificate, at(5)));
        assert!(state.differs(&choice(true), Some("CD")), "a new certificate is another credential");
        state.take(choice(true), Some("CD".into()), Trigger::RegistrationRefresh, at(6));
        assert_eq!((state.since, state.looked), (at(5), at(6)));
        state.take(choice(false), None, Trigger::Failure, at(7));
        assert!(state.fell_from_certificate() && state.since == at(7));
        assert!(state.refused_line().starts_with("certificate: no certificate; entra-device: "));
    }

    #[test]
    fn a_reason_is_one_short_line() {
        let long = Standing::Unusable(format!("a\nb{}", "x".repeat(1000)));
        let choice = choose(&Standings { certificate: long, ..standings(false, true, false) }, &[]);
        assert_eq!(choice.refused[0].why.chars().count(), REASON_CHARS);
        assert!(choice.refused[0].why.starts_with("a b"));
    }
}
