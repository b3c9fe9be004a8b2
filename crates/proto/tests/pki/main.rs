//! Certificates of others against vectors that others made, and against a PKI that openssl makes here.

mod chains;
mod hostile;
mod lab;
mod limbo;
mod lists;
mod wycheproof;
