//! What monitors see.

#[path = "../../../runtime/tests/exposition/mod.rs"]
mod exposition;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proto::id::Guid;
use proto::snapshot::Change;
use tokio::net::TcpStream;

use crate::authority::Authority;
use crate::connector::{FakeConnector, echo};
use crate::device::{Device, facts};
use crate::provider::{FIRST, tenant};
use crate::{Running, start, within};

pub(crate) async fn get(gateway: &Running, path: &str) -> (u16, String) {
    let stream = TcpStream::connect(gateway.admin).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().uri(path).header("host", "admin").body(Full::<Bytes>::default());
    let answer = within(sender.send_request(request.unwrap())).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn it_is_alive_at_once_and_ready_with_a_tunnel() {
    let gateway = start(|_| {}).await;
    assert_eq!(get(&gateway, "/livez").await.0, 200);
    let (status, text) = get(&gateway, "/readyz").await;
    assert_eq!(status, 503);
    assert!(
        text.contains("\ntunnel: failed: no tunnel") && text.contains("\nsnapshot: ok (version"),
        "{text}"
    );
    let _connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let (status, text) = get(&gateway, "/readyz").await;
    assert!(status == 200 && text.starts_with("ready\ndrain: ok\n"), "{status} {text}");
    let (status, text) = get(&gateway, "/readyz?format=json").await;
    assert!(status == 200 && text.starts_with("{\"ready\":true,\"checks\":["), "{status} {text}");
    assert_eq!(get(&gateway, "/").await.0, 404);
    gateway.stop().await;
}

#[tokio::test]
async fn metrics_count_requests_and_name_no_device() {
    let gateway = start(|_| {}).await;
    let _connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    assert_eq!(connection.ask(facts(&device.token(&gateway))).await.status, 200);
    assert_eq!(connection.ask(facts("forged")).await.status, 401);
    let text = crate::eventually(async || {
        let (_, text) = get(&gateway, "/metrics").await;
        (sum(&text, "roamgate_gateway_requests_total") == 2).then_some(text)
    })
    .await;
    for line in
        ["refused_total 1", "failed_total 0", "tunnels 1", "snapshot_version 5", "requests_in_flight 0"]
    {
        assert!(text.contains(&format!("\nroamgate_gateway_{line}\n")), "{line} in\n{text}");
    }
    assert!(!text.contains("GUID"), "{text}");
    gateway.stop().await;
}

/// All samples of a metric together.
fn sum(text: &str, name: &str) -> u64 {
    let samples =
        text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn who_watches_sees_the_drain_until_the_last_request_is_done() {
    let gateway = start(|_| {}).await;
    let hold: crate::connector::Handler = std::sync::Arc::new(|_, _| crate::connector::Act::Hold);
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), hold).await;
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    let ask = facts(&device.token(&gateway));
    let asked = tokio::spawn(async move { connection.ask(ask).await.status });
    crate::eventually(async || {
        let (_, text) = get(&gateway, "/metrics").await;
        text.contains("\nroamgate_gateway_requests_in_flight 1\n").then_some(())
    })
    .await;
    gateway.drain.begin(std::time::Duration::from_secs(20));
    let (status, text) = get(&gateway, "/readyz").await;
    assert!(status == 503 && text.contains("\ndrain: failed: draining"), "{status} {text}");
    connector.release();
    assert_eq!(within(asked).await.unwrap(), 200);
    gateway.stop().await;
}

#[tokio::test]
async fn the_page_is_well_formed_documented_and_names_nobody() {
    let gateway = start(|_| {}).await;
    let _connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    assert_eq!(connection.ask(facts(&device.token(&gateway))).await.status, 200);
    assert_eq!(connection.ask(facts("forged")).await.status, 401);
    let (_, text) = get(&gateway, "/metrics").await;
    let page = exposition::read(&text).unwrap();
    exposition::compare_with_the_documentation(&page, &["roamgate_gateway_"]);
    let known =
        ["door", "endpoint", "status_class", "reason", "outcome", "cause", "limit", "le", "version", "role"];
    for (series, _) in page.values().flat_map(|metric| &metric.samples) {
        for (name, value) in exposition::labels(series).unwrap() {
            assert!(known.contains(&name.as_str()), "{series}");
            assert!(value.len() <= 32 && !value.contains("GUID") && !value.contains("127.0.0.1"), "{series}");
        }
    }
    let refusals = &page["roamgate_gateway_refusals_total"].samples;
    assert!(refusals.len() == 1 && (refusals[0].1 - 1.0).abs() < f64::EPSILON, "{refusals:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn handshakes_connections_and_known_tokens_are_counted() {
    let gateway = start(|_| {}).await;
    let _connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let mut connection = device.connect(&gateway).await;
    for _ in 0..3 {
        assert_eq!(connection.ask(facts(&token)).await.status, 200);
    }
    let (_, text) = get(&gateway, "/metrics").await;
    let full = "roamgate_gateway_handshakes_total{outcome=\"full\"}";
    for (name, number) in [
        (full, 2),
        ("roamgate_gateway_handshake_duration_seconds_count", 2),
        ("roamgate_gateway_connections_accepted_total", 2),
        ("roamgate_gateway_connections", 2),
        ("roamgate_gateway_token_lookups_total{outcome=\"miss\"}", 1),
        ("roamgate_gateway_token_lookups_total{outcome=\"hit\"}", 2),
    ] {
        assert!(text.contains(&format!("\n{name} {number}\n")), "{name} in\n{text}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn metrics_tell_when_lists_and_keys_are_due() {
    let gateway = start(|_| {}).await;
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let (_, text) = get(&gateway, "/metrics").await;
    assert!(text.contains("\nroamgate_gateway_revocation_list_due_seconds 0\n"), "{text}");
    let list = Authority::root("Contoso Root").list(1, []);
    let due = list.next_update.seconds();
    let mut off = tenant(&[]);
    (off.tenant, off.enabled) = (Guid::nil(), false);
    off.keys_until = proto::time::Timestamp::from_seconds(1);
    let keys_until = tenant(&[FIRST]).keys_until.seconds();
    let changes =
        vec![Change::SetRevocations(list), Change::SetTenant(tenant(&[FIRST])), Change::SetTenant(off)];
    connector.change(&gateway.site, 5, changes).await;
    let (_, text) = get(&gateway, "/metrics").await;
    assert!(text.contains(&format!("\nroamgate_gateway_revocation_list_due_seconds {due}\n")), "{text}");
    assert!(text.contains(&format!("\nroamgate_gateway_tenant_keys_until_seconds {keys_until}\n")), "{text}");
    gateway.stop().await;
}
