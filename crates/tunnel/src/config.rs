//! Limits and intervals of one tunnel.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::frame::{Hello, MAX_HEAD};

const KIB: usize = 1024;

/// Limits and intervals of one side of a tunnel. A value outside its range is brought to the nearest
/// bound, so that no file can switch a limit off.
///
/// Worst case held for one tunnel: `max_streams` × (`stream_credit` received and not yet consumed by the
/// caller + `stream_queue` not yet sent + `max_head`), `max_control`, and `control_queue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Streams open at once. Told to the peer; a gateway keeps to the smaller of its own and the
    /// connector's. A request beyond it is refused early, which devices survive better than
    /// silence. 1 to 65,536; default 1,024.
    pub max_streams: u32,
    /// Bytes that the peer may send on a stream before the caller has consumed any. Below 1 MiB one
    /// stream could not fill a long line (1 MiB at 50 ms is 160 Mbit/s). 1 MiB to 64 MiB;
    /// default 1 MiB.
    pub stream_credit: u32,
    /// Longest head taken from the peer, bytes. 1 KiB to 64 KiB; default 64 KiB.
    pub max_head: u32,
    /// Longest control message taken from the peer, bytes. Not told to the peer, so it must know what it may
    /// send. 64 KiB to 1 GiB; default 64 MiB, a whole snapshot. A side that is sent no snapshots, and may face
    /// somebody who took the other over, says less.
    pub max_control: usize,
    /// Bytes of control messages that may wait to be sent. 64 KiB to 1 GiB; default 64 MiB.
    pub control_queue: usize,
    /// Bytes of one stream that may wait for their turn. 64 KiB to 16 MiB; default 256 KiB, one write.
    pub stream_queue: usize,
    /// Length at which [`next_bytes`](crate::Side::next_bytes) stops adding frames; the last frame may
    /// pass it by 64 KiB. More means fewer writes and a longer wait for what comes next.
    /// 64 KiB to 4 MiB; default 256 KiB.
    pub output: usize,
    /// Silence after which the peer is asked for a sign of life. 10 ms to 1 h; default 5 s.
    pub idle: Duration,
    /// Further silence after which the tunnel is lost. 10 ms to 1 h; default 5 s.
    pub answer_timeout: Duration,
    /// Time for the peer's Hello, from the start. 10 ms to 1 h; default 10 s.
    pub hello_timeout: Duration,
    /// Resets, pings, goodbyes, control messages and frames for closed streams that are taken in one burst. At least
    /// twice `max_streams` (every device may go away at once), at most 1,000,000; default 8,192.
    pub nuisance_burst: u32,
    /// How many more of them each second. 1 to 1,000,000; default 1,024.
    pub nuisance_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_streams: 1024,
            stream_credit: *Hello::STREAM_CREDIT.start(),
            max_head: *Hello::MAX_HEAD.end(),
            max_control: 64 * KIB * KIB,
            control_queue: 64 * KIB * KIB,
            stream_queue: 256 * KIB,
            output: 256 * KIB,
            idle: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(5),
            hello_timeout: Duration::from_secs(10),
            nuisance_burst: 8192,
            nuisance_per_second: 1024,
        }
    }
}

impl Config {
    /// Every value inside its range.
    pub(crate) fn bounded(self) -> Self {
        let max_streams = within(self.max_streams, Hello::MAX_STREAMS);
        let interval = Duration::from_millis(10)..=Duration::from_hours(1);
        Self {
            max_streams,
            stream_credit: within(self.stream_credit, Hello::STREAM_CREDIT),
            max_head: within(self.max_head, Hello::MAX_HEAD),
            max_control: within(self.max_control, MAX_HEAD..=KIB * KIB * KIB),
            control_queue: within(self.control_queue, MAX_HEAD..=KIB * KIB * KIB),
            stream_queue: within(self.stream_queue, 64 * KIB..=16 * KIB * KIB),
            output: within(self.output, 64 * KIB..=4 * KIB * KIB),
            idle: within(self.idle, interval.clone()),
            answer_timeout: within(self.answer_timeout, interval.clone()),
            hello_timeout: within(self.hello_timeout, interval),
            nuisance_burst: within(self.nuisance_burst, 2 * max_streams..=1_000_000),
            nuisance_per_second: within(self.nuisance_per_second, 1..=1_000_000),
        }
    }

    /// What the peer is told.
    pub(crate) fn hello(&self) -> Hello {
        Hello { max_streams: self.max_streams, stream_credit: self.stream_credit, max_head: self.max_head }
    }
}

fn within<T: Ord + Copy>(value: T, range: RangeInclusive<T>) -> T {
    value.clamp(*range.start(), *range.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_within_its_own_bounds() {
        assert_eq!(Config::default().bounded(), Config::default());
    }

    #[test]
    fn no_limit_can_be_switched_off() {
        let config = Config {
            max_streams: u32::MAX,
            stream_credit: 0,
            max_head: 0,
            idle: Duration::ZERO,
            nuisance_burst: 0,
            ..Config::default()
        }
        .bounded();
        assert_eq!(config.max_streams, 65_536);
        assert_eq!(config.stream_credit, 1 << 20);
        assert_eq!(config.max_head, 1024);
        assert_eq!(config.idle, Duration::from_millis(10));
        assert_eq!(config.nuisance_burst, 131_072);
    }
}
