//! An authority and its certificates, for the tests of this module.

use std::path::Path;

use proto::pki::{TrustList, TrustedCa};
use proto::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// An authority.
pub(super) struct Pki {
    issuer: Issuer<'static, KeyPair>,
    der: Vec<u8>,
}

/// In September 2026.
pub(super) fn now() -> Timestamp {
    Timestamp::from_seconds(1_790_000_000)
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    params
}

impl Pki {
    pub(super) fn new(name: &str) -> Self {
        let mut root = params(name);
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        root.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let key = KeyPair::generate().unwrap();
        let der = root.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(root, key), der }
    }

    /// What trusts this one alone.
    pub(super) fn list(&self) -> TrustList {
        TrustList { authorities: vec![TrustedCa { der: self.der.clone(), root: true }] }
    }
}

/// Writes a client's certificate named after its file, and its key if `with_key` says so.
pub(super) fn write(
    folder: &Path,
    file: &str,
    pki: &Pki,
    with_key: bool,
    change: impl FnOnce(&mut CertificateParams),
) {
    let mut leaf = params(file);
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut leaf);
    let key = KeyPair::generate().unwrap();
    let certificate = leaf.signed_by(&key, &pki.issuer).unwrap();
    std::fs::write(folder.join(format!("{file}.crt")), certificate.pem()).unwrap();
    if with_key {
        let path = folder.join(format!("{file}.key"));
        runtime::config::private_file::write(path, key.serialize_pem()).unwrap();
    }
}
