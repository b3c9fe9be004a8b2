//! What a connection must be, before anything that it carries is looked at.

use hyper::HeaderMap;
use proto::combination::Mode;
use proto::endpoint::Endpoint;
use proto::limits;
use proto::pki::Usage;
use proto::reason::Reason;
use runtime::listen::TlsConnection;

use crate::answer::Refusal;
use crate::context::Context;
use crate::handler::Handler;
use crate::request::{Peer, Transport, came_through_gateway};

/// What a TLS connection showed, in this handshake or in the one that it resumes.
pub(crate) fn of(stream: &TlsConnection) -> Transport {
    let (_, connection) = stream.get_ref();
    let chain = connection.peer_certificates().unwrap_or_default();
    let shown = chain.iter().take(limits::CHAIN_CERTIFICATES).map(|der| der.to_vec()).collect();
    Transport::Tls { shown }
}

/// Where everybody must show a certificate, whoever shows none that is trusted gets nothing, whatever
/// it asks for: neither a document nor a hint what exists.
pub(crate) fn check_peer(context: &Context, peer: &Peer) -> Result<(), Refusal> {
    let manner = context.manner();
    let Transport::Tls { shown } = &peer.transport else { return Ok(()) };
    if manner.mode != Mode::Https || !manner.demand_client_certificate {
        return Ok(());
    }
    let refused = |detail: String| Refusal::new(Reason::InsideCertificateRequired, detail);
    if shown.is_empty() {
        return Err(refused("no client certificate was shown".to_owned()));
    }
    let judged = context.site.trust_store().judge(shown, Usage::Client, context.now());
    judged.map(drop).map_err(|distrust| refused(distrust.to_string()))
}

/// Which roads the mode opens: plain HTTP is closed in HTTPS mode but for public facts, HTTPS in HTTP
/// mode, and gateways' traffic there, too.
pub(crate) fn check_road(
    context: &Context,
    transport: &Transport,
    endpoint: &'static Endpoint,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    let refused = |reason, detail| Err(Refusal::new(reason, detail));
    match (context.manner().mode, transport) {
        (Mode::Https, Transport::Plain) if Handler::of(endpoint) != Handler::SiteFacts => {
            refused(Reason::MethodNotForMode, "plain HTTP at a management point in HTTPS mode")
        }
        (Mode::Http, Transport::Tls { .. }) => {
            refused(Reason::MethodNotForMode, "HTTPS at a management point in HTTP mode")
        }
        (Mode::Http, Transport::Plain) if came_through_gateway(headers) => {
            refused(Reason::RoleInHttpMode, "a gateway's traffic at a management point in HTTP mode")
        }
        _ => Ok(()),
    }
}
