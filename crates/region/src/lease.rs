//! How long what a server knows may be relied upon.
//!
//! That the store's feed is read is not enough. A primary that was replaced goes on answering reads to whoever is left with it, and knows
//! nothing of what ends at the new one. Yet it acknowledges no write any more: it waits for the synchronous standby that has left it. So a
//! server counts from its last *beat* that was acknowledged, and what it reads later counts no further. Counted from that beat's beginning:
//! the database was the one that takes writes at some moment after it.

use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use inborn_identity::UnixTime;
use inborn_store::StoreError;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::RegionServer;
use crate::fleet::{ROUND, ROUND_MIN, STALE_AFTER};
use crate::said::Said;

/// A beat that takes longer is not waited for: its connection may be dead, and another one not. Not sooner, since beats write one record: the
/// later waits for the earlier where that is only slow. A store that takes longer each time, not once, makes a server stale now and then.
const BEAT_PATIENCE: Duration = Duration::from_millis(2500);
/// The most beats at a time that have no answer yet: each has a connection, and others need some too.
const BEATS_UNDER_WAY_MAX: usize = 3;

/// A moment by two clocks: one stands still while a machine is suspended, the other may be set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    at: Instant,
    at_time: UnixTime,
}

impl Moment {
    pub(crate) fn now(now: UnixTime) -> Self {
        Self { at: Instant::now(), at_time: now }
    }

    fn until(self, now: Self) -> Duration {
        let by_clock = Duration::from_secs(now.at_time.as_secs().saturating_sub(self.at_time.as_secs()));
        // The clock has whole seconds: what looks like one may be almost nothing.
        now.at.saturating_duration_since(self.at).max(by_clock.saturating_sub(Duration::from_secs(1)))
    }
}

/// What of a server's own was answered last, each by when it was begun.
#[derive(Clone, Copy)]
struct Answered {
    /// The round that came to its end.
    round: Moment,
    /// The beat that was acknowledged, or refused by a database that says it takes no writes.
    beat: Moment,
    /// The beat that was acknowledged: the others see it.
    seen_beat: Moment,
}

/// Until when a server may rely on what it has heard.
pub(crate) struct Lease(Mutex<Answered>);

impl Lease {
    /// Of one that has beaten once, and has all that was to be heard after that.
    pub(crate) const fn new(beat: Moment, round: Moment) -> Self {
        Self(Mutex::new(Answered { round, beat, seen_beat: beat }))
    }

    fn answered(&self) -> MutexGuard<'_, Answered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long it is not known to have heard everything.
    pub(crate) fn silence(&self, now: UnixTime) -> Duration {
        let (answered, now) = (*self.answered(), Moment::now(now));
        answered.round.until(now).max(answered.beat.until(now))
    }

    /// How long no round came to its end.
    pub(crate) fn unread(&self, now: UnixTime) -> Duration {
        self.answered().round.until(Moment::now(now))
    }

    /// How long no beat was acknowledged.
    pub(crate) fn unbeaten(&self) -> Duration {
        Instant::now().saturating_duration_since(self.answered().seen_beat.at)
    }

    /// Whether it is known by beats that what is read now is of the database that takes writes.
    pub(crate) fn is_of_the_primary(&self) -> bool {
        Instant::now().saturating_duration_since(self.answered().beat.at) <= STALE_AFTER
    }

    /// A round came to its end.
    pub(crate) fn note_round(&self, begun: Moment) {
        self.answered().round = begun;
    }

    /// A beat was answered.
    ///
    /// Nothing but an acknowledgement counts: neither an error after which nobody knows, nor a disk that is full, which a replaced primary
    /// may say as well (a beat takes the place of the one before it, and needs no room). But for one: who is told that a database is
    /// read-only goes on by what it reads there. Such a database is no standby: a connection is made to none, and none that is open outlives
    /// the restart by which a primary becomes one. It may be a replaced primary that was made read-only and not stopped: docs/stores.md says
    /// not to.
    pub(crate) fn note_beat(&self, begun: Moment, outcome: &Result<(), StoreError>) {
        let mut answered = self.answered();
        // An earlier one may be answered after a later one.
        let later = |known: Moment| if known.at < begun.at { begun } else { known };
        match outcome {
            Ok(()) => {
                answered.beat = later(answered.beat);
                answered.seen_beat = later(answered.seen_beat);
            }
            Err(StoreError::ReadOnly(_)) => answered.beat = later(answered.beat),
            Err(_) => {}
        }
    }
}

/// Beats. A write that takes long must not keep anybody from hearing: this is a task of its own, and so is each beat.
pub(crate) async fn beat(region: Weak<RegionServer>) {
    let failed = Said::default();
    let mut under_way = JoinSet::new();
    loop {
        let begun = Instant::now();
        {
            let Some(region) = region.upgrade() else { return };
            under_way.spawn(beat_once(Arc::downgrade(&region), region));
        }
        let answered = match under_way.len() < BEATS_UNDER_WAY_MAX {
            true => tokio::time::timeout(BEAT_PATIENCE, under_way.join_next()).await.ok().flatten(),
            false => under_way.join_next().await,
        };
        match answered {
            Some(Ok(Err(StoreError::Closed))) => return,
            Some(Ok(Err(error))) if failed.is_due() => {
                tracing::warn!(%error, "this server cannot tell the others that it lives");
            }
            None if failed.is_due() => {
                tracing::warn!("a beat of this server has no answer yet: the database does not, or its commits wait");
            }
            _ => {}
        }
        tokio::time::sleep(ROUND.saturating_sub(begun.elapsed()).max(ROUND_MIN)).await;
    }
}

async fn beat_once(weak: Weak<RegionServer>, region: Arc<RegionServer>) -> Result<(), StoreError> {
    let Some(beat) = region.next_beat() else { return Err(StoreError::Closed) };
    let (begun, store) = (Moment::now(region.now()), Arc::clone(region.store()));
    // Whoever waits for an answer keeps no region alive.
    drop(region);
    let outcome = store.beat(beat).await;
    if let Some(region) = weak.upgrade()
        && let Some(fleet) = region.fleet()
    {
        fleet.lease().note_beat(begun, &outcome);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::LAPSED_AFTER;

    const TIME: UnixTime = UnixTime::from_secs(1_800_000_000);
    const MILLISECOND: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn silence_is_told_by_both_clocks() {
        let begun = Moment::now(TIME);
        for (elapsed, clock, expected) in [(0, 0, 0), (4, 4, 4), (6, 4, 6), (1, 3600, 3599), (2, 1, 2)] {
            let now = Moment { at: begun.at + Duration::from_secs(elapsed), at_time: TIME.plus(clock) };
            assert_eq!(begun.until(now), Duration::from_secs(expected), "{elapsed} {clock}");
        }
        let set_back = Moment { at_time: TIME.minus(100), ..begun };
        assert_eq!(begun.until(set_back), Duration::ZERO, "a clock that was set back");
    }

    /// However well it reads, and whatever else than an acknowledgement it is answered.
    #[tokio::test(start_paused = true)]
    async fn who_is_answered_no_beat_has_not_heard() {
        for outcome in [
            Err(StoreError::Io("nobody knows".to_owned())),
            Err(StoreError::Unavailable("nobody is there".to_owned())),
            Err(StoreError::Busy),
            Err(StoreError::Full),
            Err(StoreError::Replaced),
        ] {
            let lease = Lease::new(Moment::now(TIME), Moment::now(TIME));
            for bound in [STALE_AFTER, LAPSED_AFTER] {
                let mut told = Vec::new();
                tokio::time::advance(bound - MILLISECOND - lease.unbeaten()).await;
                for _ in 0..3 {
                    lease.note_round(Moment::now(TIME));
                    lease.note_beat(Moment::now(TIME), &outcome);
                    assert_eq!(lease.unread(TIME), Duration::ZERO);
                    told.push((lease.silence(TIME) > bound, lease.unbeaten() > bound));
                    tokio::time::advance(MILLISECOND).await;
                }
                assert_eq!(told, [(false, false), (false, false), (true, true)], "{outcome:?} {bound:?}");
                assert!(!lease.is_of_the_primary());
            }
            // Counted from its beginning, however long it took.
            let begun = Moment::now(TIME);
            tokio::time::advance(Duration::from_secs(4)).await;
            lease.note_round(Moment::now(TIME));
            lease.note_beat(begun, &Ok(()));
            assert_eq!(lease.silence(TIME), Duration::from_secs(4));
            assert!(lease.is_of_the_primary());
            assert_eq!(lease.silence(TIME.plus(60)), Duration::from_secs(59), "a machine that was suspended");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_is_read_only_is_read_on() {
        let lease = Lease::new(Moment::now(TIME), Moment::now(TIME));
        tokio::time::advance(LAPSED_AFTER).await;
        lease.note_round(Moment::now(TIME));
        lease.note_beat(Moment::now(TIME), &Err(StoreError::ReadOnly("so it says".to_owned())));
        assert_eq!((lease.silence(TIME), lease.unbeaten()), (Duration::ZERO, LAPSED_AFTER), "the others do not see it");
        tokio::time::advance(STALE_AFTER + MILLISECOND).await;
        lease.note_round(Moment::now(TIME));
        assert!(lease.silence(TIME) > STALE_AFTER, "it says so no more");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_late_takes_nothing_back() {
        let first = Moment::now(TIME);
        let lease = Lease::new(first, first);
        tokio::time::advance(Duration::from_secs(3)).await;
        let second = Moment::now(TIME);
        lease.note_round(second);
        for begun in [second, first] {
            lease.note_beat(begun, &Ok(()));
            assert_eq!((lease.silence(TIME), lease.unbeaten()), (Duration::ZERO, Duration::ZERO));
        }
        tokio::time::advance(Duration::from_secs(3)).await;
        lease.note_beat(Moment::now(TIME), &Ok(()));
        assert_eq!(lease.silence(TIME), Duration::from_secs(3), "nothing was read since");
    }
}
