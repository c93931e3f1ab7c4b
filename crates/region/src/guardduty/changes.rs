//! Changes of detectors and of what is set up at them. Each is compared in the store with what it was decided by, and thought through again
//! where another server came first; what others have changed is read from the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use inborn_identity::{AccountId, UnixTime};
use inborn_store::{Conflict, DetectorChange, PartChange, PartKind, SettingChange, StoreError};

use super::criteria::Criteria;
use super::settings::{AddressSet, Filter, Settings};
use super::{ChangeError, Creation, GuardDuty, ReadSet, SetChange, Watched, document, new_id};
use crate::unreadable::pass_over;

/// How often a change is thought through again because somebody else has changed the same.
const TRIES: u32 = 5;

/// What becomes of a detector that is to be changed.
enum Step<T> {
    /// It stays as it is.
    None(T),
    /// It is stored as it was made, with a part of it, if one changes.
    Store(Option<PartChange>, T),
}

impl GuardDuty {
    /// Makes a detector for an account that has none, or takes over the one that made itself.
    pub(crate) async fn create(
        &self,
        account: AccountId,
        settings: Settings,
        now: UnixTime,
    ) -> Result<Creation, StoreError> {
        let _turn = self.changes.lock().await;
        let mut is_read = false;
        for _ in 0..TRIES {
            let before = self.of(account);
            if let Some(known) = before.as_deref() {
                let is_again = settings.client_token.is_some() && known.settings.client_token == settings.client_token;
                // The answer to the same request may have been lost; and nothing that made itself takes the place of another.
                if (is_again && !known.settings.is_automatic) || settings.is_automatic {
                    return Ok(Creation::Done(known.id.clone()));
                }
                if !known.settings.is_automatic && is_read {
                    return Ok(Creation::Exists);
                }
                if !known.settings.is_automatic {
                    // Another server may have deleted it a moment ago.
                    self.read(account).await?;
                    is_read = true;
                    continue;
                }
            }
            let revision = before.as_deref().map_or(0, |known| known.settings.revision) + 1;
            let settings = Settings { revision, ..settings.clone() };
            let stored = document(&settings)?;
            let watched = match before.as_deref() {
                Some(known) => Watched { settings, stored, updated_at: now, ..known.clone() },
                None => Watched::new(new_id(), account, now, settings, stored),
            };
            let expected = before.as_deref().map(|known| known.stored.clone());
            let change = DetectorChange { expected, detector: watched.record(), part: None };
            match self.store.put_detector(change).await {
                Ok(()) => {
                    self.set_unwanted(account, false).await?;
                    let id = watched.id.clone();
                    self.keep(watched);
                    return Ok(Creation::Done(id));
                }
                Err(StoreError::Conflict(_)) => {
                    self.read(account).await?;
                    is_read = true;
                }
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Busy)
    }

    /// The detector of an account, made if it has none; `None` if there was one and it was deleted.
    pub(crate) async fn ensure(&self, account: AccountId, now: UnixTime) -> Result<Option<Arc<Watched>>, StoreError> {
        if let Some(known) = self.of(account) {
            return Ok(Some(known));
        }
        if self.store.setting(&unwanted(account)).await?.is_some_and(|value| value == UNWANTED) {
            return Ok(None);
        }
        let settings = Settings { is_automatic: true, ..Settings::new(now.as_secs()) };
        self.create(account, settings, now).await?;
        Ok(self.of(account))
    }

    /// Changes the settings of a detector.
    pub(crate) async fn change<E>(
        &self,
        account: AccountId,
        id: &str,
        now: UnixTime,
        change: impl Fn(&mut Settings) -> Result<(), E>,
    ) -> Result<(), ChangeError<E>> {
        let step = |watched: &mut Watched| {
            change(&mut watched.settings).map_err(ChangeError::Refused)?;
            // Somebody has asked for something: from now on it is theirs.
            (watched.settings.is_automatic, watched.updated_at) = (false, now);
            Ok(Step::Store(None, ()))
        };
        self.change_watched(account, id, step).await
    }

    async fn change_watched<E, T>(
        &self,
        account: AccountId,
        id: &str,
        step: impl Fn(&mut Watched) -> Result<Step<T>, ChangeError<E>>,
    ) -> Result<T, ChangeError<E>> {
        let _turn = self.changes.lock().await;
        for _ in 0..TRIES {
            let known = self.get(account, id).ok_or(ChangeError::NoDetector)?;
            let mut watched = Watched::clone(&known);
            let (part, value) = match step(&mut watched)? {
                Step::None(value) => return Ok(value),
                Step::Store(part, value) => (part, value),
            };
            watched.settings.revision = known.settings.revision + 1;
            watched.stored = document(&watched.settings)?;
            let expected = Some(known.stored.clone());
            match self.store.put_detector(DetectorChange { expected, detector: watched.record(), part }).await {
                Ok(()) => {
                    self.keep(watched);
                    return Ok(value);
                }
                Err(StoreError::Conflict(Conflict::DetectorChanged(_) | Conflict::Absent(_))) => {
                    self.read(account).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(ChangeError::Store(StoreError::Busy))
    }

    /// Deletes a detector with all that belongs to it; gives whether there was one.
    pub(crate) async fn delete(&self, account: AccountId, id: &str) -> Result<bool, StoreError> {
        let _turn = self.changes.lock().await;
        if self.get(account, id).is_none() {
            return Ok(false);
        }
        // First, so that it cannot come back by itself whatever happens in between.
        self.set_unwanted(account, true).await?;
        let was_there = self.store.delete_detector(account, id.to_owned()).await?;
        self.forget(account, id);
        self.turn.lock().await.remove(id);
        Ok(was_there)
    }

    async fn set_unwanted(&self, account: AccountId, is_unwanted: bool) -> Result<(), StoreError> {
        let name = unwanted(account);
        let value = if is_unwanted { UNWANTED } else { WANTED };
        for _ in 0..TRIES {
            let expected = self.store.setting(&name).await?;
            if expected.as_deref() == Some(value) || (expected.is_none() && !is_unwanted) {
                return Ok(());
            }
            let change = SettingChange { name: name.clone(), expected, value: value.to_vec() };
            match self.store.put_setting(change).await {
                Err(StoreError::Conflict(Conflict::SettingChanged(_))) => {}
                outcome => return outcome,
            }
        }
        Err(StoreError::Busy)
    }

    /// Adds or changes a filter. `change` is given the one that is there, and how many others there are.
    pub(crate) async fn put_filter<E>(
        &self,
        account: AccountId,
        id: &str,
        name: &str,
        change: impl Fn(Option<&Filter>, usize) -> Result<(Filter, Criteria), E>,
    ) -> Result<(), ChangeError<E>> {
        let step = |watched: &mut Watched| {
            let before = watched.filters.get(name).map(|(filter, _)| filter);
            let others = watched.filters.len() - usize::from(before.is_some());
            let (filter, criteria) = change(before, others).map_err(ChangeError::Refused)?;
            let part = part(PartKind::Filter, name, document(&filter)?);
            watched.filters.insert(name.to_owned(), (filter, criteria));
            Ok(Step::Store(Some(part), ()))
        };
        self.change_watched(account, id, step).await
    }

    /// Adds a set of addresses (`id` is `None`) or changes one; gives its id. `change` is given the one that is there, and
    /// all others.
    pub(crate) async fn put_set<E>(
        &self,
        (account, detector, kind): (AccountId, &str, PartKind),
        id: Option<&str>,
        change: impl Fn(Option<&AddressSet>, &BTreeMap<String, ReadSet>) -> Result<SetChange, E>,
    ) -> Result<String, ChangeError<E>> {
        let new = id.map_or_else(new_id, str::to_owned);
        let step = |watched: &mut Watched| {
            let sets = watched.sets(kind);
            let before = id.and_then(|id| sets.get(id)).map(|read| &read.set);
            let set = match change(before, sets).map_err(ChangeError::Refused)? {
                SetChange::Done(id) => return Ok(Step::None(id)),
                SetChange::To(set) => set,
            };
            let entries = self.entries(&set).map_err(ChangeError::List)?;
            let part = part(kind, &new, document(&set)?);
            watched.sets_mut(kind).insert(new.clone(), ReadSet { set, entries });
            Ok(Step::Store(Some(part), new.clone()))
        };
        self.change_watched(account, detector, step).await
    }

    /// Deletes a filter or a set; gives whether there was one.
    pub(crate) async fn delete_part(&self, known: &Watched, kind: PartKind, id: &str) -> Result<bool, StoreError> {
        let step = |watched: &mut Watched| {
            let was_there = match kind {
                PartKind::Filter => watched.filters.remove(id).is_some(),
                _ => watched.sets_mut(kind).remove(id).is_some(),
            };
            let part = PartChange { kind, id: id.to_owned(), document: None };
            Ok::<_, ChangeError<StoreError>>(if was_there { Step::Store(Some(part), true) } else { Step::None(false) })
        };
        match self.change_watched(known.account, &known.id, step).await {
            Ok(was_there) => Ok(was_there),
            // Its parts went with it.
            Err(ChangeError::NoDetector | ChangeError::List(_)) => Ok(false),
            Err(ChangeError::Store(error) | ChangeError::Refused(error)) => Err(error),
        }
    }

    /// Others have changed the detectors of these accounts: memory follows the store.
    pub(crate) async fn hear(&self, accounts: &BTreeSet<AccountId>) -> Result<(), StoreError> {
        let _turn = self.changes.lock().await;
        for account in accounts {
            self.read_what_can_be(*account).await?;
        }
        Ok(())
    }

    /// Memory follows the store, whatever others have changed.
    pub(crate) async fn read_again(&self) -> Result<(), StoreError> {
        let _turn = self.changes.lock().await;
        let found = pass_over("a detector", "(any)", self.store.detectors().await)?.unwrap_or_default();
        let found = found.into_iter().map(|detector| detector.account);
        let known = self.watched.load().keys().copied().collect::<Vec<_>>();
        for account in found.chain(known).collect::<BTreeSet<_>>() {
            self.read_what_can_be(account).await?;
        }
        Ok(())
    }

    /// As [`Self::read`]; what cannot be read stays as it is known. A detector finds, and lets nobody in.
    async fn read_what_can_be(&self, account: AccountId) -> Result<(), StoreError> {
        pass_over("a detector of account", account, self.read(account).await).map(drop)
    }

    /// Reads what an account has, while nobody changes it here.
    async fn read(&self, account: AccountId) -> Result<(), StoreError> {
        let known = self.of(account);
        let Some((detector, parts)) = self.store.detector_of(account).await? else {
            if let Some(known) = known {
                self.forget(account, &known.id);
            }
            return Ok(());
        };
        match Watched::read(detector, parts) {
            Ok(mut watched) => {
                self.read_entries(&mut watched, known.as_deref());
                self.keep(watched);
            }
            // What is known of it goes on.
            Err(error) => tracing::error!(%account, %error, "what is set up at a detector cannot be read"),
        }
        Ok(())
    }
}

fn part(kind: PartKind, id: &str, document: String) -> PartChange {
    PartChange { kind, id: id.to_owned(), document: Some(document) }
}

const UNWANTED: &[u8] = b"deleted";
const WANTED: &[u8] = b"wanted";

/// The setting that says whether an account's detector was deleted.
fn unwanted(account: AccountId) -> String {
    format!("guardduty-detector {account}")
}
