//! Whether a list of policy is the site's, for this device, and not an old one (R31).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::http_signature::read_certificates;
use proto::id::{ClientId, Thumbprint};
use proto::policy_signature::{ManifestError, PolicyManifest, PolicyResource, SignedPolicy};
use proto::request::BodyError;
use proto::request::policy::{AssignedPolicy, AssignmentsReplyType, ReplyAssignments};
use proto::text::xml::{Element, XmlError};
use proto::time::Timestamp;
use proto::trust::{BadSignature, Purpose, SiteRoot, TrustError, verify_rsa};

/// Why a list is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BelieveError {
    /// Not a reply that can be read.
    #[error("the reply cannot be read")]
    Reply(#[source] BodyError),
    /// Not XML.
    #[error("the reply is not acceptable XML")]
    Xml(#[source] XmlError),
    /// Changes where everything was asked for.
    #[error("the reply holds changes only, where everything was asked for")]
    NotFull,
    /// No signature, or one that cannot be read.
    #[error("the reply has no readable signature of the site ({0})")]
    NoSignature(&'static str),
    /// Signed by somebody who may not.
    #[error("the policy is signed by somebody who does not speak for the site")]
    Signer(#[source] TrustError),
    /// Not what was signed.
    #[error("the policy was changed after it was signed")]
    Changed(#[source] BadSignature),
    /// For another device, older, or too late.
    #[error("the policy is not for now and here")]
    Manifest(#[source] ManifestError),
    /// A policy without a hash.
    #[error("policy {0} names no hash of its body")]
    NoHash(String),
}

/// A list that is the site's, for this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    /// Its serial.
    pub serial: u64,
    /// What is assigned, in order.
    pub policies: Vec<AssignedPolicy>,
}

impl Believed {
    /// The signed hash of a policy's body.
    pub fn hash_of(&self, policy: &AssignedPolicy) -> Option<Thumbprint> {
        hash(policy)
    }
}

/// Checks a reply: signed by the site's signing certificate under the pinned root, over exactly
/// this list, for this device, as the policy of `resource`, not older than `last`, and not past its end.
pub fn believe(
    xml: &str,
    root: &SiteRoot,
    device: ClientId,
    resource: PolicyResource,
    last: u64,
    now: Timestamp,
) -> Result<Believed, BelieveError> {
    let reply = ReplyAssignments::parse(xml).map_err(BelieveError::Reply)?;
    if reply.reply_type != AssignmentsReplyType::Full {
        return Err(BelieveError::NotFull);
    }
    let policies: Vec<_> = reply.assignments.into_iter().flat_map(|assignment| assignment.policies).collect();
    let document = Element::parse(xml).map_err(BelieveError::Xml)?;
    let mut elements = document.children_named("RoamgateSignature");
    let (Some(element), None) = (elements.next(), elements.next()) else {
        return Err(BelieveError::NoSignature("RoamgateSignature"));
    };
    let chain = element.attribute("Chain").and_then(|chain| read_certificates(chain).ok());
    let chain = chain.ok_or(BelieveError::NoSignature("Chain"))?;
    let signature = STANDARD.decode(element.text().trim());
    let signature = signature.map_err(|_| BelieveError::NoSignature("the signature's value"))?;
    let manifest = PolicyManifest {
        device: reply.client_id,
        resource: element
            .attribute("Resource")
            .and_then(PolicyResource::parse)
            .ok_or(BelieveError::NoSignature("Resource"))?,
        serial: number(element, "Serial")?,
        issued: time(element, "Issued")?,
        expires: time(element, "Expires")?,
        policies: policies.iter().map(signed_form).collect::<Result<_, _>>()?,
    };
    root.verify(&chain, Purpose::SiteSigning, now).map_err(BelieveError::Signer)?;
    let leaf = chain.first().ok_or(BelieveError::NoSignature("Chain"))?;
    verify_rsa(leaf, &manifest.bytes(), &signature).map_err(BelieveError::Changed)?;
    manifest.check(device, resource, last, now).map_err(BelieveError::Manifest)?;
    Ok(Believed { serial: manifest.serial, policies })
}

/// A policy as the signature names it.
fn signed_form(policy: &AssignedPolicy) -> Result<SignedPolicy, BelieveError> {
    let id = policy.id.to_string();
    let hash = match (&policy.location.hash, hash(policy)) {
        (Some(hash), Some(_)) => hash.clone(),
        _ => return Err(BelieveError::NoHash(id)),
    };
    Ok(SignedPolicy { id, version: policy.version.clone(), hash })
}

fn hash(policy: &AssignedPolicy) -> Option<Thumbprint> {
    let (name, hex) = policy.location.hash.as_deref()?.split_once(':')?;
    if name.eq_ignore_ascii_case("SHA256") { hex.parse().ok() } else { None }
}

fn number(element: &Element<'_>, name: &'static str) -> Result<u64, BelieveError> {
    element.attribute(name).and_then(|text| text.parse().ok()).ok_or(BelieveError::NoSignature(name))
}

fn time(element: &Element<'_>, name: &'static str) -> Result<Timestamp, BelieveError> {
    let text = element.attribute(name).ok_or(BelieveError::NoSignature(name))?;
    Timestamp::parse_iso8601(text).map_err(|_| BelieveError::NoSignature(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{PolicyFixture, SiteKeys, fixture_client_id};
    use proto::id::Guid;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    fn believe_at(xml: &str, site: &SiteKeys, last: u64, now: Timestamp) -> Result<Believed, BelieveError> {
        believe_of(xml, site, PolicyResource::Machine, last, now)
    }

    fn believe_of(
        xml: &str,
        site: &SiteKeys,
        resource: PolicyResource,
        last: u64,
        now: Timestamp,
    ) -> Result<Believed, BelieveError> {
        let root = SiteRoot::new(site.root().to_vec()).unwrap();
        believe(xml, &root, fixture_client_id(), resource, last, now)
    }

    #[test]
    fn a_signed_list_is_taken_again_and_again_but_never_an_older_one() {
        let site = SiteKeys::new();
        let fixture = PolicyFixture::public("1.00");
        let xml = site.assignments(fixture_client_id(), 7, &[&fixture], NOW);
        let believed = believe_at(&xml, &site, 7, NOW).unwrap();
        assert_eq!((believed.serial, believed.policies.len()), (7, 1));
        assert_eq!(believed.hash_of(&believed.policies[0]), Some(Thumbprint::of(&fixture.bytes)));
        let older = BelieveError::Manifest(ManifestError::Older { offered: 7, last: 8 });
        assert_eq!(believe_at(&xml, &site, 8, NOW), Err(older));
        let late = NOW.plus(proto::policy_signature::LIFETIME);
        assert!(matches!(
            believe_at(&xml, &site, 0, late),
            Err(BelieveError::Manifest(ManifestError::Expired(_)))
        ));
    }

    #[test]
    fn a_list_for_another_device_is_refused_also_when_it_is_readdressed() {
        let site = SiteKeys::new();
        let other: ClientId = "GUID:00000000-0000-0000-0000-000000000001".parse().unwrap();
        let xml = site.assignments(other, 7, &[&PolicyFixture::public("1.00")], NOW);
        let swapped = BelieveError::Manifest(ManifestError::OtherDevice(other));
        assert_eq!(believe_at(&xml, &site, 0, NOW), Err(swapped));
        let forged = xml.replace(&other.to_string(), &fixture_client_id().to_string());
        assert_eq!(believe_at(&forged, &site, 0, NOW), Err(BelieveError::Changed(BadSignature)));
    }

    #[test]
    fn a_users_list_is_not_the_devices_nor_the_devices_a_users_nor_another_users() {
        let site = SiteKeys::new();
        let policy = PolicyFixture::public("1.00");
        let user = |number| PolicyResource::User(Guid::from_bytes([number; 16]));
        let all = [PolicyResource::Machine, user(1), user(2)];
        for of in all {
            let xml = site.assignments_of(fixture_client_id(), of, 7, &[&policy], NOW);
            for asked in all {
                let believed = believe_of(&xml, &site, asked, 0, NOW).map(|believed| believed.serial);
                let other = BelieveError::Manifest(ManifestError::OtherResource(of));
                assert_eq!(believed, if of == asked { Ok(7) } else { Err(other) }, "{of} for {asked}");
                let renamed = xml.replace(&format!("Resource=\"{of}\""), &format!("Resource=\"{asked}\""));
                let believed = believe_of(&renamed, &site, asked, 0, NOW).map(|believed| believed.serial);
                let changed = BelieveError::Changed(BadSignature);
                assert_eq!(believed, if of == asked { Ok(7) } else { Err(changed) }, "{of} as {asked}");
            }
        }
    }

    #[test]
    fn every_change_and_every_other_signer_is_noticed() {
        let (site, other) = (SiteKeys::new(), SiteKeys::new());
        let xml = site.assignments(fixture_client_id(), 7, &[&PolicyFixture::public("1.00")], NOW);
        for (from, to) in [
            ("PolicyVersion=\"1.00\"", "PolicyVersion=\"2.00\""),
            ("Serial=\"7\"", "Serial=\"8\""),
            (" Resource=\"", " Resources=\""),
            ("PolicyHash=\"SHA256:", "PolicyHash=\"SHA256:00"),
            (" Chain=\"", " Chains=\""),
            ("RoamgateSignature", "OtherSignature"),
            ("ReplyType=\"Full\"", "ReplyType=\"Delta\""),
            ("Expires=\"20", "Expires=\"30"),
        ] {
            let changed = xml.replace(from, to);
            assert_ne!(changed, xml, "{from}");
            assert!(believe_at(&changed, &site, 0, NOW).is_err(), "{from}");
        }
        let without = xml.split("<PolicyAssignment ").next().unwrap().to_owned()
            + xml.get(xml.find("<RoamgateSignature").unwrap()..).unwrap();
        assert_eq!(believe_at(&without, &site, 0, NOW), Err(BelieveError::Changed(BadSignature)));
        assert!(matches!(believe_at(&xml, &other, 0, NOW), Err(BelieveError::Signer(TrustError::Chain(_)))));
        // The key for answers does not sign policy.
        let misused = site.assignments_signed_as_message(fixture_client_id(), 7, NOW);
        assert_eq!(believe_at(&misused, &site, 0, NOW), Err(BelieveError::Signer(TrustError::WrongPurpose)));
    }
}
