//! Limits as a device meets them: at the limit, one over it, and a hundred times it (R48, R52, R53).

use http_body_util::Full;
use proto::id::Guid;
use proto::token::TokenClass;
use runtime::config::{ByteSize, HumanDuration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connector::{FakeConnector, echo};
use crate::device::{Connection, Device, Got, facts, get, message, request};
use crate::site::ROLE;
use crate::{Running, start, within};

async fn connected(gateway: &Running) -> FakeConnector {
    FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await
}

/// Sends `text` as it is; status and code of the answer, and whether the connection was closed.
async fn raw(gateway: &Running, device: &Device, text: &str) -> (String, bool) {
    let mut stream = device.tls(gateway).await;
    // What is refused early is not taken whole.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.get(9..12).unwrap_or_default();
    let code = answer.split("roamgate-reason: ").nth(1).and_then(|rest| rest.get(..7)).unwrap_or_default();
    (format!("{status} {code}"), answer.contains("connection: close"))
}

#[tokio::test]
async fn heads_bodies_and_targets_are_taken_up_to_their_limits() {
    let gateway = start(|config| {
        config.limits.head_bytes = ByteSize::new(8192);
        config.limits.head_lines = 20;
        config.limits.body_bytes = ByteSize::new(10_000);
    })
    .await;
    let _connector = connected(&gateway).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let base = format!("/CCM_Proxy_ServerAuth/{ROLE}");
    let path = format!("{base}/SMS_MP_TokenAuth/.sms_aut");
    let head = |target: &str, more: &str| {
        let close = "Connection: close\r\n";
        format!("GET {target} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\n{close}{more}\r\n")
    };
    let filled = |bytes: usize| {
        let empty = head(&path, "X: \r\n").len();
        head(&path, &format!("X: {}\r\n", "x".repeat(bytes - empty)))
    };
    let lines = |count: usize| head(&path, &"X: y\r\n".repeat(count - 3));
    let target = |bytes: usize| head(&format!("{path}?{}", "x".repeat(bytes - path.len() - 1)), "");
    let body = |bytes: usize| {
        let head = format!("Host: gw\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n");
        let body = "x".repeat(bytes);
        format!(
            "CCM_POST {base}/ccm_system_tokenauth/request HTTP/1.1\r\n{head}Content-Length: {bytes}\r\n\r\n{body}"
        )
    };
    let passes = "200 ";
    for (what, text, expected) in [
        ("head bytes, n", filled(8192), passes),
        ("head bytes, n + 1", filled(8193), "431 RG-1008"),
        ("head bytes, 100 n", filled(819_200), "431 RG-1008"),
        ("head lines, n", lines(20), passes),
        ("head lines, n + 1", lines(21), "431 RG-1008"),
        ("head lines, 100 n", lines(2000), "431 RG-1008"),
        ("target, n", target(2048), passes),
        ("target, n + 1", target(2049), "414 RG-1004"),
        ("target, 100 n", target(204_800), "431 RG-1008"),
        ("body, n", body(10_000), passes),
        ("body, n + 1", body(10_001), "413 RG-1003"),
        ("body, 100 n", body(1_000_000), "413 RG-1003"),
    ] {
        assert_eq!(raw(&gateway, &device, &text).await, (expected.to_owned(), true), "{what}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_endpoint_without_a_body_takes_none_and_the_largest_message_passes() {
    let gateway = start(|_| {}).await;
    let _connector = connected(&gateway).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let largest = vec![b'x'; proto::limits::MESSAGE_BYTES];
    let mut connection = device.connect(&gateway).await;
    assert_eq!(connection.ask(message(&token, largest.clone())).await.status, 200);
    // Refused by what it states: nothing of it needs to come.
    let more = largest.len() + 1;
    let head = format!("Host: gw\r\nAuthorization: Bearer {token}\r\nContent-Length: {more}\r\n\r\n");
    let text =
        format!("CCM_POST /CCM_Proxy_ServerAuth/{ROLE}/ccm_system_tokenauth/request HTTP/1.1\r\n{head}x");
    assert_eq!(raw(&gateway, &device, &text).await, ("413 RG-1003".to_owned(), true));
    for bytes in [1, 100] {
        let mut connection = device.connect(&gateway).await;
        let asked = request("GET", "ServerAuth", "/SMS_MP_TokenAuth/.sms_aut", Some(&token));
        let got = connection.ask(asked.body(Full::new(vec![b'x'; bytes].into())).unwrap()).await;
        assert_eq!(got.refusal(), (413, Some("RG-1003")));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_told_408() {
    let gateway = start(|config| {
        config.limits.head_timeout = HumanDuration::new(std::time::Duration::from_millis(200));
    })
    .await;
    let device = Device::new(1);
    let got = raw(&gateway, &device, "GET / HTTP/1.1\r\nHost: g").await;
    assert_eq!(got, ("408 RG-1009".to_owned(), true));
    gateway.stop().await;
}

/// Asks `count` times on one connection; how often each status and code came.
async fn ask_often(
    connection: &mut Connection,
    count: usize,
    ask: impl Fn() -> http::Request<Full<bytes::Bytes>>,
) -> Vec<Got> {
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(connection.ask(ask()).await);
    }
    answers
}

fn count(answers: &[Got], status: u16, code: Option<&str>) -> usize {
    answers.iter().filter(|got| got.refusal() == (status, code)).count()
}

#[tokio::test]
async fn a_device_over_its_limit_gets_429_with_a_time_and_keeps_its_connection() {
    let gateway = start(|config| config.limits.device_requests = "1/min burst 5".parse().unwrap()).await;
    let connector = connected(&gateway).await;
    let (greedy, other) = (Device::new(1), Device::new(2));
    let token = greedy.token(&gateway);
    let mut connection = greedy.connect(&gateway).await;
    let answers = ask_often(&mut connection, 500, || facts(&token)).await;
    assert_eq!(count(&answers, 200, None), 5);
    assert_eq!(count(&answers, 429, Some("RG-1108")), 495, "all on one connection");
    let times = answers[5..].iter().map(|got| got.header("retry-after").unwrap().parse().unwrap());
    let times: Vec<u64> = times.collect();
    assert!(times.iter().all(|time| (50..=95).contains(time)), "{times:?}");
    assert!(times.iter().any(|time| *time != times[0]), "those refused together return apart");
    assert_eq!(connector.requests().len(), 5);

    let mut connection = other.connect(&gateway).await;
    assert_eq!(
        connection.ask(facts(&other.token(&gateway))).await.status,
        200,
        "a neighbour at the same address"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_source_that_proves_nothing_is_refused_before_it_is_looked_at() {
    let gateway = start(|config| config.limits.source_refused = "1/min burst 10".parse().unwrap()).await;
    let connector = connected(&gateway).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let mut connection = device.connect(&gateway).await;
    // A hundred good requests are charged nothing.
    let good = ask_often(&mut connection, 100, || facts(&token)).await;
    assert_eq!(count(&good, 200, None), 100);
    let mut stranger = Connection::open(&gateway, None).await;
    let answers = ask_often(&mut stranger, 1000, || get("ServerAuth", "/CCM_STS", None)).await;
    assert_eq!(count(&answers, 401, Some("RG-1201")), 10);
    assert_eq!(count(&answers, 429, Some("RG-1107")), 990);
    // Behind one address there may be thousands: whose token was verified before goes on, on any connection.
    assert_eq!(connection.ask(facts(&token)).await.status, 200);
    assert_eq!(device.connect(&gateway).await.ask(facts(&token)).await.status, 200);
    // What would cost a signature is not looked at, good or forged.
    let newcomer = Device::new(2);
    let mut other = newcomer.connect(&gateway).await;
    for text in [newcomer.token(&gateway), format!("{token}x"), "forged".to_owned()] {
        assert_eq!(other.ask(facts(&text)).await.refusal(), (429, Some("RG-1107")));
    }
    assert_eq!(
        other.ask(facts(&token)).await.refusal(),
        (401, Some("RG-1202")),
        "known, and without its key"
    );
    assert_eq!(connector.requests().len(), 102);
    gateway.stop().await;
}

#[tokio::test]
async fn heads_that_cannot_be_read_are_charged_to_their_source() {
    let gateway = start(|config| config.limits.source_refused = "1/min burst 3".parse().unwrap()).await;
    let device = Device::new(1);
    for _ in 0..3 {
        assert_eq!(raw(&gateway, &device, "bad\0\r\n\r\n").await.0, "400 RG-1005");
    }
    let last = crate::eventually(async || {
        let mut connection = device.connect(&gateway).await;
        let got = connection.ask(facts(&device.token(&gateway))).await;
        (got.status == 429).then_some(got)
    });
    assert_eq!(last.await.refusal(), (429, Some("RG-1107")));
    gateway.stop().await;
}

#[tokio::test]
async fn the_token_service_has_limits_by_key_by_source_and_in_all() {
    let gateway = start(|config| {
        config.limits.device_tokens = "1/min burst 3".parse().unwrap();
        config.limits.source_tokens = "1/min burst 5".parse().unwrap();
    })
    .await;
    let connector = connected(&gateway).await;
    let bulk = gateway.site.token(TokenClass::Bulk, None);
    let ask = || get("ServerAuth", "/CCM_STS", Some(&bulk));
    let mut first = Device::new(1).connect(&gateway).await;
    let answers = ask_often(&mut first, 5, ask).await;
    assert_eq!((count(&answers, 200, None), count(&answers, 429, Some("RG-1108"))), (3, 2));
    let mut second = Device::new(2).connect(&gateway).await;
    let answers = ask_often(&mut second, 3, ask).await;
    assert_eq!((count(&answers, 200, None), count(&answers, 429, Some("RG-1107"))), (2, 1));
    assert_eq!(connector.requests().len(), 5);
    gateway.stop().await;
}
