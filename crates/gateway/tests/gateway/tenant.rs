//! Tokens of onboarded tenants at the gateway: what they open, when they stop, and what strangers can make of
//! them.

use std::time::Duration;

use proto::entra::PublishedTenant;
use proto::id::Guid;
use proto::link::FromGateway;
use proto::snapshot::Change;
use serde_json::json;

use crate::connector::{FakeConnector, echo};
use crate::device::{Connection, Device, get};
use crate::provider::{FIRST, SECOND, TENANT, device_claims, encode, tenant, token, user_claims};
use crate::{Running, start};

/// A gateway with a connection point, the tenant onboarded. Version 6.
pub(crate) async fn onboarded() -> (Running, FakeConnector) {
    let gateway = start(|_| {}).await;
    let connector = FakeConnector::dial(gateway.address, &gateway.site.connector(Guid::nil()), echo()).await;
    connector.change(&gateway.site, 5, vec![Change::SetTenant(tenant(&[FIRST]))]).await;
    (gateway, connector)
}

/// The tenants whose keys somebody asked for, in order.
fn wished(connector: &FakeConnector) -> Vec<Guid> {
    let wish = |message: FromGateway| match message {
        FromGateway::WantKeys { tenant } => Some(tenant),
        _ => None,
    };
    connector.all_heard().into_iter().filter_map(wish).collect()
}

#[tokio::test]
async fn device_and_user_tokens_open_the_token_service_at_both_doors_and_nothing_else() {
    let (gateway, connector) = onboarded().await;
    let mut connection = Device::new(1).connect(&gateway).await;
    for claims in [device_claims(), user_claims()] {
        let text = token(&claims, FIRST);
        for door in ["ServerAuth", "MutualAuth"] {
            assert_eq!(connection.ask(get(door, "/CCM_STS", Some(&text))).await.refusal(), (200, None));
            for path in ["/SMS_MP/.sms_aut?MPLIST", "/SMS_MP_TokenAuth/.sms_pol?x"] {
                let got = connection.ask(get(door, path, Some(&text))).await;
                assert_eq!(got.refusal(), (403, Some("RG-1205")), "{path}");
            }
        }
        // Also without a certificate: the inside asks for a signed request.
        let mut bare = Connection::open(&gateway, None).await;
        assert_eq!(bare.ask(get("ServerAuth", "/CCM_STS", Some(&text))).await.refusal(), (200, None));
    }
    let seen = connector.requests();
    assert_eq!(seen.len(), 6);
    assert!(seen.iter().all(|head| head.target == "/CCM_STS" && head.certificate.is_none()));
    gateway.stop().await;
}

#[tokio::test]
async fn time_and_a_tenant_that_is_off_are_named_to_whoever_holds_a_good_token() {
    let (gateway, connector) = onboarded().await;
    let mut connection = Device::new(1).connect(&gateway).await;
    let mut early = device_claims();
    early["nbf"] = json!(early["nbf"].as_i64().unwrap() + 3600);
    let (good, early) = (token(&device_claims(), FIRST), token(&early, FIRST));
    let ask = |text: &str| get("ServerAuth", "/CCM_STS", Some(text));
    assert_eq!(connection.ask(ask(&early)).await.refusal(), (401, Some("RG-1204")));
    assert_eq!(connection.ask(ask(&good)).await.refusal(), (200, None));
    gateway.clock.advance(Duration::from_mins(66));
    assert_eq!(connection.ask(ask(&good)).await.refusal(), (401, Some("RG-1203")));
    let off = PublishedTenant { enabled: false, ..tenant(&[FIRST]) };
    connector.change(&gateway.site, 6, vec![Change::SetTenant(off)]).await;
    assert_eq!(connection.ask(ask(&good)).await.refusal(), (403, Some("RG-1208")));
    let forged = format!("{}AAAA", good.get(..good.len() - 4).unwrap());
    let got = connection.ask(ask(&forged)).await;
    assert_eq!(
        got.refusal(),
        (401, Some("RG-1202")),
        "who holds no good token does not learn that it is off"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn keys_that_could_not_be_fetched_for_a_day_count_no_longer() {
    let (gateway, connector) = onboarded().await;
    let mut connection = Device::new(1).connect(&gateway).await;
    let mut lasting = device_claims();
    lasting["exp"] = json!(lasting["exp"].as_i64().unwrap() + 200_000);
    let text = token(&lasting, FIRST);
    let ask = || get("ServerAuth", "/CCM_STS", Some(&text));
    gateway.clock.advance(Duration::from_hours(23));
    assert_eq!(connection.ask(ask()).await.refusal(), (200, None));
    gateway.clock.advance(Duration::from_hours(1));
    assert_eq!(connection.ask(ask()).await.refusal(), (401, Some("RG-1209")));
    let mut fresh = tenant(&[FIRST]);
    fresh.keys_until = fresh.keys_until.plus(Duration::from_hours(24));
    connector.change(&gateway.site, 6, vec![Change::SetTenant(fresh)]).await;
    assert_eq!(connection.ask(ask()).await.refusal(), (200, None));
    gateway.stop().await;
}

#[tokio::test]
async fn a_rotated_key_is_asked_for_and_counts_as_soon_as_the_site_has_it() {
    let (gateway, connector) = onboarded().await;
    let mut connection = Device::new(1).connect(&gateway).await;
    let (old, new) = (token(&device_claims(), FIRST), token(&device_claims(), SECOND));
    let ask = |text: &str| get("ServerAuth", "/CCM_STS", Some(text));
    assert_eq!(connection.ask(ask(&old)).await.refusal(), (200, None));
    assert_eq!(connection.ask(ask(&new)).await.refusal(), (401, Some("RG-1202")));
    connector.heard(|heard| (*heard == FromGateway::WantKeys { tenant: TENANT }).then_some(())).await;
    connector.change(&gateway.site, 6, vec![Change::SetTenant(tenant(&[FIRST, SECOND]))]).await;
    for text in [&old, &new] {
        assert_eq!(connection.ask(ask(text)).await.refusal(), (200, None));
    }
    connector.change(&gateway.site, 7, vec![Change::SetTenant(tenant(&[SECOND]))]).await;
    assert_eq!(connection.ask(ask(&old)).await.refusal(), (401, Some("RG-1202")), "although it was known");
    assert_eq!(connection.ask(ask(&new)).await.refusal(), (200, None));
    connector.change(&gateway.site, 8, vec![Change::RemoveTenant(TENANT)]).await;
    assert_eq!(connection.ask(ask(&new)).await.refusal(), (401, Some("RG-1202")));
    gateway.stop().await;
}

#[tokio::test]
async fn a_thousand_made_up_keys_are_one_wish_in_thirty_seconds_and_none_for_other_tenants() {
    let (gateway, connector) = onboarded().await;
    let mut off = tenant(&[FIRST]);
    off.tenant = Guid::from_bytes([0xdd; 16]);
    off.enabled = false;
    let off_id = off.tenant;
    connector.change(&gateway.site, 6, vec![Change::SetTenant(off)]).await;
    let mut connection = Device::new(1).connect(&gateway).await;
    let made_up = |tenant: Guid, number: usize| {
        let mut claims = device_claims();
        claims["tid"] = json!(tenant.to_string());
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": format!("made-up-{number}")});
        format!("{}.{}.{}", encode(header.to_string()), encode(claims.to_string()), encode([7; 256]))
    };
    for tenant in [off_id, Guid::from_bytes([0xee; 16])] {
        let got = connection.ask(get("ServerAuth", "/CCM_STS", Some(&made_up(tenant, 0)))).await;
        assert_eq!(got.refusal(), (401, Some("RG-1202")));
    }
    for number in 0..1000 {
        if number == 500 {
            gateway.clock.advance(Duration::from_secs(29));
        }
        let got = connection.ask(get("ServerAuth", "/CCM_STS", Some(&made_up(TENANT, number)))).await;
        assert_eq!(got.refusal(), (401, Some("RG-1202")));
    }
    gateway.clock.advance(Duration::from_secs(1));
    connection.ask(get("ServerAuth", "/CCM_STS", Some(&made_up(TENANT, 1000)))).await;
    crate::eventually(|| async { (wished(&connector).len() >= 2).then_some(()) }).await;
    // What is said in a tunnel comes in order: nothing is on its way before this.
    connector.change(&gateway.site, 7, vec![Change::BlockBulkToken(Guid::nil())]).await;
    assert_eq!(wished(&connector), [TENANT; 2]);
    gateway.stop().await;
}
