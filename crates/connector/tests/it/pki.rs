//! A site's certificates, for one test.

use proto::bundle::LinkIdentity;
use proto::link::RoleTrust;
use proto::pki::{TrustList, TrustedCa};
use proto::trust::Purpose;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use runtime::tls::OwnCertificate;

/// A site root.
pub(crate) struct Pki {
    pub(crate) root_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = params("SMS Issuing");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root_pem = params.self_signed(&key).unwrap().pem();
        Self { root_pem, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn issue(&self, purpose: Purpose, name: &str) -> LinkIdentity {
        let mut params = params(name);
        params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(purpose.oid().to_vec())];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        LinkIdentity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }
}

/// An authority of the organisation, which is not the site's.
pub(crate) struct Organisation {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Organisation {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { der, issuer: Issuer::new(params, key) }
    }

    /// What a role must have been issued by.
    pub(crate) fn trust(&self) -> RoleTrust {
        let authority = TrustedCa { der: self.der.clone(), root: true };
        RoleTrust::Pki { list: TrustList { authorities: vec![authority] } }
    }

    /// A certificate for this name or address, and this use.
    pub(crate) fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> LinkIdentity {
        let mut params = params(name);
        params.subject_alt_names = match name.parse() {
            Ok(address) => vec![rcgen::SanType::IpAddress(address)],
            Err(_) => vec![rcgen::SanType::DnsName(name.try_into().unwrap())],
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        LinkIdentity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }
}

/// What rustls takes.
pub(crate) fn own(identity: &LinkIdentity) -> OwnCertificate {
    OwnCertificate::from_pem(identity.certificate_pem.as_bytes(), identity.key_pem.as_bytes()).unwrap()
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 1, 1);
    params
}
