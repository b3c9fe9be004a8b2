//! Why a request to the site did not succeed, in the field's words and codes.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use proto::code::{self, Hresult};
use proto::id::RequestId;
use proto::reason::{Action, Reason};
use rustls::CertificateError;

use crate::schedule::Setback;
use crate::trust::Disbelief;

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status; 200 is the empty answer that refuses a signed message.
    pub status: u16,
    /// HTTP/1.1 reason phrase, such as `CMGService_Invalid_Token`.
    pub phrase: String,
    /// The reason code, when one was given.
    pub reason: Option<Reason>,
    /// The request id, when one was given: what an operator traces.
    pub request_id: Option<RequestId>,
    /// Whether the site signed the refusal. One that is not signed may come from anybody on
    /// the way: it is a reason to try again, never a fact about the device.
    pub signed: bool,
    /// How long to wait, when the answer said so.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused with {}", self.status)?;
        if !self.phrase.is_empty() {
            write!(f, " {}", self.phrase)?;
        }
        if let Some(reason) = self.reason {
            write!(f, " ({reason}): {}", reason.row().cause)?;
        }
        Ok(())
    }
}

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The host has no address.
    #[error("the host name of {address} could not be resolved")]
    NameNotResolved {
        /// Whom it was for.
        address: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// Nobody answers there.
    #[error("no connection to {address}")]
    CannotConnect {
        /// Whom it was for.
        address: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// No answer in time.
    #[error("no answer from {address} in time")]
    TimedOut {
        /// Whom it was for.
        address: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// The TLS handshake failed.
    #[error("no trusted connection to {address}: {fault} (12175, ERROR_WINHTTP_SECURE_FAILURE)")]
    Tls {
        /// Whom it was for.
        address: String,
        /// What was wrong, in the field's words.
        fault: TlsFault,
        /// What rustls said.
        source: reqwest::Error,
    },
    /// The connection broke, or what came was no HTTP.
    #[error("the connection to {address} broke")]
    Broken {
        /// Whom it was for.
        address: String,
        /// What the network said.
        source: reqwest::Error,
    },
    /// More than any true answer has.
    #[error("{address} answered with more than {limit} bytes")]
    TooLarge {
        /// Whom it was for.
        address: String,
        /// Bytes that were allowed.
        limit: usize,
    },
    /// The request was refused.
    #[error("{address} {refusal}")]
    Refused {
        /// Who refused, or passed the refusal on.
        address: String,
        /// How.
        refusal: Refusal,
    },
    /// Something answered that is not the site, or not to be told from somebody else.
    #[error("the answer of {address} is not believed")]
    NotBelieved {
        /// Whom it was for.
        address: String,
        /// Why.
        source: Disbelief,
    },
}

impl CallError {
    /// The code that clients of this kind print.
    pub fn hresult(&self) -> Hresult {
        match self {
            Self::NameNotResolved { .. } => code::NAME_NOT_RESOLVED,
            Self::CannotConnect { .. } => code::CANNOT_CONNECT,
            Self::TimedOut { .. } => code::TIMEOUT,
            Self::Tls { .. } => code::SECURE_FAILURE,
            Self::Refused { .. } => code::BAD_HTTP_STATUS,
            Self::Broken { .. } | Self::TooLarge { .. } | Self::NotBelieved { .. } => code::TRANSIENT,
        }
    }

    /// The refusal, if it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// The reason code, when one was given.
    pub fn reason(&self) -> Option<Reason> {
        self.refusal().and_then(|refusal| refusal.reason)
    }

    /// Whether the request may never have reached the site, so that another way is worth a try.
    /// A refusal counts when nobody who knows our reasons made it (the login page of a hotel),
    /// or when the hop that made it had no way on.
    pub fn is_of_the_way(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => {
                !refusal.signed && refusal.reason.is_none_or(|reason| reason.row().action == Action::Retry)
            }
            _ => true,
        }
    }

    /// Whether the same request may succeed a little later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => match refusal.reason {
                // A hop on the way sent it twice and lost the first answer; what is asked again has a new id.
                Some(Reason::MessageRepeated) => true,
                Some(reason) => reason.row().action == Action::Retry,
                None => refusal.status >= 500 || refusal.status == 429,
            },
            Self::NameNotResolved { .. }
            | Self::CannotConnect { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. } => true,
            Self::Tls { .. } | Self::TooLarge { .. } | Self::NotBelieved { .. } => false,
        }
    }

    /// How widely a device must spread its next attempt, where the failure may pass by itself.
    pub fn setback(&self) -> Setback {
        let repeated = self.reason() == Some(Reason::MessageRepeated);
        if repeated || matches!(self, Self::Broken { .. }) {
            // Somebody is there.
            Setback::Broken
        } else {
            Setback::Outage { asked: self.retry_after() }
        }
    }

    /// How long the answer asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal().and_then(|refusal| refusal.retry_after)
    }
}

/// What was wrong in a TLS handshake: the flag that the field's clients log, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    /// The revocation of the certificate could not be judged.
    RevocationUnknown,
    /// The certificate is damaged or unfit.
    InvalidCertificate,
    /// The certificate is revoked.
    Revoked,
    /// The certificate's root is not trusted here.
    InvalidCa,
    /// The certificate is for another name.
    WrongName,
    /// The certificate is past its end, or not valid yet.
    WrongDate,
    /// The certificate is not for servers.
    WrongUsage,
    /// The handshake failed for another reason.
    Channel,
}

impl TlsFault {
    /// Finds the fault in an error and its causes; `None` when TLS had no part in it.
    pub(crate) fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        // At most a handful of layers wrap it; the bound only guards against a circle.
        for _ in 0..16 {
            let error = next?;
            if let Some(fault) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::of(fault));
            }
            // An I/O error hides what it wraps from `source()`.
            next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
                Some(inner) => Some(inner as &(dyn Error + 'static)),
                None => error.source(),
            };
        }
        None
    }

    fn of(error: &rustls::Error) -> Self {
        let rustls::Error::InvalidCertificate(error) = error else { return Self::Channel };
        match error {
            // A root of the same name with another key, as after making a test CA anew, shows as a bad
            // signature: to the device it is a root that it does not trust.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::InvalidCa,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::WrongDate,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::RevocationUnknown,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::WrongUsage
            }
            _ => Self::InvalidCertificate,
        }
    }

    /// The flag's name in the field's logs.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::RevocationUnknown => "WINHTTP_CALLBACK_STATUS_FLAG_CERT_REV_FAILED",
            Self::InvalidCertificate => "WINHTTP_CALLBACK_STATUS_FLAG_INVALID_CERT",
            Self::Revoked => "WINHTTP_CALLBACK_STATUS_FLAG_CERT_REVOKED",
            Self::InvalidCa => "WINHTTP_CALLBACK_STATUS_FLAG_INVALID_CA",
            Self::WrongName => "WINHTTP_CALLBACK_STATUS_FLAG_CERT_CN_INVALID",
            Self::WrongDate => "WINHTTP_CALLBACK_STATUS_FLAG_CERT_DATE_INVALID",
            Self::WrongUsage => "WINHTTP_CALLBACK_STATUS_FLAG_CERT_WRONG_USAGE",
            Self::Channel => "WINHTTP_CALLBACK_STATUS_FLAG_SECURITY_CHANNEL_ERROR",
        }
    }

    /// Its value, the `lpvStatusInformation` of the field's logs.
    pub const fn value(self) -> u32 {
        match self {
            Self::RevocationUnknown => 0x1,
            Self::InvalidCertificate => 0x2,
            Self::Revoked => 0x4,
            Self::InvalidCa => 0x8,
            Self::WrongName => 0x10,
            Self::WrongDate => 0x20,
            Self::WrongUsage => 0x40,
            Self::Channel => 0x8000_0000,
        }
    }

    /// What happened, in one sentence.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::RevocationUnknown => {
                "it could not be found out whether the server's certificate is revoked"
            }
            Self::InvalidCertificate => "the server's certificate is damaged or not acceptable",
            Self::Revoked => "the server's certificate is revoked",
            Self::InvalidCa => "the server's certificate leads to a root that this device does not trust",
            Self::WrongName => "the server's certificate is for another host name",
            Self::WrongDate => {
                "the server's certificate is past its end or not valid yet, or this device's clock is wrong"
            }
            Self::WrongUsage => "the server's certificate is not meant for servers",
            Self::Channel => "the TLS handshake failed; a proxy that opens TLS may stand in between",
        }
    }

    /// What a person does about it.
    pub const fn fix(self) -> &'static str {
        match self {
            Self::InvalidCa => {
                "Install the root certificate on the device, or name it with --ca-file FILE; a gateway of the lab shows its own in the ready file."
            }
            Self::WrongName => {
                "Use the host name that stands in the gateway's certificate, or give the gateway a certificate for this name."
            }
            Self::WrongDate => {
                "Compare the device's clock with the certificate's dates; renew the certificate if it has ended."
            }
            Self::Revoked => "Give the gateway a new certificate.",
            Self::RevocationUnknown | Self::InvalidCertificate | Self::WrongUsage | Self::Channel => {
                "Look at the gateway's certificate and at proxies between the device and it."
            }
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.flag())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: Option<Reason>, status: u16, signed: bool) -> CallError {
        let phrase = String::new();
        let refusal = Refusal { status, phrase, reason, request_id: None, signed, retry_after: None };
        CallError::Refused { address: "gw".into(), refusal }
    }

    #[test]
    fn only_what_the_way_did_sends_a_request_another_way() {
        for (error, elsewhere, transient) in [
            (refused(Some(Reason::NoTunnel), 503, false), true, true),
            (refused(Some(Reason::TokenExpired), 401, false), false, false),
            (refused(Some(Reason::NotApproved), 200, true), false, false),
            (refused(Some(Reason::Busy), 503, true), false, true),
            (refused(Some(Reason::MessageRepeated), 200, true), false, true),
            (refused(None, 403, false), true, false),
            (refused(None, 502, false), true, true),
            (CallError::NotBelieved { address: "mp".into(), source: Disbelief::Unsigned }, true, false),
        ] {
            assert_eq!((error.is_of_the_way(), error.is_transient()), (elsewhere, transient), "{error}");
        }
    }

    #[test]
    fn who_cannot_serve_is_an_outage_for_everybody_and_who_was_there_is_asked_again_soon() {
        let asked = Some(Duration::from_secs(7));
        let mut busy = refused(Some(Reason::Overloaded), 503, false);
        if let CallError::Refused { refusal, .. } = &mut busy {
            refusal.retry_after = asked;
        }
        assert_eq!(busy.setback(), Setback::Outage { asked });
        assert_eq!(refused(None, 502, false).setback(), Setback::Outage { asked: None });
        assert_eq!(refused(Some(Reason::MessageRepeated), 200, true).setback(), Setback::Broken);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_no_outage_and_one_that_cannot_be_made_is() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let request = || reqwest::Client::new().get(format!("http://{address}/")).send();
        let closed_unanswered = async { drop(listener.accept().await) };
        let (answer, ()) = tokio::join!(request(), closed_unanswered);
        let broken = CallError::Broken { address: address.clone(), source: answer.unwrap_err() };
        drop(listener);
        let nobody = request().await.unwrap_err();
        assert!(nobody.is_connect());
        let nobody = CallError::CannotConnect { address: address.clone(), source: nobody };
        assert_eq!((broken.setback(), nobody.setback()), (Setback::Broken, Setback::Outage { asked: None }));
    }

    #[test]
    fn a_tls_fault_is_found_behind_all_that_wraps_it() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let wrapped = std::io::Error::other(std::io::Error::other(inner));
        let fault = TlsFault::find(&wrapped).unwrap();
        assert_eq!((fault.flag(), fault.value()), ("WINHTTP_CALLBACK_STATUS_FLAG_INVALID_CA", 8));
        assert_eq!(TlsFault::find(&std::io::Error::other("no TLS here")), None);
        let other = std::io::Error::other(rustls::Error::DecryptError);
        assert_eq!(TlsFault::find(&other), Some(TlsFault::Channel));
    }

    #[test]
    fn a_refusal_reads_as_the_field_knows_it() {
        let phrase = "CMGService_Invalid_Token".to_owned();
        let reason = Some(Reason::TokenExpired);
        let refusal =
            Refusal { status: 401, phrase, reason, request_id: None, signed: false, retry_after: None };
        assert_eq!(
            refusal.to_string(),
            "refused with 401 CMGService_Invalid_Token (RG-1203): The token has expired."
        );
    }
}
