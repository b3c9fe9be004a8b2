//! What can go wrong while a directory is searched.

use std::time::Duration;

use ldap3::{LdapError, LdapResult};

use crate::outbound::OutboundError;

/// A directory was not searched to the end.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// TLS could not be set up.
    #[error("TLS for the directory cannot be set up")]
    Tls(#[from] OutboundError),
    /// No connection, or it broke.
    #[error("the directory was not reached")]
    Unreachable(#[source] LdapError),
    /// No answer in time.
    #[error("the directory did not answer within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// A password would cross the network in the clear.
    #[error("a password goes over TLS only: use ldaps:// or StartTLS")]
    ClearPassword,
    /// Name or password are wrong, or the account may not sign in.
    #[error("the directory does not accept name and password of {account:?}{reason}")]
    Password {
        /// Who signed in.
        account: String,
        /// What Active Directory says besides; else empty.
        reason: &'static str,
    },
    /// The base of the search is not there.
    #[error("the directory has no entry {base:?}, where the search is to begin")]
    NoBase {
        /// Where the search was to begin.
        base: String,
    },
    /// The base lies elsewhere. Referrals are not followed: nobody named that server.
    #[error("the directory refers to another one for {base:?}; give that one's address")]
    Referral {
        /// Where the search was to begin.
        base: String,
    },
    /// The account may not read what is asked for, or the server limits what it may read.
    #[error("the directory refused the search: {meaning} (result {code}); it is for {account:?}")]
    Refused {
        /// Who signed in; empty: nobody.
        account: String,
        /// The result code.
        code: u32,
        /// What it means.
        meaning: &'static str,
    },
    /// The operator's filter is none.
    #[error("the filter {filter:?} cannot be read")]
    Filter {
        /// The filter.
        filter: String,
    },
    /// What was kept from the last run does not fit: only a full run can be next.
    #[error("the directory has another state than was known; everything is searched anew")]
    Resync,
    /// More entries than a site takes.
    #[error("the directory has more than {0} entries of this kind below the base; narrow the filter")]
    TooMany(usize),
}

impl DirectoryError {
    /// An operation that did not come to a result.
    pub(super) fn of(error: LdapError, time: Duration) -> Self {
        match error {
            LdapError::Timeout { .. } => Self::TimedOut(time),
            other => Self::Unreachable(other),
        }
    }

    /// A search that came to another result than success.
    pub(super) fn of_search(result: &LdapResult, base: &str, account: &str) -> Self {
        let base = base.to_owned();
        match result.rc {
            10 => Self::Referral { base },
            32 => Self::NoBase { base },
            code => Self::Refused { account: account.to_owned(), code, meaning: meaning(code) },
        }
    }
}

/// Result codes of RFC 4511 that occur.
fn meaning(code: u32) -> &'static str {
    match code {
        1 => "operation not allowed now, often because nobody signed in",
        3 => "its time limit was reached",
        4 => "its size limit was reached; it must allow paged results",
        8 | 13 => "it wants a stronger sign-in, or TLS",
        11 => "an administrative limit was reached",
        12 => "it cannot give results by pages",
        50 => "insufficient access rights",
        51 => "it is busy",
        52 => "it is not available",
        53 => "it is not willing",
        _ => "no success",
    }
}

/// What Active Directory adds to "invalid credentials": `… data 532, …`.
pub(super) fn password_reason(diagnostic: &str) -> &'static str {
    let data = diagnostic.split("data ").nth(1).unwrap_or_default();
    match data.split(|c: char| !c.is_ascii_hexdigit()).next().unwrap_or_default() {
        "525" => ": there is no such account",
        "52e" => ": the password is wrong",
        "530" | "531" => ": it may not sign in now, or from here",
        "532" => ": the password has ended",
        "533" => ": the account is disabled",
        "701" => ": the account has ended",
        "773" => ": the password must be changed first",
        "775" => ": the account is locked",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_active_directory_says_about_a_password_is_understood() {
        let text = "80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data 532, v4563";
        assert_eq!(password_reason(text), ": the password has ended");
        assert_eq!(password_reason("data 52e"), ": the password is wrong");
        assert_eq!(password_reason(""), "");
    }
}
