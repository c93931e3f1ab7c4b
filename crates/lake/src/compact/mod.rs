//! Compaction: the log becomes Parquet, and what is old goes.
//!
//! A job takes segments of the log that are not written any more and makes files of them. A crash at any point loses
//! nothing and leaves nothing twice, and neither does a disk that refuses any of it:
//!
//! 1. The manifest names the job and its segments, and that it is being *written*. (Before: nothing has happened.)
//! 2. The files are written elsewhere, synced, and renamed to where they belong; the directories are synced. Their names
//!    hold the number of the job. (A crash: the next start finds the manifest, removes every file of that job, and does it
//!    again. The segments are all there.)
//! 3. What the window of uids must know of the segments is written beside the log.
//! 4. The manifest says that the job is *written*. From here on the files count and the segments do not. (A crash: the next
//!    start removes what is left of the segments.)
//! 5. The segments are removed, and the directory of the log is synced. Before that is done no other job may begin: its
//!    manifest would no longer name them, and one that came back would become Parquet a second time.
//!
//! When a step fails, nobody knows whether what the manifest was to say is on disk. So it is first made to say again that the
//! job is not written, and then its files are removed: in the other order a crash between them could find a manifest that
//! counts files which are gone. As long as the manifest cannot be written, both files and segments stay.
//!
//! A segment of which not everything can be read becomes Parquet as far as it can, is named by the log of the process and
//! by [`Counts`](crate::Counts), and is set aside instead of being removed.
//!
//! Readers in this process see step 4 as one change of the [`Shelf`](crate::shelf::Shelf): they pass over files of later
//! jobs. Readers of the tree never see the log, so that for them there is nothing twice at any time.

#[cfg(test)]
mod faults;
mod manifest;
mod merge;
mod retention;
mod run;
pub(crate) mod seen;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inborn_identity::UnixTime;
use inborn_telemetry::Batch;

#[cfg(test)]
pub(crate) use faults::Faults;
pub(crate) use manifest::Manifest;

use self::merge::Merge;
use self::run::Runs;
use crate::files;
use crate::layout::{self, Partition};
use crate::log::frame::Head;
use crate::log::payload::Decoder;
use crate::log::read;
use crate::log::recover::{DAMAGED, named};
use crate::log::segment::{SUFFIX, Segment};
use crate::parquet::sealed::Seal;
use crate::parquet::write::Writer;
use crate::recent::{Digester, Key};
use crate::settings::{COMPACT_BYTES, COMPACT_SECONDS, JOB_RAW_BYTES_MAX, Settings};
use crate::shelf::{Shelf, Waiting};

const STAGING: &str = "staging";
const LOG: &str = "log";

/// What an attempt at a job made.
#[derive(Default)]
struct Made {
    files: Vec<PathBuf>,
    /// Events that were no JSON objects.
    not_ocsf: u64,
}

/// Makes Parquet of the log. One at a time.
pub(crate) struct Compactor {
    pub(crate) directory: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) key: Key,
    pub(crate) shelf: Arc<Shelf>,
    /// Whether Parquet goes to a bucket. Then what is old of it is not removed here.
    pub(crate) has_bucket: bool,
    /// What the tree takes, once it was counted.
    pub(crate) parquet_bytes: Option<u64>,
    /// Segments of a job that is done, which are still there: where, and whether they are to be kept.
    pub(crate) done: Vec<(PathBuf, bool)>,
    /// Whether a segment that was removed may come back.
    pub(crate) is_log_unsynced: bool,
    /// Whether there may be files of the next job in the tree, by an attempt that failed.
    pub(crate) has_leftovers: bool,
    /// The segment that kept a job from being done.
    pub(crate) unreadable: Option<u64>,
    /// What goes wrong in a test.
    #[cfg(test)]
    pub(crate) faults: Faults,
}

impl Compactor {
    /// Finishes what a crash interrupted, before the log is read: segments that no longer count are removed, and files that do
    /// not count yet. Gives the last job that is done.
    pub(crate) fn resume(directory: &Path, manifest: Option<&Manifest>) -> io::Result<u64> {
        remove_tree(&directory.join(STAGING))?;
        let Some(manifest) = manifest else { return Ok(0) };
        if !manifest.written {
            // The job will be done again, of what segments ever, and perhaps into other files.
            remove_from(directory, manifest.job)?;
            return Ok(manifest.job.saturating_sub(1));
        }
        let log = directory.join(LOG);
        for (number, path) in named(&log, SUFFIX)? {
            if manifest.segments.contains(&number) {
                retire(&path, manifest.damaged.contains(&number))?;
            }
        }
        files::sync_directory(&log)?;
        Ok(manifest.job)
    }

    /// Whether the log is old or long enough to become Parquet, and that may be on the disk.
    pub(crate) fn due(&self, now: UnixTime) -> bool {
        if !self.has_room() {
            return false;
        }
        let segments = self.shelf.snapshot().segments;
        let bytes: u64 = segments.iter().map(|segment| segment.end()).sum();
        let oldest = segments.iter().filter(|segment| segment.records() > 0).map(|segment| segment.opened_at).min();
        bytes >= COMPACT_BYTES || oldest.is_some_and(|oldest| now.since(oldest) >= COMPACT_SECONDS)
    }

    /// Whether there may be more Parquet on the disk: what waits for the bucket is not too much already.
    fn has_room(&self) -> bool {
        !self.has_bucket || self.shelf.waiting().bytes <= self.settings.local_bytes_max
    }

    /// Makes Parquet of segments that are not written any more, in jobs of bounded size; at most so many jobs, and only while there
    /// is room, if that is bounded. A segment that the disk does not give back holds up no other.
    pub(crate) fn compact(&mut self, segments: &[Arc<Segment>], jobs_max: Option<usize>) -> io::Result<()> {
        let mut rest = segments.to_vec();
        let (mut failed, mut jobs) = (None, 0);
        while let Some(first) = rest.first() {
            if jobs_max.is_some_and(|most| jobs >= most || (jobs > 0 && !self.has_room())) {
                break;
            }
            jobs += 1;
            let mut raw = first.raw();
            let more = rest.iter().skip(1).take_while(|segment| {
                raw = raw.saturating_add(segment.raw());
                raw <= JOB_RAW_BYTES_MAX
            });
            let count = 1 + more.count();
            self.unreadable = None;
            match self.job(rest.get(..count).unwrap_or_default()) {
                Ok(()) => drop(rest.drain(..count)),
                Err(error) => {
                    let Some(number) = self.unreadable else { return Err(error) };
                    tracing::error!(segment = number, %error, "a segment of the log cannot be read: it stays, and is tried again");
                    rest.retain(|segment| segment.number != number);
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn job(&mut self, segments: &[Arc<Segment>]) -> io::Result<()> {
        self.settle()?;
        let job = self.shelf.snapshot().job + 1;
        if job > layout::JOB_MAX {
            return Err(io::Error::other("there are no more numbers for jobs"));
        }
        let numbers: Vec<u64> = segments.iter().map(|segment| segment.number).collect();
        let mut manifest = Manifest { job, written: false, segments: numbers, damaged: Vec::new() };
        manifest.write(&self.directory)?;
        self.step(1)?;
        if self.has_leftovers {
            remove_from(&self.directory, job)?;
            self.has_leftovers = false;
        }
        let staging = self.directory.join(STAGING);
        remove_tree(&staging)?;
        fs::create_dir_all(&staging)?;
        let mut made = Made::default();
        let written = self.write(job, segments, &staging, &mut made).and_then(|()| {
            let damaged = segments.iter().filter(|segment| segment.damaged() > 0).map(|segment| segment.number);
            manifest.written = true;
            manifest.damaged = damaged.collect();
            self.step(5)?;
            manifest.write(&self.directory)?;
            self.step(6)
        });
        if let Err(error) = written {
            if !self.is_powerless() {
                self.undo(manifest, &made);
            }
            return Err(error);
        }
        let bytes: u64 = made.files.iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum();
        self.shelf.complete(job, &manifest.segments, Waiting { files: made.files.len() as u64, bytes });
        self.done.extend(segments.iter().map(|segment| (segment.path.clone(), segment.damaged() > 0)));
        self.is_log_unsynced = true;
        if made.not_ocsf > 0 {
            let events = made.not_ocsf;
            tracing::warn!(job, events, "events of telemetry were no JSON objects: they are kept whole, in raw_data");
            self.shelf.tally.not_ocsf(events);
        }
        self.parquet_bytes = self.parquet_bytes.map(|total| total + bytes);
        tracing::debug!(job, segments = segments.len(), files = made.files.len(), bytes, "telemetry became Parquet");
        self.settle()?;
        remove_tree(&staging)
    }

    /// Takes back what an attempt left: see above for the order.
    fn undo(&mut self, mut manifest: Manifest, made: &Made) {
        self.has_leftovers = true;
        let job = manifest.job;
        manifest.written = false;
        manifest.damaged.clear();
        let undone = self.step(10).and_then(|()| manifest.write(&self.directory)).and_then(|()| {
            made.files.iter().try_for_each(|path| files::remove(path))?;
            let directories: BTreeSet<_> = made.files.iter().filter_map(|path| path.parent()).collect();
            directories.into_iter().try_for_each(files::sync_directory)?;
            self.has_leftovers = false;
            remove_tree(&self.directory.join(STAGING))
        });
        if let Err(error) = undone {
            tracing::warn!(job, %error, "files of an attempt at Parquet are left; the next attempt removes them first");
        }
    }

    /// Step 5, of the last job that was done.
    fn settle(&mut self) -> io::Result<()> {
        while let Some((path, is_damaged)) = self.done.last() {
            retire(path, *is_damaged)?;
            self.done.pop();
            self.step(7)?;
        }
        if self.is_log_unsynced {
            self.step(8)?;
            files::sync_directory(&self.directory.join(LOG))?;
            self.is_log_unsynced = false;
        }
        Ok(())
    }

    /// Steps 2 and 3.
    fn write(&mut self, job: u64, segments: &[Arc<Segment>], staging: &Path, made: &mut Made) -> io::Result<()> {
        let mut runs = Runs::new(staging)?;
        let mut seen = seen::Writer::create(&self.directory, job, staging)?;
        self.read_into(segments, &mut runs, &mut seen)?;
        let mut merge = runs.merge()?;
        let attempt = u64::from_le_bytes(files::random()?);
        let mut part = 0;
        let mut directories = BTreeSet::new();
        while let Some(partition) = merge.partition()? {
            let path = self.write_file((job, part, attempt), &partition, &mut merge, staging, made)?;
            directories.extend(path.parent().map(Path::to_path_buf));
            self.step(2)?;
            part += 1;
        }
        directories.iter().try_for_each(|directory| files::sync_directory(directory))?;
        self.step(3)?;
        seen.finish()?;
        self.step(4)
    }

    /// Reads every event of the segments once.
    fn read_into(&mut self, segments: &[Arc<Segment>], runs: &mut Runs, seen: &mut seen::Writer) -> io::Result<()> {
        let mut decoder = Decoder::new()?;
        for segment in segments {
            // What goes wrong with the runs is no fault of the segment.
            let mut kept = Ok(());
            let mut take = |_: &Head, batch: Option<Batch>| {
                if let Some(batch) = batch.filter(|_| kept.is_ok()) {
                    kept = self.keep(batch, runs, seen);
                }
                Ok(())
            };
            let read = read::read(segment, &mut decoder, &mut take);
            kept?;
            let (mut damage, end) = read.inspect_err(|_| self.unreadable = Some(segment.number))?;
            if end < segment.end() {
                read::name(segment, end, segment.end(), "the log of telemetry ends in what cannot be read");
                damage.add(segment.end() - end);
            }
            // What the start that found it has counted, or an attempt before this one, is not counted again.
            if segment.damaged() == 0 {
                self.shelf.tally.damage(damage);
            }
            segment.set_damaged(segment.damaged().max(damage.bytes));
        }
        Ok(())
    }

    fn keep(&self, batch: Batch, runs: &mut Runs, seen: &mut seen::Writer) -> io::Result<()> {
        let digester = Digester::new(&self.key, batch.source.instance);
        let digests = batch.records.iter().map(|record| digester.digest(&record.uid));
        seen.add(batch.received_at, digests)?;
        runs.add(&batch.source, batch.records)
    }

    /// Writes all events of one partition, which the merge has next, to a file in its place.
    fn write_file(
        &self,
        (job, part, attempt): (u64, u32, u64),
        partition: &Partition,
        merge: &mut Merge,
        staging: &Path,
        made: &mut Made,
    ) -> io::Result<PathBuf> {
        let name = layout::file_name(&self.key, job, part, attempt);
        let staged = staging.join(&name);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&staged)?;
        let mut writer = Writer::new(file, partition.class, Seal::new(&self.key, &name))?;
        while let Some((instance, record)) = merge.next()? {
            writer.push(instance, record)?;
        }
        let not_ocsf = writer.finish()?;
        let directory = partition.directory(&self.directory);
        files::make_directories(&self.directory, &directory)?;
        let path = directory.join(name);
        made.files.push(path.clone());
        made.not_ocsf += not_ocsf;
        fs::rename(&staged, &path)?;
        Ok(path)
    }

    /// Forgets what is older, or more, than the settings allow.
    pub(crate) fn retire_old(&mut self, now: UnixTime) -> io::Result<()> {
        seen::retire(&self.directory, now)?;
        if self.has_bucket {
            retention::remove_old_days(&self.directory, &self.settings, now)?;
        } else {
            retention::retire(&self.directory, &self.settings, now, &mut self.parquet_bytes)?;
        }
        retention::retire_damaged(&self.directory, &self.settings, now)
    }

    #[cfg(test)]
    fn step(&self, number: usize) -> io::Result<()> {
        self.faults.at(number)
    }

    #[cfg(test)]
    fn is_powerless(&self) -> bool {
        self.faults.is_powerless()
    }

    #[cfg(not(test))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "a test may stop here")]
    fn step(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "a test may take the power")]
    fn is_powerless(&self) -> bool {
        false
    }
}

/// Removes a segment whose events are in Parquet. One that was damaged is kept for a person to look at, until it is old.
fn retire(path: &Path, is_damaged: bool) -> io::Result<()> {
    if !is_damaged {
        return files::remove(path);
    }
    match fs::rename(path, path.with_extension(DAMAGED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the files of `job` and of later ones from the tree, so that they do not come back; neither do those that somebody
/// has removed before without making sure.
fn remove_from(lake: &Path, job: u64) -> io::Result<()> {
    for directory in layout::directories(lake, &|_| true, &|_| true)? {
        for (made_by, path) in layout::files(&directory.path)? {
            if made_by >= job {
                files::remove(&path)?;
            }
        }
        files::sync_directory(&directory.path)?;
    }
    Ok(())
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
