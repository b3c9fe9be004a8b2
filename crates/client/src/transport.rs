//! One request to a management point: signed, sent, its answer verified.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderMap;
use hyper::ext::ReasonPhrase;
use proto::client_certificate::ProofOf;
use proto::http_signature::{self, Answered, RequestToSign};
use proto::id::{ClientId, Guid};
use proto::path::Door;
use proto::reason::{self, Reason};
use proto::time::Timestamp;
use runtime::Clock;
use runtime::tls::OwnCertificate;

use crate::address::{Address, GatewayAddress};
use crate::credential::pki::Chosen;
use crate::credential::proof;
use crate::failure::{CallError, Refusal, TlsFault};
use crate::identity::Identity;
use crate::log::{field, line};
use crate::state::{SiteTrust, Store};
use crate::tls::{self, Judge, TlsError, TlsTrust};
use crate::token::TokenText;
use crate::trust::{self, AnswerToJudge, Channel, Disbelief, Learned, Pin};

/// As third-party clients of this protocol say [observed].
const USER_AGENT: &str = "ConfigMgr Messaging HTTP Sender";
/// Time for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a whole request: the `Timeout` of a message [observed].
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// Time that a connection is kept for the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read, in bytes: the largest message and room for its envelope.
pub(crate) const ANSWER_BYTES: usize = proto::limits::MESSAGE_BYTES;
/// Longest wait that an answer may ask for.
const RETRY_AFTER: Duration = Duration::from_mins(5);
/// Longest reason phrase that is shown, in characters.
const PHRASE_CHARS: usize = 128;
/// How far a signed answer's time may be from ours before the clock is corrected: an answer takes up to
/// a minute to come, and the site tolerates five.
const SKEW: Duration = Duration::from_mins(2);

/// How a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    CcmPost,
}

impl Method {
    const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::CcmPost => "CCM_POST",
        }
    }
}

/// A request, but for where it goes.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Path and query as the role sees them.
    pub(crate) target: &'a str,
    pub(crate) token: Option<&'a TokenText>,
    pub(crate) body: &'a [u8],
    /// The field's identity headers, where they are needed.
    pub(crate) identity_headers: &'a [(&'static str, String)],
    /// Names the sender once it is registered.
    pub(crate) client: Option<ClientId>,
    /// Whether the receiver may not know our certificate yet.
    pub(crate) shows_certificate: bool,
    /// Whether the connection shows the certificate of the PKI in place of the device's own.
    pub(crate) shows_pki: bool,
    /// The hierarchy for which the certificate of the PKI is proved in headers, where it is.
    pub(crate) proves_pki: Option<Guid>,
    pub(crate) timeout: Duration,
}

/// A believed answer of the site.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
    pub(crate) request_id: Option<String>,
}

/// What the device knows of its site when it sends.
#[derive(Clone, Copy)]
pub(crate) struct Believed<'a> {
    pub(crate) trust: &'a SiteTrust,
    pub(crate) pin: &'a Pin,
    /// Where revocation lists of servers are kept.
    pub(crate) store: &'a dyn Store,
}

/// Connections that show one certificate.
#[derive(Debug)]
struct Clients {
    /// For the inside and for this machine.
    direct: reqwest::Client,
    /// For gateways: by way of the system's proxy, if it has one.
    proxied: reqwest::Client,
}

impl Clients {
    fn new(judge: &Arc<Judge>, own: Option<&OwnCertificate>, clock: &Clock) -> Result<Self, TransportError> {
        let config = tls::config(judge, own, clock).map_err(TransportError::Tls)?;
        let build = |direct: bool| {
            let builder = reqwest::Client::builder()
                .tls_backend_preconfigured((*config).clone())
                .user_agent(USER_AGENT)
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(1)
                .tcp_nodelay(true)
                .http1_only();
            let builder = if direct { builder.no_proxy() } else { builder };
            builder.build().map_err(TransportError::Http)
        };
        Ok(Self { direct: build(true)?, proxied: build(false)? })
    }

    fn for_address(&self, address: &Address) -> &reqwest::Client {
        if address.is_gateway() && !address.is_loopback() { &self.proxied } else { &self.direct }
    }
}

/// Sends for one device. Connections show the device's own certificate, or that of its PKI, and are
/// kept for a while.
#[derive(Debug)]
pub struct Transport {
    identity: Arc<Identity>,
    clock: Clock,
    judge: Arc<Judge>,
    own: Clients,
    /// The certificate of the PKI, while one is used.
    pki: Option<(Chosen, Clients)>,
    /// Connections that show nothing: for those who are not the site.
    bare: OnceLock<Option<Clients>>,
}

/// The transport could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// TLS could not be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] TlsError),
    /// The HTTP client could not be built.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
}

impl Transport {
    /// Sets up sending for the device that has this identity. `skew` is how far its clock is off, in
    /// microseconds, as last heard of the site.
    pub fn new(
        identity: Arc<Identity>,
        trust: TlsTrust<'_>,
        clock: Clock,
        skew: i64,
    ) -> Result<Self, TransportError> {
        let judge = Judge::new(trust, skew).map_err(TransportError::Tls)?;
        let own = Clients::new(&judge, Some(identity.tls()), &clock)?;
        Ok(Self { identity, clock, judge, own, pki: None, bare: OnceLock::new() })
    }

    /// What judges servers.
    pub(crate) fn judge(&self) -> &Judge {
        &self.judge
    }

    /// Now, by the device's clock as the site corrected it.
    pub(crate) fn now(&self) -> Timestamp {
        self.judge.skew.now(&self.clock)
    }

    /// Takes the certificate of the PKI that is to be shown from now on, or none.
    pub(crate) fn use_certificate(&mut self, chosen: Option<Chosen>) -> Result<(), TransportError> {
        let same =
            |chosen: &Chosen| self.pki.as_ref().is_some_and(|(used, _)| used.thumbprint == chosen.thumbprint);
        match chosen {
            None => self.pki = None,
            Some(chosen) if same(&chosen) => {}
            Some(chosen) => {
                let clients = Clients::new(&self.judge, Some(&chosen.own), &self.clock)?;
                self.pki = Some((chosen, clients));
            }
        }
        Ok(())
    }

    /// The certificate of the PKI in use.
    pub(crate) fn certificate(&self) -> Option<&Chosen> {
        self.pki.as_ref().map(|(chosen, _)| chosen)
    }

    /// Connections that show no certificate, for a tenant's authority, a gateway's open page and
    /// distribution points.
    pub(crate) fn bare(&self, is_loopback: bool) -> Option<&reqwest::Client> {
        let made = self.bare.get_or_init(|| Clients::new(&self.judge, None, &self.clock).ok());
        made.as_ref().map(|clients| if is_loopback { &clients.direct } else { &clients.proxied })
    }

    /// Asks a gateway for one of its own pages, which nobody signs: what it says is no fact about the
    /// site.
    pub(crate) async fn open_page(
        &self,
        gateway: &GatewayAddress,
        path: &str,
        token: Option<&TokenText>,
        store: &dyn Store,
    ) -> Result<(u16, Vec<u8>), CallError> {
        let address = Address::Gateway(gateway.clone(), Door::ServerAuth);
        let url = format!("https://{}{path}", gateway.authority());
        let shown = address.to_string();
        let ask = || {
            let request = self.own.for_address(&address).get(&url).timeout(REQUEST_TIMEOUT);
            match token {
                Some(token) => request.bearer_auth(token.expose()).send(),
                None => request.send(),
            }
        };
        let mut sent = ask().await.map_err(|error| network_error(shown.clone(), error));
        if let Err(CallError::Tls { fault: TlsFault::RevocationUnknown, .. }) = &sent
            && let Some(wanted) = self.judge.revocation.take_wanted()
            && let Some(http) = self.bare(address.is_loopback())
        {
            self.judge.revocation.fetch(http, wanted, store, self.now()).await;
            sent = ask().await.map_err(|error| network_error(shown.clone(), error));
        }
        let mut response = sent?;
        let status = response.status().as_u16();
        let body = read_body(&mut response, &shown).await?;
        Ok((status, body))
    }

    /// Signs and sends; believes the answer only with the site's signature. Returns what the
    /// answer taught about the site's certificates besides.
    ///
    /// The request is made a second time (under a new id) when the site has a new message key and has to
    /// be asked for its certificate, when a server's revocation list had to be fetched first, and when
    /// the site's signed answer showed that the device's clock is wrong; once for each cause.
    pub(crate) async fn send(
        &self,
        address: &Address,
        call: &Call<'_>,
        believed: Believed<'_>,
    ) -> Result<(Answer, Learned), CallError> {
        let mut wants_chain = trust::wants_chain(believed.trust);
        let (mut fetched, mut corrected) = (false, false);
        let result = loop {
            let result = self.send_once(address, call, believed, wants_chain).await;
            let Err(error) = &result else { break result };
            match error {
                CallError::NotBelieved { source: Disbelief::UnknownKey, .. } if !wants_chain => {
                    line!(info, ClientAuth, "the site signs with a new key; asking for its certificate");
                    wants_chain = true;
                }
                CallError::Tls { fault: TlsFault::RevocationUnknown, .. } if !fetched => {
                    let (Some(wanted), Some(http)) =
                        (self.judge.revocation.take_wanted(), self.bare(address.is_loopback()))
                    else {
                        break result;
                    };
                    fetched = true;
                    self.judge.revocation.fetch(http, wanted, believed.store, self.now()).await;
                }
                CallError::Refused { refusal, .. }
                    if refusal.signed && refusal.reason == Some(Reason::ClockSkewed) && !corrected =>
                {
                    line!(info, ClientAuth, "asking again with the site's time");
                    corrected = true;
                }
                _ => break result,
            }
        };
        if let Err(error) = &result {
            log_failure(address, call, error);
        }
        result
    }

    async fn send_once(
        &self,
        address: &Address,
        call: &Call<'_>,
        believed: Believed<'_>,
        wants_chain: bool,
    ) -> Result<(Answer, Learned), CallError> {
        let message_id = fresh_guid();
        let headers = self.headers(call, message_id, wants_chain);
        let signature = headers.iter().find(|(name, _)| *name == http_signature::SIGNATURE);
        let signature = signature.map(|(_, value)| value.clone()).unwrap_or_default();
        let answers = Answered { message_id, signature: &signature };
        let url = address.url(call.target);
        let clients = match &self.pki {
            Some((_, clients)) if call.shows_pki => clients,
            _ => &self.own,
        };
        let method = reqwest::Method::from_bytes(call.method.name().as_bytes())
            .expect("both names are tokens as HTTP has them");
        let mut request = clients.for_address(address).request(method, &url).timeout(call.timeout);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if call.method == Method::CcmPost {
            request = request
                .header(http::header::CONTENT_TYPE, proto::message::envelope::CONTENT_TYPE)
                .body(call.body.to_vec());
        }
        let shown = address.to_string();
        let mut response = request.send().await.map_err(|error| network_error(shown.clone(), error))?;
        let status = response.status().as_u16();
        let body = read_body(&mut response, &shown).await?;
        self.judge_answer(address, shown, status, &response, body, answers, believed)
    }

    fn headers(&self, call: &Call<'_>, message_id: Guid, wants_chain: bool) -> Vec<(&'static str, String)> {
        let now = self.now();
        let proof = self.prove_certificate(call, message_id, now);
        let to_sign = RequestToSign {
            method: call.method.name(),
            target: call.target,
            client: call.client,
            message_id,
            token: call.token.map(TokenText::expose),
            client_certificate: &proof,
            body: call.body,
        };
        let sign = |bytes: &[u8]| Ok::<_, std::convert::Infallible>(self.identity.sign(bytes));
        let Ok(mut headers) = to_sign.headers(now, self.identity.thumbprint(), sign);
        if let Some(token) = call.token {
            headers.push(("authorization", format!("Bearer {}", token.expose())));
        }
        // Nobody knows the key of a device that is not registered yet.
        if call.shows_certificate || call.client.is_none() {
            let certificate = http_signature::write_certificates([self.identity.certificate()]);
            headers.push((http_signature::CERTIFICATE, certificate));
        }
        if wants_chain {
            headers.push((http_signature::WANT, "chain".to_owned()));
        }
        headers.extend(proof);
        headers.extend(call.identity_headers.iter().cloned());
        headers
    }

    /// The headers that prove the certificate of the PKI in this message; none where none is to be proved.
    fn prove_certificate(
        &self,
        call: &Call<'_>,
        message_id: Guid,
        created: Timestamp,
    ) -> Vec<http_signature::Header> {
        let (Some(hierarchy), Some((chosen, _))) = (call.proves_pki, &self.pki) else { return Vec::new() };
        let device_key = self.identity.thumbprint();
        let proof = ProofOf { hierarchy, device_key, message_id, created };
        proof::headers(&chosen.own, proof).unwrap_or_else(|error| {
            let error = runtime::telemetry::Chain(&error);
            line!(warn, ClientAuth, thumbprint = %chosen.thumbprint, %error, "the certificate could not be proved");
            Vec::new()
        })
    }

    #[expect(clippy::too_many_arguments, reason = "one answer, in the pieces that reqwest hands out")]
    fn judge_answer(
        &self,
        address: &Address,
        shown: String,
        status: u16,
        response: &reqwest::Response,
        body: Vec<u8>,
        answers: Answered<'_>,
        believed: Believed<'_>,
    ) -> Result<(Answer, Learned), CallError> {
        let header = |name: &str| text_header(response.headers(), name);
        let to_judge = AnswerToJudge { status, answers, header, body: &body, channel: self.channel(address) };
        let verdict = trust::judge_answer(believed.trust, believed.pin, &to_judge, self.now());
        if verdict.is_ok() {
            self.correct_clock(trust::answer_created(header));
        }
        let reason = header(reason::HEADER).and_then(|text| text.parse().ok());
        let is_good = (200..300).contains(&status);
        if !is_good || reason.is_some() {
            let refusal = Refusal {
                status,
                phrase: phrase(response),
                reason,
                request_id: header(reason::REQUEST_ID_HEADER).and_then(|text| text.parse().ok()),
                signed: verdict.is_ok(),
                retry_after: retry_after(response.headers()),
            };
            return Err(CallError::Refused { address: shown, refusal });
        }
        match verdict {
            Ok(learned) => {
                let content_type = header("content-type").unwrap_or_default().to_owned();
                let request_id = header(reason::REQUEST_ID_HEADER).map(str::to_owned);
                Ok((Answer { content_type, body, request_id }, learned))
            }
            Err(source) => Err(CallError::NotBelieved { address: shown, source }),
        }
    }

    /// Corrects the clock by the time of an answer that the site signed. Nobody else's time counts: a
    /// stranger could make old tokens good again with it.
    fn correct_clock(&self, created: Option<Timestamp>) {
        let Some(created) = created else { return };
        let now = self.now();
        if now.distance(created) <= SKEW {
            return;
        }
        let off = created.micros().saturating_sub(now.micros());
        let skew = self.judge.skew.micros().saturating_add(off);
        self.judge.skew.set(skew);
        line!(
            warn,
            ClientAuth,
            seconds = -skew / 1_000_000,
            "this device's clock differs from the site's; the site's time is used"
        );
    }

    /// Who vouched for the connection to this address.
    fn channel(&self, address: &Address) -> Channel {
        if !address.is_tls() {
            return Channel::Plain;
        }
        // A resumed session was judged by the full handshake that it resumes.
        self.judge.verdicts.of(address.host()).unwrap_or(Channel::Plain)
    }
}

async fn read_body(response: &mut reqwest::Response, address: &str) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| network_error(address.to_owned(), error))?
    {
        if body.len() + chunk.len() > ANSWER_BYTES {
            return Err(CallError::TooLarge { address: address.to_owned(), limit: ANSWER_BYTES });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn text_header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The reason phrase as it came, else the usual one for the status.
fn phrase(response: &reqwest::Response) -> String {
    let given = response.extensions().get::<ReasonPhrase>();
    let text = match given {
        Some(phrase) => String::from_utf8_lossy(phrase.as_bytes()).into_owned(),
        None => response.status().canonical_reason().unwrap_or_default().to_owned(),
    };
    text.chars().filter(|c| !c.is_control()).take(PHRASE_CHARS).collect()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = text_header(headers, "retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER))
}

fn network_error(address: String, error: reqwest::Error) -> CallError {
    // The address is told by us; the URL of a policy body would only be noise.
    let source = error.without_url();
    if let Some(fault) = TlsFault::find(&source) {
        CallError::Tls { address, fault, source }
    } else if source.is_timeout() {
        CallError::TimedOut { address, source }
    } else if is_name_error(&source) {
        CallError::NameNotResolved { address, source }
    } else if source.is_connect() {
        CallError::CannotConnect { address, source }
    } else {
        CallError::Broken { address, source }
    }
}

fn is_name_error(error: &reqwest::Error) -> bool {
    error.is_dns()
}

/// A fresh random GUID.
pub(crate) fn fresh_guid() -> Guid {
    let mut bytes = [0; 16];
    runtime::id::fill(&mut bytes);
    Guid::from_random(bytes)
}

/// The field's lines about a failed request.
fn log_failure(address: &Address, call: &Call<'_>, error: &CallError) {
    let url = address.url(call.target);
    let verb = if call.method == Method::Get { "Get from" } else { "Post to" };
    match error {
        CallError::Tls { fault, .. } => {
            field!(warn, CcmMessaging, "WINHTTP_CALLBACK_STATUS_SECURE_FAILURE Encountered");
            field!(warn, CcmMessaging, "dwStatusInformationLength is 4");
            field!(warn, CcmMessaging, "lpvStatusInformation is {:#x}", fault.value());
            field!(warn, CcmMessaging, "{} is set", fault.flag());
            line!(warn, CcmMessaging, fix = fault.fix(), "{}", fault.cause());
        }
        CallError::Refused { refusal, .. } => {
            let (status, phrase) = (refusal.status, &refusal.phrase);
            field!(
                warn,
                CcmMessaging,
                "[CCMHTTP] ERROR: URL={url}, Port={}, Options=480, Code=0, Text=CCM_E_BAD_HTTP_STATUS_CODE",
                address.port()
            );
            field!(warn, CcmMessaging, "[CCMHTTP] ERROR INFO: StatusCode={status} StatusText={phrase}");
            let reason = refusal.reason.map(|reason| reason.to_string()).unwrap_or_default();
            let request_id = refusal.request_id.map(|id| id.to_string()).unwrap_or_default();
            line!(warn, CcmMessaging, reason, request_id, signed = refusal.signed, "request refused");
        }
        _ => {}
    }
    field!(warn, CcmMessaging, "{verb} {url} failed with {}.", error.hresult());
    let error_chain = runtime::telemetry::Chain(error);
    line!(warn, CcmMessaging, error = %error_chain, "request failed");
    field!(
        warn,
        LocationServices,
        "Successfully queued event on HTTP/HTTPS failure for server '{}'.",
        address.authority()
    );
}
