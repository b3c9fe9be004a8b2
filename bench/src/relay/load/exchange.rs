//! One request and its answer.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::answer::{AnswerReader, Progress};
use super::connect::{Connection, Connector};
use super::{Ask, LoadError, Outcome};

/// Bytes taken by one read: a large TLS record and more.
const READ_BYTES: usize = 64 * 1024;
/// Bytes taken by one read where thousands of connections idle.
pub(super) const SMALL_READ_BYTES: usize = 4 * 1024;
/// Rest after a failed connection attempt, so that a dead server is not asked a million times.
const REST: Duration = Duration::from_millis(50);
/// How long a connection or an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An error where this takes too long.
pub(super) async fn in_time<T>(work: impl Future<Output = Result<T, LoadError>>) -> Result<T, LoadError> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(nothing()))
}

fn nothing() -> LoadError {
    LoadError::Answer(format!("nothing for {} s", PATIENCE.as_secs()))
}

/// A connection on which one request follows the other.
pub(super) struct Talk {
    connection: Connection,
    reader: AnswerReader,
    buffer: Vec<u8>,
}

impl Talk {
    pub(super) async fn open(connector: &Connector, ask: &Ask, buffer: usize) -> Result<Self, LoadError> {
        let connection = in_time(connector.connect()).await?;
        Ok(Self { connection, reader: AnswerReader::new(ask.answer_bytes), buffer: vec![0; buffer] })
    }

    /// For one request only: the server may close the connection after its answer.
    pub(super) fn once(self) -> Self {
        Self { reader: self.reader.may_close(), ..self }
    }

    /// Asks and reads the whole answer.
    pub(super) async fn ask(&mut self, ask: &Ask) -> Result<(), LoadError> {
        let write = self.connection.write_all(ask.request.as_bytes()).await;
        write.map_err(|error| LoadError::Io("write", error))?;
        self.connection.flush().await.map_err(|error| LoadError::Io("write", error))?;
        loop {
            let read = self.connection.read(&mut self.buffer).await;
            let bytes = match read.map_err(|error| LoadError::Io("read", error))? {
                0 => return Err(LoadError::Io("read", std::io::ErrorKind::UnexpectedEof.into())),
                count => self.buffer.get(..count).unwrap_or_default(),
            };
            if self.reader.receive(bytes).map_err(LoadError::Answer)? == Progress::Done {
                return Ok(());
            }
        }
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.connection.is_resumed()
    }
}

/// When the requests of one connection begin, where that is not as soon as the one before is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The first.
    pub(super) next: Instant,
    /// From one to the next.
    pub(super) every: Duration,
}

impl Pace {
    /// Waits for the next one's time. Whoever is late goes on at once, and nothing is made up for.
    async fn wait(&mut self) {
        tokio::time::sleep_until(self.next.into()).await;
        self.next = (self.next + self.every).max(Instant::now());
    }
}

/// Asks again and again until `end`; every failure is counted and the connection made anew.
pub(super) async fn talk_until(
    connector: &Connector,
    mut talk: Option<Talk>,
    ask: &Ask,
    mut pace: Option<Pace>,
    end: Instant,
) -> (Option<Talk>, Outcome) {
    let mut outcome = Outcome::new();
    let deadline = tokio::time::Instant::from_std(end + PATIENCE);
    while Instant::now() < end {
        if let Some(pace) = &mut pace {
            pace.wait().await;
        }
        let mut open = match talk.take() {
            Some(open) => open,
            None => match Talk::open(connector, ask, READ_BYTES).await {
                Ok(open) => open,
                Err(failure) => {
                    outcome.error(&failure);
                    tokio::time::sleep(REST).await;
                    continue;
                }
            },
        };
        let began = Instant::now();
        match tokio::time::timeout_at(deadline, open.ask(ask)).await {
            Ok(Ok(())) => {
                let now = Instant::now();
                if now <= end {
                    outcome.done += 1;
                    outcome.bytes += ask.answer_bytes;
                    outcome.latency.record(now - began);
                }
                talk = Some(open);
            }
            Ok(Err(failure)) => outcome.error(&failure),
            Err(_) => {
                outcome.error(&nothing());
                return (None, outcome);
            }
        }
    }
    (talk, outcome)
}
