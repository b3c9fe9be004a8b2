//! `roamgate explain`: what a code means, why it happens and what to do.

use std::fmt::Write as _;

use client::failure::TlsFault;
use proto::code::{self, Hresult};
use proto::reason::Reason;
use proto::status;
use serde_json::{Value, json};

/// What is known about one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// The code or status text that was recognised.
    pub(crate) signature: String,
    /// Which part of the way says so.
    pub(crate) hop: String,
    /// Why it happens.
    pub(crate) cause: String,
    /// What a person does.
    pub(crate) fix: String,
    /// What the client does by itself.
    pub(crate) action: Option<String>,
}

impl Explanation {
    /// For scripts.
    pub(crate) fn to_json(&self) -> Value {
        json!({"signature": self.signature, "hop": self.hop, "cause": self.cause, "fix": self.fix, "action": self.action})
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!(
            "{}\n  Where  {}\n  Cause  {}\n  Fix    {}",
            self.signature, self.hop, self.cause, self.fix
        );
        if let Some(action) = &self.action {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n  Client {action}");
        }
        text
    }
}

/// A status text of the field, or an HRESULT, that is not one of our own reasons.
struct Known {
    signature: &'static str,
    hop: &'static str,
    cause: &'static str,
    fix: &'static str,
}

const fn known(signature: &'static str, hop: &'static str, cause: &'static str, fix: &'static str) -> Known {
    Known { signature, hop, cause, fix }
}

/// Texts that stand for one thing wherever they are found: those of our own refusals that are not
/// in [`STATUS_TEXTS`], and the token service's.
const TEXTS: &[Known] = &[
    known(
        "CMGConnector_NotFound",
        "connection point",
        "The connection point did not forward the request: no role published what it asks for.",
        "Compare the versions of site and gateway in `roamgate gateway list`, and the address with `roamgate role list`.",
    ),
    known(
        "CMGConnector_BadGateway",
        "connection point",
        "The connection point could not reach the management point, or what answered there is none.",
        "Check the internal URL (`roamgate role list`), the management point and the network between them.",
    ),
    known(
        "CMGConnector_GatewayTimeout",
        "connection point",
        "The management point took the request and did not answer in time.",
        "Look at the load of the management point and its database.",
    ),
    known(
        "IDX10223",
        "token service (CCM_STS)",
        "The token that was to be exchanged has expired; ValidTo in the same line says when.",
        "A bulk registration token: make a new one with `roamgate bulk-token new`. A self-prove token: the device renews it by itself while its key is within the recovery window.",
    ),
];

/// Flags of a failed TLS handshake, as clients log them.
const TLS_FAULTS: [TlsFault; 8] = [
    TlsFault::RevocationUnknown,
    TlsFault::InvalidCertificate,
    TlsFault::Revoked,
    TlsFault::InvalidCa,
    TlsFault::WrongName,
    TlsFault::WrongDate,
    TlsFault::WrongUsage,
    TlsFault::Channel,
];

/// Status texts. The gateway's are also answered by the reasons that carry them.
const STATUS_TEXTS: &[Known] = &[
    Known {
        signature: status::INVALID_TOKEN,
        hop: "gateway",
        cause: "The gateway did not accept the token: missing, altered, expired, made by another site, or shown without the key that it is bound to.",
        fix: "Read the header roamgate-reason of the same answer and explain that code. Expired bulk token: make a new one. A device that was silent for 90 days comes back by its registered key within the recovery window.",
    },
    Known {
        signature: status::INVALID_CLIENT_CERTIFICATE,
        hop: "gateway",
        cause: "The MutualAuth door got neither a token nor a client certificate that the site trusts.",
        fix: "Give the device a bulk registration token or a certificate of a trusted authority, with its whole chain.",
    },
    Known {
        signature: status::CONNECTOR_UNAUTHORIZED,
        hop: "management point, passed on by the connection point",
        cause: "The management point or its token service answered 401.",
        fix: "Look for the request id in CCM_STS.log and MP_RegistrationManager.log; a proxy or redirect in front of the management point answers so too.",
    },
    Known {
        signature: status::CONNECTOR_CERTIFICATE_REQUIRED,
        hop: "management point, passed on by the connection point",
        cause: "An HTTPS management point wants a client certificate that the connection point does not have.",
        fix: "Give the connection point a client certificate, or run the management point in HTTP or enhanced HTTP mode.",
    },
    Known {
        signature: status::CONNECTOR_FORBIDDEN,
        hop: "management point, passed on by the connection point",
        cause: "The management point answered 403: the token does not open this endpoint, the policy is not the device's, or the device is blocked.",
        fix: "Read the header roamgate-reason of the same answer and explain that code. Against the product that Roamgate replaces: look for a wrong certificate on port 443 of the management point.",
    },
    Known {
        signature: status::CONNECTOR_UNAUTHORIZED_REQUEST,
        hop: "token service, passed on by the connection point",
        cause: "The token service refused the identity, for instance a user that only one of the two discoveries knows.",
        fix: "See CCM_STS.log; run both discoveries in full.",
    },
    Known {
        signature: status::CONNECTOR_INTERNAL_SERVER_ERROR,
        hop: "management point, passed on by the connection point",
        cause: "The management point or its token service failed.",
        fix: "The log of the management point has the whole cause under the request id.",
    },
];

fn hresults() -> [(Hresult, Known); 7] {
    let known = |signature, cause, fix| Known { signature, hop: "client", cause, fix };
    [
        (
            code::TRANSIENT,
            known(
                "transient error",
                "The client could not get through: no usable path or identity, a block on the way, or nobody answered.",
                "Read the lines before it in CcmMessaging.log. A URL with http:// or an empty host means that the client knows no management point; check CCMHOSTNAME.",
            ),
        ),
        (
            code::BAD_HTTP_STATUS,
            known(
                "CCM_E_BAD_HTTP_STATUS_CODE",
                "The server refused with an HTTP status.",
                "Read StatusCode and StatusText in the line beside it and explain the text. With /regtoken and /mp together: drop /mp and rely on CCMHOSTNAME.",
            ),
        ),
        (
            code::NO_CLIENT_CERTIFICATE,
            known(
                "CCM_E_NO_CLIENT_PKI_CERT",
                "The client must use HTTPS and has neither a certificate nor a token.",
                "Give it one: register with a bulk token, join Entra, or enrol a certificate.",
            ),
        ),
        (
            code::SECURE_FAILURE,
            known(
                "ERROR_WINHTTP_SECURE_FAILURE",
                "The client did not accept the server's certificate.",
                "Read the flags logged below it: CERT_REV_FAILED (revocation list not reachable), INVALID_CA (root missing on the device), CERT_CN_INVALID (name differs, or TLS is inspected in between).",
            ),
        ),
        (
            code::NAME_NOT_RESOLVED,
            known(
                "name not resolved",
                "The client could not resolve the name of the gateway or management point.",
                "Check the public CNAME, and the resolver that the device uses.",
            ),
        ),
        (
            code::CANNOT_CONNECT,
            known(
                "cannot connect",
                "Nothing accepts connections at the address, or a firewall refuses them.",
                "Check address and port, and whether the gateway is running.",
            ),
        ),
        (
            code::TIMEOUT,
            known(
                "timed out",
                "The server did not answer in time.",
                "Check the way to it; look for the request id at the gateway if there is one.",
            ),
        ),
    ]
}

/// Everything in the text that is known, in the order of the table; empty: the text is unknown.
pub(crate) fn explain(text: &str) -> Vec<Explanation> {
    let lower = text.to_ascii_lowercase();
    let mut found: Vec<(usize, Explanation)> = Vec::new();
    for reason in Reason::ALL {
        if let Some(at) = lower.find(&reason.to_string().to_ascii_lowercase()) {
            found.push((at, of_reason(*reason)));
        }
    }
    for known in STATUS_TEXTS.iter().chain(TEXTS) {
        if let Some(at) = lower.find(&known.signature.to_ascii_lowercase()) {
            found.push((at, of_known(known.signature.to_owned(), known)));
        }
    }
    for fault in TLS_FAULTS {
        if let Some(at) = find_flag(&lower, &fault.flag().to_ascii_lowercase()) {
            found.push((at, of_tls(fault)));
        }
    }
    for (code, known) in hresults() {
        let number = code.to_string();
        if let Some(at) = find_hresult(&lower, code, known.signature) {
            found.push((at, of_known(format!("{number} {}", known.signature), &known)));
        }
    }
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, explanation)| explanation).collect()
}

/// Where a text names a flag: in full, or as people shorten it, `INVALID_CA`, as a word of its own.
fn find_flag(lower: &str, flag: &str) -> Option<usize> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    lower.find(flag).or_else(|| {
        let short = flag.strip_prefix("winhttp_callback_status_flag_")?;
        let alone = |at: &usize| {
            let before = lower[..*at].chars().next_back();
            let behind = lower[at + short.len()..].chars().next();
            !before.is_some_and(is_part) && !behind.is_some_and(is_part)
        };
        lower.match_indices(short).map(|(at, _)| at).find(alone)
    })
}

/// Where a text names an HRESULT: by its number in hexadecimal or signed decimal, by its constant, or
/// by the Windows error in it, which counts only where it must be one (`Code=12175`, or alone).
fn find_hresult(lower: &str, code: Hresult, signature: &str) -> Option<usize> {
    let constant = ["CCM_E_", "ERROR_"].iter().any(|prefix| signature.starts_with(prefix));
    let by_name = || constant.then(|| lower.find(&signature.to_ascii_lowercase())).flatten();
    let by_windows_error = || {
        let error = (code.0 >> 16 == 0x8007).then(|| (code.0 & 0xffff).to_string())?;
        if lower.trim() == error {
            return Some(0);
        }
        ["code=", "("].iter().find_map(|before| {
            let at = lower.find(&format!("{before}{error}"))?;
            let behind = lower[at + before.len() + error.len()..].chars().next();
            (!behind.is_some_and(|c| c.is_ascii_digit())).then_some(at)
        })
    };
    lower
        .find(&code.to_string())
        .or_else(|| lower.find(&code.0.cast_signed().to_string()))
        .or_else(by_name)
        .or_else(by_windows_error)
}

fn of_tls(fault: TlsFault) -> Explanation {
    let mut cause: String = fault.cause().to_owned();
    if let Some(first) = cause.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    Explanation {
        signature: fault.flag().to_owned(),
        hop: "client".to_owned(),
        cause: cause + ".",
        fix: fault.fix().to_owned(),
        action: None,
    }
}

/// One of our own reasons.
pub(crate) fn of_reason(reason: Reason) -> Explanation {
    let row = reason.row();
    let phrase = row.phrase.map(|phrase| format!(" {phrase}")).unwrap_or_default();
    Explanation {
        signature: format!("{reason} (HTTP {}{phrase})", row.status),
        hop: row.hop.to_string(),
        cause: row.cause.to_owned(),
        fix: row.fix.to_owned(),
        action: Some(row.action.to_string()),
    }
}

fn of_known(signature: String, known: &Known) -> Explanation {
    Explanation {
        signature,
        hop: known.hop.to_owned(),
        cause: known.cause.to_owned(),
        fix: known.fix.to_owned(),
        action: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_line_is_explained_by_every_text_in_it() {
        let line = "[CCMHTTP] ERROR INFO: StatusCode=401 StatusText=CMGService_Invalid_Token\n\
                    Post to https://cmg/ccm_system/request failed with 0x87D00231.";
        let found = explain(line);
        let signatures: Vec<_> = found.iter().map(|e| e.signature.as_str()).collect();
        assert_eq!(signatures, ["CMGService_Invalid_Token", "0x87d00231 transient error"]);
    }

    #[test]
    fn every_reason_explains_itself_and_no_two_answers_are_the_same() {
        let mut answers = std::collections::HashSet::new();
        for reason in Reason::ALL {
            let found = explain(&reason.to_string().to_lowercase());
            assert_eq!(found, vec![of_reason(*reason)]);
            assert!(answers.insert(found[0].to_text()));
        }
    }

    #[test]
    fn every_status_text_of_a_refusal_is_known() {
        for phrase in Reason::ALL.iter().filter_map(|reason| reason.row().phrase) {
            // A management point's own phrase reaches a device as the connection point passes it on.
            let told = match phrase.strip_prefix("CMG") {
                Some(_) => phrase.to_owned(),
                None => status::connector_phrase(phrase),
            };
            assert!(explain(&told).iter().any(|found| found.signature == told), "{told}");
        }
    }

    #[test]
    fn a_code_is_known_in_each_of_its_spellings() {
        for text in ["0x80072F8F", "-2147012721", "12175", "Code=12175,", "ERROR_WINHTTP_SECURE_FAILURE"] {
            let found = explain(text);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(found[0].signature, "0x80072f8f ERROR_WINHTTP_SECURE_FAILURE", "{text}");
        }
        let flag = explain("WINHTTP_CALLBACK_STATUS_FLAG_INVALID_CA");
        assert!(flag[0].fix.contains("--ca-file"), "{}", flag[0].fix);
        assert_eq!(explain("(INVALID_CA)"), flag);
        assert_eq!(explain("cert_rev_failed")[0].signature, "WINHTTP_CALLBACK_STATUS_FLAG_CERT_REV_FAILED");
        assert!(explain("INVALID_CALL").is_empty());
    }

    #[test]
    fn an_unknown_text_is_unknown() {
        for text in [
            "all is well",
            "ERROR: Cannot connect to the inbox source, sleep 30 seconds and try again.",
            "ResponseSize: 12175 Bytes",
            "Code=121750",
        ] {
            assert!(explain(text).is_empty(), "{text}");
        }
    }
}
