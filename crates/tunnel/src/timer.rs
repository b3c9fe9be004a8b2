//! Time: is the peer alive, and how often has it been a nuisance.

use std::time::{Duration, Instant};

/// Quiet after which a side about to send asks for a sign of life first: a request on a dead tunnel
/// is then known to be lost after the answer timeout alone.
const QUIET: Duration = Duration::from_secs(1);

/// Asks a silent peer once, and gives it up when it stays silent.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    idle: Duration,
    answer_timeout: Duration,
    last_heard: Instant,
    unanswered: Option<Ping>,
    next_value: u64,
}

#[derive(Debug)]
struct Ping {
    value: u64,
    sent: Instant,
}

/// What silence calls for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Alive,
    SendPing(u64),
    Lost,
}

impl KeepAlive {
    pub(crate) fn new(idle: Duration, answer_timeout: Duration, now: Instant) -> Self {
        Self { idle, answer_timeout, last_heard: now, unanswered: None, next_value: 1 }
    }

    /// Any byte proves life, an owed Pong or not: it may be waiting behind data on a slow line.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// Whether `value` answers the ping that is out.
    #[must_use]
    pub(crate) fn pong(&mut self, value: u64) -> bool {
        self.unanswered.take_if(|ping| ping.value == value).is_some()
    }

    /// Called before something is sent; a value is to be sent as a ping with it.
    pub(crate) fn about_to_send(&mut self, now: Instant) -> Option<u64> {
        let quiet = now.saturating_duration_since(self.last_heard) >= QUIET.min(self.idle);
        (quiet && self.unanswered.is_none()).then(|| self.ping(now))
    }

    pub(crate) fn expire(&mut self, now: Instant) -> Verdict {
        if now < self.deadline() {
            Verdict::Alive
        } else if self.unanswered.is_some() {
            Verdict::Lost
        } else {
            Verdict::SendPing(self.ping(now))
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        match &self.unanswered {
            None => self.last_heard + self.idle,
            Some(ping) => self.last_heard.max(ping.sent) + self.answer_timeout,
        }
    }

    fn ping(&mut self, now: Instant) -> u64 {
        let value = self.next_value;
        self.next_value = value.wrapping_add(1);
        self.unanswered = Some(Ping { value, sent: now });
        value
    }
}

/// A bounded patience: so many at once, so many more each second.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: u32,
    burst: u32,
    per_second: u32,
    counted_to: Instant,
}

impl Allowance {
    pub(crate) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self { left: burst, burst, per_second, counted_to: now }
    }

    /// Takes one; `false` when none is left.
    #[must_use]
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.counted_to).as_millis();
        let gained = elapsed * u128::from(self.per_second) / 1000;
        if gained > 0 {
            self.counted_to = now;
            self.left = u32::try_from(gained).unwrap_or(u32::MAX).saturating_add(self.left).min(self.burst);
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_is_probed_once_then_the_tunnel_is_lost() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(5 * SECOND, 3 * SECOND, start);
        assert_eq!(keep_alive.expire(start + 4 * SECOND), Verdict::Alive);
        assert_eq!(keep_alive.expire(start + 5 * SECOND), Verdict::SendPing(1));
        assert_eq!(keep_alive.expire(start + 7 * SECOND), Verdict::Alive);
        assert_eq!(keep_alive.expire(start + 8 * SECOND), Verdict::Lost);
    }

    #[test]
    fn bytes_prolong_the_wait_for_a_pong_and_the_pong_ends_it() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(5 * SECOND, 3 * SECOND, start);
        assert_eq!(keep_alive.expire(start + 5 * SECOND), Verdict::SendPing(1));
        keep_alive.heard(start + 7 * SECOND);
        assert_eq!(keep_alive.deadline(), start + 10 * SECOND);
        assert!(!keep_alive.pong(2));
        assert!(keep_alive.pong(1));
        assert!(!keep_alive.pong(1));
        assert_eq!(keep_alive.deadline(), start + 12 * SECOND);
    }

    #[test]
    fn sending_after_a_quiet_second_probes_at_once_and_only_once() {
        let start = Instant::now();
        let mut keep_alive = KeepAlive::new(5 * SECOND, 3 * SECOND, start);
        assert_eq!(keep_alive.about_to_send(start + SECOND / 2), None);
        assert_eq!(keep_alive.about_to_send(start + SECOND), Some(1));
        assert_eq!(keep_alive.about_to_send(start + SECOND), None);
        assert_eq!(keep_alive.deadline(), start + 4 * SECOND);
    }

    #[test]
    fn patience_ends_and_comes_back_with_time() {
        let start = Instant::now();
        let mut allowance = Allowance::new(3, 2, start);
        let taken = (0..5).filter(|_| allowance.take(start)).count();
        assert_eq!(taken, 3);
        assert!(!allowance.take(start + SECOND / 4));
        assert!(allowance.take(start + SECOND / 2));
        assert!(!allowance.take(start + SECOND / 2));
        let much_later = start + 1000 * SECOND;
        assert_eq!((0..5).filter(|_| allowance.take(much_later)).count(), 3);
    }
}
