//! Bodies that no client sends: refused, never a fault of ours, and nothing is changed by them.

use proto::limits;
use proto::message::envelope::{BOUNDARY, CONTENT_TYPE};
use proto::message::{Envelope, MessageEndpoint};
use proto::reason::Reason;
use site::DeviceFilter;

use crate::captures::{requests, seeded};
use crate::support::message::plain;
use crate::support::{Ask, Bench, devices, send_raw};

/// A recorded request as parts, so that its body can be damaged; `None`: it has no body.
fn recorded(request: &[u8]) -> Option<(String, Vec<u8>)> {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&request[..end]).ok()?;
    let target = head.split(' ').nth(1)?.to_owned();
    let body = request[end + 4..].to_vec();
    (!body.is_empty() && head.starts_with("CCM_POST /ccm_system")).then_some((target, body))
}

/// Everything of the site that a message could change.
async fn state(bench: &Bench) -> (usize, usize, usize, usize) {
    let devices = bench.site.list_devices(DeviceFilter::default()).await.unwrap();
    let mut reports = 0;
    for device in &devices {
        reports += bench.site.list_reports(Some(device.id), 1000).await.unwrap().len();
    }
    let anonymous = bench.site.list_reports(None, 1000).await.unwrap().len();
    let audit = bench.site.list_audit(None, 1000).await.unwrap().len();
    (devices.len(), reports, anonymous, audit)
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_messages_are_refused_and_change_nothing() {
    let mut sent = 0;
    for folder in ["sdk", "public-a", "public-b", "public-c"] {
        let (bench, _) = seeded(folder).await;
        let before = state(&bench).await;
        for (name, request) in requests(folder) {
            let Some((target, body)) = recorded(&request) else { continue };
            let step = (body.len() / 40).max(1);
            for length in (0..body.len()).step_by(step).chain([body.len() - 1, body.len() - 2]) {
                let answer = bench.send(Ask::message(&target, body[..length].to_vec())).await;
                let refused = (answer.status, answer.reason());
                let expected = [(400, Some(Reason::NotAMessage)), (404, Some(Reason::NotServed))];
                assert!(expected.contains(&refused), "{folder}/{name} cut at {length}: {refused:?}");
                sent += 1;
            }
        }
        assert_eq!(state(&bench).await, before, "{folder}");
    }
    println!("{sent} cut messages refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bits_are_no_fault_of_ours_and_change_no_device() {
    let mut sent = 0;
    let (bench, id) = seeded("sdk").await;
    let record = bench.site.find_device(id).await.unwrap().unwrap();
    for (name, request) in requests("sdk") {
        let Some((target, body)) = recorded(&request) else { continue };
        // A registration whose header is damaged may still be good, and is the same registration.
        for at in (0..body.len()).step_by((body.len() / 60).max(1)) {
            for bit in [0, 5] {
                let mut damaged = body.clone();
                damaged[at] ^= 1 << bit;
                let answer = bench.send(Ask::message(&target, damaged)).await;
                assert!(answer.status < 500, "{name}, bit {bit} of {at}: {answer:?}");
                sent += 1;
            }
        }
    }
    let after = bench.site.find_device(id).await.unwrap().unwrap();
    assert_eq!(bench.site.list_devices(DeviceFilter::default()).await.unwrap().len(), 1);
    assert_eq!((after.signing_thumbprint, after.approval), (record.signing_thumbprint, record.approval));
    assert_eq!(after.signing_certificate, record.signing_certificate);
    println!("{sent} damaged messages answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_no_client_writes_are_refused_by_name() {
    let bench = Bench::start().await;
    let before = state(&bench).await;
    let header = |inner: &str| {
        format!("<Msg SchemaVersion=\"1.1\">{inner}<TargetEndpoint>MP_LocationManager</TargetEndpoint></Msg>")
    };
    let location =
        r#"<SiteInformationRequest SchemaVersion="1.00"><SiteCode Name="RG1"/></SiteInformationRequest>"#;
    let text = |body: &str| proto::text::encode_with_nul(body);
    let zlib = "<Hooks><Hook3 Name=\"zlib-compress\"/></Hooks>";
    let bomb = proto::zlib::deflate(&vec![0; limits::INFLATED_BYTES + 1]);
    assert!(bomb.len() < 100_000, "a bomb is small");
    let deep = "<a>".repeat(1000) + &"</a>".repeat(1000);
    let not_a_message = (400, Some(Reason::NotAMessage));
    for (what, body, expected) in [
        ("a bomb", Envelope::write(&header(zlib), Some(&bomb)), not_a_message),
        ("no zlib", Envelope::write(&header(zlib), Some(b"not zlib")), not_a_message),
        (
            "encrypted",
            Envelope::write(&header("<Hooks><Hook2 Name=\"encrypt\"/></Hooks>"), Some(&text(location))),
            not_a_message,
        ),
        (
            "a DTD",
            Envelope::write(&header(""), Some(&text("<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>"))),
            not_a_message,
        ),
        ("a DTD in the header", Envelope::write("<!DOCTYPE a><Msg/>", Some(&text(location))), not_a_message),
        ("deep", Envelope::write(&header(""), Some(&text(&deep))), not_a_message),
        ("odd", Envelope::write(&header(""), Some(b"<\0a")), not_a_message),
        ("half a character", Envelope::write(&header(""), Some(&[0x00, 0xD8])), not_a_message),
        ("empty", Envelope::write(&header(""), Some(b"")), not_a_message),
        ("no payload", Envelope::write(&header(""), None), not_a_message),
        (
            "another root",
            Envelope::write(&header(""), Some(&text("<RequestAssignments/>"))),
            (400, Some(Reason::BodyOfAnotherEndpoint)),
        ),
        (
            "no root of ours",
            Envelope::write(&header(""), Some(&text("<TokenServicesRequest/>"))),
            (400, Some(Reason::BodyOfAnotherEndpoint)),
        ),
        (
            "nobody",
            Envelope::write("<Msg><TargetEndpoint>MP_Nobody</TargetEndpoint></Msg>", Some(&text(location))),
            (404, Some(Reason::UnknownMessageEndpoint)),
        ),
        (
            "not served",
            Envelope::write(
                "<Msg><TargetEndpoint>MP_TokenManager</TargetEndpoint></Msg>",
                Some(&text(location)),
            ),
            (404, Some(Reason::NotServed)),
        ),
        (
            "no endpoint",
            Envelope::write("<Msg/>", Some(&text(location))),
            (404, Some(Reason::UnknownMessageEndpoint)),
        ),
        ("no message", Envelope::write("<Other/>", Some(&text(location))), not_a_message),
        (
            "no BOM",
            format!("--{BOUNDARY}\r\ncontent-type: text/plain\r\n\r\n<Msg/>\r\n--{BOUNDARY}--").into_bytes(),
            not_a_message,
        ),
        ("nothing", Vec::new(), not_a_message),
        ("noise", vec![0xA5; 10_000], not_a_message),
    ] {
        let answer = bench.send(Ask::message("/ccm_system/request", body)).await;
        assert_eq!((answer.status, answer.reason()), expected, "{what}");
    }
    let good = plain(&bench, MessageEndpoint::LocationManager, location);
    for content_type in
        ["text/xml", "multipart/mixed", "multipart/mixed; boundary=other", "multipart/mixed; boundary=\"x"]
    {
        let mut ask = Ask::message("/ccm_system/request", good.clone());
        ask.headers = vec![("Content-Type".into(), content_type.into())];
        let answer = bench.send(ask).await;
        assert_eq!((answer.status, answer.reason()), not_a_message, "{content_type}");
    }
    assert_eq!(state(&bench).await, before);
    // And the good one among them is answered.
    let answer = bench.send(Ask::message("/ccm_system/request", good)).await;
    assert!(answer.reply().starts_with("<SiteInfoReply"), "{CONTENT_TYPE}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_refused_before_it_is_read() {
    let bench = Bench::start().await;
    let announced = limits::MESSAGE_BYTES + 1;
    let head =
        format!("CCM_POST /ccm_system/request HTTP/1.1\r\nHost: mp\r\nContent-Length: {announced}\r\n\r\n");
    let answer = send_raw(bench.address, head.as_bytes()).await;
    assert_eq!((answer.status, answer.reason()), (413, Some(Reason::BodyTooLarge)));
    let body = Ask { body: vec![1], ..Ask::get("/CCM_STS") };
    assert_eq!(bench.send(body).await.reason(), Some(Reason::BodyTooLarge));
    let long = Ask::get(&format!("/SMS_MP/.sms_aut?{}", "a".repeat(limits::TARGET_BYTES)));
    let answer = bench.send(long).await;
    assert_eq!((answer.status, answer.reason()), (414, Some(Reason::TargetTooLong)));
    let token = Ask::get("/CCM_STS").bearer(&"a".repeat(limits::TOKEN_BYTES + 1));
    let answer = bench.send(token.signed(&devices()[0], None, bench.now())).await;
    assert_eq!((answer.status, answer.reason()), (401, Some(Reason::StsTokenNotAccepted)));
    let absolute = b"GET http://elsewhere/CCM_STS HTTP/1.1\r\nHost: elsewhere\r\n\r\n";
    let answer = send_raw(bench.address, absolute).await;
    assert_eq!((answer.status, answer.reason()), (400, Some(Reason::MalformedRequest)));
}
