//! What an administrator reads.

use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose;
use runtime::Clock;
use runtime::telemetry::{self, Console, LogConfig};

use crate::gateway::Shape;
use crate::pki::{Organisation, Pki};
use crate::role::{Act, Role};
use crate::scene::{Scene, head, until};

#[tokio::test]
async fn the_fields_lines_stand_in_the_fields_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig {
        folder: Some(folder.path().to_owned()),
        console: Console::Off,
        ..LogConfig::new(connector::COMPONENTS[0], Clock::system())
    };
    let handle = telemetry::init(config).unwrap();
    let role =
        Role::start(|_| Act::Write("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".into())).await;
    let scene = Scene::start(&role).await;
    let asked = head("GET", "/SMS_MP/.sms_aut?SITESIGNCERT");
    assert_eq!(scene.gateway.ask(&asked, b"").await.status(), 403);

    let (id, url) = (asked.request, format!("{}/SMS_MP/.sms_aut", role.url()));
    let external = &asked.external;
    let mapped = external.split('?').next().unwrap();
    let wanted = [
        format!(
            "Switched to internal URL. Replaced '{mapped}' in   '{external}' with '{url}' and got '{url}?SITESIGNCERT~~  $$<SMS_CLOUD_PROXYCONNECTOR><"
        ),
        format!("Forwarding proxy message {id} to URL: {url}?SITESIGNCERT~~  $$<"),
        format!(
            "Received response {url}?SITESIGNCERT for message {id}: HTTP/1.1 403 CMGConnector_Forbidden~~  $$<"
        ),
        format!(
            "MessageID: {id} RequestURI: {url}?SITESIGNCERT EndpointName: SMS_MP ResponseHeader: HTTP/1.1 403 CMGConnector_Forbidden~~ ResponseBodySize: 0 ElapsedTime: "
        ),
        "Maintaining connections...~~  $$<".to_owned(),
    ];
    let file = folder.path().join("SMS_Cloud_ProxyConnector.log");
    let mut text = String::new();
    until("all lines are written", || {
        handle.flush();
        text = std::fs::read_to_string(&file).unwrap_or_default();
        wanted.iter().all(|line| text.contains(line))
    })
    .await;
    assert!(!text.contains("Bearer"), "no token is ever logged");

    // The same file, about a role that demands a certificate: what there was, and that it was not enough.
    let ours = Organisation::new("Ours");
    let wrong = Organisation::new("Theirs").issue("cp.example", ExtendedKeyUsagePurpose::ClientAuth);
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("cp.crt");
    std::fs::write(&path, &wrong.certificate_pem).unwrap();
    let demanding = crate::scene::role("https://mp.example", ours.trust(), true);
    let _scene = Scene::of(Arc::new(Pki::new()), demanding, Shape::single(), files, |config| {
        config.client_certificate = connector::Paths::One(path);
    })
    .await;
    let wanted = [
        "Filtered cert count with digital signature: 1~~  $$<",
        "Not allowed cert: CN=cp.example, ",
        "Filtered cert count with allowed root CA: 0~~  $$<",
        "Filtered cert count with private key: 0~~  $$<",
        "Filtered cert count with client auth: 0~~  $$<",
        "the role demands a client certificate and none of the configured ones can be shown",
        "role=https://mp.example",
        "missing role certificate. reload in next cycle~~  $$<",
    ];
    until("all lines are written", || {
        handle.flush();
        text = std::fs::read_to_string(&file).unwrap_or_default();
        wanted.iter().all(|line| text.contains(line))
    })
    .await;
}
