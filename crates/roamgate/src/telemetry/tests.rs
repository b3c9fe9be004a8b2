//! What a collector of traces gets: one made here that reads protobuf, and, where it is installed, the library that
//! the makers of the protocol publish for Python.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use runtime::metrics::{Format, Page};
use runtime::telemetry::{Step, StepValue, step_id};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::export::Exporter;
use super::otlp;
use super::settings::{self, Settings};

const REQUEST: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

fn step(name: &'static str, parent: Option<&str>) -> Step {
    Step {
        name,
        request: REQUEST,
        id: step_id(&REQUEST, name, 1),
        parent: parent.map(|parent| step_id(&REQUEST, parent, 1)),
        began: 1_790_000_000_000_000,
        took: Duration::from_micros(1_500),
        attributes: vec![("status", StepValue::Whole(503)), ("reason", StepValue::Text("RG-1101".into()))],
    }
}

/// What one request to the collector was.
#[derive(Debug)]
struct Received {
    head: String,
    body: Vec<u8>,
}

/// A collector that answers each request with the next of these statuses, and the last for ever.
async fn collector(statuses: &'static [&'static str]) -> (SocketAddr, mpsc::UnboundedReceiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let (head, body) = loop {
                assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "cut off");
                let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.unwrap().parse().unwrap();
                if bytes.len() >= end + 4 + length {
                    break (head, bytes[end + 4..].to_vec());
                }
            };
            let status = statuses.get(number).or(statuses.last()).unwrap();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if tell.send(Received { head, body }).is_err() {
                return;
            }
        }
    });
    (address, told)
}

fn settings_for(address: SocketAddr, more: &[(&str, &str)]) -> Settings {
    let endpoint = format!("http://{address}");
    let get = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
        "OTEL_BSP_SCHEDULE_DELAY" => Some("20".to_owned()),
        name => more.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
    };
    settings::read(get, "roamgate-test").0.unwrap()
}

fn page_of(exporter: &Exporter) -> String {
    let mut page = Page::default();
    exporter.counts().fill(&mut page);
    page.text(Format::Text)
}

/// A message of protobuf: numbers of fields, and what they hold.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let mut take = |count: usize| {
            let (taken, rest) = bytes.split_at(count);
            bytes = rest;
            taken.to_vec()
        };
        let field = match tag & 7 {
            1 => Field::Number(u64::from_le_bytes(take(8).try_into().unwrap())),
            5 => Field::Number(u32::from_le_bytes(take(4).try_into().unwrap()).into()),
            0 => Field::Number(varint(&mut bytes)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (taken, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(taken.to_vec())
            }
            wire => panic!("wire type {wire}"),
        };
        fields.push((tag >> 3, field));
    }
    fields
}

#[derive(Debug, Clone, PartialEq)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    number
}

fn messages(of: &[u8], number: u64) -> Vec<Vec<u8>> {
    let all = fields(of).into_iter().filter(|(field, _)| *field == number);
    all.map(|(_, field)| if let Field::Bytes(bytes) = field { bytes } else { panic!("{field:?}") }).collect()
}

fn text(of: &[u8], number: u64) -> String {
    String::from_utf8(messages(of, number).remove(0)).unwrap()
}

fn number(of: &[u8], wanted: u64) -> u64 {
    let found = fields(of).into_iter().find(|(field, _)| *field == wanted);
    if let Some((_, Field::Number(number))) = found { number } else { panic!("field {wanted}: {found:?}") }
}

/// Attributes, their values as texts.
fn attributes(of: &[u8], number_of_field: u64) -> BTreeMap<String, String> {
    let pairs = messages(of, number_of_field).into_iter();
    pairs
        .map(|pair| {
            let value = &messages(&pair, 2)[0];
            let shown = match &fields(value)[..] {
                [(1, Field::Bytes(text))] => String::from_utf8(text.clone()).unwrap(),
                [(_, Field::Number(number))] => number.to_string(),
                other => panic!("{other:?}"),
            };
            (text(&pair, 1), shown)
        })
        .collect()
}

#[tokio::test]
async fn a_collector_gets_every_step_as_a_span_of_the_requests_trace() {
    let (address, mut received) = collector(&["200 OK"]).await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k1"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=lab"),
    ];
    let exporter = Exporter::start(settings_for(address, &variables)).unwrap();
    let sink = exporter.sink();
    assert!(sink.wants(&REQUEST));
    sink.ended(step("gateway.request", None));
    sink.ended(step("gateway.admit", Some("gateway.request")));
    let Received { head, body } = received.recv().await.unwrap();
    assert!(head.starts_with("post /v1/traces http/1.1") && head.contains("\r\nx-key: k1"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/x-protobuf"), "{head}");

    let resource_spans = &messages(&body, 1)[0];
    let resource = attributes(&messages(resource_spans, 1)[0], 1);
    assert_eq!(resource["service.name"], "roamgate-test");
    assert_eq!(resource["deployment.environment"], "lab");
    let scope_spans = &messages(resource_spans, 2)[0];
    assert_eq!(text(&messages(scope_spans, 1)[0], 1), "roamgate");
    let spans = messages(scope_spans, 2);
    let [request, admit] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(
        (text(request, 5), text(admit, 5)),
        ("gateway.request".to_owned(), "gateway.admit".to_owned())
    );
    assert_eq!(messages(request, 1)[0], REQUEST, "the request's id is the trace's");
    assert_eq!(messages(admit, 4)[0], messages(request, 2)[0], "the parent is the step before");
    assert!(messages(request, 4).is_empty());
    assert_eq!(number(admit, 8) - number(admit, 7), 1_500_000);
    assert_eq!(number(request, 7), 1_790_000_000_000_000_000);
    let about = attributes(request, 9);
    assert_eq!(about["http.response.status_code"], "503");
    assert_eq!(about["roamgate.reason"], "RG-1101");
    assert_eq!(about["roamgate.request_id"], "01020304-0506-0708-090a-0b0c0d0e0f10");
    assert_eq!(number(&messages(request, 15)[0], 3), 2, "a status of 500 and above is an error");
    exporter.finish().await;
}

#[tokio::test]
async fn a_collector_that_asks_for_patience_gets_the_same_again_and_nothing_is_lost() {
    let (address, mut received) = collector(&["503 Busy", "200 OK"]).await;
    let exporter = Exporter::start(settings_for(address, &[])).unwrap();
    exporter.sink().ended(step("gateway.request", None));
    let (first, second) = (received.recv().await.unwrap(), received.recv().await.unwrap());
    assert_eq!(first.body, second.body);
    while !page_of(&exporter).contains("roamgate_trace_spans_exported_total 1\n") {
        tokio::task::yield_now().await;
    }
    exporter.finish().await;
}

#[tokio::test]
async fn what_a_collector_refuses_and_what_is_too_much_is_counted() {
    let (address, mut received) = collector(&["400 No"]).await;
    let exporter = Exporter::start(settings_for(address, &[("OTEL_BSP_MAX_QUEUE_SIZE", "4")])).unwrap();
    let sink = exporter.sink();
    sink.ended(step("gateway.request", None));
    received.recv().await.unwrap();
    while !page_of(&exporter).contains("dropped_total{cause=\"collector\"} 1\n") {
        tokio::task::yield_now().await;
    }
    // Nobody takes anything any more.
    drop(received);
    for _ in 0..10_000 {
        sink.ended(step("gateway.request", None));
    }
    let page = page_of(&exporter);
    assert!(!page.contains("dropped_total{cause=\"queue\"} 0\n"), "{page}");
    exporter.finish().await;
}

#[tokio::test]
async fn steps_that_wait_are_sent_before_the_process_ends() {
    let (address, mut received) = collector(&["200 OK"]).await;
    let long = [("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512")];
    let mut settings = settings_for(address, &long);
    settings.delay = Duration::from_hours(1);
    let exporter = Exporter::start(settings).unwrap();
    exporter.sink().ended(step("gateway.request", None));
    exporter.finish().await;
    assert_eq!(messages(&messages(&messages(&received.recv().await.unwrap().body, 1)[0], 2)[0], 2).len(), 1);
}

/// Reads a request with the protocol's own library and prints name, trace, parent and status of each span.
const PYTHON: &str = "
import sys
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
request = ExportTraceServiceRequest()
request.ParseFromString(sys.stdin.buffer.read())
for resource in request.resource_spans:
    for scope in resource.scope_spans:
        for span in scope.spans:
            print(span.name, span.trace_id.hex(), span.parent_span_id.hex() or '-', span.kind, span.status.code)
";

#[test]
fn the_protocols_own_library_reads_the_same() {
    let installed =
        Command::new("python3").args(["-c", "import opentelemetry.proto"]).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: python3 with the package opentelemetry-proto is not installed");
        return;
    }
    let steps = [step("gateway.request", None), step("gateway.admit", Some("gateway.request"))];
    let body = otlp::request(&[("service.name".into(), "x".into())], &steps);
    let mut python = Command::new("python3")
        .args(["-c", PYTHON])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it ran a moment ago");
    python.stdin.take().unwrap().write_all(&body).unwrap();
    let output = python.wait_with_output().unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let trace = hex(&REQUEST);
    let parent = hex(&step_id(&REQUEST, "gateway.request", 1));
    let expected = format!("gateway.request {trace} - 2 2\ngateway.admit {trace} {parent} 1 2\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}
