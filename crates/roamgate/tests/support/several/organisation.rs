//! The organisation that runs the gateways: its authority, by which devices and connection points judge servers.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// An authority.
pub(crate) struct Organisation(CertifiedIssuer<'static, KeyPair>);

impl Organisation {
    pub(crate) fn new() -> Self {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "Example authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(authority, key).expect("a certificate"))
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A new server certificate for this machine, and its key.
    pub(crate) fn issue(&self) -> [String; 2] {
        let own = KeyPair::generate().expect("a key");
        let mut leaf = CertificateParams::new(vec!["localhost".into()]).expect("a name");
        leaf.distinguished_name.push(DnType::CommonName, "localhost");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = leaf.signed_by(&own, &self.0).expect("a certificate");
        [leaf.pem(), own.serialize_pem()]
    }
}
