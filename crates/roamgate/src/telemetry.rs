//! Traces: the steps of requests, sent to a collector by OpenTelemetry's protocol over HTTP.
//!
//! Switched on by the standard variables of the environment ([`settings`]), written as protobuf ([`otlp`]), sent from a
//! thread of their own ([`export`]). A collector that is slow or gone costs traces and never a request.

mod export;
mod otlp;
mod sampler;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use runtime::telemetry::StepSink;
use tracing::warn;

pub(crate) use export::Exporter;

/// Starts what the environment asks for. `service`: what this process is called unless the environment says.
/// What was wrong in the environment is warned of and left out, as its specification wants it; call
/// [`Traces::warn`] when there is a log.
pub(crate) fn start(service: &str) -> Traces {
    let lookup = |name: &str| std::env::var(name).ok();
    let (settings, mut warnings) = settings::read(lookup, service);
    let exporter = settings.and_then(|settings| match Exporter::start(settings) {
        Ok(exporter) => Some(exporter),
        Err(error) => {
            warnings.push(format!("traces are off, their thread cannot be started: {error}"));
            None
        }
    });
    if let Some(exporter) = &exporter {
        let counts = exporter.counts();
        runtime::metrics::share(move |page| counts.fill(page));
    }
    Traces { exporter, warnings }
}

/// Traces, on or off.
#[derive(Debug)]
pub(crate) struct Traces {
    exporter: Option<Exporter>,
    warnings: Vec<String>,
}

impl Traces {
    /// Where steps go; `None`: nowhere.
    pub(crate) fn sink(&self) -> Option<Arc<dyn StepSink>> {
        self.exporter.as_ref().map(Exporter::sink)
    }

    /// Tells what was wrong in the environment.
    pub(crate) fn warn(&self) {
        for warning in &self.warnings {
            warn!("{warning}");
        }
    }

    /// Sends what waits, for five seconds at most.
    pub(crate) async fn finish(self) {
        if let Some(exporter) = self.exporter {
            exporter.finish().await;
        }
    }
}
