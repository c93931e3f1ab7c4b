//! Quarantine: machines that live on and are let in nowhere until an operator releases them.
//!
//! A machine in quarantine is given nothing, and to every service it is as unknown as one that is gone. Its release first
//! ends all that it was given before: whoever has stolen that is not let in again with the machine.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use arc_swap::ArcSwap;
use inborn_credential::CutOffs;
use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_store::{
    Conflict, CutOff, CutOffScope, Instance, InstanceState, PackedInstance, Quarantine, QuarantineBasis,
    QuarantineScope, RecordedCutOff, Store, StoreError,
};
use tokio::sync::{Mutex, watch};

use crate::machines::Belonging;
use crate::{RegionServer, secrets};

/// Machines of one account that may be in quarantine by their own names. Who has more to lock out has a host or an account to
/// name: those are never refused, so that no account can use up what the region locks others out with.
pub(crate) const QUARANTINES_MAX: usize = 10_000;
/// How often a change of a quarantine is tried that other servers change at the same time.
const ATTEMPTS_MAX: u32 = 8;
/// Quarantines of machines that are gone, which are forgotten at a time.
const FORGOTTEN_AT_ONCE: usize = 1000;
/// How long after its beginning a machine may still be given something: until every server has heard, and then for as long as
/// hosts are given credentials ahead of their time, which is 360 s.
pub(crate) const GIVEN_AFTER_SECONDS: u64 = 370;

/// How far the clocks of two servers may be apart without a release, or a revocation, letting in again what was issued before it.
pub(crate) const CLOCKS_APART_SECONDS: u64 = 60;

/// Cut-offs so old were heard of before the list of quarantines was asked for that no longer has what they are of, whatever the
/// clocks say: by then a server that had not would have been stale for long.
const RELEASED_SECONDS: u64 = 600;

/// How long a region waits for the home's store: longer, and the trouble would be the region's too.
const HOME_PATIENCE: Duration = Duration::from_secs(3);

// A cut-off further ahead than that would not count whole.
const _: () = assert!(GIVEN_AFTER_SECONDS + CLOCKS_APART_SECONDS < CutOffs::AHEAD_SECONDS_MAX);

/// Why a machine was not put into quarantine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuarantineError {
    /// There are as many as there may be.
    #[error("the account has {QUARANTINES_MAX} machines in quarantine already: name the account, or release some")]
    TooMany,
    /// The region's operators have put the account there: it is not the account's to change.
    #[error("{0} was put into quarantine by the region's operators: only they can change that, and release it")]
    NotYours(QuarantineScope),
    /// Some regions have done it, and others could not.
    #[error("{0}")]
    NotEverywhere(NotEverywhere),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of a quarantine that is to be in every region of the deployment, where some of them could not do it.
#[derive(Debug)]
pub(crate) struct NotEverywhere {
    /// What was asked: `quarantine`, `release`.
    what: &'static str,
    done: Vec<String>,
    failed: Vec<(String, StoreError)>,
}

impl core::fmt::Display for NotEverywhere {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let done = if self.done.is_empty() { "no region".to_owned() } else { self.done.join(", ") };
        write!(f, "The {} is done in {done}, and not in", self.what)?;
        for (index, (region, error)) in self.failed.iter().enumerate() {
            write!(f, "{} {region} ({error})", if index > 0 { "," } else { "" })?;
        }
        f.write_str(": try again until it is done in all")
    }
}

type List = HashMap<QuarantineScope, Arc<Quarantine>>;

/// The quarantines in the store and in memory.
pub(crate) struct Quarantines {
    list: ArcSwap<List>,
    /// The beginning of each, and when this server first knew of it: one that took effect late says that it began when it was asked for.
    heard: std::sync::Mutex<HashMap<QuarantineScope, (UnixTime, UnixTime)>>,
    /// Store and memory change as one.
    turn: Mutex<()>,
    changed: watch::Sender<()>,
}

/// Whether a quarantine of this scope is one in every region of the deployment: accounts are the deployment's.
pub(crate) const fn is_everywhere(scope: QuarantineScope) -> bool {
    matches!(scope, QuarantineScope::Account(_) | QuarantineScope::All)
}

/// Whether an operator of this account may release what is in quarantine so, as far as it is the account's at all. What the
/// region has against an account, who holds a key of the account must not undo.
pub(crate) fn may_end(quarantine: &Quarantine, account: AccountId, region: AccountId) -> bool {
    let is_of_account = matches!(quarantine.scope, QuarantineScope::Account(_));
    account == region || !is_of_account || is_by(quarantine, account)
}

/// Whether an operator of this account has begun it.
fn is_by(quarantine: &Quarantine, account: AccountId) -> bool {
    quarantine.by.split(':').nth(4).and_then(|by| by.parse::<AccountId>().ok()) == Some(account)
}

/// Others were faster each time.
fn changed(scope: QuarantineScope) -> QuarantineError {
    StoreError::from(Conflict::QuarantineChanged(scope)).into()
}

/// Whether memory may not be what the store has after this error.
pub(crate) const fn leaves_doubt(error: &StoreError) -> bool {
    matches!(error, StoreError::Io(_) | StoreError::Closed | StoreError::Unavailable(_))
}

impl Quarantines {
    pub(crate) async fn load(store: &dyn Store, now: UnixTime) -> Result<Self, StoreError> {
        let quarantines = Self {
            list: ArcSwap::default(),
            heard: std::sync::Mutex::default(),
            turn: Mutex::new(()),
            changed: watch::Sender::new(()),
        };
        quarantines.set(read(store).await?, now);
        Ok(quarantines)
    }

    /// The quarantine that a machine is in: of several the widest.
    pub(crate) fn of(&self, machine: impl Into<Belonging>) -> Option<Arc<Quarantine>> {
        let list = self.list.load();
        if list.is_empty() {
            return None;
        }
        let machine = machine.into();
        let host = machine.host.map(QuarantineScope::Host);
        let scopes = [QuarantineScope::All, QuarantineScope::Account(machine.account)];
        let scopes = scopes.into_iter().chain(host).chain([QuarantineScope::Instance(machine.id)]);
        scopes.into_iter().find_map(|scope| list.get(&scope)).cloned()
    }

    /// Whether there is one of this scope.
    pub(crate) fn has(&self, scope: QuarantineScope) -> bool {
        self.list.load().contains_key(&scope)
    }

    /// All there are, ordered by scope.
    pub(crate) fn all(&self) -> Vec<Arc<Quarantine>> {
        let mut all: Vec<_> = self.list.load().values().cloned().collect();
        all.sort_by_key(|quarantine| quarantine.scope);
        all
    }

    /// Waits until a machine is in quarantine.
    pub(crate) async fn beginning(&self, machine: &Instance) {
        let mut changed = self.changed.subscribe();
        while self.of(machine).is_none() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Not before it took effect, whenever it was asked for.
    fn known_since(&self, quarantine: &Quarantine, now: UnixTime) -> UnixTime {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let known = heard.get(&quarantine.scope).filter(|(since, _)| *since == quarantine.since);
        quarantine.since.max(known.map_or(now, |(_, at)| *at))
    }

    fn set(&self, list: List, now: UnixTime) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was released, and put again, is another.
        heard.retain(|scope, (since, _)| list.get(scope).is_some_and(|found| found.since == *since));
        list.values().for_each(|found| _ = heard.entry(found.scope).or_insert((found.since, now)));
        drop(heard);
        self.list.store(Arc::new(list));
        self.changed.send_replace(());
    }
}

/// What the regions have answered; an error if not all have done it.
fn in_all<T>(
    outcomes: Vec<(String, Result<T, QuarantineError>)>,
    what: &'static str,
) -> Result<Vec<T>, QuarantineError> {
    let is_alone = outcomes.len() == 1;
    let (mut values, mut done, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for (region, outcome) in outcomes {
        match outcome {
            Ok(value) => {
                values.push(value);
                done.push(region);
            }
            Err(QuarantineError::Store(error)) if !is_alone => failed.push((region, error)),
            Err(error) => return Err(error),
        }
    }
    if failed.is_empty() {
        Ok(values)
    } else {
        Err(QuarantineError::NotEverywhere(NotEverywhere { what, done, failed }))
    }
}

async fn read(store: &dyn Store) -> Result<List, StoreError> {
    let all = store.quarantines().await?;
    Ok(all.into_iter().map(|quarantine| (quarantine.scope, Arc::new(quarantine))).collect())
}

impl RegionServer {
    /// The quarantines there are.
    pub(crate) const fn quarantines(&self) -> &Quarantines {
        &self.quarantines
    }

    /// The quarantine that a machine is in.
    #[must_use]
    pub fn quarantine_of(&self, machine: &Instance) -> Option<Arc<Quarantine>> {
        self.quarantines.of(machine)
    }

    /// Whether a machine is in quarantine.
    #[must_use]
    pub fn is_quarantined(&self, id: InstanceId) -> bool {
        self.machines.packed(id).is_some_and(|machine| self.quarantines.of(&*machine).is_some())
    }

    /// Puts machines into quarantine; those of an account, and all, in every region of the deployment. When this has answered they
    /// are let in nowhere, and what they had open is closed.
    pub(crate) async fn put_into_quarantine(
        &self,
        quarantine: Quarantine,
        account: AccountId,
    ) -> Result<(), QuarantineError> {
        if !is_everywhere(quarantine.scope) {
            return self.put_into_quarantine_here(quarantine, account).await;
        }
        self.check_may_end_everywhere(quarantine.scope, account)?;
        let put = |region: Arc<Self>| {
            let (name, quarantine) = (region.identity().region.to_string(), quarantine.clone());
            (name, tokio::spawn(async move { region.put_into_quarantine_here(quarantine, account).await }))
        };
        let mut regions = self.regions().into_iter();
        let Some((home, mut at_home)) = regions.next().map(put) else {
            return self.put_into_quarantine_here(quarantine, account).await;
        };
        // What the region's operators have against an account is in the home's store at least: it answers first. The others are
        // not held up by a store that does not answer.
        let early = tokio::time::timeout(HOME_PATIENCE, &mut at_home).await;
        if matches!(early, Ok(Ok(Err(QuarantineError::NotYours(_))))) {
            return Err(QuarantineError::NotYours(quarantine.scope));
        }
        // Side by side.
        let putting: Vec<_> = regions.map(put).collect();
        let at_home = match early {
            Ok(outcome) => outcome,
            Err(_) => at_home.await,
        };
        let failed = |_| Err(StoreError::Io("the task failed".into()).into());
        let mut outcomes = vec![(home, at_home.unwrap_or_else(failed))];
        for (name, putting) in putting {
            outcomes.push((name, putting.await.unwrap_or_else(failed)));
        }
        in_all(outcomes, "quarantine").map(drop)
    }

    /// What the region's operators have against an account is not the account's to change, in whatever region it is known of.
    fn check_may_end_everywhere(&self, scope: QuarantineScope, account: AccountId) -> Result<(), QuarantineError> {
        let region = self.identity().account;
        let has_other = |known: Arc<Self>| {
            known.quarantines.list.load().get(&scope).is_some_and(|found| !may_end(found, account, region))
        };
        if self.regions().into_iter().any(has_other) { Err(QuarantineError::NotYours(scope)) } else { Ok(()) }
    }

    /// The same in this region alone.
    async fn put_into_quarantine_here(
        &self,
        quarantine: Quarantine,
        account: AccountId,
    ) -> Result<(), QuarantineError> {
        let outcome = self.put_in_turn(quarantine, account).await;
        self.doubt_after(&outcome);
        outcome
    }

    /// After an error that leaves it open what the store has, this server looks again.
    fn doubt_after<T>(&self, outcome: &Result<T, QuarantineError>) {
        if let Err(QuarantineError::Store(error)) = outcome
            && leaves_doubt(error)
        {
            self.doubt();
        }
    }

    async fn put_in_turn(&self, quarantine: Quarantine, account: AccountId) -> Result<(), QuarantineError> {
        let _turn = self.quarantines.turn.lock().await;
        let scope = quarantine.scope;
        let list = self.quarantines.list.load_full();
        let is_instance = matches!(scope, QuarantineScope::Instance(_));
        if is_instance && !list.contains_key(&scope) && self.quarantined_of(&list, account) >= QUARANTINES_MAX {
            return Err(QuarantineError::TooMany);
        }
        let outcome = match scope {
            QuarantineScope::Account(_) if account != self.identity().account => {
                self.put_own(quarantine, account).await
            }
            // Whatever there is may be changed, so that nobody who writes without end can keep it out.
            _ => self.store.put_quarantine(quarantine, QuarantineBasis::Any).await.map_err(Into::into),
        };
        if matches!(outcome, Ok(()) | Err(QuarantineError::Store(StoreError::Io(_) | StoreError::Closed))) {
            // After an error it may have been written all the same.
            self.high_water.count_an_end();
            self.hear_in_turn().await?;
        }
        outcome
    }

    /// Puts an account into quarantine for one of its own operators, unless the region's have. What was judged is what is changed,
    /// whatever other servers write meanwhile.
    async fn put_own(&self, quarantine: Quarantine, account: AccountId) -> Result<(), QuarantineError> {
        let scope = quarantine.scope;
        for _ in 0..ATTEMPTS_MAX {
            let list = read(&*self.store).await?;
            let found = list.get(&scope);
            if found.is_some_and(|found| !may_end(found, account, self.identity().account)) {
                return Err(QuarantineError::NotYours(scope));
            }
            let basis = found.map_or(QuarantineBasis::Absent, |found| QuarantineBasis::Found(Quarantine::clone(found)));
            match self.store.put_quarantine(quarantine.clone(), basis).await {
                Err(StoreError::Conflict(Conflict::QuarantineChanged(_))) => {}
                outcome => return Ok(outcome?),
            }
        }
        Err(changed(scope))
    }

    /// Puts into quarantine here what the home has in quarantine everywhere: it was done while this region was away, or not there
    /// yet. What the region's operators have against an account takes the place of what the account has by itself.
    pub(crate) async fn take_over_quarantines(&self) -> Result<(), StoreError> {
        if self.is_home() {
            return Ok(());
        }
        let home = self.home();
        let lacks = |found: &Quarantine| {
            let (region, own) = (self.identity().account, self.quarantines.list.load());
            let is_less = |own: &Arc<Quarantine>| is_by(found, region) && !is_by(own, region);
            is_everywhere(found.scope) && own.get(&found.scope).is_none_or(is_less)
        };
        if !home.quarantines.list.load().values().any(|found| lacks(found)) {
            return Ok(());
        }
        // A release ends it at the home first, and here when it has the turn: either it is gone at the home when that is asked, or
        // the release comes after what is put here.
        let _turn = self.quarantines.turn.lock().await;
        // What was released a moment ago, by another server too, is not to begin again.
        let asked = tokio::time::timeout(HOME_PATIENCE, read(&*home.store)).await;
        let of_home = asked.map_err(|_| StoreError::Unavailable("the home's did not answer in time".to_owned()))??;
        for quarantine in of_home.values().filter(|found| lacks(found)) {
            // What the account has by itself takes no other's place.
            let is_by_region = is_by(quarantine, self.identity().account);
            let basis = if is_by_region { QuarantineBasis::Any } else { QuarantineBasis::Absent };
            match self.store.put_quarantine(Quarantine::clone(quarantine), basis).await {
                Ok(()) => self.high_water.count_an_end(),
                Err(StoreError::Conflict(Conflict::QuarantineChanged(_))) => {}
                Err(error) => {
                    if leaves_doubt(&error) {
                        self.doubt();
                    }
                    return Err(error);
                }
            }
        }
        self.hear_in_turn().await
    }

    /// Has the others take over what this region has, if it is the home. Nobody waits for their stores.
    pub(crate) fn hand_on_quarantines(&self) {
        if !self.is_home() {
            return;
        }
        for region in self.regions().into_iter().filter(|region| !region.is_home()) {
            tokio::spawn(async move {
                if let Err(error) = region.take_over_quarantines().await {
                    let region = &region.identity().region;
                    tracing::warn!(%region, %error, "the home's quarantines could not be taken over yet");
                }
            });
        }
    }

    /// Machines of an account that are in quarantine by their own names.
    fn quarantined_of(&self, list: &List, account: AccountId) -> usize {
        if list.len() < QUARANTINES_MAX {
            return 0;
        }
        let is_of = |scope: &&QuarantineScope| match scope {
            QuarantineScope::Instance(id) => {
                self.machines.packed(*id).is_some_and(|machine| machine.account() == account)
            }
            _ => false,
        };
        list.keys().filter(is_of).count()
    }

    /// Forgets the quarantines of machines that are gone for good, some at a time. Who is to be locked out meanwhile does not wait
    /// for it: of a machine that is gone nothing can be let in, so that store and memory need not change as one.
    pub(crate) async fn forget_quarantines_of_the_gone(&self) -> Result<(), StoreError> {
        let list = self.quarantines.list.load_full();
        let instances = list.values().filter_map(|quarantine| match quarantine.scope {
            QuarantineScope::Instance(id) => Some((quarantine, id)),
            _ => None,
        });
        let unknown = instances.filter(|(_, id)| !self.machines.contains(*id)).take(FORGOTTEN_AT_ONCE);
        let mut is_changed = false;
        for (quarantine, id) in unknown {
            let found = self.store.instance(id).await?;
            if found.is_none_or(|found| found.state == InstanceState::Terminated) {
                match self.store.end_quarantine(Quarantine::clone(quarantine), Vec::new()).await {
                    // Another server has just changed it: next time.
                    Err(StoreError::Conflict(Conflict::QuarantineChanged(_))) => {}
                    outcome => is_changed |= outcome?,
                }
            }
        }
        if is_changed {
            self.hear_quarantines().await?;
        }
        Ok(())
    }

    /// Releases machines for an operator of `account`, those of an account, and all, in every region; gives whether they were in
    /// quarantine, and the account's to release. What they had before has ended, and what a host may have prepared for them when
    /// the quarantine began.
    pub(crate) async fn release(
        &self,
        scope: QuarantineScope,
        account: AccountId,
        now: UnixTime,
    ) -> Result<bool, QuarantineError> {
        if !is_everywhere(scope) {
            return self.release_here(scope, account, now).await;
        }
        self.check_may_end_everywhere(scope, account)?;
        let (mut outcomes, mut is_stopped) = (Vec::new(), false);
        // The home comes first: what it has still, the others take over, so that without it nothing is released.
        for region in self.regions() {
            let outcome = if is_stopped {
                Err(StoreError::Unavailable("not tried: the home comes first".to_owned()).into())
            } else {
                region.release_here(scope, account, now).await
            };
            is_stopped |= region.is_home() && outcome.is_err();
            outcomes.push((region.identity().region.to_string(), outcome));
        }
        Ok(in_all(outcomes, "release")?.contains(&true))
    }

    /// The same in this region alone.
    async fn release_here(
        &self,
        scope: QuarantineScope,
        account: AccountId,
        now: UnixTime,
    ) -> Result<bool, QuarantineError> {
        let outcome = self.release_in_turn(scope, account, now).await;
        self.doubt_after(&outcome);
        outcome
    }

    async fn release_in_turn(
        &self,
        scope: QuarantineScope,
        account: AccountId,
        now: UnixTime,
    ) -> Result<bool, QuarantineError> {
        let _turn = self.quarantines.turn.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            match self.release_as_read(scope, account, now).await {
                Err(QuarantineError::Store(StoreError::Conflict(Conflict::QuarantineChanged(_)))) => {}
                outcome => return outcome,
            }
        }
        Err(changed(scope))
    }

    /// Judges by what the store has, and ends that and no other: a conflict where another server has changed it meanwhile.
    async fn release_as_read(
        &self,
        scope: QuarantineScope,
        account: AccountId,
        now: UnixTime,
    ) -> Result<bool, QuarantineError> {
        // What another server has written a moment ago counts too.
        let list = read(&*self.store).await?;
        let Some(quarantine) = list.get(&scope) else {
            self.hear_in_turn().await?;
            return Ok(false);
        };
        if !may_end(quarantine, account, self.identity().account) {
            self.hear_in_turn().await?;
            return Err(QuarantineError::NotYours(scope));
        }
        // Of an earlier release, which may have been another server's: what it has ended may be dated ahead of all clocks.
        let since = now.minus(CutOffs::AHEAD_SECONDS_MAX + RELEASED_SECONDS);
        let known = self.store.cut_offs_since(since).await?;
        self.cut_off_all(&known);
        let cut_offs = self.cut_offs_of_release(quarantine, &known, now);
        match self.store.end_quarantine(Quarantine::clone(quarantine), cut_offs.clone()).await {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error @ (StoreError::Io(_) | StoreError::Closed)) => {
                // It is in quarantine here until the store says that it is not, and what the release has ended is read before that. It is
                // not believed now: of a release that came to nothing this server alone would know an end, and date what it issues by it.
                self.high_water.count_an_end();
                let mut still = List::clone(&self.quarantines.list.load());
                still.insert(scope, Arc::clone(quarantine));
                self.now_there_are(still);
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
        self.cut_off_all(&cut_offs);
        self.hear_in_turn().await?;
        // Also if it was not known here that it had ever begun.
        self.end_what_no_longer_stands();
        self.credentials_ended(scope);
        Ok(true)
    }

    /// What a release cuts off. It is stronger than all that is `known` to end the same, as the store demands: whoever was released
    /// and put into quarantine again since that was read has been given something behind that.
    fn cut_offs_of_release(
        &self,
        quarantine: &Quarantine,
        known: &[RecordedCutOff],
        now: UnixTime,
    ) -> Vec<RecordedCutOff> {
        let whole = match quarantine.scope {
            QuarantineScope::Instance(id) => Some(CutOffScope::Instance(id)),
            QuarantineScope::Account(id) => Some(CutOffScope::Account(id)),
            QuarantineScope::All => Some(CutOffScope::All),
            QuarantineScope::Host(_) => None,
        };
        // What was issued in this second is not told from what was stolen in it. And others may have dated what they issued, and
        // the beginning of the quarantine, by clocks that were not this one's.
        let since = self.quarantines.known_since(quarantine, now);
        let before = now.plus(1).max(since.plus(GIVEN_AFTER_SECONDS)).plus(CLOCKS_APART_SECONDS);
        let behind_known = known.iter().filter_map(|recorded| match recorded.cut_off {
            CutOff::IssuedBefore { scope, before } if Some(scope) == whole => Some(before.plus(1)),
            _ => None,
        });
        let before = behind_known.fold(before, UnixTime::max);
        // What a machine has may be dated ahead of all clocks: behind an earlier cut-off, or by its launch.
        let (mut before, mut released) = (before, Vec::new());
        self.each_of(quarantine.scope, |machine| {
            before = before.max(self.dated_from(machine).plus(1));
            // Only these are cut off one by one.
            if whole.is_none() {
                released.push(CutOffScope::Instance(machine.id()));
            }
        });
        let cut_off = |scope| RecordedCutOff { cut_off: CutOff::IssuedBefore { scope, before }, at: now };
        whole.into_iter().chain(released).map(cut_off).collect()
    }

    /// The same cut-offs that the store has, for the verifier of this process.
    pub(crate) fn cut_off_all(&self, cut_offs: &[RecordedCutOff]) {
        for recorded in cut_offs {
            self.machines.end(secrets::cut_off(recorded.cut_off), recorded.at);
        }
    }

    /// Another server has begun or ended quarantines: memory follows the store.
    pub(crate) async fn hear_quarantines(&self) -> Result<(), StoreError> {
        let _turn = self.quarantines.turn.lock().await;
        self.hear_in_turn().await
    }

    /// The only way in which what the store has comes to memory.
    async fn hear_in_turn(&self) -> Result<(), StoreError> {
        let list = read(&*self.store).await?;
        // What has begun counts at once, also if what comes next takes long, or fails.
        let mut both = List::clone(&self.quarantines.list.load());
        both.extend(list.iter().map(|(scope, quarantine)| (*scope, Arc::clone(quarantine))));
        self.now_there_are(both);
        // What was released before the list was read is not in it, whether or not it was known here that it had ever begun. The
        // cut-offs of the release are there with it, but the news of them may still be to come.
        // A release may have taken effect long after it was asked for, but not before its quarantine began.
        let before = self.quarantines.list.load_full();
        let ended = before.iter().filter(|(scope, _)| !list.contains_key(*scope)).map(|(_, ended)| ended.since).min();
        if ended.is_some() || self.fleet().is_some() {
            let since = self.now().min(ended.unwrap_or(UnixTime::MAX)).minus(RELEASED_SECONDS);
            self.cut_off_all(&self.store.cut_offs_since(since).await?);
        }
        self.now_there_are(list);
        Ok(())
    }

    /// Puts a list in the place of the one that was, and tells who has to know what is different.
    fn now_there_are(&self, list: List) {
        let before = self.quarantines.list.load_full();
        let is_other = |scope: &&QuarantineScope| before.get(*scope) != list.get(*scope);
        let changed: BTreeSet<QuarantineScope> = before.keys().chain(list.keys()).filter(is_other).copied().collect();
        if changed.is_empty() {
            return;
        }
        self.quarantines.set(list, self.now());
        self.end_what_no_longer_stands();
        changed.into_iter().for_each(|scope| self.credentials_ended(scope));
    }

    /// Tells who has to know that what the machines of a scope were given so far has ended.
    pub(crate) fn credentials_ended(&self, scope: QuarantineScope) {
        self.each_of(scope, |machine| self.machines.credentials_ended(machine));
    }

    /// Shows the machines of a scope, and looks at no others.
    fn each_of(&self, scope: QuarantineScope, mut show: impl FnMut(&PackedInstance)) {
        match scope {
            QuarantineScope::Instance(id) => self.machines.packed(id).iter().for_each(|machine| show(machine)),
            QuarantineScope::Host(id) => {
                let on_host = self.hosts.ids_on(id).into_iter();
                on_host.filter_map(|id| self.machines.packed(id)).for_each(|machine| show(&machine));
            }
            QuarantineScope::Account(id) => self.machines.of_account(id).for_each(|machine| show(&machine)),
            // In a simulation by their ids: which host is told first is to be the same each time.
            QuarantineScope::All if inborn_chance::is_seeded() => {
                let by_id: BTreeMap<_, _> = self.machines.iter().map(|machine| (machine.id(), machine)).collect();
                by_id.values().for_each(|machine| show(machine));
            }
            QuarantineScope::All => self.machines.iter().for_each(|machine| show(&machine)),
        }
    }

    /// As [`Self::end_what_no_longer_stands`], in every region: where an account or a role is gone.
    pub(crate) fn end_everywhere_what_no_longer_stands(&self) {
        for region in self.regions() {
            region.end_what_no_longer_stands();
        }
    }

    /// Closes what sessions have opened that no longer stand.
    pub(crate) fn end_what_no_longer_stands(&self) {
        self.channels.keep(|claims| self.holds(claims));
        self.sessions.keep(|claims| self.stands(claims));
    }
}
