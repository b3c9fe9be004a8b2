//! Who knocks with credentials that open nothing any more: told to the site, so that an operator sees
//! them before their users call.

use proto::reason::Reason;
use site::Knock;

use crate::answer::Refusal;
use crate::authenticate::via;
use crate::context::Context;
use crate::request::Request;

/// Notes a refusal that its sender cannot mend by itself. Only of somebody who has proved a key:
/// whatever a stranger writes is not worth a line.
pub(crate) fn note(context: &Context, request: &Request, refusal: &Refusal) {
    if !is_dead_end(refusal.reason) || (refusal.device.is_none() && refusal.key.is_none()) {
        return;
    }
    context.site.record_knock(Knock {
        device: refusal.device,
        key: refusal.key,
        name: None,
        reason: refusal.reason,
        via: via(request),
        address: Some(request.peer),
        detail: refusal.detail.clone(),
    });
}

/// Whether credentials are the cause: ended, taken back, unknown, or nobody's any more. A user whom no
/// discovery knows is not: that says nothing about the device.
const fn is_dead_end(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::StsTokenExpired
            | Reason::StsBulkTokenBlocked
            | Reason::StsDeviceBlocked
            | Reason::StsUnknownDevice
            | Reason::StsTenantDisabled
            | Reason::StsNotADevice
            | Reason::StsOtherEntraDevice
            | Reason::StsTenantKeysTooOld
            | Reason::BulkTokenBlocked
            | Reason::BulkTokenUsedUp
            | Reason::BulkTokenUnknown
            | Reason::HardwareBlocked
            | Reason::RecoveryWindowOver
            | Reason::CloneSuspected
            | Reason::Blocked
            | Reason::MessageRefused
            | Reason::ClockSkewed
            | Reason::MethodNotForMode
            | Reason::InsideCertificateRequired
            | Reason::InsideCertificateUnknownIssuer
            | Reason::InsideCertificateExpired
            | Reason::InsideCertificateNotYetValid
            | Reason::InsideCertificateRevoked
            | Reason::InsideRevocationUnknown
            | Reason::InsideCertificateUsage
            | Reason::InsideCertificateWeak
            | Reason::InsideCertificateInvalid
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mends_itself_is_no_dead_end() {
        for reason in [
            Reason::Busy,
            Reason::MessageRepeated,
            Reason::InsideTokenExpired,
            Reason::NotApproved,
            Reason::StsUserNotDiscovered,
        ] {
            assert!(!is_dead_end(reason), "{reason}");
        }
        assert!(is_dead_end(Reason::RecoveryWindowOver));
    }
}
