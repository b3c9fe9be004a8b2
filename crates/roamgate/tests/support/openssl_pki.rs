//! An organisation's PKI made by openssl, not by our code: a root, an issuing authority, certificates good
//! and bad, and their revocation lists.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::run;

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
        pki.make_key("root");
        pki.make_key("issuing");
        std::fs::write(pki.file("ca.ext"), ca).expect("a file");
        pki.request("root", &format!("/O={name}/CN={name} Root"));
        pki.openssl(&[
            "x509", "-req", "-in", "root.csr", "-signkey", "root.key", "-days", "3650", "-extfile", "ca.ext",
            "-out", "root.pem",
        ]);
        pki.request("issuing", &format!("/O={name}/CN={name} Issuing"));
        pki.openssl(&[
            "x509",
            "-req",
            "-in",
            "issuing.csr",
            "-CA",
            "root.pem",
            "-CAkey",
            "root.key",
            "-set_serial",
            "0x1001",
            "-days",
            "3650",
            "-extfile",
            "ca.ext",
            "-out",
            "issuing.pem",
        ]);
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

    /// A client certificate that counts from now for ten years.
    pub(crate) fn client(&self, name: &str, serial: u32) -> Issued {
        self.issue(name, serial, "clientAuth")
    }

    /// A client certificate that has ended. Only `openssl ca` makes one with an end in the past.
    pub(crate) fn ended_client(&self, name: &str, serial: u32) -> Issued {
        let file = format!("{name}-{serial:x}");
        self.make_key(&file);
        self.request(&file, &format!("/CN={name}"));
        std::fs::write(self.file("ended.index"), "").expect("a file");
        std::fs::write(self.file("ended.serial"), format!("{serial:04X}\n")).expect("a file");
        let config = "[ca]\ndefault_ca=own\n[own]\ndatabase=ended.index\nserial=ended.serial\nnew_certs_dir=.\n\
            default_md=sha256\npolicy=any\nx509_extensions=leaf\n[any]\ncommonName=supplied\n[leaf]\n\
            basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n\
            authorityKeyIdentifier=keyid\n";
        std::fs::write(self.file("ended.cnf"), config).expect("a file");
        let (request, leaf) = (format!("{file}.csr"), format!("{file}.leaf"));
        self.openssl(&[
            "ca",
            "-batch",
            "-notext",
            "-config",
            "ended.cnf",
            "-cert",
            "issuing.pem",
            "-keyfile",
            "issuing.key",
            "-startdate",
            "20240101000000Z",
            "-enddate",
            "20250101000000Z",
            "-in",
            &request,
            "-out",
            &leaf,
        ]);
        self.with_issuer(&file)
    }

    /// A server certificate for this host.
    pub(crate) fn server(&self, serial: u32) -> Issued {
        self.issue("localhost", serial, "serverAuth")
    }

    fn issue(&self, name: &str, serial: u32, usage: &str) -> Issued {
        let file = format!("{name}-{serial:x}");
        self.make_key(&file);
        self.request(&file, &format!("/CN={name}"));
        let config = format!("{file}.ext");
        let extensions = format!(
            "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage={usage}\n\
             subjectAltName=DNS:{name},IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n"
        );
        std::fs::write(self.file(&config), extensions).expect("a file");
        let (request, leaf) = (format!("{file}.csr"), format!("{file}.leaf"));
        let serial = format!("0x{serial:x}");
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "issuing.pem",
            "-CAkey",
            "issuing.key",
            "-set_serial",
            &serial,
            "-days",
            "3650",
            "-extfile",
            &config,
            "-out",
            &leaf,
        ]);
        self.with_issuer(&file)
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
            runtime::config::private_file::write(&store.join(to), bytes).expect("a file");
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
            "[ca]\ndefault_ca=own\n[own]\ndatabase={}\ncrlnumber={}\ndefault_md=sha256\ndefault_crl_days=365\n\
             crl_extensions=crl\n[crl]\nauthorityKeyIdentifier=keyid\n",
            file("index"),
            file("number")
        );
        std::fs::write(self.file(&file("cnf")), config).expect("a file");
        let (certificate, key) = (format!("{authority}.pem"), format!("{authority}.key"));
        self.openssl(&[
            "ca",
            "-gencrl",
            "-config",
            &file("cnf"),
            "-cert",
            &certificate,
            "-keyfile",
            &key,
            "-out",
            &file("crl"),
        ]);
        self.file(&file("crl"))
    }

    fn make_key(&self, name: &str) {
        let file = format!("{name}.key");
        self.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &file]);
        // As openssl's own tools write it, and as a store of ours wants it: readable by its owner alone.
        let text = run(
            Command::new("openssl").args(["pkcs8", "-topk8", "-nocrypt", "-in"]).arg(self.file(&file)),
            b"",
        );
        std::fs::remove_file(self.file(&file)).expect("a file");
        runtime::config::private_file::write(&self.file(&file), text).expect("a file");
    }

    fn request(&self, name: &str, subject: &str) {
        let (key, csr) = (format!("{name}.key"), format!("{name}.csr"));
        self.openssl(&["req", "-new", "-key", &key, "-subj", subject, "-out", &csr]);
    }

    fn openssl(&self, words: &[&str]) {
        run(Command::new("openssl").args(words).current_dir(&self.folder), b"");
    }

    /// A file of its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
