//! A device against a site on loopback: the flows as stories.

use std::sync::Arc;

use proto::message::MessageEndpoint;
use proto::reason::Reason;
use proto::token::TokenClass;
use runtime::Clock;

use super::*;
use crate::failure::CallError;
use crate::location::{Locality, Rule};
use crate::policy::{BelieveError, PolicyError};
use crate::state::{Approval, MemoryStore, Setup};
use crate::testing::{FakeSite, Fault, PolicyFixture, fixture_client_id, pin_of};
use crate::token::tests::text_of;
use crate::trust::{Disbelief, RootOrigin};

const NOW: i64 = 1_790_000_000_000_000;

fn setup(site: &FakeSite, inside: bool, gateway: bool) -> Setup {
    Setup {
        name: "pc1".into(),
        hardware_id: "2:00FF".into(),
        site_code: Some("RG1".parse().unwrap()),
        inside: if inside { vec![site.inside()] } else { Vec::new() },
        gateways: if gateway { vec![site.gateway()] } else { Vec::new() },
        always_internet: false,
        ca: Some(site.ca.clone()),
        pin: pin_of(site.keys),
    }
}

fn device(setup: Setup, clock: &Clock) -> Device {
    let now = Timestamp::from_micros(clock.now());
    let options = DeviceOptions {
        state: State::new(setup),
        key: KeyMaterial::generate(now).unwrap(),
        store: Arc::new(MemoryStore::default()),
        clock: clock.clone(),
        system_roots: false,
    };
    Device::new(options).unwrap()
}

/// A device that can reach only the gateway, with a bulk token.
fn outside(clock: &Clock) -> (FakeSite, Device) {
    let site = FakeSite::start(clock);
    let mut device = device(setup(&site, false, true), clock);
    let expires = clock.now_seconds() + 3600;
    device.use_bulk_token(text_of(TokenClass::Bulk, expires).into());
    (site, device)
}

/// A device that is registered inside and approved.
async fn registered_inside(clock: &Clock) -> (FakeSite, Device) {
    let site = FakeSite::start(clock);
    let mut device = device(setup(&site, true, true), clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    (site, device)
}

fn classes(site: &FakeSite) -> Vec<(String, Option<TokenClass>)> {
    site.take_seen()
        .into_iter()
        .map(|seen| {
            assert!(seen.through_gateway);
            (seen.target, seen.token)
        })
        .collect()
}

#[tokio::test]
async fn with_a_bulk_token_over_the_gateway_a_device_becomes_a_managed_one() {
    let clock = Clock::manual(NOW);
    let (site, mut device) = outside(&clock);
    let gateway = site.gateway().to_string();
    site.site().policies = vec![
        PolicyFixture::settings("3.00", &gateway),
        PolicyFixture::public("1.00"),
        PolicyFixture::secret(),
    ];

    let registration = device.register().await.unwrap();
    assert_eq!((registration.client_id, registration.approval), (fixture_client_id(), Approval::Approved));
    device.confirm().await.unwrap();
    let request = "/ccm_system_tokenauth/request".to_owned();
    assert_eq!(
        classes(&site),
        [
            ("/CCM_STS".to_owned(), Some(TokenClass::Bulk)),
            (request.clone(), Some(TokenClass::PreAuth)),
            (request.clone(), Some(TokenClass::PreAuth)),
        ],
        "one exchange of the bulk token serves registration and confirmation"
    );

    let outcome = device.policy().await.unwrap();
    assert_eq!((outcome.in_force, outcome.fetched, outcome.settings_changed), (3, 3, true));
    let seen = classes(&site);
    assert_eq!(seen[0], ("/CCM_STS".to_owned(), Some(TokenClass::SelfProve)));
    assert!(seen[1..].iter().all(|(_, class)| *class == Some(TokenClass::Device)), "{seen:?}");
    let settings = &device.state().policy.settings;
    assert_eq!((settings.version.as_deref(), settings.polling_minutes), (Some("3.00"), 30));
    assert!(device.state().policy.applied[2].secret);

    device.heartbeat().await.unwrap();
    let report = site.site().reports.pop().unwrap();
    let ours = report.instance("Roamgate_Client").unwrap();
    for (name, value) in [
        ("PolicySerial", "1"),
        ("PolicyVersion", "3.00"),
        ("Locality", "internet"),
        ("Method", "site-token"),
        ("SiteRootTrust", "pinned"),
    ] {
        assert_eq!(ours.value(name), Some(value), "{name}");
    }
    assert_eq!(device.state().trust.origin, Some(RootOrigin::Pinned));

    // What is there already is not fetched again.
    site.site().serial = 2;
    let outcome = device.policy().await.unwrap();
    assert_eq!((outcome.serial, outcome.fetched, outcome.changed), (2, 0, false));
}

#[tokio::test]
async fn a_ccm_token_is_renewed_before_its_end_by_the_self_prove_token() {
    let clock = Clock::manual(NOW);
    let (site, mut device) = outside(&clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    device.ccm_token().await.unwrap();
    site.take_seen();
    device.ccm_token().await.unwrap();
    assert!(site.take_seen().is_empty(), "cached");
    clock.advance(std::time::Duration::from_mins(7 * 60 + 1));
    device.ccm_token().await.unwrap();
    assert_eq!(classes(&site), [("/CCM_STS".to_owned(), Some(TokenClass::SelfProve))]);
    // While the token service is out of order the old token still counts.
    clock.advance(std::time::Duration::from_mins(7 * 60 + 1));
    site.site().fault = Fault::RefusedOnTheWay(Reason::NoTunnel);
    device.ccm_token().await.unwrap();
    clock.advance(std::time::Duration::from_hours(1));
    let error = device.ccm_token().await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::NoTunnel));
    assert!(error.is_transient() && error.request_id().is_some(), "{error:?}");
}

#[tokio::test]
async fn inside_no_token_is_needed_and_the_gateways_are_learnt_for_the_road() {
    let clock = Clock::manual(NOW);
    let site = FakeSite::start(&clock);
    let gateway = site.gateway();
    site.site().gateways = vec![gateway.to_string(), "nonsense".into()];
    let mut device = device(setup(&site, true, false), &clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    assert_eq!(device.learn_gateways().await.unwrap(), 1);
    device.policy().await.unwrap();
    let whereabouts = device.state().whereabouts.clone().unwrap();
    assert_eq!((whereabouts.locality, whereabouts.rule), (Locality::Intranet, Rule::InsideAnswered));
    assert!(site.take_seen().iter().all(|seen| !seen.through_gateway && seen.token.is_none()));

    // Unplugged: the next request goes through the gateway, and the device stays who it is.
    site.unplug_inside();
    device.heartbeat().await.unwrap();
    let whereabouts = device.state().whereabouts.clone().unwrap();
    assert_eq!((whereabouts.locality, whereabouts.rule), (Locality::Internet, Rule::InsideSilent));
    assert_eq!(whereabouts.address, gateway.to_string());
    let seen = site.take_seen();
    assert!(seen.iter().all(|seen| seen.through_gateway), "{seen:?}");
    assert_eq!(seen.last().unwrap().endpoint, Some(MessageEndpoint::Discovery));
    assert_eq!(device.client_id(), Some(fixture_client_id()));
}

#[tokio::test]
async fn a_device_that_comes_inside_keeps_its_identity_and_needs_its_token_no_more() {
    let clock = Clock::manual(NOW);
    let (site, mut device) = outside(&clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    site.take_seen();
    device.state_mut().setup.inside = vec![site.inside()];
    assert_eq!(device.locate().await.unwrap(), Locality::Intranet);
    device.policy().await.unwrap();
    assert!(site.take_seen().iter().all(|seen| !seen.through_gateway));
    assert_eq!(device.client_id(), Some(fixture_client_id()));
}

#[tokio::test]
async fn something_inside_that_is_not_the_site_does_not_count_as_the_intranet() {
    let clock = Clock::manual(NOW);
    for fault in [Fault::Unsigned, Fault::OtherSite, Fault::Altered] {
        let (site, mut device) = registered_inside(&clock).await;
        site.site().fault = fault;
        assert_eq!(device.locate().await.unwrap(), Locality::Internet, "{fault:?}");
        assert_eq!(device.state().whereabouts.as_ref().unwrap().rule, Rule::InsideSilent);
    }
}

#[tokio::test]
async fn an_answer_that_the_site_did_not_sign_is_not_believed() {
    let clock = Clock::manual(NOW);
    for (fault, expected) in
        [(Fault::Unsigned, "not signed"), (Fault::OtherSite, "another site"), (Fault::Altered, "not good")]
    {
        let (site, mut device) = outside(&clock);
        site.site().fault = fault;
        let error = device.register().await.unwrap_err();
        let Some(CallError::NotBelieved { source, .. }) = error.call() else {
            panic!("{fault:?}: {error:?}")
        };
        assert!(source.to_string().contains(expected), "{source}");
        assert_eq!(device.client_id(), None, "nothing was taken from it");
        assert!(device.state().ccm.is_none() && device.state().trust.root.is_none());
    }
}

#[tokio::test]
async fn without_a_pin_no_root_is_taken_over_a_connection_that_the_system_does_not_trust() {
    let clock = Clock::manual(NOW);
    let site = FakeSite::start(&clock);
    for (inside, gateway) in [(true, false), (false, true)] {
        let setup = Setup { pin: crate::trust::Pin::FirstUse, ..setup(&site, inside, gateway) };
        let mut device = device(setup, &clock);
        device.use_bulk_token(text_of(TokenClass::Bulk, clock.now_seconds() + 60).into());
        let error = device.register().await.unwrap_err();
        let Some(CallError::NotBelieved { source, .. }) = error.call() else { panic!("{error:?}") };
        assert_eq!(*source, Disbelief::NoPin);
    }
}

#[tokio::test]
async fn a_refusal_is_told_with_its_reason_and_changes_nothing() {
    let clock = Clock::manual(NOW);
    let (site, mut device) = registered_inside(&clock).await;
    site.site().fault = Fault::RefusedInside(Reason::Blocked);
    let error = device.policy().await.unwrap_err();
    let PolicyError::Request(told) = &error else { panic!("{error:?}") };
    assert_eq!(told.reason(), Some(Reason::Blocked));
    let refusal = told.call().unwrap().refusal().unwrap();
    assert!(refusal.signed && refusal.status == 200);
    assert!(!told.is_transient());
    assert_eq!(device.state().registration.unwrap().approval, Approval::Approved);
}

#[tokio::test]
async fn a_gateways_refusal_carries_the_fields_phrase_and_is_no_fact() {
    let clock = Clock::manual(NOW);
    let (site, mut device) = outside(&clock);
    site.site().fault = Fault::RefusedOnTheWay(Reason::BulkTokenBlocked);
    let error = device.register().await.unwrap_err();
    let refusal = error.call().unwrap().refusal().unwrap();
    assert_eq!(refusal.phrase, "CMGService_Invalid_Token");
    assert_eq!(
        (refusal.status, refusal.signed, refusal.reason),
        (403, false, Some(Reason::BulkTokenBlocked))
    );
    assert_eq!(error.hresult().to_string(), "0x87d0027e");
    assert_eq!(site.take_seen().len(), 1, "asking again cannot help");
}

#[tokio::test]
async fn a_ccm_token_that_is_refused_is_renewed_once() {
    let clock = Clock::manual(NOW);
    let (site, mut device) = outside(&clock);
    device.register().await.unwrap();
    device.confirm().await.unwrap();
    device.ccm_token().await.unwrap();
    site.take_seen();
    site.site().fault = Fault::RefusedOnTheWay(Reason::TokenNotAccepted);
    device.heartbeat().await.unwrap_err();
    let targets: Vec<_> = site.take_seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/ccm_system_tokenauth/request", "/CCM_STS"], "and no further");
}

#[tokio::test]
async fn a_held_device_gets_its_token_and_waits() {
    let clock = Clock::manual(NOW);
    let (site, mut device) = outside(&clock);
    site.site().approved = false;
    assert_eq!(device.register().await.unwrap().approval, Approval::Held);
    device.confirm().await.unwrap();
    assert!(device.state().self_prove.is_some(), "identity, not rights");
    assert!(matches!(device.ccm_token().await, Err(RequestError::NotApproved)));
    assert!(matches!(device.policy().await, Err(PolicyError::Request(RequestError::NotApproved))));
    site.site().approved = true;
    assert_eq!(device.confirm().await.unwrap().approval, Approval::Approved);
    device.policy().await.unwrap();
}

#[tokio::test]
async fn policy_of_another_device_an_older_list_and_a_changed_body_are_refused() {
    let clock = Clock::manual(NOW);
    let (site, mut device) = registered_inside(&clock).await;
    site.site().serial = 5;
    site.site().policies = vec![PolicyFixture::settings("1.00", "")];
    device.policy().await.unwrap();
    let before = device.state().policy.clone();

    site.site().serial = 4;
    site.site().policies = vec![PolicyFixture::settings("0.50", "")];
    let refused = |error: PolicyError| match error {
        PolicyError::Believe(BelieveError::Manifest(error)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refused(device.policy().await.unwrap_err()).contains("older than 5"));

    site.site().serial = 6;
    site.site().policy_for = "GUID:00000000-0000-0000-0000-000000000001".parse().unwrap();
    assert!(refused(device.policy().await.unwrap_err()).contains("addressed to GUID:00000000"));

    site.site().policy_for = fixture_client_id();
    for policy in [PolicyFixture::public("7.00"), PolicyFixture::secret()] {
        site.site().policies = vec![policy];
        site.site().damages_bodies = true;
        let error = device.policy().await.unwrap_err();
        assert!(matches!(error, PolicyError::Hash(_) | PolicyError::Open { .. }), "{error:?}");
    }
    assert_eq!(device.state().policy, before, "what was in force stays in force");
    site.site().damages_bodies = false;
    assert_eq!(device.policy().await.unwrap().serial, 6);
}

#[tokio::test]
async fn a_gateway_with_an_unknown_root_is_refused_in_the_fields_words() {
    let clock = Clock::manual(NOW);
    let site = FakeSite::start(&clock);
    let (other_ca, _) = crate::testing::gateway_certificate();
    let mut device = device(Setup { ca: Some(other_ca), ..setup(&site, false, true) }, &clock);
    device.use_bulk_token(text_of(TokenClass::Bulk, clock.now_seconds() + 60).into());
    let error = device.register().await.unwrap_err();
    let text = error.call().unwrap().to_string();
    assert!(text.contains("12175") && text.contains("WINHTTP_CALLBACK_STATUS_FLAG_INVALID_CA"), "{text}");
    assert_eq!(error.hresult().to_string(), "0x80072f8f");
}

#[tokio::test]
async fn a_device_without_any_way_says_what_it_knows() {
    let clock = Clock::manual(NOW);
    let site = FakeSite::start(&clock);
    let mut inside_only = device(setup(&site, true, false), &clock);
    site.unplug_inside();
    let error = inside_only.register().await.unwrap_err();
    assert!(
        matches!(error, RequestError::NoWay { rule: Rule::NoGatewayKnown, source: Some(_) }),
        "{error:?}"
    );
    assert!(error.is_transient(), "the inside may come back");
    let again = inside_only.register().await.unwrap_err();
    assert!(again.is_transient(), "each attempt asks inside again, as long as there is no other way");

    let mut outside_only = device(setup(&site, false, true), &clock);
    outside_only.use_bulk_token(text_of(TokenClass::Bulk, clock.now_seconds() + 60).into());
    site.stop_gateway();
    let error = outside_only.register().await.unwrap_err();
    assert!(error.is_transient() && error.call().is_some(), "{error:?}");
    let mut without_token = device(setup(&site, false, true), &clock);
    assert!(matches!(without_token.register().await, Err(RequestError::NoProof)));
}

#[tokio::test]
async fn a_dead_gateway_is_passed_by_in_the_same_request() {
    let clock = Clock::manual(NOW);
    let (dead, alive) = (FakeSite::start(&clock), FakeSite::start(&clock));
    dead.stop_gateway();
    let mut setup = setup(&alive, false, true);
    setup.gateways.push(dead.gateway());
    for _ in 0..4 {
        // Whichever is chosen first.
        let mut device = device(setup.clone(), &clock);
        device.use_bulk_token(text_of(TokenClass::Bulk, clock.now_seconds() + 60).into());
        device.register().await.unwrap();
    }
}
