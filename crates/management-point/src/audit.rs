//! Who pretends: token, key and message of different devices (R22).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::id::ClientId;
use proto::reason::Reason;
use proto::time::Timestamp;
use site::{Actor, By};
use tracing::error;

use crate::answer::Refusal;
use crate::context::Context;

/// Time between two audit records about one device: a device that repeats itself says nothing new.
const EVERY: Duration = Duration::from_mins(1);
/// Devices remembered for that; beyond it all are forgotten, which costs a record each.
const REMEMBERED: usize = 10_000;

/// When each device was last recorded.
#[derive(Debug, Default)]
pub(crate) struct Mismatches(Mutex<HashMap<ClientId, Timestamp>>);

impl Mismatches {
    fn is_due(&self, device: ClientId, now: Timestamp) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(&device).is_some_and(|at| now.distance(*at) < EVERY) {
            return false;
        }
        if last.len() >= REMEMBERED {
            last.clear();
        }
        last.insert(device, now);
        true
    }
}

/// The refusal of a request whose proofs name different devices; `proved` is the one whose key
/// was used. It is recorded in the audit trail.
pub(crate) async fn wrong_device(
    context: &Context,
    proved: ClientId,
    from: IpAddr,
    detail: String,
) -> Refusal {
    mismatch(context, Reason::WrongDevice, proved, from, detail).await
}

/// The same for a message that came over the connection of another device's certificate.
pub(crate) async fn other_certificate(
    context: &Context,
    proved: ClientId,
    from: IpAddr,
    detail: String,
) -> Refusal {
    mismatch(context, Reason::CertificateOfAnother, proved, from, detail).await
}

async fn mismatch(
    context: &Context,
    reason: Reason,
    proved: ClientId,
    from: IpAddr,
    detail: String,
) -> Refusal {
    let refusal = Refusal::new(reason, detail).of(proved);
    if context.mismatches.is_due(proved, context.now()) {
        let by = By { actor: Actor::Device(proved), from: Some(from) };
        if let Err(error) = context.site.note_wrong_device(&by, &refusal.detail).await {
            error!(%error, device = %proved, "mismatch of devices not recorded");
        }
    }
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::id::Guid;

    #[test]
    fn one_device_is_recorded_once_a_minute() {
        let seen = Mismatches::default();
        let device = |n: u8| ClientId::new(Guid::from_bytes([n; 16]));
        let at = Timestamp::from_seconds;
        assert!(seen.is_due(device(1), at(0)));
        assert!(!seen.is_due(device(1), at(59)));
        assert!(seen.is_due(device(2), at(59)));
        assert!(seen.is_due(device(1), at(60)));
    }
}
