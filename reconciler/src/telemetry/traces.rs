//! [`Traces`]: spans of what is done become spans of OpenTelemetry when they end.

use ring::rand::{SecureRandom as _, SystemRandom};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::export::Queue;
use super::fields::Fields;
use super::span::{Ended, Happened, Ids, Span};
use crate::clock::{Clock as _, HostClock};

/// More that happened within one span is not kept.
const MOST_HAPPENED: usize = 64;

/// Makes spans.
pub(super) struct Traces {
    queue: Queue,
    random: SystemRandom,
}

impl Traces {
    /// To a queue. What does not fit is lost, and that is told by whoever empties it.
    pub(super) fn new(queue: Queue) -> Self {
        Self {
            queue,
            random: SystemRandom::new(),
        }
    }

    /// Random bytes that are not all zero; where the kernel gives none the span is none.
    fn random<const N: usize>(&self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).ok()?;
        (bytes != [0; N]).then_some(bytes)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Traces {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let above = span
            .parent()
            .and_then(|parent| parent.extensions().get::<Span>().map(|one| one.ids));
        let trace = above.map(|ids| ids.trace).or_else(|| self.random());
        let (Some(trace), Some(own)) = (trace, self.random()) else {
            return;
        };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(Span {
            ids: Ids { trace, span: own },
            parent: above.map(|ids| ids.span),
            name: span.name(),
            began: HostClock.now(),
            fields,
            happened: Vec::new(),
            failed: None,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(one) = span.extensions_mut().get_mut::<Span>() {
            values.record(&mut one.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > Level::WARN {
            return;
        }
        let Some(span) = context.event_span(event) else {
            return;
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut extensions = span.extensions_mut();
        let Some(one) = extensions.get_mut::<Span>() else {
            return;
        };
        if level == Level::ERROR {
            let why = fields.get("why").and_then(|why| why.as_str());
            let why = why.map(str::to_owned).or_else(|| fields.message.clone());
            one.failed.get_or_insert(why.unwrap_or_default());
        }
        if one.happened.len() < MOST_HAPPENED {
            one.happened.push(Happened {
                at: HostClock.now(),
                level: level.as_str(),
                fields,
            });
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let one = span.extensions_mut().remove::<Span>();
        if let Some(mut span) = one {
            let error = span.fields.get("error").and_then(|error| error.as_str());
            span.failed = span.failed.or_else(|| error.map(str::to_owned));
            let at = HostClock.now();
            self.queue.put(Ended { span, at });
        }
    }
}
