//! The short way for lines that are written with every request.

use std::panic::Location;
use std::sync::{Arc, OnceLock};

use super::batch::{Queue, with_scratch};
use super::component::Components;
use super::layer::file_name;
use super::record::{MESSAGE_LIMIT, cut};
use crate::clock::Clock;

/// The log of the process, once it has begun.
static PROCESS: OnceLock<Direct> = OnceLock::new();

/// Logs one line of `component` at level `info` as `tracing::info!(component, verbatim = true, …)` does, for less than
/// a tenth of the work: `write` appends the message to a string that is used again, and is not called when nobody
/// wants the line.
///
/// No span says anything about such a line, and it goes to the log of the process ([`init`](super::init)) also where
/// a part of the process has one of its own; without any it is an ordinary event. `component` must stand in the
/// table of the log to save anything.
#[track_caller]
pub fn verbatim(component: &'static str, write: impl FnOnce(&mut String)) {
    let mut write = Some(write);
    if let Some(direct) = PROCESS.get()
        && direct.line(component, Location::caller(), &mut write)
    {
        return;
    }
    if let Some(write) = write
        && tracing::enabled!(tracing::Level::INFO)
    {
        with_scratch(write, |text| tracing::info!(component, verbatim = true, "{text}"));
    }
}

/// From here lines go to the writing thread without any event.
#[derive(Clone, Debug)]
pub(super) struct Direct {
    components: Arc<Components>,
    queue: Queue,
    clock: Clock,
}

impl Direct {
    pub(super) fn new(components: Arc<Components>, queue: Queue, clock: Clock) -> Self {
        Self { components, queue, clock }
    }

    /// Makes this the log of the process, unless there is one.
    pub(super) fn set(&self) {
        let _ = PROCESS.set(self.clone());
    }

    /// Logs a line, unless nobody wants it; whether the component is known, else `write` stays where it is.
    pub(super) fn line<F: FnOnce(&mut String)>(
        &self,
        component: &str,
        location: &'static Location<'static>,
        write: &mut Option<F>,
    ) -> bool {
        let level = tracing::Level::INFO;
        let Some((spec, wanted)) = self.components.known(component, level) else { return false };
        if let Some(write) = write.take()
            && wanted
        {
            with_scratch(write, |text| {
                cut(text, MESSAGE_LIMIT);
                let source = (file_name(Some(location.file())), location.line());
                self.queue.push_direct((spec, level), self.clock.now(), source, text);
            });
        }
        true
    }
}
