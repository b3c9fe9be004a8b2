//! The management point against a real site, over real sockets.

mod captures;
mod clock;
mod combination;
mod entra;
mod hostile;
mod lifetime;
mod location;
mod matrix;
mod modes;
mod overload;
mod pki;
mod policy;
mod registration;
mod report;
mod sts;
mod support;
