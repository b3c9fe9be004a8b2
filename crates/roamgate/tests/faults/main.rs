//! Faults on real processes over real sockets: what devices see, how soon it is over, and that nothing is lost,
//! doubled or left behind. `docs/faults.md` is written by these tests, see `support/fault/page.rs`.
//!
//! With `ROAMGATE_FAULTS_LONG=1` those run as well that take minutes (`bench/faults/run.sh`).

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/fault/mod.rs"]
mod fault;

mod devices;
mod inner;
mod limits;
mod line;
mod long;
mod network;
mod processes;
