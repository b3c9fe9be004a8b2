//! More than is bearable: new devices faster than they may come, requests beyond the places, and what one
//! request costs the database.

use std::time::Duration;

use proto::limits::MESSAGE_BYTES;
use proto::message::MessageEndpoint;
use proto::reason::Reason;
use site::db::DbCounts;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::message::plain;
use crate::support::{Answer, Ask, Bench, TestDevice, Token, devices, operator, registration_body, until};

/// Where a registered device sends with its token.
const BY_TOKEN: &str = "/ccm_system_tokenauth/request";

/// A request's id, as a connection point names it.
const REQUEST: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn registration(bench: &Bench, device: &TestDevice) -> Ask {
    let body = registration_body(device, "PC1", bench.now(), None);
    let message = plain(bench, MessageEndpoint::ClientRegistration, &body);
    Ask::message("/ccm_system/request", message).signed(device, None, bench.now())
}

fn retry_after(answer: &Answer) -> u64 {
    answer.header("Retry-After").expect("a time to come again").parse().unwrap()
}

#[tokio::test]
async fn one_new_device_too_many_is_told_when_to_come_and_known_ones_are_taken() {
    let bench = Bench::with(&["127.0.0.0/8"]).await;
    for (name, value) in [("registration_burst", "1"), ("registration_rate", "2")] {
        bench.site.set_setting(&operator(), name, value).await.unwrap();
    }
    let [first, second, _] = devices();
    first.register(&bench).await;
    let asked = registration(&bench, second);
    let answer = bench.send(asked.clone()).await;
    assert_eq!((answer.status, answer.reason()), (429, Some(Reason::RegistrationTooFast)));
    assert!((30..=60).contains(&retry_after(&answer)), "{answer:?}");
    assert!(answer.is_signed_by(&bench.site, &asked.asked()), "the device may believe it");
    first.register(&bench).await;
    bench.clock.advance(Duration::from_mins(1));
    second.register(&bench).await;
}

#[tokio::test]
async fn requests_beyond_places_and_queue_are_sent_away_at_once_and_the_others_answered() {
    const ASKED: usize = 60;
    let bench =
        Bench::configured(&["127.0.0.0/8"], |config| management_point::Config { max_requests: 1, ..config })
            .await;
    let asks: Vec<_> = (0..ASKED).map(|_| registration(&bench, &devices()[0])).collect();
    let answers = asks.into_iter().map(|ask| {
        let address = bench.address;
        tokio::spawn(async move { ask.send(address).await })
    });
    let (mut taken, mut busy) = (0, 0);
    for answer in answers.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        match (answer.status, answer.reason()) {
            (200, None) => taken += 1,
            (503, Some(Reason::Busy)) => {
                assert!(
                    (5..=30).contains(&retry_after(&answer)),
                    "spread, so that they do not come together"
                );
                busy += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(taken + busy, ASKED);
    assert!(taken >= 5, "one is answered and four wait for it: {taken}");
    assert!(busy > 0, "nobody waits in a queue without end");
    devices()[1].register(&bench).await;
}

/// Announces a body of the largest size, sends so much of it and no more. The role has begun to read it.
async fn send_part(bench: &Bench, headers: &[(&str, &str)], bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    let mut head = format!("CCM_POST {BY_TOKEN} HTTP/1.1\r\nHost: mp\r\nExpect: 100-continue\r\n");
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.extend(["Content-Length: ", &MESSAGE_BYTES.to_string(), "\r\n\r\n"]);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n", "{}", String::from_utf8_lossy(&go_on));
    stream.write_all(&vec![b'x'; bytes]).await.unwrap();
    stream
}

#[tokio::test]
async fn bodies_that_drip_keep_nobody_from_sending_his() {
    let bench = Bench::start().await;
    let mut dripping = Vec::new();
    for _ in 0..100 {
        dripping.push(send_part(&bench, &[], 1).await);
    }
    let large = bench.send(Ask::message("/ccm_system/request", vec![b'x'; 1024 * 1024])).await;
    assert_eq!((large.status, large.reason()), (400, Some(Reason::NotAMessage)), "read and judged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_holds_its_share_is_told_to_come_again_and_others_are_taken() {
    let bench = Bench::start().await;
    let [device, other, _] = devices();
    let mut tokens = Vec::new();
    for device in [device, other] {
        let id = device.enroll(&bench).await;
        tokens.push(format!("Bearer {}", device.token(&bench, id, Token::Device).await));
    }
    let large =
        |token: &str| Ask::message(BY_TOKEN, vec![b'x'; MESSAGE_BYTES]).header("Authorization", token);
    // Through a connection point, as all that come from outside: the address is the same for both.
    let named = [("Authorization", tokens[0].as_str()), (proto::reason::REQUEST_ID_HEADER, REQUEST)];
    let _held = [
        send_part(&bench, &named, MESSAGE_BYTES - 1).await,
        send_part(&bench, &named, MESSAGE_BYTES - 1).await,
    ];
    let refused = until(async || {
        let answer = bench.send(large(&tokens[0])).await;
        (answer.reason() == Some(Reason::Busy)).then_some(answer)
    });
    let refused = refused.await;
    assert_eq!(refused.status, 503);
    assert!((5..=30).contains(&retry_after(&refused)), "{refused:?}");
    let taken = bench.send(large(&tokens[1])).await;
    assert_eq!((taken.status, taken.reason()), (400, Some(Reason::NotAMessage)), "read and judged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_with_one_bulk_token_does_not_stop_renewals() {
    let configure = |config| management_point::Config { max_requests: 4, ..config };
    let bench = Bench::configured(&["127.0.0.0/8"], configure).await;
    let [device, newcomer, _] = devices();
    let id = device.enroll(&bench).await;
    let own = device.token(&bench, id, Token::SelfProve).await;
    let bulk = bench.bulk_token().await.text;
    let ask_all = |asks: Vec<Ask>| {
        let address = bench.address;
        asks.into_iter().map(|ask| tokio::spawn(async move { ask.send(address).await })).collect::<Vec<_>>()
    };
    let bulk = |_| Ask::get("/CCM_STS").bearer(&bulk).signed(newcomer, None, bench.now());
    let storm = ask_all((0..200).map(bulk).collect());
    let renewals = (0..10).map(|_| Ask::get("/CCM_STS").bearer(&own).signed(device, Some(id), bench.now()));
    for answer in ask_all(renewals.collect()) {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, answer.reason()), (200, None));
    }
    let mut given = 0;
    for answer in storm {
        let answer = answer.await.unwrap();
        match (answer.status, answer.reason()) {
            (200, None) => given += 1,
            (503, Some(Reason::Busy)) => assert!((5..=30).contains(&retry_after(&answer))),
            other => panic!("{other:?}"),
        }
    }
    assert!(given >= 11, "its share of places and queue is used: {given}");
}

#[tokio::test]
async fn a_token_and_a_registration_cost_one_read_and_one_write_each() {
    let bench = Bench::with(&["127.0.0.0/8"]).await;
    let device = &devices()[0];
    // What the role itself reads at its start is behind us then.
    devices()[1].register(&bench).await;
    let before = bench.site.database_counts();
    let id = device.register(&bench).await.client_id;
    assert_eq!(cost(&bench, before), (1, 1), "a registration, its message id with it");
    let token = device.confirm(&bench, id).await.pre_auth_token.unwrap();
    let before = bench.site.database_counts();
    device.exchange(&bench, &token, Some(id)).await;
    assert_eq!(cost(&bench, before), (1, 1), "the record, and the message id");
}

fn cost(bench: &Bench, before: DbCounts) -> (u64, u64) {
    let now = bench.site.database_counts();
    (now.reads - before.reads, now.writes - before.writes)
}
