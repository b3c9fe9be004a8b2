//! The body of a message: found by the header's ranges, known by its root element.

use crate::limits;
use crate::message::endpoint::{MessageEndpoint, UnknownEndpoint};
use crate::message::header::{ByteRange, Header};
use crate::request::BodyError;
use crate::request::location::LocationRequest;
use crate::request::policy::RequestAssignments;
use crate::request::registration::ClientRegistrationRequest;
use crate::request::report::Report;
use crate::request::status::StatusMessage;
use crate::text::xml::{Element, XmlError};
use crate::text::{self, Utf16Error};

/// Why a body's text was not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyTextError {
    /// No body where the header says, or a header without one.
    #[error("no body")]
    Empty,
    /// Not UTF-16LE.
    #[error("the body is not text")]
    Text(#[source] Utf16Error),
}

/// Why a message's body was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestBodyError {
    /// Addressed to nobody we know.
    #[error("the message is for nobody here")]
    Endpoint(#[source] UnknownEndpoint),
    /// No text.
    #[error("the body cannot be found")]
    Text(#[source] BodyTextError),
    /// The text is not XML that we read.
    #[error("the body is not acceptable XML")]
    Xml(#[source] XmlError),
    /// A body that this endpoint does not take.
    #[error("{endpoint} takes no {what}")]
    Misplaced {
        /// Whom the message is for.
        endpoint: MessageEndpoint,
        /// The body's root element; of a report, its inventory.
        what: String,
    },
    /// A body with a wrong value.
    #[error("the body is not acceptable")]
    Body(#[source] BodyError),
}

/// The body of a request, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestBody {
    /// To `MP_ClientRegistration`.
    Registration(Box<ClientRegistrationRequest>),
    /// To `MP_PolicyManager`.
    Assignments(Box<RequestAssignments>),
    /// To `MP_LocationManager`.
    Location(Box<LocationRequest>),
    /// To the inventory endpoints and `MP_RelayEndpoint`.
    Report(Box<Report>),
    /// To `StatusReceiver`.
    Status(Box<StatusMessage>),
}

/// A message with its payload inflated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainMessage {
    /// The header.
    pub header: Header,
    /// The payload as it was before compression, with what clients put behind the body.
    pub payload: Vec<u8>,
}

impl PlainMessage {
    /// The text that `Body` names, without what stands around it. The range is clipped to the
    /// payload; without a range the whole payload is the body.
    pub fn body_text(&self) -> Result<String, BodyTextError> {
        let whole = ByteRange { offset: 0, length: usize::MAX };
        let text = decode(self.header.body.as_ref().unwrap_or(&whole).clip(&self.payload))?;
        if text.is_empty() { Err(BodyTextError::Empty) } else { Ok(text) }
    }

    /// The report's text by the rule of section 8.1: of all ranges that hold a report, the
    /// one with content, else the one that `Body` names. Ranges that are not text, not XML or
    /// no report are passed over.
    pub fn report_text(&self) -> Result<String, BodyTextError> {
        let body = self.body_text();
        let has_content = |text: &str| {
            Element::parse(text).is_ok_and(|root| {
                root.name() == "Report"
                    && root.child("ReportBody").is_some_and(|body| !body.children().is_empty())
            })
        };
        if body.as_ref().is_ok_and(|text| has_content(text)) {
            return body;
        }
        // Real ranges hardly overlap. Ranges that all name the whole payload would make us
        // read it again for each, so what is read stays within twice the payload.
        let mut budget = self.payload.len().saturating_mul(2);
        self.header
            .attachments
            .iter()
            .take_while(|attachment| {
                let length = attachment.range.clip(&self.payload).len();
                budget.checked_sub(length).map(|left| budget = left).is_some()
            })
            .filter_map(|attachment| decode(attachment.range.clip(&self.payload)).ok())
            .find(|text| has_content(text))
            .map_or(body, Ok)
    }

    /// Reads the body, which must be one that the message's endpoint takes.
    pub fn body(&self) -> Result<RequestBody, RequestBodyError> {
        let endpoint = self.header.endpoint().map_err(RequestBodyError::Endpoint)?;
        let text = if endpoint.accepts("Report") { self.report_text() } else { self.body_text() };
        let text = text.map_err(RequestBodyError::Text)?;
        let root = Element::parse(&text).map_err(RequestBodyError::Xml)?;
        if !endpoint.accepts(root.name()) {
            let what = root.name().chars().take(limits::NAME_CHARS).collect();
            return Err(RequestBodyError::Misplaced { endpoint, what });
        }
        let body = match root.name() {
            "ClientRegistrationRequest" => ClientRegistrationRequest::from_element(&text, &root)
                .map(|b| RequestBody::Registration(Box::new(b))),
            "RequestAssignments" => {
                RequestAssignments::from_element(&root).map(|b| RequestBody::Assignments(Box::new(b)))
            }
            "Report" => {
                let report = Report::from_element(&root).map_err(RequestBodyError::Body)?;
                if !endpoint.accepts_report(report.header.action) {
                    return Err(RequestBodyError::Misplaced {
                        endpoint,
                        what: format!("report of {:?}", report.header.action),
                    });
                }
                Ok(RequestBody::Report(Box::new(report)))
            }
            "Status" => StatusMessage::from_element(&root).map(|b| RequestBody::Status(Box::new(b))),
            _ => LocationRequest::from_element(&root).map(|b| RequestBody::Location(Box::new(b))),
        };
        body.map_err(RequestBodyError::Body)
    }
}

fn decode(bytes: &[u8]) -> Result<String, BodyTextError> {
    text::decode_trimmed(bytes).map_err(BodyTextError::Text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::header::Attachment;

    const EMPTY: &str = "<Report><ReportBody /></Report>";
    const FULL: &str = "<Report><ReportBody><X/></ReportBody></Report>";

    fn message(payload: &[u8], body: Option<ByteRange>, attachments: &[ByteRange]) -> PlainMessage {
        let attachments =
            attachments.iter().map(|range| Attachment { range: *range, typed: false, name: None }).collect();
        PlainMessage { header: Header { body, attachments, ..Header::default() }, payload: payload.to_vec() }
    }

    const fn range(offset: usize, length: usize) -> ByteRange {
        ByteRange { offset, length }
    }

    #[test]
    fn a_body_is_found_with_a_length_that_is_a_little_wrong() {
        let mut payload = text::encode_with_nul("<A/>");
        payload.extend_from_slice(b"\r\n");
        for body in [None, Some(range(0, 8)), Some(range(0, 10)), Some(range(0, 12)), Some(range(0, 9999))] {
            assert_eq!(message(&payload, body, &[]).body_text().as_deref(), Ok("<A/>"), "{body:?}");
        }
        assert_eq!(message(&payload, Some(range(0, 0)), &[]).body_text(), Err(BodyTextError::Empty));
        assert_eq!(message(&payload, Some(range(99, 8)), &[]).body_text(), Err(BodyTextError::Empty));
        assert_eq!(
            message(&payload, Some(range(0, 7)), &[]).body_text(),
            Err(BodyTextError::Text(Utf16Error::OddLength(7)))
        );
    }

    #[test]
    fn the_report_with_content_is_taken_wherever_it_lies() {
        let (empty, full) = (text::encode_with_nul(EMPTY), text::encode_with_bom(FULL));
        let both = [empty.as_slice(), &full].concat();
        let (first, second) = (range(0, empty.len()), range(empty.len(), full.len()));
        let junk = [range(3, 10), range(9999, 9), range(0, both.len())];
        for (body, attachments) in [
            (first, vec![first, second]),
            (second, vec![first]),
            (first, [&junk[..], &[second]].concat()),
            (second, junk.to_vec()),
        ] {
            let message = message(&both, Some(body), &attachments);
            assert_eq!(message.report_text().as_deref(), Ok(FULL), "{body:?} {attachments:?}");
        }
        assert_eq!(message(&both, Some(first), &junk).report_text().as_deref(), Ok(EMPTY));
    }

    #[test]
    fn a_body_in_the_wrong_place_is_refused() {
        let mut message = message(&text::encode_with_nul("<RequestAssignments/>"), None, &[]);
        assert!(matches!(message.body(), Err(RequestBodyError::Endpoint(_))));
        message.header.target_endpoint = "MP_LocationManager".to_owned();
        assert!(matches!(message.body(), Err(RequestBodyError::Misplaced { .. })));
        message.header.target_endpoint = "MP_PolicyManager".to_owned();
        assert!(matches!(message.body(), Err(RequestBodyError::Body(_))));
    }
}
