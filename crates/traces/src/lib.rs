//! Traces: what the program says of requests by spans of `tracing` goes to a collector, as OTLP over HTTP (protobuf).
//!
//! ```text
//! span of target TARGET ▶ Spans (a layer: ids, times, attributes) ▶ bounded queue ▶ export ▶ POST …/v1/traces
//! ```
//!
//! Nothing waits for it: what the queue has no room for is dropped, counted and said. Which trace a request belongs to is made
//! up here and never taken from the request: `traceparent` is a header that no signature covers, so that whoever is on the way could
//! put a request into somebody else's trace, or have everything sampled. The id of the request, which the answer and the audit
//! have too, says which is which.
#![forbid(unsafe_code)]

mod encode;
mod export;
mod layer;
mod settings;
mod span;

pub use export::Exporter;
pub use layer::{Spans, TARGET};
pub use settings::{Settings, SettingsError};
