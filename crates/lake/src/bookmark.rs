//! Up to where a reader has come who has to see every event: durable, so that the next start goes on there.
//!
//! ```text
//! "INBREAD1" 8 | segment 8 | offset 8 | CRC-32C of everything before 4
//! ```
//!
//! There is one such reader. He is told of what is appended ([`Lake::observe`](crate::Lake::observe)), and says what he is done
//! with. What the log held before the lake was opened he reads himself ([`Unread`]): segments of an earlier process, to which
//! nothing is added. While he is not done with a segment it does not become Parquet, as long as the log has room.
//!
//! The file is written from time to time, never while somebody waits: after a crash the reader meets some events again that he
//! was done with. Places are in the order of the log, and tell him which.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inborn_telemetry::Batch;

use crate::files;
use crate::log::frame::Step;
use crate::log::payload::Decoder;
use crate::log::segment::{HEADER_BYTES, Segment};
use crate::shelf::Shelf;

const NAME: &str = "judged";
const MAGIC: &[u8; 8] = b"INBREAD1";

/// A place in the log, in its order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The number of the segment. Numbers are never given twice, not even where an older copy of the lake was put back.
    pub segment: u64,
    /// Where in it.
    pub offset: u64,
}

/// What is told of each batch that has become durable: what of it is new, and the place behind it.
pub type Observer = dyn Fn(&Arc<Batch>, Place) + Send + Sync;

/// How far the reader has come.
pub struct Bookmark {
    shelf: Arc<Shelf>,
    directory: PathBuf,
    /// Tells lakes apart.
    lake: u64,
    /// The first segment to which this process may write.
    live_from: u64,
    reached: Mutex<Reached>,
}

struct Reached {
    /// In what an earlier process wrote, while not all of it is read.
    earlier: Option<Place>,
    /// In what this process writes.
    live: Place,
    /// What is on the disk.
    kept: Place,
}

/// What an earlier process wrote and the reader is not done with.
pub struct Unread {
    shelf: Arc<Shelf>,
    /// The segments, the last first.
    segments: Vec<Arc<Segment>>,
    /// Up to where the last of them is read.
    offset: u64,
    /// How many events of it were given, or were before the bookmark.
    passed: u64,
    decoder: Decoder,
}

/// What comes next of what was not read.
pub enum Next {
    /// Events, and the place behind them.
    Batch(Batch, Place),
    /// So many events are not in the log any more: there was no room to wait, and they became Parquet. The place is behind them.
    Gone(u64, Place),
}

impl Bookmark {
    /// Opens the bookmark of the lake in `directory`, whose segments from `live_from` on are for this process to write. What
    /// is on the disk afterwards is not behind any of these. Where there was none, the reader begins with what is appended.
    pub(crate) fn open(
        directory: &Path,
        lake: u64,
        live_from: u64,
        shelf: &Arc<Shelf>,
    ) -> io::Result<(Arc<Self>, Unread)> {
        let live = Place { segment: live_from, offset: 0 };
        let found = read(directory)?;
        let from = match found {
            Found::Nothing => live,
            Found::Damaged => {
                tracing::warn!(directory = %directory.display(), "the file {NAME} is damaged: the whole log of telemetry is judged again");
                Place::default()
            }
            Found::At(place) if place > live => {
                tracing::warn!(
                    ?place,
                    ?live,
                    "the file {NAME} is ahead of the log of telemetry: what the log holds is taken to be judged"
                );
                live
            }
            Found::At(place) => place,
        };
        let mut segments = shelf.snapshot().segments;
        segments.retain(|segment| segment.number < live_from && !is_read(segment, from));
        segments.reverse();
        let mut unread =
            Unread { shelf: Arc::clone(shelf), segments, offset: HEADER_BYTES, passed: 0, decoder: Decoder::new()? };
        unread.pass(from)?;
        let earlier = (!unread.segments.is_empty()).then_some(from);
        let kept = earlier.unwrap_or(live);
        let (shelf, directory) = (Arc::clone(shelf), directory.to_owned());
        let reached = Mutex::new(Reached { earlier, live, kept });
        let bookmark = Self { shelf, directory, lake, live_from, reached };
        if found != Found::At(kept) {
            write(&bookmark.directory, kept)?;
        }
        bookmark.shelf.read_to(kept);
        Ok((Arc::new(bookmark), unread))
    }

    /// Says that the reader is done with everything before a place: of what an earlier process wrote, or of what this one does.
    pub fn done(&self, place: Place) {
        let mut reached = self.lock();
        if place.segment >= self.live_from {
            reached.live = reached.live.max(place);
        } else if let Some(earlier) = &mut reached.earlier {
            *earlier = (*earlier).max(place);
        }
        self.shelf.read_to(reached.now());
    }

    /// Says that he is done with everything that an earlier process wrote.
    pub fn done_with_earlier(&self) {
        let mut reached = self.lock();
        reached.earlier = None;
        self.shelf.read_to(reached.now());
    }

    /// Makes durable what the reader is done with, if he has come on. Writes a file: not for a thread that must not wait.
    ///
    /// # Errors
    /// The file cannot be written: the next start goes on farther back.
    pub fn keep(&self) -> io::Result<()> {
        let (now, kept) = {
            let reached = self.lock();
            (reached.now(), reached.kept)
        };
        if now != kept {
            write(&self.directory, now)?;
            self.lock().kept = now;
        }
        Ok(())
    }

    /// What tells this lake from every other.
    #[must_use]
    pub const fn lake(&self) -> u64 {
        self.lake
    }

    /// The first segment to which this process may write.
    #[must_use]
    pub const fn live_from(&self) -> u64 {
        self.live_from
    }

    /// The first segment that the log still has. What is before it is never read again.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.shelf.oldest().unwrap_or(self.live_from)
    }

    fn lock(&self) -> MutexGuard<'_, Reached> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl core::fmt::Debug for Bookmark {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Bookmark").field("at", &self.lock().now()).finish_non_exhaustive()
    }
}

impl Reached {
    /// Everything before it is done with. What this process writes waits for what an earlier one did: so one place tells all.
    fn now(&self) -> Place {
        self.earlier.unwrap_or(self.live)
    }
}

impl Unread {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// What comes next, one frame at a time; `None` at the end. What is damaged is passed over: the start that found it has said
    /// so. Reads files: not for a thread that must not wait.
    ///
    /// # Errors
    /// A segment cannot be read. The next call tries it again from the same place; [`Unread::skip`] gives it up.
    pub fn read_next(&mut self) -> io::Result<Option<Next>> {
        while let Some(segment) = self.segments.last().cloned() {
            let next = if self.shelf.has(segment.number) { self.frame(&segment)? } else { self.gone(&segment) };
            if !matches!(next, Some(Next::Batch(..))) {
                self.leave();
            }
            if next.is_some() {
                return Ok(next);
            }
        }
        Ok(None)
    }

    /// Gives up what is left of the segment that comes next: so many events.
    pub fn skip(&mut self) -> u64 {
        let events = self.segments.last().map_or(0, |segment| segment.records().saturating_sub(self.passed));
        self.leave();
        events
    }

    /// How many events are left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.segments.iter().map(|segment| segment.records()).sum::<u64>().saturating_sub(self.passed)
    }

    /// Goes on to the next segment.
    fn leave(&mut self) {
        self.segments.pop();
        (self.offset, self.passed) = (HEADER_BYTES, 0);
    }

    fn frame(&mut self, segment: &Segment) -> io::Result<Option<Next>> {
        let mut frames = segment.frames(self.offset);
        while let Some(step) = frames.next(|_| true)? {
            self.offset = frames.position();
            let Step::Frame { head, .. } = step else { continue };
            self.passed += u64::from(head.records);
            if let Some(batch) = self.decoder.decode(frames.payload(), head.raw) {
                let place = Place { segment: segment.number, offset: self.offset };
                return Ok(Some(Next::Batch(batch, place)));
            }
        }
        Ok(None)
    }

    /// What is left of a segment that was removed. Its file would still be open, and still take the room that was needed.
    fn gone(&self, segment: &Segment) -> Option<Next> {
        let events = segment.records().saturating_sub(self.passed);
        let place = Place { segment: segment.number, offset: segment.end() };
        (events > 0).then_some(Next::Gone(events, place))
    }

    /// Goes to the bookmark, if it is in the first segment.
    fn pass(&mut self, place: Place) -> io::Result<()> {
        let Some(segment) = self.segments.last().filter(|segment| segment.number == place.segment) else {
            return Ok(());
        };
        let mut frames = segment.frames(HEADER_BYTES);
        while frames.position() < place.offset {
            let Some(step) = frames.next(|_| false)? else { break };
            if let Step::Frame { head, .. } = step {
                self.passed += u64::from(head.records);
            }
        }
        self.offset = frames.position();
        Ok(())
    }
}

/// Whether everything that a segment holds is before a place.
pub(crate) fn is_read(segment: &Segment, to: Place) -> bool {
    segment.number < to.segment || (segment.number == to.segment && segment.end() <= to.offset)
}

/// Forgets that there was a reader: who reads from now on begins with what is appended.
pub(crate) fn forget(directory: &Path) -> io::Result<()> {
    files::remove(&directory.join(NAME))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Damaged,
    At(Place),
}

fn read(directory: &Path) -> io::Result<Found> {
    match fs::read(directory.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(error),
        Ok(bytes) => Ok(parse(&bytes).map_or(Found::Damaged, Found::At)),
    }
}

fn write(directory: &Path, place: Place) -> io::Result<()> {
    files::replace(&directory.join(NAME), &bytes_of(place))
}

fn bytes_of(place: Place) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&place.segment.to_le_bytes());
    bytes.extend_from_slice(&place.offset.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Option<Place> {
    let (checked, check) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(checked) != u32::from_le_bytes(*check) {
        return None;
    }
    let rest = checked.strip_prefix(MAGIC)?;
    let (segment, rest) = rest.split_first_chunk::<8>()?;
    let (offset, []) = rest.split_first_chunk::<8>()? else { return None };
    Some(Place { segment: u64::from_le_bytes(*segment), offset: u64::from_le_bytes(*offset) })
}

#[cfg(test)]
mod tests;
