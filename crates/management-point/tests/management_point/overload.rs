//! More than is bearable: new devices faster than they may come, requests beyond the places, and what one
//! request costs the database.

use std::time::Duration;

use proto::message::MessageEndpoint;
use proto::reason::Reason;
use site::db::DbCounts;

use crate::support::message::plain;
use crate::support::{Answer, Ask, Bench, TestDevice, devices, operator, registration_body};

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
