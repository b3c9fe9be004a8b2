//! The one clock of a process.
//!
//! Certificates, tokens and log stamps are judged by the time that this clock tells; nothing else asks the
//! operating system for the date. Pauses and timeouts are tokio's and do not follow it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// Time between two looks at the offset file. Bounds how late a child of the lab follows a moved clock, and
/// how much a hot path pays for asking.
const OFFSET_CHECK: Duration = Duration::from_millis(200);

/// Longest text taken from an offset file, in bytes: a sign and nineteen digits with room to spare.
const OFFSET_TEXT_LIMIT: usize = 64;

/// Tells the time. A clone tells the same time as its original.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
    Offset(Arc<OffsetFile>),
}

impl Clock {
    /// The time of the operating system.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `start` (microseconds since the Unix epoch) until it is moved by
    /// [`Clock::set`] or [`Clock::advance`].
    pub fn manual(start: i64) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start))))
    }

    /// The system's time plus the signed number of seconds in a text file, which is read anew at most every
    /// 200 ms. So the lab moves the time of all its children by writing one file.
    ///
    /// Without a file the offset is nothing; a file that cannot be understood leaves the last offset in
    /// force. Whoever writes it should write another file and rename that one over it.
    pub fn with_offset_file(path: impl Into<PathBuf>) -> Self {
        Self(Source::Offset(Arc::new(OffsetFile::new(path.into()))))
    }

    /// Microseconds since the Unix epoch, UTC.
    pub fn now(&self) -> i64 {
        match &self.0 {
            Source::System => system_now(),
            Source::Manual(now) => now.load(Ordering::SeqCst),
            Source::Offset(file) => system_now().saturating_add(file.microseconds(Instant::now())),
        }
    }

    /// The same instant in whole seconds since the Unix epoch, as tokens count.
    pub fn now_seconds(&self) -> i64 {
        self.now().div_euclid(1_000_000)
    }

    /// The same instant as certificates are judged by; `None` before 1970.
    pub fn unix_time(&self) -> Option<UnixTime> {
        let microseconds = u64::try_from(self.now()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_micros(microseconds)))
    }

    /// Sets a manual clock to `now`, in microseconds since the Unix epoch.
    ///
    /// # Panics
    /// On a clock that was not made by [`Clock::manual`]: a process does not set its own time.
    pub fn set(&self, now: i64) {
        self.hand().store(now, Ordering::SeqCst);
    }

    /// Moves a manual clock forward.
    ///
    /// # Panics
    /// As [`Clock::set`].
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.hand().fetch_add(by, Ordering::SeqCst);
    }

    fn hand(&self) -> &AtomicI64 {
        match &self.0 {
            Source::Manual(now) => now,
            Source::System | Source::Offset(_) => panic!("only a manual clock can be set"),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        self.unix_time()
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
fn system_now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |age| -age),
    }
}

#[derive(Debug)]
struct OffsetFile {
    path: PathBuf,
    made: Instant,
    /// Microseconds added to the system's time.
    offset: AtomicI64,
    /// When to look at the file again, in milliseconds after `made`.
    check_at: AtomicU64,
}

impl OffsetFile {
    fn new(path: PathBuf) -> Self {
        Self { path, made: Instant::now(), offset: AtomicI64::new(0), check_at: AtomicU64::new(0) }
    }

    fn microseconds(&self, now: Instant) -> i64 {
        let age = milliseconds(now.saturating_duration_since(self.made));
        let due = self.check_at.load(Ordering::Acquire);
        let next = age.saturating_add(milliseconds(OFFSET_CHECK));
        // Of several threads that find the look due, one does it; the others go on with the last offset.
        let mine = age >= due
            && self.check_at.compare_exchange(due, next, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if mine && let Some(offset) = read_offset(&self.path) {
            self.offset.store(offset, Ordering::Release);
        }
        self.offset.load(Ordering::Acquire)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The file's offset in microseconds; a missing file means none, an unreadable one that nothing changes.
fn read_offset(path: &Path) -> Option<i64> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.len() <= OFFSET_TEXT_LIMIT => {
            text.trim().parse::<i64>().ok()?.checked_mul(1_000_000)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(0),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_it_is_moved_and_its_clones_with_it() {
        let clock = Clock::manual(5_000_000);
        let clone = clock.clone();
        assert_eq!(clock.now(), 5_000_000);
        clone.advance(Duration::from_secs(2));
        assert_eq!(clock.now_seconds(), 7);
        clock.set(-1);
        assert_eq!(clone.now_seconds(), -1);
        assert_eq!(clone.unix_time(), None);
    }

    #[test]
    #[should_panic(expected = "only a manual clock can be set")]
    fn the_system_clock_cannot_be_set() {
        Clock::system().set(0);
    }

    #[test]
    fn rustls_is_told_the_same_time() {
        let clock = Clock::manual(1_790_000_000_000_000);
        assert_eq!(clock.current_time().map(|time| time.as_secs()), Some(1_790_000_000));
    }

    #[test]
    fn the_offset_file_is_followed_but_looked_at_only_so_often() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("offset");
        let file = OffsetFile::new(path.clone());
        let at = |milliseconds| file.made + Duration::from_millis(milliseconds);

        assert_eq!(file.microseconds(at(0)), 0, "no file yet");
        std::fs::write(&path, "86400\n").unwrap();
        assert_eq!(file.microseconds(at(199)), 0, "not due yet");
        assert_eq!(file.microseconds(at(200)), 86_400_000_000);
        std::fs::write(&path, "-3").unwrap();
        assert_eq!(file.microseconds(at(400)), -3_000_000);
        std::fs::write(&path, "soon").unwrap();
        assert_eq!(file.microseconds(at(600)), -3_000_000, "nonsense changes nothing");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.microseconds(at(800)), 0);
    }

    #[test]
    fn a_clock_with_an_offset_is_that_far_from_the_system() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("offset");
        std::fs::write(&path, "3600").unwrap();
        let ahead = Clock::with_offset_file(&path).now() - Clock::system().now();
        assert!((3_590_000_000..=3_600_000_000).contains(&ahead), "{ahead}");
    }
}
