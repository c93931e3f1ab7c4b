//! Sorts more events than fit into memory: sorted runs of bounded size, in files, to be merged.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use inborn_telemetry::{ClassUid, Record, Source};

use super::Told;
use super::merge::Merge;
use crate::layout::Partition;
use crate::settings::RECORD_BYTES_MAX;

/// How much of a run is in memory before it is written.
const RUN_BYTES: usize = 12 << 20;

/// How much of a run is compressed, and later read, at once.
const BLOCK_BYTES: usize = 128 << 10;

/// A block is ended by the event that reaches its size.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + 2 * RECORD_BYTES_MAX + 4096;

const LEVEL: i32 = 1;

/// Events that come in any order.
pub(super) struct Runs {
    directory: PathBuf,
    sources: Sources,
    current: Vec<(u32, Record)>,
    bytes: usize,
    spilled: Vec<File>,
}

/// Who told events, by number. As many as there are machines.
#[derive(Default)]
pub(super) struct Sources {
    numbers: HashMap<Source, u32>,
    sources: Vec<Source>,
}

impl Sources {
    fn number(&mut self, source: &Source) -> u32 {
        if let Some(number) = self.numbers.get(source) {
            return *number;
        }
        let number = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        self.numbers.insert(source.clone(), number);
        self.sources.push(source.clone());
        number
    }

    fn get(&self, number: u32) -> io::Result<&Source> {
        self.sources.get(number as usize).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    pub(super) fn told(&self, (number, record): (u32, Record)) -> io::Result<Told> {
        Ok((self.get(number)?.clone(), record))
    }

    /// What events are sorted by.
    pub(super) fn place(&self, number: u32, record: &Record) -> io::Result<(Partition, i64)> {
        Ok((Partition::of(self.get(number)?, record.class, record.time_ms), record.time_ms))
    }
}

impl Runs {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let (sources, current, spilled) = (Sources::default(), Vec::new(), Vec::new());
        Ok(Self { directory: directory.into(), sources, current, bytes: 0, spilled })
    }

    /// Adds events.
    pub(super) fn add(&mut self, source: &Source, records: Vec<Record>) -> io::Result<()> {
        let number = self.sources.number(source);
        for record in records {
            self.bytes += record.json.len() + record.uid.len() + size_of::<(u32, Record)>();
            self.current.push((number, record));
        }
        if self.bytes >= RUN_BYTES { self.spill() } else { Ok(()) }
    }

    /// All of them in order.
    pub(super) fn merge(mut self) -> io::Result<Merge> {
        self.sort()?;
        let mut readers = Vec::with_capacity(self.spilled.len() + 1);
        for file in self.spilled {
            readers.push(Reader::File(Blocks::new(file)?));
        }
        readers.push(Reader::Memory(self.current.into_iter()));
        Merge::new(self.sources, readers)
    }

    fn sort(&mut self) -> io::Result<()> {
        // Few partitions: numbering them in order first makes the comparison of events one of numbers.
        let mut partitions: Vec<Partition> = Vec::new();
        let mut known = HashMap::new();
        for (number, record) in &self.current {
            let (partition, _) = self.sources.place(*number, record)?;
            if known.insert(partition.clone(), 0_usize).is_none() {
                partitions.push(partition);
            }
        }
        partitions.sort();
        for (rank, partition) in partitions.into_iter().enumerate() {
            known.insert(partition, rank);
        }
        let sources = &self.sources;
        self.current.sort_by_cached_key(|(number, record)| {
            let partition = sources.place(*number, record).ok().map(|(partition, _)| partition);
            (partition.and_then(|partition| known.get(&partition).copied()), record.time_ms)
        });
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort()?;
        let path = self.directory.join(format!("run-{}", self.spilled.len()));
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        // Nobody else needs its name.
        std::fs::remove_file(&path)?;
        let mut zstd = zstd::bulk::Compressor::new(LEVEL)?;
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        for (number, record) in self.current.drain(..) {
            put(&mut block, number, &record);
            if block.len() >= BLOCK_BYTES {
                write_block(&mut file, &mut zstd, &mut block)?;
            }
        }
        write_block(&mut file, &mut zstd, &mut block)?;
        file.rewind()?;
        self.spilled.push(file);
        self.bytes = 0;
        Ok(())
    }
}

fn put(block: &mut Vec<u8>, number: u32, record: &Record) {
    block.extend_from_slice(&number.to_le_bytes());
    block.extend_from_slice(&record.class.0.to_le_bytes());
    block.extend_from_slice(&record.time_ms.to_le_bytes());
    for text in [&record.uid, &record.json] {
        block.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        block.extend_from_slice(text.as_bytes());
    }
}

fn write_block(file: &mut File, zstd: &mut zstd::bulk::Compressor<'_>, block: &mut Vec<u8>) -> io::Result<()> {
    let stored = zstd.compress(block)?;
    let length = |length: usize| u32::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    file.write_all(&length(stored.len())?.to_le_bytes())?;
    file.write_all(&length(block.len())?.to_le_bytes())?;
    file.write_all(&stored)?;
    block.clear();
    Ok(())
}

/// A run that is read.
pub(super) enum Reader {
    Memory(std::vec::IntoIter<(u32, Record)>),
    File(Blocks),
}

impl Reader {
    pub(super) fn next(&mut self) -> io::Result<Option<(u32, Record)>> {
        match self {
            Self::Memory(records) => Ok(records.next()),
            Self::File(blocks) => blocks.next(),
        }
    }
}

/// A run in a file.
pub(super) struct Blocks {
    file: BufReader<File>,
    zstd: zstd::bulk::Decompressor<'static>,
    block: Vec<u8>,
    at: usize,
}

impl Blocks {
    fn new(file: File) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(file), zstd: zstd::bulk::Decompressor::new()?, block: Vec::new(), at: 0 })
    }

    fn next(&mut self) -> io::Result<Option<(u32, Record)>> {
        if self.at >= self.block.len() && !self.read_block()? {
            return Ok(None);
        }
        let rest = self.block.get(self.at..).unwrap_or_default();
        let (record, after) = take(rest).ok_or(io::ErrorKind::InvalidData)?;
        self.at = self.block.len() - after.len();
        Ok(Some(record))
    }

    fn read_block(&mut self) -> io::Result<bool> {
        let mut lengths = [[0; 4]; 2];
        for length in &mut lengths {
            match self.file.read_exact(length) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                read => read?,
            }
        }
        let [stored, raw] = lengths.map(|length| u32::from_le_bytes(length) as usize);
        if stored.max(raw) > 2 * BLOCK_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; stored];
        self.file.read_exact(&mut bytes)?;
        self.block = self.zstd.decompress(&bytes, raw)?;
        self.at = 0;
        Ok(!self.block.is_empty())
    }
}

fn take(rest: &[u8]) -> Option<((u32, Record), &[u8])> {
    let (number, rest) = rest.split_first_chunk::<4>()?;
    let (class, rest) = rest.split_first_chunk::<4>()?;
    let (time_ms, rest) = rest.split_first_chunk::<8>()?;
    let (uid, rest) = text(rest)?;
    let (json, rest) = text(rest)?;
    let class = ClassUid(u32::from_le_bytes(*class));
    let record = Record { uid: uid.into(), time_ms: i64::from_le_bytes(*time_ms), class, json: json.into() };
    Some(((u32::from_le_bytes(*number), record), rest))
}

fn text(rest: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((core::str::from_utf8(text).ok()?, rest))
}
