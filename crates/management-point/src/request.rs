//! A request, read whole. Nothing in it is believed yet.

use std::net::IpAddr;

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use proto::endpoint::{Caller, Endpoint};
use proto::http_signature;
use proto::id::RequestId;
use proto::message::header_identity::names;
use proto::reason::REQUEST_ID_HEADER;
use tokio::sync::OwnedSemaphorePermit;

/// Headers that say who asks or what a body is. Two of a name could be read in two ways.
const SINGLE: &[&str] = &[
    "authorization",
    "content-type",
    REQUEST_ID_HEADER,
    names::CLIENT_ID,
    names::CLIENT_ID_SIGNATURE,
    names::TIMESTAMP,
    names::TIMESTAMP_SIGNATURE,
    names::TIMESTAMP_SIGNATURE_DOCUMENTED,
    names::CLIENT_TOKEN,
    names::CLIENT_TOKEN_SIGNATURE,
];

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
    pub(crate) body: Bytes,
    /// The address on the socket. For what came through a gateway, the connection point's.
    pub(crate) peer: IpAddr,
    /// Its place among large bodies, kept until it is answered.
    pub(crate) _held: Option<OwnedSemaphorePermit>,
}

impl Request {
    /// A header's value, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether a connection point handed it on: it names each request, and clients do not. To
    /// claim it falsely gains nothing: such a request counts as coming from nowhere in particular.
    pub(crate) fn came_through_gateway(&self) -> bool {
        self.headers.contains_key(REQUEST_ID_HEADER)
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

/// The first header that must stand once and stands twice.
pub(crate) fn repeated_header(headers: &HeaderMap) -> Option<&'static str> {
    let mut all = SINGLE.iter().chain(http_signature::HEADERS);
    all.find(|name| headers.get_all(**name).iter().nth(1).is_some()).copied()
}
