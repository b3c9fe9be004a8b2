//! A throw-away PKI for the lab's devices, as an organisation would have one: a root, an issuing
//! authority below it, their revocation lists at an address, one good certificate and a revoked one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CrlDistributionPoint, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, SerialNumber,
};
use runtime::Drain;
use runtime::http::HttpOptions;

use crate::exit::{Exit, Failure};

/// How long certificates and lists hold: longer than the lab's clock is ever moved.
const LIFE: Duration = Duration::from_hours(3 * 365 * 24);
/// How far back they begin, so that a clock a little behind accepts them.
const BEFORE: Duration = Duration::from_hours(1);

/// Files of the PKI.
#[derive(Debug)]
pub(crate) struct ClientPki {
    /// Root and issuing authority: what the site must trust.
    pub(crate) authorities: PathBuf,
    /// A folder with the good certificate, as a device's certificate store.
    pub(crate) store: PathBuf,
    /// The good certificate with its issuing authority.
    pub(crate) certificate: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// A revoked certificate with its issuing authority.
    pub(crate) revoked_certificate: PathBuf,
    /// Its key.
    pub(crate) revoked_key: PathBuf,
    /// Where the issuing authority's list is.
    pub(crate) crl_url: String,
    /// Ends the server of the lists with the lab.
    drain: Drain,
}

impl ClientPki {
    /// Makes it in a folder, for a device of this name, and serves the lists on loopback.
    pub(crate) async fn start(folder: &Path, device: &str) -> Result<Self, Failure> {
        let failed = |error: rcgen::Error| Failure::from_error(Exit::Bug, &error);
        let broken = |error: std::io::Error| Failure::from_error(Exit::Bug, &error);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.map_err(broken)?;
        let address = listener.local_addr().map_err(broken)?;

        let root = authority("Roamgate lab client root", None, address).map_err(failed)?;
        let root = CertifiedIssuer::self_signed(root, new_key().map_err(failed)?).map_err(failed)?;
        let issuing = authority("Roamgate lab client issuing", Some("root.crl"), address).map_err(failed)?;
        let issuing =
            CertifiedIssuer::signed_by(issuing, new_key().map_err(failed)?, &root).map_err(failed)?;
        let revoked_serial = SerialNumber::from_slice(&[0x52, 0x47, 0x01]);
        let good = leaf(device, None, address).map_err(failed)?;
        let revoked = leaf(device, Some(revoked_serial.clone()), address).map_err(failed)?;
        let (good_key, revoked_key) = (new_key().map_err(failed)?, new_key().map_err(failed)?);
        let good = good.signed_by(&good_key, &issuing).map_err(failed)?;
        let revoked = revoked.signed_by(&revoked_key, &issuing).map_err(failed)?;

        let lists = Arc::new([
            ("/root.crl", list(&root, Vec::new()).map_err(failed)?),
            ("/issuing.crl", list(&issuing, vec![revoked_serial]).map_err(failed)?),
        ]);
        let drain = Drain::new();
        tokio::spawn(serve(listener, lists, drain.clone()));

        let folder = folder.join("client-pki");
        let store = folder.join("store");
        let pki = Self {
            authorities: folder.join("authorities.pem"),
            certificate: store.join("client.pem"),
            key: store.join("client.key"),
            store,
            revoked_certificate: folder.join("revoked.pem"),
            revoked_key: folder.join("revoked.key"),
            crl_url: format!("http://{address}/issuing.crl"),
            drain,
        };
        for path in [&folder, &pki.store] {
            runtime::config::private_dir::create(path)
                .map_err(|error| Failure::from_error(Exit::Refused, &error))?;
        }
        for (path, text) in [
            (&pki.authorities, root.pem() + &issuing.pem()),
            (&pki.certificate, good.pem() + &issuing.pem()),
            (&pki.key, good_key.serialize_pem()),
            (&pki.revoked_certificate, revoked.pem() + &issuing.pem()),
            (&pki.revoked_key, revoked_key.serialize_pem()),
        ] {
            runtime::config::private_file::write(path, text.as_bytes())
                .map_err(|error| Failure::from_error(Exit::Refused, &error))?;
        }
        Ok(pki)
    }
}

impl Drop for ClientPki {
    fn drop(&mut self) {
        self.drain.begin(Duration::ZERO);
    }
}

/// Now, as certificates are dated.
fn now() -> SystemTime {
    let micros = u64::try_from(runtime::Clock::system().now()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
}

fn dated(mut params: CertificateParams) -> CertificateParams {
    let now = now();
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + LIFE).into();
    params
}

fn points(list: &str, address: SocketAddr) -> Vec<CrlDistributionPoint> {
    vec![CrlDistributionPoint { uris: vec![format!("http://{address}/{list}")] }]
}

fn authority(name: &str, list: Option<&str>, address: SocketAddr) -> Result<CertificateParams, rcgen::Error> {
    let mut params = dated(CertificateParams::new(Vec::new())?);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.crl_distribution_points = list.map(|list| points(list, address)).unwrap_or_default();
    Ok(params)
}

fn leaf(
    device: &str,
    serial: Option<SerialNumber>,
    address: SocketAddr,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = dated(CertificateParams::new(vec![format!("{device}.lab.example")])?);
    params.distinguished_name.push(DnType::CommonName, device);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.crl_distribution_points = points("issuing.crl", address);
    params.serial_number = serial;
    Ok(params)
}

fn list(issuer: &CertifiedIssuer<'_, KeyPair>, revoked: Vec<SerialNumber>) -> Result<Bytes, rcgen::Error> {
    let now = now();
    let revoked_certs = revoked
        .into_iter()
        .map(|serial_number| RevokedCertParams {
            serial_number,
            revocation_time: (now - BEFORE).into(),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        })
        .collect();
    let params = CertificateRevocationListParams {
        this_update: (now - BEFORE).into(),
        next_update: (now + LIFE).into(),
        crl_number: SerialNumber::from_slice(&[1]),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(Bytes::copy_from_slice(params.signed_by(issuer)?.der()))
}

async fn serve(listener: tokio::net::TcpListener, lists: Arc<[(&'static str, Bytes); 2]>, drain: Drain) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.map(|(stream, _)| stream),
            () = drain.started() => return,
        };
        let Ok(stream) = stream else { continue };
        let (lists, drain) = (Arc::clone(&lists), drain.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let found = lists.iter().find(|(path, _)| *path == request.uri().path());
                let mut response =
                    Response::new(Full::new(found.map(|(_, der)| der.clone()).unwrap_or_default()));
                if found.is_none() {
                    *response.status_mut() = StatusCode::NOT_FOUND;
                }
                async move { Ok::<_, Infallible>(response) }
            });
            // A reader that goes away early is its own business.
            let _ = runtime::http::serve(stream, &HttpOptions::default(), &drain, answer).await;
        });
    }
}
