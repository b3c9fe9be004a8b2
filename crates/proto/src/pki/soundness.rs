//! Whether a certificate may stand where it stands in a path, apart from what binds it to its
//! neighbours: dates, strength, form and usage.
//!
//! Every rule names its source: R numbers are requirements of the threat model, numbers in brackets
//! sections of RFC 5280.

use super::certificate::Certificate;
use crate::pki::{Distrust, Usage};
use crate::time::Timestamp;

/// Where a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// First.
    Leaf,
    /// Between.
    Intermediate,
    /// Last, and in the trust list.
    Root,
}

/// What is looked at, one after the other, on a whole path. Of several paths of one chain the one that
/// came furthest is the one that was meant, so its refusal is the one that is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Dates,
    Strength,
    Usage,
    Form,
    /// What binds the certificates of a path to each other.
    Path,
    Revocation,
}

impl Stage {
    /// Those that look at each certificate by itself.
    pub(super) const OF_EACH: [Self; 4] = [Self::Dates, Self::Strength, Self::Usage, Self::Form];
}

/// Valid now. The root too: the RFC leaves that open [6.1.1], but an authority that is past its end
/// no longer keeps lists.
pub(super) fn check_dates(certificate: &Certificate, now: Timestamp) -> Result<(), Distrust> {
    let subject = || certificate.name();
    if now.seconds() > certificate.not_after.seconds() {
        return Err(Distrust::Expired { subject: subject(), since: certificate.not_after });
    }
    if now.seconds() < certificate.not_before.seconds() {
        return Err(Distrust::NotYetValid { subject: subject(), from: certificate.not_before });
    }
    Ok(())
}

/// Keys and signatures of R3. The signature of a root on itself says nothing, so it may be of any age.
pub(super) fn check_strength(certificate: &Certificate, place: Place) -> Result<(), Distrust> {
    let weakness = certificate.key_weakness().or_else(|| match place {
        Place::Root => None,
        Place::Leaf | Place::Intermediate => certificate.signature_weakness(),
    });
    match weakness {
        Some(detail) => Err(Distrust::Weak { subject: certificate.name(), detail }),
        None => Ok(()),
    }
}

/// Form, for any usage. `leaf` is whose chain it is.
pub(super) fn check_form(
    certificate: &Certificate,
    place: Place,
    leaf: &Certificate,
) -> Result<(), Distrust> {
    match form_fault(certificate, place) {
        Some(detail) => {
            let detail = match place {
                Place::Leaf => detail,
                Place::Intermediate | Place::Root => format!("of {}, {detail}", certificate.name()),
            };
            Err(Distrust::Invalid { subject: leaf.name(), detail })
        }
        None => Ok(()),
    }
}

fn form_fault(certificate: &Certificate, place: Place) -> Option<String> {
    let facts = &certificate.facts;
    let rules = [
        (!certificate.is_v3, "it is not of version 3"),
        (place != Place::Leaf && !facts.authority, "it is not an authority's"),
        // [4.2.1.9]
        (
            place != Place::Leaf && facts.authority && !certificate.may_sign_certificates(),
            "its key usage does not allow it to sign certificates",
        ),
        // [4.1.2.6]
        (place != Place::Leaf && !certificate.has_subject(), "the authority has no name"),
        // [4.1.2.2]; revocation is by serial, so an odd one could not be revoked.
        (
            place != Place::Root && certificate.serial.is_ok_and(|serial| serial.is_zero()),
            "its serial number is zero",
        ),
        (
            place != Place::Root && certificate.serial.is_err(),
            "its serial number is negative or longer than 20 bytes",
        ),
        // [4.2.1.10]
        (place == Place::Leaf && !facts.authority && facts.name_constraints, "it has name constraints"),
        // [4.2.1.3]
        (
            !facts.authority && facts.key_usage.is_some_and(|usage| usage.certificate_sign),
            "it may sign certificates without being an authority's",
        ),
        // [4.1.2.6]
        (
            !certificate.has_subject() && facts.plain_alternative_names,
            "it has no subject, and its alternative names are not critical",
        ),
        // A certificate that names another key as the signer of itself.
        (
            place == Place::Root && certificate.is_self_issued() && names_another_key(certificate),
            "it is signed by itself and names another key",
        ),
    ];
    let broken = rules.into_iter().find_map(|(broken, text)| broken.then(|| text.to_owned()));
    facts.fault.clone().or(broken)
}

/// How far below each authority its path may go [4.2.1.9]; the root's own word counts too.
pub(super) fn check_path_length(path: &[&Certificate]) -> Result<(), Distrust> {
    let Some((leaf, authorities)) = path.split_first() else { return Ok(()) };
    let mut between: u32 = 0;
    for authority in authorities {
        if let Some(most) = authority.facts.path_length.filter(|most| between > *most) {
            let detail = format!(
                "{} allows {most} authorities between itself and the leaf, and there are {between}",
                authority.name()
            );
            return Err(Distrust::Invalid { subject: leaf.name(), detail });
        }
        between += u32::from(!authority.is_self_issued());
    }
    Ok(())
}

fn names_another_key(certificate: &Certificate) -> bool {
    match (&certificate.facts.authority_key, &certificate.facts.subject_key) {
        (Some(authority), Some(subject)) => authority != subject,
        _ => false,
    }
}

/// Usage. A leaf without extended key usage may be used for anything [4.2.1.12]; one that has the
/// extension must name ours, "any" does not do. An authority with the extension, as several products
/// write it, only issues for what it names, and "any" does.
pub(super) fn check_usage(certificate: &Certificate, place: Place, usage: Usage) -> Result<(), Distrust> {
    let wrong =
        |detail: &str| Err(Distrust::WrongUsage { subject: certificate.name(), detail: detail.to_owned() });
    let facts = &certificate.facts;
    if place == Place::Leaf && facts.authority {
        return wrong("it is an authority's own certificate");
    }
    // TLS as we speak it signs with the leaf's key, in every version and suite (R1).
    if place == Place::Leaf && facts.key_usage.is_some_and(|usage| !usage.digital_signature) {
        return wrong("its key usage does not name digital signatures");
    }
    let Some(named) = facts.usages else { return Ok(()) };
    let allowed = match usage {
        Usage::Client => named.client,
        Usage::Server => named.server,
    };
    if allowed || (place != Place::Leaf && named.any) {
        return Ok(());
    }
    wrong(match usage {
        Usage::Client => "its extended key usage does not name client authentication",
        Usage::Server => "its extended key usage does not name server authentication",
    })
}
