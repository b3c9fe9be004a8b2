//! Reports, state and status messages.

use proto::id::{ClientId, Guid};
use proto::message::MessageEndpoint;
use proto::reason::Reason;
use proto::request::state_message::StateMessage;

use crate::support::message::{facts, plain};
use crate::support::{Answer, Ask, Bench, TestDevice, devices, heartbeat};

const INSIDE: &str = "/ccm_system/request";

fn report(bench: &Bench, device: &TestDevice, id: ClientId, endpoint: MessageEndpoint, body: &str) -> Ask {
    Ask::message(INSIDE, device.message(bench, id, endpoint, body)).signed(device, Some(id), bench.now())
}

fn taken(answer: &Answer) {
    assert_eq!((answer.status, answer.reason(), answer.body.len()), (200, None, 0), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_reaches_the_record_with_the_policy_that_was_applied() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let serial = bench.site.list_assignments(id).await.unwrap().serial;
    let body = heartbeat(id, bench.now(), serial);
    let ask = report(&bench, device, id, MessageEndpoint::Discovery, &body);
    let (message, answer) = (ask.asked(), bench.send(ask).await);
    taken(&answer);
    assert!(answer.is_signed_by(&bench.site, &message));
    let record = bench.site.find_device(id).await.unwrap().unwrap();
    assert_eq!((record.policy_serial, record.heartbeat_at), (serial, Some(bench.now())));
    let facts: serde_json::Value = serde_json::from_str(&record.heartbeat).unwrap();
    assert_eq!(facts["fqdn"], "pc1.example.org");
    let reports = bench.site.list_reports(Some(id), 10).await.unwrap();
    assert_eq!(reports.len(), 1);
    let stored = bench.site.find_report(reports[0].id).await.unwrap().unwrap();
    assert_eq!(String::from_utf8(stored.document).unwrap(), body, "the document as it came");
    assert_eq!(Some(stored.summary.request.to_string().as_str()), answer.header("roamgate-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_report_again_has_one_effect() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let body = heartbeat(id, bench.now(), 0);
    let message = device.message(&bench, id, MessageEndpoint::Discovery, &body);
    for _ in 0..3 {
        // The same payload under new message ids: the sender did not hear of the first.
        taken(&bench.send(Ask::message(INSIDE, message.clone()).signed(device, Some(id), bench.now())).await);
    }
    assert_eq!(bench.site.list_reports(Some(id), 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_belongs_to_its_endpoint_and_its_sender() {
    let bench = Bench::start().await;
    let [device, other, _] = devices();
    let (id, other_id) = (device.enroll(&bench).await, other.enroll(&bench).await);
    let own = heartbeat(id, bench.now(), 0);
    for wrong in [MessageEndpoint::HardwareInventory, MessageEndpoint::SoftwareInventory] {
        let answer = bench.send(report(&bench, device, id, wrong, &own)).await;
        assert_eq!((answer.status, answer.reason()), (400, Some(Reason::BodyOfAnotherEndpoint)));
    }
    for wrong in [MessageEndpoint::PolicyManager, MessageEndpoint::StatusReceiver] {
        let answer = bench.send(report(&bench, device, id, wrong, &own)).await;
        assert_eq!((answer.status, answer.reason()), (400, Some(Reason::BodyOfAnotherEndpoint)));
    }
    let theirs = heartbeat(other_id, bench.now(), 0);
    let answer = bench.send(report(&bench, device, id, MessageEndpoint::Discovery, &theirs)).await;
    assert_eq!((answer.status, answer.reason()), (200, Some(Reason::WrongDevice)));
    for device in [id, other_id] {
        assert!(bench.site.list_reports(Some(device), 10).await.unwrap().is_empty());
    }
    let audit = bench.site.list_audit(None, 100).await.unwrap();
    let mismatch = audit.iter().find(|record| record.act == "request.wrong-device").unwrap();
    assert!(mismatch.detail.contains(&other_id.to_string()), "{}", mismatch.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_settings_that_a_device_says_it_applied_are_kept_under_their_names() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let told = facts(id, bench.now());
    let mut body = told.heartbeat(bench.now());
    let values = [("PolicySerial", "1"), ("EnableCloudGateway", "FALSE"), ("NoSuchSetting", "1")];
    body.instances.push(told.instance("Roamgate_Client", &values));
    taken(&bench.send(report(&bench, device, id, MessageEndpoint::Discovery, &body.to_xml())).await);
    let record = bench.site.find_device(id).await.unwrap().unwrap();
    let heartbeat: serde_json::Value = serde_json::from_str(&record.heartbeat).unwrap();
    assert_eq!(heartbeat["settings"], serde_json::json!({ "EnableCloudGateway": "FALSE" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_message_is_taken_from_anybody_and_believed_of_nobody() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.register(&bench).await.client_id;
    let before = bench.site.find_device(id).await.unwrap().unwrap();
    let state = StateMessage {
        message_time: String::new(),
        serial_number: 1,
        state_id: 400,
        criticality: 0,
        topic_type: 800,
        topic_id: String::new(),
        topic_id_type: 0,
        parameters: Vec::new(),
    };
    let body = facts(id, bench.now()).state_report(bench.now(), state).to_xml();
    taken(&bench.send(Ask::message(INSIDE, plain(&bench, MessageEndpoint::Relay, &body))).await);
    let after = bench.site.find_device(id).await.unwrap().unwrap();
    assert_eq!(after, before, "nothing of the device changed");
    assert!(bench.site.list_reports(Some(id), 10).await.unwrap().is_empty());
    assert_eq!(bench.site.list_reports(None, 10).await.unwrap().len(), 1);

    // An inventory does not get in by this door, and nobody speaks for another here either.
    let inventory = heartbeat(id, bench.now(), 9);
    let answer = bench.send(Ask::message(INSIDE, plain(&bench, MessageEndpoint::Relay, &inventory))).await;
    assert_eq!((answer.status, answer.reason()), (400, Some(Reason::BodyOfAnotherEndpoint)));
    let other = ClientId::new(Guid::nil());
    let message = device.message(&bench, other, MessageEndpoint::Relay, &body);
    let answer = bench.send(Ask::message(INSIDE, message)).await;
    assert_eq!((answer.status, answer.reason()), (200, Some(Reason::MessageRefused)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_message_is_kept_for_its_sender() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let status = |client: &str| {
        format!(
            "<Status SchemaVersion=\"1.00\"><Properties><Property Name=\"ClientID\">{client}</Property></Properties>\
             <Qualifiers/><Type>CCM_CcmHttp_Status</Type></Status>"
        )
    };
    let own = report(&bench, device, id, MessageEndpoint::StatusReceiver, &status(&id.to_string()));
    taken(&bench.send(own).await);
    let other = status("GUID:00000000-0000-0000-0000-000000000001");
    let foreign = bench.send(report(&bench, device, id, MessageEndpoint::StatusReceiver, &other)).await;
    assert_eq!(foreign.reason(), Some(Reason::WrongDevice));
    let reports = bench.site.list_reports(Some(id), 10).await.unwrap();
    assert_eq!(reports.iter().map(|report| report.kind.as_str()).collect::<Vec<_>>(), ["status"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_can_be_traced_by_its_request_id_and_tells_the_operator_more() {
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let stranger = ClientId::new(Guid::nil());
    let body = heartbeat(stranger, bench.now(), 0);
    let message = device.message(&bench, stranger, MessageEndpoint::Discovery, &body);
    let answer = bench.send(Ask::message(INSIDE, message)).await;
    assert_eq!((answer.reason(), answer.body.len()), (Some(Reason::MessageRefused), 0));
    let id = answer.header("roamgate-request-id").unwrap().parse().unwrap();
    let event = loop {
        // The event is on its way to the site: wait for it, and for nothing else.
        if let Some(event) = bench.site.find_events(id).await.unwrap().pop() {
            break event.event;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((event.hop.as_str(), event.reason.as_deref()), ("management-point", Some("RG-3101")));
    assert!(event.detail.contains("is not registered"), "{}", event.detail);
    assert_eq!(event.target, "CCM_POST /ccm_system/request");
}
