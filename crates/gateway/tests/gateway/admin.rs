//! What monitors see.

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

async fn get(gateway: &Running, path: &str) -> (u16, String) {
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
    assert!(text.contains("no tunnel") && !text.contains("no snapshot"), "{text}");
    let _connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    assert_eq!(get(&gateway, "/readyz").await, (200, "ready\n".to_owned()));
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
        text.contains("roamgate_gateway_requests_total 2").then_some(text)
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
