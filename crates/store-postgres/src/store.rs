//! The store itself: each verb a transaction.

use core::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;

use deadpool_postgres::{Object, Pool};
use inborn_identity::{AccessKeyId, AccountId, HostId, InstanceId, RoleName, UnixTime};
use inborn_store::{
    Account, AgentReport, Beat, ChangeRequest, Changed, Command, CommandChange, CommandOutcome, CommandQuery,
    CommandRetention, Detector, DetectorChange, DetectorPart, Document, EpochChange, Fence, Finding, FindingQuery,
    FindingRetention, Future, Heard, Host, HostChange, HostJoin, HostKeys, HostKeysChange, Instance, InstancePage,
    InstanceQuery, InventoryChange, InventoryQuery, InventoryRecord, Invocation, JoinToken, KeyPair, LaunchOutcome,
    LaunchRequest, Living, News, Node, NodeId, Operator, OperatorChange, Packer, Quarantine, QuarantineBasis,
    RecordedCutOff, Registration, RegistrationChange, Resealing, Role, SealedEpoch, SentCommand, Session, SessionEnd,
    SessionPlace, SessionQuery, SessionRetention, SettingChange, Store, StoreError, Topic,
};
use tokio::sync::{RwLock, RwLockReadGuard, mpsc};
use tracing::{Instrument as _, trace_span};

use crate::address::Address;
use crate::launches::{Joined, Launches};
use crate::pool::{self, PostgresOptions};
use crate::schema::{self, SchemaVersion};
use crate::transaction::{self, Access, Task, Topics, Work};
use crate::{
    accounts, commands, detectors, documents, fault, feed, findings, host_keys, hosts, instances, inventory, key_pairs,
    management, nodes, quarantines, records, sessions,
};

/// A [`Store`] in a database that speaks the wire of PostgreSQL.
///
/// Any number of programs may have it open at once. A verb that runs into another begins again, a bounded number of times;
/// one that finds the connection broken before its end was asked for does so, too, on another connection.
pub struct PostgresStore {
    pool: Pool,
    options: PostgresOptions,
    /// Read by each verb while it is on its way, written by `close`, which waits for them.
    on_the_way: Arc<RwLock<()>>,
    node: Arc<feed::Node>,
    /// What the database said of its last restore, or of its last sealing anew, when it was opened.
    filled: Arc<AtomicI64>,
    launches: Arc<Launches>,
    /// Opened to read: a write is refused before the database is asked.
    only_reads: bool,
}

impl PostgresStore {
    /// Opens the store in the database at `url`, and makes its tables if there are none, or adds what is new in them.
    ///
    /// # Errors
    /// `Unfit`: the URL, or how the database was created; `Newer`, `Foreign`; `Unavailable`.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, PostgresOptions::default()).await
    }

    /// As [`PostgresStore::open`], with options.
    ///
    /// # Errors
    /// As [`PostgresStore::open`]; `Invalid`: the number of connections.
    pub async fn open_with(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let node = Arc::new(feed::Node::default());
        let pool = pool::of_node(Address::parse(url)?, &options, Arc::clone(&node))?;
        let client = connection(&pool).await?;
        if schema::check(&client).await?.version < schema::known() {
            schema::migrate(&client).await?;
            // Another program, of another version, may have done so at the same time.
            schema::check(&client).await?;
        }
        let filled = schema::filled(&client).await?;
        drop(client);
        Ok(Self::of(pool, options, node, filled, false))
    }

    /// What the database at `url` says of its schema, and the version that this program would bring it to. Changes nothing.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn check(url: &str) -> Result<(SchemaVersion, u32), StoreError> {
        let pool = pool::new(Address::parse(url)?, &PostgresOptions { connections: 1, ..PostgresOptions::default() })?;
        let client = connection(&pool).await?;
        Ok((schema::check(&client).await?, schema::known()))
    }

    /// Opens the store to read from it, beside whoever has it open: nothing is migrated, and writes fail. A standby will do.
    ///
    /// # Errors
    /// As [`PostgresStore::open`]; `Older`, `HalfRestored`.
    pub async fn open_to_read(url: &str) -> Result<Self, StoreError> {
        let options = PostgresOptions { connections: 2, ..PostgresOptions::default() };
        let pool = pool::to_read(Address::parse(url)?, &options)?;
        let client = connection(&pool).await?;
        let found = schema::check(&client).await?;
        if found.version < schema::known() {
            return Err(StoreError::Older { found: found.version, known: schema::known() });
        }
        let filled = schema::filled(&client).await?;
        drop(client);
        Ok(Self::of(pool, options, Arc::default(), filled, true))
    }

    fn of(pool: Pool, options: PostgresOptions, node: Arc<feed::Node>, filled: i64, only_reads: bool) -> Self {
        let filled = Arc::new(AtomicI64::new(filled));
        let launches = Launches::new(pool.clone(), Arc::clone(&node), options, Arc::clone(&filled));
        Self { pool, options, on_the_way: Arc::default(), node, filled, launches, only_reads }
    }

    /// Held while something is on its way, so that `close` waits for it.
    pub(crate) async fn under_way(&self) -> RwLockReadGuard<'_, ()> {
        self.on_the_way.read().await
    }

    /// Where its connections come from.
    pub(crate) const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// How this store uses its database.
    pub(crate) const fn options(&self) -> &PostgresOptions {
        &self.options
    }

    pub(crate) fn run<R, T>(&self, access: Access, request: R, work: Work<R, T>) -> Future<'_, T>
    where
        R: Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        self.transact(access, request, work, None)
    }

    /// A write that other nodes have to hear of.
    fn tell<R, T>(&self, request: R, work: Work<R, T>, topics: Topics<R, T>) -> Future<'_, T>
    where
        R: Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        self.transact(Access::Write, request, work, Some((&self.node, topics)))
    }

    /// Begins to find out how those attempts ended of which nobody knows. Apart from the beat that asks for it: it may have to
    /// wait for them.
    fn settle(&self, at: UnixTime) {
        let Some(settling) = self.node.settling() else { return };
        let (pool, patience) = (self.pool.clone(), self.options.patience());
        let (id, filled) = (self.node.id, self.filled.load(Ordering::SeqCst));
        let on_the_way = Arc::clone(&self.on_the_way);
        tokio::spawn(async move {
            let _on_the_way = on_the_way.read().await;
            let request = (id, settling.numbers.clone(), at);
            let work: Work<_, ()> = |session, request| Box::pin(feed::settle(session, request));
            let task = Task { access: Access::WriteLocked, request: &request, work, told: None, filled };
            match transaction::transact(&pool, patience, &task).await {
                Ok(()) => settling.settled(),
                Err(error) => tracing::debug!(%error, "it is not known yet how a change ended"),
            }
        });
    }

    fn transact<'a, R, T>(
        &'a self,
        access: Access,
        request: R,
        work: Work<R, T>,
        told: Option<(&'a feed::Node, Topics<R, T>)>,
    ) -> Future<'a, T>
    where
        R: Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        if self.only_reads && access != Access::Read {
            return refuse(only_reads());
        }
        let span = match access {
            Access::Read => trace_span!(target: "inborn_trace", "store.read", db.system.name = "postgresql"),
            _ => trace_span!(target: "inborn_trace", "store.write", db.system.name = "postgresql"),
        };
        let asking = async move {
            let _on_the_way = self.on_the_way.read().await;
            let filled = self.filled.load(Ordering::SeqCst);
            let task = Task { access, request: &request, work, told, filled };
            transaction::transact(&self.pool, self.options.patience(), &task).await
        };
        Box::pin(asking.instrument(span))
    }

    async fn launch_with_others(&self, request: LaunchRequest) -> Result<LaunchOutcome, StoreError> {
        let request = Arc::new(request);
        let span = trace_span!(target: "inborn_trace", "store.write", db.system.name = "postgresql");
        let on_the_way = Arc::clone(&self.on_the_way).read_owned().await;
        match self.launches.join(Arc::clone(&request), on_the_way).instrument(span).await {
            Joined::Launched => Ok(LaunchOutcome::New(request.launched())),
            Joined::Answered(outcome) => Ok(outcome),
            Joined::Failed(error) => Err(error),
            Joined::Again => {
                let work: Work<Arc<LaunchRequest>, _> =
                    |session, request| Box::pin(instances::launch_again(session, request));
                let again = self.tell(request, work, |_, outcome| Topic::of_launch(outcome)).await;
                again.map_err(|error| match error {
                    // Whatever is against it was against the first attempt, too.
                    StoreError::Conflict(_) => error,
                    error => StoreError::Io(format!("{error}; the launch may have taken effect before")),
                })
            }
            Joined::Alone => {
                let work: Work<Arc<LaunchRequest>, _> =
                    |session, request| Box::pin(instances::launch(session, request));
                self.tell(request, work, |_, outcome| Topic::of_launch(outcome)).await
            }
        }
    }
}

fn only_reads() -> StoreError {
    StoreError::Unavailable("it was opened to read alone".to_owned())
}

/// A connection, for as long as it is held.
pub(crate) async fn connection(pool: &Pool) -> Result<Object, StoreError> {
    pool.get().await.map_err(|error| fault::from_pool(&error))
}

/// A request that is wrong in itself is answered without the database.
fn refuse<'a, T: Send + 'a>(error: StoreError) -> Future<'a, T> {
    Box::pin(core::future::ready(Err(error)))
}

impl Store for PostgresStore {
    fn launch(&self, request: LaunchRequest) -> Future<'_, LaunchOutcome> {
        match request.check() {
            Ok(()) if self.only_reads => refuse(only_reads()),
            Ok(()) => Box::pin(self.launch_with_others(request)),
            Err(error) => refuse(error),
        }
    }

    fn instance(&self, id: InstanceId) -> Future<'_, Option<Instance>> {
        self.run(Access::Read, id, |session, request| Box::pin(instances::one(session, request)))
    }

    fn instances_by_id(&self, ids: Vec<InstanceId>) -> Future<'_, Vec<Instance>> {
        match InstanceQuery::check_ids(&ids) {
            Ok(()) => self.run(Access::Read, ids, |session, ids| Box::pin(instances::by_id(session, ids))),
            Err(error) => refuse(error),
        }
    }

    fn instances(&self, query: InstanceQuery) -> Future<'_, InstancePage> {
        match query.check() {
            Ok(()) => self.run(Access::Read, query, |session, request| Box::pin(instances::page(session, request))),
            Err(error) => refuse(error),
        }
    }

    fn living(&self, packer: Arc<Packer>, parts: mpsc::Sender<Living>) -> Future<'_, ()> {
        Box::pin(self.send_living(packer, parts))
    }

    fn change(&self, request: ChangeRequest) -> Future<'_, Vec<Changed>> {
        match request.check() {
            Ok(()) => self.tell(
                request,
                |session, request| Box::pin(instances::change(session, request)),
                |request, changes| Topic::of_change(&request.change, changes),
            ),
            Err(error) => refuse(error),
        }
    }

    fn purge(&self, terminated_before: UnixTime) -> Future<'_, u64> {
        self.run(Access::WriteByOthers, terminated_before, |session, request| {
            Box::pin(instances::purge(session, request))
        })
    }

    fn hosts(&self) -> Future<'_, Vec<Host>> {
        self.run(Access::Read, (), |session, ()| Box::pin(hosts::all(session)))
    }

    fn put_join_token(&self, token: JoinToken) -> Future<'_, ()> {
        match token.check() {
            Ok(()) => self.run(Access::Write, token, |session, request| Box::pin(hosts::put_token(session, request))),
            Err(error) => refuse(error),
        }
    }

    fn join_host(&self, join: HostJoin) -> Future<'_, Host> {
        match join.check() {
            Ok(()) => {
                self.tell(join, |session, request| Box::pin(hosts::join(session, request)), |_, _| vec![Topic::Hosts])
            }
            Err(error) => refuse(error),
        }
    }

    fn change_host(&self, id: HostId, change: HostChange) -> Future<'_, Option<Host>> {
        // Machines are launched on it all the time.
        self.transact(
            Access::WriteLocked,
            (id, change),
            |session, request| Box::pin(hosts::change(session, request)),
            Some((&self.node, |(_, change), changed| change.topics(changed.as_ref()))),
        )
    }

    fn forget_join_tokens(&self, ended_before: UnixTime) -> Future<'_, u64> {
        self.run(Access::Write, ended_before, |session, request| Box::pin(hosts::forget_tokens(session, request)))
    }

    fn operators(&self) -> Future<'_, Vec<Operator>> {
        self.run(Access::Read, (), |session, ()| Box::pin(records::operators(session)))
    }

    fn put_operator(&self, operator: Operator) -> Future<'_, ()> {
        // Two that are made at the same time must not have one name.
        self.transact(
            Access::WriteByOthers,
            operator,
            |session, request| Box::pin(records::put_operator(session, request)),
            Some((&self.node, |_, ()| vec![Topic::Operators])),
        )
    }

    fn change_operator(&self, access_key_id: AccessKeyId, change: OperatorChange) -> Future<'_, bool> {
        self.tell(
            (access_key_id, change),
            |session, request| Box::pin(records::change_operator(session, request)),
            |_, changed| if *changed { vec![Topic::Operators] } else { vec![] },
        )
    }

    fn accounts(&self) -> Future<'_, Vec<Account>> {
        self.run(Access::Read, (), |session, ()| Box::pin(accounts::accounts(session)))
    }

    fn put_account(&self, account: Account) -> Future<'_, ()> {
        match account.check() {
            Ok(()) => self.tell(
                account,
                |session, request| Box::pin(accounts::put(session, request)),
                |_, ()| vec![Topic::Accounts],
            ),
            Err(error) => refuse(error),
        }
    }

    fn close_account(&self, id: AccountId, at: UnixTime) -> Future<'_, bool> {
        self.tell(
            (id, at),
            |session, request| Box::pin(accounts::close(session, request)),
            |_, closed| if *closed { vec![Topic::Accounts] } else { vec![] },
        )
    }

    fn key_pairs(&self, account: AccountId) -> Future<'_, Vec<KeyPair>> {
        self.run(Access::Read, account, |session, request| Box::pin(key_pairs::all(session, request)))
    }

    fn put_key_pair(&self, pair: KeyPair) -> Future<'_, ()> {
        self.run(Access::Write, pair, |session, request| Box::pin(key_pairs::put(session, request)))
    }

    fn remove_key_pair(&self, account: AccountId, name: String) -> Future<'_, bool> {
        self.run(Access::Write, (account, name), |session, request| Box::pin(key_pairs::remove(session, request)))
    }

    fn epochs(&self) -> Future<'_, Vec<SealedEpoch>> {
        self.run(Access::Read, (), |session, ()| Box::pin(records::epochs(session)))
    }

    fn put_epoch(&self, epoch: SealedEpoch) -> Future<'_, ()> {
        self.tell(epoch, |session, request| Box::pin(records::put_epoch(session, request)), |_, ()| vec![Topic::Epochs])
    }

    fn change_epochs(&self, changes: Vec<EpochChange>, cut_offs: Vec<RecordedCutOff>) -> Future<'_, ()> {
        match EpochChange::check_all(&changes) {
            Ok(()) => self.tell(
                (changes, cut_offs),
                |session, request| Box::pin(records::change_epochs(session, request)),
                |(_, cut_offs), ()| Topic::of_epochs(cut_offs),
            ),
            Err(error) => refuse(error),
        }
    }

    fn cut_offs(&self) -> Future<'_, Vec<RecordedCutOff>> {
        self.run(Access::Read, (), |session, ()| Box::pin(records::cut_offs(session)))
    }

    fn cut_offs_since(&self, since: UnixTime) -> Future<'_, Vec<RecordedCutOff>> {
        self.run(Access::Read, since, |session, since| Box::pin(records::cut_offs_since(session, since)))
    }

    fn put_cut_off(&self, cut_off: RecordedCutOff) -> Future<'_, ()> {
        self.tell(
            cut_off,
            |session, request| Box::pin(records::put_cut_off(session, request)),
            |cut_off, ()| vec![Topic::CutOff(*cut_off)],
        )
    }

    fn forget_cut_offs(&self, before: UnixTime) -> Future<'_, u64> {
        self.run(Access::Write, before, |session, request| Box::pin(records::forget_cut_offs(session, request)))
    }

    fn quarantines(&self) -> Future<'_, Vec<Quarantine>> {
        self.run(Access::Read, (), |session, ()| Box::pin(quarantines::all(session)))
    }

    fn put_quarantine(&self, quarantine: Quarantine, basis: QuarantineBasis) -> Future<'_, ()> {
        match quarantine.check() {
            Ok(()) => self.tell(
                (quarantine, basis),
                |session, request| Box::pin(quarantines::put(session, request)),
                |_, ()| vec![Topic::Quarantines],
            ),
            Err(error) => refuse(error),
        }
    }

    fn end_quarantine(&self, found: Quarantine, cut_offs: Vec<RecordedCutOff>) -> Future<'_, bool> {
        self.tell(
            (found, cut_offs),
            |session, request| Box::pin(quarantines::end(session, request)),
            |(_, cut_offs), was_there| Topic::of_release(cut_offs, *was_there),
        )
    }

    fn host_keys(&self, instance: InstanceId) -> Future<'_, (u64, HostKeys)> {
        self.run(Access::Read, instance, |session, request| Box::pin(host_keys::one(session, request)))
    }

    fn put_host_keys(&self, change: HostKeysChange) -> Future<'_, ()> {
        match change.check() {
            Ok(()) => self.run(Access::Write, change, |session, request| Box::pin(host_keys::put(session, request))),
            Err(error) => refuse(error),
        }
    }

    fn setting<'a>(&'a self, name: &'a str) -> Future<'a, Option<Vec<u8>>> {
        self.run(Access::Read, name.to_owned(), |session, name| Box::pin(records::setting(session, name)))
    }

    fn put_setting(&self, change: SettingChange) -> Future<'_, ()> {
        match change.check() {
            Ok(()) => self.tell(
                change,
                |session, request| Box::pin(records::put_setting(session, request)),
                |change, ()| vec![Topic::Setting(change.name.clone())],
            ),
            Err(error) => refuse(error),
        }
    }

    fn setting_names(&self) -> Future<'_, Vec<String>> {
        self.run(Access::Read, (), |session, ()| Box::pin(records::setting_names(session)))
    }

    fn reseal(&self, all: Vec<Resealing>) -> Future<'_, ()> {
        match Resealing::check_all(&all) {
            Ok(()) => Box::pin(async move {
                // Who has the store open from before has the key of before, and is not to write what it seals under that.
                let filled = schema::another_filled();
                let work: Work<_, _> = |session, request| Box::pin(records::reseal(session, request));
                self.run(Access::Write, (all, filled), work).await?;
                self.filled.store(filled, Ordering::SeqCst);
                Ok(())
            }),
            Err(error) => refuse(error),
        }
    }

    fn roles(&self) -> Future<'_, Vec<Role>> {
        self.run(Access::Read, (), |session, ()| Box::pin(management::roles(session)))
    }

    fn put_role(&self, role: Role) -> Future<'_, ()> {
        self.tell(role, |session, request| Box::pin(management::put_role(session, request)), |_, ()| vec![Topic::Roles])
    }

    fn delete_role(&self, account: AccountId, name: RoleName) -> Future<'_, bool> {
        self.tell(
            (account, name),
            |session, request| Box::pin(management::delete_role(session, request)),
            |_, deleted| if *deleted { vec![Topic::Roles] } else { vec![] },
        )
    }

    fn registration(&self, instance: InstanceId) -> Future<'_, Option<Registration>> {
        self.run(Access::Read, instance, |session, request| Box::pin(management::registration(session, request)))
    }

    fn registrations(&self) -> Future<'_, Vec<Registration>> {
        self.run(Access::Read, (), |session, ()| Box::pin(management::registrations(session)))
    }

    fn change_registration(&self, change: RegistrationChange) -> Future<'_, ()> {
        match change.check() {
            Ok(()) => self.tell(
                change,
                |session, request| Box::pin(management::change_registration(session, request)),
                |change, ()| vec![Topic::Registration(change.instance)],
            ),
            Err(error) => refuse(error),
        }
    }

    fn nodes(&self) -> Future<'_, Vec<Node>> {
        self.run(Access::Read, (), |session, ()| Box::pin(nodes::nodes(session)))
    }

    fn nodes_by_id(&self, ids: Vec<InstanceId>) -> Future<'_, Vec<Node>> {
        match InstanceQuery::check_ids(&ids) {
            Ok(()) => self.run(Access::Read, ids, |session, ids| Box::pin(nodes::by_id(session, ids))),
            Err(error) => refuse(error),
        }
    }

    fn put_node(&self, node: Node, is_told: bool) -> Future<'_, bool> {
        match node.check() {
            Ok(()) => self.tell(
                (node, is_told),
                |session, (node, _)| Box::pin(nodes::put_node(session, node)),
                |(node, is_told), is_new| {
                    if *is_told && *is_new { vec![Topic::Node(node.instance)] } else { vec![] }
                },
            ),
            Err(error) => refuse(error),
        }
    }

    fn tell_of_node(&self, instance: InstanceId) -> Future<'_, ()> {
        self.tell(instance, |_, _| Box::pin(async { Ok(()) }), |instance, ()| vec![Topic::Node(*instance)])
    }

    fn documents(&self) -> Future<'_, Vec<Document>> {
        self.run(Access::Read, (), |session, ()| Box::pin(documents::documents(session)))
    }

    fn put_document(&self, document: Document) -> Future<'_, ()> {
        match document.check() {
            Ok(()) => self.tell(
                document,
                |session, request| Box::pin(documents::put(session, request)),
                |_, ()| vec![Topic::Documents],
            ),
            Err(error) => refuse(error),
        }
    }

    fn delete_document(&self, account: AccountId, name: String) -> Future<'_, bool> {
        self.tell(
            (account, name),
            |session, request| Box::pin(documents::delete(session, request)),
            |_, deleted| if *deleted { vec![Topic::Documents] } else { vec![] },
        )
    }

    fn put_command(&self, sent: SentCommand) -> Future<'_, ()> {
        match sent.check() {
            Ok(()) => self.tell(
                sent,
                |session, request| Box::pin(commands::put(session, request)),
                |sent, ()| Topic::of_sent(sent),
            ),
            Err(error) => refuse(error),
        }
    }

    fn change_commands(&self, changes: Vec<CommandChange>) -> Future<'_, Vec<CommandOutcome>> {
        match changes.iter().try_for_each(CommandChange::check) {
            Ok(()) => self.tell(
                changes,
                |session, request| Box::pin(commands::change(session, request)),
                |changes, outcomes| {
                    let told: Vec<_> = changes.iter().map(Topic::of_command_change).collect();
                    Topic::of_command_changes(&told, outcomes)
                },
            ),
            Err(error) => refuse(error),
        }
    }

    fn sent_command(&self, id: String, instances: Vec<InstanceId>) -> Future<'_, Option<SentCommand>> {
        self.run(Access::Read, (id, instances), |session, request| Box::pin(commands::sent(session, request)))
    }

    fn open_commands(&self) -> Future<'_, Vec<SentCommand>> {
        self.run(Access::Read, (), |session, ()| Box::pin(commands::open(session)))
    }

    fn commands(&self, query: CommandQuery) -> Future<'_, Vec<Command>> {
        match query.check() {
            Ok(()) => self.run(Access::Read, query, |session, request| Box::pin(commands::commands(session, request))),
            Err(error) => refuse(error),
        }
    }

    fn invocations(&self, query: CommandQuery) -> Future<'_, Vec<Invocation>> {
        match query.check() {
            Ok(()) => {
                self.run(Access::Read, query, |session, request| Box::pin(commands::invocations(session, request)))
            }
            Err(error) => refuse(error),
        }
    }

    fn forget_commands(&self, retention: CommandRetention) -> Future<'_, u64> {
        self.run(Access::Write, retention, |session, request| Box::pin(commands::forget(session, request)))
    }

    fn inventory(&self, query: InventoryQuery) -> Future<'_, Vec<InventoryRecord>> {
        self.run(Access::Read, query, |session, request| Box::pin(inventory::inventory(session, request)))
    }

    fn put_inventory(&self, change: InventoryChange) -> Future<'_, ()> {
        match change.check() {
            Ok(()) => self.run(Access::WriteByOthers, change, |session, request| {
                Box::pin(inventory::put_inventory(session, request))
            }),
            Err(error) => refuse(error),
        }
    }

    fn forget_inventory(&self, before: UnixTime) -> Future<'_, u64> {
        self.run(Access::Write, before, |session, request| Box::pin(inventory::forget_inventory(session, request)))
    }

    fn put_session(&self, session: Session) -> Future<'_, ()> {
        match session.check() {
            Ok(()) => self.run(Access::Write, session, |session, request| Box::pin(sessions::put(session, request))),
            Err(error) => refuse(error),
        }
    }

    fn end_session(&self, id: String, end: SessionEnd, by: Option<NodeId>) -> Future<'_, bool> {
        match end.check() {
            Ok(()) => self.tell(
                (id, end, by),
                |session, request| Box::pin(sessions::end(session, request)),
                |(id, ..), was_open| if *was_open { vec![Topic::SessionEnded(id.clone())] } else { vec![] },
            ),
            Err(error) => refuse(error),
        }
    }

    fn session(&self, id: String) -> Future<'_, Option<Session>> {
        self.run(Access::Read, id, |session, request| Box::pin(sessions::one(session, request)))
    }

    fn carry_session(&self, id: String, from: Option<NodeId>, to: NodeId) -> Future<'_, bool> {
        self.tell(
            (id, from, to),
            |session, request| Box::pin(sessions::carry(session, request)),
            |(id, ..), is_carried| if *is_carried { vec![Topic::SessionCarried(id.clone())] } else { vec![] },
        )
    }

    fn sessions(&self, query: SessionQuery) -> Future<'_, Vec<Session>> {
        match query.check() {
            Ok(()) => self.run(Access::Read, query, |session, request| Box::pin(sessions::sessions(session, request))),
            Err(error) => refuse(error),
        }
    }

    fn session_places(&self, query: SessionQuery) -> Future<'_, Vec<SessionPlace>> {
        match query.check() {
            Ok(()) => self.run(Access::Read, query, |session, request| Box::pin(sessions::places(session, request))),
            Err(error) => refuse(error),
        }
    }

    fn forget_sessions(&self, retention: SessionRetention) -> Future<'_, u64> {
        self.run(Access::Write, retention, |session, request| Box::pin(sessions::forget(session, request)))
    }

    fn detectors(&self) -> Future<'_, Vec<Detector>> {
        self.run(Access::Read, (), |session, ()| Box::pin(detectors::detectors(session)))
    }

    fn detector_of(&self, account: AccountId) -> Future<'_, Option<(Detector, Vec<DetectorPart>)>> {
        self.run(Access::Read, account, |session, account| Box::pin(detectors::of(session, account)))
    }

    fn put_detector(&self, change: DetectorChange) -> Future<'_, ()> {
        match change.check() {
            Ok(()) => self.tell(
                change,
                |session, request| Box::pin(detectors::put(session, request)),
                |change, ()| vec![Topic::Detector(change.detector.account)],
            ),
            Err(error) => refuse(error),
        }
    }

    fn delete_detector(&self, account: AccountId, id: String) -> Future<'_, bool> {
        self.tell(
            (account, id),
            |session, request| Box::pin(detectors::delete(session, request)),
            |(account, _), deleted| if *deleted { vec![Topic::Detector(*account)] } else { vec![] },
        )
    }

    fn detector_parts(&self) -> Future<'_, Vec<DetectorPart>> {
        self.run(Access::Read, (), |session, ()| Box::pin(detectors::parts(session)))
    }

    fn put_findings(&self, findings: Vec<Finding>) -> Future<'_, ()> {
        match Finding::check_all(&findings) {
            Ok(()) => self.run(Access::Write, findings, |session, request| Box::pin(findings::put(session, request))),
            Err(error) => refuse(error),
        }
    }

    fn findings(&self, query: FindingQuery) -> Future<'_, Vec<Finding>> {
        match query.check() {
            Ok(()) => self.run(Access::Read, query, |session, request| Box::pin(findings::page(session, request))),
            Err(error) => refuse(error),
        }
    }

    fn findings_by_id(&self, detector: String, ids: Vec<String>) -> Future<'_, Vec<Finding>> {
        self.run(Access::Read, (detector, ids), |session, request| Box::pin(findings::by_id(session, request)))
    }

    fn forget_findings(&self, retention: FindingRetention) -> Future<'_, u64> {
        self.run(Access::Write, retention, |session, request| Box::pin(findings::forget(session, request)))
    }

    fn agent_reports(&self) -> Future<'_, Vec<AgentReport>> {
        self.run(Access::Read, (), |session, ()| Box::pin(detectors::agent_reports(session)))
    }

    fn put_agent_reports(&self, reports: Vec<AgentReport>) -> Future<'_, ()> {
        match AgentReport::check_all(&reports) {
            Ok(()) => self.run(Access::Write, reports, |session, request| {
                Box::pin(detectors::put_agent_reports(session, request))
            }),
            Err(error) => refuse(error),
        }
    }

    fn node(&self) -> NodeId {
        self.node.id
    }

    fn beat(&self, beat: Beat) -> Future<'_, ()> {
        if let Err(error) = beat.check() {
            return refuse(error);
        }
        Box::pin(async move {
            let at = beat.at;
            self.settle(at);
            // Before the transaction begins: what is settled by now is seen by everybody who sees the beat.
            let settled = self.node.settled();
            let number = self.node.next_beat();
            let request: feed::Beating = (beat, self.node.id, number, settled);
            self.run(Access::Write, request, |session, request| Box::pin(feed::beat(session, request))).await?;
            self.node.beat_answered(number, tokio::time::Instant::now());
            self.node.known(at);
            Ok(())
        })
    }

    fn fence(&self) -> Option<Fence> {
        let beats = self.node.beats_answered()?;
        Some(Fence { node: self.node.id, beats, filled: self.filled.load(Ordering::SeqCst) })
    }

    fn has_forgotten(&self, fence: Fence) -> Future<'_, bool> {
        if fence.filled != self.filled.load(Ordering::SeqCst) {
            return Box::pin(core::future::ready(Ok(false)));
        }
        self.run(Access::Read, fence, |session, fence| Box::pin(feed::has_forgotten(session, fence)))
    }

    fn news(&self, heard: Heard) -> Future<'_, News> {
        let own = heard.except.filter(|node| *node == self.node.id);
        let own = own.map(|node| self.node.untold(heard.positions.get(&node).copied().unwrap_or_default()));
        let request = (heard, own);
        self.run(Access::Read, request, |session, request| Box::pin(feed::news(session, request)))
    }

    fn tells_of_doubtful(&self) -> bool {
        true
    }

    fn forget_news(&self, entries_before: UnixTime, nodes_before: UnixTime) -> Future<'_, u64> {
        self.run(Access::WriteByOthers, (entries_before, nodes_before), |session, request| {
            Box::pin(feed::forget(session, request))
        })
    }

    fn close(&self) -> Future<'_, ()> {
        Box::pin(async move {
            self.pool.close();
            drop(self.on_the_way.write().await);
            Ok(())
        })
    }
}
