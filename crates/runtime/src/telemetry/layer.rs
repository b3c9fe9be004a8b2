//! From `tracing` to records.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Chain;
use super::batch::{Queue, thread_number};
use super::component::Components;
use super::record::{self, MESSAGE_LIMIT, Record, Text, VALUE_LIMIT, Value};
use super::step::{STEP_TARGET, Steps};
use crate::clock::Clock;

const MESSAGE: &str = "message";
const COMPONENT: &str = "component";
const REQUEST_ID: &str = "request_id";
const VERBATIM: &str = "verbatim";

/// Turns events into records and queues them.
pub(super) struct LogLayer {
    components: Arc<Components>,
    queue: Queue,
    clock: Clock,
    steps: Option<Steps>,
}

impl LogLayer {
    pub(super) fn new(components: Arc<Components>, queue: Queue, clock: Clock, steps: Option<Steps>) -> Self {
        Self { components, queue, clock, steps }
    }
}

/// Steps are for traces only: no line of the log shows one.
fn is_step(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == STEP_TARGET
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        if is_step(metadata) {
            return self.steps.is_some();
        }
        *metadata.level() <= self.components.most_detailed()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let least = if self.steps.is_some() { LevelFilter::INFO } else { LevelFilter::OFF };
        Some(self.components.most_detailed().max(least))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if is_step(attributes.metadata()) {
            if let Some(steps) = &self.steps {
                steps.begin(attributes, id, &context);
            }
            return;
        }
        let fields = attributes.fields();
        if fields.field(REQUEST_ID).is_none() && fields.field(COMPONENT).is_none() {
            return;
        }
        if let Some(span) = context.span(id) {
            let mut notes = SpanNotes::default();
            attributes.record(&mut notes);
            span.extensions_mut().insert(notes);
        }
    }

    fn on_record(&self, id: &Id, values: &SpanRecord<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(notes) = span.extensions_mut().get_mut::<SpanNotes>()
        {
            values.record(notes);
        }
        if self.steps.is_some() {
            Steps::record(id, values, &context);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if let Some(steps) = &self.steps {
            steps.end(&id, &context);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut notes = EventNotes::default();
        event.record(&mut notes);
        let mut spans = SpanNotes { component: notes.component.take(), request_id: None };
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<SpanNotes>() {
                spans.fill_from(outer);
            }
        }
        let Some(route) = self.components.route(spans.component.as_deref(), *metadata.level()) else {
            return;
        };
        self.queue.push(Record {
            route,
            level: *metadata.level(),
            now: self.clock.now(),
            thread: thread_number(),
            source: (file_name(metadata.file()), metadata.line().unwrap_or_default()),
            message: notes.message.unwrap_or_else(|| Text::empty(MESSAGE_LIMIT)),
            // An id that the event names itself stands among its fields.
            request_id: spans.request_id.filter(|_| !notes.fields.iter().any(|f| f.name == REQUEST_ID)),
            fields: notes.fields,
            verbatim: notes.verbatim,
        });
    }
}

/// Source paths tell about the machine that built the program; their last part is enough.
pub(super) fn file_name(path: Option<&'static str>) -> &'static str {
    path.and_then(|path| path.rsplit(['/', '\\']).next()).unwrap_or_default()
}

/// What a span says about the events inside it.
#[derive(Debug, Default)]
struct SpanNotes {
    component: Option<String>,
    request_id: Option<String>,
}

impl SpanNotes {
    fn fill_from(&mut self, outer: &Self) {
        if self.component.is_none() {
            self.component.clone_from(&outer.component);
        }
        if self.request_id.is_none() {
            self.request_id.clone_from(&outer.request_id);
        }
    }

    fn note(&mut self, field: &Field, value: &impl fmt::Display) {
        let text = || Text::of(VALUE_LIMIT, value).as_str().to_owned();
        match field.name() {
            COMPONENT => self.component = Some(text()),
            REQUEST_ID => self.request_id = Some(text()),
            _ => {}
        }
    }
}

impl Visit for SpanNotes {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, &format_args!("{value:?}"));
    }
}

/// What an event says.
#[derive(Debug, Default)]
struct EventNotes {
    message: Option<Text>,
    component: Option<String>,
    verbatim: bool,
    fields: Vec<record::Field>,
}

impl EventNotes {
    fn note(&mut self, field: &Field, value: &impl fmt::Display) {
        match field.name() {
            MESSAGE => self.message = Some(Text::of(MESSAGE_LIMIT, value)),
            COMPONENT => self.component = Some(Text::of(VALUE_LIMIT, value).as_str().to_owned()),
            name => self.add(name, Value::Text(Text::of(VALUE_LIMIT, value))),
        }
    }

    fn add(&mut self, name: &'static str, value: Value) {
        self.fields.push(record::Field { name, value });
    }
}

impl Visit for EventNotes {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == VERBATIM {
            self.verbatim = value;
        } else {
            self.add(field.name(), Value::Bare(value.to_string()));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), Value::Bare(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), Value::Bare(value.to_string()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, &value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.note(field, &Chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, &format_args!("{value:?}"));
    }
}
