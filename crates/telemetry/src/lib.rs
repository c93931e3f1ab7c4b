//! What machines tell of themselves, as values. Bytes in, events out: every event is one OCSF 1.3 object, bounded, and
//! stamped with the identity that signed the request, whatever the request itself claimed.
//!
//! The crate is pure: no sockets, no files, no clocks.
//!
//! ```text
//! bytes on the wire ▶ inflate ▶ otlp_protobuf | otlp_json | lines ▶ collect ▶ ocsf (check, stamp) ▶ Record
//! ```
//!
//! What a request is refused for as a whole is [`Malformed`] or [`InflateError`]; an event that is wrong is left out and
//! counted, as OTLP's partial success wants it.
#![forbid(unsafe_code)]

mod answer;
mod collect;
mod event;
mod inflate;
pub mod limits;
mod lines;
mod ocsf;
mod otlp_json;
mod otlp_protobuf;
mod protobuf;
mod scan;

use inborn_identity::UnixTime;

pub use answer::Form;
pub use collect::{Agent, Decoded, Malformed};
pub use event::{Batch, ClassUid, Record, Source};
pub use inflate::{Encoding, InflateError, inflate};

/// What every event of a request is stamped with.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// Who signed the request.
    pub source: &'a Source,
    /// When it came.
    pub received_at: UnixTime,
    /// SHA-256. What an event holds is partly in the hands of those it is about, so that nothing weaker may tell it from
    /// others.
    pub sha256: fn(&[u8]) -> [u8; 32],
    /// What becomes of events that name another machine as theirs.
    pub foreign: Foreign,
}

/// What becomes of events whose resource (`host.id`) or device (`device.uid`, `device.instance_uid`) names another machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Foreign {
    /// They are stamped like all others; what they claim is kept as a claim.
    #[default]
    Accept,
    /// They are rejected, and the others of their request are taken.
    Reject,
}

/// The events of a body that was inflated. `room` is asked for memory before events are kept, by how many bytes more.
///
/// # Errors
/// It is not what `form` says, has too many events, they are too long, or there is no room for them.
pub fn decode(
    form: Form,
    body: &[u8],
    stamp: &Stamp<'_>,
    room: &mut dyn FnMut(usize) -> bool,
) -> Result<Decoded, Malformed> {
    let mut collector = collect::Collector::new(stamp, room);
    match form {
        Form::OtlpProtobuf => otlp_protobuf::decode(body, &mut collector)?,
        Form::OtlpJson => otlp_json::decode(body, &mut collector)?,
        Form::Ocsf => lines::decode(body, &mut collector)?,
    }
    Ok(collector.finish())
}
