//! The SQLite store: one file, one thread that writes, a few that read.

mod accounts;
mod commands;
mod detectors;
mod documents;
mod fault;
mod feed;
mod file;
mod findings;
mod host_keys;
mod hosts;
mod instances;
mod inventory;
mod key_pairs;
mod living;
mod loading;
mod management;
mod nodes;
mod quarantines;
mod queue;
mod readers;
mod records;
mod schema;
mod sessions;
mod snapshot;
mod writer;

use core::sync::atomic::{AtomicU64, Ordering};
use std::path::Path;
use std::sync::Arc;

use inborn_identity::{AccessKeyId, AccountId, HostId, InstanceId, RoleName, UnixTime};
use rusqlite::Connection;
use tokio::sync::mpsc;
use tracing::{Instrument as _, trace_span};

use crate::{
    Account, AgentReport, Beat, ChangeRequest, Changed, Command, CommandChange, CommandOutcome, CommandQuery,
    CommandRetention, Detector, DetectorChange, DetectorPart, Document, EpochChange, Fence, Finding, FindingQuery,
    FindingRetention, Future, Heard, Host, HostChange, HostJoin, HostKeys, HostKeysChange, Instance, InstancePage,
    InstanceQuery, InventoryChange, InventoryQuery, InventoryRecord, Invocation, JoinToken, KeyPair, LaunchOutcome,
    LaunchRequest, Living, News, Node, NodeId, Operator, OperatorChange, Packer, Quarantine, QuarantineBasis,
    RecordedCutOff, Registration, RegistrationChange, Resealing, Role, SealedEpoch, SentCommand, Session, SessionEnd,
    SessionPlace, SessionQuery, SessionRetention, SettingChange, Store, StoreError, Topic,
};
pub use loading::SqliteLoading;
use queue::Queue;
use readers::ReadJob;
pub use snapshot::SqliteSnapshot;
use writer::WriteJob;

/// How a SQLite store is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SqliteOptions {
    /// How many threads read beside the one that writes: 1 to [`SqliteOptions::READERS_MAX`].
    pub readers: usize,
    /// The most pages (4096 bytes each) the file may grow to; beyond that, writes give [`StoreError::Full`].
    pub pages_max: Option<u32>,
}

impl SqliteOptions {
    /// The most reading threads.
    pub const READERS_MAX: usize = 16;
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { readers: 2, pages_max: None }
    }
}

/// What the writing thread has done since the store was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Statistics {
    /// Writes that were asked for and answered, well or not.
    pub writes: u64,
    /// Transactions they were committed in.
    pub commits: u64,
}

#[derive(Default)]
struct Counters {
    writes: AtomicU64,
    commits: AtomicU64,
}

/// A [`Store`] in a SQLite file (WAL, `synchronous=FULL`), or in memory.
///
/// Writes wait in a bounded queue for one thread, which commits as many at once as have gathered while it was waiting
/// for the disk; each is answered after the commit. The file can be read with `sqlite3` and copied with its `.backup`
/// while the store is open.
pub struct SqliteStore {
    writer: Arc<Queue<WriteJob>>,
    /// `None` in memory: there is one connection, the writer's, and it reads too.
    readers: Option<Arc<Queue<ReadJob>>>,
    counters: Arc<Counters>,
    node: Arc<feed::Node>,
}

impl SqliteStore {
    /// Opens the store in the file `path`, and makes the file (mode 0600) if it is not there. The lock that keeps other
    /// processes out is the file `path` + `.lock`; it is left in place.
    ///
    /// Blocks for as long as a migration takes.
    ///
    /// # Errors
    /// `InUse`, `Newer`, `Foreign`, `Corrupt`, `Full`, `Io`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, SqliteOptions::default())
    }

    /// As [`SqliteStore::open`], with options.
    ///
    /// # Errors
    /// As [`SqliteStore::open`]; `Invalid`: the number of readers.
    pub fn open_with(path: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        if !(1..=SqliteOptions::READERS_MAX).contains(&options.readers) {
            return Err(StoreError::Invalid("a store has 1 to 16 reading threads"));
        }
        let lock = file::lock(path)?;
        file::create(path)?;
        let mut connection = file::connect_writer(path, options.pages_max, |found| schema::check(found, path))?;
        schema::migrate(&mut connection)?;
        let readers = (0..options.readers).map(|_| file::connect_reader(path)).collect::<Result<Vec<_>, _>>()?;
        let counters = Arc::default();
        let readers = readers::spawn(readers)?;
        let writer = Arc::new(writer::spawn(connection, Some(lock), Arc::clone(&counters))?);
        Ok(Self { writer, readers: Some(Arc::new(readers)), counters, node: Arc::default() })
    }

    /// Opens the store to read from it, beside whoever has it open: no lock is taken, nothing is migrated, and writes fail.
    ///
    /// # Errors
    /// `Absent`, `Older`, `Newer`, `Foreign`, `Corrupt`, `Io`.
    pub fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        SqliteSnapshot::open(path)?.must_be_current()?;
        let counters = Arc::default();
        let readers = readers::spawn(vec![file::connect_to_read(path)?])?;
        let writer = Arc::new(writer::spawn(file::connect_to_read(path)?, None, Arc::clone(&counters))?);
        Ok(Self { writer, readers: Some(Arc::new(readers)), counters, node: Arc::default() })
    }

    /// A store in memory: fast, and gone when it is closed.
    ///
    /// # Errors
    /// `Io`: no thread or memory.
    pub fn in_memory() -> Result<Self, StoreError> {
        let mut connection = file::connect_memory()?;
        schema::migrate(&mut connection)?;
        let counters = Arc::default();
        let writer = Arc::new(writer::spawn(connection, None, Arc::clone(&counters))?);
        Ok(Self { writer, readers: None, counters, node: Arc::default() })
    }

    /// The same store as another program of a fleet has it: a node of its own. For tests of several servers in one process;
    /// closed with the first of them.
    #[must_use]
    pub fn another_node(&self) -> Self {
        Self {
            writer: Arc::clone(&self.writer),
            readers: self.readers.clone(),
            counters: Arc::clone(&self.counters),
            node: Arc::default(),
        }
    }

    /// What the writing thread has done so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics {
            writes: self.counters.writes.load(Ordering::Relaxed),
            commits: self.counters.commits.load(Ordering::Relaxed),
        }
    }

    fn write<T, F>(&self, work: F) -> Future<'_, T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let asking = async move {
            let (job, answer) = writer::write_job(work);
            self.writer.send(job).await?;
            answer.await.map_err(|_| StoreError::Closed)?
        };
        Box::pin(asking.instrument(trace_span!(target: "inborn_trace", "store.write", db.system.name = "sqlite")))
    }

    /// A write that other nodes have to hear of.
    fn tell<T, F, G>(&self, mut work: F, topics: G) -> Future<'_, T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
        G: Fn(&T) -> Vec<Topic> + Send + 'static,
    {
        let node = Arc::clone(&self.node);
        self.write(move |connection| {
            let done = work(connection)?;
            node.enter(connection, topics(&done))?;
            Ok(done)
        })
    }

    fn read<'a, T, F>(&'a self, work: F) -> Future<'a, T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let asking = async move {
            let (job, answer) = readers::read_job(work);
            match &self.readers {
                Some(readers) => readers.send(job).await?,
                None => self.writer.send(WriteJob::Read(job)).await?,
            }
            answer.await.map_err(|_| StoreError::Closed)?
        };
        Box::pin(asking.instrument(trace_span!(target: "inborn_trace", "store.read", db.system.name = "sqlite")))
    }
}

/// A request that is wrong in itself is answered without the queue.
fn refuse<'a, T: Send + 'a>(error: StoreError) -> Future<'a, T> {
    Box::pin(core::future::ready(Err(error)))
}

impl Store for SqliteStore {
    fn launch(&self, request: LaunchRequest) -> Future<'_, LaunchOutcome> {
        match request.check() {
            Ok(()) => self.tell(move |connection| instances::launch(connection, &request), Topic::of_launch),
            Err(error) => refuse(error),
        }
    }

    fn instance(&self, id: InstanceId) -> Future<'_, Option<Instance>> {
        self.read(move |connection| instances::one(connection, id))
    }

    fn instances_by_id(&self, ids: Vec<InstanceId>) -> Future<'_, Vec<Instance>> {
        match InstanceQuery::check_ids(&ids) {
            Ok(()) => self.read(move |connection| instances::by_id(connection, ids)),
            Err(error) => refuse(error),
        }
    }

    fn instances(&self, query: InstanceQuery) -> Future<'_, InstancePage> {
        match query.check() {
            Ok(()) => self.read(move |connection| instances::page(connection, query)),
            Err(error) => refuse(error),
        }
    }

    fn living(&self, packer: Arc<Packer>, parts: mpsc::Sender<Living>) -> Future<'_, ()> {
        Box::pin(self.send_living(packer, parts))
    }

    fn change(&self, request: ChangeRequest) -> Future<'_, Vec<Changed>> {
        match request.check() {
            Ok(()) => {
                let change = request.change.clone();
                let topics = move |changes: &Vec<Changed>| Topic::of_change(&change, changes);
                self.tell(move |connection| instances::change(connection, &request), topics)
            }
            Err(error) => refuse(error),
        }
    }

    fn purge(&self, terminated_before: UnixTime) -> Future<'_, u64> {
        self.write(move |connection| instances::purge(connection, terminated_before))
    }

    fn hosts(&self) -> Future<'_, Vec<Host>> {
        self.read(hosts::all)
    }

    fn put_join_token(&self, token: JoinToken) -> Future<'_, ()> {
        match token.check() {
            Ok(()) => self.write(move |connection| hosts::put_token(connection, &token)),
            Err(error) => refuse(error),
        }
    }

    fn join_host(&self, join: HostJoin) -> Future<'_, Host> {
        match join.check() {
            Ok(()) => self.tell(move |connection| hosts::join(connection, &join), |_| vec![Topic::Hosts]),
            Err(error) => refuse(error),
        }
    }

    fn change_host(&self, id: HostId, change: HostChange) -> Future<'_, Option<Host>> {
        let topics = move |changed: &Option<Host>| change.topics(changed.as_ref());
        self.tell(move |connection| hosts::change(connection, id, change), topics)
    }

    fn forget_join_tokens(&self, ended_before: UnixTime) -> Future<'_, u64> {
        self.write(move |connection| hosts::forget_tokens(connection, ended_before))
    }

    fn operators(&self) -> Future<'_, Vec<Operator>> {
        self.read(records::operators)
    }

    fn put_operator(&self, operator: Operator) -> Future<'_, ()> {
        self.tell(move |connection| records::put_operator(connection, &operator), |()| vec![Topic::Operators])
    }

    fn change_operator(&self, access_key_id: AccessKeyId, change: OperatorChange) -> Future<'_, bool> {
        let topics = |changed: &bool| if *changed { vec![Topic::Operators] } else { vec![] };
        self.tell(move |connection| records::change_operator(connection, access_key_id, change), topics)
    }

    fn accounts(&self) -> Future<'_, Vec<Account>> {
        self.read(accounts::accounts)
    }

    fn put_account(&self, account: Account) -> Future<'_, ()> {
        match account.check() {
            Ok(()) => self.tell(move |connection| accounts::put(connection, &account), |()| vec![Topic::Accounts]),
            Err(error) => refuse(error),
        }
    }

    fn close_account(&self, id: AccountId, at: UnixTime) -> Future<'_, bool> {
        let topics = |closed: &bool| if *closed { vec![Topic::Accounts] } else { vec![] };
        self.tell(move |connection| accounts::close(connection, id, at), topics)
    }

    fn key_pairs(&self, account: AccountId) -> Future<'_, Vec<KeyPair>> {
        self.read(move |connection| key_pairs::all(connection, account))
    }

    fn put_key_pair(&self, pair: KeyPair) -> Future<'_, ()> {
        self.write(move |connection| key_pairs::put(connection, &pair))
    }

    fn remove_key_pair(&self, account: AccountId, name: String) -> Future<'_, bool> {
        self.write(move |connection| key_pairs::remove(connection, account, &name))
    }

    fn epochs(&self) -> Future<'_, Vec<SealedEpoch>> {
        self.read(records::epochs)
    }

    fn put_epoch(&self, epoch: SealedEpoch) -> Future<'_, ()> {
        self.tell(move |connection| records::put_epoch(connection, &epoch), |()| vec![Topic::Epochs])
    }

    fn change_epochs(&self, changes: Vec<EpochChange>, cut_offs: Vec<RecordedCutOff>) -> Future<'_, ()> {
        match EpochChange::check_all(&changes) {
            Ok(()) => {
                let told = cut_offs.clone();
                let topics = move |(): &()| Topic::of_epochs(&told);
                self.tell(move |connection| records::change_epochs(connection, &changes, &cut_offs), topics)
            }
            Err(error) => refuse(error),
        }
    }

    fn cut_offs(&self) -> Future<'_, Vec<RecordedCutOff>> {
        self.cut_offs_since(UnixTime::from_secs(0))
    }

    fn cut_offs_since(&self, since: UnixTime) -> Future<'_, Vec<RecordedCutOff>> {
        self.read(move |connection| records::cut_offs_since(connection, since))
    }

    fn put_cut_off(&self, cut_off: RecordedCutOff) -> Future<'_, ()> {
        let topics = move |(): &()| vec![Topic::CutOff(cut_off)];
        self.tell(move |connection| records::put_cut_off(connection, cut_off), topics)
    }

    fn forget_cut_offs(&self, before: UnixTime) -> Future<'_, u64> {
        self.write(move |connection| records::forget_cut_offs(connection, before))
    }

    fn quarantines(&self) -> Future<'_, Vec<Quarantine>> {
        self.read(quarantines::all)
    }

    fn put_quarantine(&self, quarantine: Quarantine, basis: QuarantineBasis) -> Future<'_, ()> {
        match quarantine.check() {
            Ok(()) => self.tell(
                move |connection| quarantines::put(connection, &quarantine, &basis),
                |()| vec![Topic::Quarantines],
            ),
            Err(error) => refuse(error),
        }
    }

    fn end_quarantine(&self, found: Quarantine, cut_offs: Vec<RecordedCutOff>) -> Future<'_, bool> {
        let told = cut_offs.clone();
        let topics = move |was_there: &bool| Topic::of_release(&told, *was_there);
        self.tell(move |connection| quarantines::end(connection, &found, &cut_offs), topics)
    }

    fn host_keys(&self, instance: InstanceId) -> Future<'_, (u64, HostKeys)> {
        self.read(move |connection| host_keys::one(connection, instance))
    }

    fn put_host_keys(&self, change: HostKeysChange) -> Future<'_, ()> {
        match change.check() {
            Ok(()) => self.write(move |connection| host_keys::put(connection, &change)),
            Err(error) => refuse(error),
        }
    }

    fn setting<'a>(&'a self, name: &'a str) -> Future<'a, Option<Vec<u8>>> {
        let name = name.to_owned();
        self.read(move |connection| records::setting(connection, &name))
    }

    fn put_setting(&self, change: SettingChange) -> Future<'_, ()> {
        match change.check() {
            Ok(()) => {
                let name = change.name.clone();
                let topics = move |(): &()| vec![Topic::Setting(name.clone())];
                self.tell(move |connection| records::put_setting(connection, &change), topics)
            }
            Err(error) => refuse(error),
        }
    }

    fn setting_names(&self) -> Future<'_, Vec<String>> {
        self.read(records::setting_names)
    }

    fn reseal(&self, all: Vec<Resealing>) -> Future<'_, ()> {
        match Resealing::check_all(&all) {
            Ok(()) => self.write(move |connection| records::reseal(connection, &all)),
            Err(error) => refuse(error),
        }
    }

    fn roles(&self) -> Future<'_, Vec<Role>> {
        self.read(management::roles)
    }

    fn put_role(&self, role: Role) -> Future<'_, ()> {
        self.tell(move |connection| management::put_role(connection, &role), |()| vec![Topic::Roles])
    }

    fn delete_role(&self, account: AccountId, name: RoleName) -> Future<'_, bool> {
        let topics = |deleted: &bool| if *deleted { vec![Topic::Roles] } else { vec![] };
        self.tell(move |connection| management::delete_role(connection, account, &name), topics)
    }

    fn registration(&self, instance: InstanceId) -> Future<'_, Option<Registration>> {
        self.read(move |connection| management::registration(connection, instance))
    }

    fn registrations(&self) -> Future<'_, Vec<Registration>> {
        self.read(management::registrations)
    }

    fn change_registration(&self, change: RegistrationChange) -> Future<'_, ()> {
        match change.check() {
            Ok(()) => {
                let instance = change.instance;
                let topics = move |(): &()| vec![Topic::Registration(instance)];
                self.tell(move |connection| management::change_registration(connection, &change), topics)
            }
            Err(error) => refuse(error),
        }
    }

    fn nodes(&self) -> Future<'_, Vec<Node>> {
        self.read(nodes::nodes)
    }

    fn nodes_by_id(&self, ids: Vec<InstanceId>) -> Future<'_, Vec<Node>> {
        match InstanceQuery::check_ids(&ids) {
            Ok(()) => self.read(move |connection| nodes::by_id(connection, ids)),
            Err(error) => refuse(error),
        }
    }

    fn put_node(&self, node: Node, is_told: bool) -> Future<'_, bool> {
        match node.check() {
            Ok(()) => {
                let told = is_told.then_some(Topic::Node(node.instance));
                let topics = move |is_new: &bool| told.iter().filter(|_| *is_new).cloned().collect();
                self.tell(move |connection| nodes::put_node(connection, &node), topics)
            }
            Err(error) => refuse(error),
        }
    }

    fn tell_of_node(&self, instance: InstanceId) -> Future<'_, ()> {
        self.tell(|_| Ok(()), move |()| vec![Topic::Node(instance)])
    }

    fn documents(&self) -> Future<'_, Vec<Document>> {
        self.read(documents::documents)
    }

    fn put_document(&self, document: Document) -> Future<'_, ()> {
        match document.check() {
            Ok(()) => self.tell(move |connection| documents::put(connection, &document), |()| vec![Topic::Documents]),
            Err(error) => refuse(error),
        }
    }

    fn delete_document(&self, account: AccountId, name: String) -> Future<'_, bool> {
        let topics = |deleted: &bool| if *deleted { vec![Topic::Documents] } else { vec![] };
        self.tell(move |connection| documents::delete(connection, account, &name), topics)
    }

    fn put_command(&self, sent: SentCommand) -> Future<'_, ()> {
        match sent.check() {
            Ok(()) => {
                let told = Topic::of_sent(&sent);
                self.tell(move |connection| commands::put(connection, &sent), move |()| told.clone())
            }
            Err(error) => refuse(error),
        }
    }

    fn change_commands(&self, changes: Vec<CommandChange>) -> Future<'_, Vec<CommandOutcome>> {
        match changes.iter().try_for_each(CommandChange::check) {
            Ok(()) => {
                let told: Vec<_> = changes.iter().map(Topic::of_command_change).collect();
                let topics = move |outcomes: &Vec<CommandOutcome>| Topic::of_command_changes(&told, outcomes);
                self.tell(move |connection| commands::change(connection, &changes), topics)
            }
            Err(error) => refuse(error),
        }
    }

    fn sent_command(&self, id: String, instances: Vec<InstanceId>) -> Future<'_, Option<SentCommand>> {
        self.read(move |connection| commands::sent(connection, &id, &instances))
    }

    fn open_commands(&self) -> Future<'_, Vec<SentCommand>> {
        self.read(commands::open)
    }

    fn commands(&self, query: CommandQuery) -> Future<'_, Vec<Command>> {
        match query.check() {
            Ok(()) => self.read(move |connection| commands::commands(connection, &query)),
            Err(error) => refuse(error),
        }
    }

    fn invocations(&self, query: CommandQuery) -> Future<'_, Vec<Invocation>> {
        match query.check() {
            Ok(()) => self.read(move |connection| commands::invocations(connection, &query)),
            Err(error) => refuse(error),
        }
    }

    fn forget_commands(&self, retention: CommandRetention) -> Future<'_, u64> {
        self.write(move |connection| commands::forget(connection, retention))
    }

    fn inventory(&self, query: InventoryQuery) -> Future<'_, Vec<InventoryRecord>> {
        self.read(move |connection| inventory::inventory(connection, &query))
    }

    fn put_inventory(&self, change: InventoryChange) -> Future<'_, ()> {
        match change.check() {
            Ok(()) => self.write(move |connection| inventory::put_inventory(connection, &change)),
            Err(error) => refuse(error),
        }
    }

    fn forget_inventory(&self, before: UnixTime) -> Future<'_, u64> {
        self.write(move |connection| inventory::forget_inventory(connection, before))
    }

    fn put_session(&self, session: Session) -> Future<'_, ()> {
        match session.check() {
            Ok(()) => self.write(move |connection| sessions::put(connection, &session)),
            Err(error) => refuse(error),
        }
    }

    fn end_session(&self, id: String, end: SessionEnd, by: Option<NodeId>) -> Future<'_, bool> {
        match end.check() {
            Ok(()) => {
                let ended = id.clone();
                let topics =
                    move |was_open: &bool| if *was_open { vec![Topic::SessionEnded(ended.clone())] } else { vec![] };
                self.tell(move |connection| sessions::end(connection, &id, &end, by), topics)
            }
            Err(error) => refuse(error),
        }
    }

    fn session(&self, id: String) -> Future<'_, Option<Session>> {
        self.read(move |connection| sessions::one(connection, &id))
    }

    fn carry_session(&self, id: String, from: Option<NodeId>, to: NodeId) -> Future<'_, bool> {
        let carried = id.clone();
        let topics = move |is_carried: &bool| {
            if *is_carried { vec![Topic::SessionCarried(carried.clone())] } else { vec![] }
        };
        self.tell(move |connection| sessions::carry(connection, &id, from, to), topics)
    }

    fn sessions(&self, query: SessionQuery) -> Future<'_, Vec<Session>> {
        match query.check() {
            Ok(()) => self.read(move |connection| sessions::sessions(connection, &query)),
            Err(error) => refuse(error),
        }
    }

    fn session_places(&self, query: SessionQuery) -> Future<'_, Vec<SessionPlace>> {
        match query.check() {
            Ok(()) => self.read(move |connection| sessions::places(connection, &query)),
            Err(error) => refuse(error),
        }
    }

    fn forget_sessions(&self, retention: SessionRetention) -> Future<'_, u64> {
        self.write(move |connection| sessions::forget(connection, retention))
    }

    fn detectors(&self) -> Future<'_, Vec<Detector>> {
        self.read(detectors::detectors)
    }

    fn detector_of(&self, account: AccountId) -> Future<'_, Option<(Detector, Vec<DetectorPart>)>> {
        self.read(move |connection| detectors::of(connection, account))
    }

    fn put_detector(&self, change: DetectorChange) -> Future<'_, ()> {
        match change.check() {
            Ok(()) => {
                let account = change.detector.account;
                self.tell(
                    move |connection| detectors::put(connection, &change),
                    move |()| vec![Topic::Detector(account)],
                )
            }
            Err(error) => refuse(error),
        }
    }

    fn delete_detector(&self, account: AccountId, id: String) -> Future<'_, bool> {
        let topics = move |deleted: &bool| if *deleted { vec![Topic::Detector(account)] } else { vec![] };
        self.tell(move |connection| detectors::delete(connection, account, &id), topics)
    }

    fn detector_parts(&self) -> Future<'_, Vec<DetectorPart>> {
        self.read(detectors::parts)
    }

    fn put_findings(&self, findings: Vec<Finding>) -> Future<'_, ()> {
        match Finding::check_all(&findings) {
            Ok(()) => self.write(move |connection| findings::put(connection, &findings)),
            Err(error) => refuse(error),
        }
    }

    fn findings(&self, query: FindingQuery) -> Future<'_, Vec<Finding>> {
        match query.check() {
            Ok(()) => self.read(move |connection| findings::page(connection, &query)),
            Err(error) => refuse(error),
        }
    }

    fn findings_by_id(&self, detector: String, ids: Vec<String>) -> Future<'_, Vec<Finding>> {
        self.read(move |connection| findings::by_id(connection, &detector, &ids))
    }

    fn forget_findings(&self, retention: FindingRetention) -> Future<'_, u64> {
        self.write(move |connection| findings::forget(connection, retention))
    }

    fn agent_reports(&self) -> Future<'_, Vec<AgentReport>> {
        self.read(detectors::agent_reports)
    }

    fn put_agent_reports(&self, reports: Vec<AgentReport>) -> Future<'_, ()> {
        match AgentReport::check_all(&reports) {
            Ok(()) => self.write(move |connection| detectors::put_agent_reports(connection, &reports)),
            Err(error) => refuse(error),
        }
    }

    fn node(&self) -> NodeId {
        self.node.id
    }

    fn beat(&self, beat: Beat) -> Future<'_, ()> {
        let node = Arc::clone(&self.node);
        match beat.check() {
            Ok(()) => self.write(move |connection| node.beat(connection, &beat)),
            Err(error) => refuse(error),
        }
    }

    /// It is one file, which one program has open.
    fn fence(&self) -> Option<Fence> {
        None
    }

    fn has_forgotten(&self, _: Fence) -> Future<'_, bool> {
        Box::pin(core::future::ready(Ok(false)))
    }

    fn news(&self, heard: Heard) -> Future<'_, News> {
        self.read(move |connection| feed::news(connection, &heard))
    }

    fn forget_news(&self, entries_before: UnixTime, nodes_before: UnixTime) -> Future<'_, u64> {
        self.write(move |connection| feed::forget(connection, entries_before, nodes_before))
    }

    fn close(&self) -> Future<'_, ()> {
        Box::pin(async move {
            // Readers first: the last connection to close is the writer's, which folds the log into the file.
            if let Some(readers) = &self.readers {
                readers.close().await;
            }
            self.writer.close().await;
            Ok(())
        })
    }
}
