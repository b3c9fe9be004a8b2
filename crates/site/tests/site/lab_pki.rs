//! Authorities, certificates and revocation lists for tests, valid at the clock of the tests.

use std::time::Duration;

use proto::pki::TrustedCa;
use proto::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

use crate::support::START;

/// An authority with its key.
pub(crate) struct LabCa {
    pub(crate) der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    root: bool,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2030, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca_params(name: &str, list_of_issuer: Option<&str>) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.crl_distribution_points =
        list_of_issuer.map(|url| CrlDistributionPoint { uris: vec![url.to_owned()] }).into_iter().collect();
    params
}

impl LabCa {
    pub(crate) fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name, None);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { der, issuer: Issuer::new(params, key), root: true }
    }

    /// An authority below this one, whose list is at `url`.
    pub(crate) fn issuing(&self, name: &str, url: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name, Some(url));
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Self { der, issuer: Issuer::new(params, key), root: false }
    }

    pub(crate) fn trusted(&self) -> TrustedCa {
        TrustedCa { der: self.der.clone(), root: self.root }
    }

    /// A device's certificate with this serial; the list of its issuer is at `url`.
    pub(crate) fn device(&self, name: &str, serial: u64, url: &str) -> Vec<u8> {
        let mut params = params(name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![url.to_owned()] }];
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().to_vec()
    }

    /// Its revocation list: made now, good for a week.
    pub(crate) fn crl(&self, number: u64, revoked: impl IntoIterator<Item = u64>) -> Vec<u8> {
        self.crl_at(number, revoked, Timestamp::from_seconds(START))
    }

    pub(crate) fn crl_at(
        &self,
        number: u64,
        revoked: impl IntoIterator<Item = u64>,
        made: Timestamp,
    ) -> Vec<u8> {
        let made = date_time_ymd(1970, 1, 1) + Duration::from_secs(made.seconds().try_into().unwrap());
        let entry = |serial: u64| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 9, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: made,
            next_update: made + Duration::from_hours(7 * 24),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.into_iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}
