//! Status messages: events of an approved device.

use proto::id::{ClientId, Thumbprint};
use proto::message::{MessageEndpoint, PlainMessage};
use proto::request::status::StatusMessage;
use serde_json::json;
use site::{Device, NewReport, ReportEffect};
use tracing::info;

use crate::answer::{Answer, Refusal};
use crate::audit::wrong_device;
use crate::context::Context;
use crate::log::MP_STATUS;
use crate::report::bounded;
use crate::request::Request;

/// Takes a status message.
pub(crate) async fn answer(
    context: &Context,
    request: &Request,
    message: &PlainMessage,
    payload_hash: [u8; 32],
    device: &Device,
    body: &StatusMessage,
) -> Result<Answer, Refusal> {
    if let Some(other) = named(body).filter(|named| *named != device.id) {
        let detail = format!("{} sends a status of {other}", device.id);
        return Err(wrong_device(context, device.id, request.peer, detail).await);
    }
    let header = &message.header;
    let facts = json!({
        "source_host": bounded(&header.source_host),
        "sent_time": bounded(&header.sent_time),
        "message_id": header.id,
        "event": bounded(&body.event_type),
        "severity": body.qualifier("SMS_Severity").map(bounded),
    });
    let new = NewReport {
        client: Some(device.id),
        endpoint: MessageEndpoint::StatusReceiver.name().to_owned(),
        payload_hash: Thumbprint::from_bytes(payload_hash),
        kind: "status".to_owned(),
        sent_at: header.sent_at(),
        request: request.id,
        header: facts.to_string(),
        document: message.body_text().unwrap_or_default().into_bytes(),
        message: None,
        effect: ReportEffect::None,
    };
    let stored = context.site.store_report(new).await;
    stored.map_err(|error| crate::site_error::database(&error).of(device.id))?;
    info!(component = MP_STATUS, device = %device.id, event = bounded(&body.event_type), "status message taken");
    Ok(Answer::taken())
}

/// The device that the event is about, where it names one: `ClientID` is a property of the
/// agent's HTTP events [docs].
fn named(body: &StatusMessage) -> Option<ClientId> {
    let property = body.properties.iter().find(|property| property.name.eq_ignore_ascii_case("ClientID"))?;
    property.value.trim().parse().ok()
}
