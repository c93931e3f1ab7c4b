//! Any bytes as the log of telemetry: never a panic, never a frame that was not written. What was written is found behind
//! any damage.
#![no_main]

use inborn_lake::parts::frame::{Frames, Head, Marker, ReadAt, Step, head_bytes};
use libfuzzer_sys::fuzz_target;

const MARKER: Marker = *b"a marker of ours";

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn read_exact_at(&self, bytes: &mut [u8], position: u64) -> std::io::Result<()> {
        self.0.as_slice().read_exact_at(bytes, position)
    }
}

fuzz_target!(|input: (Vec<u8>, Vec<u8>, Vec<u8>)| {
    let (before, payload, after) = input;
    let size = u32::try_from(payload.len()).expect("inputs are short");
    let head = Head { stored: size, raw: size, records: 1, first_ms: 0, last_ms: 1 };
    let mut bytes = before.clone();
    bytes.extend_from_slice(&head_bytes(&MARKER, before.len() as u64, &head, &payload));
    bytes.extend_from_slice(&payload);
    let end = bytes.len() as u64;
    bytes.extend_from_slice(&after);

    let bytes = Bytes(bytes);
    let mut frames = Frames::new(&bytes, MARKER, 0, bytes.0.len() as u64);
    let mut found = false;
    let mut last = 0;
    while let Some(step) = frames.next(|_| true).expect("memory can be read") {
        match step {
            Step::Frame { position, head: read } if position == before.len() as u64 => {
                assert_eq!((read, frames.payload()), (head, payload.as_slice()));
                found = true;
            }
            // Only bytes that hold the marker can be another.
            Step::Frame { .. } => assert!([&before, &payload, &after].iter().any(|part| holds_marker(part))),
            Step::Damage { from, to } => assert!(from < to && to <= end),
        }
        assert!(frames.position() >= last);
        last = frames.position();
    }
    assert!(found || holds_marker(&before), "what was written is found");
});

fn holds_marker(bytes: &[u8]) -> bool {
    bytes.windows(MARKER.len()).any(|window| window == MARKER)
}
