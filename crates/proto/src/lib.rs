//! The vocabulary of Roamgate: bytes to types and back, and every decision that two
//! parties must make alike.
//!
//! Nothing here opens a socket, reads a file, asks a clock or starts a task. Time and
//! randomness are arguments, so each rule can be tested at any moment of any day.
//!
//! Where to look:
//!
//! | for | module |
//! |---|---|
//! | names of things | [`id`], [`time`] |
//! | what may be asked, by whom, how large | [`endpoint`], [`path`], [`header`], [`limits`] |
//! | one client message | [`message`], [`request`], [`text`], [`zlib`] |
//! | who is asking | [`identity`], [`token`], [`entra`] ([`jose`]), [`pki`], [`client_certificate`], [`http_signature`] |
//! | what goes together | [`combination`] |
//! | what a refusal says | [`reason`], [`status`], [`code`] |
//! | what the site tells its gateways | [`snapshot`], [`link`], [`bundle`] |

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

pub mod bundle;
pub mod client_certificate;
pub mod cms;
pub mod code;
pub mod combination;
pub mod endpoint;
pub mod entra;
pub mod header;
pub mod http_signature;
pub mod id;
pub mod identity;
pub mod jose;
pub mod limits;
pub mod link;
pub mod message;
pub mod path;
pub mod pki;
pub mod policy_signature;
pub mod public_key_blob;
pub mod reason;
pub mod request;
pub mod snapshot;
pub mod status;
pub mod text;
pub mod time;
pub mod token;
pub mod trust;
pub mod verdict;
pub mod zlib;
