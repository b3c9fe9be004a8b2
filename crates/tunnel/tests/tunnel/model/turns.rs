//! Whether every stream that has something to write gets its turn.

use std::collections::BTreeMap;

use tunnel::StreamId;

/// Bytes of a stream that go ahead of others' bulk.
const FIRST: usize = 16 * 1024;
/// Bytes of first pieces after which one turn goes to bulk.
const FAST_RUN: usize = 64 * 1024;
/// A Data frame with its header.
const FRAME: usize = 16 * 1024 + 9;

/// What was written while each stream waited.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: BTreeMap<StreamId, Wait>,
}

#[derive(Debug, Default)]
struct Wait {
    /// Its next frame is a first piece.
    is_first: bool,
    /// Streams that waited when it came, itself included.
    ahead: usize,
    /// Bytes of others' first pieces.
    fast: usize,
    /// The same since the last turn of bulk.
    run: usize,
    /// Turns of others' bulk.
    bulk: usize,
    /// Turns that one other stream had.
    of_one: BTreeMap<Option<StreamId>, usize>,
}

impl Turns {
    /// `ready`: streams that may write now, with the bytes that each has written.
    pub(super) fn are_ready(&mut self, ready: impl Iterator<Item = (StreamId, usize)>) {
        let ready: Vec<_> = ready.collect();
        let ahead = ready.len();
        let mut still = BTreeMap::new();
        for (stream, written) in ready {
            let fresh = || Wait { is_first: written < FIRST, ahead, ..Wait::default() };
            still.insert(stream, self.waiting.remove(&stream).unwrap_or_else(fresh));
        }
        self.waiting = still;
    }

    /// One frame of body or control (`None`) was written.
    pub(super) fn wrote(&mut self, by: Option<StreamId>, length: usize, is_first: bool) {
        if let Some(stream) = by {
            self.waiting.remove(&stream);
        }
        for (stream, wait) in &mut self.waiting {
            if is_first {
                wait.fast += length;
                wait.run += length;
            } else {
                wait.bulk += 1;
                wait.run = 0;
                *wait.of_one.entry(by).or_default() += 1;
            }
            if wait.is_first {
                let fair = 2 + wait.fast / FAST_RUN;
                assert!(wait.bulk <= fair, "first piece of {stream} waited for {} turns of bulk", wait.bulk);
            } else {
                assert!(wait.run < FAST_RUN + 2 * FRAME, "bulk of {stream} is starved: {wait:?}");
                assert!(wait.of_one.values().all(|turns| *turns <= 2), "out of turn for {stream}: {wait:?}");
                assert!(wait.bulk <= 2 * wait.ahead + 2, "{stream} is passed over: {wait:?}");
            }
        }
    }
}
