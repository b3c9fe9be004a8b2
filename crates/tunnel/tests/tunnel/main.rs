//! Both sides of a tunnel, joined by byte pipes, on a clock that only tests move.

mod corpus;
mod hostile;
mod limits;
mod model;
mod pair;
mod schedules;
mod stories;
mod wire_page;
