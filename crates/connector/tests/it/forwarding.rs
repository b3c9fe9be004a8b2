//! Requests and answers on their way.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::id::RoleId;
use proto::link::reset;
use proto::trust::Purpose;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::gateway::{Reply, Shape};
use crate::pki::Pki;
use crate::role::{Act, Role, ok};
use crate::scene::{Scene, head, until};

fn pattern(length: usize) -> Bytes {
    (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

#[tokio::test]
async fn a_request_is_written_anew_and_the_answer_comes_back_without_what_it_must_not_tell() {
    let role = Role::echo().await;
    let scene = Scene::start(&role).await;
    let mut asked = head("GET", "/sms_mp/.SMS_AUT?MPLIST2&RG1");
    asked.headers.extend([
        ("host".into(), "evil.example".into()),
        ("x-forwarded-for".into(), "1.2.3.4".into()),
        ("CCMClientID".into(), "GUID:1".into()),
    ]);
    let (answer, body) = scene.gateway.ask(&asked, b"").await.answer();
    assert_eq!((answer.status, answer.phrase, answer.body_length), (200, None, Some(5)));
    assert_eq!(body, "hello");
    assert_eq!(answer.headers, [("content-type".into(), "text/plain".into())]);

    let seen = &role.seen()[0];
    assert_eq!(seen.request_line(), "GET /SMS_MP/.sms_aut?MPLIST2&RG1 HTTP/1.1");
    assert_eq!(seen.header("host"), Some(role.address.to_string().as_str()));
    assert_eq!(seen.header("roamgate-request-id"), Some(asked.request.to_string().as_str()));
    assert_eq!(seen.header("authorization"), Some("Bearer token"));
    assert_eq!(seen.header("ccmclientid"), Some("GUID:1"));
    assert_eq!(seen.header("x-forwarded-for"), None);
}

#[tokio::test]
async fn bodies_of_every_size_and_framing_arrive_whole_both_ways() {
    // Answers chunked when the request came chunked.
    let role = Role::start(|seen| {
        if seen.header("transfer-encoding").is_none() {
            return Act::Write(ok(&seen.body));
        }
        let mut text = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in seen.body.chunks(10_000) {
            text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            text.extend_from_slice(chunk);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        Act::Write(text.into())
    })
    .await;
    let scene = Scene::start(&role).await;
    for length in [1, 64 * 1024, 64 * 1024 + 1, 1024 * 1024, 3 * 1024 * 1024] {
        let sent = pattern(length);
        for stated in [Some(length as u64), None] {
            let mut asked = head("CCM_POST", "/ccm_system_tokenauth/request");
            asked.body_length = stated;
            let (answer, body) = scene.gateway.ask(&asked, &sent).await.answer();
            assert_eq!(answer.status, 200);
            assert!(body == sent, "{length} bytes, stated {stated:?}");
            let seen = role.seen().pop().unwrap();
            assert!(seen.body == sent && seen.request_line().starts_with("CCM_POST "));
        }
    }
}

#[tokio::test]
async fn connections_to_the_role_are_kept() {
    let role = Role::echo().await;
    let scene = Scene::start(&role).await;
    for _ in 0..20 {
        assert_eq!(scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await.status(), 200);
    }
    assert_eq!(role.connections(), 1);
}

#[tokio::test]
async fn what_is_not_published_never_reaches_a_socket() {
    let role = Role::echo().await;
    let scene = Scene::start(&role).await;
    let mut wrong = Vec::new();
    for target in [
        "//CCM_STS",
        "/CCM_STS/",
        "/%43CM_STS",
        "/../CCM_STS",
        "http://127.0.0.1:1/CCM_STS",
        "http://169.254.169.254/latest/meta-data",
        "/ccm_system_windowsauth/request",
        "/ccm_system_altauth/request",
        "/unknown",
    ] {
        for method in ["GET", "CCM_POST"] {
            wrong.push(head(method, target));
        }
    }
    for method in ["POST", "PUT", "get", "CONNECT", "TRACE", "CCM_POST"] {
        wrong.push(head(method, "/CCM_STS"));
    }
    wrong.push(proto::link::RequestHead { role: RoleId::new(99), ..head("GET", "/CCM_STS") });
    for asked in wrong {
        let (answer, _) = scene.gateway.ask(&asked, b"").await.answer();
        assert_eq!((answer.status, answer.phrase.as_deref()), (404, Some("CMGConnector_NotFound")));
        assert!(answer.headers.contains(&("roamgate-reason".into(), "RG-2001".into())), "{asked:?}");
    }
    let garbage = scene.gateway.open_raw(b"{\"method\":".to_vec(), true).reply().await;
    assert_eq!(garbage, Reply::Reset(reset::PROTOCOL));
    let good = scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await;
    assert_eq!(good.status(), 200, "the tunnel has survived it all");
    assert_eq!((role.seen().len(), role.connections()), (1, 1));
}

#[tokio::test]
async fn a_redirect_is_passed_without_its_target_and_not_followed() {
    let elsewhere = Role::echo().await;
    let url = elsewhere.url();
    let role = Role::start(move |_| {
        Act::Write(
            format!("HTTP/1.1 302 Found\r\nlocation: {url}/CCM_STS\r\ncontent-length: 0\r\n\r\n").into(),
        )
    })
    .await;
    let scene = Scene::start(&role).await;
    let (answer, _) = scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await.answer();
    assert_eq!((answer.status, answer.headers.len()), (302, 0));
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_refusal_of_the_role_carries_its_phrase_and_reason() {
    let role = Role::start(|_| {
        let answer =
            "HTTP/1.1 403 Un-authorized request\r\nroamgate-reason: RG-4005\r\ncontent-length: 2\r\n\r\nno";
        Act::Write(answer.into())
    })
    .await;
    let mut scene = Scene::start(&role).await;
    let asked = head("GET", "/CCM_STS?x=1");
    let (answer, body) = scene.gateway.ask(&asked, b"").await.answer();
    assert_eq!(answer.phrase.as_deref(), Some("CMGConnector_Un-authorizedrequest"));
    assert!(answer.headers.contains(&("roamgate-reason".into(), "RG-4005".into())) && body == "no");
    let event = scene
        .site
        .hear("the event", |up| match up {
            proto::link::Up::Events { events } => events.first().cloned(),
            _ => None,
        })
        .await;
    assert_eq!((event.request, event.status, event.hop.as_str()), (asked.request, 403, "connection-point"));
    assert_eq!((event.target.as_str(), event.reason.as_deref()), ("GET /CCM_STS", Some("RG-4005")));
}

#[tokio::test]
async fn the_answer_to_head_has_a_length_and_no_body() {
    let role = Role::start(|_| Act::Write("HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n".into())).await;
    let scene = Scene::start(&role).await;
    for _ in 0..2 {
        let (answer, body) =
            scene.gateway.ask(&head("HEAD", "/SMS_MP/.sms_aut?SITESIGNCERT"), b"").await.answer();
        assert_eq!((answer.body_length, body.len()), (Some(17), 0));
    }
}

#[tokio::test]
async fn a_kept_connection_that_proves_stale_costs_nothing_but_a_second_try() {
    // Every connection answers once, and closes at the second request without a byte.
    let answered = std::sync::Mutex::new(std::collections::HashSet::new());
    let role = Role::start(move |seen| {
        if answered.lock().unwrap().insert(seen.connection) { Act::Write(ok(b"fine")) } else { Act::Close }
    })
    .await;
    let scene = Scene::start(&role).await;
    let asked = head("CCM_POST", "/ccm_system_tokenauth/request");
    assert_eq!(scene.gateway.ask(&asked, b"one").await.status(), 200);
    let (answer, body) = scene.gateway.ask(&asked, b"two").await.answer();
    assert_eq!((answer.status, body.as_ref()), (200, b"fine".as_ref()));
    let bodies: Vec<_> = role.seen().into_iter().map(|seen| (seen.connection, seen.body)).collect();
    assert_eq!(bodies, [(1, "one".into()), (1, "two".into()), (2, "two".into())]);
}

#[tokio::test]
async fn a_role_that_closes_every_connection_is_tried_once_and_not_for_ever() {
    let role = Role::start(|_| Act::Close).await;
    let scene = Scene::start(&role).await;
    let (answer, _) = scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await.answer();
    assert_eq!((answer.status, role.connections()), (502, 1));
    assert!(answer.headers.contains(&("roamgate-reason".into(), "RG-2101".into())));
}

#[tokio::test]
async fn what_does_not_speak_http_is_named() {
    let answers: Vec<Bytes> = vec![
        "SSH-2.0-OpenSSH\r\n".into(),
        "HTTP/1.1 abc\r\n\r\n".into(),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na".into(),
        "HTTP/1.1 200 OK\r\ncontent-le".into(),
        [b"HTTP/1.1 200 OK\r\nx: ".as_ref(), &vec![b'a'; 200_000], b"\r\n\r\n"].concat().into(),
        (0..100).fold("HTTP/1.1 200 OK\r\n".to_owned(), |text, n| format!("{text}h{n}: v\r\n")).into(),
    ];
    let next = std::sync::Mutex::new(answers.clone().into_iter());
    let role = Role::start(move |_| Act::WriteAndClose(next.lock().unwrap().next().unwrap())).await;
    let scene = Scene::start(&role).await;
    for sent in answers {
        let (answer, body) = scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await.answer();
        let reason = answer.headers.iter().find(|(name, _)| name == "roamgate-reason").unwrap();
        assert_eq!((answer.status, &*reason.1), (502, "RG-2103"), "{:?}", sent.get(..40));
        assert_eq!(answer.phrase.as_deref(), Some("CMGConnector_BadGateway"));
        assert!(body.starts_with(b"RG-2103 "));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_and_not_completed() {
    let role = Role::start(|seen| {
        let framing = if seen.head.contains("chunked=1") {
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
        } else {
            "content-length: 10\r\n\r\nhello"
        };
        Act::WriteAndClose(format!("HTTP/1.1 200 OK\r\n{framing}").into())
    })
    .await;
    let scene = Scene::start(&role).await;
    for query in ["", "?chunked=1"] {
        let reply = scene.gateway.ask(&head("GET", &format!("/CCM_STS{query}")), b"").await;
        // The gateway may learn of the break before a byte of the answer left: then it can still say why.
        match reply {
            Reply::Cut(answer, code) => assert_eq!((answer.status, code), (200, reset::ANSWER_CUT)),
            Reply::Reset(code) => assert_eq!(code, reset::ANSWER_CUT),
            Reply::Answer(..) => panic!("{reply:?}"),
        }
    }
}

#[tokio::test]
async fn a_request_that_the_device_gives_up_is_given_up_inside() {
    let role = Role::start(|_| Act::Hang).await;
    let scene = Scene::start(&role).await;
    let open = scene.gateway.open(&head("GET", "/CCM_STS"), true);
    let mut connections: watch::Receiver<_> = role.connections.subscribe();
    connections.wait_for(|now| *now == (1, 1)).await.unwrap();
    open.reset(reset::CANCELLED);
    let closed = connections.wait_for(|now| *now == (1, 0));
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("closed inside").unwrap();
}

#[tokio::test]
async fn a_body_that_is_longer_than_stated_or_allowed_stops_the_request() {
    let role = Role::echo().await;
    let scene = Scene::start(&role).await;
    let mut stated = head("CCM_POST", "/ccm_system_tokenauth/request");
    stated.body_length = Some(3);
    assert_eq!(scene.gateway.ask(&stated, b"four").await, Reply::Reset(reset::PROTOCOL));
    let short =
        scene.gateway.ask(&proto::link::RequestHead { body_length: Some(9), ..stated }, b"four").await;
    assert_eq!(short, Reply::Reset(reset::REQUEST_CUT));
    assert_eq!(scene.gateway.ask(&head("GET", "/CCM_STS"), b"x").await, Reply::Reset(reset::PROTOCOL));
    let large = pattern(5 * 1024 * 1024 + 1);
    let asked = head("CCM_POST", "/ccm_system_tokenauth/request");
    assert_eq!(scene.gateway.ask(&asked, &large).await, Reply::Reset(reset::PROTOCOL));
    assert!(role.seen().is_empty(), "none of them is a whole request inside");
}

#[tokio::test]
async fn an_answer_that_came_before_the_whole_body_arrives_whatever_becomes_of_that_body() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let scene = Scene::with(&url, Shape::single(), Duration::from_secs(20)).await;
    let mut asked = head("CCM_POST", "/ccm_system_tokenauth/request");
    asked.body_length = Some(100_000);
    let mut open = scene.gateway.open(&asked, false);
    open.send(pattern(1000), false).await;
    // The role answers at once, though not with all of it.
    let (mut role, _) = listener.accept().await.unwrap();
    role.write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 10\r\n\r\nhello").await.unwrap();
    open.until_answered().await;
    // The body ends long before its stated length. A whole request that follows in the tunnel shows that this was
    // heard.
    open.send(pattern(1), true).await;
    let following = async {
        let (mut role, _) = listener.accept().await.unwrap();
        role.write_all(&ok(b"next")).await.unwrap();
        role
    };
    let get = head("GET", "/CCM_STS");
    let (next, _kept) = tokio::join!(scene.gateway.ask(&get, b""), following);
    assert_eq!(next.answer().1, "next");
    role.write_all(b"world").await.unwrap();
    let (answer, body) = open.reply().await.answer();
    assert_eq!((answer.status, body.as_ref()), (413, &b"helloworld"[..]));
    // Nothing more goes out on a connection whose request was not whole.
    let mut rest = Vec::new();
    role.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn many_requests_at_once_each_get_their_own_answer() {
    let role = Role::start(|seen| Act::Write(ok(seen.request_line().as_bytes()))).await;
    let scene = Scene::start(&role).await;
    let asks = (0..200).map(|number| {
        let scene = &scene;
        async move {
            let target = format!("/CCM_STS?n={number}");
            let (_, body) = scene.gateway.ask(&head("GET", &target), b"").await.answer();
            assert_eq!(body, format!("GET {target} HTTP/1.1"));
        }
    });
    futures_util::future::join_all(asks).await;
    until("all were seen", || role.seen().len() == 200).await;
}

#[tokio::test]
async fn a_role_behind_tls_is_believed_under_the_site_root_and_shown_no_certificate() {
    let pki = Arc::new(Pki::new());
    let good = pki.issue(Purpose::RoleTls, "localhost");
    let bad = pki.issue(Purpose::LinkSite, "localhost");
    let scenes = [(good, 200), (bad, 502)];
    for (identity, expected) in scenes {
        let role = Role::start_tls(&identity, |_| Act::Write(ok(b"tls"))).await;
        let url = format!("https://localhost:{}", role.address.port());
        let scene = Scene::under(Arc::clone(&pki), &url, Shape::single(), Duration::from_secs(20)).await;
        for _ in 0..2 {
            assert_eq!(scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await.status(), expected);
        }
        assert_eq!(role.seen().len(), if expected == 200 { 2 } else { 0 });
        assert!(role.seen().iter().all(|seen| seen.certificate.is_none()));
    }
}
