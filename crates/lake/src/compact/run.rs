//! Sorts more events than fit into memory: sorted runs of bounded size, in files, to be merged.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use inborn_identity::InstanceId;
use inborn_telemetry::{ClassUid, Record, Source};

use super::merge::Merge;
use crate::layout::{Day, Partition};
use crate::settings::RECORD_BYTES_MAX;

/// How much of a run is in memory before it is written.
const RUN_BYTES: usize = 12 << 20;

/// How much of a run is compressed, and later read, at once.
const BLOCK_BYTES: usize = 128 << 10;

/// A block is ended by the event that reaches its size.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + 2 * RECORD_BYTES_MAX + 4096;

const LEVEL: i32 = 1;

/// An event as runs hold it: who told it, and where it goes, by their numbers.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) source: u32,
    pub(super) partition: u32,
    pub(super) record: Record,
}

/// Events that come in any order.
pub(super) struct Runs {
    directory: PathBuf,
    names: Names,
    current: Vec<Entry>,
    bytes: usize,
    spilled: Vec<File>,
}

/// Who told events and which partitions they are of, by number: numbers are compared and copied faster than names. As many as
/// there are machines, and partitions of one job.
#[derive(Default)]
pub(super) struct Names {
    numbers: HashMap<Source, u32>,
    sources: Vec<Source>,
    /// Of a source, the first one with the same account and region.
    realms: Vec<u32>,
    places: HashMap<(u32, ClassUid, Day), u32>,
    partitions: Vec<Partition>,
    /// What was asked for last, which is often asked for again.
    latest: Option<((u32, ClassUid, Day), u32)>,
}

impl Names {
    fn source(&mut self, source: &Source) -> u32 {
        if let Some(number) = self.numbers.get(source) {
            return *number;
        }
        let number = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        let same = |other: &Source| other.account == source.account && other.region == source.region;
        let first = self.sources.iter().zip(&self.realms).find(|(other, _)| same(other)).map(|(_, realm)| *realm);
        self.numbers.insert(source.clone(), number);
        self.sources.push(source.clone());
        self.realms.push(first.unwrap_or(number));
        number
    }

    fn partition(&mut self, source: u32, record: &Record) -> io::Result<u32> {
        let realm = self.realms.get(source as usize).copied().ok_or(io::ErrorKind::InvalidData)?;
        let place = (realm, record.class, Day::of(record.time_ms));
        if let Some((_, number)) = self.latest.filter(|(latest, _)| *latest == place) {
            return Ok(number);
        }
        let known = self.places.get(&place).copied();
        let number = match known {
            Some(number) => number,
            None => {
                let told = self.sources.get(source as usize).ok_or(io::ErrorKind::InvalidData)?;
                let partition = Partition::of(told, record.class, record.time_ms);
                // Classes that are not told apart are in the same files.
                let at = self.partitions.iter().position(|other| *other == partition).unwrap_or_else(|| {
                    self.partitions.push(partition);
                    self.partitions.len() - 1
                });
                let number = u32::try_from(at).unwrap_or(u32::MAX);
                self.places.insert(place, number);
                number
            }
        };
        self.latest = Some((place, number));
        Ok(number)
    }

    /// For each partition by its number, how many are before it. What more partitions come to be leaves the order of these as
    /// it is.
    pub(super) fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<usize> = (0..self.partitions.len()).collect();
        order.sort_by_key(|number| self.partitions.get(*number));
        let mut ranks = vec![0; order.len()];
        for (rank, number) in order.into_iter().enumerate() {
            if let Some(place) = ranks.get_mut(number) {
                *place = u32::try_from(rank).unwrap_or(u32::MAX);
            }
        }
        ranks
    }

    pub(super) fn partition_of(&self, number: u32) -> Option<&Partition> {
        self.partitions.get(number as usize)
    }

    pub(super) fn instance(&self, source: u32) -> io::Result<InstanceId> {
        self.sources.get(source as usize).map(|source| source.instance).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Runs {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let (names, current, spilled) = (Names::default(), Vec::new(), Vec::new());
        Ok(Self { directory: directory.into(), names, current, bytes: 0, spilled })
    }

    /// Adds events.
    pub(super) fn add(&mut self, source: &Source, records: Vec<Record>) -> io::Result<()> {
        let source = self.names.source(source);
        for record in records {
            self.bytes += record.json.len() + record.uid.len() + size_of::<Entry>();
            let partition = self.names.partition(source, &record)?;
            self.current.push(Entry { source, partition, record });
        }
        if self.bytes >= RUN_BYTES { self.spill() } else { Ok(()) }
    }

    /// All of them in order.
    pub(super) fn merge(mut self) -> io::Result<Merge> {
        self.sort();
        let mut readers = Vec::with_capacity(self.spilled.len() + 1);
        for file in self.spilled {
            readers.push(Reader::File(Blocks::new(file)?));
        }
        readers.push(Reader::Memory(self.current.into_iter()));
        Merge::new(self.names, readers)
    }

    fn sort(&mut self) {
        let ranks = self.names.ranks();
        self.current.sort_by_key(|entry| (ranks.get(entry.partition as usize), entry.record.time_ms));
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let path = self.directory.join(format!("run-{}", self.spilled.len()));
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        // Nobody else needs its name.
        std::fs::remove_file(&path)?;
        let mut zstd = zstd::bulk::Compressor::new(LEVEL)?;
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        for entry in self.current.drain(..) {
            put(&mut block, &entry);
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

fn put(block: &mut Vec<u8>, Entry { source, partition, record }: &Entry) {
    block.extend_from_slice(&source.to_le_bytes());
    block.extend_from_slice(&partition.to_le_bytes());
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
    Memory(std::vec::IntoIter<Entry>),
    File(Blocks),
}

impl Reader {
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
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

    fn next(&mut self) -> io::Result<Option<Entry>> {
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

fn take(rest: &[u8]) -> Option<(Entry, &[u8])> {
    let (source, rest) = rest.split_first_chunk::<4>()?;
    let (partition, rest) = rest.split_first_chunk::<4>()?;
    let (class, rest) = rest.split_first_chunk::<4>()?;
    let (time_ms, rest) = rest.split_first_chunk::<8>()?;
    let (uid, rest) = text(rest)?;
    let (json, rest) = text(rest)?;
    let class = ClassUid(u32::from_le_bytes(*class));
    let record = Record { uid: uid.into(), time_ms: i64::from_le_bytes(*time_ms), class, json: json.into() };
    let (source, partition) = (u32::from_le_bytes(*source), u32::from_le_bytes(*partition));
    Some((Entry { source, partition, record }, rest))
}

fn text(rest: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((core::str::from_utf8(text).ok()?, rest))
}
