//! Default Host Management: the setting that says which role is passed to machines, and what that ends.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use inborn_credential::CutOffs;
use inborn_identity::{AccountId, RoleName, UnixTime};
use inborn_store::{SettingChange, Store, StoreError};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::OpenError;
use crate::quarantine::{CLOCKS_APART_SECONDS, GIVEN_AFTER_SECONDS};

/// The id of the setting, a path.
pub(crate) const SETTING_ID: &str = "/ssm/managed-instance/default-ec2-instance-management-role";
/// Its name in the store.
const STORED_NAME: &str = "ssm/managed-instance/default-ec2-instance-management-role";

/// How far ahead of the clock sessions may end by changes of a setting. Each change that ends some moves all of the account that are issued
/// then a second further ahead; a release or a revocation may have dated them ahead before that, as far as the other two.
pub(crate) const ENDED_AHEAD_SECONDS_MAX: u64 = GIVEN_AFTER_SECONDS + CLOCKS_APART_SECONDS + 170;
// What is dated further ahead is let in nowhere, and what a cut-off ends that was dated so does not count whole.
const _: () = assert!(ENDED_AHEAD_SECONDS_MAX + 2 < CutOffs::AHEAD_SECONDS_MAX);

/// Why the setting was not changed.
#[derive(Debug)]
pub(crate) enum SettingError {
    /// Somebody else changed the stored value beside us.
    Changed,
    /// It was changed so often that sessions would begin too far ahead of the clock.
    TooOften,
    /// The store's.
    Store(StoreError),
}

/// The setting as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct HostManagementSetting {
    /// The role that is passed, as it was named: perhaps with its path. `None`: no role, Default Host Management is off.
    pub(crate) value: Option<String>,
    /// Who set it, by ARN, and when; `None`: nobody has.
    modified: Option<(String, u64)>,
    /// Sessions that were issued up to this second have ended.
    ended: u64,
}

impl HostManagementSetting {
    /// The role that is passed.
    pub(crate) fn role(&self) -> Option<RoleName> {
        let value = self.value.as_deref()?;
        value.rsplit('/').next().unwrap_or(value).parse().ok()
    }

    /// Who set it and when, if it is not as every account has it first.
    pub(crate) fn modified(&self) -> Option<(&str, UnixTime)> {
        let (by, at) = self.modified.as_ref()?;
        Some((by, UnixTime::from_secs(*at)))
    }

    /// Whether a session issued at this moment is still good, as far as the setting goes.
    pub(crate) fn spares(&self, issued_at: UnixTime) -> bool {
        issued_at.as_secs() > self.ended || self.ended == 0
    }

    /// No session begins before this: it does so after all that have ended.
    pub(crate) fn begins_after(&self) -> UnixTime {
        UnixTime::from_secs(if self.ended == 0 { 0 } else { self.ended.saturating_add(1) })
    }

    /// The setting after a change. Sessions of another role than the one that is passed now end with it; the last of them
    /// was issued at `last_issue`, which may be a little ahead of now.
    fn changed(&self, value: Option<String>, by: String, now: UnixTime, last_issue: impl FnOnce() -> UnixTime) -> Self {
        let mut next = Self { value, modified: Some((by, now.as_secs())), ended: self.ended };
        if self.role().is_some() && next.role() != self.role() {
            next.ended = last_issue().max(now).as_secs();
        }
        next
    }
}

/// The settings of all accounts.
pub(crate) struct HostManagement {
    store: Arc<dyn Store>,
    /// The region's own account, whose setting has the name that it had when there was no other.
    own: AccountId,
    by_account: RwLock<BTreeMap<AccountId, Arc<AccountSetting>>>,
}

impl HostManagement {
    pub(crate) async fn load(store: Arc<dyn Store>, own: AccountId) -> Result<Self, OpenError> {
        let all = Self { store, own, by_account: RwLock::default() };
        for name in all.store.setting_names().await? {
            let Some(account) = all.account_of(&name) else { continue };
            let setting = AccountSetting::load(Arc::clone(&all.store), name).await?;
            all.by_account.write().unwrap_or_else(PoisonError::into_inner).insert(account, Arc::new(setting));
        }
        Ok(all)
    }

    /// The setting of an account.
    pub(crate) fn of(&self, account: AccountId) -> Arc<AccountSetting> {
        let known = self.by_account.read().unwrap_or_else(PoisonError::into_inner).get(&account).cloned();
        known.unwrap_or_else(|| {
            let mut all = self.by_account.write().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(AccountSetting::new(Arc::clone(&self.store), self.name_of(account)));
            Arc::clone(all.entry(account).or_insert_with(new))
        })
    }

    /// Whether the setting of an account is stored under this name.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.account_of(name).is_some()
    }

    fn name_of(&self, account: AccountId) -> String {
        if account == self.own { STORED_NAME.to_owned() } else { format!("{STORED_NAME}/{account}") }
    }

    fn account_of(&self, name: &str) -> Option<AccountId> {
        match name.strip_prefix(STORED_NAME)? {
            "" => Some(self.own),
            rest => rest.strip_prefix('/')?.parse().ok().filter(|account| *account != self.own),
        }
    }

    /// Another server may have changed settings: memory follows the store.
    pub(crate) async fn hear(&self) -> Result<(), StoreError> {
        for name in self.store.setting_names().await? {
            if let Some(account) = self.account_of(&name) {
                self.of(account).hear().await?;
            }
        }
        Ok(())
    }
}

/// The setting of one account, in the store and in memory.
pub(crate) struct AccountSetting {
    store: Arc<dyn Store>,
    name: String,
    /// What the store holds, byte for byte: the next change builds on it.
    stored: Mutex<Option<Vec<u8>>>,
    setting: ArcSwap<HostManagementSetting>,
    /// The latest moment, in seconds since the epoch, that a session was dated which this server has issued.
    last_issue: AtomicU64,
}

impl AccountSetting {
    /// One that nobody has set.
    fn new(store: Arc<dyn Store>, name: String) -> Self {
        Self { store, name, stored: Mutex::default(), setting: ArcSwap::default(), last_issue: AtomicU64::default() }
    }

    async fn load(store: Arc<dyn Store>, name: String) -> Result<Self, OpenError> {
        let stored = store.setting(&name).await?;
        let setting = match &stored {
            Some(bytes) => serde_json::from_slice(bytes).map_err(|_| OpenError::Damaged("a service setting"))?,
            None => HostManagementSetting::default(),
        };
        Ok(Self {
            store,
            name,
            stored: Mutex::new(stored),
            setting: ArcSwap::from_pointee(setting),
            last_issue: AtomicU64::default(),
        })
    }

    /// Another server may have changed the setting: memory follows the store.
    async fn hear(&self) -> Result<(), StoreError> {
        let mut stored = self.stored.lock().await;
        let found = self.store.setting(&self.name).await?;
        self.follow(&mut stored, found);
        Ok(())
    }

    /// A session was issued that is dated so.
    pub(crate) fn has_issued(&self, at: UnixTime) {
        self.last_issue.fetch_max(at.as_secs(), Ordering::SeqCst);
    }

    /// When the last session was issued by this server since its start, as it was dated.
    pub(crate) fn last_issue(&self) -> UnixTime {
        UnixTime::from_secs(self.last_issue.load(Ordering::SeqCst))
    }

    /// The setting now.
    pub(crate) fn setting(&self) -> Arc<HostManagementSetting> {
        self.setting.load_full()
    }

    /// Sets the role to pass, or none. When this has answered, no session of another role is accepted.
    ///
    /// `last_issue` gives the latest moment at which a session was issued until then; it is asked if any end.
    pub(crate) async fn set(
        &self,
        value: Option<String>,
        by: String,
        now: UnixTime,
        last_issue: impl FnOnce() -> UnixTime,
    ) -> Result<(), SettingError> {
        let mut stored = self.stored.lock().await;
        let next = self.setting().changed(value, by, now, last_issue);
        if next.ended > self.setting().ended && next.ended > now.plus(ENDED_AHEAD_SECONDS_MAX).as_secs() {
            return Err(SettingError::TooOften);
        }
        let bytes = serde_json::to_vec(&next).map_err(|_| SettingError::Store(StoreError::Invalid("a setting")))?;
        let change = SettingChange { name: self.name.clone(), expected: stored.clone(), value: bytes.clone() };
        match self.store.put_setting(change).await {
            Ok(()) => {}
            // It may have been written all the same: what ends access is believed, what gives it is not.
            Err(error @ (StoreError::Io(_) | StoreError::Closed)) => {
                if let Ok(found) = self.store.setting(&self.name).await {
                    self.follow(&mut stored, found);
                }
                return Err(SettingError::Store(error));
            }
            Err(StoreError::Conflict(_)) => {
                let found = self.store.setting(&self.name).await.map_err(SettingError::Store)?;
                self.follow(&mut stored, found);
                return Err(SettingError::Changed);
            }
            Err(error) => return Err(SettingError::Store(error)),
        }
        *stored = Some(bytes);
        self.setting.store(Arc::new(next));
        Ok(())
    }

    /// Memory follows the store.
    fn follow(&self, stored: &mut Option<Vec<u8>>, found: Option<Vec<u8>>) {
        let setting = match &found {
            Some(bytes) => serde_json::from_slice(bytes),
            None => Ok(HostManagementSetting::default()),
        };
        match setting {
            Ok(setting) => {
                self.setting.store(Arc::new(setting));
                *stored = found;
            }
            Err(error) => tracing::error!(%error, setting = SETTING_ID, "the stored setting cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn set(setting: &HostManagementSetting, value: Option<&str>, now: UnixTime) -> HostManagementSetting {
        setting.changed(value.map(str::to_owned), "arn".to_owned(), now, || issue_at(setting, now))
    }

    fn issue_at(setting: &HostManagementSetting, now: UnixTime) -> UnixTime {
        now.max(setting.begins_after())
    }

    #[test]
    fn a_role_may_be_named_with_its_path() {
        for (value, role) in [
            (None, None),
            (Some("R"), Some("R")),
            (Some("service-role/R"), Some("R")),
            (Some("/a/b/R"), Some("R")),
            (Some("a/"), None),
        ] {
            let setting = HostManagementSetting { value: value.map(str::to_owned), ..Default::default() };
            assert_eq!(setting.role().as_ref().map(RoleName::as_str), role, "{value:?}");
        }
    }

    #[test]
    fn a_session_ends_when_another_role_or_none_is_passed() {
        let on = set(&HostManagementSetting::default(), Some("R"), NOW);
        let issued = issue_at(&on, NOW);
        assert!(on.spares(issued));
        // The same role under its path ends nothing.
        assert!(set(&on, Some("service-role/R"), NOW).spares(issued));
        for other in [None, Some("S")] {
            let changed = set(&on, other, NOW);
            assert!(!changed.spares(issued), "{other:?}");
            // Turned back within the same second, the old sessions stay dead and new ones are good.
            let back = set(&changed, Some("R"), NOW);
            assert!(!back.spares(issued) && back.spares(issue_at(&back, NOW)), "{other:?}");
        }
    }

    #[test]
    fn sessions_dated_ahead_end_too() {
        let mut setting = HostManagementSetting::default();
        for _ in 0..3 {
            setting = set(&setting, Some("R"), NOW);
            let issued = issue_at(&setting, NOW);
            assert!(setting.spares(issued));
            setting = set(&setting, None, NOW);
            assert!(!setting.spares(issued));
        }
    }

    #[test]
    fn whoever_turned_it_off_is_known() {
        let off = set(&set(&HostManagementSetting::default(), Some("R"), NOW), None, NOW.plus(5));
        assert_eq!((off.role(), off.modified()), (None, Some(("arn", NOW.plus(5)))));
        assert_eq!(HostManagementSetting::default().modified(), None);
    }

    /// Nothing is given that no clock reaches.
    #[tokio::test]
    async fn sessions_end_ahead_of_the_clock_below_at_and_above_the_most() {
        let store: Arc<dyn Store> = Arc::new(inborn_store::SqliteStore::in_memory().unwrap());
        let all = HostManagement::load(store, AccountId::new(1).unwrap()).await.unwrap();
        let setting = all.of(AccountId::new(2).unwrap());
        for (ahead, is_done) in [(599, true), (600, true), (601, false)] {
            let last = || NOW.plus(ahead);
            setting.set(Some("one".to_owned()), "arn".to_owned(), NOW, last).await.unwrap();
            let done = setting.set(None, "arn".to_owned(), NOW, last).await;
            assert_eq!(done.is_ok(), is_done, "{ahead}");
        }
        assert_eq!(setting.setting().begins_after(), NOW.plus(601));
        // What ends nothing may be changed as often as anybody likes.
        setting.set(Some("path/one".to_owned()), "arn".to_owned(), NOW, || NOW.plus(700)).await.unwrap();
    }

    #[tokio::test]
    async fn settings_are_their_accounts_own() {
        let store: Arc<dyn Store> = Arc::new(inborn_store::SqliteStore::in_memory().unwrap());
        let account = |number| AccountId::new(number).unwrap();
        let load = async || HostManagement::load(Arc::clone(&store), account(1)).await.unwrap();
        let all = load().await;
        for (number, name) in [(1, STORED_NAME.to_owned()), (2, format!("{STORED_NAME}/000000000002"))] {
            assert_eq!(all.name_of(account(number)), name);
            assert_eq!(all.account_of(&name), Some(account(number)));
        }
        for name in [format!("{STORED_NAME}/000000000001"), format!("{STORED_NAME}/x"), "x".to_owned()] {
            assert!(!all.is_named(&name), "{name}");
        }
        for (number, role) in [(2, "two"), (1, "one")] {
            all.of(account(number)).set(Some(role.to_owned()), "arn".to_owned(), NOW, || NOW).await.unwrap();
        }
        let role = |all: &HostManagement, number| all.of(account(number)).setting().value.clone();
        let again = load().await;
        for known in [&all, &again] {
            assert_eq!(role(known, 1).as_deref(), Some("one"));
            assert_eq!(role(known, 2).as_deref(), Some("two"));
            assert_eq!(role(known, 3), None);
        }
        // What one has ended moves nobody else's sessions.
        all.of(account(2)).set(None, "arn".to_owned(), NOW.plus(9), || NOW.plus(9)).await.unwrap();
        let begins = |number| all.of(account(number)).setting().begins_after();
        assert_eq!((begins(2), begins(1)), (NOW.plus(10), UnixTime::default()));
        again.hear().await.unwrap();
        assert_eq!((role(&again, 1).as_deref(), role(&again, 2)), (Some("one"), None));
    }
}
