//! `crowd player`: holds a part of a crowd's connections, in a process of its own, since one process may have
//! only so many descriptors. Told what to do on standard input, a JSON document a line; says on standard
//! output once a second what it has counted since it began. Ends when its input closes.

use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use client::state::State;
use runtime::Clock;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::connection::{Credentials, Failure, Gateway, GatewayFacts, Holder, Open, SetupError};
use super::figures::{Histogram, Reasons, Seconds};
use super::pause::{Pause, blank_state, part_of};

/// Time between two reports.
const REPORT: Duration = Duration::from_secs(1);

/// What a player is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Where to connect.
    pub(crate) gateway: GatewayFacts,
    /// As whom. Connections take turns.
    pub(crate) credentials: Vec<Credentials>,
    /// Number of its first connection among those of all players.
    pub(crate) first: u32,
    /// Time between two requests on a connection, in milliseconds, up to a tenth more or less.
    pub(crate) poll_ms: u64,
}

/// What it is told later.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Open more connections until there are so many, so many in a second.
    Hold {
        /// In all, in this process.
        connections: u32,
        /// New ones in a second.
        per_second: f64,
    },
    /// From now on seconds are counted anew, and a device is back with its next good answer.
    Mark,
}

/// What it has counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Count {
    /// How often it was told to mark.
    pub(crate) marks: u32,
    /// Connections that are open and have had a good answer.
    pub(crate) held: u64,
    /// Connections that were lost after a good answer.
    pub(crate) dropped: u64,
    /// Attempts to connect.
    pub(crate) attempts: u64,
    /// Good answers.
    pub(crate) answers: u64,
    /// Everything else, connecting included.
    pub(crate) failures: Reasons,
    /// Time to a connection, TLS included.
    pub(crate) handshakes: Histogram,
    /// Time to a good answer.
    pub(crate) latency: Histogram,
    /// Attempts to connect, by second since the mark.
    pub(crate) attempts_at: Seconds,
    /// Devices that are back, by second since the mark.
    pub(crate) back_at: Seconds,
}

impl Count {
    /// Adds what another player counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.held += other.held;
        self.dropped += other.dropped;
        self.attempts += other.attempts;
        self.answers += other.answers;
        self.failures.merge(&other.failures);
        self.handshakes.merge(&other.handshakes);
        self.latency.merge(&other.latency);
        self.attempts_at.merge(&other.attempts_at);
        self.back_at.merge(&other.back_at);
    }
}

/// A player cannot play.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlayerError {
    /// It was told something that it does not understand.
    #[error("the order cannot be read")]
    Order(#[from] serde_json::Error),
    /// Its input or output broke.
    #[error("input or output broke")]
    Pipe(#[from] std::io::Error),
    /// The plan cannot be followed.
    #[error("the plan cannot be followed")]
    Setup(#[from] SetupError),
}

/// Plays until the input closes.
pub(crate) async fn play() -> Result<(), PlayerError> {
    let mut lines = input_lines();
    let Some(plan) = lines.recv().await else { return Ok(()) };
    let plan: Plan = serde_json::from_str(&plan)?;
    let stage = Arc::new(Stage::new(&plan)?);
    drop(plan);
    let mut report = tokio::time::interval(REPORT);
    let mut started = 0;
    loop {
        tokio::select! {
            line = lines.recv() => {
                let Some(line) = line else { return Ok(()) };
                match serde_json::from_str(&line)? {
                    Order::Hold { connections, per_second } => {
                        for number in started..connections.max(started) {
                            let wait = Duration::from_secs_f64(f64::from(number - started) / per_second.max(0.1));
                            tokio::spawn(Arc::clone(&stage).device(number, wait));
                        }
                        started = started.max(connections);
                    }
                    Order::Mark => {
                        stage.mark();
                        stage.report()?;
                    }
                }
            }
            _ = report.tick() => stage.report()?,
        }
    }
}

/// The lines of standard input, read by a thread of their own: reading there cannot be given up.
fn input_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Everything that the devices of one player share.
struct Stage {
    gateway: Gateway,
    holders: Vec<Holder>,
    first: u32,
    poll: Duration,
    /// A memory in which nothing is due.
    blank: State,
    count: Mutex<Count>,
    mark: Mutex<Mark>,
}

/// The moment from which seconds are counted.
#[derive(Debug, Clone, Copy)]
struct Mark {
    number: u32,
    at: Instant,
}

impl Stage {
    fn new(plan: &Plan) -> Result<Self, SetupError> {
        let gateway = Gateway::new(&plan.gateway)?;
        let holders: Result<Vec<_>, _> =
            plan.credentials.iter().map(|one| Holder::new(&gateway, one, true)).collect();
        let holders = holders?;
        if holders.is_empty() {
            return Err(SetupError::Credentials("list"));
        }
        Ok(Self {
            gateway,
            holders,
            first: plan.first,
            poll: Duration::from_millis(plan.poll_ms.max(1)),
            blank: blank_state(),
            count: Mutex::default(),
            mark: Mutex::new(Mark { number: 0, at: Instant::now() }),
        })
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> Result<(), PlayerError> {
        let line = serde_json::to_string(&*self.count())?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        Ok(out.flush()?)
    }

    fn marked(&self) -> Mark {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self) {
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        *mark = Mark { number: mark.number + 1, at: Instant::now() };
        let mut count = self.count();
        count.marks = mark.number;
        count.attempts_at = Seconds::default();
        count.back_at = Seconds::default();
    }

    /// One device: connects, asks, waits, asks again; comes back by the client's schedule when it fails or the
    /// other end closes.
    async fn device(self: Arc<Self>, number: u32, wait: Duration) {
        tokio::time::sleep(wait).await;
        let number = self.first + number;
        let index = number as usize % self.holders.len();
        let Some(holder) = self.holders.get(index) else { return };
        let mut pause = Pause::new(self.poll, Clock::system());
        let mut back = None;
        loop {
            let ended = self.connection(holder, number, &mut pause, &mut back).await;
            self.count().failures.add(ended.label());
            pause.after_failure(ended.setback(), &self.blank).await;
        }
    }

    /// From one connect to the end of the connection.
    async fn connection(
        &self,
        holder: &Holder,
        number: u32,
        pause: &mut Pause,
        back: &mut Option<u32>,
    ) -> Failure {
        let opened = self.marked();
        {
            let mut count = self.count();
            count.attempts += 1;
            count.attempts_at.add(opened.at.elapsed());
        }
        let began = Instant::now();
        let mut open = match self.gateway.open(holder, number).await {
            Ok(open) => open,
            Err(failure) => return failure,
        };
        self.count().handshakes.add(began.elapsed());
        let mut held = Held { stage: self, opened: opened.number, counted: false };
        let failure = self.requests(holder, &mut open, pause, back, &mut held).await;
        if held.counted {
            self.count().dropped += 1;
        }
        failure
    }

    async fn requests(
        &self,
        holder: &Holder,
        open: &mut Open,
        pause: &mut Pause,
        back: &mut Option<u32>,
        held: &mut Held<'_>,
    ) -> Failure {
        // The first pause is anything up to the whole, so that the crowd is spread from then on.
        let mut wait = part_of(self.poll, runtime::id::random());
        loop {
            match open.ask(holder.plain(&self.gateway)).await {
                Ok(latency) => {
                    pause.succeeded();
                    held.begin();
                    let (mark, mut count) = (self.marked(), self.count());
                    count.answers += 1;
                    count.latency.add(latency);
                    // One that held on over the mark was never away.
                    if held.opened == mark.number && *back != Some(mark.number) {
                        *back = Some(mark.number);
                        count.back_at.add(mark.at.elapsed());
                    }
                }
                // A refusal that leaves the connection open: the same one is used again later.
                Err(refused @ Failure::Refused { .. }) if !open.is_closed() => {
                    self.count().failures.add(refused.label());
                    pause.after_failure(refused.setback(), &self.blank).await;
                    wait = Duration::ZERO;
                }
                Err(failure) => return failure,
            }
            tokio::select! {
                () = open.closed() => return Failure::Closed,
                () = tokio::time::sleep(wait) => {}
            }
            wait = self.poll.mul_f64(0.9) + part_of(self.poll / 5, runtime::id::random());
        }
    }
}

/// A connection among those that are held, as long as it lives.
struct Held<'s> {
    stage: &'s Stage,
    /// The mark that counted when it was opened.
    opened: u32,
    counted: bool,
}

impl Held<'_> {
    fn begin(&mut self) {
        if !self.counted {
            self.counted = true;
            self.stage.count().held += 1;
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.stage.count().held -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_counts_survive_the_way_between_processes() {
        let order = Order::Hold { connections: 9_950, per_second: 250.0 };
        let line = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
        let mut count = Count { held: 3, ..Count::default() };
        count.latency.add(Duration::from_millis(4));
        count.back_at.add(Duration::from_secs(12));
        let read: Count = serde_json::from_str(&serde_json::to_string(&count).unwrap()).unwrap();
        let mut sum = Count::default();
        sum.merge(&read);
        sum.merge(&count);
        assert_eq!((sum.held, sum.latency.count(), sum.back_at.fullest_from(0)), (6, 2, Some((12, 2))));
    }
}
