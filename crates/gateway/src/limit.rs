//! How much anybody may ask for, and hold at once: by source until something is proved, by device after it, and in
//! all.
//!
//! | limit | key | over it |
//! |---|---|---|
//! | open connections | source; what is kept for tunnels | the connection is closed before anything is read |
//! | handshakes | source; all | the connection is closed after its ClientHello, before any TLS work |
//! | requests that proved nothing, and our own pages | source | 429 `RG-1107`, before anything is verified |
//! | requests under way | device; source, for those whom the site does not know | 429 `RG-1108`; 429 `RG-1107` |
//! | requests; requests for tokens; messages before registration | device | 429 `RG-1108` |
//! | requests for tokens | source; bulk token; all | 429 `RG-1107`; 503 `RG-1105` |
//!
//! A source is an IPv4 address or an IPv6 /64, the least that one customer of a provider has; connections and
//! handshakes are counted for its /48, too. Thousands of devices may share one behind an office's address
//! translation, so a source is charged for work that proved nothing, not for requests: a crowd of good devices pays
//! next to nothing however much it asks.
//!
//! A device is the client id of its token, or the certificate whose key it proved; whoever has neither is
//! judged by its source. Whoever meets one limit has taken nothing of another: all are looked at before any is
//! charged. Decisions are pure ([`bucket`]), with time as an argument; the tables neither grow nor forget
//! ([`table`], [`shares`]).

mod amount;
mod bucket;
pub mod config;
mod connections;
mod counts;
pub(crate) mod early;
mod key;
mod origins;
mod over;
mod rate;
mod refusal;
mod shares;
mod table;

use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::endpoint::Caller;
use proto::id::Thumbprint;
use proto::identity::Identity;
use proto::reason::Reason;

use crate::admit::{BodyLength, Passage, Refused};
use bucket::{Bucket, Moment, Wait};
use config::Config;
use connections::Connections;
use key::Key;
use refusal::{too_many, too_many_at_once};
use shares::{Share, Shares};
use table::Table;

pub use amount::{AtOnce, ParseAmountError, Portion};
pub use connections::Pass;
pub use counts::Counts;
pub use over::Over;
pub use rate::{Limit, ParseRateError, Rate};
pub(crate) use refusal::say_when;

/// Lines and events about limits in the long run. Whoever is over a limit has been told of already, and must
/// not fill the logs by going on.
const TOLD: (u32, Duration, u32) = (10, Duration::from_secs(1), 100);

/// All limits of a running gateway. Its shards share them: the kernel puts the connections of one source on
/// all of them.
#[derive(Debug)]
pub struct Limits {
    started: Instant,
    counts: Counts,
    body_bytes: u64,
    chunked_bodies: bool,
    connections: Connections,
    source_refused: Option<Table>,
    source_tokens: Option<Table>,
    bulk_tokens: Option<Table>,
    all_tokens: Option<(Bucket, Rate)>,
    device_requests: Option<Table>,
    device_tokens: Option<Table>,
    device_registration: Option<Table>,
    under_way: Arc<Shares>,
    device_at_once: Option<u32>,
    source_at_once: Option<u32>,
    told: Option<(Bucket, Rate)>,
}

/// A request that is under way, as long as this is kept.
#[derive(Debug)]
pub(crate) struct UnderWay {
    _shares: [Option<Share>; 2],
}

impl Limits {
    /// Limits that nobody has used yet, for a gateway that takes `max_connections` at once. Memory is taken for
    /// those that are on: 1 MiB for each rate by source or device, half of it for what is held at once; at most
    /// 10 MiB, and never more.
    pub fn new(config: &Config, max_connections: u32) -> Self {
        let started = Instant::now();
        let table = |limit: Limit| limit.0.map(|rate| Table::new(rate, RandomState::new()));
        let bucket = |limit: Limit| limit.0.map(|rate| (Bucket::default(), rate));
        let (count, window, burst) = TOLD;
        let told = Rate::new(count, window, burst).map_or(Limit::OFF, Limit::from);
        Self {
            started,
            counts: Counts::default(),
            body_bytes: config.body_bytes.bytes(),
            chunked_bodies: config.chunked_bodies,
            connections: Connections::new(config, max_connections, started),
            source_refused: table(config.source_refused),
            source_tokens: table(config.source_tokens),
            bulk_tokens: table(config.bulk_tokens),
            all_tokens: bucket(config.all_tokens),
            device_requests: table(config.device_requests),
            device_tokens: table(config.device_tokens),
            device_registration: table(config.device_registration),
            under_way: Arc::new(Shares::new(RandomState::new())),
            device_at_once: config.device_at_once.most(),
            source_at_once: config.source_at_once.most(),
            told: bucket(told),
        }
    }

    /// How often each was met.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether a request of this source is looked at: not while its source has proved nothing too often. Behind one
    /// address there may be thousands, so whoever shows what `is_known` to be good, and costs no signature, passes.
    pub(crate) fn source(
        &self,
        source: IpAddr,
        now: Instant,
        is_known: impl FnOnce() -> bool,
    ) -> Result<(), Refused> {
        let Some(table) = &self.source_refused else { return Ok(()) };
        match table.look(&Key::source(source), self.moment(now)) {
            Err(wait) if !is_known() => {
                self.counts.add(Over::SourceRefused);
                Err(too_many(Over::SourceRefused, wait))
            }
            _ => Ok(()),
        }
    }

    /// Whether this source may have a page of our own, which costs nobody else anything: it is charged as if it had
    /// proved nothing.
    pub(crate) fn page(&self, source: IpAddr, now: Instant) -> Result<(), Refused> {
        self.take(Over::SourceRefused, self.source_refused.as_ref(), &Key::source(source), self.moment(now))
    }

    /// Charges a source for a request that was refused before it was passed on. What is no fault of the
    /// caller, and what a limit refused, costs nothing: no room would come back else while somebody asks.
    pub(crate) fn refused(&self, source: IpAddr, refused: &Refused, now: Instant) {
        if refused.wait.is_none() && !refused.status().is_server_error() {
            self.unreadable(source, now);
        }
    }

    /// Charges a source for a head that could not be read.
    pub(crate) fn unreadable(&self, source: IpAddr, now: Instant) {
        if let Some(table) = &self.source_refused {
            let _ = table.take(&Key::source(source), self.moment(now));
        }
    }

    /// Counts a head that could not be read; whether it is to be told of.
    pub(crate) fn count_unreadable(&self, now: Instant) -> bool {
        self.counts.add(Over::UnreadableHeads);
        self.takes_telling(now)
    }

    /// Whether a body of this length is taken here at all; what its endpoint takes is judged with its path.
    pub(crate) fn body(&self, length: BodyLength) -> Result<(), Refused> {
        let (reason, detail) = match length {
            BodyLength::Chunked if !self.chunked_bodies => {
                (Reason::LengthRequired, "the body comes in chunks".to_owned())
            }
            BodyLength::Known(length) if length > self.body_bytes => {
                (Reason::BodyTooLarge, format!("{length} bytes, the gateway takes {}", self.body_bytes))
            }
            BodyLength::Chunked | BodyLength::Known(_) => return Ok(()),
        };
        self.counts.add(Over::Bodies);
        Err(Refused::closing(reason, detail))
    }

    /// Most bytes of a body that comes in chunks to an endpoint which takes `max`.
    pub(crate) fn max_body(&self, max: usize) -> u64 {
        self.body_bytes.min(max as u64)
    }

    /// Whether an admitted request may go on; what is answered is kept until its end. `shown` is the certificate
    /// whose key the connection proved.
    pub(crate) fn passage(
        &self,
        passage: &Passage,
        shown: Option<Thumbprint>,
        source: IpAddr,
        now: Instant,
    ) -> Result<UnderWay, Refused> {
        let (identity, source) = (&passage.identity, Key::source(source));
        let device = Key::device(identity, shown);
        let under_way = self.under_way(identity, device, source)?;
        let now = self.moment(now);
        let wants_token = passage.endpoint.path == TOKEN_SERVICE;
        let registers = !wants_token && identity.caller() == Caller::PreAuth;
        if wants_token || registers {
            self.message_of_few(identity, device, source, wants_token, now)?;
        } else if let Some(device) = &device {
            self.take(Over::DeviceRequests, self.device_requests.as_ref(), device, now)?;
        }
        Ok(under_way)
    }

    /// A place among what a device holds at once; for those whom the site does not know, of what their source
    /// holds: they make as many keys as they like.
    fn under_way(&self, identity: &Identity, device: Option<Key>, source: Key) -> Result<UnderWay, Refused> {
        let take = |limit, most: Option<u32>, key: Option<Key>| {
            let (Some(most), Some(key)) = (most, key) else { return Ok(None) };
            let share = self.under_way.take(&key, most);
            share.map(Some).ok_or_else(|| {
                self.counts.add(limit);
                too_many_at_once(limit, most)
            })
        };
        let of_source = (device.is_none() || key::is_stranger(identity)).then_some(source);
        let of_source = take(Over::SourceAtOnce, self.source_at_once, of_source)?;
        Ok(UnderWay { _shares: [of_source, take(Over::DeviceAtOnce, self.device_at_once, device)?] })
    }

    /// A message that a device sends seldom, and that costs the site much. All limits are looked at before any is
    /// charged, from the nearest to the widest: whoever meets one has taken nothing of what others need.
    fn message_of_few(
        &self,
        identity: &Identity,
        device: Option<Key>,
        source: Key,
        wants_token: bool,
        now: Moment,
    ) -> Result<(), Refused> {
        let for_token = |key: Option<Key>| key.filter(|_| wants_token);
        let limits = [
            // By source as well: a bulk token opens the token service to as many keys as its holder makes.
            (Over::SourceTokens, &self.source_tokens, for_token(Some(source))),
            (Over::BulkTokens, &self.bulk_tokens, for_token(Key::bulk(identity))),
            (Over::DeviceRequests, &self.device_requests, device),
            (Over::DeviceTokens, &self.device_tokens, for_token(device)),
            (Over::DeviceRegistration, &self.device_registration, device.filter(|_| !wants_token)),
        ];
        let limits =
            || limits.iter().filter_map(|(limit, table, key)| Some((*limit, table.as_ref()?, (*key)?)));
        // Strangers leave a part of all for devices that the site knows, whose tokens may be about to end.
        let spares = |rate: Rate| if key::is_stranger(identity) { rate.but_a_quarter() } else { rate };
        let all = self.all_tokens.as_ref().filter(|_| wants_token).map(|(all, rate)| (all, spares(*rate)));
        for (limit, table, key) in limits() {
            self.counted(limit, table.look(&key, now))?;
        }
        if let Some((all, rate)) = all {
            self.counted(Over::AllTokens, all.look(now, rate))?;
        }
        for (limit, table, key) in limits() {
            self.counted(limit, table.take(&key, now))?;
        }
        all.map_or(Ok(()), |(all, rate)| self.counted(Over::AllTokens, all.take(now, rate)))
    }

    /// Whether log and site are told of a refusal: always but for those of the limits, which come in floods.
    pub(crate) fn tells(&self, refused: &Refused, now: Instant) -> bool {
        refused.wait.is_none() || self.takes_telling(now)
    }

    fn takes_telling(&self, now: Instant) -> bool {
        let now = self.moment(now);
        self.told.as_ref().is_none_or(|(bucket, rate)| bucket.take(now, *rate).is_ok())
    }

    fn take(&self, limit: Over, table: Option<&Table>, key: &Key, now: Moment) -> Result<(), Refused> {
        let taken = table.map_or(Ok(()), |table| table.take(key, now));
        self.counted(limit, taken)
    }

    fn take_of_all(&self, limit: Over, all: Option<&(Bucket, Rate)>, now: Moment) -> Result<(), Refused> {
        let taken = all.map_or(Ok(()), |(bucket, rate)| bucket.take(now, *rate));
        self.counted(limit, taken)
    }

    fn counted(&self, limit: Over, taken: Result<(), Wait>) -> Result<(), Refused> {
        taken.map_err(|wait| {
            self.counts.add(limit);
            too_many(limit, wait)
        })
    }

    fn moment(&self, now: Instant) -> Moment {
        Moment::since(self.started, now)
    }
}

/// The path of the token service.
const TOKEN_SERVICE: &str = "/CCM_STS";

#[cfg(test)]
mod tests;
