//! Clocks of devices that are wrong: measured, tolerated within a limit, named beyond it.

use std::time::Duration;

use proto::id::ClientId;
use proto::message::MessageEndpoint;
use proto::reason::Reason;
use proto::time::Timestamp;

use crate::support::{Ask, Bench, TestDevice, devices, fresh_id, heartbeat, operator};

fn beats(bench: &Bench, device: &TestDevice, id: ClientId) -> Ask {
    let body = device.message(bench, id, MessageEndpoint::Discovery, &heartbeat(id, bench.now(), 0));
    Ask::message("/ccm_system/request", body)
}

const MINUTE: u64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_tolerated_within_the_limit_and_shown() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let off = |minutes: u64| Duration::from_secs(minutes * MINUTE);
    let send = async |created: Timestamp| {
        let ask = beats(&bench, device, id).signed(device, Some(id), created);
        let (message, answer) = (ask.asked(), bench.send(ask).await);
        // Whatever becomes of it: the answer is signed, and with our time.
        assert!(answer.is_signed_by(&bench.site, &message));
        let input = answer.header("signature-input").unwrap();
        assert!(input.contains(&format!(";created={};", bench.now().seconds())), "{input}");
        answer.reason()
    };
    let shown = async || bench.site.find_device(id).await.unwrap().unwrap().clock_text();
    assert_eq!(send(bench.now()).await, None);
    assert_eq!(shown().await, None);
    for (created, text) in [
        (bench.now().minus(off(9)), "this device's clock is 9 minutes slow"),
        (bench.now().plus(off(59)), "this device's clock is 59 minutes fast"),
    ] {
        assert_eq!(send(created).await, None);
        assert_eq!(shown().await.as_deref(), Some(text));
    }
    for created in [bench.now().minus(off(61)), bench.now().plus(off(61))] {
        assert_eq!(send(created).await, Some(Reason::ClockSkewed));
    }
    assert_eq!(
        shown().await.as_deref(),
        Some("this device's clock is 59 minutes fast"),
        "what was refused counts nothing"
    );
    bench.site.set_setting(&operator(), "clock_skew_limit", "10").await.unwrap();
    assert_eq!(send(bench.now().minus(off(9))).await, None);
    assert_eq!(send(bench.now().minus(off(11))).await, Some(Reason::ClockSkewed));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_service_says_how_far_the_clock_is_off() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let bulk = bench.bulk_token().await;
    let slow = bench.now().minus(Duration::from_secs(150 * MINUTE));
    let answer = bench.send(Ask::get("/CCM_STS").bearer(&bulk.text).signed(device, None, slow)).await;
    assert_eq!((answer.status, answer.reason()), (403, Some(Reason::ClockSkewed)));
    assert_eq!(answer.text(), "RG-3108: this device's clock is 2 hours slow\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_taken_once_however_late_its_repetition_comes() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let ask = beats(&bench, device, id).signed_as(device, Some(id), bench.now(), fresh_id());
    assert_eq!(bench.send(ask.clone()).await.reason(), None);
    for _ in 0..7 {
        bench.clock.advance(Duration::from_secs(9 * MINUTE));
        bench.site.upkeep().await.unwrap();
        let reason = bench.send(ask.clone()).await.reason();
        assert!(matches!(reason, Some(Reason::MessageRepeated | Reason::ClockSkewed)), "{reason:?}");
    }
}
