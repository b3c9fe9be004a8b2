//! Whether the gateway can serve devices now, for whoever watches its host; the pages themselves are
//! [`runtime::admin`]'s.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use proto::time::Timestamp;
use runtime::admin::{Check, Watched};
use runtime::metrics::{self, Page};

use crate::gateway::Gateway;

/// A certificate that ends sooner is about to: devices turn away at once when it has.
const CERTIFICATE_NOTICE: Duration = Duration::from_hours(24);
/// Descriptors that must be left: below, new devices are turned away one by one by the system.
const DESCRIPTORS_LEFT: u64 = 64;

/// Serves until the last request is done: who watches sees that the gateway drains.
pub(crate) async fn serve(gateway: &Arc<Gateway>, listener: TcpListener) {
    let end = gateway.closing.clone();
    runtime::admin::serve(Arc::clone(gateway), listener, async move { end.cancelled().await }).await;
}

impl Watched for Gateway {
    const ROLE: &'static str = "gateway";

    fn names(&self) -> &[String] {
        &self.admin_names
    }

    async fn checks(&self) -> Vec<Check> {
        vec![
            self.drain_check(),
            self.snapshot_check(),
            self.tunnel_check(),
            self.certificate_check(),
            descriptor_check(),
        ]
    }

    async fn fill(&self, page: &mut Page) {
        crate::metrics::fill(self, page);
    }
}

impl Gateway {
    fn drain_check(&self) -> Check {
        let next = "it ends by itself; send devices to another gateway";
        Check::unless(self.drain.has_started(), "drain", "draining, the gateway is stopping", next)
    }

    fn snapshot_check(&self) -> Check {
        let Some(state) = self.publisher.current() else {
            let next = "connect a connection point, or make a new bundle with `roamgate gateway add`";
            return Check::failed("snapshot", "no snapshot, the site has not published anything yet", next);
        };
        let age = seconds_since(state.snapshot.issued, self.now());
        Check::noted("snapshot", format!("version {}, {age} s old", state.snapshot.version))
    }

    fn tunnel_check(&self) -> Check {
        match self.tunnels.count() {
            0 => Check::failed(
                "tunnel",
                "no tunnel, no connection point is connected",
                "look at SMS_Cloud_ProxyConnector.log on a connection point, and whether it reaches this host",
            ),
            tunnels => Check::noted("tunnel", format!("{tunnels} up")),
        }
    }

    fn certificate_check(&self) -> Check {
        let next =
            "put a new one in place of the files `certificate` and `key`; they are read again by themselves";
        let certificate = self.certificate.current();
        let (now, leaf) = (self.clock.now_seconds(), certificate.leaf());
        let left = leaf.not_after().saturating_sub(now);
        let notice = i64::try_from(CERTIFICATE_NOTICE.as_secs()).unwrap_or(i64::MAX);
        if left < 0 {
            Check::failed("certificate", "certificate expired, devices refuse it", next)
        } else if now < leaf.not_before() {
            Check::failed("certificate", "certificate not valid yet, devices refuse it", next)
        } else if left < notice {
            Check::failed("certificate", format!("certificate expires in {} hours", left / 3600), next)
        } else {
            Check::noted("certificate", format!("{} days left", left / 86_400))
        }
    }
}

/// Whole seconds from `then` to `now`; 0 where the clocks disagree.
pub(crate) fn seconds_since(then: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.seconds().saturating_sub(then.seconds())).unwrap_or(0)
}

fn descriptor_check() -> Check {
    match metrics::descriptors() {
        Some(descriptors) if descriptors.left() < DESCRIPTORS_LEFT => Check::failed(
            "descriptors",
            format!("{} of {} file descriptors are open", descriptors.open, descriptors.limit),
            "raise LimitNOFILE of the service, or lower `max_connections`",
        ),
        Some(descriptors) => Check::noted("descriptors", format!("{} left", descriptors.left())),
        None => Check::noted("descriptors", "not known on this system"),
    }
}
