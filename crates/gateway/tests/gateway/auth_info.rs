//! The one thing that a stranger may ask.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use proto::entra::{AuthInfo, PublishedTenant};
use proto::snapshot::Change;

use crate::device::Connection;
use crate::provider::{AUDIENCE, FIRST, TENANT, tenant};
use crate::tenant::onboarded;

fn page(method: &str, door: &str, query: &str) -> Request<Full<Bytes>> {
    let uri = format!("/CCM_Proxy_{door}/AADAuthInfo{query}");
    Request::builder().method(method).uri(uri).header("host", "gw").body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_stranger_learns_the_app_of_an_onboarded_tenant_and_of_no_other() {
    let (gateway, connector) = onboarded().await;
    let mut stranger = Connection::open(&gateway, None).await;
    let (known, unknown) =
        (format!("?TenantID={TENANT}"), "?TenantID=9aaf466a-3f40-4468-b3cd-f0010f21f05a".to_owned());
    for door in ["ServerAuth", "MutualAuth"] {
        let got = stranger.ask(page("GET", door, &known)).await;
        assert_eq!((got.refusal(), got.header("content-type")), ((200, None), Some("application/json")));
        let info: AuthInfo = serde_json::from_slice(&got.body).unwrap();
        assert_eq!((info.tenant, info.resource.as_str()), (TENANT, AUDIENCE));
        let json: serde_json::Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(json["ClientAppId"], "0b7c8ab3-9ea1-4ffa-b2b9-8ffdd944bd8b");
        let head = stranger.ask(page("HEAD", door, &known)).await;
        assert_eq!((head.refusal(), head.body.len()), ((200, None), 0));
        assert_eq!(head.header("content-length"), Some(got.body.len().to_string().as_str()));
    }
    let refused = stranger.ask(page("GET", "ServerAuth", &unknown)).await;
    assert_eq!(refused.refusal(), (404, Some("RG-1001")));
    let elsewhere = stranger.ask(page("GET", "ServerAuth", "/elsewhere")).await.face();
    assert_eq!(refused.face(), elsewhere, "the ordinary answer for a path that leads nowhere");
    for query in ["", "?", "?TenantID=", "?TenantID=common", "?tenant=x", "?TenantID=x&TenantID=y"] {
        let got = stranger.ask(page("GET", "ServerAuth", query)).await;
        assert_eq!(got.face(), refused.face(), "{query}");
    }
    let posts = [page("POST", "ServerAuth", &known), page("POST", "ServerAuth", &unknown)];
    for post in posts {
        let got = stranger.ask(post).await;
        assert_eq!((got.refusal(), got.header("allow")), ((405, Some("RG-1002")), Some("GET, HEAD")));
    }

    let off = PublishedTenant { enabled: false, ..tenant(&[FIRST]) };
    connector.change(&gateway.site, 6, vec![Change::SetTenant(off)]).await;
    assert_eq!(stranger.ask(page("GET", "ServerAuth", &known)).await.face(), refused.face());
    assert!(connector.requests().is_empty(), "the gateway answers by itself");
    gateway.stop().await;
}

#[tokio::test]
async fn it_is_answered_while_nothing_inside_can_be_reached() {
    let (gateway, mut connector) = onboarded().await;
    connector.leave();
    connector.ended().await;
    let mut stranger = Connection::open(&gateway, None).await;
    let got = stranger.ask(page("GET", "ServerAuth", &format!("?TenantID={TENANT}"))).await;
    assert_eq!(got.refusal(), (200, None));
    gateway.stop().await;
}

#[tokio::test]
async fn pages_of_our_own_are_limited_by_source() {
    let gateway =
        crate::start(|config| config.limits.source_refused = "1/min burst 5".parse().unwrap()).await;
    let device = crate::device::Device::new(1);
    let mut connection = device.connect(&gateway).await;
    let token = device.token(&gateway);
    let metadata = || {
        let asked = Request::builder().uri("/CCM_Proxy_ServerAuth/ServiceMetadata").header("host", "gw");
        asked.header("authorization", format!("Bearer {token}")).body(Full::default()).unwrap()
    };
    for _ in 0..5 {
        assert_eq!(connection.ask(metadata()).await.status, 200);
    }
    for _ in 0..50 {
        assert_eq!(connection.ask(metadata()).await.refusal(), (429, Some("RG-1107")));
    }
    gateway.stop().await;
}
