//! HTTP message signatures (RFC 9421): whose key signed this very request.

use std::time::Duration;

use proto::http_signature::{self, SignedRequest};
use proto::id::{ClientId, Guid, Thumbprint};
use proto::reason::Reason;
use proto::time::Timestamp;
use site::Device;

use super::thumbprint;
use crate::answer::{Refusal, Style};
use crate::context::Context;
use crate::handler::Handler;
use crate::request::Request;

/// How far the time in a signed request may be from ours (R41).
pub(crate) const WINDOW: Duration = Duration::from_mins(5);

/// A request whose signature held.
#[derive(Debug)]
pub(crate) struct Signed {
    /// The certificate whose key signed. Nothing is said about who holds it unless `device` is there.
    pub(crate) key: Thumbprint,
    /// Names the request; the answer is tied to it.
    pub(crate) message_id: Guid,
    /// The device whose registered key it is.
    pub(crate) device: Option<Device>,
    /// When it was signed, by the sender's clock.
    created: Timestamp,
}

impl Signed {
    /// The client id of the device whose registered key signed.
    pub(crate) fn client(&self) -> Option<ClientId> {
        self.device.as_ref().map(|device| device.id)
    }

    /// Whether it was signed just now, and arrives for the first time. The id is taken only after
    /// the signature has held, so that nobody else can use it up; ids of keys that are nobody's
    /// yet are not kept: what such a key may do has the same effect however often it is done.
    pub(crate) async fn take(&self, context: &Context) -> Result<(), Refusal> {
        let about = |refusal: Refusal| match self.client() {
            Some(client) => refusal.of(client),
            None => refusal,
        };
        let now = context.now();
        if now.distance(self.created) > WINDOW {
            let detail = format!("signed at {}; it is {now}", self.created);
            return Err(about(Refusal::new(Reason::MessageTooOld, detail)));
        }
        let Some(client) = self.client() else { return Ok(()) };
        match context.site.take_message(client, self.message_id).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let detail = format!("the message {} was taken before", self.message_id);
                Err(about(Refusal::new(Reason::MessageRepeated, detail)))
            }
            Err(error) => Err(about(crate::site_error::database(&error))),
        }
    }
}

/// Checks the signature of a request; `None`: it is not signed. One that is signed and does not
/// hold is refused whatever else it carries.
///
/// The key is that of the registered certificate where the request names a device we know, else
/// that of the certificate sent along, of which only possession is then proved.
pub(crate) async fn verify(context: &Context, request: &Request) -> Result<Option<Signed>, Refusal> {
    let generic = generic_reason(request);
    let parsed = SignedRequest::parse(request.method.as_str(), &request.target, |name| request.header(name))
        .map_err(|error| Refusal::caused(generic, &error))?;
    let Some(parsed) = parsed else { return Ok(None) };
    let device = match parsed.client {
        Some(id) => {
            context.site.find_device(id).await.map_err(|error| crate::site_error::database(&error))?
        }
        None => None,
    };
    let certificate = match &device {
        Some(device) if thumbprint(device) != parsed.key => {
            let detail = format!("signed by {}, {} has registered another key", parsed.key, device.id);
            return Err(Refusal::new(generic, detail));
        }
        Some(device) => device.signing_certificate.clone(),
        None => shown_certificate(request, generic)?,
    };
    let bearer = super::token::text(request, generic)?;
    parsed.verify(&certificate, bearer, &request.body).map_err(|error| Refusal::caused(generic, &error))?;
    // A registered key is its device's also where the request names nobody: so its id counts once, too.
    let device = match (device, parsed.client) {
        (None, None) => {
            let found = context.site.find_device_by_key(parsed.key).await;
            found.map_err(|error| crate::site_error::database(&error))?
        }
        (device, _) => device,
    };
    Ok(Some(Signed { key: parsed.key, message_id: parsed.message_id, device, created: parsed.created }))
}

/// What a caller learns whose signature did not hold: the same as for any other failed proof there.
fn generic_reason(request: &Request) -> Reason {
    match Handler::of(request.endpoint).style() {
        Style::TokenService => Reason::StsTokenNotAccepted,
        Style::Message if !request.headers.contains_key("authorization") => Reason::MessageRefused,
        Style::Message | Style::Document => Reason::InsideTokenNotAccepted,
    }
}

fn shown_certificate(request: &Request, generic: Reason) -> Result<Vec<u8>, Refusal> {
    let value = request.header(http_signature::CERTIFICATE).ok_or_else(|| {
        Refusal::new(generic, "signed by an unknown key, and no certificate was sent along")
    })?;
    let chain = http_signature::read_certificates(value).map_err(|error| Refusal::caused(generic, &error))?;
    chain.into_iter().next().ok_or_else(|| Refusal::new(generic, "an empty certificate header"))
}
