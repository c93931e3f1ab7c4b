//! What an earlier process took in and did not judge: it is judged beside what comes, and counted once.
//!
//! The lake has a bookmark for it ([`Bookmark`]): everything before it was judged, and what was found is in the store. It is
//! written every few seconds, so that the first events behind it may have been judged, too. That is why a finding keeps up to
//! which place of the log it counts ([`Counted`]), in the same write as the count: an event that it counts already is not counted
//! again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use inborn_lake::{Bookmark, Next, Place, Unread};
use tokio::time::sleep;

use super::Shared;
use super::judge::judge;
use super::pending::Pending;
use super::record::{PAUSE, record_all};
use crate::RegionServer;
use crate::telemetry::Told;

/// How often it is written down how far the rules have come.
const KEEPING: Duration = Duration::from_secs(5);
/// How often it is looked whether new events are judged, so that old ones may be.
const LOOK: Duration = Duration::from_millis(20);
/// How often at most, before the next frame of old ones is judged nevertheless.
const LOOKS_MAX: u32 = 25;
/// How often a segment that cannot be read is tried, a pause apart, before it is given up.
const TRIES_MAX: u32 = 5;

/// A part of the log of a lake of which a finding counts everything that it is to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Which lake.
    pub lake: u64,
    /// The part begins with this segment,
    pub from: u64,
    /// and ends before this place.
    pub to: Place,
    /// No earlier segment will ever be read again.
    pub oldest: u64,
    /// Whether it may be that the finding counts the last of it already: it was in the log when the process began.
    pub is_again: bool,
}

/// How the events of the lake are read.
#[derive(Debug)]
pub(super) struct Reading(Arc<Bookmark>);

impl Reading {
    pub(super) fn new(bookmark: &Arc<Bookmark>) -> Arc<Self> {
        Arc::new(Self(Arc::clone(bookmark)))
    }

    /// What findings count that are recorded when everything before `place` is judged which this process took in.
    pub(super) fn counted(&self, place: Place) -> Counted {
        let from = self.0.live_from();
        Counted { lake: self.0.lake(), from, to: place, oldest: self.0.oldest(), is_again: false }
    }
}

/// Writes down how far the rules have come with what comes in, until the region is gone.
pub(super) async fn keep(bookmark: Arc<Bookmark>, told: Arc<Told>, pending: Weak<Pending>) {
    loop {
        sleep(KEEPING).await;
        let Some(pending) = pending.upgrade() else { return };
        mark(&bookmark, &told, &pending);
        drop(pending);
        let keeping = Arc::clone(&bookmark);
        match tokio::task::spawn_blocking(move || keeping.keep()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "it cannot be written down what was judged: the next start judges more again");
            }
            Err(error) => tracing::error!(%error, "it could not be written down what was judged"),
        }
    }
}

/// Says what is done with.
fn mark(bookmark: &Bookmark, told: &Told, pending: &Pending) {
    // What was left out is passed, once nothing before it is open.
    pending.add_judged(Vec::new(), told.all_done());
    if let Some(place) = pending.settled() {
        bookmark.done(place);
    }
}

/// Judges what earlier processes left, one frame at a time, until there is no more or the region is gone.
pub(super) async fn run(
    unread: Unread,
    bookmark: Arc<Bookmark>,
    region: Weak<RegionServer>,
    shared: Arc<Shared>,
    told: Arc<Told>,
) {
    let mut unread = Some(unread);
    let mut from = None;
    let mut events = 0;
    let mut tries = 0;
    while let Some(mut reading) = unread.take() {
        give_way(&told).await;
        let left = reading.left();
        let read = tokio::task::spawn_blocking(move || (reading.read_next(), reading)).await;
        let (next, place) = match read {
            Ok((Ok(None), _)) => break,
            Ok((Ok(Some(next)), reading)) => {
                unread = Some(reading);
                tries = 0;
                let (Next::Batch(_, place) | Next::Gone(_, place)) = &next;
                let place = *place;
                (next, place)
            }
            Ok((Err(error), mut reading)) => {
                tries += 1;
                if tries < TRIES_MAX {
                    tracing::warn!(%error, "a segment of telemetry cannot be read: it is tried again");
                    sleep(PAUSE).await;
                } else {
                    let count = reading.skip();
                    shared.metrics.skipped.inc_by(count);
                    tracing::error!(%error, count, "a segment of telemetry cannot be read: these events of it are not judged");
                    tries = 0;
                }
                unread = Some(reading);
                continue;
            }
            // The process ends: the next one goes on.
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                shared.metrics.skipped.inc_by(left);
                tracing::error!(%error, count = left, "what was not judged before could not be read: these events are not judged");
                break;
            }
        };
        match next {
            Next::Gone(count, _) => {
                shared.metrics.skipped.inc_by(count);
                tracing::warn!(count, "events are stored without being judged: there was no room to let them wait");
            }
            Next::Batch(batch, _) => {
                let records = u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
                let Some(threats) = region.upgrade().map(|region| region.threats(batch.source.account)) else { return };
                let judging = Arc::clone(&shared);
                let judged = tokio::task::spawn_blocking(move || judge(&batch, &threats, &judging)).await;
                let mut findings = judged.unwrap_or_else(|error| {
                    tracing::error!(%error, "a batch could not be judged");
                    Vec::new()
                });
                let from = *from.get_or_insert(place.segment);
                let (lake, oldest) = (bookmark.lake(), bookmark.oldest());
                let counted = Counted { lake, from, to: place, oldest, is_again: true };
                // Nothing else waits for it, so that it waits for the store.
                while !findings.is_empty() {
                    let Some(region) = region.upgrade() else { return };
                    findings = record_all(&region, findings, Some(counted)).await;
                    drop(region);
                    if !findings.is_empty() {
                        sleep(PAUSE).await;
                    }
                }
                shared.metrics.judged.inc_by(records);
                shared.metrics.judged_late.inc_by(records);
                events += records;
            }
        }
        bookmark.done(place);
    }
    bookmark.done_with_earlier();
    tracing::info!(events, "what was taken in before the start and was not judged is judged");
}

/// Waits while new events are judged, but not for ever.
async fn give_way(told: &Told) {
    for _ in 0..LOOKS_MAX {
        if told.is_idle() {
            return;
        }
        sleep(LOOK).await;
    }
}
