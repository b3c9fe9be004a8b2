//! How this management point serves right now: what its role at the site says.

use std::sync::{Arc, PoisonError, RwLock};

use proto::combination::Mode;
use site::Role;

use crate::config::{HTTPS_PORT, host_of};

/// How it serves. Read anew for every request, so that a change counts from the next one on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Manner {
    /// The role's name, once it is known.
    pub(crate) role: Option<String>,
    /// How it speaks to clients.
    pub(crate) mode: Mode,
    /// Whether everybody must show a trusted certificate (mode `https` only).
    pub(crate) demand_client_certificate: bool,
    /// `host[:port]` under which HTTPS is reached.
    pub(crate) https_name: String,
    /// The role's host in its internal URL: connection points ask for it.
    pub(crate) internal_host: Option<String>,
}

impl Manner {
    /// `SSLState` in lists of management points. 0 is HTTP, anything else HTTPS [talk]. In enhanced
    /// HTTP clients inside go on by HTTP, so that state stays 0 and the port of HTTPS is told apart.
    /// The flags: enabled 1, required 2, client certificates taken 4, demanded 8 [sdk-meta].
    pub(crate) fn ssl_state(&self) -> u32 {
        match (self.mode, self.demand_client_certificate) {
            (Mode::Http | Mode::Ehttp, _) => 0,
            (Mode::Https, false) => 1 | 2 | 4,
            (Mode::Https, true) => 1 | 2 | 4 | 8,
        }
    }

    /// The port of HTTPS, as site information tells it; 443 where HTTPS is not served.
    pub(crate) fn https_port(&self) -> u16 {
        let port = self.https_name.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.filter(|_| self.has_https()).unwrap_or(HTTPS_PORT)
    }

    /// Whether HTTPS is served at all.
    pub(crate) fn has_https(&self) -> bool {
        self.mode != Mode::Http
    }
}

/// The manner, shared and exchanged whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners(Arc<RwLock<Arc<Manner>>>);

impl Manners {
    pub(crate) fn current(&self) -> Arc<Manner> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, manner: Manner) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(manner);
    }
}

/// Why it is not known which role this is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRole {
    /// The configuration names one that is not there.
    #[error("the site has no role {0:?}, which the configuration names")]
    Unknown(String),
    /// None is there at all.
    #[error("the site has no role yet: `roamgate role add`")]
    None,
    /// Several, and none leads here.
    #[error("none of the site's roles leads here: name one in the configuration (`role`)")]
    Ambiguous,
}

/// Finds the role of this management point: by its configured name, as the only one, or as the one
/// whose internal URL has one of our hosts and ports.
pub(crate) fn find_role<'r>(
    roles: &'r [Role],
    wanted: Option<&str>,
    authorities: &[String],
) -> Result<&'r Role, NoRole> {
    if let Some(wanted) = wanted {
        let found = roles.iter().find(|role| role.name == wanted);
        return found.ok_or_else(|| NoRole::Unknown(wanted.to_owned()));
    }
    match roles {
        [] => Err(NoRole::None),
        [only] => Ok(only),
        several => {
            let leads_here = |role: &&Role| {
                authority(&role.internal_url)
                    .is_some_and(|at| authorities.iter().any(|ours| ours.eq_ignore_ascii_case(&at)))
            };
            several.iter().find(leads_here).ok_or(NoRole::Ambiguous)
        }
    }
}

/// `host:port` of a base URL, the port always written.
pub(crate) fn authority(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next().unwrap_or(rest);
    let default = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    if has_port { Some(authority.to_owned()) } else { Some(format!("{authority}:{default}")) }
}

/// The host of a base URL, without brackets.
pub(crate) fn url_host(url: &str) -> Option<String> {
    authority(url).map(|authority| host_of(&authority).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_always_has_its_port() {
        for (url, at) in [
            ("https://mp.example.org", "mp.example.org:443"),
            ("http://mp.example.org/", "mp.example.org:80"),
            ("https://[::1]:8443", "[::1]:8443"),
            ("https://[2001:db8::1]", "[2001:db8::1]:443"),
        ] {
            assert_eq!(authority(url).as_deref(), Some(at), "{url}");
        }
        assert_eq!(authority("mp.example.org"), None);
        assert_eq!(url_host("https://[::1]:8443").as_deref(), Some("::1"));
    }

    #[test]
    fn only_https_is_told_as_https() {
        let state = |mode, demand| {
            Manner { mode, demand_client_certificate: demand, ..Manner::default() }.ssl_state()
        };
        assert_eq!((state(Mode::Http, true), state(Mode::Ehttp, true)), (0, 0));
        assert_eq!((state(Mode::Https, false), state(Mode::Https, true)), (7, 15));
    }
}
