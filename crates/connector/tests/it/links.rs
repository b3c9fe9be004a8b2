//! Who is dialled, who is believed, and what comes back after an outage.

use std::time::Duration;

use proto::id::{Guid, Thumbprint};
use proto::link::{self, Down, FromGateway, Up};
use proto::trust::Purpose;
use runtime::drain::Finished;
use tokio::sync::watch;

use crate::gateway::{Gateway, Shape};
use crate::pki::{Pki, own};
use crate::role::{Act, Role, ok};
use crate::scene::{
    GATEWAY, Point, Scene, anywhere, gateway_identity, gateways, head, roles, site_identity, until,
    write_bundle,
};
use crate::site::Site;

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_shard_gets_one_tunnel_and_the_surplus_is_closed() {
    let role = Role::echo().await;
    let shape = Shape { shards: 4, order: vec![2, 2, 2, 0, 2, 0, 3, 0, 3, 1], version: 0 };
    let scene = Scene::with(&role.url(), shape, LONG).await;
    until("all shards are covered, each once", || scene.gateway.shards() == [0, 1, 2, 3]).await;
    assert!(scene.gateway.accepted() <= 4 * 8, "{} dials", scene.gateway.accepted());
}

#[tokio::test]
async fn a_gateway_that_restarts_is_found_again() {
    let role = Role::echo().await;
    let Scene { pki, gateway, point, .. } = Scene::start(&role).await;
    let address = gateway.kill().await;
    let gateway = Gateway::start(address, &gateway_identity(&pki), Shape::single()).await;
    gateway.until_tunnels(1).await;
    assert_eq!(gateway.ask(&head("GET", "/CCM_STS"), b"").await.status(), 200);
    drop(point);
}

#[tokio::test]
async fn device_traffic_goes_on_without_the_site_and_the_link_comes_back() {
    let role = Role::echo().await;
    let scene = Scene::start(&role).await;
    let address = scene.site.address;
    scene.site.kill().await;
    assert_eq!(scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await.status(), 200);

    let mut site = Site::start(address, &site_identity(&scene.pki), Vec::new()).await;
    let state = site
        .hear("the gateway's state", |up| match up {
            Up::Gateway(state) => Some(state.clone()),
            _ => None,
        })
        .await;
    assert_eq!((state.gateway, state.tunnels, state.shards), (GATEWAY, 1, 1));
}

#[tokio::test]
async fn a_connection_point_that_restarts_without_the_site_knows_what_it_was_told() {
    let role = Role::echo().await;
    let scene = Scene::start(&role).await;
    scene.site.kill().await;
    assert_eq!(scene.point.stop(LONG).await, Finished::Clean);
    scene.gateway.until_tunnels(0).await;
    let point = Point::start(&scene.folder, LONG);
    scene.gateway.until_tunnels(1).await;
    assert_eq!(scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await.status(), 200);
    drop(point);
}

#[tokio::test]
async fn somebody_else_in_the_gateways_place_gets_no_tunnel() {
    let pki = Pki::new();
    let stranger = Pki::new();
    let name = link::gateway_name(GATEWAY);
    let impostors = [
        (stranger.issue(Purpose::LinkGateway, &name), "the certificate does not lead to the site root"),
        (pki.issue(Purpose::LinkConnector, &name), "the certificate is not meant for this purpose"),
        (pki.issue(Purpose::LinkSite, &name), "the certificate is not meant for this purpose"),
        (
            pki.issue(Purpose::LinkGateway, &link::gateway_name(Guid::nil())),
            "the certificate of the other side does not name ",
        ),
    ];
    for (identity, cause) in impostors {
        let gateway = Gateway::start(anywhere(), &identity, Shape::single()).await;
        let first = vec![gateways(gateway.address)];
        let mut site = Site::start(anywhere(), &site_identity(&pki), first).await;
        let folder = tempfile::tempdir().unwrap();
        write_bundle(&folder, &pki, site.address);
        let point = Point::start(&folder, LONG);
        let problem = site
            .hear("the problem", |up| match up {
                Up::Gateway(state) => state.problem.clone(),
                _ => None,
            })
            .await;
        assert!(problem.contains(" is not who was meant: ") && problem.contains(cause), "{problem}");
        assert_eq!(gateway.accepted(), 0);
        drop(point);
    }
}

#[tokio::test]
async fn somebody_else_in_the_sites_place_is_not_believed() {
    let pki = Pki::new();
    let stranger = Pki::new();
    let gateway = Gateway::start(anywhere(), &gateway_identity(&pki), Shape::single()).await;
    let good = Site::start(anywhere(), &site_identity(&pki), vec![gateways(gateway.address)]).await;
    for identity in [
        site_identity(&stranger),
        pki.issue(Purpose::LinkGateway, link::SITE_NAME),
        pki.issue(Purpose::LinkSite, "other.roamgate.internal"),
    ] {
        let before = gateway.accepted();
        let mut bad = Site::start(anywhere(), &identity, vec![gateways(gateway.address)]).await;
        let folder = tempfile::tempdir().unwrap();
        // The bad one first: only after it has failed is the good one asked.
        write_bundle(&folder, &pki, bad.address);
        let path = folder.path().join("bundle.json");
        let mut bundle: proto::bundle::ConnectorBundle =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        bundle.site_links.push(good.address.to_string());
        runtime::config::private_file::write(&path, serde_json::to_vec(&bundle).unwrap()).unwrap();
        let point = Point::start(&folder, LONG);
        gateway.until("a tunnel by the good site's word", |(ever, _)| ever > before).await;
        assert!(bad.up.try_recv().is_err(), "nothing was said to the bad one");
        point.stop(LONG).await;
    }
}

#[tokio::test]
async fn a_withdrawn_gateway_is_left_at_once_and_not_dialled_again() {
    let role = Role::echo().await;
    let pki = Pki::new();
    let identity = gateway_identity(&pki);
    let gateway = Gateway::start(anywhere(), &identity, Shape::single()).await;
    let first = vec![gateways(gateway.address), roles(&role.url())];
    let mut site = Site::start(anywhere(), &site_identity(&pki), first).await;
    let folder = tempfile::tempdir().unwrap();
    write_bundle(&folder, &pki, site.address);
    let point = Point::start(&folder, LONG);
    gateway.until_tunnels(1).await;
    let began = std::time::Instant::now();
    let thumbprint = Thumbprint::from_bytes(own(&identity).leaf().thumbprint_sha256());
    site.say(Down::Withdrawn { thumbprints: vec![thumbprint] });
    gateway.until_tunnels(0).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    let refused = site
        .hear("the refusal of the next dial", |up| match up {
            Up::Gateway(state) => {
                state.problem.clone().filter(|problem| problem.contains("is not who was meant"))
            }
            _ => None,
        })
        .await;
    assert!(refused.ends_with("the site has withdrawn the certificate of the other side"), "{refused}");
    assert_eq!(gateway.accepted(), 1);
    drop(point);
}

#[tokio::test]
async fn a_gateway_that_is_not_listed_any_more_is_left() {
    let role = Role::echo().await;
    let scene = Scene::start(&role).await;
    scene.site.say(Down::Gateways { gateways: Vec::new() });
    scene.gateway.until_tunnels(0).await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_takes_nothing_new() {
    let (go, wait) = watch::channel(false);
    let role = Role::start(move |_| Act::WriteAfter(wait.clone(), ok(b"late"))).await;
    let scene = Scene::start(&role).await;
    let open = scene.gateway.open(&head("GET", "/CCM_STS"), true);
    role.connections.subscribe().wait_for(|now| now.0 == 1).await.unwrap();
    let stopping = tokio::spawn(scene.point.stop(LONG));
    scene.gateway.until_tunnels(0).await;
    go.send(true).unwrap();
    let (answer, body) = open.reply().await.answer();
    assert_eq!((answer.status, body.as_ref()), (200, b"late".as_ref()));
    assert_eq!(stopping.await.unwrap(), Finished::Clean);
}

#[tokio::test]
async fn a_drain_does_not_wait_beyond_its_deadline() {
    let role = Role::start(|_| Act::Hang).await;
    let scene = Scene::start(&role).await;
    let _open = scene.gateway.open(&head("GET", "/CCM_STS"), true);
    role.connections.subscribe().wait_for(|now| now.0 == 1).await.unwrap();
    assert!(matches!(scene.point.stop(Duration::from_millis(200)).await, Finished::CutOff(_)));
}

#[tokio::test]
async fn a_gateway_that_talks_nonsense_loses_its_tunnel_and_nothing_else() {
    let role = Role::echo().await;
    let scene = Scene::start(&role).await;
    // A second hello would move the tunnel to another shard.
    scene.gateway.say(&FromGateway::Hello { shard: 0, shards: 1, version: 0 });
    scene.gateway.until("another tunnel", |now| now == (2, 1)).await;
    assert_eq!(scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await.status(), 200);
}
