//! From a role's answer to the head that the gateway gets, and refusals of our own.

use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderMap};
use http::{Method, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use proto::header;
use proto::id::RequestId;
use proto::link::AnswerHead;
use proto::reason::{self, Action, REQUEST_ID_HEADER, Reason};
use proto::status::connector_phrase;

use crate::log::StatusLine;

/// Spread of `retry-after` in a refusal of ours: clients of one outage do not come back together, and
/// yet soon, because a role that was restarted is back within seconds.
const RETRY_AFTER: std::ops::Range<u64> = 1..5;

/// Writes the head of a role's answer anew. `body_length` is what HTTP says about this answer's body.
pub(crate) fn from_role<B>(
    answer: &Response<B>,
    method: &Method,
    body_length: Option<u64>,
) -> (AnswerHead, StatusLine) {
    let phrase = phrase(answer);
    let stated = || answer.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    let head = AnswerHead {
        status: answer.status().as_u16(),
        phrase: phrase.clone(),
        headers: outward(answer.headers()),
        // The answer to HEAD states the length of a body that does not come.
        body_length: if *method == Method::HEAD { stated() } else { body_length },
    };
    (head, StatusLine { code: answer.status(), phrase })
}

/// 2xx and 3xx keep the standard phrase; whatever a role refuses is marked as passed on by us.
fn phrase<B>(answer: &Response<B>) -> Option<String> {
    let status = answer.status();
    if status.is_success() || status.is_redirection() {
        return None;
    }
    let own =
        answer.extensions().get::<ReasonPhrase>().and_then(|phrase| str::from_utf8(phrase.as_bytes()).ok());
    Some(connector_phrase(own.or(status.canonical_reason()).unwrap_or_default()))
}

fn outward(headers: &HeaderMap) -> Vec<(String, String)> {
    header::outward()
        .filter_map(|name| {
            let value = headers.get(name)?.to_str().ok()?;
            Some((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// A refusal made here: head and body. `random` spreads `retry-after`.
pub(crate) fn refusal(reason: Reason, request: RequestId, random: u64) -> (AnswerHead, String) {
    let row = reason.row();
    let body = format!("{reason} {}\n", row.cause);
    let mut headers = vec![
        ("content-type".to_owned(), "text/plain".to_owned()),
        (reason::HEADER.to_owned(), reason.to_string()),
        (REQUEST_ID_HEADER.to_owned(), request.to_string()),
    ];
    if row.action == Action::Retry {
        let seconds = RETRY_AFTER.start + random % (RETRY_AFTER.end - RETRY_AFTER.start);
        headers.push(("retry-after".to_owned(), Duration::from_secs(seconds).as_secs().to_string()));
    }
    let head = AnswerHead {
        status: row.status,
        phrase: row.phrase.map(str::to_owned),
        headers,
        body_length: Some(body.len() as u64),
    };
    (head, body)
}

/// The status of a refusal of ours, as types of `http` have it.
pub(crate) fn refusal_status(reason: Reason) -> StatusLine {
    StatusLine {
        code: StatusCode::from_u16(reason.row().status).unwrap_or(StatusCode::BAD_GATEWAY),
        phrase: reason.row().phrase.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use proto::id::Guid;

    use super::*;

    fn role_answer(status: u16, headers: &[(&str, &str)]) -> Response<()> {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(()).unwrap()
    }

    #[test]
    fn a_refusal_of_the_role_is_marked_and_keeps_its_reason() {
        let mut given =
            role_answer(403, &[("roamgate-reason", "RG-4005"), ("set-cookie", "x"), ("server", "y")]);
        given.extensions_mut().insert(ReasonPhrase::from_static(b"Un-authorized request"));
        let (head, line) = from_role(&given, &Method::GET, Some(3));
        assert_eq!(head.phrase.as_deref(), Some("CMGConnector_Un-authorizedrequest"));
        assert_eq!(head.headers, [("roamgate-reason".to_owned(), "RG-4005".to_owned())]);
        assert_eq!(line.to_string(), "HTTP/1.1 403 CMGConnector_Un-authorizedrequest");
    }

    #[test]
    fn success_and_redirection_keep_the_standard_phrase_and_lead_nowhere() {
        for status in [200, 206, 302, 304] {
            let (head, _) =
                from_role(&role_answer(status, &[("location", "http://evil/")]), &Method::GET, None);
            assert_eq!((head.phrase, head.headers), (None, Vec::new()), "{status}");
        }
    }

    #[test]
    fn the_answer_to_head_states_the_length_of_what_does_not_come() {
        let given = role_answer(200, &[("content-length", "17")]);
        assert_eq!(from_role(&given, &Method::HEAD, Some(0)).0.body_length, Some(17));
        assert_eq!(from_role(&given, &Method::GET, Some(17)).0.body_length, Some(17));
    }

    #[test]
    fn a_refusal_of_ours_carries_code_phrase_and_when_to_come_back() {
        let request = RequestId::new(Guid::nil());
        for random in [0, 25, u64::MAX] {
            let (head, body) = refusal(Reason::RoleUnreachable, request, random);
            assert_eq!((head.status, head.phrase.as_deref()), (502, Some("CMGConnector_BadGateway")));
            let value = |name| head.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
            assert_eq!(value("roamgate-reason"), Some("RG-2101"));
            let after: u64 = value("retry-after").unwrap().parse().unwrap();
            assert!((1..5).contains(&after), "{after}");
            assert_eq!(head.body_length, Some(body.len() as u64));
        }
        assert!(!refusal(Reason::NotPublished, request, 1).0.headers.iter().any(|(n, _)| n == "retry-after"));
    }
}
