//! The certificate that the stand-in shows, and the authority that signs it.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use runtime::tls::{MaterialError, OwnCertificate};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

/// A certification authority for a server of a test or lab. It lives long, so that a moved clock
/// does not end it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ca {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PEM (PKCS#8).
    pub key: String,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca(..)")
    }
}

/// The authority did not make a certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Certificate or key of the authority, or the name to sign, is not usable.
    #[error("certificate not made")]
    Make(#[from] rcgen::Error),
    /// What was made cannot be shown.
    #[error("certificate cannot be shown")]
    Show(#[from] MaterialError),
}

impl Ca {
    /// Makes an authority of this name.
    pub fn make(name: &str) -> Result<Self, CaError> {
        let mut params = params(name, Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Signs a server certificate for these names and addresses.
    pub fn issue(&self, names: Vec<String>) -> Result<OwnCertificate, CaError> {
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let name = names.first().cloned().unwrap_or_default();
        let mut params = params(&name, names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(OwnCertificate::from_der(vec![certificate.der().clone()], key)?)
    }
}

fn params(name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    Ok(params)
}
