//! Many kept connections at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::connect::Connector;
use super::exchange::{Pace, SMALL_READ_BYTES, Talk, in_time, talk_until};
use super::{Ask, Job, LoadError, Outcome, millis, until};

/// Idle connections that are made, or asked, at a time: some tunnels take 40 ms for each.
const AT_ONCE: usize = 16;
/// How long a server that was just started may take until it answers.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// Time between two attempts meanwhile.
const REST: Duration = Duration::from_millis(50);

/// Requests on kept connections, measured; beside them downloads, not measured.
pub(super) async fn kept(
    job: &Job,
    connections: usize,
    per_second: Option<u32>,
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
        let many = talks.drain(..).zip(paces(began, connections, per_second));
        let many = many.map(|(talk, pace)| (talk, &job.ask, pace, true));
        let others = large.drain(..).filter_map(|talk| Some((talk, beside?.0, None, false)));
        for (talk, ask, pace, is_small) in many.chain(others) {
            let (connector, ask) = (connector.clone(), ask.clone());
            tasks.spawn(async move {
                let (talk, outcome) = talk_until(&connector, talk, &ask, pace, end).await;
                (talk, outcome, is_small)
            });
        }
        while let Some(ended) = tasks.join_next().await {
            let (talk, mut outcome, is_small) = ended.map_err(|error| LoadError::Job(error.to_string()))?;
            if is_small {
                talks.push(talk);
            } else {
                // Of the downloads only errors are told: most are cut short by the end, so bytes mean nothing.
                outcome = Outcome { errors: outcome.errors, ..Outcome::new() };
                large.push(talk);
            }
            all.add(&outcome);
        }
        all.elapsed = began.elapsed().min(millis(length));
    }
    Ok(all)
}

/// The pace of each connection, so that all together come to so many a second, evenly spread.
fn paces(began: Instant, connections: usize, per_second: Option<u32>) -> impl Iterator<Item = Option<Pace>> {
    let connections = u32::try_from(connections).unwrap_or(u32::MAX);
    let gap = per_second.map(|rate| Duration::from_secs(1) / rate.max(1));
    (0..connections)
        .map(move |number| gap.map(|gap| Pace { next: began + gap * number, every: gap * connections }))
}

/// Connections that ask once and then say nothing, in more and more of them. `done` counts those that still
/// answer at the end.
pub(super) async fn idle(
    job: &Job,
    sizes: &[usize],
    go: &mut dyn FnMut() -> bool,
) -> Result<Outcome, LoadError> {
    let connector = Connector::new(job.address, job.tls.as_ref(), false)?;
    let ask = Arc::new(job.ask.clone());
    let mut outcome = Outcome::new();
    answering(&connector, &ask).await?;
    let mut talks = Vec::new();
    for size in sizes {
        let missing = size.saturating_sub(talks.len());
        let new = in_turns((0..missing).map(|_| {
            let (connector, ask) = (connector.clone(), Arc::clone(&ask));
            async move { first(&connector, &ask).await }
        }));
        for opened in new.await? {
            match opened {
                Ok(talk) => talks.push(talk),
                Err(failure) => outcome.error(&failure),
            }
        }
        tokio::time::sleep(millis(job.warm_up_ms)).await;
        if !go() {
            return Ok(outcome);
        }
    }
    let began = Instant::now();
    let asked = in_turns(talks.into_iter().map(|mut talk| {
        let ask = Arc::clone(&ask);
        async move {
            let asked = Instant::now();
            // Handed back, so that all of them are there until the last one has answered.
            in_time(talk.ask(&ask)).await.map(|()| (asked.elapsed(), talk))
        }
    }));
    for answered in asked.await? {
        match answered {
            Ok((time, _)) => {
                outcome.done += 1;
                outcome.latency.record(time);
            }
            Err(failure) => outcome.error(&failure),
        }
    }
    outcome.elapsed = began.elapsed();
    Ok(outcome)
}

async fn first(connector: &Connector, ask: &Ask) -> Result<Talk, LoadError> {
    let mut talk = Talk::open(connector, ask, SMALL_READ_BYTES).await?;
    in_time(talk.ask(ask)).await.map(|()| talk)
}

/// Waits until the server answers: it may have been started a moment ago, its other half still on the way.
async fn answering(connector: &Connector, ask: &Ask) -> Result<(), LoadError> {
    let began = Instant::now();
    loop {
        match first(connector, ask).await {
            Ok(_) => return Ok(()),
            Err(failure) if began.elapsed() > FIRST_ANSWER => return Err(failure),
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
}

/// Does all of them, a few at a time.
async fn in_turns<T: Send + 'static>(
    work: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Result<Vec<T>, LoadError> {
    let (mut work, mut tasks, mut done) = (work, JoinSet::new(), Vec::new());
    work.by_ref().take(AT_ONCE).for_each(|piece| drop(tasks.spawn(piece)));
    while let Some(ended) = tasks.join_next().await {
        done.push(ended.map_err(|error| LoadError::Job(error.to_string()))?);
        work.by_ref().take(1).for_each(|piece| drop(tasks.spawn(piece)));
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_of_all_connections_come_to_the_rate_and_are_spread_over_it() {
        let began = Instant::now();
        let paces: Vec<_> = paces(began, 4, Some(100)).flatten().collect();
        let offsets: Vec<_> = paces.iter().map(|pace| (pace.next - began).as_millis()).collect();
        assert_eq!(offsets, [0, 10, 20, 30]);
        assert!(paces.iter().all(|pace| pace.every == Duration::from_millis(40)));
        assert!(super::paces(began, 3, None).all(|pace| pace.is_none()));
    }

    #[tokio::test]
    async fn everything_is_done_and_never_more_than_a_few_at_a_time() {
        let turns = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
        let work = (0..100).map(|number| {
            let turns = Arc::clone(&turns);
            async move {
                let turn = turns.try_acquire().is_ok();
                tokio::task::yield_now().await;
                (number, turn)
            }
        });
        let mut done = in_turns(work).await.unwrap();
        done.sort_unstable();
        assert_eq!(done, (0..100).map(|number| (number, true)).collect::<Vec<_>>());
    }
}
