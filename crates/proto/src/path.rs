//! The address of a request, as a device writes it and as a role sees it.
//!
//! `https://<gateway>/CCM_Proxy_ServerAuth/<role id>/<path of the role>`. A device is told the
//! `MutualAuth` address and puts `ServerAuth` in its place when it uses a token [docs].

use std::fmt;

use crate::endpoint::{self, Endpoint};
use crate::id::{Guid, RoleId};
use crate::limits;

/// Which of the gateway's two doors a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// `CCM_Proxy_MutualAuth`: the client shows a certificate that the site trusts.
    MutualAuth,
    /// `CCM_Proxy_ServerAuth`: the client shows a token and the key that it is bound to.
    ServerAuth,
}

impl Door {
    /// The first path element.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::MutualAuth => "CCM_Proxy_MutualAuth",
            Self::ServerAuth => "CCM_Proxy_ServerAuth",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::MutualAuth, Self::ServerAuth].into_iter().find(|door| door.prefix().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix())
    }
}

/// A request to a role: which endpoint, and the query as the device wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolePath<'a> {
    /// The row of the table that the path names.
    pub endpoint: &'static Endpoint,
    /// What stands behind the question mark, still encoded.
    pub query: Option<&'a str>,
}

impl RolePath<'_> {
    /// Path and query in the spelling that is forwarded: the table's path, the device's query.
    pub fn target(&self) -> String {
        match self.query {
            Some(query) => format!("{}?{query}", self.endpoint.path),
            None => self.endpoint.path.to_owned(),
        }
    }
}

/// What a device asked a gateway for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum External<'a> {
    /// A published role behind one of the doors.
    Role {
        /// The door.
        door: Door,
        /// The role.
        role: RoleId,
        /// What is asked of it.
        path: RolePath<'a>,
    },
    /// `<door>/ServiceMetadata`: what this gateway serves.
    ServiceMetadata(Door),
    /// `<door>/AADAuthInfo?TenantID=<GUID>`: with which app a device of this tenant asks for tokens.
    /// The one thing that a stranger may ask: whoever installs a client has nothing else yet [docs].
    AuthInfo {
        /// The door.
        door: Door,
        /// The tenant asked for, onboarded or not.
        tenant: Guid,
    },
}

/// Why an address leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not in origin form (`/path?query`), or with bytes that no address has.
    #[error("the request target is malformed")]
    Malformed,
    /// Longer than [`limits::TARGET_BYTES`].
    #[error("the request target is longer than {} bytes", limits::TARGET_BYTES)]
    TooLong,
    /// Neither door, or no role id behind it.
    #[error("the path is not that of a gateway")]
    NotAGatewayPath,
    /// The role has no such endpoint.
    #[error("there is no such endpoint")]
    UnknownEndpoint,
}

/// Reads the target of a request at a gateway.
pub fn parse_external(target: &str) -> Result<External<'_>, PathError> {
    let (path, query) = split(target)?;
    let rest = path.strip_prefix('/').ok_or(PathError::Malformed)?;
    let (door, rest) = rest.split_once('/').ok_or(PathError::NotAGatewayPath)?;
    let door = Door::parse(door).ok_or(PathError::NotAGatewayPath)?;
    if rest.eq_ignore_ascii_case("ServiceMetadata") {
        return Ok(External::ServiceMetadata(door));
    }
    if rest.eq_ignore_ascii_case("AADAuthInfo") {
        let tenant = query.and_then(tenant_of).ok_or(PathError::UnknownEndpoint)?;
        return Ok(External::AuthInfo { door, tenant });
    }
    let slash = rest.find('/').ok_or(PathError::NotAGatewayPath)?;
    let (role, path) = rest.split_at(slash);
    let role = role.parse().map_err(|_| PathError::NotAGatewayPath)?;
    let endpoint = endpoint::find(path).ok_or(PathError::UnknownEndpoint)?;
    Ok(External::Role { door, role, path: RolePath { endpoint, query } })
}

/// Reads the target of a request at a role.
pub fn parse_role_path(target: &str) -> Result<RolePath<'_>, PathError> {
    let (path, query) = split(target)?;
    let endpoint = endpoint::find(path).ok_or(PathError::UnknownEndpoint)?;
    Ok(RolePath { endpoint, query })
}

/// The tenant of `TenantID=<GUID>`, which must be all that the query says.
fn tenant_of(query: &str) -> Option<Guid> {
    let (name, value) = query.split_once('=')?;
    name.eq_ignore_ascii_case("TenantID").then(|| value.parse().ok()).flatten()
}

/// Splits at the question mark and refuses what no client writes: absolute targets,
/// fragments, control characters, anything outside printable ASCII.
fn split(target: &str) -> Result<(&str, Option<&str>), PathError> {
    if target.len() > limits::TARGET_BYTES {
        return Err(PathError::TooLong);
    }
    let clean = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'\\');
    if !clean || !target.starts_with('/') {
        return Err(PathError::Malformed);
    }
    Ok(match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_path_is_read_in_any_case() {
        let target = "/CCM_PROXY_serverauth/72057594037927937/sms_mp/.sms_aut?MPLIST2&RG1";
        let Ok(External::Role { door, role, path }) = parse_external(target) else { panic!("{target}") };
        assert_eq!((door, role), (Door::ServerAuth, RoleId::FIRST));
        assert_eq!(path.target(), "/SMS_MP/.sms_aut?MPLIST2&RG1");
    }

    #[test]
    fn the_gateways_own_page_is_told_from_a_role() {
        assert_eq!(
            parse_external("/CCM_Proxy_MutualAuth/ServiceMetadata"),
            Ok(External::ServiceMetadata(Door::MutualAuth))
        );
    }

    #[test]
    fn a_tenant_is_asked_for_by_one_parameter_and_a_whole_guid() {
        let id = "9aaf466a-3f40-4468-b3cd-f0010f21f05a";
        for target in [
            format!("/CCM_Proxy_ServerAuth/AADAuthInfo?TenantID={id}"),
            format!("/ccm_proxy_serverauth/aadauthinfo?tenantid={}", id.to_uppercase()),
        ] {
            let expected = External::AuthInfo { door: Door::ServerAuth, tenant: id.parse().unwrap() };
            assert_eq!(parse_external(&target), Ok(expected), "{target}");
        }
        for query in [
            "",
            "?",
            "?TenantID",
            "?TenantID=",
            "?TenantID=common",
            "?Tenant=x",
            &format!("?TenantID={id}&a=b"),
        ] {
            let target = format!("/CCM_Proxy_ServerAuth/AADAuthInfo{query}");
            assert_eq!(parse_external(&target), Err(PathError::UnknownEndpoint), "{target}");
        }
        let below_a_role = format!("/CCM_Proxy_ServerAuth/{}/AADAuthInfo?TenantID={id}", RoleId::FIRST);
        assert_eq!(parse_external(&below_a_role), Err(PathError::UnknownEndpoint));
    }

    #[test]
    fn paths_in_other_spellings_lead_nowhere() {
        for target in [
            "",
            "*",
            "https://elsewhere/CCM_Proxy_ServerAuth/72057594037927937/CCM_STS",
            "/CCM_Proxy_ServerAuth/72057594037927937//CCM_STS",
            "/CCM_Proxy_ServerAuth//72057594037927937/CCM_STS",
            "/CCM_Proxy_ServerAuth/072057594037927937/CCM_STS",
            "/CCM_Proxy_ServerAuth/72057594037927937/../CCM_STS",
            "/CCM_Proxy_ServerAuth/72057594037927937/%43CM_STS",
            "/CCM_Proxy_ServerAuth/72057594037927937/CCM_STS#x",
            "/CCM_Proxy_ServerAuth/72057594037927937/CCM_STS\\",
            "/CCM_Proxy_ServerAuth/72057594037927937",
            "/CCM_Proxy_OtherAuth/72057594037927937/CCM_STS",
            "/CCM_STS",
        ] {
            assert!(parse_external(target).is_err(), "{target}");
        }
        let long = format!("/CCM_STS?{}", "a".repeat(limits::TARGET_BYTES));
        assert_eq!(parse_role_path(&long), Err(PathError::TooLong));
    }
}
