//! The current file: appending lines whole or not at all, and starting a new one when it is full.
//!
//! Space for lines to come is reserved ahead of the end of the file, so that a mutating call is refused *before* it is
//! done when its line could no longer be written, and reading calls are still recorded for a while on a full disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use inborn_identity::UnixTime;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::archive::{self, Archive, Rotation, UNFINISHED, beside};
use super::archivist::Archivist;
use super::group::{Group, Outcome, Part, Place};
use super::record::{LINE_BYTES_MAX, Record, line};
use super::time_of;

/// Bytes that are reserved ahead.
const RESERVE_BYTES: u64 = 1 << 20;
/// The reserve is filled up when less than this is left of it.
const RESERVE_LOW_BYTES: u64 = RESERVE_BYTES * 5 / 8;
/// A mutating call is refused when less than this is left, that is when the reserve can no longer be filled up. What is
/// left is for the lines of the calls that are under way.
const RESERVE_MUTATION_BYTES: u64 = RESERVE_BYTES / 4;
/// How long to wait after a rotation that failed, on a full disk above all, before the next try.
const POSTPONE_SECONDS: u64 = 60;
const SECONDS_PER_DAY: u64 = 86_400;

/// Where lines go.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    rotation: Rotation,
    /// Who writes has this first, and then what has gathered.
    state: Mutex<State>,
    gathering: Mutex<Group>,
    archivist: Archivist,
}

#[derive(Debug)]
struct State {
    file: File,
    length: u64,
    reserved_to: u64,
    /// Some file systems cannot reserve; there the attempt to write is the only test.
    can_reserve: bool,
    /// Whether one of the latest lines could not be written.
    is_failing: bool,
    /// Whether the file ends within a line, of a write that failed: what would be written behind it could not be read.
    has_fragment: bool,
    /// The times of the oldest and the newest line; without meaning while there is none.
    oldest: UnixTime,
    newest: UnixTime,
    /// The number of the archive that this file will be.
    number: u64,
    /// When the rotation that is due was tried last.
    postponed_at: Option<UnixTime>,
    /// The group that gathers next: its memory is used again.
    spare: Group,
}

impl Audit {
    /// Opens the file at `path` (mode 0600) to append to it, and mends what a crash left behind: a line that was cut
    /// off is ended, an archive that was not compressed is.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(path: &Path, rotation: Rotation, now: UnixTime) -> io::Result<Self> {
        let _ = std::fs::remove_file(beside(path, UNFINISHED));
        let number = archive::list(path)?.last().map_or(0, |archive| archive.number).saturating_add(1);
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut state = State::of(file, number);
        state.length = state.file.metadata()?.len();
        state.end_torn_line()?;
        (state.oldest, state.newest) = state.times()?.unwrap_or((now, now));
        state.reserved_to = state.length;
        let _ = state.reserve();
        let archivist = Archivist::start(path, rotation)?;
        archivist.wake(now);
        Ok(Self { path: path.into(), rotation, state: Mutex::new(state), gathering: Mutex::default(), archivist })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is room for the lines of mutating calls. Ask before doing anything that cannot be undone.
    #[must_use]
    pub fn accepts_mutations(&self) -> bool {
        let mut state = self.lock();
        let _ = state.reserve();
        // What has gathered takes its part of what is left.
        let gathered = self.gathering.lock().unwrap_or_else(PoisonError::into_inner).bytes();
        !state.is_failing && (!state.can_reserve || state.left().saturating_sub(gathered) >= RESERVE_MUTATION_BYTES)
    }

    /// Appends a line, whole or not at all; to a new file if this one is full or of an earlier day. What has gathered is
    /// written before it.
    ///
    /// # Errors
    /// The operating system's, the disk being full above all.
    pub fn append(&self, record: &Record<'_>) -> io::Result<()> {
        let place = self.gather(record);
        self.write_gathered();
        self.known(&place)
    }

    /// As [`append`](Self::append), with one write for the lines of all calls that are ready to be answered now: whoever comes
    /// first lets the others go ahead once, and then writes for all. The line is written even if nobody waits for it any more.
    ///
    /// # Errors
    /// As of [`append`](Self::append).
    pub async fn append_together(&self, record: &Record<'_>) -> io::Result<()> {
        let place = self.gather(record);
        if !place.is_first() {
            return place.written().await;
        }
        let writer = Writer(self);
        tokio::task::yield_now().await;
        drop(writer);
        self.known(&place)
    }

    /// Puts a line behind those that wait. If there is no room they are written first.
    fn gather(&self, record: &Record<'_>) -> Place {
        let line = line(record);
        loop {
            let added = self.gathering.lock().unwrap_or_else(PoisonError::into_inner).add(&line, record.time);
            match added {
                Some(place) => return place,
                None => self.write_gathered(),
            }
        }
    }

    /// Writes what has gathered, and says to all what has become of it. When this returns, so it is with every line that was
    /// there before: another writer may have taken it, and is done.
    fn write_gathered(&self) {
        let mut state = self.lock();
        let mut group = core::mem::take(&mut state.spare);
        core::mem::swap(&mut group, &mut self.gathering.lock().unwrap_or_else(PoisonError::into_inner));
        if !group.is_empty() {
            let outcome = self.write(&mut state, &group);
            group.tell(outcome);
        }
        state.spare = group;
    }

    /// What has become of a line that was written, by whomever.
    fn known(&self, place: &Place) -> io::Result<()> {
        place.outcome().unwrap_or_else(|| Err(io::ErrorKind::Other.into()))
    }

    /// Writes lines: as many at a time as go into one file. One that cannot be written keeps none behind it from being tried.
    fn write(&self, state: &mut State, group: &Group) -> Outcome {
        let (mut done, count) = (0, group.count());
        let mut outcome = Outcome::default();
        for next in 0..count {
            let (waiting, line) = (group.part(done..next), group.part(next..next + 1));
            let Some(time) = line.times().next() else { break };
            let bytes = line.bytes().len() as u64;
            if !self.is_rotation_due(state, waiting, bytes, time) {
                continue;
            }
            state.write_part(waiting, done, &mut outcome);
            done = next;
            self.rotate_if_due(state, bytes, time);
        }
        state.write_part(group.part(done..count), done, &mut outcome);
        // Whoever asks whether there is room must not be told so by a short line behind a long one that had none.
        state.is_failing = !outcome.failed.is_empty();
        outcome
    }

    /// Housekeeping, to be called every few minutes: a new day begins without a call, too, and what could not be
    /// compressed or removed is tried again.
    pub fn tidy(&self, now: UnixTime) {
        self.rotate_if_due(&mut self.lock(), 0, now);
        self.archivist.wake(now);
    }

    /// Whether a new file is to be started before a line of `bytes` is written at the time `now`, behind others that are not
    /// written yet.
    fn is_rotation_due(&self, state: &State, waiting: Part<'_>, bytes: u64, now: UnixTime) -> bool {
        let length = state.length.saturating_add(waiting.bytes().len() as u64);
        let oldest = if state.length == 0 { waiting.times().next() } else { Some(state.oldest) };
        let is_full = length.saturating_add(bytes) > self.rotation.file_bytes_max;
        let is_old = oldest.is_some_and(|oldest| day(now) > day(oldest));
        let is_postponed = state.postponed_at.is_some_and(|at| at.as_secs().abs_diff(now.as_secs()) < POSTPONE_SECONDS);
        length > 0 && (is_full || is_old) && !is_postponed
    }

    /// Starts a new file before a line of `bytes` is written at the time `now`, if this one has no place for it. On a
    /// failure all goes on as before.
    fn rotate_if_due(&self, state: &mut State, bytes: u64, now: UnixTime) {
        if !self.is_rotation_due(state, Group::default().part(0..0), bytes, now) {
            return;
        }
        match state.rotate(&self.path) {
            Ok(()) => self.archivist.wake(now),
            Err(error) => {
                state.postponed_at = Some(now);
                tracing::warn!(%error, "the audit goes on in the same file: no new one can be started");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two statements that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever writes for all; also if it is given up before its turn.
struct Writer<'a>(&'a Audit);

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.0.write_gathered();
    }
}

const fn day(time: UnixTime) -> u64 {
    time.as_secs() / SECONDS_PER_DAY
}

impl State {
    /// Writes lines in one go, the first of which has the number `first`. If that fails, each by itself: a disk that has no room
    /// for all may have some for the shorter ones.
    fn write_part(&mut self, part: Part<'_>, first: usize, outcome: &mut Outcome) {
        if self.write_lines(part).is_ok() {
            return;
        }
        for (at, line) in part.each().enumerate() {
            if let Err(error) = self.write_lines(line) {
                outcome.failed.push((first + at, error));
            }
        }
    }

    /// Writes lines, all of them or none.
    fn write_lines(&mut self, part: Part<'_>) -> io::Result<()> {
        let Some(first) = part.times().next() else { return Ok(()) };
        if self.has_fragment {
            self.remove_fragment()?;
        }
        let _ = self.reserve();
        if let Err(error) = self.file.write_all(part.bytes()) {
            // If it cannot be removed now, the next line tries again.
            let _ = self.remove_fragment();
            return Err(error);
        }
        if self.length == 0 {
            (self.oldest, self.newest) = (first, first);
        }
        self.newest = part.times().fold(self.newest, UnixTime::max);
        self.length += part.bytes().len() as u64;
        Ok(())
    }

    /// Of a file that is empty as far as is known.
    fn of(file: File, number: u64) -> Self {
        Self {
            file,
            length: 0,
            reserved_to: 0,
            can_reserve: true,
            is_failing: false,
            has_fragment: false,
            oldest: UnixTime::from_secs(0),
            newest: UnixTime::from_secs(0),
            number,
            postponed_at: None,
            spare: Group::default(),
        }
    }

    const fn left(&self) -> u64 {
        self.reserved_to.saturating_sub(self.length)
    }

    fn reserve(&mut self) -> Result<(), Errno> {
        if !self.can_reserve || self.left() >= RESERVE_LOW_BYTES {
            return Ok(());
        }
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.length, RESERVE_BYTES) {
            Ok(()) => self.reserved_to = self.length + RESERVE_BYTES,
            Err(Errno::NOTSUP | Errno::NOSYS) => self.can_reserve = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Renames the file to its archive's name and goes on in a new one, whose space is reserved first: a disk without
    /// room for that is no reason to give up the room there is.
    fn rotate(&mut self, path: &Path) -> io::Result<()> {
        let unfinished = beside(path, UNFINISHED);
        let archive = Archive::new(path, self.newest, self.number);
        let next = || -> io::Result<Self> {
            let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&unfinished)?;
            let mut next = Self::of(file, self.number.saturating_add(1));
            next.reserve()?;
            match std::fs::rename(path, &archive.plain) {
                // Somebody took the file away: then there is nothing to archive.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::fs::rename(&unfinished, path).inspect_err(|_| {
                let _ = std::fs::rename(&archive.plain, path);
            })?;
            Ok(next)
        };
        let next = next().inspect_err(|_| {
            let _ = std::fs::remove_file(&unfinished);
        })?;
        // The reserve behind the old file's end is given back.
        let _ = self.file.set_len(self.length);
        *self = next;
        Ok(())
    }

    /// Removes what a write left that ended within a line: it would make the next one unreadable.
    fn remove_fragment(&mut self) -> io::Result<()> {
        self.has_fragment = self.file.metadata()?.len() > self.length;
        if self.has_fragment {
            self.file.set_len(self.length)?;
            // The reserve behind the new end is gone, too.
            self.reserved_to = self.length;
            self.has_fragment = false;
        }
        Ok(())
    }

    /// Ends a last line without a line feed, so that the next one is a line of its own.
    fn end_torn_line(&mut self) -> io::Result<()> {
        let tail = self.tail()?;
        if tail.last().is_none_or(|last| *last == b'\n') {
            return Ok(());
        }
        if self.file.write_all(b"\n").is_ok() {
            self.length += 1;
            return Ok(());
        }
        // Not even a byte: then the fragment has to go.
        let fragment = tail.iter().rev().take_while(|byte| **byte != b'\n').count() as u64;
        self.length -= fragment;
        self.file.set_len(self.length)
    }

    /// The times of the oldest and the newest line that can be read.
    fn times(&self) -> io::Result<Option<(UnixTime, UnixTime)>> {
        let head = self.bytes(0, LINE_BYTES_MAX)?;
        let tail = self.tail()?;
        let oldest = head.split(|byte| *byte == b'\n').find_map(time_of);
        let newest = tail.split(|byte| *byte == b'\n').rev().find_map(time_of);
        Ok(oldest.or(newest).map(|oldest| (oldest, newest.unwrap_or(oldest).max(oldest))))
    }

    fn tail(&self) -> io::Result<Vec<u8>> {
        // Two lines: the last one may be a fragment.
        let length = 2 * LINE_BYTES_MAX;
        self.bytes(self.length.saturating_sub(length as u64), length)
    }

    /// At most `length` bytes from `offset`, fewer at the end.
    fn bytes(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let length = length.min(usize::try_from(self.length.saturating_sub(offset)).unwrap_or(length));
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}
