//! From the endpoint table to the handlers.

use proto::endpoint::{self, MessageRule};
use proto::limits;
use proto::message::body::{RequestBody, RequestBodyError};
use proto::message::{MessageEndpoint, MessageError, RequestMessage};
use proto::reason::Reason;

use crate::answer::{Answer, Refusal};
use crate::authenticate::signature::Signed;
use crate::authenticate::token::{self, Presented};
use crate::authenticate::{asker, sender};
use crate::context::Context;
use crate::handler::Handler;
use crate::request::Request;
use crate::{
    location, policy, policy_body, registration, report, site_facts, state_message, status_message, sts,
};

/// Largest payload of an unsigned message after inflating, in bytes. Anybody can send one, and
/// registrations, location requests and state messages have some ten thousand [observed].
const UNSIGNED_INFLATED: usize = 1024 * 1024;

/// Answers a request whose own signature, if it has one, held.
pub(crate) async fn dispatch(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
) -> Result<Answer, Refusal> {
    if let Some(signed) = signed {
        signed.take(context).await?;
    }
    match Handler::of(request.endpoint) {
        Handler::TokenService => sts::issue(context, request, signed).await,
        Handler::SiteFacts => {
            let token = token::present(context, request)?;
            judge_at_door(context, request, signed, token.as_ref()).await?;
            site_facts::answer(context, request).await
        }
        Handler::PolicyBody => {
            let token = token::present(context, request)?;
            policy_body::answer(context, request, signed, token.as_ref()).await
        }
        Handler::Message => {
            let token = token::present(context, request)?;
            dispatch_message(context, request, signed, token.as_ref()).await
        }
    }
}

/// Judges a token where nothing but the request itself can prove its key.
async fn judge_at_door(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    token: Option<&Presented>,
) -> Result<(), Refusal> {
    asker::one_device(context, request, signed, None, token).await?;
    match token {
        Some(token) => token.judge(context, request, signed.map(|signed| signed.key)).map(drop),
        None => Ok(()),
    }
}

async fn dispatch_message(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    token: Option<&Presented>,
) -> Result<Answer, Refusal> {
    let content_type = request.header("content-type").unwrap_or_default();
    let message =
        RequestMessage::parse(content_type, &request.body.bytes).map_err(|error| not_a_message(&error))?;
    let rule = rule(message.header())?;
    let endpoint = message
        .header()
        .endpoint()
        .map_err(|error| Refusal::caused(Reason::UnknownMessageEndpoint, &error))?;
    // Verified over the stored bytes; only then inflated.
    let device = if rule.signed {
        Some(sender::prove(context, request, signed, token, &message, rule).await?)
    } else {
        None
    };
    let about = |refusal: Refusal| match &device {
        Some(device) => refusal.of(device.id),
        None => refusal,
    };
    let payload_hash = message.payload_hash();
    let limit = if rule.signed { limits::INFLATED_BYTES } else { UNSIGNED_INFLATED };
    let plain = message.inflate(limit).map_err(|error| about(not_a_message(&error)))?;
    let body = plain.body().map_err(|error| about(wrong_body(endpoint, &error)))?;
    let header = &plain.header;

    match (body, device) {
        (RequestBody::Registration(body), None) => {
            registration::answer(context, request, signed, token, header, &body).await
        }
        (RequestBody::Location(body), None) => {
            judge_at_door(context, request, signed, token).await?;
            location::answer(context, header, &body).await
        }
        (RequestBody::Report(body), None) if endpoint == MessageEndpoint::Relay => {
            judge_at_door(context, request, signed, token).await?;
            state_message::answer(context, request, &plain, payload_hash, &body).await
        }
        (RequestBody::Assignments(body), Some(device)) => {
            policy::answer(context, request, header, &device, token, &body).await
        }
        (RequestBody::Report(body), Some(device)) => {
            report::answer(context, request, &plain, payload_hash, endpoint, &device, &body).await
        }
        (RequestBody::Status(body), Some(device)) => {
            status_message::answer(context, request, &plain, payload_hash, &device, &body).await
        }
        // `plain.body` gives an endpoint its own bodies only, and the table says which are signed.
        (_, device) => {
            let refusal =
                Refusal::new(Reason::BodyOfAnotherEndpoint, format!("no handler for it at {endpoint}"));
            Err(match device {
                Some(device) => refusal.of(device.id),
                None => refusal,
            })
        }
    }
}

/// The rule of the endpoint that the message names.
fn rule(header: &proto::message::Header) -> Result<&'static MessageRule, Refusal> {
    endpoint::find_message_rule(&header.target_endpoint).ok_or_else(|| match header.endpoint() {
        Ok(known) => Refusal::new(Reason::NotServed, format!("{known} is not served")),
        Err(error) => Refusal::caused(Reason::UnknownMessageEndpoint, &error),
    })
}

fn not_a_message(error: &MessageError) -> Refusal {
    let reason = if error.is_upload_request() { Reason::NotServed } else { Reason::NotAMessage };
    Refusal::caused(reason, error)
}

fn wrong_body(endpoint: MessageEndpoint, error: &RequestBodyError) -> Refusal {
    let reason = match error {
        RequestBodyError::Endpoint(_) => Reason::UnknownMessageEndpoint,
        RequestBodyError::Misplaced { .. } => Reason::BodyOfAnotherEndpoint,
        RequestBodyError::Body(_) if endpoint == MessageEndpoint::ClientRegistration => {
            Reason::RegistrationMalformed
        }
        RequestBodyError::Text(_) | RequestBodyError::Xml(_) | RequestBodyError::Body(_) => {
            Reason::NotAMessage
        }
    };
    Refusal::caused(reason, error)
}
