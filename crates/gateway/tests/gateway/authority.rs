//! An organisation's certificate authorities, and what they issue and take back.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::id::Thumbprint;
use proto::pki::{Crl, IssuerId, Revocations, TrustList, TrustedCa};
use proto::snapshot::Change;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use runtime::tls::OwnCertificate;

use crate::site::NOW;

/// An authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    pub(crate) der: Vec<u8>,
    is_root: bool,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn of_authority(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_after = date_time_ymd(2030, 1, 1);
    params
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        let (params, key) = (of_authority(name), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().to_vec());
        Self { issuer: Issuer::new(params, key), pem, der, is_root: true }
    }

    /// One below this one, with this serial number.
    pub(crate) fn below(&self, name: &str, serial: u64) -> Self {
        let (mut params, key) = (of_authority(name), KeyPair::generate().unwrap());
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().to_vec());
        Self { issuer: Issuer::new(params, key), pem, der, is_root: false }
    }

    /// A device's certificate. The chain holds this authority too, unless it is a root.
    pub(crate) fn issue(&self, serial: u64, change: impl FnOnce(&mut CertificateParams)) -> OwnCertificate {
        self.issue_with(serial, change, !self.is_root)
    }

    /// One of a device that leaves out everything else of its chain.
    pub(crate) fn issue_alone(&self, serial: u64) -> OwnCertificate {
        self.issue_with(serial, |_| {}, false)
    }

    fn issue_with(
        &self,
        serial: u64,
        change: impl FnOnce(&mut CertificateParams),
        whole: bool,
    ) -> OwnCertificate {
        let (mut params, key) = (params(&format!("pc{serial}")), KeyPair::generate().unwrap());
        params.serial_number = Some(SerialNumber::from(serial));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap().pem();
        let chain = if whole { format!("{leaf}{}", self.pem) } else { leaf };
        OwnCertificate::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    /// The list of this number, of yesterday, good for 29 more days.
    pub(crate) fn list(&self, number: u64, revoked: impl IntoIterator<Item = u64>) -> Revocations {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 9, 20),
            next_update: date_time_ymd(2026, 10, 20),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .into_iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(serial),
                    revocation_time: date_time_ymd(2026, 9, 19),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let der = list.signed_by(&self.issuer).unwrap().der().to_vec();
        Crl::parse(&der).unwrap().verify(&self.der, None, NOW).unwrap()
    }

    pub(crate) fn id(&self) -> IssuerId {
        self.list(1, []).issuer
    }
}

/// The change by which these are trusted, and no others.
pub(crate) fn trust(authorities: &[&Authority]) -> Change {
    let trusted = |authority: &&Authority| TrustedCa { der: authority.der.clone(), root: authority.is_root };
    Change::SetTrust(TrustList { authorities: authorities.iter().map(trusted).collect() })
}

/// As a snapshot holds them.
pub(crate) fn lists(lists: impl IntoIterator<Item = Revocations>) -> BTreeMap<IssuerId, Arc<Revocations>> {
    lists.into_iter().map(|list| (list.issuer, Arc::new(list))).collect()
}

pub(crate) fn thumbprint(certificate: &OwnCertificate) -> Thumbprint {
    Thumbprint::from_bytes(certificate.leaf().thumbprint_sha256())
}
