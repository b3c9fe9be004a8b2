//! Many kept connections at once.

use std::time::Instant;

use tokio::task::JoinSet;

use super::connect::Connector;
use super::exchange::{SMALL_READ_BYTES, Talk, talk_until};
use super::{Ask, Job, LoadError, Outcome, millis, until};

/// Requests on kept connections, measured; beside them downloads, not measured.
pub(super) async fn kept(
    job: &Job,
    connections: usize,
    beside: Option<(&Ask, usize)>,
    go: &mut dyn FnMut() -> bool,
) -> Result<Outcome, LoadError> {
    let connector = Connector::new(job.address, job.tls.as_ref(), false)?;
    let mut talks: Vec<Option<Talk>> = Vec::new();
    talks.resize_with(connections, || None);
    let mut large: Vec<Option<Talk>> = Vec::new();
    large.resize_with(beside.map_or(0, |(_, count)| count), || None);
    let mut all = Outcome::new();
    for (is_measured, length) in [(false, job.warm_up_ms), (true, job.measure_ms)] {
        if is_measured {
            if !go() {
                return Ok(all);
            }
            // Errors of the warm-up count like any other, everything else does not.
            all = Outcome { errors: all.errors, ..Outcome::new() };
        }
        let began = Instant::now();
        let end = until(length);
        let mut tasks = JoinSet::new();
        let many = talks.drain(..).map(|talk| (talk, &job.ask, true));
        let others = large.drain(..).filter_map(|talk| Some((talk, beside?.0, false)));
        for (talk, ask, is_small) in many.chain(others) {
            let (connector, ask) = (connector.clone(), ask.clone());
            tasks.spawn(async move {
                let (talk, outcome) = talk_until(&connector, talk, &ask, end).await;
                (talk, outcome, is_small)
            });
        }
        while let Some(ended) = tasks.join_next().await {
            let (talk, mut outcome, is_small) = ended.map_err(|error| LoadError::Job(error.to_string()))?;
            if is_small {
                talks.push(talk);
            } else {
                // Of the downloads only errors and bytes are told.
                outcome.done = 0;
                outcome.latency = super::Histogram::new();
                large.push(talk);
            }
            all.add(&outcome);
        }
        all.elapsed = began.elapsed().min(millis(length));
    }
    Ok(all)
}

/// Connections that ask once and then say nothing. `done` counts those that still answer at the end.
pub(super) async fn idle(
    job: &Job,
    connections: usize,
    go: &mut dyn FnMut() -> bool,
) -> Result<Outcome, LoadError> {
    let connector = Connector::new(job.address, job.tls.as_ref(), false)?;
    let mut outcome = Outcome::new();
    let mut talks = Vec::with_capacity(connections);
    for _ in 0..connections {
        match Talk::open(&connector, &job.ask, SMALL_READ_BYTES).await {
            Ok(mut talk) => match talk.ask(&job.ask).await {
                Ok(()) => talks.push(talk),
                Err(failure) => outcome.error(&failure),
            },
            Err(failure) => outcome.error(&failure),
        }
    }
    tokio::time::sleep(millis(job.warm_up_ms)).await;
    if !go() {
        return Ok(outcome);
    }
    let began = Instant::now();
    tokio::time::sleep(millis(job.measure_ms)).await;
    outcome.elapsed = began.elapsed();
    for talk in &mut talks {
        let asked = Instant::now();
        match talk.ask(&job.ask).await {
            Ok(()) => {
                outcome.done += 1;
                outcome.latency.record(asked.elapsed());
            }
            Err(failure) => outcome.error(&failure),
        }
    }
    Ok(outcome)
}
