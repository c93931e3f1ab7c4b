//! Counts what is not as it should be. Nothing that was acknowledged goes without being in one of these.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

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
    /// Files that were put into the bucket.
    pub delivered_files: u64,
    /// How many bytes they have.
    pub delivered_bytes: u64,
    /// Times that the bucket was away, or refused.
    pub delivery_failures: u64,
}

/// The counts as they change.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    damaged_places: AtomicU64,
    damaged_bytes: AtomicU64,
    not_ocsf: AtomicU64,
    unreadable_files: AtomicU64,
    delivered_files: AtomicU64,
    delivered_bytes: AtomicU64,
    delivery_failures: AtomicU64,
    /// Why nothing is delivered now.
    undelivered: Mutex<Option<Box<str>>>,
    /// Of how many days nothing is delivered or removed, and the first of them.
    held_up: Mutex<Option<(usize, PathBuf)>>,
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

    pub(crate) fn delivered(&self, files: u64, bytes: u64) {
        self.delivered_files.fetch_add(files, Ordering::Relaxed);
        self.delivered_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn delivery_failed(&self, error: &io::Error) {
        self.delivery_failures.fetch_add(1, Ordering::Relaxed);
        *self.undelivered.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string().into());
    }

    pub(crate) fn delivery_works(&self) {
        *self.undelivered.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why nothing is delivered now; `None` while it is, or there is no bucket.
    pub(crate) fn undelivered(&self) -> Option<Box<str>> {
        self.undelivered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// These are the days whose lists cannot be read.
    pub(crate) fn days_are_held_up(&self, days: &BTreeSet<PathBuf>) {
        let first = days.first().map(|first| (days.len(), first.clone()));
        *self.held_up.lock().unwrap_or_else(PoisonError::into_inner) = first;
    }

    /// How many days that are, and the first of them.
    pub(crate) fn held_up(&self) -> Option<(usize, PathBuf)> {
        self.held_up.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            damaged_places: of(&self.damaged_places),
            damaged_bytes: of(&self.damaged_bytes),
            not_ocsf: of(&self.not_ocsf),
            unreadable_files: of(&self.unreadable_files),
            delivered_files: of(&self.delivered_files),
            delivered_bytes: of(&self.delivered_bytes),
            delivery_failures: of(&self.delivery_failures),
        }
    }
}
