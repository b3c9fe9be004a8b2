//! An organisation's PKI made by openssl, not by our code: a root, an issuing authority, certificates good
//! and bad, and their revocation lists.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// From before the recordings to long after any story.
const WHILE_IT_LASTS: [&str; 2] = ["20260101000000Z", "20360101000000Z"];

/// Files of the PKI.
pub(crate) struct Pki {
    folder: PathBuf,
    /// `CN` of the authorities begins with it.
    name: String,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    /// Leaf and issuing authority.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pki {
    /// Makes root and issuing authority in a folder.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        runtime::config::private_dir::create(folder).expect("a folder");
        let pki = Self { folder: folder.to_owned(), name: name.to_owned() };
        let ca = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
        for (file, title, signer) in [("root", "Root", None), ("issuing", "Issuing", Some("root"))] {
            pki.make_key(file);
            pki.request(file, &format!("/O={name}/CN={name} {title}"));
            pki.sign(file, signer, 0x1000, ca, WHILE_IT_LASTS);
            std::fs::rename(pki.file(&format!("{file}.leaf")), pki.file(&format!("{file}.pem")))
                .expect("a file");
        }
        let both =
            ["root.pem", "issuing.pem"].map(|file| std::fs::read_to_string(pki.file(file)).expect("PEM"));
        std::fs::write(pki.authorities(), both.concat()).expect("a file");
        pki
    }

    /// Root and issuing authority in one file.
    pub(crate) fn authorities(&self) -> PathBuf {
        self.file("authorities.pem")
    }

    /// The issuing authority's name.
    pub(crate) fn issuer(&self) -> String {
        format!("{} Issuing", self.name)
    }

    /// A client certificate that counts.
    pub(crate) fn client(&self, name: &str, serial: u32) -> Issued {
        self.issue(name, serial, "clientAuth", WHILE_IT_LASTS)
    }

    /// A client certificate that has ended.
    pub(crate) fn ended_client(&self, name: &str, serial: u32) -> Issued {
        self.issue(name, serial, "clientAuth", ["20240101000000Z", "20250101000000Z"])
    }

    /// A server certificate for this host.
    pub(crate) fn server(&self, serial: u32) -> Issued {
        self.issue("localhost", serial, "serverAuth", WHILE_IT_LASTS)
    }

    fn issue(&self, name: &str, serial: u32, usage: &str, dates: [&str; 2]) -> Issued {
        let file = format!("{name}-{serial:x}");
        self.make_key(&file);
        self.request(&file, &format!("/CN={name}"));
        let extensions = format!(
            "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage={usage}\n\
             subjectAltName=DNS:{name},IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n"
        );
        self.sign(&file, Some("issuing"), serial, &extensions, dates);
        self.with_issuer(&file)
    }

    /// Signs a request into `FILE.leaf`: by an authority, or by its own key. `openssl ca` is the one of its
    /// tools that takes both dates.
    fn sign(&self, file: &str, signer: Option<&str>, serial: u32, extensions: &str, [from, to]: [&str; 2]) {
        let name = |end: &str| format!("{file}.{end}");
        std::fs::write(self.file(&name("index")), "").expect("a file");
        std::fs::write(self.file(&name("serial")), format!("{serial:04X}\n")).expect("a file");
        let config = format!(
            "[ca]\ndefault_ca=own\n[own]\ndatabase={file}.index\nserial={file}.serial\nnew_certs_dir=.\n\
             default_md=sha256\npolicy=any\nx509_extensions=extensions\n[any]\norganizationName=optional\n\
             commonName=supplied\n[extensions]\n{extensions}"
        );
        std::fs::write(self.file(&name("cnf")), config).expect("a file");
        let signer = signer.unwrap_or(file);
        let (config, request, out, key) = (name("cnf"), name("csr"), name("leaf"), format!("{signer}.key"));
        let certificate = format!("{signer}.pem");
        let mut words = vec![
            "ca",
            "-batch",
            "-notext",
            "-config",
            &config,
            "-keyfile",
            &key,
            "-startdate",
            from,
            "-enddate",
            to,
            "-in",
            &request,
            "-out",
            &out,
        ];
        if signer == file {
            words.push("-selfsign");
        } else {
            words.extend(["-cert", &certificate]);
        }
        self.openssl(&words);
    }

    fn with_issuer(&self, file: &str) -> Issued {
        let leaf = format!("{file}.leaf");
        let chain =
            [leaf.as_str(), "issuing.pem"].map(|file| std::fs::read_to_string(self.file(file)).expect("PEM"));
        let certificate = self.file(&format!("{file}.pem"));
        std::fs::write(&certificate, chain.concat()).expect("a file");
        Issued { certificate, key: self.file(&format!("{file}.key")) }
    }

    /// Puts a certificate with its key into a device's certificate store.
    pub(crate) fn put(issued: &Issued, store: &Path) {
        for (from, to) in [(&issued.key, "device.key"), (&issued.certificate, "device.pem")] {
            let bytes = std::fs::read(from).expect("a file");
            runtime::config::private_file::write(store.join(to), bytes).expect("a file");
        }
    }

    /// The lists of both authorities; the issuing one's names these serials.
    pub(crate) fn lists(&self, number: u32, revoked: &[u32]) -> [PathBuf; 2] {
        let mut index = String::new();
        for serial in revoked {
            let _ = writeln!(
                index,
                "R\t400101000000Z\t260101000000Z,keyCompromise\t{serial:04X}\tunknown\t/CN=gone"
            );
        }
        [self.list("root", number, ""), self.list("issuing", number, &index)]
    }

    fn list(&self, authority: &str, number: u32, index: &str) -> PathBuf {
        let file = |end: &str| format!("{authority}-{number}.{end}");
        std::fs::write(self.file(&file("index")), index).expect("a file");
        std::fs::write(self.file(&file("number")), format!("{number:02X}\n")).expect("a file");
        let config = format!(
            "[ca]\ndefault_ca=own\n[own]\ndatabase={}\ncrlnumber={}\ndefault_md=sha256\n\
             crl_extensions=crl\n[crl]\nauthorityKeyIdentifier=keyid\n",
            file("index"),
            file("number")
        );
        std::fs::write(self.file(&file("cnf")), config).expect("a file");
        let (certificate, key) = (format!("{authority}.pem"), format!("{authority}.key"));
        let [from, to] = WHILE_IT_LASTS;
        self.openssl(&[
            "ca",
            "-gencrl",
            "-config",
            &file("cnf"),
            "-cert",
            &certificate,
            "-keyfile",
            &key,
            "-crl_lastupdate",
            from,
            "-crl_nextupdate",
            to,
            "-out",
            &file("crl"),
        ]);
        self.file(&file("crl"))
    }

    /// A key as PKCS#8, readable by its owner alone.
    fn make_key(&self, name: &str) {
        let (key, curve) = (format!("{name}.key"), "ec_paramgen_curve:P-256");
        self.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", &key]);
    }

    fn request(&self, name: &str, subject: &str) {
        let (key, csr) = (format!("{name}.key"), format!("{name}.csr"));
        self.openssl(&["req", "-new", "-key", &key, "-subj", subject, "-out", &csr]);
    }

    fn openssl(&self, words: &[&str]) {
        let output =
            Command::new("openssl").args(words).current_dir(&self.folder).output().expect("openssl runs");
        assert!(output.status.success(), "openssl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A file of its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
