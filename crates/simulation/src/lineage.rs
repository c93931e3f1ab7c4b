//! What is known of epochs: how far each was seen to be, at each place, and which were revoked.

use core::time::Duration;
use std::collections::BTreeMap;

use inborn_identity::UnixTime;
use inborn_store::{EpochState, SealedEpoch};

use crate::oracle::Asked;

/// Clocks of servers are off by less. Source: docs/revocation.md.
const CLOCKS_APART_SECONDS: u64 = 60;
/// An epoch that seals so soon after it was made was not waited for: it takes the place of one that was revoked.
const EARLY_SECONDS: u64 = 600;
/// How long a rotation may take until the new epoch seals: the twenty-one minutes ahead (docs/revocation.md), and until everybody who
/// is there verifies with it.
pub(crate) const SEALS_WITHIN: Duration = Duration::from_secs(1260 + 240);

/// Where epochs are known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Place {
    Server(usize),
    Store,
}

struct Revocation {
    epoch: u32,
    acknowledged: Duration,
    /// Which run of a server has acknowledged it.
    server: usize,
    /// Whether it is certain that the epoch had begun to seal: then everything of before has ended, too.
    ends_all: bool,
}

impl Revocation {
    /// Whether it ends what an epoch has sealed. Who comes after it has sealed nothing that it ends.
    const fn ends(&self, epoch: u32) -> bool {
        epoch == self.epoch || (self.ends_all && epoch < self.epoch)
    }
}

/// What is known.
#[derive(Default)]
pub(crate) struct Lineage {
    seen: BTreeMap<Place, Vec<SealedEpoch>>,
    /// The highest that was seen to seal at that moment.
    seals: BTreeMap<Place, u32>,
    revocations: Vec<Revocation>,
    /// Epochs that a rotation was acknowledged to have made, and when.
    rotations: Vec<(u32, Duration)>,
    /// When what everybody has may have ended last.
    changed: Duration,
    is_uncertain: bool,
    followed: usize,
}

impl Lineage {
    /// Epochs were found at a place; gives what is wrong with them.
    pub(crate) fn look(&mut self, place: Place, found: Vec<SealedEpoch>, now: UnixTime) -> Option<String> {
        let before = self.seen.get(&place).map(Vec::as_slice).unwrap_or_default();
        let back = before.iter().find_map(|before| went_back(before, found.iter().find(|epoch| epoch.id == before.id)));
        let seals = found.iter().filter(|epoch| seals_at(epoch, now)).map(|epoch| epoch.id).max();
        let sealed = self.seals.get(&place).copied();
        // Which was revoked is followed from the next second on, by the clock of who did it: until then nothing is dated.
        let by_any_clock = now.plus(CLOCKS_APART_SECONDS);
        let follows = found.iter().filter(|epoch| seals_at(epoch, by_any_clock)).map(|epoch| epoch.id).max();
        let fell = follows.zip(sealed).filter(|(follows, sealed)| follows < sealed);
        let wrong = back.or_else(|| fell.map(|(follows, sealed)| format!("epoch {follows} seals after {sealed}")));
        let ahead = (place == Place::Store).then(|| self.ahead_of(&found)).flatten();
        if place == Place::Store
            && let Some(newest) = found.iter().find(|epoch| Some(epoch.id) == seals && seals > sealed)
            && newest.seals_from.is_some_and(|from| from.since(newest.created_at) > EARLY_SECONDS)
        {
            self.followed += 1;
        }
        if seals > sealed
            && let Some(seals) = seals
        {
            self.seals.insert(place, seals);
        }
        self.seen.insert(place, found);
        wrong.or(ahead).map(|wrong| format!("{place:?}: {wrong}"))
    }

    /// Whether a server knew more than the store has, which was asked after it.
    fn ahead_of(&self, store: &[SealedEpoch]) -> Option<String> {
        let servers = self.seen.iter().filter(|(place, _)| **place != Place::Store);
        servers.flat_map(|(place, epochs)| epochs.iter().map(move |epoch| (place, epoch))).find_map(|(place, epoch)| {
            let is_behind =
                store.iter().find(|stored| stored.id == epoch.id).is_none_or(|stored| stored.state < epoch.state);
            is_behind.then(|| format!("epoch {} was {} at {place:?}, and is not", epoch.id, epoch.state))
        })
    }

    /// The epoch that is to be revoked: of those that are not over one, and whether it certainly has begun to seal.
    pub(crate) fn target(&self, random: &mut fastrand::Rng, now: UnixTime) -> Option<(u32, bool)> {
        let left: Vec<&SealedEpoch> =
            self.seen.get(&Place::Store)?.iter().filter(|epoch| epoch.state != EpochState::Retired).collect();
        let chosen = random.choice(left)?;
        Some((chosen.id, seals_at(chosen, now.minus(CLOCKS_APART_SECONDS))))
    }

    /// Somebody asks for a rotation, and was told the number of the new epoch.
    pub(crate) fn rotated(&mut self, epoch: u32, now: Duration) {
        self.rotations.push((epoch, now));
    }

    /// Whether nobody is about to revoke an epoch; whoever is told so is. Of two at once it would not be known what came after what.
    pub(crate) fn may_revoke(&mut self, now: Duration) -> bool {
        if self.is_uncertain {
            return false;
        }
        (self.is_uncertain, self.changed) = (true, now);
        true
    }

    /// A revocation was acknowledged.
    pub(crate) fn revoked(&mut self, epoch: u32, ends_all: bool, server: usize, now: Duration) {
        self.revocations.push(Revocation { epoch, acknowledged: now, server, ends_all });
        (self.is_uncertain, self.changed) = (false, now);
    }

    /// When what everybody has may have ended last; nothing while that is not known.
    pub(crate) fn changed(&self) -> Option<Duration> {
        (!self.is_uncertain).then_some(self.changed)
    }

    /// Whether it is known that what an epoch has sealed has ended.
    pub(crate) fn is_revoked(&self, epoch: u32) -> bool {
        self.revocations.iter().any(|revocation| revocation.ends(epoch))
    }

    /// What is wrong with letting somebody in.
    pub(crate) fn wrongly_let_in(&self, asked: &Asked, bound: Duration) -> Option<String> {
        let late = |revocation: &&Revocation| {
            let is_at_once = revocation.server == asked.server && asked.sent > revocation.acknowledged;
            revocation.ends(asked.epoch) && (is_at_once || asked.sent > revocation.acknowledged + bound)
        };
        let Revocation { epoch, acknowledged, .. } = self.revocations.iter().find(late)?;
        Some(format!(
            "epoch {epoch} is revoked since {acknowledged:?}, and let in with what epoch {} sealed",
            asked.epoch
        ))
    }

    /// What is wrong with what an epoch has sealed that was issued at this moment, when all has been settled for long enough.
    pub(crate) fn wrongly_sealed(&self, epoch: u32, issued_at: UnixTime) -> Option<String> {
        if self.is_revoked(epoch) {
            return Some(format!("epoch {epoch} seals, and has ended"));
        }
        let seals = self.seen.get(&Place::Store)?.iter().filter(|epoch| seals_at(epoch, issued_at));
        let due = seals.max_by_key(|epoch| (epoch.seals_from, epoch.id))?.id;
        (due != epoch)
            .then(|| format!("epoch {epoch} has sealed what is issued at {}, and not {due}", issued_at.as_secs()))
    }

    /// What has not become of epochs in the end.
    pub(crate) fn lacks(&self, now: Duration) -> Option<String> {
        let seen = |place: &Place, id: u32| self.seen.get(place)?.iter().find(|epoch| epoch.id == id).cloned();
        let is_over = |place: &Place, id| seen(place, id).is_some_and(|epoch| epoch.state == EpochState::Retired);
        for Revocation { epoch, .. } in &self.revocations {
            if let Some(place) = self.seen.keys().find(|place| !is_over(place, *epoch)) {
                return Some(format!("epoch {epoch}, which was revoked, is not over at {place:?}"));
            }
        }
        let late = self.rotations.iter().filter(|(_, at)| now > *at + SEALS_WITHIN);
        let is_there = |id: u32| seen(&Place::Store, id).is_some_and(|epoch| epoch.state >= EpochState::Sealing);
        let (late, _) = late.into_iter().find(|(id, _)| !is_there(*id))?;
        Some(format!("epoch {late} does not seal within {SEALS_WITHIN:?}"))
    }

    /// Rotations and revocations that were acknowledged, and epochs that have come to seal by rotation alone.
    pub(crate) fn counts(&self) -> [usize; 3] {
        [self.rotations.len(), self.revocations.len(), self.followed]
    }
}

fn seals_at(epoch: &SealedEpoch, at: UnixTime) -> bool {
    epoch.state == EpochState::Sealing && epoch.seals_from.is_none_or(|from| from <= at)
}

/// What is wrong with an epoch after it was seen before.
fn went_back(before: &SealedEpoch, after: Option<&SealedEpoch>) -> Option<String> {
    let id = before.id;
    let Some(after) = after else { return Some(format!("epoch {id} is gone")) };
    if after.state < before.state {
        return Some(format!("epoch {id} was {} and is {}", before.state, after.state));
    }
    if before.revoked && !after.revoked {
        return Some(format!("epoch {id} was revoked and is not"));
    }
    // What a rotation has said about its moment others may have acted upon.
    if before.seals_from.is_some_and(|from| after.seals_from.is_none_or(|after| after > from)) {
        return Some(format!("epoch {id} seals later than was said"));
    }
    (after.state == EpochState::Retired && !after.blob.as_bytes().is_empty())
        .then(|| format!("epoch {id} is over, and its root is kept"))
}
