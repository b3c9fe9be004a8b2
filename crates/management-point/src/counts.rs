//! What a management point counts, for whoever watches its host. No label names a device, a token or an address.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::endpoint::ENDPOINTS;
use proto::reason::Reason;
use runtime::metrics::{Counter, Histogram, Page, REQUEST_BOUNDS};

/// What is asked for where no endpoint was found.
const OTHER: &str = "other";
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counters since the start. Cheap to clone: all clones are one.
#[derive(Debug, Clone)]
pub struct Counts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// One for each name of the table of endpoints, and one for what is none.
    series: Vec<Series>,
    refusals: Vec<Counter>,
    in_flight: AtomicU64,
}

#[derive(Debug)]
struct Series {
    endpoint: &'static str,
    statuses: [Counter; 6],
    duration: Histogram,
}

impl Default for Counts {
    fn default() -> Self {
        let mut names: Vec<_> = ENDPOINTS.iter().map(|endpoint| endpoint.name).collect();
        names.dedup();
        names.push(OTHER);
        let series = |endpoint| Series {
            endpoint,
            statuses: Default::default(),
            duration: Histogram::new(REQUEST_BOUNDS),
        };
        Self(Arc::new(Inner {
            series: names.into_iter().map(series).collect(),
            refusals: Reason::ALL.iter().map(|_| Counter::default()).collect(),
            in_flight: AtomicU64::new(0),
        }))
    }
}

/// A request under way.
#[derive(Debug)]
#[must_use]
pub(crate) struct Begun(Counts);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counts {
    /// A request has come.
    pub(crate) fn begin(&self) -> Begun {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        Begun(self.clone())
    }

    /// It was answered; `endpoint`: by the table's name, where it was found.
    pub(crate) fn answered(&self, endpoint: Option<&'static str>, status: u16, took: Duration) {
        let wanted = endpoint.unwrap_or(OTHER);
        let Some(series) = self.0.series.iter().find(|series| series.endpoint == wanted) else { return };
        if let Some(counter) = series.statuses.get(usize::from(status / 100)) {
            counter.count();
        }
        series.duration.observe(took);
    }

    /// It was refused for this reason.
    pub(crate) fn refused(&self, reason: Reason) {
        // The table's order is that of the enum.
        if let Some(counter) = self.0.refusals.get(reason as usize) {
            counter.count();
        }
    }

    /// Adds everything to a page.
    pub fn fill(&self, page: &mut Page) {
        let requests = page.counter(
            "roamgate_management_point_requests_total",
            "Requests by endpoint and class of the answer's status; other: no endpoint.",
        );
        for series in &self.0.series {
            for (class, counter) in
                CLASSES.iter().zip(&series.statuses).filter(|(_, counter)| counter.get() > 0)
            {
                requests.labelled([("endpoint", series.endpoint), ("status_class", class)], counter.get());
            }
        }
        for series in &self.0.series {
            let reading = series.duration.read();
            if reading.count > 0 {
                page.histogram(
                    "roamgate_management_point_request_duration_seconds",
                    "Time from a request's head to its answer, by endpoint.",
                )
                .labelled_steps([("endpoint", series.endpoint)], reading);
            }
        }
        page.gauge(
            "roamgate_management_point_requests_in_flight",
            "Requests under way, those that wait included.",
        )
        .value(self.0.in_flight.load(Ordering::Relaxed));
        let refusals = page.counter(
            "roamgate_management_point_refusals_total",
            "Refused requests by reason code; docs/errors.md explains each.",
        );
        for (reason, counter) in
            Reason::ALL.iter().zip(&self.0.refusals).filter(|(_, counter)| counter.get() > 0)
        {
            refusals.labelled([("reason", &reason.to_string())], counter.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use runtime::metrics::Format;

    use super::*;

    #[test]
    fn requests_are_counted_by_endpoint_and_class_and_no_endpoint_stands_twice() {
        let counts = Counts::default();
        let mut names: Vec<_> = counts.0.series.iter().map(|series| series.endpoint).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        let begun = counts.begin();
        counts.answered(Some("CCM_STS"), 200, Duration::from_millis(1));
        counts.answered(None, 404, Duration::from_millis(1));
        counts.refused(Reason::UnknownPath);
        let text = |counts: &Counts| {
            let mut page = Page::default();
            counts.fill(&mut page);
            page.text(Format::Text)
        };
        for line in [
            "requests_total{endpoint=\"CCM_STS\",status_class=\"2xx\"} 1",
            "requests_total{endpoint=\"other\",status_class=\"4xx\"} 1",
            "requests_in_flight 1",
            "refusals_total{reason=\"RG-1001\"} 1",
        ] {
            assert!(
                text(&counts).contains(&format!("\nroamgate_management_point_{line}\n")),
                "{}",
                text(&counts)
            );
        }
        drop(begun);
        assert!(text(&counts).contains("requests_in_flight 0\n"));
    }
}
