//! What the environment says of traces, by the variables of OpenTelemetry's specification.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;

use super::sampler::Sampler;

/// Where a collector listens unless another place is named.
const DEFAULT_ENDPOINT: &str = "http://localhost:4318";

/// Everything about traces that can be set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Where they are sent.
    pub(super) endpoint: Url,
    /// Sent along, for instance a key of the collector's.
    pub(super) headers: HeaderMap,
    /// What describes this process: `service.name` and more.
    pub(super) resource: Vec<(String, String)>,
    pub(super) sampler: Sampler,
    /// Longest time of one sending.
    pub(super) timeout: Duration,
    /// Longest time that a step waits for more to be sent with.
    pub(super) delay: Duration,
    /// Steps that wait at most; more are dropped and counted.
    pub(super) queue: usize,
    /// Steps in one sending at most.
    pub(super) batch: usize,
    /// Longest time that one batch is tried again.
    pub(super) patience: Duration,
}

/// Reads the settings; `None`: no traces. What was wrong comes as texts for people; as the specification wants it, it
/// does not keep the process from starting.
pub(super) fn read(get: impl Fn(&str) -> Option<String>, service: &str) -> (Option<Settings>, Vec<String>) {
    let mut read = Reader { get, warnings: Vec::new() };
    let settings = read.settings(service);
    (settings, read.warnings)
}

struct Reader<G> {
    get: G,
    warnings: Vec<String>,
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    fn settings(&mut self, service: &str) -> Option<Settings> {
        if self.text("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return None;
        }
        let endpoint = self.endpoint();
        match self.text("OTEL_TRACES_EXPORTER").as_deref() {
            Some("otlp") => {}
            Some("none") => return None,
            Some(other) => {
                return self.off("OTEL_TRACES_EXPORTER", other, "there are `otlp` and `none`");
            }
            // A server of somebody's does not send anything anywhere unless it was told where.
            None if endpoint.is_none() => return None,
            None => {}
        }
        let protocol =
            self.text_of_traces("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL");
        if let Some(other) = protocol.filter(|protocol| protocol != "http/protobuf") {
            return self.off("OTEL_EXPORTER_OTLP_PROTOCOL", &other, "only `http/protobuf` is spoken");
        }
        let address = endpoint.unwrap_or_else(|| format!("{DEFAULT_ENDPOINT}/v1/traces"));
        let endpoint = match Url::parse(&address) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => url,
            _ => return self.off("OTEL_EXPORTER_OTLP_ENDPOINT", &address, "it is not http(s)://host[:port]"),
        };
        let queue = self.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048).clamp(1, 1_000_000);
        Some(Settings {
            endpoint,
            headers: self.headers(),
            resource: self.resource(service),
            sampler: self.sampler(),
            timeout: self.milliseconds(
                "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
                || "OTEL_EXPORTER_OTLP_TIMEOUT",
                10_000,
            ),
            delay: self.milliseconds("OTEL_BSP_SCHEDULE_DELAY", || "OTEL_BSP_SCHEDULE_DELAY", 5_000),
            queue,
            batch: self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512).clamp(1, queue),
            patience: self.milliseconds("OTEL_BSP_EXPORT_TIMEOUT", || "OTEL_BSP_EXPORT_TIMEOUT", 30_000),
        })
    }

    /// The variable; an empty one is as good as none.
    fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The variable for traces, else that for everything.
    fn text_of_traces(&self, own: &str, general: &str) -> Option<String> {
        self.text(own).or_else(|| self.text(general))
    }

    fn endpoint(&self) -> Option<String> {
        // The address for traces is taken as it stands; the general one gets their path.
        let general = || self.text("OTEL_EXPORTER_OTLP_ENDPOINT");
        self.text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .or_else(|| general().map(|base| format!("{}/v1/traces", base.trim_end_matches('/'))))
    }

    fn headers(&mut self) -> HeaderMap {
        let name = "OTEL_EXPORTER_OTLP_HEADERS";
        let text = self.text_of_traces("OTEL_EXPORTER_OTLP_TRACES_HEADERS", name).unwrap_or_default();
        let mut headers = HeaderMap::new();
        for (key, value) in pairs(&text) {
            match (HeaderName::from_str(&key), HeaderValue::from_str(&value)) {
                (Ok(key), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(key, value);
                }
                // Its value may be a secret and is not repeated.
                _ => self.warnings.push(format!("{name}: {key:?} cannot be sent and is left out")),
            }
        }
        headers
    }

    fn resource(&self, service: &str) -> Vec<(String, String)> {
        let mut resource = vec![
            ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("telemetry.sdk.language".to_owned(), "rust".to_owned()),
            ("telemetry.sdk.name".to_owned(), "roamgate".to_owned()),
            ("telemetry.sdk.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ];
        for (key, value) in pairs(&self.text("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default()) {
            resource.retain(|(known, _)| *known != key);
            resource.push((key, value));
        }
        if let Some(name) = self.text("OTEL_SERVICE_NAME") {
            resource.retain(|(known, _)| known != "service.name");
            resource.push(("service.name".to_owned(), name));
        } else if !resource.iter().any(|(known, _)| known == "service.name") {
            resource.push(("service.name".to_owned(), service.to_owned()));
        }
        resource
    }

    fn sampler(&mut self) -> Sampler {
        let name = "OTEL_TRACES_SAMPLER";
        // What a request's first step decides, all others do: they decide by the same id.
        match self.text(name).as_deref() {
            None | Some("parentbased_always_on" | "always_on") => Sampler::Always,
            Some("parentbased_always_off" | "always_off") => Sampler::Never,
            Some("parentbased_traceidratio" | "traceidratio") => self.share(),
            Some(other) => {
                self.ignored(name, other, "all requests are traced");
                Sampler::Always
            }
        }
    }

    fn share(&mut self) -> Sampler {
        let name = "OTEL_TRACES_SAMPLER_ARG";
        let Some(text) = self.text(name) else { return Sampler::Always };
        text.parse().ok().and_then(Sampler::share).unwrap_or_else(|| {
            self.ignored(name, &text, "it is not a number from 0 to 1; all requests are traced");
            Sampler::Always
        })
    }

    fn number(&mut self, name: &str, default: usize) -> usize {
        let Some(text) = self.text(name) else { return default };
        text.parse().unwrap_or_else(|_| {
            self.ignored(name, &text, &format!("{default} is taken"));
            default
        })
    }

    fn milliseconds(&mut self, own: &str, general: impl Fn() -> &'static str, default: usize) -> Duration {
        let name = if self.text(own).is_some() { own } else { general() };
        let number = self.number(name, default).max(1);
        Duration::from_millis(u64::try_from(number).unwrap_or(u64::MAX))
    }

    fn ignored(&mut self, name: &str, value: impl Display, then: &str) {
        self.warnings.push(format!("{name}={value} is not understood: {then}"));
    }

    fn off(&mut self, name: &str, value: &str, why: &str) -> Option<Settings> {
        self.warnings.push(format!("traces are off: {name}={value}: {why}"));
        None
    }
}

/// `key=value,key=value`, values percent-encoded where they must be.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.trim().to_owned(), decode(value.trim())))
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..2).filter(|_| *first == b'%');
        let escaped =
            escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Option<Settings>, Vec<String>) {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        super::read(get, "roamgate-gateway")
    }

    fn of<'a>(settings: &'a Settings, key: &str) -> &'a str {
        &settings.resource.iter().find(|(known, _)| known == key).unwrap().1
    }

    #[test]
    fn without_a_word_about_them_there_are_no_traces() {
        assert_eq!(read(&[]), (None, vec![]));
        assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), (None, vec![]));
    }

    #[test]
    fn an_endpoint_is_enough() {
        let (settings, warnings) = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/")]);
        let settings = settings.unwrap();
        assert_eq!(settings.endpoint.as_str(), "http://collector:4318/v1/traces");
        assert_eq!((settings.queue, settings.batch, settings.sampler), (2048, 512, Sampler::Always));
        assert_eq!((settings.delay, settings.timeout), (Duration::from_secs(5), Duration::from_secs(10)));
        assert_eq!(of(&settings, "service.name"), "roamgate-gateway");
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn what_is_said_of_traces_goes_before_what_is_said_of_everything() {
        let (settings, _) = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces/as/it/stands"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-key=a%20b%2Cc , y = z"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "7"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,site=GER"),
            ("OTEL_SERVICE_NAME", "mine"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0"),
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.endpoint.as_str(), "https://traces/as/it/stands");
        assert_eq!(
            (&settings.headers["x-key"], &settings.headers["y"]),
            (&"a b,c".parse().unwrap(), &"z".parse().unwrap())
        );
        assert!(!settings.headers.contains_key("a") && !format!("{settings:?}").contains("a b,c"));
        assert_eq!(settings.timeout, Duration::from_millis(7));
        assert_eq!((of(&settings, "service.name"), of(&settings, "site")), ("mine", "GER"));
        assert_eq!(settings.sampler, Sampler::share(0.0).unwrap());
    }

    #[test]
    fn they_can_be_switched_off_in_two_ways_and_on_without_an_endpoint() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert_eq!(read(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]), (None, vec![]));
        assert_eq!(read(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]), (None, vec![]));
        let (settings, _) = read(&[("OTEL_TRACES_EXPORTER", "otlp")]);
        assert_eq!(settings.unwrap().endpoint.as_str(), "http://localhost:4318/v1/traces");
    }

    #[test]
    fn what_is_not_understood_is_told_and_never_stops_the_process() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        for (wrong, is_on) in [
            (("OTEL_TRACES_EXPORTER", "zipkin"), false),
            (("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), false),
            (("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://x"), false),
            (("OTEL_TRACES_SAMPLER", "sometimes"), true),
            (("OTEL_BSP_MAX_QUEUE_SIZE", "many"), true),
            (("OTEL_EXPORTER_OTLP_HEADERS", "a b=1"), true),
        ] {
            let (settings, warnings) = read(&[endpoint, wrong]);
            assert_eq!((settings.is_some(), warnings.len()), (is_on, 1), "{wrong:?}: {warnings:?}");
        }
        let (_, warnings) = read(&[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "a b=secret")]);
        assert!(!warnings[0].contains("secret"), "{warnings:?}");
    }
}
