//! What the site, and an administrator of the device, say of gateways: which there are, and whether they may be
//! used. The rules are in [`crate::place`]; here is who is asked, and what is written down.

use std::time::Duration;

use proto::id::RoleId;
use proto::time::Timestamp;
use serde::Deserialize;

use super::{Device, Occasion};
use crate::address::GatewayAddress;
use crate::local_settings::{Hint, LocalSettings, read_fqdns};
use crate::location::{GATEWAYS, Permission};
use crate::log::line;
use crate::place::{self, SiteWord, WordSource};
use crate::state::StateError;

/// Time after which `CMGFQDNs` is looked into again [docs].
const HINTS: Duration = Duration::from_hours(25);
/// Gateways of `CMGFQDNs` that are looked into.
const HINTS_TRIED: usize = 3;
/// Where a gateway says which roles it serves.
const METADATA: &str = "/CCM_Proxy_ServerAuth/ServiceMetadata";

/// What a gateway says of itself.
#[derive(Deserialize)]
struct Metadata {
    roles: Vec<MetadataRole>,
}

#[derive(Deserialize)]
struct MetadataRole {
    role_id: RoleId,
}

impl Device {
    /// Takes what the site says of gateways in an answer that it signed: whether this device may use them, and
    /// which there are. An answer that names none leaves those that are known: an outage of the site's
    /// records must not strand devices.
    pub(crate) fn take_site_word(
        &mut self,
        allowed: bool,
        gateways: &[GatewayAddress],
        source: WordSource,
    ) -> Result<(), StateError> {
        let before = self.permission();
        let word = SiteWord { allowed, at: self.now(), source };
        let on_disk = self.local_settings();
        let mut local = on_disk.clone();
        let changed = self.state.place.site_says(word, &mut local);
        let after = self.permission();
        if before != after {
            line!(info, LocationServices, before = %before, now = %after, source = %source, "the site's word on gateways");
        }
        if changed && let Err(error) = self.store.save_local_settings(&local) {
            line!(warn, LocationServices, error = %runtime::telemetry::Chain(&error), "the device's settings could not be written");
            self.state.place.settings_stay(&on_disk);
        }
        self.take_gateways(gateways, &source.to_string())
    }

    /// Takes the gateways that the site named in an answer that it signed. They replace those of its answer
    /// before, and `CMGFQDNs`.
    pub(crate) fn take_gateways(
        &mut self,
        gateways: &[GatewayAddress],
        source: &str,
    ) -> Result<(), StateError> {
        if !gateways.is_empty() {
            if self.state.located_gateways != gateways {
                let named =
                    gateways.iter().take(GATEWAYS).map(ToString::to_string).collect::<Vec<_>>().join(" ");
                line!(info, LocationServices, source, gateways = named, "the site named its gateways");
                self.state.located_gateways = gateways.iter().take(GATEWAYS).cloned().collect();
            }
            let mut local = self.local_settings();
            if local.cmg_fqdns().is_some()
                && local.set_cmg_fqdns(gateways)
                && let Err(error) = self.store.save_local_settings(&local)
            {
                line!(warn, LocationServices, error = %runtime::telemetry::Chain(&error), "the device's settings could not be written");
            }
        }
        self.save()
    }

    /// Reads the settings that an administrator of the device may have written.
    pub(crate) fn read_local_settings(&mut self) -> LocalSettings {
        let local = self.local_settings();
        let before = (self.permission(), place::always_internet(&self.state));
        self.state.place.read(&local);
        let after = (self.permission(), place::always_internet(&self.state));
        if before != after {
            line!(info, LocationServices, gateway = %after.0, always_internet = after.1, "the device's settings changed by hand");
        }
        local
    }

    fn local_settings(&self) -> LocalSettings {
        self.store.local_settings().unwrap_or_else(|error| {
            line!(warn, LocationServices, error = %runtime::telemetry::Chain(&error), "the device's settings could not be read");
            LocalSettings::default()
        })
    }

    /// Looks into `CMGFQDNs` while no other gateway is known: at the start, on another network, every 25
    /// hours, and when it is another one. `true`: there are other gateways than before.
    pub(super) async fn read_hints(&mut self, local: &LocalSettings, occasion: Occasion) -> bool {
        let text = local.cmg_fqdns();
        let place = &self.state.place;
        let knows_others = !self.state.located_gateways.is_empty()
            || !self.state.policy.settings.gateways.is_empty()
            || !self.state.setup.gateways.is_empty();
        if knows_others || self.permission() == Permission::ForbiddenHere {
            return false;
        }
        let now = self.now();
        let is_new = text != place.hints_from.as_deref();
        let is_old = |last: Timestamp| now < last || now.since(last) >= HINTS;
        if !is_new && !place.hints.is_empty() && !occasion.is_fresh() && !self.hints_read.is_none_or(is_old) {
            return false;
        }
        let (hints, wrong) = read_fqdns(text.unwrap_or_default());
        for error in wrong {
            line!(warn, LocationServices, error = %runtime::telemetry::Chain(&error), "CMGFQDNs holds something else than gateways");
        }
        let mut found = Vec::new();
        for hint in hints.into_iter().take(HINTS_TRIED) {
            match hint {
                Hint::Whole(gateway) => found.push(gateway),
                Hint::Host(authority) => found.extend(self.roles_behind(&authority).await),
            }
        }
        self.hints_read = Some(now);
        let changed = found != self.state.place.hints;
        if text.is_some() || changed {
            let gateways = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            line!(
                info,
                LocationServices,
                cmg_fqdns = text,
                gateways,
                "no gateway is known but those of CMGFQDNs"
            );
        }
        self.state.place.hints_from = text.map(str::to_owned);
        self.state.place.hints = found;
        changed
    }

    /// Asks a gateway which roles it serves. What it says is only an address: whom it leads to must sign.
    async fn roles_behind(&mut self, authority: &str) -> Vec<GatewayAddress> {
        let Ok(first) = GatewayAddress::new(authority, RoleId::FIRST) else { return Vec::new() };
        let state = &self.state;
        let token = state.self_prove.as_ref().map(|token| &token.text).or(self.bulk.as_ref());
        let page = self.transport.open_page(&first, METADATA, token, &*self.store).await;
        let (status, body) = match page {
            Ok(page) => page,
            Err(error) => {
                line!(warn, LocationServices, gateway = authority, error = %runtime::telemetry::Chain(&error), "the gateway of CMGFQDNs does not answer");
                return Vec::new();
            }
        };
        match serde_json::from_slice::<Metadata>(&body) {
            Ok(page) if status == 200 => {
                let roles = page.roles.into_iter().take(GATEWAYS);
                roles.filter_map(|role| GatewayAddress::new(authority, role.role_id).ok()).collect()
            }
            _ => {
                // It is there and does not take our token for this page, such as one that has ended. The token
                // service may still: sites number their roles from the same one on.
                line!(
                    info,
                    LocationServices,
                    gateway = authority,
                    status,
                    "the gateway of CMGFQDNs does not say which roles it serves; trying the first"
                );
                vec![first]
            }
        }
    }
}
