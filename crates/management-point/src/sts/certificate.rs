//! Client certificates of a trusted PKI: who has one needs no other token to begin with.

use proto::combination::{Scenario, judge};
use proto::identity::Method;
use proto::reason::Reason;
use site::CcmSubject;

use super::{Granted, check_unblocked, make};
use crate::answer::Refusal;
use crate::authenticate::certificate::{self, Shown};
use crate::authenticate::signature::Signed;
use crate::authenticate::{check_peer, note_seen};
use crate::context::Context;
use crate::request::Request;

/// Exchanges one whose key was proved for this very request: by its proof header, or because it is the key
/// that signed it. What opened a gateway's door proves nothing here, nor does our own handshake: the
/// request may be carried over another's connection.
pub(super) async fn exchange(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
) -> Result<Granted, Refusal> {
    let missing = |detail| Refusal::new(Reason::StsTokenMissing, detail);
    let signed = signed.ok_or_else(|| missing("neither a token nor a signed request"))?;
    let about = |refusal: Refusal| {
        let refusal = refusal.by(signed.key);
        match signed.client() {
            Some(device) => refusal.of(device),
            None => refusal,
        }
    };
    let shown = certificate::shown(context, request, Some(signed), true, signed.key, &signed.certificate);
    let shown = shown.map_err(about)?;
    let trusted = match shown {
        Shown::Trusted(trusted) => trusted,
        Shown::Unproved(certificate) => {
            let detail =
                format!("certificate {certificate} of the connection is not proved for this request");
            return Err(about(Refusal::new(Reason::StsTokenMissing, detail)));
        }
        Shown::Distrusted { reason, cause } => return Err(about(Refusal::new(reason, cause))),
        Shown::None => return Err(about(missing("neither a token nor a client certificate"))),
    };
    check_unblocked(context, signed.device.as_ref())?;
    if let Some(device) = &signed.device {
        check_peer(context, request, device, Some(signed)).await?;
    }
    judge(context.manner().mode, Method::Certificate, None, request.way(), Scenario::Device)
        .map_err(|refused| about(Refusal::caused(refused.reason, &refused)))?;
    let subject = CcmSubject::Certificate { key: signed.key, pki: trusted.thumbprint };
    let token = make(context, subject, signed.client()).await.map_err(about)?;
    if let Some(device) = &signed.device {
        note_seen(context, request, device, Some(signed));
    }
    Ok(Granted { token, device: signed.client(), user: None })
}
