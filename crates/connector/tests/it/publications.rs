//! Publications down, acknowledgements and reports up.

use proto::id::Guid;
use proto::link::{Down, EndpointCounters, Event, FromGateway, ToGateway, Up};
use proto::snapshot::Signed;
use proto::time::Timestamp;

use crate::gateway::Shape;
use crate::role::Role;
use crate::scene::{GATEWAY, Scene, head};

fn publication(version: u64, payload: &str) -> Down {
    let signed = Signed { payload: payload.into(), signature: vec![1], chain: vec![vec![2]] };
    Down::Publication { version, whole: true, signed }
}

async fn received(scene: &mut Scene) -> String {
    let received = tokio::time::timeout(std::time::Duration::from_secs(10), scene.gateway.control.recv());
    let ToGateway::Publication { signed } = received.await.expect("within 10 s").unwrap();
    signed.payload
}

async fn version_of(scene: &mut Scene, wanted: u64) {
    scene
        .site
        .hear("the acknowledgement", |up| match up {
            Up::Gateway(state) => (state.gateway == GATEWAY && state.version == wanted).then_some(()),
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn a_publication_reaches_the_gateway_once_and_its_acknowledgement_the_site() {
    let role = Role::echo().await;
    let shape = Shape { shards: 3, order: vec![0, 1, 2], version: 1 };
    let mut scene = Scene::with(&role.url(), shape, std::time::Duration::from_secs(20)).await;
    let large = "x".repeat(3 * 1024 * 1024);
    scene.site.say(publication(2, &large));
    assert!(received(&mut scene).await == large);
    scene.gateway.say(&FromGateway::Ack { version: 2 });
    version_of(&mut scene, 2).await;
    // What it has already does not come again, and not through another tunnel either.
    scene.site.say(publication(2, "again"));
    scene.site.say(publication(3, "next"));
    assert_eq!(received(&mut scene).await, "next");
}

#[tokio::test]
async fn a_gateway_that_is_behind_has_the_site_asked_for_it() {
    let role = Role::echo().await;
    let mut scene = Scene::start(&role).await;
    scene.site.say(publication(7, "first"));
    assert_eq!(received(&mut scene).await, "first");
    scene.gateway.say(&FromGateway::NeedSnapshot { have: 4 });
    let have = scene
        .site
        .hear("the wish for a snapshot", |up| match up {
            Up::NeedSnapshot { have } => Some(*have),
            _ => None,
        })
        .await;
    assert_eq!(have, 4);
    scene.site.say(publication(7, "whole"));
    assert_eq!(received(&mut scene).await, "whole");
}

#[tokio::test]
async fn what_a_gateway_reports_goes_up_under_its_name() {
    let role = Role::echo().await;
    let mut scene = Scene::start(&role).await;
    let row = EndpointCounters {
        name: "/CCM_Proxy_ServerAuth/72057594037927937/CCM_STS".into(),
        requests: 3,
        request_bytes: 0,
        responses: 3,
        response_bytes: 9,
        elapsed_micros: 5,
        failed: 0,
        with_token: 3,
        concurrent_max: 1,
    };
    let (from, to) = (Timestamp::from_seconds(1), Timestamp::from_seconds(2));
    scene.gateway.say(&FromGateway::Counters { from, to, endpoints: vec![row.clone()] });
    let counted = scene
        .site
        .hear("the counters", |up| match up {
            Up::Counters { gateway: Some(gateway), endpoints, .. } => Some((*gateway, endpoints.clone())),
            _ => None,
        })
        .await;
    assert_eq!(counted, (GATEWAY, vec![row]));

    let event = Event {
        at: from,
        request: proto::id::RequestId::new(Guid::nil()),
        hop: "site".into(),
        target: "GET /x".into(),
        status: 401,
        reason: Some("RG-1201".into()),
        detail: "no token".into(),
        device: None,
        elapsed_ms: 1,
    };
    scene.gateway.say(&FromGateway::Events { events: vec![event] });
    let hop = scene
        .site
        .hear("the event", |up| match up {
            Up::Events { events } => events.first().map(|event| event.hop.clone()),
            _ => None,
        })
        .await;
    assert_eq!(hop, "gateway", "whatever it says about itself");
}

#[tokio::test]
async fn the_last_counters_go_up_before_the_process_ends() {
    let role = Role::echo().await;
    let mut scene = Scene::start(&role).await;
    assert_eq!(scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await.status(), 200);
    scene.point.stop(std::time::Duration::from_secs(20)).await;
    let rows = scene
        .site
        .hear("the counters", |up| match up {
            Up::Counters { gateway: None, endpoints, .. } => Some(endpoints.clone()),
            _ => None,
        })
        .await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].name.as_str(), rows[0].requests, rows[0].response_bytes), ("CCM_STS", 1, 5));
    assert_eq!((rows[0].with_token, rows[0].failed), (1, 0));
}
