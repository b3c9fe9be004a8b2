//! Both sides of a tunnel, joined by byte pipes, on a clock that only tests move.

mod hostile;
mod pair;
mod schedules;
mod stories;
