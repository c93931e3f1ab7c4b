//! The uids of events that are in Parquet, for the window of a later start: digests, as long as they may matter.
//!
//! ```text
//! "INBSEEN2" 8 | ( received at 8 | count 4 | digests 16 × count )… | CRC-32C of everything before 4
//! ```

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use inborn_identity::UnixTime;

use crate::files;
use crate::log::recover::named;
use crate::recent::{Digest, Recent};
use crate::settings::{WINDOW_ENTRIES, WINDOW_SECONDS};

const MAGIC: &[u8; 8] = b"INBSEEN2";
const SUFFIX: &str = "seen";
const DIRECTORY: &str = "log";

/// Digests of one job that are being written.
pub(super) struct Writer {
    file: BufWriter<File>,
    crc: u32,
    staged: PathBuf,
    path: PathBuf,
}

impl Writer {
    pub(super) fn create(lake: &Path, job: u64, staging: &Path) -> io::Result<Self> {
        let name = format!("{job:016x}.{SUFFIX}");
        let staged = staging.join(&name);
        let file = BufWriter::new(File::create(&staged)?);
        let mut writer = Self { file, crc: 0, staged, path: lake.join(DIRECTORY).join(name) };
        writer.put(MAGIC)?;
        Ok(writer)
    }

    /// Adds what came at one moment.
    pub(super) fn add(&mut self, at: UnixTime, digests: impl ExactSizeIterator<Item = Digest>) -> io::Result<()> {
        self.put(&at.as_secs().to_le_bytes())?;
        self.put(&u32::try_from(digests.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        for digest in digests {
            self.put(&digest.to_le_bytes())?;
        }
        Ok(())
    }

    /// Puts it in its place, durably.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let crc = self.crc;
        self.file.write_all(&crc.to_le_bytes())?;
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&self.staged, &self.path)?;
        files::sync_directory(self.path.parent().unwrap_or(&self.path))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.file.write_all(bytes)
    }
}

/// Remembers what is known of jobs up to `job`, the oldest first. A file that cannot be read costs that some events may be
/// kept twice, and nothing else.
pub(crate) fn load(lake: &Path, job: u64, recent: &mut Recent) -> io::Result<()> {
    for (number, path) in named(&lake.join(DIRECTORY), SUFFIX)? {
        if number > job {
            files::remove(&path)?;
        } else if let Err(error) = load_one(&path, recent) {
            tracing::warn!(file = %path.display(), %error, "what was seen before cannot be read: events that are sent again may be kept twice");
        }
    }
    Ok(())
}

/// Reads without having a whole file in memory; that its CRC is wrong shows when it is too late, and does no harm: a digest
/// that nobody sent is not met.
fn load_one(path: &Path, recent: &mut Recent) -> io::Result<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut file = io::BufReader::new(file);
    let mut crc = 0;
    let mut left = length.checked_sub(4).ok_or(io::ErrorKind::InvalidData)?;
    let mut read = |bytes: &mut [u8], left: &mut u64| -> io::Result<()> {
        *left = left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
        file.read_exact(bytes)?;
        crc = crc32c::crc32c_append(crc, bytes);
        Ok(())
    };
    let mut magic = [0; 8];
    read(&mut magic, &mut left)?;
    if &magic != MAGIC {
        return Err(io::ErrorKind::InvalidData.into());
    }
    while left > 0 {
        let (mut at, mut count) = ([0; 8], [0; 4]);
        read(&mut at, &mut left)?;
        read(&mut count, &mut left)?;
        for _ in 0..u32::from_le_bytes(count) {
            let mut digest = [0; 16];
            read(&mut digest, &mut left)?;
            recent.insert(Digest::from_le_bytes(digest), UnixTime::from_secs(u64::from_le_bytes(at)));
        }
    }
    let mut expected = [0; 4];
    file.read_exact(&mut expected)?;
    if u32::from_le_bytes(expected) == crc { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Removes files that nothing will be remembered of: too old by their last write, or behind as many newer ones as fit.
pub(super) fn retire(lake: &Path, now: UnixTime) -> io::Result<()> {
    let mut bytes = 0;
    for (_, path) in named(&lake.join(DIRECTORY), SUFFIX)?.into_iter().rev() {
        let enough = bytes > 16 * WINDOW_ENTRIES as u64;
        let metadata = fs::metadata(&path)?;
        bytes += metadata.len();
        if enough || age(&metadata, now) > WINDOW_SECONDS {
            files::remove(&path)?;
        }
    }
    Ok(())
}

/// How long ago a file was written.
pub(super) fn age(metadata: &fs::Metadata, now: UnixTime) -> u64 {
    let written = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    now.since(UnixTime::from_secs(written.map_or(now.as_secs(), |at| at.as_secs())))
}
