//! A PKI for tests: a root, perhaps an intermediate, and certificates of clients and servers.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use runtime::tls::OwnCertificate;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::credential::pki::{StoredCertificate, StoredKey};

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub(crate) struct Leaf<'a> {
    pub(crate) name: &'a str,
    pub(crate) unit: Option<&'a str>,
    pub(crate) for_clients: bool,
    /// First of January to first of January.
    pub(crate) years: (i32, i32),
    pub(crate) crl: Option<String>,
    pub(crate) serial: u64,
}

impl<'a> Leaf<'a> {
    pub(crate) fn client(name: &'a str) -> Self {
        Self { name, unit: None, for_clients: true, years: (2026, 2028), crl: None, serial: 7 }
    }

    pub(crate) fn server(name: &'a str) -> Self {
        Self { for_clients: false, ..Self::client(name) }
    }
}

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) der: Vec<u8>,
    pub(crate) pem: String,
    pub(crate) key_der: Vec<u8>,
    pub(crate) key_pem: String,
    /// The certificate and what leads to the root, without it.
    pub(crate) chain: Vec<Vec<u8>>,
}

impl Issued {
    pub(crate) fn own(&self) -> OwnCertificate {
        let chain = self.chain.iter().cloned().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::try_from(self.key_der.clone()).unwrap();
        OwnCertificate::from_der(chain, key).unwrap()
    }
}

pub(crate) struct Pki {
    root: rcgen::Certificate,
    intermediate: Option<rcgen::Certificate>,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new(name: &str) -> Self {
        let (key, params) = (KeyPair::generate().unwrap(), authority(name));
        let root = params.self_signed(&key).unwrap();
        Self { root, intermediate: None, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn with_intermediate(root: &str, name: &str) -> Self {
        let mut pki = Self::new(root);
        let (key, params) = (KeyPair::generate().unwrap(), authority(name));
        pki.intermediate = Some(params.signed_by(&key, &pki.issuer).unwrap());
        pki.issuer = Issuer::new(params, key);
        pki
    }

    pub(crate) fn root_pem(&self) -> String {
        self.root.pem()
    }

    pub(crate) fn intermediate_pem(&self) -> Option<String> {
        self.intermediate.as_ref().map(rcgen::Certificate::pem)
    }

    pub(crate) fn issue(&self, leaf: &Leaf<'_>) -> Issued {
        let mut params = CertificateParams::new(vec![leaf.name.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(unit) = leaf.unit {
            params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        }
        params.distinguished_name.push(DnType::CommonName, leaf.name);
        params.not_before = date_time_ymd(leaf.years.0, 1, 1);
        params.not_after = date_time_ymd(leaf.years.1, 1, 1);
        params.serial_number = Some(SerialNumber::from(leaf.serial));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let usage = if leaf.for_clients {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        };
        params.extended_key_usages = vec![usage];
        params.crl_distribution_points =
            leaf.crl.iter().map(|url| CrlDistributionPoint { uris: vec![url.clone()] }).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut chain = vec![certificate.der().to_vec()];
        chain.extend(self.intermediate.as_ref().map(|certificate| certificate.der().to_vec()));
        Issued {
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
            key_der: key.serialize_der(),
            key_pem: key.serialize_pem(),
            chain,
        }
    }

    pub(crate) fn stored(&self, leaf: &Leaf<'_>) -> StoredCertificate {
        let issued = self.issue(leaf);
        let own = Arc::new(issued.own());
        StoredCertificate {
            source: format!("{}.pem", leaf.name),
            chain: issued.chain,
            key: StoredKey::Usable(own),
        }
    }

    /// The issuing authority's revocation list, DER.
    pub(crate) fn crl(&self, revoked: &[u64], number: u64) -> Vec<u8> {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 9, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 9, 1),
            next_update: date_time_ymd(2027, 9, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}
