//! The agents that registered, and the keys they did it with.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use inborn_credential::AgentKey;
use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_store::{Registration, RegistrationChange, SettingBasis, SettingChange, Store, StoreError};
use tokio::sync::Mutex;

use crate::host_management::ENDED_AHEAD_SECONDS_MAX;

// What is a key is kept.
const _: () = assert!(AgentKey::BYTES_MAX <= RegistrationChange::KEY_BYTES_MAX);

/// The settings, one of each account behind a slash, that say up to which second sessions of its agents that were forgotten may be dated,
/// whichever server has issued them, and by whatever clock: eight bytes. What was forgotten is in no table, and a server that starts, or
/// hears late, knows of it by this alone.
const ENDED_NAME: &str = "ssm/registrations-ended";
/// How often it is tried to raise one, or to register by it, while others change it.
const ATTEMPTS_MAX: u32 = 8;

/// What became of a registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Registered {
    /// The agent has registered, now or before, with this key.
    Yes,
    /// It has registered with another key.
    OtherKey,
    /// Agents of the account were forgotten so often that its sessions would begin too far ahead of the clock.
    TooOften,
}

/// Registrations: the store's truth, and in memory which machines have one.
pub(crate) struct Agents {
    store: Arc<dyn Store>,
    /// Since when each machine is registered; the end of a registration, where one was forgotten.
    known: RwLock<HashMap<InstanceId, State>>,
    /// Store and memory change as one: registrations and their ends take turns.
    turn: Mutex<()>,
}

#[derive(Clone, Copy)]
enum State {
    Since(UnixTime),
    Until(UnixTime),
}

impl Agents {
    pub(crate) async fn load(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let registrations = store.registrations().await?;
        let known = registrations.into_iter().map(|found| (found.instance, State::Since(found.registered_at)));
        Ok(Self { known: RwLock::new(known.collect()), turn: Mutex::new(()), store })
    }

    /// Registers an agent, from `at` on, or from after the last session of one that was forgotten, if that is not too far ahead of `now`. The
    /// same key again is the same registration: an agent that was cut off between our answer and its own disk asks again.
    pub(crate) async fn register(
        &self,
        account: AccountId,
        instance: InstanceId,
        key: &AgentKey,
        at: UnixTime,
        now: UnixTime,
    ) -> Result<Registered, StoreError> {
        let _turn = self.turn.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            // In this order: what is not there any more has left its mark before it went.
            if let Some(found) = self.find(instance).await? {
                return Ok(self.known_as(&found, key));
            }
            // After what was forgotten, here or elsewhere, so that sessions of before stay dead.
            let (stored, ended) = self.ended(account).await?;
            let Some(value) = stored else {
                match self.put_ended(account, None, UnixTime::default()).await {
                    Ok(()) | Err(StoreError::Conflict(_)) => continue,
                    Err(error) => return Err(error),
                }
            };
            let ended = match self.state(instance) {
                Some(State::Until(until)) => until.max(ended),
                _ => ended,
            };
            // Each that is forgotten and registers again moves all of the account a second ahead, and what is dated too far ahead is not
            // ended whole.
            if ended.plus(1) > now.plus(ENDED_AHEAD_SECONDS_MAX) {
                return Ok(Registered::TooOften);
            }
            let at = at.max(ended.plus(1));
            let basis = Some(SettingBasis { name: ended_name(account), value });
            let public_key = Some(key.as_der().to_vec());
            let change = RegistrationChange { instance, expected: None, public_key, at, basis };
            match self.store.change_registration(change).await {
                Ok(()) => {
                    self.note(instance, State::Since(at));
                    return Ok(Registered::Yes);
                }
                // It has registered at another server at the same moment, or one of the account was forgotten there.
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Busy)
    }

    /// What a registration that is there is to an agent with this key. Memory may not know of it yet: an answer was lost.
    fn known_as(&self, found: &Registration, key: &AgentKey) -> Registered {
        if found.public_key != key.as_der() {
            return Registered::OtherKey;
        }
        self.note(found.instance, State::Since(found.registered_at));
        Registered::Yes
    }

    /// Gives an agent another key; `false` if it no longer has the old one.
    pub(crate) async fn change_key(
        &self,
        instance: InstanceId,
        old: &AgentKey,
        new: &AgentKey,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let (expected, public_key) = (Some(old.as_der().to_vec()), Some(new.as_der().to_vec()));
        let change = RegistrationChange { instance, expected, public_key, at: now, basis: None };
        match self.store.change_registration(change).await {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Up to when sessions of agents of an account that were forgotten may be dated, and what of that is stored.
    async fn ended(&self, account: AccountId) -> Result<(Option<Vec<u8>>, UnixTime), StoreError> {
        let name = ended_name(account);
        let stored = self.store.setting(&name).await?;
        let seconds = match &stored {
            None => 0,
            Some(bytes) => {
                let bytes = bytes.as_slice().try_into().map_err(|_| {
                    StoreError::Corrupt(format!("the setting {name} holds what was never written there"))
                })?;
                u64::from_be_bytes(bytes)
            }
        };
        Ok((stored, UnixTime::from_secs(seconds)))
    }

    async fn put_ended(&self, account: AccountId, expected: Option<Vec<u8>>, to: UnixTime) -> Result<(), StoreError> {
        let value = to.as_secs().to_be_bytes().to_vec();
        self.store.put_setting(SettingChange { name: ended_name(account), expected, value }).await
    }

    /// Whoever registers from now on in this account is dated behind this moment, at every server.
    async fn raise_ended(&self, account: AccountId, to: UnixTime) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS_MAX {
            let (expected, ended) = self.ended(account).await?;
            if ended >= to {
                return Ok(());
            }
            match self.put_ended(account, expected, to).await {
                // Another server has forgotten an agent at the same time.
                Err(StoreError::Conflict(_)) => {}
                outcome => return outcome,
            }
        }
        Err(StoreError::Busy)
    }

    /// Forgets a registration; `false` if there was none. The sessions of the agent end with it: the last of them is dated
    /// `last_issue`, by whichever server.
    pub(crate) async fn forget(
        &self,
        account: AccountId,
        instance: InstanceId,
        last_issue: impl Fn() -> UnixTime,
    ) -> Result<bool, StoreError> {
        let _turn = self.turn.lock().await;
        let Some(found) = self.find(instance).await? else {
            // An end whose answer was lost before memory knew of it.
            let is_known = matches!(self.state(instance), Some(State::Since(_)));
            if is_known {
                self.note(instance, State::Until(last_issue()));
            }
            return Ok(is_known);
        };
        let at = last_issue().max(found.registered_at);
        self.raise_ended(account, at).await?;
        let expected = Some(found.public_key);
        let change = RegistrationChange { instance, expected, public_key: None, at, basis: None };
        self.store.change_registration(change).await?;
        // It was issued until now.
        self.note(instance, State::Until(last_issue().max(at)));
        Ok(true)
    }

    /// Another server has changed a registration: memory follows the store. If it has ended, what was issued up to
    /// `last_issue` has ended with it.
    pub(crate) async fn hear(&self, instance: InstanceId, last_issue: UnixTime) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        match self.find(instance).await? {
            Some(found) => self.note(instance, State::Since(found.registered_at)),
            None if matches!(self.state(instance), Some(State::Since(_))) => {
                self.note(instance, State::Until(last_issue));
            }
            None => {}
        }
        Ok(())
    }

    /// Reads all registrations again. Those that have ended meanwhile have ended with what was issued up to `last_issue` of their machine.
    pub(crate) async fn read_again(&self, last_issue: impl Fn(InstanceId) -> UnixTime) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let found = self.store.registrations().await?;
        let found: HashMap<_, _> = found.into_iter().map(|found| (found.instance, found.registered_at)).collect();
        let are_over = |known: &HashMap<InstanceId, State>| -> Vec<InstanceId> {
            let since =
                known.iter().filter(|(_, state)| matches!(state, State::Since(_))).map(|(instance, _)| *instance);
            since.filter(|instance| !found.contains_key(instance)).collect()
        };
        // Whoever says when the last issue was looks into what is known.
        let over = are_over(&self.known.read().unwrap_or_else(PoisonError::into_inner));
        let over = over.into_iter().map(|instance| (instance, State::Until(last_issue(instance)))).collect::<Vec<_>>();
        let since = found.into_iter().map(|(instance, registered_at)| (instance, State::Since(registered_at)));
        self.known.write().unwrap_or_else(PoisonError::into_inner).extend(over.into_iter().chain(since));
        Ok(())
    }

    /// The registration of a machine.
    pub(crate) async fn find(&self, instance: InstanceId) -> Result<Option<Registration>, StoreError> {
        self.store.registration(instance).await
    }

    /// Whether a session issued at this moment belongs to a registration that still stands.
    pub(crate) fn spares(&self, instance: InstanceId, issued_at: UnixTime) -> bool {
        matches!(self.state(instance), Some(State::Since(since)) if issued_at >= since)
    }

    /// Since when a machine is registered.
    pub(crate) fn since(&self, instance: InstanceId) -> Option<UnixTime> {
        match self.state(instance)? {
            State::Since(since) => Some(since),
            State::Until(_) => None,
        }
    }

    /// Drops what is known of machines that are gone.
    pub(crate) fn keep(&self, is_alive: impl Fn(InstanceId) -> bool) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).retain(|instance, _| is_alive(*instance));
    }

    fn state(&self, instance: InstanceId) -> Option<State> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&instance).copied()
    }

    fn note(&self, instance: InstanceId, state: State) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(instance, state);
    }
}

fn ended_name(account: AccountId) -> String {
    format!("{ENDED_NAME}/{account}")
}
