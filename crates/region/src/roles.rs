//! The roles that an operator can pass to machines.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use inborn_identity::{AccessKeyId, AccessKeyKind, AccountId, MANAGEMENT_ROLE_NAME, RoleName, UnixTime};
use inborn_store::{Role, Store, StoreError};
use tokio::sync::Mutex;

use crate::OpenError;

/// The path of the role that every account has. Source: Systems Manager user guide, "Default Host Management".
pub(crate) const MANAGEMENT_ROLE_PATH: &str = "/service-role/";
/// Most roles of an account. Source: IAM user guide, "IAM and STS quotas".
pub(crate) const ROLES_MAX: usize = 1000;

/// The roles, mirrored in memory: whether one is still there is asked at each call of its sessions.
pub(crate) struct Roles {
    store: Arc<dyn Store>,
    /// By their accounts, and their names in lower case: IAM tells no two apart by their letters' case.
    roles: RwLock<BTreeMap<(AccountId, String), Arc<Role>>>,
    turn: Mutex<()>,
}

/// Why a role was not made.
#[derive(Debug)]
pub(crate) enum RoleError {
    /// There is one of this name.
    Exists,
    /// There are too many.
    TooMany,
    /// The store's.
    Store(StoreError),
}

impl Roles {
    /// Reads the roles, and makes the one that every account has for the region's own.
    pub(crate) async fn load(store: Arc<dyn Store>, account: AccountId, now: UnixTime) -> Result<Self, OpenError> {
        let roles = RwLock::new(read(&*store).await?);
        let roles = Self { store, roles, turn: Mutex::new(()) };
        roles.ensure_management(account, now).await?;
        Ok(roles)
    }

    /// Makes the role that every account has, where it is not there.
    pub(crate) async fn ensure_management(&self, account: AccountId, now: UnixTime) -> Result<(), OpenError> {
        let name: RoleName = MANAGEMENT_ROLE_NAME.parse().map_err(|_| OpenError::Damaged("the management role"))?;
        if self.get(account, &name).is_some() {
            return Ok(());
        }
        let description = "Default Host Management passes this role to the machines of the account.".to_owned();
        let made = self.create(account, name, MANAGEMENT_ROLE_PATH.to_owned(), description, now).await;
        made.map(drop).map_err(|error| match error {
            RoleError::Store(error) => OpenError::Store(error),
            _ => OpenError::Damaged("the management role"),
        })
    }

    /// Another server has changed roles: memory follows the store.
    pub(crate) async fn hear(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let roles = read(&*self.store).await?;
        *self.roles.write().unwrap_or_else(PoisonError::into_inner) = roles;
        Ok(())
    }

    /// The role of this name in an account.
    pub(crate) fn get(&self, account: AccountId, name: &RoleName) -> Option<Arc<Role>> {
        self.roles.read().unwrap_or_else(PoisonError::into_inner).get(&(account, key(name))).cloned()
    }

    /// All of an account, by name.
    pub(crate) fn all(&self, account: AccountId) -> Vec<Arc<Role>> {
        let roles = self.roles.read().unwrap_or_else(PoisonError::into_inner);
        let own = roles.range((account, String::new())..).take_while(|((whose, _), _)| *whose == account);
        own.map(|(_, role)| Arc::clone(role)).collect()
    }

    /// Makes a role.
    pub(crate) async fn create(
        &self,
        account: AccountId,
        name: RoleName,
        path: String,
        description: String,
        now: UnixTime,
    ) -> Result<Arc<Role>, RoleError> {
        let _turn = self.turn.lock().await;
        if self.get(account, &name).is_some() {
            return Err(RoleError::Exists);
        }
        if self.all(account).len() >= ROLES_MAX {
            return Err(RoleError::TooMany);
        }
        let role = Role { account, name, path, role_id: new_role_id(account)?, description, created_at: now };
        self.store.put_role(role.clone()).await.map_err(RoleError::Store)?;
        let role = Arc::new(role);
        let mut roles = self.roles.write().unwrap_or_else(PoisonError::into_inner);
        roles.insert((account, key(&role.name)), Arc::clone(&role));
        Ok(role)
    }

    /// Deletes a role; gives whether there was one. Its sessions are nobody's from then on.
    pub(crate) async fn delete(&self, account: AccountId, name: &RoleName) -> Result<bool, StoreError> {
        let _turn = self.turn.lock().await;
        let Some(role) = self.get(account, name) else { return Ok(false) };
        self.store.delete_role(account, role.name.clone()).await?;
        self.roles.write().unwrap_or_else(PoisonError::into_inner).remove(&(account, key(name)));
        Ok(true)
    }
}

async fn read(store: &dyn Store) -> Result<BTreeMap<(AccountId, String), Arc<Role>>, StoreError> {
    let stored = store.roles().await?;
    Ok(stored.into_iter().map(|role| ((role.account, key(&role.name)), Arc::new(role))).collect())
}

fn key(name: &RoleName) -> String {
    name.as_str().to_ascii_lowercase()
}

/// `AROA` and what an access key id has behind its kind: as random, and as long, as IAM's.
fn new_role_id(account: AccountId) -> Result<String, RoleError> {
    let mut bytes = [0; 8];
    let failed = |_| RoleError::Store(StoreError::Io("this machine has no source of random bytes".to_owned()));
    aws_lc_rs::rand::fill(&mut bytes).map_err(failed)?;
    let id = AccessKeyId::new(AccessKeyKind::LongLived, account, u64::from_be_bytes(bytes) >> 25);
    Ok(format!("AROA{}", id.as_str().get(4..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_store::SqliteStore;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn own() -> AccountId {
        AccountId::new(123_456_789_012).unwrap()
    }

    async fn roles(store: &Arc<dyn Store>) -> Roles {
        Roles::load(Arc::clone(store), own(), NOW).await.unwrap()
    }

    #[tokio::test]
    async fn every_account_has_the_management_role_and_keeps_its_id() {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
        let first = roles(&store).await.all(own());
        let again = roles(&store).await.all(own());
        assert_eq!(first, again);
        assert_eq!(
            (first.len(), first[0].name.as_str(), first[0].path.as_str()),
            (1, MANAGEMENT_ROLE_NAME, "/service-role/")
        );
        assert!(first[0].role_id.starts_with("AROA") && first[0].role_id.len() == 20, "{}", first[0].role_id);
    }

    #[tokio::test]
    async fn names_differ_by_more_than_case_and_a_new_role_is_another_one() {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
        let roles = roles(&store).await;
        let create = |name: &str| roles.create(own(), name.parse().unwrap(), "/".into(), String::new(), NOW);
        let first = create("Agents").await.unwrap();
        assert!(matches!(create("agents").await, Err(RoleError::Exists)));
        assert!(roles.delete(own(), &"AGENTS".parse().unwrap()).await.unwrap());
        assert!(!roles.delete(own(), &"Agents".parse().unwrap()).await.unwrap());
        let second = create("agents").await.unwrap();
        assert_ne!(first.role_id, second.role_id);
        assert_eq!(store.roles().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn roles_below_at_and_above_their_limit() {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
        let roles = roles(&store).await;
        for number in 1..ROLES_MAX {
            roles.create(own(), format!("r{number}").parse().unwrap(), "/".into(), String::new(), NOW).await.unwrap();
        }
        let above = roles.create(own(), "one-more".parse().unwrap(), "/".into(), String::new(), NOW).await;
        assert!(matches!(above, Err(RoleError::TooMany)));
        let other = AccountId::new(7).unwrap();
        assert!(roles.create(other, "one-more".parse().unwrap(), "/".into(), String::new(), NOW).await.is_ok());
    }

    #[tokio::test]
    async fn roles_are_their_accounts_own() {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
        let (roles, other) = (roles(&store).await, AccountId::new(7).unwrap());
        let name = || "agents".parse().unwrap();
        let others = roles.create(other, name(), "/".into(), String::new(), NOW).await.unwrap();
        assert_eq!(roles.get(own(), &name()), None);
        assert!(!roles.delete(own(), &name()).await.unwrap());
        assert_eq!(roles.all(other), [others]);
        roles.ensure_management(other, NOW).await.unwrap();
        roles.ensure_management(other, NOW).await.unwrap();
        assert_eq!((roles.all(other).len(), roles.all(own()).len()), (2, 1));
        roles.hear().await.unwrap();
        assert_eq!((roles.all(other).len(), roles.all(own()).len()), (2, 1));
    }
}
