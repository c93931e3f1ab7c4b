//! Epochs while a region runs: how they follow each other at every server, and how one is cut off at once.
//!
//! All is in the store; each server mirrors it, tells the others by its beats which epoch it verifies with, and does the next
//! step where it is due ([`stage`]). Of two that do it at once one comes too late, and a server that dies between two steps
//! leaves the next one to the others. A server that has not heard for too long neither seals nor verifies: see
//! [`crate::fleet`].

mod stage;

use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Duration;

use inborn_credential::{CutOffs, EpochId, EpochRoot, Kek, KekError, SecretAccessKey};
use inborn_identity::{AccessKeyId, Partition, UnixTime};
use inborn_store::{
    CutOff, CutOffScope, EpochChange, EpochState, QuarantineScope, RecordedCutOff, Sealed, SealedEpoch, StoreError,
};
use tokio::sync::Mutex;

use crate::fleet::Clocks;
use crate::quarantine::{CLOCKS_APART_SECONDS, GIVEN_AFTER_SECONDS, leaves_doubt};
use crate::said::Said;
use crate::secrets::{self, KeySource};
use crate::{OpenError, RegionServer};
use stage::Step;
pub(crate) use stage::{NoRotation, retired};

/// How often it is looked whether a step is due.
const ROUND: Duration = Duration::from_secs(1);
/// Steps of one look.
const STEPS_MAX: usize = 8;
/// How long after a revocation its successor seals. What is issued in that second is not told from what comes after.
const REVOKED_AHEAD_SECONDS: u64 = 1;

/// How epochs follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochSettings {
    /// The age at which the newest epoch is followed by another; `None`: only when an operator says so.
    pub rotate_after_seconds: Option<u64>,
}

impl EpochSettings {
    /// Every ninety days.
    pub const DEFAULT: Self = Self { rotate_after_seconds: Some(90 * 24 * 3600) };
}

impl Default for EpochSettings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why an epoch was not made or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EpochError {
    /// There can be none now.
    #[error(transparent)]
    NoRotation(#[from] NoRotation),
    /// There is none of this number.
    #[error("there is no epoch {0}: see `inborn epoch list`")]
    Unknown(u32),
    /// It is over.
    #[error("epoch {0} is retired already: nothing that it sealed is accepted")]
    Over(u32),
    /// This server does not hear the others.
    #[error("this server has not heard the others for too long to decide")]
    Stale,
    /// What is sealed cannot be made or opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<StoreError> for EpochError {
    fn from(error: StoreError) -> Self {
        Self::Open(error.into())
    }
}

/// The epochs of a region, as the store had them last.
pub(crate) struct Epochs {
    kek: Arc<Kek>,
    source: KeySource,
    settings: EpochSettings,
    /// Store and memory change as one.
    known: Mutex<Vec<SealedEpoch>>,
    /// The highest that this server verifies with.
    verifies: AtomicU32,
    /// That clocks are too far apart.
    said: Said,
}

/// Epochs, and for whom they wait.
#[derive(Debug, Default)]
pub(crate) struct DescribedEpochs {
    /// As the store has them, oldest first.
    pub(crate) epochs: Vec<SealedEpoch>,
    /// The servers that do not verify with the newest yet.
    pub(crate) wait_for: Vec<String>,
    /// The servers whose clocks are so far from this one's that none goes on.
    pub(crate) clocks_apart: Vec<String>,
}

impl Epochs {
    /// As they were when the keyring was made of them.
    pub(crate) fn new(kek: Arc<Kek>, source: KeySource, settings: EpochSettings, known: Vec<SealedEpoch>) -> Self {
        let verifies = AtomicU32::new(highest(&known));
        Self { kek, source, settings, known: Mutex::new(known), verifies, said: Said::default() }
    }

    /// The key that the servers of the region share.
    pub(crate) fn kek(&self) -> &Kek {
        &self.kek
    }

    /// An operator as the authenticator needs it.
    pub(crate) fn unseal_operator(
        &self,
        operator: inborn_store::Operator,
        partition: Partition,
    ) -> Result<inborn_credential::Operator, OpenError> {
        secrets::open_operator(&self.kek, &self.source, partition, operator)
    }

    /// The secret of an operator as it is stored.
    pub(crate) fn seal_operator(&self, id: AccessKeyId, secret: &SecretAccessKey) -> Result<Sealed, OpenError> {
        secrets::seal_operator(&self.kek, id, secret)
    }

    /// The highest epoch that this server verifies with: what its beats tell.
    pub(crate) fn verifies(&self) -> u32 {
        self.verifies.load(Ordering::SeqCst)
    }
}

fn highest(epochs: &[SealedEpoch]) -> u32 {
    epochs.iter().map(|epoch| epoch.id).max().unwrap_or(0)
}

/// Whether each epoch has stayed as it was or gone on. A store that was put back would let in what has ended.
fn is_onward(before: &[SealedEpoch], now: &[SealedEpoch]) -> bool {
    before.iter().all(|before| {
        let found = now.iter().find(|epoch| epoch.id == before.id);
        found.is_some_and(|after| EpochChange { expected: before.clone(), after: after.clone() }.check().is_ok())
    })
}

/// Looks after the epochs for as long as the region is there.
pub(crate) fn start(region: &Arc<RegionServer>) {
    let region = Arc::downgrade(region);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(ROUND).await;
            let Some(region) = region.upgrade() else { return };
            match region.advance_epochs().await {
                Ok(()) => {}
                Err(EpochError::Open(OpenError::Store(StoreError::Closed))) => return,
                Err(error) => tracing::warn!(%error, "the rotation of epochs has to wait"),
            }
        }
    });
}

impl RegionServer {
    /// The epochs of the region.
    pub(crate) const fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Memory follows the store.
    ///
    /// # Errors
    /// The store's; `Corrupt`, too, where it has gone back: nothing of it is believed then.
    pub(crate) async fn hear_epochs(&self) -> Result<(), StoreError> {
        let mut known = self.epochs.known.lock().await;
        let found = self.store.epochs().await?;
        self.follow_epochs(&mut known, found).await
    }

    async fn follow_epochs(&self, known: &mut Vec<SealedEpoch>, found: Vec<SealedEpoch>) -> Result<(), StoreError> {
        if *known == found {
            return Ok(());
        }
        if !is_onward(known, &found) {
            let message = "epochs that had ended are back: was the database put back from a backup while servers run?";
            return Err(StoreError::Corrupt(message.to_owned()));
        }
        let keyring = secrets::open_epochs(&self.epochs.kek, &self.epochs.source, self.identity.partition, &found)
            .map_err(|error| StoreError::Corrupt(error.to_string()))?;
        self.authenticator.set_keyring(Arc::new(keyring)).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let was_revoked = |id| known.iter().any(|epoch| epoch.id == id && epoch.revoked);
        let revoked = found.iter().filter(|epoch| epoch.revoked && !was_revoked(epoch.id));
        let revoked_at = revoked.map(|epoch| epoch.ended_at.unwrap_or_default()).min();
        if let Some(since) = revoked_at {
            // What it ended was written with it, at that moment; the news of that may still be to come.
            self.cut_off_all(&self.store.cut_offs_since(since).await?);
        }
        self.epochs.verifies.store(highest(&found), Ordering::SeqCst);
        *known = found;
        // Also of one that begins: it takes a number, and an older one's place.
        self.high_water.count_an_end();
        if revoked_at.is_some() {
            self.end_what_no_longer_stands();
            self.credentials_ended(QuarantineScope::All);
        }
        Ok(())
    }

    /// The epochs as this server has them in memory, as soon as it is not about to change them: for whoever checks that servers follow
    /// their store.
    pub async fn known_epochs(&self) -> Vec<SealedEpoch> {
        self.epochs.known.lock().await.clone()
    }

    /// The epochs as they are, and for whom they wait.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn described_epochs(&self) -> Result<DescribedEpochs, StoreError> {
        let epochs = self.store.epochs().await?;
        let (wait_for, clocks_apart) = self.fleet().map_or_else(Default::default, |fleet| {
            (fleet.who_does_not_verify(highest(&epochs)), fleet.whose_clocks_are_apart(self.now()))
        });
        Ok(DescribedEpochs { epochs, wait_for, clocks_apart })
    }

    /// Does what is due, as far as it can be done now.
    pub(crate) async fn advance_epochs(&self) -> Result<(), EpochError> {
        for _ in 0..STEPS_MAX {
            // Who has not heard does not know what the others know.
            if self.is_stale() {
                return Ok(());
            }
            let now = self.now();
            // By one of two clocks that are hours apart an epoch would seal, or be retired, hours too early, now or when that clock is set.
            match self.fleet().map_or(Clocks::Together, |fleet| fleet.clocks(now)) {
                Clocks::Together => {}
                Clocks::Unknown => return Ok(()),
                Clocks::Apart => {
                    if self.epochs.said.is_due() {
                        tracing::warn!(
                            "epochs stay as they are: this server's clock and another's are far apart. Set the one that is wrong"
                        );
                    }
                    return Ok(());
                }
            }
            let mut known = self.epochs.known.lock().await;
            let all_verify = |id| self.fleet().is_none_or(|fleet| fleet.who_does_not_verify(id).is_empty());
            let rotate_after = self.epochs.settings.rotate_after_seconds;
            let Some(step) = stage::next(&known, all_verify, rotate_after, now) else {
                return Ok(());
            };
            let done = match step {
                Step::Publish(id) => self.publish(id, now).await,
                Step::Change(change) => {
                    tracing::info!(epoch = change.after.id, state = %change.after.state, "an epoch goes on");
                    let done = self.store.change_epochs(vec![change], Vec::new()).await;
                    done.inspect_err(|error| self.doubt_epochs_after(error)).map_err(EpochError::from)
                }
            };
            self.follow_own(&mut known).await?;
            match done {
                // Somebody else has done it.
                Ok(()) | Err(EpochError::Open(OpenError::Store(StoreError::Conflict(_)))) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes a new epoch that the others will verify with, and that will seal when they all do. Gives its number.
    pub(crate) async fn rotate_epoch(&self) -> Result<u32, EpochError> {
        if self.is_stale() {
            return Err(EpochError::Stale);
        }
        let mut known = self.epochs.known.lock().await;
        let found = self.store.epochs().await?;
        self.follow_epochs(&mut known, found).await?;
        let now = self.now();
        let id = stage::next_id(&known, now)?;
        self.publish(id, now).await?;
        self.follow_own(&mut known).await?;
        Ok(id)
    }

    /// Memory follows the store after a change of this server's own: of those it is told nothing, so that what cannot be read now is read
    /// with the next round.
    async fn follow_own(&self, known: &mut Vec<SealedEpoch>) -> Result<(), StoreError> {
        let found = self.store.epochs().await.inspect_err(|_| self.doubt())?;
        self.follow_epochs(known, found).await.inspect_err(|_| self.doubt())
    }

    /// A change that has failed so may have been made, or be made yet.
    fn doubt_epochs_after(&self, error: &StoreError) {
        if leaves_doubt(error) {
            self.doubt();
        }
    }

    async fn publish(&self, id: u32, now: UnixTime) -> Result<(), EpochError> {
        let epoch = new_epoch(&self.epochs.kek, id, now)?;
        tracing::info!(epoch = id, "an epoch is published");
        Ok(self.store.put_epoch(epoch).await.inspect_err(|error| self.doubt_epochs_after(error))?)
    }

    /// Ends an epoch at once, and with it everything that it sealed. Machines are given new credentials by the one that seals
    /// after it, which is made if there is none.
    pub(crate) async fn revoke_epoch(&self, id: u32) -> Result<(), EpochError> {
        let mut known = self.epochs.known.lock().await;
        let found = self.store.epochs().await?;
        self.follow_epochs(&mut known, found).await?;
        let now = self.now();
        let target = known.iter().find(|epoch| epoch.id == id).cloned().ok_or(EpochError::Unknown(id))?;
        if target.state == EpochState::Retired {
            return Err(EpochError::Over(id));
        }
        let revoked = SealedEpoch { revoked: true, ..stage::retired(&target, now) };
        let mut changes = vec![EpochChange { expected: target.clone(), after: revoked }];
        let mut cut_offs = Vec::new();
        // By the fastest clock there is.
        let last_moment = now.plus(CutOffs::AHEAD_SECONDS_MAX);
        let has_sealed = target.state == EpochState::Sealing && target.seals_from.unwrap_or_default() <= last_moment;
        if has_sealed {
            let at = now.plus(REVOKED_AHEAD_SECONDS);
            let next = self.successor(&mut known, id, now).await?;
            let before = match next.seals_from.filter(|from| next.state == EpochState::Sealing && *from <= at) {
                Some(from) => from,
                None => {
                    // Before all servers have said that they verify with it: who does not yet asks first.
                    let after = SealedEpoch { state: EpochState::Sealing, seals_from: Some(at), ..next.clone() };
                    changes.push(EpochChange { expected: next, after });
                    self.after_all_issued(now)
                }
            };
            // What is issued from then on is the successor's, and nothing of before is good.
            let cut_off = CutOff::IssuedBefore { scope: CutOffScope::All, before };
            cut_offs.push(RecordedCutOff { cut_off, at: now });
        }
        let done = self.store.change_epochs(changes, cut_offs.clone()).await;
        let done = done.inspect_err(|error| self.doubt_epochs_after(error));
        // Only what is certain: of a revocation that came to nothing this server alone would know an end, and refuse what all others
        // issue. If it has taken effect after an error, what it ended is read with the epochs.
        if done.is_ok() {
            self.cut_off_all(&cut_offs);
        }
        self.follow_own(&mut known).await?;
        done?;
        tracing::warn!(epoch = id, "an epoch was revoked");
        Ok(())
    }

    /// A moment that comes after all that anything issued is dated, by whatever clock. Hosts tell by that alone whether what they have,
    /// also for the next minutes, is of before a revocation: what is dated later they would go on with, and nobody lets it in.
    fn after_all_issued(&self, now: UnixTime) -> UnixTime {
        let usual = now.plus(GIVEN_AFTER_SECONDS + CLOCKS_APART_SECONDS);
        let after = self.machines.iter().fold(usual, |after, machine| after.max(self.dated_from(&machine).plus(1)));
        // What lies further ahead does not count whole.
        after.min(now.plus(CutOffs::AHEAD_SECONDS_MAX))
    }

    /// The epoch that seals after `id`: the first that is left, or a new one. Never an earlier one.
    async fn successor(&self, known: &mut Vec<SealedEpoch>, id: u32, now: UnixTime) -> Result<SealedEpoch, EpochError> {
        let first_after = |known: &[SealedEpoch]| {
            let left = known.iter().filter(|epoch| epoch.id > id && epoch.state != EpochState::Retired);
            left.min_by_key(|epoch| epoch.id).cloned()
        };
        if let Some(next) = first_after(known) {
            return Ok(next);
        }
        self.publish(highest(known).checked_add(1).ok_or(NoRotation::Numbers)?, now).await?;
        self.follow_own(known).await?;
        first_after(known).ok_or(EpochError::Unknown(id))
    }
}

/// A new epoch, published.
pub(crate) fn new_epoch(kek: &Kek, id: u32, now: UnixTime) -> Result<SealedEpoch, OpenError> {
    let root = EpochRoot::generate()?;
    let blob = kek.seal(&secrets::epoch_label(EpochId(id)), root.expose()).map_err(|error: KekError| error)?;
    Ok(SealedEpoch {
        id,
        blob: Sealed::new(blob),
        created_at: now,
        state: EpochState::Published,
        seals_from: None,
        ended_at: None,
        revoked: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_put_back_is_not_believed() {
        let at = UnixTime::from_secs(1_800_000_000);
        let kek = Kek::from_bytes(&[1; Kek::BYTES]).unwrap();
        let first = SealedEpoch { state: EpochState::Sealing, ..new_epoch(&kek, 1, at).unwrap() };
        let second = new_epoch(&kek, 2, at).unwrap();
        let ended = stage::retired(&first, at);
        let sealing = SealedEpoch { state: EpochState::Sealing, seals_from: Some(at), ..second.clone() };
        let yesterday = [first.clone()];
        let today = [ended.clone(), sealing.clone()];
        assert!(is_onward(&yesterday, &[first.clone(), second.clone()]) && is_onward(&yesterday, &today));
        assert!(!is_onward(&today, &yesterday), "one is gone, and one that had ended is back");
        assert!(!is_onward(&today, &[first, sealing]), "one that had ended is back");
        assert!(!is_onward(&today, &[ended, second]), "one that sealed does not");
    }
}
