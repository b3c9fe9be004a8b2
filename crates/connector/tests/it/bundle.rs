//! What a connection point is started with.

use std::error::Error as _;

use connector::{BindError, BundleError, Config, ConnectionPoint};
use proto::bundle::ConnectorBundle;
use proto::id::Guid;
use proto::link;
use proto::trust::Purpose;
use runtime::Clock;
use runtime::config::private_file;

use crate::pki::Pki;
use crate::scene::{anywhere, write_bundle};

#[tokio::test]
async fn a_bundle_for_another_host_does_not_start_this_one() {
    let pki = Pki::new();
    let refused = |change: &dyn Fn(&mut ConnectorBundle)| {
        let folder = tempfile::tempdir().unwrap();
        write_bundle(&folder, &pki, anywhere());
        let path = folder.path().join("bundle.json");
        let mut bundle = serde_json::from_slice(&private_file::read(&path).unwrap()).unwrap();
        change(&mut bundle);
        private_file::write(&path, serde_json::to_vec(&bundle).unwrap()).unwrap();
        let text = format!("bundle = '{}'\nstate_directory = '{}'", path.display(), folder.path().display());
        let config: Config = toml::from_str(&text).unwrap();
        ConnectionPoint::bind(&config, Clock::system()).err()
    };
    let cause = |change: &dyn Fn(&mut ConnectorBundle)| match refused(change) {
        Some(BindError::Bundle(error)) => error,
        other => panic!("a bundle that is refused and not {other:?}"),
    };
    assert!(refused(&|_| {}).is_none(), "as it was written it is good");
    assert!(matches!(
        cause(&|bundle| bundle.format = "roamgate-gateway/1".into()),
        BundleError::Format { .. }
    ));
    assert!(matches!(cause(&|bundle| bundle.connector = Guid::nil()), BundleError::AnotherName { .. }));
    assert!(matches!(cause(&|bundle| bundle.site_links.clear()), BundleError::NoSite));
    assert!(matches!(cause(&|bundle| bundle.site_root_pem = "x".into()), BundleError::RootPem(_)));
    let other = pki.issue(Purpose::LinkConnector, &link::connector_name(Guid::nil()));
    let mixed = cause(&|bundle| bundle.link.key_pem.clone_from(&other.key_pem));
    assert!(matches!(&mixed, BundleError::Link(_)) && mixed.source().is_some());
}
