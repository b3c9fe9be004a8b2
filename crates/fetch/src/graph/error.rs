//! What can go wrong while users and devices of a tenant are listed.

use std::time::Duration;

use crate::openid::OpenIdError;
use crate::outbound::FetchError;

/// The app that discovers users was not let in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Where it signs in is not known.
    #[error("where the discovery app signs in is not known")]
    Document(#[from] OpenIdError),
    /// The authority names no token endpoint, or one that is not asked over TLS.
    #[error("the authority names no address for tokens over TLS")]
    NoEndpoint,
    /// No answer.
    #[error("no answer to the sign-in of the discovery app")]
    Fetch(#[source] FetchError),
    /// Refused, with the provider's number for it.
    #[error("sign-in of the discovery app refused: {error}{}{}", number(*.code), meaning(*.code))]
    Refused {
        /// RFC 6749's name for it, at most 60 characters.
        error: String,
        /// Entra's number (`AADSTS…`); 0 where the provider has none.
        code: u64,
    },
    /// Granted, and no token in it.
    #[error("the answer to the sign-in of the discovery app holds no bearer token")]
    NoToken,
}

fn number(code: u64) -> String {
    if code == 0 { String::new() } else { format!(" (AADSTS{code})") }
}

/// What to do about the refusals that occur in practice.
fn meaning(code: u64) -> &'static str {
    match code {
        7_000_215 => ": the secret is wrong; give the secret's value, not its id",
        7_000_222 => ": the secret has ended; make a new one and set it with `roamgate tenant`",
        700_016 => ": the tenant has no such app; check app id and tenant",
        90_002 => ": there is no such tenant; check the authority",
        53_003 => ": a conditional-access policy is in the way; exclude the app from it",
        _ => "",
    }
}

/// A list was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// The app was not let in.
    #[error("not signed in")]
    SignIn(#[from] SignInError),
    /// No answer.
    #[error("{what} not listed")]
    Fetch {
        /// Users or devices.
        what: &'static str,
        /// Why.
        source: FetchError,
    },
    /// The app may not read this.
    #[error(
        "consent missing: the discovery app needs the application permission {permission} with an \
         administrator's consent to list {what}"
    )]
    Consent {
        /// Users or devices.
        what: &'static str,
        /// The least permission that is enough, and the usual one.
        permission: &'static str,
    },
    /// The service asks to wait longer than a run waits.
    #[error("{what} not listed: the service asks to wait {} seconds", .wait.as_secs())]
    Throttled {
        /// Users or devices.
        what: &'static str,
        /// How long.
        wait: Duration,
    },
    /// What a link refers to is forgotten: only a full run can be next.
    #[error("the service has forgotten what was known; everything is listed anew")]
    Resync,
    /// The token is refused although it is fresh.
    #[error("the service does not accept the discovery app's token; check the Graph address")]
    Token,
    /// Refused in another way.
    #[error("{what} not listed: the service answered {status} {code}")]
    Refused {
        /// Users or devices.
        what: &'static str,
        /// The status.
        status: u16,
        /// Its own name for it, at most 60 characters.
        code: String,
    },
    /// Not a page of a list.
    #[error("{what} not listed: the answer is no page of a list")]
    NotAPage {
        /// Users or devices.
        what: &'static str,
    },
    /// A link leads away from the service, to where the token must not go.
    #[error("{what} not listed: a link leads away from the service")]
    ForeignLink {
        /// Users or devices.
        what: &'static str,
    },
    /// More pages than any tenant fills.
    #[error("{what} not listed: the list has no end")]
    Endless {
        /// Users or devices.
        what: &'static str,
    },
}

impl GraphError {
    /// How long the service asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { wait, .. } => Some(*wait),
            _ => None,
        }
    }
}
