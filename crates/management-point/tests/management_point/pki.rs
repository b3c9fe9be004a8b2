//! Client certificates of an organisation's PKI: how they are proved, judged, and judged again.

use std::time::Duration;

use management_point::Config;
use proto::client_certificate::ProofOf;
use proto::id::{ClientId, Guid, Thumbprint};
use proto::identity::Method;
use proto::link::PEER_CERTIFICATE_HEADER;
use proto::message::MessageEndpoint;
use proto::reason::{REQUEST_ID_HEADER, Reason};
use proto::request::registration::{ApprovalStatus, ClientRegistrationResponse, KeyType};
use proto::token::TokenClass;
use rcgen::ExtendedKeyUsagePurpose;
use runtime::config::private_file;
use site::{Approval, Device, RoleChange, RoleMode};

use crate::support::message::plain;
use crate::support::pki::{Leaf, Pki, Wish};
use crate::support::{
    Answer, Ask, Bench, TestDevice, TlsClient, confirmation_body, devices, fresh_id, heartbeat, operator,
    registration_of_another_client, registration_with, until,
};

/// A registration of this device, not signed as a request yet.
fn registration(bench: &Bench, device: &TestDevice, key_type: KeyType) -> Ask {
    let body = registration_with(device, key_type, &[("Netbios Name", "PC1")], bench.now(), None);
    Ask::message("/ccm_system/request", plain(bench, MessageEndpoint::ClientRegistration, &body))
}

fn proof_of(bench: &Bench, device: &TestDevice, message_id: Guid) -> ProofOf {
    ProofOf {
        hierarchy: bench.site.facts().hierarchy,
        device_key: device.thumbprint(),
        message_id,
        created: bench.now(),
    }
}

/// Signed by the device, with the proof of a certificate beside it.
fn with_proof(bench: &Bench, ask: Ask, device: &TestDevice, id: Option<ClientId>, leaf: &Leaf) -> Ask {
    let message_id = fresh_id();
    proving(ask, leaf, proof_of(bench, device, message_id)).signed_as(device, id, bench.now(), message_id)
}

/// With this proof of a certificate beside it, not signed yet.
fn proving(ask: Ask, leaf: &Leaf, of: ProofOf) -> Ask {
    leaf.proof(of).iter().fold(ask, |ask, (name, value)| ask.header(name, value))
}

/// As it comes from a connection point, which names the certificate of the gateway's door.
fn through_gateway(ask: Ask, certificate: Thumbprint) -> Ask {
    ask.header(REQUEST_ID_HEADER, &Guid::nil().to_string())
        .header(PEER_CERTIFICATE_HEADER, &certificate.to_string())
}

fn response(answer: &Answer) -> ClientRegistrationResponse {
    ClientRegistrationResponse::parse(&answer.reply()).unwrap()
}

async fn record(bench: &Bench, id: ClientId) -> Device {
    bench.site.find_device(id).await.unwrap().unwrap()
}

/// A site that trusts a PKI, with its role in enhanced HTTP.
async fn trusting() -> (Bench, Pki) {
    let bench = Bench::start().await;
    bench.add_role(RoleMode::Ehttp).await;
    let pki = Pki::new("Example", bench.now());
    bench.trust(&pki).await;
    (bench, pki)
}

/// By which road a certificate is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Road {
    /// It is the registered certificate itself.
    Registered,
    /// By the handshake with the management point, by a client that signs no requests.
    Handshake,
    /// By the header of our client, straight.
    Header,
    /// By the header of our client, through a gateway.
    HeaderOutside,
}

const ROADS: [Road; 4] = [Road::Registered, Road::Handshake, Road::Header, Road::HeaderOutside];

/// Registers by a road with a certificate of this wish.
async fn register(bench: &Bench, pki: &Pki, wish: &Wish, road: Road) -> (Answer, Leaf) {
    let own = TestDevice::new();
    match road {
        Road::Registered => {
            let leaf = pki.issue_to(wish, &own);
            let own = own.under(leaf.chain[0].clone());
            let ask = registration(bench, &own, KeyType::Pki).signed(&own, None, bench.now());
            (bench.send(ask).await, leaf)
        }
        Road::Handshake => {
            let leaf = pki.issue(wish);
            let client = bench.tls(Some(&leaf)).await;
            let named = [("Netbios Name", "PC1")];
            let body = registration_of_another_client(&own, KeyType::SelfSigned, &named, bench.now());
            let message = plain(bench, MessageEndpoint::ClientRegistration, &body);
            (bench.send_tls(Ask::message("/ccm_system/request", message), &client).await, leaf)
        }
        Road::Header | Road::HeaderOutside => {
            let leaf = pki.issue(wish);
            let ask = registration(bench, &own, KeyType::SelfSigned);
            let ask = with_proof(bench, ask, &own, None, &leaf);
            let ask = if road == Road::Header { ask } else { through_gateway(ask, leaf.thumbprint()) };
            (bench.send(ask).await, leaf)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_certificate_approves_by_whichever_road_its_key_was_proved() {
    let (bench, pki) = trusting().await;
    for (number, road) in ROADS.into_iter().enumerate() {
        let wish = Wish::client("pc1.example.org", 10 + number as u64, bench.now());
        let (answer, leaf) = register(&bench, &pki, &wish, road).await;
        let response = response(&answer);
        assert_eq!(response.approval, ApprovalStatus::Approved, "{road:?}");
        assert!(response.cloud_gateway.is_some());
        let device = record(&bench, response.client_id).await;
        assert_eq!((device.method, device.approval_by.as_str()), (Method::Certificate, "pki"), "{road:?}");
        let on_record = device.pki.unwrap();
        assert_eq!(on_record.thumbprint, leaf.thumbprint(), "{road:?}");
        assert!(on_record.subject.contains("pc1.example.org"));
        assert!(device.methods_refused.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_hold_approves_nobody_and_the_record_says_why() {
    let (bench, pki) = trusting().await;
    let stranger = Pki::new("Stranger", bench.now());
    let now = bench.now();
    let good = |serial| Wish::client("pc1.example.org", serial, now);
    let expired = Wish { until: now.minus(Duration::from_secs(1)), ..good(20) };
    let server = Wish { usage: ExtendedKeyUsagePurpose::ServerAuth, ..good(21) };
    let taken_back = pki.issue(&good(22));
    bench.revoke(&pki, 2, &[&taken_back]).await;
    for (pki, wish, why) in [
        (&pki, &expired, "expired"),
        (&pki, &server, "may not be used"),
        (&pki, &good(22), "revoked"),
        (&stranger, &good(23), "no authority that the site trusts"),
    ] {
        for road in ROADS {
            let (answer, _) = register(&bench, pki, wish, road).await;
            if road == Road::HeaderOutside {
                // Nothing that the gateway says carries it: it is held, as whoever has no proof.
                assert_eq!(response(&answer).approval, ApprovalStatus::Unknown, "{road:?} {why}");
            }
            let response = response(&answer);
            assert_eq!(response.approval, ApprovalStatus::Unknown, "{road:?} {why}");
            let device = record(&bench, response.client_id).await;
            assert_eq!(
                (device.approval, device.method),
                (Approval::Held, Method::SiteToken),
                "{road:?} {why}"
            );
            let refused = device.methods_refused.iter().find(|refused| refused.method == Method::Certificate);
            let reason = &refused.unwrap().reason;
            assert!(reason.contains(why), "{road:?}: {reason}");
            assert!(device.pki.is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_for_something_else_is_refused_whatever_else_is_there() {
    let (bench, pki) = trusting().await;
    let [device, other, _] = devices();
    let leaf = pki.issue(&Wish::client("pc1.example.org", 30, bench.now()));
    let message_id = fresh_id();
    let good = proof_of(&bench, device, message_id);
    let forged = [
        ("another message", ProofOf { message_id: fresh_id(), ..good }),
        ("another device", ProofOf { device_key: other.thumbprint(), ..good }),
        ("another site", ProofOf { hierarchy: Guid::nil(), ..good }),
        ("long ago", ProofOf { created: bench.now().minus(Duration::from_secs(301)), ..good }),
    ];
    for (what, of) in forged {
        let ask = registration(&bench, device, KeyType::SelfSigned);
        let ask = proving(ask, &leaf, of).signed_as(device, None, bench.now(), message_id);
        let answer = bench.send(ask).await;
        assert_eq!((answer.status, answer.reason()), (403, Some(Reason::InsideCertificateInvalid)), "{what}");
    }
    // Without a signed request around it, it is bound to nothing.
    let ask = registration(&bench, device, KeyType::SelfSigned);
    let ask = proving(ask, &leaf, good);
    assert_eq!(bench.send(ask).await.reason(), Some(Reason::InsideCertificateInvalid));
    assert!(bench.site.find_device_by_key(device.thumbprint()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_no_fresher_than_its_message_whose_time_is_judged_by_our_clock() {
    let (bench, pki) = trusting().await;
    let leaf = pki.issue(&Wish::client("pc1.example.org", 31, bench.now()));
    let limit = Duration::from_hours(1);
    let past = bench.now().minus(limit);
    let second = Duration::from_secs(1);
    for (signed_at, device) in [(past.minus(second), &TestDevice::new()), (past, &TestDevice::new())] {
        // Proof and message agree with each other; what they are to agree with is our clock.
        let message_id = fresh_id();
        let of = ProofOf { created: signed_at, ..proof_of(&bench, device, message_id) };
        let ask = proving(registration(&bench, device, KeyType::SelfSigned), &leaf, of);
        let answer = bench.send(ask.signed_as(device, None, signed_at, message_id)).await;
        if signed_at == past {
            assert_eq!(response(&answer).approval, ApprovalStatus::Approved);
            continue;
        }
        assert_eq!(answer.reason(), Some(Reason::ClockSkewed));
        assert!(bench.site.find_device_by_key(device.thumbprint()).await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registration_that_made_a_key_known_is_not_taken_again_to_undo_a_later_one() {
    let (bench, pki) = trusting().await;
    let [device, ..] = devices();
    let leaf = pki.issue(&Wish::client("pc1.example.org", 32, bench.now()));
    let first = registration(&bench, device, KeyType::SelfSigned).signed(device, None, bench.now());
    let id = response(&bench.send(first.clone()).await).client_id;
    assert_eq!(bench.send(first.clone()).await.reason(), Some(Reason::MessageRepeated));
    bench.clock.advance(Duration::from_mins(1));
    let ask = registration(&bench, device, KeyType::SelfSigned);
    bench.send(with_proof(&bench, ask, device, Some(id), &leaf)).await;
    // Whoever recorded it throws the device back to what it was then.
    assert_eq!(bench.send(first).await.reason(), Some(Reason::MessageRepeated));
    let record = record(&bench, id).await;
    assert_eq!((record.method, record.fell_back_at), (Method::Certificate, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_reaches_another_key_with_the_same_certificate_whatever_it_comes_with() {
    let (bench, pki) = trusting().await;
    let [device, other, _] = devices();
    let leaf = pki.issue(&Wish::client("pc1.example.org", 33, bench.now()));
    let (id, other_id) = (enroll(&bench, device, &leaf).await, enroll(&bench, other, &leaf).await);
    let self_prove = other.confirm(&bench, other_id).await.pre_auth_token.unwrap();
    let token = other.exchange(&bench, &self_prove, Some(other_id)).await;
    let by_token = async || {
        let body =
            other.message(&bench, other_id, MessageEndpoint::Discovery, &heartbeat(other_id, bench.now(), 0));
        let ask = Ask::message("/ccm_system_tokenauth/request", body).bearer(&token);
        bench.send(ask.signed(other, Some(other_id), bench.now())).await.reason()
    };
    assert_eq!(by_token().await, None);
    bench.site.block_device(&operator(), id, "stolen").await.unwrap();
    assert_eq!(by_token().await, Some(Reason::Blocked));
    let ask = beats(&bench, other, other_id).signed(other, Some(other_id), bench.now());
    assert_eq!(bench.send(ask).await.reason(), Some(Reason::Blocked));
    let ask = Ask::get("/CCM_STS").bearer(&self_prove).signed(other, Some(other_id), bench.now());
    assert_eq!(bench.send(ask).await.status, 403);
    bench.site.unblock_device(&operator(), id).await.unwrap();
    assert_eq!(by_token().await, None);
}

/// A device that is approved by its certificate, proved by the header of our client.
async fn enroll(bench: &Bench, device: &TestDevice, leaf: &Leaf) -> ClientId {
    let ask = registration(bench, device, KeyType::SelfSigned);
    let answer = bench.send(with_proof(bench, ask, device, None, leaf)).await;
    let response = response(&answer);
    assert_eq!(response.approval, ApprovalStatus::Approved);
    response.client_id
}

fn beats(bench: &Bench, device: &TestDevice, id: ClientId) -> Ask {
    let body = device.message(bench, id, MessageEndpoint::Discovery, &heartbeat(id, bench.now(), 0));
    Ask::message("/ccm_system/request", body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_judged_again_on_every_request_that_it_carries() {
    let (bench, pki) = trusting().await;
    let [device, ..] = devices();
    let leaf = pki.issue(&Wish::client("pc1.example.org", 40, bench.now()));
    let id = enroll(&bench, device, &leaf).await;
    let send = async || bench.send(beats(&bench, device, id).signed(device, Some(id), bench.now())).await;
    let fetch = async || {
        let ask = Ask::get("/SMS_MP/.sms_pol?SRC10000.1_00").signed(device, Some(id), bench.now());
        bench.send(ask).await.reason()
    };
    assert_eq!(send().await.reason(), None);
    assert_eq!(fetch().await, Some(Reason::UnknownQuery));
    let token = device.confirm(&bench, id).await.pre_auth_token.unwrap();
    let token = device.exchange(&bench, &token, Some(id)).await;

    bench.revoke(&pki, 2, &[&leaf]).await;
    let answer = send().await;
    assert_eq!((answer.status, answer.reason()), (403, Some(Reason::InsideCertificateRevoked)));
    assert_eq!(fetch().await, Some(Reason::InsideCertificateRevoked));
    // By a token it goes on, and its own status and means to renew stay open.
    let body = device.message(&bench, id, MessageEndpoint::Discovery, &heartbeat(id, bench.now(), 0));
    let ask = Ask::message("/ccm_system_tokenauth/request", body).bearer(&token);
    assert_eq!(bench.send(ask.signed(device, Some(id), bench.now())).await.reason(), None);
    let by_token = record(&bench, id).await;
    assert!(by_token.fell_back_at.is_some(), "it says nothing, and everybody sees it");
    assert_eq!(by_token.method, Method::Certificate, "what it says itself comes with a registration");
    let confirmed = device.confirm(&bench, id).await;
    assert_eq!(confirmed.approval, ApprovalStatus::Approved);
    assert!(confirmed.cloud_gateway.is_some());
    // Who knocks with it is seen.
    bench.site.upkeep().await.unwrap();
    let stranded = bench.site.list_stranded().await.unwrap();
    assert!(
        stranded.iter().any(|who| who.reason == "RG-3314" && who.detail.contains("revoked")),
        "{stranded:?}"
    );

    // It registers again without the certificate: it falls, and everybody sees it.
    let ask = registration(&bench, device, KeyType::SelfSigned).signed(device, Some(id), bench.now());
    assert_eq!(response(&bench.send(ask).await).client_id, id);
    let fallen = record(&bench, id).await;
    assert_eq!(fallen.method, Method::SiteToken);
    assert!(fallen.fell_back_at.is_some());
    assert_eq!(send().await.reason(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_and_a_lost_authority_close_the_door_as_well() {
    let (bench, pki) = trusting().await;
    let [device, ..] = devices();
    let short =
        Wish { until: bench.now().plus(Duration::from_hours(1)), ..Wish::client("pc1", 41, bench.now()) };
    let id = enroll(&bench, device, &pki.issue(&short)).await;
    bench.clock.advance(Duration::from_secs(3601));
    let answer = bench.send(beats(&bench, device, id).signed(device, Some(id), bench.now())).await;
    assert_eq!(answer.reason(), Some(Reason::InsideCertificateExpired));
    // A renewed one brings it back under its id.
    let renewed = pki.issue(&Wish::client("pc1", 42, bench.now()));
    let ask = registration(&bench, device, KeyType::SelfSigned);
    let answer = bench.send(with_proof(&bench, ask, device, Some(id), &renewed)).await;
    assert_eq!(response(&answer).client_id, id);
    assert_eq!(record(&bench, id).await.pki.unwrap().thumbprint, renewed.thumbprint());
    let answer = bench.send(beats(&bench, device, id).signed(device, Some(id), bench.now())).await;
    assert_eq!(answer.reason(), None);

    let root = Thumbprint::of(&pki.root());
    bench.site.remove_trust(&operator(), root).await.unwrap();
    let answer = bench.send(beats(&bench, device, id).signed(device, Some(id), bench.now())).await;
    assert_eq!(answer.reason(), Some(Reason::InsideCertificateUnknownIssuer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_another_devices_connection_is_refused_and_audited() {
    let (bench, pki) = trusting().await;
    let [device, other, _] = devices();
    let leaf = pki.issue(&Wish::client("pc1.example.org", 50, bench.now()));
    let others = pki.issue(&Wish::client("pc2.example.org", 51, bench.now()));
    let id = enroll(&bench, device, &leaf).await;
    enroll(&bench, other, &others).await;
    let send = async |certificate| {
        let ask = beats(&bench, device, id).signed(device, Some(id), bench.now());
        bench.send(through_gateway(ask, certificate)).await.reason()
    };
    assert_eq!(send(leaf.thumbprint()).await, None);
    assert_eq!(send(others.thumbprint()).await, Some(Reason::CertificateOfAnother));
    let audit = bench.site.list_audit(None, 100).await.unwrap();
    let detail = audit.iter().find(|row| row.act == "request.wrong-device").unwrap();
    assert!(detail.detail.contains(&others.thumbprint().to_string()), "{detail:?}");
    // The same inside, by our own handshake.
    let client = bench.tls(Some(&others)).await;
    let ask = beats(&bench, device, id).signed(device, Some(id), bench.now());
    assert_eq!(bench.send_tls(ask, &client).await.reason(), Some(Reason::CertificateOfAnother));
    let client = bench.tls(Some(&leaf)).await;
    let ask = beats(&bench, device, id).signed(device, Some(id), bench.now());
    assert_eq!(bench.send_tls(ask, &client).await.reason(), None);
    // A header that cannot be read is no certificate.
    let ask = beats(&bench, device, id).signed(device, Some(id), bench.now());
    let answer = bench.send(ask.header(PEER_CERTIFICATE_HEADER, "anything")).await;
    assert_eq!((answer.status, answer.reason()), (401, Some(Reason::InsideTokenNotAccepted)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_opens_the_gateway_before_it_is_on_record() {
    let (bench, pki) = trusting().await;
    let [device, ..] = devices();
    let leaf = pki.issue(&Wish::client("pc1.example.org", 55, bench.now()));
    let renewed = pki.issue(&Wish::client("pc1.example.org", 56, bench.now()));
    let id = enroll(&bench, device, &leaf).await;
    let ask = registration(&bench, device, KeyType::SelfSigned);
    let ask = with_proof(&bench, ask, device, Some(id), &renewed);
    let answer = bench.send(through_gateway(ask, renewed.thumbprint())).await;
    assert_eq!(response(&answer).client_id, id);
    assert_eq!(record(&bench, id).await.pki.unwrap().thumbprint, renewed.thumbprint());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_says_of_a_certificate_opens_no_more_than_public_facts() {
    let (bench, pki) = trusting().await;
    let [device, ..] = devices();
    let leaf = pki.issue(&Wish::client("pc1.example.org", 57, bench.now()));
    let says = |ask: Ask| through_gateway(ask, leaf.thumbprint());
    assert_eq!(bench.send(says(Ask::get("/SMS_MP/.sms_aut?SITESIGNCERT"))).await.status, 200);
    // No token comes of it, and no approval.
    let answer = bench.send(says(Ask::get("/CCM_STS").signed(device, None, bench.now()))).await;
    assert_eq!((answer.status, answer.reason()), (401, Some(Reason::StsTokenMissing)));
    let ask = registration(&bench, device, KeyType::SelfSigned).signed(device, None, bench.now());
    assert_eq!(response(&bench.send(says(ask)).await).approval, ApprovalStatus::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_service_takes_a_certificate_whose_key_was_proved() {
    let (bench, pki) = trusting().await;
    let [device, ..] = devices();
    let leaf = pki.issue(&Wish::client("pc1.example.org", 60, bench.now()));
    let ask = with_proof(&bench, Ask::get("/CCM_STS"), device, None, &leaf);
    let token = granted(&bench, &bench.send(ask).await);
    assert_eq!((token.class, token.device), (TokenClass::PreAuth, None));
    assert_eq!(token.confirmation, Some(device.thumbprint()));
    let id = enroll(&bench, device, &leaf).await;
    let ask = with_proof(&bench, Ask::get("/CCM_STS"), device, Some(id), &leaf);
    let token = granted(&bench, &bench.send(ask).await);
    assert_eq!((token.class, token.device), (TokenClass::Device, Some(id)));
    // Our own handshake says who made the connection, and not whose request it is.
    let client = bench.tls(Some(&leaf)).await;
    let ask = Ask::get("/CCM_STS").signed(device, Some(id), bench.now());
    assert_eq!(bench.send_tls(ask, &client).await.reason(), Some(Reason::StsTokenMissing));
    let ask = with_proof(&bench, Ask::get("/CCM_STS"), device, Some(id), &leaf);
    assert_eq!(granted(&bench, &bench.send_tls(ask, &client).await).class, TokenClass::Device);

    bench.revoke(&pki, 2, &[&leaf]).await;
    let ask = with_proof(&bench, Ask::get("/CCM_STS"), device, Some(id), &leaf);
    let answer = bench.send(ask).await;
    assert_eq!((answer.status, answer.reason()), (403, Some(Reason::InsideCertificateRevoked)));
}

fn granted(bench: &Bench, answer: &Answer) -> proto::token::Token {
    assert_eq!(answer.status, 200, "{answer:?}");
    let grant: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    bench.site.token_keys().verify(grant["access_token"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_device_does_not_come_back_with_its_certificate_and_another_key() {
    let (bench, pki) = trusting().await;
    let [device, other, _] = devices();
    let leaf = pki.issue(&Wish::client("pc1.example.org", 70, bench.now()));
    let id = enroll(&bench, device, &leaf).await;
    bench.site.block_device(&operator(), id, "stolen").await.unwrap();
    let answer = bench.send(beats(&bench, device, id).signed(device, Some(id), bench.now())).await;
    assert_eq!(answer.reason(), Some(Reason::Blocked));
    let ask = with_proof(&bench, registration(&bench, other, KeyType::SelfSigned), other, None, &leaf);
    assert_eq!(bench.send(ask).await.reason(), Some(Reason::Blocked));
    let ask = with_proof(&bench, Ask::get("/CCM_STS"), other, None, &leaf);
    assert_eq!(bench.send(ask).await.reason(), Some(Reason::Blocked));
    assert!(bench.site.find_device_by_key(other.thumbprint()).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_is_carried_over_anothers_connection_gets_nothing_of_its_certificate() {
    let (bench, pki) = trusting().await;
    let leaf = pki.issue(&Wish::client("pc1.example.org", 80, bench.now()));
    let others = pki.issue(&Wish::client("pc2.example.org", 81, bench.now()));
    let relay = bench.tls(Some(&others)).await;
    let [device, other, _] = devices();
    // As the device sent it, and with its request's signature taken away.
    let signed = registration(&bench, device, KeyType::SelfSigned).signed(device, None, bench.now());
    let stripped = registration(&bench, other, KeyType::SelfSigned);
    for ask in [signed, stripped] {
        let response = response(&bench.send_tls(ask, &relay).await);
        assert_eq!(response.approval, ApprovalStatus::Unknown);
        let record = record(&bench, response.client_id).await;
        assert_eq!((record.method, record.pki), (Method::SiteToken, None));
    }
    // What the device proves counts, and not what the connection shows besides.
    let ask = with_proof(&bench, registration(&bench, device, KeyType::SelfSigned), device, None, &leaf);
    let response = response(&bench.send_tls(ask, &bench.tls(Some(&leaf)).await).await);
    assert_eq!(response.approval, ApprovalStatus::Approved);
    assert_eq!(record(&bench, response.client_id).await.pki.unwrap().thumbprint, leaf.thumbprint());
    let ask = registration(&bench, other, KeyType::SelfSigned);
    let answer = bench.send_tls(with_proof(&bench, ask, other, None, &leaf), &relay).await;
    let id = self::response(&answer).client_id;
    assert_eq!(record(&bench, id).await.pki.unwrap().thumbprint, leaf.thumbprint());
}

/// HTTPS mode with the certificate of a PKI that the site trusts.
async fn https_bench(folder: &tempfile::TempDir) -> (Bench, Pki) {
    let now = proto::time::Timestamp::from_seconds(crate::support::NOW);
    let pki = Pki::new("Example", now);
    let server = pki.issue(&Wish::server(1, now));
    let chain: String = server.chain.iter().map(|der| crate::modes::pem("CERTIFICATE", der)).collect();
    std::fs::write(folder.path().join("role.pem"), chain).unwrap();
    private_file::write(folder.path().join("role.key"), crate::modes::pem("PRIVATE KEY", &server.pkcs8))
        .unwrap();
    let bench = Bench::configured(&[], |config| Config {
        certificate: Some(folder.path().join("role.pem")),
        key: Some(folder.path().join("role.key")),
        ..config
    })
    .await;
    bench.trust(&pki).await;
    bench.add_role(RoleMode::Https).await;
    let none = TlsClient::new(&bench.clock, &pki.root(), None);
    until(async || none.server_certificate(bench.tls_address).await.ok()).await;
    (bench, pki)
}

#[tokio::test(flavor = "multi_thread")]
async fn in_https_mode_a_certificate_lets_a_new_device_in_and_its_proof_approves_it() {
    let folder = tempfile::tempdir().unwrap();
    let (bench, pki) = https_bench(&folder).await;
    let [device, ..] = devices();
    let leaf = pki.issue(&Wish::client("pc1.example.org", 90, bench.now()));
    let shows = |leaf| TlsClient::new(&bench.clock, &pki.root(), leaf);
    // Our client does not know the hierarchy yet that the proof names, so it comes without.
    let first = || registration(&bench, device, KeyType::SelfSigned).signed(device, None, bench.now());
    let without = bench.send_tls(first(), &shows(None)).await;
    assert_eq!(without.reason(), Some(Reason::MethodNotForMode));
    let client = shows(Some(&leaf));
    let held = response(&bench.send_tls(first(), &client).await);
    assert_eq!(held.approval, ApprovalStatus::Unknown);
    assert!(record(&bench, held.client_id).await.pki.is_none());
    let again = response(&bench.send_tls(first(), &client).await);
    assert_eq!((again.client_id, again.approval), (held.client_id, ApprovalStatus::Unknown));
    let body = confirmation_body(device, held.client_id, bench.now());
    let ask = Ask::message("/ccm_system/request", plain(&bench, MessageEndpoint::ClientRegistration, &body));
    let ask = ask.signed(device, Some(held.client_id), bench.now());
    assert!(response(&bench.send_tls(ask, &client).await).pre_auth_token.is_some());
    let ask = registration(&bench, device, KeyType::SelfSigned);
    let ask = with_proof(&bench, ask, device, Some(held.client_id), &leaf);
    let approved = response(&bench.send_tls(ask, &client).await);
    assert_eq!((approved.client_id, approved.approval), (held.client_id, ApprovalStatus::Approved));
    let ask = beats(&bench, device, held.client_id).signed(device, Some(held.client_id), bench.now());
    assert_eq!(bench.send_tls(ask, &client).await.reason(), None);
}

/// HTTPS mode, with the demand for a certificate of everybody.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_certificate_is_demanded_nothing_is_answered_without() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new("Example", proto::time::Timestamp::from_seconds(crate::support::NOW));
    let stranger = Pki::new("Stranger", proto::time::Timestamp::from_seconds(crate::support::NOW));
    let now = proto::time::Timestamp::from_seconds(crate::support::NOW);
    let server = pki.issue(&Wish::server(1, now));
    let chain: String = server.chain.iter().map(|der| crate::modes::pem("CERTIFICATE", der)).collect();
    std::fs::write(folder.path().join("role.pem"), chain).unwrap();
    let key = crate::modes::pem("PRIVATE KEY", &server.pkcs8);
    private_file::write(folder.path().join("role.key"), key).unwrap();
    let bench = Bench::configured(&[], |config| Config {
        certificate: Some(folder.path().join("role.pem")),
        key: Some(folder.path().join("role.key")),
        ..config
    })
    .await;
    bench.trust(&pki).await;
    let role = bench.add_role(RoleMode::Https).await;
    let none = TlsClient::new(&bench.clock, &pki.root(), None);
    until(async || none.server_certificate(bench.tls_address).await.ok()).await;
    let facts = || Ask::get("/SMS_MP/.sms_aut?MPLIST1");
    assert_eq!(bench.send_tls(facts(), &none).await.status, 200, "not demanded yet");

    let change = RoleChange { demand_client_certificate: Some(true), ..RoleChange::default() };
    bench.site.set_role(&operator(), role.id, change).await.unwrap();
    until(async || (bench.send_tls(facts(), &none).await.status == 403).then_some(())).await;
    let wish = |serial| Wish::client("connector.example.org", serial, bench.now());
    let (ours, revoked, foreign) = (pki.issue(&wish(2)), pki.issue(&wish(3)), stranger.issue(&wish(4)));
    bench.revoke(&pki, 2, &[&revoked]).await;
    let shows = |leaf: &Leaf| TlsClient::new(&bench.clock, &pki.root(), Some(leaf));
    for (what, client) in [("none", none), ("revoked", shows(&revoked)), ("foreign", shows(&foreign))] {
        for ask in [facts(), Ask::get("/admin"), Ask::get("/CCM_STS"), Ask::new("PUT", "/SMS_MP/.sms_aut")] {
            let answer = bench.send_tls(ask, &client).await;
            assert_eq!(
                (answer.status, answer.phrase.as_str(), answer.reason()),
                (403, "Client certificate required", Some(Reason::InsideCertificateRequired)),
                "{what}"
            );
        }
    }
    assert_eq!(bench.send_tls(facts(), &shows(&ours)).await.status, 200);
}
