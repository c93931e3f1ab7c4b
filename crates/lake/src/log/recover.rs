//! What a start makes of the log that it finds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inborn_telemetry::Batch;

use super::frame::Head;
use super::payload::Decoder;
use super::read::{self, Damage};
use super::segment::{SUFFIX, Segment};
use crate::files;
use crate::recent::{Digester, Key, Recent};

/// What names of files end with that cannot be read. They are kept for a person to look at.
pub(crate) const DAMAGED: &str = "damaged";

/// So many bytes at the end of a segment that was being written are zeros, but where the file system sets nothing aside: there, a
/// frame that was being written is taken for one that was destroyed, and a segment more is kept.
const SET_ASIDE_BYTES: u64 = 16;

/// The log as it was found.
pub(crate) struct Recovered {
    /// Segments with at least one event.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// The number that the next segment gets.
    pub(crate) next_number: u64,
    /// What of it cannot be read.
    pub(crate) damage: Damage,
}

/// Reads every segment, cuts torn ends, and remembers the uids. `below`: numbers that were given away already.
pub(crate) fn recover(directory: &Path, below: u64, key: &Key, recent: &mut Recent) -> io::Result<Recovered> {
    let mut segments = Vec::new();
    let mut next_number = below;
    let mut decoder = Decoder::new()?;
    let mut damage = Damage::default();
    for (number, path) in named(directory, SUFFIX)? {
        next_number = next_number.max(number.saturating_add(1));
        let Some(segment) = Segment::open(&path)? else {
            set_aside_headless(&path, &mut damage)?;
            continue;
        };
        let segment = scan(segment, key, recent, &mut decoder, &mut damage)?;
        if segment.records() == 0 && segment.damaged() == 0 {
            files::remove(&path)?;
        } else {
            segments.push(Arc::new(segment));
        }
    }
    Ok(Recovered { segments, next_number, damage })
}

/// Files `{number}.{suffix}`, in the order of their numbers.
pub(crate) fn named(directory: &Path, suffix: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| u64::from_str_radix(stem, 16).ok());
        if let Some(number) = stem
            && path.extension().is_some_and(|extension| extension == suffix)
        {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// A segment is used only once its header is durable: without one it never held anything, or something was destroyed.
fn set_aside_headless(path: &Path, damage: &mut Damage) -> io::Result<()> {
    let file = fs::File::open(path)?;
    if is_zero_from(&file, 0)? {
        return files::remove(path);
    }
    damage.add(file.metadata()?.len());
    tracing::error!(segment = %path.display(), "a segment of the log has no readable header: it is kept, and cannot be read");
    fs::rename(path, path.with_extension(DAMAGED))
}

fn is_zero_from(file: &fs::File, from: u64) -> io::Result<bool> {
    use io::{Read as _, Seek as _};
    let mut file = file;
    file.seek(io::SeekFrom::Start(from))?;
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut bytes)?;
        if read == 0 {
            return Ok(true);
        }
        if bytes.iter().take(read).any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
}

/// Finds the end of a segment, what of it is damaged, and what it holds.
fn scan(
    segment: Segment,
    key: &Key,
    recent: &mut Recent,
    decoder: &mut Decoder,
    total: &mut Damage,
) -> io::Result<Segment> {
    let length = segment.file.metadata()?.len();
    segment.set_end(length);
    let mut take = |head: &Head, batch: Option<Batch>| {
        segment.note(head);
        let Some(batch) = batch else { return Ok(()) };
        let digester = Digester::new(key, batch.source.instance);
        for record in &batch.records {
            recent.insert(digester.digest(&record.uid), batch.received_at);
        }
        Ok(())
    };
    let (mut damage, end) = read::read(&segment, decoder, &mut take)?;
    segment.set_end(end);
    // A segment that was ended has nothing behind its last frame, and one that was being written zeros that were set aside.
    // So what goes on to the very end of the file was acknowledged, and was destroyed since: it is kept as it is.
    if end < length && !is_zero_from(&segment.file, length.saturating_sub(SET_ASIDE_BYTES).max(end))? {
        read::name(&segment, end, length, "the log of telemetry ends in what cannot be read");
        damage.add(length - end);
    } else if end < length {
        if !is_zero_from(&segment.file, end)? {
            let (file, bytes) = (segment.path.display(), length - end);
            tracing::warn!(%file, end, bytes, "the log ends in the middle of a frame, which was cut: it was not acknowledged");
        }
        segment.seal()?;
    }
    segment.set_damaged(damage.bytes);
    total.places += damage.places;
    total.bytes += damage.bytes;
    Ok(segment)
}
