//! Where a management point is asked: directly, or through a gateway.

use std::fmt;
use std::str::FromStr;

use proto::id::RoleId;
use proto::path::Door;
use serde::{Deserialize, Serialize};

/// Longest `host[:port]` in characters: a DNS name and a port.
const AUTHORITY_CHARS: usize = 260;

/// A text that is no address of the kind it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `host` or `host:port`.
    #[error("{0:?} is not a host name with an optional port")]
    Host(String),
    /// No `/CCM_Proxy_MutualAuth/<role id>` behind the host.
    #[error(
        "{0:?} is not a gateway's address; it looks like gateway.example.org/CCM_Proxy_MutualAuth/72057594037927937"
    )]
    NotAGateway(String),
    /// `http://` in front of a gateway.
    #[error("{0:?} begins with http://; a gateway is reached by https:// only")]
    PlainGateway(String),
    /// A path behind a management point's name.
    #[error(
        "{0:?} has a path that is not a gateway's; a management point is named by its host, with or without http://"
    )]
    Path(String),
}

/// A gateway and the published role behind it: `host[:port]/CCM_Proxy_MutualAuth/<role id>`,
/// the form in which devices are told it [docs]. Host names are kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayAddress {
    authority: String,
    role: RoleId,
}

impl GatewayAddress {
    /// The address of a role behind the gateway at `host[:port]`.
    pub fn new(authority: &str, role: RoleId) -> Result<Self, AddressError> {
        Ok(Self { authority: parse_authority(authority)?, role })
    }

    /// `host[:port]`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The published role.
    pub fn role(&self) -> RoleId {
        self.role
    }

    /// Host, door and role, without scheme: what stands for `<mp>` in a policy location.
    pub fn behind(&self, door: Door) -> String {
        format!("{}/{door}/{}", self.authority, self.role)
    }
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.behind(Door::MutualAuth))
    }
}

impl FromStr for GatewayAddress {
    type Err = AddressError;

    /// Takes it with `https://` or without, with either door, in any case, with a slash at the end.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = split_scheme(text);
        let error = || AddressError::NotAGateway(shorten(text));
        let (authority, path) = rest.split_once('/').ok_or_else(error)?;
        let (door, role) = path.split_once('/').ok_or_else(error)?;
        let known = [Door::MutualAuth, Door::ServerAuth];
        if !known.iter().any(|known| known.prefix().eq_ignore_ascii_case(door)) {
            return Err(error());
        }
        if scheme == Some(Scheme::Http) {
            return Err(AddressError::PlainGateway(shorten(text)));
        }
        let role = role.strip_suffix('/').unwrap_or(role).parse().map_err(|_| error())?;
        Self::new(authority, role)
    }
}

/// A management point on the inside: `http://` or `https://` and a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InsideAddress {
    tls: bool,
    authority: String,
}

impl InsideAddress {
    /// `host[:port]`.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl fmt::Display for InsideAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

impl FromStr for InsideAddress {
    type Err = AddressError;

    /// Without a scheme it is `http://`, as in `SMSMP=mp1.contoso.com` [docs].
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = split_scheme(text);
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('/') {
            return Err(AddressError::Path(shorten(text)));
        }
        Ok(Self { tls: scheme == Some(Scheme::Https), authority: parse_authority(authority)? })
    }
}

/// One way to a management point.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Directly.
    Inside(InsideAddress),
    /// Through a gateway: by the door `MutualAuth` with a certificate of the PKI, by `ServerAuth` with a
    /// token.
    Gateway(GatewayAddress, Door),
}

impl Address {
    /// The URL of a role-relative target (`/CCM_STS`, `/SMS_MP/.sms_pol?…`).
    pub fn url(&self, target: &str) -> String {
        match self {
            Self::Inside(inside) => format!("{inside}{target}"),
            Self::Gateway(gateway, door) => format!("https://{}{target}", gateway.behind(*door)),
        }
    }

    /// `host[:port]`.
    pub fn authority(&self) -> &str {
        match self {
            Self::Inside(inside) => inside.authority(),
            Self::Gateway(gateway, _) => gateway.authority(),
        }
    }

    /// The host without its port.
    pub fn host(&self) -> &str {
        host_of(self.authority())
    }

    /// Host and path as the field's logs name a management point: for a gateway the address the
    /// device was told.
    pub fn host_and_path(&self) -> String {
        match self {
            Self::Inside(inside) => inside.authority().to_owned(),
            Self::Gateway(gateway, _) => gateway.to_string(),
        }
    }

    /// Whether it leads through a gateway.
    pub fn is_gateway(&self) -> bool {
        matches!(self, Self::Gateway(..))
    }

    /// Whether a TLS connection is made.
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Inside(inside) => inside.tls,
            Self::Gateway(..) => true,
        }
    }

    /// Whether the host is this machine: no proxy of the network leads there.
    pub fn is_loopback(&self) -> bool {
        let host = host_of(self.authority());
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The port of the connection.
    pub fn port(&self) -> u16 {
        let default = if self.is_tls() { 443 } else { 80 };
        let authority = self.authority();
        let port = authority.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
        port.and_then(|(_, port)| port.parse().ok()).unwrap_or(default)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inside(inside) => inside.fmt(f),
            Self::Gateway(gateway, _) => write!(f, "https://{gateway}"),
        }
    }
}

macro_rules! serde_as_text {
    ($($name:ty),+) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
serde_as_text!(GatewayAddress, InsideAddress);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

fn split_scheme(text: &str) -> (Option<Scheme>, &str) {
    for (prefix, scheme) in [("https://", Scheme::Https), ("http://", Scheme::Http)] {
        if let Some((start, rest)) = text.split_at_checked(prefix.len())
            && start.eq_ignore_ascii_case(prefix)
        {
            return (Some(scheme), rest);
        }
    }
    (None, text)
}

/// The host of `host[:port]`, without the brackets of an IPv6 address.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    authority.split(':').next().unwrap_or_default()
}

fn parse_authority(text: &str) -> Result<String, AddressError> {
    let error = || AddressError::Host(shorten(text));
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if let Some(port) = port {
        let number: u16 = port.parse().map_err(|_| error())?;
        if number == 0 || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
    }
    let good = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
                && host.bytes().any(|b| b.is_ascii_alphanumeric())
        }
    };
    if good && text.len() <= AUTHORITY_CHARS { Ok(text.to_ascii_lowercase()) } else { Err(error()) }
}

fn shorten(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_read_as_people_paste_it() {
        let expected = "contoso.cloudapp.net/CCM_Proxy_MutualAuth/72186325152220500";
        for text in [
            expected,
            "CONTOSO.CLOUDAPP.NET/CCM_Proxy_MutualAuth/72186325152220500",
            "https://contoso.cloudapp.net/CCM_PROXY_MutualAuth/72186325152220500/",
            "HTTPS://CONTOSO.CLOUDAPP.NET/ccm_proxy_serverauth/72186325152220500",
        ] {
            assert_eq!(text.parse::<GatewayAddress>().unwrap().to_string(), expected, "{text}");
        }
        for wrong in [
            "",
            "contoso.cloudapp.net",
            "contoso.cloudapp.net/CCM_Proxy_MutualAuth",
            "contoso.cloudapp.net/CCM_Proxy_MutualAuth/x",
            "contoso.cloudapp.net/CCM_Proxy_MutualAuth/1/SMS_MP",
            "http://contoso.cloudapp.net/CCM_Proxy_MutualAuth/1",
            "con toso/CCM_Proxy_MutualAuth/1",
            "user@contoso/CCM_Proxy_MutualAuth/1",
            "/CCM_Proxy_MutualAuth/1",
            "host:0/CCM_Proxy_MutualAuth/1",
            "host:x/CCM_Proxy_MutualAuth/1",
        ] {
            assert!(wrong.parse::<GatewayAddress>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_management_point_is_http_unless_it_says_otherwise() {
        for (text, expected) in [
            ("mp1.contoso.com", "http://mp1.contoso.com"),
            ("https://MP1.contoso.com/", "https://mp1.contoso.com"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("[::1]:80", "http://[::1]:80"),
            ("[::1]", "http://[::1]"),
        ] {
            assert_eq!(text.parse::<InsideAddress>().unwrap().to_string(), expected);
        }
        for wrong in ["", "mp1/x", "mp 1", "mp1:", "ftp://mp1", "::1"] {
            assert!(wrong.parse::<InsideAddress>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn targets_go_through_the_door_for_what_is_shown() {
        let address: GatewayAddress = "gw:8443/CCM_Proxy_MutualAuth/7".parse().unwrap();
        let certificate = Address::Gateway(address.clone(), Door::MutualAuth);
        assert_eq!(certificate.url("/CCM_STS"), "https://gw:8443/CCM_Proxy_MutualAuth/7/CCM_STS");
        let gateway = Address::Gateway(address, Door::ServerAuth);
        assert_eq!(gateway.url("/CCM_STS"), "https://gw:8443/CCM_Proxy_ServerAuth/7/CCM_STS");
        assert_eq!((gateway.port(), gateway.is_loopback()), (8443, false));
        let inside = Address::Inside("[::1]".parse().unwrap());
        assert_eq!(inside.url("/SMS_MP/.sms_aut?MPLIST"), "http://[::1]/SMS_MP/.sms_aut?MPLIST");
        assert_eq!((inside.port(), inside.is_loopback()), (80, true));
        let inside = Address::Inside("https://[::1]:8531".parse().unwrap());
        assert_eq!(inside.port(), 8531);
    }
}
