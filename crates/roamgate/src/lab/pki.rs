//! A throw-away certificate authority for the lab's gateways, as an organisation would have one.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::exit::{Exit, Failure};

/// The authority, and a server certificate for each gateway.
#[derive(Debug)]
pub(crate) struct ServerCertificates {
    /// The authority's certificate: what devices must trust.
    pub(crate) ca_file: PathBuf,
    /// One a gateway, each with a key of its own.
    pub(crate) gateways: Vec<ServerCertificate>,
}

/// Files of one gateway's server certificate.
#[derive(Debug)]
pub(crate) struct ServerCertificate {
    /// The gateway's certificate.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

/// Makes an authority and `count` certificates for `localhost`, into `folder`.
pub(crate) fn make(folder: &Path, count: usize) -> Result<ServerCertificates, Failure> {
    let failed = |error: rcgen::Error| Failure::from_error(Exit::Bug, &error);
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "Roamgate lab authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority =
        CertifiedIssuer::self_signed(authority, KeyPair::generate().map_err(failed)?).map_err(failed)?;
    let ca_file = folder.join("lab-authority.pem");
    write(&ca_file, &authority.pem())?;
    let gateways = (1..=count).map(|number| leaf(folder, number, &authority)).collect::<Result<_, _>>()?;
    Ok(ServerCertificates { ca_file, gateways })
}

fn leaf(
    folder: &Path,
    number: usize,
    authority: &CertifiedIssuer<'_, KeyPair>,
) -> Result<ServerCertificate, Failure> {
    let failed = |error: rcgen::Error| Failure::from_error(Exit::Bug, &error);
    let key = KeyPair::generate().map_err(failed)?;
    let mut leaf = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).map_err(failed)?;
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, authority).map_err(failed)?;
    let name = super::hosts::numbered("gateway", number);
    let files = ServerCertificate {
        certificate: folder.join(format!("{name}-certificate.pem")),
        key: folder.join(format!("{name}-key.pem")),
    };
    write(&files.certificate, &leaf.pem())?;
    write(&files.key, &key.serialize_pem())?;
    Ok(files)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    runtime::config::private_file::write(path, text.as_bytes())
        .map_err(|error| Failure::from_error(Exit::Refused, &error))
}
