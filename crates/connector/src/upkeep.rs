//! What a connection point does by the clock.

use std::sync::Arc;
use std::time::Duration;

use proto::link::Up;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use tracing::warn;

use crate::context::Context;
use crate::counters::REPORT_INTERVAL;
use crate::log::{self, COMPONENT};

/// Time between two looks at what waits to be said.
const TICK: Duration = Duration::from_secs(1);
/// Time between two accounts of all gateways, as in the field [docs].
const MAINTENANCE: Duration = Duration::from_mins(1);

/// Runs until dropped.
pub(crate) async fn keep_up(context: Arc<Context>) {
    let mut tick = interval(TICK);
    let mut maintenance = interval(MAINTENANCE);
    let mut traffic = interval_at(Instant::now() + REPORT_INTERVAL, REPORT_INTERVAL);
    for timer in [&mut tick, &mut maintenance, &mut traffic] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        tokio::select! {
            _ = tick.tick() => {
                send_events(&context);
                let latest = context.known.version();
                context.publisher.change(&context.uplink, |book, now| book.tick(latest, now));
            }
            _ = maintenance.tick() => {
                log::line("Maintaining connections...");
                look_at_certificates(&context).await;
                context.publisher.change(&context.uplink, |book, _| book.states());
            }
            _ = traffic.tick() => report_traffic(&context),
        }
    }
}

/// Looks whether the files of the client certificate have changed, and whether the one in use still holds.
async fn look_at_certificates(context: &Arc<Context>) {
    let context = Arc::clone(context);
    let refresh = move || context.role_certificates.refresh(&context.known.roles(), context.now());
    if let Err(error) = tokio::task::spawn_blocking(refresh).await {
        warn!(component = COMPONENT, %error, "client certificates not looked at");
    }
}

/// Reports everything that was not reported yet, at the end.
pub(crate) fn last_report(context: &Context) {
    send_events(context);
    report_traffic(context);
}

fn send_events(context: &Context) {
    for message in context.events.take() {
        context.uplink.report(&message);
    }
}

fn report_traffic(context: &Context) {
    let report = context.counters.take(context.now());
    log::line(&report.line(&context.name));
    let message = report.message();
    if !matches!(&message, Up::Counters { endpoints, .. } if endpoints.is_empty()) {
        context.uplink.report(&message);
    }
}
