//! Registration and confirmation.

use std::time::Duration;

use proto::id::{ClientId, Guid};
use proto::message::MessageEndpoint;
use proto::reason::Reason;
use proto::request::registration::{ApprovalStatus, ClientRegistrationResponse, RegistrationStatus};
use site::{BulkTokenApproval, DeviceFilter, NewBulkToken};

use crate::support::message::plain;
use crate::support::{
    Answer, Ask, Bench, TestDevice, confirmation_body, devices, operator, registration_body,
};

const INSIDE: &str = "/ccm_system/request";

fn registration(bench: &Bench, device: &TestDevice, path: &str) -> Ask {
    let body = registration_body(device, "PC1", bench.now(), None);
    Ask::message(path, plain(bench, MessageEndpoint::ClientRegistration, &body))
}

fn response(answer: &Answer) -> ClientRegistrationResponse {
    ClientRegistrationResponse::parse(&answer.reply()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_approves_and_a_named_network_does() {
    let held = Bench::start().await;
    let [device, ..] = devices();
    for path in [INSIDE, "/ccm_system_windowsauth/request", "/ccm_system_altauth/request"] {
        let answer = held.send(registration(&held, device, path)).await;
        assert_eq!(response(&answer).approval, ApprovalStatus::Unknown, "{path}");
    }
    let named = Bench::with(&["127.0.0.0/8"]).await;
    let answer = response(&named.send(registration(&named, device, INSIDE)).await);
    assert_eq!((answer.status, answer.approval), (RegistrationStatus::Registered, ApprovalStatus::Approved));
    let record = named.site.find_device(answer.client_id).await.unwrap().unwrap();
    assert_eq!(record.approval_by, "network 127.0.0.0/8");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_connection_point_is_no_evidence() {
    let bench = Bench::with(&["127.0.0.0/8"]).await;
    let [device, ..] = devices();
    // A connection point names each request; its address is inside, the device's is not.
    let request =
        |path| registration(&bench, device, path).header("roamgate-request-id", &Guid::nil().to_string());
    for path in [INSIDE, "/ccm_system_windowsauth/request", "/ccm_system_altauth/request"] {
        let answer = bench.send(request(path)).await;
        assert_eq!(answer.header("roamgate-request-id"), Some(Guid::nil().to_string().as_str()));
        assert_eq!(answer.reason(), Some(Reason::InsideTokenNotAccepted), "{path}");
    }
    assert!(bench.site.list_devices(DeviceFilter::default()).await.unwrap().is_empty());
    // With a token that says "hold" it is taken, and the network rule is not asked.
    let new = NewBulkToken { approval: BulkTokenApproval::Hold, ..NewBulkToken::default() };
    let bulk = bench.site.create_bulk_token(&operator(), new).await.unwrap();
    let token = device.exchange(&bench, &bulk.text, None).await;
    let ask = request("/ccm_system_tokenauth/request").bearer(&token).signed(device, None, bench.now());
    assert_eq!(response(&bench.send(ask).await).approval, ApprovalStatus::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_token_gives_the_approval_that_its_maker_chose() {
    let bench = Bench::start().await;
    for (device, approval, expected) in [
        (&devices()[0], BulkTokenApproval::Automatic, ApprovalStatus::Approved),
        (&devices()[1], BulkTokenApproval::Hold, ApprovalStatus::Unknown),
    ] {
        let new = NewBulkToken { approval, ..NewBulkToken::default() };
        let bulk = bench.site.create_bulk_token(&operator(), new).await.unwrap();
        let token = device.exchange(&bench, &bulk.text, None).await;
        let path = "/ccm_system_tokenauth/request";
        let answer =
            bench.send(registration(&bench, device, path).bearer(&token).signed(device, None, bench.now()));
        assert_eq!(response(&answer.await).approval, expected);
        assert_eq!(bench.site.show_bulk_token(bulk.token.id).await.unwrap().uses, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_registration_serves_its_own_key_only() {
    let bench = Bench::start().await;
    let [device, other, _] = devices();
    let token = device.exchange(&bench, &bench.bulk_token().await.text, None).await;
    let path = "/ccm_system_tokenauth/request";
    let stolen = registration(&bench, other, path).bearer(&token).signed(other, None, bench.now());
    let answer = bench.send(stolen).await;
    assert_eq!((answer.status, answer.reason()), (401, Some(Reason::InsideTokenNotAccepted)));
    assert!(bench.site.list_devices(DeviceFilter::default()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_bulk_token_stops_those_who_are_on_their_way() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let bulk = bench.bulk_token().await;
    let token = device.exchange(&bench, &bulk.text, None).await;
    bench.site.block_bulk_token(&operator(), bulk.token.id).await.unwrap();
    let path = "/ccm_system_tokenauth/request";
    let ask = registration(&bench, device, path).bearer(&token).signed(device, None, bench.now());
    let answer = bench.send(ask).await;
    assert_eq!(answer.reason(), Some(Reason::BulkTokenBlocked));
    assert!(bench.site.list_devices(DeviceFilter::default()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_site_chooses_the_id_and_keeps_it_for_the_key() {
    let bench = Bench::start().await;
    let [device, thief, _] = devices();
    let first = device.register(&bench).await.client_id;
    assert_eq!(device.register(&bench).await.client_id, first);
    // Another key that wishes for this id gets its own.
    let body = registration_body(thief, "PC9", bench.now(), Some(first));
    let ask = Ask::message(INSIDE, plain(&bench, MessageEndpoint::ClientRegistration, &body));
    let second = response(&bench.send(ask).await).client_id;
    assert_ne!(second, first);
    let record = bench.site.find_device(first).await.unwrap().unwrap();
    assert_eq!(record.signing_thumbprint, device.thumbprint());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_must_be_signed_by_the_key_that_it_registers_and_lately() {
    let bench = Bench::start().await;
    let [device, other, _] = devices();
    let good = registration_body(device, "PC1", bench.now(), None);
    let foreign = registration_body(other, "PC1", bench.now(), None);
    let signature = |xml: &str| xml[xml.find("<SignatureValue>").unwrap()..].to_owned();
    let send = |body: String| {
        bench.send(Ask::message(INSIDE, plain(&bench, MessageEndpoint::ClientRegistration, &body)))
    };
    for forged in [
        good.replace(&signature(&good), &signature(&foreign)),
        good.replace("Value=\"PC1\"", "Value=\"PC2\""),
        good.replace("SMSID=\"\"", "SMSID=\"GUID:00000000-0000-0000-0000-000000000001\""),
    ] {
        let answer = send(forged).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert_eq!(answer.reason(), Some(Reason::RegistrationNotProved));
    }
    // A value out of bounds is named, a hash of yesterday refused.
    for malformed in [
        good.replace("1.2.840.113549.1.1.11", "1.2.840.113549.1.1.5"),
        good.replace("AgentType=\"0\"", "AgentType=\"x\""),
        good.replace("Value=\"PC1\"", &format!("Value=\"{}\"", "x".repeat(513))),
    ] {
        let answer = send(malformed).await;
        assert_eq!((answer.status, answer.reason()), (400, Some(Reason::RegistrationMalformed)));
    }
    let old = bench.now().minus(Duration::from_secs(3601));
    let answer = send(registration_body(device, "PC1", old, None)).await;
    assert_eq!(answer.reason(), Some(Reason::MessageTooOld));
    for name in ["", "a\u{202E}b", &"x".repeat(256)] {
        let answer = send(registration_body(device, name, bench.now(), None)).await;
        let named_otherwise = name.is_empty();
        assert_eq!(answer.reason().is_none(), named_otherwise, "{name:?}: {:?}", answer.reason());
    }
    let all = bench.site.list_devices(DeviceFilter::default()).await.unwrap();
    assert_eq!(
        all.iter().map(|device| device.name.as_str()).collect::<Vec<_>>(),
        ["pc1"],
        "by its full name"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_signs_its_requests_cannot_be_imitated_by_one_that_does_not() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.register(&bench).await.client_id;
    assert!(bench.site.find_device(id).await.unwrap().unwrap().signs_requests);
    let unsigned = bench.send(registration(&bench, device, INSIDE)).await;
    assert_eq!(unsigned.reason(), Some(Reason::SignatureRequired));
    let body =
        plain(&bench, MessageEndpoint::ClientRegistration, &confirmation_body(device, id, bench.now()));
    assert_eq!(bench.send(Ask::message(INSIDE, body)).await.reason(), Some(Reason::SignatureRequired));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_site_can_shut_out_clients_that_do_not_sign() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    bench.site.set_setting(&operator(), "require_signed_requests", "on").await.unwrap();
    let unsigned = bench.send(registration(&bench, device, INSIDE)).await;
    assert_eq!(unsigned.reason(), Some(Reason::SignatureRequired));
    assert_eq!(device.register(&bench).await.status, RegistrationStatus::Registered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_gives_the_token_also_while_held_and_only_to_its_key() {
    let bench = Bench::start().await;
    let [device, other, _] = devices();
    let id = device.register(&bench).await.client_id;
    let held = device.confirm(&bench, id).await;
    assert_eq!((held.status, held.approval), (RegistrationStatus::Registered, ApprovalStatus::Unknown));
    let token = bench.site.token_keys().verify(&held.pre_auth_token.unwrap()).unwrap();
    assert_eq!((token.device, token.confirmation), (Some(id), Some(device.thumbprint())));

    let send = |body: String, by: &'static TestDevice, name: Option<ClientId>| {
        let body = plain(&bench, MessageEndpoint::ClientRegistration, &body);
        bench.send(Ask::message(INSIDE, body).signed(by, name, bench.now()))
    };
    let forged = send(confirmation_body(other, id, bench.now()), other, None).await;
    assert_eq!(forged.reason(), Some(Reason::MessageRefused));
    let stranger = ClientId::new(Guid::nil());
    let unknown = send(confirmation_body(other, stranger, bench.now()), other, None).await;
    assert_eq!(unknown.reason(), Some(Reason::MessageRefused));
    // Two keys in one request: the confirmation's and another's.
    let mixed = send(confirmation_body(device, id, bench.now()), other, None).await;
    assert_eq!(mixed.reason(), Some(Reason::WrongDevice));

    bench.site.block_device(&operator(), id, "").await.unwrap();
    let blocked = send(confirmation_body(device, id, bench.now()), device, Some(id)).await;
    assert_eq!(blocked.reason(), Some(Reason::Blocked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_the_sites_certificates_gets_the_whole_chain_on_request() {
    use proto::http_signature::{CERTIFICATE, WANT, read_certificates, verify_answer};
    use proto::trust::{Purpose, SiteRoot};
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let ask = registration(&bench, device, INSIDE).header(WANT, "chain").signed(device, None, bench.now());
    let (message, answer) = (ask.asked(), bench.send(ask).await);
    let chain = read_certificates(answer.header(CERTIFICATE).unwrap()).unwrap();
    assert_eq!(chain.len(), 3);
    assert_eq!(chain[2], bench.site.root_certificate());
    let root = SiteRoot::new(chain[2].clone()).unwrap();
    root.verify(&chain, Purpose::Message, bench.now()).unwrap();
    verify_answer(&chain[0], answer.status, message.answered(), |name| answer.header(name), &answer.body)
        .unwrap();
    let without = bench.send(registration(&bench, device, INSIDE).signed(device, None, bench.now())).await;
    assert_eq!(without.header(CERTIFICATE), None);
}
