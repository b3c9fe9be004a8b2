//! A request, read whole. Nothing in it is believed yet.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::{HeaderMap, Method};
use proto::client_certificate;
use proto::combination::Way;
use proto::endpoint::{Caller, Endpoint};
use proto::http_signature;
use proto::id::{RequestId, Thumbprint};
use proto::link::PEER_CERTIFICATE_HEADER;
use proto::message::header_identity::names;
use proto::reason::REQUEST_ID_HEADER;

use crate::body::Received;

/// Headers that say who asks or what a body is. Two of a name could be read in two ways.
const SINGLE: &[&str] = &[
    "authorization",
    "content-type",
    REQUEST_ID_HEADER,
    PEER_CERTIFICATE_HEADER,
    client_certificate::CHAIN,
    client_certificate::PROOF,
    names::CLIENT_ID,
    names::CLIENT_ID_SIGNATURE,
    names::TIMESTAMP,
    names::TIMESTAMP_SIGNATURE,
    names::TIMESTAMP_SIGNATURE_DOCUMENTED,
    names::CLIENT_TOKEN,
    names::CLIENT_TOKEN_SIGNATURE,
];

/// What carried a request to us.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    /// HTTP.
    Plain,
    /// HTTPS.
    Tls {
        /// The certificates that the other side showed, leaf first, DER; empty: none. It holds the
        /// leaf's key, and nothing more is known: trust is judged for every request.
        shown: Arc<[Vec<u8>]>,
    },
}

impl Transport {
    /// `http` or `https`.
    pub(crate) const fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls { .. } => "https",
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The address on the socket. For what came through a gateway, the connection point's.
    pub(crate) address: IpAddr,
    /// What carries the requests.
    pub(crate) transport: Transport,
}

/// A request, read whole.
#[derive(Debug)]
pub(crate) struct Request {
    /// Names it in logs and answers.
    pub(crate) id: RequestId,
    pub(crate) method: Method,
    /// Path and query as they arrived: what a signed request was signed over.
    pub(crate) target: String,
    pub(crate) endpoint: &'static Endpoint,
    /// Still encoded.
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Received,
    /// The address on the socket. For what came through a gateway, the connection point's.
    pub(crate) peer: IpAddr,
    /// What carried it.
    pub(crate) transport: Transport,
}

impl Request {
    /// A header's value, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether a connection point handed it on: it names each request, and clients do not. To
    /// claim it falsely gains nothing: such a request counts as coming from nowhere in particular.
    pub(crate) fn came_through_gateway(&self) -> bool {
        came_through_gateway(&self.headers)
    }

    /// The way that it came.
    pub(crate) fn way(&self) -> Way {
        if self.came_through_gateway() { Way::Gateway } else { Way::Intranet }
    }

    /// The certificate that opened a gateway's MutualAuth door, by the gateway's word: it may make us
    /// refuse, and never more (R39). `Err`: the header cannot be read.
    pub(crate) fn peer_certificate(&self) -> Result<Option<Thumbprint>, ()> {
        let Some(value) = self.headers.get(PEER_CERTIFICATE_HEADER) else { return Ok(None) };
        value.to_str().ok().and_then(|text| text.trim().parse().ok()).map(Some).ok_or(())
    }

    /// The client's own TLS certificate with its chain: shown to us, not to a connection point's
    /// other side. Empty: none.
    pub(crate) fn own_tls_chain(&self) -> &[Vec<u8>] {
        match &self.transport {
            Transport::Tls { shown } if !self.came_through_gateway() => shown,
            _ => &[],
        }
    }

    /// Whether the table opens this endpoint to a caller of this class, by the road that the request
    /// came. The gateway and the connection point have read the same table; neither is believed.
    pub(crate) fn is_open_to(&self, caller: Caller) -> bool {
        if self.came_through_gateway() {
            self.endpoint.open_outside_to(caller)
        } else {
            self.endpoint.open_inside_to(caller)
        }
    }
}

/// Whether a connection point handed a request on.
pub(crate) fn came_through_gateway(headers: &HeaderMap) -> bool {
    headers.contains_key(REQUEST_ID_HEADER) || headers.contains_key(PEER_CERTIFICATE_HEADER)
}

/// The first header that must stand once and stands twice.
pub(crate) fn repeated_header(headers: &HeaderMap) -> Option<&'static str> {
    let mut all = SINGLE.iter().chain(http_signature::HEADERS);
    all.find(|name| headers.get_all(**name).iter().nth(1).is_some()).copied()
}
