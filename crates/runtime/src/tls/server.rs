//! What a listener speaks.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};

use super::client_certificate::{ChainTrust, ProveKeyOnly, RequireChain};
use super::{TlsSetupError, VERSIONS, provider};
use crate::clock::Clock;

/// What a listener wants of those who connect.
#[derive(Clone, Debug)]
pub enum ClientCertificates {
    /// Nothing; none is asked for.
    NotAsked,
    /// A certificate if they have one, of whatever origin; that they hold its key is proved. For devices.
    ProveKeyOnly,
    /// A certificate that leads to one of these roots, or the handshake fails. For links between our parts.
    RequireChain(Arc<ChainTrust>),
}

/// The keys of session tickets: one for all listeners and shards of a gateway host, or resumption falls with
/// the number of shards; never shared between hosts, since who holds them can forge sessions.
///
/// They change every six hours and live for twelve, by the operating system's clock.
#[derive(Clone)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// New keys.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn new() -> Result<Self, TlsSetupError> {
        Ok(Self(Ticketer::new()?))
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

/// How a listener does TLS; [`ServerTls::build`] makes of it what rustls takes.
#[derive(Debug)]
pub struct ServerTls {
    clock: Clock,
    certificate: Arc<dyn ResolvesServerCert>,
    clients: ClientCertificates,
    alpn: Vec<Vec<u8>>,
    tickets: Option<Tickets>,
}

impl ServerTls {
    /// Shows `certificate` (a [`super::ServerCertificate`] or [`super::CertificateByAlpn`]), asks for none,
    /// speaks no ALPN and resumes nothing.
    pub fn new(clock: Clock, certificate: Arc<dyn ResolvesServerCert>) -> Self {
        Self { clock, certificate, clients: ClientCertificates::NotAsked, alpn: Vec::new(), tickets: None }
    }

    /// What is wanted of clients.
    #[must_use]
    pub fn client_certificates(mut self, clients: ClientCertificates) -> Self {
        self.clients = clients;
        self
    }

    /// The protocols, the most wanted first. A client that offers only others is refused; one that offers
    /// none is not.
    #[must_use]
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Lets sessions be resumed by tickets under `tickets`. With [`ClientCertificates::RequireChain`] it has
    /// no effect: a resumed session would pass by the verifier.
    #[must_use]
    pub fn tickets(mut self, tickets: Tickets) -> Self {
        self.tickets = Some(tickets);
        self
    }

    /// The configuration, to be shared by all connections and shards.
    pub fn build(self) -> Result<Arc<ServerConfig>, TlsSetupError> {
        let (verifier, may_resume): (Arc<dyn ClientCertVerifier>, bool) = match self.clients {
            ClientCertificates::NotAsked => (Arc::new(NoClientAuth), true),
            ClientCertificates::ProveKeyOnly => (Arc::new(ProveKeyOnly::new()), true),
            ClientCertificates::RequireChain(trust) => (Arc::new(RequireChain::new(trust)), false),
        };
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(self.clock))
            .with_protocol_versions(&VERSIONS)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.certificate);
        config.alpn_protocols = self.alpn;
        // Sessions live with their clients, in tickets, and never here: this keeps the memory of a listener
        // apart from the number of its visitors.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match self.tickets {
            Some(Tickets(ticketer)) if may_resume => {
                config.ticketer = ticketer;
                // rustls sends two, so that a client may open two connections with them. Devices open one after the
                // other and get a new one with each, and a ticket holds the certificate that they showed: making,
                // sealing and sending it is a good part of a resumed handshake.
                config.send_tls13_tickets = 1;
            }
            _ => config.send_tls13_tickets = 0,
        }
        Ok(Arc::new(config))
    }
}
