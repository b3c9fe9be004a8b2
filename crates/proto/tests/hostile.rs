//! Damaged and hostile input: nothing panics, nothing grows, nothing verifies that changed.

mod wire;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::{Compress, Compression, FlushCompress};
use proto::limits;
use proto::message::body::{RequestBody, RequestBodyError};
use proto::message::envelope::{BOUNDARY, CONTENT_TYPE, EnvelopeError};
use proto::message::header::HeaderError;
use proto::message::{Envelope, Header, MessageError, ReplyMessage, RequestMessage, RsaPublicKey};
use proto::request::policy_body::PolicyBody;
use proto::text::Utf16Error;
use proto::text::xml::XmlError;
use proto::zlib::InflateError;
use proto::{cms, text, zlib};

/// A message with this body, uncompressed, to this endpoint.
fn message_to(endpoint: &str, body: &str) -> Vec<u8> {
    let header = format!("<Msg><TargetEndpoint>{endpoint}</TargetEndpoint></Msg>");
    Envelope::write(&header, Some(&text::encode_with_nul(body)))
}

fn body_of(message: &[u8]) -> Result<RequestBody, RequestBodyError> {
    RequestMessage::parse(CONTENT_TYPE, message).unwrap().inflate(limits::INFLATED_BYTES).unwrap().body()
}

/// What a good recording proves: the bytes that may not change.
struct Proof {
    key: RsaPublicKey,
    payload: Vec<u8>,
    registration: Option<String>,
}

/// Reads a damaged copy as a server would, as far as it goes. A copy that still verifies
/// must still say the same.
fn read_damaged(content_type: &str, body: &[u8], proof: Option<&Proof>) {
    let Ok(message) = RequestMessage::parse(content_type, body) else { return };
    if let (Some(proof), Some(_)) = (proof, message.header().client_auth()) {
        if message.verify_payload(&proof.key).is_ok() {
            assert_eq!(message.stored_payload(), proof.payload);
        } else {
            return;
        }
    }
    let Ok(plain) = message.inflate(limits::INFLATED_BYTES) else { return };
    let Ok(body) = plain.body() else { return };
    if let (Some(proof), RequestBody::Registration(request)) = (proof, body)
        && request.verify(&proof.key).is_ok()
    {
        assert_eq!(Some(format!("{:?}", request.data)), proof.registration);
    }
}

fn proof_of(
    recorded: &wire::Recorded,
    keys: &std::collections::BTreeMap<(String, proto::id::ClientId), RsaPublicKey>,
) -> Option<Proof> {
    let message = RequestMessage::parse(recorded.content_type(), &recorded.body).ok()?;
    let registration = wire::registration(recorded);
    let id = message.header().source_id.or(registration.as_ref().and_then(|r| r.signer));
    let of_folder = |(key, _): &(&(String, proto::id::ClientId), &RsaPublicKey)| key.0 == recorded.folder();
    let key = match id {
        Some(id) => keys.get(&(recorded.folder().to_owned(), id)),
        None => keys.iter().find(of_folder).map(|(_, key)| key),
    };
    Some(Proof {
        key: key?.clone(),
        payload: message.stored_payload().to_vec(),
        registration: registration.map(|request| format!("{:?}", request.data)),
    })
}

/// Damages every body in two ways and reads what comes out, on as many threads as there are cores.
#[test]
fn no_truncation_and_no_flipped_bit_does_harm() {
    let keys = wire::registered_keys();
    let mut recordings = wire::all(".request.http");
    recordings.extend(wire::all(".reply.http"));
    recordings.retain(|recorded| !recorded.body.is_empty());
    let queue = Mutex::new(recordings.iter());
    let (truncations, flips, signed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(recorded) = { queue.lock().unwrap().next() } {
                    let is_reply = recorded.start_line.starts_with("HTTP/");
                    let proof =
                        if is_reply || !recorded.is_message() { None } else { proof_of(recorded, &keys) };
                    signed.fetch_add(usize::from(proof.is_some()), Ordering::Relaxed);
                    let read = |body: &[u8]| {
                        if recorded.is_message() && is_reply {
                            let _ = ReplyMessage::parse(recorded.content_type(), body);
                        } else if recorded.is_message() {
                            read_damaged(recorded.content_type(), body, proof.as_ref());
                        } else {
                            let _ = PolicyBody::parse(body, limits::INFLATED_BYTES);
                            let _ = std::str::from_utf8(body).map(text::check_xml);
                        }
                    };
                    for length in 0..recorded.body.len() {
                        read(&recorded.body[..length]);
                        truncations.fetch_add(1, Ordering::Relaxed);
                    }
                    let mut copy = recorded.body.clone();
                    for byte in 0..copy.len() {
                        // Another bit for each byte, and every bit eight bytes later.
                        copy[byte] ^= 1 << (byte % 8);
                        read(&copy);
                        copy[byte] = recorded.body[byte];
                        flips.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (truncations, flips, signed) = (truncations.into_inner(), flips.into_inner(), signed.into_inner());
    println!(
        "{truncations} truncations and {flips} flipped bits of {} bodies, {signed} of them signed",
        recordings.len()
    );
    assert!(truncations > 100_000 && truncations == flips && signed >= 20);
}

#[test]
fn an_envelope_that_opens_to_the_secret_was_not_damaged() {
    let (certificate, key) = (wire::pem("sdk-client-test-cert.pem"), wire::pem("sdk-client-test-key.pem"));
    let sealed = wire::one("sdk/06-GET-policy-body-secret.reply.http").body;
    let secret = cms::open(&certificate, &key, &sealed).unwrap();
    let mut cases = 0;
    for length in (0..sealed.len()).step_by(7) {
        assert!(cms::open(&certificate, &key, &sealed[..length]).is_err());
        cases += 1;
    }
    let mut copy = sealed.clone();
    for byte in (0..sealed.len()).step_by(3) {
        copy[byte] ^= 1 << (byte % 8);
        assert_ne!(cms::open(&certificate, &key, &copy).as_ref(), Ok(&secret), "bit of byte {byte}");
        copy[byte] = sealed[byte];
        cases += 1;
    }
    println!("{cases} damaged envelopes, none opens to the secret");
}

#[test]
fn envelopes_with_two_readings_are_refused() {
    let good = message_to("MP_DdrEndpoint", "<Report/>");
    let parse = |content_type: &str, body: &[u8]| match RequestMessage::parse(content_type, body) {
        Err(MessageError::Envelope(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(parse("multipart/mixed; boundary=other", &good), EnvelopeError::NoBoundary);
    assert_eq!(parse("text/xml", &good), EnvelopeError::ContentType);
    assert_eq!(parse(CONTENT_TYPE, &[&b"preamble\r\n"[..], &good].concat()), EnvelopeError::NoBoundary);
    assert_eq!(parse(CONTENT_TYPE, &[&[0; 4][..], &good].concat()), EnvelopeError::NoBoundary);
    assert_eq!(parse(CONTENT_TYPE, &[&good[..], &[0; 4]].concat()), EnvelopeError::TrailingData);
    let part = |bytes: &[u8]| {
        let head = format!("--{BOUNDARY}\r\ncontent-type: text/plain; charset=UTF-16\r\n\r\n");
        [head.as_bytes(), bytes, format!("\r\n--{BOUNDARY}--").as_bytes()].concat()
    };
    let text_error = |bytes: &[u8]| parse(CONTENT_TYPE, &part(bytes));
    assert_eq!(text_error(b"<\0M\0"), EnvelopeError::HeaderText(Utf16Error::MissingBom));
    assert_eq!(text_error(b"\xFF\xFE<"), EnvelopeError::HeaderText(Utf16Error::OddLength(1)));
    assert_eq!(text_error(b"\xFF\xFE\x00\xD8<\0"), EnvelopeError::HeaderText(Utf16Error::UnpairedSurrogate));
    let nul = RequestMessage::parse(CONTENT_TYPE, &part(b"\xFF\xFE<\0M\0s\0g\0/\0>\0\0\0"));
    assert!(
        matches!(nul, Err(MessageError::Header(HeaderError::Xml(XmlError::ControlCharacter { .. })))),
        "{nul:?}"
    );
}

#[test]
fn xml_attacks_end_at_the_reader() {
    let laughs = (1..10).fold(String::from("<!DOCTYPE Report [<!ENTITY a0 'ha'>"), |text, n| {
        format!("{text}<!ENTITY a{n} '{}'>", format!("&a{};", n - 1).repeat(10))
    }) + "]><Report>&a9;</Report>";
    let external = "<!DOCTYPE Report SYSTEM 'http://192.0.2.1/x.dtd'><Report/>";
    let file = "<!DOCTYPE Report [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><Report>&x;</Report>";
    let include =
        "<Report xmlns:xi='http://www.w3.org/2001/XInclude'><xi:include href='file:///etc/passwd'/></Report>";
    let deep = "<a>".repeat(10_000) + &"</a>".repeat(10_000);
    let quadratic = format!("<Report>{}</Report>", "&x;".repeat(100_000));
    for (body, error) in [
        (laughs.as_str(), XmlError::DocType),
        (external, XmlError::DocType),
        (file, XmlError::DocType),
        (&deep, XmlError::TooDeep),
        (&quadratic, XmlError::UnknownEntity),
    ] {
        assert_eq!(body_of(&message_to("MP_RelayEndpoint", body)), Err(RequestBodyError::Xml(error.clone())));
        assert_eq!(Header::parse(body), Err(HeaderError::Xml(error)));
    }
    // Includes are elements like any other: nothing is fetched, and this is no report.
    assert!(matches!(body_of(&message_to("MP_RelayEndpoint", include)), Err(RequestBodyError::Body(_))));
    assert!(matches!(
        body_of(&message_to("MP_RelayEndpoint", "<Report>\u{1}</Report>")),
        Err(RequestBodyError::Xml(XmlError::ControlCharacter { .. }))
    ));
}

#[test]
fn messages_to_nobody_and_bodies_out_of_place_are_refused() {
    assert!(matches!(body_of(&message_to("MP_Unheard", "<Report/>")), Err(RequestBodyError::Endpoint(_))));
    assert!(matches!(body_of(&message_to("", "<Report/>")), Err(RequestBodyError::Endpoint(_))));
    for (endpoint, body) in [
        ("MP_PolicyManager", "<Report/>"),
        ("MP_LocationManager", "<ClientRegistrationRequest/>"),
        ("MP_TokenManager", "<TokenServicesRequest/>"),
        ("MP_LocationManager", "<UpdateSFRequest/>"),
    ] {
        assert!(
            matches!(body_of(&message_to(endpoint, body)), Err(RequestBodyError::Misplaced { .. })),
            "{endpoint}"
        );
    }
    let encrypted = Envelope::write("<Msg><Hooks><Hook2 Name='encryption'/></Hooks></Msg>", Some(b"x"));
    let message = RequestMessage::parse(CONTENT_TYPE, &encrypted).unwrap();
    assert_eq!(message.inflate(99), Err(MessageError::UnsupportedHook("encryption".to_owned())));
    let elsewhere = Envelope::write("<Msg><Payload Type='file'/></Msg>", None);
    let error = RequestMessage::parse(CONTENT_TYPE, &elsewhere);
    assert_eq!(error, Err(MessageError::UnsupportedPayload("file".to_owned())));
}

/// The signature does not cover the header, so a recorded heartbeat can be sent elsewhere and
/// still verifies; its content gives it away.
#[test]
fn a_signed_heartbeat_is_taken_at_its_own_endpoint_only() {
    let recorded = wire::one("sdk/08-ddr.request.http");
    let keys = wire::registered_keys();
    let envelope = Envelope::parse(CONTENT_TYPE, &recorded.body).unwrap();
    for endpoint in proto::message::MessageEndpoint::ALL {
        let header = envelope.header.replace("MP_DdrEndpoint", endpoint.name());
        let message =
            RequestMessage::parse(CONTENT_TYPE, &Envelope::write(&header, envelope.payload)).unwrap();
        let key = &keys[&("sdk".to_owned(), message.header().source_id.unwrap())];
        assert_eq!(message.verify_payload(key), Ok(()));
        let body = message.inflate(limits::INFLATED_BYTES).unwrap().body();
        if endpoint.name() == "MP_DdrEndpoint" {
            assert!(body.is_ok(), "{body:?}");
        } else {
            assert!(matches!(body, Err(RequestBodyError::Misplaced { .. })), "{endpoint}: {body:?}");
        }
    }
}

/// A right zlib stream of `mebibytes` MiB of zeros, from one compressed MiB repeated.
fn bomb(mebibytes: usize) -> Vec<u8> {
    let zeros = vec![0; 1 << 20];
    let mut block = Vec::with_capacity(1 << 16);
    Compress::new(Compression::best(), false).compress_vec(&zeros, &mut block, FlushCompress::Sync).unwrap();
    let mut stream = vec![0x78, 0x9C];
    (0..mebibytes).for_each(|_| stream.extend_from_slice(&block));
    stream.extend_from_slice(&[0x03, 0x00]);
    // Adler-32 of n zeros: the low sum stays 1, the high sum counts the bytes.
    let high = u32::try_from((mebibytes << 20) % 65_521).unwrap();
    stream.extend_from_slice(&(high << 16 | 1).to_be_bytes());
    stream
}

fn peak_memory_kib() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().split(' ').next()?.parse().ok())
}

#[test]
fn a_bomb_of_256_mebibytes_costs_no_more_than_the_limit() {
    assert_eq!(zlib::inflate(&bomb(2), 2 << 20).map(|plain| plain.len()), Ok(2 << 20));
    let bomb = bomb(256);
    let header = "<Msg><Hooks><Hook3 Name='zlib-compress'/></Hooks>\
                  <TargetEndpoint>MP_RelayEndpoint</TargetEndpoint></Msg>";
    let message = RequestMessage::parse(CONTENT_TYPE, &Envelope::write(header, Some(&bomb))).unwrap();
    let before = peak_memory_kib();
    let error = message.inflate(usize::MAX).unwrap_err();
    assert_eq!(error, MessageError::Inflate(InflateError::TooLarge { limit: limits::INFLATED_BYTES }));
    match (before, peak_memory_kib()) {
        (Some(before), Some(after)) => {
            println!(
                "{} bytes would inflate to 256 MiB; peak memory grew by {} KiB",
                bomb.len(),
                after - before
            );
            assert!(after - before < 64 * 1024);
        }
        _ => println!("skipped the measure of memory: no /proc/self/status"),
    }
}

#[test]
fn oversized_parts_are_refused_before_they_are_read() {
    let parse = |body: &[u8]| RequestMessage::parse(CONTENT_TYPE, body);
    let huge = Envelope::write("<Msg/>", Some(&vec![0; limits::MESSAGE_BYTES]));
    assert!(matches!(parse(&huge), Err(MessageError::Envelope(EnvelopeError::TooLarge(_)))));
    let wide = Envelope::write(&format!("<Msg>{}</Msg>", " ".repeat(limits::MESSAGE_HEADER_BYTES / 2)), None);
    assert!(matches!(parse(&wide), Err(MessageError::Envelope(EnvelopeError::HeaderTooLarge(_)))));
    let many = format!("<Report>{}</Report>", "<a/>".repeat(limits::XML_NODES));
    assert_eq!(
        body_of(&message_to("MP_RelayEndpoint", &many)),
        Err(RequestBodyError::Xml(XmlError::TooManyNodes))
    );
}

/// Inputs that fuzzers of other projects found interesting.
#[test]
fn public_fuzzing_corpora_do_no_harm() {
    use base64::Engine as _;
    #[derive(serde::Deserialize)]
    struct Case {
        base64: String,
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/corpus");
    let mut cases = 0;
    for name in ["xml", "mime", "multipart", "zlib", "gzip", "x509", "asn1", "httpreq"] {
        let Ok(file) = std::fs::read(folder.join(format!("go-fuzz-{name}.json"))) else {
            println!("skipped {name}: ../shared/vectors is not there");
            continue;
        };
        for case in serde_json::from_slice::<Vec<Case>>(&file).unwrap() {
            let bytes = base64::engine::general_purpose::STANDARD.decode(case.base64).unwrap();
            let lossy = String::from_utf8_lossy(&bytes);
            let _ = text::check_xml(&lossy);
            let _ = Header::parse(&lossy);
            let _ = RequestMessage::parse(CONTENT_TYPE, &bytes);
            let _ = RequestMessage::parse(&lossy, &bytes);
            let _ = zlib::inflate(&bytes, 1 << 20);
            let _ = RsaPublicKey::from_certificate(&bytes);
            let _ = cms::seal(&bytes, b"x");
            let _ = cms::open(&bytes, &bytes, &bytes);
            let _ = PolicyBody::parse(&bytes, 1 << 20);
            let enclosed = Envelope::write(&lossy, Some(&bytes));
            if let Ok(message) = RequestMessage::parse(CONTENT_TYPE, &enclosed)
                && let Ok(plain) = message.inflate(1 << 20)
            {
                let _ = plain.body();
            }
            cases += 1;
        }
    }
    println!("{cases} inputs of public corpora read");
}
