//! Reports of devices.

use proto::id::{ClientId, Guid, RequestId};
use proto::time::Timestamp;

use super::{DbError, Row, Tx, stmt};
use crate::limits::{KEPT_ANONYMOUS_REPORTS, KEPT_REPORTS};
use crate::report::{NewReport, Report, ReportSummary};

stmt! {
    INSERT_REPORT (Bytes, Text, Bytes, Int, Text, Int, OptInt, Bytes, Text, Bytes) -> () =
        "INSERT INTO report (report_id, client_id, endpoint, payload_hash, verified, kind, received_at, sent_at,
            request_id, header, document)
         VALUES ((SELECT coalesce(max(report_id), 0) + 1 FROM report), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (client_id, endpoint, payload_hash) DO NOTHING";
    FORGET_REPORTS (Bytes, Text, Int) -> () =
        "DELETE FROM report WHERE client_id = $1 AND endpoint = $2 AND report_id <= (
            SELECT report_id FROM report WHERE client_id = $1 AND endpoint = $2
            ORDER BY report_id DESC LIMIT 1 OFFSET $3)";
    LIST_REPORTS (Bytes, Int) -> (Int, Bytes, Text, Text, Int, OptInt, Bytes, Int) =
        "SELECT report_id, client_id, endpoint, kind, received_at, sent_at, request_id, length(document)
         FROM report WHERE client_id = $1 ORDER BY report_id DESC LIMIT $2";
    FIND_REPORT (Int) -> (Int, Bytes, Text, Text, Int, OptInt, Bytes, Int, Text, Bytes) =
        "SELECT report_id, client_id, endpoint, kind, received_at, sent_at, request_id, length(document), header,
            document
         FROM report WHERE report_id = $1";
}

/// The id under which reports stand that prove no sender.
fn sender(client: Option<ClientId>) -> ClientId {
    client.unwrap_or(ClientId::new(Guid::nil()))
}

/// Whether it was new.
pub(crate) fn insert(tx: &mut dyn Tx, new: &NewReport, now: Timestamp) -> Result<bool, DbError> {
    let values = [
        sender(new.client).into(),
        (&new.endpoint).into(),
        new.payload_hash.into(),
        new.client.is_some().into(),
        (&new.kind).into(),
        now.into(),
        new.sent_at.into(),
        new.request.guid().into(),
        (&new.header).into(),
        (&new.document).into(),
    ];
    Ok(tx.exec(&INSERT_REPORT, &values)? > 0)
}

pub(crate) fn forget_oldest(tx: &mut dyn Tx, new: &NewReport) -> Result<(), DbError> {
    let kept = if new.client.is_some() { KEPT_REPORTS } else { KEPT_ANONYMOUS_REPORTS };
    tx.exec(&FORGET_REPORTS, &[sender(new.client).into(), (&new.endpoint).into(), kept.into()]).map(drop)
}

pub(crate) fn list(
    tx: &mut dyn Tx,
    client: Option<ClientId>,
    limit: u32,
) -> Result<Vec<ReportSummary>, DbError> {
    tx.query(&LIST_REPORTS, &[sender(client).into(), limit.into()])?.iter().map(read).collect()
}

pub(crate) fn find(tx: &mut dyn Tx, id: i64) -> Result<Option<Report>, DbError> {
    let row = tx.query_opt(&FIND_REPORT, &[id.into()])?;
    row.map(|row| Ok(Report { summary: read(&row)?, header: row.get(8)?, document: row.get(9)? })).transpose()
}

fn read(row: &Row) -> Result<ReportSummary, DbError> {
    let client: ClientId = row.get(1)?;
    Ok(ReportSummary {
        id: row.get(0)?,
        client: Some(client).filter(|client| client.guid() != Guid::nil()),
        endpoint: row.get(2)?,
        kind: row.get(3)?,
        received_at: row.get(4)?,
        sent_at: row.get(5)?,
        request: RequestId::new(row.get(6)?),
        size: row.get(7)?,
    })
}
