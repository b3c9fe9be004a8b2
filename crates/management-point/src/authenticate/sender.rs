//! The sender of a signed message.

use proto::endpoint::{Caller, MessageRule};
use proto::message::RequestMessage;
use proto::reason::Reason;
use site::Device;
use tracing::debug;

use super::signature::Signed;
use super::token::Presented;
use super::{Came, check_device, check_registered, note_seen, registered_key, thumbprint};
use crate::answer::Refusal;
use crate::audit::wrong_device;
use crate::context::Context;
use crate::log;
use crate::request::Request;

/// Proves who sent a message: its payload is signed by the key registered for its `SourceID`,
/// and whatever else the request carries names the same device and key (R22). Verified over the
/// stored bytes, before anything is inflated.
pub(crate) async fn prove(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    token: Option<&Presented>,
    message: &RequestMessage,
    rule: &MessageRule,
) -> Result<Device, Refusal> {
    let refused = |detail: String| Refusal::new(Reason::MessageRefused, detail);
    let id = message.header().source_id.ok_or_else(|| refused("the message names no sender".into()))?;
    let found = context.site.find_device(id).await.map_err(|error| crate::site_error::database(&error))?;
    // A key that signed the request is proved: its owner's record is gone.
    let unknown = || match signed {
        Some(signed) => refused(format!("{id} is not registered")).by(signed.key),
        None => refused(format!("{id} is not registered")),
    };
    let device = found.ok_or_else(unknown)?;
    let key = registered_key(&device)?;
    if let Err(error) = message.verify_payload(&key) {
        debug!(component = log::CLIENT_AUTH, device = %id, %error, "payload signature refused");
        return Err(refused(format!("payload signature of {id}: {error}")));
    }
    if let Err(error) = message.check_client_id_signature(&key) {
        // Correct clients exist that get this one wrong (protocol reference 4.3).
        debug!(component = log::CLIENT_AUTH, device = %id, %error, "client id signature does not fit");
    }
    // From here on the caller has proved its key and may know why.
    if let Some(signed) = signed
        && signed.key != thumbprint(&device)
    {
        let detail = format!("the message is signed by {id}, the request by {}", signed.key);
        return Err(wrong_device(context, id, request.peer, detail).await);
    }
    if let Some(token) = token {
        if let Some(other) = token.device().filter(|other| *other != id) {
            let detail = format!("the message is signed by {id}, the token names {other}");
            return Err(wrong_device(context, id, request.peer, detail).await);
        }
        token.judge(context, request, Some(thumbprint(&device)))?;
        if !rule.callers.contains(&token.token.class.caller()) {
            return Err(token.refuse_class(rule.name));
        }
    } else if !rule.callers.contains(&Caller::Device) {
        return Err(refused(format!("{} takes no device", rule.name)));
    }
    if rule.before_approval {
        check_registered(context, request, &device, signed).await?;
    } else {
        check_device(context, request, &device, Came { signed, token }).await?;
    }
    note_seen(context, request, &device, signed);
    Ok(device)
}
