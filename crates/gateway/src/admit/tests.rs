use std::collections::{BTreeMap, HashSet};

use http::Request;
use proto::combination::Mode;
use proto::endpoint::{Caller, ENDPOINTS};
use proto::id::Guid;
use proto::identity::TokenBinding;
use proto::snapshot::{Change, GatewaySettings, PublishedRole};
use proto::token::TokenClass;

use super::*;

const ROLE: RoleId = RoleId::FIRST;
const DOORS: [Door; 2] = [Door::MutualAuth, Door::ServerAuth];

fn now() -> Timestamp {
    Timestamp::from_seconds(1_790_000_000)
}

fn device() -> ClientId {
    "GUID:C806EBF9-8740-441E-AE7B-8B360ADCAECB".parse().unwrap()
}

fn mine() -> Thumbprint {
    Thumbprint::of(b"mine")
}

fn site() -> Snapshot {
    let mut site = Snapshot {
        site_code: "RG1".parse().unwrap(),
        hierarchy: Guid::nil(),
        version: 1,
        issued: now(),
        roles: BTreeMap::new(),
        token_certificates: Vec::new(),
        settings: GatewaySettings::default(),
        blocked_bulk_tokens: HashSet::new(),
        blocked_devices: HashSet::new(),
        blocked_certificates: HashSet::new(),
        withdrawn_links: HashSet::new(),
            trust: Default::default(),
            revocations: Default::default(),
            tenants: Default::default(),
    };
    site.apply(Change::SetRole(PublishedRole { role: ROLE, name: "mp".into(), gateway_traffic: true, mode: Mode::Ehttp }));
    site
}

fn token(class: TokenClass) -> Token {
    let is_bulk = class == TokenClass::Bulk;
    Token {
        class,
        unique_id: Guid::from_bytes([7; 16]),
        hierarchy: Guid::nil(),
        device: (!is_bulk && class != TokenClass::PreAuth).then(device),
        user: (class == TokenClass::User).then(Guid::nil),
        bulk: (class == TokenClass::PreAuth).then(|| Guid::from_bytes([7; 16])),
        confirmation: (!is_bulk).then(mine),
        not_before: Timestamp::from_seconds(1_789_999_000),
        expires: Timestamp::from_seconds(1_790_001_000),
    }
}

/// Stands for verification: the text names the class, everything else has a wrong signature.
fn verify(text: &str) -> Result<Arc<Token>, TokenError> {
    let class = TokenClass::ALL.into_iter().find(|class| format!("{class:?}") == text);
    class.map(|class| Arc::new(token(class))).ok_or(TokenError::Signature)
}

struct Case {
    method: String,
    target: String,
    authorization: Option<String>,
    body: BodyLength,
    shown: Option<Thumbprint>,
}

impl Case {
    fn get(target: &str) -> Self {
        let (method, authorization) = ("GET".to_owned(), None);
        Self { method, target: target.to_owned(), authorization, body: BodyLength::Known(0), shown: None }
    }

    fn with_token(mut self, class: TokenClass) -> Self {
        self.authorization = Some(format!("Bearer {class:?}"));
        self.shown = Some(mine());
        self
    }

    fn admit(&self, site: &Snapshot) -> Result<Admitted, Refused> {
        self.asked().admit(site, verify, now())
    }

    fn refused(&self, site: &Snapshot) -> Refused {
        self.admit(site).unwrap_err()
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            method: &self.method,
            target: &self.target,
            authorization: self.authorization.as_deref(),
            body: self.body,
            shown: self.shown,
        }
    }
}

fn at(door: Door, path: &str) -> String {
    format!("/{door}/{ROLE}{path}")
}

fn sts(door: Door) -> Case {
    Case::get(&at(door, "/CCM_STS"))
}

/// A caller of this class as it would come: with its token and key, or with a certificate, or with nothing.
fn called_by(caller: Caller, mut case: Case) -> Case {
    let class = TokenClass::ALL.into_iter().find(|class| class.caller() == caller);
    match (class, caller) {
        (Some(class), _) => case.with_token(class),
        (None, Caller::Certificate) => {
            case.shown = Some(mine());
            case
        }
        (None, _) => case,
    }
}

#[test]
fn every_class_of_caller_opens_exactly_its_endpoints_at_both_doors() {
    let site = site();
    let (mut passed, mut refused) = (0, 0);
    for (endpoint, caller, door) in ENDPOINTS
        .iter()
        .flat_map(|endpoint| Caller::ALL.map(|caller| (endpoint, caller)))
        .flat_map(|(endpoint, caller)| DOORS.map(|door| (endpoint, caller, door)))
    {
        let mut case = Case::get(&at(door, endpoint.path));
        case.method = endpoint.methods[0].to_owned();
        let case = called_by(caller, case);
        let what = format!("{caller:?} at {door} {}", endpoint.path);
        let has_token = case.authorization.is_some();
        match case.admit(&site) {
            Ok(Admitted::Role(passage)) => {
                // No chain of certificates is trusted yet, so the class Certificate never passes.
                assert!(endpoint.open_outside_to(caller) && has_token, "{what}");
                assert_eq!(passage.target, endpoint.path);
                assert_eq!(passage.identity.caller(), caller);
                passed += 1;
            }
            Ok(Admitted::ServiceMetadata) => panic!("{what}"),
            Err(error) => {
                let expected = match (endpoint.is_published(), has_token, door) {
                    (false, ..) => Reason::UnknownPath,
                    (true, true, _) => Reason::TokenWrongEndpoint,
                    (true, false, Door::MutualAuth) => Reason::NoClientCertificate,
                    (true, false, Door::ServerAuth) => Reason::NoToken,
                };
                assert_eq!(error.reason, expected, "{what}");
                assert!(!endpoint.open_outside_to(caller) || !has_token, "{what}");
                refused += 1;
            }
        }
    }
    assert_eq!(passed + refused, ENDPOINTS.len() * Caller::ALL.len() * 2);
    assert!(passed > 0);
    println!("{passed} calls passed, {refused} refused");
}

#[test]
fn the_path_comes_before_the_method_the_method_before_the_size_the_size_before_the_identity() {
    let site = site();
    let mut case = Case::get(&at(Door::ServerAuth, "/nowhere"));
    case.method = "BREW".to_owned();
    case.body = BodyLength::Known(u64::MAX);
    assert_eq!(case.refused(&site).reason, Reason::UnknownPath);
    case.target = at(Door::ServerAuth, "/CCM_STS");
    let refused = case.refused(&site);
    assert_eq!((refused.reason, refused.allow), (Reason::MethodNotAllowed, &["GET"][..]));
    case.method = "GET".to_owned();
    let refused = case.refused(&site);
    assert!(refused.reason == Reason::BodyTooLarge && refused.close);
    case.body = BodyLength::Known(0);
    assert_eq!(case.refused(&site).reason, Reason::NoToken);
}

#[test]
fn methods_are_compared_with_case() {
    let mut case = Case::get(&at(Door::ServerAuth, "/ccm_system_tokenauth/request"));
    case = case.with_token(TokenClass::Device);
    for (method, passes) in [("CCM_POST", true), ("ccm_post", false), ("POST", false), ("GET", false)] {
        case.method = method.to_owned();
        assert_eq!(case.admit(&site()).is_ok(), passes, "{method}");
    }
}

#[test]
fn a_role_without_gateway_traffic_is_as_unknown_as_none() {
    let mut site = site();
    let case = sts(Door::ServerAuth).with_token(TokenClass::Bulk);
    assert!(case.admit(&site).is_ok());
    site.apply(Change::SetRole(PublishedRole { role: ROLE, name: "mp".into(), gateway_traffic: false, mode: Mode::Ehttp }));
    let hidden = case.refused(&site);
    site.apply(Change::RemoveRole(ROLE));
    assert_eq!(hidden, case.refused(&site));
    assert_eq!(hidden.reason, Reason::UnknownPath);
}

#[test]
fn a_message_may_have_its_endpoints_size_and_not_a_byte_more() {
    let mut case = Case::get(&at(Door::ServerAuth, "/ccm_system_tokenauth/request"));
    case.method = "CCM_POST".to_owned();
    case = case.with_token(TokenClass::Device);
    let limit = proto::limits::MESSAGE_BYTES as u64;
    for (length, passes) in [(limit, true), (limit + 1, false), (limit * 100, false)] {
        case.body = BodyLength::Known(length);
        assert_eq!(case.admit(&site()).is_ok(), passes, "{length}");
    }
    case.body = BodyLength::Chunked;
    assert!(case.admit(&site()).is_ok(), "chunks are counted as they come");
}

#[test]
fn a_bound_token_counts_with_its_key_only() {
    let mut site = site();
    let path = at(Door::ServerAuth, "/SMS_MP_TokenAuth/.sms_pol?x");
    let mut case = Case::get(&path).with_token(TokenClass::Device);
    assert!(case.admit(&site).is_ok());
    case.shown = Some(Thumbprint::of(b"another's"));
    let refused = case.refused(&site);
    assert_eq!((refused.reason, refused.device), (Reason::TokenNotAccepted, None));
    case.shown = None;
    let refused = case.refused(&site);
    assert_eq!((refused.reason, refused.device), (Reason::TokenKeyMissing, None));
    site.settings.token_binding = TokenBinding::Off;
    assert!(case.admit(&site).is_ok());
}

#[test]
fn a_token_that_is_none_gets_the_phrase_of_its_door() {
    for (door, phrase) in
        [(Door::ServerAuth, None), (Door::MutualAuth, Some(status::INVALID_CLIENT_CERTIFICATE))]
    {
        let mut case = sts(door);
        case.authorization = Some("Bearer forged".to_owned());
        let refused = case.refused(&site());
        assert_eq!((refused.reason, refused.phrase), (Reason::TokenNotAccepted, phrase));
        assert!(refused.detail.contains("signature"), "the operator learns the cause: {}", refused.detail);
    }
}

#[test]
fn an_expired_bulk_token_is_told_from_a_forged_one() {
    let case = sts(Door::ServerAuth).with_token(TokenClass::Bulk);
    let late = now().plus(std::time::Duration::from_hours(2));
    let refused = case.asked().admit(&site(), verify, late).unwrap_err();
    assert_eq!(refused.reason, Reason::TokenExpired);
    assert!(refused.detail.contains("expired at"), "{}", refused.detail);
}

#[test]
fn blocks_of_tokens_devices_and_certificates_all_count() {
    let policy = at(Door::ServerAuth, "/SMS_MP_TokenAuth/.sms_pol");
    let device_case = || Case::get(&policy).with_token(TokenClass::Device);
    let bulk_case = || sts(Door::ServerAuth).with_token(TokenClass::Bulk);
    let mut blocked = site();
    blocked.apply(Change::BlockDevice { device: device(), certificate: mine() });
    let refused = device_case().refused(&blocked);
    assert_eq!((refused.reason, refused.device), (Reason::DeviceBlocked, Some(device())));
    assert_eq!(bulk_case().refused(&blocked).reason, Reason::DeviceBlocked, "by the key that it showed");
    let mut blocked = site();
    blocked.apply(Change::BlockBulkToken(Guid::from_bytes([7; 16])));
    assert_eq!(bulk_case().refused(&blocked).reason, Reason::BulkTokenBlocked);
    let locations = Case::get(&at(Door::ServerAuth, "/SMS_MP_TokenAuth/.sms_aut"));
    let refused = locations.with_token(TokenClass::PreAuth).refused(&blocked);
    assert_eq!(refused.reason, Reason::BulkTokenBlocked, "also what came from the blocked token");
    assert!(device_case().admit(&blocked).is_ok());
}

#[test]
fn the_gateways_own_page_needs_any_good_token() {
    for door in DOORS {
        let page = || Case::get(&format!("/{door}/ServiceMetadata"));
        assert!(page().admit(&site()).is_err());
        for class in TokenClass::ALL {
            assert_eq!(page().with_token(class).admit(&site()), Ok(Admitted::ServiceMetadata));
        }
        let mut post = page().with_token(TokenClass::Device);
        post.method = "CCM_POST".to_owned();
        assert_eq!(post.refused(&site()).reason, Reason::MethodNotAllowed);
    }
}

#[test]
fn other_spellings_of_a_path_tell_nothing_and_open_nothing() {
    let good = at(Door::ServerAuth, "/CCM_STS");
    for target in [
        format!("/{good}"),
        format!("{good}/"),
        good.replace("CCM_STS", "x/../CCM_STS"),
        good.replace("CCM_STS", "%43CM_STS"),
        good.replace("/CCM_STS", "//CCM_STS"),
        at(Door::ServerAuth, "/ccm_system_windowsauth/request"),
        "/".to_owned(),
    ] {
        let refused = Case::get(&target).with_token(TokenClass::Bulk).refused(&site());
        assert_eq!(refused.reason, Reason::UnknownPath, "{target}");
    }
    let long = format!("{good}?{}", "a".repeat(proto::limits::TARGET_BYTES));
    assert_eq!(Case::get(&long).refused(&site()).reason, Reason::TargetTooLong);
}

/// The head of a request, with these header lines besides one `Host`.
fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri(uri).header("host", "gw");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

#[test]
fn what_can_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    for headers in [
        &[("host", "other")][..],
        &[("content-length", "1"), ("transfer-encoding", "chunked")],
        &[("content-length", "1"), ("content-length", "1")],
        &[("content-length", "+1")],
        &[("content-length", "")],
        &[("content-length", "18446744073709551616")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "identity")],
        &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
    ] {
        let refused = Asked::read(&head("/x", headers), None).unwrap_err();
        assert!(refused.reason == Reason::MalformedRequest && refused.close, "{headers:?}");
    }
    let absolute = Asked::read(&head("https://inside/CCM_STS", &[]), None).unwrap_err();
    assert_eq!(absolute.reason, Reason::MalformedRequest);
    let mut hostless = head("/x", &[]);
    hostless.headers.clear();
    assert!(Asked::read(&hostless, None).is_err());
}

#[test]
fn lengths_are_read_as_stated() {
    for (headers, expected) in [
        (&[][..], BodyLength::Known(0)),
        (&[("content-length", "1974")], BodyLength::Known(1974)),
        (&[("transfer-encoding", "Chunked")], BodyLength::Chunked),
    ] {
        assert_eq!(Asked::read(&head("/x", headers), None).unwrap().body, expected);
    }
}
