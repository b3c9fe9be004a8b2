//! Who asks. Everything that can prove a device, gathered and made to agree.
//!
//! | proof | module |
//! |---|---|
//! | HTTP message signature by the registered or the shown key | [`signature`] |
//! | a token of the site, with its key | [`token`] |
//! | the signature inside a message, by the registered key | [`sender`] |
//! | signed identity headers of third-party clients | [`asker`] |
//!
//! A token whose key is not proved here opens what is open without a token, and no more: the
//! gateway has seen its key in the TLS handshake, we have not, and a gateway's word is no proof
//! (R39). Headers in which a proxy would name somebody are not read at all (R45).

pub(crate) mod asker;
pub(crate) mod sender;
pub(crate) mod signature;
pub(crate) mod token;

use proto::id::Thumbprint;
use proto::message::RsaPublicKey;
use proto::reason::Reason;
use site::{Approval, Device, SeenVia};

use crate::answer::Refusal;
use crate::context::Context;
use crate::request::Request;
use signature::Signed;

/// The registered signing key of a device.
pub(crate) fn registered_key(device: &Device) -> Result<RsaPublicKey, Refusal> {
    // It was checked when it was registered, so this is our fault, not the device's.
    RsaPublicKey::from_certificate(&device.signing_certificate)
        .map_err(|error| Refusal::caused(Reason::InternalError, &error).of(device.id))
}

/// The states that close everything but registration and what is open to anybody (R29). Asked
/// after the device has proved its key, so it may know.
pub(crate) fn check_state(
    context: &Context,
    device: &Device,
    signed: Option<&Signed>,
    before_approval: bool,
) -> Result<(), Refusal> {
    let refuse = |reason, detail: &str| Err(Refusal::new(reason, detail).of(device.id));
    if device.blocked {
        return refuse(Reason::Blocked, "the device is blocked");
    }
    if !before_approval && device.approval != Approval::Approved {
        return refuse(Reason::NotApproved, "the device is registered and not approved");
    }
    if signed.is_none() && device.signs_requests {
        return refuse(Reason::SignatureRequired, "a device that signs its requests sent one unsigned");
    }
    if signed.is_none() && context.site.settings().require_signed_requests {
        return refuse(Reason::SignatureRequired, "the site demands signed requests");
    }
    Ok(())
}

/// Notes that a device was heard, and from which side.
pub(crate) fn note_seen(context: &Context, request: &Request, device: &Device) {
    context.site.record_seen(device.id, via(request));
}

/// The road that a request came by.
pub(crate) fn via(request: &Request) -> SeenVia {
    if request.came_through_gateway() { SeenVia::Gateway } else { SeenVia::Intranet }
}

/// The certificate that stands for a device wherever a key must be named.
fn thumbprint(device: &Device) -> Thumbprint {
    device.signing_thumbprint
}
