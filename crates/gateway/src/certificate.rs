//! The certificate for devices, read again when it changes.

use std::sync::Arc;
use std::time::Duration;

use runtime::Drain;
use runtime::signal;
use runtime::telemetry::Chain;
use runtime::tls::{LoadError, Reloaded, ServerCertificate};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::log::COMPONENT;

/// Looks at the files every `poll` and on SIGHUP, until `drain` begins. New handshakes see a new certificate;
/// connections that exist go on. A certificate that cannot be used is reported once, and the old one stays.
pub(crate) async fn watch(certificate: &Arc<ServerCertificate>, poll: Duration, drain: &Drain) {
    let mut hang_up = match signal::reload_signal() {
        Ok(signal) => Some(signal),
        Err(error) => {
            warn!(component = COMPONENT, %error, "no SIGHUP here, only changes of the files count");
            None
        }
    };
    let mut ticks = interval(poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known_problem = None;
    loop {
        let asked = async {
            match &mut hang_up {
                Some(signal) => signal.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = drain.started() => return,
            _ = ticks.tick() => {}
            () = asked => known_problem = None,
        }
        let files = Arc::clone(certificate);
        // Reading and checking a key takes milliseconds that a reactor has no time for.
        let Ok(outcome) = tokio::task::spawn_blocking(move || files.reload()).await else { continue };
        report(outcome, &mut known_problem);
    }
}

fn report(outcome: Result<Reloaded, LoadError>, known_problem: &mut Option<String>) {
    match outcome {
        Ok(Reloaded::Changed) => {
            info!(component = COMPONENT, "certificate for devices was exchanged");
            *known_problem = None;
        }
        Ok(Reloaded::Unchanged) => *known_problem = None,
        Err(error) => {
            let problem = Chain(&error).to_string();
            if known_problem.as_ref() != Some(&problem) {
                warn!(
                    component = COMPONENT,
                    error = %problem,
                    "certificate for devices cannot be read again, the old one stays"
                );
                *known_problem = Some(problem);
            }
        }
    }
}
