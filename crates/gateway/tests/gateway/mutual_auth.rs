//! The MutualAuth door: who opens it with a certificate of an organisation's own authorities.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use proto::combination::Mode;
use proto::id::Guid;
use proto::link::FromGateway;
use proto::snapshot::{Change, PublishedRole};
use proto::token::TokenClass;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, date_time_ymd};

use crate::authority::{Authority, thumbprint, trust};
use crate::connector::{FakeConnector, echo};
use crate::device::{Connection, get, request};
use crate::site::ROLE;
use crate::{Running, start};

const PHRASE: Option<&str> = Some("CMGService_Invalid_Client_Certificate");

/// What a device with a certificate asks: site facts.
fn facts() -> Request<Full<Bytes>> {
    get("MutualAuth", "/SMS_MP/.sms_aut?MPLIST", None)
}

/// A gateway with a connection point; this authority is trusted, and its list names nobody. Version 6.
async fn trusting(authority: &Authority) -> (Running, FakeConnector) {
    let gateway = start(|_| {}).await;
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let changes = vec![trust(&[authority]), Change::SetRevocations(authority.list(1, []))];
    connector.change(&gateway.site, 5, changes).await;
    (gateway, connector)
}

#[tokio::test]
async fn a_trusted_certificate_needs_no_token_and_the_inside_is_told_which_it_was() {
    let root = Authority::root("Contoso Root");
    let (gateway, connector) = trusting(&root).await;
    let certificate = root.issue(100, |_| {});
    let mut connection = Connection::open(&gateway, Some(&certificate)).await;
    let mut asked = facts();
    asked.headers_mut().insert("roamgate-peer-certificate", "00".parse().unwrap());
    assert_eq!(connection.ask(asked).await.refusal(), (200, None));
    let message = request("CCM_POST", "MutualAuth", "/ccm_system/request", None);
    let got = connection.ask(message.body(Full::new("message".into())).unwrap()).await;
    assert_eq!(got.refusal(), (200, None));
    let seen = connector.requests();
    assert!(seen.iter().all(|head| head.certificate == Some(thumbprint(&certificate))), "{seen:?}");
    assert!(seen.iter().all(|head| head.headers.iter().all(|(name, _)| !name.contains("peer"))));

    let elsewhere = connection.ask(get("ServerAuth", "/SMS_MP/.sms_aut?MPLIST", None)).await;
    assert_eq!(elsewhere.refusal(), (401, Some("RG-1201")), "a certificate opens its own door");
    let not_its = connection.ask(get("MutualAuth", "/SMS_MP_TokenAuth/.sms_aut?MPLIST", None)).await;
    assert_eq!(not_its.refusal(), (403, Some("RG-1205")));
    gateway.stop().await;
}

#[tokio::test]
async fn every_refusal_is_an_answer_with_its_cause_and_the_connection_goes_on() {
    let (root, stranger) = (Authority::root("Contoso Root"), Authority::root("Evil Root"));
    let (gateway, connector) = trusting(&root).await;
    let issuing = root.below("Contoso Issuing", 7);
    let change = |change: fn(&mut CertificateParams)| root.issue(100, change);
    let cases = [
        ("unknown issuer", stranger.issue(100, |_| {}), "RG-1311", "Evil Root"),
        ("expired", change(|leaf| leaf.not_after = date_time_ymd(2026, 9, 1)), "RG-1312", "2026-09-01"),
        ("not yet", change(|leaf| leaf.not_before = date_time_ymd(2026, 12, 1)), "RG-1313", "2026-12-01"),
        ("no list of its issuer", issuing.issue(100, |_| {}), "RG-1315", "Contoso Issuing"),
        (
            "a server's",
            change(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            "RG-1316",
            "pc100",
        ),
        (
            "an authority's",
            change(|leaf| leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "RG-1316",
            "pc100",
        ),
    ];
    for (what, certificate, code, detail) in cases {
        let mut connection = Connection::open(&gateway, Some(&certificate)).await;
        for _ in 0..2 {
            let got = connection.ask(facts()).await;
            assert_eq!(got.refusal(), (401, Some(code)), "{what}");
            assert_eq!(got.phrase.as_deref(), PHRASE, "{what}");
            let text = String::from_utf8(got.body.to_vec()).unwrap();
            assert!(!text.contains(detail), "the device is told the code and no more: {text}");
            let id = got.header("roamgate-request-id").unwrap().to_owned();
            let event = connector
                .heard(|message| match message {
                    FromGateway::Events { events } => {
                        events.iter().find(|event| event.request.to_string() == id).cloned()
                    }
                    _ => None,
                })
                .await;
            assert!(event.detail.contains(detail), "{what}: the operator is told all: {}", event.detail);
        }
    }
    assert!(connector.requests().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn nothing_shown_and_a_devices_own_certificate_are_no_credential() {
    let root = Authority::root("Contoso Root");
    let (gateway, _connector) = trusting(&root).await;
    let own = crate::site::self_signed();
    for certificate in [None, Some(&own)] {
        let mut connection = Connection::open(&gateway, certificate).await;
        let got = connection.ask(facts()).await;
        assert_eq!((got.refusal(), got.phrase.as_deref()), ((401, Some("RG-1301")), PHRASE));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn trust_comes_and_goes_under_a_connection_that_stays_open() {
    let (root, other) = (Authority::root("Contoso Root"), Authority::root("Fabrikam Root"));
    let (gateway, connector) = trusting(&root).await;
    let certificate = other.issue(100, |_| {});
    let mut connection = Connection::open(&gateway, Some(&certificate)).await;
    assert_eq!(connection.ask(facts()).await.refusal(), (401, Some("RG-1311")));
    let both = vec![trust(&[&root, &other]), Change::SetRevocations(other.list(1, []))];
    connector.change(&gateway.site, 6, both).await;
    assert_eq!(connection.ask(facts()).await.refusal(), (200, None));
    connector.change(&gateway.site, 7, vec![trust(&[&root])]).await;
    assert_eq!(connection.ask(facts()).await.refusal(), (401, Some("RG-1311")));
    gateway.stop().await;
}

#[tokio::test]
async fn an_intermediate_that_the_operator_added_completes_the_chain_of_devices_that_leave_it_out() {
    let root = Authority::root("Contoso Root");
    let (gateway, connector) = trusting(&root).await;
    let issuing = root.below("Contoso Issuing", 7);
    connector.change(&gateway.site, 6, vec![Change::SetRevocations(issuing.list(1, []))]).await;
    let whole = issuing.issue(100, |_| {});
    let leaf_only = issuing.issue_alone(101);
    let mut connection = Connection::open(&gateway, Some(&whole)).await;
    assert_eq!(connection.ask(facts()).await.refusal(), (200, None));
    let mut connection = Connection::open(&gateway, Some(&leaf_only)).await;
    assert_eq!(connection.ask(facts()).await.refusal(), (401, Some("RG-1311")));
    connector.change(&gateway.site, 7, vec![trust(&[&root, &issuing])]).await;
    assert_eq!(connection.ask(facts()).await.refusal(), (200, None));
    gateway.stop().await;
}

#[tokio::test]
async fn a_certificate_that_ends_while_its_connection_is_open_opens_nothing_any_more() {
    let root = Authority::root("Contoso Root");
    let (gateway, _connector) = trusting(&root).await;
    let certificate = root.issue(100, |leaf| leaf.not_after = date_time_ymd(2026, 9, 23));
    let mut connection = Connection::open(&gateway, Some(&certificate)).await;
    assert_eq!(connection.ask(facts()).await.refusal(), (200, None));
    gateway.clock.advance(Duration::from_hours(24));
    assert_eq!(connection.ask(facts()).await.refusal(), (200, None));
    gateway.clock.advance(Duration::from_hours(24));
    assert_eq!(connection.ask(facts()).await.refusal(), (401, Some("RG-1312")));
    gateway.stop().await;
}

#[tokio::test]
async fn where_certificate_and_token_come_the_token_decides() {
    let root = Authority::root("Contoso Root");
    let (gateway, connector) = trusting(&root).await;
    let certificate = root.issue(100, |_| {});
    let device = proto::id::ClientId::new(Guid::from_bytes([1; 16]));
    let token = gateway.site.token(TokenClass::Device, Some((device, thumbprint(&certificate))));
    let mut connection = Connection::open(&gateway, Some(&certificate)).await;
    let path = "/SMS_MP_TokenAuth/.sms_aut?MPLIST";
    assert_eq!(connection.ask(get("MutualAuth", path, Some(&token))).await.refusal(), (200, None));
    assert_eq!(connector.requests()[0].certificate, None, "it opened nothing");
    let got = connection.ask(get("MutualAuth", "/SMS_MP/.sms_aut?MPLIST", Some("forged"))).await;
    assert_eq!((got.refusal(), got.phrase.as_deref()), ((401, Some("RG-1202")), PHRASE));
    gateway.stop().await;
}

#[tokio::test]
async fn a_blocked_certificate_is_refused_at_the_next_request() {
    let root = Authority::root("Contoso Root");
    let (gateway, connector) = trusting(&root).await;
    let certificate = root.issue(100, |_| {});
    let mut connection = Connection::open(&gateway, Some(&certificate)).await;
    assert_eq!(connection.ask(facts()).await.refusal(), (200, None));
    let device = proto::id::ClientId::new(Guid::from_bytes([1; 16]));
    let block = Change::BlockDevice { device, certificate: thumbprint(&certificate) };
    connector.change(&gateway.site, 6, vec![block]).await;
    let got = connection.ask(facts()).await;
    assert_eq!((got.refusal(), got.phrase.as_deref()), ((403, Some("RG-1207")), PHRASE));
    gateway.stop().await;
}

#[tokio::test]
async fn a_role_in_plain_http_mode_is_named_to_those_it_would_answer_otherwise() {
    let root = Authority::root("Contoso Root");
    let (gateway, connector) = trusting(&root).await;
    let role = PublishedRole { role: ROLE, name: "mp".into(), gateway_traffic: true, mode: Mode::Http };
    connector.change(&gateway.site, 6, vec![Change::SetRole(role)]).await;
    let certificate = root.issue(100, |_| {});
    let mut connection = Connection::open(&gateway, Some(&certificate)).await;
    assert_eq!(connection.ask(facts()).await.refusal(), (403, Some("RG-1006")));
    let mut stranger = Connection::open(&gateway, None).await;
    assert_eq!(stranger.ask(facts()).await.refusal(), (401, Some("RG-1301")));
    assert!(connector.requests().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn the_gateways_page_is_open_to_a_trusted_certificate() {
    let root = Authority::root("Contoso Root");
    let (gateway, _connector) = trusting(&root).await;
    let page = || {
        Request::builder()
            .uri("/CCM_Proxy_MutualAuth/ServiceMetadata")
            .header("host", "gw")
            .body(Full::default())
            .unwrap()
    };
    let certificate = root.issue(100, |_| {});
    let mut connection = Connection::open(&gateway, Some(&certificate)).await;
    assert_eq!(connection.ask(page()).await.refusal(), (200, None));
    let mut stranger = Connection::open(&gateway, None).await;
    assert_eq!(stranger.ask(page()).await.refusal(), (401, Some("RG-1301")));
    gateway.stop().await;
}
