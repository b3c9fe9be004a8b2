//! A second account of the protocol, written from its page, that the engine is held against; the same
//! for random schedules and for the fuzzer, which includes this folder.

pub(crate) mod checked;
pub(crate) mod choices;
pub(crate) mod hostile_peer;
pub(crate) mod page;
pub(crate) mod simulation;

mod network;
mod reading;
mod turns;
mod watch;
mod writing;
