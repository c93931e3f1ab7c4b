//! What becomes of audit files that are full: their names, their order, compression and the end of their life.
//!
//! Every step can be the last one before a crash. A compressed file appears under its name only when all of it is on
//! the disk, and only then does the plain one go; whoever lists them takes two of one number for one.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use inborn_identity::UnixTime;

/// When files are full and how long they are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// A line that would make the file longer than this begins a new one.
    pub file_bytes_max: u64,
    /// Files whose newest line is older than this are removed.
    pub keep_seconds: u64,
    /// The oldest files are removed so that those left take up no more than this, the current one not counted.
    pub keep_bytes: u64,
}

impl Rotation {
    /// 64 MiB a file; kept for 400 days, as long as all of them together do not exceed 10 GiB: a year's records stay
    /// at hand through the audit of that year, and the disk has a bound.
    pub const DEFAULT: Self = Self { file_bytes_max: 64 << 20, keep_seconds: 400 * 86_400, keep_bytes: 10 << 30 };
}

impl Default for Rotation {
    fn default() -> Self {
        Self::DEFAULT
    }
}

const COMPRESSED: &str = ".gz";
/// Beside a file that is being made.
pub(super) const UNFINISHED: &str = ".new";
const CHUNK_BYTES: usize = 64 << 10;

/// A file that was rotated away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Archive {
    /// Not before the times of its lines.
    pub(super) time: UnixTime,
    /// Its place in the order, from 1; each archive's is one more than that of the one before.
    pub(super) number: u64,
    /// Where it is while it is not compressed.
    pub(super) plain: PathBuf,
    has_plain: bool,
    has_compressed: bool,
}

impl Archive {
    /// The archive of this number that belongs to the current file `path`.
    pub(super) fn new(path: &Path, time: UnixTime, number: u64) -> Self {
        let plain = path.with_file_name(format!("{}-{}-{number}.jsonl", stem(path), time.basic()));
        Self { time, number, plain, has_plain: false, has_compressed: false }
    }

    /// From a file's name, which must be exactly as [`Archive::new`] makes it.
    fn parse(path: &Path, name: &str) -> Option<Self> {
        let (plain, is_compressed) = name.strip_suffix(COMPRESSED).map_or((name, false), |plain| (plain, true));
        let rest = plain.strip_prefix(stem(path))?.strip_prefix('-')?.strip_suffix(".jsonl")?;
        let (time, number) = rest.split_once('-')?;
        let number: NonZeroU64 = number.parse().ok()?;
        let mut archive = Self::new(path, UnixTime::parse_basic(time.as_bytes()).ok()?, number.get());
        if archive.plain.file_name()?.to_str()? != plain {
            return None;
        }
        (archive.has_plain, archive.has_compressed) = (!is_compressed, is_compressed);
        Some(archive)
    }

    pub(super) fn compressed(&self) -> PathBuf {
        beside(&self.plain, COMPRESSED)
    }

    /// Opens it for reading, in whichever form it is now: it may have been compressed since it was listed.
    pub(super) fn open(&self) -> io::Result<(PathBuf, Box<dyn BufRead + Send>)> {
        match File::open(&self.plain) {
            Ok(file) => Ok((self.plain.clone(), Box::new(BufReader::with_capacity(CHUNK_BYTES, file)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let path = self.compressed();
                let decoder = MultiGzDecoder::new(BufReader::with_capacity(CHUNK_BYTES, File::open(&path)?));
                Ok((path, Box::new(BufReader::with_capacity(CHUNK_BYTES, decoder))))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes it a compressed file. Until that is done, and after any failure, it is as it was.
    fn compress(&self, stop: &AtomicBool) -> io::Result<()> {
        let unfinished = beside(&self.compressed(), UNFINISHED);
        let write = || -> io::Result<()> {
            let mut from = File::open(&self.plain)?;
            let to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            // Lines of an audit are so alike that the default level takes more than twice as long for a tenth less.
            let mut encoder = GzEncoder::new(BufWriter::with_capacity(CHUNK_BYTES, to), Compression::fast());
            let mut chunk = vec![0; CHUNK_BYTES];
            loop {
                if stop.load(Ordering::Relaxed) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let length = from.read(&mut chunk)?;
                let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else { break };
                encoder.write_all(read)?;
            }
            encoder.finish()?.into_inner()?.sync_all()?;
            std::fs::rename(&unfinished, self.compressed())?;
            sync_directory(&self.plain)?;
            std::fs::remove_file(&self.plain)
        };
        write().inspect_err(|_| {
            let _ = std::fs::remove_file(&unfinished);
        })
    }

    /// The bytes it takes up.
    fn bytes(&self) -> u64 {
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        length(&self.plain) + length(&self.compressed())
    }

    fn remove(&self) -> io::Result<()> {
        for path in [self.plain.clone(), self.compressed()] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The archives of the current file `path`, oldest first, each once.
pub(super) fn list(path: &Path) -> io::Result<Vec<Archive>> {
    let mut all: BTreeMap<u64, Archive> = BTreeMap::new();
    for entry in std::fs::read_dir(directory(path))? {
        let name = entry?.file_name();
        let Some(found) = name.to_str().and_then(|name| Archive::parse(path, name)) else { continue };
        let known = all.entry(found.number).or_insert_with(|| found.clone());
        known.has_plain |= found.has_plain;
        known.has_compressed |= found.has_compressed;
    }
    Ok(all.into_values().collect())
}

/// Ends what a crash left undone, compresses what is not, and removes what is past its time. Every archive is tried; the
/// first error is given back.
pub(super) fn tidy(path: &Path, rotation: Rotation, now: UnixTime, stop: &AtomicBool) -> io::Result<()> {
    let mut result = sync_directory(path);
    let mut keep = |outcome: io::Result<()>| {
        if result.is_ok() {
            result = outcome;
        }
    };
    for archive in list(path)? {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        match (archive.has_plain, archive.has_compressed) {
            // The compressed one is whole, or it would not have this name.
            (true, true) => keep(std::fs::remove_file(&archive.plain)),
            (true, false) => match archive.compress(stop) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
                outcome => keep(outcome),
            },
            (false, _) => {}
        }
    }
    let mut bytes: u64 = 0;
    for archive in list(path)?.into_iter().rev() {
        bytes = bytes.saturating_add(archive.bytes());
        if bytes > rotation.keep_bytes || now.since(archive.time) > rotation.keep_seconds {
            // All that are older go with it: a record with holes is none.
            bytes = u64::MAX;
            keep(archive.remove());
        }
    }
    result
}

/// Makes the names in the directory of `path` last.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `path` with `suffix` at the end of its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("audit")
}
