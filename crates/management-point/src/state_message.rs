//! State messages: unsigned by their senders' habit, so they are somebody's word and change
//! nothing that anybody is trusted by (protocol reference 8.4).

use proto::id::Thumbprint;
use proto::message::{MessageEndpoint, PlainMessage};
use proto::reason::Reason;
use proto::request::report::Report;
use site::{NewReport, ReportEffect};
use tracing::info;

use crate::answer::{Answer, Refusal};
use crate::context::Context;
use crate::log::MP_RELAY;
use crate::report::header_facts;
use crate::request::Request;

/// Takes a state message, as said by nobody in particular.
pub(crate) async fn answer(
    context: &Context,
    request: &Request,
    message: &PlainMessage,
    payload_hash: [u8; 32],
    body: &Report,
) -> Result<Answer, Refusal> {
    let claimed = body.header.client_id;
    if message.header.source_id.is_some_and(|source| source != claimed) {
        let detail = format!("a state message of {claimed} sent by another");
        return Err(Refusal::new(Reason::MessageRefused, detail));
    }
    if let Some(action) = body.header.action {
        // An inventory would be taken here without its signature.
        let detail = format!("an inventory ({action:?}) at {}", MessageEndpoint::Relay);
        return Err(Refusal::new(Reason::BodyOfAnotherEndpoint, detail));
    }
    let new = NewReport {
        client: None,
        endpoint: MessageEndpoint::Relay.name().to_owned(),
        payload_hash: Thumbprint::from_bytes(payload_hash),
        kind: "state".to_owned(),
        sent_at: message.header.sent_at(),
        request: request.id,
        header: header_facts(&message.header, body).to_string(),
        document: message.report_text().unwrap_or_default().into_bytes(),
        message: None,
        effect: ReportEffect::None,
    };
    context.site.store_report(new).await.map_err(|error| crate::site_error::database(&error))?;
    info!(component = MP_RELAY, %claimed, states = body.state_messages.len(), "state messages taken, unproved");
    Ok(Answer::taken())
}
