//! One file of the log.
//!
//! ```text
//! "INBLAKE1" 8 | number 8 | opened at 8 | marker 16 | CRC-32C 4 | zeros up to 64 | frames | zeros that were set aside
//! ```

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use inborn_identity::UnixTime;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::frame::{Frames, Head, Marker};
use crate::files;
use crate::settings::{SEGMENT_BYTES, SEGMENT_BYTES_SMALLER};

const MAGIC: &[u8; 8] = b"INBLAKE1";

/// Where the frames begin.
pub(crate) const HEADER_BYTES: u64 = HEADER_LENGTH as u64;
const HEADER_LENGTH: usize = 64;

/// What names of segments end with.
pub(crate) const SUFFIX: &str = "log";

/// A segment that is being written or read. What is before [`Segment::end`] is durable and does not change.
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) marker: Marker,
    pub(crate) opened_at: UnixTime,
    damaged: AtomicU64,
    end: AtomicU64,
    records: AtomicU64,
    raw: AtomicU64,
    first_ms: AtomicI64,
    last_ms: AtomicI64,
}

impl Segment {
    /// Makes a segment, durably, with as much disk set aside as there is.
    pub(crate) fn create(directory: &Path, number: u64, now: UnixTime, free_bytes_min: u64) -> io::Result<Self> {
        let path = directory.join(format!("{number:016x}.{SUFFIX}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let marker = files::random()?;
        let segment = Self::new(number, path, file, marker, now, HEADER_BYTES);
        let made = segment.set_aside(directory, free_bytes_min).and_then(|()| {
            segment.file.write_all_at(&header(number, now, &marker), 0)?;
            segment.file.sync_all()?;
            files::sync_directory(directory)
        });
        if let Err(error) = made {
            let _ = std::fs::remove_file(&segment.path);
            return Err(error);
        }
        Ok(segment)
    }

    /// Opens a segment that is there. `None`: its header is not one.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut bytes = [0; HEADER_LENGTH];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        Ok(parse_header(&bytes)
            .map(|(number, opened_at, marker)| Self::new(number, path.into(), file, marker, opened_at, HEADER_BYTES)))
    }

    fn new(number: u64, path: PathBuf, file: File, marker: Marker, opened_at: UnixTime, end: u64) -> Self {
        Self {
            number,
            path,
            file,
            marker,
            opened_at,
            damaged: AtomicU64::new(0),
            end: AtomicU64::new(end),
            records: AtomicU64::new(0),
            raw: AtomicU64::new(0),
            first_ms: AtomicI64::new(i64::MAX),
            last_ms: AtomicI64::new(i64::MIN),
        }
    }

    /// Blocks that are there when they are needed: a sync of them writes no more than the data, and a full disk shows
    /// here, before anything is written by half.
    fn set_aside(&self, directory: &Path, free_bytes_min: u64) -> io::Result<()> {
        let free = files::free_bytes(directory)?.saturating_sub(free_bytes_min);
        for size in [SEGMENT_BYTES].iter().chain(&SEGMENT_BYTES_SMALLER).copied().filter(|size| *size <= free) {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, size) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Up to where it is durable.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// How many bytes of it were found to be no events. A segment with some is not removed, but set aside.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Says so, after it was read from end to end.
    pub(crate) fn set_damaged(&self, bytes: u64) {
        self.damaged.store(bytes, Ordering::Relaxed);
    }

    /// How many events it holds.
    pub(crate) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// How many bytes they are when they are not compressed.
    pub(crate) fn raw(&self) -> u64 {
        self.raw.load(Ordering::Relaxed)
    }

    /// Whether events of these times may be in it.
    pub(crate) fn may_hold(&self, first_ms: i64, last_ms: i64) -> bool {
        self.first_ms.load(Ordering::Relaxed) <= last_ms && self.last_ms.load(Ordering::Relaxed) >= first_ms
    }

    /// Takes note of a frame.
    pub(crate) fn note(&self, head: &Head) {
        self.records.fetch_add(u64::from(head.records), Ordering::Relaxed);
        self.raw.fetch_add(u64::from(head.raw), Ordering::Relaxed);
        self.first_ms.fetch_min(head.first_ms, Ordering::Relaxed);
        self.last_ms.fetch_max(head.last_ms, Ordering::Relaxed);
    }

    /// Says that everything before `end` is durable.
    pub(crate) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// The same segment, in another file.
    #[cfg(test)]
    pub(crate) fn with_file(&self, file: File) -> Self {
        let other = Self::new(self.number, self.path.clone(), file, self.marker, self.opened_at, self.end());
        other.records.store(self.records(), Ordering::Relaxed);
        other
    }

    /// Its frames from `from` on.
    pub(crate) fn frames(&self, from: u64) -> Frames<'_> {
        Frames::new(&self.file, self.marker, from, self.end())
    }

    /// Gives back what was set aside: the segment will not grow any more.
    pub(crate) fn seal(&self) -> io::Result<()> {
        self.file.set_len(self.end())?;
        self.file.sync_all()
    }
}

fn header(number: u64, opened_at: UnixTime, marker: &Marker) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LENGTH);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&opened_at.as_secs().to_le_bytes());
    bytes.extend_from_slice(marker);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes.resize(HEADER_LENGTH, 0);
    bytes
}

fn parse_header(bytes: &[u8]) -> Option<(u64, UnixTime, Marker)> {
    let (checked, rest) = bytes.split_at_checked(40)?;
    let (check, _) = rest.split_first_chunk::<4>()?;
    if crc32c::crc32c(checked) != u32::from_le_bytes(*check) {
        return None;
    }
    let rest = checked.strip_prefix(MAGIC)?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (opened_at, rest) = rest.split_first_chunk::<8>()?;
    let marker = rest.first_chunk::<16>()?;
    Some((u64::from_le_bytes(*number), UnixTime::from_secs(u64::from_le_bytes(*opened_at)), *marker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_or_not_at_all() {
        let bytes = header(7, UnixTime::from_secs(9), &[3; 16]);
        assert_eq!(parse_header(&bytes), Some((7, UnixTime::from_secs(9), [3; 16])));
        for at in 0..44 {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(parse_header(&changed), None, "byte {at}");
        }
        assert_eq!(parse_header(&bytes[..43]), None);
    }
}
