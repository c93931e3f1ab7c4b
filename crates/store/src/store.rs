//! The trait: the verbs of a store.

use core::pin::Pin;
use std::sync::Arc;

use inborn_identity::{AccessKeyId, AccountId, HostId, InstanceId, RoleName, UnixTime};

use crate::{
    Account, AgentReport, Beat, ChangeRequest, Changed, Command, CommandChange, CommandOutcome, CommandQuery,
    CommandRetention, Detector, DetectorChange, DetectorPart, Document, EpochChange, Fence, Finding, FindingQuery,
    FindingRetention, Heard, Host, HostChange, HostJoin, HostKeys, HostKeysChange, Instance, InstanceState,
    InventoryChange, InventoryQuery, InventoryRecord, Invocation, JoinToken, KeyPair, News, Node, NodeId, Operator,
    OperatorChange, PackedInstance, PackedTags, Packer, Quarantine, QuarantineBasis, RecordedCutOff, Registration,
    RegistrationChange, Resealing, Role, SealedEpoch, SentCommand, Session, SessionEnd, SessionPlace, SessionQuery,
    SessionRetention, StoreError, UserData,
};
use tokio::sync::mpsc;

/// What every verb gives: boxed, so that the trait is object safe.
pub type Future<'a, T> = Pin<Box<dyn core::future::Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Instances to launch together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaunchRequest {
    /// Whose they are.
    pub account: AccountId,
    /// A launch with the token of an earlier one of the same account launches nothing.
    pub client_token: Option<String>,
    /// A digest of the parameters of the launch: a repeated token must come with the same ones.
    pub fingerprint: [u8; 32],
    /// The reservation, the same in each instance.
    pub reservation_id: String,
    /// 1 to [`LaunchRequest::INSTANCES_MAX`] instances, each running, of this account, reservation and client token.
    pub instances: Vec<Instance>,
}

impl LaunchRequest {
    /// The most instances that are launched together.
    pub const INSTANCES_MAX: usize = 1000;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.instances.is_empty() {
            return Err(StoreError::Invalid("a launch has no instance"));
        }
        if self.instances.len() > Self::INSTANCES_MAX {
            return Err(StoreError::Invalid("a launch has more than 1000 instances"));
        }
        let belongs = |instance: &Instance| {
            instance.account == self.account
                && instance.reservation_id == self.reservation_id
                && instance.client_token == self.client_token
                && instance.state == InstanceState::Running
                && instance.terminated_at.is_none()
        };
        if !self.instances.iter().all(belongs) {
            return Err(StoreError::Invalid("an instance and its launch disagree"));
        }
        Ok(())
    }

    /// The instances as [`LaunchOutcome::New`] has them, in the order of their launch indexes.
    #[must_use]
    pub fn launched(&self) -> Vec<Instance> {
        let mut instances = self.instances.clone();
        instances.sort_by_key(|instance| instance.ami_launch_index);
        instances
    }
}

/// What became of a launch. Instances are in the order of their launch index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LaunchOutcome {
    /// They were launched.
    New(Vec<Instance>),
    /// The token was used before, with the same parameters: the instances of that launch as they are now.
    Replayed(Vec<Instance>),
    /// The token was used before, with other parameters. Nothing was launched.
    Mismatch,
}

/// Which instances to list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InstanceQuery {
    /// Whose; `None`: everybody's.
    pub account: Option<AccountId>,
    /// Only those whose id comes after this one.
    pub after: Option<InstanceId>,
    /// How many at most: 1 to [`InstanceQuery::LIMIT_MAX`].
    pub limit: u32,
}

impl InstanceQuery {
    /// The most instances on one page. Source: EC2 API reference, `DescribeInstances`, `MaxResults`.
    pub const LIMIT_MAX: u32 = 1000;

    /// Whether so many ids may be asked for at once.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check_ids(ids: &[InstanceId]) -> Result<(), StoreError> {
        if ids.len() > Self::LIMIT_MAX as usize {
            return Err(StoreError::Invalid("at most 1000 instances are asked for at once"));
        }
        Ok(())
    }

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.limit {
            1..=Self::LIMIT_MAX => Ok(()),
            _ => Err(StoreError::Invalid("a page has 1 to 1000 instances")),
        }
    }
}

/// Some instances, ordered by id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstancePage {
    /// The instances.
    pub instances: Vec<Instance>,
    /// Where the next page begins (give it as `after`), if there is more.
    pub next: Option<InstanceId>,
}

/// A part of all instances that are not terminated.
#[derive(Debug)]
pub enum Living {
    /// About so many more will come: a guess, which may be far off.
    Expected(usize),
    /// Some of them. A store that keeps tags and user data apart sends them later.
    Instances(Vec<PackedInstance>),
    /// Tags of instances that came before, or of such as are terminated. Those of one instance may come in several parts.
    Tags(Vec<(InstanceId, PackedTags)>),
    /// User data of instances that came before, or of such as are terminated.
    UserData(Vec<(InstanceId, UserData)>),
}

impl Living {
    /// The most that a part holds.
    pub const PART_MAX: u32 = 16 * 1024;
}

/// A new value for a setting, written only if it still has the expected one.
#[derive(Clone, PartialEq, Eq)]
pub struct SettingChange {
    /// 1 to [`SettingChange::NAME_MAX`] bytes.
    pub name: String,
    /// What it must be now; `None`: absent.
    pub expected: Option<Vec<u8>>,
    /// What it will be: at most [`SettingChange::VALUE_MAX`] bytes.
    pub value: Vec<u8>,
}

impl SettingChange {
    /// The longest name, in bytes.
    pub const NAME_MAX: usize = 128;
    /// The longest value, in bytes.
    pub const VALUE_MAX: usize = 64 * 1024;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.name.is_empty() || self.name.len() > Self::NAME_MAX {
            return Err(StoreError::Invalid("the name of a setting has 1 to 128 bytes"));
        }
        if self.value.len() > Self::VALUE_MAX {
            return Err(StoreError::Invalid("a setting has at most 65536 bytes"));
        }
        Ok(())
    }
}

/// Values may be sealed keys: only their lengths are shown.
impl core::fmt::Debug for SettingChange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SettingChange")
            .field("name", &self.name)
            .field("expected_bytes", &self.expected.as_ref().map(Vec::len))
            .field("value_bytes", &self.value.len())
            .finish()
    }
}

/// What a region remembers.
///
/// Every write is one transaction: whole or not at all, and on stable storage when its future gives `Ok`. A write whose
/// future is dropped after it was first polled may still take effect. Reads see every write that has answered before.
///
/// # Errors
/// Each verb may give any of the errors that [`StoreError`] calls the medium's; those beyond that are named at the verb.
pub trait Store: Send + Sync + 'static {
    /// Launches instances.
    ///
    /// # Errors
    /// `Invalid`; `Conflict`: an id or an attachment is taken, or a host takes none of them.
    fn launch(&self, request: LaunchRequest) -> Future<'_, LaunchOutcome>;

    /// One instance, whosever it is.
    fn instance(&self, id: InstanceId) -> Future<'_, Option<Instance>>;

    /// Those of these instances that are there, ordered by id, whosever they are.
    ///
    /// # Errors
    /// `Invalid`: more than [`InstanceQuery::LIMIT_MAX`].
    fn instances_by_id(&self, ids: Vec<InstanceId>) -> Future<'_, Vec<Instance>>;

    /// A page of instances, ordered by id.
    ///
    /// # Errors
    /// `Invalid`: the limit.
    fn instances(&self, query: InstanceQuery) -> Future<'_, InstancePage>;

    /// All instances that are not terminated, sent in parts of at most [`Living::PART_MAX`], in no order. Not all are of one
    /// moment: what is changed meanwhile may be there as it was before or after, and has to be heard of otherwise.
    ///
    /// # Errors
    /// What came before an error is good. Nothing is wrong if nobody listens any more.
    fn living(&self, packer: Arc<Packer>, parts: mpsc::Sender<Living>) -> Future<'_, ()>;

    /// Changes instances: all or none. Gives each as it was and as it is, in the order they were named.
    ///
    /// # Errors
    /// `NotFound` with all that are absent; `Conflict`: a state or an attachment forbids it; `Invalid`.
    fn change(&self, request: ChangeRequest) -> Future<'_, Vec<Changed>>;

    /// Forgets instances that were terminated before a moment, with the client tokens that launched only them. At most
    /// [`PURGE_MAX`] in one call; gives how many.
    fn purge(&self, terminated_before: UnixTime) -> Future<'_, u64>;

    /// All hosts that ever joined, ordered by id.
    fn hosts(&self) -> Future<'_, Vec<Host>>;

    /// Adds a token that lets one host join.
    ///
    /// # Errors
    /// `Conflict`: there is one with this digest; `Invalid`: the number of accounts.
    fn put_join_token(&self, token: JoinToken) -> Future<'_, ()>;

    /// Uses up a token and adds the host that came with it.
    ///
    /// # Errors
    /// `Conflict`: the token is none, was used or has ended, or there is a host with this id; `Invalid`.
    fn join_host(&self, join: HostJoin) -> Future<'_, Host>;

    /// Changes a host; gives it as it is then, or `None` where there is none. What was placed on it stays as it is.
    fn change_host(&self, id: HostId, change: HostChange) -> Future<'_, Option<Host>>;

    /// Forgets tokens that have ended before a moment; gives how many.
    fn forget_join_tokens(&self, ended_before: UnixTime) -> Future<'_, u64>;

    /// All operators, ordered by access key id.
    fn operators(&self) -> Future<'_, Vec<Operator>>;

    /// Adds an operator.
    ///
    /// # Errors
    /// `Conflict`: there is one with this access key id.
    fn put_operator(&self, operator: Operator) -> Future<'_, ()>;

    /// Changes or forgets an operator; gives whether there was one.
    fn change_operator(&self, access_key_id: AccessKeyId, change: OperatorChange) -> Future<'_, bool>;

    /// All accounts, ordered by id.
    fn accounts(&self) -> Future<'_, Vec<Account>>;

    /// Adds an account.
    ///
    /// # Errors
    /// `Conflict`: there is one with this id; `Invalid`: the name.
    fn put_account(&self, account: Account) -> Future<'_, ()>;

    /// Closes an account that is open; gives whether there was one. What is in it stays as it is.
    fn close_account(&self, id: AccountId, at: UnixTime) -> Future<'_, bool>;

    /// All key pairs of an account, ordered by name.
    fn key_pairs(&self, account: AccountId) -> Future<'_, Vec<KeyPair>>;

    /// Adds a key pair.
    ///
    /// # Errors
    /// `Conflict`: the account has one with this name, or somebody has one with this id.
    fn put_key_pair(&self, pair: KeyPair) -> Future<'_, ()>;

    /// Forgets a key pair; gives whether there was one.
    fn remove_key_pair(&self, account: AccountId, name: String) -> Future<'_, bool>;

    /// All epochs, ordered by id.
    fn epochs(&self) -> Future<'_, Vec<SealedEpoch>>;

    /// Adds an epoch. Never replaces one: credentials that are about depend on it.
    ///
    /// # Errors
    /// `Conflict`: there is one with this id.
    fn put_epoch(&self, epoch: SealedEpoch) -> Future<'_, ()>;

    /// Changes epochs and cuts off in the same step: all of it or nothing.
    ///
    /// # Errors
    /// `Conflict`: an epoch is not as expected; `Invalid`: one would go back, or too many.
    fn change_epochs(&self, changes: Vec<EpochChange>, cut_offs: Vec<RecordedCutOff>) -> Future<'_, ()>;

    /// All cut-offs, in a fixed order.
    fn cut_offs(&self) -> Future<'_, Vec<RecordedCutOff>>;

    /// Those that were made at this moment or later, in the same order.
    fn cut_offs_since(&self, since: UnixTime) -> Future<'_, Vec<RecordedCutOff>>;

    /// Adds a cut-off, or strengthens the one of the same kind and subject; it never weakens one.
    fn put_cut_off(&self, cut_off: RecordedCutOff) -> Future<'_, ()>;

    /// Forgets cut-offs made before a moment; gives how many.
    fn forget_cut_offs(&self, before: UnixTime) -> Future<'_, u64>;

    /// All quarantines, ordered by the text of their scope.
    fn quarantines(&self) -> Future<'_, Vec<Quarantine>>;

    /// Begins a quarantine, if what there is of its scope is still what was decided by. Of one that is there already the
    /// beginning stays.
    ///
    /// # Errors
    /// `Conflict`: it is not; `Invalid`: too long.
    fn put_quarantine(&self, quarantine: Quarantine, basis: QuarantineBasis) -> Future<'_, ()>;

    /// Ends the quarantine that was read, and cuts off in the same step; gives whether there was one of its scope. Without one
    /// nothing is cut off.
    ///
    /// # Errors
    /// `Conflict`: there is another one, or one of the cut-offs is there and as strong already. It was ended and begun again
    /// meanwhile: within one second nothing else may tell the two apart, and what was issued between them is to be cut off, too.
    fn end_quarantine(&self, found: Quarantine, cut_offs: Vec<RecordedCutOff>) -> Future<'_, bool>;

    /// The host keys of a machine and the revision of their record: 0 where nothing was written, also of machines that
    /// are not there.
    fn host_keys(&self, instance: InstanceId) -> Future<'_, (u64, HostKeys)>;

    /// Writes the record of a machine's host keys if it still has the revision that was read.
    ///
    /// # Errors
    /// `Conflict`: it has another; `NotFound`: there is no such machine; `Invalid`: too long.
    fn put_host_keys(&self, change: HostKeysChange) -> Future<'_, ()>;

    /// The value of a setting.
    fn setting<'a>(&'a self, name: &'a str) -> Future<'a, Option<Vec<u8>>>;

    /// Sets a setting if it still has the expected value.
    ///
    /// # Errors
    /// `Conflict`: it has another; `Invalid`: too long.
    fn put_setting(&self, change: SettingChange) -> Future<'_, ()>;

    /// The names of all settings, in order.
    fn setting_names(&self) -> Future<'_, Vec<String>>;

    /// Seals secrets anew: all of them, or none. Nobody is told of it: whoever runs has another key.
    ///
    /// # Errors
    /// `Conflict`: one is not as expected; `Invalid`: too many.
    fn reseal(&self, all: Vec<Resealing>) -> Future<'_, ()>;

    /// All roles, ordered by account and name.
    fn roles(&self) -> Future<'_, Vec<Role>>;

    /// Adds a role.
    ///
    /// # Errors
    /// `Conflict`: there is one with this name in the account, or with this id.
    fn put_role(&self, role: Role) -> Future<'_, ()>;

    /// Deletes a role; gives whether there was one.
    fn delete_role(&self, account: AccountId, name: RoleName) -> Future<'_, bool>;

    /// The registration of a machine's agent.
    fn registration(&self, instance: InstanceId) -> Future<'_, Option<Registration>>;

    /// All registrations, ordered by instance.
    fn registrations(&self) -> Future<'_, Vec<Registration>>;

    /// Registers an agent, changes its key or forgets it, if it still has the expected key.
    ///
    /// # Errors
    /// `NotFound`: there is no such instance, or it is terminated; `Conflict`: it has another key; `Invalid`: the key's
    /// length.
    fn change_registration(&self, change: RegistrationChange) -> Future<'_, ()>;

    /// All nodes, ordered by instance.
    fn nodes(&self) -> Future<'_, Vec<Node>>;

    /// Those of these nodes that are there, ordered by instance.
    ///
    /// # Errors
    /// `Invalid`: the number of ids.
    fn nodes_by_id(&self, ids: Vec<InstanceId>) -> Future<'_, Vec<Node>>;

    /// Sets what a machine's agent said last; gives whether that is something else than before. If it is, others are told of it
    /// where `is_told`.
    ///
    /// # Errors
    /// `NotFound`: there is no such instance, or it is terminated; `Invalid`: a fact is too long.
    fn put_node(&self, node: Node, is_told: bool) -> Future<'_, bool>;

    /// Tells others that a machine's agent has said something else, of which they were not told.
    fn tell_of_node(&self, instance: InstanceId) -> Future<'_, ()>;

    /// All documents, ordered by account and name.
    fn documents(&self) -> Future<'_, Vec<Document>>;

    /// Adds a document.
    ///
    /// # Errors
    /// `Conflict`: the account has one with this name; `Invalid`: too long.
    fn put_document(&self, document: Document) -> Future<'_, ()>;

    /// Deletes a document; gives whether there was one.
    fn delete_document(&self, account: AccountId, name: String) -> Future<'_, bool>;

    /// Adds a command and what is to become of it on each machine.
    ///
    /// # Errors
    /// `Conflict`: there is one with this id; `Invalid`: too much, or an invocation is of another command.
    fn put_command(&self, sent: SentCommand) -> Future<'_, ()>;

    /// Sets how far commands have come, each machine as far as it is as expected, in one step: what became of each change, in
    /// their order. What agents have told stays where a change says nothing of it. Commands and invocations of which nothing more
    /// becomes stay as they are. The text of the document of a command of which nothing more becomes is forgotten.
    ///
    /// # Errors
    /// `Invalid`: too much, or an invocation is of another command or there twice.
    fn change_commands(&self, changes: Vec<CommandChange>) -> Future<'_, Vec<CommandOutcome>>;

    /// A command with its invocations by machine: on these machines, or on all if none is named. Those of which nothing more becomes
    /// are without what their agents have told.
    fn sent_command(&self, id: String, instances: Vec<InstanceId>) -> Future<'_, Option<SentCommand>>;

    /// All commands of which something may still become, the oldest first, with their invocations as [`Store::sent_command`] gives
    /// them.
    fn open_commands(&self) -> Future<'_, Vec<SentCommand>>;

    /// Commands, the latest first.
    ///
    /// # Errors
    /// `Invalid`: the limit.
    fn commands(&self, query: CommandQuery) -> Future<'_, Vec<Command>>;

    /// Invocations, those of the latest command first, by machine.
    ///
    /// # Errors
    /// `Invalid`: the limit.
    fn invocations(&self, query: CommandQuery) -> Future<'_, Vec<Invocation>>;

    /// Forgets commands of which nothing more becomes, the oldest first, a part at a time; gives how many.
    fn forget_commands(&self, retention: CommandRetention) -> Future<'_, u64>;

    /// What was collected of a machine, ordered by type.
    fn inventory(&self, query: InventoryQuery) -> Future<'_, Vec<InventoryRecord>>;

    /// Replaces what was collected of a machine, type by type: all or none.
    ///
    /// # Errors
    /// `NotFound`: there is no such instance, or it is terminated; `Conflict`: a hash without content is not that of what is
    /// there, or it would be too much; `Invalid`: the number or the size of the records.
    fn put_inventory(&self, change: InventoryChange) -> Future<'_, ()>;

    /// Forgets what was received before a moment; gives how many records.
    fn forget_inventory(&self, before: UnixTime) -> Future<'_, u64>;

    /// Adds a session.
    ///
    /// # Errors
    /// `Conflict`: there is one with this id; `Invalid`: too long.
    fn put_session(&self, session: Session) -> Future<'_, ()>;

    /// Ends a session that is open; gives whether there was one. `by` is the node that carries it: where another does, nothing
    /// ends; `None`: whoever carries it.
    ///
    /// # Errors
    /// `Invalid`: too long.
    fn end_session(&self, id: String, end: SessionEnd, by: Option<NodeId>) -> Future<'_, bool>;

    /// One session, open or not.
    fn session(&self, id: String) -> Future<'_, Option<Session>>;

    /// From now on `to` carries a session, if it is open and `from` carries it; gives whether that was so.
    fn carry_session(&self, id: String, from: Option<NodeId>, to: NodeId) -> Future<'_, bool>;

    /// Sessions, the latest first.
    ///
    /// # Errors
    /// `Invalid`: the limit.
    fn sessions(&self, query: SessionQuery) -> Future<'_, Vec<Session>>;

    /// Where those that [`Store::sessions`] would give are in their order, also those of which nothing else can be read.
    ///
    /// # Errors
    /// `Invalid`: the limit.
    fn session_places(&self, query: SessionQuery) -> Future<'_, Vec<SessionPlace>>;

    /// Forgets sessions that have ended, the oldest first, a part at a time; gives how many.
    fn forget_sessions(&self, retention: SessionRetention) -> Future<'_, u64>;

    /// All detectors, ordered by id.
    fn detectors(&self) -> Future<'_, Vec<Detector>>;

    /// The detector of an account with its parts, ordered by kind and id.
    fn detector_of(&self, account: AccountId) -> Future<'_, Option<(Detector, Vec<DetectorPart>)>>;

    /// Adds a detector, or changes it and at most one part of it, if it is still as expected.
    ///
    /// # Errors
    /// `Conflict`: it is not as expected, is not there (any more), or the account has another; `Invalid`: too long.
    fn put_detector(&self, change: DetectorChange) -> Future<'_, ()>;

    /// Deletes a detector of an account with its parts and findings; gives whether there was one.
    fn delete_detector(&self, account: AccountId, id: String) -> Future<'_, bool>;

    /// The parts of all detectors, ordered by detector, kind and id.
    fn detector_parts(&self) -> Future<'_, Vec<DetectorPart>>;

    /// Adds findings, or replaces those with their ids: all or none.
    ///
    /// # Errors
    /// `Conflict`: there is no such detector; `Invalid`: too many, or too long.
    fn put_findings(&self, findings: Vec<Finding>) -> Future<'_, ()>;

    /// Findings of a detector, the latest first.
    ///
    /// # Errors
    /// `Invalid`: the limit.
    fn findings(&self, query: FindingQuery) -> Future<'_, Vec<Finding>>;

    /// Those of these findings that are the detector's, in the order asked.
    fn findings_by_id(&self, detector: String, ids: Vec<String>) -> Future<'_, Vec<Finding>>;

    /// Forgets findings, those first that were changed least lately, a part at a time; gives how many.
    fn forget_findings(&self, retention: FindingRetention) -> Future<'_, u64>;

    /// The agents that have sent telemetry, ordered by machine.
    fn agent_reports(&self) -> Future<'_, Vec<AgentReport>>;

    /// Sets which agents have sent telemetry, all or none. Machines that are not there are passed over.
    ///
    /// # Errors
    /// `Invalid`: too many, or too long.
    fn put_agent_reports(&self, reports: Vec<AgentReport>) -> Future<'_, ()>;

    /// The name that this opening of the store has among its nodes.
    fn node(&self) -> NodeId;

    /// Says that this node lives, and up to where its changes are settled. From the first beat on that has answered, what is
    /// changed through this opening is entered in the feed.
    ///
    /// # Errors
    /// `Invalid`: too long.
    fn beat(&self, beat: Beat) -> Future<'_, ()>;

    /// What this opening was answered so far; `None` where no other database can ever stand in the place of this one unnoticed.
    fn fence(&self) -> Option<Fence>;

    /// Whether the database has forgotten what it had answered to an earlier opening: more than the last beats, which a standby may
    /// lack that is promoted without the last commits. Of what was there before a restore nothing is asked.
    fn has_forgotten(&self, fence: Fence) -> Future<'_, bool>;

    /// What nodes have changed behind the positions of a reader; see [`crate::News`].
    fn news(&self, heard: Heard) -> Future<'_, News>;

    /// Whether [`Store::news`] tells a node also of changes of its own: of those that an error has left in doubt, once they have
    /// taken effect, however late.
    fn tells_of_doubtful(&self) -> bool {
        false
    }

    /// Forgets entries that were made before a moment, by the clocks of those who made them, and nodes that have not beaten
    /// since another and of which no entry is left; gives how many entries. Readers find out what they have missed by it.
    fn forget_news(&self, entries_before: UnixTime, nodes_before: UnixTime) -> Future<'_, u64>;

    /// Finishes what was begun and lets go of the files. Later verbs give `Closed`; a second `close` does nothing.
    fn close(&self) -> Future<'_, ()>;
}

/// The most instances that one [`Store::purge`] forgets, so that it does not hold up other writes for long.
pub const PURGE_MAX: u32 = 1000;
