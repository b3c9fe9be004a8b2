//! Steps as OpenTelemetry's protocol writes spans: the message `ExportTraceServiceRequest` in protobuf.
//!
//! Written by hand: it is four messages deep, its numbers never change, and the libraries for it bring seven crates
//! and a second HTTP client. The tests have it read by others.

use runtime::telemetry::{Step, StepValue};

/// Kinds of spans.
const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
/// Code of a status that says that something failed.
const ERROR: u64 = 2;
/// `trace_flags`: sampled.
const SAMPLED: u32 = 1;

/// A request for the collector with these steps; `resource` describes the process.
pub(super) fn request(resource: &[(String, String)], steps: &[Step]) -> Vec<u8> {
    let mut of_resource = Message::default();
    for (key, value) in resource {
        of_resource.message(1, &attribute(key, &StepValue::Text(value.clone())));
    }
    let mut scope = Message::default();
    scope.text(1, "roamgate");
    scope.text(2, env!("CARGO_PKG_VERSION"));
    let mut scope_spans = Message::default();
    scope_spans.message(1, &scope);
    for step in steps {
        scope_spans.message(2, &span(step));
    }
    let mut resource_spans = Message::default();
    resource_spans.message(1, &of_resource);
    resource_spans.message(2, &scope_spans);
    let mut request = Message::default();
    request.message(1, &resource_spans);
    request.0
}

fn span(step: &Step) -> Message {
    let began = u64::try_from(step.began).unwrap_or(0).saturating_mul(1000);
    let took = u64::try_from(step.took.as_nanos()).unwrap_or(u64::MAX);
    let mut span = Message::default();
    span.bytes(1, &step.request);
    span.bytes(2, &step.id);
    if let Some(parent) = &step.parent {
        span.bytes(4, parent);
    }
    span.text(5, &name(step));
    span.number(6, kind(step.name));
    span.fixed64(7, began);
    span.fixed64(8, began.saturating_add(took));
    for (key, value) in &step.attributes {
        span.message(9, &attribute(&key_of(key), value));
    }
    let id = uuid::Uuid::from_bytes(step.request).hyphenated().to_string();
    span.message(9, &attribute("roamgate.request_id", &StepValue::Text(id)));
    if has_failed(step) {
        let mut status = Message::default();
        status.number(3, ERROR);
        span.message(15, &status);
    }
    span.fixed32(16, SAMPLED);
    span
}

/// What people read: a transaction is called after its operation.
fn name(step: &Step) -> String {
    let operation = step.attributes.iter().find(|(key, _)| *key == "operation");
    match (step.name, operation) {
        ("site.write" | "site.read", Some((_, StepValue::Text(operation)))) => format!("site.{operation}"),
        (name, _) => name.to_owned(),
    }
}

fn kind(name: &str) -> u64 {
    match name {
        "gateway.request" | "management-point.request" => SERVER,
        "connection-point.forward" => CLIENT,
        _ => INTERNAL,
    }
}

/// The names that others know, where there are such.
fn key_of(key: &str) -> String {
    match key {
        "status" => "http.response.status_code".to_owned(),
        "method" => "http.request.method".to_owned(),
        "endpoint" => "http.route".to_owned(),
        "path" => "url.path".to_owned(),
        "error" => "error.type".to_owned(),
        own => format!("roamgate.{own}"),
    }
}

fn has_failed(step: &Step) -> bool {
    step.attributes.iter().any(|(key, value)| match (*key, value) {
        ("status", StepValue::Whole(status)) => *status >= 500,
        ("error", _) => true,
        _ => false,
    })
}

fn attribute(key: &str, value: &StepValue) -> Message {
    let mut any = Message::default();
    match value {
        StepValue::Text(text) => any.text(1, text),
        StepValue::Flag(flag) => any.number(2, u64::from(*flag)),
        StepValue::Whole(number) => any.number(3, number.cast_unsigned()),
    }
    let mut pair = Message::default();
    pair.text(1, key);
    pair.message(2, &any);
    pair
}

/// A message of protobuf on its way.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.tag(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.tag(field, 0);
        self.varint(number);
    }

    fn fixed64(&mut self, field: u64, number: u64) {
        self.tag(field, 1);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn fixed32(&mut self, field: u64, number: u32) {
        self.tag(field, 5);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn tag(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
            number >>= 7;
        }
        self.0.push(u8::try_from(number).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn step(name: &'static str, attributes: Vec<(&'static str, StepValue)>) -> Step {
        Step {
            name,
            request: [1; 16],
            id: [2; 8],
            parent: Some([3; 8]),
            began: 1_790_000_000_000_001,
            took: Duration::from_micros(5),
            attributes,
        }
    }

    #[test]
    fn numbers_are_written_as_protobuf_has_them() {
        let mut message = Message::default();
        message.number(3, 300);
        message.text(16, "ä");
        message.fixed32(2, 1);
        assert_eq!(message.0, [0x18, 0xac, 0x02, 0x82, 0x01, 0x02, 0xc3, 0xa4, 0x15, 1, 0, 0, 0]);
        let mut message = Message::default();
        message.number(3, (-1_i64).cast_unsigned());
        assert_eq!(message.0.len(), 11, "a negative number takes ten bytes");
    }

    #[test]
    fn a_transaction_is_called_after_its_operation_and_the_first_steps_are_servers() {
        let write = step("site.write", vec![("operation", StepValue::Text("register_under".into()))]);
        assert_eq!(name(&write), "site.register_under");
        assert_eq!(name(&step("gateway.admit", vec![])), "gateway.admit");
        assert_eq!(
            (kind("gateway.request"), kind("connection-point.forward"), kind("site.write")),
            (2, 3, 1)
        );
    }

    #[test]
    fn a_refusal_is_no_error_of_the_step_and_a_server_error_is() {
        let with = |status| step("gateway.request", vec![("status", StepValue::Whole(status))]);
        assert!(!has_failed(&with(401)) && has_failed(&with(502)));
        assert!(has_failed(&step("x", vec![("error", StepValue::Text("role gone".into()))])));
    }
}
