//! Certificates of an organisation's PKI: shown with their key, and judged here whoever else judged
//! them before (R39).
//!
//! Three roads lead here with the key proved: our own TLS handshake, the proof header of our client
//! (a signature by the certificate's key over the device's), and a registered key that is itself the
//! certificate's. What a gateway says opened its door is none of them.
//!
//! The handshake proves who made the *connection*, and a message may come over another's: whoever stands
//! on the inside path could carry a device's message from plain HTTP over a connection of his own, and
//! his certificate would be taken for the device's. So from a client that signs its requests, ours, the
//! handshake counts for nothing without the proof header; of clients that do not there is nothing better.

use proto::client_certificate::{self, ProofError};
use proto::id::Thumbprint;
use proto::identity::Method;
use proto::pki::{Distrust, Trusted, Usage};
use proto::reason::Reason;
use proto::time::Timestamp;
use runtime::tls::PeerCertificate;
use rustls::pki_types::CertificateDer;
use site::{Device, PkiCredential};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::signature::Signed;
use crate::answer::Refusal;
use crate::context::Context;
use crate::request::Request;

/// What came of the certificates that somebody showed.
#[derive(Debug)]
pub(crate) enum Shown {
    /// None was shown: a device's own self-signed one is no PKI's.
    None,
    /// One is trusted.
    Trusted(PkiCredential),
    /// The connection showed one that is trusted, and the device has not said that it is its own.
    Unproved(Thumbprint),
    /// One was shown, its key proved, and it is not trusted.
    Distrusted {
        /// The code.
        reason: Reason,
        /// The cause, in one sentence.
        cause: String,
    },
}

/// Judges what somebody showed who has proved the key `device_key`, whose certificate is `own`. `signs`: the
/// client signs its requests, and so can prove a certificate for this very one.
///
/// # Errors
/// A proof that proves nothing, and a certificate that is blocked: both are refused whatever else
/// the request carries.
pub(crate) fn shown(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    signs: bool,
    device_key: Thumbprint,
    own: &[u8],
) -> Result<Shown, Refusal> {
    let proved = proved_by_header(context, request, signed, device_key)?;
    let tls = request.own_tls_chain().to_vec();
    let (mut refused, mut unproved) = (None, None);
    // The own certificate is self-signed with most clients, and that is nothing to complain of.
    let mut own = vec![own.to_vec()];
    for (chain, counts) in [(proved.unwrap_or_default(), true), (tls, !signs)] {
        let Some(leaf) = chain.first() else { continue };
        if Thumbprint::of(leaf) == device_key {
            // With what the client knows of its issuers.
            own = chain;
            continue;
        }
        match judge(context, &chain) {
            Ok(trusted) if counts => return trust(context, trusted, chain),
            Ok(trusted) => {
                check_block(context, trusted.thumbprint)?;
                unproved = Some(trusted.thumbprint);
            }
            Err(distrust) => refused = refused.or(Some(distrust)),
        }
    }
    match (judge(context, &own), refused, unproved) {
        (Ok(trusted), ..) => trust(context, trusted, own),
        (Err(_), Some(distrust), _) => Ok(distrusted(&distrust)),
        (Err(_), None, Some(unproved)) => Ok(Shown::Unproved(unproved)),
        (Err(distrust), None, None) if is_issued(&own) => Ok(distrusted(&distrust)),
        (Err(_), None, None) => Ok(Shown::None),
    }
}

/// Whether the proof header shows that this certificate's key was held by whoever holds the device's.
pub(crate) fn is_proved(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    device_key: Thumbprint,
    certificate: Thumbprint,
) -> Result<bool, Refusal> {
    let chain = proved_by_header(context, request, signed, device_key)?;
    Ok(chain.is_some_and(|chain| chain.first().is_some_and(|leaf| Thumbprint::of(leaf) == certificate)))
}

/// Judges the certificate on a device's record anew: it may have expired, been revoked, or its
/// authority have lost its place (R5). Only where it is what carries the device.
pub(crate) fn judge_again(context: &Context, device: &Device) -> Result<(), Refusal> {
    let Some(pki) = device.pki.as_ref().filter(|_| device.method == Method::Certificate) else {
        return Ok(());
    };
    judge(context, &pki.chain).map(drop).map_err(|distrust| {
        Refusal::new(distrust.management_point_reason(), distrust.to_string()).of(device.id)
    })
}

/// Whether this certificate is trusted at this moment.
pub(crate) fn holds(context: &Context, pki: &PkiCredential) -> bool {
    judge(context, &pki.chain).is_ok()
}

/// Refuses a device on whose record there is a blocked device's certificate, whatever it comes with: one
/// machine is both.
pub(crate) fn check_recorded(context: &Context, device: &Device) -> Result<(), Refusal> {
    let Some(pki) = &device.pki else { return Ok(()) };
    check_block(context, pki.thumbprint).map_err(|refusal| refusal.of(device.id))
}

fn judge(context: &Context, chain: &[Vec<u8>]) -> Result<Trusted, Distrust> {
    context.site.trust_store().judge(chain, Usage::Client, context.now())
}

fn trust(context: &Context, trusted: Trusted, chain: Vec<Vec<u8>>) -> Result<Shown, Refusal> {
    check_block(context, trusted.thumbprint)?;
    let leaf =
        chain.first().and_then(|leaf| PeerCertificate::parse(&CertificateDer::from(leaf.as_slice())).ok());
    // A trusted certificate can be read.
    let not_after = leaf.map_or(trusted.until, |leaf| Timestamp::from_seconds(leaf.not_after()));
    Ok(Shown::Trusted(PkiCredential {
        thumbprint: trusted.thumbprint,
        subject: trusted.subject,
        not_after,
        chain,
    }))
}

fn distrusted(distrust: &Distrust) -> Shown {
    Shown::Distrusted { reason: distrust.management_point_reason(), cause: distrust.to_string() }
}

/// A blocked device is shut out by its certificate, too, with whatever key it comes back.
fn check_block(context: &Context, certificate: Thumbprint) -> Result<(), Refusal> {
    if context.site.current_snapshot().blocked_certificates.contains(&certificate) {
        let detail = format!("the client certificate {certificate} is a blocked device's");
        return Err(Refusal::new(Reason::Blocked, detail));
    }
    Ok(())
}

/// Whether a certificate names another issuer than itself.
fn is_issued(chain: &[Vec<u8>]) -> bool {
    let Some(leaf) = chain.first() else { return false };
    X509Certificate::from_der(leaf).is_ok_and(|(_, leaf)| leaf.issuer() != leaf.subject())
}

/// The chain of a proof header, its leaf's key proved over this device's key and this very message.
fn proved_by_header(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    device_key: Thumbprint,
) -> Result<Option<Vec<Vec<u8>>>, Refusal> {
    let header = |name: &str| request.header(name);
    let refused = |error: &ProofError| Refusal::caused(Reason::InsideCertificateInvalid, error);
    let Some(signed) = signed else {
        let claimed = client_certificate::HEADERS.iter().any(|name| request.headers.contains_key(*name));
        let detail = "a proof of a client certificate needs a signed request around it";
        return if claimed { Err(Refusal::new(Reason::InsideCertificateInvalid, detail)) } else { Ok(None) };
    };
    let hierarchy = context.site.facts().hierarchy;
    // Both were made by one clock, whose skew has been judged.
    match client_certificate::verify(header, hierarchy, device_key, signed.message_id, signed.created()) {
        Ok(chain) => Ok(Some(chain)),
        Err(ProofError::Missing) => Ok(None),
        Err(error) => Err(refused(&error)),
    }
}
