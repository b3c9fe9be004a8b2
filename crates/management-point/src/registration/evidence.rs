//! What a registration proves besides its own key, judged here and nowhere else, and what of it goes
//! with this management point's mode.
//!
//! A certificate, a tenant's identity and a bulk token may come together. One that does not hold is
//! named with its reason, and the others carry the registration.

use proto::combination::{Join, Mode, Scenario, Way, judge, judge_newcomer};
use proto::id::{Guid, Thumbprint};
use proto::identity::Method;
use proto::reason::Reason;
use proto::request::registration::{KeyType, RegistrationDetails};
use proto::token::EntraOrigin;
use site::{ApprovalRule, Credentials, Device, Evidence, JudgeUserError};
use tracing::info;

use crate::answer::Refusal;
use crate::authenticate::certificate::{self, Shown};
use crate::authenticate::signature::Signed;
use crate::authenticate::token::Presented;
use crate::context::Context;
use crate::log::MP_REGISTRATION_MANAGER;
use crate::request::Request;

/// Property in which a device says how it is joined [ours].
const JOIN: &str = "JoinState";
/// Property in which a device says why it does not register by a better method: `name: why; name: why`
/// [ours]. Its own words, which decide nothing.
const REFUSED: &str = "RoamgateMethodRefused";

/// Who registers, its key proved.
pub(super) struct Newcomer<'r> {
    pub(super) context: &'r Context,
    pub(super) request: &'r Request,
    pub(super) signed: Option<&'r Signed>,
    /// Whether its client signs its requests, be this one signed or not.
    pub(super) signs: bool,
    /// A token that stands for its class, or did while its tenant was on.
    pub(super) token: Option<&'r Presented>,
    /// The record of this key.
    pub(super) known: Option<&'r Device>,
    pub(super) details: &'r RegistrationDetails,
    pub(super) key: Thumbprint,
}

/// What holds, and what does not.
pub(super) struct Proved {
    pub(super) evidence: Evidence,
    pub(super) credentials: Credentials,
    pub(super) join: Option<Join>,
    /// Why the site token carries the device where nothing better does.
    pub(super) how: String,
    /// Why not the others.
    pub(super) refused: Vec<(Method, String)>,
}

/// Gathers it. Refused: a proof that proves nothing, and whoever has nothing that counts here.
pub(super) async fn gather(newcomer: &Newcomer<'_>) -> Result<Proved, Refusal> {
    let join = newcomer.details.property(JOIN).and_then(|word| Join::parse(word.trim()));
    let mut failed = Vec::new();
    let Carried { pki, unproved } = certificate(newcomer, join, &mut failed)?;
    let entra = entra(newcomer, join, &mut failed).await;
    let bulk = newcomer.token.and_then(|token| token.token.bulk);
    if let (Some(pki), None, Some(origin)) = (&pki, entra, origin(newcomer)) {
        info!(
            component = MP_REGISTRATION_MANAGER,
            certificate = %pki.thumbprint, subject = pki.subject, tenant = %origin.tenant,
            "the certificate carries the registration, because Entra failed"
        );
    }
    let carried = pki.is_some() || entra.is_some();
    if !carried {
        check_without(newcomer, bulk, join, unproved).map_err(|refusal| first(&failed).unwrap_or(refusal))?;
    }
    let evidence = evidence(newcomer, entra, bulk);
    let mut refused: Vec<_> =
        failed.into_iter().map(|failure| (failure.method, failure.refusal.detail)).collect();
    // What this management point found says more, and stands before it.
    refused.extend(newcomer.details.property(REFUSED).map(said_by_device).unwrap_or_default());
    let credentials = Credentials { pki, entra, bulk };
    Ok(Proved { evidence, credentials, join, how: how(evidence, newcomer.known.is_some()), refused })
}

/// Reads a device's reasons against better methods. A reason may itself hold the separators: it ends where
/// the name of another method begins.
fn said_by_device(text: &str) -> Vec<(Method, String)> {
    let begins = |method: Method| {
        let head = format!("{}: ", method.name());
        let at =
            if text.starts_with(&head) { Some(0) } else { text.find(&format!("; {head}")).map(|at| at + 2) };
        at.map(|at| (at, at + head.len(), method))
    };
    let mut starts: Vec<_> = Method::PREFERENCE.into_iter().filter_map(begins).collect();
    starts.sort_unstable_by_key(|(at, ..)| *at);
    let ends = starts.iter().skip(1).map(|(at, ..)| at.saturating_sub(2)).chain([text.len()]);
    let reason = |((_, from, method), end): (&(usize, usize, Method), usize)| {
        let why = text.get(*from..end).unwrap_or_default();
        (*method, format!("the device says: {why}"))
    };
    starts.iter().zip(ends).map(reason).collect()
}

/// A proof that does not carry.
struct Failed {
    method: Method,
    refusal: Refusal,
}

/// The refusal of the best proof that was tried: it says more than that there was none.
fn first(failed: &[Failed]) -> Option<Refusal> {
    failed.first().map(|failure| failure.refusal.clone())
}

fn fits(newcomer: &Newcomer<'_>, method: Method, join: Option<Join>) -> Result<(), Refusal> {
    judge(newcomer.context.manner().mode, method, join, newcomer.request.way(), Scenario::Device)
        .map_err(|refused| Refusal::caused(refused.reason, &refused))
}

/// What certificates do for a registration.
#[derive(Default)]
struct Carried {
    /// Trusted, its key proved: goes on the record.
    pki: Option<site::PkiCredential>,
    /// The connection is that of somebody with a trusted one, who may be another than the device: it lets
    /// the registration in, to be held, and says nothing about the device.
    unproved: bool,
}

fn certificate(
    newcomer: &Newcomer<'_>,
    join: Option<Join>,
    failed: &mut Vec<Failed>,
) -> Result<Carried, Refusal> {
    let Newcomer { context, request, signed, signs, details, key, .. } = newcomer;
    let mut fail = |refusal| failed.push(Failed { method: Method::Certificate, refusal });
    let mut carried = Carried::default();
    match certificate::shown(context, request, *signed, *signs, *key, &details.signing.der)? {
        Shown::Trusted(trusted) => match fits(newcomer, Method::Certificate, join) {
            Ok(()) => carried.pki = Some(trusted),
            Err(refusal) => fail(refusal),
        },
        Shown::Unproved(thumbprint) => {
            info!(
                component = MP_REGISTRATION_MANAGER,
                certificate = %thumbprint,
                "the connection's certificate is not proved for this registration; nothing is recorded of it"
            );
            carried.unproved = fits(newcomer, Method::Certificate, join).is_ok();
        }
        Shown::Distrusted { reason, cause } => fail(Refusal::new(reason, cause)),
        Shown::None if details.signing.key_type == KeyType::Pki => {
            let cause = "the registered certificate is self-signed, though it is said to be a PKI's";
            fail(Refusal::new(Reason::InsideCertificateUnknownIssuer, cause));
        }
        Shown::None => {}
    }
    Ok(carried)
}

fn origin(newcomer: &Newcomer<'_>) -> Option<EntraOrigin> {
    newcomer.token.and_then(|token| token.token.entra)
}

async fn entra(newcomer: &Newcomer<'_>, join: Option<Join>, failed: &mut Vec<Failed>) -> Option<EntraOrigin> {
    let origin = origin(newcomer)?;
    info!(
        component = MP_REGISTRATION_MANAGER,
        verbatim = true,
        "Registering device using AAD auth: DeviceId='{}', TenantId='{}'",
        origin.device.unwrap_or(Guid::nil()),
        origin.tenant
    );
    let method = if origin.user.is_some() { Method::EntraUser } else { Method::EntraDevice };
    match check_entra(newcomer, origin, method, join).await {
        Ok(()) => Some(origin),
        Err(refusal) => {
            info!(
                component = MP_REGISTRATION_MANAGER,
                reason = %refusal.reason, detail = refusal.detail, "Entra does not carry this registration"
            );
            failed.push(Failed { method, refusal });
            None
        }
    }
}

/// The token was good when it was given, up to eight hours ago; the tenant may be off by now, the
/// user gone, or the key another device's.
async fn check_entra(
    newcomer: &Newcomer<'_>,
    origin: EntraOrigin,
    method: Method,
    join: Option<Join>,
) -> Result<(), Refusal> {
    fits(newcomer, method, join)?;
    let context = newcomer.context;
    if !context.site.current_snapshot().tenants.get(&origin.tenant).is_some_and(|tenant| tenant.enabled) {
        let detail = format!("tenant {} is switched off or not onboarded any more", origin.tenant);
        return Err(Refusal::new(Reason::StsTenantDisabled, detail));
    }
    if let Some(device) = newcomer.known {
        crate::sts::check_entra_device(device, origin)?;
    }
    let Some(user) = origin.user else { return Ok(()) };
    match context.site.judge_user(origin.tenant, user, None).await {
        Ok(_) => Ok(()),
        Err(JudgeUserError::Gap(gap)) => {
            Err(Refusal::new(Reason::StsUserNotDiscovered, gap.text.clone()).telling(&gap.text))
        }
        Err(JudgeUserError::Database(error)) => Err(crate::site_error::database(&error)),
    }
}

/// Whether somebody without certificate and tenant may register here: by a bulk token, by the key of
/// a record that exists, or, inside, by nothing at all. A certificate that a gateway says it has
/// judged lets a registration in, to be held: it approves nothing (R39). The same goes for one of our own
/// connection that the device has not proved to be its own.
fn check_without(
    newcomer: &Newcomer<'_>,
    bulk: Option<Guid>,
    join: Option<Join>,
    unproved: bool,
) -> Result<(), Refusal> {
    if unproved && newcomer.request.way() == Way::Intranet {
        return Ok(());
    }
    if bulk.is_some() || newcomer.known.is_some() {
        return fits(newcomer, Method::SiteToken, join);
    }
    let (mode, way) = (newcomer.context.manner().mode, newcomer.request.way());
    if way == Way::Gateway && mode != Mode::Http && matches!(newcomer.request.peer_certificate(), Ok(Some(_)))
    {
        return Ok(());
    }
    judge_newcomer(mode, way).map_err(|refused| Refusal::caused(refused.reason, &refused))
}

/// What vouches for the device besides its credentials. Never the path, and never the address of a
/// connection point; in HTTPS mode being inside is not enough [docs].
fn evidence(newcomer: &Newcomer<'_>, entra: Option<EntraOrigin>, bulk: Option<Guid>) -> Evidence {
    let Newcomer { context, request, .. } = newcomer;
    if let Some(id) = bulk {
        return Evidence::BulkToken { id };
    }
    if let Some(origin) = entra {
        return Evidence::Entra { origin };
    }
    let source = request.peer;
    let inside =
        newcomer.token.is_none() && request.way() == Way::Intranet && context.manner().mode != Mode::Https;
    let network =
        |rule: &ApprovalRule| matches!(rule, ApprovalRule::Network(network) if network.contains(source));
    match (inside, context.approve_everything) {
        // The lab, too, names the rule of the field where one fits.
        (true, true) if context.site.approval_rules().iter().any(network) => Evidence::Network { source },
        (_, true) => Evidence::Lab,
        (true, false) => Evidence::Network { source },
        (false, false) => Evidence::None,
    }
}

/// Why a device proves itself by the site's token: shown beside the method.
fn how(evidence: Evidence, known: bool) -> String {
    match evidence {
        Evidence::BulkToken { .. } => "registered with a bulk registration token",
        Evidence::Entra { .. } => "registered with a token of a tenant",
        Evidence::Certificate { .. } => "registered with a client certificate",
        Evidence::Expected { .. } => "registered as an expected device",
        Evidence::Network { .. } => "registered straight at a management point",
        Evidence::Lab | Evidence::None if known => "came again with its registered key",
        Evidence::Lab => "registered at the lab",
        Evidence::None => "registered without a token",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_reasons_are_read_even_where_they_hold_separators() {
        let text =
            "certificate: none of 2 can be used; CN=PC1: expired; entra-device: no token; entra-user: ";
        let said = said_by_device(text);
        let expected = [
            (Method::Certificate, "none of 2 can be used; CN=PC1: expired"),
            (Method::EntraDevice, "no token"),
            (Method::EntraUser, ""),
        ];
        assert_eq!(said, expected.map(|(method, why)| (method, format!("the device says: {why}"))));
        for nothing in ["", "nonsense", "certificate", "x certificate: y", "Certificate: y"] {
            assert!(said_by_device(nothing).is_empty(), "{nothing}");
        }
    }
}
