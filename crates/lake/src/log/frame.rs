//! Frames of the log: where one batch ends and the next begins, and whether it is as it was written.
//!
//! ```text
//! marker 16 | stored 4 | raw 4 | records 4 | first_ms 8 | last_ms 8 | payload CRC 4 | head CRC 4 | payload (stored bytes)
//! ```
//!
//! Numbers are little-endian. The marker is random and of one segment: it lets a reader find the next frame behind damage,
//! and since no machine knows it, no event can hold bytes that are taken for a frame. The head has a CRC-32C of its own,
//! over its place in the file too, so that a reader may trust a length, and skip what is not of its time, without reading it.

use std::fs::File;
use std::io;

use super::payload::FRAME_RAW_BYTES_MAX;

/// What finds frames: see above.
pub type Marker = [u8; 16];

/// Bytes before the payload.
pub const HEAD_BYTES: usize = 52;

/// The longest payload as stored. zstd makes incompressible bytes longer by less than one in 256, and 64 more.
pub const FRAME_STORED_BYTES_MAX: usize = FRAME_RAW_BYTES_MAX + FRAME_RAW_BYTES_MAX / 256 + 64;

/// How much is read at once when a marker is looked for.
const SEARCH_BYTES: usize = 64 << 10;
static ZEROS: [u8; SEARCH_BYTES] = [0; SEARCH_BYTES];

/// What a frame tells of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the payload as stored.
    pub stored: u32,
    /// Bytes of the payload when it is decompressed.
    pub raw: u32,
    /// How many events it holds.
    pub records: u32,
    /// The earliest `time` of them.
    pub first_ms: i64,
    /// The latest.
    pub last_ms: i64,
}

impl Head {
    /// That of a frame in which nothing is yet.
    pub(crate) const EMPTY: Self = Self { stored: 0, raw: 0, records: 0, first_ms: i64::MAX, last_ms: i64::MIN };
}

/// Bytes that can be read at a place: a file, or memory.
pub trait ReadAt {
    /// Fills `bytes` from `position` on.
    ///
    /// # Errors
    /// As of the file; `UnexpectedEof` when there are not so many.
    fn read_exact_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_exact_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, bytes, position)
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
        let start = usize::try_from(position).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// The frame of `payload` at `position`: its head, to be followed by the payload.
#[must_use]
pub fn head_bytes(marker: &Marker, position: u64, head: &Head, payload: &[u8]) -> [u8; HEAD_BYTES] {
    let mut bytes = Vec::with_capacity(HEAD_BYTES);
    bytes.extend_from_slice(marker);
    bytes.extend_from_slice(&head.stored.to_le_bytes());
    bytes.extend_from_slice(&head.raw.to_le_bytes());
    bytes.extend_from_slice(&head.records.to_le_bytes());
    bytes.extend_from_slice(&head.first_ms.to_le_bytes());
    bytes.extend_from_slice(&head.last_ms.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    let check = crc32c::crc32c_append(crc32c::crc32c(&position.to_le_bytes()), &bytes);
    bytes.extend_from_slice(&check.to_le_bytes());
    let mut head = [0; HEAD_BYTES];
    head.copy_from_slice(&bytes);
    head
}

/// Reads a head that is whole and of this marker and place, with the CRC that its payload must have.
fn parse_head(marker: &Marker, position: u64, bytes: &[u8; HEAD_BYTES]) -> Option<(Head, u32)> {
    let (checked, check) = bytes.split_last_chunk::<4>()?;
    let expected = crc32c::crc32c_append(crc32c::crc32c(&position.to_le_bytes()), checked);
    let rest = checked.strip_prefix(marker.as_slice())?;
    if u32::from_le_bytes(*check) != expected {
        return None;
    }
    let (stored, rest) = rest.split_first_chunk::<4>()?;
    let (raw, rest) = rest.split_first_chunk::<4>()?;
    let (records, rest) = rest.split_first_chunk::<4>()?;
    let (first_ms, rest) = rest.split_first_chunk::<8>()?;
    let (last_ms, rest) = rest.split_first_chunk::<8>()?;
    let (payload, _) = rest.split_first_chunk::<4>()?;
    let head = Head {
        stored: u32::from_le_bytes(*stored),
        raw: u32::from_le_bytes(*raw),
        records: u32::from_le_bytes(*records),
        first_ms: i64::from_le_bytes(*first_ms),
        last_ms: i64::from_le_bytes(*last_ms),
    };
    let sizes = head.stored as usize <= FRAME_STORED_BYTES_MAX && head.raw as usize <= FRAME_RAW_BYTES_MAX;
    sizes.then_some((head, u32::from_le_bytes(*payload)))
}

/// What a reader comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A frame that is as it was written. Its payload is in the buffer, unless it was not wanted.
    Frame {
        /// Where it begins.
        position: u64,
        /// What it tells.
        head: Head,
    },
    /// Bytes that are no frame, before one that is.
    Damage {
        /// Where they begin.
        from: u64,
        /// Where the frame after them begins.
        to: u64,
    },
}

/// Reads frames one after the other.
pub struct Frames<'a> {
    source: &'a (dyn ReadAt + 'a),
    marker: Marker,
    position: u64,
    end: u64,
    payload: Vec<u8>,
}

impl<'a> Frames<'a> {
    /// The frames between two places.
    #[must_use]
    pub fn new(source: &'a (dyn ReadAt + 'a), marker: Marker, from: u64, end: u64) -> Self {
        Self { source, marker, position: from, end, payload: Vec::new() }
    }

    /// Where the last frame that was whole ends.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Where frames are looked for no more.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The payload of the frame that was come to last.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Goes on to the next frame, or to damage before one. `None`: no frame follows. What `wanted` says no to is passed
    /// over unread.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next(&mut self, wanted: impl Fn(&Head) -> bool) -> io::Result<Option<Step>> {
        if let Some((head, crc)) = self.head_at(self.position)? {
            let position = self.position;
            if !wanted(&head) {
                self.payload.clear();
                self.position = after(position, &head);
                return Ok(Some(Step::Frame { position, head }));
            }
            if self.read_payload(position, &head, crc)? {
                self.position = after(position, &head);
                return Ok(Some(Step::Frame { position, head }));
            }
        }
        let from = self.position;
        let Some(to) = self.search(from + 1)? else { return Ok(None) };
        self.position = to;
        Ok(Some(Step::Damage { from, to }))
    }

    fn head_at(&self, position: u64) -> io::Result<Option<(Head, u32)>> {
        if self.end.saturating_sub(position) < HEAD_BYTES as u64 {
            return Ok(None);
        }
        let mut bytes = [0; HEAD_BYTES];
        self.source.read_exact_at(&mut bytes, position)?;
        let head = parse_head(&self.marker, position, &bytes);
        Ok(head.filter(|(head, _)| after(position, head) <= self.end))
    }

    fn read_payload(&mut self, position: u64, head: &Head, crc: u32) -> io::Result<bool> {
        self.payload.clear();
        self.payload.resize(head.stored as usize, 0);
        self.source.read_exact_at(&mut self.payload, position + HEAD_BYTES as u64)?;
        Ok(crc32c::crc32c(&self.payload) == crc)
    }

    /// The first whole frame at or behind `from`.
    fn search(&mut self, from: u64) -> io::Result<Option<u64>> {
        let finder = memchr::memmem::Finder::new(&self.marker).into_owned();
        let mut start = from;
        let mut chunk = Vec::new();
        while self.end.saturating_sub(start) >= HEAD_BYTES as u64 {
            let length = (self.end - start).min(SEARCH_BYTES as u64);
            chunk.clear();
            chunk.resize(usize::try_from(length).unwrap_or(SEARCH_BYTES), 0);
            self.source.read_exact_at(&mut chunk, start)?;
            // Most of what is searched was set aside and never written.
            let places = if ZEROS.starts_with(&chunk) { Vec::new() } else { finder.find_iter(&chunk).collect() };
            for offset in places {
                let position = start + offset as u64;
                if let Some((head, crc)) = self.head_at(position)?
                    && self.read_payload(position, &head, crc)?
                {
                    return Ok(Some(position));
                }
            }
            // A marker may lie across two chunks.
            start += length.saturating_sub(self.marker.len() as u64 - 1).max(1);
        }
        Ok(None)
    }
}

fn after(position: u64, head: &Head) -> u64 {
    position + HEAD_BYTES as u64 + u64::from(head.stored)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MARKER: Marker = *b"0123456789abcdef";

    fn log(payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<u64>) {
        let mut bytes = Vec::new();
        let mut places = Vec::new();
        for payload in payloads {
            let position = bytes.len() as u64;
            let size = u32::try_from(payload.len()).unwrap();
            let head = Head { stored: size, raw: size, records: 1, first_ms: -1, last_ms: i64::from(size) };
            bytes.extend_from_slice(&head_bytes(&MARKER, position, &head, payload));
            bytes.extend_from_slice(payload);
            places.push(position);
        }
        (bytes, places)
    }

    /// The payloads that are found, and how many bytes are passed over between them.
    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, u64, u64) {
        let mut frames = Frames::new(&bytes, MARKER, 0, bytes.len() as u64);
        let (mut found, mut damaged) = (Vec::new(), 0);
        while let Some(step) = frames.next(|_| true).unwrap() {
            match step {
                Step::Frame { .. } => found.push(frames.payload().to_vec()),
                Step::Damage { from, to } => damaged += to - from,
            }
        }
        (found, damaged, frames.position())
    }

    impl ReadAt for &[u8] {
        fn read_exact_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
            (**self).read_exact_at(bytes, position)
        }
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(payloads in payloads(), zeros in 0_usize..200) {
            let (mut bytes, _) = log(&payloads);
            let end = bytes.len() as u64;
            bytes.resize(bytes.len() + zeros, 0);
            prop_assert_eq!(read(&bytes), (payloads, 0, end));
        }

        #[test]
        fn of_a_log_that_was_cut_every_whole_frame_is_read(payloads in payloads(), cut in any::<prop::sample::Index>()) {
            let (bytes, places) = log(&payloads);
            let cut = cut.index(bytes.len() + 1);
            let ends = places.iter().skip(1).copied().chain([bytes.len() as u64]);
            let whole = ends.filter(|end| *end <= cut as u64).count();
            let (found, damaged, end) = read(&bytes[..cut]);
            prop_assert_eq!(&found, &payloads[..whole]);
            prop_assert_eq!((damaged, end), (0, if whole == payloads.len() { bytes.len() as u64 } else { places[whole] }));
        }

        #[test]
        fn one_bit_costs_one_frame_at_most(payloads in payloads(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let (mut bytes, places) = log(&payloads);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let hit = places.iter().rposition(|place| *place <= at as u64).unwrap();
            let mut expected = payloads.clone();
            expected.remove(hit);
            prop_assert_eq!(read(&bytes).0, expected);
        }

        #[test]
        fn no_bytes_are_a_frame_without_the_marker(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(read(&bytes), (Vec::new(), 0, 0));
        }
    }

    #[test]
    fn a_frame_elsewhere_than_it_was_written_is_none() {
        let (bytes, _) = log(&[b"moved".to_vec()]);
        let moved = [&[0; 7], bytes.as_slice()].concat();
        assert_eq!(read(&moved).0, Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_marker_across_two_chunks_is_found() {
        for before in SEARCH_BYTES - 20..SEARCH_BYTES + 4 {
            let (mut bytes, places) = log(&[vec![7; before], b"behind".to_vec()]);
            bytes[3] ^= 1;
            let (found, damaged, _) = read(&bytes);
            assert_eq!((found, damaged), (vec![b"behind".to_vec()], places[1]), "{before}");
        }
    }

    #[test]
    fn a_frame_longer_than_can_be_is_none() {
        for (stored, raw, good) in [
            (FRAME_STORED_BYTES_MAX, FRAME_RAW_BYTES_MAX, true),
            (FRAME_STORED_BYTES_MAX + 1, FRAME_RAW_BYTES_MAX, false),
            (FRAME_STORED_BYTES_MAX, FRAME_RAW_BYTES_MAX + 1, false),
        ] {
            let (stored, raw) = (u32::try_from(stored).unwrap(), u32::try_from(raw).unwrap());
            let head = Head { stored, raw, records: 1, first_ms: 0, last_ms: 0 };
            let bytes = head_bytes(&MARKER, 5, &head, b"");
            assert_eq!(parse_head(&MARKER, 5, &bytes).is_some(), good, "{stored} {raw}");
        }
    }
}
