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

/// How far the time in a signed request may be from ours without a word about it (R41). Beyond it
/// and within the site's setting it is taken, too, and the device's record says how far it is off.
pub(crate) const WINDOW: Duration = Duration::from_mins(5);

/// A request whose signature held.
#[derive(Debug)]
pub(crate) struct Signed {
    /// The certificate whose key signed. Nothing is said about who holds it unless `device` is there.
    pub(crate) key: Thumbprint,
    /// The same certificate, DER.
    pub(crate) certificate: Vec<u8>,
    /// Names the request; the answer is tied to it.
    pub(crate) message_id: Guid,
    /// The device whose registered key it is.
    pub(crate) device: Option<Device>,
    /// Whether `device` is all there is to know: nobody's key, where it is `None`.
    pub(crate) is_key_sought: bool,
    /// When it was signed, by the sender's clock.
    created: Timestamp,
}

impl Signed {
    /// The client id of the device whose registered key signed.
    pub(crate) fn client(&self) -> Option<ClientId> {
        self.device.as_ref().map(|device| device.id)
    }

    /// When it was signed, by the sender's clock.
    pub(crate) fn created(&self) -> Timestamp {
        self.created
    }

    /// The sender's clock minus ours in milliseconds, the time on the way included.
    pub(crate) fn skew_ms(&self, now: Timestamp) -> i64 {
        self.created.micros().saturating_sub(now.micros()) / 1000
    }

    /// The id of a message that may make its key known, which the registration must take: sent once more,
    /// the message would be that device's, and undo what the device has registered since (R41).
    pub(crate) fn id_to_keep(&self) -> Option<Guid> {
        self.device.is_none().then_some(self.message_id)
    }

    /// Whether it was signed just now, by a clock that is off by no more than the site tolerates, and
    /// arrives for the first time. The id is taken only after the signature has held, so that nobody
    /// else can use it up; ids of keys that are nobody's yet are not kept: what such a key may do has
    /// the same effect however often it is done, but for the registration, see [`Signed::id_to_keep`].
    pub(crate) async fn take(&self, context: &Context) -> Result<(), Refusal> {
        let about = |refusal: Refusal| {
            let refusal = refusal.by(self.key);
            match self.client() {
                Some(client) => refusal.of(client),
                None => refusal,
            }
        };
        let now = context.now();
        let tolerated = context.site.settings().clock_skew_limit.max(WINDOW);
        if now.distance(self.created) > tolerated {
            let skewed = clock_text(self.skew_ms(now));
            let detail = format!("{skewed}: it signed at {}, and it is {now}", self.created);
            return Err(about(Refusal::new(Reason::ClockSkewed, detail).telling(&skewed)));
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
    parsed
        .verify(&certificate, bearer, &request.body.bytes)
        .map_err(|error| Refusal::caused(generic, &error))?;
    let is_key_sought = device.is_some() || parsed.client.is_none();
    // A registered key is its device's also where the request names nobody: so its id counts once, too.
    let device = match (device, parsed.client) {
        (None, None) => {
            let found = context.site.find_device_by_key(parsed.key).await;
            found.map_err(|error| crate::site_error::database(&error))?
        }
        (device, _) => device,
    };
    Ok(Some(Signed {
        key: parsed.key,
        certificate,
        message_id: parsed.message_id,
        device,
        is_key_sought,
        created: parsed.created,
    }))
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

/// "this device's clock is 9 minutes slow", for a skew of a minute or more.
fn clock_text(skew_ms: i64) -> String {
    let minutes = skew_ms.unsigned_abs() / 60_000;
    let (count, unit) = match minutes {
        0..=119 => (minutes, "minute"),
        120..=2879 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    let way = if skew_ms < 0 { "slow" } else { "fast" };
    format!("this device's clock is {count} {unit}{plural} {way}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_named_as_people_say_it() {
        for (seconds, text) in [
            (-540, "this device's clock is 9 minutes slow"),
            (60, "this device's clock is 1 minute fast"),
            (-7200, "this device's clock is 2 hours slow"),
            (172_800, "this device's clock is 2 days fast"),
        ] {
            assert_eq!(clock_text(seconds * 1000), text);
        }
    }
}
