//! A judgement told: what `roamgate trust check` and `roamgate token check` print, whether the site
//! was asked or files alone.

use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::entra::{EntraError, EntraSubject, EntraToken};
use crate::pki::{Distrust, Trusted};
use crate::reason::Reason;
use crate::time::Timestamp;
use crate::token::{Token, TokenError};

/// Whether something holds, and why not. Members that do not apply are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `trusted` or `refused`.
    pub verdict: Word,
    /// What was judged: a subject, or a kind of token.
    pub kind: String,
    /// Of a certificate its subject, of a token whom it speaks for.
    pub subject: String,
    /// The true cause of a refusal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// The code with which a gateway or the token service would refuse it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What a person does about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fix: Option<String>,
    /// SHA-256 of the certificate whose key must be shown with a token.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bound_to: Option<String>,
    /// Valid from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_before: Option<String>,
    /// Valid until; of a certificate, until when the whole chain and its revocation lists hold.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires: Option<String>,
    /// The moment of judgement.
    pub at: String,
    /// By what it was judged.
    pub by: String,
}

/// The outcome in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// It holds.
    Trusted,
    /// It does not.
    Refused,
}

impl Verdict {
    /// On a client certificate: leaf first, DER.
    pub fn of_certificate(
        chain: &[Vec<u8>],
        judged: Result<Trusted, Distrust>,
        at: Timestamp,
        by: &str,
    ) -> Self {
        let subject = chain
            .first()
            .and_then(|leaf| X509Certificate::from_der(leaf).ok())
            .map_or_else(|| "(cannot be read)".to_owned(), |(_, leaf)| leaf.subject().to_string());
        let verdict = Self::empty("client certificate", subject, at, by);
        match judged {
            Ok(trusted) => Self { expires: Some(trusted.until.iso8601()), ..verdict },
            Err(distrust) => verdict.refused(distrust.to_string(), distrust.gateway_reason()),
        }
    }

    /// On a token of the site's own.
    pub fn of_site_token(judged: Result<Token, TokenError>, at: Timestamp, by: &str) -> Self {
        let verdict = Self::empty("token of the site", String::new(), at, by);
        let token = match judged {
            Ok(token) => token,
            Err(error) => return verdict.refused(error.to_string(), Reason::TokenNotAccepted),
        };
        let verdict = Self {
            kind: format!("token of the site: {}, {}", token.class.pair().0, token.class.pair().1),
            subject: token.device.map_or_else(|| "no device yet".to_owned(), |device| device.to_string()),
            bound_to: token.confirmation.map(|thumbprint| thumbprint.to_string()),
            not_before: Some(token.not_before.iso8601()),
            expires: Some(token.expires.iso8601()),
            ..verdict
        };
        match token.check_time(at) {
            Ok(()) => verdict,
            Err(error @ TokenError::NotYetValid { .. }) => {
                verdict.refused(error.to_string(), Reason::TokenNotYetValid)
            }
            Err(error) => verdict.refused(error.to_string(), Reason::TokenExpired),
        }
    }

    /// On a tenant's token.
    pub fn of_tenant_token(judged: Result<EntraToken, EntraError>, at: Timestamp, by: &str) -> Self {
        let verdict = Self::empty("token of a tenant", String::new(), at, by);
        let told =
            |verdict: Self, error: &EntraError| verdict.refused(error.to_string(), error.reason_at_gateway());
        let token = match judged {
            Ok(token) => token,
            Err(error) => return told(verdict, &error),
        };
        let (kind, subject) = match &token.subject {
            EntraSubject::Device { device } => ("Device", format!("device {device}")),
            EntraSubject::User { user, device, name, .. } => {
                let device = device.map_or_else(String::new, |device| format!(" on device {device}"));
                ("UDA", format!("user {name} ({user}){device}"))
            }
        };
        let verdict = Self {
            kind: format!("token of tenant {}: {kind}", token.tenant),
            subject,
            not_before: Some(token.not_before.iso8601()),
            expires: Some(token.expires.iso8601()),
            ..verdict
        };
        match token.check_time(at) {
            Ok(()) => verdict,
            Err(error) => told(verdict, &error),
        }
    }

    /// Whether it holds.
    pub fn is_trusted(&self) -> bool {
        self.verdict == Word::Trusted
    }

    fn empty(kind: &str, subject: String, at: Timestamp, by: &str) -> Self {
        Self {
            verdict: Word::Trusted,
            kind: kind.to_owned(),
            subject,
            cause: None,
            reason: None,
            fix: None,
            bound_to: None,
            not_before: None,
            expires: None,
            at: at.iso8601(),
            by: by.to_owned(),
        }
    }

    fn refused(self, cause: String, reason: Reason) -> Self {
        let fix = reason.row().fix;
        // Nothing was requested, so there is no request id to look for: the cause stands beside it.
        let fix = if fix.contains("roamgate trace") { fix_without_request(reason) } else { fix };
        Self {
            verdict: Word::Refused,
            cause: Some(cause),
            reason: Some(reason.to_string()),
            fix: Some(fix.to_owned()),
            ..self
        }
    }
}

/// What helps where the table sends people to the trace of a request.
fn fix_without_request(reason: Reason) -> &'static str {
    match reason {
        Reason::CertificateUnknownIssuer => {
            "Add the root and every intermediate of its chain: `roamgate trust add FILE`."
        }
        Reason::CertificateRevoked => "A device that should come back needs a new certificate.",
        Reason::TokenNotAccepted => {
            "A token of another site, of a removed key or changed on its way is of no use: get a new one."
        }
        _ => "The cause says what is wrong with it; whoever issued it can give a new one.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fix_asks_for_the_id_of_a_request_that_was_not_made() {
        for reason in Reason::ALL {
            let verdict = Verdict::empty("x", String::new(), Timestamp::default(), "files");
            let fix = verdict.refused(String::new(), *reason).fix.unwrap_or_default();
            assert!(!fix.is_empty() && !fix.contains("roamgate trace"), "{reason}: {fix}");
        }
    }

    #[test]
    fn a_refusal_says_cause_code_and_fix_and_keeps_what_is_known() {
        let at = Timestamp::from_seconds(1_800_000_000);
        let cause = Distrust::NoCrl { issuer: "CN=Corp Issuing".into() };
        let verdict = Verdict::of_certificate(&[], Err(cause), at, "files");
        assert!(!verdict.is_trusted());
        assert_eq!(verdict.reason.as_deref(), Some("RG-1315"));
        assert_eq!(verdict.cause.as_deref(), Some("there is no revocation list of CN=Corp Issuing"));
        let text = serde_json::to_string(&verdict).unwrap();
        assert!(!text.contains("bound_to"), "{text}");
        assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdict);
    }
}
