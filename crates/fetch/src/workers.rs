//! Tasks by what they work on, one at a time for each.

use std::collections::BTreeMap;
use std::future::Future;

use tokio::task::{Id, JoinSet};

/// Tasks that give a `T` each. Dropping it cuts them off.
#[derive(Debug)]
pub(crate) struct Workers<K, T> {
    tasks: JoinSet<T>,
    busy: BTreeMap<Id, K>,
}

impl<K: Ord + Copy, T: Send + 'static> Workers<K, T> {
    pub(crate) fn new() -> Self {
        Self { tasks: JoinSet::new(), busy: BTreeMap::new() }
    }

    pub(crate) fn is_busy(&self, key: K) -> bool {
        self.busy.values().any(|busy| *busy == key)
    }

    /// Begins `work`, unless something of the same key is under way.
    pub(crate) fn start(&mut self, key: K, work: impl Future<Output = T> + Send + 'static) {
        if !self.is_busy(key) {
            let id = self.tasks.spawn(work).id();
            self.busy.insert(id, key);
        }
    }

    /// The next task that ends, and what came of it; `None` when it panicked. Waits for ever while
    /// there is none. May be dropped and asked again.
    pub(crate) async fn finished(&mut self) -> (K, Option<T>) {
        loop {
            let (id, result) = match self.tasks.join_next_with_id().await {
                Some(Ok((id, result))) => (id, Some(result)),
                Some(Err(error)) => (error.id(), None),
                None => std::future::pending().await,
            };
            if let Some(key) = self.busy.remove(&id) {
                return (key, result);
            }
        }
    }

    /// Waits until all have ended.
    pub(crate) async fn finish(mut self) {
        while !self.busy.is_empty() {
            self.finished().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_task_a_key_and_a_panic_is_no_end() {
        let mut workers = Workers::new();
        workers.start(1, std::future::pending::<u8>());
        workers.start(2, async { 20 });
        workers.start(2, async { 21 });
        assert_eq!(workers.finished().await, (2, Some(20)));
        assert!(workers.is_busy(1) && !workers.is_busy(2));
        workers.start(2, async { panic!("as a damaged answer might") });
        assert_eq!(workers.finished().await, (2, None));
        assert!(workers.is_busy(1), "one that hangs holds up nobody");
    }
}
