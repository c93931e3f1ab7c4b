//! From spans of `tracing` to spans of OTLP.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::span::{Kind, Span, Value};

/// The target of the spans that are told.
pub const TARGET: &str = "inborn_trace";

/// The name of the span of a request: the first of a trace. Others are told within one.
const REQUEST: &str = "request";

/// How many spans within one request are told. How many there were is told by an attribute of the request.
const CHILDREN_MAX: u32 = 64;

/// The longest text of an attribute, in bytes. All are short: names of ours, ids of requests.
const TEXT_BYTES_MAX: usize = 256;

/// Tells spans of [`TARGET`], and nothing else.
#[derive(Debug)]
pub struct Spans {
    queue: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
    /// Nanoseconds since 1970.
    clock: fn() -> u64,
    /// Of traces whose last eight bytes are less than this, as a number, as all are told.
    threshold: u64,
}

/// A span that has not ended.
struct Open {
    span: Span,
    children: u32,
}

impl Spans {
    pub(crate) const fn new(
        queue: mpsc::Sender<Span>,
        dropped: Arc<AtomicU64>,
        clock: fn() -> u64,
        threshold: u64,
    ) -> Self {
        Self { queue, dropped, clock, threshold }
    }

    /// A trace that is to be told.
    fn begin_trace(&self) -> Option<[u8; 16]> {
        let trace: [u8; 16] = random()?;
        let (_, last) = trace.split_last_chunk::<8>()?;
        (u64::from_be_bytes(*last) <= self.threshold).then_some(trace)
    }
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    // No id is all zeros.
    bytes.iter().any(|byte| *byte != 0).then_some(bytes)
}

/// See [`Spans::filter`].
#[derive(Clone, Copy, Debug)]
pub struct OfTarget;

impl OfTarget {
    fn admits(metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target() == TARGET
    }
}

impl<S> Filter<S> for OfTarget {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        Self::admits(metadata)
    }

    /// So that everything else is asked about once.
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::admits(metadata) { Interest::always() } else { Interest::never() }
    }
}

impl Spans {
    /// What the layer is to be filtered with.
    #[must_use]
    pub const fn filter() -> OfTarget {
        OfTarget
    }
}

impl<S> Layer<S> for Spans
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(new) = context.span(id) else { return };
        let (trace, parent, kind) = if attributes.metadata().name() == REQUEST {
            let Some(trace) = self.begin_trace() else { return };
            (trace, None, Kind::Server)
        } else {
            let Some(around) = new.parent() else { return };
            let mut extensions = around.extensions_mut();
            let Some(around) = extensions.get_mut::<Open>() else { return };
            around.children = around.children.saturating_add(1);
            if around.children > CHILDREN_MAX {
                return;
            }
            (around.span.trace, Some(around.span.id), Kind::Client)
        };
        let Some(id) = random() else { return };
        let span = Span {
            trace,
            id,
            parent,
            name: attributes.metadata().name().into(),
            kind,
            started_ns: (self.clock)(),
            ended_ns: 0,
            attributes: Vec::new(),
            is_error: false,
        };
        let mut open = Open { span, children: 0 };
        attributes.record(&mut open);
        new.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(open);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(Open { mut span, children }) =
            context.span(&id).and_then(|span| span.extensions_mut().remove::<Open>())
        else {
            return;
        };
        span.ended_ns = (self.clock)().max(span.started_ns);
        if span.kind == Kind::Server {
            span.attributes.push(("inborn.store.calls", Value::Number(children.into())));
        }
        if self.queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Open {
    fn put(&mut self, field: &Field, value: Value) {
        let name = match field.name() {
            "otel.name" => {
                if let Value::Text(name) = value {
                    self.span.name = name;
                }
                return;
            }
            "is_error" => {
                self.span.is_error = value == Value::Bool(true);
                return;
            }
            name => name,
        };
        match self.span.attributes.iter_mut().find(|(earlier, _)| *earlier == name) {
            Some((_, earlier)) => *earlier = value,
            None => self.span.attributes.push((name, value)),
        }
    }
}

impl Visit for Open {
    fn record_str(&mut self, field: &Field, text: &str) {
        let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        self.put(field, Value::Text(text.get(..end.unwrap_or_default()).unwrap_or_default().into()));
    }

    fn record_bool(&mut self, field: &Field, truth: bool) {
        self.put(field, Value::Bool(truth));
    }

    fn record_i64(&mut self, field: &Field, number: i64) {
        self.put(field, Value::Number(number));
    }

    fn record_u64(&mut self, field: &Field, number: u64) {
        self.put(field, Value::Number(i64::try_from(number).unwrap_or(i64::MAX)));
    }

    /// What has no form of its own is not told: nobody has looked at what `Debug` shows.
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use tracing::field::Empty;
    use tracing_subscriber::prelude::*;

    use super::*;

    static NOW: AtomicU64 = AtomicU64::new(1000);

    fn clock() -> u64 {
        NOW.fetch_add(10, Ordering::Relaxed)
    }

    /// What `work` tells, where so many spans fit.
    fn told(room: usize, threshold: u64, work: impl FnOnce()) -> (Vec<Span>, u64) {
        let (queue, mut spans) = mpsc::channel(room);
        let dropped = Arc::new(AtomicU64::new(0));
        let layer = Spans::new(queue, Arc::clone(&dropped), clock, threshold);
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(Spans::filter()));
        tracing::subscriber::with_default(subscriber, work);
        let mut all = Vec::new();
        while let Ok(span) = spans.try_recv() {
            all.push(span);
        }
        (all, dropped.load(Ordering::Relaxed))
    }

    fn request(children: u32) {
        let span = tracing::trace_span!(target: TARGET, "request", "rpc.method" = Empty, "otel.name" = Empty, is_error = Empty, id = "a");
        span.in_scope(|| {
            for _ in 0..children {
                drop(tracing::trace_span!(target: TARGET, "store.read", "db.system" = "sqlite").entered());
            }
            drop(tracing::info_span!("of somebody else").entered());
        });
        span.record("rpc.method", "X".repeat(300).as_str()).record("otel.name", "sts/X").record("is_error", true);
        span.record("rpc.method", "Y");
    }

    #[test]
    fn a_request_and_what_it_asked_the_store_are_one_trace() {
        let (spans, dropped) = told(8, u64::MAX, || request(2));
        assert_eq!((spans.len(), dropped), (3, 0));
        let request = &spans[2];
        assert_eq!(
            (&*request.name, request.kind, request.parent, request.is_error),
            ("sts/X", Kind::Server, None, true)
        );
        assert!(request.ended_ns > request.started_ns);
        let text = |text: &str| Value::Text(text.into());
        let expected = [("id", text("a")), ("rpc.method", text("Y")), ("inborn.store.calls", Value::Number(2))];
        assert_eq!(request.attributes, expected);
        for child in &spans[..2] {
            assert_eq!((child.trace, child.parent, child.kind), (request.trace, Some(request.id), Kind::Client));
            assert_eq!((&*child.name, &child.attributes[..]), ("store.read", &[("db.system", text("sqlite"))][..]));
        }
        assert_ne!(spans[0].id, spans[1].id);
    }

    #[test]
    fn what_is_in_no_request_is_not_told() {
        let work = || drop(tracing::trace_span!(target: TARGET, "store.read").entered());
        assert_eq!(told(8, u64::MAX, work).0, []);
    }

    #[test]
    fn spans_of_a_request_below_at_and_above_the_limit() {
        for (children, spans) in [(CHILDREN_MAX - 1, 64), (CHILDREN_MAX, 65), (CHILDREN_MAX + 1, 65)] {
            let (all, _) = told(100, u64::MAX, || request(children));
            assert_eq!(all.len(), spans, "{children}");
            let last = all.last().unwrap().attributes.last().unwrap().clone();
            assert_eq!(last, ("inborn.store.calls", Value::Number(children.into())));
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        assert_eq!(told(3, u64::MAX, || request(2)).1, 0);
        let (spans, dropped) = told(2, u64::MAX, || request(2));
        assert_eq!((spans.len(), dropped), (2, 1));
    }

    #[test]
    fn a_part_of_the_traces_is_told_whole_or_not_at_all() {
        assert_eq!(told(100, 0, || request(1)).0, []);
        let (spans, _) = told(1000, u64::MAX / 2, || (0..200).for_each(|_| request(1)));
        assert_eq!(spans.len() % 2, 0);
        assert!((60..340).contains(&spans.len()), "{}", spans.len());
    }

    #[test]
    fn texts_below_at_and_above_the_limit() {
        for (length, kept) in [(255, 255), (256, 256), (257, 256)] {
            let work = || drop(tracing::trace_span!(target: TARGET, "request", id = "x".repeat(length).as_str()));
            let Value::Text(text) = told(8, u64::MAX, work).0[0].attributes[0].1.clone() else { panic!("no text") };
            assert_eq!(text.len(), kept);
        }
    }
}
