//! What operators see: the REST API over the site's operations, and the listener that connection
//! points dial.
//!
//! Both are served by the host that holds the site. Neither decides anything: [`site::Site`] does,
//! on behalf of a named operator or of a connection point whose certificate it knows.
//!
//! ```text
//! roamgate (command) ──HTTPS, operator's key──► api        ──► Site::block_device, …
//! connection point   ──HTTPS, link certificate─► site_link ◄── Site::watch_published
//! ```

mod api;
mod listener;
mod log;
mod site_link;
#[cfg(test)]
mod testing;

pub use api::{BoundOperatorApi, OperatorApi, OperatorApiConfig};
pub use listener::ListenError;
pub use log::COMPONENTS;
pub use site_link::{BoundSiteLink, Links, SiteLink, SiteLinkConfig};
