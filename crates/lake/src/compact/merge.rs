//! Merges sorted runs: events by partition, and in each by time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use inborn_identity::InstanceId;
use inborn_telemetry::Record;

use super::run::{Entry, Names, Reader};
use crate::layout::Partition;

/// What is next of one run, in front of it.
struct Head {
    /// The rank of its partition, its time, the run.
    place: (u32, i64, usize),
    entry: Entry,
}

/// Events of all runs, in order.
pub(super) struct Merge {
    names: Names,
    ranks: Vec<u32>,
    readers: Vec<Reader>,
    heads: BinaryHeap<Reverse<Head>>,
    /// The rank of the partition that is read.
    current: u32,
}

impl Merge {
    pub(super) fn new(names: Names, readers: Vec<Reader>) -> io::Result<Self> {
        let (ranks, heads) = (names.ranks(), BinaryHeap::with_capacity(readers.len()));
        let mut merge = Self { names, ranks, heads, readers, current: 0 };
        for index in 0..merge.readers.len() {
            merge.refill(index)?;
        }
        Ok(merge)
    }

    /// The partition of the next event, of which [`Merge::next`] then gives all.
    pub(super) fn partition(&mut self) -> io::Result<Option<Partition>> {
        let Some(Reverse(head)) = self.heads.peek() else { return Ok(None) };
        self.current = head.place.0;
        let partition = self.names.partition_of(head.entry.partition).cloned();
        partition.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The next event of the partition, and the machine that told it.
    pub(super) fn next(&mut self) -> io::Result<Option<(InstanceId, Record)>> {
        if self.heads.peek().is_none_or(|Reverse(head)| head.place.0 != self.current) {
            return Ok(None);
        }
        let Some(Reverse(head)) = self.heads.pop() else { return Ok(None) };
        self.refill(head.place.2)?;
        Ok(Some((self.names.instance(head.entry.source)?, head.entry.record)))
    }

    fn refill(&mut self, index: usize) -> io::Result<()> {
        let Some(reader) = self.readers.get_mut(index) else { return Ok(()) };
        let Some(entry) = reader.next()? else { return Ok(()) };
        let rank = self.ranks.get(entry.partition as usize).copied().ok_or(io::ErrorKind::InvalidData)?;
        self.heads.push(Reverse(Head { place: (rank, entry.record.time_ms, index), entry }));
        Ok(())
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place.cmp(&other.place)
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Head {}
