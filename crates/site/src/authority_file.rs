//! Files that hold authorities, in the forms in which people have them.

use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use der::oid::ObjectIdentifier;
use der::{Decode, Encode};
use p12_keystore::Pkcs12Archive;
use proto::pki::TrustedCa;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::limits;

/// `id-signedData`: what a PKCS#7 file with certificates only is.
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

/// A file that holds no authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadAuthoritiesError {
    /// None of the forms that are read.
    #[error("this is no certificate, PEM bundle, PKCS#7 or PFX file")]
    Unreadable,
    /// A PFX file that does not open.
    #[error("the PFX file does not open with this password")]
    Password,
    /// Certificates, but none of an authority.
    #[error("the file holds no authority's certificate (certificates in it: {0})")]
    NoAuthority(usize),
    /// More than a chain bundle can hold.
    #[error("more than {} certificates, or more than {} bytes", limits::AUTHORITIES, limits::AUTHORITY_FILE)]
    TooMany,
}

/// Reads authorities from a file as people have them: PEM (also several), DER, PKCS#7, PFX. Of a PFX
/// only certificates are taken, never the key; certificates of no authority are passed over, because
/// chains are often kept together with what they are for.
pub fn read_authorities(
    bytes: &[u8],
    password: Option<&str>,
) -> Result<Vec<TrustedCa>, ReadAuthoritiesError> {
    if bytes.len() > limits::AUTHORITY_FILE {
        return Err(ReadAuthoritiesError::TooMany);
    }
    let certificates = read_certificates(bytes, password)?;
    if certificates.len() > limits::AUTHORITIES {
        return Err(ReadAuthoritiesError::TooMany);
    }
    let mut authorities: Vec<TrustedCa> = Vec::new();
    for der in &certificates {
        if let Some(authority) = authority(der)?
            && !authorities.contains(&authority)
        {
            authorities.push(authority);
        }
    }
    if authorities.is_empty() {
        return Err(ReadAuthoritiesError::NoAuthority(certificates.len()));
    }
    Ok(authorities)
}

/// An authority's certificate; `None`: somebody else's.
fn authority(der: &[u8]) -> Result<Option<TrustedCa>, ReadAuthoritiesError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| ReadAuthoritiesError::Unreadable)?;
    if !certificate.is_ca() {
        return Ok(None);
    }
    Ok(Some(TrustedCa { der: der.to_vec(), root: is_own_issuer(&certificate) }))
}

/// Whether chains end here: it names itself, by name and, where it says, by key. An authority that
/// changed its key signs its new certificate with the old one: that one has the same name twice and
/// is no root.
fn is_own_issuer(certificate: &X509Certificate<'_>) -> bool {
    let extensions = certificate.extensions().iter();
    let (mut own, mut issuer) = (None, None);
    for extension in extensions {
        match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => own = Some(id.0),
            x509_parser::extensions::ParsedExtension::AuthorityKeyIdentifier(id) => {
                issuer = id.key_identifier.as_ref().map(|id| id.0);
            }
            _ => {}
        }
    }
    let same_key = match (own, issuer) {
        (Some(own), Some(issuer)) => own == issuer,
        _ => true,
    };
    certificate.subject().as_raw() == certificate.issuer().as_raw() && same_key
}

fn read_certificates(bytes: &[u8], password: Option<&str>) -> Result<Vec<Vec<u8>>, ReadAuthoritiesError> {
    if bytes.windows(11).any(|window| window == b"-----BEGIN ") {
        return read_pem(bytes);
    }
    if let Ok(([], _)) = X509Certificate::from_der(bytes) {
        return Ok(vec![bytes.to_vec()]);
    }
    if let Some(certificates) = read_pkcs7(bytes) {
        return Ok(certificates);
    }
    // A PFX begins with its version, 3; anything else that is left is no file of ours.
    if !is_pfx(bytes) {
        return Err(ReadAuthoritiesError::Unreadable);
    }
    let archive = Pkcs12Archive::from_pkcs12(bytes, password.unwrap_or_default());
    let archive = archive.map_err(|_| ReadAuthoritiesError::Password)?;
    Ok(archive.certs.iter().map(|bag| bag.cert.as_der().to_vec()).collect())
}

fn read_pem(bytes: &[u8]) -> Result<Vec<Vec<u8>>, ReadAuthoritiesError> {
    let mut certificates = Vec::new();
    for block in Pem::iter_from_buffer(bytes) {
        let block = block.map_err(|_| ReadAuthoritiesError::Unreadable)?;
        match block.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => certificates.push(block.contents),
            "PKCS7" | "CMS" => {
                let more = read_pkcs7(&block.contents).ok_or(ReadAuthoritiesError::Unreadable)?;
                certificates.extend(more);
            }
            // Keys and whatever else lies in the same file are not looked at.
            _ => {}
        }
        if certificates.len() > limits::AUTHORITIES {
            return Err(ReadAuthoritiesError::TooMany);
        }
    }
    if certificates.is_empty() { Err(ReadAuthoritiesError::Unreadable) } else { Ok(certificates) }
}

/// The certificates of a PKCS#7 file; `None`: it is none.
fn read_pkcs7(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let info = ContentInfo::from_der(bytes).or_else(|_| ContentInfo::from_ber(bytes)).ok()?;
    if info.content_type != SIGNED_DATA {
        return None;
    }
    let content = info.content.to_der().ok()?;
    let data = SignedData::from_der(&content).or_else(|_| SignedData::from_ber(&content)).ok()?;
    let certificates = data.certificates?.0;
    let mut out = Vec::new();
    for choice in certificates.iter() {
        if let CertificateChoices::Certificate(certificate) = choice {
            let der = certificate.to_der().ok()?;
            // Written anew it must be what was read, or its signature would not fit.
            bytes.windows(der.len()).any(|window| window == der).then_some(())?;
            out.push(der);
        }
    }
    Some(out)
}

/// `SEQUENCE { INTEGER 3, …`, in the lengths that files of a sensible size have.
fn is_pfx(bytes: &[u8]) -> bool {
    let ([0x30, 0x80, body @ ..]
    | [0x30, 0x81, _, body @ ..]
    | [0x30, 0x82, _, _, body @ ..]
    | [0x30, 0x83, _, _, _, body @ ..]) = bytes
    else {
        return false;
    };
    body.starts_with(&[0x02, 0x01, 0x03])
}
