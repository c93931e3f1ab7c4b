//! The disk of a host, as far as it holds what the host keeps over a restart: writes take long or fail, and a crash comes in the midst
//! of one.
//!
//! The program writes a file beside, asks the disk to have it, and puts it in place: after a crash there is the old one or the new one.
//! A disk that says that it has what it has not leaves a part, or a mixture of both. That has to be recognised.

use core::time::Duration;
use std::rc::Rc;

use inborn_credential::Kek;
use inborn_host_agent::{KEEP_ROUND, Keeping, Snapshot, open, seal};
use inborn_identity::HostId;
use tokio::time::{Instant, sleep};

use crate::world::World;

/// One removal in so many fails.
const REMOVALS_FAIL_ONE_OF: u32 = 3;
/// A write that takes longer is slow.
const SLOW: Duration = Duration::from_millis(500);
/// The longest that a write takes when all is well.
pub(crate) const WRITE_MAX: Duration = Duration::from_millis(20);

/// What has become of what hosts have kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Disks {
    /// Writes that took long.
    pub slow: usize,
    /// Writes that failed.
    pub failed: usize,
    /// Crashes in the midst of a write.
    pub cut_off: usize,
    /// Starts that could not read what was kept.
    pub unreadable: usize,
    /// Starts that found that what was kept is broken.
    pub broken: usize,
    /// Starts that found what was kept before the last change of what is known.
    pub outdated: usize,
    /// Removals that failed, of what a host that is cut off had kept.
    pub not_removed: usize,
}

impl Disks {
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            slow: self.slow + other.slow,
            failed: self.failed + other.failed,
            cut_off: self.cut_off + other.cut_off,
            unreadable: self.unreadable + other.unreadable,
            broken: self.broken + other.broken,
            outdated: self.outdated + other.outdated,
            not_removed: self.not_removed + other.not_removed,
        }
    }
}

/// A file.
#[derive(Clone)]
struct Blob {
    bytes: Vec<u8>,
    is_whole: bool,
}

/// How a disk is.
#[derive(Clone, Copy)]
pub(crate) struct Troubles {
    /// The longest that a write takes.
    pub(crate) write_max: Duration,
    /// Of a thousand accesses, how many fail.
    pub(crate) failed_per_mille: u32,
    /// Whether it says that it has what a crash takes from it.
    pub(crate) lies: bool,
}

impl Troubles {
    pub(crate) const NONE: Self = Self { write_max: WRITE_MAX, failed_per_mille: 0, lies: false };
}

pub(crate) struct Disk {
    key: Kek,
    host: HostId,
    random: fastrand::Rng,
    pub(crate) troubles: Troubles,
    /// What is at its place, and what was there before that, if a crash may bring it back.
    file: Option<Blob>,
    before: Option<Option<Blob>>,
    writing: Option<Vec<u8>>,
    /// Whether the last that was to be written is not what is there.
    is_outdated: bool,
    pub(crate) counts: Disks,
}

impl Disk {
    pub(crate) fn new(host: HostId, random: fastrand::Rng) -> Self {
        Self {
            key: Kek::from_bytes(&[7; 32]).unwrap(),
            host,
            random,
            troubles: Troubles::NONE,
            file: None,
            before: None,
            writing: None,
            is_outdated: false,
            counts: Disks::default(),
        }
    }

    fn fails(&mut self) -> bool {
        let per_mille = self.troubles.failed_per_mille;
        per_mille > 0 && self.random.u32(0..1000) < per_mille
    }

    /// Begins to write; gives how long that takes.
    fn begin(&mut self, snapshot: &Snapshot) -> Duration {
        self.writing = Some(seal(snapshot, &self.key, self.host).unwrap());
        self.is_outdated = true;
        let takes = self.troubles.write_max.mul_f64(self.random.f64());
        self.counts.slow += usize::from(takes > SLOW);
        takes
    }

    /// Whether it is written.
    fn end(&mut self) -> bool {
        let Some(bytes) = self.writing.take() else { return false };
        if self.fails() {
            self.counts.failed += 1;
            return false;
        }
        self.put(bytes);
        true
    }

    fn put(&mut self, bytes: Vec<u8>) {
        let before = self.file.replace(Blob { bytes, is_whole: true });
        self.before = self.troubles.lies.then_some(before);
        self.is_outdated = false;
    }

    pub(crate) const fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// The power is lost.
    pub(crate) fn crash(&mut self) {
        if let Some(bytes) = self.writing.take() {
            self.counts.cut_off += 1;
            // It may be in its place, and nobody was told.
            if self.random.u32(0..3) == 0 {
                self.put(bytes);
            }
        }
        let Some(before) = self.before.take() else { return };
        let Some(file) = self.file.take() else { return };
        self.file = match self.random.u32(0..4) {
            0 => {
                self.is_outdated = true;
                before
            }
            1 => Some(file),
            _ => Some(Blob { bytes: self.torn(&file.bytes, before.as_ref()), is_whole: false }),
        };
    }

    /// The first part of one, and behind it nothing, or nothing but zeros, or what was there before.
    fn torn(&mut self, new: &[u8], old: Option<&Blob>) -> Vec<u8> {
        let end = part_of(new.len(), &mut self.random);
        let mut torn = new[..end].to_vec();
        match (self.random.u32(0..3), old) {
            (0, _) => {}
            (1, Some(old)) => torn.extend(old.bytes.iter().skip(end)),
            _ => torn.resize(new.len(), 0),
        }
        torn
    }

    /// What a start finds, and what is wrong with that.
    pub(crate) fn read(&mut self) -> (Option<Snapshot>, Option<&'static str>) {
        if self.file.is_some() && self.fails() {
            self.counts.unreadable += 1;
            return (None, None);
        }
        let Some(file) = &self.file else { return (None, None) };
        match (open(&file.bytes, &self.key, self.host), file.is_whole) {
            (Ok(_), false) => (None, Some("takes a broken file for what it has kept")),
            (Err(_), true) => (None, Some("cannot use what it has kept")),
            (Ok(snapshot), true) => {
                self.counts.outdated += usize::from(self.is_outdated);
                (Some(snapshot), None)
            }
            (Err(_), false) => {
                self.counts.broken += 1;
                (None, None)
            }
        }
    }

    /// Removes what was kept; whether that could be done. Hosts are cut off seldom: while things go wrong it fails more often than
    /// all else.
    pub(crate) fn remove(&mut self, is_troubled: bool) -> bool {
        if self.fails() || (is_troubled && self.random.u32(0..REMOVALS_FAIL_ONE_OF) == 0) {
            self.counts.not_removed += 1;
            return false;
        }
        (self.file, self.before) = (None, None);
        true
    }
}

/// A number less than this. However many bytes there are, as much is drawn: how long keys are is not by the seed.
pub(crate) fn part_of(length: usize, random: &mut fastrand::Rng) -> usize {
    let of_thousand = random.usize(0..1000);
    length * of_thousand / 1000
}

/// Keeps what a host knows, whenever it runs.
pub(crate) async fn keep(world: Rc<World>, number: usize) {
    let start = Instant::now();
    // A start knows nothing of what was kept in the one before.
    let mut keeping = (0, Keeping::default());
    loop {
        sleep(KEEP_ROUND).await;
        let host = &world.hosts[number];
        let is_due = |run: usize, revision: u64| keeping.0 != run || keeping.1.is_due(revision, start.elapsed());
        let Some((run, revision, snapshot)) = host.to_keep(is_due) else { continue };
        let begun = Instant::now();
        let takes = host.disk.borrow_mut().begin(&snapshot);
        sleep(takes).await;
        // Who has crashed meanwhile has lost it, or not.
        if host.run() == Some(run) && host.disk.borrow_mut().end() {
            keeping.0 = run;
            keeping.1.has_kept(revision, start.elapsed());
        }
        sleep(Keeping::rest_after(begun.elapsed())).await;
    }
}
