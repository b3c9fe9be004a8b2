//! A throw-away certificate authority for the lab's gateway, as an organisation would have one.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::exit::{Exit, Failure};

/// Files of the gateway's server certificate.
#[derive(Debug)]
pub(crate) struct ServerCertificate {
    /// The authority's certificate: what devices must trust.
    pub(crate) ca_file: PathBuf,
    /// The gateway's certificate.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

/// Makes an authority and a certificate for `localhost`, into `folder`.
pub(crate) fn make(folder: &Path) -> Result<ServerCertificate, Failure> {
    let failed = |error: rcgen::Error| Failure::from_error(Exit::Bug, &error);
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "Roamgate lab authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority =
        CertifiedIssuer::self_signed(authority, KeyPair::generate().map_err(failed)?).map_err(failed)?;
    let key = KeyPair::generate().map_err(failed)?;
    let mut leaf = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).map_err(failed)?;
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &authority).map_err(failed)?;
    let files = ServerCertificate {
        ca_file: folder.join("lab-authority.pem"),
        certificate: folder.join("gateway-certificate.pem"),
        key: folder.join("gateway-key.pem"),
    };
    for (path, text) in [
        (&files.ca_file, authority.pem()),
        (&files.certificate, leaf.pem()),
        (&files.key, key.serialize_pem()),
    ] {
        runtime::config::private_file::write(path, text.as_bytes())
            .map_err(|error| Failure::from_error(Exit::Refused, &error))?;
    }
    Ok(files)
}
