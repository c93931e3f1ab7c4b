//! Batches on disk while the region is away: one file each, oldest first, with a bound.
//!
//! ```text
//! DIRECTORY/INSTANCE/lock                       held while a sensor runs
//! DIRECTORY/INSTANCE/SEQUENCE-COUNT.ndjson.gz   16 hexadecimal digits; events in it
//! ```
//!
//! A directory per instance: a disk that was copied must not make one machine tell what another saw. gzip has a checksum, so
//! that a torn file is known for one.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rustix::fs::{FlockOperation, flock};

use super::batch::{BATCH_BYTES_MAX, Batch};
use super::outlet::EVENT_BYTES_MAX;

/// Bytes that a spool takes on disk at most, unless told otherwise.
pub const SPOOL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Batches in a spool.
pub const SPOOL_FILES_MAX: usize = 65_536;
const SUFFIX: &str = ".ndjson.gz";
const TEMPORARY: &str = "writing.tmp";

/// Why there is no spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It cannot be made or read.
    #[error("cannot use the directory {path} for events that wait: {source}; name another with --spool")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else could change what this machine tells.
    #[error("others may write to {path}, or own it: events may not wait there. Make it this user's, with mode 0700")]
    Exposed {
        /// Which.
        path: PathBuf,
    },
    /// A second sensor would send the same again.
    #[error("another sensor uses {path}; end it, or name another directory with --spool")]
    InUse {
        /// Which.
        path: PathBuf,
    },
}

struct Waiting {
    path: PathBuf,
    events: u64,
    bytes: u64,
}

/// The directory of one instance.
pub(crate) struct Spool {
    directory: PathBuf,
    bytes_max: u64,
    files_max: usize,
    bytes: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Holds the lock as long as it is open.
    _lock: File,
}

impl Spool {
    /// Opens the directory of `instance` in `base`, with what an earlier sensor has left there.
    ///
    /// # Errors
    /// See [`SpoolError`].
    pub(crate) fn open(base: &Path, instance: &str, bytes_max: u64) -> Result<Self, SpoolError> {
        let directory = base.join(instance);
        let failed = |source| SpoolError::Directory { path: directory.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        for path in [base, &directory] {
            let meta = fs::metadata(path).map_err(failed)?;
            if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
                return Err(SpoolError::Exposed { path: path.to_owned() });
            }
        }
        let lock = private().create(true).truncate(false).open(directory.join("lock")).map_err(failed)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(SpoolError::InUse { path: directory });
        }
        let _ = fs::remove_file(directory.join(TEMPORARY));
        let mut spool =
            Self { directory, bytes_max, files_max: SPOOL_FILES_MAX, bytes: 0, waiting: BTreeMap::new(), _lock: lock };
        spool.find().map_err(|source| SpoolError::Directory { path: spool.directory.clone(), source })?;
        Ok(spool)
    }

    fn find(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let Some((sequence, events)) = entry.file_name().to_str().and_then(parse_name) else { continue };
            let bytes = entry.metadata()?.len();
            self.bytes += bytes;
            self.waiting.insert(sequence, Waiting { path: entry.path(), events, bytes });
        }
        Ok(())
    }

    /// The sequence number after all that are there.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.waiting.last_key_value().map_or(0, |(last, _)| last.saturating_add(1))
    }

    /// The oldest batch.
    pub(crate) fn first(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|(sequence, _)| *sequence)
    }

    /// Events that wait.
    pub(crate) fn events(&self) -> u64 {
        self.waiting.values().map(|waiting| waiting.events).sum()
    }

    /// Where they wait.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a batch; it is on disk when this returns. Returns how many events had to go for it.
    pub(crate) fn write(&mut self, sequence: u64, batch: &Batch) -> io::Result<u64> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        for line in batch.lines() {
            encoder.write_all(line.as_bytes())?;
            encoder.write_all(b"\n")?;
        }
        let compressed = encoder.finish()?;
        let bytes = u64::try_from(compressed.len()).unwrap_or(u64::MAX);
        let dropped = self.make_room(bytes);
        let events = u64::try_from(batch.len()).unwrap_or_default();
        let path = self.directory.join(format!("{sequence:016x}-{events}{SUFFIX}"));
        let temporary = self.directory.join(TEMPORARY);
        let mut file = private().create(true).truncate(true).open(&temporary)?;
        file.write_all(&compressed)?;
        file.sync_data()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.directory)?.sync_data()?;
        self.bytes += bytes;
        self.waiting.insert(sequence, Waiting { path, events, bytes });
        Ok(dropped)
    }

    /// Takes the oldest away until so many bytes more have room.
    fn make_room(&mut self, bytes: u64) -> u64 {
        let mut dropped = 0;
        while self.bytes.saturating_add(bytes) > self.bytes_max || self.waiting.len() >= self.files_max {
            let Some(first) = self.first() else { break };
            dropped += self.remove(first);
        }
        dropped
    }

    /// Reads a batch; nothing if it is torn or gone.
    pub(crate) fn read(&self, sequence: u64) -> Option<Batch> {
        let waiting = self.waiting.get(&sequence)?;
        let file = File::open(&waiting.path).ok()?;
        let limit = u64::try_from(BATCH_BYTES_MAX + EVENT_BYTES_MAX).unwrap_or(u64::MAX).saturating_mul(2);
        let mut text = String::new();
        GzDecoder::new(file).take(limit).read_to_string(&mut text).ok()?;
        let mut batch = Batch::default();
        text.lines().for_each(|line| batch.push(line.to_owned()));
        Some(batch).filter(|batch| !batch.is_empty())
    }

    /// Takes a batch away; says how many events it had.
    pub(crate) fn remove(&mut self, sequence: u64) -> u64 {
        let Some(waiting) = self.waiting.remove(&sequence) else { return 0 };
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
        let _ = fs::remove_file(&waiting.path);
        waiting.events
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    options
}

fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (sequence, events) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    Some((u64::from_str_radix(sequence, 16).ok().filter(|_| sequence.len() == 16)?, events.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn batch(lines: &[&str]) -> Batch {
        let mut batch = Batch::default();
        lines.iter().for_each(|line| batch.push((*line).to_owned()));
        batch
    }

    fn private_directory() -> tempfile::TempDir {
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o700)).unwrap();
        base
    }

    #[test]
    fn what_was_written_is_there_after_a_restart_in_order() {
        let base = private_directory();
        let mut spool = Spool::open(base.path(), "i-1", SPOOL_BYTES_MAX).unwrap();
        assert_eq!((spool.next_sequence(), spool.first()), (0, None));
        spool.write(7, &batch(&["c"])).unwrap();
        spool.write(3, &batch(&["a", "b"])).unwrap();
        drop(spool);
        fs::write(base.path().join("i-1").join(TEMPORARY), "torn").unwrap();
        let mut spool = Spool::open(base.path(), "i-1", SPOOL_BYTES_MAX).unwrap();
        assert_eq!((spool.next_sequence(), spool.first(), spool.events()), (8, Some(3), 3));
        assert_eq!(spool.read(3).unwrap().lines(), ["a", "b"]);
        assert_eq!((spool.remove(3), spool.first(), spool.events()), (2, Some(7), 1));
        let mode = fs::metadata(base.path().join("i-1/0000000000000007-1.ndjson.gz")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn of_another_instance_nothing_is_seen() {
        let base = private_directory();
        Spool::open(base.path(), "i-1", SPOOL_BYTES_MAX).unwrap().write(0, &batch(&["a"])).unwrap();
        assert_eq!(Spool::open(base.path(), "i-2", SPOOL_BYTES_MAX).unwrap().events(), 0);
    }

    #[test]
    fn bytes_below_at_and_above_the_limit() {
        for (spare, dropped) in [(1, 0), (0, 0), (-1, 1)] {
            let base = private_directory();
            let mut spool = Spool::open(base.path(), "i-1", SPOOL_BYTES_MAX).unwrap();
            spool.write(0, &batch(&["a"])).unwrap();
            let one = spool.bytes;
            spool.bytes_max = (one * 2).saturating_add_signed(spare);
            assert_eq!(spool.write(1, &batch(&["b"])).unwrap(), dropped);
            assert_eq!(spool.first(), Some(if dropped == 0 { 0 } else { 1 }));
            assert!(spool.bytes <= spool.bytes_max);
        }
    }

    #[test]
    fn files_below_at_and_above_the_limit() {
        let base = private_directory();
        let mut spool = Spool::open(base.path(), "i-1", SPOOL_BYTES_MAX).unwrap();
        spool.files_max = 3;
        let dropped = [0, 1, 2, 3].map(|sequence| spool.write(sequence, &batch(&["a", "b"])).unwrap());
        assert_eq!((dropped, spool.first()), ([0, 0, 0, 2], Some(1)));
    }

    #[test]
    fn a_torn_file_is_no_batch() {
        let base = private_directory();
        let mut spool = Spool::open(base.path(), "i-1", SPOOL_BYTES_MAX).unwrap();
        spool.write(0, &batch(&["a line that is torn"])).unwrap();
        let path = base.path().join("i-1/0000000000000000-1.ndjson.gz");
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert!(spool.read(0).is_none(), "{end} of {} bytes", whole.len());
        }
        fs::write(&path, &whole).unwrap();
        assert!(spool.read(0).is_some());
    }

    #[test]
    fn directories_that_may_not_be_used() {
        let base = private_directory();
        let held = Spool::open(base.path(), "i-1", SPOOL_BYTES_MAX).unwrap();
        assert!(matches!(Spool::open(base.path(), "i-1", SPOOL_BYTES_MAX), Err(SpoolError::InUse { .. })));
        drop(held);
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(Spool::open(base.path(), "i-1", SPOOL_BYTES_MAX), Err(SpoolError::Exposed { .. })));
        assert!(matches!(Spool::open(Path::new("/proc/x"), "i-1", 1), Err(SpoolError::Directory { .. })));
    }

    #[test]
    fn names_that_are_none() {
        assert_eq!(parse_name("00000000000000ff-12.ndjson.gz"), Some((255, 12)));
        for bad in ["", "lock", "ff-1.ndjson.gz", "00000000000000ff-x.ndjson.gz", "00000000000000ff-1.ndjson"] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
    }
}
