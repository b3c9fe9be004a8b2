use proto::id::{ClientId, Guid, RequestId, Thumbprint};
use proto::link::Event;
use site::{Evidence, NewReport, ReportEffect, Stored};

use crate::support::{TestSite, device, now};

fn report(client: Option<ClientId>, payload: &str) -> NewReport {
    NewReport {
        client,
        endpoint: "MP_DdrEndpoint".to_owned(),
        payload_hash: Thumbprint::of(payload.as_bytes()),
        kind: "heartbeat".to_owned(),
        sent_at: None,
        request: RequestId::new(Guid::nil()),
        header: "{}".to_owned(),
        document: payload.as_bytes().to_vec(),
        message: None,
        effect: ReportEffect::Heartbeat {
            data: format!("{{\"payload\":\"{payload}\"}}"),
            policy_serial: None,
        },
    }
}

async fn registered(test: &TestSite) -> ClientId {
    test.site.register_client(None, device(1), Evidence::None).await.unwrap().client_id
}

#[tokio::test]
async fn a_report_is_stored_once_and_reaches_the_record() {
    let test = TestSite::new().await;
    let id = registered(&test).await;
    assert_eq!(test.site.store_report(report(Some(id), "a")).await.unwrap(), Stored::New);
    assert_eq!(test.site.store_report(report(Some(id), "a")).await.unwrap(), Stored::Repeated);
    assert_eq!(test.site.store_report(report(Some(id), "b")).await.unwrap(), Stored::New);
    let list = test.site.list_reports(Some(id), 100).await.unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(test.site.find_report(list[0].id).await.unwrap().unwrap().document, b"b");
    let record = test.site.find_device(id).await.unwrap().unwrap();
    assert_eq!((record.heartbeat.as_str(), record.heartbeat_at), ("{\"payload\":\"b\"}", Some(now(&test))));
}

#[tokio::test]
async fn a_taken_message_id_changes_nothing() {
    let test = TestSite::new().await;
    let id = registered(&test).await;
    let signed =
        |payload| NewReport { message: Some(Guid::from_bytes([5; 16])), ..report(Some(id), payload) };
    assert_eq!(test.site.store_report(signed("a")).await.unwrap(), Stored::New);
    assert_eq!(test.site.store_report(signed("b")).await.unwrap(), Stored::Repeated);
    assert_eq!(test.site.list_reports(Some(id), 100).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_device_keeps_a_quota_of_reports_and_strangers_change_no_record() {
    let test = TestSite::new().await;
    let id = registered(&test).await;
    for number in 0..30 {
        test.site.store_report(report(Some(id), &number.to_string())).await.unwrap();
    }
    let list = test.site.list_reports(Some(id), 100).await.unwrap();
    assert_eq!(list.len(), 10);
    assert_eq!(test.site.find_report(list[0].id).await.unwrap().unwrap().document, b"29");
    let before = test.site.find_device(id).await.unwrap().unwrap().heartbeat;
    test.site.store_report(report(None, "forged")).await.unwrap();
    assert_eq!(test.site.find_device(id).await.unwrap().unwrap().heartbeat, before);
    assert_eq!(test.site.list_reports(None, 100).await.unwrap().len(), 1);
}

#[tokio::test]
async fn applied_policy_never_goes_back_or_ahead_of_what_was_made() {
    let test = TestSite::new().await;
    let id = registered(&test).await;
    let newest = test.site.list_assignments(id).await.unwrap().serial;
    for (number, serial) in [1, 99, 0].into_iter().enumerate() {
        let effect = ReportEffect::Heartbeat { data: "{}".to_owned(), policy_serial: Some(serial) };
        let applied = NewReport { effect, ..report(Some(id), &format!("p{number}")) };
        test.site.store_report(applied).await.unwrap();
        assert_eq!(test.site.find_device(id).await.unwrap().unwrap().policy_serial, newest.min(1));
    }
}

#[tokio::test]
async fn events_are_found_by_their_request() {
    let test = TestSite::new().await;
    let request = RequestId::new(Guid::from_bytes([4; 16]));
    let event = |request| Event {
        at: now(&test),
        request,
        hop: "gateway".into(),
        target: "GET /CCM_STS".into(),
        status: 401,
        reason: Some("RG-1203".into()),
        detail: "expired".into(),
        device: None,
        elapsed_ms: 3,
    };
    let events = vec![event(request), event(RequestId::new(Guid::nil()))];
    test.site.store_events(Guid::nil(), events).await.unwrap();
    test.site.store_events(Guid::nil(), vec![event(RequestId::new(Guid::nil())); 1000]).await.unwrap();
    assert_eq!(test.site.find_events(request).await.unwrap()[0].event, event(request));
    assert_eq!(test.site.list_events(1000).await.unwrap().len(), 2 + 256, "more at once are cut off");
}
