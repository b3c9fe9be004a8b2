//! Requests that pass, there and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use proto::id::Guid;
use proto::identity::FORGED_IDENTITY_HEADERS;
use proto::link::{AnswerHead, FromGateway, reset};
use proto::token::TokenClass;
use runtime::config::HumanDuration;

use crate::connector::{Act, FakeConnector, Handler, echo, ok};
use crate::device::{Connection, Device, facts, message, request};
use crate::{Running, SOON, start, within};

async fn connected(gateway: &Running, handler: Handler) -> FakeConnector {
    FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), handler).await
}

/// Bytes without a period that a lost or doubled frame could hide in.
fn noise(length: usize) -> Bytes {
    let mut state = 1_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(length)
    .collect()
}

#[tokio::test]
async fn a_get_and_a_message_of_a_mebibyte_go_there_and_back() {
    let gateway = start(|_| {}).await;
    let connector = connected(&gateway, echo()).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let mut connection = device.connect(&gateway).await;

    let got = connection.ask(facts(&token)).await;
    assert_eq!(got.refusal(), (200, None));
    assert_eq!(got.body, "GET /SMS_MP_TokenAuth/.sms_aut?MPLIST\n");
    assert_eq!(got.header("content-type"), Some("text/plain"));

    let body = noise(1 << 20);
    let got = connection.ask(message(&token, body.clone())).await;
    assert_eq!(got.status, 200);
    let expected = [b"CCM_POST /ccm_system_tokenauth/request\n".as_slice(), &body].concat();
    assert!(got.body == expected, "{} bytes came back of {}", got.body.len(), expected.len());

    let requests = connector.requests();
    assert_eq!(requests[1].body_length, Some(1 << 20));
    let role = requests[1].role;
    assert_eq!(
        requests[1].external,
        format!("https://gw.example/CCM_Proxy_ServerAuth/{role}/ccm_system_tokenauth/request")
    );
    assert_ne!(requests[0].request, requests[1].request);
    assert_eq!(got.header("roamgate-request-id"), Some(requests[1].request.to_string().as_str()));
    gateway.stop().await;
}

#[tokio::test]
async fn many_requests_at_once_share_a_tunnel_and_do_not_mix() {
    let gateway = start(|config| config.shards = 2).await;
    // One tunnel for two shards: the shard without one hands its requests over.
    let _connector = connected(&gateway, echo()).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let mut waiting = Vec::new();
    for number in 0..24_usize {
        let mut connection = device.connect(&gateway).await;
        let body = noise(number * 20_000);
        let answer = connection.send(message(&token, body.clone()));
        waiting.push(async move {
            let got = answer.await.unwrap();
            let _open = connection;
            assert_eq!(got.status, 200);
            assert!(got.body.ends_with(&body) && got.body.len() == body.len() + 39, "number {number}");
        });
    }
    within(futures_util::future::join_all(waiting)).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_download_that_nobody_reads_holds_up_nobody_else() {
    let gateway = start(|_| {}).await;
    let handler: Handler =
        Arc::new(|head, _| if head.target.contains("large") { ok(noise(32 << 20)) } else { ok("small") });
    let _connector = connected(&gateway, handler).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let path = "/SMS_MP_TokenAuth/.sms_aut?large";
    let text = format!(
        "GET /CCM_Proxy_ServerAuth/{}{path} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\n\r\n",
        crate::site::ROLE
    );
    let mut lazy = device.tls(&gateway).await;
    tokio::io::AsyncWriteExt::write_all(&mut lazy, text.as_bytes()).await.unwrap();

    let mut connection = device.connect(&gateway).await;
    for _ in 0..20 {
        assert_eq!(connection.ask(facts(&token)).await.body, "small");
    }
    // The lazy one gets all of it in the end.
    let mut connection = device.connect(&gateway).await;
    let large = request("GET", "ServerAuth", path, Some(&token)).body(Full::default()).unwrap();
    assert_eq!(connection.ask(large).await.body.len(), 32 << 20);
    drop(lazy);
    gateway.stop().await;
}

#[tokio::test]
async fn a_refusal_of_the_role_passes_with_its_phrase_and_code() {
    let gateway = start(|_| {}).await;
    let handler: Handler = Arc::new(|_, _| {
        let head = AnswerHead {
            status: 403,
            phrase: Some("CMGConnector_Forbidden".into()),
            headers: [("roamgate-reason", "RG-3201"), ("set-cookie", "a=b"), ("server", "inside")]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            body_length: None,
        };
        Act::Answer(head, Bytes::from_static(b"no"))
    });
    let _connector = connected(&gateway, handler).await;
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    let got = connection.ask(facts(&device.token(&gateway))).await;
    assert_eq!(got.refusal(), (403, Some("RG-3201")));
    assert_eq!(got.phrase.as_deref(), Some("CMGConnector_Forbidden"));
    assert_eq!(got.body, "no");
    assert!(got.header("set-cookie").is_none() && got.header("server").is_none());
    gateway.stop().await;
}

#[tokio::test]
async fn a_head_request_is_told_the_length_and_gets_no_body() {
    let gateway = start(|_| {}).await;
    let handler: Handler = Arc::new(|_, _| {
        Act::Answer(
            AnswerHead { status: 200, phrase: None, headers: Vec::new(), body_length: Some(1234) },
            Bytes::new(),
        )
    });
    let _connector = connected(&gateway, handler).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let mut connection = device.connect(&gateway).await;
    for _ in 0..2 {
        let head = request("HEAD", "ServerAuth", "/SMS_MP_TokenAuth/.sms_aut", Some(&token));
        let got = connection.ask(head.body(Full::default()).unwrap()).await;
        assert_eq!((got.status, got.header("content-length")), (200, Some("1234")));
        assert!(got.body.is_empty());
    }
    gateway.stop().await;
}

#[tokio::test]
async fn forged_identity_headers_never_reach_the_connection_point() {
    let gateway = start(|_| {}).await;
    let connector = connected(&gateway, echo()).await;
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    let token = device.token(&gateway);
    let mut forged = request("GET", "ServerAuth", "/SMS_MP_TokenAuth/.sms_aut", Some(&token))
        .header("ccmclientid", "GUID:kept")
        .header("cookie", "a=b")
        .header("roamgate-request-id", "chosen by the device");
    for name in FORGED_IDENTITY_HEADERS {
        forged = forged.header(*name, "10.0.0.1");
    }
    assert_eq!(connection.ask(forged.body(Full::default()).unwrap()).await.status, 200);
    let request = connector.requests().remove(0);
    let names: Vec<_> = request.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["authorization", "ccmclientid"]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_connection_point_lost_midway_is_502_with_a_code_and_a_time_to_return() {
    let gateway = start(|_| {}).await;
    let handler: Handler = Arc::new(|_, _| Act::Cut);
    let mut connector = connected(&gateway, handler).await;
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    let got = connection.ask(facts(&device.token(&gateway))).await;
    assert_eq!(got.refusal(), (502, Some("RG-1103")));
    let seconds: u64 = got.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=4).contains(&seconds), "{seconds}");
    connector.ended().await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_small_request_moves_once_to_another_connection_point() {
    let gateway = start(|_| {}).await;
    let cuts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&cuts);
    // Whichever is asked first cuts; the other one answers.
    let handler: Handler = Arc::new(move |_, body| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Act::Cut,
        _ => ok(Bytes::copy_from_slice(body)),
    });
    let _first = connected(&gateway, Arc::clone(&handler)).await;
    let second = gateway.site.connector(Guid::from_bytes([2; 16]));
    let _second = FakeConnector::dial(gateway.address, &second, handler).await;
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    let body = noise(64 * 1024);
    let got = connection.ask(message(&device.token(&gateway), body.clone())).await;
    assert_eq!((got.status, got.body == body), (200, true));
    assert_eq!(cuts.load(Ordering::SeqCst), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn a_large_request_does_not_move() {
    let gateway = start(|_| {}).await;
    let handler: Handler = Arc::new(|_, _| Act::Cut);
    let first = connected(&gateway, Arc::clone(&handler)).await;
    let second = gateway.site.connector(Guid::from_bytes([2; 16]));
    let second = FakeConnector::dial(gateway.address, &second, handler).await;
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    let got = connection.ask(message(&device.token(&gateway), noise(64 * 1024 + 1))).await;
    assert_eq!(got.refusal(), (502, Some("RG-1103")));
    assert_eq!(first.requests().len() + second.requests().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_504_and_the_connection_point_is_told() {
    let gateway = start(|config| {
        config.answer_timeout = HumanDuration::new(Duration::from_millis(50));
    })
    .await;
    let connector = connected(&gateway, Arc::new(|_, _| Act::Hold)).await;
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    let got = connection.ask(facts(&device.token(&gateway))).await;
    assert_eq!(got.refusal(), (504, Some("RG-1104")));
    // The stream is free again, and so is the connection.
    assert_eq!(connector.requests().len(), 1);
    let got = connection.ask(facts(&device.token(&gateway))).await;
    assert_eq!(got.status, 504);
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_that_the_connection_point_gives_up_names_the_cause() {
    let gateway = start(|_| {}).await;
    let handler: Handler = Arc::new(|_, _| Act::Reset(reset::ROLE_UNREACHABLE));
    let _connector = connected(&gateway, handler).await;
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    let got = connection.ask(facts(&device.token(&gateway))).await;
    assert_eq!(got.refusal(), (502, Some("RG-2101")));
    assert_eq!(got.phrase.as_deref(), Some("CMGConnector_BadGateway"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_drain_finishes_the_requests_under_way_and_says_goodbye() {
    let gateway = start(|_| {}).await;
    let mut connector = connected(&gateway, Arc::new(|_, _| Act::Hold)).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let mut connection = device.connect(&gateway).await;
    let answer = tokio::spawn(connection.send(facts(&token)));
    connector.has_requests(1).await;
    gateway.drain.begin(SOON);
    connector.release();
    let got = within(answer).await.unwrap().unwrap();
    assert_eq!((got.status, &got.body[..]), (200, &b"released"[..]));
    // Before the goodbye comes what is left to report.
    let counted = connector.heard(|message| match message {
        FromGateway::Counters { endpoints, .. } => Some(endpoints.clone()),
        _ => None,
    });
    let rows = counted.await;
    assert!(rows[0].name.starts_with("/CCM_PROXY_SERVERAUTH/"), "{rows:?}");
    assert_eq!((rows[0].requests, rows[0].responses, rows[0].response_bytes), (1, 1, 8));
    connector.ended().await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_itself_a_task_of_its_drain_stops_cleanly() {
    let (site, folder) = (crate::site::Site::new(), tempfile::tempdir().unwrap());
    let bound = gateway::Gateway::bind(crate::configure(&site, &folder), crate::clock()).unwrap();
    let address = bound.addresses()[0];
    let drain = runtime::Drain::new();
    let role = bound.run(drain.clone());
    drain.spawn(async move { role.await.unwrap() });
    let mut connector = FakeConnector::dial(address, &site.connector(Guid::nil()), echo()).await;
    drain.begin(SOON);
    assert_eq!(within(drain.finish()).await, runtime::drain::Finished::Clean);
    connector.ended().await;
}

#[tokio::test]
async fn a_device_that_goes_away_gives_its_place_back() {
    let gateway = start(|config| config.max_requests = 1).await;
    let connector = connected(&gateway, Arc::new(|_, _| Act::Hold)).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let mut connection = device.connect(&gateway).await;
    let answer = tokio::spawn(connection.send(facts(&token)));
    connector.has_requests(1).await;

    let mut other = device.connect(&gateway).await;
    assert_eq!(other.ask(facts(&token)).await.refusal(), (503, Some("RG-1105")));
    answer.abort();
    drop(connection);
    // Now there is a place, and the next request gets through.
    let second = crate::eventually(async || {
        let mut third = device.connect(&gateway).await;
        let answer = tokio::spawn(third.send(facts(&token)));
        for _ in 0..100 {
            if connector.requests().len() == 2 {
                return Some((third, answer));
            }
            if answer.is_finished() {
                return None;
            }
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    })
    .await;
    connector.release();
    assert_eq!(within(second.1).await.unwrap().unwrap().body, "released");
    gateway.stop().await;
}

#[tokio::test]
async fn a_bulk_token_opens_the_token_service_and_nothing_else() {
    let gateway = start(|_| {}).await;
    let connector = connected(&gateway, echo()).await;
    let bulk = gateway.site.token(TokenClass::Bulk, None);
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    let mut ask = async |method: &str, path: &str| {
        let asked = request(method, "MutualAuth", path, Some(&bulk)).body(Full::default()).unwrap();
        let got = connection.ask(asked).await;
        let (status, code) = got.refusal();
        (status, code.map(str::to_owned))
    };
    assert_eq!(ask("GET", "/CCM_STS").await.0, 200);
    let refused = (403, Some("RG-1205".to_owned()));
    assert_eq!(ask("CCM_POST", "/ccm_system_tokenauth/request").await, refused);
    assert_eq!(ask("GET", "/SMS_MP_TokenAuth/.sms_pol?x").await, refused);
    assert_eq!(connector.requests().len(), 1);
    let mut keyless = Connection::open(&gateway, None).await;
    let asked = request("GET", "ServerAuth", "/CCM_STS", Some(&bulk)).body(Full::default()).unwrap();
    assert_eq!(keyless.ask(asked).await.status, 200, "the token service asks for the key itself");
    gateway.stop().await;
}
