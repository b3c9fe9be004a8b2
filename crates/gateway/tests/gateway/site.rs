//! A site without a database: its root, its keys, and what they sign.

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

use proto::bundle::{GatewayBundle, LinkIdentity};
use proto::combination::Mode;
use proto::id::{ClientId, Guid, RoleId, Thumbprint};
use proto::link;
use proto::pki::TrustList;
use proto::snapshot::{
    Change, Delta, GatewaySettings, Publication, PublishedRole, Signed, Snapshot, TokenCertificate,
};
use proto::time::Timestamp;
use proto::token::{Token, TokenClass, x5t};
use proto::trust::Purpose;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, RsaKeySize,
    SigningKey,
};
use runtime::config::private_file;
use runtime::tls::OwnCertificate;
use tempfile::TempDir;

/// What time it is in all tests.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);
/// The published role.
pub(crate) const ROLE: RoleId = RoleId::FIRST;

/// A site.
pub(crate) struct Site {
    root: Issuer<'static, KeyPair>,
    root_der: Vec<u8>,
    root_pem: String,
    signing_der: Vec<u8>,
    token_der: Vec<u8>,
    pub(crate) hierarchy: Guid,
    pub(crate) gateway: Guid,
}

/// RSA keys take long to make, and which site holds them makes no difference to any test.
pub(crate) fn rsa(number: usize) -> &'static KeyPair {
    static KEYS: [OnceLock<KeyPair>; 4] = [const { OnceLock::new() }; 4];
    KEYS[number]
        .get_or_init(|| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap())
}

const SITE_SIGNING: usize = 0;
const TOKEN_SIGNING: usize = 1;
/// Keys that are no site's.
pub(crate) const FOREIGN: [usize; 2] = [2, 3];

fn params(name: &str, purpose: Option<Purpose>) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
        .extended_key_usages
        .extend(purpose.map(|purpose| ExtendedKeyUsagePurpose::Other(purpose.oid().to_vec())));
    params
}

impl Site {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut root = params("SMS Issuing", None);
        root.subject_alt_names.clear();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = root.self_signed(&key).unwrap();
        let (root_der, root_pem) = (certificate.der().to_vec(), certificate.pem());
        let root = Issuer::new(root, key);
        let signed = |name, purpose, key: &KeyPair| {
            params(name, purpose).signed_by(key, &root).unwrap().der().to_vec()
        };
        Self {
            signing_der: signed("site signing", Some(Purpose::SiteSigning), rsa(SITE_SIGNING)),
            token_der: signed("token signing", None, rsa(TOKEN_SIGNING)),
            root,
            root_der,
            root_pem,
            hierarchy: Guid::from_bytes([3; 16]),
            gateway: Guid::from_bytes([1; 16]),
        }
    }

    /// A link certificate for this purpose and name.
    pub(crate) fn link(&self, purpose: Purpose, name: &str) -> LinkIdentity {
        let key = KeyPair::generate().unwrap();
        let certificate = params(name, Some(purpose)).signed_by(&key, &self.root).unwrap();
        LinkIdentity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    /// A connection point's own.
    pub(crate) fn connector(&self, id: Guid) -> LinkIdentity {
        self.link(Purpose::LinkConnector, &link::connector_name(id))
    }

    pub(crate) fn root_der(&self) -> Vec<u8> {
        self.root_der.clone()
    }

    pub(crate) fn snapshot(&self, version: u64) -> Snapshot {
        let mut snapshot = Snapshot {
            site_code: "RG1".parse().unwrap(),
            hierarchy: self.hierarchy,
            version,
            issued: NOW,
            roles: BTreeMap::new(),
            token_certificates: vec![TokenCertificate { der: self.token_der.clone() }],
            settings: GatewaySettings::default(),
            blocked_bulk_tokens: HashSet::new(),
            blocked_devices: HashSet::new(),
            blocked_certificates: HashSet::new(),
            withdrawn_links: HashSet::new(),
            trust: TrustList::default(),
            revocations: BTreeMap::new(),
            tenants: BTreeMap::new(),
        };
        let role =
            PublishedRole { role: ROLE, name: "mp".to_owned(), gateway_traffic: true, mode: Mode::Ehttp };
        snapshot.apply(Change::SetRole(role));
        snapshot
    }

    pub(crate) fn sign(&self, publication: &Publication) -> Signed {
        let payload = serde_json::to_string(publication).unwrap();
        let signature = rsa(SITE_SIGNING).sign(payload.as_bytes()).unwrap();
        Signed { payload, signature, chain: vec![self.signing_der.clone()] }
    }

    pub(crate) fn signed_snapshot(&self, version: u64) -> Signed {
        self.sign(&Publication::Snapshot(Box::new(self.snapshot(version))))
    }

    pub(crate) fn signed_delta(&self, from: u64, to: u64, changes: Vec<Change>) -> Signed {
        self.sign(&Publication::Delta(Delta { from, to, issued: NOW, changes }))
    }

    pub(crate) fn bundle(&self) -> GatewayBundle {
        GatewayBundle {
            format: GatewayBundle::FORMAT.to_owned(),
            site_code: "RG1".parse().unwrap(),
            gateway: self.gateway,
            name: "gw1".to_owned(),
            site_root_pem: self.root_pem.clone(),
            link: self.link(Purpose::LinkGateway, &link::gateway_name(self.gateway)),
            snapshot: self.signed_snapshot(5),
        }
    }

    /// A snapshot whose signature was good yesterday: its certificate has ended since.
    pub(crate) fn signed_yesterday(&self, version: u64) -> Signed {
        let mut ended = params("site signing", Some(Purpose::SiteSigning));
        ended.not_after = rcgen::date_time_ymd(2026, 9, 21);
        let key = rsa(SITE_SIGNING);
        let mut snapshot = self.snapshot(version);
        snapshot.issued = Timestamp::from_seconds(NOW.seconds() - 30 * 86_400);
        let signed = self.sign(&Publication::Snapshot(Box::new(snapshot)));
        Signed { chain: vec![ended.signed_by(key, &self.root).unwrap().der().to_vec()], ..signed }
    }

    /// A token for the holder of this certificate (none: a bulk token).
    pub(crate) fn token(&self, class: TokenClass, holder: Option<(ClientId, Thumbprint)>) -> String {
        let token = Token {
            class,
            unique_id: Guid::from_bytes([9; 16]),
            hierarchy: self.hierarchy,
            device: holder.map(|(device, _)| device),
            user: (class == TokenClass::User).then(Guid::nil),
            bulk: None,
            entra: None,
            confirmation: holder.map(|(_, thumbprint)| thumbprint),
            not_before: Timestamp::from_seconds(NOW.seconds() - 60),
            expires: Timestamp::from_seconds(NOW.seconds() + 3600),
        };
        token.mint(&x5t(&self.token_der), |bytes| rsa(TOKEN_SIGNING).sign(bytes)).unwrap()
    }
}

/// Puts a fresh self-signed certificate for `name` where the gateway's configuration points; returns it.
pub(crate) fn write_certificate(folder: &TempDir, name: &str) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let certificate = params(name, None).self_signed(&key).unwrap();
    // The key first: at no moment does a certificate stand beside a key of mode 0644.
    private_file::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(folder.path().join("certificate.pem"), certificate.pem()).unwrap();
    certificate.der().to_vec()
}

/// A device's self-signed certificate.
pub(crate) fn self_signed() -> OwnCertificate {
    let key = KeyPair::generate().unwrap();
    let certificate = params("device", None).self_signed(&key).unwrap();
    OwnCertificate::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
}
