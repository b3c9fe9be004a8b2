//! From a role's answer to the head that the gateway gets, and refusals of our own.

use http::StatusCode;
use proto::id::RequestId;
use proto::link::{AnswerHead, Headers};
use proto::reason::{self, Action, REQUEST_ID_HEADER, Reason};
use proto::status::connector_phrase;

use crate::log::StatusLine;
use crate::role_client::RoleAnswer;

/// Spread of `retry-after` in a refusal of ours: clients of one outage do not come back together, and
/// yet soon, because a role that was restarted is back within seconds.
const RETRY_AFTER: std::ops::Range<u64> = 1..5;

/// Writes the head of a role's answer anew. `body_length` is what HTTP says about this answer's body;
/// `is_head`: the request's method gives it none.
pub(crate) fn from_role(
    answer: &RoleAnswer,
    body_length: Option<u64>,
    is_head: bool,
) -> (AnswerHead<'_>, StatusLine) {
    let phrase = phrase(answer);
    let head = AnswerHead {
        status: answer.status.as_u16(),
        phrase: phrase.clone().map(Into::into),
        headers: answer.headers().map(|(name, value)| (name.into(), value.into())).collect(),
        // The answer to HEAD states the length of a body that does not come.
        body_length: if is_head { answer.stated } else { body_length },
    };
    (head, StatusLine { code: answer.status, phrase })
}

/// 2xx and 3xx keep the standard phrase; whatever a role refuses is marked as passed on by us.
fn phrase(answer: &RoleAnswer) -> Option<String> {
    if answer.status.is_success() || answer.status.is_redirection() {
        return None;
    }
    let own = Some(answer.phrase()).filter(|phrase| !phrase.is_empty());
    Some(connector_phrase(own.or(answer.status.canonical_reason()).unwrap_or_default()))
}

/// A refusal made here: head and body. `random` spreads `retry-after`.
pub(crate) fn refusal(reason: Reason, request: RequestId, random: u64) -> (AnswerHead<'static>, String) {
    let row = reason.row();
    let body = format!("{reason} {}\n", row.cause);
    let mut headers: Headers<'static> = vec![
        ("content-type".into(), "text/plain".into()),
        (reason::HEADER.into(), reason.to_string().into()),
        (REQUEST_ID_HEADER.into(), request.to_string().into()),
    ];
    if row.action == Action::Retry {
        let seconds = RETRY_AFTER.start + random % (RETRY_AFTER.end - RETRY_AFTER.start);
        headers.push(("retry-after".into(), seconds.to_string().into()));
    }
    let head = AnswerHead {
        status: row.status,
        phrase: row.phrase.map(Into::into),
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

    fn read(text: &str, is_head: bool) -> RoleAnswer {
        RoleAnswer::read(text.as_bytes(), is_head).unwrap()
    }

    #[test]
    fn a_refusal_of_the_role_is_marked_and_keeps_its_reason() {
        let given = read(
            "HTTP/1.1 403 Un-authorized request\r\nroamgate-reason: RG-4005\r\nset-cookie: x\r\nserver: y\r\n\r\n",
            false,
        );
        let (head, line) = from_role(&given, Some(3), false);
        assert_eq!(head.phrase.as_deref(), Some("CMGConnector_Un-authorizedrequest"));
        assert_eq!(head.headers, [("roamgate-reason".into(), "RG-4005".into())]);
        assert_eq!(line.to_string(), "HTTP/1.1 403 CMGConnector_Un-authorizedrequest");
    }

    #[test]
    fn success_and_redirection_keep_the_standard_phrase_and_lead_nowhere() {
        for status in [200, 206, 302, 304] {
            let given = read(&format!("HTTP/1.1 {status} Own\r\nlocation: http://evil/\r\n\r\n"), false);
            let (head, _) = from_role(&given, None, false);
            assert_eq!((head.phrase, head.headers), (None, Headers::new()), "{status}");
        }
    }

    #[test]
    fn the_answer_to_head_states_the_length_of_what_does_not_come() {
        let given = read("HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n", true);
        assert_eq!(from_role(&given, Some(0), true).0.body_length, Some(17));
        assert_eq!(from_role(&given, Some(17), false).0.body_length, Some(17));
    }

    #[test]
    fn a_refusal_of_ours_carries_code_phrase_and_when_to_come_back() {
        let request = RequestId::new(Guid::nil());
        for random in [0, 25, u64::MAX] {
            let (head, body) = refusal(Reason::RoleUnreachable, request, random);
            assert_eq!((head.status, head.phrase.as_deref()), (502, Some("CMGConnector_BadGateway")));
            let value = |name| head.headers.iter().find(|(n, _)| n == name).map(|(_, v)| &**v);
            assert_eq!(value("roamgate-reason"), Some("RG-2101"));
            let after: u64 = value("retry-after").unwrap().parse().unwrap();
            assert!((1..5).contains(&after), "{after}");
            assert_eq!(head.body_length, Some(body.len() as u64));
        }
        assert!(!refusal(Reason::NotPublished, request, 1).0.headers.iter().any(|(n, _)| n == "retry-after"));
    }
}
