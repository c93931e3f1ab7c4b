//! The accounts of a region and their operators; of a deployment of several regions, those of its home, which all regions share.
//!
//! The region's own account, the one that the store is bound to, is always there: its operators administer the region.
//! Whether an account is open is asked at each call, of memory that follows the store.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use inborn_credential::{SecretAccessKey, generate_long_lived};
use inborn_identity::{AccessKeyId, AccountId, InstanceId, UnixTime};
use inborn_store::{
    Account, Change, ChangeRequest, Conflict, Operator, OperatorChange, StateReason, Store, StoreError,
};
use tokio::sync::Mutex;

use crate::{OpenError, RegionServer, secrets};

/// Most accounts of a region, closed ones among them: what is remembered of each is small.
pub(crate) const ACCOUNTS_MAX: usize = 1000;
/// Most operators of an account: each is in memory with its keys.
pub(crate) const OPERATORS_MAX: usize = 100;
/// Machines that are terminated in one change.
const TOGETHER_MAX: usize = 1000;

/// Why an account or an operator was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// There is one already, open or closed.
    #[error("The account {0} is there already, or was closed: an id is used once")]
    Exists(AccountId),
    /// There are too many.
    #[error("A region has at most {ACCOUNTS_MAX} accounts, closed ones among them")]
    TooManyAccounts,
    /// There is none that is open.
    #[error("There is no account {0} here that is open: see `inborn account list`")]
    NoAccount(AccountId),
    /// The region's own is never closed.
    #[error("The account {0} is the region's own: it cannot be closed")]
    IsOwn(AccountId),
    /// There are machines in it.
    #[error("The account {0} has {1} machines that are not terminated: terminate them, then close it")]
    HasMachines(AccountId, usize),
    /// The account has one of this name.
    #[error("The account has an operator {0} already: choose another name")]
    NameTaken(String),
    /// The account has too many.
    #[error("An account has at most {OPERATORS_MAX} operators: delete those that nobody uses")]
    TooManyOperators,
    /// There is none with this key in the caller's reach.
    #[error("There is no operator with the key {0}: see `inborn operator list`")]
    NoOperator(String),
    /// Who takes away its own key may have locked everybody out.
    #[error("This is the key that the call is signed with: use the key of another operator for it")]
    IsCaller,
    /// The secret could not be made or sealed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The accounts and operators of the store, mirrored in memory; of operators without what is secret.
pub(crate) struct Accounts {
    store: Arc<dyn Store>,
    own: AccountId,
    known: RwLock<BTreeMap<AccountId, Account>>,
    /// Changes take turns.
    turn: Mutex<()>,
    /// Who reads the store and follows it takes turns too: what was read earlier must not take the place of what was read later.
    hearing: Mutex<()>,
}

impl Accounts {
    /// Reads the accounts, and enters the region's own.
    pub(crate) async fn load(store: Arc<dyn Store>, own: AccountId, now: UnixTime) -> Result<Self, StoreError> {
        let mut known = read(&*store).await?;
        if !known.contains_key(&own) {
            let account = Account { id: own, name: String::new(), created_at: now, closed_at: None };
            match store.put_account(account).await {
                Ok(()) | Err(StoreError::Conflict(_)) => known = read(&*store).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(Self { store, own, known: RwLock::new(known), turn: Mutex::default(), hearing: Mutex::default() })
    }

    /// Another server has changed accounts: memory follows the store.
    pub(crate) async fn hear(&self) -> Result<(), StoreError> {
        let _turn = self.hearing.lock().await;
        let known = read(&*self.store).await?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// All of them, by id.
    pub(crate) fn all(&self) -> Vec<Account> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Whether the account was closed: then nobody of it is let in.
    pub(crate) fn is_closed(&self, id: AccountId) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        id != self.own && known.get(&id).is_some_and(|account| account.closed_at.is_some())
    }

    /// Whether the account is there and open.
    pub(crate) fn is_open(&self, id: AccountId) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        id == self.own || known.get(&id).is_some_and(|account| account.closed_at.is_none())
    }
}

async fn read(store: &dyn Store) -> Result<BTreeMap<AccountId, Account>, StoreError> {
    Ok(store.accounts().await?.into_iter().map(|account| (account.id, account)).collect())
}

/// An operator that was made, with the secret that is shown this once.
pub(crate) struct NewOperator {
    pub(crate) operator: Operator,
    pub(crate) secret: SecretAccessKey,
}

impl RegionServer {
    /// The accounts.
    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Refuses accounts that are not there or closed. What is not known is looked for in the store: it may have been made at another
    /// server just now.
    pub(crate) async fn must_be_open<'a>(
        &self,
        accounts: impl IntoIterator<Item = &'a AccountId> + Clone,
    ) -> Result<(), AccountError> {
        let is_missing = |id: &&AccountId| !self.accounts.is_open(**id);
        if accounts.clone().into_iter().any(|id| is_missing(&id)) {
            self.accounts.hear().await?;
        }
        accounts.into_iter().find(is_missing).map_or(Ok(()), |id| Err(AccountError::NoAccount(*id)))
    }

    /// Memory follows the store, accounts and operators; that of the home, which has them for all regions.
    pub(crate) async fn hear_accounts(&self) -> Result<(), StoreError> {
        if !self.is_home() {
            return Ok(());
        }
        self.accounts.hear().await?;
        self.hear_operators().await
    }

    /// Who signs with which key follows the store. What cannot be opened is left out: the others are let in all the same.
    pub(crate) async fn hear_operators(&self) -> Result<(), StoreError> {
        if !self.is_home() {
            return Ok(());
        }
        let _turn = self.accounts.hearing.lock().await;
        let stored = self.store.operators().await?;
        let mut operators = Vec::with_capacity(stored.len());
        for operator in stored.into_iter().filter(|operator| self.may_sign(operator)) {
            let key = operator.access_key_id;
            match self.epochs.unseal_operator(operator, self.identity.partition) {
                Ok(operator) => operators.push(operator),
                Err(error) => tracing::error!(%key, %error, "the key of an operator in the store cannot be opened"),
            }
        }
        self.authenticator.set_operators(operators).map_err(|error| StoreError::Corrupt(error.to_string()))
    }

    fn may_sign(&self, operator: &Operator) -> bool {
        !operator.disabled && !self.accounts.is_closed(operator.account)
    }

    /// Makes an account, with the role that every account has.
    pub(crate) async fn create_account(&self, account: Account) -> Result<(), AccountError> {
        let home = self.home();
        let _turn = self.accounts.turn.lock().await;
        self.accounts.hear().await?;
        let known = self.accounts.all();
        if known.iter().any(|one| one.id == account.id) {
            return Err(AccountError::Exists(account.id));
        }
        if known.len() >= ACCOUNTS_MAX {
            return Err(AccountError::TooManyAccounts);
        }
        let (id, now) = (account.id, account.created_at);
        self.roles.ensure_management(id, now).await?;
        match home.store.put_account(account).await {
            Err(StoreError::Conflict(_)) => return Err(AccountError::Exists(id)),
            outcome => outcome?,
        }
        Ok(self.accounts.hear().await?)
    }

    /// Closes an account without machines; from then on nobody of it is let in. For good.
    pub(crate) async fn close_account(&self, id: AccountId, now: UnixTime) -> Result<Account, AccountError> {
        let _turn = self.accounts.turn.lock().await;
        if id == self.identity.account {
            return Err(AccountError::IsOwn(id));
        }
        self.accounts.hear().await?;
        if !self.accounts.is_open(id) {
            return Err(AccountError::NoAccount(id));
        }
        let (home, regions) = (self.home(), self.regions());
        let alive: usize = regions.iter().map(|region| region.alive_in(id).len()).sum();
        if alive > 0 {
            return Err(AccountError::HasMachines(id, alive));
        }
        let closed = home.store.close_account(id, now).await;
        home.high_water.count_end_by(&closed);
        closed.inspect_err(|_| home.doubt())?;
        home.hear_accounts().await.inspect_err(|_| home.doubt())?;
        // From here on nobody of it is let in anywhere.
        self.end_everywhere_what_no_longer_stands();
        for region in &regions {
            // What was launched while it was closed. Where that fails housekeeping does it.
            region.end_closed_accounts().await?;
        }
        let closed = self.accounts.all().into_iter().find(|account| account.id == id);
        closed.ok_or(AccountError::NoAccount(id))
    }

    fn alive_in(&self, account: AccountId) -> Vec<InstanceId> {
        self.machines.of_account(account).map(|machine| machine.id()).collect()
    }

    /// Terminates the machines that were launched, elsewhere, while their account was closed. They are let in nowhere
    /// already.
    pub(crate) async fn end_closed_accounts(&self) -> Result<(), StoreError> {
        for account in self.accounts.all().into_iter().filter(|account| self.accounts.is_closed(account.id)) {
            for ids in self.alive_in(account.id).chunks(TOGETHER_MAX) {
                let reason = StateReason {
                    code: "Server.InternalError".to_owned(),
                    message: "Server.InternalError: the account of the instance was closed".to_owned(),
                };
                let change = Change::Terminate { at: self.now(), reason: Some(reason) };
                let request = ChangeRequest { account: account.id, instances: ids.to_vec(), change };
                match self.machines.change(request).await {
                    // One of them ended meanwhile: the next round sees to the others.
                    Ok(_) | Err(StoreError::NotFound(_) | StoreError::Conflict(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Makes an operator of an account.
    pub(crate) async fn create_operator(
        &self,
        account: AccountId,
        name: &str,
        now: UnixTime,
    ) -> Result<NewOperator, AccountError> {
        let _turn = self.accounts.turn.lock().await;
        if !self.accounts.is_open(account) {
            return Err(AccountError::NoAccount(account));
        }
        let home = self.home();
        let stored = home.store.operators().await?;
        let own = stored.iter().filter(|operator| operator.account == account);
        if own.clone().any(|operator| operator.name.eq_ignore_ascii_case(name)) {
            return Err(AccountError::NameTaken(name.to_owned()));
        }
        if own.count() >= OPERATORS_MAX {
            return Err(AccountError::TooManyOperators);
        }
        let (access_key_id, secret) = generate_long_lived(account).map_err(OpenError::from)?;
        let blob = home.epochs.seal_operator(access_key_id, &secret)?;
        let operator = secrets::operator_record(access_key_id, blob, name, account, now);
        match home.store.put_operator(operator.clone()).await {
            // Another server has made one of this name at the same time.
            Err(StoreError::Conflict(Conflict::OperatorName(name))) => return Err(AccountError::NameTaken(name)),
            outcome => outcome?,
        }
        home.hear_operators().await?;
        Ok(NewOperator { operator, secret })
    }

    /// The operators of an account, or all of them, as they are stored, by account and name.
    pub(crate) async fn operators_of(&self, account: Option<AccountId>) -> Result<Vec<Operator>, StoreError> {
        let mut stored = self.home().store.operators().await?;
        stored.retain(|operator| account.is_none_or(|account| operator.account == account));
        stored.sort_by(|a, b| (a.account, &a.name, a.created_at).cmp(&(b.account, &b.name, b.created_at)));
        Ok(stored)
    }

    /// Switches an operator off or on, or forgets it. When this has answered, it counts here; elsewhere within two seconds.
    /// `within` is the account that it must be of; `None`: any.
    pub(crate) async fn change_operator(
        &self,
        key: AccessKeyId,
        change: OperatorChange,
        within: Option<AccountId>,
        caller: AccessKeyId,
    ) -> Result<(), AccountError> {
        let _turn = self.accounts.turn.lock().await;
        let absent = || AccountError::NoOperator(key.to_string());
        let stored = self.operators_of(within).await?;
        if !stored.iter().any(|operator| operator.access_key_id == key) {
            return Err(absent());
        }
        // Whoever is let in keeps the key it is let in with, so there is always one.
        if key == caller {
            return Err(AccountError::IsCaller);
        }
        let home = self.home();
        let was_there = home.store.change_operator(key, change).await;
        if change != OperatorChange::Enable {
            home.high_water.count_an_end();
        }
        if was_there.is_err() {
            // It is not known whether it was done: what ends access is believed.
            home.doubt();
        }
        home.hear_operators().await.inspect_err(|_| home.doubt())?;
        if was_there? { Ok(()) } else { Err(absent()) }
    }
}
