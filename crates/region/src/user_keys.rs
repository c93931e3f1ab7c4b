//! The SSH keys that were sent to machines with `SendSSHPublicKey`: a minute each, and in memory only. A restart forgets
//! them, as it may: whoever sent one sends it again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use inborn_identity::{InstanceId, UnixTime};
use inborn_pki::{AuthorityError, InstanceConnectSigner, Staple};
use inborn_ssh::PublicKey;
use inborn_store::{Instance, InstanceState};

use crate::RegionServer;

/// How long a key is there. Source: API reference of Instance Connect, "The key remains for 60 seconds".
pub const USER_KEY_SECONDS: u64 = 60;
/// Most keys at a time for one user of a machine: what is served of them fits into what a guest reads.
const OF_ONE_USER_MAX: usize = 8;
/// Most keys at a time for one machine.
const OF_ONE_MACHINE_MAX: usize = 64;
/// Most keys at a time for all machines: some twenty megabytes of the longest ones.
const OF_ALL_MAX: usize = 4096;

/// There are as many keys as there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum TooMany {
    #[error("{OF_ONE_USER_MAX} keys were sent to this user of the instance in the last minute: wait for one to expire")]
    User,
    #[error("{OF_ONE_MACHINE_MAX} keys were sent to this instance in the last minute: wait for one to expire")]
    Machine,
    #[error("{OF_ALL_MAX} keys were sent in the last minute: wait for one to expire")]
    Region,
}

/// A key on its way to a machine, before it is signed.
#[derive(Debug)]
pub(crate) struct Sending<'a> {
    pub(crate) machine: &'a Instance,
    /// The user of the machine's system.
    pub(crate) user: &'a str,
    pub(crate) key: &'a PublicKey,
    /// The ARN of who sends it.
    pub(crate) caller: &'a str,
    pub(crate) request_id: &'a str,
    pub(crate) now: UnixTime,
}

impl Sending<'_> {
    fn expires_at(&self) -> UnixTime {
        self.now.plus(USER_KEY_SECONDS)
    }

    /// What is signed. The first four lines are those of AWS; what begins with `#` and is not known to its scripts they pass
    /// over, so that ours can say whose login the key is for. Source: script `eic_parse_authorized_keys` 1.1.12 to 1.1.19.
    fn lines(&self) -> String {
        format!(
            "#Timestamp={}\n#Instance={}\n#Caller={}\n#Request={}\n#User={}\n{}\n",
            self.expires_at().as_secs(),
            self.machine.id,
            self.caller,
            self.request_id,
            self.user,
            self.key.line()
        )
    }

    /// Signs it: about a millisecond of work.
    pub(crate) fn signed(&self, signer: &InstanceConnectSigner) -> Result<UserKey, AuthorityError> {
        let lines = self.lines();
        let signature = signer.sign(&lines)?;
        Ok(UserKey {
            user: self.user.to_owned(),
            block: format!("{lines}{signature}\n\n"),
            expires_at: self.expires_at(),
            boot_generation: self.machine.boot_generation,
            blob: self.key.blob().into(),
        })
    }
}

/// A signed key.
#[derive(Clone, Debug)]
pub struct UserKey {
    /// The user of the machine's system.
    pub user: String,
    /// The lines of the key, their signature, and an empty line: as metadata has it.
    pub block: String,
    /// From then on it is gone.
    pub expires_at: UnixTime,
    /// The boot of the machine that it was sent to; in the next one it is gone.
    boot_generation: u32,
    blob: Box<[u8]>,
}

impl UserKey {
    /// Whether it is there. If the clock was set back, no key is there for longer than a minute.
    fn is_live(&self, now: UnixTime) -> bool {
        (1..=USER_KEY_SECONDS).contains(&self.expires_at.since(now))
    }
}

/// The keys of one machine and what proves them.
#[derive(Debug)]
pub struct SentKeys {
    /// The boot of the machine that they were sent to.
    pub boot_generation: u32,
    /// The keys, in the order in which they were sent.
    pub keys: Vec<UserKey>,
    /// The certificates of who signed them, PEM.
    pub signer_chain: String,
    /// Proofs that those are good.
    pub staples: Vec<Staple>,
}

/// The keys of all machines.
#[derive(Debug, Default)]
pub(crate) struct UserKeys(Mutex<HashMap<InstanceId, Vec<UserKey>>>);

impl UserKeys {
    /// Adds a key. One that is there already is there for a minute from now on.
    pub(crate) fn add(&self, instance: InstanceId, key: UserKey, now: UnixTime) -> Result<(), TooMany> {
        let mut machines = self.lock();
        if machines.values().map(Vec::len).sum::<usize>() >= OF_ALL_MAX {
            drop_ended(&mut machines, now);
        }
        let count = machines.values().map(Vec::len).sum::<usize>();
        let mut keys = machines.get(&instance).cloned().unwrap_or_default();
        let known = keys.len();
        keys.retain(|other| {
            other.is_live(now)
                && other.boot_generation == key.boot_generation
                && (other.user != key.user || other.blob != key.blob)
        });
        if keys.iter().filter(|other| other.user == key.user).count() >= OF_ONE_USER_MAX {
            return Err(TooMany::User);
        }
        if keys.len() >= OF_ONE_MACHINE_MAX {
            return Err(TooMany::Machine);
        }
        if count - known + keys.len() >= OF_ALL_MAX {
            return Err(TooMany::Region);
        }
        keys.push(key);
        machines.insert(instance, keys);
        Ok(())
    }

    /// The keys that are there for a machine in its present boot.
    pub(crate) fn of(&self, machine: &Instance, now: UnixTime) -> Vec<UserKey> {
        let machines = self.lock();
        let keys = machines.get(&machine.id).into_iter().flatten();
        keys.filter(|key| key.is_live(now) && key.boot_generation == machine.boot_generation).cloned().collect()
    }

    /// Forgets what has ended.
    pub(crate) fn tidy(&self, now: UnixTime) {
        drop_ended(&mut self.lock(), now);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceId, Vec<UserKey>>> {
        // Lists are put in whole: consistent between any two statements that can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn drop_ended(machines: &mut HashMap<InstanceId, Vec<UserKey>>, now: UnixTime) {
    machines.retain(|_, keys| {
        keys.retain(|key| key.is_live(now));
        !keys.is_empty()
    });
}

/// Why a key for logins was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendKeyError {
    /// There are too many.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// A new region has none for a moment.
    #[error("the signer of this region is still being made")]
    NoSigner,
    /// It cannot sign.
    #[error(transparent)]
    Signer(#[from] AuthorityError),
}

impl RegionServer {
    /// Signs a key for logins and sends it to its machine: when this has answered, the machine's metadata have it.
    pub(crate) fn send_user_key(&self, sending: &Sending<'_>) -> Result<(), SendKeyError> {
        let signer = self.signers.instance_connect().ok_or(SendKeyError::NoSigner)?;
        let key = sending.signed(&signer)?;
        let instance = sending.machine.id;
        self.user_keys.add(instance, key, sending.now)?;
        self.machines.keys_were_sent(instance);
        Ok(())
    }

    /// The keys for logins that were sent to a machine and are good at the moment `now`; `None` if there are none.
    #[must_use]
    pub fn sent_keys(&self, instance: InstanceId, now: UnixTime) -> Option<SentKeys> {
        let machine = self.machines.get(instance).filter(|machine| machine.state == InstanceState::Running)?;
        let keys = self.user_keys.of(&machine, now);
        let signer = self.signers.instance_connect().filter(|_| !keys.is_empty())?;
        let staples =
            signer.staples(now).inspect_err(|error| tracing::error!(%error, "no staples can be made")).ok()?;
        let (boot_generation, signer_chain) = (machine.boot_generation, signer.chain_pem().to_owned());
        Some(SentKeys { boot_generation, keys, signer_chain, staples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn instance(n: usize) -> InstanceId {
        format!("i-{n:017x}").parse().unwrap()
    }

    fn key(user: &str, n: usize, at: UnixTime) -> UserKey {
        UserKey {
            user: user.to_owned(),
            block: n.to_string(),
            expires_at: at.plus(USER_KEY_SECONDS),
            boot_generation: 1,
            blob: n.to_be_bytes().into(),
        }
    }

    fn blocks(keys: &UserKeys, n: usize, now: UnixTime) -> Vec<String> {
        let machines = keys.lock();
        let of = machines.get(&instance(n)).into_iter().flatten().filter(|key| key.is_live(now));
        of.map(|key| key.block.clone()).collect()
    }

    #[test]
    fn a_key_is_there_for_a_minute_and_sent_again_for_another() {
        let keys = UserKeys::default();
        keys.add(instance(1), key("root", 1, NOW), NOW).unwrap();
        assert_eq!(blocks(&keys, 1, NOW.plus(59)), ["1"]);
        assert!(blocks(&keys, 1, NOW.plus(60)).is_empty());
        assert!(blocks(&keys, 1, NOW.minus(1)).is_empty(), "the clock was set back");
        let later = NOW.plus(59);
        keys.add(instance(1), key("root", 1, later), later).unwrap();
        assert_eq!(blocks(&keys, 1, later.plus(59)), ["1"]);
        keys.tidy(later.plus(60));
        assert!(keys.lock().is_empty());
    }

    #[test]
    fn keys_of_another_boot_go_when_one_is_added() {
        let keys = UserKeys::default();
        keys.add(instance(1), key("root", 1, NOW), NOW).unwrap();
        keys.add(instance(1), UserKey { boot_generation: 2, ..key("root", 2, NOW) }, NOW).unwrap();
        assert_eq!(blocks(&keys, 1, NOW), ["2"]);
    }

    #[test]
    fn keys_of_a_user_and_of_a_machine_below_at_and_above_their_limits() {
        let keys = UserKeys::default();
        for n in 0..OF_ONE_USER_MAX {
            keys.add(instance(1), key("root", n, NOW), NOW).unwrap();
        }
        assert_eq!(keys.add(instance(1), key("root", 99, NOW), NOW), Err(TooMany::User));
        keys.add(instance(1), key("root", 0, NOW), NOW).unwrap();
        for n in OF_ONE_USER_MAX..OF_ONE_MACHINE_MAX {
            keys.add(instance(1), key(&format!("user{n}"), n, NOW), NOW).unwrap();
        }
        assert_eq!(keys.add(instance(1), key("another", 1, NOW), NOW), Err(TooMany::Machine));
        assert_eq!(blocks(&keys, 1, NOW).len(), OF_ONE_MACHINE_MAX);
        keys.add(instance(2), key("another", 1, NOW), NOW).unwrap();
        let later = NOW.plus(USER_KEY_SECONDS);
        keys.add(instance(1), key("root", 99, later), later).unwrap();
        assert_eq!(blocks(&keys, 1, later), ["99"]);
    }

    #[test]
    fn keys_of_all_machines_below_at_and_above_their_limit() {
        let keys = UserKeys::default();
        for n in 0..OF_ALL_MAX {
            keys.add(instance(n), key("root", n, NOW), NOW).unwrap();
        }
        assert_eq!(keys.add(instance(OF_ALL_MAX), key("root", 1, NOW), NOW), Err(TooMany::Region));
        keys.add(instance(0), key("root", 0, NOW), NOW).unwrap();
        let later = NOW.plus(USER_KEY_SECONDS);
        keys.add(instance(OF_ALL_MAX), key("root", 1, later), later).unwrap();
        assert_eq!(keys.lock().len(), 1);
    }
}
