//! What goes back: an answer, or a refusal that becomes one.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use proto::id::{ClientId, Thumbprint};
use proto::message::envelope;
use proto::reason::{Hop, Reason};
use runtime::telemetry::Chain;

/// Longest detail that a log line or event keeps, in characters.
const DETAIL_CHARS: usize = 300;

/// What goes back over HTTP, before it is signed.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// HTTP/1.1 reason phrase where it is not the standard one.
    pub(crate) phrase: Option<&'static str>,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: Bytes,
    /// Why it is a refusal, if it is one.
    pub(crate) reason: Option<Reason>,
    /// When to ask again, where that is known; else busy answers name a time of their own.
    pub(crate) wait: Option<Duration>,
}

impl Answer {
    /// 200 and nothing: an asynchronous message was taken (protocol reference 1.3).
    pub(crate) fn taken() -> Self {
        Self::ok(None, Bytes::new())
    }

    /// 200 with an XML document.
    pub(crate) fn xml(body: impl Into<Bytes>) -> Self {
        Self::ok(Some("text/xml"), body.into())
    }

    /// 200 with a reply message.
    pub(crate) fn message(envelope: Vec<u8>) -> Self {
        Self::ok(Some(envelope::CONTENT_TYPE), envelope.into())
    }

    /// 200 with a JSON document.
    pub(crate) fn json(body: String) -> Self {
        Self::ok(Some("application/json"), body.into())
    }

    fn ok(content_type: Option<&'static str>, body: Bytes) -> Self {
        Self { status: StatusCode::OK, phrase: None, content_type, body, reason: None, wait: None }
    }
}

/// In which way a refusal is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Clients of messages read an empty 200 as "refused" [clients].
    Message,
    /// Clients of policy bodies look for a body that begins `<HTML>` [clients]; an empty 200
    /// would be taken for a document.
    Document,
    /// The token service: status and phrase are what the connection point passes on [docs].
    TokenService,
}

/// A request that is refused: what the caller is told, and what only the operator is.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// The code that the caller sees.
    pub(crate) reason: Reason,
    /// The exact cause: for the log and `roamgate trace`, never for the caller.
    pub(crate) detail: String,
    /// One line for the caller besides the code. Only for one that has proved its key.
    pub(crate) told: Option<String>,
    /// The device, where one proved itself.
    pub(crate) device: Option<ClientId>,
    /// The key that the caller proved, where that is all that is known of it.
    pub(crate) key: Option<Thumbprint>,
    /// When to ask again, where that is known.
    pub(crate) wait: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: line(&detail.into()), told: None, device: None, key: None, wait: None }
    }

    /// A refusal with the whole chain of causes as its detail.
    pub(crate) fn caused(reason: Reason, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(reason, Chain(error).to_string())
    }

    #[must_use]
    pub(crate) fn of(self, device: ClientId) -> Self {
        Self { device: Some(device), ..self }
    }

    #[must_use]
    pub(crate) fn by(self, key: Thumbprint) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Tells the caller when to ask again.
    #[must_use]
    pub(crate) fn after(self, wait: Duration) -> Self {
        Self { wait: Some(wait), ..self }
    }

    /// Tells the caller this much besides the code.
    #[must_use]
    pub(crate) fn telling(self, told: &str) -> Self {
        Self { told: Some(line(told)), ..self }
    }

    /// The answer that tells it in this way.
    pub(crate) fn answer(&self, style: Style) -> Answer {
        let row = self.reason.row();
        let status = match (style, row.status) {
            (Style::Document | Style::TokenService, 200) => 403,
            (_, status) => status,
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let told = self
            .told
            .as_ref()
            .map_or_else(|| self.reason.to_string(), |told| format!("{}: {told}", self.reason));
        let body = match style {
            // An empty 200 is the refusal itself.
            Style::Message if status.is_success() => String::new(),
            Style::Document if status == StatusCode::FORBIDDEN => {
                format!("<HTML><HEAD><TITLE>Forbidden</TITLE></HEAD><BODY>{}</BODY></HTML>", self.reason)
            }
            _ => format!("{told}\n"),
        };
        let content_type = match body.as_bytes() {
            [] => None,
            [b'<', ..] => Some("text/html"),
            _ => Some("text/plain"),
        };
        Answer {
            status,
            phrase: self.phrase(style),
            content_type,
            body: body.into(),
            reason: Some(self.reason),
            wait: self.wait,
        }
    }

    /// The phrase that connection points pass on [docs]. Gateways' and connection points' phrases
    /// are not ours to say.
    fn phrase(&self, style: Style) -> Option<&'static str> {
        let row = self.reason.row();
        match row.hop {
            Hop::ManagementPoint | Hop::TokenService | Hop::Site if row.phrase.is_some() => row.phrase,
            // What the field's token service says of somebody that the site does not know.
            _ if style == Style::TokenService && self.reason == Reason::StsUnknownDevice => {
                Some("Un-authorized request")
            }
            _ => None,
        }
    }
}

/// One bounded line of what a stranger may have written.
fn line(text: &str) -> String {
    text.chars().map(printable).take(DETAIL_CHARS).collect()
}

fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_message_is_an_empty_200_and_a_refused_document_a_page() {
        let refusal = Refusal::new(Reason::Blocked, "the device is blocked");
        let message = refusal.answer(Style::Message);
        assert_eq!((message.status.as_u16(), message.body.len(), message.content_type), (200, 0, None));
        let document = refusal.answer(Style::Document);
        assert_eq!((document.status.as_u16(), document.content_type), (403, Some("text/html")));
        assert!(document.body.starts_with(b"<HTML>") && message.reason == Some(Reason::Blocked));
    }

    #[test]
    fn the_cause_is_never_in_the_answer() {
        for reason in Reason::ALL {
            for style in [Style::Message, Style::Document, Style::TokenService] {
                let answer = Refusal::new(*reason, "thumbprint 1234").answer(style);
                assert!(!String::from_utf8_lossy(&answer.body).contains("1234"), "{reason}");
            }
        }
    }

    #[test]
    fn what_a_stranger_wrote_stays_one_bounded_line() {
        let refusal = Refusal::new(Reason::NotAMessage, format!("a\r\nb{}", "x".repeat(1000)));
        assert!(refusal.detail.starts_with("a  b") && refusal.detail.chars().count() == 300);
    }
}
