use rusqlite::Connection;
use site::{AuditFault, AuditVerdict, Site};

use crate::support::{TestSite, anna, clock, config};

/// A site with five audit rows, one of them from `site init`.
async fn with_rows() -> TestSite {
    let test = TestSite::new().await;
    for minutes in ["10", "20", "30", "40"] {
        test.site.set_setting(&anna(), "policy_polling_interval", minutes).await.unwrap();
    }
    assert_eq!(test.site.verify_audit().await.unwrap(), AuditVerdict::Whole { rows: 5 });
    test
}

/// What the check says after somebody changed the file behind the site's back.
async fn verdict_after(sql: &str) -> AuditVerdict {
    let test = with_rows().await;
    let (dir, database) = (test.dir.path().to_owned(), test.database());
    test.site.close().await;
    Connection::open(database).unwrap().execute_batch(sql).unwrap();
    let site = Site::open(config(&dir), clock()).await.unwrap();
    site.verify_audit().await.unwrap()
}

fn broken(seq: i64, fault: AuditFault) -> AuditVerdict {
    AuditVerdict::Broken { seq, fault }
}

#[tokio::test]
async fn an_altered_row_is_named() {
    for column in ["detail = '{}'", "actor = 'operator:bert'", "at = at + 1", "origin = NULL", "hash = x'00'"]
    {
        let sql = format!("UPDATE audit SET {column} WHERE seq = 3");
        assert_eq!(verdict_after(&sql).await, broken(3, AuditFault::Altered), "{column}");
    }
}

#[tokio::test]
async fn a_deleted_row_is_named() {
    assert_eq!(verdict_after("DELETE FROM audit WHERE seq = 2").await, broken(2, AuditFault::Missing));
    assert_eq!(verdict_after("DELETE FROM audit WHERE seq = 1").await, broken(1, AuditFault::Missing));
    assert_eq!(verdict_after("DELETE FROM audit").await, broken(1, AuditFault::Missing));
}

#[tokio::test]
async fn a_cut_off_end_is_noticed_even_when_the_head_is_moved_back() {
    assert_eq!(verdict_after("DELETE FROM audit WHERE seq = 5").await, broken(5, AuditFault::Missing));
    let hidden = "DELETE FROM audit WHERE seq = 5;
                  UPDATE audit_head SET seq = 4, hash = (SELECT hash FROM audit WHERE seq = 4)";
    assert_eq!(verdict_after(hidden).await, broken(4, AuditFault::HeadAltered));
    let headless = "DELETE FROM audit WHERE seq = 5; DELETE FROM audit_head";
    assert_eq!(verdict_after(headless).await, broken(4, AuditFault::HeadAltered));
}

#[tokio::test]
async fn swapped_rows_are_noticed_at_the_first() {
    let swap = "UPDATE audit SET seq = 99 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 4;
                UPDATE audit SET seq = 4 WHERE seq = 99";
    assert_eq!(verdict_after(swap).await, broken(2, AuditFault::Altered));
}

#[tokio::test]
async fn a_row_put_in_is_noticed() {
    let forged =
        "INSERT INTO audit SELECT 6, at, actor, origin, act, object, detail, hash FROM audit WHERE seq = 5";
    assert_eq!(verdict_after(forged).await, broken(6, AuditFault::Altered));
}

#[tokio::test]
async fn a_device_that_shows_anothers_proof_is_recorded() {
    let test = TestSite::new().await;
    let device = proto::id::ClientId::new(proto::id::Guid::nil());
    let by = site::By { actor: site::Actor::Device(device), from: None };
    test.site.note_wrong_device(&by, &"x\n".repeat(1000)).await.unwrap();
    let row = &test.site.list_audit(None, 1).await.unwrap()[0];
    assert_eq!((row.act.as_str(), row.actor.clone()), ("request.wrong-device", format!("device:{device}")));
    assert_eq!(row.detail, format!("{{\"detail\":\"{}\"}}", "x".repeat(300)));
    assert_eq!(test.site.verify_audit().await.unwrap(), AuditVerdict::Whole { rows: 2 });
}

#[tokio::test]
async fn the_newest_acts_come_first_with_who_and_from_where() {
    let test = with_rows().await;
    let rows = test.site.list_audit(None, 2).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [5, 4]);
    assert_eq!((rows[0].actor.as_str(), rows[0].from.as_deref()), ("operator:anna", Some("10.0.0.5")));
    let rest = test.site.list_audit(Some(4), 100).await.unwrap();
    assert_eq!(rest.len(), 3);
    assert_eq!((rest[2].act.as_str(), rest[2].actor.as_str()), ("site.init", "site"));
}
