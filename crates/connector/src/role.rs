//! Roles that are published, and where they are inside. The only addresses that a request
//! can lead to (R44): a gateway names a role by number, and the number is looked up here.

use std::collections::HashMap;
use std::sync::Arc;

use http::Uri;
use http::uri::Scheme;
use proto::id::RoleId;
use proto::link::RoleTarget;

/// Most roles that are taken from the site; a site has a handful.
pub(crate) const ROLE_LIMIT: usize = 1000;

/// One published role.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Role {
    /// Its number.
    pub(crate) id: RoleId,
    /// Whether it is reached by TLS (enhanced HTTP).
    pub(crate) tls: bool,
    /// Its host without the port: the name that its certificate must hold, and `TargetHost`
    /// in traffic reports.
    pub(crate) host: String,
    /// `host[:port]` as written: the `Host` header.
    pub(crate) authority: String,
    /// `host:port` to connect to.
    pub(crate) address: String,
    /// `http://host[:port]`, in front of every path.
    pub(crate) base: String,
}

/// A role's internal URL is none that requests can be forwarded to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the internal URL of role {role} is not http(s)://host[:port]: {url:?}")]
pub(crate) struct BadRole {
    role: RoleId,
    url: String,
}

impl Role {
    fn parse(target: &RoleTarget) -> Result<Self, BadRole> {
        let bad =
            || BadRole { role: target.role, url: target.internal_url.chars().take(200).collect::<String>() };
        let uri: Uri = target.internal_url.parse().map_err(|_| bad())?;
        let tls = match uri.scheme() {
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
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self {
            id: target.role,
            tls,
            host: host.to_owned(),
            authority: authority.as_str().to_owned(),
            address: format!("{host}:{port}"),
            base: format!("{}://{authority}", if tls { "https" } else { "http" }),
        })
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

    /// The role with this number, if it is published.
    pub(crate) fn find(&self, role: RoleId) -> Option<&Arc<Role>> {
        self.0.get(&role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Role, BadRole> {
        Role::parse(&RoleTarget { role: RoleId::FIRST, internal_url: url.into(), trust: proto::link::RoleTrust::Site, client_certificate: false })
    }

    #[test]
    fn host_port_and_scheme_are_taken_apart() {
        let role = parse("http://mp.example:8080").unwrap();
        assert_eq!((role.address.as_str(), role.authority.as_str()), ("mp.example:8080", "mp.example:8080"));
        assert_eq!(role.base, "http://mp.example:8080");
        let role = parse("https://MP.example/").unwrap();
        assert_eq!(role.address, "MP.example:443");
        assert!(role.tls && role.host == "MP.example" && role.authority == "MP.example");
        assert_eq!(parse("http://[::1]:80").unwrap().address, "[::1]:80");
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
        let target = |role, url: &str| RoleTarget { role: RoleId::new(role), internal_url: url.into(), trust: proto::link::RoleTrust::Site, client_certificate: false };
        let (roles, bad) = Roles::new(&[target(1, "nonsense"), target(2, "http://mp")]);
        assert_eq!(bad.len(), 1);
        assert!(roles.find(RoleId::new(1)).is_none() && roles.find(RoleId::new(2)).is_some());
    }
}
