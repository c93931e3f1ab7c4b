//! The hosts of the region that are computers of their own: which there are, what is placed on each, and how one is let in
//! and cut off.
//!
//! A host is given finished credentials of the machines that are placed on it, and nothing that credentials are made from.

mod endpoint;
mod record;

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use inborn_fleet::JoinToken;
use inborn_identity::{AccountId, HostId, InstanceId, UnixTime};
use inborn_pki::{AuthorityError, HostsAuthority};
use inborn_store::{
    Change, ChangeRequest, Conflict, Host, HostChange, HostJoin, HostState, Instance, InstanceState, PackedInstance,
    StateReason, Store, StoreError,
};
use tokio::sync::Semaphore;

use crate::machines::Observer;
use crate::signal::Signal;
use crate::{OpenError, RegionServer};

pub use endpoint::HostsEndpoint;

/// The shortest and the longest life of a join token, in seconds.
pub(crate) const JOIN_TOKEN_SECONDS: core::ops::RangeInclusive<i32> = 60..=86_400;
/// Each has ended by then, if clocks of servers are less than a year apart.
const JOIN_TOKENS_END_WITHIN_SECONDS: u64 = 366 * 86_400;
/// The life of a join token if nobody says otherwise: time to walk to the other terminal.
pub(crate) const JOIN_TOKEN_SECONDS_DEFAULT: u64 = 900;
/// Machines of one host.
pub(crate) const MACHINES_MAX: usize = inborn_fleet::MACHINES_MAX;
/// Requests of one host that are being answered at a time: its wait for changes, and what it asks for besides.
const TURNS: usize = 6;
/// Hosts that come back in a second, after all had to go: each of them costs a handshake with two certificates, and two or three
/// calls.
const RETURNS_PER_SECOND: usize = 200;
/// How often it is written down when a host was last heard of.
const SEEN_ROUND_SECONDS: u64 = 300;

const fn stage(state: HostState) -> u8 {
    match state {
        HostState::Active => 0,
        HostState::Draining => 1,
        HostState::Evicted => 2,
    }
}

/// The version of what a host is told of a machine.
#[derive(Clone, Copy)]
struct Version {
    /// The first half of a SHA-256 of the record.
    digest: [u8; 16],
    /// Of the record.
    bytes: u32,
}

/// A machine on a host. The machine itself is in [`crate::Machines`]: here is little, since there may be a million of them.
#[derive(Clone, Copy, Default)]
struct Placed {
    /// Grows with each change, so that a version is not noted of what has changed while it was found.
    revision: u32,
    /// Found when it is asked for the first time.
    version: Option<Version>,
}

impl Placed {
    const fn new() -> Self {
        Self { revision: 1, version: None }
    }

    const fn change(&mut self) {
        *self = Self { revision: self.revision.wrapping_add(1), version: None };
    }
}

/// What is placed on a host, and who waits for that to change.
struct OnHost {
    machines: BTreeMap<InstanceId, Placed>,
    changed: Arc<Signal>,
    turns: Arc<Semaphore>,
    /// Seconds since 1970.
    seen_at: AtomicU64,
}

impl Default for OnHost {
    fn default() -> Self {
        Self {
            machines: BTreeMap::new(),
            changed: Arc::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
            seen_at: AtomicU64::new(0),
        }
    }
}

/// The hosts, in memory.
pub(crate) struct Hosts {
    store: Arc<dyn Store>,
    records: RwLock<HashMap<HostId, Arc<Host>>>,
    placed: RwLock<HashMap<HostId, OnHost>>,
}

impl core::fmt::Debug for Hosts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Hosts").field("records", &self.all().len()).finish_non_exhaustive()
    }
}

impl Hosts {
    /// Reads all hosts. What is placed on them it is told, of what there is already by [`Hosts::place`], then as an observer.
    pub(crate) async fn load(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let hosts = Self { store, records: RwLock::default(), placed: RwLock::default() };
        hosts.refresh().await?;
        Ok(hosts)
    }

    /// Reads all hosts again: another server of the region may have changed one.
    ///
    /// # Errors
    /// The store's; what was known stays.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        for host in self.store.hosts().await? {
            self.remember(host);
        }
        Ok(())
    }

    /// Machines are on hosts: what was there when the region was opened.
    pub(crate) fn place(&self, machines: Vec<(HostId, Vec<InstanceId>)>) {
        let mut placed = self.placed.write().unwrap_or_else(PoisonError::into_inner);
        for (host, instances) in machines {
            let of_host = &mut placed.entry(host).or_default().machines;
            let mut new: BTreeMap<_, _> = instances.into_iter().map(|instance| (instance, Placed::new())).collect();
            of_host.append(&mut new);
        }
    }

    fn remember(&self, host: Host) -> Arc<Host> {
        let host = Arc::new(host);
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        // What was read before a host was drained or evicted must not bring it back: nothing leads back.
        let is_behind = |known: &&Arc<Host>| stage(known.state) > stage(host.state);
        if let Some(known) = records.get(&host.id).filter(is_behind) {
            return Arc::clone(known);
        }
        let before = records.insert(host.id, Arc::clone(&host));
        drop(records);
        if before.is_none_or(|before| before.state != host.state) {
            self.on(host.id, |on| on.changed.raise());
        }
        host
    }

    /// A host.
    #[must_use]
    pub(crate) fn get(&self, id: HostId) -> Option<Arc<Host>> {
        self.records.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// All hosts that ever joined, ordered by id.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<Arc<Host>> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = records.values().cloned().collect();
        all.sort_by_key(|host| host.id);
        all
    }

    /// How many hosts are not evicted.
    #[must_use]
    pub(crate) fn count(&self) -> usize {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        records.values().filter(|host| host.state != HostState::Evicted).count()
    }

    /// Over how many seconds the hosts shall spread when they come back.
    fn spread_seconds(&self) -> u64 {
        spread_seconds(self.count())
    }

    /// Whether the host that a machine is on is cut off.
    pub(crate) fn has_evicted(&self, machine: &PackedInstance) -> bool {
        let host = machine.host().and_then(|id| self.get(id));
        host.is_some_and(|host| host.state == HostState::Evicted)
    }

    /// How many machines are on a host that are not terminated.
    #[must_use]
    pub(crate) fn count_on(&self, id: HostId) -> usize {
        self.on(id, |on| on.machines.len())
    }

    /// When a host was last heard of.
    pub(crate) fn seen_at(&self, host: &Host) -> UnixTime {
        host.seen_at.max(UnixTime::from_secs(self.on(host.id, |on| on.seen_at.load(Ordering::Relaxed))))
    }

    /// Ordered by id.
    fn machines_on(&self, id: HostId) -> Vec<(InstanceId, Placed)> {
        self.on(id, |on| on.machines.iter().map(|(id, placed)| (*id, *placed)).collect())
    }

    /// The machines on a host, ordered by id.
    pub(crate) fn ids_on(&self, id: HostId) -> Vec<InstanceId> {
        self.on(id, |on| on.machines.keys().copied().collect())
    }

    /// Whether the machine is on this host.
    fn is_on(&self, id: HostId, instance: InstanceId) -> bool {
        self.on(id, |on| on.machines.contains_key(&instance))
    }

    /// Notes the version of what a host is told of a machine, unless that has changed meanwhile.
    fn note_version(&self, id: HostId, instance: InstanceId, revision: u32, version: Version) {
        let mut placed = self.placed.write().unwrap_or_else(PoisonError::into_inner);
        let known = placed.get_mut(&id).and_then(|on| on.machines.get_mut(&instance));
        if let Some(known) = known.filter(|known| known.revision == revision) {
            known.version = Some(version);
        }
    }

    fn changes_on(&self, id: HostId) -> Arc<Signal> {
        self.on(id, |on| Arc::clone(&on.changed))
    }

    fn turns(&self, id: HostId) -> Arc<Semaphore> {
        self.on(id, |on| Arc::clone(&on.turns))
    }

    fn on<T>(&self, id: HostId, look: impl FnOnce(&OnHost) -> T) -> T {
        if let Some(on) = self.placed.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return look(on);
        }
        look(self.placed.write().unwrap_or_else(PoisonError::into_inner).entry(id).or_default())
    }

    /// A host was heard of; that is written down now and again.
    async fn heard(&self, host: &Host, now: UnixTime) {
        self.on(host.id, |on| on.seen_at.store(now.as_secs(), Ordering::Relaxed));
        let known = self.get(host.id).map_or(host.seen_at, |known| known.seen_at);
        if now.since(known) < SEEN_ROUND_SECONDS {
            return;
        }
        match self.store.change_host(host.id, HostChange::Seen(now)).await {
            Ok(Some(host)) => drop(self.remember(host)),
            Ok(None) => {}
            Err(error) => tracing::debug!(host = %host.id, %error, "cannot note when a host was heard of"),
        }
    }
}

impl Observer for Hosts {
    fn changed(&self, instance: &Arc<Instance>) {
        let Some(id) = instance.host else { return };
        let mut placed = self.placed.write().unwrap_or_else(PoisonError::into_inner);
        let on = placed.entry(id).or_default();
        if instance.state == InstanceState::Terminated {
            on.machines.remove(&instance.id);
        } else {
            on.machines.entry(instance.id).or_default().change();
        }
        on.changed.raise();
    }

    /// The host is to hear of it: what it has been given is worth nothing.
    fn credentials_ended(&self, machine: &PackedInstance) {
        let Some(id) = machine.host() else { return };
        let mut placed = self.placed.write().unwrap_or_else(PoisonError::into_inner);
        let Some(on) = placed.get_mut(&id) else { return };
        // The machine that is told of may have ended a moment ago.
        let Some(known) = on.machines.get_mut(&machine.id()) else { return };
        known.change();
        on.changed.raise();
    }
}

/// Why a host was not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    /// The name or the key is none.
    #[error("{0}")]
    Invalid(&'static str),
    /// The store's, also where the token is not good.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No certificate could be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

impl RegionServer {
    /// The hosts that are computers of their own.
    pub(crate) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Who signs the certificates of hosts.
    #[must_use]
    pub const fn hosts_authority(&self) -> &HostsAuthority {
        &self.hosts_authority
    }

    /// A host; one that is not known here may have joined at another server a moment ago.
    ///
    /// # Errors
    /// It is not known here, and neither is what others have changed: nobody can tell whether it is there.
    pub(crate) async fn host_soon(&self, id: HostId) -> Result<Option<Arc<Host>>, StoreError> {
        let caught_up = match (self.hosts.get(id), self.fleet()) {
            (None, Some(fleet)) => fleet.catch_up().await,
            _ => true,
        };
        match self.hosts.get(id) {
            None if !caught_up => Err(StoreError::Unavailable("this server has not heard who is there".to_owned())),
            found => Ok(found),
        }
    }

    /// A token that lets one host join, which then serves machines of these accounts.
    pub(crate) async fn create_join_token(
        &self,
        accounts: BTreeSet<AccountId>,
        seconds: u64,
        now: UnixTime,
    ) -> Result<(JoinToken, UnixTime), OpenError> {
        let mut secret = zeroize::Zeroizing::new([0; JoinToken::SECRET_BYTES]);
        aws_lc_rs::rand::fill(&mut *secret).map_err(|_| inborn_credential::CryptoError)?;
        let expires_at = now.plus(seconds);
        let digest = inborn_sigv4::sha256(&*secret);
        let record = inborn_store::JoinToken { digest, accounts, created_at: now, expires_at };
        self.store.put_join_token(record).await?;
        Ok((JoinToken::new(&secret, self.hosts_authority.fingerprint()), expires_at))
    }

    /// Forgets all tokens that let a host join, whoever made them; gives how many there were.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn revoke_join_tokens(&self, now: UnixTime) -> Result<u64, StoreError> {
        // Whatever clock they were made by.
        let revoked = self.store.forget_join_tokens(now.plus(JOIN_TOKENS_END_WITHIN_SECONDS)).await;
        self.high_water.count_end_by(&revoked);
        revoked
    }

    /// Lets a host in that comes with the secret of a token; gives its record and its certificate, PEM.
    async fn join_host(
        &self,
        secret: &[u8],
        name: String,
        public_key: Vec<u8>,
        now: UnixTime,
    ) -> Result<(Arc<Host>, String), JoinError> {
        if name.is_empty() || name.len() > Host::NAME_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(JoinError::Invalid("the name of a host has 1 to 253 letters, digits and signs, and no spaces"));
        }
        let mut bytes = [0; HostId::BYTES];
        inborn_chance::fill(&mut bytes).map_err(|_| AuthorityError::Crypto)?;
        let id = HostId::from_bytes(bytes);
        // Before the token is used up: a key that is none must not cost it.
        let certificate = self
            .hosts_authority
            .certify(id, &public_key, now)
            .map_err(|_| JoinError::Invalid("the public key is no point of P-256"))?;
        let join = HostJoin { digest: inborn_sigv4::sha256(secret), id, name, public_key, at: now };
        let joined = self.store.join_host(join).await;
        // The token is used up.
        self.high_water.count_end_by(&joined);
        let host = self.hosts.remember(joined?);
        tracing::info!(host = %host.id, name = %host.name, "a host has joined");
        Ok((host, certificate))
    }

    /// Gives a host no more machines. `None`: there is no such host.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn drain_host(&self, id: HostId) -> Result<Option<Arc<Host>>, StoreError> {
        let changed = self.store.change_host(id, HostChange::Drain).await?;
        Ok(changed.map(|host| self.hosts.remember(host)))
    }

    /// Cuts a host off for good: from the moment its record says so, nothing is given to it, and what its machines sign is
    /// refused; then they are terminated. `None`: there is no such host.
    ///
    /// # Errors
    /// The store's. If the host's record says evicted by then, housekeeping terminates what is left.
    pub(crate) async fn evict_host(&self, id: HostId) -> Result<Option<Arc<Host>>, StoreError> {
        let evicted = self.store.change_host(id, HostChange::Evict).await;
        // It may have no machines, whose cut-offs would count.
        self.high_water.count_end_by(&evicted);
        let Some(host) = evicted? else { return Ok(None) };
        let host = self.hosts.remember(host);
        tracing::warn!(host = %id, name = %host.name, "a host was evicted");
        self.channels.keep(|claims| self.holds(claims));
        self.sessions.keep(|claims| self.stands(claims));
        self.terminate_on(id).await?;
        Ok(Some(host))
    }

    /// Terminates what is on hosts that are evicted: an eviction may have broken off half-way, or been done by another server.
    pub(crate) async fn finish_evictions(&self) -> Result<(), StoreError> {
        for host in self.hosts.all().iter().filter(|host| host.state == HostState::Evicted) {
            self.terminate_on(host.id).await?;
        }
        Ok(())
    }

    async fn terminate_on(&self, id: HostId) -> Result<(), StoreError> {
        let mut by_account: BTreeMap<AccountId, Vec<InstanceId>> = BTreeMap::new();
        for instance in self.hosts.ids_on(id) {
            // Who is gone already need not be terminated.
            let Some(machine) = self.machines.packed(instance) else { continue };
            by_account.entry(machine.account()).or_default().push(instance);
        }
        let reason = StateReason {
            code: "Server.HostEvicted".to_owned(),
            message: format!("Server.HostEvicted: host {id} was evicted"),
        };
        for (account, instances) in by_account {
            for some in instances.chunks(ChangeRequest::INSTANCES_MAX) {
                let change = Change::Terminate { at: self.now(), reason: Some(reason.clone()) };
                match self.machines.change(ChangeRequest { account, instances: some.to_vec(), change }).await {
                    // Somebody has forgotten one meanwhile; the next look finds the others.
                    Ok(_) | Err(StoreError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn spread_seconds(hosts: usize) -> u64 {
    u64::try_from(hosts.div_ceil(RETURNS_PER_SECOND)).unwrap_or(u64::MAX).max(1)
}

/// Whether the store says that a token is not good, rather than that it cannot say.
fn is_refused(error: &JoinError) -> bool {
    matches!(error, JoinError::Store(StoreError::Conflict(Conflict::JoinTokenRefused)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_back_as_many_a_second_as_a_region_takes() {
        for (hosts, seconds) in [(0, 1), (1, 1), (200, 1), (201, 2), (10_000, 50), (100_000, 500)] {
            assert_eq!(spread_seconds(hosts), seconds, "{hosts}");
        }
    }
}
