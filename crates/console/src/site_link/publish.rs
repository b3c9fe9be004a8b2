//! What goes down: everything at the hello, then each change at once.

use proto::id::Thumbprint;
use proto::link::{Down, GatewayTarget, RoleTarget};
use proto::snapshot::Signed;
use runtime::telemetry::Chain;
use serde::Deserialize;
use site::db::DbError;
use site::{Published, Site, SnapshotError};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use super::frame::{self, FrameError, SIGN_EVERY};
use super::receive::Wish;
use super::session::Ended;
use crate::log::SITE_LINK;

/// Sends what the site publishes, and remembers what was sent.
pub(super) struct Publisher<'a, W> {
    site: &'a Site,
    io: W,
    /// The version that the last publication led to, or that the hello named.
    version: u64,
    /// The topology of the lists below.
    topology: Option<u64>,
    gateways: Option<Vec<GatewayTarget>>,
    roles: Option<Vec<RoleTarget>>,
    withdrawn: Option<Vec<Thumbprint>>,
}

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Database(#[from] DbError),
}

impl<'a, W: AsyncWrite + Unpin> Publisher<'a, W> {
    pub(super) fn new(site: &'a Site, io: W) -> Self {
        Self { site, io, version: 0, topology: None, gateways: None, roles: None, withdrawn: None }
    }

    /// Serves until the link breaks. A failure of ours does not break it: it is logged, and tried
    /// again with the next sign of life.
    pub(super) async fn run(mut self, mut wishes: mpsc::Receiver<Wish>) -> Ended {
        let mut published = self.site.watch_published();
        let mut sign = interval(SIGN_EVERY);
        sign.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut begun, mut behind) = (false, false);
        loop {
            let sent = tokio::select! {
                Some(wish) = wishes.recv() => match wish {
                    Wish::Begin { version } => {
                        begun = true;
                        // A version that the site never had is as good as none.
                        self.version = version;
                        let now = *published.borrow_and_update();
                        self.send_changes(now).await
                    }
                    Wish::Snapshot { have } => self.send_fitting(have).await,
                },
                Ok(()) = published.changed(), if begun => {
                    let now = *published.borrow_and_update();
                    self.send_changes(now).await
                }
                _ = sign.tick() => match frame::write_sign(&mut self.io).await {
                    Ok(()) if behind => {
                        let now = *published.borrow_and_update();
                        self.send_changes(now).await
                    }
                    outcome => outcome.map_err(SendError::Frame),
                },
            };
            behind = match sent {
                Ok(()) => false,
                Err(SendError::Frame(error)) => return error.into(),
                Err(error) => {
                    error!(component = SITE_LINK, error = %Chain(&error), "not published yet, trying again");
                    begun
                }
            };
        }
    }

    /// Sends what is new. What shuts somebody out goes first.
    async fn send_changes(&mut self, published: Published) -> Result<(), SendError> {
        let mut withdrawn: Vec<_> = self.site.current_snapshot().withdrawn_links.iter().copied().collect();
        withdrawn.sort_unstable();
        if self.withdrawn.as_ref() != Some(&withdrawn) {
            self.send(&Down::Withdrawn { thumbprints: withdrawn.clone() }).await?;
            self.withdrawn = Some(withdrawn);
        }
        if self.topology != Some(published.topology) {
            // Before the gateways: as soon as a tunnel is up, requests come for them.
            let roles = self.site.list_role_targets().await?;
            if self.roles.as_ref() != Some(&roles) {
                self.send(&Down::Roles { roles: roles.clone() }).await?;
                self.roles = Some(roles);
            }
            let gateways = self.site.list_gateway_targets().await?;
            if self.gateways.as_ref() != Some(&gateways) {
                self.send(&Down::Gateways { gateways: gateways.clone() }).await?;
                self.gateways = Some(gateways);
            }
            self.topology = Some(published.topology);
        }
        if let Some(signed) = self.site.changes_since(self.version).await? {
            self.version = self.send_publication(&signed).await?;
        }
        Ok(())
    }

    /// Sends what leads from `have` to the newest version: the changes, or the whole where they are
    /// not kept or nothing has changed.
    ///
    /// It is for one gateway that fell behind. What is remembered as sent stays: the others still
    /// get every change from there on, and whoever has a version already says so.
    async fn send_fitting(&mut self, have: u64) -> Result<(), SendError> {
        let signed = match self.site.changes_since(have).await? {
            Some(signed) => signed,
            None => self.site.snapshot()?,
        };
        self.send_publication(&signed).await.map(drop)
    }

    async fn send_publication(&mut self, signed: &Signed) -> Result<u64, SendError> {
        let (version, whole) = leads_to(signed)?;
        self.send(&Down::Publication { version, whole, signed: signed.clone() }).await?;
        Ok(version)
    }

    async fn send(&mut self, message: &Down) -> Result<(), SendError> {
        Ok(frame::write(&mut self.io, message).await?)
    }
}

/// The version that a publication leads to, and whether it is whole, read from what was signed.
fn leads_to(signed: &Signed) -> Result<(u64, bool), SnapshotError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Head {
        Snapshot { version: u64 },
        Delta { to: u64 },
    }
    Ok(match serde_json::from_str(&signed.payload)? {
        Head::Snapshot { version } => (version, true),
        Head::Delta { to } => (to, false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_kind_are_those_of_the_signed_text() {
        let signed =
            |payload: &str| Signed { payload: payload.into(), signature: Vec::new(), chain: Vec::new() };
        let whole = signed(r#"{"snapshot":{"site_code":"RG1","version":7,"roles":{}}}"#);
        assert_eq!(leads_to(&whole).unwrap(), (7, true));
        assert_eq!(leads_to(&signed(r#"{"delta":{"from":7,"to":9,"changes":[]}}"#)).unwrap(), (9, false));
        assert!(leads_to(&signed("{}")).is_err());
    }
}
