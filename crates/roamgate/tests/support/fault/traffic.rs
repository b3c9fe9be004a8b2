//! Steady good traffic: devices that ask again and again on kept connections.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::device::{Ask, Device, Note};
use super::until;

/// What each lane sends: bytes of its message (0: a GET), bytes of the answer that it asks for. The third is
/// too large to be held whole, and so is never sent twice.
const LANES: [(usize, usize); 4] = [(0, 0), (300, 2_000), (100_000, 0), (0, 50_000)];
/// Pause of a lane between two requests.
const PACE: Duration = Duration::from_millis(15);
/// Good answers in a row after which a lane has recovered.
const RUN: usize = 8;
/// Time to recover.
const RECOVERY: Duration = Duration::from_secs(30);

/// Traffic that goes on until it is stopped.
#[derive(Debug)]
pub(crate) struct Traffic {
    lanes: Vec<Arc<Mutex<Vec<Note>>>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Traffic {
    /// Starts the lanes, the devices in turn.
    pub(crate) fn start(devices: &[Device]) -> Self {
        let (mut lanes, stop, mut tasks) = (Vec::new(), CancellationToken::new(), JoinSet::new());
        for ((body, answer), device) in LANES.into_iter().zip(devices.iter().cycle()) {
            let notes = Arc::new(Mutex::new(Vec::new()));
            lanes.push(Arc::clone(&notes));
            let (device, stop) = (device.clone(), stop.clone());
            tasks.spawn(async move {
                let mut connection = None;
                while !stop.is_cancelled() {
                    let note = device.ask(&mut connection, Ask::new(body, answer)).await;
                    notes.lock().expect("no lane failed").push(note);
                    // The rate of the load.
                    stop.run_until_cancelled(tokio::time::sleep(PACE)).await;
                }
            });
        }
        Self { lanes, stop, tasks }
    }

    /// All lanes have good answers to requests that began after `from`, several in a row and up to now. How
    /// long after `from` the last lane's run began.
    pub(crate) async fn recovered(&self, from: Instant) -> Duration {
        let mut last = from;
        for (number, lane) in self.lanes.iter().enumerate() {
            let mut found = None;
            let what = || {
                let notes = lane.lock().expect("no lane failed");
                let tail: Vec<_> = notes.iter().rev().take(5).map(|note| note.seen.label()).collect();
                format!("lane {number} has recovered; its last answers: {tail:?}")
            };
            let recovered = until("a lane recovers", RECOVERY + super::device::PATIENCE, || {
                let notes = lane.lock().expect("no lane failed");
                let run: Vec<_> =
                    notes.iter().rev().take_while(|note| note.is_good() && note.began >= from).collect();
                found = run.last().filter(|_| run.len() >= RUN).map(|note| note.ended());
                found.is_some()
            });
            tokio::select! {
                _ = recovered => {}
                () = tokio::time::sleep(RECOVERY) => panic!("{}", what()),
            }
            last = last.max(found.expect("it was found"));
        }
        last - from
    }

    /// Notes of all lanes up to now.
    pub(crate) fn notes(&self) -> Vec<Note> {
        self.lanes.iter().flat_map(|lane| lane.lock().expect("no lane failed").clone()).collect()
    }

    /// Ends the lanes, their connections too, and gives all their notes.
    pub(crate) async fn stop(mut self) -> Vec<Note> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a lane ends");
        }
        self.notes()
    }
}
