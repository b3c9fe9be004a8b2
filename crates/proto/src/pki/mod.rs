//! Certificates of other people's authorities: which ones the site trusts, and the one judgement of
//! a chain that gateway, management point, site and command line share.
//!
//! Possession of the key is proved elsewhere (the TLS handshake, a signature). Here trust is judged:
//! path, dates, usage, strength, and revocation of **every** certificate below the root (R2 to R8).
//! A refusal names the true cause ([`Distrust`]).

mod crl;
mod distrust;
mod revocations;
mod store;
mod trust_list;

pub use crl::{Crl, CrlError};
pub use distrust::Distrust;
pub use revocations::{IssuerId, Revocations, RevocationsDelta, Serial};
pub use store::{CrlPolicy, RevocationSettings, Trusted, TrustStore, TrustStoreError, Usage};
pub use trust_list::{TrustList, TrustedCa};
