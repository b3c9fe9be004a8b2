//! What the database did since the start, for whoever watches the site.

use std::time::{Duration, Instant};

use runtime::metrics::{COMMIT_BOUNDS, Counter, Histogram};

/// Counters of the writer, which is one thread: nothing waits for them.
#[derive(Debug)]
pub struct WriterCounts {
    /// Transactions that were committed.
    pub commits: Counter,
    /// Transactions that were lost.
    pub lost: Counter,
    /// Jobs in both; divided by the transactions: how many shared one.
    pub jobs: Counter,
    /// How long the commit itself took: the wait for the disk.
    pub commit_time: Histogram,
}

impl Default for WriterCounts {
    fn default() -> Self {
        Self {
            commits: Counter::default(),
            lost: Counter::default(),
            jobs: Counter::default(),
            commit_time: Histogram::new(COMMIT_BOUNDS),
        }
    }
}

impl WriterCounts {
    /// Runs the commit and counts how long it took.
    pub(super) fn time_commit<T>(&self, commit: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let outcome = commit();
        self.commit_time.observe(began.elapsed());
        outcome
    }

    /// A transaction of so many jobs is over.
    pub(super) fn transaction(&self, jobs: usize, committed: bool) {
        if committed {
            self.commits.count();
        } else {
            self.lost.count();
        }
        self.jobs.add(u64::try_from(jobs).unwrap_or(u64::MAX));
    }
}

/// Jobs that wait for the database's threads now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// For the writer.
    pub writes: usize,
    /// For the readers.
    pub reads: usize,
}

/// How long a job waits for its turn and its commit before the database counts as stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The name of the operation that a job was written in, of the type of its closure: `register_under`.
pub(super) fn operation<F>() -> &'static str {
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    path.rsplit("::").next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_called_after_the_operation_that_it_was_written_in() {
        fn named<F: Fn()>(_: F) -> &'static str {
            operation::<F>()
        }
        assert_eq!(named(|| {}), "a_job_is_called_after_the_operation_that_it_was_written_in");
    }

    #[test]
    fn transactions_and_their_jobs_are_counted() {
        let counts = WriterCounts::default();
        assert_eq!(counts.time_commit(|| 7), 7);
        counts.transaction(16, true);
        counts.transaction(2, false);
        assert_eq!((counts.commits.get(), counts.lost.get(), counts.jobs.get()), (1, 1, 18));
        assert_eq!(counts.commit_time.read().count, 1);
    }
}
