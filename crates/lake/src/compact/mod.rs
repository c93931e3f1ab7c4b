//! Compaction: the log becomes Parquet, and what is old goes.
//!
//! A job takes segments of the log that are not written any more and makes files of them. A crash at any point loses
//! nothing and leaves nothing twice:
//!
//! 1. The manifest names the job and its segments, and that it is being *written*. (Before: nothing has happened.)
//! 2. The files are written elsewhere, synced, and renamed to where they belong; the directories are synced. Their names
//!    hold the number of the job. (A crash: the next start finds the manifest, removes every file of that job, and does it
//!    again. The segments are all there.)
//! 3. What the window of uids must know of the segments is written beside the log.
//! 4. The manifest says that the job is *written*. From here on the files count and the segments do not. (A crash: the next
//!    start removes what is left of the segments.)
//! 5. The segments are removed.
//!
//! Readers in this process see step 4 as one change of the [`Shelf`](crate::shelf::Shelf): they pass over files of later
//! jobs. Readers of the tree never see the log, so that for them there is nothing twice at any time.

mod manifest;
mod merge;
mod retention;
mod run;
pub(crate) mod seen;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inborn_identity::UnixTime;
use inborn_telemetry::Source;

pub(crate) use manifest::Manifest;

use self::merge::Merge;
use self::run::Runs;
use crate::files;
use crate::layout::{self, Partition};
use crate::log::frame::Step;
use crate::log::payload::Decoder;
use crate::log::recover::DAMAGED;
use crate::log::segment::{HEADER_BYTES, Segment};
use crate::parquet::write::Writer;
use crate::recent::{self, Key};
use crate::settings::{COMPACT_BYTES, COMPACT_SECONDS, JOB_RAW_BYTES_MAX, Settings};
use crate::shelf::Shelf;

const STAGING: &str = "staging";

/// Makes Parquet of the log. One at a time.
pub(crate) struct Compactor {
    pub(crate) directory: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) key: Key,
    pub(crate) shelf: Arc<Shelf>,
    /// What the tree takes, once it was counted.
    pub(crate) parquet_bytes: Option<u64>,
    /// Where a test stops as if the power had gone.
    #[cfg(test)]
    pub(crate) stop_after: Option<usize>,
}

impl Compactor {
    /// Finishes what a crash interrupted. `segments` are those that were found; those that no longer count are removed
    /// and left out.
    pub(crate) fn resume(directory: &Path, segments: Vec<Arc<Segment>>) -> io::Result<(Vec<Arc<Segment>>, u64)> {
        let staging = directory.join(STAGING);
        if staging.exists() {
            fs::remove_dir_all(&staging)?;
        }
        let Some(manifest) = Manifest::read(directory)? else { return Ok((segments, 0)) };
        if !manifest.written {
            // The job will be done again, of what segments ever, and perhaps into other files.
            for directory in layout::directories(directory, &|_| true, &|_| true)? {
                for (job, path) in layout::files(&directory.path)? {
                    if job >= manifest.job {
                        files::remove(&path)?;
                    }
                }
            }
            return Ok((segments, manifest.job.saturating_sub(1)));
        }
        let (done, rest): (Vec<_>, Vec<_>) =
            segments.into_iter().partition(|segment| manifest.segments.contains(&segment.number));
        done.iter().try_for_each(|segment| retire(segment))?;
        Ok((rest, manifest.job))
    }

    /// Whether the log is old or long enough to become Parquet.
    pub(crate) fn due(&self, now: UnixTime) -> bool {
        let segments = self.shelf.snapshot().segments;
        let bytes: u64 = segments.iter().map(|segment| segment.end()).sum();
        let oldest = segments.iter().filter(|segment| segment.records() > 0).map(|segment| segment.opened_at).min();
        bytes >= COMPACT_BYTES || oldest.is_some_and(|oldest| now.since(oldest) >= COMPACT_SECONDS)
    }

    /// Makes Parquet of segments that are not written any more, in jobs of bounded size.
    pub(crate) fn compact(&mut self, segments: &[Arc<Segment>]) -> io::Result<()> {
        let mut rest = segments;
        while let Some(first) = rest.first() {
            let mut raw = first.raw();
            let more = rest.iter().skip(1).take_while(|segment| {
                raw = raw.saturating_add(segment.raw());
                raw <= JOB_RAW_BYTES_MAX
            });
            let (job, after) = rest.split_at(1 + more.count());
            self.job(job)?;
            rest = after;
        }
        Ok(())
    }

    fn job(&mut self, segments: &[Arc<Segment>]) -> io::Result<()> {
        let job = self.shelf.snapshot().job + 1;
        if job > layout::JOB_MAX {
            return Err(io::Error::other("there are no more numbers for jobs"));
        }
        let numbers: Vec<u64> = segments.iter().map(|segment| segment.number).collect();
        Manifest { job, written: false, segments: numbers.clone() }.write(&self.directory)?;
        self.step(1)?;
        let staging = self.directory.join(STAGING);
        fs::create_dir_all(&staging)?;
        let mut made = Vec::new();
        let written = self.write(job, segments, &staging, &mut made);
        if written.is_err() && !self.stopped() {
            // The next attempt is made under the same number, perhaps of more segments.
            made.iter().for_each(|path| drop(fs::remove_file(path)));
            let _ = fs::remove_dir_all(&staging);
        }
        written?;
        Manifest { job, written: true, segments: numbers.clone() }.write(&self.directory)?;
        self.shelf.complete(job, &numbers);
        self.step(5)?;
        for segment in segments {
            retire(segment)?;
            self.step(6)?;
        }
        fs::remove_dir_all(&staging)?;
        let bytes: u64 = made.iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum();
        self.parquet_bytes = self.parquet_bytes.map(|total| total + bytes);
        tracing::debug!(job, segments = numbers.len(), files = made.len(), bytes, "telemetry became Parquet");
        Ok(())
    }

    /// Steps 2 and 3.
    fn write(&self, job: u64, segments: &[Arc<Segment>], staging: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
        let mut runs = Runs::new(staging)?;
        let mut seen = seen::Writer::create(&self.directory, job, staging)?;
        self.read_into(segments, &mut runs, &mut seen)?;
        let mut merge = runs.merge()?;
        let mut part = 0;
        let mut directories = BTreeSet::new();
        while let Some(partition) = merge.partition()? {
            let path = self.write_file(job, part, &partition, &mut merge, staging, made)?;
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
    fn read_into(&self, segments: &[Arc<Segment>], runs: &mut Runs, seen: &mut seen::Writer) -> io::Result<()> {
        let mut decoder = Decoder::new()?;
        for segment in segments {
            let mut frames = segment.frames(HEADER_BYTES);
            while let Some(step) = frames.next(|_| true)? {
                // Damage was named at the start that found it; a frame that is whole and unreadable as well.
                let Step::Frame { head, .. } = step else { continue };
                let Some(batch) = decoder.decode(frames.payload(), head.raw) else { continue };
                let instance = batch.source.instance;
                let digests = batch.records.iter().map(|record| recent::digest(&self.key, instance, &record.uid));
                seen.add(batch.received_at, digests)?;
                runs.add(&batch.source, batch.records)?;
            }
        }
        Ok(())
    }

    /// Writes all events of one partition, which the merge has next, to a file in its place.
    fn write_file(
        &self,
        job: u64,
        part: u32,
        partition: &Partition,
        merge: &mut Merge,
        staging: &Path,
        made: &mut Vec<PathBuf>,
    ) -> io::Result<PathBuf> {
        let name = layout::file_name(&self.key, job, part);
        let staged = staging.join(&name);
        let mut writer = Writer::new(File::create(&staged)?, partition.class)?;
        while let Some((source, record)) = merge.next_of(partition)? {
            writer.push(source.instance, &record)?;
        }
        writer.finish()?;
        let directory = partition.directory(&self.directory);
        files::make_directories(&self.directory, &directory)?;
        let path = directory.join(name);
        made.push(path.clone());
        fs::rename(&staged, &path)?;
        Ok(path)
    }

    /// Forgets what is older, or more, than the settings allow.
    pub(crate) fn retire_old(&mut self, now: UnixTime) -> io::Result<()> {
        seen::retire(&self.directory, now)?;
        retention::retire(&self.directory, &self.settings, now, &mut self.parquet_bytes)
    }

    #[cfg(test)]
    fn step(&self, number: usize) -> io::Result<()> {
        if self.stop_after == Some(number) { Err(io::Error::other("stopped by a test")) } else { Ok(()) }
    }

    #[cfg(test)]
    fn stopped(&self) -> bool {
        self.stop_after.is_some()
    }

    #[cfg(not(test))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "a test may stop here")]
    fn step(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "a test may stop")]
    fn stopped(&self) -> bool {
        false
    }
}

/// Removes a segment whose events are in Parquet. One that was damaged is kept for a person to look at, until it is old.
fn retire(segment: &Segment) -> io::Result<()> {
    if segment.damaged == 0 {
        return files::remove(&segment.path);
    }
    match fs::rename(&segment.path, segment.path.with_extension(DAMAGED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An event with who told it, as runs and merges pass it on.
pub(crate) type Told = (Source, inborn_telemetry::Record);
