//! The machines of the region as they are now: the store's truth, mirrored in memory for those who cannot wait for it.

use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use inborn_credential::{Authenticator, CutOff};
use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_store::{
    Change, ChangeRequest, Changed, Instance, InstanceQuery, InstanceState, LaunchOutcome, LaunchRequest, Store,
    StoreError,
};
use tokio::sync::{Mutex, MutexGuard, watch};

/// Is told of every machine that comes, changes or goes, after the store has it and before the caller is answered.
pub trait Observer: Send + Sync + 'static {
    /// `instance` is now as it says. A terminated one is told of once and then forgotten.
    fn changed(&self, instance: &Arc<Instance>);

    /// What `instance` was given so far has ended, or it may be given something again: what was prepared for it is worth nothing.
    fn credentials_ended(&self, instance: &Arc<Instance>) {
        let _ = instance;
    }

    /// A key for logins was sent to `instance`: [`crate::RegionServer::sent_keys`] has it.
    fn keys_were_sent(&self, instance: InstanceId) {
        let _ = instance;
    }
}

fn is_same_boot(before: &Instance, now: &Instance) -> bool {
    now.state == InstanceState::Running && now.boot_generation == before.boot_generation
}

/// How many changes to different instances may go on side by side.
const LANES: usize = 64;

/// The machines, and the only way to change them.
///
/// A change goes store → cut-offs → memory → observer → answer. Changes of one instance take turns (in lanes), so that
/// memory never ends up with the older of two; changes of different instances share the store's group commit.
pub struct Machines {
    store: Arc<dyn Store>,
    authenticator: Arc<Authenticator>,
    live: RwLock<HashMap<InstanceId, Arc<Instance>>>,
    lanes: [Mutex<()>; LANES],
    lane_hasher: RandomState,
    /// Who in this region is told of changes, before anybody outside.
    own_observers: Vec<Arc<dyn Observer>>,
    observer: OnceLock<Arc<dyn Observer>>,
    /// Changes whenever the boot of a machine has ended.
    boots_ended: watch::Sender<()>,
    /// Whether a change may have taken effect, or not, without memory following it.
    is_in_doubt: AtomicBool,
}

impl core::fmt::Debug for Machines {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Machines").field("live", &self.count()).finish_non_exhaustive()
    }
}

impl Machines {
    /// Reads all machines that are not terminated. `own_observers` are told of all that changes from then on.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(
        store: Arc<dyn Store>,
        authenticator: Arc<Authenticator>,
        own_observers: Vec<Arc<dyn Observer>>,
    ) -> Result<Self, StoreError> {
        let mut live = HashMap::new();
        let mut query = InstanceQuery { account: None, after: None, limit: InstanceQuery::LIMIT_MAX };
        loop {
            let page = store.instances(query).await?;
            let living = page.instances.into_iter().filter(|instance| instance.state != InstanceState::Terminated);
            live.extend(living.map(|instance| (instance.id, Arc::new(instance))));
            match page.next {
                Some(after) => query.after = Some(after),
                None => break,
            }
        }
        Ok(Self {
            store,
            authenticator,
            live: RwLock::new(live),
            lanes: [const { Mutex::const_new(()) }; LANES],
            lane_hasher: RandomState::new(),
            own_observers,
            observer: OnceLock::new(),
            boots_ended: watch::Sender::new(()),
            is_in_doubt: AtomicBool::new(false),
        })
    }

    /// Sets who is told of changes, and tells it of every machine there is. Only the first call counts.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        if self.observer.set(Arc::clone(&observer)).is_ok() {
            for instance in self.all() {
                observer.changed(&instance);
            }
        }
    }

    /// A machine that is not terminated.
    #[must_use]
    pub fn get(&self, id: InstanceId) -> Option<Arc<Instance>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The machines that run and have this address: two may, on networks of their own.
    #[must_use]
    pub fn running_at(&self, account: AccountId, address: Ipv4Addr) -> Vec<Arc<Instance>> {
        let is_there = |machine: &&Arc<Instance>| {
            machine.private_address == address && machine.account == account && machine.state == InstanceState::Running
        };
        self.live.read().unwrap_or_else(PoisonError::into_inner).values().filter(is_there).cloned().collect()
    }

    /// Waits until a machine no longer runs, or runs in another boot than when it was read.
    pub(crate) async fn end_of_boot(&self, machine: &Instance) {
        let mut ended = self.boots_ended.subscribe();
        while self.get(machine.id).is_some_and(|now| is_same_boot(machine, &now)) {
            if ended.changed().await.is_err() {
                return;
            }
        }
    }

    /// The addresses of an account's machines that are not terminated, in no order.
    #[must_use]
    pub fn addresses(&self, account: AccountId) -> Vec<Ipv4Addr> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.values().filter(|machine| machine.account == account).map(|machine| machine.private_address).collect()
    }

    /// All machines that are not terminated, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Instance>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// How many machines are not terminated.
    #[must_use]
    pub fn count(&self) -> usize {
        self.live.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Tells the observer that a machine has a new key for logins.
    pub(crate) fn keys_were_sent(&self, id: InstanceId) {
        if let Some(observer) = self.observer.get() {
            observer.keys_were_sent(id);
        }
    }

    /// Tells the observers that what these machines were given so far has ended.
    pub(crate) fn credentials_ended(&self, is_meant: impl Fn(&Instance) -> bool) {
        for machine in self.all().iter().filter(|machine| is_meant(machine)) {
            self.own_observers.iter().for_each(|observer| observer.credentials_ended(machine));
            if let Some(observer) = self.observer.get() {
                observer.credentials_ended(machine);
            }
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
        let _turns = self.take_turns(ids).await;
        let found = self.store.instances_by_id(ids.to_vec()).await?;
        for id in ids {
            match found.binary_search_by_key(id, |instance| instance.id).ok().and_then(|at| found.get(at)) {
                Some(instance) => self.follow(instance.clone()),
                None => self.lose(*id, now),
            }
        }
        Ok(())
    }

    /// Reads all machines again, while nobody changes one here.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn read_again(&self, now: UnixTime) -> Result<(), StoreError> {
        let mut turns = Vec::with_capacity(LANES);
        for lane in &self.lanes {
            turns.push(lane.lock().await);
        }
        let mut unseen: BTreeSet<InstanceId> = self.all().iter().map(|machine| machine.id).collect();
        let mut query = InstanceQuery { account: None, after: None, limit: InstanceQuery::LIMIT_MAX };
        loop {
            let page = self.store.instances(query).await?;
            for instance in page.instances {
                unseen.remove(&instance.id);
                self.follow(instance);
            }
            match page.next {
                Some(after) => query.after = Some(after),
                None => break,
            }
        }
        unseen.into_iter().for_each(|id| self.lose(id, now));
        Ok(())
    }

    /// Memory follows what the store says of a machine now.
    fn follow(&self, instance: Instance) {
        if instance.state == InstanceState::Terminated {
            let at = instance.terminated_at.unwrap_or(instance.launch_time);
            self.authenticator.cut_off(CutOff::Dead { instance: instance.id }, at);
        }
        let known = self.get(instance.id);
        let is_new = known.map_or(instance.state != InstanceState::Terminated, |known| *known != instance);
        if is_new {
            self.mirror(instance);
        }
    }

    /// A machine of which the store knows nothing any more was terminated, long enough ago to be forgotten.
    fn lose(&self, id: InstanceId, now: UnixTime) {
        self.authenticator.cut_off(CutOff::Dead { instance: id }, now);
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
        let indexes: BTreeSet<usize> = ids.iter().map(|id| self.lane(*id)).collect();
        let mut turns = Vec::with_capacity(indexes.len());
        for lane in indexes.into_iter().filter_map(|index| self.lanes.get(index)) {
            turns.push(lane.lock().await);
        }
        turns
    }

    fn lane(&self, id: InstanceId) -> usize {
        usize::try_from(self.lane_hasher.hash_one(id) % LANES as u64).unwrap_or_default()
    }

    /// The same cut-off that the store has written with the change, for the verifier of this process.
    fn cut_off(&self, change: &Change, after: &Instance) {
        let instance = after.id;
        match change {
            Change::Terminate { at, .. } => self.authenticator.cut_off(CutOff::Dead { instance }, *at),
            Change::Stop { at, cut_off: true, .. }
            | Change::Start { at, cut_off: true }
            | Change::Reboot { at, cut_off: true } => {
                let below = after.boot_generation;
                self.authenticator.cut_off(CutOff::OlderBoot { instance, below }, *at);
            }
            _ => {}
        }
    }

    fn mirror(&self, instance: Instance) {
        let instance = Arc::new(instance);
        let before = {
            let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
            if instance.state == InstanceState::Terminated {
                live.remove(&instance.id)
            } else {
                live.insert(instance.id, Arc::clone(&instance))
            }
        };
        if before.is_some_and(|before| !is_same_boot(&before, &instance)) {
            self.boots_ended.send_replace(());
        }
        self.own_observers.iter().for_each(|observer| observer.changed(&instance));
        if let Some(observer) = self.observer.get() {
            observer.changed(&instance);
        }
    }

    /// Whether memory may not be what the store is, since this was asked last.
    pub(crate) fn take_doubt(&self) -> bool {
        self.is_in_doubt.swap(false, Ordering::SeqCst)
    }

    /// After a write of which nobody knows whether it took effect. A change that did not may still cut off what an
    /// earlier boot was given: that machine fetches anew, where the other mistake would let a stopped one in.
    async fn follow_store(&self, ids: &[InstanceId], change: Option<&Change>) {
        for id in ids {
            match self.store.instance(*id).await {
                Ok(Some(instance)) => {
                    if instance.state == InstanceState::Terminated {
                        let at = instance.terminated_at.unwrap_or(instance.launch_time);
                        self.authenticator.cut_off(CutOff::Dead { instance: *id }, at);
                    } else if let Some(change) = change.filter(|change| !matches!(change, Change::Terminate { .. })) {
                        self.cut_off(change, &instance);
                    }
                    self.mirror(instance);
                }
                Ok(None) => {}
                Err(error) => {
                    self.is_in_doubt.store(true, Ordering::SeqCst);
                    tracing::error!(instance = %id, %error, "cannot tell yet whether a change took effect");
                }
            }
        }
    }
}
