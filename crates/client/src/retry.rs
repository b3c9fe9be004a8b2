//! Trying again a few times, for commands at which a person waits.

use std::time::Duration;

use crate::device::{Device, RequestError};
use crate::log::line;
use crate::policy::PolicyError;

/// How often a command tries, and how long it waits in between.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// The first pause is at most this long; each further one at most twice as long as the one before.
    pub base: Duration,
    /// No pause is longer, whatever an answer asks for.
    pub cap: Duration,
}

impl Patience {
    /// For a person at a terminal: some ten seconds at most when nobody answers.
    pub const INTERACTIVE: Self =
        Self { attempts: 4, base: Duration::from_millis(500), cap: Duration::from_secs(10) };
    /// One attempt: for tests and load tools, which count failures.
    pub const NONE: Self = Self { attempts: 1, base: Duration::ZERO, cap: Duration::ZERO };

    /// The pause behind attempt number `attempt` (from 0).
    pub fn pause(&self, attempt: u32, asked: Option<Duration>, random: u64) -> Duration {
        let jitter = runtime::backoff::next(attempt, self.base, self.cap, random);
        asked.map_or(jitter, |asked| asked + jitter).min(self.cap)
    }
}

/// An error of an operation that asked the site.
pub trait Told: std::error::Error + 'static {
    /// The failed request underneath, if that is what it was.
    fn told(&self) -> Option<&RequestError>;
}

impl Told for RequestError {
    fn told(&self) -> Option<&RequestError> {
        Some(self)
    }
}

impl Told for PolicyError {
    fn told(&self) -> Option<&RequestError> {
        match self {
            Self::Request(error) => Some(error),
            _ => None,
        }
    }
}

/// Runs one operation of a device, again while its failure may pass by itself.
pub async fn patiently<T, E: Told>(
    device: &mut Device,
    patience: Patience,
    mut operation: impl AsyncFnMut(&mut Device) -> Result<T, E>,
) -> Result<T, E> {
    let mut attempt = 0;
    loop {
        let error = match operation(device).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let told = error.told();
        attempt += 1;
        if attempt >= patience.attempts || !told.is_some_and(RequestError::is_transient) {
            if let Some(told) = told {
                device.note_failure(&error, told);
            }
            return Err(error);
        }
        let asked = told.and_then(RequestError::call).and_then(crate::failure::CallError::retry_after);
        let pause = patience.pause(attempt - 1, asked, runtime::id::random());
        line!(info, CcmExec, attempt, pause_ms = pause.as_millis(), "trying again");
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_as_long_as_asked_but_never_longer_than_the_cap() {
        let patience = Patience::INTERACTIVE;
        assert_eq!(patience.pause(0, None, 0), Duration::ZERO);
        assert!(patience.pause(0, None, u64::MAX) <= patience.base);
        assert_eq!(patience.pause(0, Some(Duration::from_secs(2)), 0), Duration::from_secs(2));
        assert_eq!(patience.pause(9, Some(Duration::from_mins(5)), 7), patience.cap);
    }
}
