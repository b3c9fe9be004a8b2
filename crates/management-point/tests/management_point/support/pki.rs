//! An organisation's PKI: a root, an intermediate below it, and what they issue.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use proto::client_certificate::{ProofOf, Scheme};
use proto::id::Thumbprint;
use proto::pki::TrustedCa;
use proto::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    RevocationReason, RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::TestDevice;

const DAY: u64 = 24 * 3600;

/// A root and an intermediate, both of one company.
pub(crate) struct Pki {
    root: CertifiedIssuer<'static, KeyPair>,
    issuing: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its chain (leaf first, without the root) and key.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) pkcs8: Vec<u8>,
    serial: u64,
}

impl Leaf {
    /// The headers that prove its key for a device's, in a message with this id.
    pub(crate) fn proof(&self, of: ProofOf) -> Vec<(&'static str, String)> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.pkcs8).unwrap();
        let sign = |scheme, message: &[u8]| {
            assert_eq!(scheme, Scheme::EcdsaP256Sha256);
            key.sign(&SystemRandom::new(), message).map(|signature| signature.as_ref().to_vec())
        };
        of.headers(&self.chain, sign).unwrap()
    }

    pub(crate) fn thumbprint(&self) -> Thumbprint {
        Thumbprint::of(&self.chain[0])
    }
}

/// What a leaf is like; the rest is as it should be.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) name: &'static str,
    pub(crate) serial: u64,
    pub(crate) usage: ExtendedKeyUsagePurpose,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

impl Wish {
    /// A client certificate for a year.
    pub(crate) fn client(name: &'static str, serial: u64, now: Timestamp) -> Self {
        let from = now.minus(Duration::from_secs(DAY));
        let until = now.plus(Duration::from_secs(365 * DAY));
        Self { name, serial, usage: ExtendedKeyUsagePurpose::ClientAuth, from, until }
    }

    pub(crate) fn server(serial: u64, now: Timestamp) -> Self {
        Self { usage: ExtendedKeyUsagePurpose::ServerAuth, ..Self::client("localhost", serial, now) }
    }
}

fn since_epoch(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.seconds()).unwrap())
}

fn set_validity(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(from);
    params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(until);
}

fn authority(name: &str, path: u8, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let day = Duration::from_secs(DAY);
    set_validity(&mut params, now.minus(day), now.plus(day * 3650));
    params
}

impl Pki {
    pub(crate) fn new(company: &str, now: Timestamp) -> Self {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let root =
            CertifiedIssuer::self_signed(authority(&format!("{company} Root"), 1, now), key()).unwrap();
        let issuing = authority(&format!("{company} Issuing"), 0, now);
        let issuing = CertifiedIssuer::signed_by(issuing, key(), &root).unwrap();
        Self { root, issuing }
    }

    pub(crate) fn root(&self) -> Vec<u8> {
        self.root.der().to_vec()
    }

    /// What an operator tells the site to trust.
    pub(crate) fn authorities(&self) -> Vec<TrustedCa> {
        vec![
            TrustedCa { der: self.root.der().to_vec(), root: true },
            TrustedCa { der: self.issuing.der().to_vec(), root: false },
        ]
    }

    /// A certificate for a fresh key.
    pub(crate) fn issue(&self, wish: &Wish) -> Leaf {
        self.issue_for(wish, &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    }

    /// A certificate for the key of a device.
    pub(crate) fn issue_to(&self, wish: &Wish, device: &TestDevice) -> Leaf {
        self.issue_for(wish, &KeyPair::try_from(device.pkcs8.as_slice()).unwrap())
    }

    fn issue_for(&self, wish: &Wish, key: &KeyPair) -> Leaf {
        let mut params = CertificateParams::new(vec![wish.name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, wish.name);
        params.serial_number = Some(SerialNumber::from(wish.serial));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![wish.usage.clone()];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, wish.from, wish.until);
        let leaf = params.signed_by(key, &self.issuing).unwrap();
        let chain = vec![leaf.der().to_vec(), self.issuing.der().to_vec()];
        Leaf { chain, pkcs8: key.serialize_der(), serial: wish.serial }
    }

    /// The revocation lists of both authorities, good for a week from `now`.
    pub(crate) fn crls(&self, number: u64, revoked: &[&Leaf], now: Timestamp) -> Vec<Vec<u8>> {
        let epoch = date_time_ymd(1970, 1, 1);
        let list = |issuer: &CertifiedIssuer<'static, KeyPair>, revoked_certs| {
            let params = CertificateRevocationListParams {
                this_update: epoch + since_epoch(now),
                next_update: epoch + since_epoch(now.plus(Duration::from_secs(7 * DAY))),
                crl_number: SerialNumber::from(number),
                issuing_distribution_point: None,
                revoked_certs,
                key_identifier_method: KeyIdMethod::Sha256,
            };
            params.signed_by(issuer).unwrap().der().to_vec()
        };
        let taken_back = revoked.iter().map(|leaf| RevokedCertParams {
            serial_number: SerialNumber::from(leaf.serial),
            revocation_time: epoch + since_epoch(now),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        vec![list(&self.root, Vec::new()), list(&self.issuing, taken_back.collect())]
    }
}
