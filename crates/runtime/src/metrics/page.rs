//! One page of metrics, and how it is written.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Reading;

/// Names and values of one sample's labels.
type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// Everything that one page shows.
#[derive(Debug, Clone, Default)]
pub struct Page {
    families: Vec<Family>,
}

/// One metric with all its samples.
#[derive(Debug, Clone)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: Vec<(Labels, Value)>,
}

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives; its name ends in `_total`.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts in steps.
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

#[derive(Debug, Clone)]
enum Value {
    Whole(u64),
    Real(f64),
    Steps(Reading),
}

/// In which words a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format 0.0.4, which everything reads.
    Text,
    /// OpenMetrics 1.0, which Prometheus asks for.
    OpenMetrics,
}

impl Format {
    /// The one for a request with this `Accept`.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    /// Its `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Page {
    /// A number that only grows. `name` is whole and ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.family(name, help, Kind::Counter)
    }

    /// A number that rises and falls.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.family(name, help, Kind::Gauge)
    }

    /// Times counted in steps.
    pub fn histogram(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.family(name, help, Kind::Histogram)
    }

    /// The family of that name: a second part of the code may add samples to it.
    fn family(&mut self, name: &'static str, help: &'static str, kind: Kind) -> &mut Family {
        let known = self.families.iter().position(|family| family.name == name);
        let index = known.unwrap_or_else(|| {
            self.families.push(Family { name, help, kind, samples: Vec::new() });
            self.families.len() - 1
        });
        self.families.get_mut(index).expect("found or added just now")
    }

    /// Its families, in the order in which they were added: name, kind, what it tells.
    pub fn families(&self) -> impl Iterator<Item = (&'static str, Kind, &'static str)> {
        self.families.iter().map(|family| (family.name, family.kind, family.help))
    }

    /// The names of the labels of a family's samples.
    pub fn label_names(&self, name: &str) -> Vec<&'static str> {
        let family = self.families.iter().find(|family| family.name == name);
        let first = family.and_then(|family| family.samples.first());
        first.map(|(labels, _)| labels.iter().map(|(name, _)| *name).collect()).unwrap_or_default()
    }

    /// The whole page. A family without samples keeps its head, so that a reader knows that it exists.
    pub fn text(self, format: Format) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Written { page: self, format }));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode_registry(&mut text, &registry);
        if format == Format::OpenMetrics {
            let _ = encode_eof(&mut text);
        }
        text
    }
}

impl Family {
    /// Its one sample, without labels.
    pub fn value(&mut self, value: u64) {
        self.samples.push((Vec::new(), Value::Whole(value)));
    }

    /// The same for a number that is not whole.
    pub fn real(&mut self, value: f64) {
        self.samples.push((Vec::new(), Value::Real(value)));
    }

    /// Its one histogram, without labels.
    pub fn steps(&mut self, reading: Reading) {
        self.samples.push((Vec::new(), Value::Steps(reading)));
    }

    /// A sample with labels. Their values come from this program's own tables.
    pub fn labelled<const N: usize>(&mut self, labels: [(&'static str, &str); N], value: u64) -> &mut Self {
        self.samples.push((owned(labels), Value::Whole(value)));
        self
    }

    /// A histogram with labels.
    pub fn labelled_steps<const N: usize>(&mut self, labels: [(&'static str, &str); N], reading: Reading) {
        self.samples.push((owned(labels), Value::Steps(reading)));
    }
}

fn owned<const N: usize>(labels: [(&'static str, &str); N]) -> Labels {
    labels.into_iter().map(|(name, value)| (name, Cow::Owned(value.to_owned()))).collect()
}

/// A page on its way into one of the formats.
#[derive(Debug)]
struct Written {
    page: Page,
    format: Format,
}

impl Collector for Written {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for family in &self.page.families {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            // OpenMetrics names a counter without its ending, the older format with it.
            let bare = family.name.strip_suffix("_total").unwrap_or(family.name);
            let name = if self.format == Format::OpenMetrics { bare } else { family.name };
            let mut metric = encoder.encode_descriptor(name, family.help, None, kind)?;
            for (labels, value) in &family.samples {
                if labels.is_empty() {
                    self.sample(&mut metric, family.kind, value)?;
                } else {
                    let labels = labels.as_slice();
                    self.sample(&mut metric.encode_family(&labels)?, family.kind, value)?;
                }
            }
        }
        Ok(())
    }
}

impl Written {
    fn sample(&self, metric: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
        // The encoder's counters add the ending themselves, its gauges write the name as it is.
        let adds_ending = kind == Kind::Counter && self.format == Format::OpenMetrics;
        match value {
            Value::Whole(value) if adds_ending => metric.encode_counter::<NoLabelSet, _, f64>(value, None),
            Value::Real(value) if adds_ending => metric.encode_counter::<NoLabelSet, _, f64>(value, None),
            Value::Whole(value) => metric.encode_gauge(value),
            Value::Real(value) => metric.encode_gauge(value),
            Value::Steps(Reading { buckets, sum, count }) => {
                metric.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Histogram;

    fn page() -> Page {
        let mut page = Page::default();
        let requests = page.counter("requests_total", "Requests.");
        requests.labelled([("door", "a")], 3).labelled([("door", "quo\"te\\ \n")], 1);
        page.gauge("up", "Up.").value(1);
        page.gauge("age_seconds", "Age.").real(0.5);
        let histogram = Histogram::new(&[1_000]);
        histogram.observe(std::time::Duration::from_micros(1_500));
        page.histogram("took_seconds", "Took.").steps(histogram.read());
        page.counter("none_total", "None yet.");
        page
    }

    #[test]
    fn the_older_format_names_counters_with_their_ending() {
        assert_eq!(
            page().text(Format::Text),
            "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total{door=\"a\"} 3\n\
             requests_total{door=\"quo\\\"te\\\\ \\n\"} 1\n# HELP up Up.\n# TYPE up gauge\nup 1\n\
             # HELP age_seconds Age.\n# TYPE age_seconds gauge\nage_seconds 0.5\n\
             # HELP took_seconds Took.\n# TYPE took_seconds histogram\ntook_seconds_sum 0.0015\n\
             took_seconds_count 1\ntook_seconds_bucket{le=\"0.001\"} 0\ntook_seconds_bucket{le=\"+Inf\"} 1\n\
             # HELP none_total None yet.\n# TYPE none_total counter\n"
        );
    }

    #[test]
    fn openmetrics_names_them_without_and_says_where_it_ends() {
        let text = page().text(Format::OpenMetrics);
        assert!(
            text.starts_with("# HELP requests Requests.\n# TYPE requests counter\nrequests_total{"),
            "{text}"
        );
        assert!(text.ends_with("\n# EOF\n"), "{text}");
    }

    #[test]
    fn the_format_is_the_one_that_was_asked_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Text);
    }

    #[test]
    fn samples_added_later_join_their_family() {
        let mut page = page();
        page.counter("requests_total", "Requests.").labelled([("door", "b")], 9);
        assert_eq!(page.families().filter(|(name, ..)| *name == "requests_total").count(), 1);
        assert_eq!(page.label_names("requests_total"), ["door"]);
    }
}
