//! [`Lines`]: each event becomes a line at once.

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Out;
use super::fields::Fields;
use super::line::{Form, Line};
use crate::clock::{Clock as _, HostClock};

/// What a span says, kept with it.
struct Said(Fields);

/// Writes lines.
pub(super) struct Lines {
    form: Form,
    out: Out,
}

impl Lines {
    /// In a form, to a place.
    pub(super) const fn new(form: Form, out: Out) -> Self {
        Self { form, out }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(Said(fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(Said(fields)) = span.extensions_mut().get_mut() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut told = Fields::default();
        event.record(&mut told);
        let scope = context.event_scope(event);
        let spans = scope.into_iter().flat_map(|scope| scope.from_root());
        let within: Vec<(&'static str, Fields)> = spans
            .filter_map(|span| {
                let extensions = span.extensions();
                let Said(fields) = extensions.get()?;
                Some((span.name(), fields.clone()))
            })
            .collect();
        let line = Line {
            at: HostClock.now(),
            level: *event.metadata().level(),
            told: &told,
            within: &within,
        };
        (self.out)(&(self.form)(&line));
    }
}
