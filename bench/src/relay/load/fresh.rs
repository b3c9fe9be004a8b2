//! New connections, one after the other: a first request on each, or the handshake alone.

use std::time::Instant;

use tokio::task::JoinSet;

use super::connect::Connector;
use super::exchange::{Talk, in_time};
use super::{Job, LoadError, Outcome, until};

/// Bytes taken by one read: a small answer.
const READ_BYTES: usize = 16 * 1024;

/// A connection for each request, one at a time.
pub(super) async fn requests(
    job: &Job,
    resume: bool,
    go: &mut dyn FnMut() -> bool,
) -> Result<Outcome, LoadError> {
    let connector = Connector::new(job.address, job.tls.as_ref(), resume)?;
    let phase = async |end: Instant| {
        let mut outcome = Outcome::new();
        while Instant::now() < end {
            let began = Instant::now();
            let asked = async {
                let mut talk = Talk::open(&connector, &job.ask, READ_BYTES).await?.once();
                talk.ask(&job.ask).await.map(|()| talk)
            };
            match in_time(asked).await {
                Ok(talk) => {
                    outcome.latency.record(began.elapsed());
                    outcome.done += 1;
                    outcome.resumed += u64::from(talk.is_resumed());
                }
                Err(failure) => outcome.error(&failure),
            }
        }
        outcome
    };
    let warm_up = phase(until(job.warm_up_ms)).await;
    if !go() {
        return Ok(warm_up);
    }
    let began = Instant::now();
    let mut outcome = phase(until(job.measure_ms)).await;
    outcome.elapsed = began.elapsed();
    outcome.errors.extend(warm_up.errors);
    Ok(outcome)
}

/// Handshakes alone. Where sessions are resumed, requests of the warm-up fetch the tickets.
pub(super) async fn handshakes(
    job: &Job,
    resume: bool,
    at_once: usize,
    go: &mut dyn FnMut() -> bool,
) -> Result<Outcome, LoadError> {
    let connector = Connector::new(job.address, job.tls.as_ref(), resume)?;
    let mut warm_up = Outcome::new();
    let end = until(job.warm_up_ms);
    while resume && Instant::now() < end {
        let asked = async { Talk::open(&connector, &job.ask, READ_BYTES).await?.ask(&job.ask).await };
        if let Err(failure) = in_time(asked).await {
            warm_up.error(&failure);
        }
    }
    if !go() {
        return Ok(warm_up);
    }
    let began = Instant::now();
    let end = until(job.measure_ms);
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let connector = connector.clone();
        tasks.spawn(async move {
            let mut outcome = Outcome::new();
            while Instant::now() < end {
                let began = Instant::now();
                match in_time(connector.connect()).await {
                    Ok(mut connection) => {
                        outcome.latency.record(began.elapsed());
                        outcome.done += 1;
                        outcome.resumed += u64::from(connection.is_resumed());
                        connection.wait_for_server().await;
                    }
                    Err(failure) => outcome.error(&failure),
                }
            }
            outcome
        });
    }
    let mut outcome = warm_up;
    while let Some(ended) = tasks.join_next().await {
        outcome.add(&ended.map_err(|error| LoadError::Job(error.to_string()))?);
    }
    outcome.elapsed = began.elapsed();
    Ok(outcome)
}
