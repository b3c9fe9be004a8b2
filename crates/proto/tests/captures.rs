//! Every recorded message is read, its signatures hold, and what was read comes back from
//! writing. See `fixtures/wire/README.md`.

mod wire;

use std::collections::BTreeSet;

use proto::message::body::RequestBody;
use proto::message::envelope::CONTENT_TYPE;
use proto::message::header_identity::HeaderIdentity;
use proto::message::signature::{HashAlgorithm, RsaSigningKey, SignatureError};
use proto::message::{
    Envelope, Header, MessageEndpoint, OutgoingRequest, ReplyCompression, ReplyMessage, ReplyStamp,
    RequestMessage, RsaPublicKey, SigningIdentity,
};
use proto::request::location::{
    ContentLocationReply, EnumerateMpLocationReply, LocalMpLocationReply, LocationRequest, SiteInfoReply,
    WsusLocationReply,
};
use proto::request::policy::{PolicyFlags, ReplyAssignments, RequestAssignments};
use proto::request::policy_body::PolicyBody;
use proto::request::policy_query::{PolicyEdition, PolicyQuery};
use proto::request::registration::{
    ApprovalStatus, ClientRegistrationRequest, ClientRegistrationResponse, RegistrationKind,
    RegistrationStatus,
};
use proto::request::report::{InventoryAction, Report};
use proto::request::site_facts::{
    MachineAffinity, MpCertificate, MpCertificates, MpKeyInformation, MpList, SiteFactQuery, TrustedRootKey,
};
use proto::request::status::StatusMessage;
use proto::time::Timestamp;
use proto::{cms, id::Guid, public_key_blob, text};

/// The one request whose `PayloadSignature` was spoilt on purpose.
const SPOILT: &str = "public-a/08-policy-assignments-bad-signature.request.http";

fn messages() -> Vec<wire::Recorded> {
    let mut list = wire::all(".request.http");
    list.retain(|recorded| recorded.is_message() && !recorded.name.contains("upload-request"));
    list
}

/// The query of a request's target.
fn query_of(recorded: &wire::Recorded) -> &str {
    recorded.start_line.split(' ').nth(1).unwrap().split_once('?').unwrap().1
}

#[test]
fn every_message_is_read_and_every_body_comes_back() {
    let messages = messages();
    let mut kinds = BTreeSet::new();
    for recorded in &messages {
        let name = &recorded.name;
        let message = recorded.request();
        let header = message.header().clone();
        assert_eq!(Header::parse(&header.to_xml()), Ok(header.clone()), "{name}");

        let plain = message.inflate(usize::MAX).unwrap();
        let body = plain.body().unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let endpoint = header.endpoint().unwrap();
        kinds.insert(endpoint.name());
        match body {
            RequestBody::Registration(request) => {
                assert_eq!(
                    ClientRegistrationRequest::parse(&request.to_xml()).as_ref(),
                    Ok(&*request),
                    "{name}"
                );
            }
            RequestBody::Assignments(request) => {
                assert_eq!(Some(request.machine.client_id), header.source_id, "{name}");
                assert_eq!(RequestAssignments::parse(&request.to_xml()).as_ref(), Ok(&*request), "{name}");
            }
            RequestBody::Location(request) => {
                assert_eq!(LocationRequest::parse(&request.to_xml()).as_ref(), Ok(&*request), "{name}");
            }
            RequestBody::Report(report) => {
                assert_eq!(Some(report.header.client_id), header.source_id, "{name}");
                assert_eq!(Report::parse(&report.to_xml()).as_ref(), Ok(&*report), "{name}");
            }
            RequestBody::Status(status) => {
                assert_eq!(StatusMessage::parse(&status.to_xml()).as_ref(), Ok(&*status), "{name}");
            }
        }
    }
    println!("{} messages to {} endpoints read and written back", messages.len(), kinds.len());
    assert_eq!((messages.len(), kinds.len()), (28, 8));
}

#[test]
fn every_signature_holds_but_the_spoilt_one() {
    let keys = wire::registered_keys();
    let (mut signed, mut registrations, mut client_ids) = (0, 0, 0);
    for recorded in messages() {
        let name = &recorded.name;
        let message = recorded.request();
        assert_eq!(
            message.header().client_auth().is_some(),
            message.header().endpoint().unwrap().is_signed(),
            "{name}"
        );
        if let Some(registration) = wire::registration(&recorded) {
            let key = match &registration.data.kind {
                RegistrationKind::Registration(details) => {
                    RsaPublicKey::from_certificate(&details.signing.der).unwrap()
                }
                RegistrationKind::Confirmation => {
                    assert_eq!(registration.signer, registration.data.client_id);
                    keys[&(recorded.folder().to_owned(), registration.signer.unwrap())].clone()
                }
            };
            assert_eq!(registration.verify(&key), Ok(()), "{name}");
            assert_eq!(registration.data.hash_algorithm, HashAlgorithm::Sha256WithRsa);
            registrations += 1;
        }
        let Some(auth) = message.header().client_auth() else { continue };
        let key = &keys[&(recorded.folder().to_owned(), message.header().source_id.unwrap())];
        let expected = if name == SPOILT { Err(SignatureError::Invalid) } else { Ok(()) };
        assert_eq!(message.verify_payload(key), expected, "{name}");
        assert_eq!(message.check_client_id_signature(key), Ok(()), "{name}");
        assert_eq!(
            public_key_blob::parse_hex(auth.property("PublicKey").unwrap()).as_ref(),
            Ok(key),
            "{name}"
        );
        assert_eq!(public_key_blob::build_hex(key), auth.property("PublicKey").unwrap(), "{name}");
        signed += 1;
        client_ids += 1;
        // Nobody else's key verifies it.
        for (owner, other) in keys.iter().filter(|(_, other)| *other != key) {
            assert_eq!(message.verify_payload(other), Err(SignatureError::Invalid), "{name} {owner:?}");
        }
    }
    println!("{signed} payload, {client_ids} client id and {registrations} registration signatures verified");
    assert_eq!((signed, registrations), (10, 12));
}

#[test]
fn an_upload_is_recognised_and_not_served() {
    let recorded = wire::one("sdk/32-upload-request.request.http");
    let error = RequestMessage::parse(recorded.content_type(), &recorded.body).unwrap_err();
    assert!(error.is_upload_request(), "{error:?}");
}

#[test]
fn the_full_report_is_found_in_both_layouts() {
    for (name, action, classes) in [
        ("sdk/08-ddr.request.http", InventoryAction::Discovery, 9),
        ("public-c/02-ddr.request.http", InventoryAction::Discovery, 9),
        ("sdk/09-hardware-inventory.request.http", InventoryAction::Hardware, 2),
        ("sdk/25-software-inventory.request.http", InventoryAction::Software, 0),
    ] {
        let plain = wire::one(name).request().inflate(usize::MAX).unwrap();
        let Ok(RequestBody::Report(report)) = plain.body() else { panic!("{name}: no report") };
        assert_eq!(report.header.action, Some(action), "{name}");
        assert_eq!(report.instances.len(), classes, "{name}");
    }
    let fallback = wire::one("sdk/26-POST-sms_fsp.request.http");
    let report = Report::parse(std::str::from_utf8(&fallback.body).unwrap()).unwrap();
    assert_eq!((report.header.action, report.state_messages.len()), (None, 1));
    assert_eq!((report.state_messages[0].topic_type, report.state_messages[0].state_id), (800, 400));
}

#[test]
fn header_identities_hold_but_the_one_made_with_another_key() {
    let keys = wire::registered_keys();
    let mut seen = 0;
    for recorded in wire::all(".request.http").iter().filter(|r| r.start_line.contains(".sms_pol")) {
        let query = PolicyQuery::parse(query_of(recorded)).unwrap();
        assert!(matches!(query.edition, PolicyEdition::Sha256(_)));
        let Some(identity) = HeaderIdentity::from_headers(|name| recorded.header(name)).unwrap() else {
            continue;
        };
        let key = &keys[&(recorded.folder().to_owned(), identity.client_id)];
        let expected =
            if recorded.name.contains("wrong-key") { Err(SignatureError::Invalid) } else { Ok(()) };
        assert_eq!(identity.verify(key), expected, "{}", recorded.name);
        let recorded_at = Timestamp::parse_iso8601("2026-11-21T11:15:30Z").unwrap();
        assert!(identity.time.distance(recorded_at).as_secs() < 60, "{}", recorded.name);
        seen += 1;
    }
    println!("{seen} header identities judged");
    assert_eq!(seen, 5);
}

#[test]
fn every_reply_is_read_and_comes_back() {
    let mut read = 0;
    let replies = wire::all(".reply.http");
    for recorded in &replies {
        let name = &recorded.name;
        if !recorded.is_message() {
            continue;
        }
        let reply = recorded.reply();
        let request = wire::one(&name.replace(".reply.", ".request.")).request();
        assert_eq!(reply.header.correlation_id, request.header().id, "{name}");
        let zlib = request.header().reply_compression == Some(ReplyCompression::Zlib);
        assert_eq!(reply.header.is_compressed(), zlib, "{name}");
        same_body(&reply.body);

        let stamp = ReplyStamp {
            message_id: reply.header.id.unwrap(),
            now: reply.header.sent_at().unwrap(),
            source_host: &reply.header.source_host,
        };
        let written = ReplyMessage::write(request.header(), &stamp, &reply.body);
        assert_eq!(ReplyMessage::parse(CONTENT_TYPE, &written), Ok(reply), "{name}");
        let (mine, theirs) =
            (Envelope::parse(CONTENT_TYPE, &written), Envelope::parse(CONTENT_TYPE, &recorded.body));
        let normal = |header: &str| header.replace("<Hooks></Hooks>", "<Hooks/>");
        assert_eq!(normal(&mine.unwrap().header), normal(&theirs.unwrap().header), "{name}");
        read += 1;
    }
    println!("{read} of {} replies are messages; all read and written back", replies.len());
    assert_eq!(read, 21);
}

/// The body of a reply, read and written and read, is the same.
fn same_body(xml: &str) {
    let name = xml.trim_start_matches('<').split([' ', '>']).next().unwrap();
    macro_rules! same {
        ($kind:ty) => {{
            let read = <$kind>::parse(xml).unwrap();
            assert_eq!(<$kind>::parse(&read.to_xml()), Ok(read));
        }};
    }
    match name {
        "ClientRegistrationResponse" => same!(ClientRegistrationResponse),
        "ReplyAssignments" => same!(ReplyAssignments),
        "SiteInfoReply" => same!(SiteInfoReply),
        "ContentLocationReply" => same!(ContentLocationReply),
        "EnumerateMPLocationReply" => same!(EnumerateMpLocationReply),
        "LocalMPLocationReply" => same!(LocalMpLocationReply),
        "WSUSLocationReply" => same!(WsusLocationReply),
        "MPList" => same!(MpList),
        "MPCertificate" => same!(MpCertificate),
        "MPCertificates" => same!(MpCertificates),
        "MPKEYINFORMATION" => same!(MpKeyInformation),
        "KEYDATA" => same!(TrustedRootKey),
        "MachineAffinity" => same!(MachineAffinity),
        other => panic!("a reply of an unexpected kind: {other}"),
    }
}

#[test]
fn site_facts_are_asked_and_answered() {
    let mut asked = 0;
    for recorded in wire::all(".request.http").iter().filter(|r| r.start_line.contains(".sms_aut")) {
        let query = query_of(recorded);
        assert_eq!(SiteFactQuery::parse(query).unwrap().to_string(), query, "{}", recorded.name);
        let reply = wire::one(&recorded.name.replace(".request.", ".reply."));
        let xml = String::from_utf8(reply.body).unwrap();
        if query == "MPTRK" || query == "MPKEYINFORMATIONEX" || !xml.is_empty() {
            same_body(&xml);
        }
        asked += 1;
    }
    assert_eq!(asked, 8);
}

#[test]
fn what_the_registrations_were_told_is_read() {
    let told = |name| ClientRegistrationResponse::parse(&wire::one(name).reply().body).unwrap();
    let pending = told("sdk-pending/01-registration.reply.http");
    assert_eq!((pending.status, pending.approval), (RegistrationStatus::Pending, ApprovalStatus::Unknown));
    let registered = told("sdk-pending/03-confirmation-registered.reply.http");
    assert_eq!(
        (registered.status, registered.approval),
        (RegistrationStatus::Registered, ApprovalStatus::Approved)
    );
    assert_eq!(pending.client_id, registered.client_id);
    let hint = wire::registration(&wire::one("sdk/31-registration-with-hint.request.http")).unwrap();
    let RegistrationKind::Registration(details) = hint.data.kind else { panic!("a confirmation") };
    assert!(details.hint.unwrap().starts_with("CCMClientID: GUID:"));
    assert_eq!(details.properties.len(), 5);
}

#[test]
fn policy_bodies_are_what_was_assigned() {
    let assignments =
        ReplyAssignments::parse(&wire::one("sdk/02-policy-assignments.reply.http").reply().body).unwrap();
    let policies: Vec<_> = assignments.assignments.iter().flat_map(|a| &a.policies).collect();
    assert_eq!(policies.len(), 3);
    for (name, flags) in [
        ("sdk/03-GET-policy-body-public.reply.http", PolicyFlags::default()),
        ("sdk/04-GET-policy-body-compressed.reply.http", PolicyFlags::COMPRESSED),
        ("sdk/06-GET-policy-body-secret.reply.http", PolicyFlags::SECRET.with(PolicyFlags::REQUIRES_AUTH)),
    ] {
        let request = wire::one(&name.replace(".reply.", ".request."));
        let query = PolicyQuery::parse(query_of(&request)).unwrap();
        let policy = policies.iter().find(|policy| policy.id == query.id).unwrap();
        assert_eq!(policy.flags, flags, "{name}");
        let target = policy.location.target().unwrap();
        assert_eq!(PolicyQuery::parse(target.split_once('?').unwrap().1), Ok(query), "{name}");

        let mut served = wire::one(name).body;
        if policy.flags.has(PolicyFlags::SECRET) {
            served = cms::open(
                &wire::pem("sdk-client-test-cert.pem"),
                &wire::pem("sdk-client-test-key.pem"),
                &served,
            )
            .unwrap();
        }
        let body = PolicyBody::parse(&served, usize::MAX).unwrap();
        assert_eq!(body.id, policy.id, "{name}");
        assert!(body.instances().count() > 0, "{name}");
        assert_eq!(PolicyBody::parse(&body.to_bytes(), usize::MAX).as_ref(), Ok(&body), "{name}");
        assert_eq!(PolicyBody::parse(&body.to_compressed_bytes(), usize::MAX).as_ref(), Ok(&body), "{name}");
    }
}

/// Our client's messages are as the SDK's: the same header, the same payload.
#[test]
fn a_message_made_here_is_the_message_that_was_recorded() {
    let key = RsaSigningKey::from_pkcs8(&wire::pem("sdk-client-test-key.pem")).unwrap();
    let public_key = RsaPublicKey::from_certificate(&wire::pem("sdk-client-test-cert.pem")).unwrap();
    assert_eq!(key.public_key().as_ref(), Ok(&public_key));
    let recorded = wire::one("sdk/02-policy-assignments.request.http").request();
    let header = recorded.header().clone();
    let plain = recorded.inflate(usize::MAX).unwrap();
    let body = plain.body_text().unwrap();
    let request = OutgoingRequest {
        message_id: header.id.unwrap(),
        now: header.sent_at().unwrap(),
        source_host: "vm",
        source_id: None,
        endpoint: MessageEndpoint::PolicyManager,
        target_host: &header.target_host,
        body: &body,
        compress: true,
        reply_compression: ReplyCompression::Zlib,
        properties: Vec::new(),
    };
    let identity = SigningIdentity {
        client_id: header.source_id.unwrap(),
        host: "SDKBOX",
        key: &key,
        public_key: &public_key,
        shows_certificate: false,
    };
    let made = RequestMessage::parse(CONTENT_TYPE, &request.write_signed(&identity)).unwrap();
    assert_eq!(made.verify_payload(&public_key), Ok(()));
    assert_eq!(made.check_client_id_signature(&public_key), Ok(()));
    let mut expected = header.clone();
    expected.source_host = "vm".to_owned();
    // The two compressors need not agree, so neither need the signatures over their output.
    let mut made_header = made.header().clone();
    for hooks in [&mut expected.hooks, &mut made_header.hooks] {
        let proto::message::Hook::ClientAuth(auth) = &mut hooks[0] else { panic!("no signature") };
        auth.properties.retain(|property| property.name != "PayloadSignature");
        assert_eq!(auth.properties.len(), 5);
    }
    assert_eq!(made_header, expected);
    assert_eq!(made.inflate(usize::MAX).unwrap().payload, plain.payload);
    assert_eq!(text::decode_trimmed(&plain.payload).as_deref(), Ok(body.as_str()));
    assert_ne!(request.message_id, Guid::nil());
}

/// What we encrypt opens with the tool that everybody has.
#[test]
fn openssl_opens_what_we_seal() {
    let certificate = wire::pem("sdk-client-test-cert.pem");
    let plaintext = text::encode_with_bom("<Policy/>");
    let sealed = cms::seal(&certificate, &plaintext).unwrap();
    let folder = std::env::temp_dir().join(format!("roamgate-cms-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("sealed.der");
    std::fs::write(&file, &sealed).unwrap();
    let keys = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wire/keys");
    let output = std::process::Command::new("openssl")
        .args(["cms", "-decrypt", "-binary", "-inform", "DER", "-in"])
        .arg(&file)
        .arg("-inkey")
        .arg(keys.join("sdk-client-test-key.pem"))
        .arg("-recip")
        .arg(keys.join("sdk-client-test-cert.pem"))
        .output();
    std::fs::remove_dir_all(&folder).unwrap();
    match output {
        Ok(output) => assert_eq!(output.stdout, plaintext, "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => println!("skipped: openssl does not run here ({error})"),
    }
}
