//! An organisation's PKI as a story needs it: a root that issues certificates for devices, ends them,
//! and revokes them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SerialNumber,
};

/// Life of the root and of lists: longer than any story.
const LIFE: i64 = 5 * 365 * 86_400;
/// How far back everything begins.
const BEFORE: i64 = 3600;

/// The PKI.
pub(crate) struct Organisation {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    began: i64,
    lists: u64,
}

impl Organisation {
    /// Makes it in a folder. `began`: seconds since the Unix epoch.
    pub(crate) fn new(folder: &Path, began: i64) -> Self {
        let mut root = CertificateParams::new(Vec::new()).expect("parameters");
        root.distinguished_name.push(DnType::CommonName, "Contoso Root CA");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        root.not_before = at(began - BEFORE).into();
        root.not_after = at(began + LIFE).into();
        let issuer = CertifiedIssuer::self_signed(root, key()).expect("a root");
        let folder = folder.join("organisation");
        runtime::config::private_dir::create(&folder).expect("a folder");
        std::fs::write(folder.join("root.pem"), issuer.pem()).expect("a file");
        Self { issuer, folder, began, lists: 0 }
    }

    /// The root's certificate.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    /// Puts a certificate for a device, and its key, into a certificate store.
    pub(crate) fn issue(&self, device: &str, serial: u64, ends: i64, store: &Path) {
        let mut leaf = CertificateParams::new(vec![format!("{device}.contoso.com")]).expect("parameters");
        leaf.distinguished_name.push(DnType::CommonName, format!("{device}.contoso.com"));
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        leaf.serial_number = Some(SerialNumber::from(serial));
        leaf.not_before = at(self.began - BEFORE).into();
        leaf.not_after = at(ends).into();
        let key = key();
        let leaf = leaf.signed_by(&key, &self.issuer).expect("a certificate");
        let file = |ending: &str| store.join(format!("device-{serial}.{ending}"));
        // The key first: a certificate without its key is none that can be used.
        runtime::config::private_file::write(file("key"), key.serialize_pem()).expect("a file");
        runtime::config::private_file::write(file("pem"), leaf.pem()).expect("a file");
    }

    /// The next revocation list, with these certificates on it.
    pub(crate) fn list(&mut self, revoked: &[u64], now: i64) -> PathBuf {
        self.lists += 1;
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: at(now).into(),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: at(now).into(),
            next_update: at(self.began + LIFE).into(),
            crl_number: SerialNumber::from(self.lists),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list");
        let file = self.folder.join(format!("{}.crl", self.lists));
        std::fs::write(&file, list.der()).expect("a file");
        file
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key")
}

/// A moment, from seconds since the Unix epoch.
fn at(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).expect("after 1970"))
}
