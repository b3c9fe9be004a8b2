//! Certificates of the site: one profile a purpose, nothing taken over from a request.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::rand;
use proto::time::Timestamp;
use proto::trust::Purpose;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose as Usage, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RevocationReason, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use zeroize::Zeroizing;

/// Clocks of devices and hosts lag; a certificate made now must be valid for them.
const BACKDATE: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// How long a revocation list of the site counts.
const CRL_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A name that no certificate can carry.
    #[error("{name:?} cannot stand in a certificate")]
    Name {
        /// The name.
        name: String,
    },
    /// The library refused.
    #[error("certificate not made")]
    Make(#[from] rcgen::Error),
    /// The system gave no random bytes.
    #[error("no randomness from the system")]
    Random,
}

/// Names that a server certificate speaks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerNames {
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses, for hosts that are reached without a name.
    pub addresses: Vec<IpAddr>,
}

/// A new certificate and its key.
pub struct IssuedCertificate {
    /// Certificate first, then the intermediates, without the root; each DER.
    pub chain: Vec<Vec<u8>>,
    /// The private key, PKCS#8 DER.
    pub key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IssuedCertificate({} certificates)", self.chain.len())
    }
}

/// An issuer: its certificate chain (itself first, without the root) and its key.
pub(crate) struct Authority<'a> {
    pub(crate) chain: &'a [Vec<u8>],
    pub(crate) certificate: &'a [u8],
    pub(crate) key: &'a [u8],
}

/// What a certificate is for. Everything else about it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// "SMS Issuing".
    Root,
    /// An intermediate that signs leaves only.
    Intermediate(&'static str),
    /// "SMS Token Signing Certificate". Has no usage of ours: tokens name it by thumbprint.
    TokenSigning,
    /// A leaf with one of the purposes that devices and roles check.
    Leaf(Purpose),
}

impl Profile {
    /// How long it is valid. No leaf outlives its issuer by design: roots and intermediates are
    /// made at `site init`, where the clock starts for all.
    fn lifetime(self) -> Duration {
        match self {
            Self::Root => DAY * 365 * 20,
            Self::Intermediate(_) => DAY * 365 * 15,
            Self::TokenSigning | Self::Leaf(Purpose::SiteSigning | Purpose::Message) => DAY * 365 * 10,
            Self::Leaf(Purpose::LinkGateway | Purpose::LinkConnector) => DAY * 365 * 2,
            // Made anew whenever a host starts.
            Self::Leaf(Purpose::LinkSite | Purpose::RoleTls) => DAY * 365,
        }
    }

    fn common_name(self) -> &'static str {
        match self {
            Self::Root => "SMS Issuing",
            Self::Intermediate(name) => name,
            Self::TokenSigning => "SMS Token Signing Certificate",
            Self::Leaf(Purpose::SiteSigning) => "SMS Site Signing Certificate",
            Self::Leaf(Purpose::Message) => "SMS Message Signing Certificate",
            Self::Leaf(Purpose::LinkGateway) => "SMS Link Gateway Certificate",
            Self::Leaf(Purpose::LinkConnector) => "SMS Link Connector Certificate",
            Self::Leaf(Purpose::LinkSite) => "SMS Link Site Certificate",
            Self::Leaf(Purpose::RoleTls) => "SMS Role SSL Certificate",
        }
    }

    /// RSA where clients of the field expect it, P-256 where speed counts and only our own look.
    fn new_key(self) -> Result<KeyPair, rcgen::Error> {
        let rsa = match self {
            Self::Root | Self::Intermediate(_) | Self::TokenSigning => true,
            Self::Leaf(purpose) => purpose == Purpose::SiteSigning,
        };
        KeyPair::generate_for(if rsa { &PKCS_RSA_SHA256 } else { &PKCS_ECDSA_P256_SHA256 })
    }

    fn key_usages(self) -> Vec<KeyUsagePurpose> {
        match self {
            Self::Root | Self::Intermediate(_) => {
                vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]
            }
            Self::TokenSigning | Self::Leaf(_) => vec![KeyUsagePurpose::DigitalSignature],
        }
    }

    fn extended_key_usages(self) -> Vec<Usage> {
        let Self::Leaf(purpose) = self else { return Vec::new() };
        let mut usages = match purpose {
            Purpose::SiteSigning | Purpose::Message => vec![],
            Purpose::LinkGateway => vec![Usage::ServerAuth, Usage::ClientAuth],
            Purpose::LinkConnector => vec![Usage::ClientAuth],
            Purpose::LinkSite | Purpose::RoleTls => vec![Usage::ServerAuth],
        };
        usages.push(Usage::Other(purpose.oid().to_vec()));
        usages
    }

    fn params(self, names: &ServerNames, now: Timestamp) -> Result<CertificateParams, CertificateError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.common_name());
        params.serial_number = Some(random_serial()?);
        params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(now.minus(BACKDATE));
        params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(now.plus(self.lifetime()));
        params.is_ca = match self {
            Self::Root => IsCa::Ca(BasicConstraints::Constrained(1)),
            Self::Intermediate(_) => IsCa::Ca(BasicConstraints::Constrained(0)),
            Self::TokenSigning | Self::Leaf(_) => IsCa::ExplicitNoCa,
        };
        params.key_usages = self.key_usages();
        params.extended_key_usages = self.extended_key_usages();
        params.use_authority_key_identifier_extension = self != Self::Root;
        for name in &names.dns {
            let dns = name.clone().try_into().map_err(|_| CertificateError::Name { name: name.clone() })?;
            params.subject_alt_names.push(SanType::DnsName(dns));
        }
        params.subject_alt_names.extend(names.addresses.iter().copied().map(SanType::IpAddress));
        Ok(params)
    }
}

/// Makes the root: self-signed, the one certificate that nothing of ours vouches for.
pub(crate) fn issue_root(now: Timestamp) -> Result<IssuedCertificate, CertificateError> {
    let key = Profile::Root.new_key()?;
    let certificate = Profile::Root.params(&ServerNames::default(), now)?.self_signed(&key)?;
    Ok(IssuedCertificate { chain: vec![certificate.der().to_vec()], key: key.serialize_der().into() })
}

/// Makes a key and its certificate.
pub(crate) fn issue(
    profile: Profile,
    names: &ServerNames,
    issuer: &Authority<'_>,
    now: Timestamp,
) -> Result<IssuedCertificate, CertificateError> {
    let authority = Issuer::from_ca_cert_der(&issuer.certificate.into(), KeyPair::try_from(issuer.key)?)?;
    let key = profile.new_key()?;
    let certificate = profile.params(names, now)?.signed_by(&key, &authority)?;
    let mut chain = vec![certificate.der().to_vec()];
    chain.extend_from_slice(issuer.chain);
    Ok(IssuedCertificate { chain, key: key.serialize_der().into() })
}

/// Makes an issuer's revocation list: serials with the moment of revocation. Its number is the
/// moment in seconds, so a later list has a higher one without anything to remember.
pub(crate) fn issue_crl(
    issuer: &Authority<'_>,
    revoked: &[(Vec<u8>, Timestamp)],
    now: Timestamp,
) -> Result<Vec<u8>, CertificateError> {
    let authority = Issuer::from_ca_cert_der(&issuer.certificate.into(), KeyPair::try_from(issuer.key)?)?;
    let epoch = date_time_ymd(1970, 1, 1);
    let entry = |(serial, at): &(Vec<u8>, Timestamp)| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: epoch + since_epoch(*at),
        reason_code: Some(RevocationReason::CessationOfOperation),
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: epoch + since_epoch(now),
        next_update: epoch + since_epoch(now.plus(CRL_LIFETIME)),
        crl_number: SerialNumber::from(u64::try_from(now.seconds()).unwrap_or(0)),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(&authority)?.der().to_vec())
}

fn since_epoch(moment: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(moment.seconds()).unwrap_or(0))
}

/// 127 random bits: RFC 5280 wants a positive number, R66 an unguessable one.
fn random_serial() -> Result<SerialNumber, CertificateError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| CertificateError::Random)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use proto::trust::{SiteRoot, TrustError};

    use super::*;

    #[test]
    fn each_certificate_opens_its_own_door_and_no_other() {
        let now = Timestamp::from_seconds(1_790_000_000);
        let root = issue_root(now).unwrap();
        let by_root = Authority { chain: &[], certificate: &root.chain[0], key: &root.key };
        let none = ServerNames::default();
        let intermediate = issue(Profile::Intermediate("SMS Roles"), &none, &by_root, now).unwrap();
        let by_intermediate = Authority {
            chain: &intermediate.chain,
            certificate: &intermediate.chain[0],
            key: &intermediate.key,
        };
        let pinned = SiteRoot::new(root.chain[0].clone()).unwrap();

        for purpose in Purpose::ALL {
            let leaf = issue(Profile::Leaf(purpose), &none, &by_intermediate, now).unwrap();
            assert_eq!(leaf.chain.len(), 2);
            for door in Purpose::ALL {
                let verdict = pinned.verify(&leaf.chain, door, now);
                assert_eq!(verdict.is_ok(), door == purpose, "{purpose:?} at {door:?}: {verdict:?}");
            }
            let late = pinned.verify(&leaf.chain, purpose, now.plus(DAY * 365 * 11));
            assert!(matches!(late, Err(TrustError::Chain(_))), "{purpose:?}");
        }
        let token = issue(Profile::TokenSigning, &none, &by_root, now).unwrap();
        for door in Purpose::ALL {
            assert_eq!(pinned.verify(&token.chain, door, now), Err(TrustError::WrongPurpose));
        }
        let other = SiteRoot::new(issue_root(now).unwrap().chain[0].clone()).unwrap();
        let leaf = issue(Profile::Leaf(Purpose::Message), &none, &by_intermediate, now).unwrap();
        assert!(matches!(other.verify(&leaf.chain, Purpose::Message, now), Err(TrustError::Chain(_))));
    }
}
