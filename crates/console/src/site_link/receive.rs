//! What comes up: a hello, then states, counters, events and wishes.

use proto::id::Guid;
use proto::limits::TARGET_BYTES;
use proto::link::{EndpointCounters, Event, GatewayState, Up};
use runtime::telemetry::Chain;
use site::CounterWindow;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tracing::{debug, error};

use super::session::{Ended, Session};
use super::{bounded, frame, not_ahead};
use crate::log::{self, SITE_LINK};

/// Rows of one report of counters that are kept. A role has some ten paths at each of two doors.
const ROWS: usize = 1000;
/// Longest path of a row, in characters.
const PATH_CHARS: usize = 300;
/// Events of one message that are kept.
const EVENTS: usize = 256;
/// Longest detail of an event and problem of a gateway, in characters.
const DETAIL_CHARS: usize = 300;
/// Longest name of a hop and longest reason code, in characters.
const WORD_CHARS: usize = 40;

/// What the peer wants to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// It said hello and has passed on this version; 0: none.
    Begin {
        /// The version.
        version: u64,
    },
    /// A gateway has this version, and what was sent does not fit it.
    Snapshot {
        /// The version.
        have: u64,
    },
}

/// Reads messages until the link ends.
pub(super) async fn run<R>(session: Session<'_>, io: &mut R, wishes: mpsc::Sender<Wish>) -> Ended
where
    R: AsyncRead + Unpin,
{
    match read_all(session, io, &wishes).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

async fn read_all<R>(
    session: Session<'_>,
    io: &mut R,
    wishes: &mpsc::Sender<Wish>,
) -> Result<std::convert::Infallible, Ended>
where
    R: AsyncRead + Unpin,
{
    let mut program: Option<String> = None;
    loop {
        let message = frame::read(io).await?;
        if let (None, Some(message)) = (&program, &message)
            && !matches!(message, Up::Hello { .. })
        {
            return Err(Ended::OutOfOrder("something before the hello"));
        }
        let wish = match message {
            None => None,
            Some(Up::Hello { .. }) if program.is_some() => return Err(Ended::OutOfOrder("a second hello")),
            Some(Up::Hello { program: runs, version }) => {
                program = Some(runs);
                Some(Wish::Begin { version })
            }
            Some(Up::NeedSnapshot { have }) => Some(Wish::Snapshot { have }),
            Some(other) => {
                session.take(other).await;
                None
            }
        };
        if let Some(program) = &program {
            session.site.record_connector_seen(session.party.id, program);
        }
        if let Some(wish) = wish {
            // The other end is in the same select: it is there as long as this is polled.
            let _ = wishes.send(wish).await;
        }
    }
}

impl Session<'_> {
    /// Notes a report.
    async fn take(&self, message: Up) {
        match message {
            Up::Gateway(state) => self.take_state(state),
            Up::Counters { gateway, from, to, endpoints } => {
                let now = self.site.now();
                let endpoints: Vec<_> = endpoints.into_iter().take(ROWS).map(bound_row).collect();
                if let Some(gateway) = gateway {
                    log::gateway_traffic(&self.gateway_name(gateway).await, &endpoints);
                }
                self.site.record_counters(CounterWindow {
                    reported_by: self.party.id,
                    gateway,
                    from: not_ahead(from, now),
                    to: not_ahead(to, now),
                    endpoints,
                });
            }
            Up::Events { events } => {
                let now = self.site.now();
                let events: Vec<_> = events
                    .into_iter()
                    .take(EVENTS)
                    .map(|event| Event { at: not_ahead(event.at, now), ..bounded_event(event) })
                    .collect();
                if let Err(error) = self.site.store_events(self.party.id, events).await {
                    error!(component = SITE_LINK, error = %Chain(&error), "events not kept");
                }
            }
            Up::WantKeys { tenant } => self.take_wish(tenant),
            // Seen to before.
            Up::Hello { .. } | Up::NeedSnapshot { .. } => {}
        }
    }

    /// Passes on that a gateway met a key it does not know. Whether anything is fetched, and how often, the
    /// site decides: a gateway may say what it likes.
    fn take_wish(&self, tenant: Guid) {
        debug!(component = SITE_LINK, connection_point = self.party.name, %tenant, "keys of a tenant are wanted");
        self.site.want_keys(tenant);
    }

    fn take_state(&self, state: GatewayState) {
        let problem = state.problem.map(|problem| bounded(&problem, DETAIL_CHARS));
        debug!(
            component = SITE_LINK, connection_point = self.party.name, gateway = %state.gateway,
            tunnels = state.tunnels, version = state.version, problem, "state of a gateway"
        );
        self.links.acknowledge(state.gateway, state.version, self.site.now());
        self.site.record_gateway_state(self.party.id, GatewayState { problem, ..state });
    }

    /// The name of a gateway for a log line; its id, where the site has none.
    async fn gateway_name(&self, gateway: Guid) -> String {
        let targets = self.site.list_gateway_targets().await.unwrap_or_default();
        let found = targets.into_iter().find(|target| target.gateway == gateway);
        found.map_or_else(|| gateway.to_string(), |target| target.name)
    }
}

fn bound_row(mut row: EndpointCounters) -> EndpointCounters {
    row.name = bounded(&row.name, PATH_CHARS);
    row
}

fn bounded_event(event: Event) -> Event {
    Event {
        hop: bounded(&event.hop, WORD_CHARS),
        target: bounded(&event.target, TARGET_BYTES),
        reason: event.reason.map(|reason| bounded(&reason, WORD_CHARS)),
        detail: bounded(&event.detail, DETAIL_CHARS),
        ..event
    }
}
