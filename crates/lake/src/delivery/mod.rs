//! Delivery: finished Parquet goes to a bucket.
//!
//! Compaction does not know of it: what it makes is in the local tree, durably, before segments of the log go. From there a
//! file is *delivered* to the bucket under its path in the tree, and stays on the local disk as long as there is room:
//!
//! 1. The file is put into the bucket. (A crash: it is put there again, the same bytes under the same key. No other attempt or
//!    lake ever uses that name, see [`layout::file_name`].)
//! 2. The list of its day names it, durably. From here on the local file is a copy.
//! 3. Once that is so for all files of a job, the mark says so, durably. (A crash before: the lists tell which files need not
//!    be put again.)
//!
//! While the bucket is away, Parquet gathers on the local disk. When as much waits as may be there, compaction pauses; then the
//! log gets as long as it may, and telemetry is refused until something was delivered. Nothing that was acknowledged goes,
//! except by its age.
//!
//! Removing goes the other way: the list says that a file is going, the local copy is removed, then the object, then the line.
//! Nothing is ever removed from the bucket that a list does not name.

pub(crate) mod index;
mod mark;
#[cfg(test)]
mod mended_tests;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use inborn_identity::UnixTime;

use self::index::Entry;
pub(crate) use self::mark::Mark;
use crate::bucket::Bucket;
use crate::files;
use crate::layout::{self, DayDirectory};
use crate::parquet::read;
use crate::parquet::sealed::{Seal, Sealed};
use crate::recent::Key;
use crate::settings::{DELIVERY_RETRY_SECONDS_MAX, Settings};
use crate::shelf::{Shelf, Waiting};

/// So many files are looked for at a time: bounds memory after the bucket was away for long.
const PASS_FILES_MAX: usize = 1024;

/// How often what is old is looked for, when nothing is delivered.
const RETIRE_SECONDS: u64 = 60;

/// Puts finished Parquet into a bucket. One at a time.
pub(crate) struct Deliverer {
    pub(crate) directory: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) key: Key,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) is_closing: Arc<AtomicBool>,
    /// The last job of which everything is delivered.
    job: u64,
    /// Whether it is written down which bucket it is. Not before something is there: somebody may have mistyped its name.
    is_marked: bool,
    failures: u32,
    retry_at: Option<Instant>,
    retired_at: Option<UnixTime>,
    /// Days whose lists cannot be read. Each is told of once.
    damaged: BTreeSet<PathBuf>,
    /// The mark cannot be read: where what was delivered is, nobody can tell, and nothing is done until it is mended.
    is_held_up: bool,
}

/// Files that no list names.
struct Undelivered {
    /// The first ones, by their jobs.
    found: BTreeSet<(u64, PathBuf)>,
    /// Whether there are no more.
    is_all: bool,
    /// The first job that has files on a day whose list cannot be read. The mark stays before it.
    blocked: Option<u64>,
}

/// A day as retention sees it.
struct Kept {
    day: DayDirectory,
    entries: Vec<Entry>,
    is_old: bool,
}

impl Deliverer {
    pub(crate) fn new(
        (directory, settings, key): (PathBuf, Settings, Key),
        shelf: Arc<Shelf>,
        bucket: Arc<dyn Bucket>,
        is_closing: Arc<AtomicBool>,
        mark: io::Result<Option<&Mark>>,
    ) -> io::Result<Self> {
        let is_held_up = mark.is_err();
        let mark = mark.unwrap_or_default();
        // A directory that was restored file by file may have a mark that is ahead of its jobs. Their numbers are given again.
        let done = shelf.snapshot().job;
        let job = mark.map_or(0, |mark| mark.job.min(done));
        let mut one = Self {
            directory,
            settings,
            key,
            shelf,
            bucket,
            is_closing,
            job,
            is_marked: mark.is_some(),
            failures: 0,
            retry_at: None,
            retired_at: None,
            damaged: BTreeSet::new(),
            is_held_up,
        };
        if mark.is_some_and(|mark| mark.job > done) {
            one.mark(job)?;
        }
        one.count_waiting()?;
        Ok(one)
    }

    /// Delivers what is finished, and removes what is old, if it is time to.
    pub(crate) fn run(&mut self, now: UnixTime) {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.forget_days_that_are_gone();
        let before = self.job;
        if let Err(error) = self.take_up() {
            self.failed(&error);
            return;
        }
        let delivered = self.deliver();
        let is_due = |last: UnixTime| now.since(last) >= RETIRE_SECONDS || now < last;
        // What was delivered now may have to go from the disk.
        let mut retired = Ok(());
        if self.job != before || self.retired_at.is_none_or(is_due) {
            retired = self.retire(now);
            self.retired_at = retired.is_ok().then_some(now);
        }
        match delivered.and(retired) {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!(bucket = self.bucket.address(), "telemetry is delivered again");
                }
                (self.failures, self.retry_at) = (0, None);
                self.shelf.tally.delivery_works();
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.failures = self.failures.saturating_add(1);
        let wait = retry_after(self.failures);
        self.retry_at = Instant::now().checked_add(wait);
        let (waiting, seconds) = (self.shelf.waiting(), wait.as_secs());
        let (files, bytes) = (waiting.files, waiting.bytes);
        tracing::warn!(bucket = self.bucket.address(), files, bytes, seconds, %error,
            "telemetry waits to be delivered, and is tried again");
        self.shelf.tally.delivery_failed(error);
    }

    /// Reads the mark again, where it could not be read before.
    fn take_up(&mut self) -> io::Result<()> {
        if !self.is_held_up {
            return Ok(());
        }
        let mark = Mark::read(&self.directory)?;
        if let Some(mark) = &mark
            && *mark.bucket != *self.bucket.address()
        {
            return Err(io::Error::other(format!("what was delivered is in {}: start again with that", mark.bucket)));
        }
        self.job = mark.as_ref().map_or(0, |mark| mark.job.min(self.shelf.snapshot().job));
        self.is_marked = mark.is_some();
        // Until now nothing counted as delivered.
        self.count_waiting()?;
        self.is_held_up = false;
        Ok(())
    }

    /// What was tried in vain is tried again at once.
    #[cfg(test)]
    pub(crate) fn forget_failure(&mut self) {
        (self.retry_at, self.retired_at) = (None, None);
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    fn mark(&self, job: u64) -> io::Result<()> {
        Mark { bucket: self.bucket.address().into(), job }.write(&self.directory)
    }

    /// Everything up to a job is delivered. Which bucket it is in is written down only once that has something.
    fn advance(&mut self, job: u64) -> io::Result<()> {
        if job > self.job {
            self.job = job;
            if self.is_marked {
                self.mark(job)?;
            }
        }
        Ok(())
    }

    /// The list of a day; `None` if it cannot be read. That costs nothing of the other days.
    fn list(&mut self, day: &Path) -> Option<Vec<Entry>> {
        match index::read(day) {
            Ok(entries) => {
                if self.damaged.remove(day) {
                    self.shelf.tally.days_are_held_up(&self.damaged);
                }
                Some(entries)
            }
            Err(error) => {
                if self.damaged.insert(day.to_owned()) {
                    tracing::error!(day = %day.display(), %error,
                        "what of a day is in the bucket cannot be told: nothing of it is delivered or removed until its list is mended");
                    self.shelf.tally.unreadable(1);
                    self.shelf.tally.days_are_held_up(&self.damaged);
                }
                None
            }
        }
    }

    /// A damaged day that somebody has removed holds up nothing any more.
    fn forget_days_that_are_gone(&mut self) {
        let before = self.damaged.len();
        self.damaged.retain(|day| day.try_exists().unwrap_or(true));
        if self.damaged.len() != before {
            self.shelf.tally.days_are_held_up(&self.damaged);
        }
    }

    fn deliver(&mut self) -> io::Result<()> {
        loop {
            let done = self.shelf.snapshot().job;
            if self.job >= done {
                self.shelf.nothing_waits(done);
                return Ok(());
            }
            let Undelivered { found, is_all, blocked } = self.undelivered(done)?;
            let free = blocked.map_or(done, |job| job.saturating_sub(1));
            let last = found.last().map_or(done, |(job, _)| *job);
            let mut jobs: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
            for (job, path) in found {
                jobs.entry(job).or_default().push(path);
            }
            for (job, paths) in jobs {
                if !self.put_all(&paths)? {
                    return Ok(());
                }
                // Of the last one there may be files that were not looked at.
                if is_all || job < last {
                    self.advance(job.min(free))?;
                }
            }
            if is_all {
                self.advance(free)?;
                if blocked.is_some() {
                    return Ok(());
                }
            }
        }
    }

    fn undelivered(&mut self, done: u64) -> io::Result<Undelivered> {
        let (mut found, mut is_all, mut blocked) = (BTreeSet::new(), true, None::<u64>);
        for day in layout::directories(&self.directory, &|_| true, &|_| true)? {
            let mut waiting = layout::files(&day.path)?;
            waiting.retain(|(job, _)| *job > self.job && *job <= done);
            let Some((first, _)) = waiting.first() else { continue };
            let Some(entries) = self.list(&day.path) else {
                blocked = Some(blocked.map_or(*first, |job| job.min(*first)));
                continue;
            };
            let listed: BTreeSet<_> = entries.into_iter().map(|entry| entry.name).collect();
            for (job, path) in waiting {
                if listed.contains(name(&path)) {
                    continue;
                }
                found.insert((job, path));
                if found.len() > PASS_FILES_MAX {
                    found.pop_last();
                    is_all = false;
                }
            }
        }
        Ok(Undelivered { found, is_all, blocked })
    }

    /// Puts files into the bucket and on the lists; `false` if it was interrupted. What was done before an error is kept.
    fn put_all(&mut self, paths: &[PathBuf]) -> io::Result<bool> {
        let mut done: BTreeMap<&Path, Vec<Entry>> = BTreeMap::new();
        let mut outcome = Ok(true);
        for path in paths {
            if self.is_closing() {
                outcome = Ok(false);
                break;
            }
            match self.put(path) {
                Ok(Some(entry)) => done.entry(path.parent().unwrap_or(path)).or_default().push(entry),
                Ok(None) => {}
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        if !done.is_empty() && !self.is_marked {
            self.mark(self.job)?;
            self.is_marked = true;
        }
        for (day, new) in done {
            let mut entries = index::read(day)?;
            entries.retain(|entry| new.iter().all(|other| other.name != entry.name));
            let (files, bytes) = (new.len() as u64, new.iter().map(|entry| entry.length).sum());
            entries.extend(new);
            index::write(day, &entries)?;
            self.shelf.waits_less(files, bytes);
            self.shelf.tally.delivered(files, bytes);
        }
        outcome
    }

    /// `None`: its age was faster.
    fn put(&self, path: &Path) -> io::Result<Option<Entry>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let length = file.metadata()?.len();
        let seal = Seal::new(&self.key, name(path));
        let span = Sealed::open(Box::new(file.try_clone()?), length, seal).and_then(read::span);
        let (first_ms, last_ms) = span.unwrap_or_else(|error| {
            // It will not be better for waiting, and others may be able to read some of it.
            tracing::error!(file = %path.display(), %error, "a file of telemetry cannot be read: it is delivered as it is");
            (i64::MIN, i64::MAX)
        });
        self.bucket.put(&self.key_of(path), file)?;
        Ok(Some(Entry { name: name(path).into(), length, first_ms, last_ms, is_going: false }))
    }

    /// Under which key a file of the tree is in the bucket.
    fn key_of(&self, path: &Path) -> String {
        path.strip_prefix(&self.directory).unwrap_or(path).to_string_lossy().into_owned()
    }

    /// Counts what waits from scratch.
    fn count_waiting(&mut self) -> io::Result<()> {
        // Compaction goes on meanwhile, and adds what it makes.
        loop {
            let done = self.shelf.snapshot().job;
            let waiting = self.waiting_up_to(done)?;
            if self.shelf.waits(done, waiting) {
                return Ok(());
            }
        }
    }

    fn waiting_up_to(&mut self, done: u64) -> io::Result<Waiting> {
        let mut waiting = Waiting::default();
        for day in layout::directories(&self.directory, &|_| true, &|_| true)? {
            let mut files = layout::files(&day.path)?;
            files.retain(|(job, _)| *job > self.job && *job <= done);
            if files.is_empty() {
                continue;
            }
            // While the mark is held up, later jobs are on the lists already.
            let entries = self.list(&day.path).unwrap_or_default();
            for (_, path) in files {
                if entries.iter().all(|entry| *entry.name != *name(&path)) {
                    waiting.files += 1;
                    waiting.bytes += length(&path);
                }
            }
        }
        Ok(waiting)
    }

    /// Removes what is older, or more, than the settings allow, and local copies that there is no room for.
    fn retire(&mut self, now: UnixTime) -> io::Result<()> {
        let mut days = Vec::new();
        for day in layout::directories(&self.directory, &|_| true, &|_| true)? {
            let is_old = now >= day.day.end() && now.since(day.day.end()) >= self.settings.retention_seconds;
            if let Some(entries) = self.list(&day.path) {
                days.push(Kept { day, entries, is_old });
            }
        }
        days.sort_by(|one, other| (one.day.day, &one.day.path).cmp(&(other.day.day, &other.day.path)));
        let staying = days.iter().flat_map(|kept| &kept.entries).filter(|entry| !entry.is_going);
        let mut total: u64 = staying.map(|entry| entry.length).sum();
        // This only removes: on a full disk it makes the room for the lists.
        let mut failed = self.evict(&days);
        days.retain_mut(|kept| {
            // Nothing is removed from the bucket that no list says is going.
            self.let_go(kept, &mut total).map_err(|error| keep_first(&mut failed, error)).is_ok()
        });
        for kept in &mut days {
            if self.is_closing() {
                break;
            }
            if let Err(error) = self.delete(kept) {
                return failed.and(Err(error));
            }
        }
        failed
    }

    /// Says what of a day is to go, and removes that from the local disk.
    fn let_go(&self, kept: &mut Kept, total: &mut u64) -> io::Result<()> {
        let mut is_changed = false;
        for entry in kept.entries.iter_mut().filter(|entry| !entry.is_going) {
            if kept.is_old || *total > self.settings.parquet_bytes_max {
                entry.is_going = true;
                *total = total.saturating_sub(entry.length);
                is_changed = true;
            }
        }
        if is_changed {
            index::write(&kept.day.path, &kept.entries)?;
        }
        // Also what was said before a crash.
        let going = kept.entries.iter().filter(|entry| entry.is_going);
        let gone: BTreeSet<_> = going.map(|entry| entry.name.clone()).collect();
        let local = if kept.is_old || !gone.is_empty() { layout::files(&kept.day.path)? } else { Vec::new() };
        let done = self.shelf.snapshot().job;
        for (job, path) in local {
            let is_listed = gone.contains(name(&path));
            // What a job that is not done has made is that job's.
            if is_listed || (kept.is_old && job <= done) {
                let bytes = length(&path);
                files::remove(&path)?;
                let is_delivered = kept.entries.iter().any(|entry| *entry.name == *self::name(&path));
                if job > self.job && !is_delivered {
                    self.shelf.waits_less(1, bytes);
                }
            }
        }
        Ok(())
    }

    /// Removes local copies, the oldest first, until the rest may stay.
    fn evict(&self, days: &[Kept]) -> io::Result<()> {
        let mut local = Vec::new();
        let mut total = 0;
        let mut failed = Ok(());
        for kept in days {
            let listed: BTreeSet<&str> = kept.entries.iter().map(|entry| &*entry.name).collect();
            let files = layout::files(&kept.day.path).unwrap_or_else(|error| {
                keep_first(&mut failed, error);
                Vec::new()
            });
            for (_, path) in files {
                total += length(&path);
                if listed.contains(name(&path)) {
                    local.push(path);
                }
            }
        }
        for path in local {
            if total <= self.settings.local_bytes_max {
                break;
            }
            let bytes = length(&path);
            match files::remove(&path) {
                Ok(()) => total = total.saturating_sub(bytes),
                Err(error) => keep_first(&mut failed, error),
            }
        }
        failed
    }

    /// Removes from the bucket what is to go, and then from the list.
    fn delete(&self, kept: &mut Kept) -> io::Result<()> {
        let going: Vec<_> = kept.entries.iter().filter(|entry| entry.is_going).map(|one| one.name.clone()).collect();
        if going.is_empty() {
            return Ok(());
        }
        let mut gone = BTreeSet::new();
        let mut outcome = Ok(());
        for name in going {
            outcome = self.bucket.delete(&self.key_of(&kept.day.path.join(&*name)));
            if outcome.is_err() || self.is_closing() {
                break;
            }
            gone.insert(name);
        }
        if !gone.is_empty() {
            kept.entries.retain(|entry| !gone.contains(&entry.name));
            index::write(&kept.day.path, &kept.entries)?;
        }
        outcome
    }
}

/// What went wrong first is what is told.
fn keep_first(failed: &mut io::Result<()>, error: io::Error) {
    if failed.is_ok() {
        *failed = Err(error);
    }
}

/// How long nothing is tried after so many failures.
fn retry_after(failures: u32) -> Duration {
    let seconds = 1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(seconds.min(DELIVERY_RETRY_SECONDS_MAX))
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// As it is now; nothing if it is gone.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}
