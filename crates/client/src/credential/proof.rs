//! The proof of a PKI certificate, in headers beside a registration, a confirmation or a request for a
//! token: the certificate's key signs over the device's own key and this very message.

use proto::client_certificate::{ProofOf, ProofWriteError, Scheme};
use proto::http_signature::Header;
use runtime::tls::OwnCertificate;
use rustls::SignatureScheme;

/// The key of the certificate could not be used for a proof.
pub(crate) type ProofFailed = ProofWriteError<rustls::Error>;

/// The two headers.
pub(crate) fn headers(own: &OwnCertificate, proof: ProofOf) -> Result<Vec<Header>, ProofFailed> {
    let chain: Vec<Vec<u8>> = own.chain().iter().map(|der| der.to_vec()).collect();
    proof.headers(&chain, |scheme, message| sign(own, scheme, message))
}

fn sign(own: &OwnCertificate, scheme: Scheme, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let scheme = match scheme {
        Scheme::RsaPssSha256 => SignatureScheme::RSA_PSS_SHA256,
        Scheme::EcdsaP256Sha256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        Scheme::EcdsaP384Sha384 => SignatureScheme::ECDSA_NISTP384_SHA384,
    };
    let none = || rustls::Error::General("the key does not sign in this way".into());
    own.certified().key.choose_scheme(&[scheme]).ok_or_else(none)?.sign(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pki::{Leaf, Pki};
    use proto::client_certificate::verify;
    use proto::id::{Guid, Thumbprint};
    use proto::time::Timestamp;

    #[test]
    fn a_proof_holds_for_its_device_its_message_and_its_site() {
        let issued = Pki::with_intermediate("Root", "Issuing").issue(&Leaf::client("pc1"));
        let now = Timestamp::from_seconds(1_790_000_000);
        let (hierarchy, device_key) = (Guid::from_bytes([1; 16]), Thumbprint::of(b"device"));
        let message_id = Guid::from_bytes([2; 16]);
        let proof = ProofOf { hierarchy, device_key, message_id, created: now };
        let headers = headers(&issued.own(), proof).unwrap();
        let header = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        assert_eq!(verify(header, hierarchy, device_key, message_id, now).unwrap(), issued.chain);
        assert!(verify(header, Guid::nil(), device_key, message_id, now).is_err());
        assert!(verify(header, hierarchy, Thumbprint::of(b"other"), message_id, now).is_err());
    }
}
