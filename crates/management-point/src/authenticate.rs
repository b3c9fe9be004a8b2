//! Who asks. Everything that can prove a device, gathered and made to agree.
//!
//! | proof | module |
//! |---|---|
//! | HTTP message signature by the registered or the shown key | [`signature`] |
//! | a token of the site, with its key | [`token`] |
//! | the signature inside a message, by the registered key | [`sender`] |
//! | signed identity headers of third-party clients | [`asker`] |
//! | a certificate of a trusted PKI, with its key | [`certificate`] |
//!
//! A token whose key is not proved here opens what is open without a token, and no more: the
//! gateway has seen its key in the TLS handshake, we have not, and a gateway's word is no proof
//! (R39). Headers in which a proxy would name somebody are not read at all (R45).

pub(crate) mod asker;
pub(crate) mod certificate;
pub(crate) mod sender;
pub(crate) mod signature;
pub(crate) mod token;
pub(crate) mod verified;

use proto::combination::{Scenario, judge};
use proto::id::Thumbprint;
use proto::identity::Method;
use proto::message::RsaPublicKey;
use proto::reason::Reason;
use site::{Approval, Contact, Device, SeenVia};

use crate::answer::Refusal;
use crate::audit;
use crate::context::Context;
use crate::request::Request;
use signature::Signed;
use token::Presented;

/// The registered signing key of a device.
pub(crate) fn registered_key(device: &Device) -> Result<RsaPublicKey, Refusal> {
    // It was checked when it was registered, so this is our fault, not the device's.
    RsaPublicKey::from_certificate(&device.signing_certificate)
        .map_err(|error| Refusal::caused(Reason::InternalError, &error).of(device.id))
}

/// What comes with a request besides the proof of its device's key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Came<'r> {
    pub(crate) signed: Option<&'r Signed>,
    /// A token that stands for its class; `None` also where its key was not proved.
    pub(crate) token: Option<&'r Presented>,
}

/// Everything that closes what an approved device may do (R29). Asked after the device has proved
/// its key, so it may know.
pub(crate) async fn check_device(
    context: &Context,
    request: &Request,
    device: &Device,
    came: Came<'_>,
) -> Result<(), Refusal> {
    check_unblocked(context, device)?;
    if device.approval != Approval::Approved {
        let reason =
            if device.clone_suspicion.is_some() { Reason::CloneSuspected } else { Reason::NotApproved };
        return Err(Refusal::new(reason, "the device is registered and not approved").of(device.id));
    }
    check_signing(context, device, came.signed)?;
    check_peer(context, request, device, came.signed).await?;
    // Who comes with a token is judged by that; a certificate must hold on every request (R5).
    match came.token {
        None => certificate::judge_again(context, device)?,
        Some(_) => note_fall(context, device).await?,
    }
    let method = method(context, request, device, came.token);
    judge(context.manner().mode, method, None, request.way(), Scenario::Device)
        .map_err(|refused| Refusal::caused(refused.reason, &refused).of(device.id))
}

/// The same for the device's own status and the means to renew itself, which stay open before its
/// approval and after its certificate.
pub(crate) async fn check_registered(
    context: &Context,
    request: &Request,
    device: &Device,
    signed: Option<&Signed>,
) -> Result<(), Refusal> {
    check_unblocked(context, device)?;
    check_signing(context, device, signed)?;
    check_peer(context, request, device, signed).await
}

fn check_unblocked(context: &Context, device: &Device) -> Result<(), Refusal> {
    if device.blocked {
        return Err(Refusal::new(Reason::Blocked, "the device is blocked").of(device.id));
    }
    certificate::check_recorded(context, device)
}

/// A device whose certificate does not hold any more, and that goes on by its token without a word about
/// it: an operator is told (R74). The client that registers anew says so itself.
async fn note_fall(context: &Context, device: &Device) -> Result<(), Refusal> {
    if device.fell_back_at.is_some() {
        return Ok(());
    }
    let Err(refusal) = certificate::judge_again(context, device) else { return Ok(()) };
    let noted = context.site.note_fall(device.id, &refusal.detail).await;
    noted.map_err(|error| crate::site_error::database(&error).of(device.id))
}

/// A device that has signed its requests once signs all of them (settled point 13).
fn check_signing(context: &Context, device: &Device, signed: Option<&Signed>) -> Result<(), Refusal> {
    let detail = match signed {
        None if device.signs_requests => "a device that signs its requests sent one unsigned",
        None if context.site.settings().require_signed_requests => "the site demands signed requests",
        _ => return Ok(()),
    };
    Err(Refusal::new(Reason::SignatureRequired, detail).of(device.id))
}

/// The client certificate of the connection, ours or that which opened a gateway's door, is the one
/// on the device's record (R22). What a gateway says can only make us refuse (R39).
pub(crate) async fn check_peer(
    context: &Context,
    request: &Request,
    device: &Device,
    signed: Option<&Signed>,
) -> Result<(), Refusal> {
    let Ok(named) = request.peer_certificate() else {
        return Err(Refusal::new(
            Reason::MalformedRequest,
            "the connection's certificate is not named properly",
        ));
    };
    let named = named.or_else(|| request.own_tls_chain().first().map(|leaf| Thumbprint::of(leaf)));
    let recorded = device.pki.as_ref().filter(|_| device.method == Method::Certificate);
    let (Some(named), Some(recorded)) = (named, recorded) else { return Ok(()) };
    // Its own key is its own, whatever else it has; a self-signed certificate opens no door by itself.
    if named == recorded.thumbprint || named == device.signing_thumbprint {
        return Ok(());
    }
    // A renewed one comes with the proof that it is this device's, and is put on record by that.
    if certificate::is_proved(context, request, signed, device.signing_thumbprint, named)? {
        return Ok(());
    }
    let detail = format!("{} came over a connection of the certificate {named}", device.id);
    Err(audit::other_certificate(context, device.id, request.peer, detail).await)
}

/// By what a request proves its device. The registered key, which signs every message, counts as the
/// site token. The certificate on record counts where the connection was its own, and if it holds: a
/// device keeps it on record also after it fell back.
fn method(context: &Context, request: &Request, device: &Device, token: Option<&Presented>) -> Method {
    if let Some(token) = token {
        return token.method();
    }
    let shown = request.peer_certificate().unwrap_or_default();
    let shown = shown.or_else(|| request.own_tls_chain().first().map(|leaf| Thumbprint::of(leaf)));
    let on_record = device.pki.as_ref().filter(|pki| shown == Some(pki.thumbprint));
    match on_record {
        Some(pki) if certificate::holds(context, pki) => Method::Certificate,
        _ => Method::SiteToken,
    }
}

/// Notes that a device was heard: from which side and place, and how far its clock is off.
pub(crate) fn note_seen(context: &Context, request: &Request, device: &Device, signed: Option<&Signed>) {
    let contact = Contact {
        via: via(request),
        address: Some(request.peer),
        skew_ms: signed.map(|signed| signed.skew_ms(context.now())),
    };
    context.site.record_contact(device.id, contact);
}

/// The road that a request came by.
pub(crate) fn via(request: &Request) -> SeenVia {
    if request.came_through_gateway() { SeenVia::Gateway } else { SeenVia::Intranet }
}

/// The certificate that stands for a device wherever a key must be named.
fn thumbprint(device: &Device) -> Thumbprint {
    device.signing_thumbprint
}
