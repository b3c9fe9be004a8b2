//! One link, from its upgrade to its end: what comes and what goes, side by side.

use std::fmt;
use std::time::Duration;

use proto::id::Thumbprint;
use runtime::Drain;
use runtime::telemetry::Chain;
use site::{LinkParty, Site};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::error;

use super::frame::FrameError;
use super::links::{Joined, Links};
use super::publish::Publisher;
use super::receive::{self, Wish};
use crate::log::SITE_LINK;

/// How often the certificate of a live link is judged anew: it may have expired.
const JUDGE_EVERY: Duration = Duration::from_mins(1);
/// Wishes of the peer that wait for an answer. When there are more, its messages are not read: who
/// asks for snapshots without end waits for them.
const WISHES: usize = 4;

/// Who is linked, and by whom it is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session<'a> {
    pub(super) site: &'a Site,
    pub(super) links: &'a Links,
    pub(super) party: &'a LinkParty,
    /// What it showed in the handshake, leaf first.
    pub(super) chain: &'a [Vec<u8>],
}

/// Why a link ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// A message did not come or go.
    Frame(FrameError),
    /// A message out of order.
    OutOfOrder(&'static str),
    /// Its certificate was withdrawn, or counts no more.
    Withdrawn,
    /// A newer link of the same connection point took its place.
    Displaced,
    /// This process is stopping.
    Draining,
}

impl Ended {
    /// Whether nothing is wrong with the peer.
    pub(super) fn is_ordinary(&self) -> bool {
        matches!(self, Self::Draining | Self::Displaced | Self::Frame(FrameError::Io(_)))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => Chain(error).fmt(f),
            Self::OutOfOrder(what) => write!(f, "a message came out of order: {what}"),
            Self::Withdrawn => f.write_str("its certificate counts no more"),
            Self::Displaced => f.write_str("a newer link took its place"),
            Self::Draining => f.write_str("the site is stopping"),
        }
    }
}

impl From<FrameError> for Ended {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl Session<'_> {
    /// Serves the link until it ends. Whatever ends it ends it at once: a write that waits for a
    /// slow peer holds nothing up.
    pub(super) async fn run<I>(self, io: I, joined: &Joined, drain: &Drain) -> Ended
    where
        I: AsyncRead + AsyncWrite,
    {
        let (mut input, output) = tokio::io::split(io);
        let (wishes, wished) = mpsc::channel::<Wish>(WISHES);
        tokio::select! {
            ended = receive::run(self, &mut input, wishes) => ended,
            ended = Publisher::new(self.site, output).run(wished) => ended,
            () = self.revoked() => Ended::Withdrawn,
            () = joined.displaced() => Ended::Displaced,
            () = drain.started() => Ended::Draining,
        }
    }

    /// Resolves when the certificate counts no more: at once when it is withdrawn, within
    /// [`JUDGE_EVERY`] when it has expired.
    async fn revoked(&self) {
        let mut published = self.site.watch_published();
        let thumbprint = self.chain.first().map(|leaf| Thumbprint::of(leaf));
        loop {
            published.mark_unchanged();
            let snapshot = self.site.current_snapshot();
            if thumbprint.is_none_or(|thumbprint| snapshot.withdrawn_links.contains(&thumbprint)) {
                return;
            }
            drop(snapshot);
            if let Ok(Ok(())) = timeout(JUDGE_EVERY, published.changed()).await {
                continue;
            }
            match super::authenticate(self.site, self.chain).await {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => error!(component = SITE_LINK, error = %Chain(&error), "link not judged anew"),
            }
        }
    }
}
