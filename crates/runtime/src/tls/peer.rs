//! What a certificate says about whoever showed it.

use aws_lc_rs::digest;
use rustls::CommonState;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Most names of one kind that are kept of a certificate; the rest is not looked at.
const NAME_LIMIT: usize = 100;

/// The readable part of a certificate. **It says nothing about trust**: names count only after its chain was
/// judged, and only together with the authority that signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    thumbprint: [u8; 32],
    common_name: Option<String>,
    dns_names: Vec<String>,
    uris: Vec<String>,
    not_before: i64,
    not_after: i64,
}

/// The bytes are not an X.509 certificate.
#[derive(Debug, thiserror::Error)]
#[error("not an X.509 certificate")]
pub struct UnreadableCertificate;

impl PeerCertificate {
    /// Reads the certificate `der`.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, UnreadableCertificate> {
        // The parser's own words name its internals and help nobody who holds a damaged file.
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| UnreadableCertificate)?;
        if !rest.is_empty() {
            return Err(UnreadableCertificate);
        }
        let names = certificate.subject_alternative_name().map_err(|_| UnreadableCertificate)?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let take = |pick: fn(&GeneralName<'_>) -> Option<String>| {
            names.iter().filter_map(pick).take(NAME_LIMIT).collect()
        };
        let validity = certificate.validity();
        Ok(Self {
            thumbprint: thumbprint_sha256(der),
            common_name: certificate
                .subject()
                .iter_common_name()
                .next()
                .and_then(|name| name.as_str().ok().map(str::to_owned)),
            dns_names: take(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            }),
            uris: take(|name| match name {
                GeneralName::URI(name) => Some((*name).to_owned()),
                _ => None,
            }),
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// SHA-256 over the whole certificate.
    pub fn thumbprint_sha256(&self) -> [u8; 32] {
        self.thumbprint
    }

    /// The subject's first common name, if it is text.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The DNS names among the subject's alternative names, at most a hundred.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// The URIs among the subject's alternative names, at most a hundred.
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// First second at which it is good, since the Unix epoch.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Last second at which it is good, since the Unix epoch.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }
}

/// SHA-256 over a whole certificate: its name in tokens (`cnf`) and in caches of verdicts.
pub fn thumbprint_sha256(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, certificate);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The thumbprint of the certificate that the other side of `connection` showed, in this handshake or in the
/// one that it resumes; `None` when it showed none. Takes a `&ServerConnection` or `&ClientConnection`.
pub fn peer_thumbprint_sha256(connection: &CommonState) -> Option<[u8; 32]> {
    connection.peer_certificates()?.first().map(thumbprint_sha256)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    #[test]
    fn names_and_validity_are_read() {
        let mut params = CertificateParams::new(vec!["a.example".into(), "b.example".into()]).unwrap();
        params.subject_alt_names.push(SanType::URI("roamgate:connection-point/7".try_into().unwrap()));
        params.distinguished_name.push(DnType::CommonName, "connection point 7");
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let read = PeerCertificate::parse(certificate.der()).unwrap();
        assert_eq!(read.common_name(), Some("connection point 7"));
        assert_eq!(read.dns_names(), ["a.example", "b.example"]);
        assert_eq!(read.uris(), ["roamgate:connection-point/7"]);
        assert_eq!((read.not_before(), read.not_after()), (1_767_225_600, 1_798_761_600));
        assert_eq!(read.thumbprint_sha256(), thumbprint_sha256(certificate.der()));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let certificate =
            CertificateParams::new(vec![]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut der = certificate.der().to_vec();
        der.push(0);
        assert!(PeerCertificate::parse(&der.into()).is_err());
    }
}
