//! The files of the client certificates: read, parsed, each certificate with its key.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use proto::limits;
use runtime::config::private_file::{self, PrivateFileError};
use runtime::tls::OwnCertificate;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Files of one kind that are read; a connection point has one certificate, or one for each of a few authorities.
const FILES: usize = 32;
/// Longest certificate file in bytes: a whole chain, with the texts that some tools put in front.
const CERTIFICATE_FILE_BYTES: u64 = 256 * 1024;
/// Longest name of a certificate in a line, in characters.
const NAME_CHARS: usize = 200;

/// Where the files are.
#[derive(Debug)]
pub(crate) struct Files {
    certificates: Vec<PathBuf>,
    keys: Vec<PathBuf>,
}

/// What is in them.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order of their files.
    pub(super) candidates: Vec<Candidate>,
    /// What could not be used, and why.
    pub(super) problems: Vec<String>,
}

/// A certificate that may be chosen.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Leaf first, DER.
    pub(super) chain: Vec<Vec<u8>>,
    /// Subject and SHA-1 of the leaf, for lines.
    pub(super) name: String,
    /// SHA-1 of the leaf in hex, by which the field names certificates.
    pub(super) sha1: String,
    /// Whether its key may sign, as far as the certificate says.
    pub(super) may_sign: bool,
    /// Its end, in seconds since the Unix epoch.
    pub(super) not_after: i64,
    /// With its key, when that is among the keys.
    pub(super) own: Option<Arc<OwnCertificate>>,
}

/// Why a file is passed over.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} has more than {CERTIFICATE_FILE_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    #[error("there is no certificate in {}", .0.display())]
    NoCertificate(PathBuf),
    #[error("the PEM text in {} is damaged: {source}", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("the first certificate in {} cannot be read", .0.display())]
    Certificate(PathBuf),
    #[error("a private key is not available: {0}")]
    Key(PrivateFileError),
    #[error("only the first {FILES} files are read")]
    TooMany,
}

impl Files {
    /// Files or folders of them.
    pub(crate) fn new(certificates: Vec<PathBuf>, keys: Vec<PathBuf>) -> Self {
        Self { certificates, keys }
    }

    /// Reads everything. Blocks.
    pub(super) fn read(&self) -> Found {
        let mut problems = Vec::new();
        let mut keys = Vec::new();
        for listed in list(&self.keys, &["pem", "key"], &mut problems) {
            match read_key(&listed) {
                Ok(key) => keys.extend(key),
                Err(error) => problems.push(error),
            }
        }
        let mut candidates = Vec::new();
        for listed in list(&self.certificates, &["pem", "crt", "cer"], &mut problems) {
            match Candidate::read(&listed, &keys) {
                Ok(candidate) => candidates.extend(candidate),
                Err(error) => problems.push(error),
            }
        }
        Found { candidates, problems: problems.iter().map(ToString::to_string).collect() }
    }
}

/// A file that was named, or found in a folder that was.
struct Listed {
    path: PathBuf,
    /// In a folder other things may stand beside what is looked for.
    from_folder: bool,
}

/// The files that paths mean, in a steady order.
fn list(paths: &[PathBuf], extensions: &[&str], problems: &mut Vec<FileError>) -> Vec<Listed> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(Listed { path: path.clone(), from_folder: false });
            continue;
        }
        match entries(path, extensions) {
            Ok(found) => {
                files.extend(found.into_iter().map(|path| Listed { path, from_folder: true }));
            }
            Err(source) => problems.push(FileError::Read { path: path.clone(), source }),
        }
    }
    if files.len() > FILES {
        files.truncate(FILES);
        problems.push(FileError::TooMany);
    }
    files
}

fn entries(folder: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if path.is_file() && extensions.iter().any(|known| known.eq_ignore_ascii_case(extension)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read_key(listed: &Listed) -> Result<Option<PrivateKeyDer<'static>>, FileError> {
    // Of a folder's files some hold certificates and may be open to all.
    if listed.from_folder && !holds_key(&read_text(&listed.path)?) {
        return Ok(None);
    }
    let text = private_file::read(&listed.path).map_err(FileError::Key)?;
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|source| FileError::Pem { path: listed.path.clone(), source })?;
    Ok(Some(key))
}

fn holds_key(text: &[u8]) -> bool {
    text.windows(b"PRIVATE KEY-----".len()).any(|part| part == b"PRIVATE KEY-----")
}

fn read_text(path: &Path) -> Result<Vec<u8>, FileError> {
    let read = |source| FileError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    File::open(path).map_err(read)?.take(CERTIFICATE_FILE_BYTES + 1).read_to_end(&mut text).map_err(read)?;
    if text.len() as u64 > CERTIFICATE_FILE_BYTES {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    Ok(text)
}

impl Candidate {
    fn read(listed: &Listed, keys: &[PrivateKeyDer<'static>]) -> Result<Option<Self>, FileError> {
        let path = || listed.path.clone();
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read_text(&listed.path)?)
            .take(limits::CHAIN_CERTIFICATES)
            .collect::<Result<_, _>>()
            .map_err(|source| FileError::Pem { path: path(), source })?;
        let Some(leaf) = chain.first() else {
            return if listed.from_folder { Ok(None) } else { Err(FileError::NoCertificate(path())) };
        };
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| FileError::Certificate(path()))?;
        let subject: String =
            parsed.subject().to_string().chars().filter(|c| !c.is_control()).take(NAME_CHARS).collect();
        let sha1 = hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, leaf).as_ref());
        // A certificate without the extension leaves its key's use open (RFC 5280, 4.2.1.3).
        let usage = parsed.key_usage().ok().flatten();
        let own = keys
            .iter()
            .find_map(|key| OwnCertificate::from_der(chain.clone(), key.clone_key()).ok())
            .map(Arc::new);
        Ok(Some(Self {
            name: format!("{subject}, {sha1}"),
            sha1,
            may_sign: usage.is_none_or(|usage| usage.value.digital_signature()),
            not_after: parsed.validity().not_after.timestamp(),
            own,
            chain: chain.iter().map(|der| der.to_vec()).collect(),
        }))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_damaged_is_named_and_the_rest_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let file = |name: &str| folder.path().join(name);
        // A certificate and its key in one file, as some tools write them.
        let both = format!("{}{}", key.serialize_pem(), certificate.pem());
        private_file::write(file("both.pem"), &both).unwrap();
        std::fs::write(file("readme.txt"), "nothing").unwrap();
        std::fs::write(file("empty.crt"), "nothing").unwrap();
        let folder_of = || vec![folder.path().to_owned()];
        let found = Files::new(folder_of(), folder_of()).read();
        assert_eq!((found.candidates.len(), found.problems.len()), (1, 0), "{:?}", found.problems);
        assert!(found.candidates[0].own.is_some() && found.candidates[0].may_sign);

        let found = Files::new(vec![file("empty.crt"), file("none.crt"), file("both.pem")], vec![]).read();
        assert_eq!((found.candidates.len(), found.problems.len()), (1, 2));
        assert!(found.candidates[0].own.is_none());
        assert!(found.problems[0].contains("no certificate in") && found.problems[1].contains("none.crt"));
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let path = folder.path().join("open.key");
        std::fs::write(&path, key.serialize_pem()).unwrap();
        let found = Files::new(Vec::new(), vec![path]).read();
        assert_eq!(found.problems.len(), 1);
    }
}
