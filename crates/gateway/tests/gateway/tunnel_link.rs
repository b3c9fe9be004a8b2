//! Who gets a tunnel, and who loses it.

use proto::id::{Guid, Thumbprint};
use proto::link::{self, FromGateway};
use proto::snapshot::Change;
use proto::trust::Purpose;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::connector::{FakeConnector, echo};
use crate::device::{Device, facts};
use crate::site::Site;
use crate::start;

#[tokio::test]
async fn a_connection_point_is_told_where_it_arrived_and_what_is_in_force() {
    let gateway = start(|config| config.shards = 3).await;
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    let FromGateway::Hello { shard, shards, version } = connector.next_heard(0).await else { panic!() };
    assert!(shard < shards && shards == 3 && version == 5, "{shard} of {shards}, version {version}");
    gateway.stop().await;
}

#[tokio::test]
async fn certificates_of_another_purpose_site_or_name_get_no_tunnel() {
    let gateway = start(|_| {}).await;
    let (site, id) = (&gateway.site, Guid::from_bytes([2; 16]));
    let name = link::connector_name(id);
    let wrong = [
        ("a gateway's", site.link(Purpose::LinkGateway, &link::gateway_name(id))),
        ("a role's", site.link(Purpose::RoleTls, &name)),
        ("the site link's", site.link(Purpose::LinkSite, &name)),
        ("another name's", site.link(Purpose::LinkConnector, "connection-point.example")),
        ("another site's", Site::new().connector(id)),
    ];
    for (whose, link) in wrong {
        let Some(mut connector) = FakeConnector::try_dial(gateway.address, &link, echo()).await else {
            continue;
        };
        connector.ended().await;
        assert!(connector.requests().is_empty(), "{whose}");
    }
    let device = Device::new(1);
    let mut connection = device.connect(&gateway).await;
    let got = connection.ask(facts(&device.token(&gateway))).await;
    assert_eq!(got.refusal(), (503, Some("RG-1102")), "none of them was let in");
    gateway.stop().await;
}

#[tokio::test]
async fn a_withdrawn_link_is_closed_at_once_and_stays_out() {
    let gateway = start(|_| {}).await;
    let link = gateway.site.connector(Guid::nil());
    let der = CertificateDer::from_pem_slice(link.certificate_pem.as_bytes()).unwrap();
    let mut connector = FakeConnector::dial(gateway.address, &link, echo()).await;
    let withdrawn = vec![Change::WithdrawLink(Thumbprint::of(&der))];
    connector.publish(gateway.site.signed_delta(5, 6, withdrawn));
    connector.ended().await;
    let mut again = FakeConnector::try_dial(gateway.address, &link, echo()).await.unwrap();
    again.ended().await;
    let other = gateway.site.connector(Guid::from_bytes([2; 16]));
    let other = FakeConnector::dial(gateway.address, &other, echo()).await;
    assert_eq!(other.next_heard(0).await, FromGateway::Hello { shard: 0, shards: 1, version: 6 });
    gateway.stop().await;
}
