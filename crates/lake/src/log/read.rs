//! Reads a segment from end to end: every event that is there, and what is there and is none.

use std::io;

use inborn_telemetry::Batch;

use super::frame::{Head, Step};
use super::payload::Decoder;
use super::segment::{HEADER_BYTES, Segment};

/// What of a segment could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) places: u64,
    pub(crate) bytes: u64,
}

impl Damage {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.places += 1;
        self.bytes += bytes;
    }
}

/// Gives every whole frame to `take`, with its events if it holds any that can be read. Names each damaged place in the log of
/// the process. Gives where the last whole frame ends, too: what is behind it is for the caller to judge.
pub(crate) fn read(
    segment: &Segment,
    decoder: &mut Decoder,
    take: &mut dyn FnMut(&Head, Option<Batch>) -> io::Result<()>,
) -> io::Result<(Damage, u64)> {
    let mut damage = Damage::default();
    let mut frames = segment.frames(HEADER_BYTES);
    while let Some(step) = frames.next(|_| true)? {
        let (position, head) = match step {
            Step::Frame { position, head } => (position, head),
            Step::Damage { from, to } => {
                name(segment, from, to, "the log of telemetry is damaged: what was written here cannot be read");
                damage.add(to - from);
                continue;
            }
        };
        let batch = decoder.decode(frames.payload(), head.raw);
        if batch.as_ref().is_none_or(|batch| batch.records.len() != head.records as usize) {
            let text = "a frame of the log of telemetry is whole, and not all of its events can be read";
            name(segment, position, frames.position(), text);
            damage.add(u64::from(head.stored));
        }
        take(&head, batch)?;
    }
    Ok((damage, frames.position()))
}

/// Names a damaged place, so that a person finds it.
pub(crate) fn name(segment: &Segment, from: u64, to: u64, what: &str) {
    tracing::error!(file = %segment.path.display(), from, to, "{what}; the segment is kept");
}
