//! What the site publishes: taken forwards only, effective at once, kept over a restart.

use std::fs;
use std::sync::Arc;

use gateway::publication::{Publisher, Taken};
use gateway::{BindError, Gateway};
use proto::combination::Mode;
use proto::id::Guid;
use proto::link::FromGateway;
use proto::snapshot::{Change, PublishedRole, Signed};
use proto::token::TokenClass;
use proto::trust::SiteRoot;
use tempfile::TempDir;

use crate::connector::{FakeConnector, echo};
use crate::device::{Device, facts};
use crate::site::{NOW, ROLE, Site};
use crate::{clock, configure, start, start_at};

fn publisher(site: &Site, folder: &TempDir, bundled: &Signed) -> Publisher {
    let root = SiteRoot::new(site.root_der()).unwrap();
    Publisher::restore(root, "RG1".parse().unwrap(), bundled, folder.path(), NOW).unwrap()
}

fn block(number: u8) -> Change {
    Change::BlockBulkToken(Guid::from_bytes([number; 16]))
}

#[tokio::test]
async fn a_pushed_block_counts_at_the_next_request_of_an_open_connection() {
    let gateway = start(|_| {}).await;
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let mut connection = device.connect(&gateway).await;
    assert_eq!(connection.ask(facts(&token)).await.status, 200);

    let blocked = Change::BlockDevice { device: device.id, certificate: device.thumbprint() };
    connector.publish(gateway.site.signed_delta(5, 6, vec![blocked]));
    assert_eq!(connector.next_heard(1).await, FromGateway::Ack { version: 6 });
    let got = connection.ask(facts(&token)).await;
    assert_eq!(got.refusal(), (403, Some("RG-1207")));

    let free = Change::UnblockDevice { device: device.id, certificate: device.thumbprint() };
    connector.publish(gateway.site.signed_delta(6, 7, vec![free]));
    connector.heard(|message| (*message == FromGateway::Ack { version: 7 }).then_some(())).await;
    assert_eq!(connection.ask(facts(&token)).await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn a_gap_is_answered_with_the_wish_for_a_whole_snapshot() {
    let gateway = start(|_| {}).await;
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    connector.publish(gateway.site.signed_delta(7, 8, vec![block(1)]));
    assert_eq!(connector.next_heard(1).await, FromGateway::NeedSnapshot { have: 5 });
    connector.publish(gateway.site.signed_snapshot(8));
    assert_eq!(connector.next_heard(2).await, FromGateway::Ack { version: 8 });
    gateway.stop().await;
}

#[tokio::test]
async fn what_was_taken_is_in_force_after_a_restart() {
    let gateway = start(|_| {}).await;
    let (site, device) = (Arc::clone(&gateway.site), Device::new(1));
    let token = device.token(&gateway);
    let link = site.connector(Guid::nil());
    let connector = FakeConnector::dial(gateway.address, &link, echo()).await;
    let blocked = Change::BlockDevice { device: device.id, certificate: device.thumbprint() };
    connector.publish(site.signed_delta(5, 6, vec![blocked]));
    assert_eq!(connector.next_heard(1).await, FromGateway::Ack { version: 6 });
    let folder = gateway.stop().await;

    // The bundle is older than what was stored, and stays so.
    let gateway = start_at(site, folder, |_| {}).await;
    let connector = FakeConnector::dial(gateway.address, &link, echo()).await;
    assert_eq!(connector.next_heard(0).await, FromGateway::Hello { shard: 0, shards: 1, version: 6 });
    let mut connection = device.connect(&gateway).await;
    assert_eq!(connection.ask(facts(&token)).await.refusal(), (403, Some("RG-1207")));
    gateway.stop().await;
}

#[test]
fn older_and_repeated_publications_change_nothing() {
    let (site, folder) = (Site::new(), tempfile::tempdir().unwrap());
    let publisher = publisher(&site, &folder, &site.signed_snapshot(5));
    let take = |signed| publisher.take(&[signed], NOW);
    assert_eq!(take(site.signed_delta(5, 7, vec![block(1)])), [Taken::InForce(7)]);
    assert_eq!(take(site.signed_snapshot(6)), [Taken::InForce(7)], "an older snapshot would lift the block");
    assert_eq!(take(site.signed_snapshot(7)), [Taken::InForce(7)]);
    assert_eq!(take(site.signed_delta(5, 6, vec![])), [Taken::InForce(7)]);
    assert!(publisher.current().unwrap().snapshot.blocked_bulk_tokens.contains(&Guid::from_bytes([1; 16])));
}

#[test]
fn what_another_site_signed_is_refused() {
    let (site, other, folder) = (Site::new(), Site::new(), tempfile::tempdir().unwrap());
    let publisher = publisher(&site, &folder, &site.signed_snapshot(5));
    assert_eq!(publisher.take(&[other.signed_snapshot(9)], NOW), [Taken::Refused]);
    // Signed by the site, but altered since.
    let mut altered = site.signed_snapshot(9);
    altered.payload = altered.payload.replace("\"version\":9", "\"version\":8");
    assert_eq!(publisher.take(&[altered], NOW), [Taken::Refused]);
    assert_eq!(publisher.version(), 5);
}

#[test]
fn a_batch_is_taken_in_its_order_and_stored_with_it() {
    let (site, folder) = (Site::new(), tempfile::tempdir().unwrap());
    let bundled = site.signed_snapshot(5);
    let first = publisher(&site, &folder, &bundled);
    let batch = [
        site.signed_delta(5, 6, vec![block(1)]),
        site.signed_delta(8, 9, vec![block(9)]),
        site.signed_snapshot(7),
        site.signed_delta(7, 8, vec![block(2)]),
    ];
    let taken = first.take(&batch, NOW);
    assert_eq!(
        taken,
        [Taken::InForce(6), Taken::NeedSnapshot { have: 6 }, Taken::InForce(7), Taken::InForce(8)]
    );
    let before = first.current().unwrap();
    assert_eq!(before.snapshot.blocked_bulk_tokens.len(), 1, "the whole snapshot replaced the first block");
    let after = publisher(&site, &folder, &bundled).current().unwrap();
    assert_eq!(after.snapshot, before.snapshot);
}

#[test]
fn a_change_that_was_half_written_when_the_power_went_is_asked_for_again() {
    let (site, folder) = (Site::new(), tempfile::tempdir().unwrap());
    let bundled = site.signed_snapshot(5);
    let first = publisher(&site, &folder, &bundled);
    first.take(&[site.signed_delta(5, 6, vec![block(1)]), site.signed_delta(6, 7, vec![block(2)])], NOW);
    let file = folder.path().join("changes.jsonl");
    let text = fs::read(&file).unwrap();
    fs::write(&file, &text[..text.len() - 10]).unwrap();

    let second = publisher(&site, &folder, &bundled);
    assert_eq!(second.version(), 6);
    // What follows the damage is stored as if there had been none.
    assert_eq!(second.take(&[site.signed_delta(6, 8, vec![block(3)])], NOW), [Taken::InForce(8)]);
    assert_eq!(publisher(&site, &folder, &bundled).version(), 8);
}

#[test]
fn a_stored_snapshot_that_somebody_altered_is_not_used() {
    let (site, folder) = (Site::new(), tempfile::tempdir().unwrap());
    let bundled = site.signed_snapshot(5);
    publisher(&site, &folder, &bundled).take(&[site.signed_snapshot(9)], NOW);
    let file = folder.path().join("snapshot.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\\\"version\\\":9", "\\\"version\\\":99")).unwrap();
    assert_eq!(publisher(&site, &folder, &bundled).version(), 5);
}

#[test]
fn verified_tokens_are_forgotten_with_their_keys() {
    let (site, folder) = (Site::new(), tempfile::tempdir().unwrap());
    let publisher = publisher(&site, &folder, &site.signed_snapshot(5));
    let token = site.token(TokenClass::Bulk, None);
    let verified = |publisher: &Publisher| publisher.current().unwrap().verify_bearer(&token).is_ok();
    assert!(verified(&publisher) && verified(&publisher));
    publisher.take(&[site.signed_delta(5, 6, vec![block(1)])], NOW);
    assert!(verified(&publisher), "a block of another token keeps what is known");
    publisher.take(&[site.signed_delta(6, 7, vec![Change::SetTokenCertificates(vec![])])], NOW);
    assert!(!verified(&publisher));
}

#[tokio::test]
async fn a_bundle_with_a_foreign_snapshot_does_not_start() {
    let (site, folder) = (Site::new(), tempfile::tempdir().unwrap());
    let config = configure(&site, &folder);
    let mut bundle = site.bundle();
    bundle.snapshot = Site::new().signed_snapshot(5);
    let text = serde_json::to_vec(&bundle).unwrap();
    runtime::config::private_file::write(&config.bundle, text).unwrap();
    let error = Gateway::bind(config, clock()).unwrap_err();
    assert!(matches!(error, BindError::Snapshot(_)), "{error}");
}

#[tokio::test]
async fn a_bundle_that_has_grown_old_waits_for_a_fresh_snapshot() {
    let (site, folder) = (Arc::new(Site::new()), tempfile::tempdir().unwrap());
    let gateway = start_at(Arc::clone(&site), folder, |config| {
        let mut bundle = site.bundle();
        bundle.snapshot = site.signed_yesterday(5);
        let text = serde_json::to_vec(&bundle).unwrap();
        runtime::config::private_file::write(&config.bundle, text).unwrap();
    })
    .await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let mut connection = device.connect(&gateway).await;
    assert_eq!(connection.ask(facts(&token)).await.refusal(), (503, Some("RG-1101")));
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    assert_eq!(connector.next_heard(0).await, FromGateway::Hello { shard: 0, shards: 1, version: 0 });
    connector.publish(gateway.site.signed_delta(5, 6, vec![]));
    connector.heard(|said| (*said == FromGateway::NeedSnapshot { have: 0 }).then_some(())).await;
    connector.publish(gateway.site.signed_snapshot(6));
    connector.heard(|said| (*said == FromGateway::Ack { version: 6 }).then_some(())).await;
    assert_eq!(connection.ask(facts(&token)).await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn a_role_that_is_withdrawn_is_unknown_at_the_next_request() {
    let gateway = start(|_| {}).await;
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let device = Device::new(1);
    let token = device.token(&gateway);
    let mut connection = device.connect(&gateway).await;
    assert_eq!(connection.ask(facts(&token)).await.status, 200);
    let hidden = PublishedRole { role: ROLE, name: "mp".into(), gateway_traffic: false, mode: Mode::Ehttp };
    connector.publish(gateway.site.signed_delta(5, 6, vec![Change::SetRole(hidden)]));
    assert_eq!(connector.next_heard(1).await, FromGateway::Ack { version: 6 });
    assert_eq!(connection.ask(facts(&token)).await.refusal(), (404, Some("RG-1001")));
    assert_eq!(connector.requests().len(), 1);
    gateway.stop().await;
}

#[test]
fn the_state_folder_holds_nothing_for_others() {
    use std::os::unix::fs::PermissionsExt;
    let (site, folder) = (Site::new(), tempfile::tempdir().unwrap());
    let publisher = publisher(&site, &folder, &site.signed_snapshot(5));
    publisher.take(&[site.signed_delta(5, 6, vec![block(1)])], NOW);
    for name in ["snapshot.json", "changes.jsonl"] {
        let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
}
