//! A management point on loopback, plain for the inside and behind TLS as a gateway shows it.
//! It checks what the real ones check of a request, and can be told to misbehave.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use proto::client_certificate::{self, ProofError};
use proto::entra::AuthInfo;
use proto::http_signature::{self, Answered, SignedRequest};
use proto::id::{ClientId, Guid, Thumbprint};
use proto::message::body::RequestBody;
use proto::message::envelope::CONTENT_TYPE;
use proto::message::header::Property;
use proto::message::{
    HeaderIdentity, MessageEndpoint, ReplyMessage, ReplyStamp, RequestMessage, RsaPublicKey,
};
use proto::path::Door;
use proto::policy_signature::PolicyResource;
use proto::reason::Reason;
use proto::request::location::management_point::{MpRecord, MpRequestType};
use proto::request::location::{Capability, EnumerateMpLocationReply, LocationRequest};
use proto::request::policy::{PolicyFlags, ResourceType};
use proto::request::policy_query::PolicyQuery;
use proto::request::registration::{
    ApprovalStatus, ClientRegistrationResponse, CloudGateway, RegistrationKind, RegistrationStatus,
};
use proto::request::report::Report;
use proto::time::Timestamp;
use proto::token::TokenClass;
use runtime::http::{HttpOptions, read_body, serve, set_reason};
use runtime::listen::{AcceptOptions, bind, serve_plain, serve_tls};
use runtime::tls::{ClientCertificates, OwnCertificate, ServerCertificate, ServerTls};
use runtime::{Clock, Drain};
use tokio::net::TcpListener;

use super::{PolicyFixture, SiteKeys, fixture_client_id, gateway_certificate};
use crate::address::{GatewayAddress, InsideAddress};
use crate::credential::entra::Claims;
use crate::token::read_claims;
use crate::token::tests::{HIERARCHY, text_of};
use crate::transport::fresh_guid;

/// How the site misbehaves, or refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not at all.
    None,
    /// Answers without a signature.
    Unsigned,
    /// Answers with another site's signature.
    OtherSite,
    /// Answers with a signature over another body.
    Altered,
    /// Refuses as a management point does: 200, empty, with a reason, signed.
    RefusedInside(Reason),
    /// Refuses as a gateway does: status and phrase of the reason, not signed.
    RefusedOnTheWay(Reason),
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) through_gateway: bool,
    /// The door, and the certificate that the connection showed.
    pub(crate) door: Option<Door>,
    pub(crate) shown: Option<Thumbprint>,
    /// A tenant's token: the device's or a user's.
    pub(crate) entra: Option<Claims>,
    pub(crate) target: String,
    pub(crate) token: Option<TokenClass>,
    pub(crate) endpoint: Option<MessageEndpoint>,
}

/// Whether something is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    No,
}

/// What gets through. What does not is answered as by the login page of a hotel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) inside: bool,
    pub(crate) gateway: bool,
}

/// What the site knows and does.
pub(crate) struct Site {
    pub(crate) fault: Fault,
    pub(crate) approved: bool,
    pub(crate) serial: u64,
    pub(crate) policies: Vec<PolicyFixture>,
    /// To whom policy is addressed.
    pub(crate) policy_for: ClientId,
    /// What location answers name.
    pub(crate) gateways: Vec<String>,
    /// Whether bodies are served with a byte changed.
    pub(crate) damages_bodies: bool,
    pub(crate) certificate: Option<Vec<u8>>,
    /// The certificate of the PKI that a registration proved.
    pub(crate) pki: Option<Thumbprint>,
    /// How the MutualAuth door refuses.
    pub(crate) mutual_auth: Option<Reason>,
    /// Properties of the last registration.
    pub(crate) properties: Vec<Property>,
    /// What a gateway says about a tenant.
    pub(crate) auth_info: Option<AuthInfo>,
    /// How requests for user policy are refused.
    pub(crate) user_policy_refused: Option<Reason>,
    /// The user for whom it gave a token last, and whose policy it gives.
    pub(crate) user: Option<Guid>,
    pub(crate) reach: Reach,
    /// What answers to registrations say of gateways.
    pub(crate) cloud_gateway: Option<CloudGateway>,
    /// What location answers name inside, and its `SSLState`.
    pub(crate) named_inside: Vec<(String, u32)>,
    /// How often the gateway was asked which roles it serves.
    pub(crate) metadata_asked: u32,
    /// Whether confirmations are taken; else they are refused as by one who is busy.
    pub(crate) confirms: Taken,
    /// Tokens that the gateway does not take.
    pub(crate) refused_tokens: Vec<String>,
    /// The CCM token that was given for a token of the tenant, which is off by now.
    pub(crate) tenant_off: Option<String>,
    pub(crate) reports: Vec<Report>,
    pub(crate) seen: Vec<Seen>,
}

/// A site with one management point and one gateway.
pub(crate) struct FakeSite {
    pub(crate) keys: &'static SiteKeys,
    pub(crate) ca: String,
    site: Arc<Mutex<Site>>,
    inside: SocketAddr,
    gateway: SocketAddr,
    inside_drain: Drain,
    gateway_drain: Drain,
}

impl FakeSite {
    pub(crate) fn start(clock: &Clock) -> Self {
        let (ca, certificate) = gateway_certificate();
        Self::start_with(clock, ca, certificate)
    }

    /// With a gateway that shows this certificate, under this root.
    pub(crate) fn start_with(clock: &Clock, ca: String, certificate: OwnCertificate) -> Self {
        let site = Arc::new(Mutex::new(Site {
            fault: Fault::None,
            approved: true,
            serial: 1,
            policies: Vec::new(),
            policy_for: fixture_client_id(),
            gateways: Vec::new(),
            damages_bodies: false,
            certificate: None,
            pki: None,
            mutual_auth: None,
            properties: Vec::new(),
            auth_info: None,
            user_policy_refused: None,
            user: None,
            reach: Reach { inside: true, gateway: true },
            cloud_gateway: None,
            named_inside: Vec::new(),
            metadata_asked: 0,
            confirms: Taken::Yes,
            refused_tokens: Vec::new(),
            tenant_off: None,
            reports: Vec::new(),
            seen: Vec::new(),
        }));
        let (inside_drain, gateway_drain) = (Drain::new(), Drain::new());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listen = || {
            let listener = bind(any).unwrap();
            TcpListener::from_std(listener).unwrap()
        };
        let (plain, tls) = (listen(), listen());
        let addresses = (plain.local_addr().unwrap(), tls.local_addr().unwrap());
        let handler = |drain: &Drain, gateway: bool| {
            let (site, clock, drain) = (Arc::clone(&site), clock.clone(), drain.clone());
            move |shown: Option<Thumbprint>| {
                let (site, clock, drain) = (Arc::clone(&site), clock.clone(), drain.clone());
                let come = Come { gateway, shown };
                move |request| answer(Arc::clone(&site), clock.clone(), drain.clone(), come, request)
            }
        };
        let inside = handler(&inside_drain, false);
        let drain = inside_drain.clone();
        tokio::spawn(serve_plain(plain, AcceptOptions::new(100), inside_drain.clone(), move |stream, _| {
            let (inside, drain) = (inside.clone(), drain.clone());
            async move {
                let _ = serve(stream, &HttpOptions::default(), &drain, service_fn(inside(None))).await;
            }
        }));
        let shown = Arc::new(ServerCertificate::new(certificate));
        let config = ServerTls::new(clock.clone(), shown)
            .client_certificates(ClientCertificates::ProveKeyOnly)
            .alpn(["http/1.1"])
            .build()
            .unwrap();
        let outside = handler(&gateway_drain, true);
        let drain = gateway_drain.clone();
        tokio::spawn(serve_tls(
            tls,
            config,
            AcceptOptions::new(100),
            gateway_drain.clone(),
            move |stream, _| {
                let (outside, drain) = (outside.clone(), drain.clone());
                async move {
                    let chain = stream.get_ref().1.peer_certificates();
                    let shown = chain.and_then(|chain| chain.first()).map(|leaf| Thumbprint::of(leaf));
                    assert!(shown.is_some(), "the client shows a certificate");
                    let _ = serve(stream, &HttpOptions::default(), &drain, service_fn(outside(shown))).await;
                }
            },
        ));
        let keys = SiteKeys::shared();
        Self { keys, ca, site, inside: addresses.0, gateway: addresses.1, inside_drain, gateway_drain }
    }

    pub(crate) fn site(&self) -> MutexGuard<'_, Site> {
        self.site.lock().unwrap()
    }

    pub(crate) fn inside(&self) -> InsideAddress {
        format!("http://{}", self.inside).parse().unwrap()
    }

    pub(crate) fn gateway(&self) -> GatewayAddress {
        format!("localhost:{}/CCM_Proxy_MutualAuth/7", self.gateway.port()).parse().unwrap()
    }

    /// Moves the device: which of inside and gateway gets through from now on.
    pub(crate) fn reach(&self, inside: bool, gateway: bool) {
        self.site().reach = Reach { inside, gateway };
    }

    /// Takes the inside away, as when a device is unplugged.
    pub(crate) fn unplug_inside(&self) {
        self.inside_drain.begin(Duration::ZERO);
    }

    pub(crate) fn stop_gateway(&self) {
        self.gateway_drain.begin(Duration::ZERO);
    }

    /// What was asked since the last time.
    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.site().seen)
    }
}

type Reply = Response<reqwest::Body>;

/// How a request came.
#[derive(Clone, Copy)]
struct Come {
    gateway: bool,
    shown: Option<Thumbprint>,
}

async fn answer(
    site: Arc<Mutex<Site>>,
    clock: Clock,
    drain: Drain,
    come: Come,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let gateway = come.gateway;
    let (parts, body) = request.into_parts();
    let body = read_body(body, 5 << 20, Duration::from_secs(10)).await.unwrap();
    // A connection that outlives its listener is as dead as the listener.
    if drain.has_started() {
        return Ok(plain(StatusCode::SERVICE_UNAVAILABLE));
    }
    let open = {
        let site = site.lock().unwrap();
        if gateway { site.reach.gateway } else { site.reach.inside }
    };
    if !open {
        return Ok(plain(StatusCode::FORBIDDEN));
    }
    let now = Timestamp::from_micros(clock.now());
    let full = parts.uri.path_and_query().unwrap().as_str();
    if let Some(query) = full.strip_prefix("/CCM_Proxy_ServerAuth/AADAuthInfo?TenantID=") {
        let info = site.lock().unwrap().auth_info.clone();
        let info = info.filter(|info| info.tenant.to_string() == query);
        return Ok(info.map_or_else(
            || plain(StatusCode::NOT_FOUND),
            |info| Response::new(reqwest::Body::from(serde_json::to_string(&info).unwrap())),
        ));
    }
    if full == "/CCM_Proxy_ServerAuth/ServiceMetadata" {
        assert!(parts.headers.contains_key("authorization"), "the page is for those who show a token");
        site.lock().unwrap().metadata_asked += 1;
        let page = r#"{"site_code":"RG1","gateway":"gw","snapshot_version":1,"roles":[{"role_id":"7","name":"mp"}]}"#;
        return Ok(Response::new(reqwest::Body::from(page)));
    }
    let doors = [Door::ServerAuth, Door::MutualAuth];
    let door = doors.into_iter().find(|door| full.starts_with(&format!("/{door}/7/")));
    let target = match door {
        Some(door) if gateway => full.strip_prefix(&format!("/{door}/7")).unwrap(),
        _ => full,
    };
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let token = header("authorization").and_then(proto::identity::bearer);
    let class = token.and_then(|token| read_claims(token).ok()).map(|claims| claims.class);
    let entra = token.filter(|_| class.is_none()).and_then(Claims::read);
    let signed =
        SignedRequest::parse(parts.method.as_str(), target, header).unwrap().expect("requests are signed");
    let shown =
        header(http_signature::CERTIFICATE).map(|text| http_signature::read_certificates(text).unwrap());
    let mut site = site.lock().unwrap();
    let certificate = shown.map(|chain| chain[0].clone()).or_else(|| site.certificate.clone()).unwrap();
    signed.verify(&certificate, token, &body).expect("and their signature fits");
    if door == Some(Door::ServerAuth) {
        assert_eq!(come.shown, Some(Thumbprint::of(&certificate)), "a token goes with its own key");
    }
    let proof =
        client_certificate::verify(header, HIERARCHY.parse().unwrap(), signed.key, signed.message_id, now);
    match proof {
        Ok(chain) => site.pki = Some(Thumbprint::of(&chain[0])),
        Err(ProofError::Missing) => {}
        Err(error) => panic!("{error}"),
    }
    let message = (parts.method.as_str() == "CCM_POST").then(|| {
        assert_eq!(header("content-type"), Some(CONTENT_TYPE));
        RequestMessage::parse(CONTENT_TYPE, &body).unwrap()
    });
    let endpoint = message.as_ref().map(|message| message.header().endpoint().unwrap());
    site.seen.push(Seen {
        through_gateway: gateway,
        door,
        shown: come.shown,
        entra: entra.clone(),
        target: target.to_owned(),
        token: class,
        endpoint,
    });
    check_token(door, target, class, entra.is_some());

    let at_the_door = site.mutual_auth.filter(|_| door == Some(Door::MutualAuth));
    let on_the_way = match site.fault {
        Fault::RefusedOnTheWay(reason) => Some(reason),
        _ if token.is_some_and(|token| site.refused_tokens.iter().any(|refused| refused == token)) => {
            Some(Reason::TokenNotAccepted)
        }
        _ if site.tenant_off.as_deref().is_some_and(|off| entra.is_some() || token == Some(off)) => {
            Some(Reason::TenantDisabled)
        }
        _ => at_the_door,
    };
    if let Some(reason) = on_the_way {
        let mut reply = plain(StatusCode::from_u16(reason.row().status).unwrap());
        if let Some(phrase) = reason.row().phrase {
            set_reason(&mut reply, phrase).unwrap();
        }
        reply.headers_mut().insert(proto::reason::HEADER, reason.to_string().parse().unwrap());
        let id = fresh_guid().to_string();
        reply.headers_mut().insert(proto::reason::REQUEST_ID_HEADER, id.parse().unwrap());
        return Ok(reply);
    }
    let (status, content_type, body, reason) = if let Fault::RefusedInside(reason) = site.fault {
        (200, None, Vec::new(), Some(reason.to_string()))
    } else if now.distance(signed.created) > Duration::from_mins(5) {
        (200, None, Vec::new(), Some(Reason::ClockSkewed.to_string()))
    } else if let Some(reason) = site.user_policy_refused.filter(|_| class == Some(TokenClass::User)) {
        (200, None, Vec::new(), Some(reason.to_string()))
    } else {
        let given = Given { class, entra, token };
        let (status, content_type, body) = content(&mut site, target, &given, message, &header, now);
        (status, content_type, body, None)
    };
    let chain = header(http_signature::WANT) == Some("chain");
    let other = SiteKeys::new;
    let answers = Answered {
        message_id: signed.message_id,
        signature: header(http_signature::SIGNATURE).unwrap_or_default(),
    };
    let headers = match site.fault {
        Fault::Unsigned => Vec::new(),
        Fault::OtherSite => other().sign_answer(status, answers, None, &body, true, now),
        Fault::Altered => SiteKeys::shared().sign_answer(status, answers, None, b"other", chain, now),
        _ => SiteKeys::shared().sign_answer(status, answers, reason.as_deref(), &body, chain, now),
    };
    let mut reply = Response::new(reqwest::Body::from(body));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap();
    if let Some(content_type) = content_type {
        reply.headers_mut().insert("content-type", content_type.parse().unwrap());
    }
    for (name, value) in headers {
        let name: hyper::header::HeaderName = name.parse().unwrap();
        reply.headers_mut().insert(name, value.parse().unwrap());
    }
    Ok(reply)
}

fn plain(status: StatusCode) -> Reply {
    let mut reply = Response::new(reqwest::Body::from(""));
    *reply.status_mut() = status;
    reply
}

/// What the endpoint table says of tokens.
fn check_token(door: Option<Door>, target: &str, class: Option<TokenClass>, entra: bool) {
    let path = proto::path::parse_role_path(target).unwrap();
    let caller = match (class, door) {
        _ if entra => proto::endpoint::Caller::Entra,
        (Some(class), _) => class.caller(),
        (None, Some(Door::MutualAuth)) => proto::endpoint::Caller::Certificate,
        (None, _) => proto::endpoint::Caller::Anonymous,
    };
    if door.is_some() {
        assert!(path.endpoint.open_outside_to(caller), "{target} by {caller:?}");
    } else {
        assert!(class.is_none() && !entra, "no token is needed inside, and none goes over plain HTTP");
        assert!(path.endpoint.open_inside_to(caller), "{target} by {caller:?}");
    }
}

/// The token of a request.
struct Given<'t> {
    class: Option<TokenClass>,
    entra: Option<Claims>,
    token: Option<&'t str>,
}

type Content = (u16, Option<&'static str>, Vec<u8>);

fn content<'h>(
    site: &mut Site,
    target: &str,
    given: &Given<'_>,
    message: Option<RequestMessage>,
    header: &impl Fn(&str) -> Option<&'h str>,
    now: Timestamp,
) -> Content {
    if let Some(message) = message {
        return answer_message(site, message, given.class, now);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/CCM_STS" => {
            let ended = given
                .token
                .and_then(|token| read_claims(token).ok())
                .is_some_and(|claims| now >= claims.expires);
            let registered = site.certificate.is_some() && site.approved;
            let class = match (given.class, &given.entra) {
                // The recovery road: who it is, and nothing more.
                (Some(TokenClass::SelfProve), _) if ended => TokenClass::PreAuth,
                (Some(TokenClass::SelfProve), _) if site.approved => TokenClass::Device,
                (None, Some(claims)) if registered && claims.user.is_some() => {
                    site.user = claims.user;
                    TokenClass::User
                }
                (None, Some(_)) if registered => TokenClass::Device,
                _ => TokenClass::PreAuth,
            };
            let token = text_of(class, now.seconds() + 8 * 3600);
            let json = format!(r#"{{"token_type":"CCM","access_token":"{token}","expires_in":28800}}"#);
            (200, Some("application/json"), json.into_bytes())
        }
        "/SMS_MP/.sms_pol" | "/SMS_MP_TokenAuth/.sms_pol" => policy_body(site, query, header, now),
        "/SMS_MP/.sms_aut" => (200, Some("text/xml"), b"<MPList/>".to_vec()),
        other => panic!("{other} is not served"),
    }
}

fn policy_body<'h>(
    site: &Site,
    query: &str,
    header: &impl Fn(&str) -> Option<&'h str>,
    now: Timestamp,
) -> Content {
    let query = PolicyQuery::parse(query).unwrap();
    let policy = site.policies.iter().find(|policy| policy.query == query).expect("only what was assigned");
    let mut bytes = policy.bytes.clone();
    if policy.flags.has(PolicyFlags::SECRET) {
        let certificate = site.certificate.as_ref().unwrap();
        let identity =
            HeaderIdentity::from_headers(header).unwrap().expect("secret policy needs an identity");
        identity.verify(&RsaPublicKey::from_certificate(certificate).unwrap()).unwrap();
        assert!(identity.time.distance(now) < Duration::from_mins(5));
        bytes = proto::cms::seal(certificate, &bytes).unwrap();
    }
    if site.damages_bodies {
        *bytes.last_mut().unwrap() ^= 1;
    }
    (200, Some("text/xml"), bytes)
}

fn answer_message(
    site: &mut Site,
    message: RequestMessage,
    class: Option<TokenClass>,
    now: Timestamp,
) -> Content {
    let endpoint = message.header().endpoint().unwrap();
    if endpoint.is_signed() {
        let key = RsaPublicKey::from_certificate(site.certificate.as_ref().unwrap()).unwrap();
        message.verify_payload(&key).unwrap();
        message.check_client_id_signature(&key).unwrap();
        assert_eq!(message.header().source_id, Some(fixture_client_id()));
    }
    let plain = message.inflate(1 << 20).unwrap();
    let body = match plain.body().unwrap() {
        RequestBody::Registration(request) => {
            let (key, token) = match &request.data.kind {
                RegistrationKind::Registration(details) => {
                    site.certificate = Some(details.signing.der.clone());
                    site.properties.clone_from(&details.properties);
                    assert!(details.hardware_id().unwrap().starts_with("2:"));
                    (details.signing.der.clone(), None)
                }
                RegistrationKind::Confirmation if site.confirms == Taken::No => {
                    return (503, None, Vec::new());
                }
                RegistrationKind::Confirmation => {
                    assert_eq!(request.data.client_id, Some(fixture_client_id()));
                    let token = text_of(TokenClass::SelfProve, now.seconds() + 90 * 86_400);
                    (site.certificate.clone().unwrap(), Some(token))
                }
            };
            request.verify(&RsaPublicKey::from_certificate(&key).unwrap()).unwrap();
            ClientRegistrationResponse {
                response_type: request.data.registration_type(),
                time: now,
                status: RegistrationStatus::Registered,
                client_id: fixture_client_id(),
                approval: if site.approved { ApprovalStatus::Approved } else { ApprovalStatus::Unknown },
                pre_auth_token: token,
                cloud_gateway: site.cloud_gateway.clone(),
            }
            .to_xml()
        }
        RequestBody::Assignments(request) => {
            assert_eq!(request.machine.client_id, fixture_client_id());
            let is_user = request.resource == ResourceType::User;
            assert_eq!(is_user, class == Some(TokenClass::User), "a user's policy goes with a user's token");
            let policies: Vec<_> = site.policies.iter().collect();
            let resource =
                site.user.filter(|_| is_user).map_or(PolicyResource::Machine, PolicyResource::User);
            let (keys, device) = (SiteKeys::shared(), site.policy_for);
            keys.assignments_of(device, resource, site.serial, &policies, now)
        }
        RequestBody::Location(request) => answer_location(site, &request),
        RequestBody::Report(report) => {
            assert_eq!(endpoint, MessageEndpoint::Discovery);
            site.reports.push(*report);
            return (200, None, Vec::new());
        }
        RequestBody::Status(_) => panic!("no status messages are sent"),
    };
    let stamp = ReplyStamp { message_id: fresh_guid(), now, source_host: "MP1" };
    (200, Some(CONTENT_TYPE), ReplyMessage::write(&plain.header, &stamp, &body))
}

fn answer_location(site: &Site, request: &LocationRequest) -> String {
    let LocationRequest::EnumerateMp(request) = request else {
        panic!("only management points are asked for")
    };
    let record = |internet: &str, intranet: &str, state: u32| MpRecord {
        internet_name: internet.to_owned(),
        intranet_name: intranet.to_owned(),
        version: "9128".into(),
        capabilities: vec![Capability::ssl_state(state)],
    };
    let records = match request.request_type {
        MpRequestType::Internet => site.gateways.iter().map(|gateway| record(gateway, "", 3)).collect(),
        _ => site.named_inside.iter().map(|(name, state)| record("", name, *state)).collect(),
    };
    EnumerateMpLocationReply { site_code: "RG1".into(), records }.to_xml()
}

/// The pin of the site.
pub(crate) fn pin_of(keys: &SiteKeys) -> crate::trust::Pin {
    crate::trust::Pin::Fingerprint(Thumbprint::of(keys.root()))
}
