//! What monitors see of a connection point.

#[path = "../../../runtime/tests/exposition/mod.rs"]
mod exposition;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use connector::{Config, ConnectionPoint, Paths};
use runtime::config::HumanDuration;
use runtime::{Clock, Drain};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::gateway::{Gateway, Shape};
use crate::pki::Pki;
use crate::role::Role;
use crate::scene::{self, anywhere};
use crate::site::Site;

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    get_by_name(address, "a", path).await
}

async fn get_by_name(address: SocketAddr, name: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Asks until the answer is one that `wanted` takes.
async fn until(address: SocketAddr, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
    let mut last = (0, String::new());
    for _ in 0..200 {
        last = get(address, path).await;
        if wanted(last.0, &last.1) {
            return last.1;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} stays {}: {}", last.0, last.1)
}

#[tokio::test]
async fn it_says_what_is_missing_and_counts_what_it_carries() {
    let pki = Arc::new(Pki::new());
    let role = Role::echo().await;
    let gateway = Gateway::start(anywhere(), &scene::gateway_identity(&pki), Shape::single()).await;
    let first = vec![scene::gateways(gateway.address), scene::roles(&role.url())];
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(anywhere(), &scene::site_identity(&pki), first).await;
    scene::write_bundle(&folder, &pki, site.address);
    let config = Config {
        bundle: folder.path().join("bundle.json"),
        state_directory: folder.path().join("state"),
        request_timeout: HumanDuration::new(Duration::from_secs(20)),
        max_requests_per_tunnel: 512.try_into().unwrap(),
        client_certificate: Paths::default(),
        client_key: Paths::default(),
        verbose_logging: false,
        threads: 1,
        admin_listen: Some(anywhere()),
        admin_names: vec!["cp.example.com".to_owned()],
    };
    let bound = ConnectionPoint::bind(&config, Clock::system()).unwrap();
    let address = bound.admin_address().unwrap();
    let drain = Drain::new();
    let task = tokio::spawn(bound.run(drain.clone()));

    let text = until(address, "/readyz", |status, _| status == 200).await;
    for line in ["drain: ok", "tunnels: ok (1 to 1 gateways)", "site-link: ok", "roles: ok (1 published)"] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert_eq!(get(address, "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(get_by_name(address, "cp.example.com", "/livez").await.0, 200, "a name of `admin_names`");
    assert_eq!(get_by_name(address, "cp.example.org", "/livez").await.0, 421, "no name of ours");
    assert_eq!(gateway.ask(&scene::head("GET", "/CCM_STS"), b"").await.status(), 200);
    let counted = |_, text: &str| text.contains("roamgate_connection_point_requests_total{");
    let text = until(address, "/metrics", counted).await;
    let page = exposition::read(&text).unwrap();
    exposition::compare_with_the_documentation(&page, &["roamgate_connection_point_"]);
    let tunnels = &page["roamgate_connection_point_tunnels"].samples;
    assert!(tunnels.len() == 1 && (tunnels[0].1 - 1.0).abs() < f64::EPSILON, "{tunnels:?}");
    let requests = &page["roamgate_connection_point_requests_total"].samples;
    assert!(requests.len() == 1 && (requests[0].1 - 1.0).abs() < f64::EPSILON, "{requests:?}");

    gateway.kill().await;
    let text = until(address, "/readyz", |_, text| text.contains("tunnels: failed")).await;
    assert!(text.contains("1 of 1 gateways have no tunnel"), "{text}");
    site.kill().await;
    let text = until(address, "/readyz", |_, text| text.contains("site-link: failed")).await;
    assert!(text.contains("the link to the site is down"), "{text}");
    drain.begin(Duration::from_secs(5));
    tokio::time::timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
}
