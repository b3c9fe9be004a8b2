//! How much anybody may ask for: by source until something is proved, by device after it, and in all.
//!
//! | limit | key | over it |
//! |---|---|---|
//! | handshakes | source; all | the connection is closed before any TLS work |
//! | requests that proved nothing | source | 429 `RG-1107`, before anything is verified |
//! | requests; requests for tokens; messages before registration | device | 429 `RG-1108` |
//! | requests for tokens | source; all | 429 `RG-1107`; 503 `RG-1105` |
//!
//! A source is an IPv4 address or an IPv6 /64, the least that one customer of a provider has. Thousands of
//! devices may share one behind an office's address translation, so a source is charged for work that proved
//! nothing, not for requests: a crowd of good devices pays next to nothing however much it asks.
//!
//! A device is the client id of its token, or the certificate whose key it proved; whoever has neither is
//! judged by its source. Decisions are pure ([`bucket`]), with time as an argument; the tables neither grow nor
//! forget ([`table`]).

mod bucket;
pub mod config;
mod counts;
pub(crate) mod early;
mod rate;
mod table;

use std::hash::{Hash, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::RETRY_AFTER;
use proto::endpoint::Caller;
use proto::id::{ClientId, Thumbprint};
use proto::identity::Identity;
use proto::reason::Reason;

use crate::admit::{BodyLength, Passage, Refused};
use bucket::{Bucket, Moment, Wait};
use config::Config;
use table::Table;

pub use counts::Counts;
pub use rate::{Limit, ParseRateError, Rate};

/// Lines and events about limits in the long run. Whoever is over a limit has been told of already, and must
/// not fill the logs by going on.
const TOLD: (u32, Duration, u32) = (10, Duration::from_secs(1), 100);

/// Which limit somebody met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Handshakes of one source.
    SourceHandshakes,
    /// Handshakes in all.
    AllHandshakes,
    /// Requests of one source that proved nothing.
    SourceRefused,
    /// Requests for tokens by one source.
    SourceTokens,
    /// Requests for tokens in all.
    AllTokens,
    /// Requests of one device.
    DeviceRequests,
    /// Requests for tokens by one device.
    DeviceTokens,
    /// Messages of one device that is not registered yet.
    DeviceRegistration,
    /// Heads that could not be read, too long and too slow ones among them.
    UnreadableHeads,
    /// Bodies that are too large for this gateway, or state no length.
    Bodies,
}

impl Over {
    /// Every limit.
    pub const ALL: [Self; 10] = [
        Self::SourceHandshakes,
        Self::AllHandshakes,
        Self::SourceRefused,
        Self::SourceTokens,
        Self::AllTokens,
        Self::DeviceRequests,
        Self::DeviceTokens,
        Self::DeviceRegistration,
        Self::UnreadableHeads,
        Self::Bodies,
    ];

    /// Its name as a label of a metric: that of its key in the configuration, where it has one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourceHandshakes => "source_handshakes",
            Self::AllHandshakes => "all_handshakes",
            Self::SourceRefused => "source_refused",
            Self::SourceTokens => "source_tokens",
            Self::AllTokens => "all_tokens",
            Self::DeviceRequests => "device_requests",
            Self::DeviceTokens => "device_tokens",
            Self::DeviceRegistration => "device_registration",
            Self::UnreadableHeads => "unreadable_heads",
            Self::Bodies => "bodies",
        }
    }
}

/// Who is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    V4([u8; 4]),
    /// The first 64 bits.
    V6(u64),
    Device(ClientId),
    Certificate(Thumbprint),
}

impl Key {
    fn source(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// All limits of a running gateway. Its shards share them: the kernel puts the connections of one source on
/// all of them.
#[derive(Debug)]
pub struct Limits {
    started: Instant,
    counts: Counts,
    body_bytes: u64,
    chunked_bodies: bool,
    source_handshakes: Option<Table>,
    all_handshakes: Option<(Bucket, Rate)>,
    source_refused: Option<Table>,
    source_tokens: Option<Table>,
    all_tokens: Option<(Bucket, Rate)>,
    device_requests: Option<Table>,
    device_tokens: Option<Table>,
    device_registration: Option<Table>,
    told: Option<(Bucket, Rate)>,
}

impl Limits {
    /// Limits that nobody has used yet. Memory is taken for those that are on: 1 MiB for each by source or
    /// device, at most 6 MiB, and never more.
    pub fn new(config: &Config) -> Self {
        let table = |limit: Limit| limit.0.map(|rate| Table::new(rate, RandomState::new()));
        let bucket = |limit: Limit| limit.0.map(|rate| (Bucket::default(), rate));
        let (count, window, burst) = TOLD;
        let told = Rate::new(count, window, burst).map_or(Limit::OFF, Limit::from);
        Self {
            started: Instant::now(),
            counts: Counts::default(),
            body_bytes: config.body_bytes.bytes(),
            chunked_bodies: config.chunked_bodies,
            source_handshakes: table(config.source_handshakes),
            all_handshakes: bucket(config.all_handshakes),
            source_refused: table(config.source_refused),
            source_tokens: table(config.source_tokens),
            all_tokens: bucket(config.all_tokens),
            device_requests: table(config.device_requests),
            device_tokens: table(config.device_tokens),
            device_registration: table(config.device_registration),
            told: bucket(told),
        }
    }

    /// How often each was met.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether a connection may begin a handshake.
    pub(crate) fn handshake(&self, source: IpAddr, now: Instant) -> bool {
        let (source, now) = (Key::source(source), self.moment(now));
        // The source first: what one is denied must not be taken from all.
        self.take(Over::SourceHandshakes, self.source_handshakes.as_ref(), &source, now).is_ok()
            && self.take_of_all(Over::AllHandshakes, self.all_handshakes.as_ref(), now).is_ok()
    }

    /// Whether a request of this source is looked at: not while its source has proved nothing too often.
    pub(crate) fn source(&self, source: IpAddr, now: Instant) -> Result<(), Refused> {
        let Some(table) = &self.source_refused else { return Ok(()) };
        table.look(&Key::source(source), self.moment(now)).map_err(|wait| {
            self.counts.add(Over::SourceRefused);
            too_many(Over::SourceRefused, wait)
        })
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

    /// Whether an admitted request may go on. `shown` is the certificate whose key the connection proved.
    pub(crate) fn passage(
        &self,
        passage: &Passage,
        shown: Option<Thumbprint>,
        source: IpAddr,
        now: Instant,
    ) -> Result<(), Refused> {
        let now = self.moment(now);
        let key = match &passage.identity {
            Identity::Certificate { thumbprint } => Some(Key::Certificate(*thumbprint)),
            identity => identity.device().map(Key::Device).or(shown.map(Key::Certificate)),
        };
        let wants_token = passage.endpoint.path == TOKEN_SERVICE;
        if let Some(device) = &key {
            self.take(Over::DeviceRequests, self.device_requests.as_ref(), device, now)?;
            if wants_token {
                self.take(Over::DeviceTokens, self.device_tokens.as_ref(), device, now)?;
            } else if passage.identity.caller() == Caller::PreAuth {
                self.take(Over::DeviceRegistration, self.device_registration.as_ref(), device, now)?;
            }
        }
        if wants_token {
            // By source as well: a bulk token opens the token service to as many keys as its holder makes.
            self.take(Over::SourceTokens, self.source_tokens.as_ref(), &Key::source(source), now)?;
            self.take_of_all(Over::AllTokens, self.all_tokens.as_ref(), now)?;
        }
        Ok(())
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
        let since = now.saturating_duration_since(self.started).as_nanos();
        Moment(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

/// The path of the token service.
const TOKEN_SERVICE: &str = "/CCM_STS";

fn too_many(limit: Over, wait: Wait) -> Refused {
    let reason = match limit {
        Over::DeviceRequests | Over::DeviceTokens | Over::DeviceRegistration => Reason::DeviceTooFast,
        Over::AllHandshakes | Over::AllTokens => Reason::Overloaded,
        _ => Reason::SourceTooFast,
    };
    let wait = wait.duration();
    let detail = format!("over {}, room for one in {wait:?}", limit.name());
    Refused { wait: Some(wait), ..Refused::new(reason, detail) }
}

/// Writes into a refusal by a limit when there will be room: the time that the bucket needs, and up to half
/// as much again and four seconds on top by `random`, so that those refused together do not return together.
pub(crate) fn say_when(refused: &Refused, random: u64, headers: &mut HeaderMap) {
    if let Some(wait) = refused.wait {
        headers.insert(RETRY_AFTER, retry_after(wait, random).into());
    }
}

fn retry_after(wait: Duration, random: u64) -> u64 {
    let least = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let spread = least / 2 + 4;
    least.max(1) + random % (spread + 1)
}

#[cfg(test)]
mod tests;
