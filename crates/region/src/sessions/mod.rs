//! Sessions: an operator at one end, an agent at the other, and in between bytes that are none of our business.
//!
//! A session begins with `StartSession` and is told to the agent over its control channel. Each side opens a data channel with
//! a token of its own, and may do so again when it was cut off; what one side sends is the other's, byte for byte
//! (`relay`). A session ends once, for one reason, and has somebody who waits for that (`supervise`): it is written down,
//! and both sides are told.

mod documents;
mod queue;
mod relay;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use inborn_credential::Claims;
use inborn_identity::{InstanceId, UnixTime};
use inborn_store::{
    Instance, InstanceState, NodeId, Session as Record, SessionEnd, SessionPlace, SessionQuery, SessionRetention,
    Store, StoreError,
};
use inborn_wire::message_gateway::payload::{self, INTERACTIVE_SHELL, InteractiveShell, SCHEMA};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::RegionServer;
use crate::channels::{Done, Grants, Openings, SendError};
use crate::fleet::Fleet;
use crate::machines::Observer;
use crate::unreadable::pass_over;
use queue::Queue;

pub(crate) use documents::{SHELL, SessionDocument};
pub(crate) use relay::{Joiner, relay};

/// Sessions that are open at a time.
pub(crate) const SESSIONS_MAX: usize = 1000;
/// How long a session may be without a byte from either side: as long as AWS's do without a setting.
pub(crate) const IDLE_SECONDS_MAX: u64 = 20 * 60;
/// How long a session may last.
pub(crate) const LIFE_SECONDS_MAX: u64 = 24 * 3600;
/// How long a session is remembered after its start: as long as AWS shows it.
const REMEMBERED_SECONDS: u64 = 30 * 24 * 3600;
/// Sessions that are remembered.
const REMEMBERED_MAX: u32 = 100_000;
/// How often each session is looked at for being idle or old.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long an agent has after its side has ended to say what the person should be told.
const LAST_WORD: Duration = Duration::from_secs(5);
/// How long the two sides of a session have to come back, once its server was found to be gone.
const RETURN_WITHIN: Duration = Duration::from_secs(30);
/// How long whoever ends a session waits until that is written down.
const WRITTEN_WITHIN: Duration = Duration::from_secs(3);
/// How long after an end could not be written down that is tried again: twice as long each time, from the first to the last.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(60)];
/// How long after the start of a session its agent is told of it again when it comes back. Whoever started it waits no longer.
const OPENING_SECONDS_MAX: u64 = 60;
/// Data channels that have not said yet with which token they were opened, of each side of all sessions.
const OPENING_MAX: usize = 256;

/// One of the two ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Agent,
    Client,
}

impl Side {
    /// As the audit has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Client => "client",
        }
    }
}

/// How a session ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct End {
    /// Whether it could not even begin.
    is_failure: bool,
    /// Why, for the record.
    details: String,
    /// What the person at the other end is told; empty for nothing.
    output: String,
    writing: Writing,
}

/// Who writes the end of a session down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Writing {
    /// This server, if it is the one that carries it.
    Carrier,
    /// This server, whichever one carries it.
    Anybody,
    /// Another server has done so.
    Done,
    /// Nobody: it goes on elsewhere, and only ends here.
    Never,
}

impl End {
    pub(crate) fn terminated(details: impl Into<String>, output: impl Into<String>) -> Self {
        let (details, output) = (details.into(), output.into());
        Self { is_failure: false, details, output, writing: Writing::Carrier }
    }

    /// An operator has said so. Another server may have taken it up without this one having noticed: it ends there, too.
    pub(crate) fn by_operator(details: impl Into<String>) -> Self {
        Self { writing: Writing::Anybody, ..Self::terminated(details, "") }
    }

    fn told() -> Self {
        let end = Self::terminated("It was ended at another server.", "The session was terminated.");
        Self { writing: Writing::Done, ..end }
    }

    /// It is carried by another server, or may be soon: its two sides come back there by themselves, and are told of no end.
    fn moved() -> Self {
        Self { writing: Writing::Never, ..Self::terminated("", "") }
    }

    /// Whether only this server has done with it.
    fn is_move(&self) -> bool {
        self.writing == Writing::Never
    }

    /// What let the agent in is no longer good.
    fn cut_off() -> Self {
        Self::terminated("The agent's session was cut off.", "The machine is no longer managed.")
    }

    fn failed(details: impl Into<String>) -> Self {
        Self { is_failure: true, ..Self::terminated(details, "") }
    }

    /// As `DescribeSessions` shows it.
    fn status(&self) -> &'static str {
        if self.is_failure { "Failed" } else { "Terminated" }
    }
}

/// A session that is open.
pub(crate) struct Session {
    pub(crate) record: Record,
    agent: Half,
    client: Half,
    /// When either side was heard last, in seconds since the epoch.
    heard_at: AtomicU64,
    end: watch::Sender<Option<End>>,
    /// Whether the agent has said that its side ends.
    is_ending: AtomicBool,
    /// What became of the end when it was written down last; `None` before.
    written: watch::Sender<Option<Result<(), StoreError>>>,
    /// What the agent is told of the session, until it asks for its data channel: then it knows.
    told: Mutex<Option<Vec<u8>>>,
}

/// What there is of each side.
struct Half {
    /// What is to go to it.
    queue: Queue,
    /// Counts its data channels: each takes the place of the one before. 0 before the first.
    channels: watch::Sender<u64>,
    /// The one that is open; 0 if none is.
    open: AtomicU64,
    /// What lets the agent's side in.
    claims: Mutex<Option<Arc<Claims>>>,
}

impl Half {
    fn new() -> Self {
        Self { queue: Queue::new(), channels: watch::Sender::new(0), open: AtomicU64::new(0), claims: Mutex::default() }
    }

    /// A data channel has ended. Another may have taken its place already.
    fn leave(&self, own: u64) {
        let _ = self.open.compare_exchange(own, 0, Ordering::SeqCst, Ordering::SeqCst);
    }
}

impl Session {
    fn new(record: Record, now: UnixTime) -> Arc<Self> {
        Arc::new(Self {
            record,
            agent: Half::new(),
            client: Half::new(),
            heard_at: AtomicU64::new(now.as_secs()),
            end: watch::Sender::new(None),
            is_ending: AtomicBool::new(false),
            written: watch::Sender::new(None),
            told: Mutex::default(),
        })
    }

    /// The agent knows of the session, or need not any more.
    pub(crate) fn agent_knows(&self) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// What the agent has to be told again: it may have lost it with the control channel over which it was told.
    fn untold(&self, now: UnixTime) -> Option<Vec<u8>> {
        let is_opening = now.since(self.record.started_at) < OPENING_SECONDS_MAX && !self.has_ended();
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone().filter(|_| is_opening)
    }

    fn side(&self, side: Side) -> &Half {
        match side {
            Side::Agent => &self.agent,
            Side::Client => &self.client,
        }
    }

    fn is_attached(&self, side: Side) -> bool {
        self.side(side).open.load(Ordering::SeqCst) != 0
    }

    /// As `DescribeSessions` shows it.
    pub(crate) fn status(&self) -> &'static str {
        let was_ever = *self.agent.channels.borrow() > 0;
        match (was_ever, self.is_attached(Side::Agent) && self.is_attached(Side::Client)) {
            _ if self.has_ended() => "Terminating",
            (_, true) => "Connected",
            (true, false) => "Disconnected",
            (false, false) => "Connecting",
        }
    }

    /// Whether something has ended the session. It is open until that is written down, and lets nobody in any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Ends the session, if nothing else has.
    pub(crate) fn close(&self, end: End) {
        self.end.send_if_modified(|ended| {
            let is_first = ended.is_none();
            if is_first {
                *ended = Some(end);
            }
            is_first
        });
    }

    /// Whether it is not carried here any more, and has not ended.
    pub(crate) fn has_moved(&self) -> bool {
        self.end.borrow().as_ref().is_some_and(End::is_move)
    }

    /// Waits until it is not carried here any more, if that comes first.
    async fn moved(&self) {
        if !self.ended().await.is_move() {
            core::future::pending::<()>().await;
        }
    }

    /// Waits until something ends the session.
    async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or_else(|| End::failed("")),
            Err(_) => End::failed(""),
        }
    }

    /// Waits until the end of the session is written down, but not for long.
    ///
    /// # Errors
    /// Why it is not written down yet. That is tried again.
    pub(crate) async fn over(&self) -> Result<(), StoreError> {
        let mut written = self.written.subscribe();
        let _ = tokio::time::timeout(WRITTEN_WITHIN, written.wait_for(|last| *last == Some(Ok(())))).await;
        self.written.borrow().clone().unwrap_or(Err(StoreError::Busy))
    }

    fn heard(&self, now: UnixTime) {
        self.heard_at.store(now.as_secs(), Ordering::Relaxed);
    }

    /// Ends the session if it is idle, or has lasted long enough.
    fn look(&self, now: UnixTime) {
        let heard_at = UnixTime::from_secs(self.heard_at.load(Ordering::Relaxed));
        if now.since(heard_at) >= IDLE_SECONDS_MAX {
            self.close(End::terminated("The session was idle.", "The session was idle for 20 minutes."));
        } else if now.since(self.record.started_at) >= LIFE_SECONDS_MAX {
            self.close(End::terminated("The session had lasted a day.", "A session lasts a day at most."));
        }
        if now.since(self.record.started_at) >= OPENING_SECONDS_MAX {
            self.agent_knows();
        }
    }
}

/// Why a session is not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The machine is not there, does not run, or its agent is not connected.
    #[error("the agent is not connected")]
    NotConnected,
    /// What the agent would have to be told is too long.
    #[error("the parameters are too long")]
    TooLong,
    /// As many are open as there may be.
    #[error("{SESSIONS_MAX} sessions are open")]
    TooMany,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The sessions that are open.
pub(crate) struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
    /// Grants of the two sides' data channels, by session.
    agents: Grants<String>,
    clients: Grants<String>,
    opening_agents: Openings<String>,
    opening_clients: Openings<String>,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            open: Mutex::default(),
            agents: Grants::default(),
            clients: Grants::default(),
            opening_agents: Openings::new(OPENING_MAX),
            opening_clients: Openings::new(OPENING_MAX),
        }
    }

    /// The grants of one side's data channels.
    pub(crate) fn grants(&self, side: Side) -> &Grants<String> {
        match side {
            Side::Agent => &self.agents,
            Side::Client => &self.clients,
        }
    }

    /// Places for one side's data channels, by session.
    fn openings(&self, side: Side) -> &Openings<String> {
        match side {
            Side::Agent => &self.opening_agents,
            Side::Client => &self.opening_clients,
        }
    }

    /// A session that is open and lets its two sides in.
    pub(crate) fn joinable(&self, id: &str) -> Option<Arc<Session>> {
        self.get(id).filter(|session| !session.has_ended())
    }

    /// A session that is open.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.sessions().get(id).cloned()
    }

    /// All that are open, the latest first.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        let mut all: Vec<_> = self.sessions().values().cloned().collect();
        all.sort_by(|a, b| (b.record.started_at, &a.record.id).cmp(&(a.record.started_at, &b.record.id)));
        all
    }

    /// Ends the sessions whose agents were let in by what is no longer good.
    pub(crate) fn keep(&self, is_good: impl Fn(&Claims) -> bool) {
        for session in self.sessions().values() {
            let claims = session.agent.claims.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if claims.is_some_and(|claims| !is_good(&claims)) {
                session.close(End::cut_off());
            }
        }
    }

    /// Another server says that a session has ended, whichever server carries it.
    pub(crate) fn ended_elsewhere(&self, id: &str) {
        if let Some(session) = self.get(id) {
            session.close(End::told());
        }
    }

    /// Ends what is idle or old.
    pub(crate) fn look(&self, now: UnixTime) {
        self.sessions().values().for_each(|session| session.look(now));
    }

    /// Opens a session; `false` if it is open.
    fn enter(&self, session: &Arc<Session>) -> Result<bool, StartError> {
        let mut open = self.sessions();
        if open.contains_key(&session.record.id) {
            return Ok(false);
        }
        if open.len() >= SESSIONS_MAX {
            return Err(StartError::TooMany);
        }
        open.insert(session.record.id.clone(), Arc::clone(session));
        Ok(true)
    }

    /// Whether one more may be open.
    fn has_room(&self) -> bool {
        self.sessions().len() < SESSIONS_MAX
    }

    /// This server carries no session any more: others may, without its hearing of that. Gives whether there were any.
    pub(crate) fn leave_all(&self) -> bool {
        let open = self.all();
        open.iter().for_each(|session| session.close(End::moved()));
        !open.is_empty()
    }

    /// Forgets a session that has ended. One of the same name may have taken its place.
    fn remove(&self, session: &Arc<Session>) {
        let mut open = self.sessions();
        if open.get(&session.record.id).is_some_and(|there| Arc::ptr_eq(there, session)) {
            open.remove(&session.record.id);
        }
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sessions of a machine end with its boot.
impl Observer for Sessions {
    fn changed(&self, instance: &Arc<Instance>) {
        let is_over = |at: UnixTime| instance.state != InstanceState::Running || at < instance.launch_time;
        for session in self.sessions().values() {
            if session.record.instance == instance.id && is_over(session.record.started_at) {
                session.close(End::terminated("The machine was stopped.", "The machine was stopped."));
            }
        }
    }
}

/// A session to start.
pub(crate) struct NewSession<'a> {
    pub(crate) record: Record,
    pub(crate) document: &'a SessionDocument,
    pub(crate) parameters: Map<String, Value>,
}

/// Starts a session: it is written down, and the agent is told.
pub(crate) async fn start(region: &Arc<RegionServer>, new: NewSession<'_>) -> Result<Arc<Session>, StartError> {
    let NewSession { record, document, parameters } = new;
    let (instance, now) = (record.instance, record.started_at);
    let runs = region.machines().packed(instance).is_some_and(|machine| machine.is_running());
    if !runs || !region.channels().is_connected(instance) {
        return Err(StartError::NotConnected);
    }
    let content = json!({
        "DocumentName": record.document_name,
        "DocumentContent": document.content(),
        "SessionId": record.id,
        "Parameters": parameters,
        "RunAsUser": "",
        "SessionOwner": record.owner,
    });
    let content = content.to_string();
    let session = Session::new(record, now);
    region.sessions().enter(&session)?;
    if let Err(error) = region.store().put_session(session.record.clone()).await {
        region.sessions().remove(&session);
        return Err(error.into());
    }
    tokio::spawn(supervise(Arc::clone(region), Arc::clone(&session)));
    let task_id = session.record.id.as_str();
    let shell = InteractiveShell { schema_version: SCHEMA, task_id, topic: "aws.ssm.startSession", content: &content };
    let shell = payload::encode(&shell);
    *session.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(shell.clone());
    match region.tell_agent(instance, INTERACTIVE_SHELL, &shell) {
        Ok(_) => Ok(session),
        Err(error) => {
            session.close(End::failed(error.to_string()));
            let _ = session.over().await;
            Err(if error == SendError::TooLong { StartError::TooLong } else { StartError::NotConnected })
        }
    }
}

/// An agent has its control channel open: it is told again of the sessions that it does not know of.
pub(crate) fn arrived(region: &Arc<RegionServer>, instance: InstanceId) -> Done<'_> {
    Box::pin(async move {
        let now = region.now();
        for session in region.sessions().all().into_iter().filter(|session| session.record.instance == instance) {
            let Some(shell) = session.untold(now) else { continue };
            if let Err(error) = region.tell_agent(instance, INTERACTIVE_SHELL, &shell) {
                tracing::debug!(session = %session.record.id, %error, "an agent that has come is not told of a session");
            }
        }
    })
}

/// Takes up the sessions that were open when the region stopped: their two sides come back by themselves, or they are idle. In a fleet
/// they are taken up one by one: see [`claim`].
pub(crate) async fn take_up(region: &Arc<RegionServer>) -> Result<(), StoreError> {
    if region.fleet().is_some() {
        return Ok(());
    }
    let mut query = all_open();
    while let Some(page) = page_of_open(region, &mut query).await? {
        for record in page {
            // More than are allowed were never opened.
            if !carry_on(region, record) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn all_open() -> SessionQuery {
    SessionQuery { account: None, has_ended: false, after: None, limit: SessionQuery::LIMIT_MAX }
}

/// The next page of the sessions that are open, if there is one. One that cannot be read keeps none of the others: nobody is let into it.
async fn page_of_open(region: &RegionServer, query: &mut SessionQuery) -> Result<Option<Vec<Record>>, StoreError> {
    let store = region.store();
    let (page, last) = match store.sessions(query.clone()).await {
        Err(StoreError::Corrupt(_)) => {
            let places = store.session_places(query.clone()).await?;
            let mut page = Vec::new();
            for SessionPlace { id, .. } in &places {
                let found = pass_over("a session", id, store.session(id.clone()).await)?.flatten();
                page.extend(found.filter(|record| record.end.is_none()));
            }
            (page, places.into_iter().next_back())
        }
        page => {
            let page = page?;
            let place = |last: &Record| SessionPlace { started_at: last.started_at, id: last.id.clone() };
            let last = page.last().map(place);
            (page, last)
        }
    };
    let Some(last) = last else { return Ok(None) };
    query.after = Some(last);
    Ok(Some(page))
}

/// Carries a session that was carried before; `false` if that would be too many.
fn carry_on(region: &Arc<RegionServer>, record: Record) -> bool {
    let session = Session::new(record, region.now());
    match region.sessions().enter(&session) {
        Ok(true) => {}
        // Two calls at once.
        Ok(false) => return true,
        Err(_) => return false,
    }
    if let Some(machine) = region.machines().get(session.record.instance) {
        region.sessions().changed(&machine);
    } else {
        session.close(End::terminated("The machine was terminated.", ""));
    }
    tokio::spawn(supervise(Arc::clone(region), session));
    true
}

/// Takes up a session whose server has gone, or one that this server carries by the store's word alone; `false` if another server has come
/// first, as many are open as may be, or this server has not heard who is there. Done to its end, though whoever asks goes away.
pub(crate) async fn claim(region: &Arc<RegionServer>, record: Record) -> Result<bool, StoreError> {
    let own = region.store().node();
    if region.is_stale() || !region.fleet().is_some_and(Fleet::beats) || !region.sessions().has_room() {
        return Ok(false);
    }
    let region = Arc::clone(region);
    let claiming = async move {
        let id = record.id.clone();
        match region.store().carry_session(id, record.carrier, own).await {
            Ok(true) => {
                tracing::info!(session = %record.id, "a session whose server has gone is carried here");
                Ok(carry_on(&region, Record { carrier: Some(own), ..record }))
            }
            Ok(false) => Ok(false),
            Err(error) => {
                // It may be this server's by now. Who comes back takes it up; what nobody comes back to is looked for.
                if let (StoreError::Io(_), Some(fleet)) = (&error, region.fleet()) {
                    fleet.lose();
                }
                Err(error)
            }
        }
    };
    tokio::spawn(claiming).await.unwrap_or(Err(StoreError::Closed))
}

/// Others carry these sessions now, or did for a moment: those of them that are open here, and are another's, go on there. So is one taken
/// whose record cannot be read: no session is carried by two, and both its sides are let go.
pub(crate) async fn hear_carried(region: &RegionServer, ids: &[&str]) -> Result<(), StoreError> {
    for session in ids.iter().filter_map(|id| region.sessions().get(id)) {
        let id = &session.record.id;
        match pass_over("a session", id, region.store().session(id.clone()).await)? {
            Some(found) => leave_if_moved(region, &session, found.as_ref()),
            None => session.close(End::moved()),
        }
    }
    Ok(())
}

/// Looks at every session that is open here, since it is not known what others have taken up.
pub(crate) async fn hear_all_carried(region: &RegionServer) -> Result<(), StoreError> {
    if region.fleet().is_none() || region.sessions().all().is_empty() {
        return Ok(());
    }
    let (mut query, mut seen) = (all_open(), HashSet::new());
    while let Some(page) = page_of_open(region, &mut query).await? {
        for record in page {
            if let Some(session) = region.sessions().get(&record.id) {
                leave_if_moved(region, &session, Some(&record));
            }
            seen.insert(record.id);
        }
    }
    // What could not be read, too, is open here.
    let open = region.sessions().all();
    let unseen = open.iter().map(|session| session.record.id.as_str()).filter(|id| !seen.contains(*id));
    hear_carried(region, &unseen.collect::<Vec<_>>()).await
}

fn leave_if_moved(region: &RegionServer, session: &Session, found: Option<&Record>) {
    let carrier = found.filter(|record| record.end.is_none()).and_then(|record| record.carrier);
    if carrier.is_some_and(|carrier| carrier != region.store().node()) {
        tracing::info!(session = %session.record.id, "a session that was carried here is carried by another server");
        session.close(End::moved());
    }
}

/// A server has gone. Its sessions are carried on where one of their sides comes back; those of which none does end, by whichever server
/// is first.
pub(crate) async fn end_those_left(region: Weak<RegionServer>) {
    let [mut pause, longest] = AGAIN_AFTER;
    let mut released = HashSet::new();
    tokio::time::sleep(RETURN_WITHIN).await;
    while let Some(region) = region.upgrade() {
        let next = match end_left(&region, &released).await {
            Err(StoreError::Closed) => return,
            // Those were left to others a moment ago, it may be.
            Ok(found) if !found.is_subset(&released) => {
                released = found;
                RETURN_WITHIN
            }
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "the sessions of a server that has gone are not ended yet");
                pause = longest.min(pause * 2);
                pause
            }
        };
        drop(region);
        tokio::time::sleep(next).await;
    }
}

/// Ends the sessions that were left for long enough: by a server that has gone, or (those of `released`) by one that has ended, or by this
/// one. Gives those that the latter have left.
async fn end_left(region: &Arc<RegionServer>, released: &HashSet<String>) -> Result<HashSet<String>, StoreError> {
    let (Some(fleet), own, mut query) = (region.fleet(), region.store().node(), all_open()) else {
        return Ok(HashSet::new());
    };
    if region.is_stale() {
        return Err(StoreError::Unavailable("this server has not heard who is there".to_owned()));
    }
    let mut found = HashSet::new();
    while let Some(page) = page_of_open(region, &mut query).await? {
        for record in page {
            let id = record.id.clone();
            let is_left = match record.carrier {
                Some(NodeId::NOBODY) => !found.insert(id.clone()) || released.contains(&id),
                // Its claim was lost, or this server could not beat for a while.
                Some(carrier) if carrier == own => {
                    region.sessions().get(&id).is_none() && (!found.insert(id.clone()) || released.contains(&id))
                }
                Some(carrier) => fleet.is_gone_for(carrier, RETURN_WITHIN),
                // A program of before may carry it, as long as any session lasts.
                None => region.now().since(record.started_at) >= LIFE_SECONDS_MAX,
            };
            if is_left
                && claim(region, record).await?
                && let Some(session) = region.sessions().get(&id)
            {
                session.close(End::terminated("The server that carried it has gone, and neither side came back.", ""));
            }
        }
    }
    Ok(found)
}

/// This server ends: whichever server one of the two sides comes to takes the session up.
pub(crate) async fn release(region: &RegionServer) {
    let own = region.store().node();
    let open = region.sessions().all().into_iter().filter(|session| !session.has_ended());
    let released = open.map(|session| {
        let id = session.record.id.clone();
        region.store().carry_session(id, Some(own), NodeId::NOBODY)
    });
    for outcome in futures_util::future::join_all(released).await {
        if let Err(error) = outcome {
            tracing::warn!(%error, "a session is not left to other servers: it ends");
        }
    }
}

/// Waits for the end of a session and writes it down, however often that takes: what is not written down is open again after a
/// restart.
async fn supervise(region: Arc<RegionServer>, session: Arc<Session>) {
    let end = loop {
        match tokio::time::timeout(LOOK_EVERY, session.ended()).await {
            Ok(end) => break end,
            Err(_) => session.look(region.now()),
        }
    };
    let (id, now) = (session.record.id.clone(), region.now());
    if matches!(end.writing, Writing::Done | Writing::Never) {
        region.sessions().remove(&session);
        session.written.send_replace(Some(Ok(())));
        return;
    }
    let written = SessionEnd { at: now, status: end.status().to_owned(), details: end.details.clone() };
    region.record_end_of_session(&session.record, end.status(), &end.details, now);
    let [mut pause, longest] = AGAIN_AFTER;
    // In a fleet another server may have taken it up meanwhile. One that is alone has no other name for itself than the last time.
    let by = region.fleet().filter(|_| end.writing == Writing::Carrier).map(|_| region.store().node());
    while let Err(error) = region.store().end_session(id.clone(), written.clone(), by).await {
        tracing::error!(session = %id, %error, "the end of a session is not written down yet");
        session.written.send_replace(Some(Err(error)));
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
    region.sessions().remove(&session);
    session.written.send_replace(Some(Ok(())));
}

/// The agent has ended a session, and says what the person should be told.
pub(crate) fn completed(region: &RegionServer, instance: InstanceId, id: &str, output: &str) {
    if let Some(session) = region.sessions().get(id).filter(|session| session.record.instance == instance) {
        let output: String = output.chars().take(1024).collect();
        session.close(End::terminated("The agent ended the session.", output));
    }
}

/// Forgets the sessions of long ago.
pub(crate) async fn tidy(store: &dyn Store, now: UnixTime) -> Result<(), StoreError> {
    let retention = SessionRetention { started_since: now.minus(REMEMBERED_SECONDS), sessions_max: REMEMBERED_MAX };
    while store.forget_sessions(retention).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests;
