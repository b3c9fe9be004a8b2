//! Judging by files alone, and reading files that people name.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use proto::entra::{PublishedTenant, TenantSet};
use proto::id::Guid;
use proto::jose::{JwkSet, Jws};
use proto::limits;
use proto::pki::{Crl, CrlPolicy, RevocationSettings, Revocations, TrustList, TrustStore, TrustedCa, Usage};
use proto::time::Timestamp;
use proto::token::KeySet;
use proto::verdict::Verdict;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::cli::{CrlCheck, TokenCheckArgs, TrustCheckArgs};
use crate::exit::{Exit, Failure};

/// Largest file with certificates or a token, in bytes.
const MAX_SMALL: u64 = 4 * 1024 * 1024;

/// Judges a certificate by the files of the command line.
pub(super) fn judge_certificate(arguments: &TrustCheckArgs) -> Result<Value, Failure> {
    let at = moment(arguments.at.as_deref())?;
    let chain = read_certificates(&arguments.certificate)?;
    let mut authorities = Vec::new();
    for (files, root) in [(&arguments.roots, true), (&arguments.intermediates, false)] {
        for file in files {
            authorities.extend(read_certificates(file)?.into_iter().map(|der| TrustedCa { der, root }));
        }
    }
    let list = TrustList { authorities };
    let mut revocations = BTreeMap::new();
    for file in &arguments.crl {
        let bytes = read_bounded(file, limits::CRL_BYTES as u64)?;
        let read = read_crl(&bytes, &list, at)
            .map_err(|cause| Failure::new(Exit::Problems, format!("{}: {cause}", file.display())))?;
        revocations.insert(read.issuer, Arc::new(read));
    }
    let settings = RevocationSettings {
        check: arguments.crl_check != CrlCheck::Off,
        policy: if arguments.crl_check == CrlCheck::Soft { CrlPolicy::Soft } else { CrlPolicy::Hard },
        grace_seconds: 0,
    };
    let store = TrustStore::new(&list, &revocations, settings).map_err(|error| {
        Failure::from_error(Exit::Usage, &error).help("Give certificates of authorities only.")
    })?;
    let judged = store.judge(&chain, Usage::Client, at);
    Ok(value(&Verdict::of_certificate(&chain, judged, at, "the files of the command line")))
}

/// The list, by whichever of the authorities made it.
fn read_crl(bytes: &[u8], list: &TrustList, at: Timestamp) -> Result<Revocations, String> {
    let crl = Crl::parse(bytes).map_err(|error| error.to_string())?;
    let mut last = "no authority is named".to_owned();
    for authority in &list.authorities {
        match crl.verify(&authority.der, None, at) {
            Ok(read) => return Ok(read),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// Judges a token by the files of the command line.
pub(super) fn judge_token(token: &SecretText, arguments: &TokenCheckArgs) -> Result<Value, Failure> {
    let at = moment(arguments.at.as_deref())?;
    let keys = arguments.keys.as_deref().map(|file| read_bounded(file, MAX_SMALL)).transpose()?;
    let keys = keys.unwrap_or_default();
    let by = "the files of the command line";
    if keys.trim_ascii_start().starts_with(b"{") {
        return judge_tenant_token(token, arguments, &keys, at).map(|verdict| value(&verdict));
    }
    let certificates = pem_or_der(&keys).map_err(|cause| {
        Failure::new(Exit::Usage, cause)
            .help("--keys takes a key set (JSON) or token signing certificates (PEM).")
    })?;
    // The hierarchy is the token's own word here: the key decides whether it was its site's to say.
    let hierarchy = Jws::parse(token.expose())
        .ok()
        .and_then(|jws| jws.unverified_claim("TenantId").and_then(|text| text.parse::<Guid>().ok()))
        .unwrap_or_else(Guid::nil);
    let set = KeySet::new(hierarchy, certificates.iter().map(Vec::as_slice))
        .map_err(|error| Failure::from_error(Exit::Usage, &error))?;
    Ok(value(&Verdict::of_site_token(set.verify(token.expose()), at, by)))
}

fn judge_tenant_token(
    token: &SecretText,
    arguments: &TokenCheckArgs,
    keys: &[u8],
    at: Timestamp,
) -> Result<Verdict, Failure> {
    let needed = |what: &str| {
        Failure::new(Exit::Usage, format!("a tenant's token is judged by its {what}: name it with --{what}"))
    };
    let issuer = arguments.issuer.clone().ok_or_else(|| needed("issuer"))?;
    let audience = arguments.audience.clone().ok_or_else(|| needed("audience"))?;
    let set = JwkSet::parse(keys).map_err(|error| Failure::from_error(Exit::Usage, &error))?;
    let tenant = Jws::parse(token.expose())
        .ok()
        .and_then(|jws| jws.unverified_claim("tid").and_then(|text| text.parse::<Guid>().ok()))
        .unwrap_or_else(Guid::nil);
    let published = PublishedTenant {
        tenant,
        name: String::new(),
        issuers: vec![issuer],
        audiences: vec![audience],
        client_app_id: String::new(),
        resource: String::new(),
        authority: String::new(),
        enabled: true,
        keys: set,
        keys_until: at.plus(proto::entra::KEYS_LIFETIME),
    };
    let judged = TenantSet::new([&published]).verify(token.expose());
    Ok(Verdict::of_tenant_token(judged, at, "the files of the command line"))
}

/// A check that found something wrong ends so.
pub(super) fn end(verdict: &Value) -> Result<(), Failure> {
    if verdict["verdict"] == "trusted" {
        return Ok(());
    }
    Err(Failure::new(Exit::Problems, "it would be refused"))
}

fn value(verdict: &Verdict) -> Value {
    serde_json::to_value(verdict).unwrap_or_default()
}

fn moment(text: Option<&str>) -> Result<Timestamp, Failure> {
    let Some(text) = text else {
        return Ok(Timestamp::from_micros(jiff::Timestamp::now().as_microsecond()));
    };
    Timestamp::parse_iso8601(text).map_err(|error| {
        Failure::from_error(Exit::Usage, &error).help("Write the moment as 2026-11-21T12:00:00Z.")
    })
}

/// Certificates of a file, PEM or DER, in their order.
fn read_certificates(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    pem_or_der(&read_bounded(path, MAX_SMALL)?)
        .map_err(|cause| Failure::new(Exit::Usage, format!("{}: {cause}", path.display())))
}

fn pem_or_der(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes.to_vec()]);
    }
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(bytes).map(|der| der.map(|der| der.to_vec())).collect();
    match certificates {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err("there is no certificate in it".to_owned()),
        Err(error) => Err(format!("not readable as PEM: {error}")),
    }
}

/// A text that must not be shown. It goes into the body of a request, nowhere else.
pub(super) struct SecretText(SecretString);

impl SecretText {
    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl serde::Serialize for SecretText {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.expose())
    }
}

/// A secret of a file, or of standard input for `-`, without the line end.
pub(super) fn read_secret(path: &Path) -> Result<SecretText, Failure> {
    let text = read_text(path)?;
    Ok(SecretText(text.trim_end_matches(['\r', '\n']).to_owned().into()))
}

/// A text file, or standard input for `-`.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    let bytes = read_bounded(path, MAX_SMALL)?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Usage, format!("{} is not a text file", path.display())))
}

/// A file, or standard input for `-`, of at most so many bytes.
pub(super) fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::new(Exit::Usage, format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if bytes.len() as u64 > most {
        return Err(Failure::new(Exit::Usage, format!("{} has more than {most} bytes", path.display())));
    }
    Ok(bytes)
}
