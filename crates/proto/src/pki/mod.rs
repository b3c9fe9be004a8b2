//! Certificates of other people's authorities: which ones the site trusts, and the one judgement of
//! a chain that gateway, management point, site and command line share.
//!
//! Possession of the key is proved elsewhere (the TLS handshake, a signature). Here trust is judged:
//! path, dates, usage, strength, and revocation of **every** certificate below the root (R2 to R8).
//! A refusal names the true cause ([`Distrust`]).
//!
//! Who does what: `path` finds candidate paths by name and signature, within a budget; `soundness`
//! looks at each certificate of a path (dates, strength, form, usage); webpki then checks the path
//! by RFC 5280 (signatures again, basic constraints, path length, name constraints, critical
//! extensions); `store` looks up revocation and puts the verdict together. So webpki has the say on
//! whatever it checks, our checks only ever refuse more, and they come first because they can name
//! the certificate that is to blame.

mod certificate;
mod crl;
mod crl_form;
mod distribution_point;
mod distrust;
mod key;
mod name;
mod path;
mod revocations;
mod revoked;
mod serial;
mod soundness;
mod store;
mod trust_list;

pub use crl::{Crl, CrlError};
pub use crl_form::CrlScope;
pub use distrust::Distrust;
pub(crate) use key::{KeyKind, PublicKey};
pub use revocations::{IssuerId, Revocations, RevocationsDelta};
pub use revoked::Revoked;
pub use serial::{Serial, SerialError};
pub use store::{CrlPolicy, RevocationSettings, TrustStore, TrustStoreError, Trusted, Usage};
pub use trust_list::{TrustList, TrustedCa};
