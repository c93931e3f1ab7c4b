//! Lines that share a write: those of calls that are answered at the same time gather here, and whoever comes first writes them
//! for all. A call is answered only when its line is in the file, or when it is known that it is not.

use std::io;
use std::sync::{Arc, OnceLock};

use inborn_identity::UnixTime;
use tokio::sync::Notify;

/// Bytes of lines that gather at most. Several of the longest lines; some hundred usual ones.
pub(super) const GROUP_BYTES_MAX: usize = 256 << 10;

/// Lines that were not written yet, in their order.
#[derive(Debug, Default)]
pub(super) struct Group {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    batch: Arc<Batch>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    start: usize,
    end: usize,
    time: UnixTime,
}

/// Some lines of a group, one behind the other.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    group: &'a Group,
    lines: &'a [Line],
}

impl<'a> Part<'a> {
    pub(super) fn bytes(&self) -> &'a [u8] {
        let (first, last) = (self.lines.first(), self.lines.last());
        first.zip(last).and_then(|(first, last)| self.group.bytes.get(first.start..last.end)).unwrap_or_default()
    }

    /// The time of each line.
    pub(super) fn times(&self) -> impl Iterator<Item = UnixTime> {
        self.lines.iter().map(|line| line.time)
    }

    /// Each line by itself.
    pub(super) fn each(self) -> impl Iterator<Item = Self> {
        self.lines.chunks(1).map(move |lines| Self { lines, ..self })
    }
}

/// What becomes of the lines of a group.
#[derive(Debug, Default)]
pub(super) struct Batch {
    outcome: OnceLock<Outcome>,
    told: Notify,
}

/// Which lines are not in the file, and why. All others are.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// By the number of the line, in their order.
    pub(super) failed: Vec<(usize, io::Error)>,
}

impl Outcome {
    /// Of a group of so many lines about which nobody knows anything.
    fn unknown(lines: usize) -> Self {
        Self { failed: (0..lines).map(|line| (line, io::ErrorKind::Other.into())).collect() }
    }

    fn of(&self, line: usize) -> io::Result<()> {
        let Ok(at) = self.failed.binary_search_by_key(&line, |(line, _)| *line) else { return Ok(()) };
        let Some((_, error)) = self.failed.get(at) else { return Ok(()) };
        Err(error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error))
    }
}

/// A line that waits with others.
#[derive(Debug)]
pub(super) struct Place {
    batch: Arc<Batch>,
    index: usize,
}

impl Group {
    /// Adds a line, if there is room: to an empty group there always is.
    pub(super) fn add(&mut self, line: &[u8], time: UnixTime) -> Option<Place> {
        if !self.lines.is_empty() && self.bytes.len().saturating_add(line.len()) > GROUP_BYTES_MAX {
            return None;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(line);
        self.lines.push(Line { start, end: self.bytes.len(), time });
        Some(Place { batch: Arc::clone(&self.batch), index: self.lines.len() - 1 })
    }

    /// The bytes of all lines.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// How many lines there are.
    pub(super) const fn count(&self) -> usize {
        self.lines.len()
    }

    /// The lines from one number to before another.
    pub(super) fn part(&self, lines: core::ops::Range<usize>) -> Part<'_> {
        Part { group: self, lines: self.lines.get(lines).unwrap_or_default() }
    }

    /// Says to all what has become of their lines, and is empty again.
    pub(super) fn tell(&mut self, outcome: Outcome) {
        let batch = core::mem::take(&mut self.batch);
        // Told once: a batch belongs to one group, which has another one from here on.
        let _ = batch.outcome.set(outcome);
        batch.told.notify_waiters();
        self.bytes.clear();
        self.lines.clear();
    }
}

/// A writer that ends without having said anything, as by a panic, leaves nobody waiting: a line of which nothing is known
/// counts as not written, and its call is answered so.
impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_empty() {
            self.tell(Outcome::unknown(self.count()));
        }
    }
}

impl Place {
    /// Whether nobody was there before: then nobody else writes.
    pub(super) const fn is_first(&self) -> bool {
        self.index == 0
    }

    /// What has become of the line; `None` while it is not written.
    pub(super) fn outcome(&self) -> Option<io::Result<()>> {
        Some(self.batch.outcome.get()?.of(self.index))
    }

    /// Waits until whoever came first has written it.
    pub(super) async fn written(&self) -> io::Result<()> {
        loop {
            let told = self.batch.told.notified();
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    #[test]
    fn bytes_below_at_and_above_the_most() {
        for (bytes, fits) in [(GROUP_BYTES_MAX - 1, true), (GROUP_BYTES_MAX, true), (GROUP_BYTES_MAX + 1, false)] {
            let mut group = Group::default();
            assert!(group.add(b"x", NOW).unwrap().is_first());
            assert_eq!(group.add(&vec![b'y'; bytes - 1], NOW).is_some(), fits, "{bytes}");
        }
        // One that is longer than all together may be does not wait for ever.
        assert!(Group::default().add(&vec![b'y'; GROUP_BYTES_MAX + 1], NOW).is_some());
    }

    #[tokio::test]
    async fn each_is_told_what_became_of_its_own_line() {
        let mut group = Group::default();
        let places: Vec<Place> = (0..3).map(|second| group.add(b"line\n", NOW.plus(second)).unwrap()).collect();
        assert_eq!(group.part(0..3).bytes(), b"line\nline\nline\n");
        assert_eq!((group.part(1..1).bytes(), group.part(2..9).times().count()), (&b""[..], 0));
        let each: Vec<_> = group.part(1..3).each().map(|part| (part.bytes(), part.times().next())).collect();
        assert_eq!(each, [1, 2].map(|second| (&b"line\n"[..], Some(NOW.plus(second)))));
        assert!(places.iter().all(|place| place.outcome().is_none()));
        let full = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        group.tell(Outcome { failed: vec![(1, full)] });
        assert!(group.is_empty() && group.add(b"next\n", NOW).unwrap().outcome().is_none());
        assert!(places[0].written().await.is_ok() && places[2].written().await.is_ok());
        assert_eq!(places[1].written().await.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[tokio::test]
    async fn who_waits_for_a_writer_that_panics_is_told_that_it_failed() {
        let mut group = Group::default();
        let places = [group.add(b"one\n", NOW).unwrap(), group.add(b"two\n", NOW).unwrap()];
        let waiting = places.map(|place| tokio::spawn(async move { place.written().await }));
        tokio::task::yield_now().await;
        let writer = std::thread::spawn(move || {
            let _group = group;
            std::panic::resume_unwind(Box::new("a writer that panics"));
        });
        assert!(writer.join().is_err());
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::Other);
        }
    }
}
