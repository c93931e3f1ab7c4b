//! Merges sorted runs: events by partition, and in each by time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use inborn_telemetry::Record;

use super::Told;
use super::run::{Reader, Sources};
use crate::layout::Partition;

/// What is next of one run, in front of it.
struct Head {
    place: (Partition, i64, usize),
    event: (u32, Record),
}

/// Events of all runs, in order.
pub(super) struct Merge {
    sources: Sources,
    readers: Vec<Reader>,
    heads: BinaryHeap<Reverse<Head>>,
}

impl Merge {
    pub(super) fn new(sources: Sources, readers: Vec<Reader>) -> io::Result<Self> {
        let mut merge = Self { sources, heads: BinaryHeap::with_capacity(readers.len()), readers };
        for index in 0..merge.readers.len() {
            merge.refill(index)?;
        }
        Ok(merge)
    }

    /// The partition of the next event.
    #[expect(clippy::unnecessary_wraps, reason = "reads like what it is used with")]
    pub(super) fn partition(&mut self) -> io::Result<Option<Partition>> {
        Ok(self.heads.peek().map(|Reverse(head)| head.place.0.clone()))
    }

    /// The next event, if it is of this partition.
    pub(super) fn next_of(&mut self, partition: &Partition) -> io::Result<Option<Told>> {
        if self.heads.peek().is_none_or(|Reverse(head)| head.place.0 != *partition) {
            return Ok(None);
        }
        let Some(Reverse(head)) = self.heads.pop() else { return Ok(None) };
        self.refill(head.place.2)?;
        self.sources.told(head.event).map(Some)
    }

    fn refill(&mut self, index: usize) -> io::Result<()> {
        let Some(reader) = self.readers.get_mut(index) else { return Ok(()) };
        let Some(event) = reader.next()? else { return Ok(()) };
        let (partition, time_ms) = self.sources.place(event.0, &event.1)?;
        self.heads.push(Reverse(Head { place: (partition, time_ms, index), event }));
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
