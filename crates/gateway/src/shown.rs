//! The certificates that a device showed in its handshake, and what was thought of them last.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::id::Thumbprint;
use proto::limits;
use proto::pki::Distrust;
use proto::time::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::admit::NotTrusted;
use crate::trust::{Trust, Window};

/// How long a verdict against a chain counts on its connection. Short, because clocks move on to the beginning
/// of a certificate; and not nothing, so that nobody has a chain judged with every request.
const REFUSAL_COUNTS: Duration = Duration::from_secs(5);

/// What a connection showed; its key was proved. The same after a resumption, where no handshake message
/// carries it: the ticket does.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Leaf first, at most [`limits::CHAIN_CERTIFICATES`].
    chain: Vec<Vec<u8>>,
    leaf: Thumbprint,
    verdict: Mutex<Option<Verdict>>,
}

#[derive(Debug)]
struct Verdict {
    generation: u64,
    window: Window,
    outcome: Result<(), NotTrusted>,
}

impl Shown {
    /// `None`: the device showed nothing.
    pub(crate) fn new(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let leaf = Thumbprint::of(chain.first()?);
        let chain = chain.iter().take(limits::CHAIN_CERTIFICATES).map(|der| der.to_vec()).collect();
        Some(Self { chain, leaf, verdict: Mutex::default() })
    }

    /// Of the leaf.
    pub(crate) fn thumbprint(&self) -> Thumbprint {
        self.leaf
    }

    /// Whether the site trusts the chain at this moment. Asked with every request, judged when anything that
    /// the verdict rests on has changed.
    pub(crate) fn judge(&self, trust: &Trust, now: Timestamp) -> Result<(), NotTrusted> {
        let mut last = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = &*last
            && verdict.generation == trust.generation()
            && verdict.window.holds(now)
        {
            return verdict.outcome.clone();
        }
        let (window, outcome) = match trust.judge(&self.chain, self.leaf, now) {
            Ok(window) => (window, Ok(())),
            Err(distrust) => (Window::new(now, now.plus(REFUSAL_COUNTS)), Err(self.not_trusted(distrust))),
        };
        *last = Some(Verdict { generation: trust.generation(), window, outcome: outcome.clone() });
        outcome
    }

    /// Whether the chain was judged on this connection before, and well.
    pub(crate) fn was_trusted(&self) -> bool {
        let last = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_some_and(|verdict| verdict.outcome.is_ok())
    }

    /// A device's own certificate is its key and nothing else; whatever is wrong with it as one of a PKI is
    /// no news for anybody.
    fn not_trusted(&self, distrust: Distrust) -> NotTrusted {
        match self.chain.as_slice() {
            [own] if is_self_signed(own) => NotTrusted::SelfSigned,
            _ => NotTrusted::Distrust(distrust),
        }
    }
}

/// Whether a certificate is its own issuer and no authority.
fn is_self_signed(der: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    certificate.issuer().as_raw() == certificate.subject().as_raw() && !certificate.is_ca()
}
