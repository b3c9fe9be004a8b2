use std::collections::{BTreeMap, HashSet};

use std::sync::Arc;

use http::Request;
use proto::endpoint::ENDPOINTS;
use proto::entra::{EntraError, EntraSubject, EntraToken};
use proto::identity::TokenBinding;
use proto::jose::JwkSet;
use proto::pki::{Distrust, TrustList};
use proto::snapshot::{Change, GatewaySettings, PublishedRole};
use proto::status;
use proto::token::{EntraOrigin, Token, TokenClass, TokenError};

use super::*;

mod proof;

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
        trust: TrustList::default(),
        revocations: BTreeMap::new(),
        tenants: BTreeMap::new(),
    };
    site.apply(role(true, Mode::Ehttp));
    site.apply(Change::SetTenant(published_tenant()));
    site
}

fn role(gateway_traffic: bool, mode: Mode) -> Change {
    Change::SetRole(PublishedRole { role: ROLE, name: "mp".into(), gateway_traffic, mode })
}

const TENANT: Guid = Guid::from_bytes([4; 16]);

fn published_tenant() -> PublishedTenant {
    PublishedTenant {
        tenant: TENANT,
        name: "Contoso".into(),
        issuers: vec!["https://idp.example/".into()],
        audiences: vec!["https://ConfigMgrService".into()],
        client_app_id: "0b7c8ab3-9ea1-4ffa-b2b9-8ffdd944bd8b".into(),
        resource: "https://ConfigMgrService".into(),
        authority: "https://idp.example/common".into(),
        enabled: true,
        keys: JwkSet::default(),
        keys_until: Timestamp::from_seconds(1_790_050_000),
    }
}

fn tenant_token(subject: EntraSubject) -> EntraToken {
    EntraToken {
        tenant: TENANT,
        subject,
        not_before: Timestamp::from_seconds(1_789_999_000),
        expires: Timestamp::from_seconds(1_790_001_000),
        keys_until: Timestamp::from_seconds(1_790_050_000),
        digest: Thumbprint::of(b"text"),
    }
}

fn of_device() -> EntraToken {
    tenant_token(EntraSubject::Device { device: Guid::from_bytes([5; 16]) })
}

fn of_user() -> EntraToken {
    let user = Guid::from_bytes([6; 16]);
    tenant_token(EntraSubject::User { user, device: None, sid: None, name: "a@example.org".into() })
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
        entra: None,
        confirmation: (!is_bulk).then(mine),
        not_before: Timestamp::from_seconds(1_789_999_000),
        expires: Timestamp::from_seconds(1_790_001_000),
    }
}

/// Stands for verification: the text names a class or a kind of tenant token or error, everything else has a
/// wrong signature; of certificates it says what it was told.
struct Judge(Result<(), NotTrusted>);

impl Verify for Judge {
    fn bearer(&self, text: &str) -> Result<Bearer, NotAccepted> {
        let tenant = match text {
            "EntraDevice" => Some(Ok(of_device())),
            "EntraUser" => Some(Ok(of_user())),
            "EntraOff" => Some(Err(EntraError::TenantDisabled(TENANT))),
            "EntraUnknownKey" => Some(Err(EntraError::UnknownKey { tenant: TENANT, kid: "k".into() })),
            "EntraForged" => Some(Err(EntraError::Signature)),
            _ => None,
        };
        if let Some(tenant) = tenant {
            return Ok(Bearer::Tenant(Arc::new(tenant?)));
        }
        let (text, entra) = match text.strip_suffix(" of tenant") {
            Some(text) => (text, Some(EntraOrigin { tenant: TENANT, device: None, user: None })),
            None => (text, None),
        };
        let class = TokenClass::ALL.into_iter().find(|class| format!("{class:?}") == text);
        Ok(Bearer::Site(Arc::new(Token { entra, ..token(class.ok_or(TokenError::Signature)?) })))
    }

    fn certificate(&self, _now: Timestamp) -> Result<(), NotTrusted> {
        self.0.clone()
    }
}

struct Case {
    method: String,
    target: String,
    authorization: Option<String>,
    body: BodyLength,
    shown: Option<Thumbprint>,
    /// What is thought of the certificate.
    verdict: Result<(), NotTrusted>,
}

impl Case {
    fn get(target: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            target: target.to_owned(),
            authorization: None,
            body: BodyLength::Known(0),
            shown: None,
            verdict: Err(NotTrusted::SelfSigned),
        }
    }

    fn with_token(self, class: TokenClass) -> Self {
        self.with_bearer(&format!("{class:?}"))
    }

    /// With a token, and the key that tokens of these tests are bound to.
    fn with_bearer(mut self, text: &str) -> Self {
        self.authorization = Some(format!("Bearer {text}"));
        self.shown = Some(mine());
        self
    }

    fn with_certificate(mut self, verdict: Result<(), NotTrusted>) -> Self {
        (self.shown, self.verdict) = (Some(mine()), verdict);
        self
    }

    fn admit(&self, site: &Snapshot) -> Result<Admitted, Refused> {
        self.admit_at(site, now())
    }

    fn admit_at(&self, site: &Snapshot, now: Timestamp) -> Result<Admitted, Refused> {
        self.asked().admit(site, &Judge(self.verdict.clone()), now)
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

/// Adds to a request what its sender has to show.
type Comes = fn(Case) -> Case;

/// Everybody who may come, with the class under which the table knows them.
fn everybody() -> Vec<(Caller, Comes)> {
    vec![
        (Caller::Anonymous, |case| case),
        (Caller::Anonymous, |case| case.with_certificate(Err(NotTrusted::SelfSigned))),
        (Caller::Anonymous, |case| case.with_certificate(Err(NotTrusted::Distrust(Distrust::Unreadable)))),
        (Caller::Certificate, |case| case.with_certificate(Ok(()))),
        (Caller::Entra, |case| case.with_bearer("EntraDevice")),
        (Caller::Entra, |case| case.with_bearer("EntraUser")),
        (Caller::Bulk, |case| case.with_token(TokenClass::Bulk)),
        (Caller::SelfProve, |case| case.with_token(TokenClass::SelfProve)),
        (Caller::PreAuth, |case| case.with_token(TokenClass::PreAuth)),
        (Caller::Device, |case| case.with_token(TokenClass::Device)),
        (Caller::User, |case| case.with_token(TokenClass::User)),
    ]
}

#[test]
fn every_class_of_caller_opens_exactly_its_endpoints_at_both_doors() {
    let site = site();
    let everybody = everybody();
    assert!(Caller::ALL.iter().all(|class| everybody.iter().any(|(caller, _)| caller == class)));
    let (mut passed, mut refused) = (0, 0);
    for (endpoint, (caller, comes), door) in ENDPOINTS
        .iter()
        .flat_map(|endpoint| everybody.iter().map(move |caller| (endpoint, *caller)))
        .flat_map(|(endpoint, caller)| DOORS.map(|door| (endpoint, caller, door)))
    {
        let mut case = Case::get(&at(door, endpoint.path));
        case.method = endpoint.methods[0].to_owned();
        let case = comes(case);
        let what = format!("{caller:?} at {door} {}", endpoint.path);
        // A certificate opens its own door only; a token opens both.
        let proves = case.authorization.is_some() || (case.verdict.is_ok() && door == Door::MutualAuth);
        match case.admit(&site) {
            Ok(Admitted::Role(passage)) => {
                assert!(endpoint.open_outside_to(caller) && proves, "{what}");
                assert_eq!(passage.target, endpoint.path);
                assert_eq!(passage.identity.caller(), caller);
                passed += 1;
            }
            Ok(own) => panic!("{what}: {own:?}"),
            Err(error) => {
                let expected = match (endpoint.is_published(), proves, door) {
                    (false, ..) => Reason::UnknownPath,
                    (true, true, _) => Reason::TokenWrongEndpoint,
                    (true, false, Door::ServerAuth) => Reason::NoToken,
                    (true, false, Door::MutualAuth) => match &case.verdict {
                        Err(NotTrusted::Distrust(distrust)) => distrust.gateway_reason(),
                        _ => Reason::NoClientCertificate,
                    },
                };
                assert_eq!(error.reason, expected, "{what}");
                assert!(!endpoint.open_outside_to(caller) || !proves, "{what}");
                refused += 1;
            }
        }
    }
    assert_eq!(passed + refused, ENDPOINTS.len() * everybody.len() * 2);
    assert!(passed > 0);
    println!("{passed} calls passed, {refused} refused");
}

#[test]
fn a_token_that_was_given_for_a_tenants_ends_with_the_tenant() {
    let off = Change::SetTenant(PublishedTenant { enabled: false, ..published_tenant() });
    for change in [off, Change::RemoveTenant(TENANT)] {
        let mut without = site();
        without.apply(change);
        for class in [TokenClass::PreAuth, TokenClass::Device, TokenClass::User] {
            let mut case = Case::get(&at(Door::ServerAuth, "/ccm_system_tokenauth/request"))
                .with_bearer(&format!("{class:?} of tenant"));
            case.method = "CCM_POST".to_owned();
            assert!(case.admit(&site()).is_ok(), "{class:?}");
            let refused = case.refused(&without);
            assert_eq!(
                (refused.reason, refused.status().as_u16()),
                (Reason::TenantDisabled, 403),
                "{class:?}"
            );
            assert!(refused.detail.contains(&TENANT.to_string()), "{}", refused.detail);
            // The site's own goes on.
            let own = Case { authorization: Some(format!("Bearer {class:?}")), ..case };
            assert!(own.admit(&without).is_ok(), "{class:?}");
        }
    }
}

#[test]
fn a_role_in_plain_http_mode_takes_nothing_and_strangers_are_not_told() {
    let mut site = site();
    site.apply(role(true, Mode::Http));
    for (caller, comes) in everybody() {
        let case = comes(sts(Door::MutualAuth));
        let (refused, before) = (case.refused(&site), case.admit(&self::site()));
        if ENDPOINTS.iter().any(|row| row.path == "/CCM_STS" && row.open_outside_to(caller)) {
            assert_eq!(
                (refused.reason, refused.status().as_u16()),
                (Reason::RoleInHttpMode, 403),
                "{caller:?}"
            );
        } else {
            assert_eq!(Err(refused), before, "{caller:?}");
        }
    }
    site.apply(role(false, Mode::Http));
    assert_eq!(sts(Door::MutualAuth).with_token(TokenClass::Bulk).refused(&site).reason, Reason::UnknownPath);
}

#[test]
fn a_stranger_may_ask_about_an_onboarded_tenant_and_about_nothing_else() {
    for door in DOORS {
        let page = |tenant: Guid| Case::get(&format!("/{door}/AADAuthInfo?TenantID={tenant}"));
        let Ok(Admitted::AuthInfo(info)) = page(TENANT).admit(&site()) else { panic!("is answered") };
        assert_eq!((info.tenant, info.resource.as_str()), (TENANT, "https://ConfigMgrService"));
        let unknown = page(Guid::from_bytes([9; 16])).refused(&site());
        assert_eq!(unknown.reason, Reason::UnknownPath);
        let mut off = site();
        off.apply(Change::SetTenant(PublishedTenant { enabled: false, ..published_tenant() }));
        assert_eq!(
            page(TENANT).refused(&off),
            unknown,
            "one that is off is as unknown as one that never was"
        );
        for method in ["POST", "CCM_POST", "get", "OPTIONS"] {
            let of = |tenant| {
                let mut page = page(tenant);
                page.method = method.to_owned();
                page.refused(&site())
            };
            assert_eq!(of(TENANT).reason, Reason::MethodNotAllowed, "{method}");
            assert_eq!(of(TENANT), of(Guid::from_bytes([9; 16])), "{method}");
        }
        let mut head = page(TENANT);
        head.method = "HEAD".to_owned();
        assert!(head.admit(&site()).is_ok());
        head.body = BodyLength::Known(1);
        assert_eq!(head.refused(&site()).reason, Reason::BodyTooLarge);
        let malformed = Case::get(&format!("/{door}/AADAuthInfo?TenantID=common")).refused(&site());
        assert_eq!(malformed.reason, Reason::UnknownPath);
    }
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
    site.apply(role(false, Mode::Ehttp));
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
fn the_gateways_own_page_needs_any_good_token_of_the_site_or_a_certificate() {
    for door in DOORS {
        let page = || Case::get(&format!("/{door}/ServiceMetadata"));
        assert!(page().admit(&site()).is_err());
        for class in TokenClass::ALL {
            assert_eq!(page().with_token(class).admit(&site()), Ok(Admitted::ServiceMetadata));
        }
        let by_certificate = page().with_certificate(Ok(())).admit(&site());
        assert_eq!(by_certificate.is_ok(), door == Door::MutualAuth);
        let by_tenant = page().with_bearer("EntraDevice").refused(&site());
        assert_eq!(by_tenant.reason, Reason::TokenWrongEndpoint);
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
