//! The management point against a real site, over real sockets.

mod captures;
mod hostile;
mod lifetime;
mod location;
mod matrix;
mod policy;
mod registration;
mod report;
mod sts;
mod support;
