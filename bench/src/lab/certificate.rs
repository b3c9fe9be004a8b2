//! A throw-away authority, and server certificates of both kinds of key for all peers alike.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::LabError;

/// Kind of a server's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KeyKind {
    /// ECDSA on P-256.
    Ecdsa,
    /// RSA of 2048 bits.
    Rsa,
}

/// Files of a server certificate, PEM.
#[derive(Debug, Clone)]
pub(crate) struct ServerFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Certificate and key in one file, as haproxy wants them.
    pub(crate) both: PathBuf,
}

/// An authority whose certificates every server of one measurement shows.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Its certificate, PEM.
    pub(crate) file: PathBuf,
}

impl Authority {
    /// Makes one, its certificate in `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self, LabError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Roamgate bench authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let file = folder.join("authority.pem");
        write(&file, issuer.pem())?;
        Ok(Self { issuer, file })
    }

    /// Makes a certificate for `localhost` and `127.0.0.1`.
    pub(crate) fn issue(&self, folder: &Path, name: &str, kind: KeyKind) -> Result<ServerFiles, LabError> {
        let key = match kind {
            KeyKind::Ecdsa => KeyPair::generate()?,
            KeyKind::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?,
        };
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])?;
        params.distinguished_name.push(DnType::CommonName, "localhost");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let files = ServerFiles {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}-key.pem")),
            both: folder.join(format!("{name}-both.pem")),
        };
        write(&files.certificate, &certificate)?;
        write(&files.key, key.serialize_pem())?;
        write(&files.both, certificate + &key.serialize_pem())?;
        Ok(files)
    }

    /// Makes a certificate for a device of this name: its file and that of its key, both DER.
    pub(crate) fn issue_device(&self, folder: &Path, name: &str) -> Result<(PathBuf, PathBuf), LabError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let files = (folder.join(format!("{name}.der")), folder.join(format!("{name}-key.der")));
        write(&files.0, certificate.der())?;
        write(&files.1, key.serialized_der())?;
        Ok(files)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.file.display())
    }
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), LabError> {
    runtime::config::private_file::write(path, bytes)
        .map_err(|error| LabError::File { path: path.to_owned(), source: std::io::Error::other(error) })
}
