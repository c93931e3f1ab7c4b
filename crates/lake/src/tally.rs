//! Counts what is not as it should be. Nothing that was acknowledged goes without being in one of these.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::log::read::Damage;

/// What was counted since the lake was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Places in the log that could not be read. Their segments are kept as `log/*.damaged`.
    pub damaged_places: u64,
    /// How many bytes they have.
    pub damaged_bytes: u64,
    /// Events that were no JSON object when they became Parquet. They are kept whole, in the column `raw_data`.
    pub not_ocsf: u64,
    /// Times that a question came upon a file or segment of which not everything could be read.
    pub unreadable_files: u64,
}

/// The counts as they change.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    damaged_places: AtomicU64,
    damaged_bytes: AtomicU64,
    not_ocsf: AtomicU64,
    unreadable_files: AtomicU64,
}

impl Tally {
    pub(crate) fn damage(&self, damage: Damage) {
        self.damaged_places.fetch_add(damage.places, Ordering::Relaxed);
        self.damaged_bytes.fetch_add(damage.bytes, Ordering::Relaxed);
    }

    pub(crate) fn not_ocsf(&self, events: u64) {
        self.not_ocsf.fetch_add(events, Ordering::Relaxed);
    }

    pub(crate) fn unreadable(&self, files: usize) {
        self.unreadable_files.fetch_add(files as u64, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            damaged_places: of(&self.damaged_places),
            damaged_bytes: of(&self.damaged_bytes),
            not_ocsf: of(&self.not_ocsf),
            unreadable_files: of(&self.unreadable_files),
        }
    }
}
