//! Who may connect, and go on.

use std::net::IpAddr;

use rustls::ServerConnection;
use rustls::server::ClientHello;

/// Judges those who connect, step by step: each step costs more than the one before it, so that it is asked for
/// only when the peer has done its own part. Whoever is not let on is closed without an answer.
pub trait Admission: Send + Sync + 'static {
    /// What is kept as long as the connection is open. Whatever it stands for is given back when it is dropped.
    type Pass: Send + 'static;

    /// A connection came, of which nothing is known but the peer's address, an IPv4 one also where it came through
    /// an IPv6 socket. Nothing has been done for it yet.
    fn connected(&self, peer: IpAddr) -> Option<Self::Pass>;

    /// A ClientHello came: the handshake, which costs a signature, would begin now. Asked on TLS listeners only.
    fn greeted(&self, pass: &mut Self::Pass, hello: &ClientHello<'_>) -> Welcome {
        let _ = (pass, hello);
        Welcome::InTurn
    }

    /// The handshake was made. Asked on TLS listeners only.
    fn shook_hands(&self, pass: &mut Self::Pass, tls: &ServerConnection) -> bool {
        let _ = (pass, tls);
        true
    }
}

/// What becomes of a handshake whose ClientHello is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Welcome {
    /// It is made in its turn, after those that came before it.
    InTurn,
    /// It is made before those that wait for their turn: for the few on whom all others depend.
    First,
    /// It is not made.
    Refused,
}

/// Lets all in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Everybody;

impl Admission for Everybody {
    type Pass = ();

    fn connected(&self, _: IpAddr) -> Option<()> {
        Some(())
    }
}

/// Judges by the address alone.
impl<F: Fn(IpAddr) -> bool + Send + Sync + 'static> Admission for F {
    type Pass = ();

    fn connected(&self, peer: IpAddr) -> Option<()> {
        self(peer).then_some(())
    }
}
