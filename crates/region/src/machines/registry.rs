//! The mirror itself: the machines that are not terminated, packed, found by id, by account, and by address within one.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use inborn_identity::{AccountId, HostId, InstanceId};
use inborn_store::{Instance, Living, PackedInstance, PackedTags, Packer};

/// Parts that grow and are locked by themselves: whoever goes through all machines holds up one part at a time, for as long as it
/// takes to count up some thousands of references.
const SHARDS: usize = 64;
/// How many ids of an account are looked up at a time.
const TOGETHER: usize = 1024;
/// For no more is room made before they come: what is expected is a guess.
const EXPECTED_MAX: usize = 4_000_000;

type Key = [u8; InstanceId::BYTES];
type Table = HashTable<Arc<PackedInstance>>;

const FIRST: Key = [0; InstanceId::BYTES];
const LAST: Key = [0xff; InstanceId::BYTES];

/// Where machines are found that are not asked for by id. The account comes first: nobody sees another's.
#[derive(Default)]
struct Places {
    by_address: BTreeSet<(AccountId, Ipv4Addr, Key)>,
    by_ipv6: BTreeSet<(AccountId, Ipv6Addr, Key)>,
    counts: BTreeMap<AccountId, usize>,
}

/// The machines that are not terminated.
pub(super) struct Registry {
    packer: Arc<Packer>,
    /// Keyed, and fast: ids are drawn by us, so that nobody can choose them to fall together.
    hasher: DefaultHashBuilder,
    shards: [RwLock<Table>; SHARDS],
    places: RwLock<Places>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            packer: Arc::default(),
            hasher: DefaultHashBuilder::default(),
            shards: [const { RwLock::new(HashTable::new()) }; SHARDS],
            places: RwLock::default(),
        }
    }
}

impl Registry {
    pub(super) const fn packer(&self) -> &Arc<Packer> {
        &self.packer
    }

    fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(*key)
    }

    fn shard(&self, hash: u64) -> &RwLock<Table> {
        let [first, ..] = &self.shards;
        self.shards.get(shard_index(hash)).unwrap_or(first)
    }

    fn places(&self) -> RwLockReadGuard<'_, Places> {
        self.places.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn places_mut(&self) -> RwLockWriteGuard<'_, Places> {
        self.places.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, id: InstanceId) -> Option<Arc<PackedInstance>> {
        self.by_key(&id.to_bytes())
    }

    fn by_key(&self, key: &Key) -> Option<Arc<PackedInstance>> {
        let hash = self.hash(key);
        let table = read(self.shard(hash));
        table.find(hash, |machine| machine.id_bytes() == key).map(Arc::clone)
    }

    pub(super) fn count(&self) -> usize {
        self.places().counts.values().sum()
    }

    /// How many are an account's.
    pub(super) fn count_of(&self, account: AccountId) -> usize {
        self.places().counts.get(&account).copied().unwrap_or_default()
    }

    /// All, in no order. What comes or goes meanwhile may be among them or not.
    pub(super) fn iter(&self) -> impl Iterator<Item = Arc<PackedInstance>> {
        self.shards.iter().flat_map(|shard| read(shard).iter().map(Arc::clone).collect::<Vec<_>>())
    }

    /// All of an account, as [`Registry::iter`], ordered by address.
    pub(super) fn of_account(&self, account: AccountId) -> impl Iterator<Item = Arc<PackedInstance>> {
        let mut after = Some((account, Ipv4Addr::UNSPECIFIED, FIRST));
        let mut keys = Vec::<(AccountId, Ipv4Addr, Key)>::new().into_iter();
        core::iter::from_fn(move || {
            loop {
                for (_, _, key) in keys.by_ref() {
                    if let Some(machine) = self.by_key(&key) {
                        return Some(machine);
                    }
                }
                let from = after.take()?;
                let to = (account, Ipv4Addr::BROADCAST, LAST);
                let mut found: Vec<_> = self.places().by_address.range(from..=to).take(TOGETHER + 1).copied().collect();
                // The last one begins the next part.
                after = found.get(TOGETHER).copied();
                found.truncate(TOGETHER);
                keys = found.into_iter();
            }
        })
    }

    /// Those of an account that have this address: two may, on networks of their own.
    pub(super) fn at(&self, account: AccountId, address: Ipv4Addr) -> Vec<Arc<PackedInstance>> {
        let keys: Vec<Key> = keys(&self.places().by_address, account, address).collect();
        keys.iter().filter_map(|key| self.by_key(key)).collect()
    }

    /// As [`Registry::at`].
    pub(super) fn at_ipv6(&self, account: AccountId, address: Ipv6Addr) -> Vec<Arc<PackedInstance>> {
        let keys: Vec<Key> = keys(&self.places().by_ipv6, account, address).collect();
        keys.iter().filter_map(|key| self.by_key(key)).collect()
    }

    /// How many machines have this address, whosever they are.
    pub(super) fn count_at(&self, address: Ipv4Addr) -> usize {
        let places = self.places();
        places.counts.keys().map(|account| keys(&places.by_address, *account, address).count()).sum()
    }

    /// As [`Registry::count_at`].
    pub(super) fn count_at_ipv6(&self, address: Ipv6Addr) -> usize {
        let places = self.places();
        places.counts.keys().map(|account| keys(&places.by_ipv6, *account, address).count()).sum()
    }

    /// One address of each block of so many bits in which an account has machines.
    pub(super) fn blocks(&self, account: AccountId, bits: u32) -> Vec<Ipv4Addr> {
        let size = u32::MAX.checked_shr(bits).unwrap_or_default();
        let places = self.places();
        let mut blocks = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            let from = (account, Ipv4Addr::from_bits(from), FIRST);
            let to = (account, Ipv4Addr::BROADCAST, LAST);
            let Some((_, address, _)) = places.by_address.range(from..=to).next() else { break };
            blocks.push(*address);
            next = (address.to_bits() | size).checked_add(1);
        }
        blocks
    }

    /// A machine is as it says. Gives what it was.
    pub(super) fn put(&self, machine: Arc<PackedInstance>) -> Option<Arc<PackedInstance>> {
        let hash = self.hash(machine.id_bytes());
        let before = {
            let mut table = write(self.shard(hash));
            match table.entry(hash, |known| known.id_bytes() == machine.id_bytes(), |known| self.hash(known.id_bytes()))
            {
                Entry::Occupied(mut known) => Some(core::mem::replace(known.get_mut(), Arc::clone(&machine))),
                Entry::Vacant(free) => {
                    free.insert(Arc::clone(&machine));
                    None
                }
            }
        };
        let is_there = before.as_ref().is_some_and(|before| place(before) == place(&machine));
        if !is_there {
            let mut places = self.places_mut();
            if let Some(before) = &before {
                places.remove(before);
            }
            places.insert(&machine);
        }
        before
    }

    /// A machine is gone. Gives what it was.
    pub(super) fn remove(&self, id: InstanceId) -> Option<Arc<PackedInstance>> {
        let key = id.to_bytes();
        let hash = self.hash(&key);
        let before = {
            let mut table = write(self.shard(hash));
            let found = table.find_entry(hash, |known| *known.id_bytes() == key).ok();
            found.map(|found| found.remove().0)
        };
        if let Some(before) = &before {
            self.places_mut().remove(before);
        }
        before
    }

    pub(super) fn pack(&self, instance: &Instance) -> PackedInstance {
        self.packer.pack(instance)
    }

    /// Puts machines into the tables of their shards, where nobody else has the registry yet. Who is there stays; who came again is
    /// told.
    fn put_in(&mut self, waiting: Vec<Waiting>, again: &mut Vec<Arc<PackedInstance>>) {
        let Self { hasher, shards, .. } = self;
        let rehash = |known: &Arc<PackedInstance>| hasher.hash_one(*known.id_bytes());
        for (shard, waiting) in shards.iter_mut().zip(waiting) {
            let table = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
            table.reserve(waiting.len(), rehash);
            for (hash, machine) in waiting {
                match table.entry(hash, |known| known.id_bytes() == machine.id_bytes(), rehash) {
                    Entry::Vacant(free) => drop(free.insert(machine)),
                    Entry::Occupied(_) => again.push(machine),
                }
            }
        }
    }
}

/// Less than [`SHARDS`].
fn shard_index(hash: u64) -> usize {
    // Bits that the tables do not use: they take a place from the lowest, and a tag from the highest seven.
    usize::try_from(hash >> 40).unwrap_or_default() % SHARDS
}

fn read(shard: &RwLock<Table>) -> RwLockReadGuard<'_, Table> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Table>) -> RwLockWriteGuard<'_, Table> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

fn place(machine: &PackedInstance) -> (AccountId, Ipv4Addr, Option<Ipv6Addr>) {
    (machine.account(), machine.private_address(), machine.ipv6_address())
}

fn keys<A: Ord + Copy>(
    places: &BTreeSet<(AccountId, A, Key)>,
    account: AccountId,
    address: A,
) -> impl Iterator<Item = Key> {
    places.range((account, address, FIRST)..=(account, address, LAST)).map(|(_, _, key)| *key)
}

impl Places {
    fn insert(&mut self, machine: &PackedInstance) {
        let (account, address, ipv6) = place(machine);
        self.by_address.insert((account, address, *machine.id_bytes()));
        if let Some(ipv6) = ipv6 {
            self.by_ipv6.insert((account, ipv6, *machine.id_bytes()));
        }
        *self.counts.entry(account).or_default() += 1;
    }

    fn remove(&mut self, machine: &PackedInstance) {
        let (account, address, ipv6) = place(machine);
        self.by_address.remove(&(account, address, *machine.id_bytes()));
        if let Some(ipv6) = ipv6 {
            self.by_ipv6.remove(&(account, ipv6, *machine.id_bytes()));
        }
        if let Some(count) = self.counts.get_mut(&account) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&account);
            }
        }
    }
}

/// Does two things on two threads.
fn side_by_side(one: impl FnOnce() + Send, other: impl FnOnce()) {
    let mut one = Some(one);
    thread::scope(|scope| {
        let run = || {
            if let Some(one) = one.take() {
                one();
            }
        };
        let _ = thread::Builder::new().name("loader".into()).spawn_scoped(scope, run);
        other();
    });
    // There was no thread to be had: then one after the other.
    if let Some(one) = one {
        one();
    }
}

/// Those of a shard that are not in its table yet, each with its hash, in the order in which they came.
type Waiting = Vec<(u64, Arc<PackedInstance>)>;

/// A registry that is being filled: nobody else has it yet, and what can be made at the end is.
#[derive(Default)]
pub(super) struct Loading {
    registry: Registry,
    expected: usize,
    /// One for each shard. Put in one after the other each machine would go to another place in memory; a shard that is filled in one
    /// stays in a processor's cache meanwhile.
    waiting: Vec<Waiting>,
    /// Those that came again.
    again: Vec<Arc<PackedInstance>>,
    by_address: Vec<(AccountId, Ipv4Addr, Key)>,
    by_ipv6: BTreeSet<(AccountId, Ipv6Addr, Key)>,
    /// Those that were read one after the other are together.
    on_hosts: Vec<(HostId, Vec<InstanceId>)>,
}

impl Loading {
    pub(super) const fn packer(&self) -> &Arc<Packer> {
        self.registry.packer()
    }

    /// Takes a part of what the store has. Each machine comes once; one that comes again stays as it came first, and what has
    /// changed since is heard of.
    pub(super) fn take(&mut self, part: Living) {
        match part {
            Living::Expected(machines) => self.expect(machines),
            Living::Instances(machines) => machines.into_iter().for_each(|machine| self.add(machine)),
            Living::Tags(all) => {
                self.put_in();
                for (id, more) in all {
                    self.change(id, |machine| {
                        if machine.tags().next().is_none() {
                            return machine.set_tags(&more);
                        }
                        // Those of one machine may come in two parts.
                        let mut tags: PackedTags = machine.tags().collect();
                        tags.extend(&more);
                        machine.set_tags(&tags);
                    });
                }
            }
            Living::UserData(all) => {
                self.put_in();
                let packer = Arc::clone(self.packer());
                for (id, data) in all {
                    self.change(id, |machine| *machine = packer.with_user_data(machine, &data));
                }
            }
        }
    }

    /// Makes room for so many more than were expected before, so that nothing is moved while they come.
    fn expect(&mut self, machines: usize) {
        self.expected = self.expected.saturating_add(machines).min(EXPECTED_MAX);
        // Ids do not fall on all parts alike.
        let of_shard = self.expected / SHARDS + self.expected / SHARDS / 16;
        self.waiting.resize_with(SHARDS, Vec::new);
        for waiting in &mut self.waiting {
            waiting.reserve(of_shard.saturating_sub(waiting.len()));
        }
        self.by_address.reserve(self.expected.saturating_sub(self.by_address.len()));
    }

    fn add(&mut self, machine: PackedInstance) {
        let key = *machine.id_bytes();
        let hash = self.registry.hash(&key);
        self.by_address.push((machine.account(), machine.private_address(), key));
        if let Some(address) = machine.ipv6_address() {
            self.by_ipv6.insert((machine.account(), address, key));
        }
        if let Some(host) = machine.host() {
            match self.on_hosts.last_mut().filter(|(last, _)| *last == host) {
                Some((_, machines)) => machines.push(machine.id()),
                None => self.on_hosts.push((host, vec![machine.id()])),
            }
        }
        self.waiting.resize_with(SHARDS, Vec::new);
        if let Some(waiting) = self.waiting.get_mut(shard_index(hash)) {
            waiting.push((hash, Arc::new(machine)));
        }
    }

    /// Puts those that wait into their tables.
    fn put_in(&mut self) {
        let waiting = core::mem::take(&mut self.waiting);
        self.registry.put_in(waiting, &mut self.again);
    }

    fn change(&mut self, id: InstanceId, change: impl FnOnce(&mut PackedInstance)) {
        let key = id.to_bytes();
        let hash = self.registry.hash(&key);
        let Some(shard) = self.registry.shards.get_mut(shard_index(hash)) else { return };
        let table = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Who is not there is terminated.
        if let Some(machine) = table.find_mut(hash, |known| *known.id_bytes() == key) {
            change(Arc::make_mut(machine));
        }
    }

    /// The registry, and which machines are on which hosts.
    pub(super) fn finish(self) -> (Registry, Vec<(HostId, Vec<InstanceId>)>) {
        let Self { mut registry, expected: _, waiting, mut again, mut by_address, by_ipv6, mut on_hosts } = self;
        let mut places = Places { by_ipv6, ..Places::default() };
        side_by_side(
            || {
                by_address.sort_unstable();
                for (account, _, _) in &by_address {
                    *places.counts.entry(*account).or_default() += 1;
                }
                // Put in as one: the nodes of the tree are full then, and nothing is moved.
                places.by_address = by_address.into_iter().collect();
            },
            || registry.put_in(waiting, &mut again),
        );
        for machine in again {
            let Some(first) = registry.by_key(machine.id_bytes()) else { continue };
            // Both were counted, and have places.
            places.remove(&machine);
            places.remove(&first);
            places.insert(&first);
            if machine.host() != first.host() {
                let of_host = on_hosts.iter_mut().filter(|(host, _)| Some(*host) == machine.host());
                of_host.for_each(|(_, machines)| machines.retain(|id| *id != machine.id()));
            }
        }
        on_hosts.retain(|(_, machines)| !machines.is_empty());
        *registry.places_mut() = places;
        (registry, on_hosts)
    }
}

#[cfg(test)]
mod tests;
