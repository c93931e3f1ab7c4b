//! The lake as others see it.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use inborn_identity::{InstanceId, UnixTime};
use inborn_telemetry::Batch;
use tokio::sync::{mpsc, oneshot, watch};

use crate::bookmark::{self, Bookmark, Observer, Unread};
use crate::bucket::Bucket;
#[cfg(test)]
use crate::compact::Faults;
use crate::compact::{Compactor, Manifest, seen};
use crate::delivery::{Deliverer, Mark};
use crate::files;
use crate::log::payload::Encoder;
use crate::log::recover::recover;
use crate::log::segment::Segment;
use crate::log::writer::{Append, InFlight, Job, Writer, bytes_of};
use crate::query::scan::scan;
use crate::query::{Events, Follow, Query, QueryError};
use crate::recent::{self, Key, Recent};
use crate::settings::{
    BATCHES_IN_FLIGHT_MAX, BYTES_IN_FLIGHT_MAX, JOBS_OF_A_ROUND_MAX, RECORD_BYTES_MAX, SEGMENTS_A_SECOND, Settings,
    UNREAD_SHARE, WINDOW_ENTRIES, WINDOW_SECONDS,
};
use crate::shelf::{Shelf, Waiting};
use crate::tally::Counts;

/// Telemetry on disk. Clones are the same lake; when the last is gone, its log is closed.
#[derive(Clone)]
pub struct Lake {
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    key: Key,
    shelf: Arc<Shelf>,
    jobs: mpsc::Sender<Job>,
    in_flight: Arc<AtomicUsize>,
    compactor: Mutex<Compactor>,
    bucket: Option<Arc<dyn Bucket>>,
    deliverer: Option<Mutex<Deliverer>>,
    is_closing: Arc<AtomicBool>,
    observer: Arc<OnceLock<Box<Observer>>>,
    /// The first segment to which this process may write.
    live_from: u64,
    log_bytes_max: u64,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Events that are on disk because of it.
    pub kept: usize,
    /// Events that were on disk already.
    pub duplicates: usize,
}

/// Why a batch is not on disk. Nothing of it is acknowledged, and it may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much waits already.
    #[error("more telemetry is coming than can be written")]
    Busy,
    /// The disk is full, or the log is as long as it may get.
    #[error("no room for more telemetry")]
    Full,
    /// An event is longer than [`RECORD_BYTES_MAX`], or the batch than [`BYTES_IN_FLIGHT_MAX`]: it will never be taken.
    #[error("longer than is stored")]
    TooLarge,
    /// The lake was closed.
    #[error("the store of telemetry is closed")]
    Closed,
    /// The disk does not do what it is asked for.
    #[error("telemetry cannot be written: {0}")]
    Io(io::ErrorKind),
}

/// Why there is no lake.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("another process uses the telemetry in {0}")]
    InUse(PathBuf),
    /// What was delivered is in another bucket.
    #[error(
        "telemetry of {directory} is in {there}, not in {here}: set that again; or move what is there to the same place in the new \
         one, and then remove the file {directory}/delivered"
    )]
    OtherBucket {
        /// The lake's directory.
        directory: String,
        /// The bucket that it was delivered to.
        there: Box<str>,
        /// The one that is to be used.
        here: String,
    },
    /// A file cannot be read or written.
    #[error("telemetry in {0}: {1}")]
    Io(PathBuf, #[source] io::Error),
}

impl Lake {
    /// Opens the lake in `directory`, which is made if it is not there, and recovers what a crash left: torn ends are cut,
    /// and what was seen lately is read back from the log.
    ///
    /// # Errors
    /// The files cannot be read or made, or another process has the lake.
    pub fn open(directory: &Path, settings: Settings, now: UnixTime) -> Result<Self, OpenError> {
        Self::open_with(directory, settings, None, now)
    }

    /// Opens a lake whose Parquet goes to a bucket, if there is one. What is on the local disk goes there, too.
    ///
    /// # Errors
    /// As [`Lake::open`]; or something of it is in another bucket.
    pub fn open_with(
        directory: &Path,
        settings: Settings,
        bucket: Option<Arc<dyn Bucket>>,
        now: UnixTime,
    ) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Io(directory.into(), error);
        let log = directory.join("log");
        fs::create_dir_all(&log).map_err(failed)?;
        let lock = lock(directory)?;
        let key = key(directory).map_err(failed)?;
        let mark = Mark::read(directory);
        match (&mark, &bucket) {
            // Telemetry is taken and found all the same; what is to be delivered waits.
            (Err(error), _) => tracing::error!(%error, "nothing of telemetry is delivered until this is mended"),
            (Ok(Some(mark)), Some(bucket)) if *mark.bucket != *bucket.address() => {
                let (directory, here) = (directory.display().to_string(), bucket.address().to_owned());
                return Err(OpenError::OtherBucket { directory, there: mark.bucket.clone(), here });
            }
            (Ok(Some(mark)), None) => {
                tracing::warn!(bucket = %mark.bucket, "telemetry was delivered there, which is not set any more: what is only there is not found");
            }
            _ => {}
        }
        let mut recent = Recent::new(WINDOW_ENTRIES, WINDOW_SECONDS);
        let manifest = Manifest::read(directory).map_err(failed)?;
        let job = Compactor::resume(directory, manifest.as_ref()).map_err(failed)?;
        seen::load(directory, job, &mut recent).map_err(failed)?;
        // A number is never given again: the manifest may name it. Where the directory is an older copy that was put back,
        // nothing here says which numbers were given since: but the clock has gone on faster than they.
        let below = manifest.iter().flat_map(|one| &one.segments).max().map_or(1, |number| number.saturating_add(1));
        let below = below.max(now.as_secs().saturating_mul(SEGMENTS_A_SECOND));
        let recovered = recover(&log, below, &key, &mut recent).map_err(failed)?;
        recent.expire(now);
        let (appended, changed) = watch::channel(());
        let shelf = Arc::new(Shelf::new(recovered.segments, job, changed));
        shelf.tally.damage(recovered.damage);
        let compactor = Compactor {
            directory: directory.into(),
            settings: settings.clone(),
            key,
            shelf: Arc::clone(&shelf),
            has_bucket: bucket.is_some(),
            parquet_bytes: None,
            done: Vec::new(),
            is_log_unsynced: false,
            has_leftovers: false,
            unreadable: None,
            #[cfg(test)]
            faults: Faults::default(),
        };
        let is_closing = Arc::new(AtomicBool::new(false));
        let mark = mark.as_ref().map_err(|error| io::Error::other(error.to_string()));
        let deliverer = bucket.as_ref().map(|bucket| {
            let place = (directory.to_owned(), settings.clone(), key);
            let mark = mark.map(Option::as_ref);
            Deliverer::new(place, Arc::clone(&shelf), Arc::clone(bucket), Arc::clone(&is_closing), mark)
        });
        let deliverer = deliverer.transpose().map_err(failed)?.map(Mutex::new);
        let (observer, live_from, log_bytes_max) = (Arc::default(), recovered.next_number, settings.log_bytes_max);
        let writer = Writer {
            directory: log,
            settings,
            key,
            recent,
            shelf: Arc::clone(&shelf),
            appended,
            observer: Arc::clone(&observer),
            encoder: Encoder::new().map_err(failed)?,
            active: None,
            next_number: recovered.next_number,
        };
        let (jobs, receiver) = mpsc::channel(BATCHES_IN_FLIGHT_MAX);
        writer.spawn(receiver, lock).map_err(failed)?;
        let in_flight = Arc::new(AtomicUsize::new(0));
        let compactor = Mutex::new(compactor);
        let directory = directory.into();
        let inner = Inner {
            directory,
            key,
            shelf,
            jobs,
            in_flight,
            compactor,
            bucket,
            deliverer,
            is_closing,
            observer,
            live_from,
            log_bytes_max,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes a batch durable. When this answers `Ok`, the events are on disk, or were there already.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        self.take(batch).await.map(|(appended, _)| appended)
    }

    /// The same, and gives back those events of the batch that were not there already.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn take(&self, batch: Batch) -> Result<(Appended, Arc<Batch>), AppendError> {
        if batch.records.is_empty() {
            return Ok((Appended::default(), Arc::new(batch)));
        }
        let bytes = bytes_of(&batch);
        let too_long = |text: &str| text.len() > RECORD_BYTES_MAX;
        if bytes > BYTES_IN_FLIGHT_MAX
            || batch.records.iter().any(|record| too_long(&record.json) || too_long(&record.uid))
        {
            return Err(AppendError::TooLarge);
        }
        let in_flight = self.reserve(bytes).ok_or(AppendError::Busy)?;
        let (reply, answer) = oneshot::channel();
        self.inner.jobs.try_send(Job::Append(Append { batch, in_flight, reply })).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AppendError::Busy,
            mpsc::error::TrySendError::Closed(_) => AppendError::Closed,
        })?;
        answer.await.unwrap_or(Err(AppendError::Closed))
    }

    /// Has everything that becomes durable told to `observer`: in the order of the log, from the one thread that writes it, and
    /// before whoever brought it has an answer. It must not wait. Only the first call counts.
    pub fn observe(&self, observer: Box<Observer>) {
        let _ = self.inner.observer.set(observer);
    }

    /// Gives the bookmark of the reader who has to see every event, and what earlier processes wrote that he was not done with.
    /// From now on nothing becomes Parquet before he is done with it, but for want of room. To be asked for once, before
    /// anything is appended. Reads and writes files.
    ///
    /// # Errors
    /// They cannot be read or written.
    pub fn resume(&self) -> io::Result<(Arc<Bookmark>, Unread)> {
        let inner = &self.inner;
        let digest = recent::keyed(&inner.key, InstanceId::from_bytes([0; InstanceId::BYTES]), "the name of the lake");
        let name = digest.to_le_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Bookmark::open(&inner.directory, name, inner.live_from, &inner.shelf)
    }

    /// Forgets the bookmark, where nobody reads: who does at a later start begins with what is appended then.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget_bookmark(&self) -> io::Result<()> {
        bookmark::forget(&self.inner.directory)
    }

    /// Ends the log: what was appended is durable, and nothing more is taken.
    pub async fn close(&self) {
        self.inner.is_closing.store(true, Ordering::Relaxed);
        let (reply, done) = oneshot::channel();
        if self.inner.jobs.send(Job::Close(reply)).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Answers a question. Reads files: not for a thread that must not wait.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn query(&self, query: &Query) -> Result<Events, QueryError> {
        let inner = &self.inner;
        let events = scan((&inner.directory, &inner.key), inner.bucket.as_ref(), &inner.shelf.snapshot(), query)?;
        inner.shelf.tally.unreadable(events.unreadable);
        Ok(events)
    }

    /// Follows what is appended from now on and is wanted by `query`, whose order, limit and cursor say nothing here.
    ///
    /// # Errors
    /// The question has too many filters.
    pub fn follow(&self, query: Query) -> Result<Follow, QueryError> {
        Follow::new(&self.inner.shelf, self.inner.live_from, query)
    }

    /// What is to be done from time to time, every minute: makes Parquet of the log when it is old or long enough, and
    /// removes what is older, or more, than the settings allow. May take long: not for a thread that must not wait.
    pub fn tidy(&self, now: UnixTime) {
        let mut compactor = self.inner.compactor.lock().unwrap_or_else(PoisonError::into_inner);
        let due = compactor.due(now);
        let compacted = if due { self.compact_with(&mut compactor, Some(JOBS_OF_A_ROUND_MAX)) } else { Ok(()) };
        if let Err(error) = compacted {
            tracing::error!(%error, "telemetry could not become Parquet; it stays in the log, and is tried again");
        }
        if let Err(error) = compactor.retire_old(now) {
            tracing::error!(%error, "old telemetry could not be removed");
        }
    }

    /// What is to be done every few seconds where there is a bucket: delivers what is finished, and removes from it what is
    /// older, or more, than the settings allow. After a failure it does nothing until it is time to try again. May take long:
    /// not for a thread that must not wait.
    pub fn deliver(&self, now: UnixTime) {
        if let Some(deliverer) = &self.inner.deliverer {
            deliverer.lock().unwrap_or_else(PoisonError::into_inner).run(now);
        }
    }

    /// What waits to be delivered; `None` without a bucket.
    #[must_use]
    pub fn waiting(&self) -> Option<Waiting> {
        self.inner.bucket.as_ref().map(|_| self.inner.shelf.waiting())
    }

    /// Why nothing is delivered now, or nothing of some days, for a person to read; `None` while all is well, or there is no bucket.
    #[must_use]
    pub fn undelivered(&self) -> Option<String> {
        let (bucket, tally) = (self.inner.bucket.as_ref()?, &self.inner.shelf.tally);
        let Waiting { files, bytes } = self.inner.shelf.waiting();
        let waiting = format!("{files} files of telemetry ({} MiB) wait for {}", bytes >> 20, bucket.address());
        match (tally.undelivered(), tally.held_up()) {
            (Some(error), _) => Some(format!("{waiting}: {error}")),
            (None, Some((days, first))) => Some(format!(
                "{waiting}: of {days} days nothing is delivered or removed until their lists are mended, the first is {}",
                first.display()
            )),
            (None, None) => None,
        }
    }

    /// Makes Parquet of the whole log, however young, but for what a reader is not done with ([`Lake::resume`]). May take long:
    /// not for a thread that must not wait.
    ///
    /// # Errors
    /// Files cannot be read or written; the log stays as it is.
    pub fn compact(&self) -> io::Result<()> {
        self.compact_with(&mut self.inner.compactor.lock().unwrap_or_else(PoisonError::into_inner), None)
    }

    /// At most so many jobs, if that is bounded.
    fn compact_with(&self, compactor: &mut Compactor, jobs_max: Option<usize>) -> io::Result<()> {
        let shelf = &self.inner.shelf;
        let mut segments = shelf.snapshot().segments;
        let room = self.inner.log_bytes_max / UNREAD_SHARE;
        let ripe = shelf.ripe(segments.clone(), room);
        let number = |segments: &[Arc<Segment>]| segments.last().map(|segment| segment.number);
        if segments.len() > 1 && number(&ripe) != number(&segments) {
            // The last waits for its reader, so that nothing is gained by ending it: or it would be every minute.
            return compactor.compact(&ripe, jobs_max);
        }
        let (reply, done) = std::sync::mpsc::sync_channel(1);
        // A writer that is too busy to be asked goes on with the last segment; one that is gone has ended it.
        if matches!(self.inner.jobs.try_send(Job::Roll(reply)), Err(mpsc::error::TrySendError::Full(_))) {
            segments.pop();
        } else if let Ok(rolled) = done.recv() {
            rolled?;
        }
        compactor.compact(&shelf.ripe(segments, room), jobs_max)
    }

    /// What was found not to be as it should since the lake was opened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner.shelf.tally.counts()
    }

    /// What goes wrong from now on.
    #[cfg(test)]
    pub(crate) fn fail(&self, faults: Faults) {
        self.inner.compactor.lock().unwrap_or_else(PoisonError::into_inner).faults = faults;
    }

    /// The numbers of the segments that may become Parquet.
    #[cfg(test)]
    pub(crate) fn ripe(&self, room: u64) -> Vec<u64> {
        let ripe = self.inner.shelf.ripe(self.segments(), room);
        ripe.iter().map(|segment| segment.number).collect()
    }

    #[cfg(test)]
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.inner.shelf.snapshot().segments
    }

    /// Delivers, whatever was tried before.
    #[cfg(test)]
    pub(crate) fn deliver_at_once(&self, now: UnixTime) {
        let deliverer = self.inner.deliverer.as_ref().unwrap();
        let mut deliverer = deliverer.lock().unwrap();
        deliverer.forget_failure();
        deliverer.run(now);
    }

    /// How many events are in the log.
    #[cfg(test)]
    pub(crate) fn log_records(&self) -> u64 {
        self.inner.shelf.snapshot().segments.iter().map(|segment| segment.records()).sum()
    }

    /// Takes `bytes` of what may be in flight.
    fn reserve(&self, bytes: usize) -> Option<InFlight> {
        let total = &self.inner.in_flight;
        let more = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= BYTES_IN_FLIGHT_MAX);
        total.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(InFlight { total: Arc::clone(total), bytes })
    }
}

/// One process at a time.
fn lock(directory: &Path) -> Result<fs::File, OpenError> {
    let failed = |error: io::Error| OpenError::Io(directory.into(), error);
    let path = directory.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse(directory.into())),
        Err(error) => Err(failed(error.into())),
    }
}

/// The key of the digests, made at the first start.
fn key(directory: &Path) -> io::Result<Key> {
    let path = directory.join("key");
    match fs::read(&path) {
        Ok(bytes) => Key::try_from(bytes.as_slice()).map_err(|_| io::Error::other("the file key is not 32 bytes")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = files::random()?;
            files::replace(&path, &key)?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}
