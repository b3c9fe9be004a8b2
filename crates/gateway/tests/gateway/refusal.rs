//! Requests that do not pass, as they look on the wire.

use http_body_util::Full;
use proto::id::Guid;
use proto::link::FromGateway;
use proto::token::TokenClass;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connector::{FakeConnector, echo};
use crate::device::{Connection, Device, facts, request, tls};
use crate::site::ROLE;
use crate::{Running, start, within};
use runtime::config::HumanDuration;

#[tokio::test]
async fn without_a_tunnel_it_is_503_at_once_with_a_time_to_return() {
    let gateway = start(|_| {}).await;
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    let got = connection.ask(facts(&device.token(&gateway))).await;
    assert_eq!(got.refusal(), (503, Some("RG-1102")));
    assert!(got.header("retry-after").is_some());
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_without_its_key_is_worth_nothing() {
    let gateway = start(|_| {}).await;
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let (owner, thief) = (Device::new(1), Device::new(2));
    let stolen = owner.token(&gateway);
    let mut connection = thief.connect(&gateway).await;
    let got = connection.ask(facts(&stolen)).await;
    assert_eq!(got.refusal(), (401, Some("RG-1202")));
    assert_eq!(got.phrase.as_deref(), Some("CMGService_Invalid_Token"));
    let text = String::from_utf8(got.body.to_vec()).unwrap();
    assert!(text.lines().count() == 1 && !text.contains(&owner.thumbprint().to_string()), "{text}");
    let mut bare = Connection::open(&gateway, None).await;
    assert_eq!(bare.ask(facts(&stolen)).await.refusal(), (401, Some("RG-1302")));
    assert!(connector.requests().is_empty());

    // The operator is told what the thief is not.
    let event = connector.heard(|message| match message {
        FromGateway::Events { events } => events.first().cloned(),
        _ => None,
    });
    let event = event.await;
    assert_eq!((event.reason.as_deref(), event.status, event.device), (Some("RG-1202"), 401, None));
    assert!(event.detail.contains(&owner.thumbprint().to_string()), "{}", event.detail);
    assert_eq!(got.header("roamgate-request-id"), Some(event.request.to_string().as_str()));
    gateway.stop().await;
}

#[tokio::test]
async fn each_door_says_what_it_misses() {
    let gateway = start(|_| {}).await;
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    for (door, token, code, phrase) in [
        ("ServerAuth", None, "RG-1201", "CMGService_Invalid_Token"),
        ("MutualAuth", None, "RG-1301", "CMGService_Invalid_Client_Certificate"),
        ("ServerAuth", Some("forged"), "RG-1202", "CMGService_Invalid_Token"),
        ("MutualAuth", Some("forged"), "RG-1202", "CMGService_Invalid_Client_Certificate"),
    ] {
        let asked = request("GET", door, "/CCM_STS", token).body(Full::default()).unwrap();
        let got = connection.ask(asked).await;
        assert_eq!(got.refusal(), (401, Some(code)), "{door}");
        assert_eq!(got.phrase.as_deref(), Some(phrase), "{door}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_alike_with_and_without_a_token() {
    let gateway = start(|_| {}).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let mut connection = device.connect(&gateway).await;
    for token in [None, Some(token.as_str())] {
        let asked = request("GET", "ServerAuth", "/elsewhere", token).body(Full::default()).unwrap();
        let got = connection.ask(asked).await;
        assert_eq!((got.refusal(), got.phrase.as_deref()), ((404, Some("RG-1001")), None));
        let asked = request("POST", "ServerAuth", "/CCM_STS", token).body(Full::default()).unwrap();
        let got = connection.ask(asked).await;
        assert_eq!((got.refusal(), got.header("allow")), ((405, Some("RG-1002")), Some("GET")));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_gateways_page_names_site_and_roles() {
    let gateway = start(|_| {}).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let mut connection = device.connect(&gateway).await;
    let page = |token: Option<&str>| {
        let mut page = http::Request::builder().uri("/CCM_Proxy_MutualAuth/ServiceMetadata");
        page = page.header("host", "gw");
        if let Some(token) = token {
            page = page.header("authorization", format!("Bearer {token}"));
        }
        page.body(Full::default()).unwrap()
    };
    let got = connection.ask(page(Some(&token))).await;
    assert_eq!(got.refusal(), (200, None));
    let json: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(json["site_code"], "RG1");
    assert_eq!(json["gateway"], "gw1");
    assert_eq!(json["snapshot_version"], 5);
    assert_eq!(json["roles"][0]["role_id"], ROLE.to_string());
    assert_eq!(connection.ask(page(None)).await.refusal(), (401, Some("RG-1301")));
    gateway.stop().await;
}

/// Sends `text` as it is and returns all that comes back until the gateway closes.
async fn raw(gateway: &Running, text: &str) -> String {
    let mut stream = tls(gateway, None).await;
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is reset after its answer was read counts as closed.
    let _ = within(stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn after_a_malformed_request_the_connection_is_closed_and_nothing_passes() {
    let gateway = start(|_| {}).await;
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let bulk = gateway.site.token(TokenClass::Bulk, None);
    let path = format!("/CCM_Proxy_ServerAuth/{ROLE}/CCM_STS");
    let smuggled = format!("GET {path} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {bulk}\r\n\r\n");
    for (head, code) in [
        (format!("GET {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), "RG-1005"),
        (format!("GET {path} HTTP/1.1\r\n\r\n"), "RG-1005"),
        (format!("GET https://inside{path} HTTP/1.1\r\nHost: gw\r\n\r\n"), "RG-1005"),
        (
            format!("GET {path} HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            "RG-1005",
        ),
        (
            format!("GET {path} HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "RG-1007",
        ),
        (format!("GET {path}?{} HTTP/1.1\r\nHost: gw\r\n\r\n", "a".repeat(2048)), "RG-1004"),
        (format!("GET {path} HTTP/1.1\r\nHost: gw\r\nContent-Length: 5\r\n\r\nhello"), "RG-1003"),
    ] {
        let answer = raw(&gateway, &format!("{head}{smuggled}")).await;
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
        assert!(answer.contains(code), "{head}\n{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    // What hyper itself refuses: no request of ours begins, the connection ends.
    for head in [
        format!("GET {path} HTTP/1.1\r\nHost: gw\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: gw\r\nContent-Length: +1\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost : gw\r\n\r\n"),
        format!("GET {path} HTTP/1.1\r\nHost: gw\r\n folded: x\r\n\r\n"),
        "\u{1}\r\n\r\n".to_owned(),
    ] {
        let answer = raw(&gateway, &format!("{head}{smuggled}")).await;
        assert!(!answer.contains(" 200 "), "{head}\n{answer}");
    }
    assert!(connector.requests().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn a_chunked_body_is_counted_as_it_comes_and_ends_its_connection() {
    let gateway = start(|config| config.limits.chunked_bodies = true).await;
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let bulk = gateway.site.token(TokenClass::Bulk, None);
    let path = format!("/CCM_Proxy_ServerAuth/{ROLE}/CCM_STS");
    let get = format!("GET {path} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {bulk}\r\n");
    let chunked = |chunks: &str| format!("{get}Transfer-Encoding: chunked\r\n\r\n{chunks}");
    let answer = raw(&gateway, &chunked("5\r\nhello\r\n0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("RG-1003"), "{answer}");
    // An empty one is within the bound of nothing; but whoever also states a length has the rest thrown away.
    let both = format!("{get}Content-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{get}\r\n");
    let answer = raw(&gateway, &both).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 1, "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    // What was smuggled behind the chunks reached nobody.
    let answered = connector.requests().iter().filter(|request| request.body_length.is_none()).count();
    assert_eq!(answered, connector.requests().len());
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up_held_or_streamed() {
    let gateway = start(|config| {
        config.body_timeout = HumanDuration::new(std::time::Duration::from_millis(50));
    })
    .await;
    let _connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    for length in [20, 1 << 20] {
        let text = format!(
            "CCM_POST /CCM_Proxy_ServerAuth/{ROLE}/ccm_system_tokenauth/request HTTP/1.1\r\nHost: gw\r\n\
             Authorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\nbegin"
        );
        let mut stream = device.tls(&gateway).await;
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = within(stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("RG-1009"), "{answer}");
    }
    gateway.stop().await;
}
