//! Users and devices of a tenant, from a service that speaks as the Graph does: lists by pages, and
//! links that lead to what changed since.
//!
//! ```text
//! GraphClient::sign_in(source)?
//!     ─► .users(None | Some(link)) / .devices(…) ─► Listing
//!            .next() ─► a page of what is there or gone … None
//!            .delta_link() ─► where the next delta begins
//! ```

mod client;
mod error;
mod listing;
mod object;
mod sign_in;

pub use client::{GraphClient, GraphSource};
pub use error::{GraphError, SignInError};
pub use listing::Listing;
pub use object::{Device, Entry, User};
