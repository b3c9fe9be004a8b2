//! Who connects, and holds on: crowds at the door beside those who must come through.

use std::sync::Arc;

use proto::id::Guid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::connector::{Act, FakeConnector, echo};
use crate::device::{Connection, Device, connect_from, facts, try_tls};
use crate::site::ROLE;
use crate::{Running, eventually, start, within};

/// Connects so often from addresses that end in these numbers; those who were let in.
async fn crowd(gateway: &Running, from: impl Iterator<Item = [u8; 4]>) -> Vec<TlsStream<TcpStream>> {
    let mut held = Vec::new();
    for from in from {
        held.extend(try_tls(gateway, from, None).await.ok());
    }
    held
}

async fn limited(gateway: &Running, limit: &str) -> u64 {
    let (_, text) = crate::admin::get(gateway, "/metrics").await;
    let series = format!("roamgate_gateway_limited_total{{limit=\"{limit}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap()
}

#[tokio::test]
async fn one_address_holds_its_share_of_the_connections_and_others_come_through() {
    let gateway = start(|config| {
        config.max_connections = 40;
        config.limits.source_connections = "25 %".parse().unwrap();
    })
    .await;
    let held = crowd(&gateway, (0..20).map(|_| [127, 0, 5, 1])).await;
    assert_eq!(held.len(), 10);
    assert_eq!(limited(&gateway, "source_connections").await, 10);
    let device = Device::new(1);
    let mut other = device.connect(&gateway).await;
    let got = other.ask(facts(&device.token(&gateway))).await;
    assert_eq!(got.refusal(), (503, Some("RG-1102")), "there is no tunnel, but it is let in and heard");
    drop(held);
    // Places come back.
    eventually(async || (!crowd(&gateway, std::iter::once([127, 0, 5, 1])).await.is_empty()).then_some(()))
        .await;
    within(gateway.stop()).await;
}

#[tokio::test]
async fn a_connection_point_comes_through_when_devices_hold_all_their_places() {
    let gateway = start(|config| {
        config.max_connections = 40;
        config.limits.tunnel_connections = 10;
    })
    .await;
    let held = crowd(&gateway, (1..=40).map(|last| [127, 0, 6, last])).await;
    assert_eq!(held.len(), 30, "ten are kept");
    assert_eq!(limited(&gateway, "tunnel_connections").await, 10);
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let device = Device::new(1);
    let mut connection = Connection::over(held.into_iter().next().unwrap()).await;
    let forged = connection.ask(facts("forged")).await;
    assert_eq!(forged.refusal(), (401, Some("RG-1202")), "who was let in is served");
    // Those who left have left their places.
    let stream = eventually(async || device.try_tls(&gateway).await.ok()).await;
    let mut connection = Connection::over(stream).await;
    assert_eq!(connection.ask(facts(&device.token(&gateway))).await.status, 200);
    assert_eq!(connector.requests().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn connections_that_say_nothing_use_up_no_handshakes_and_those_that_greet_do() {
    let gateway = start(|config| {
        config.limits.source_handshakes = "1/h burst 5".parse().unwrap();
        config.limits.all_handshakes = "1/h burst 8".parse().unwrap();
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(connect_from(&gateway, [127, 0, 9, 9]).await.unwrap());
    }
    assert_eq!(crowd(&gateway, (0..8).map(|_| [127, 0, 9, 9])).await.len(), 5);
    assert_eq!(crowd(&gateway, (0..5).map(|_| [127, 0, 9, 10])).await.len(), 3, "all, together");
    assert_eq!(
        (limited(&gateway, "source_handshakes").await, limited(&gateway, "all_handshakes").await),
        (3, 2)
    );
    drop(silent);
    gateway.stop().await;
}

#[tokio::test]
async fn a_connection_point_dials_again_where_all_handshakes_are_used_up() {
    let gateway = start(|config| config.limits.all_handshakes = "1/h burst 4".parse().unwrap()).await;
    let link = gateway.site.connector(Guid::nil());
    let first = FakeConnector::dial(gateway.address, &link, echo()).await;
    assert_eq!(crowd(&gateway, (0..10).map(|_| [127, 0, 9, 11])).await.len(), 3);
    // A stranger's word that it wants a tunnel is worth nothing at another address; the known one needs none.
    first.leave();
    let _second = FakeConnector::dial(gateway.address, &link, echo()).await;
    assert_eq!(crowd(&gateway, (0..3).map(|_| [127, 0, 9, 11])).await.len(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn one_device_has_so_many_requests_under_way_and_leaves_the_rest_to_others() {
    let gateway = start(|config| {
        config.max_requests = 6;
        config.limits.device_at_once = "4".parse().unwrap();
    })
    .await;
    let hold = Arc::new(|_: &_, _: &[u8]| Act::Hold);
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), hold).await;
    let (greedy, other) = (Device::new(1), Device::new(2));
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut connection = greedy.connect(&gateway).await;
        let answer = tokio::spawn(connection.send(facts(&greedy.token(&gateway))));
        held.push((connection, answer));
    }
    connector.has_requests(4).await;
    let mut fifth = greedy.connect(&gateway).await;
    for _ in 0..400 {
        let got = fifth.ask(facts(&greedy.token(&gateway))).await;
        assert_eq!(got.refusal(), (429, Some("RG-1108")));
        let wait: u64 = got.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=6).contains(&wait), "{wait}");
    }
    for _ in 0..2 {
        let mut connection = other.connect(&gateway).await;
        let answer = tokio::spawn(connection.send(facts(&other.token(&gateway))));
        held.push((connection, answer));
    }
    connector.has_requests(6).await;
    assert_eq!(limited(&gateway, "device_at_once").await, 400);
    connector.release();
    for (_, answer) in held {
        assert_eq!(within(answer).await.unwrap().unwrap().body, "released");
    }
    // With each that ends there is room for another.
    let answer = tokio::spawn(fifth.send(facts(&greedy.token(&gateway))));
    connector.has_requests(7).await;
    connector.release();
    assert_eq!(within(answer).await.unwrap().unwrap().body, "released");
    gateway.stop().await;
}

#[tokio::test]
async fn a_device_that_drips_its_bodies_takes_no_place_from_others() {
    let gateway = start(|config| config.max_requests = 2).await;
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let (slow, other) = (Device::new(1), Device::new(2));
    let head = format!(
        "CCM_POST /CCM_Proxy_ServerAuth/{ROLE}/ccm_system_tokenauth/request HTTP/1.1\r\nHost: gw\r\n\
         Authorization: Bearer {}\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
        slow.token(&gateway)
    );
    let mut dripping = Vec::new();
    for _ in 0..5 {
        let mut stream = slow.tls(&gateway).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut word = [0; 21];
        // It comes when the body is waited for.
        within(stream.read_exact(&mut word)).await.unwrap();
        assert_eq!(&word, b"HTTP/1.1 100 Continue");
        stream.write_all(b"x").await.unwrap();
        dripping.push(stream);
    }
    let mut connection = other.connect(&gateway).await;
    assert_eq!(connection.ask(facts(&other.token(&gateway))).await.status, 200);
    // Whoever goes on after all is served.
    let mut stream = dripping.pop().unwrap();
    stream.write_all(&[b'x'; 999]).await.unwrap();
    connector.has_requests(2).await;
    drop(dripping);
    gateway.stop().await;
}
