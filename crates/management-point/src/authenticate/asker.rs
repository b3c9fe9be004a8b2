//! Who asks for a document, or for a token.

use proto::id::ClientId;
use proto::message::HeaderIdentity;
use proto::reason::Reason;
use site::Device;

use super::signature::Signed;
use super::token::{Presented, Worth};
use super::{Came, check_device, note_seen, registered_key, thumbprint};
use crate::answer::Refusal;
use crate::audit::wrong_device;
use crate::context::Context;
use crate::request::Request;

/// The device that proved itself by the signed identity headers of third-party clients, within
/// the site's time window; `None`: there are none. Nobody is told which part did not hold:
/// `generic` is all that a caller learns (the cause is in the log).
pub(crate) async fn by_headers(
    context: &Context,
    request: &Request,
    generic: Reason,
) -> Result<Option<Device>, Refusal> {
    let claimed = HeaderIdentity::from_headers(|name| request.header(name))
        .map_err(|error| Refusal::caused(generic, &error))?;
    let Some(claimed) = claimed else { return Ok(None) };
    let device = find(context, claimed.client_id).await?;
    let device =
        device.ok_or_else(|| Refusal::new(generic, format!("{} is not registered", claimed.client_id)))?;
    claimed.verify(&registered_key(&device)?).map_err(|error| {
        Refusal::new(generic, format!("identity headers of {}: {error}", claimed.client_id))
    })?;
    let now = context.now();
    if now.distance(claimed.time) > context.site.settings().header_time_window {
        let detail = format!("identity headers signed at {}; it is {now}", claimed.time);
        return Err(Refusal::new(Reason::MessageTooOld, detail).of(device.id));
    }
    Ok(Some(device))
}

/// The device that asks for a document, by whatever it proved; `None`: nobody in particular.
/// All proofs must name the same device.
pub(crate) async fn of_document(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    token: Option<&Presented>,
) -> Result<Option<Device>, Refusal> {
    let by_headers = by_headers(context, request, Reason::IdentityRequired).await?;
    let by_key = one_device(context, request, signed, by_headers.as_ref(), token).await?;
    let shown = signed.map(|signed| signed.key).or(by_headers.as_ref().map(thumbprint));
    let worth = token.map(|token| token.judge(context, request, shown)).transpose()?;
    let by_token = token.filter(|_| worth == Some(Worth::Full)).and_then(Presented::device);
    let Some(id) = by_key.or(by_token) else { return Ok(None) };
    let device = match by_headers {
        Some(device) => Some(device),
        None => find(context, id).await?,
    };
    // A token outlives the record it was made for.
    let Some(device) = device else {
        return Err(Refusal::new(Reason::InsideTokenNotAccepted, format!("{id} is not registered")));
    };
    let token = token.filter(|_| worth == Some(Worth::Full));
    check_device(context, request, &device, Came { signed, token }).await?;
    note_seen(context, request, &device, signed);
    Ok(Some(device))
}

/// The device whose key was proved, by the request's signature or by identity headers. If both
/// are there, or a token that names a device, all of them must name the same one (R22).
pub(crate) async fn one_device(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    by_headers: Option<&Device>,
    token: Option<&Presented>,
) -> Result<Option<ClientId>, Refusal> {
    let by_headers = by_headers.map(|device| device.id);
    let Some(first) = signed.and_then(Signed::client).or(by_headers) else { return Ok(None) };
    let named = [by_headers, token.and_then(Presented::device)];
    if let Some(other) = named.into_iter().flatten().find(|other| *other != first) {
        let detail = format!("the request is proved by {first}, something in it names {other}");
        return Err(wrong_device(context, first, request.peer, detail).await);
    }
    Ok(Some(first))
}

async fn find(context: &Context, id: ClientId) -> Result<Option<Device>, Refusal> {
    context.site.find_device(id).await.map_err(|error| crate::site_error::database(&error))
}
