//! Roaming, as stories: where the device is, which way its requests take, and who forbids what.

use std::sync::Arc;
use std::time::Duration;

use proto::message::MessageEndpoint;
use proto::reason::Reason;
use proto::request::policy_body::CimValue;
use proto::request::registration::CloudGateway;
use proto::token::TokenClass;
use runtime::Clock;

use super::*;
use crate::local_settings::{FILE, LocalSettings};
use crate::location::{Locality, Permission, Rule};
use crate::place::{SiteWord, WordSource};
use crate::policy::PolicyError;
use crate::standing::Wish;
use crate::state::{Setup, State, StateFolder};
use crate::testing::{FakeSite, Fault, PolicyFixture, Seen, log_to, pin_of};
use crate::token::StoredToken;
use crate::token::tests::text_of;

const NOW: i64 = 1_790_000_000_000_000;

/// A device with a folder of its own, that knows what it is told.
struct Story {
    clock: Clock,
    site: FakeSite,
    device: Device,
    folder: tempfile::TempDir,
}

impl Story {
    fn new(inside: bool, gateway: bool) -> Self {
        let clock = Clock::manual(NOW);
        let site = FakeSite::start(&clock);
        let inside = if inside { vec![site.inside()] } else { Vec::new() };
        let gateways = if gateway { vec![site.gateway()] } else { Vec::new() };
        let setup = Setup {
            inside,
            gateways,
            ca: Some(site.ca.clone()),
            pin: pin_of(site.keys),
            ..crate::state::tests::setup()
        };
        let folder = tempfile::tempdir().unwrap();
        let options = DeviceOptions {
            state: State::new(setup),
            key: KeyMaterial::generate(Timestamp::from_micros(NOW)).unwrap(),
            store: Arc::new(StateFolder::create(folder.path()).unwrap()),
            clock: clock.clone(),
            system_roots: false,
        };
        Self { clock, site, device: Device::new(options).unwrap(), folder }
    }

    /// Registered and confirmed inside.
    async fn registered(gateway: bool) -> Self {
        let mut story = Self::new(true, gateway);
        story.device.register().await.unwrap();
        story.device.confirm().await.unwrap();
        story.site.take_seen();
        story
    }

    fn says(&self, allowed: bool) {
        let addresses = vec![self.site.gateway().to_string()];
        self.site.site().cloud_gateway = Some(CloudGateway { allowed, addresses });
    }

    fn write_settings(&self, text: &str) {
        std::fs::write(self.folder.path().join(FILE), text).unwrap();
    }

    fn settings(&self) -> LocalSettings {
        LocalSettings::read(self.folder.path()).unwrap()
    }

    async fn refused(&mut self) -> Rule {
        match self.device.policy().await.unwrap_err() {
            PolicyError::Request(RequestError::NoWay { rule, .. }) => rule,
            other => panic!("{other:?}"),
        }
    }

    async fn look(&mut self, occasion: Occasion) -> (Locality, Rule) {
        let locality = self.device.look_around(occasion).await.unwrap();
        let known = self.device.state().whereabouts.clone().unwrap();
        assert_eq!(known.locality, locality);
        (locality, known.rule)
    }
}

fn through_gateway(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| seen.through_gateway).count()
}

#[tokio::test]
async fn the_answer_to_a_registration_makes_first_contact_outside_work() {
    let mut story = Story::new(true, false);
    story.says(true);
    story.device.register().await.unwrap();
    story.device.confirm().await.unwrap();
    assert_eq!(story.device.gateways(), [story.site.gateway()], "before any policy");
    story.site.reach(false, true);
    story.site.take_seen();
    story.device.policy().await.unwrap();
    assert!(through_gateway(&story.site.take_seen()) >= 2, "token and policy came through the gateway");
}

#[tokio::test]
async fn a_device_that_was_forbidden_once_is_allowed_by_the_answer_to_its_registration() {
    let mut story = Story::new(false, true);
    let place = &mut story.device.state_mut().place;
    let word = SiteWord { allowed: false, at: Timestamp::from_micros(NOW - 1), source: WordSource::Policy };
    place.site_says(word, &mut LocalSettings::default());
    let expires = story.clock.now_seconds() + 3600;
    story.device.use_bulk_token(text_of(TokenClass::Bulk, expires).into());
    story.says(true);
    story.device.register().await.unwrap();
    assert_eq!(story.device.permission(), Permission::Allowed);
    story.device.confirm().await.unwrap();
    story.device.policy().await.unwrap();
    let word = story.device.state().place.site.unwrap();
    assert_eq!((word.allowed, word.source), (true, WordSource::Confirmation));
}

#[tokio::test]
async fn a_permission_that_was_withdrawn_reaches_a_device_outside_when_it_is_given_back() {
    let mut story = Story::registered(true).await;
    let settings = |version: &str, allowed| {
        PolicyFixture::client_settings(version, &[("EnableCloudGateway", CimValue::Boolean(allowed))])
    };
    story.says(false);
    story.site.site().policies = vec![settings("1.00", false)];
    story.device.policy().await.unwrap();
    assert_eq!(story.settings().disallow_cmg(), Some(true), "scripts of the field read it there");
    assert_eq!(story.device.permission(), Permission::ForbiddenBySite);

    // Outside for good. Work is refused without a request, and the question goes through.
    story.site.reach(false, true);
    assert_eq!(story.look(Occasion::NetworkChange).await, (Locality::Internet, Rule::GatewayForbidden));
    story.site.take_seen();
    assert_eq!(story.refused().await, Rule::GatewayForbidden);
    assert_eq!(through_gateway(&story.site.take_seen()), 0);
    assert!(story.device.may_only_ask_for_permission());
    story.device.confirm().await.unwrap();
    assert!(story.device.may_only_ask_for_permission(), "still");
    let asked = story.site.take_seen();
    let about =
        |seen: &Seen| seen.target == "/CCM_STS" || seen.endpoint == Some(MessageEndpoint::ClientRegistration);
    assert!(through_gateway(&asked) >= 2 && asked.iter().all(about), "{asked:?}");

    // The site changes its mind. Nothing that was kept stands in the way.
    story.says(true);
    story.site.site().policies = vec![settings("2.00", true)];
    story.site.site().serial = 2;
    story.device.confirm().await.unwrap();
    assert!(!story.device.may_only_ask_for_permission());
    assert_eq!(story.settings().disallow_cmg(), Some(false));
    story.device.policy().await.unwrap();
    story.device.heartbeat().await.unwrap();
    let report = story.site.site().reports.pop().unwrap();
    assert_eq!(report.instance("Roamgate_Client").unwrap().value("EnableCloudGateway"), Some("TRUE"));
}

#[tokio::test]
async fn a_hand_that_forbids_the_gateway_counts_until_the_site_speaks() {
    let mut story = Story::registered(true).await;
    story.says(true);
    story.site.reach(false, true);
    story.write_settings(r#"{"DisAllowCMG": 1}"#);
    let place = story.look(Occasion::Start).await;
    assert_eq!(place, (Locality::Internet, Rule::GatewayForbiddenHere));
    assert_eq!(story.refused().await, Rule::GatewayForbiddenHere);
    let error = story.device.confirm().await.unwrap_err();
    assert!(matches!(error, RequestError::NoWay { rule: Rule::GatewayForbiddenHere, .. }), "{error:?}");
    assert!(!error.is_transient());
    assert_eq!(through_gateway(&story.site.take_seen()), 0, "an administrator means all of it");
    let status = crate::status::Status::of(
        story.device.state(),
        &KeyMaterial { pkcs8: zeroize::Zeroizing::new(Vec::new()), certificate: Vec::new() },
        story.device.now(),
    );
    assert!(status.gateway_permission.starts_with("forbidden by hand (DisAllowCMG=1)"));

    // Inside the site speaks, and with that the hand is over.
    story.site.reach(true, true);
    story.look(Occasion::NetworkChange).await;
    story.device.confirm().await.unwrap();
    assert_eq!(story.settings().disallow_cmg(), Some(false));
    story.site.reach(false, true);
    story.look(Occasion::NetworkChange).await;
    story.device.policy().await.unwrap();
}

#[tokio::test]
async fn the_fields_remedy_of_writing_zero_works_until_the_site_forbids_again() {
    let mut story = Story::registered(true).await;
    story.says(false);
    story.device.confirm().await.unwrap();
    story.site.reach(false, true);
    assert_eq!(story.look(Occasion::Start).await.1, Rule::GatewayForbidden);
    story.write_settings(r#"{"DisAllowCMG": 0}"#);
    assert_eq!(story.look(Occasion::Start).await.1, Rule::InsideSilent);
    story.device.policy().await.unwrap();
    story.device.confirm().await.unwrap();
    assert_eq!(story.settings().disallow_cmg(), Some(true));
    assert_eq!(story.refused().await, Rule::GatewayForbidden);
}

#[tokio::test]
async fn a_device_without_any_gateway_finds_one_by_cmg_fqdns_and_replaces_it_by_the_sites() {
    let mut story = Story::registered(false).await;
    story.site.reach(false, true);
    let authority = story.site.gateway().authority().to_owned();
    story.write_settings(&format!(r#"{{"CMGFQDNs": "https://{authority}/"}}"#));
    // Started while the gateway does not answer as one: its first role is as good as any.
    story.site.reach(false, false);
    story.look(Occasion::Start).await;
    assert_eq!(story.device.gateways()[0].role(), proto::id::RoleId::FIRST);
    story.site.reach(false, true);
    assert_eq!(story.look(Occasion::NetworkChange).await, (Locality::Internet, Rule::InsideSilent));
    assert_eq!(story.device.gateways(), [story.site.gateway()]);
    assert_eq!(story.site.site().metadata_asked, 1);
    // Looked into again every 25 hours, and not with each poll.
    story.look(Occasion::Poll).await;
    assert_eq!(story.site.site().metadata_asked, 1);
    story.clock.advance(Duration::from_hours(25));
    story.look(Occasion::Poll).await;
    assert_eq!(story.site.site().metadata_asked, 2);

    story.device.policy().await.unwrap();
    story.site.site().gateways = vec![story.site.gateway().to_string()];
    story.device.learn_gateways().await.unwrap();
    let written = story.settings().cmg_fqdns().unwrap().to_owned();
    assert_eq!(written, format!("https://{}", story.site.gateway()));
    story.look(Occasion::NetworkChange).await;
    assert_eq!(story.site.site().metadata_asked, 2, "the site's own list is known by now");
}

#[tokio::test]
async fn cmg_fqdns_with_a_role_needs_no_question() {
    let mut story = Story::registered(false).await;
    story.site.reach(false, true);
    story.write_settings(&format!(r#"{{"CMGFQDNs": "{}"}}"#, story.site.gateway()));
    story.look(Occasion::Start).await;
    story.device.policy().await.unwrap();
    assert_eq!(story.site.site().metadata_asked, 0);
}

#[tokio::test]
async fn always_on_the_internet_is_a_setting_of_the_device_too() {
    let mut story = Story::registered(true).await;
    assert_eq!(story.look(Occasion::Poll).await, (Locality::Intranet, Rule::InsideAnswered));
    story.write_settings(r#"{"ClientAlwaysOnInternet": 1}"#);
    assert_eq!(story.look(Occasion::Poll).await, (Locality::Internet, Rule::AlwaysInternet));
    story.site.take_seen();
    story.device.policy().await.unwrap();
    let seen = story.site.take_seen();
    assert_eq!(through_gateway(&seen), seen.len(), "{seen:?}");
    story.write_settings("{}");
    assert_eq!(story.look(Occasion::Poll).await, (Locality::Intranet, Rule::InsideAnswered));
}

#[tokio::test]
async fn the_probe_shows_the_intranet_only_with_the_sites_signature() {
    let mut story = Story::registered(true).await;
    let probe = story.site.inside();
    // The management point of setup is gone; the probe leads to another one of the site.
    story.device.state_mut().setup.inside = vec!["http://127.0.0.1:9".parse().unwrap()];
    story.site.site().policies = vec![PolicyFixture::client_settings(
        "1.00",
        &[("NetworkProbe", CimValue::String(format!("{probe}/")))],
    )];
    story.device.policy().await.unwrap();
    assert_eq!(story.look(Occasion::Poll).await, (Locality::Intranet, Rule::ProbeAnswered));
    story.site.take_seen();
    story.device.heartbeat().await.unwrap();
    assert_eq!(through_gateway(&story.site.take_seen()), 0, "who answers as the site takes messages, too");

    for fault in [Fault::Unsigned, Fault::OtherSite, Fault::Altered] {
        story.site.site().fault = fault;
        assert_eq!(story.look(Occasion::Poll).await, (Locality::Internet, Rule::InsideSilent), "{fault:?}");
    }
    story.site.site().fault = Fault::None;
    story.site.reach(false, true);
    assert_eq!(story.look(Occasion::Poll).await.0, Locality::Internet, "the login page of a hotel");

    // A host that only accepts connections.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    story.device.state_mut().policy.settings.network_probe = Some(address.parse().unwrap());
    assert_eq!(story.look(Occasion::Poll).await.0, Locality::Internet);
}

#[tokio::test]
async fn who_hears_the_sites_refusal_inside_is_inside() {
    let mut story = Story::registered(true).await;
    story.site.site().fault = Fault::RefusedInside(Reason::Blocked);
    assert_eq!(story.look(Occasion::Poll).await, (Locality::Intranet, Rule::InsideAnswered));
}

#[tokio::test]
async fn an_answer_of_before_is_no_answer_of_now() {
    // A relay that gives every request the first answer of the management point that it ever saw.
    let mut story = Story::registered(true).await;
    let target = story.site.inside().authority().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut kept: Option<Vec<u8>> = None;
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 16 * 1024];
            let read = stream.read(&mut request).await.unwrap_or(0);
            if kept.is_none() {
                let mut upstream = tokio::net::TcpStream::connect(&target).await.unwrap();
                upstream.write_all(&request[..read]).await.unwrap();
                let mut answer = vec![0; 64 * 1024];
                let length = upstream.read(&mut answer).await.unwrap();
                answer.truncate(length);
                kept = Some(answer);
            }
            let _ = stream.write_all(kept.as_deref().unwrap_or_default()).await;
        }
    });
    story.device.state_mut().setup.inside = vec![relay.parse().unwrap()];
    assert_eq!(story.look(Occasion::Poll).await.0, Locality::Intranet, "the first one is fresh");
    assert_eq!(story.look(Occasion::Poll).await, (Locality::Internet, Rule::InsideSilent));
}

/// Two management points of one site, and a device that knows both and is registered.
async fn two_inside() -> (Story, FakeSite) {
    let mut story = Story::registered(true).await;
    let other = FakeSite::start(&story.clock);
    other.site().certificate = story.site.site().certificate.clone();
    story.device.state_mut().place.inside = vec![other.inside()];
    (story, other)
}

#[tokio::test]
async fn inside_a_management_point_is_left_after_five_failures_and_registration_keeps_to_the_assigned_one() {
    let (mut story, other) = two_inside().await;
    assert_eq!(story.look(Occasion::Start).await.1, Rule::InsideAnswered);
    story.site.reach(false, true);
    for failures in 1..=5 {
        assert_eq!(story.device.inside_rotation.current(), Some(&story.site.inside()), "{failures}");
        story.device.heartbeat().await.unwrap();
    }
    assert_eq!(story.device.inside_rotation.current(), Some(&other.inside()));
    assert_eq!(through_gateway(&story.site.take_seen()), 0, "another inside comes before a gateway");
    assert_eq!(other.site().reports.len(), 5);

    // Back again, the assigned one gets what belongs to it, and the new one the rest.
    story.site.reach(true, true);
    story.site.take_seen();
    other.take_seen();
    story.device.confirm().await.unwrap();
    story.device.policy().await.unwrap();
    story.device.heartbeat().await.unwrap();
    let endpoints = |seen: Vec<Seen>| seen.into_iter().filter_map(|seen| seen.endpoint).collect::<Vec<_>>();
    let assigned = endpoints(story.site.take_seen());
    assert_eq!(assigned, [MessageEndpoint::ClientRegistration, MessageEndpoint::PolicyManager]);
    assert_eq!(endpoints(other.take_seen()), [MessageEndpoint::Discovery]);
}

/// A device that is registered, outside, and knows a gateway that is gone and a good one, in this order.
async fn one_of_two_gateways() -> (Story, FakeSite) {
    let mut story = Story::registered(true).await;
    let dead = FakeSite::start(&story.clock);
    dead.stop_gateway();
    story.site.reach(false, true);
    story.device.state_mut().setup.gateways = vec![dead.gateway(), story.site.gateway()];
    story.device.rotation.begin_with(&dead.gateway());
    (story, dead)
}

#[tokio::test]
async fn outside_a_gateway_that_fails_is_left_when_another_one_answers_and_the_field_reads_it() {
    let log = tempfile::tempdir().unwrap();
    let (mut story, dead) = one_of_two_gateways().await;
    // It answered last, before it went.
    let known = story.device.gateways();
    let wish = Wish { known: &known, place: None, role: None, now: Timestamp::from_micros(NOW), random: 0 };
    story.device.state_mut().place.standing.answered(&dead.gateway(), &wish);
    let (guard, handle) = log_to(log.path(), runtime::telemetry::Level::Default, &story.clock);
    story.look(Occasion::NetworkChange).await;
    assert_eq!(story.device.rotation.current(), Some(&dead.gateway()));
    story.device.ccm_token().await.unwrap();
    assert_eq!(story.device.rotation.current(), Some(&story.site.gateway()));
    story.device.heartbeat().await.unwrap();
    drop(guard);
    drop(handle);
    let text = std::fs::read_to_string(log.path().join("ClientLocation.log")).unwrap();
    let line = format!(
        "Rotating internet management point, new management point [2] is: https://{} (0) with capabilities: ",
        story.site.gateway()
    );
    assert!(text.contains(&line), "{text}");
    let text = std::fs::read_to_string(log.path().join("LocationServices.log")).unwrap();
    for part in [
        "location decided occasion=\"network change\" result=internet".to_owned(),
        "rule=\"no management point inside answered\"".to_owned(),
        format!("management points inside: {}, probe: none, inside: silent, gateways: ", story.site.inside()),
    ] {
        assert!(text.contains(&part), "{part} in {text}");
    }
}

#[tokio::test]
async fn the_gateway_that_answered_is_tried_first_also_by_the_next_program_and_after_a_rest() {
    let (mut story, _dead) = one_of_two_gateways().await;
    story.look(Occasion::Start).await;
    story.device.ccm_token().await.unwrap();
    story.device.heartbeat().await.unwrap();
    let first = |story: &Story| {
        let known = story.device.gateways();
        let now = story.device.now();
        let wish = |random| Wish { known: &known, place: None, role: None, now, random };
        let standing = &story.device.state().place.standing;
        let first: Vec<_> = (0..64).map(|random| standing.best(&wish(random), &[]).unwrap()).collect();
        assert!(first.iter().all(|best| *best == first[0]), "{first:?}");
        first[0].clone()
    };
    assert_eq!(first(&story), story.site.gateway());
    story.clock.advance(Duration::from_hours(2));
    assert_eq!(first(&story), story.site.gateway(), "the dead one has rested, and has never answered");

    // What was kept on the disk says the same.
    let kept = StateFolder::create(story.folder.path()).unwrap().load().unwrap();
    assert_eq!(kept.place.standing, story.device.state().place.standing);
    assert!(!serde_json::to_string(&kept.place.standing).unwrap().is_empty());

    // Nobody answers for a while: both are asked, and it comes back to the one that was good.
    story.site.reach(false, false);
    story.device.heartbeat().await.unwrap_err();
    assert_eq!(first(&story), story.site.gateway(), "both rest, and one of them has answered before");
    story.site.reach(false, true);
    story.device.heartbeat().await.unwrap();
    assert_eq!(first(&story), story.site.gateway());
}

#[tokio::test]
async fn the_management_points_that_the_site_names_are_known_for_the_way_back() {
    let mut story = Story::new(false, true);
    let expires = story.clock.now_seconds() + 3600;
    story.device.use_bulk_token(text_of(TokenClass::Bulk, expires).into());
    story.device.register().await.unwrap();
    story.device.confirm().await.unwrap();
    let name = story.site.inside().authority().to_owned();
    story.site.site().named_inside = vec![(name, 0), ("mp2.example.org".into(), 7)];
    assert_eq!(story.device.learn_inside().await.unwrap(), 2);
    let known: Vec<_> = story.device.management_points().iter().map(ToString::to_string).collect();
    assert_eq!(known, [story.site.inside().to_string(), "https://mp2.example.org".into()]);
    assert_eq!(story.look(Occasion::NetworkChange).await, (Locality::Intranet, Rule::InsideAnswered));
    story.site.site().named_inside.clear();
    assert_eq!(story.device.learn_inside().await.unwrap(), 0);
    assert_eq!(story.device.management_points().len(), 2, "an empty answer takes nothing away");
}

#[tokio::test]
async fn the_self_prove_token_before_is_kept_until_the_new_one_was_used() {
    let mut story = Story::registered(true).await;
    story.site.reach(false, true);
    let first = story.device.state().self_prove.clone().unwrap();
    story.clock.advance(Duration::from_hours(40 * 24));

    // The renewal's answer is lost on the way: nothing changed, and the token of now still counts.
    story.device.ccm_token().await.unwrap();
    story.site.site().fault = Fault::Altered;
    story.device.confirm().await.unwrap_err();
    story.site.site().fault = Fault::None;
    let text = |token: &Option<StoredToken>| token.as_ref().map(|token| token.text.expose().to_owned());
    assert_eq!(text(&story.device.state().self_prove), Some(first.text.expose().to_owned()));

    // It comes through, and the site does not know the new token: the one before still does.
    story.device.confirm().await.unwrap();
    let second = text(&story.device.state().self_prove).unwrap();
    assert_eq!(text(&story.device.state().self_prove_before), Some(first.text.expose().to_owned()));
    story.site.site().refused_tokens = vec![second.clone()];
    story.device.state_mut().ccm = None;
    story.device.ccm_token().await.unwrap();
    assert_eq!(text(&story.device.state().self_prove), Some(first.text.expose().to_owned()));
    assert!(crate::token::confirmation_is_due(story.device.state().self_prove.as_ref(), story.device.now()));

    // Renewed again, and used: the one before is gone.
    story.clock.advance(Duration::from_secs(1));
    story.device.confirm().await.unwrap();
    story.device.state_mut().ccm = None;
    story.device.ccm_token().await.unwrap();
    assert!(story.device.state().self_prove_before.is_none());
    assert_ne!(text(&story.device.state().self_prove), Some(second));
}

#[tokio::test]
async fn what_is_applied_is_reported_with_what_does_nothing_here() {
    let mut story = Story::registered(true).await;
    story.site.site().policies = vec![PolicyFixture::client_settings(
        "4.00",
        &[
            ("HeartbeatInterval", CimValue::UInt32(60)),
            ("LogLevel", CimValue::String("loud".into())),
            ("FutureSetting", CimValue::UInt32(1)),
            ("CheckServerCrl", CimValue::Boolean(false)),
        ],
    )];
    story.device.policy().await.unwrap();
    story.device.heartbeat().await.unwrap();
    let report = story.site.site().reports.pop().unwrap();
    let ours = report.instance("Roamgate_Client").unwrap();
    for (name, value) in [
        ("PolicyVersion", "4.00"),
        ("HeartbeatInterval", "60"),
        ("LogLevel", "info"),
        ("CheckServerCrl", "FALSE"),
        ("EnableCloudGateway", "TRUE"),
        ("IgnoredSettings", "FutureSetting"),
        ("UnreadableSettings", "LogLevel"),
        ("GatewayPermission", "allowed"),
        ("LocalityRule", "a management point inside answered with the site's signature"),
    ] {
        assert_eq!(ours.value(name), Some(value), "{name}");
    }
}
