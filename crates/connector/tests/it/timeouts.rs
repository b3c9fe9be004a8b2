//! Roles that are not there, or not in time. The timeout is short; only its outcome is looked at.

use std::time::Duration;

use bytes::Bytes;
use proto::link::{Headers, reset};

use crate::gateway::{Reply, Shape};
use crate::role::{Act, Role};
use crate::scene::{Scene, head};

const SHORT: Duration = Duration::from_millis(300);

fn reason<'a>(headers: &'a Headers<'_>) -> &'a str {
    &headers.iter().find(|(name, _)| name == "roamgate-reason").expect("a reason").1
}

#[tokio::test]
async fn a_role_that_is_down_is_a_502_that_invites_to_come_back() {
    let gone = {
        let role = Role::echo().await;
        role.url()
    };
    let mut scene = Scene::with(&gone, Shape::single(), SHORT * 10).await;
    let (answer, _) = scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await.answer();
    assert_eq!((answer.status, answer.phrase.as_deref()), (502, Some("CMGConnector_BadGateway")));
    assert_eq!(reason(&answer.headers), "RG-2101");
    assert!(answer.headers.iter().any(|(name, _)| name == "retry-after"));
    let detail = scene
        .site
        .hear("the event", |up| match up {
            proto::link::Up::Events { events } => events.first().map(|event| event.detail.clone()),
            _ => None,
        })
        .await;
    assert!(detail.starts_with("the role cannot be reached: no connection to 127.0.0.1:"), "{detail}");
}

#[tokio::test]
async fn a_role_that_hangs_is_a_504() {
    let role = Role::start(|_| Act::Hang).await;
    let scene = Scene::with(&role.url(), Shape::single(), SHORT).await;
    for body in [Bytes::new(), vec![1; 100_000].into()] {
        let method = if body.is_empty() { "GET" } else { "CCM_POST" };
        let target = if body.is_empty() { "/CCM_STS" } else { "/ccm_system_tokenauth/request" };
        let (answer, _) = scene.gateway.ask(&head(method, target), &body).await.answer();
        assert_eq!((answer.status, answer.phrase.as_deref()), (504, Some("CMGConnector_GatewayTimeout")));
        assert_eq!(reason(&answer.headers), "RG-2102");
    }
}

#[tokio::test]
async fn silence_in_the_middle_of_an_answer_ends_it() {
    let role = Role::start(|seen| {
        if seen.body.is_empty() {
            Act::Write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello".into())
        } else {
            Act::Hang
        }
    })
    .await;
    let scene = Scene::with(&role.url(), Shape::single(), SHORT).await;
    let reply = scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await;
    let Reply::Cut(answer, code) = reply else { panic!("{reply:?}") };
    assert_eq!((answer.status, code), (200, reset::TIMEOUT));
}

#[tokio::test]
async fn a_body_that_comes_to_a_halt_ends_the_request() {
    let role = Role::echo().await;
    let scene = Scene::with(&role.url(), Shape::single(), SHORT).await;
    let mut open = scene.gateway.open(&head("CCM_POST", "/ccm_system_tokenauth/request"), false);
    open.send(Bytes::from_static(b"half"), false).await;
    assert_eq!(open.reply().await, Reply::Reset(reset::TIMEOUT));
    assert!(role.seen().is_empty());
}
