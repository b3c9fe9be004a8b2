//! A PKI that openssl makes, so that our certificates are not judged by our own idea of them.
//!
//! Dates are fixed and years long; everything is judged around [`NOW`]. Keys are made once for the
//! whole test binary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use proto::pki::{Crl, RevocationSettings, Revocations, TrustList, TrustStore, TrustStoreError, TrustedCa};
use proto::time::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use tempfile::TempDir;

/// The moment of most judgements: 2026-06-01T00:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_780_272_000);
/// One day.
pub(crate) const DAY: std::time::Duration = std::time::Duration::from_hours(24);

/// Extensions of an authority.
pub(crate) const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
    subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
/// Extensions of a device's certificate.
pub(crate) const CLIENT: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
    extendedKeyUsage=clientAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";

/// The keys, by the names under which they are used, and what `openssl genpkey` makes them of.
const KEYS: &[(&str, &[&str])] = &[
    ("root", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    ("issuing", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("deeper", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("other", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("leaf", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    ("p224", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224"]),
    ("rsa-authority", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ("rsa-1024", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]),
];

/// The folder of keys and authorities.
pub(crate) struct Lab {
    folder: TempDir,
    files: AtomicU32,
}

/// An authority: a certificate and the name of its key.
#[derive(Clone)]
pub(crate) struct Authority {
    key: &'static str,
    /// PEM.
    file: PathBuf,
    pub(crate) der: Vec<u8>,
}

/// A certificate to be made.
pub(crate) struct Wish<'a> {
    pub(crate) subject: &'a str,
    pub(crate) key: &'static str,
    pub(crate) serial: &'a str,
    pub(crate) from: &'a str,
    pub(crate) until: &'a str,
    pub(crate) digest: &'a str,
    pub(crate) extensions: &'a str,
}

/// A revocation list to be made.
pub(crate) struct ListWish<'a> {
    pub(crate) number: Option<&'a str>,
    pub(crate) from: &'a str,
    pub(crate) until: &'a str,
    pub(crate) digest: &'a str,
    /// Serial in hex, and the reason where there is one.
    pub(crate) revoked: &'a [(&'a str, &'a str)],
    /// Lines of an openssl extension section, and the sections that they refer to.
    pub(crate) extensions: &'a str,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Self {
            subject: "/O=Lab/CN=device-1.lab",
            key: "leaf",
            serial: "1001",
            from: "20260101000000Z",
            until: "20270101000000Z",
            digest: "sha256",
            extensions: CLIENT,
        }
    }
}

impl Default for ListWish<'_> {
    fn default() -> Self {
        Self {
            number: Some("10"),
            from: "20260530000000Z",
            until: "20260606000000Z",
            digest: "sha256",
            revoked: &[],
            extensions: "authorityKeyIdentifier=keyid:always\n",
        }
    }
}

/// The lab, made at the first call; `None` (with a printed reason) where openssl is missing.
pub(crate) fn lab() -> Option<&'static Lab> {
    static LAB: OnceLock<Option<Lab>> = OnceLock::new();
    let lab = LAB.get_or_init(|| {
        Command::new("openssl").arg("version").output().ok()?;
        let lab = Lab { folder: TempDir::new().expect("a folder"), files: AtomicU32::new(0) };
        for (name, options) in KEYS {
            let file = lab.key(name);
            lab.openssl(&[&["genpkey", "-out", &text(&file)], *options].concat());
        }
        Some(lab)
    });
    if lab.is_none() {
        println!("skipped: there is no openssl here");
    }
    lab.as_ref()
}

impl Lab {
    /// Path of a key file (PEM).
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.key"))
    }

    /// A fresh path.
    pub(crate) fn file(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("{}{suffix}", self.files.fetch_add(1, Ordering::Relaxed)))
    }

    /// Runs openssl.
    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .expect("openssl runs");
        assert!(
            output.status.success(),
            "openssl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// A root of this name.
    pub(crate) fn root(&self, subject: &str, key: &'static str) -> Authority {
        let wish =
            Wish { subject, key, serial: "01", until: "20360101000000Z", extensions: CA, ..Wish::default() };
        self.make(None, &wish)
    }

    /// An authority below another.
    pub(crate) fn authority(
        &self,
        above: &Authority,
        subject: &str,
        key: &'static str,
        serial: &str,
    ) -> Authority {
        let wish = Wish { subject, key, serial, until: "20310101000000Z", extensions: CA, ..Wish::default() };
        self.authority_as(above, &wish)
    }

    /// An authority below another, just so.
    pub(crate) fn authority_as(&self, above: &Authority, wish: &Wish<'_>) -> Authority {
        self.make(Some(above), wish)
    }

    /// A certificate (DER).
    pub(crate) fn issue(&self, authority: &Authority, wish: &Wish<'_>) -> Vec<u8> {
        self.make(Some(authority), wish).der
    }

    fn make(&self, authority: Option<&Authority>, wish: &Wish<'_>) -> Authority {
        let key = text(&self.key(wish.key));
        let request = text(&self.file(".csr"));
        self.openssl(&["req", "-new", "-key", &key, "-subj", wish.subject, "-out", &request, "-utf8"]);
        let database = self.database(&[], wish.digest, &format!("[ wish ]\n{}", wish.extensions), None);
        let serial = database.join("serial");
        std::fs::write(&serial, format!("{}\n", wish.serial)).expect("written");
        let out = text(&self.file(".pem"));
        let config = text(&database.join("ca.cnf"));
        let fixed = [
            "ca",
            "-batch",
            "-notext",
            "-preserveDN",
            "-config",
            &config,
            "-extensions",
            "wish",
            "-in",
            &request,
            "-out",
            &out,
            "-startdate",
            wish.from,
            "-enddate",
            wish.until,
            "-md",
            wish.digest,
        ];
        match authority {
            None => self.openssl(&[&fixed[..], &["-selfsign", "-keyfile", &key]].concat()),
            Some(authority) => {
                let (file, key) = (text(&authority.file), text(&self.key(authority.key)));
                self.openssl(&[&fixed[..], &["-cert", &file, "-keyfile", &key]].concat());
            }
        }
        let der = CertificateDer::from_pem_file(&out).expect("a certificate").to_vec();
        Authority { key: wish.key, file: out.into(), der }
    }

    /// A revocation list (DER).
    pub(crate) fn list(&self, authority: &Authority, wish: &ListWish<'_>) -> Vec<u8> {
        let sections = format!("[ list ]\n{}", wish.extensions);
        let database = self.database(wish.revoked, wish.digest, &sections, wish.number);
        let out = text(&self.file(".crl"));
        let (certificate, key) = (text(&authority.file), text(&self.key(authority.key)));
        let config = text(&database.join("ca.cnf"));
        let fixed = [
            "ca",
            "-gencrl",
            "-batch",
            "-config",
            &config,
            "-cert",
            &certificate,
            "-keyfile",
            &key,
            "-out",
            &out,
            "-crl_lastupdate",
            wish.from,
            "-crl_nextupdate",
            wish.until,
            "-md",
            wish.digest,
        ];
        let extensions: &[&str] = if wish.extensions.is_empty() { &[] } else { &["-crlexts", "list"] };
        self.openssl(&[&fixed[..], extensions].concat());
        CertificateRevocationListDer::from_pem_file(&out).expect("a list").to_vec()
    }

    fn database(
        &self,
        revoked: &[(&str, &str)],
        digest: &str,
        sections: &str,
        number: Option<&str>,
    ) -> PathBuf {
        let folder = self.file("-database");
        std::fs::create_dir(&folder).expect("a folder");
        let row = |(serial, reason): &(&str, &str)| {
            let comma = if reason.is_empty() { "" } else { "," };
            format!("R\t270101000000Z\t260520120000Z{comma}{reason}\t{serial}\tunknown\t/CN={serial}\n")
        };
        let index: String = revoked.iter().map(row).collect();
        std::fs::write(folder.join("index.txt"), index).expect("written");
        std::fs::write(folder.join("index.txt.attr"), "unique_subject = no\n").expect("written");
        let place = text(&folder);
        let number_line = number.map_or_else(String::new, |number| {
            std::fs::write(folder.join("crlnumber"), format!("{number}\n")).expect("written");
            format!("crlnumber = {place}/crlnumber\n")
        });
        let config = format!(
            "[ ca ]\ndefault_ca = this\n[ this ]\ndatabase = {place}/index.txt\nnew_certs_dir = {place}\n\
             serial = {place}/serial\n{number_line}default_md = {digest}\npolicy = any\nunique_subject = no\n\
             default_crl_days = 7\nemail_in_dn = yes\n[ any ]\ncommonName = optional\n\
             organizationName = optional\n{sections}"
        );
        std::fs::write(folder.join("ca.cnf"), config).expect("written");
        folder
    }
}

impl Authority {
    /// As a root of a trust list.
    pub(crate) fn as_root(&self) -> TrustedCa {
        TrustedCa { der: self.der.clone(), root: true }
    }

    /// As an intermediate of a trust list.
    pub(crate) fn as_intermediate(&self) -> TrustedCa {
        TrustedCa { der: self.der.clone(), root: false }
    }
}

/// A store with these authorities and lists.
pub(crate) fn store(
    authorities: Vec<TrustedCa>,
    lists: Vec<Revocations>,
    settings: RevocationSettings,
) -> Result<TrustStore, TrustStoreError> {
    let revocations: BTreeMap<_, _> = lists.into_iter().map(|list| (list.issuer, Arc::new(list))).collect();
    TrustStore::new(&TrustList { authorities }, &revocations, settings)
}

/// A list that is in order, as it is kept.
pub(crate) fn kept(lab: &Lab, authority: &Authority, wish: &ListWish<'_>) -> Revocations {
    let crl = Crl::parse(&lab.list(authority, wish)).expect("a list");
    crl.verify(&authority.der, None, NOW).expect("a good list")
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("temporary folders have plain names").to_owned()
}
