//! Refused requests, handed to the site for `roamgate trace`.
//!
//! A stranger can cause as many as it likes, so the way is bounded: what does not fit is
//! dropped, and the log has it still.

use std::time::Duration;

use proto::id::{Guid, RequestId};
use proto::link::Event;
use proto::time::Timestamp;
use site::Site;
use tokio::sync::mpsc::{Receiver, Sender, channel as bounded};
use tracing::warn;

use crate::answer::Refusal;

/// Events that wait for the site. One has some 500 bytes.
const WAITING: usize = 1024;
/// Events that go to the site in one write.
const AT_ONCE: usize = 128;
/// What hop we are in the site's records.
const HOP: &str = "management-point";
/// Who reports them: no link party, the site itself.
const OURS: Guid = Guid::nil();

/// Where handlers put events.
#[derive(Debug, Clone)]
pub(crate) struct Events(Sender<Event>);

/// A bounded way to the site, and the task that empties it. The task ends with the last sender.
pub(crate) fn channel(site: Site) -> (Events, impl Future<Output = ()> + Send + 'static) {
    let (sender, receiver) = bounded(WAITING);
    (Events(sender), forward(site, receiver))
}

async fn forward(site: Site, mut receiver: Receiver<Event>) {
    let mut batch = Vec::with_capacity(AT_ONCE);
    while receiver.recv_many(&mut batch, AT_ONCE).await > 0 {
        if let Err(error) = site.store_events(OURS, std::mem::take(&mut batch)).await {
            warn!(%error, "refused requests not recorded");
        }
    }
}

impl Events {
    /// Hands a refusal on, or drops it when too many wait.
    pub(crate) fn record(
        &self,
        at: Timestamp,
        request: RequestId,
        target: &str,
        status: u16,
        refusal: &Refusal,
        elapsed: Duration,
    ) {
        let event = Event {
            at,
            request,
            hop: HOP.to_owned(),
            target: target.chars().take(300).collect(),
            status,
            reason: Some(refusal.reason.to_string()),
            detail: refusal.detail.clone(),
            device: refusal.device,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        };
        // A full queue is the bound at work.
        let _ = self.0.try_send(event);
    }
}
