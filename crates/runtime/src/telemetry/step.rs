//! The steps of a request, told to whoever collects traces.
//!
//! A request is known by its id, sixteen bytes, on every hop. That id *is* the trace, and the id of a step is made
//! of the request's id and the step's name. So no context travels with a request: each hop tells its own steps,
//! names the step before it by its name, and the parts fit together where they are collected. Nobody on the way
//! can forge a context, and who has the request id of a refused device finds the trace by it.
//!
//! ```
//! # let request_id = "01930f6e-0000-7000-8000-000000000001";
//! // A step that other hops refer to: one of its name in a request.
//! let step = runtime::step!("management-point.request", request_id, parent = "connection-point.forward");
//! step.record("status", 200);
//! // A step inside it, by the span that is entered: there may be many of its name.
//! let _entered = step.enter();
//! let inner = runtime::step_inside!("management-point.handle");
//! ```
//!
//! Nobody collects traces: then a step is a look at an atomic, and its fields are not even made.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use uuid::Uuid;

use crate::clock::Clock;

/// Target of the spans that are steps: what tells them from the log's own.
pub const STEP_TARGET: &str = "roamgate::step";

/// Attributes that one step keeps; more are left out.
const ATTRIBUTES: usize = 16;
/// Bytes of one attribute's text; more are cut off.
const TEXT_BYTES: usize = 300;

/// Begins a step of the request `$request` (anything that shows a UUID); it ends when the span is dropped.
///
/// Fields: `parent = "name"` is the step before it, wherever that ran; without one it is the first.
/// `attempt = 2` tells a repetition from the first try. `status`, `reason` and `error` are there to be recorded
/// later. No field may hold a token, a key or a query.
#[macro_export]
macro_rules! step {
    ($name:literal, $request:expr $(, $($fields:tt)*)?) => {
        ::tracing::info_span!(
            target: "roamgate::step",
            parent: None,
            $name,
            request_id = %$request,
            status = ::tracing::field::Empty,
            reason = ::tracing::field::Empty,
            error = ::tracing::field::Empty
            $(, $($fields)*)?
        )
    };
}

/// Begins a step inside the one that is entered; outside of any it is nobody's and is not told.
#[macro_export]
macro_rules! step_inside {
    ($name:literal $(, $($fields:tt)*)?) => {
        ::tracing::info_span!(
            target: "roamgate::step",
            $name,
            status = ::tracing::field::Empty,
            reason = ::tracing::field::Empty,
            error = ::tracing::field::Empty
            $(, $($fields)*)?
        )
    };
}

/// A step that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name: `gateway.admit`.
    pub name: &'static str,
    /// The request that it belongs to.
    pub request: [u8; 16],
    /// Its own id; never zero.
    pub id: [u8; 8],
    /// The id of the step before it or around it.
    pub parent: Option<[u8; 8]>,
    /// When it began, microseconds since 1970.
    pub began: i64,
    /// How long it lasted.
    pub took: Duration,
    /// What is known of it.
    pub attributes: Vec<(&'static str, StepValue)>,
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum StepValue {
    /// A text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// Yes or no.
    Flag(bool),
}

/// Takes steps. Called where they end, so it only puts them into a bounded queue.
pub trait StepSink: fmt::Debug + Send + Sync {
    /// Whether steps of this request are wanted: all of a request or none.
    fn wants(&self, request: &[u8; 16]) -> bool;

    /// A step has ended.
    fn ended(&self, step: Step);
}

/// The id of the step `name` in a request. `attempt`: 1 unless it is repeated.
pub fn step_id(request: &[u8; 16], name: &str, attempt: u64) -> [u8; 8] {
    let mut text = request.to_vec();
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(&attempt.to_be_bytes());
    shorten(digest::digest(&digest::SHA256, &text).as_ref())
}

/// An id for a step that nobody refers to from elsewhere.
fn fresh_id() -> [u8; 8] {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static SALT: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let salt = *SALT.get_or_init(crate::id::random);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut text = salt.to_be_bytes().to_vec();
    text.extend_from_slice(&number.to_be_bytes());
    shorten(digest::digest(&digest::SHA256, &text).as_ref())
}

/// The first eight bytes, never all zero: that would say that there is no id.
fn shorten(hash: &[u8]) -> [u8; 8] {
    let start = hash.first_chunk::<8>().copied().unwrap_or_default();
    if start == [0; 8] { [1; 8] } else { start }
}

/// Makes steps of spans.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    sink: Arc<dyn StepSink>,
    clock: Clock,
}

impl Steps {
    pub(super) fn new(sink: Arc<dyn StepSink>, clock: Clock) -> Self {
        Self { sink, clock }
    }

    pub(super) fn begin<S>(&self, attributes: &Attributes<'_>, id: &Id, context: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = context.span(id) else { return };
        let mut notes = Notes::default();
        attributes.record(&mut notes);
        let around = span.parent().and_then(|parent| {
            parent
                .scope()
                .find_map(|span| span.extensions().get::<Open>().map(|open| (open.request, open.id)))
        });
        let (request, own, parent) = match (notes.request, around) {
            (Some(request), _) => {
                let attempt = notes.attempt.unwrap_or(1);
                let parent = notes.parent.as_deref().map(|name| step_id(&request, name, 1));
                (request, step_id(&request, attributes.metadata().name(), attempt), parent)
            }
            (None, Some((request, around))) => (request, fresh_id(), Some(around)),
            (None, None) => return,
        };
        if self.sink.wants(&request) {
            let began = (self.clock.now(), Instant::now());
            span.extensions_mut().insert(Open {
                request,
                id: own,
                parent,
                began,
                attributes: notes.attributes,
            });
        }
    }

    pub(super) fn record<S>(id: &Id, values: &Record<'_>, context: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            let mut notes = Notes { attributes: std::mem::take(&mut open.attributes), ..Notes::default() };
            values.record(&mut notes);
            open.attributes = notes.attributes;
        }
    }

    pub(super) fn end<S>(&self, id: &Id, context: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = context.span(id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let (began, instant) = open.began;
        self.sink.ended(Step {
            name: span.name(),
            request: open.request,
            id: open.id,
            parent: open.parent,
            began,
            took: instant.elapsed(),
            attributes: open.attributes,
        });
    }
}

/// A step that has not ended.
#[derive(Debug)]
struct Open {
    request: [u8; 16],
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    began: (i64, Instant),
    attributes: Vec<(&'static str, StepValue)>,
}

/// What a step's fields say.
#[derive(Debug, Default)]
struct Notes {
    request: Option<[u8; 16]>,
    parent: Option<String>,
    attempt: Option<u64>,
    attributes: Vec<(&'static str, StepValue)>,
}

impl Notes {
    fn text(&mut self, field: &Field, text: &str) {
        match field.name() {
            "request_id" => self.request = Uuid::try_parse(text).ok().map(Uuid::into_bytes),
            "parent" => self.parent = Some(text.to_owned()),
            _ => {
                let end = text.floor_char_boundary(TEXT_BYTES);
                let text = text.get(..end).unwrap_or_default();
                self.keep(field, StepValue::Text(text.to_owned()));
            }
        }
    }

    fn number(&mut self, field: &Field, number: i64) {
        if field.name() == "attempt" {
            self.attempt = u64::try_from(number).ok();
        }
        self.keep(field, StepValue::Whole(number));
    }

    /// The last word counts.
    fn keep(&mut self, field: &Field, value: StepValue) {
        if let Some((_, known)) = self.attributes.iter_mut().find(|(name, _)| *name == field.name()) {
            *known = value;
        } else if self.attributes.len() < ATTRIBUTES {
            self.attributes.push((field.name(), value));
        }
    }
}

impl Visit for Notes {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, StepValue::Flag(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::telemetry::{ComponentSpec, Console, Format, Level, LogConfig, start};

    const REQUEST: &str = "01930f6e-0000-7000-8000-000000000001";

    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<Step>>);

    impl StepSink for Kept {
        fn wants(&self, request: &[u8; 16]) -> bool {
            request[15] == 1
        }

        fn ended(&self, step: Step) {
            self.0.lock().unwrap().push(step);
        }
    }

    fn request() -> [u8; 16] {
        Uuid::parse_str(REQUEST).unwrap().into_bytes()
    }

    /// What a collector gets of `work`, where the log itself wants nothing but errors.
    fn told(work: impl FnOnce()) -> Vec<Step> {
        let kept = Arc::new(Kept::default());
        let spec = ComponentSpec { component: "test", file: "test.log", format: Format::Simple };
        let config = LogConfig {
            console: Console::Off,
            level: Level::Errors,
            steps: Some(Arc::clone(&kept) as Arc<dyn StepSink>),
            ..LogConfig::new(spec, Clock::manual(1_790_000_000_000_000))
        };
        let (subscriber, _handle) = start(config).unwrap();
        tracing::subscriber::with_default(subscriber, work);
        std::mem::take(&mut kept.0.lock().unwrap())
    }

    #[test]
    fn hops_that_never_spoke_agree_about_ids() {
        let steps = told(|| {
            drop(crate::step!("far", REQUEST, parent = "near"));
            drop(crate::step!("near", REQUEST));
        });
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[0].parent, Some(steps[1].id));
        assert_eq!((steps[1].parent, steps[1].request), (None, request()));
        assert_eq!(steps[0].id, step_id(&request(), "far", 1));
        assert_eq!(steps[0].began, 1_790_000_000_000_000);
    }

    #[test]
    fn a_repetition_is_another_step() {
        let steps = told(|| {
            drop(crate::step!("near", REQUEST));
            drop(crate::step!("near", REQUEST, attempt = 2));
        });
        assert_ne!(steps[0].id, steps[1].id);
        assert_eq!(steps[1].attributes, [("attempt", StepValue::Whole(2))]);
    }

    #[test]
    fn steps_inside_belong_to_the_one_around_them_and_may_be_many() {
        let steps = told(|| {
            let outer =
                tracing::info_span!("log", component = "x").in_scope(|| crate::step!("outer", REQUEST));
            outer.in_scope(|| {
                for _ in 0..2 {
                    drop(crate::step_inside!("inner", rows = 3_u64, cached = true));
                }
            });
            outer.record("status", 503);
            outer.record("reason", "RG1101");
        });
        let [first, second, outer] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!((first.parent, second.parent), (Some(outer.id), Some(outer.id)));
        assert_ne!(first.id, second.id);
        assert_eq!(first.attributes, [("rows", StepValue::Whole(3)), ("cached", StepValue::Flag(true))]);
        assert_eq!(
            outer.attributes,
            [("status", StepValue::Whole(503)), ("reason", StepValue::Text("RG1101".into()))]
        );
    }

    #[test]
    fn what_is_no_part_of_a_wanted_request_is_not_told() {
        let steps = told(|| {
            drop(crate::step_inside!("alone"));
            drop(crate::step!("wrong", "no uuid"));
            drop(crate::step!("unwanted", "01930f6e-0000-7000-8000-000000000002"));
            drop(tracing::info_span!("no step", request_id = REQUEST));
        });
        assert_eq!(steps, []);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let steps = told(|| drop(crate::step!("near", REQUEST, path = "ä".repeat(400))));
        let StepValue::Text(text) = &steps[0].attributes[0].1 else { panic!() };
        assert_eq!(text.len(), TEXT_BYTES);
    }

    #[test]
    fn without_a_collector_a_step_is_not_even_made() {
        let spec = ComponentSpec { component: "test", file: "test.log", format: Format::Simple };
        let config = LogConfig { console: Console::Off, ..LogConfig::new(spec, Clock::manual(0)) };
        let (subscriber, _handle) = start(config).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let fields_are_made = std::cell::Cell::new(false);
            let shown = std::fmt::from_fn(|f| {
                fields_are_made.set(true);
                f.write_str(REQUEST)
            });
            assert!(crate::step!("near", shown).is_disabled());
            assert!(!fields_are_made.get());
        });
    }
}
