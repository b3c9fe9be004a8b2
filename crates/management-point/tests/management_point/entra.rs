//! Tokens of tenants: what they buy, and what they do not.

use std::time::Duration;

use proto::endpoint::ENDPOINTS;
use proto::id::{ClientId, Guid};
use proto::identity::Method;
use proto::message::MessageEndpoint;
use proto::reason::{REQUEST_ID_HEADER, Reason};
use proto::request::policy::{ReplyAssignments, ResourceType};
use proto::request::registration::{ApprovalStatus, ClientRegistrationResponse, KeyType};
use proto::token::{EntraOrigin, Token, TokenClass};
use serde_json::{Value, json};
use site::{
    FoundUser, NewDirectory, NewPolicy, Policy, PolicyProtection, RoleMode, SyncEnd, SyncSource, UserRef,
    UserTarget, WantedKeys,
};

use crate::support::message::plain;
use crate::support::pki::{Pki, Wish};
use crate::support::tenant::{Tenant, with};
use crate::support::{
    Answer, Ask, Bench, TestDevice, TlsClient, devices, fresh_id, operator, registration_with,
    user_assignments,
};

const DEVICE: Guid = Guid::from_bytes([0xd1; 16]);
const USER: Guid = Guid::from_bytes([0x51; 16]);
const SID: &str = "S-1-5-21-1527250992-855612568-2252598708-1604";

/// A site with an onboarded tenant, its role in enhanced HTTP, and who talks to it.
struct Scene {
    bench: Bench,
    tenant: Tenant,
    client: TlsClient,
}

impl Scene {
    async fn start() -> Self {
        let bench = Bench::start().await;
        bench.add_role(RoleMode::Ehttp).await;
        let tenant = Tenant::new(0xaa);
        tenant.onboard(&bench).await;
        let client = bench.tls(None).await;
        Self { bench, tenant, client }
    }

    fn now(&self) -> proto::time::Timestamp {
        self.bench.now()
    }

    /// Asks the token service with this token.
    async fn ask(&self, device: &TestDevice, id: Option<ClientId>, text: &str) -> Answer {
        let ask = Ask::get("/CCM_STS").bearer(text).signed(device, id, self.now());
        self.bench.send_tls(ask, &self.client).await
    }

    async fn buys(&self, device: &TestDevice, id: Option<ClientId>, text: &str) -> (String, Token) {
        let answer = self.ask(device, id, text).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let grant: Value = serde_json::from_slice(&answer.body).unwrap();
        let text = grant["access_token"].as_str().unwrap().to_owned();
        let token = self.bench.site.token_keys().verify(&text).unwrap();
        (text, token)
    }

    async fn refused(&self, text: &str) -> (u16, Option<Reason>) {
        let answer = self.ask(&devices()[0], None, text).await;
        (answer.status, answer.reason())
    }

    fn registration(&self, device: &TestDevice, join: Option<&str>) -> Ask {
        let mut properties = vec![("Netbios Name", "PC1")];
        properties.extend(join.map(|join| ("JoinState", join)));
        let body = registration_with(device, KeyType::SelfSigned, &properties, self.now(), None);
        let message = plain(&self.bench, MessageEndpoint::ClientRegistration, &body);
        Ask::message("/ccm_system_tokenauth/request", message)
    }

    async fn register(&self, device: &TestDevice, token: &str) -> ClientRegistrationResponse {
        let ask = self.registration(device, None).bearer(token).signed(device, None, self.now());
        ClientRegistrationResponse::parse(&self.bench.send_tls(ask, &self.client).await.reply()).unwrap()
    }

    /// Registers with a device token, and exchanges it again.
    async fn enroll(&self, device: &TestDevice) -> (ClientId, String) {
        let text = self.tenant.device_token(DEVICE, self.now());
        let (token, _) = self.buys(device, None, &text).await;
        let id = self.register(device, &token).await.client_id;
        (id, self.buys(device, Some(id), &text).await.0)
    }

    /// The on-premises directory finds users by their SIDs.
    async fn discover_on_premises(&self, sids: &[&str]) {
        let new = NewDirectory {
            name: "example.org".into(),
            url: "ldaps://dc1.example.org".into(),
            base: "DC=example,DC=org".into(),
            ..directory()
        };
        let directory = self.bench.site.add_directory(&operator(), new).await.unwrap();
        let sync = self.bench.site.begin_sync(SyncSource::Directory(directory.id)).await.unwrap();
        let found = |sid: &&str| FoundUser { sid: Some((*sid).to_owned()), ..FoundUser::default() };
        self.bench.site.put_users(sync, sids.iter().map(found).collect()).await.unwrap();
        self.bench.site.finish_sync(sync, SyncEnd { full: true, delta_link: None }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_token_registers_the_device_and_then_buys_its_token() {
    let scene = Scene::start().await;
    let [device, ..] = devices();
    let text = scene.tenant.device_token(DEVICE, scene.now());
    let (given, token) = scene.buys(device, None, &text).await;
    let origin = EntraOrigin { tenant: scene.tenant.id, device: Some(DEVICE), user: None };
    assert_eq!((token.class, token.device, token.entra), (TokenClass::PreAuth, None, Some(origin)));
    assert_eq!(token.confirmation, Some(device.thumbprint()));

    let response = scene.register(device, &given).await;
    assert_eq!(response.approval, ApprovalStatus::ApprovedByEntra);
    let record = scene.bench.site.find_device(response.client_id).await.unwrap().unwrap();
    assert_eq!(record.method, Method::EntraDevice);
    assert_eq!(record.approval_by, format!("entra {}", scene.tenant.id));
    assert_eq!(record.entra.unwrap().device, Some(DEVICE));

    let (_, token) = scene.buys(device, Some(response.client_id), &text).await;
    assert_eq!((token.class, token.device), (TokenClass::Device, Some(response.client_id)));
    assert_eq!(token.user, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_token_buys_a_users_token_once_the_user_is_completely_discovered() {
    let scene = Scene::start().await;
    let [device, ..] = devices();
    let (id, _) = scene.enroll(device).await;
    let text = scene.tenant.user_token(USER, Some(SID), DEVICE, scene.now());
    // Nobody knows the user, then the tenant alone, then both.
    let refused = |answer: &Answer| (answer.status, answer.phrase.clone(), answer.reason());
    let gap = (403, "Un-authorized request".to_owned(), Some(Reason::StsUserNotDiscovered));
    let answer = scene.ask(device, Some(id), &text).await;
    assert_eq!(refused(&answer), gap);
    scene.tenant.discover(&scene.bench, &[(USER, Some(SID))]).await;
    let half = scene.ask(device, Some(id), &text).await;
    assert_eq!(refused(&half), gap);
    // The answer says which discovery misses what.
    assert!(half.text().starts_with("RG-4007: ") && half.text().len() > 20, "{}", half.text());
    assert_ne!(half.text(), answer.text());
    scene.discover_on_premises(&[SID]).await;
    let (_, token) = scene.buys(device, Some(id), &text).await;
    assert_eq!((token.class, token.device, token.user), (TokenClass::User, Some(id), Some(USER)));
    // A user of the cloud alone needs no directory.
    let cloud = Guid::from_bytes([0x52; 16]);
    scene.tenant.discover(&scene.bench, &[(USER, Some(SID)), (cloud, None)]).await;
    let text = scene.tenant.user_token(cloud, None, DEVICE, scene.now());
    assert_eq!(scene.buys(device, Some(id), &text).await.1.user, Some(cloud));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_token_registers_a_device_by_its_user() {
    let scene = Scene::start().await;
    let [device, ..] = devices();
    scene.tenant.discover(&scene.bench, &[(USER, None)]).await;
    let text = scene.tenant.user_token(USER, None, DEVICE, scene.now());
    let (given, token) = scene.buys(device, None, &text).await;
    assert_eq!((token.class, token.user), (TokenClass::PreAuth, None));
    let response = scene.register(device, &given).await;
    assert_eq!(response.approval, ApprovalStatus::ApprovedByEntra);
    let record = scene.bench.site.find_device(response.client_id).await.unwrap().unwrap();
    assert_eq!(record.method, Method::EntraUser);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_that_does_not_count_has_its_reason() {
    let scene = Scene::start().await;
    let (tenant, now) = (&scene.tenant, scene.now());
    let device = tenant.device_claims(DEVICE, now);
    let app =
        with(tenant.claims(now), json!({ "idtyp": "app", "appid": USER.to_string(), "roles": ["All"] }));
    assert_eq!(scene.refused(&tenant.sign(&app)).await, (403, Some(Reason::StsNotADevice)));
    let old = with(device.clone(), json!({ "exp": now.seconds() - 301, "nbf": now.seconds() - 4000 }));
    assert_eq!(scene.refused(&tenant.sign(&old)).await, (401, Some(Reason::StsTokenExpired)));
    let other = Tenant::new(0xbb);
    let generic = (401, Some(Reason::StsTokenNotAccepted));
    assert_eq!(scene.refused(&other.device_token(DEVICE, now)).await, generic, "not onboarded");

    // An unknown key makes the site fetch, and only for an onboarded tenant.
    assert_eq!(scene.bench.site.take_wanted_keys(), WantedKeys::Nothing);
    let rotated = tenant.with_unpublished_key();
    assert_eq!(scene.refused(&rotated.device_token(DEVICE, now)).await, generic);
    assert_eq!(scene.bench.site.take_wanted_keys(), WantedKeys::Fetch(tenant.id));
    rotated.fetch_keys(&scene.bench).await;
    scene.buys(&devices()[0], None, &rotated.device_token(DEVICE, now)).await;

    scene.bench.site.set_tenant_enabled(&operator(), tenant.id, false).await.unwrap();
    let good = rotated.device_token(DEVICE, now);
    assert_eq!(scene.refused(&good).await, (403, Some(Reason::StsTenantDisabled)));
    scene.bench.site.set_tenant_enabled(&operator(), tenant.id, true).await.unwrap();
    scene.bench.clock.advance(Duration::from_hours(25));
    let stale = rotated.device_token(DEVICE, scene.now());
    assert_eq!(scene.refused(&stale).await, (401, Some(Reason::StsTenantKeysTooOld)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_without_a_signed_request_and_one_over_plain_http_get_nothing() {
    let scene = Scene::start().await;
    let [device, ..] = devices();
    let text = scene.tenant.device_token(DEVICE, scene.now());
    let unsigned = scene.bench.send_tls(Ask::get("/CCM_STS").bearer(&text), &scene.client).await;
    assert_eq!((unsigned.status, unsigned.reason()), (401, Some(Reason::StsTokenNotAccepted)));
    let readable = Ask::get("/CCM_STS").bearer(&text).signed(device, None, scene.now());
    let answer = scene.bench.send(readable).await;
    assert_eq!((answer.status, answer.reason()), (403, Some(Reason::MethodNotForMode)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_registered_for_another_device_of_the_tenant_is_refused() {
    let scene = Scene::start().await;
    let [device, ..] = devices();
    let (id, _) = scene.enroll(device).await;
    let other = scene.tenant.device_token(Guid::from_bytes([0xd2; 16]), scene.now());
    let answer = scene.ask(device, Some(id), &other).await;
    assert_eq!((answer.status, answer.reason()), (403, Some(Reason::StsOtherEntraDevice)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_token_opens_the_token_service_only() {
    let scene = Scene::start().await;
    let [device, ..] = devices();
    let text = scene.tenant.device_token(DEVICE, scene.now());
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.name != "CCM_STS") {
        let ask = match endpoint.methods {
            ["CCM_POST"] => Ask::message(endpoint.path, crate::support::location(&scene.bench)),
            _ => Ask::get(&format!("{}?SITESIGNCERT", endpoint.path)),
        };
        let ask = ask.bearer(&text).signed(device, None, scene.now());
        let answer = scene.bench.send_tls(ask, &scene.client).await;
        assert_eq!(
            (answer.status, answer.reason()),
            (401, Some(Reason::InsideTokenNotAccepted)),
            "{}",
            endpoint.path
        );
    }
}

/// Everything about a forgery's answer that its sender sees, but what names the request.
fn seen(answer: &Answer) -> (u16, String, Option<Reason>, Vec<u8>) {
    (answer.status, answer.phrase.clone(), answer.reason(), answer.body.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_variants_of_a_good_token_get_one_and_the_same_answer() {
    let scene = Scene::start().await;
    let [device, ..] = devices();
    let (tenant, now) = (&scene.tenant, scene.now());
    let claims = tenant.device_claims(DEVICE, now);
    let good = tenant.sign(&claims);
    scene.buys(device, None, &good).await;
    let mut forged = Vec::new();
    for (at, byte) in good.bytes().enumerate().step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if byte == b'A' { b'B' } else { b'A' };
        forged.push(String::from_utf8(bytes).unwrap());
        // A shorter one may have no third part, and is nobody's then.
        forged.push(good[..at].to_owned() + "A");
    }
    for wrong in [
        json!({ "iss": "https://login.example.org/other/v2.0" }),
        json!({ "iss": null }),
        json!({ "iss": ["https://login.example.org"] }),
        json!({ "aud": "https://ConfigMgrService/" }),
        json!({ "aud": ["https://ConfigMgrService"] }),
        json!({ "aud": null }),
        json!({ "tid": Guid::from_bytes([0xbb; 16]).to_string() }),
        json!({ "tid": tenant.id.upper() }),
        json!({ "tid": null }),
        json!({ "exp": null }),
        json!({ "exp": "4000000000" }),
        json!({ "nbf": null }),
        json!({ "nbf": now.seconds() + 3600 }),
    ] {
        forged.push(tenant.sign(&with(claims.clone(), wrong)));
    }
    for header in [
        json!({ "typ": "JWT", "alg": "none", "kid": "key-1" }),
        json!({ "typ": "JWT", "alg": "HS256", "kid": "key-1" }),
        json!({ "typ": "JWT", "alg": "RS512", "kid": "key-1" }),
        json!({ "typ": "JWT", "alg": "RS256", "kid": "key-1", "crit": ["exp"] }),
        json!({ "typ": "logout+jwt", "alg": "RS256", "kid": "key-1" }),
        json!({ "typ": "JWT", "alg": "RS256", "kid": "key-9" }),
        json!({ "typ": "JWT", "alg": "RS256" }),
    ] {
        forged.push(tenant.sign_under(&header, &claims));
    }
    let generic = scene.ask(device, None, &forged[0]).await;
    assert_eq!((generic.status, generic.reason()), (401, Some(Reason::StsTokenNotAccepted)));
    for text in &forged {
        let answer = scene.ask(device, None, text).await;
        assert_eq!(seen(&answer), seen(&generic), "{text}");
    }
    assert!(forged.len() >= 200, "{} forgeries", forged.len());
    println!("{} forged variants, one answer", forged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenants_token_bought_ends_with_the_tenant_and_the_devices_own_token_goes_on() {
    let scene = Scene::start().await;
    let [device, ..] = devices();
    let (id, of_device) = scene.enroll(device).await;
    scene.tenant.discover(&scene.bench, &[(USER, None)]).await;
    let text = scene.tenant.user_token(USER, None, DEVICE, scene.now());
    let (of_user, _) = scene.buys(device, Some(id), &text).await;
    let own = device.confirm(&scene.bench, id).await.pre_auth_token.unwrap();
    let by = async |token: &str| {
        let body = crate::support::heartbeat(id, scene.now(), 0);
        let message = device.message(&scene.bench, id, MessageEndpoint::Discovery, &body);
        let ask = Ask::message("/ccm_system_tokenauth/request", message).bearer(token);
        scene.bench.send_tls(ask.signed(device, Some(id), scene.now()), &scene.client).await.reason()
    };
    let fetch = async |token: &str| {
        let ask = Ask::get("/SMS_MP_TokenAuth/.sms_pol?SRC10000.1_00").bearer(token);
        scene.bench.send_tls(ask.signed(device, Some(id), scene.now()), &scene.client).await.reason()
    };
    assert_eq!(by(&of_device).await, None);
    let switch = async |on| {
        scene.bench.site.set_tenant_enabled(&operator(), scene.tenant.id, on).await.unwrap();
    };
    switch(false).await;
    for token in [&of_device, &of_user] {
        assert_eq!(by(token).await, Some(Reason::TenantDisabled));
        assert_eq!(fetch(token).await, Some(Reason::TenantDisabled));
    }
    let (again, token) = scene.buys(device, Some(id), &own).await;
    assert_eq!((token.class, token.entra), (TokenClass::Device, None));
    assert_eq!(by(&again).await, None);
    switch(true).await;
    assert_eq!(by(&of_device).await, None);
    scene.bench.site.remove_tenant(&operator(), scene.tenant.id).await.unwrap();
    assert_eq!(by(&of_device).await, Some(Reason::TenantDisabled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_carries_the_registration_when_entra_fails_midway() {
    let scene = Scene::start().await;
    let [device, other, _] = devices();
    let pki = Pki::new("Example", scene.now());
    scene.bench.trust(&pki).await;
    let leaf = pki.issue(&Wish::client("pc1.example.org", 5, scene.now()));
    let (given, _) = scene.buys(device, None, &scene.tenant.device_token(DEVICE, scene.now())).await;
    let (others, _) = scene.buys(other, None, &scene.tenant.device_token(DEVICE, scene.now())).await;
    scene.bench.site.set_tenant_enabled(&operator(), scene.tenant.id, false).await.unwrap();

    let message_id = fresh_id();
    let proof = proto::client_certificate::ProofOf {
        hierarchy: scene.bench.site.facts().hierarchy,
        device_key: device.thumbprint(),
        message_id,
        created: scene.now(),
    };
    let ask = scene.registration(device, None).bearer(&given);
    let ask = leaf.proof(proof).iter().fold(ask, |ask, (name, value)| ask.header(name, value));
    let ask = ask.signed_as(device, None, scene.now(), message_id);
    let answer = scene.bench.send_tls(ask, &scene.client).await;
    let response = ClientRegistrationResponse::parse(&answer.reply()).unwrap();
    assert_eq!(response.approval, ApprovalStatus::Approved);
    let record = scene.bench.site.find_device(response.client_id).await.unwrap().unwrap();
    assert_eq!((record.method, record.approval_by.as_str()), (Method::Certificate, "pki"));
    assert!(record.entra.is_none());
    // Without one it is held, and the record says why.
    let response = scene.register(other, &others).await;
    assert_eq!(response.approval, ApprovalStatus::Unknown);
    let record = scene.bench.site.find_device(response.client_id).await.unwrap().unwrap();
    let refused = record.methods_refused.iter().find(|refused| refused.method == Method::EntraDevice);
    assert!(refused.unwrap().reason.contains("switched off"), "{refused:?}");
    // Through a gateway it is refused with that reason: nothing else carries it there.
    let third = &devices()[2];
    let (given, _) = {
        scene.bench.site.set_tenant_enabled(&operator(), scene.tenant.id, true).await.unwrap();
        let given = scene.buys(third, None, &scene.tenant.device_token(DEVICE, scene.now())).await;
        scene.bench.site.set_tenant_enabled(&operator(), scene.tenant.id, false).await.unwrap();
        given
    };
    let ask = scene.registration(third, None).bearer(&given).signed(third, None, scene.now());
    let answer = scene.bench.send(ask.header(REQUEST_ID_HEADER, &Guid::nil().to_string())).await;
    assert_eq!((answer.status, answer.reason()), (403, Some(Reason::StsTenantDisabled)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_in_a_workgroup_has_no_entra_identity() {
    let scene = Scene::start().await;
    let [device, ..] = devices();
    let (given, _) = scene.buys(device, None, &scene.tenant.device_token(DEVICE, scene.now())).await;
    let ask = scene.registration(device, Some("workgroup")).bearer(&given);
    let ask = ask.signed(device, None, scene.now()).header(REQUEST_ID_HEADER, &Guid::nil().to_string());
    let answer = scene.bench.send(ask).await;
    assert_eq!((answer.status, answer.reason()), (403, Some(Reason::MethodNotForMode)));
    let ask = scene.registration(device, Some("entra")).bearer(&given);
    let ask = ask.signed(device, None, scene.now()).header(REQUEST_ID_HEADER, &Guid::nil().to_string());
    let response = ClientRegistrationResponse::parse(&scene.bench.send(ask).await.reply()).unwrap();
    assert_eq!(response.approval, ApprovalStatus::ApprovedByEntra);
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_of_a_user_needs_that_users_token() {
    let scene = Scene::start().await;
    let [device, ..] = devices();
    let (id, of_device) = scene.enroll(device).await;
    scene.tenant.discover(&scene.bench, &[(USER, None)]).await;
    let text = scene.tenant.user_token(USER, None, DEVICE, scene.now());
    let (of_user, _) = scene.buys(device, Some(id), &text).await;
    let own = device.confirm(&scene.bench, id).await.pre_auth_token.unwrap();
    let of_site = device.exchange(&scene.bench, &own, Some(id)).await;
    let ask = async |token: Option<&str>| {
        let endpoint = MessageEndpoint::PolicyManager;
        let message = device.message(&scene.bench, id, endpoint, &user_assignments(id));
        let path = if token.is_some() { "/ccm_system_tokenauth/request" } else { "/ccm_system/request" };
        let ask = Ask::message(path, message);
        let ask = token.iter().fold(ask, |ask, token| ask.bearer(token));
        scene.bench.send_tls(ask.signed(device, Some(id), scene.now()), &scene.client).await
    };
    for token in [None, Some(of_device.as_str()), Some(of_site.as_str())] {
        let answer = ask(token).await;
        assert_eq!((answer.status, answer.reason()), (403, Some(Reason::UserPolicyNotForMethod)));
    }
    let add = async |user, mark: &str| {
        let new = NewPolicy {
            id: None,
            category: String::new(),
            protection: PolicyProtection::Secret,
            rules: format!(
                "<PolicyRule PolicyRuleID=\"{{r}}\"><PolicyAction>{mark}</PolicyAction></PolicyRule>"
            ),
            collection: None,
        };
        let target = UserTarget::User(UserRef { tenant: scene.tenant.id, user });
        scene.bench.site.add_user_policy(&operator(), new, target).await.unwrap()
    };
    let theirs = add(USER, "theirs").await;
    let others = add(Guid::from_bytes([0x53; 16]), "others").await;
    let answer = ask(Some(&of_user)).await;
    let reply = ReplyAssignments::parse(&answer.reply()).unwrap();
    assert_eq!((reply.resource, reply.client_id), (ResourceType::User, id));
    assert!(answer.reply().contains("<RoamgateSignature "), "{}", answer.reply());
    let listed: Vec<_> = reply.assignments.iter().flat_map(|assignment| &assignment.policies).collect();
    let [policy] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((policy.id.to_string(), policy.policy_type), (theirs.id.clone(), ResourceType::User));
    assert!(policy.location.url.starts_with("https://<mp>/SMS_MP/.sms_pol?"), "{}", policy.location.url);

    // Its body likewise: for that user's token, for nobody else's and for no other user.
    let body = async |token: &str, policy: &Policy| {
        let ask =
            Ask::get(&format!("/SMS_MP_TokenAuth/.sms_pol?{}.{}", policy.id, policy.hash)).bearer(token);
        let answer = scene.bench.send_tls(ask.signed(device, Some(id), scene.now()), &scene.client).await;
        (answer.status, answer.reason())
    };
    assert_eq!(body(&of_user, &theirs).await, (200, None));
    assert_eq!(body(&of_user, &others).await, (403, Some(Reason::NotYourPolicy)));
    for token in [&of_device, &of_site] {
        assert_eq!(body(token, &theirs).await, (403, Some(Reason::NotYourPolicy)));
    }
}

/// The parts of a directory that no test here reads.
fn directory() -> NewDirectory {
    NewDirectory {
        name: String::new(),
        url: String::new(),
        base: String::new(),
        filter: String::new(),
        bind_dn: String::new(),
        secret: None,
        ca_pem: None,
        start_tls: false,
    }
}
