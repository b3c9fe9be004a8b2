//! One signed-in asker of one service.

use std::time::Duration;

use http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;

use super::error::GraphError;
use super::listing::Listing;
use super::object::{Device, Listed, User};
use super::sign_in::sign_in;
use crate::outbound::{Answer, FetchError, Outbound};

/// Time for one page.
const TIME: Duration = Duration::from_mins(1);
/// Largest page: 999 entries have less than a megabyte.
const PAGE_BYTES: usize = 16 * 1024 * 1024;
/// Longest wait within a run when the service asks for one; for longer ones the run ends.
const SHORT_WAIT: Duration = Duration::from_mins(2);
/// Waits of one run.
const WAITS: u32 = 20;
/// Wait where the service asks for one and names no time.
const USUAL_WAIT: Duration = Duration::from_secs(30);

/// Where users and devices of a tenant are listed, and by whom.
#[derive(Debug, Clone)]
pub struct GraphSource {
    /// Where the app signs in.
    pub authority: String,
    /// The service: `https://graph.microsoft.com`, with or without `/v1.0`.
    pub graph_url: String,
    /// The app.
    pub app_id: String,
    /// Its secret.
    pub secret: SecretString,
}

/// A signed-in app.
#[derive(Debug)]
pub struct GraphClient {
    outbound: Outbound,
    source: GraphSource,
    /// `https://host[:port]`: where links may lead, and what the token is for.
    origin: String,
    token: SecretString,
    waits: u32,
}

impl GraphClient {
    /// Signs in.
    pub async fn sign_in(outbound: Outbound, source: GraphSource) -> Result<Self, GraphError> {
        let origin = origin(&source.graph_url)
            .ok_or_else(|| no_answer("users", FetchError::Address("it must begin with https://")))?;
        let token = sign_in(&outbound, &source, &origin).await?;
        Ok(Self { outbound, source, origin, token, waits: 0 })
    }

    /// Lists users: all of them, or what changed since a link.
    pub fn users(&mut self, since: Option<&str>) -> Result<Listing<'_, User>, GraphError> {
        Listing::begin(self, since)
    }

    /// Lists devices likewise.
    pub fn devices(&mut self, since: Option<&str>) -> Result<Listing<'_, Device>, GraphError> {
        Listing::begin(self, since)
    }

    /// The address of a whole list, below the address that the operator gave.
    pub(super) fn first<T: Listed>(&self) -> String {
        let mut url = format!("{}{}?%24select=", self.origin, T::PATH);
        super::sign_in::encode(T::SELECT, &mut url);
        url
    }

    /// Whether a link stays with the service.
    pub(super) fn is_ours(&self, link: &str) -> bool {
        origin(link).is_some_and(|origin| origin == self.origin)
    }

    /// One page. Signs in anew when the token has ended in the middle of a long list, and waits
    /// where the service asks for a short while.
    pub(super) async fn page<T: Listed>(&mut self, url: &str) -> Result<Answer, GraphError> {
        let mut renewed = false;
        loop {
            let answer = self.outbound.get_as(url, &self.token, PAGE_BYTES, TIME).await;
            let answer = answer.map_err(|source| no_answer(T::WHAT, source))?;
            match answer.status {
                StatusCode::OK => return Ok(answer),
                StatusCode::UNAUTHORIZED if !renewed => {
                    renewed = true;
                    self.token = sign_in(&self.outbound, &self.source, &self.origin).await?;
                }
                StatusCode::UNAUTHORIZED => return Err(GraphError::Token),
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => {
                    let wait = answer.retry_after.unwrap_or(USUAL_WAIT);
                    if wait > SHORT_WAIT || self.waits >= WAITS {
                        return Err(GraphError::Throttled { what: T::WHAT, wait });
                    }
                    self.waits += 1;
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(refusal::<T>(&answer)),
            }
        }
    }
}

fn no_answer(what: &'static str, source: FetchError) -> GraphError {
    GraphError::Fetch { what, source }
}

#[derive(Deserialize, Default)]
struct Refused {
    #[serde(default)]
    error: Reason,
}

#[derive(Deserialize, Default)]
struct Reason {
    #[serde(default)]
    code: String,
}

fn refusal<T: Listed>(answer: &Answer) -> GraphError {
    let refused: Refused = serde_json::from_slice(&answer.body).unwrap_or_default();
    let code: String = refused.error.code.chars().filter(char::is_ascii_graphic).take(60).collect();
    let forgotten = ["resyncRequired", "syncStateNotFound", "syncStateInvalid"];
    if answer.status == StatusCode::GONE || forgotten.iter().any(|name| code.eq_ignore_ascii_case(name)) {
        return GraphError::Resync;
    }
    if answer.status == StatusCode::FORBIDDEN && code == "Authorization_RequestDenied" {
        return GraphError::Consent { what: T::WHAT, permission: T::PERMISSION };
    }
    GraphError::Refused { what: T::WHAT, status: answer.status.as_u16(), code }
}

/// `https://host[:port]` of an address; `None` unless it is asked over TLS.
fn origin(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok()?;
    (url.scheme() == "https").then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_an_address_is_that_of_its_server() {
        assert_eq!(origin("https://graph.example/v1.0/").as_deref(), Some("https://graph.example"));
        assert_eq!(origin("https://GRAPH.example:443").as_deref(), Some("https://graph.example"));
        assert_eq!(origin("https://h:8443/x?y").as_deref(), Some("https://h:8443"));
        assert_eq!(origin("http://graph.example"), None);
        assert_ne!(origin("https://graph.example@evil.example/"), origin("https://graph.example"));
    }

    #[test]
    fn refusals_are_told_apart() {
        let of = |status: u16, body: &str| {
            refusal::<User>(&Answer {
                host: "h".to_owned(),
                status: StatusCode::from_u16(status).unwrap(),
                retry_after: None,
                is_html: false,
                body: body.as_bytes().to_vec().into(),
            })
        };
        let denied = of(403, r#"{"error":{"code":"Authorization_RequestDenied"}}"#);
        assert!(denied.to_string().contains("Directory.Read.All"), "{denied}");
        assert!(matches!(of(410, ""), GraphError::Resync));
        assert!(matches!(of(400, r#"{"error":{"code":"SyncStateNotFound"}}"#), GraphError::Resync));
        let other = of(500, "<html>").to_string();
        assert_eq!(other, "users not listed: the service answered 500 ");
    }
}
