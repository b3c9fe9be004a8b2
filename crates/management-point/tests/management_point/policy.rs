//! Policy: who gets which list, and which body.

use proto::http_signature::WANT;
use proto::id::ClientId;
use proto::message::MessageEndpoint;
use proto::message::header_identity::client_token_headers;
use proto::reason::Reason;
use proto::request::policy::{AssignmentsReplyType, ReplyAssignments};
use site::{NewPolicy, Policy, PolicyProtection};

use crate::support::{Ask, Bench, TestDevice, Token, devices, operator, request_assignments};

const INSIDE: &str = "/ccm_system/request";

async fn add(bench: &Bench, protection: PolicyProtection, collection: Option<String>, mark: &str) -> Policy {
    let new = NewPolicy {
        id: None,
        category: String::new(),
        protection,
        rules: format!("<PolicyRule PolicyRuleID=\"{{r}}\"><PolicyAction>{mark}</PolicyAction></PolicyRule>"),
        collection,
    };
    bench.site.add_policy(&operator(), new).await.unwrap()
}

fn location(policy: &Policy) -> String {
    format!("/SMS_MP/.sms_pol?{}.{}", policy.id.replace('{', "%7B").replace('}', "%7D"), policy.hash)
}

fn list(bench: &Bench, device: &TestDevice, id: ClientId) -> Ask {
    Ask::message(INSIDE, device.asks_for_policy(bench, id)).signed(device, Some(id), bench.now())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_sealed_to_its_device_and_told_to_nobody_else() {
    let bench = Bench::start().await;
    let [device, other, stranger] = devices();
    let (id, other_id) = (device.enroll(&bench).await, other.enroll(&bench).await);
    let only = bench.site.add_collection(&operator(), "Only one", vec![id]).await.unwrap();
    let secret = add(&bench, PolicyProtection::Secret, Some(only.id), "canary").await;
    let ask = || Ask::get(&location(&secret));

    let nobody = bench.send(ask()).await;
    assert_eq!((nobody.status, nobody.reason()), (403, Some(Reason::IdentityRequired)));
    assert!(nobody.body.starts_with(b"<HTML>"));
    let wrong = bench.send(ask().signed(other, Some(other_id), bench.now())).await;
    assert_eq!((wrong.status, wrong.reason()), (403, Some(Reason::NotYourPolicy)));
    assert!(wrong.body.starts_with(b"<HTML>"));
    let unknown = bench.send(ask().signed(stranger, None, bench.now())).await;
    assert_eq!((unknown.status, unknown.reason()), (403, Some(Reason::IdentityRequired)));

    let signed = ask().signed(device, Some(id), bench.now());
    let (message, answer) = (signed.asked(), bench.send(signed).await);
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("text/xml")));
    assert!(answer.is_signed_by(&bench.site, &message));
    let opened = proto::cms::open(&device.certificate, &device.pkcs8, &answer.body).unwrap();
    let text = proto::text::decode_with_bom(&opened).unwrap();
    assert!(text.contains("canary") && text.contains(&secret.id), "{text}");
    assert_eq!(format!("SHA256:{}", proto::id::Thumbprint::of(&opened)), secret.hash, "over the plaintext");
    assert!(proto::cms::open(&device.certificate, &other.pkcs8, &answer.body).is_err());
    assert!(proto::cms::open(&other.certificate, &other.pkcs8, &answer.body).is_err());
    let clear = proto::text::encode_utf16le("canary");
    assert!(!answer.body.windows(clear.len()).any(|window| window == clear));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_listed_and_served_only_where_it_is_assigned() {
    let bench = Bench::start().await;
    let [device, other, _] = devices();
    let (id, other_id) = (device.enroll(&bench).await, other.enroll(&bench).await);
    let only = bench.site.add_collection(&operator(), "Only one", vec![id]).await.unwrap();
    let special = add(&bench, PolicyProtection::Public, Some(only.id), "special").await;
    let everybody = add(&bench, PolicyProtection::Compressed, None, "everybody").await;
    let ids = |xml: String| -> Vec<String> {
        let reply = ReplyAssignments::parse(&xml).unwrap();
        reply.assignments.iter().flat_map(|a| &a.policies).map(|policy| policy.id.to_string()).collect()
    };
    let mine = ids(bench.send(list(&bench, device, id)).await.reply());
    let theirs = ids(bench.send(list(&bench, other, other_id)).await.reply());
    assert!(mine.contains(&special.id) && mine.contains(&everybody.id), "{mine:?}");
    assert!(!theirs.contains(&special.id) && theirs.contains(&everybody.id), "{theirs:?}");

    let mine = bench.send(Ask::get(&location(&special)).signed(device, Some(id), bench.now())).await;
    assert_eq!(format!("SHA256:{}", proto::id::Thumbprint::of(&mine.body)), special.hash);
    let theirs = bench.send(Ask::get(&location(&special)).signed(other, Some(other_id), bench.now())).await;
    assert_eq!((theirs.status, theirs.reason()), (403, Some(Reason::NotYourPolicy)));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_since_a_cookie_are_nothing_or_the_whole_list() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let ask = |cookie: Option<&str>| {
        let body = request_assignments(id, cookie);
        let body = device.message(&bench, id, MessageEndpoint::PolicyManager, &body);
        bench.send(Ask::message(INSIDE, body).signed(device, Some(id), bench.now()))
    };
    let reply = |answer: &crate::support::Answer| ReplyAssignments::parse(&answer.reply()).unwrap();
    let full = reply(&ask(None).await);
    assert_eq!(full.reply_type, AssignmentsReplyType::Full);
    let nothing = ask(Some(&full.server_cookie)).await;
    assert!(nothing.reply().contains("<RoamgateSignature "), "the list is confirmed");
    let nothing = reply(&nothing);
    assert_eq!((nothing.reply_type, nothing.assignments.len()), (AssignmentsReplyType::Delta, 0));
    assert_eq!(nothing.server_cookie, full.server_cookie);

    bench.clock.advance(std::time::Duration::from_secs(10));
    add(&bench, PolicyProtection::Public, None, "new").await;
    let changed = reply(&ask(Some(&full.server_cookie)).await);
    assert_eq!(changed.reply_type, AssignmentsReplyType::Full);
    assert_eq!(changed.assignments.len(), full.assignments.len() + 1);
    assert_eq!(reply(&ask(Some("yesterday")).await).reply_type, AssignmentsReplyType::Full);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_or_a_withdrawn_approval_stops_policy_at_the_next_request() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.register(&bench).await.client_id;
    let public = add(&bench, PolicyProtection::Public, None, "x").await;
    let secret = add(&bench, PolicyProtection::Secret, None, "x").await;
    let body = |policy: &Policy| Ask::get(&location(policy)).signed(device, Some(id), bench.now());
    let expect = async |reason: Option<Reason>, when: &str| {
        let answer = bench.send(list(&bench, device, id)).await;
        assert_eq!((answer.status, answer.reason()), (200, reason), "{when}");
        for policy in [&public, &secret] {
            let answer = bench.send(body(policy)).await;
            let status = if reason.is_some() { 403 } else { 200 };
            assert_eq!((answer.status, answer.reason()), (status, reason), "{when}");
        }
    };
    expect(Some(Reason::NotApproved), "before approval").await;
    bench.site.approve_device(&operator(), id).await.unwrap();
    expect(None, "approved").await;
    bench.site.withdraw_approval(&operator(), id).await.unwrap();
    expect(Some(Reason::NotApproved), "approval withdrawn").await;
    bench.site.approve_device(&operator(), id).await.unwrap();
    bench.site.block_device(&operator(), id, "stolen").await.unwrap();
    expect(Some(Reason::Blocked), "blocked").await;
    bench.site.unblock_device(&operator(), id).await.unwrap();
    expect(None, "unblocked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_dialects_of_identity_open_a_secret_and_forged_ones_do_not() {
    use proto::message::signature::sign;
    use proto::text::{encode_utf16le, encode_with_nul};
    let bench = Bench::start().await;
    let [device, other, _] = devices();
    let id = ClientId::new(proto::id::Guid::from_bytes([7; 16]));
    let new = site::NewRegistration {
        signing_certificate: device.certificate.clone(),
        encryption_certificate: device.certificate.clone(),
        name: "PC7".into(),
        fqdn: String::new(),
        hardware_id: None,
        client_version: String::new(),
        signs_requests: false,
        join: None,
        credentials: site::Credentials::default(),
        refused: Vec::new(),
        method_reason: String::new(),
        via: site::SeenVia::Intranet,
    };
    bench.site.seed_device(id, new).await.unwrap();
    let secret = add(&bench, PolicyProtection::Secret, None, "x").await;
    let ask = |headers: &[(&str, String)]| {
        let ask = Ask::get(&location(&secret));
        headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value))
    };
    let now = bench.now().iso8601();
    let hex = |key: &TestDevice, bytes: &[u8]| sign(&key.key, bytes).to_hex();
    let separate = |key: &TestDevice, time: &str, signature_header: &'static str| {
        vec![
            ("CCMClientID", id.to_string()),
            ("CCMClientIDSignature", hex(key, &encode_with_nul(&id.to_string()))),
            ("CCMClientTimestamp", time.to_owned()),
            (signature_header, hex(key, &encode_with_nul(time))),
        ]
    };
    let braces = format!("{};{now}", id.guid().braced());
    let other_dialect = |key: &TestDevice| {
        vec![("ClientToken", braces.clone()), ("ClientTokenSignature", hex(key, &encode_utf16le(&braces)))]
    };
    let public = |key: &TestDevice| client_token_headers(id, bench.now(), &key.key).to_vec();
    for good in [
        separate(device, &now, "CCMClientTimestampSignature"),
        separate(device, &now, "CCMClientTimestampsSignature"),
        public(device),
        other_dialect(device),
    ] {
        assert_eq!(bench.send(ask(&good)).await.status, 200, "{good:?}");
    }
    let mut constant_id = separate(other, &now, "CCMClientTimestampSignature");
    constant_id[1].1 = hex(device, &encode_with_nul(&id.to_string()));
    let mut both = public(device);
    both.extend(separate(device, &now, "CCMClientTimestampSignature"));
    for forged in [
        separate(other, &now, "CCMClientTimestampSignature"),
        public(other),
        other_dialect(other),
        constant_id,
        both,
        public(device)[..1].to_vec(),
    ] {
        let answer = bench.send(ask(&forged)).await;
        assert_eq!((answer.status, answer.reason()), (403, Some(Reason::IdentityRequired)), "{forged:?}");
    }
    bench.clock.advance(std::time::Duration::from_secs(3601));
    let late = bench.send(ask(&separate(device, &now, "CCMClientTimestampSignature"))).await;
    assert_eq!((late.status, late.reason()), (403, Some(Reason::MessageTooOld)));
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_a_device_token_opens_its_policy() {
    let bench = Bench::start().await;
    let [device, other, _] = devices();
    let (id, _) = (device.enroll(&bench).await, other.enroll(&bench).await);
    let token = device.token(&bench, id, Token::Device).await;
    let secret = add(&bench, PolicyProtection::Secret, None, "x").await;
    let target = location(&secret).replace("/SMS_MP/", "/SMS_MP_TokenAuth/");
    let good = bench.send(Ask::get(&target).bearer(&token).signed(device, Some(id), bench.now())).await;
    assert_eq!(good.status, 200);
    assert!(proto::cms::open(&device.certificate, &device.pkcs8, &good.body).is_ok());
    // The token alone; the token with another's key; no token.
    let alone = bench.send(Ask::get(&target).bearer(&token)).await;
    assert_eq!((alone.status, alone.reason()), (403, Some(Reason::IdentityRequired)));
    let stolen = bench.send(Ask::get(&target).bearer(&token).signed(other, None, bench.now())).await;
    assert_eq!((stolen.status, stolen.reason()), (403, Some(Reason::WrongDevice)));
    let none = bench.send(Ask::get(&target).signed(device, Some(id), bench.now())).await;
    assert_eq!((none.status, none.reason()), (401, Some(Reason::InsideTokenNotAccepted)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_names_no_policy_is_a_404_with_a_code() {
    let bench = Bench::start().await;
    let public = add(&bench, PolicyProtection::Public, None, "x").await;
    let by_version = format!("/sms_mp/.SMS_POL?{}.1_00", public.id.replace('{', "%7b").replace('}', "%7d"));
    assert_eq!(bench.send(Ask::get(&by_version)).await.status, 200, "the older form, in any case");
    for query in
        ["", "?", "?x", "?{}.1_00", "?SRC10000.SHA256:00", "?%7B.1_00", "?%zz.1", "?../../site.key.1_00"]
    {
        let answer = bench.send(Ask::get(&format!("/SMS_MP/.sms_pol{query}"))).await;
        assert_eq!((answer.status, answer.reason()), (404, Some(Reason::UnknownQuery)), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_answered_like_get_without_the_body() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let ask = Ask::new("HEAD", "/SMS_MP/.sms_aut?MPCERT").header(WANT, "chain");
    let ask = ask.signed(device, Some(id), bench.now());
    let message = ask.asked();
    let mut stream = tokio::net::TcpStream::connect(bench.address).await.unwrap();
    let answer = crate::support::send_head(&mut stream, &ask).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert!(answer.is_signed_by(&bench.site, &message));
}
