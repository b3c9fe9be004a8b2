//! What is said in a tunnel besides requests: who we are, what the site published, what has happened here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::id::Guid;
use proto::limits;
use proto::link::{FromGateway, ToGateway};
use proto::snapshot::Signed;
use proto::time::Timestamp;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use tunnel::{Config, ControlError};

use crate::counters::{self, REPORT_EVERY, ROWS_AT_ONCE};
use crate::events::SEND_EVERY;
use crate::gateway::Gateway;
use crate::log::COMPONENT;
use crate::publication::Taken;
use crate::tunnel::{Closing, Driver, Peer, Tunnel};

/// Batches of events in one go: a connection point takes no more than eight reports a second.
const BATCHES_AT_ONCE: usize = 4;

/// Drives a tunnel from its first byte to its last.
pub(crate) async fn tunnel<S>(gateway: &Arc<Gateway>, shard: u16, stream: S, peer: Peer)
where
    S: AsyncBufRead + AsyncWrite + Unpin,
{
    let connector = peer.connector;
    // A control message is JSON within which the signed document is a JSON text: its quotes double.
    let config = Config { max_control: 2 * limits::SNAPSHOT_BYTES, ..Config::default() };
    let tunnel = Arc::new(Tunnel::new(shard, peer, config, Instant::now()));
    let hello =
        FromGateway::Hello { shard, shards: gateway.shards.get(), version: gateway.publisher.version() };
    say(&tunnel, &hello);
    info!(component = COMPONENT, %connector, shard, "tunnel is up");
    let judge = Arc::clone(gateway);
    let is_withdrawn = move |thumbprint| {
        judge
            .publisher
            .load()
            .as_ref()
            .is_some_and(|state| state.snapshot.withdrawn_links.contains(&thumbprint))
    };
    let driver = Driver::new(Arc::clone(&tunnel), Arc::clone(&gateway.tunnels), stream, is_withdrawn);
    // Tasks of their own: the driver is woken for every request, and they hardly ever.
    let mut beside = JoinSet::new();
    beside.spawn(publications(Arc::clone(gateway), Arc::clone(&tunnel)));
    beside.spawn(let_go(Arc::clone(gateway), Arc::clone(&tunnel)));
    let reason = driver.run().await;
    info!(component = COMPONENT, %connector, shard, %reason, "tunnel is down");
}

/// Closes a tunnel when the gateway is done.
async fn let_go(gateway: Arc<Gateway>, tunnel: Arc<Tunnel>) {
    gateway.closing.cancelled().await;
    tunnel.close(Closing::Stopping);
}

/// Takes the publications that a tunnel brings, and answers them; ends with the tunnel.
async fn publications(gateway: Arc<Gateway>, tunnel: Arc<Tunnel>) {
    while let Some(messages) = tunnel.control_messages().await {
        let taker = Arc::clone(&gateway);
        let now = gateway.now();
        // Signatures, large documents and the disk would hold up the shard's requests.
        let answers = tokio::task::spawn_blocking(move || taker.take(&messages, now)).await;
        match answers {
            Ok(answers) => answers.iter().for_each(|answer| say(&tunnel, answer)),
            Err(error) => warn!(component = COMPONENT, %error, "publication not taken"),
        }
    }
}

impl Gateway {
    /// Tells the site that a key of this tenant is not known here; not more often than it may be said.
    pub(crate) fn want_keys(&self, tenant: Guid) {
        self.key_wishes.wish(self.now(), || tell_one(self, &FromGateway::WantKeys { tenant }));
    }

    /// Takes control messages in their order and says what is to be answered.
    fn take(&self, messages: &[Bytes], now: Timestamp) -> Vec<FromGateway> {
        let mut publications: Vec<Signed> = Vec::with_capacity(messages.len());
        for message in messages {
            match serde_json::from_slice(message) {
                Ok(ToGateway::Publication { signed }) => publications.push(signed),
                Err(error) => warn!(component = COMPONENT, %error, "control message not understood"),
            }
        }
        let taken = self.publisher.take(&publications, now);
        if let Some(state) = self.publisher.current() {
            self.tunnels.close_withdrawn(&state.snapshot.withdrawn_links);
        }
        answers(&taken)
    }
}

/// One acknowledgement for all that is in force, and one wish for a whole snapshot if any is needed.
fn answers(taken: &[Taken]) -> Vec<FromGateway> {
    let (mut in_force, mut missing) = (None, None);
    for taken in taken {
        match *taken {
            Taken::InForce(version) => {
                in_force = in_force.max(Some(version));
                // A later publication may close the gap that an earlier one found.
                missing = missing.filter(|have| version <= *have);
            }
            Taken::NeedSnapshot { have } => missing = Some(have),
            Taken::Refused => {}
        }
    }
    let ack = in_force.map(|version| FromGateway::Ack { version });
    ack.into_iter().chain(missing.map(|have| FromGateway::NeedSnapshot { have })).collect()
}

fn say(tunnel: &Tunnel, message: &FromGateway) {
    if let Err(error) = try_say(tunnel, message) {
        info!(component = COMPONENT, %error, "control message not sent");
    }
}

fn try_say(tunnel: &Tunnel, message: &FromGateway) -> Result<(), ControlError> {
    let text = serde_json::to_vec(message).expect("plain data has a JSON form");
    tunnel.send_control(text.into())
}

/// Sends events and counters to the site until the gateway stops, then what is left, and then lets the
/// tunnels go.
pub(crate) async fn report(gateway: &Gateway) {
    let mut events = ticks(SEND_EVERY);
    let mut counters = ticks(REPORT_EVERY);
    let mut from = gateway.now();
    let last_request = async {
        gateway.drain.started().await;
        gateway.in_flight.none_left().await;
    };
    tokio::pin!(last_request);
    loop {
        tokio::select! {
            () = &mut last_request => break,
            _ = events.tick() => send_events(gateway),
            _ = counters.tick() => from = send_counters(gateway, from),
        }
    }
    send_events(gateway);
    send_counters(gateway, from);
    gateway.closing.cancel();
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one comes at once.
    ticks.reset();
    ticks
}

fn send_events(gateway: &Gateway) {
    for _ in 0..BATCHES_AT_ONCE {
        let events = gateway.ledger.events.take();
        if events.is_empty() {
            return;
        }
        let message = FromGateway::Events { events };
        if !tell_one(gateway, &message) {
            if let FromGateway::Events { events } = message {
                gateway.ledger.events.put_back(events);
            }
            return;
        }
    }
}

/// Logs and sends the counters of the window that ends now; returns where the next one begins.
fn send_counters(gateway: &Gateway, from: Timestamp) -> Timestamp {
    let to = gateway.now();
    let rows = gateway.ledger.counters.take();
    counters::log(&rows);
    for rows in rows.chunks(ROWS_AT_ONCE) {
        let message = FromGateway::Counters { from, to, endpoints: rows.to_vec() };
        if !tell_one(gateway, &message) {
            info!(component = COMPONENT, "counters not sent, no connection point takes them");
        }
    }
    to
}

/// Says it to one connection point: they all pass it on to the same site.
fn tell_one(gateway: &Gateway, message: &FromGateway) -> bool {
    gateway.tunnels.to_tell().iter().any(|tunnel| try_say(tunnel, message).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_that_a_later_publication_closed_is_not_asked_for() {
        let gap = Taken::NeedSnapshot { have: 3 };
        assert_eq!(answers(&[gap, Taken::InForce(9)]), [FromGateway::Ack { version: 9 }]);
        assert_eq!(answers(&[gap]), [FromGateway::NeedSnapshot { have: 3 }]);
        assert_eq!(
            answers(&[Taken::InForce(3), gap]),
            [FromGateway::Ack { version: 3 }, FromGateway::NeedSnapshot { have: 3 }]
        );
        assert_eq!(answers(&[Taken::Refused]), []);
    }

    #[test]
    fn a_full_store_asks_for_a_whole_snapshot_besides_acknowledging() {
        let taken = [Taken::InForce(4), Taken::InForce(5), Taken::NeedSnapshot { have: 0 }];
        assert_eq!(answers(&taken), [FromGateway::Ack { version: 5 }, FromGateway::NeedSnapshot { have: 0 }]);
    }
}
