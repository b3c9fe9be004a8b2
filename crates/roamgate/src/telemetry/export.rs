//! The thread that sends steps to the collector.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::Client;
use reqwest::redirect::Policy;
use runtime::metrics::{Counter, Page};
use runtime::telemetry::{Chain, Step, StepSink};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::otlp;
use super::sampler::Sampler;
use super::settings::Settings;

/// Time for what waits when the process stops.
const LAST_SENDING: Duration = Duration::from_secs(5);
/// First pause before a batch is tried again; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What became of steps.
#[derive(Debug, Default)]
pub(crate) struct TraceCounts {
    exported: Counter,
    /// There were too many at once.
    overflowed: Counter,
    /// The collector did not take them.
    refused: Counter,
}

impl TraceCounts {
    /// Adds them to a page.
    pub(crate) fn fill(&self, page: &mut Page) {
        page.counter(
            "roamgate_trace_spans_exported_total",
            "Steps of requests that the collector of traces took.",
        )
        .value(self.exported.get());
        page.counter(
            "roamgate_trace_spans_dropped_total",
            "Steps that were dropped: too many waited (queue), or the collector did not take them (collector).",
        )
        .labelled([("cause", "queue")], self.overflowed.get())
        .labelled([("cause", "collector")], self.refused.get());
    }
}

/// A running thread.
#[derive(Debug)]
pub(crate) struct Exporter {
    sink: Arc<Sink>,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Sink {
    queue: mpsc::Sender<Step>,
    sampler: Sampler,
    counts: Arc<TraceCounts>,
}

impl StepSink for Sink {
    fn wants(&self, request: &[u8; 16]) -> bool {
        self.sampler.wants(request)
    }

    fn ended(&self, step: Step) {
        if self.queue.try_send(step).is_err() {
            self.counts.overflowed.count();
        }
    }
}

impl Exporter {
    /// Starts it. Nothing is sent before there is something to send.
    pub(super) fn start(settings: Settings) -> std::io::Result<Self> {
        let (queue, steps) = mpsc::channel(settings.queue);
        let (counts, stop) = (Arc::<TraceCounts>::default(), CancellationToken::new());
        let sink = Sink { queue, sampler: settings.sampler, counts: Arc::clone(&counts) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stopping = stop.clone();
        let run = move || runtime.block_on(run(&settings, steps, &counts, &stopping));
        let thread = thread::Builder::new().name("traces".into()).spawn(run)?;
        Ok(Self { sink: Arc::new(sink), stop, thread })
    }

    /// Where steps go.
    pub(super) fn sink(&self) -> Arc<dyn StepSink> {
        Arc::clone(&self.sink) as Arc<dyn StepSink>
    }

    /// What became of them.
    pub(super) fn counts(&self) -> Arc<TraceCounts> {
        Arc::clone(&self.sink.counts)
    }

    /// Sends what waits, and ends the thread.
    pub(super) async fn finish(self) {
        self.stop.cancel();
        let thread = self.thread;
        // The thread bounds its own last sending; this only keeps a stuck one from holding the process.
        let joined = tokio::task::spawn_blocking(move || drop(thread.join()));
        let _ = timeout(LAST_SENDING + Duration::from_secs(1), joined).await;
    }
}

async fn run(
    settings: &Settings,
    mut steps: mpsc::Receiver<Step>,
    counts: &TraceCounts,
    stop: &CancellationToken,
) {
    let client = Client::builder().redirect(Policy::none()).timeout(settings.timeout).build();
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            warn!(error = %Chain(&error), "traces are off, no HTTP client can be made");
            while steps.recv().await.is_some() {
                counts.refused.count();
            }
            return;
        }
    };
    let mut sending = Sending { settings, client, counts, troubled: false };
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = gather(&mut steps, &mut batch, settings) => {}
        }
        if batch.is_empty() {
            // All senders are gone.
            return;
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = sending.send(&batch) => batch.clear(),
        }
    }
    // What was under way is sent again: a collector knows a span by its id.
    let last = async {
        loop {
            while batch.len() < settings.batch {
                let Ok(step) = steps.try_recv() else { break };
                batch.push(step);
            }
            if batch.is_empty() {
                return;
            }
            sending.send(&batch).await;
            batch.clear();
        }
    };
    if timeout(LAST_SENDING, last).await.is_err() {
        warn!("the last steps of requests were not sent: the collector of traces did not take them in time");
    }
}

/// Waits for a first step and takes what comes within the delay, up to a batch.
async fn gather(steps: &mut mpsc::Receiver<Step>, batch: &mut Vec<Step>, settings: &Settings) {
    if batch.is_empty() {
        let Some(first) = steps.recv().await else { return };
        batch.push(first);
    }
    let until = Instant::now() + settings.delay;
    while batch.len() < settings.batch {
        let room = settings.batch - batch.len();
        match timeout_at(until, steps.recv_many(batch, room)).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

struct Sending<'a> {
    settings: &'a Settings,
    client: Client,
    counts: &'a TraceCounts,
    /// Whether the last one failed, so that trouble is told once.
    troubled: bool,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    /// No connection, or it broke.
    #[error("the collector of traces was not reached")]
    Unreachable(#[source] reqwest::Error),
    /// It answered so.
    #[error("the collector of traces answered {0}")]
    Status(StatusCode, Option<Duration>),
}

impl NotTaken {
    /// After which wait the protocol wants it tried again: what the collector says, otherwise `pause`; `None` when
    /// another try is of no use.
    fn wait(&self, pause: Duration) -> Option<Duration> {
        match self {
            Self::Unreachable(_) => Some(pause),
            Self::Status(status, wait) => {
                matches!(status.as_u16(), 429 | 502 | 503 | 504).then(|| wait.unwrap_or(pause))
            }
        }
    }
}

impl Sending<'_> {
    /// Sends a batch, again where that may help, and counts what became of it.
    async fn send(&mut self, batch: &[Step]) {
        let body = otlp::request(&self.settings.resource, batch);
        let until = Instant::now() + self.settings.patience;
        let mut pause = FIRST_PAUSE;
        let failed = loop {
            let Err(failed) = self.post(&body).await else { break None };
            match failed.wait(pause) {
                Some(wait) if Instant::now() + wait < until => sleep(wait).await,
                _ => break Some(failed),
            }
            pause *= 2;
        };
        let steps = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        match failed {
            None => {
                self.counts.exported.add(steps);
                if std::mem::take(&mut self.troubled) {
                    info!("the collector takes traces again");
                }
            }
            Some(error) => {
                self.counts.refused.add(steps);
                if !std::mem::replace(&mut self.troubled, true) {
                    warn!(error = %Chain(&error), steps, "steps of requests are lost to the traces");
                }
            }
        }
    }

    async fn post(&self, body: &[u8]) -> Result<(), NotTaken> {
        let request = self.client.post(self.settings.endpoint.clone()).headers(self.settings.headers.clone());
        let request = request.header(CONTENT_TYPE, "application/x-protobuf").body(body.to_vec());
        let answer = request.send().await.map_err(|error| NotTaken::Unreachable(error.without_url()))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Err(NotTaken::Status(answer.status(), wait.map(Duration::from_secs)))
    }
}
