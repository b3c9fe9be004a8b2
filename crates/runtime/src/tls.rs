//! TLS as all our listeners and dialers do it.
//!
//! TLS 1.2 and 1.3 with forward-secret AEAD suites only, from one library (aws-lc-rs) that is handed over
//! explicitly: no process-wide default can change what a listener speaks. Compression, renegotiation and
//! early data do not exist here. Certificates and tickets are judged by the injected [`Clock`].
//!
//! **Resumed sessions** keep the peer's certificate but never call a verifier again, and may be older than
//! the latest block or revocation. Therefore listeners for devices prove the key only
//! ([`ClientCertificates::ProveKeyOnly`]) and their roles judge the certificate on every connection, and
//! listeners that demand a chain ([`ClientCertificates::RequireChain`]) do not resume at all.
//!
//! [`Clock`]: crate::Clock

mod certificate;
mod client;
mod client_certificate;
mod peer;
mod server;
mod server_certificate;

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::{SupportedProtocolVersion, version};

pub use certificate::{CertificateFiles, LoadError, MaterialError, OwnCertificate};
pub use client::{ClientTls, RootsError, roots_from_der, roots_from_pem, roots_from_pem_files};
pub use client_certificate::{ChainError, ChainTrust, ProveKeyOnly};
pub use peer::{PeerCertificate, UnreadableCertificate, peer_thumbprint_sha256, thumbprint_sha256};
pub use server::{ClientCertificates, ServerTls, Tickets};
pub use server_certificate::{CertificateByAlpn, Reloaded, ServerCertificate};

/// What every configuration here speaks, the better first.
const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

/// Longest chain, in certificates, that is loaded or judged. Real ones have two to four.
const CHAIN_LIMIT: usize = 16;

/// The one source of cryptography, for those who build a rustls configuration of their own.
///
/// Its suites are all AEAD with forward secrecy; its key exchanges include X25519MLKEM768.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// rustls refused a configuration, or the system gave no randomness for ticket keys.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up")]
pub struct TlsSetupError(#[from] rustls::Error);

#[cfg(test)]
mod tests {
    use rustls::{CipherSuite, ProtocolVersion};

    use super::*;

    #[test]
    fn only_forward_secret_aead_suites_are_offered() {
        let suites = &provider().cipher_suites;
        assert!(!suites.is_empty());
        for suite in suites {
            let name = format!("{:?}", suite.suite());
            let forward_secret = name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_");
            assert!(forward_secret && (name.contains("_GCM_") || name.contains("_POLY1305_")), "{name}");
        }
        let none = suites.iter().any(|suite| suite.suite() == CipherSuite::TLS_RSA_WITH_AES_128_GCM_SHA256);
        assert!(!none, "no key transport by RSA");
    }

    #[test]
    fn only_tls_1_2_and_1_3_are_spoken() {
        assert_eq!(
            VERSIONS.map(|version| version.version),
            [ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2]
        );
    }
}
