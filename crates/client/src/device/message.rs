//! Messages with a reply, and without.

use proto::message::{MessageEndpoint, ReplyMessage};

use super::{Device, Outgoing, RequestError};
use crate::log::field;
use crate::token::Wanted;
use crate::transport::Answer;

impl Device {
    /// Sends a message and gives the body of its reply.
    pub(crate) async fn ask(
        &mut self,
        endpoint: MessageEndpoint,
        xml: &str,
        wanted: Wanted,
    ) -> Result<String, RequestError> {
        let answer = self.send(&Outgoing::message(endpoint, xml, wanted)).await?;
        read_reply(&answer)
    }

    /// Sends a message that wants no reply.
    pub(crate) async fn tell(
        &mut self,
        endpoint: MessageEndpoint,
        xml: &str,
        wanted: Wanted,
    ) -> Result<Option<String>, RequestError> {
        let answer = self.send(&Outgoing::message(endpoint, xml, wanted)).await?;
        Ok(answer.request_id)
    }
}

/// The body of a reply.
pub(crate) fn read_reply(answer: &Answer) -> Result<String, RequestError> {
    let reply = ReplyMessage::parse(&answer.content_type, &answer.body).map_err(RequestError::Reply)?;
    let braced = |id: Option<proto::id::Guid>| id.unwrap_or(proto::id::Guid::nil()).braced();
    field!(
        info,
        CcmMessaging,
        "Message '{}' got reply message '{}' to endpoint '{}'",
        braced(reply.header.correlation_id),
        braced(reply.header.id),
        runtime::telemetry::OneLine(&reply.header.target_endpoint)
    );
    Ok(reply.body)
}
