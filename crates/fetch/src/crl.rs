//! Revocation lists from where they are published.
//!
//! Only their bytes: whether a list is what it should be, its issuer's signature decides, at the
//! site (R6). So plain HTTP is good enough, which is how lists are usually published.

use std::time::Duration;

use bytes::Bytes;
use proto::limits::CRL_BYTES;
use runtime::Clock;

use crate::outbound::{FetchError, Outbound, OutboundError, Proxies};

/// Time for one list: its greatest size over a slow line.
pub const TIME: Duration = Duration::from_mins(2);

/// A list was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum CrlFetchError {
    /// The way out could not be set up.
    #[error("revocation list not fetched")]
    Outbound(#[from] OutboundError),
    /// No answer, or not in a way that can be used.
    #[error("revocation list not fetched")]
    Fetch(#[from] FetchError),
    /// A page for people.
    #[error("a web page came where a revocation list should be")]
    Page,
}

/// Fetches the list at `url`, `http:` or `https:`, in at most `time`: usually [`TIME`]. No redirect
/// is followed.
pub async fn fetch(
    clock: &Clock,
    proxies: Proxies,
    url: &str,
    time: Duration,
) -> Result<Bytes, CrlFetchError> {
    let plain = url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let outbound = if plain { Outbound::plain(proxies)? } else { Outbound::new(clock, None, proxies)? };
    let answer = outbound.get(url, CRL_BYTES, time).await?;
    let says_html = answer.is_html;
    let body = answer.ok()?;
    // A list in DER begins with 0x30, one in PEM with a dash or with text before it.
    if says_html || body.trim_ascii_start().starts_with(b"<") {
        return Err(CrlFetchError::Page);
    }
    Ok(body)
}
