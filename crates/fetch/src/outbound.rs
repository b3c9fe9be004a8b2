//! The one way out over HTTP: verified TLS, no redirect followed, bytes and time bounded.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Url};
use runtime::Clock;
use runtime::tls::{ClientTls, TlsSetupError, provider};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls_platform_verifier::Verifier;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// Time for a connection with its handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest `Retry-After` that is believed.
const LONGEST_WAIT: Duration = Duration::from_hours(6);

/// Whether requests go through the system's proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proxies {
    /// As the system says.
    #[default]
    System,
    /// Never.
    None,
}

/// TLS for a source could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The authorities that an operator gave are damaged.
    #[error("the certificates given for this source cannot be read")]
    Authorities(#[source] pem::Error),
    /// One of them is no certificate, or the system has none and none were given.
    #[error("the trusted certificates for this source cannot be used")]
    Trust(#[source] rustls::Error),
    /// TLS.
    #[error("TLS for this source cannot be set up")]
    Tls(#[from] TlsSetupError),
    /// The HTTP client.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// A source did not answer, or not in a way that can be used.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an address of the kind that is asked.
    #[error("the address is not usable: {0}")]
    Address(&'static str),
    /// No connection, no handshake, or it broke.
    #[error("{host} was not reached")]
    Unreachable {
        /// The host.
        host: String,
        /// What happened. Its address is left out: queries may hold what nobody should read.
        source: reqwest::Error,
    },
    /// It did not answer in time.
    #[error("{host} did not answer within {seconds} seconds")]
    TimedOut {
        /// The host.
        host: String,
        /// The time it had.
        seconds: u64,
    },
    /// It points elsewhere, where nobody sent us.
    #[error("{host} answered with a redirect ({status}), which is not followed")]
    Redirect {
        /// The host.
        host: String,
        /// The status.
        status: StatusCode,
    },
    /// Another status than the one that was expected.
    #[error("{host} answered {status}")]
    Status {
        /// The host.
        host: String,
        /// The status.
        status: StatusCode,
    },
    /// More bytes than are read.
    #[error("{host} sent more than {limit} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// What is read at most.
        limit: usize,
    },
}

/// What a source answered.
#[derive(Debug)]
pub struct Answer {
    /// The host that was asked, for messages.
    pub host: String,
    /// Not a redirect.
    pub status: StatusCode,
    /// How long it asks to wait, at most six hours.
    pub retry_after: Option<Duration>,
    /// Whether it says that the body is a page for people.
    pub is_html: bool,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body of a 200.
    pub fn ok(self) -> Result<Bytes, FetchError> {
        match self.status {
            StatusCode::OK => Ok(self.body),
            status => Err(FetchError::Status { host: self.host, status }),
        }
    }
}

/// The TLS of a source: the system's authorities, and those that an operator gave in `ca_pem`.
/// Certificates are judged by `clock`.
pub(crate) fn tls(clock: &Clock, ca_pem: Option<&str>) -> Result<Arc<ClientConfig>, OutboundError> {
    let given = ca_pem.unwrap_or_default().as_bytes();
    let given: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(given)
        .collect::<Result<_, _>>()
        .map_err(OutboundError::Authorities)?;
    let verifier = Verifier::new_with_extra_roots(given, provider()).map_err(OutboundError::Trust)?;
    Ok(ClientTls::with_verifier(clock.clone(), Arc::new(verifier)).alpn(["http/1.1"]).build()?)
}

/// Asks one source.
#[derive(Debug, Clone)]
pub struct Outbound {
    client: Client,
    /// The one scheme that it asks: `https`, or `http` for what is signed by itself.
    scheme: &'static str,
}

impl Outbound {
    /// Over TLS only.
    pub fn new(clock: &Clock, ca_pem: Option<&str>, proxies: Proxies) -> Result<Self, OutboundError> {
        let tls = tls(clock, ca_pem)?;
        let builder = builder(proxies).tls_backend_preconfigured((*tls).clone());
        Ok(Self { client: builder.build().map_err(OutboundError::Client)?, scheme: "https" })
    }

    /// Over plain HTTP only, which needs no authorities. For revocation lists: they are signed, and
    /// are fetched by those who have yet to judge a certificate.
    pub fn plain(proxies: Proxies) -> Result<Self, OutboundError> {
        let builder = builder(proxies).tls_certs_only([]);
        Ok(Self { client: builder.build().map_err(OutboundError::Client)?, scheme: "http" })
    }

    /// `GET`, with at most `limit` bytes in at most `time`.
    pub async fn get(&self, url: &str, limit: usize, time: Duration) -> Result<Answer, FetchError> {
        self.send(Method::GET, url, None, None, limit, time).await
    }

    /// The same with a bearer token.
    pub(crate) async fn get_as(
        &self,
        url: &str,
        token: &SecretString,
        limit: usize,
        time: Duration,
    ) -> Result<Answer, FetchError> {
        self.send(Method::GET, url, Some(token), None, limit, time).await
    }

    /// `POST` of a form.
    pub(crate) async fn post_form(
        &self,
        url: &str,
        form: &SecretString,
        limit: usize,
        time: Duration,
    ) -> Result<Answer, FetchError> {
        self.send(Method::POST, url, None, Some(form), limit, time).await
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        token: Option<&SecretString>,
        form: Option<&SecretString>,
        limit: usize,
        time: Duration,
    ) -> Result<Answer, FetchError> {
        let url = self.address(url)?;
        let host = host(&url);
        let mut request = self.client.request(method, url);
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
            let mut value = value.map_err(|_| FetchError::Address("the token cannot stand in a header"))?;
            value.set_sensitive(true);
            request = request.header(http::header::AUTHORIZATION, value);
        }
        if let Some(form) = form {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            request = request.body(form.expose_secret().to_owned());
        }
        let answer = tokio::time::timeout(time, receive(request, &host, limit)).await;
        answer.unwrap_or_else(|_| Err(FetchError::TimedOut { host, seconds: time.as_secs() }))
    }

    fn address(&self, text: &str) -> Result<Url, FetchError> {
        let url = Url::parse(text).map_err(|_| FetchError::Address("it is no URL"))?;
        if url.scheme() != self.scheme {
            return Err(FetchError::Address(match self.scheme {
                "https" => "it must begin with https://",
                _ => "it must begin with http://",
            }));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Address("it holds a name or password"));
        }
        Ok(url)
    }
}

fn builder(proxies: Proxies) -> ClientBuilder {
    let builder = Client::builder()
        .http1_only()
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(CONNECT)
        .pool_max_idle_per_host(1)
        .user_agent(concat!("Roamgate/", env!("CARGO_PKG_VERSION")));
    match proxies {
        Proxies::System => builder,
        Proxies::None => builder.no_proxy(),
    }
}

async fn receive(request: reqwest::RequestBuilder, host: &str, limit: usize) -> Result<Answer, FetchError> {
    let unreachable = |error: reqwest::Error| {
        if error.is_timeout() {
            return FetchError::TimedOut { host: host.to_owned(), seconds: CONNECT.as_secs() };
        }
        FetchError::Unreachable { host: host.to_owned(), source: error.without_url() }
    };
    let too_large = || FetchError::TooLarge { host: host.to_owned(), limit };
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    if status.is_redirection() && response.headers().contains_key(LOCATION) {
        return Err(FetchError::Redirect { host: host.to_owned(), status });
    }
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let (retry_after, is_html) = (retry_after(response.headers()), is_html(response.headers()));
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(unreachable)? {
        if piece.len() > limit - body.len() {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer { host: host.to_owned(), status, retry_after, is_html, body: body.into() })
}

/// The host and port of an address, for messages.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("nowhere");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// `Retry-After` in seconds; the form with a date is passed over.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("text/html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_of_the_right_kind_are_asked() {
        let plain = Outbound::plain(Proxies::None).unwrap();
        let strict = Outbound { scheme: "https", ..plain.clone() };
        assert!(strict.address("https://h/x").is_ok() && plain.address("http://h/x").is_ok());
        for wrong in
            ["http://h/x", "ldap://h/x", "file:///etc/passwd", "h/x", "https://a:b@h/", "https://a@h/"]
        {
            assert!(strict.address(wrong).is_err(), "{wrong}");
        }
        assert!(plain.address("ldap://h/x").is_err() && plain.address("https://h/x").is_err());
    }

    #[test]
    fn a_wish_to_wait_is_read_and_bounded() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(of("17"), Some(Duration::from_secs(17)));
        assert_eq!(of("999999999"), Some(LONGEST_WAIT));
        assert_eq!(of("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
