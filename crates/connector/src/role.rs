//! Roles that are published, and where they are inside. The only addresses that a request
//! can lead to (R44): a gateway names a role by number, and the number is looked up here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::Uri;
use http::uri::Scheme;
use proto::id::{RoleId, Thumbprint};
use proto::link::{RoleTarget, RoleTrust};
use proto::pki::{RevocationSettings, TrustStore, TrustStoreError};
use rustls::pki_types::ServerName;

/// Most roles that are taken from the site; a site has a handful.
pub(crate) const ROLE_LIMIT: usize = 1000;

/// One published role.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    /// Its number.
    pub(crate) id: RoleId,
    /// What is asked of its certificate, when it is reached by TLS.
    pub(crate) tls: Option<RoleTls>,
    /// Its host without the port: `TargetHost` in traffic reports.
    pub(crate) host: String,
    /// `host[:port]` as written: the `Host` header.
    pub(crate) authority: String,
    /// `host:port` to connect to.
    pub(crate) address: String,
    /// `http://host[:port]`, in front of every path.
    pub(crate) base: Arc<str>,
}

/// How a role is told from somebody else, and what it asks of us.
#[derive(Debug, Clone)]
pub(crate) struct RoleTls {
    /// The name or address that its certificate must hold.
    pub(crate) name: ServerName<'static>,
    /// By whom the certificate must have been issued.
    pub(crate) issuer: Issuer,
    /// Tells one answer to that from another: connections are kept for those who were judged alike.
    pub(crate) trust: Thumbprint,
    /// Whether it demands a client certificate of ours.
    pub(crate) demands_certificate: bool,
}

/// Who may have issued a role's certificate. Either way its chain is judged with every new connection,
/// so that a renewed one is as good as the last; a session that is taken up is judged again by its certificate, and
/// given up when that counts no longer.
#[derive(Debug, Clone)]
pub(crate) enum Issuer {
    /// The site (enhanced HTTP).
    Site,
    /// An authority of the organisation. Revocation is not asked for here.
    Pki(Arc<TrustStore>),
}

/// A role that requests cannot be forwarded to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRole {
    /// Its internal URL is something else.
    #[error("the internal URL of role {role} is not http(s)://host[:port]: {url:?}")]
    Url {
        /// The role.
        role: RoleId,
        /// What stands there, at most 200 characters.
        url: String,
    },
    /// The list of authorities for its certificate cannot be used.
    #[error("nobody can be trusted to have issued the certificate of role {role}")]
    Trust {
        /// The role.
        role: RoleId,
        /// Which authority is wrong.
        source: TrustStoreError,
    },
}

impl Role {
    fn parse(target: &RoleTarget) -> Result<Self, BadRole> {
        let bad = || BadRole::Url { role: target.role, url: target.internal_url.chars().take(200).collect() };
        let uri: Uri = target.internal_url.parse().map_err(|_| bad())?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        let host = authority.host();
        let plain = !host.is_empty() && !authority.as_str().contains('@');
        if !plain || uri.query().is_some() || !matches!(uri.path(), "" | "/") {
            return Err(bad());
        }
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tls = if is_tls { Some(RoleTls::new(target, host, bad)?) } else { None };
        Ok(Self {
            id: target.role,
            tls,
            host: host.to_owned(),
            authority: authority.as_str().to_owned(),
            address: format!("{host}:{port}"),
            base: format!("{}://{authority}", if is_tls { "https" } else { "http" }).into(),
        })
    }

    /// Whether it demands a client certificate of ours.
    pub(crate) fn demands_certificate(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.demands_certificate)
    }
}

impl RoleTls {
    fn new(target: &RoleTarget, host: &str, bad: impl Fn() -> BadRole) -> Result<Self, BadRole> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| bad())?;
        let issuer = match &target.trust {
            RoleTrust::Site => Issuer::Site,
            RoleTrust::Pki { list } => {
                let unchecked = RevocationSettings { check: false, ..RevocationSettings::default() };
                let store = TrustStore::new(list, &BTreeMap::new(), unchecked)
                    .map_err(|source| BadRole::Trust { role: target.role, source })?;
                Issuer::Pki(Arc::new(store))
            }
        };
        let text = serde_json::to_vec(&target.trust).expect("plain data has a JSON form");
        let trust = Thumbprint::of(&text);
        Ok(Self { name, issuer, trust, demands_certificate: target.client_certificate })
    }
}

/// All published roles.
#[derive(Debug, Default)]
pub(crate) struct Roles(HashMap<RoleId, Arc<Role>>);

impl Roles {
    /// Those of `targets` that can be forwarded to, and what is wrong with the others.
    pub(crate) fn new(targets: &[RoleTarget]) -> (Self, Vec<BadRole>) {
        let mut roles = HashMap::new();
        let mut bad = Vec::new();
        for target in targets.iter().take(ROLE_LIMIT) {
            match Role::parse(target) {
                Ok(role) => drop(roles.insert(role.id, Arc::new(role))),
                Err(error) => bad.push(error),
            }
        }
        (Self(roles), bad)
    }

    /// The same roles in objects of their own, for a thread that counts its holds on them with each request.
    pub(crate) fn apart(&self) -> Self {
        let apart = |role: &Role| Role { base: Arc::from(&*role.base), ..role.clone() };
        Self(self.0.iter().map(|(id, role)| (*id, Arc::new(apart(role)))).collect())
    }

    /// The role with this number, if it is published.
    pub(crate) fn find(&self, role: RoleId) -> Option<&Arc<Role>> {
        self.0.get(&role)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The roles that demand a client certificate of ours, in the order of their numbers.
    pub(crate) fn demanding(&self) -> Vec<&Arc<Role>> {
        let mut roles: Vec<_> = self.0.values().filter(|role| role.demands_certificate()).collect();
        roles.sort_unstable_by_key(|role| role.id);
        roles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(role: u64, url: &str) -> RoleTarget {
        RoleTarget {
            role: RoleId::new(role),
            internal_url: url.into(),
            trust: RoleTrust::Site,
            client_certificate: true,
        }
    }

    fn parse(url: &str) -> Result<Role, BadRole> {
        Role::parse(&target(1, url))
    }

    #[test]
    fn host_port_and_scheme_are_taken_apart() {
        let role = parse("http://mp.example:8080").unwrap();
        assert_eq!((role.address.as_str(), role.authority.as_str()), ("mp.example:8080", "mp.example:8080"));
        assert!(&*role.base == "http://mp.example:8080" && role.tls.is_none());
        let role = parse("https://MP.example/").unwrap();
        assert_eq!(role.address, "MP.example:443");
        assert!(role.tls.is_some() && role.host == "MP.example" && role.authority == "MP.example");
        assert_eq!(parse("http://[::1]:80").unwrap().address, "[::1]:80");
    }

    #[test]
    fn the_certificate_must_hold_the_name_or_the_address_of_the_url() {
        for (url, name) in [
            ("https://mp.example", "mp.example"),
            ("https://10.0.0.5:444", "10.0.0.5"),
            ("https://[::1]", "::1"),
        ] {
            let name = ServerName::try_from(name).unwrap();
            assert_eq!(parse(url).unwrap().tls.unwrap().name, name, "{url}");
        }
        assert!(parse("https://mp_!.example").is_err());
    }

    #[test]
    fn nothing_but_scheme_and_host_may_stand_there() {
        for url in
            ["", "mp.example", "ftp://mp", "http://user@mp", "http://mp/path", "http://mp?x", "http://:80"]
        {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn one_bad_role_does_not_hide_the_others() {
        let (roles, bad) =
            Roles::new(&[target(1, "nonsense"), target(2, "http://mp"), target(3, "https://mp")]);
        assert_eq!(bad.len(), 1);
        assert!(roles.find(RoleId::new(1)).is_none() && roles.find(RoleId::new(2)).is_some());
        let demanding: Vec<_> = roles.demanding().into_iter().map(|role| role.id).collect();
        assert_eq!(demanding, [RoleId::new(3)], "without TLS nobody can be shown a certificate");
    }
}
