//! Stopping: finish what was begun, by a deadline.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long [`Drain::finish`] waits for tasks that it has cut off. A task ends at its next await; one that
/// does not come to an await within this time is left to the end of the process.
const CUT_OFF_GRACE: Duration = Duration::from_secs(1);

/// The wish to stop, the tasks that it concerns, and the time they have. A clone is the same drain, usable
/// from every thread and runtime of the process.
///
/// ```no_run
/// # async fn role(drain: runtime::Drain) {}
/// # async fn run() -> std::io::Result<()> {
/// let drain = runtime::Drain::new();
/// drain.spawn(role(drain.clone()));
/// runtime::signal::wait_for_stop_signal().await?;
/// drain.begin(std::time::Duration::from_secs(20));
/// drain.finish().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Drain {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Take no new work, finish the old.
    started: Signal,
    /// The deadline has passed: drop the old work too.
    cut_off: Signal,
    deadline: OnceLock<Instant>,
    tasks: TaskTracker,
}

/// What is said once and heard by tens of thousands of tasks, each polled thousands of times a second. Asking
/// a token takes locks that all threads share, so a task asks it once, to be woken, and then looks at a flag.
#[derive(Debug, Default)]
struct Signal {
    is_given: AtomicBool,
    token: CancellationToken,
}

impl Signal {
    fn give(&self) {
        // Before the waking, so that whoever is woken sees it.
        self.is_given.store(true, Ordering::Release);
        self.token.cancel();
    }

    fn is_given(&self) -> bool {
        self.is_given.load(Ordering::Acquire)
    }

    /// Runs `task` to its end, or until the signal: then `None`, and the task is not polled any more.
    async fn or_end_of<F: Future>(&self, task: F) -> Option<F::Output> {
        let (mut task, mut given) = (pin!(task), pin!(self.token.cancelled()));
        let mut waits_with: Option<Waker> = None;
        poll_fn(|cx| {
            if self.is_given() {
                return Poll::Ready(None);
            }
            if let Poll::Ready(output) = task.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if waits_with.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                waits_with = Some(cx.waker().clone());
                return given.as_mut().poll(cx).map(|()| None);
            }
            Poll::Pending
        })
        .await
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Every task ended by itself.
    Clean,
    /// So many tasks were still at work when the deadline passed, and were dropped.
    CutOff(usize),
}

impl Drain {
    /// A drain that has not begun and knows no tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks all tasks to stop, and gives them `deadline` from now. Only the first call counts: a second
    /// signal neither shortens nor lengthens the time.
    pub fn begin(&self, deadline: Duration) {
        let now = Instant::now();
        // A deadline beyond what the timer can hold is as good as thirty years.
        let far = now + Duration::from_hours(30 * 365 * 24);
        self.inner.deadline.get_or_init(|| now.checked_add(deadline).unwrap_or(far));
        self.inner.started.give();
    }

    /// Whether [`Drain::begin`] was called.
    pub fn has_started(&self) -> bool {
        self.inner.started.is_given()
    }

    /// Resolves when the drain begins; at once when it has. Safe to drop and ask again.
    pub async fn started(&self) {
        self.inner.started.token.cancelled().await;
    }

    /// Runs `task` to its end, or until the drain begins: then `None`. For tasks that are polled often; to be
    /// woken costs them nothing.
    pub async fn begins_or<F: Future>(&self, task: F) -> Option<F::Output> {
        self.inner.started.or_end_of(task).await
    }

    /// The signal for code that takes tokio's own type. Cancelling the token does not begin the drain.
    pub fn token(&self) -> CancellationToken {
        self.inner.started.token.child_token()
    }

    /// Runs `task` on the current runtime as one that [`Drain::finish`] waits for.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(self.track(task))
    }

    /// Makes `task` one that [`Drain::finish`] waits for and cuts off at the deadline, wherever it is then
    /// run: on another runtime, a local set, or in place.
    pub fn track<F>(&self, task: F) -> impl Future<Output = ()> + use<F>
    where
        F: Future<Output = ()>,
    {
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.track_future(async move {
            let _ = inner.cut_off.or_end_of(task).await;
        })
    }

    /// Waits for the drain to begin and then for its tasks, at most until the deadline; what still runs then
    /// is dropped at its next await.
    pub async fn finish(&self) -> Finished {
        self.started().await;
        let tasks = &self.inner.tasks;
        tasks.close();
        let deadline = *self.inner.deadline.get().expect("set before the signal was given");
        if timeout_at(deadline, tasks.wait()).await.is_ok() {
            return Finished::Clean;
        }
        let left = tasks.len();
        self.inner.cut_off.give();
        // Its outcome does not matter: the tasks that are left now do not come to an await.
        let _ = timeout(CUT_OFF_GRACE, tasks.wait()).await;
        Finished::CutOff(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn tasks_see_the_signal_and_are_waited_for() {
        let drain = Drain::new();
        let seen = CancellationToken::new();
        let (task, done) = (drain.clone(), seen.clone());
        drain.spawn(async move {
            task.started().await;
            done.cancel();
        });
        assert!(!drain.has_started());
        drain.begin(LONG);
        assert_eq!(drain.finish().await, Finished::Clean);
        assert!(seen.is_cancelled());
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_cut_off_at_the_deadline() {
        let drain = Drain::new();
        let dropped = CancellationToken::new();
        let guard = dropped.clone().drop_guard();
        drain.spawn(async move {
            let _held = guard;
            std::future::pending::<()>().await;
        });
        drain.begin(Duration::from_millis(20));
        assert_eq!(drain.finish().await, Finished::CutOff(1));
        assert!(dropped.is_cancelled(), "what the task held is released");
    }

    #[tokio::test]
    async fn a_task_that_is_polled_often_is_woken_by_the_beginning_whoever_polls_it() {
        let drain = Drain::new();
        let (heard, polls) = (drain.clone(), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
        let counted = Arc::clone(&polls);
        let mut task = Box::pin(async move {
            heard
                .begins_or(poll_fn(move |_| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    Poll::<()>::Pending
                }))
                .await
        });
        for _ in 0..3 {
            assert!(poll_fn(|cx| Poll::Ready(task.as_mut().poll(cx).is_pending())).await);
        }
        assert_eq!(polls.load(Ordering::Relaxed), 3);
        // Another task, and so another waker, takes it over.
        let task = tokio::spawn(task);
        tokio::task::yield_now().await;
        drain.begin(LONG);
        assert_eq!(task.await.unwrap(), None);
        assert_eq!(drain.begins_or(std::future::pending::<()>()).await, None, "it has begun");
    }

    #[tokio::test]
    async fn the_second_begin_changes_nothing() {
        let drain = Drain::new();
        drain.begin(Duration::ZERO);
        drain.begin(LONG);
        drain.spawn(std::future::pending());
        assert_eq!(drain.finish().await, Finished::CutOff(1));
    }

    #[tokio::test]
    async fn work_started_while_draining_is_still_waited_for() {
        let drain = Drain::new();
        let parent = drain.clone();
        drain.spawn(async move {
            parent.started().await;
            parent.spawn(async { tokio::task::yield_now().await });
        });
        drain.begin(LONG);
        assert_eq!(drain.finish().await, Finished::Clean);
    }

    #[tokio::test]
    async fn cancelling_a_token_of_the_drain_does_not_begin_it() {
        let drain = Drain::new();
        let token = drain.token();
        token.cancel();
        assert!(!drain.has_started());
        let second = drain.token();
        drain.begin(LONG);
        assert!(second.is_cancelled());
    }
}
