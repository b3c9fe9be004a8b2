//! Every class of caller at every endpoint; every proof with somebody else's.

use std::time::Duration;

use proto::endpoint::{Caller, ENDPOINTS, Endpoint, MESSAGE_RULES};
use proto::id::ClientId;
use proto::message::MessageEndpoint;
use proto::reason::Reason;

use crate::support::message::plain;
use crate::support::{
    Answer, Ask, Bench, TestDevice, Token, devices, heartbeat, location, operator, registration_body,
};

impl Token {
    fn caller(self) -> Caller {
        match self {
            Self::Bulk => Caller::Bulk,
            Self::PreAuth => Caller::PreAuth,
            Self::SelfProve => Caller::SelfProve,
            Self::Device => Caller::Device,
        }
    }
}

/// A well-formed question for an endpoint, that anybody could send who is let in.
pub(crate) fn question(bench: &Bench, endpoint: &Endpoint) -> Ask {
    match endpoint.name {
        "CCM_STS" => Ask::get(endpoint.path),
        name if name.starts_with("ccm_system") => Ask::message(endpoint.path, location(bench)),
        _ if endpoint.path.ends_with(".sms_aut") => Ask::get(&format!("{}?SITESIGNCERT", endpoint.path)),
        _ => Ask::get(&format!("{}?SRC10000.1_00", endpoint.path)),
    }
}

/// Let in: a policy that does not exist is asked for by somebody who may ask.
pub(crate) fn let_in(answer: &Answer) -> bool {
    answer.status == 200 && answer.reason().is_none() || answer.reason() == Some(Reason::UnknownQuery)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_class_of_token_opens_what_the_table_says_and_nothing_else() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let mut seen = 0;
    for class in Token::ALL {
        let token = device.token(&bench, id, class).await;
        for endpoint in ENDPOINTS {
            let ask = question(&bench, endpoint).bearer(&token).signed(device, Some(id), bench.now());
            let answer = bench.send(ask).await;
            let expected = endpoint.open_inside_to(class.caller());
            assert_eq!(let_in(&answer), expected, "{class:?} at {}: {answer:?}", endpoint.path);
            assert!(expected || matches!(answer.status, 401 | 403), "{class:?} at {}", endpoint.path);
            seen += 1;
        }
    }
    println!("{seen} pairs of class and endpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_class_of_token_sends_what_the_message_table_says_and_nothing_else() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    for class in Token::ALL {
        let token = device.token(&bench, id, class).await;
        for rule in MESSAGE_RULES.iter().filter(|rule| rule.signed) {
            let endpoint: MessageEndpoint = rule.name.parse().unwrap();
            let body = device.message(&bench, id, endpoint, "<Nothing/>");
            let ask = Ask::message("/ccm_system/request", body).bearer(&token).signed(
                device,
                Some(id),
                bench.now(),
            );
            let answer = bench.send(ask).await;
            // Whoever is let in is told that this is no body for it.
            let expected = if rule.callers.contains(&class.caller()) {
                (400, Some(Reason::BodyOfAnotherEndpoint))
            } else {
                (403, Some(Reason::InsideTokenWrongEndpoint))
            };
            assert_eq!((answer.status, answer.reason()), expected, "{class:?} at {}", rule.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_let_in_nowhere_but_where_the_table_says() {
    let bench = Bench::start().await;
    let mut walked = 0;
    for endpoint in ENDPOINTS {
        let answer = bench.send(question(&bench, endpoint)).await;
        assert_eq!(let_in(&answer), endpoint.open_inside_to(Caller::Anonymous), "{}", endpoint.path);
        let path = endpoint.path;
        let query = if endpoint.name.starts_with("SMS") { "?SITESIGNCERT" } else { "" };
        let upper = path.to_ascii_uppercase();
        let variants = [
            format!("/{path}{query}"),
            format!("{path}/{query}"),
            format!("/.{path}{query}"),
            format!("/x/..{path}{query}"),
            format!("{path};a=b{query}"),
            format!("{path}%00{query}"),
            path.replace("SMS", "%53MS").replace("ccm", "%63cm").replace("CCM", "%43CM") + query,
            path.replacen('/', "\\", 1),
        ];
        for target in variants {
            let mut ask = question(&bench, endpoint);
            ask.target = target;
            let raw = ask.target.starts_with('/');
            if !raw {
                continue;
            }
            let answer = bench.send(ask.clone()).await;
            assert!((400..500).contains(&answer.status), "{}: {}", ask.target, answer.status);
            assert!(answer.reason().is_some(), "{}", ask.target);
            walked += 1;
        }
        // Case alone is no other path.
        let mut ask = question(&bench, endpoint);
        ask.target = ask.target.replace(path, &upper);
        assert_eq!(let_in(&bench.send(ask).await), endpoint.open_inside_to(Caller::Anonymous), "{upper}");
        for method in ["POST", "PUT", "DELETE", "ccm_post", "PROPFIND", "BITS_POST", "OPTIONS"] {
            let mut ask = question(&bench, endpoint);
            ask.method = method.to_owned();
            let answer = bench.send(ask).await;
            assert_eq!(
                (answer.status, answer.reason()),
                (405, Some(Reason::MethodNotAllowed)),
                "{method} {path}"
            );
            walked += 1;
        }
    }
    for target in
        ["/", "/admin", "/metrics", "/SMS_MP", "/SMS_MP/", "/CCM_Proxy_ServerAuth/72057594037927937/CCM_STS"]
    {
        let answer = bench.send(Ask::get(target)).await;
        assert_eq!((answer.status, answer.reason()), (404, Some(Reason::UnknownPath)), "{target}");
    }
    println!("{walked} variants walked");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_name_somebody_are_not_read() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let certificate = proto::http_signature::write_certificates([device.certificate.as_slice()]);
    for name in proto::identity::FORGED_IDENTITY_HEADERS {
        for value in [certificate.as_str(), "127.0.0.1", &id.to_string()] {
            let message = plain(&bench, MessageEndpoint::Discovery, &heartbeat(id, bench.now(), 0));
            let answer = bench.send(Ask::message("/ccm_system/request", message).header(name, value)).await;
            assert_eq!(answer.reason(), Some(Reason::MessageRefused), "{name}");
            let answer = bench.send(Ask::get("/CCM_STS").header(name, value)).await;
            assert_eq!(answer.reason(), Some(Reason::StsTokenMissing), "{name}");
        }
    }
    // The certificate header of our own profile is nothing without its signature.
    let alone = Ask::get("/CCM_STS").header(proto::http_signature::CERTIFICATE, &certificate);
    assert_eq!(bench.send(alone).await.reason(), Some(Reason::StsTokenMissing));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_headers_of_a_name_that_counts_are_refused() {
    let bench = Bench::start().await;
    for name in ["Authorization", "ClientToken", "Signature", "roamgate-client-id", "roamgate-request-id"] {
        let answer = Ask::get("/SMS_MP/.sms_aut?MPCERT").header(name, "a").header(name, "b");
        let answer = bench.send(answer).await;
        assert_eq!((answer.status, answer.reason()), (400, Some(Reason::MalformedRequest)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_gateway_the_outer_column_of_the_table_counts() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let request = proto::id::Guid::nil().to_string();
    let outside = |ask: Ask| bench.send(ask.header("roamgate-request-id", &request));
    for endpoint in ENDPOINTS {
        let anonymous = outside(question(&bench, endpoint)).await;
        assert!(!let_in(&anonymous), "{}", endpoint.path);
        assert_eq!(anonymous.status, 401, "{}", endpoint.path);
        for class in Token::ALL {
            let token = device.token(&bench, id, class).await;
            let ask = question(&bench, endpoint).bearer(&token).signed(device, Some(id), bench.now());
            let expected = endpoint.open_outside_to(class.caller());
            assert_eq!(let_in(&outside(ask).await), expected, "{class:?} at {}", endpoint.path);
        }
    }
}

/// A heartbeat of one device with everything else of another.
#[tokio::test(flavor = "multi_thread")]
async fn token_request_and_message_must_name_one_device() {
    let bench = Bench::start().await;
    let [device, other, _] = devices();
    let (id, other_id) = (device.enroll(&bench).await, other.enroll(&bench).await);
    let token = device.token(&bench, id, Token::Device).await;
    let other_token = other.token(&bench, other_id, Token::Device).await;
    let path = "/ccm_system_tokenauth/request";
    let message = |by: &TestDevice, id: ClientId| {
        Ask::message(path, by.message(&bench, id, MessageEndpoint::Discovery, &heartbeat(id, bench.now(), 0)))
    };
    let now = bench.now();
    let good = bench.send(message(device, id).bearer(&token).signed(device, Some(id), now)).await;
    assert_eq!((good.status, good.reason()), (200, None));

    // Token and request of one device, message of another.
    let answer =
        bench.send(message(device, id).bearer(&other_token).signed(other, Some(other_id), now)).await;
    assert_eq!((answer.status, answer.reason()), (200, Some(Reason::WrongDevice)));
    // The token of one, everything else of another.
    let answer = bench.send(message(other, other_id).bearer(&token).signed(other, Some(other_id), now)).await;
    assert_eq!((answer.status, answer.reason()), (200, Some(Reason::WrongDevice)));
    // A message in another's name.
    let answer = bench.send(message(device, other_id).bearer(&token).signed(device, Some(id), now)).await;
    assert_eq!((answer.status, answer.reason()), (200, Some(Reason::MessageRefused)));
    // The request in another's name.
    let answer = bench.send(message(device, id).bearer(&token).signed(device, Some(other_id), now)).await;
    assert_eq!((answer.status, answer.reason()), (401, Some(Reason::InsideTokenNotAccepted)));
    // No request signature from a device that signs.
    let answer = bench.send(message(device, id).bearer(&token)).await;
    assert_eq!((answer.status, answer.reason()), (200, Some(Reason::SignatureRequired)));
    assert_eq!(bench.site.list_reports(Some(other_id), 10).await.unwrap().len(), 0);
    // Where the message itself proves nobody: the token of one, the request of another.
    let audited = async || {
        let rows = bench.site.list_audit(None, 1000).await.unwrap();
        rows.iter().filter(|row| row.act == "request.wrong-device").count()
    };
    let before = audited().await;
    assert!(before > 0, "what was refused above stands in the audit trail");
    let registration = plain(
        &bench,
        MessageEndpoint::ClientRegistration,
        &registration_body(other, "PC2", bench.now(), None),
    );
    for ask in [
        Ask::get("/SMS_MP_TokenAuth/.sms_aut?MPCERT"),
        Ask::message(path, location(&bench)),
        Ask::message(path, registration),
    ] {
        bench.clock.advance(Duration::from_secs(61));
        let earlier = audited().await;
        let answer = bench.send(ask.bearer(&token).signed(other, None, bench.now())).await;
        assert_eq!(answer.reason(), Some(Reason::WrongDevice));
        assert_eq!(audited().await, earlier + 1, "and is audited");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_counts_once_within_five_minutes_and_unchanged() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let now = bench.now();
    let ask = || {
        let body = device.message(&bench, id, MessageEndpoint::Discovery, &heartbeat(id, bench.now(), 0));
        Ask::message("/ccm_system/request", body)
    };
    let first = ask().signed(device, Some(id), now);
    assert_eq!(bench.send(first.clone()).await.reason(), None);
    let repeated = bench.send(first.clone()).await;
    assert_eq!((repeated.status, repeated.reason()), (200, Some(Reason::MessageRepeated)));
    assert!(repeated.is_signed_by(&bench.site, &first.asked()), "the device proved its key");

    // Signed over another body, path, method or token.
    let mut body = ask().signed(device, Some(id), now);
    body.body = ask().body;
    let mut path = ask().signed(device, Some(id), now);
    path.target = "/ccm_system_altauth/request".into();
    for changed in [body, path] {
        let answer = bench.send(changed.clone()).await;
        assert_eq!((answer.status, answer.reason()), (200, Some(Reason::MessageRefused)));
        assert!(!answer.is_signed_by(&bench.site, &changed.asked()));
    }
    let mut method = Ask::get("/SMS_MP/.sms_aut?MPCERT").signed(device, Some(id), now);
    method.method = "HEAD".into();
    let mut stream = tokio::net::TcpStream::connect(bench.address).await.unwrap();
    assert_eq!(crate::support::send_head(&mut stream, &method).await.status, 401);

    // Nor does it count twice where it names nobody: the key says who it is.
    let nameless = ask().signed(device, None, now);
    assert_eq!(bench.send(nameless.clone()).await.reason(), None);
    assert_eq!(bench.send(nameless).await.reason(), Some(Reason::MessageRepeated));
    let get = Ask::get("/SMS_MP/.sms_aut?MPCERT").signed(device, Some(id), now);
    assert_eq!(bench.send(get.clone()).await.reason(), None);
    assert_eq!(bench.send(get).await.reason(), Some(Reason::MessageRepeated));

    for off in [Duration::from_secs(3601), Duration::from_hours(24)] {
        for created in [now.minus(off), now.plus(off)] {
            let answer = bench.send(ask().signed(device, Some(id), created)).await;
            assert_eq!((answer.status, answer.reason()), (200, Some(Reason::ClockSkewed)));
        }
    }
    // Once its time is over it is too old, whether the id is still known or not.
    bench.clock.advance(Duration::from_secs(3601));
    bench.site.upkeep().await.unwrap();
    assert_eq!(bench.send(first).await.reason(), Some(Reason::ClockSkewed));
    assert_eq!(bench.site.list_reports(Some(id), 10).await.unwrap().len(), 1, "the same report each time");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_state_of_a_device_opens_its_endpoints_only() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.register(&bench).await.client_id;
    let signed_rules = || MESSAGE_RULES.iter().filter(|rule| rule.signed);
    let expect = async |reason: Reason, status: u16, state: &str| {
        for rule in signed_rules() {
            let body = device.message(&bench, id, rule.name.parse().unwrap(), "<Nothing/>");
            let ask = Ask::message("/ccm_system/request", body).signed(device, Some(id), bench.now());
            let answer = bench.send(ask).await;
            assert_eq!((answer.status, answer.reason()), (status, Some(reason)), "{state}: {}", rule.name);
        }
    };
    expect(Reason::NotApproved, 200, "registered").await;
    assert!(
        device.confirm(&bench, id).await.pre_auth_token.is_some(),
        "its own status and the means to renew"
    );
    bench.site.approve_device(&operator(), id).await.unwrap();
    expect(Reason::BodyOfAnotherEndpoint, 400, "approved").await;
    let token = device.token(&bench, id, Token::Device).await;
    bench.site.block_device(&operator(), id, "").await.unwrap();
    expect(Reason::Blocked, 200, "blocked").await;
    let body = device.asks_for_policy(&bench, id);
    let ask = Ask::message("/ccm_system_tokenauth/request", body).bearer(&token).signed(
        device,
        Some(id),
        bench.now(),
    );
    assert_eq!(bench.send(ask).await.reason(), Some(Reason::Blocked), "its token stops with it");
    bench.site.unblock_device(&operator(), id).await.unwrap();
    bench.site.delete_device(&operator(), id).await.unwrap();
    expect(Reason::MessageRefused, 200, "unknown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_and_one_of_another_site_open_nothing() {
    let bench = Bench::start().await;
    let elsewhere = Bench::start().await;
    let [device, ..] = devices();
    let (id, id_there) = (device.enroll(&bench).await, device.enroll(&elsewhere).await);
    let token = device.token(&bench, id, Token::Device).await;
    let foreign = device.token(&elsewhere, id_there, Token::Device).await;
    let ask = |token: &str| {
        let body = device.asks_for_policy(&bench, id);
        let ask = Ask::message("/ccm_system_tokenauth/request", body);
        bench.send(ask.bearer(token).signed(device, Some(id), bench.now()))
    };
    assert_eq!(ask(&token).await.reason(), None);
    let answer = ask(&foreign).await;
    assert_eq!((answer.status, answer.reason()), (401, Some(Reason::InsideTokenNotAccepted)));
    bench.clock.advance(Duration::from_secs(8 * 3600 + 61));
    let answer = ask(&token).await;
    assert_eq!((answer.status, answer.reason()), (401, Some(Reason::InsideTokenExpired)));
}
