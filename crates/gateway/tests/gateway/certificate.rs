//! The certificate for devices, exchanged while it serves.

use std::fs;

use proto::id::Guid;

use crate::connector::{FakeConnector, echo};
use crate::device::{Device, facts};
use crate::site::write_certificate;
use crate::{eventually, start};

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let gateway = start(|_| {}).await;
    let _connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let mut old = device.connect(&gateway).await;
    assert_eq!(old.ask(facts(&token)).await.status, 200);
    let new = write_certificate(&gateway.folder, "localhost");
    assert_ne!(old.shown, new);
    eventually(async || (device.connect(&gateway).await.shown == new).then_some(())).await;
    assert_eq!(old.ask(facts(&token)).await.status, 200, "the old connection is not disturbed");
    gateway.stop().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_leaves_the_old_one_in_use() {
    let gateway = start(|_| {}).await;
    let device = Device::new(1);
    let first = device.connect(&gateway).await.shown;
    let file = gateway.folder.path().join("certificate.pem");
    fs::write(&file, "not a certificate").unwrap();
    // Several looks at the files have passed when a good one is noticed again; until then the old one serves.
    for _ in 0..10 {
        assert_eq!(device.connect(&gateway).await.shown, first);
    }
    let new = write_certificate(&gateway.folder, "localhost");
    eventually(async || (device.connect(&gateway).await.shown == new).then_some(())).await;
    gateway.stop().await;
}
