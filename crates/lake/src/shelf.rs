//! What there is to read: the segments of the log, and how far compaction has come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::bookmark::{self, Place};
use crate::log::segment::Segment;
use crate::tally::Tally;

/// Shared by the writer, compaction and readers.
pub(crate) struct Shelf {
    contents: Mutex<Contents>,
    /// Changes when something was appended; closes with the writer.
    appended: watch::Receiver<()>,
    pub(crate) tally: Tally,
}

struct Contents {
    segments: BTreeMap<u64, Arc<Segment>>,
    job: u64,
    waiting: Waiting,
    /// Up to where the reader is done who has to see every event, if there is one.
    read_to: Option<Place>,
}

/// Parquet on the local disk that is not in the bucket yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One moment of the shelf. Segments and Parquet files of jobs up to `job` together hold every event once.
pub(crate) struct Snapshot {
    /// In the order in which they were written.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// The last job of compaction that is done.
    pub(crate) job: u64,
}

impl Waiting {
    const fn add(&mut self, more: Self) {
        self.files = self.files.saturating_add(more.files);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

impl Shelf {
    pub(crate) fn new(segments: Vec<Arc<Segment>>, job: u64, appended: watch::Receiver<()>) -> Self {
        let segments = segments.into_iter().map(|segment| (segment.number, segment)).collect();
        Self {
            contents: Mutex::new(Contents { segments, job, waiting: Waiting::default(), read_to: None }),
            appended,
            tally: Tally::default(),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let contents = self.lock();
        Snapshot { segments: contents.segments.values().cloned().collect(), job: contents.job }
    }

    /// Whether a segment is still part of the log.
    pub(crate) fn has(&self, number: u64) -> bool {
        self.lock().segments.contains_key(&number)
    }

    /// The first segment.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.lock().segments.keys().next().copied()
    }

    /// Says up to where everything was read.
    pub(crate) fn read_to(&self, place: Place) {
        self.lock().read_to = Some(place);
    }

    /// Those of some segments, in their order, that may become Parquet: what was read; and of what was not, the oldest, as far
    /// as it takes more than `room` bytes.
    pub(crate) fn ripe(&self, segments: Vec<Arc<Segment>>, room: u64) -> Vec<Arc<Segment>> {
        let Some(read_to) = self.lock().read_to else { return segments };
        let mut room = Some(room);
        let mut is_ripe = |segment: &Arc<Segment>| {
            if bookmark::is_read(segment, read_to) {
                return true;
            }
            room = room.and_then(|room| room.checked_sub(segment.end()));
            room.is_none()
        };
        let mut ripe: Vec<_> = segments.into_iter().rev().filter(|segment| is_ripe(segment)).collect();
        ripe.reverse();
        ripe
    }

    /// How many bytes the log takes.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.lock().segments.values().map(|segment| segment.end()).sum()
    }

    pub(crate) fn add(&self, segment: Arc<Segment>) {
        self.lock().segments.insert(segment.number, segment);
    }

    /// A job is done: its files count and wait to be delivered, and its segments do not count any more.
    pub(crate) fn complete(&self, job: u64, segments: &[u64], made: Waiting) {
        let mut contents = self.lock();
        contents.segments.retain(|number, _| !segments.contains(number));
        contents.job = job;
        contents.waiting.add(made);
    }

    /// What waits to be delivered. Says something only where there is a bucket.
    pub(crate) fn waiting(&self) -> Waiting {
        self.lock().waiting
    }

    pub(crate) fn waits_less(&self, files: u64, bytes: u64) {
        let waiting = &mut self.lock().waiting;
        waiting.files = waiting.files.saturating_sub(files);
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
    }

    /// So much waits of what there is up to a job; whether that is all there is, else it is to be counted again.
    pub(crate) fn waits(&self, job: u64, waiting: Waiting) -> bool {
        let mut contents = self.lock();
        let is_all = contents.job == job;
        if is_all {
            contents.waiting = waiting;
        }
        is_all
    }

    /// Everything up to a job is delivered; no more is there unless there is a later job.
    pub(crate) fn nothing_waits(&self, job: u64) {
        let mut contents = self.lock();
        if contents.job == job {
            contents.waiting = Waiting::default();
        }
    }

    /// What wakes whoever follows.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.appended.clone()
    }

    /// Nothing panics while it holds this, and nothing is left by half if it did.
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
