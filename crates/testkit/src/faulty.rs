//! A store that fails when it is told to, or lies at the end of a link that is not to be relied upon.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use inborn_identity::{AccessKeyId, AccountId, HostId, InstanceId, RoleName, UnixTime};
use inborn_store::{
    Account, AgentReport, Beat, ChangeRequest, Changed, Command, CommandChange, CommandOutcome, CommandQuery,
    CommandRetention, Detector, DetectorChange, DetectorPart, Document, EpochChange, Fence, Finding, FindingQuery,
    FindingRetention, Future, Heard, Host, HostChange, HostJoin, HostKeys, HostKeysChange, Instance, InstancePage,
    InstanceQuery, InventoryChange, InventoryQuery, InventoryRecord, Invocation, JoinToken, KeyPair, LaunchOutcome,
    LaunchRequest, Living, News, Node, NodeId, Operator, OperatorChange, Packer, Quarantine, QuarantineBasis,
    QuarantineScope, RecordedCutOff, Registration, RegistrationChange, Resealing, Role, SealedEpoch, SentCommand,
    Session, SessionEnd, SessionPlace, SessionQuery, SessionRetention, SettingChange, Store, StoreError,
};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, mpsc};

use crate::late::{self, OwnNews};
use crate::link::{self, Link};

/// The setting that a region writes beside what it is asked: no test knows when.
const HIGH_WATER: &str = "high-water";

/// Of the epochs there are few, and each change looks at all.
const EPOCHS: &str = "epochs";

/// The most parts in which all machines come over a link: more than a simulation has.
const PARTS_MAX: usize = 1024;

/// How often [`FaultyStore::deafen`] looks whether somebody has asked.
const ASKED_EVERY: Duration = Duration::from_millis(5);

/// How long it waits.
const ASKED_WITHIN: Duration = Duration::from_secs(60);

/// How a write fails.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// With this error, and without taking effect: as a full disk does.
    Before(StoreError),
    /// With this error, although it took effect: as a commit whose answer was lost.
    After(StoreError),
}

impl Fault {
    /// The medium fails before the write.
    #[must_use]
    pub fn io_before() -> Self {
        Self::Before(StoreError::Io("injected, before the write".into()))
    }

    /// The medium fails after the write.
    #[must_use]
    pub fn io_after() -> Self {
        Self::After(StoreError::Io("injected, after the write".into()))
    }

    /// No room.
    #[must_use]
    pub const fn full() -> Self {
        Self::Before(StoreError::Full)
    }
}

/// What some calls pass through.
#[derive(Default)]
struct Gate {
    open: Arc<RwLock<()>>,
    waiting: AtomicUsize,
}

impl Gate {
    async fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        drop(self.open.read().await);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Any store, of which chosen writes fail. Reads, `close` and the high-water mark go through untouched, but for the change feed
/// while it is silent, and for what the link does that the store may lie behind.
pub struct FaultyStore {
    link: Option<Arc<dyn Link>>,
    /// What is told to this opening of its own, if the store lies behind a link.
    own: OwnNews,
    /// Which node it says that it is, if not the inner store's.
    node: Option<NodeId>,
    is_silent: AtomicBool,
    asked_in_vain: AtomicU64,
    is_mute: AtomicBool,
    beats: Gate,
    quarantines: Gate,
    changes: Gate,
    hidden: Mutex<Option<String>>,
    damaged: Mutex<BTreeSet<String>>,
    command_reads: AtomicU64,
    cut_off_reads: AtomicU64,
    inner: Arc<dyn Store>,
    writes: AtomicU64,
    plan: Mutex<BTreeMap<u64, Fault>>,
}

impl FaultyStore {
    /// `inner`, with no faults planned.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            link: None,
            own: OwnNews::default(),
            inner,
            writes: AtomicU64::new(0),
            plan: Mutex::default(),
            node: None,
            is_silent: AtomicBool::new(false),
            asked_in_vain: AtomicU64::new(0),
            is_mute: AtomicBool::new(false),
            beats: Gate::default(),
            quarantines: Gate::default(),
            changes: Gate::default(),
            hidden: Mutex::default(),
            damaged: Mutex::default(),
            command_reads: AtomicU64::new(0),
            cut_off_reads: AtomicU64::new(0),
        }
    }

    /// `inner` at the other end of `link`. Each call of it is done in one step when it arrives there: with a clock that is
    /// paused, the same calls in the same order have the same effects.
    #[must_use]
    pub fn behind(inner: Arc<dyn Store>, link: Arc<dyn Link>) -> Self {
        Self { link: Some(link), ..Self::new(inner) }
    }

    /// `inner`, as another program has it open that hears of everything that is changed through `inner`.
    #[must_use]
    pub fn of_another_program(inner: Arc<dyn Store>) -> Self {
        Self { node: Some(NodeId::random()), ..Self::new(inner) }
    }

    /// Whether the change feed is not to be had. Who has been told something already may still read what it was told of.
    pub fn silence(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::SeqCst);
    }

    /// Silence that has begun when this returns: who asks one question after another is done with what it was told before.
    ///
    /// # Panics
    /// If nobody asks for a minute.
    pub async fn deafen(&self) {
        self.silence(true);
        let before = self.asked_in_vain.load(Ordering::SeqCst);
        let asked = async {
            while self.asked_in_vain.load(Ordering::SeqCst) == before {
                tokio::time::sleep(ASKED_EVERY).await;
            }
        };
        assert!(tokio::time::timeout(ASKED_WITHIN, asked).await.is_ok(), "nobody asks what is new");
    }

    /// Whether beats come to nothing.
    pub fn mute(&self, is_mute: bool) {
        self.is_mute.store(is_mute, Ordering::SeqCst);
    }

    /// Lets no beat be answered, as a commit that waits for a standby, until what is given is dropped.
    pub async fn hold_beats(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.beats.open).write_owned().await
    }

    /// How many wait for their answer so.
    #[must_use]
    pub fn held_beats(&self) -> usize {
        self.beats.waiting.load(Ordering::SeqCst)
    }

    /// Holds up whoever reads the list of quarantines, as a slow store does, until what is given is dropped.
    pub async fn hold_quarantines(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.quarantines.open).write_owned().await
    }

    /// How many are held up so.
    #[must_use]
    pub fn held_up(&self) -> usize {
        self.quarantines.waiting.load(Ordering::SeqCst)
    }

    /// Holds up whoever begins or ends a quarantine, or changes the registration of an agent, until what is given is dropped.
    pub async fn hold_changes(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.changes.open).write_owned().await
    }

    /// How many are held up so.
    #[must_use]
    pub fn held_changes(&self) -> usize {
        self.changes.waiting.load(Ordering::SeqCst)
    }

    /// From now on this command cannot be read with its invocations.
    pub fn hide_command(&self, id: Option<&str>) {
        *self.hidden.lock().unwrap_or_else(PoisonError::into_inner) = id.map(str::to_owned);
    }

    /// From now on what is read of this holds what was never written there: a session or a node by its id, or all `quarantines`, `documents`,
    /// `nodes`, `sessions` or `detectors`.
    pub fn damage(&self, what: &str) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(what.to_owned());
    }

    /// From now on all can be read again.
    pub fn mend(&self) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Reads what may be damaged.
    fn read_if_whole<'a, T: Send + 'a>(
        &'a self,
        what: &[String],
        begin: impl FnOnce(&'a dyn Store) -> Future<'a, T> + Send + 'a,
    ) -> Future<'a, T> {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        match what.iter().find(|what| damaged.contains(*what)) {
            Some(what) => Box::pin(core::future::ready(Err(StoreError::Corrupt(format!("injected: {what}"))))),
            None => self.read(begin),
        }
    }

    /// How often a command was asked for with its invocations.
    #[must_use]
    pub fn command_reads(&self) -> u64 {
        self.command_reads.load(Ordering::SeqCst)
    }

    /// How often all cut-offs were asked for.
    #[must_use]
    pub fn cut_off_reads(&self) -> u64 {
        self.cut_off_reads.load(Ordering::SeqCst)
    }

    /// Plans that write number `write` (the first ever is 0, in the order their verbs are called) fails.
    pub fn fail(&self, write: u64, fault: Fault) {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).insert(write, fault);
    }

    /// Plans that the next write fails.
    pub fn fail_next(&self, fault: Fault) {
        self.fail(self.writes(), fault);
    }

    /// How many writes were asked for so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    fn read<'a, T, B>(&'a self, begin: B) -> Future<'a, T>
    where
        T: Send + 'a,
        B: FnOnce(&'a dyn Store) -> Future<'a, T> + Send + 'a,
    {
        match &self.link {
            Some(link) => Box::pin(link::call(&*self.inner, link.as_ref(), &self.own, begin)),
            None => begin(&*self.inner),
        }
    }

    /// A write that may take effect late, and keeps this locked until then.
    fn change_of<'a, T, B>(&'a self, what: Vec<String>, begin: B) -> Future<'a, T>
    where
        T: Send + 'static,
        B: for<'s> FnOnce(&'s dyn Store) -> Future<'s, T> + Send + 'static,
    {
        match &self.link {
            Some(link) => {
                let (store, link, own) = (Arc::clone(&self.inner), Arc::clone(link), Arc::clone(&self.own));
                Box::pin(late::call(store, link, own, what, begin))
            }
            None => self.write(begin),
        }
    }

    fn write<'a, T, B>(&'a self, begin: B) -> Future<'a, T>
    where
        T: Send + 'a,
        B: FnOnce(&'a dyn Store) -> Future<'a, T> + Send + 'a,
    {
        let write = self.writes.fetch_add(1, Ordering::SeqCst);
        match self.plan.lock().unwrap_or_else(PoisonError::into_inner).remove(&write) {
            None => self.read(begin),
            Some(Fault::Before(error)) => Box::pin(core::future::ready(Err(error))),
            Some(Fault::After(error)) => {
                let effect = self.read(begin);
                Box::pin(async move {
                    // A write that fails of itself is told as it is.
                    effect.await?;
                    Err(error)
                })
            }
        }
    }
}

/// What a launch locks: its token, and the host that it is placed on.
fn launched(request: &LaunchRequest) -> Vec<String> {
    let token = request.client_token.as_ref().unwrap_or(&request.reservation_id);
    let hosts: BTreeSet<HostId> = request.instances.iter().filter_map(|instance| instance.host).collect();
    [format!("launch {} {token}", request.account)].into_iter().chain(hosts.into_iter().map(host)).collect()
}

fn host(id: HostId) -> String {
    format!("host {id}")
}

fn quarantine_of(scope: QuarantineScope) -> String {
    format!("quarantine {scope}")
}

impl Store for FaultyStore {
    fn launch(&self, request: LaunchRequest) -> Future<'_, LaunchOutcome> {
        self.change_of(launched(&request), move |store| store.launch(request))
    }

    fn instance(&self, id: InstanceId) -> Future<'_, Option<Instance>> {
        self.read(move |store| store.instance(id))
    }

    fn instances_by_id(&self, ids: Vec<InstanceId>) -> Future<'_, Vec<Instance>> {
        self.read(move |store| store.instances_by_id(ids))
    }

    fn instances(&self, query: InstanceQuery) -> Future<'_, InstancePage> {
        self.read(move |store| store.instances(query))
    }

    fn living(&self, packer: Arc<Packer>, parts: mpsc::Sender<Living>) -> Future<'_, ()> {
        if self.link.is_none() {
            return self.inner.living(packer, parts);
        }
        Box::pin(async move {
            // A call over a link is done in one step, in which nobody can take what comes.
            let (sender, mut found) = mpsc::channel(PARTS_MAX);
            self.read(move |store| store.living(packer, sender)).await?;
            while let Some(part) = found.recv().await {
                if parts.send(part).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn change(&self, request: ChangeRequest) -> Future<'_, Vec<Changed>> {
        let what = request.instances.iter().map(|id| format!("instance {id}")).collect();
        self.change_of(what, move |store| store.change(request))
    }

    fn purge(&self, terminated_before: UnixTime) -> Future<'_, u64> {
        self.write(move |store| store.purge(terminated_before))
    }

    fn hosts(&self) -> Future<'_, Vec<Host>> {
        self.read(move |store| store.hosts())
    }

    fn put_join_token(&self, token: JoinToken) -> Future<'_, ()> {
        self.write(move |store| store.put_join_token(token))
    }

    fn join_host(&self, join: HostJoin) -> Future<'_, Host> {
        self.write(move |store| store.join_host(join))
    }

    fn change_host(&self, id: HostId, change: HostChange) -> Future<'_, Option<Host>> {
        self.change_of(vec![host(id)], move |store| store.change_host(id, change))
    }

    fn forget_join_tokens(&self, ended_before: UnixTime) -> Future<'_, u64> {
        self.write(move |store| store.forget_join_tokens(ended_before))
    }

    fn operators(&self) -> Future<'_, Vec<Operator>> {
        self.read(move |store| store.operators())
    }

    fn put_operator(&self, operator: Operator) -> Future<'_, ()> {
        self.write(move |store| store.put_operator(operator))
    }

    fn change_operator(&self, access_key_id: AccessKeyId, change: OperatorChange) -> Future<'_, bool> {
        self.write(move |store| store.change_operator(access_key_id, change))
    }

    fn accounts(&self) -> Future<'_, Vec<Account>> {
        self.read(|store| store.accounts())
    }

    fn put_account(&self, account: Account) -> Future<'_, ()> {
        self.write(move |store| store.put_account(account))
    }

    fn close_account(&self, id: AccountId, at: UnixTime) -> Future<'_, bool> {
        self.write(move |store| store.close_account(id, at))
    }

    fn key_pairs(&self, account: AccountId) -> Future<'_, Vec<KeyPair>> {
        self.read(move |store| store.key_pairs(account))
    }

    fn put_key_pair(&self, pair: KeyPair) -> Future<'_, ()> {
        self.write(move |store| store.put_key_pair(pair))
    }

    fn remove_key_pair(&self, account: AccountId, name: String) -> Future<'_, bool> {
        self.write(move |store| store.remove_key_pair(account, name))
    }

    fn epochs(&self) -> Future<'_, Vec<SealedEpoch>> {
        self.read(move |store| store.epochs())
    }

    fn put_epoch(&self, epoch: SealedEpoch) -> Future<'_, ()> {
        self.change_of(vec![EPOCHS.to_owned()], move |store| store.put_epoch(epoch))
    }

    fn change_epochs(&self, changes: Vec<EpochChange>, cut_offs: Vec<RecordedCutOff>) -> Future<'_, ()> {
        self.change_of(vec![EPOCHS.to_owned()], move |store| store.change_epochs(changes, cut_offs))
    }

    fn cut_offs(&self) -> Future<'_, Vec<RecordedCutOff>> {
        self.cut_off_reads.fetch_add(1, Ordering::SeqCst);
        self.read(move |store| store.cut_offs())
    }

    fn cut_offs_since(&self, since: UnixTime) -> Future<'_, Vec<RecordedCutOff>> {
        self.read(move |store| store.cut_offs_since(since))
    }

    fn put_cut_off(&self, cut_off: RecordedCutOff) -> Future<'_, ()> {
        let what = vec![format!("cut-off {:?}", cut_off.cut_off)];
        self.change_of(what, move |store| store.put_cut_off(cut_off))
    }

    fn forget_cut_offs(&self, before: UnixTime) -> Future<'_, u64> {
        self.write(move |store| store.forget_cut_offs(before))
    }

    fn quarantines(&self) -> Future<'_, Vec<Quarantine>> {
        Box::pin(async move {
            self.quarantines.pass().await;
            self.read_if_whole(&["quarantines".to_owned()], move |store| store.quarantines()).await
        })
    }

    fn put_quarantine(&self, quarantine: Quarantine, basis: QuarantineBasis) -> Future<'_, ()> {
        let written =
            self.change_of(vec![quarantine_of(quarantine.scope)], move |store| store.put_quarantine(quarantine, basis));
        Box::pin(async move {
            self.changes.pass().await;
            written.await
        })
    }

    fn end_quarantine(&self, found: Quarantine, cut_offs: Vec<RecordedCutOff>) -> Future<'_, bool> {
        let written =
            self.change_of(vec![quarantine_of(found.scope)], move |store| store.end_quarantine(found, cut_offs));
        Box::pin(async move {
            self.changes.pass().await;
            written.await
        })
    }

    fn host_keys(&self, instance: InstanceId) -> Future<'_, (u64, HostKeys)> {
        self.read(move |store| store.host_keys(instance))
    }

    fn put_host_keys(&self, change: HostKeysChange) -> Future<'_, ()> {
        self.write(move |store| store.put_host_keys(change))
    }

    fn setting<'a>(&'a self, name: &'a str) -> Future<'a, Option<Vec<u8>>> {
        self.read(move |store| store.setting(name))
    }

    fn put_setting(&self, change: SettingChange) -> Future<'_, ()> {
        if change.name == HIGH_WATER && self.link.is_none() {
            return self.read(move |store| store.put_setting(change));
        }
        let what = vec![format!("setting {}", change.name)];
        self.change_of(what, move |store| store.put_setting(change))
    }

    fn setting_names(&self) -> Future<'_, Vec<String>> {
        self.read(|store| store.setting_names())
    }

    fn reseal(&self, all: Vec<Resealing>) -> Future<'_, ()> {
        self.write(move |store| store.reseal(all))
    }

    fn roles(&self) -> Future<'_, Vec<Role>> {
        self.read(move |store| store.roles())
    }

    fn put_role(&self, role: Role) -> Future<'_, ()> {
        self.write(move |store| store.put_role(role))
    }

    fn delete_role(&self, account: AccountId, name: RoleName) -> Future<'_, bool> {
        self.write(move |store| store.delete_role(account, name))
    }

    fn registration(&self, instance: InstanceId) -> Future<'_, Option<Registration>> {
        self.read(move |store| store.registration(instance))
    }

    fn registrations(&self) -> Future<'_, Vec<Registration>> {
        self.read(move |store| store.registrations())
    }

    fn change_registration(&self, change: RegistrationChange) -> Future<'_, ()> {
        let written = self.write(move |store| store.change_registration(change));
        Box::pin(async move {
            self.changes.pass().await;
            written.await
        })
    }

    fn nodes(&self) -> Future<'_, Vec<Node>> {
        self.read_if_whole(&["nodes".to_owned()], move |store| store.nodes())
    }

    fn nodes_by_id(&self, ids: Vec<InstanceId>) -> Future<'_, Vec<Node>> {
        let all: Vec<String> = ids.iter().map(ToString::to_string).collect();
        self.read_if_whole(&all, move |store| store.nodes_by_id(ids))
    }

    fn put_node(&self, node: Node, is_told: bool) -> Future<'_, bool> {
        self.write(move |store| store.put_node(node, is_told))
    }

    fn tell_of_node(&self, instance: InstanceId) -> Future<'_, ()> {
        self.write(move |store| store.tell_of_node(instance))
    }

    fn documents(&self) -> Future<'_, Vec<Document>> {
        self.read_if_whole(&["documents".to_owned()], move |store| store.documents())
    }

    fn put_document(&self, document: Document) -> Future<'_, ()> {
        self.write(move |store| store.put_document(document))
    }

    fn delete_document(&self, account: AccountId, name: String) -> Future<'_, bool> {
        self.write(move |store| store.delete_document(account, name))
    }

    fn put_command(&self, sent: SentCommand) -> Future<'_, ()> {
        self.write(move |store| store.put_command(sent))
    }

    fn change_commands(&self, changes: Vec<CommandChange>) -> Future<'_, Vec<CommandOutcome>> {
        self.write(move |store| store.change_commands(changes))
    }

    fn sent_command(&self, id: String, instances: Vec<InstanceId>) -> Future<'_, Option<SentCommand>> {
        self.command_reads.fetch_add(1, Ordering::SeqCst);
        if self.hidden.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(&id) {
            return Box::pin(core::future::ready(Err(StoreError::Io("injected, as a command was read".into()))));
        }
        self.read(move |store| store.sent_command(id, instances))
    }

    fn open_commands(&self) -> Future<'_, Vec<SentCommand>> {
        self.read(move |store| store.open_commands())
    }

    fn commands(&self, query: CommandQuery) -> Future<'_, Vec<Command>> {
        self.read(move |store| store.commands(query))
    }

    fn invocations(&self, query: CommandQuery) -> Future<'_, Vec<Invocation>> {
        self.read(move |store| store.invocations(query))
    }

    fn forget_commands(&self, retention: CommandRetention) -> Future<'_, u64> {
        self.write(move |store| store.forget_commands(retention))
    }

    fn inventory(&self, query: InventoryQuery) -> Future<'_, Vec<InventoryRecord>> {
        self.read(move |store| store.inventory(query))
    }

    fn put_inventory(&self, change: InventoryChange) -> Future<'_, ()> {
        self.write(move |store| store.put_inventory(change))
    }

    fn forget_inventory(&self, before: UnixTime) -> Future<'_, u64> {
        self.write(move |store| store.forget_inventory(before))
    }

    fn put_session(&self, session: Session) -> Future<'_, ()> {
        self.write(move |store| store.put_session(session))
    }

    fn end_session(&self, id: String, end: SessionEnd, by: Option<NodeId>) -> Future<'_, bool> {
        self.write(move |store| store.end_session(id, end, by))
    }

    fn session(&self, id: String) -> Future<'_, Option<Session>> {
        let what = [id.clone()];
        self.read_if_whole(&what, move |store| store.session(id))
    }

    fn carry_session(&self, id: String, from: Option<NodeId>, to: NodeId) -> Future<'_, bool> {
        self.write(move |store| store.carry_session(id, from, to))
    }

    fn sessions(&self, query: SessionQuery) -> Future<'_, Vec<Session>> {
        self.read_if_whole(&["sessions".to_owned()], move |store| store.sessions(query))
    }

    fn session_places(&self, query: SessionQuery) -> Future<'_, Vec<SessionPlace>> {
        self.read(move |store| store.session_places(query))
    }

    fn forget_sessions(&self, retention: SessionRetention) -> Future<'_, u64> {
        self.write(move |store| store.forget_sessions(retention))
    }

    fn detectors(&self) -> Future<'_, Vec<Detector>> {
        self.read_if_whole(&["detectors".to_owned()], move |store| store.detectors())
    }

    fn detector_of(&self, account: AccountId) -> Future<'_, Option<(Detector, Vec<DetectorPart>)>> {
        self.read(move |store| store.detector_of(account))
    }

    fn put_detector(&self, change: DetectorChange) -> Future<'_, ()> {
        self.write(move |store| store.put_detector(change))
    }

    fn delete_detector(&self, account: AccountId, id: String) -> Future<'_, bool> {
        self.write(move |store| store.delete_detector(account, id))
    }

    fn detector_parts(&self) -> Future<'_, Vec<DetectorPart>> {
        self.read(move |store| store.detector_parts())
    }

    fn put_findings(&self, findings: Vec<Finding>) -> Future<'_, ()> {
        self.write(move |store| store.put_findings(findings))
    }

    fn findings(&self, query: FindingQuery) -> Future<'_, Vec<Finding>> {
        self.read(move |store| store.findings(query))
    }

    fn findings_by_id(&self, detector: String, ids: Vec<String>) -> Future<'_, Vec<Finding>> {
        self.read(move |store| store.findings_by_id(detector, ids))
    }

    fn forget_findings(&self, retention: FindingRetention) -> Future<'_, u64> {
        self.write(move |store| store.forget_findings(retention))
    }

    fn agent_reports(&self) -> Future<'_, Vec<AgentReport>> {
        self.read(move |store| store.agent_reports())
    }

    fn put_agent_reports(&self, reports: Vec<AgentReport>) -> Future<'_, ()> {
        self.write(move |store| store.put_agent_reports(reports))
    }

    fn node(&self) -> NodeId {
        self.node.unwrap_or_else(|| self.inner.node())
    }

    fn beat(&self, beat: Beat) -> Future<'_, ()> {
        if self.is_mute.load(Ordering::SeqCst) {
            return Box::pin(core::future::ready(Err(StoreError::Unavailable("injected: it takes no beats".into()))));
        }
        let what = vec![format!("node {}", self.node())];
        Box::pin(async move {
            self.beats.pass().await;
            self.change_of(what, move |store| store.beat(beat)).await
        })
    }

    fn fence(&self) -> Option<Fence> {
        self.inner.fence()
    }

    fn has_forgotten(&self, fence: Fence) -> Future<'_, bool> {
        self.read(move |store| store.has_forgotten(fence))
    }

    fn news(&self, heard: Heard) -> Future<'_, News> {
        if self.is_silent.load(Ordering::SeqCst) {
            self.asked_in_vain.fetch_add(1, Ordering::SeqCst);
            let error = StoreError::Unavailable("injected silence".into());
            return Box::pin(core::future::ready(Err(error)));
        }
        self.read(move |store| late::news(store, &self.own, heard))
    }

    fn tells_of_doubtful(&self) -> bool {
        self.link.is_some()
    }

    fn forget_news(&self, entries_before: UnixTime, nodes_before: UnixTime) -> Future<'_, u64> {
        self.write(move |store| store.forget_news(entries_before, nodes_before))
    }

    fn close(&self) -> Future<'_, ()> {
        self.inner.close()
    }
}
