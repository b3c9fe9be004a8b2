//! Keeps mode and certificate as the site says, without a restart.

use std::net::SocketAddr;
use std::time::Duration;

use proto::time::Timestamp;
use runtime::telemetry::Chain;
use runtime::{Clock, Drain};
use site::{Role, Site};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::config::{Config, HTTPS_PORT, host_of};
use crate::log::MP_CONTROL;
use crate::manner::{Manner, Manners, authority, find_role, url_host};
use crate::role_certificate::{Change, Keeper, server_names};

/// Time between two looks at the clock and at certificate files; a change at the site is taken over at once.
const EVERY: Duration = Duration::from_secs(1);

/// The task that does it.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub(crate) site: Site,
    pub(crate) clock: Clock,
    pub(crate) config: Config,
    pub(crate) http: SocketAddr,
    /// `None`: HTTPS cannot be listened for.
    pub(crate) https: Option<SocketAddr>,
    pub(crate) manners: Manners,
    pub(crate) keeper: Keeper,
    /// What was complained about last, so that it is said once.
    pub(crate) complaint: Option<String>,
}

impl Upkeep {
    /// Until the drain begins: on every change at the site, and once a second.
    pub(crate) async fn run(mut self, drain: Drain) {
        let mut published = self.site.watch_published();
        // What changed before somebody watched is seen by this look.
        self.refresh().await;
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let changed = tokio::select! {
                () = drain.started() => return,
                changed = published.changed() => changed.is_ok(),
                _ = tick.tick() => false,
            };
            if changed {
                self.refresh().await;
            } else {
                self.keep_certificate();
            }
        }
    }

    /// Reads the role anew and does what follows from it.
    pub(crate) async fn refresh(&mut self) {
        let roles = match self.site.list_roles().await {
            Ok(roles) => roles,
            Err(error) => {
                warn!(component = MP_CONTROL, error = %Chain(&error), "the role was not read, its last mode stays");
                return;
            }
        };
        let before = self.manners.current();
        let manner = match find_role(&roles, self.config.role.as_deref(), &self.authorities()) {
            Ok(role) => self.manner(Some(role)),
            Err(missing) => {
                self.complain(&missing);
                self.manner(None)
            }
        };
        if manner != *before {
            info!(
                component = MP_CONTROL,
                role = manner.role, mode = %manner.mode, demands_certificate = manner.demand_client_certificate,
                "serving in this mode"
            );
            self.manners.set(manner);
        }
        self.keep_certificate();
    }

    /// Makes, renews or reads the certificate where that is due.
    fn keep_certificate(&mut self) {
        let manner = self.manners.current();
        if manner.has_https() && self.https.is_none() {
            return;
        }
        let bound = self.https.map(|address| address.ip().to_string()).unwrap_or_default();
        let name = self.config.name_at(self.http);
        let hosts = [manner.internal_host.as_deref().unwrap_or_default(), host_of(&name), &bound];
        let now = Timestamp::from_micros(self.clock.now());
        match self.keeper.keep(manner.mode, &server_names(hosts), now) {
            Ok(Change::None) => {}
            Ok(Change::Nothing) => info!(component = MP_CONTROL, "HTTPS is not served any more"),
            Ok(Change::Shows { thumbprint, until }) => {
                self.complaint = None;
                info!(component = MP_CONTROL, certificate = %thumbprint, %until, mode = %manner.mode, "role certificate in use");
            }
            Err(error) => self.complain(&error),
        }
    }

    fn manner(&self, role: Option<&Role>) -> Manner {
        let Some(role) = role else {
            return Manner { https_name: self.https_name(None), ..Manner::default() };
        };
        Manner {
            role: Some(role.name.clone()),
            mode: role.mode,
            demand_client_certificate: role.demand_client_certificate,
            https_name: self.https_name(Some(role)),
            internal_host: url_host(&role.internal_url),
        }
    }

    /// `host[:port]` under which HTTPS is reached: by the role's internal URL, else by our name and
    /// the port of the listener.
    fn https_name(&self, role: Option<&Role>) -> String {
        let told = role.map(|role| role.internal_url.as_str()).filter(|url| url.starts_with("https://"));
        if let Some(at) = told.and_then(authority) {
            return at.strip_suffix(":443").map_or_else(|| at.clone(), str::to_owned);
        }
        let name = self.config.name_at(self.http);
        let port = self.https.unwrap_or_else(|| self.config.tls_address()).port();
        let host = host_of(&name);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        if port == HTTPS_PORT { host } else { format!("{host}:{port}") }
    }

    /// `host:port` of everything by which we are known.
    fn authorities(&self) -> Vec<String> {
        let mut all = vec![self.http.to_string()];
        all.extend(self.https.map(|address| address.to_string()));
        let name = self.config.name_at(self.http);
        all.extend(authority(&format!("http://{name}")));
        let port = self.https.map_or(HTTPS_PORT, |address| address.port());
        all.extend(authority(&format!("https://{}:{port}", host_of(&name))));
        all
    }

    fn complain(&mut self, error: &(dyn std::error::Error + 'static)) {
        let text = Chain(error).to_string();
        if self.complaint.as_deref() != Some(text.as_str()) {
            error!(component = MP_CONTROL, error = text, "role not served as it should be");
            self.complaint = Some(text);
        }
    }
}
