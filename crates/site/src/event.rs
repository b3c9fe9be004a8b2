//! What the links report: states, counters, refused and slow requests. All bounded.

use proto::id::{Guid, RequestId};
use proto::link::{EndpointCounters, Event, GatewayState};
use proto::time::Timestamp;
use proto::trust::{Purpose, SiteRoot};
use serde::Serialize;

use crate::db::{self, DbError};
use crate::gateway::Report;
use crate::site::lock;
use crate::{Site, limits};

/// What holds a link certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkPartyKind {
    /// A gateway.
    Gateway,
    /// A connection point.
    Connector,
}

impl LinkPartyKind {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Connector => "connection-point",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Gateway, Self::Connector].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Who is at the other end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkParty {
    /// Its id.
    pub id: Guid,
    /// What it is.
    pub kind: LinkPartyKind,
    /// Its name.
    pub name: String,
}

/// A refused or slow request, as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredEvent {
    /// The connection point that reported it.
    pub reported_by: Guid,
    /// What it reported.
    pub event: Event,
}

/// Traffic of one gateway, or of a connection point itself, in one window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CounterWindow {
    /// The connection point that reported it.
    pub reported_by: Guid,
    /// The gateway; `None`: the connection point's own.
    pub gateway: Option<Guid>,
    /// Beginning.
    pub from: Timestamp,
    /// End.
    pub to: Timestamp,
    /// A row an endpoint.
    pub endpoints: Vec<EndpointCounters>,
}

impl Site {
    /// Who shows this certificate chain on the site link: a connection point whose certificate
    /// leads to the site root, has that purpose, is on record and not withdrawn (R8, R59).
    pub async fn authenticate_connector(&self, chain: &[Vec<u8>]) -> Result<Option<LinkParty>, DbError> {
        let judged = SiteRoot::new(self.root_certificate())
            .and_then(|root| root.verify(chain, Purpose::LinkConnector, self.now()));
        let (Ok(()), Some(leaf)) = (judged, chain.first()) else { return Ok(None) };
        let thumbprint = proto::id::Thumbprint::of(leaf);
        let party = self.db().read(move |tx| db::link::find_by_certificate(tx, thumbprint)).await?;
        let party = party.filter(|party| party.kind == LinkPartyKind::Connector && !party.withdrawn);
        Ok(party.map(|party| LinkParty { id: party.id, kind: party.kind, name: party.name }))
    }

    /// Notes that a connection point was heard, and which program it runs.
    pub fn record_connector_seen(&self, connector: Guid, program: &str) {
        let program = program.chars().filter(|c| !c.is_control()).take(100).collect();
        lock(&self.inner.connectors_seen).insert(connector, (self.now(), program));
    }

    /// Notes how a connection point sees a gateway. Kept in memory: it is true only now.
    pub fn record_gateway_state(&self, connector: Guid, state: GatewayState) {
        let now = self.now();
        let mut states = lock(&self.inner.gateway_states);
        // A connection point names gateways as it likes: the map must not grow by it.
        if states.len() < limits::GATEWAY_STATES || states.contains_key(&(state.gateway, connector)) {
            let key = (state.gateway, connector);
            let report = Report::after(states.remove(&key), state, now);
            states.insert(key, report);
        }
    }

    /// Keeps a window of counters in memory; the oldest goes when there are too many.
    pub fn record_counters(&self, window: CounterWindow) {
        let mut counters = lock(&self.inner.counters);
        if counters.len() >= limits::KEPT_COUNTERS {
            counters.pop_front();
        }
        counters.push_back(window);
    }

    /// Windows of counters that end after a moment, the oldest first.
    pub fn list_counters(&self, since: Timestamp) -> Vec<CounterWindow> {
        lock(&self.inner.counters).iter().filter(|window| window.to > since).cloned().collect()
    }

    /// Keeps events; more than 256 at once are cut off, and the oldest go when there are too many.
    pub async fn store_events(&self, connector: Guid, mut events: Vec<Event>) -> Result<(), DbError> {
        events.truncate(limits::EVENTS_AT_ONCE);
        self.record_refused(&events);
        self.db()
            .write(move |tx| {
                for event in &events {
                    db::event::insert(tx, connector, event)?;
                }
                db::event::forget_oldest(tx, limits::KEPT_EVENTS)
            })
            .await
    }

    /// Everything that was reported about one request.
    pub async fn find_events(&self, request: RequestId) -> Result<Vec<StoredEvent>, DbError> {
        self.db().read(move |tx| db::event::list_of(tx, request)).await
    }

    /// The newest events first; at most 1,000.
    pub async fn list_events(&self, limit: u32) -> Result<Vec<StoredEvent>, DbError> {
        self.db().read(move |tx| db::event::list_newest(tx, limit.min(limits::PAGE))).await
    }
}
