//! What a device knows about ways to its site, besides where it is: the site's word on gateways, what an
//! administrator of the device wrote by hand, and the management points inside that the site named.
//!
//! Whether gateways may be used is *derived*, never remembered for its own sake: the newest signed answer of
//! the site decides, and what stands in the device's settings by hand counts only until the next one. So
//! no value can be stuck.

use std::fmt;

use proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::{GatewayAddress, InsideAddress};
use crate::local_settings::LocalSettings;
use crate::location::{Permission, known_gateways, known_inside};
use crate::standing::Standing;
use crate::state::State;

/// In which answer the site spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WordSource {
    /// In the answer to a registration.
    Registration,
    /// In the answer to a confirmation.
    Confirmation,
    /// By the client settings of its policy.
    Policy,
}

impl fmt::Display for WordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Registration => "registration",
            Self::Confirmation => "confirmation",
            Self::Policy => "policy",
        })
    }
}

/// What the site said about gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteWord {
    /// Whether this device may use them.
    pub allowed: bool,
    /// When.
    pub at: Timestamp,
    /// Where it said so.
    pub source: WordSource,
}

/// Kept in the device's state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlaceState {
    /// The newest word of the site on gateways.
    pub site: Option<SiteWord>,
    /// `DisAllowCMG` as somebody wrote it by hand since then; true: forbidden.
    pub by_hand: Option<bool>,
    /// `DisAllowCMG` as it stood in the settings when the site last spoke.
    settled: Option<bool>,
    /// `ClientAlwaysOnInternet`.
    pub always_internet: bool,
    /// Management points inside that the site named.
    pub inside: Vec<InsideAddress>,
    /// Gateways of `CMGFQDNs`, with the roles behind them.
    pub hints: Vec<GatewayAddress>,
    /// The value of `CMGFQDNs` that they were made from.
    pub hints_from: Option<String>,
    /// Which gateways have answered, and which rest.
    pub standing: Standing,
}

impl PlaceState {
    /// Takes what stands in the device's settings now.
    pub fn read(&mut self, local: &LocalSettings) {
        self.by_hand = local.disallow_cmg().filter(|disallow| Some(*disallow) != self.settled);
        self.always_internet = local.always_on_internet();
    }

    /// Takes the site's word, which ends what was written by hand, and writes it into the settings;
    /// `true`: they are to be saved. A device without such a setting gets one only when it is forbidden.
    pub fn site_says(&mut self, word: SiteWord, local: &mut LocalSettings) -> bool {
        self.site = Some(word);
        self.by_hand = None;
        let known = local.disallow_cmg();
        if known.is_none() && word.allowed {
            self.settled = None;
            return false;
        }
        let changed = local.set_disallow_cmg(!word.allowed);
        self.settled = Some(!word.allowed);
        changed
    }

    /// The settings could not be saved: what stands there is not by hand all the same.
    pub fn settings_stay(&mut self, local: &LocalSettings) {
        self.settled = local.disallow_cmg();
    }
}

/// Whether the device may use gateways, and who says so.
pub fn permission(state: &State) -> Permission {
    let by_site = state.place.site.map_or(state.policy.settings.gateway_allowed, |word| word.allowed);
    match (state.place.by_hand, by_site) {
        (Some(true), _) => Permission::ForbiddenHere,
        (Some(false), _) | (None, true) => Permission::Allowed,
        (None, false) => Permission::ForbiddenBySite,
    }
}

/// The same for `status`: who says so, and when the site last spoke.
pub fn permission_text(state: &State) -> String {
    let spoke = state.place.site.map(|word| {
        let says = if word.allowed { "allows" } else { "forbids" };
        format!("the site {says} it, by {} of {}", word.source, word.at)
    });
    let spoke = spoke.unwrap_or_else(|| "the site has not said yet".to_owned());
    match (permission(state), state.place.by_hand) {
        (Permission::Allowed, Some(_)) => {
            format!("allowed by hand (DisAllowCMG=0) until the site speaks again; {spoke}")
        }
        (Permission::ForbiddenHere, _) => {
            format!("forbidden by hand (DisAllowCMG=1) until the site speaks again; {spoke}")
        }
        (permission, _) => format!("{permission}; {spoke}"),
    }
}

/// Every gateway that the device knows: those that the site named last, and those of setup. `CMGFQDNs` counts
/// while there are none [docs].
pub fn gateways(state: &State) -> Vec<GatewayAddress> {
    let by_site = if state.located_gateways.is_empty() {
        &state.policy.settings.gateways
    } else {
        &state.located_gateways
    };
    let known = known_gateways([&**by_site, &*state.setup.gateways]);
    if known.is_empty() { state.place.hints.clone() } else { known }
}

/// Every management point inside that the device knows: of setup, and those that the site named.
pub fn management_points(state: &State) -> Vec<InsideAddress> {
    known_inside([&*state.setup.inside, &*state.place.inside])
}

/// Whether the device is never to look inside.
pub fn always_internet(state: &State) -> bool {
    state.setup.always_internet || state.place.always_internet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::setup;

    fn word(allowed: bool) -> SiteWord {
        SiteWord { allowed, at: Timestamp::from_seconds(1), source: WordSource::Policy }
    }

    fn settings(text: &str) -> LocalSettings {
        let mut settings = LocalSettings::default();
        settings.set("DisAllowCMG", text).unwrap();
        settings
    }

    #[test]
    fn the_newest_of_the_sites_word_and_a_hand_decides_and_status_can_say_whose_it_was() {
        let mut state = State::new(setup());
        let mut local = LocalSettings::default();
        assert_eq!(permission(&state), Permission::Allowed, "by default");

        // The site forbids: the setting of the field shows it, and it is not by hand.
        assert!(state.place.site_says(word(false), &mut local));
        assert_eq!(local.disallow_cmg(), Some(true));
        state.place.read(&local);
        assert_eq!(permission(&state), Permission::ForbiddenBySite);

        assert!(permission_text(&state).starts_with("forbidden by the site; the site forbids it, by policy"));

        // The field's remedy: 0 by hand. It lasts until the site says otherwise.
        local = settings("0");
        state.place.read(&local);
        assert_eq!(permission(&state), Permission::Allowed);
        assert!(permission_text(&state).starts_with("allowed by hand (DisAllowCMG=0)"));
        state.place.site_says(word(false), &mut local);
        state.place.read(&local);
        assert_eq!((permission(&state), local.disallow_cmg()), (Permission::ForbiddenBySite, Some(true)));

        // The site allows, and nothing of before is left.
        state.place.site_says(word(true), &mut local);
        state.place.read(&local);
        assert_eq!((permission(&state), local.disallow_cmg()), (Permission::Allowed, Some(false)));

        // An administrator forbids by hand, until the site says otherwise.
        local = settings("1");
        state.place.read(&local);
        assert_eq!(permission(&state), Permission::ForbiddenHere);
        assert!(permission_text(&state).starts_with("forbidden by hand (DisAllowCMG=1)"));
        state.place.site_says(word(true), &mut local);
        state.place.read(&local);
        assert_eq!((permission(&state), local.disallow_cmg()), (Permission::Allowed, Some(false)));

        // Taking the value away leaves the site's word.
        state.place.read(&LocalSettings::default());
        assert_eq!(permission(&state), Permission::Allowed);
    }

    #[test]
    fn a_setting_that_cannot_be_written_does_not_pass_for_a_hand() {
        let mut state = State::new(setup());
        let on_disk = settings("1");
        let mut local = on_disk.clone();
        assert!(state.place.site_says(word(true), &mut local));
        state.place.settings_stay(&on_disk);
        state.place.read(&on_disk);
        assert_eq!(permission(&state), Permission::Allowed);
    }

    #[test]
    fn an_allowed_device_gets_no_setting_that_nobody_asked_for() {
        let mut place = PlaceState::default();
        let mut local = LocalSettings::default();
        assert!(!place.site_says(word(true), &mut local));
        assert_eq!(local, LocalSettings::default());
    }

    #[test]
    fn a_state_of_before_has_its_permission_from_its_policy() {
        let mut state = State::new(setup());
        state.policy.settings.gateway_allowed = false;
        assert_eq!(permission(&state), Permission::ForbiddenBySite);
    }

    #[test]
    fn hints_count_only_while_no_gateway_is_known() {
        let gateway = |text: &str| -> GatewayAddress { text.parse().unwrap() };
        let mut state = State::new(setup());
        state.place.hints = vec![gateway("hint/CCM_Proxy_MutualAuth/7")];
        assert_eq!(gateways(&state), state.setup.gateways);
        state.setup.gateways.clear();
        assert_eq!(gateways(&state), state.place.hints);
        state.policy.settings.gateways = vec![gateway("old/CCM_Proxy_MutualAuth/7")];
        assert_eq!(gateways(&state), state.policy.settings.gateways);
        state.located_gateways = vec![gateway("new/CCM_Proxy_MutualAuth/7")];
        assert_eq!(gateways(&state), state.located_gateways, "the newest list replaces the one before");
    }
}
