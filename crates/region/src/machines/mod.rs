//! The machines of the region as they are now: the store's truth, mirrored in memory for those who cannot wait for it.

mod registry;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock, PoisonError};

use inborn_credential::{Authenticator, CutOff};
use inborn_identity::{AccountId, HostId, InstanceId, UnixTime};
use inborn_store::{
    Change, ChangeRequest, Changed, Instance, InstanceQuery, InstanceState, LaunchOutcome, LaunchRequest,
    PackedInstance, Store, StoreError,
};
use tokio::sync::{Mutex, MutexGuard, mpsc, watch};

use registry::{Loading, Registry};

/// Is told of every machine that comes, changes or goes, after the store has it and before the caller is answered.
pub trait Observer: Send + Sync + 'static {
    /// `instance` is now as it says. A terminated one is told of once and then forgotten.
    fn changed(&self, instance: &Arc<Instance>);

    /// What a machine was given so far has ended, or it may be given something again: what was prepared for it is worth nothing.
    fn credentials_ended(&self, machine: &PackedInstance) {
        let _ = machine;
    }

    /// A key for logins was sent to `instance`: [`crate::RegionServer::sent_keys`] has it.
    fn keys_were_sent(&self, instance: InstanceId) {
        let _ = instance;
    }
}

/// What says of a machine whose business it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Belonging {
    pub(crate) id: InstanceId,
    pub(crate) account: AccountId,
    pub(crate) host: Option<HostId>,
}

impl From<&Instance> for Belonging {
    fn from(machine: &Instance) -> Self {
        Self { id: machine.id, account: machine.account, host: machine.host }
    }
}

impl From<&PackedInstance> for Belonging {
    fn from(machine: &PackedInstance) -> Self {
        Self { id: machine.id(), account: machine.account(), host: machine.host() }
    }
}

/// How many changes to different instances may go on side by side.
const LANES: usize = 64;
/// Parts of what the store has that may wait here to be taken, while it is loaded.
const PARTS_WAITING: usize = 2;

/// The machines, and the only way to change them.
///
/// A change goes store → cut-offs → memory → observer → answer. Changes of one instance take turns (in lanes), so that
/// memory never ends up with the older of two; changes of different instances share the store's group commit.
pub struct Machines {
    store: Arc<dyn Store>,
    authenticator: Arc<Authenticator>,
    live: Registry,
    lanes: [Mutex<()>; LANES],
    /// Who in this region is told of changes, before anybody outside.
    own_observers: Vec<Arc<dyn Observer>>,
    observer: OnceLock<Arc<dyn Observer>>,
    /// Changes whenever the boot of a machine has ended.
    boots_ended: watch::Sender<()>,
    /// Of these a change may have taken effect, or not, without memory following it.
    doubtful: std::sync::Mutex<BTreeSet<InstanceId>>,
}

impl core::fmt::Debug for Machines {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Machines").field("live", &self.count()).finish_non_exhaustive()
    }
}

impl Machines {
    /// Reads all machines that are not terminated, and gives which of them are on which hosts. `own_observers` are told of all that
    /// changes from then on.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn load(
        store: Arc<dyn Store>,
        authenticator: Arc<Authenticator>,
        own_observers: Vec<Arc<dyn Observer>>,
    ) -> Result<(Self, Vec<(HostId, Vec<InstanceId>)>), StoreError> {
        let mut loading = Loading::default();
        let (sender, mut parts) = mpsc::channel(PARTS_WAITING);
        // The store reads on while what it has read is put in its place.
        let (read, ()) = tokio::join!(store.living(Arc::clone(loading.packer()), sender), async {
            while let Some(part) = parts.recv().await {
                loading.take(part);
            }
        });
        read?;
        let (live, on_hosts) = loading.finish();
        let machines = Self {
            store,
            authenticator,
            live,
            lanes: [const { Mutex::const_new(()) }; LANES],
            own_observers,
            observer: OnceLock::new(),
            boots_ended: watch::Sender::new(()),
            doubtful: std::sync::Mutex::default(),
        };
        Ok((machines, on_hosts))
    }

    /// Sets who is told of changes from now on. Only the first call counts.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        // Whoever was here before is kept.
        let _ = self.observer.set(observer);
    }

    /// A machine that is not terminated.
    #[must_use]
    pub fn get(&self, id: InstanceId) -> Option<Arc<Instance>> {
        Some(Arc::new(self.live.get(id)?.unpack()))
    }

    /// The same as it is kept: for those who ask often, or for little.
    #[must_use]
    pub fn packed(&self, id: InstanceId) -> Option<Arc<PackedInstance>> {
        self.live.get(id)
    }

    /// Whether a machine is not terminated.
    #[must_use]
    pub fn contains(&self, id: InstanceId) -> bool {
        self.live.get(id).is_some()
    }

    /// The machines of an account that run and have this address: two may, on networks of their own.
    #[must_use]
    pub fn running_at(&self, account: AccountId, address: IpAddr) -> Vec<Arc<PackedInstance>> {
        let mut there = match address {
            IpAddr::V4(address) => self.live.at(account, address),
            IpAddr::V6(address) => self.live.at_ipv6(account, address),
        };
        there.retain(|machine| machine.is_running());
        there
    }

    /// How many machines have this address that are not terminated, whosever they are.
    #[must_use]
    pub fn count_at(&self, address: IpAddr) -> usize {
        match address {
            IpAddr::V4(address) => self.live.count_at(address),
            IpAddr::V6(address) => self.live.count_at_ipv6(address),
        }
    }

    /// Waits until a machine no longer runs, or runs in another boot than when it was read.
    pub(crate) async fn end_of_boot(&self, machine: &Instance) {
        let is_same_boot =
            |now: Arc<PackedInstance>| now.is_running() && now.boot_generation() == machine.boot_generation;
        let mut ended = self.boots_ended.subscribe();
        while self.live.get(machine.id).is_some_and(is_same_boot) {
            if ended.changed().await.is_err() {
                return;
            }
        }
    }

    /// One address of each block of so many bits in which an account has machines that are not terminated.
    #[must_use]
    pub fn blocks(&self, account: AccountId, bits: u32) -> Vec<Ipv4Addr> {
        self.live.blocks(account, bits)
    }

    /// All machines that are not terminated, in no order. What comes or goes meanwhile may be among them or not.
    pub fn iter(&self) -> impl Iterator<Item = Arc<PackedInstance>> {
        self.live.iter()
    }

    /// Those of an account.
    pub fn of_account(&self, account: AccountId) -> impl Iterator<Item = Arc<PackedInstance>> {
        self.live.of_account(account)
    }

    /// How many machines are not terminated.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live.count()
    }

    /// How many of an account are not terminated.
    #[must_use]
    pub fn count_of(&self, account: AccountId) -> usize {
        self.live.count_of(account)
    }

    /// Tells the observer that a machine has a new key for logins.
    pub(crate) fn keys_were_sent(&self, id: InstanceId) {
        if let Some(observer) = self.observer.get() {
            observer.keys_were_sent(id);
        }
    }

    /// Tells the observers that what a machine was given so far has ended.
    pub(crate) fn credentials_ended(&self, machine: &PackedInstance) {
        self.own_observers.iter().for_each(|observer| observer.credentials_ended(machine));
        if let Some(observer) = self.observer.get() {
            observer.credentials_ended(machine);
        }
    }

    /// Launches machines.
    ///
    /// # Errors
    /// The store's.
    pub async fn launch(&self, request: LaunchRequest) -> Result<LaunchOutcome, StoreError> {
        let ids: Vec<InstanceId> = request.instances.iter().map(|instance| instance.id).collect();
        // Whoever lists machines sees a new one as soon as the store has it. If it is terminated before it is mirrored
        // here, it must not come back to life by that.
        let _turns = self.take_turns(&ids).await;
        match self.store.launch(request).await {
            Ok(outcome) => {
                if let LaunchOutcome::New(instances) = &outcome {
                    instances.iter().for_each(|instance| self.mirror(instance.clone()));
                }
                Ok(outcome)
            }
            Err(error @ (StoreError::Io(_) | StoreError::Closed)) => {
                self.follow_store(&ids, None).await;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Changes machines, all of them or none.
    ///
    /// # Errors
    /// The store's. After an error that leaves open whether the change took effect, memory follows the store.
    pub async fn change(&self, request: ChangeRequest) -> Result<Vec<Changed>, StoreError> {
        let _turns = self.take_turns(&request.instances).await;
        let (ids, change) = (request.instances.clone(), request.change.clone());
        match self.store.change(request).await {
            Ok(all) => {
                for changed in &all {
                    self.cut_off(&change, &changed.after);
                    self.mirror(changed.after.clone());
                }
                Ok(all)
            }
            Err(error @ (StoreError::Io(_) | StoreError::Closed)) => {
                self.follow_store(&ids, Some(&change)).await;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Terminates a machine of which nobody asked by name: one whose command has ended.
    ///
    /// # Errors
    /// The store's.
    pub async fn terminate(
        &self,
        account: AccountId,
        id: InstanceId,
        change: Change,
    ) -> Result<Option<Changed>, StoreError> {
        let request = ChangeRequest { account, instances: vec![id], change };
        Ok(self.change(request).await?.into_iter().next())
    }

    /// Another server has changed these machines, [`InstanceQuery::LIMIT_MAX`] at most: memory follows the store.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn hear(&self, ids: &[InstanceId], now: UnixTime) -> Result<(), StoreError> {
        self.look_at(ids, now, |_| true).await
    }

    /// Memory follows what the store says of these; which of them are lost where it says nothing.
    async fn look_at(
        &self,
        ids: &[InstanceId],
        now: UnixTime,
        is_lost: impl Fn(InstanceId) -> bool,
    ) -> Result<(), StoreError> {
        let _turns = self.take_turns(ids).await;
        let found = self.store.instances_by_id(ids.to_vec()).await?;
        for id in ids {
            match found.binary_search_by_key(id, |instance| instance.id).ok().and_then(|at| found.get(at)) {
                Some(instance) => self.follow(instance.clone()),
                None if is_lost(*id) => self.lose(*id, now),
                None => {}
            }
        }
        Ok(())
    }

    /// Reads all machines again. Whose record is not what memory has is looked at once more while nobody changes it here, so that
    /// all others may be changed meanwhile.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn read_again(&self, now: UnixTime) -> Result<(), StoreError> {
        // Pages are ordered by id, and so is this.
        let mut seen = Vec::with_capacity(self.count());
        let mut query = InstanceQuery { account: None, after: None, limit: InstanceQuery::LIMIT_MAX };
        loop {
            let page = self.store.instances(query).await?;
            let mut apart = Vec::new();
            for instance in &page.instances {
                seen.push(instance.id.to_bytes());
                self.cut_off_if_terminated(instance);
                if self.is_new(instance) {
                    apart.push(instance.id);
                }
            }
            if !apart.is_empty() {
                self.hear(&apart, now).await?;
            }
            match page.next {
                Some(after) => query.after = Some(after),
                None => break,
            }
        }
        let is_unseen = |machine: &Arc<PackedInstance>| seen.binary_search(machine.id_bytes()).is_err();
        let unseen: Vec<InstanceId> = self.live.iter().filter(is_unseen).map(|machine| machine.id()).collect();
        for ids in unseen.chunks(InstanceQuery::LIMIT_MAX as usize) {
            self.hear(ids, now).await?;
        }
        Ok(())
    }

    /// Looks again at the machines of which a change is in doubt.
    ///
    /// # Errors
    /// The store's; then they stay so.
    pub(crate) async fn settle(&self, now: UnixTime) -> Result<(), StoreError> {
        let ids: Vec<InstanceId> = core::mem::take(&mut *self.doubtful()).into_iter().collect();
        for chunk in ids.chunks(InstanceQuery::LIMIT_MAX as usize) {
            // Of one that is not known here the store need not know either: its launch came to nothing, or still comes.
            let outcome = self.look_at(chunk, now, |id| self.get(id).is_some()).await;
            outcome.inspect_err(|_| self.doubtful().extend(&ids))?;
        }
        Ok(())
    }

    /// Memory follows what the store says of a machine now.
    fn follow(&self, instance: Instance) {
        self.cut_off_if_terminated(&instance);
        if self.is_new(&instance) {
            self.mirror(instance);
        }
    }

    fn cut_off_if_terminated(&self, instance: &Instance) {
        if instance.state == InstanceState::Terminated {
            let at = instance.terminated_at.unwrap_or(instance.launch_time);
            self.end(CutOff::Dead { instance: instance.id }, at);
        }
    }

    /// Whether memory has something else.
    fn is_new(&self, instance: &Instance) -> bool {
        match self.live.get(instance.id) {
            Some(known) => *known != self.live.pack(instance),
            None => instance.state != InstanceState::Terminated,
        }
    }

    /// A machine of which the store knows nothing any more was terminated, long enough ago to be forgotten.
    fn lose(&self, id: InstanceId, now: UnixTime) {
        self.end(CutOff::Dead { instance: id }, now);
        if let Some(known) = self.get(id) {
            let state = InstanceState::Terminated;
            self.mirror(Instance {
                state,
                terminated_at: Some(now),
                attachment: None,
                mac: None,
                ..Instance::clone(&known)
            });
        }
    }

    /// Waits for the lanes of these instances, in one order for everybody.
    async fn take_turns(&self, ids: &[InstanceId]) -> Vec<MutexGuard<'_, ()>> {
        let indexes: BTreeSet<usize> = ids.iter().map(|id| Self::lane(*id)).collect();
        let mut turns = Vec::with_capacity(indexes.len());
        for lane in indexes.into_iter().filter_map(|index| self.lanes.get(index)) {
            turns.push(lane.lock().await);
        }
        turns
    }

    /// Ids are drawn by us: their last digits spread well enough.
    fn lane(id: InstanceId) -> usize {
        let [.., last] = id.to_bytes();
        usize::from(last) % LANES
    }

    /// Ends credentials here, as the store says that they have. Where there is no more room for ends, everybody's have ended, and their
    /// holders are told, to fetch others.
    pub(crate) fn end(&self, cut_off: CutOff, at: UnixTime) {
        if self.authenticator.cut_off(cut_off, at) {
            tracing::warn!(
                "more was cut off than is remembered: all credentials have ended, and machines are given others"
            );
            self.live.iter().for_each(|machine| self.credentials_ended(&machine));
        }
    }

    /// The same cut-off that the store has written with the change, for the verifier of this process.
    fn cut_off(&self, change: &Change, after: &Instance) {
        let instance = after.id;
        match change {
            Change::Terminate { at, .. } => self.end(CutOff::Dead { instance }, *at),
            Change::Stop { at, cut_off: true, .. }
            | Change::Start { at, cut_off: true }
            | Change::Reboot { at, cut_off: true } => {
                let below = after.boot_generation;
                self.end(CutOff::OlderBoot { instance, below }, *at);
            }
            _ => {}
        }
    }

    fn mirror(&self, instance: Instance) {
        let before = if instance.state == InstanceState::Terminated {
            self.live.remove(instance.id)
        } else {
            self.live.put(Arc::new(self.live.pack(&instance)))
        };
        let is_running = instance.state == InstanceState::Running;
        if before.is_some_and(|before| !is_running || before.boot_generation() != instance.boot_generation) {
            self.boots_ended.send_replace(());
        }
        let instance = Arc::new(instance);
        self.own_observers.iter().for_each(|observer| observer.changed(&instance));
        if let Some(observer) = self.observer.get() {
            observer.changed(&instance);
        }
    }

    /// Whether memory may not be what the store is.
    pub(crate) fn is_in_doubt(&self) -> bool {
        !self.doubtful().is_empty()
    }

    fn doubtful(&self) -> std::sync::MutexGuard<'_, BTreeSet<InstanceId>> {
        self.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a write of which nobody knows whether it took effect. A change that did not may still cut off what an
    /// earlier boot was given: that machine fetches anew, where the other mistake would let a stopped one in.
    async fn follow_store(&self, ids: &[InstanceId], change: Option<&Change>) {
        // It is looked at now, and once more when others are heard: a commit may still be on its way.
        self.doubtful().extend(ids);
        for id in ids {
            match self.store.instance(*id).await {
                Ok(Some(instance)) => {
                    if instance.state == InstanceState::Terminated {
                        let at = instance.terminated_at.unwrap_or(instance.launch_time);
                        self.end(CutOff::Dead { instance: *id }, at);
                    } else if let Some(change) = change.filter(|change| !matches!(change, Change::Terminate { .. })) {
                        self.cut_off(change, &instance);
                    }
                    self.mirror(instance);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(instance = %id, %error, "cannot tell yet whether a change took effect");
                }
            }
        }
    }
}
