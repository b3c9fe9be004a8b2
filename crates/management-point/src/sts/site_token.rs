//! Tokens of the site: a bulk registration token, or a device's own.

use proto::id::{ClientId, Thumbprint};
use proto::reason::Reason;
use proto::token::TokenClass;
use site::{CcmSubject, Device};
use tracing::info;

use super::{Granted, make};
use crate::answer::Refusal;
use crate::authenticate::signature::Signed;
use crate::authenticate::token::{Presented, Worth};
use crate::authenticate::{asker, certificate, check_peer, note_seen};
use crate::context::Context;
use crate::log::CCM_STS;
use crate::request::Request;

/// Exchanges one, its key being proved by the request's signature or by signed identity headers.
pub(super) async fn exchange(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    presented: &Presented,
) -> Result<Granted, Refusal> {
    let refused = |detail: &str| Refusal::new(Reason::StsTokenNotAccepted, detail);
    let by_headers = asker::by_headers(context, request, Reason::StsTokenNotAccepted).await?;
    asker::one_device(context, request, signed, by_headers.as_ref(), Some(presented)).await?;
    let shown =
        signed.map(|signed| signed.key).or(by_headers.as_ref().map(|device| device.signing_thumbprint));
    let about = |refusal: Refusal| match shown {
        Some(key) => refusal.by(key),
        None => refusal,
    };
    if presented.has_ended(context, shown) {
        return recover(context, request, signed, presented, shown).await.map_err(about);
    }
    if presented.judge(context, request, shown).map_err(about)? == Worth::NoMoreThanNothing {
        return Err(refused("the key of the token was not proved"));
    }
    match presented.token.class {
        TokenClass::Bulk => {
            // The token that is given must be bound to something.
            let key = shown.ok_or_else(|| refused("a bulk registration token needs a signed request"))?;
            let subject = CcmSubject::Stranger { bulk_token: presented.token.unique_id, key };
            let token = make(context, subject, None).await.map_err(|refusal| refusal.by(key))?;
            Ok(Granted { token, device: None, user: None })
        }
        TokenClass::SelfProve => {
            let device = presented.device().ok_or_else(|| refused("a self-prove token without a device"))?;
            let known = check_device(context, request, device, signed).await?;
            // Without a shown key only `token_binding = off` comes here.
            let key =
                shown.or(presented.token.confirmation).ok_or_else(|| refused("a token without a key"))?;
            let Some(known) = known else {
                let token = make(context, CcmSubject::Device { device, key }, Some(device)).await?;
                return Ok(Granted { token, device: Some(device), user: None });
            };
            let token = context.site.issue_token_for(&known, key);
            let token = token.map_err(|error| Refusal::caused(error.reason(), &error).of(device))?;
            note_seen(context, request, &known, signed);
            Ok(Granted { token, device: Some(device), user: None })
        }
        // The endpoint table takes identities only.
        TokenClass::PreAuth | TokenClass::Device | TokenClass::User => {
            Err(refused("a token that came from here buys no other"))
        }
    }
}

/// A device that was away until its own token ended comes back by its registered key, within the
/// recovery window: it gets a token for its confirmation, and nothing that a device may.
async fn recover(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    presented: &Presented,
    shown: Option<Thumbprint>,
) -> Result<Granted, Refusal> {
    let refused = |detail: &str| Refusal::new(Reason::StsTokenNotAccepted, detail);
    let device = presented.device().ok_or_else(|| refused("a self-prove token without a device"))?;
    let key = shown.ok_or_else(|| refused("an ended token without its key"))?;
    check_device(context, request, device, signed).await?;
    let token = context.site.recover_device(device, key).await;
    let token = token.map_err(|error| Refusal::caused(error.reason(), &error).of(device))?;
    info!(component = CCM_STS, %device, ended = %presented.token.expires, "device comes back by its registered key");
    Ok(Granted { token, device: Some(device), user: None })
}

/// A device that signs its requests signs this one, too (settled point 13); and the connection's
/// certificate is not another device's.
async fn check_device(
    context: &Context,
    request: &Request,
    id: ClientId,
    signed: Option<&Signed>,
) -> Result<Option<Device>, Refusal> {
    let found = match signed.and_then(|signed| signed.device.as_ref()).filter(|device| device.id == id) {
        // Read for the signature of this very request.
        Some(device) => Some(device.clone()),
        None => context.site.find_device(id).await.map_err(|error| crate::site_error::database(&error))?,
    };
    let signs = found.as_ref().is_some_and(|found| found.signs_requests);
    if signed.is_none() && (signs || context.site.settings().require_signed_requests) {
        return Err(Refusal::new(Reason::SignatureRequired, "the request is not signed").of(id));
    }
    if let Some(device) = &found {
        certificate::check_recorded(context, device)?;
        check_peer(context, request, device, signed).await?;
    }
    Ok(found)
}
