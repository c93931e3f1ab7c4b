//! The thread that writes: gathers the batches that wait, makes them durable with one sync, answers after it.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;

use inborn_identity::UnixTime;
use inborn_telemetry::{Batch, Record};
use std::os::unix::fs::FileExt as _;
use tokio::sync::{mpsc, oneshot, watch};

use super::frame::{self, HEAD_BYTES, Head};
use super::payload::{Encoder, FRAME_RAW_BYTES};
use super::segment::{HEADER_BYTES, Segment};
use crate::bookmark::{Observer, Place};
use crate::recent::{Digester, Key, Recent};
use crate::settings::{GROUP_BYTES_MAX, JOB_RAW_BYTES_MAX, SEGMENT_BYTES, Settings};
use crate::shelf::Shelf;
use crate::{AppendError, Appended, files};

/// Bytes that count as in flight until this is dropped.
pub(crate) struct InFlight {
    pub(crate) total: Arc<AtomicUsize>,
    pub(crate) bytes: usize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// A batch that waits.
pub(crate) struct Append {
    pub(crate) batch: Batch,
    pub(crate) in_flight: InFlight,
    /// With what of the batch was new.
    pub(crate) reply: oneshot::Sender<Result<(Appended, Arc<Batch>), AppendError>>,
}

/// What the thread is asked for.
pub(crate) enum Job {
    /// Events to be made durable.
    Append(Append),
    /// The segment that is written now is to be the last of its kind: what is appended afterwards goes to another.
    Roll(std::sync::mpsc::SyncSender<io::Result<()>>),
    /// No more.
    Close(oneshot::Sender<()>),
}

/// The log as it is written.
pub(crate) struct Writer {
    pub(crate) directory: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) key: Key,
    pub(crate) recent: Recent,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) appended: watch::Sender<()>,
    pub(crate) observer: Arc<OnceLock<Box<Observer>>>,
    pub(crate) encoder: Encoder,
    pub(crate) active: Option<Active>,
    pub(crate) next_number: u64,
}

/// The segment that is written now.
pub(crate) struct Active {
    segment: Arc<Segment>,
    /// Where the next frame goes; what is before it may not be durable yet.
    end: u64,
}

/// What became of a batch that was written.
#[derive(Default)]
struct Written {
    /// Which of its events were there already, in order.
    duplicates: Vec<usize>,
    /// Behind its last frame.
    place: Place,
}

impl Writer {
    /// Starts the thread. It ends when it is told to close, or nobody can tell it anything any more. `lock` is kept until
    /// then.
    pub(crate) fn spawn(self, jobs: mpsc::Receiver<Job>, lock: std::fs::File) -> io::Result<()> {
        let serve = move || {
            let closed = self.serve(jobs);
            drop(lock);
            closed.map(|reply| reply.send(()));
        };
        thread::Builder::new().name("lake-writer".into()).spawn(serve).map(drop)
    }

    /// Gives whoever asked for the end.
    fn serve(mut self, mut jobs: mpsc::Receiver<Job>) -> Option<oneshot::Sender<()>> {
        let mut closed = None;
        while let Some(job) = jobs.blocking_recv() {
            let (group, other) = gather(job, &mut jobs);
            self.commit_and_answer(group);
            match other {
                Some(Job::Roll(reply)) => {
                    let _ = reply.send(self.roll());
                }
                Some(Job::Close(reply)) => {
                    closed = Some(reply);
                    break;
                }
                _ => {}
            }
        }
        if let Err(error) = self.roll() {
            tracing::warn!(%error, "the log of telemetry did not close cleanly; the next start recovers it");
        }
        closed
    }

    fn commit_and_answer(&mut self, group: Vec<Append>) {
        let (batches, waiting): (Vec<_>, Vec<_>) =
            group.into_iter().map(|append| (append.batch, (append.in_flight, append.reply))).unzip();
        let results: Vec<Result<Written, AppendError>> = match self.commit(&batches) {
            Ok(written) => written.into_iter().map(Ok).collect(),
            // One batch too large for the disk has taken the others down with it: each gets a chance of its own.
            Err(AppendError::Full) if batches.len() > 1 => {
                let alone = |batch| self.commit(core::slice::from_ref(batch));
                let first =
                    |result: Result<Vec<Written>, _>| result.map(|all| all.into_iter().next().unwrap_or_default());
                batches.iter().map(alone).map(first).collect()
            }
            Err(error) => batches.iter().map(|_| Err(error)).collect(),
        };
        for ((batch, (in_flight, reply)), result) in batches.into_iter().zip(waiting).zip(results) {
            drop(in_flight);
            // The asker may have gone away; what is durable stays.
            let _ = reply.send(result.map(|written| self.tell(batch, &written)));
        }
    }

    /// Tells who observes what of a batch is new. Gives what became of it.
    fn tell(&self, batch: Batch, written: &Written) -> (Appended, Arc<Batch>) {
        let (appended, new) = without(batch, &written.duplicates);
        let new = Arc::new(new);
        if let Some(observer) = self.observer.get().filter(|_| appended.kept > 0) {
            observer(&new, written.place);
        }
        (appended, new)
    }

    /// Makes all of it durable, or nothing. Gives what became of each batch.
    fn commit(&mut self, batches: &[Batch]) -> Result<Vec<Written>, AppendError> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        self.recent.begin();
        let written = self.write(batches);
        match &written {
            Ok(_) => self.recent.settle(),
            Err(error) => {
                self.recent.roll_back();
                self.cut(error);
            }
        }
        written.map_err(|error| if files::is_full(&error) { AppendError::Full } else { AppendError::Io(error.kind()) })
    }

    fn write(&mut self, batches: &[Batch]) -> io::Result<Vec<Written>> {
        let bytes = batches.iter().map(bytes_of).sum::<usize>() as u64;
        if self.shelf.log_bytes() + bytes > self.settings.log_bytes_max {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let now = batches.iter().map(|batch| batch.received_at).max().unwrap_or(UnixTime::from_secs(0));
        let mut active = self.take_active(bytes, now)?;
        let mut heads = Vec::new();
        let mut all = Vec::with_capacity(batches.len());
        let written = batches.iter().try_for_each(|batch| {
            let duplicates = self.write_batch(batch, &mut active, &mut heads)?;
            let place = Place { segment: active.segment.number, offset: active.end };
            all.push(Written { duplicates, place });
            Ok(())
        });
        let synced = written.and_then(|()| if heads.is_empty() { Ok(()) } else { active.segment.file.sync_data() });
        let (segment, end) = (Arc::clone(&active.segment), active.end);
        self.active = Some(active);
        synced?;
        heads.iter().for_each(|head| segment.note(head));
        segment.set_end(end);
        self.appended.send_replace(());
        Ok(all)
    }

    /// Writes what of a batch was not seen before, in frames of bounded length. Gives which events were.
    fn write_batch(&mut self, batch: &Batch, active: &mut Active, heads: &mut Vec<Head>) -> io::Result<Vec<usize>> {
        let mut duplicates = Vec::new();
        let digester = Digester::new(&self.key, batch.source.instance);
        let mut head = Head::EMPTY;
        for (index, record) in batch.records.iter().enumerate() {
            if !self.recent.insert(digester.digest(&record.uid), batch.received_at) {
                duplicates.push(index);
                continue;
            }
            if head.records == 0 {
                self.encoder.begin(&batch.source, batch.received_at);
            }
            self.encoder.record(record);
            head.records += 1;
            head.first_ms = head.first_ms.min(record.time_ms);
            head.last_ms = head.last_ms.max(record.time_ms);
            if self.encoder.length() >= FRAME_RAW_BYTES {
                heads.push(write_frame(&mut self.encoder, head, active)?);
                head = Head::EMPTY;
            }
        }
        if head.records > 0 {
            heads.push(write_frame(&mut self.encoder, head, active)?);
        }
        Ok(duplicates)
    }

    /// The segment to write to, which has room for `bytes` unless they are more than one can have.
    fn take_active(&mut self, bytes: u64, now: UnixTime) -> io::Result<Active> {
        let full = |active: &Active| {
            let raw = active.segment.raw() + bytes > JOB_RAW_BYTES_MAX;
            active.end > HEADER_BYTES && (raw || active.end + bytes > SEGMENT_BYTES)
        };
        if self.active.as_ref().is_some_and(full) {
            self.roll()?;
        }
        if let Some(active) = self.active.take() {
            return Ok(active);
        }
        let segment = Segment::create(&self.directory, self.next_number, now, self.settings.free_bytes_min)?;
        let segment = Arc::new(segment);
        self.next_number += 1;
        self.shelf.add(Arc::clone(&segment));
        Ok(Active { segment, end: HEADER_BYTES })
    }

    /// Takes back what a write left that failed. A segment that cannot be mended, or whose sync failed so that nobody
    /// knows what it holds, is written no more: what it has durably is read, and the next start cuts the rest.
    fn cut(&mut self, reason: &io::Error) {
        let Some(active) = &mut self.active else { return };
        active.end = active.segment.end();
        let cut = active.segment.file.set_len(active.end);
        if files::is_full(reason) && cut.is_ok() {
            return;
        }
        tracing::warn!(%reason, segment = active.segment.number, "a segment of the log could not be written and is left as it is");
        self.active = None;
    }

    /// Ends the active segment.
    fn roll(&mut self) -> io::Result<()> {
        let Some(active) = self.active.take() else { return Ok(()) };
        active.segment.seal()
    }
}

/// Writes what was encoded at the end of the segment.
fn write_frame(encoder: &mut Encoder, mut head: Head, active: &mut Active) -> io::Result<Head> {
    let encoded = encoder.finish()?;
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    head.stored = u32::try_from(encoded.stored.len()).map_err(too_long)?;
    head.raw = u32::try_from(encoded.raw).map_err(too_long)?;
    let bytes = frame::head_bytes(&active.segment.marker, active.end, &head, encoded.stored);
    active.segment.file.write_all_at(&bytes, active.end)?;
    active.segment.file.write_all_at(encoded.stored, active.end + HEAD_BYTES as u64)?;
    active.end += HEAD_BYTES as u64 + encoded.stored.len() as u64;
    Ok(head)
}

/// The batches that wait, as many as one sync may carry, and the first job of another kind.
fn gather(first: Job, jobs: &mut mpsc::Receiver<Job>) -> (Vec<Append>, Option<Job>) {
    let mut group = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(job) = next {
        let Job::Append(append) = job else { return (group, Some(job)) };
        bytes += append.in_flight.bytes;
        group.push(append);
        next = if bytes < GROUP_BYTES_MAX { jobs.try_recv().ok() } else { None };
    }
    (group, None)
}

/// What a batch takes of the bytes in flight.
pub(crate) fn bytes_of(batch: &Batch) -> usize {
    batch.records.iter().map(|record| record.json.len() + record.uid.len() + size_of::<Record>()).sum()
}

/// What became of a batch, and what of it was new. `duplicates` are places in it, in order.
fn without(mut batch: Batch, duplicates: &[usize]) -> (Appended, Batch) {
    let (mut index, mut next) = (0, duplicates.iter().copied().peekable());
    if !duplicates.is_empty() {
        batch.records.retain(|_| {
            let is_new = next.next_if_eq(&index).is_none();
            index += 1;
            is_new
        });
    }
    (Appended { kept: batch.records.len(), duplicates: duplicates.len() }, batch)
}
