//! The task that owns the commands of which something may still become.
//!
//! Several servers may own the same ones. Each writes what it makes of what it hears, if the store still has what that was made of;
//! else it reads what others have made of it, and thinks again. Only who reaches a machine sends to it.

mod reading;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use inborn_identity::{InstanceId, UnixTime};
use inborn_store::{CommandChange, CommandOutcome, InstanceQuery, InstanceState, SentCommand, Store, StoreError};
use inborn_wire::message_gateway::payload::AGENT_JOB;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::invocation::Event;
use super::message::Job;
use super::open::{ClaimsLeft, Draft, Due, OpenCommand};
use super::over::Over;
use super::told::Told;
use super::waits::Waits;
use super::{Load, RUNNING_OUTPUT_BYTES_MAX};
use crate::RegionServer;
use crate::gateway::new_uuid;

/// How often time is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Most things that are taken in one turn, and so in one commit.
const INPUTS_PER_TURN_MAX: usize = 256;
/// Most machines to which commands are written down as sent in one turn, and most of which it is asked whether they are to be sent
/// again: agents must not wait long to be heard.
const CLAIMS_PER_TURN_MAX: usize = 256;
/// Most messages in the answer to one poll.
const MESSAGES_PER_POLL_MAX: usize = 4;
/// Most commands of which all is read again in one turn because their claims were refused.
const WHOLE_READS_PER_TURN_MAX: usize = 4;
/// How often a turn is thought through, where others change the same.
const ATTEMPTS_MAX: usize = 4;

/// What the engine is told.
pub(super) enum Input {
    /// A command was stored.
    Opened(Box<SentCommand>),
    /// A command is to be ended on these machines, or on all.
    Cancel { command: String, instances: Vec<InstanceId>, done: Done },
    /// Something has happened to a command on a machine.
    Event { command: String, instance: InstanceId, event: Event, done: Done },
    /// A machine has opened its control channel.
    Arrived(InstanceId),
    /// A machine asks for messages.
    Poll { instance: InstanceId, answer: oneshot::Sender<Vec<Job>> },
    /// There is something in what others have told.
    Told,
}

/// Who waits until it is stored.
type Done = oneshot::Sender<Result<(), StoreError>>;
/// The commands of which something could not be stored, and why.
type Failed = BTreeMap<String, StoreError>;
/// The commands that are looked through for what is to be sent, in their order: to this machine, or to any.
type Looked = BTreeMap<(u64, Option<InstanceId>), String>;
/// The machines to which commands may be sent now, as the store has answered.
type Claimed = BTreeMap<String, BTreeSet<InstanceId>>;
/// The machines on which the store did not take what a turn makes of commands, by command.
type Refused = BTreeMap<String, Vec<InstanceId>>;

/// The commands of which something may still become, and the machines that wait for messages.
pub(crate) struct Engine {
    inputs: mpsc::Receiver<Input>,
    load: Arc<Load>,
    commands: HashMap<String, OpenCommand>,
    /// The same, by machine, each with its serial: what was sent first comes first.
    by_instance: HashMap<InstanceId, BTreeMap<u64, String>>,
    serial: u64,
    polls: HashMap<InstanceId, oneshot::Sender<Vec<Job>>>,
    /// Commands of which a write failed that may have taken effect: nothing becomes of them until they are read again.
    in_doubt: Failed,
    /// What others have told, shared with who hears them.
    told: Arc<Mutex<Told>>,
    /// What is to be read again.
    to_read: Told,
    /// What could not be read again, until it is tried again.
    waits: Waits,
    /// Commands of which nothing becomes any more.
    over: Over,
}

/// What somebody wants, or has said, of a command.
enum What {
    Cancel(Vec<InstanceId>),
    Event(InstanceId, Event),
}

struct Act {
    command: String,
    what: What,
    done: Done,
}

/// What one turn is about.
#[derive(Default)]
struct Turn {
    acts: Vec<Act>,
    /// Commands to which something has happened.
    touched: BTreeSet<String>,
    /// Machines that have come to fetch something.
    arrived: BTreeSet<InstanceId>,
    /// If time is looked at: the machines that are gone.
    gone: Option<BTreeSet<InstanceId>>,
}

impl Engine {
    pub(super) fn new(
        inputs: mpsc::Receiver<Input>,
        open: Vec<SentCommand>,
        load: Arc<Load>,
        told: Arc<Mutex<Told>>,
    ) -> Self {
        let (commands, by_instance, polls) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (in_doubt, to_read, waits, over) = (Failed::new(), Told::default(), Waits::default(), Over::new());
        let serial = 0;
        let mut engine =
            Self { inputs, load, commands, by_instance, serial, polls, in_doubt, told, to_read, waits, over };
        open.into_iter().for_each(|sent| engine.open(sent, true));
        engine
    }

    /// Starts the task. It ends with the region.
    pub(crate) fn start(self, region: &Arc<RegionServer>) {
        tokio::spawn(self.run(Arc::downgrade(region)));
    }

    async fn run(mut self, region: Weak<RegionServer>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // In this order: a simulation is to go the same way each time, and who tells much must not stop the time.
            let first = tokio::select! {
                biased;
                _ = ticks.tick() => None,
                input = self.inputs.recv() => match input {
                    Some(input) => Some(input),
                    None => return,
                },
            };
            let Some(region) = region.upgrade() else { return };
            let is_tick = first.is_none();
            let mut inputs = Vec::from_iter(first);
            while inputs.len() < INPUTS_PER_TURN_MAX
                && let Ok(next) = self.inputs.try_recv()
            {
                inputs.push(next);
            }
            self.turn(&region, inputs, is_tick).await;
        }
    }

    /// One turn: what has happened, what becomes of it, what is sent.
    async fn turn(&mut self, region: &RegionServer, inputs: Vec<Input>, is_tick: bool) {
        let now = region.now();
        let store: &dyn Store = &**region.store();
        let is_alone = region.fleet().is_none();
        let mut turn = Turn::default();
        for input in inputs {
            self.take(input, &mut turn, now);
        }
        self.over.pass_time(now);
        self.read_again(store, now).await;
        let mut unread = Failed::new();
        if !is_alone {
            turn.touched.extend(self.read_told(store, now).await);
            unread = self.read_unknown(store, &turn).await;
        }
        if is_tick {
            turn.gone = Some(self.gone(region, is_alone).await);
            self.polls.retain(|_, answer| !answer.is_closed());
        }
        let mut failed = self.settle(store, &turn, now).await;
        failed.extend(unread);
        let Turn { acts, mut touched, arrived, .. } = turn;
        for Act { command, done, .. } in acts {
            // Who has gone away does not need to know.
            let _ = done.send(failed.get(&command).cloned().map_or(Ok(()), Err));
            touched.insert(command);
        }
        if let Some((command, error)) = failed.first_key_value() {
            let count = failed.len();
            tracing::error!(%command, count, %error, "what became of commands cannot be stored: agents will tell it again");
        }
        if is_tick {
            touched.extend(self.commands.keys().cloned());
        }
        let mut looked = self.looked(touched, &arrived);
        // Nothing is sent of what the store may know better.
        looked.retain(|_, id| !failed.contains_key(id));
        let claimed = if is_alone { None } else { Some(self.claim(region, &looked, now).await) };
        self.send(region, &looked, claimed.as_ref(), now);
    }

    /// The bytes that there is memory for of what machines tell of commands that are not over there.
    fn room(&self) -> usize {
        RUNNING_OUTPUT_BYTES_MAX.saturating_sub(self.commands.values().map(OpenCommand::held).sum())
    }

    fn take(&mut self, input: Input, turn: &mut Turn, now: UnixTime) {
        match input {
            Input::Opened(sent) => {
                turn.touched.insert(sent.command.id.clone());
                self.open(*sent, false);
            }
            Input::Cancel { command, instances, done } => {
                turn.acts.push(Act { command, what: What::Cancel(instances), done });
            }
            Input::Event { command, instance, event, done } => {
                turn.acts.push(Act { command, what: What::Event(instance, event), done });
            }
            Input::Arrived(instance) => {
                for id in self.by_instance.get(&instance).into_iter().flat_map(BTreeMap::values) {
                    if let Some(command) = self.commands.get_mut(id) {
                        command.forget_sent(instance, now);
                    }
                }
                turn.arrived.insert(instance);
            }
            Input::Poll { instance, answer } => {
                self.polls.insert(instance, answer);
                turn.arrived.insert(instance);
            }
            // It is taken in each turn.
            Input::Told => {}
        }
    }

    fn open(&mut self, sent: SentCommand, is_restored: bool) {
        let id = sent.command.id.clone();
        // Others may have told of it before who has sent it did.
        if self.commands.contains_key(&id) {
            return;
        }
        self.serial += 1;
        let command = OpenCommand::new(sent, self.serial, is_restored);
        for instance in command.open_instances() {
            self.by_instance.entry(instance).or_default().insert(command.serial, id.clone());
        }
        self.commands.insert(id, command);
    }

    /// What a turn makes of all commands, or of these.
    fn drafts(&self, turn: &Turn, only: Option<&BTreeSet<String>>, now: UnixTime) -> BTreeMap<String, Draft> {
        let is_asked = |id: &String| only.is_none_or(|only| only.contains(id));
        let mut drafts: BTreeMap<String, Draft> = BTreeMap::new();
        let mut room = self.room();
        for Act { command: id, what, .. } in turn.acts.iter().filter(|act| is_asked(&act.command)) {
            let Some(command) = self.commands.get(id) else { continue };
            let draft = drafts.entry(id.clone()).or_default();
            match what {
                What::Cancel(instances) => command.cancel(draft, instances, now),
                What::Event(instance, event) => {
                    room = command.report(draft, *instance, event.clone(), room, now);
                }
            }
        }
        if let Some(gone) = &turn.gone {
            for (id, command) in self.commands.iter().filter(|(id, _)| is_asked(id)) {
                command.pass_time(drafts.entry(id.clone()).or_default(), now, |instance| gone.contains(&instance));
            }
        }
        drafts
    }

    /// Stores what a turn makes of commands. Where others were first it is made anew of what they have made.
    async fn settle(&mut self, store: &dyn Store, turn: &Turn, now: UnixTime) -> Failed {
        let mut failed = Failed::new();
        let mut refused: Option<BTreeSet<String>> = None;
        for _ in 0..ATTEMPTS_MAX {
            let drafts = self.drafts(turn, refused.as_ref(), now);
            let (errors, again) = self.store(store, drafts, now).await;
            let again: BTreeSet<String> = again.into_keys().collect();
            failed.extend(errors);
            if again.is_empty() {
                return failed;
            }
            self.read_told(store, now).await;
            // Of what could not be read the same would be made again.
            let (unread, again) = again.into_iter().partition(|id| self.to_read.commands.contains_key(id));
            let unread: BTreeSet<String> = unread;
            failed.extend(unread.into_iter().map(|id| (id, StoreError::Busy)));
            refused = Some(again);
        }
        failed.extend(refused.into_iter().flatten().map(|id| (id, StoreError::Busy)));
        failed
    }

    /// Stores what has changed, then takes it over: all in one commit, unless something cannot be stored at all. Gives what failed,
    /// and what others had changed in between.
    async fn store(
        &mut self,
        store: &dyn Store,
        mut drafts: BTreeMap<String, Draft>,
        now: UnixTime,
    ) -> (Failed, Refused) {
        let mut failed = Failed::new();
        let mut changed = Vec::new();
        for (id, draft) in &mut drafts {
            let Some(command) = self.commands.get(id) else { continue };
            if let Some(error) = self.in_doubt.get(id) {
                failed.insert(id.clone(), error.clone());
                continue;
            }
            command.complete(draft, now);
            if !command.is_unchanged(draft) {
                changed.push(id.clone());
            }
        }
        let mut outcomes = Vec::new();
        match self.write(store, &drafts, &changed).await {
            Ok(told) => outcomes = told,
            Err(StoreError::Invalid(_)) => {
                // One machine must not keep what others tell from being stored.
                for id in changed {
                    match self.write(store, &drafts, core::slice::from_ref(&id)).await {
                        Ok(told) => outcomes.extend(told),
                        Err(error) => _ = failed.insert(id, error),
                    }
                }
            }
            Err(error) => failed.extend(changed.into_iter().map(|id| (id, error.clone()))),
        }
        let mut refused = Refused::new();
        for (id, outcome) in outcomes {
            let (Some(command), Some(draft)) = (self.commands.get_mut(&id), drafts.remove(&id)) else { continue };
            command.commit(draft, &outcome);
            if !outcome.refused.is_empty() {
                self.to_read.add(&id, &outcome.refused);
                refused.insert(id.clone(), outcome.refused);
            }
            if outcome.progress.is_none_or(|progress| progress.state.is_terminal()) {
                self.close(&id);
            }
        }
        let in_doubt = failed.iter().filter(|(_, error)| matches!(error, StoreError::Io(_) | StoreError::Closed));
        self.in_doubt.extend(in_doubt.map(|(id, error)| (id.clone(), error.clone())));
        self.read_again(store, now).await;
        (failed, refused)
    }

    /// Writes what drafts make of these commands, in one commit.
    async fn write(
        &self,
        store: &dyn Store,
        drafts: &BTreeMap<String, Draft>,
        changed: &[String],
    ) -> Result<Vec<(String, CommandOutcome)>, StoreError> {
        let change = |id: &String| Some(self.commands.get(id)?.change(drafts.get(id)?));
        let changes: Vec<CommandChange> = changed.iter().filter_map(change).collect();
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = changes.iter().map(|change| change.command.clone()).collect();
        Ok(ids.into_iter().zip(store.change_commands(changes).await?).collect())
    }

    /// The machines that are gone for good. One that is not known here may have been launched by another server a moment ago: the
    /// store says.
    async fn gone(&self, region: &RegionServer, is_alone: bool) -> BTreeSet<InstanceId> {
        let missing = self.by_instance.keys().filter(|instance| !region.machines().contains(**instance));
        let mut missing: BTreeSet<InstanceId> = missing.copied().collect();
        if is_alone {
            return missing;
        }
        let asked: Vec<InstanceId> = missing.iter().copied().collect();
        for ids in asked.chunks(InstanceQuery::LIMIT_MAX as usize) {
            match region.store().instances_by_id(ids.to_vec()).await {
                Ok(found) => {
                    let there = found.into_iter().filter(|found| found.state != InstanceState::Terminated);
                    there.for_each(|found| _ = missing.remove(&found.id));
                }
                Err(_) => ids.iter().for_each(|id| _ = missing.remove(id)),
            }
        }
        missing
    }

    fn close(&mut self, id: &str) {
        self.over.add(id);
        let Some(command) = self.commands.remove(id) else { return };
        self.load.release(id);
        for instance in command.instances() {
            if let Some(ids) = self.by_instance.get_mut(&instance) {
                ids.remove(&command.serial);
                if ids.is_empty() {
                    self.by_instance.remove(&instance);
                }
            }
        }
    }

    /// What is looked through: the commands to which something has happened, and those for the machines that have come.
    fn looked(&self, touched: BTreeSet<String>, arrived: &BTreeSet<InstanceId>) -> Looked {
        let mut looked = Looked::new();
        for id in touched {
            if let Some(command) = self.commands.get(&id) {
                looked.insert((command.serial, None), id);
            }
        }
        for instance in arrived {
            let ids = self.by_instance.get(instance).into_iter().flatten();
            looked.extend(ids.map(|(serial, id)| ((*serial, Some(*instance)), id.clone())));
        }
        looked
    }

    /// One of several servers writes down what it is about to send before it does: the others count it, and do not say that it was
    /// never sent. What was written down and not sent goes to the machine from wherever it is reached; whether it is to be sent
    /// still, the store says as well. Gives what may be sent.
    async fn claim(&mut self, region: &RegionServer, looked: &Looked, now: UnixTime) -> Claimed {
        let mail = Mail { region, polls: &self.polls, letters: BTreeMap::new() };
        let drafts = self.claims(looked, |instance| mail.reaches(instance), now);
        self.store_claims(&**region.store(), drafts, now).await
    }

    async fn store_claims(&mut self, store: &dyn Store, drafts: BTreeMap<String, Draft>, now: UnixTime) -> Claimed {
        let (mut claimed, mut all_refused) = (Claimed::new(), Refused::new());
        for (id, draft) in drafts {
            let mut taken: BTreeSet<InstanceId> = draft.instances().collect();
            // Each for itself: one that others change all the time holds up no other.
            let (failed, refused) = self.store(store, BTreeMap::from([(id.clone(), draft)]), now).await;
            if let Some((command, error)) = failed.first_key_value() {
                tracing::warn!(%command, %error, "commands wait to be sent: it cannot be written down");
                if !matches!(error, StoreError::Invalid(_)) {
                    break;
                }
                continue;
            }
            refused.values().flatten().for_each(|instance| _ = taken.remove(instance));
            claimed.insert(id, taken);
            all_refused.extend(refused);
        }
        if all_refused.is_empty() {
            return claimed;
        }
        self.read_told(store, now).await;
        // Where the machines are as they were known to be, it is others that stand in their way.
        let mut whole = Vec::new();
        for (id, machines) in all_refused {
            let command = self.commands.get_mut(&id).filter(|_| whole.len() < WHOLE_READS_PER_TURN_MAX);
            if command.is_some_and(|command| command.wants_whole_read(&machines, now)) {
                whole.push(id);
            }
        }
        if !whole.is_empty() {
            whole.iter().for_each(|id| self.to_read.add(id, &[]));
            self.read_told(store, now).await;
        }
        claimed
    }

    /// What is to be written down as sent, by command: no more than is taken in one turn. The rest is looked at with the time.
    fn claims(&self, looked: &Looked, reached: impl Fn(InstanceId) -> bool, now: UnixTime) -> BTreeMap<String, Draft> {
        let mut drafts: BTreeMap<String, Draft> = BTreeMap::new();
        let mut left = ClaimsLeft { new: CLAIMS_PER_TURN_MAX, again: CLAIMS_PER_TURN_MAX };
        for ((_, only), id) in looked {
            // Of what could not be read again the store would refuse the same.
            let command = self.commands.get(id).filter(|_| !self.to_read.commands.contains_key(id));
            if let Some(command) = command {
                command.claim(drafts.entry(id.clone()).or_default(), &reached, *only, &mut left, now);
            }
        }
        drafts
    }

    /// Sends what is due: of several servers each what it may, as the store has answered.
    fn send(&mut self, region: &RegionServer, looked: &Looked, claimed: Option<&Claimed>, now: UnixTime) {
        let mut mail = Mail { region, polls: &self.polls, letters: BTreeMap::new() };
        for ((_, only), id) in looked {
            if self.in_doubt.contains_key(id) {
                continue;
            }
            if let Some(command) = self.commands.get_mut(id) {
                let may_be_sent = |instance| {
                    claimed.is_none_or(|claimed| claimed.get(id).is_some_and(|taken| taken.contains(&instance)))
                };
                send_command(command, *only, may_be_sent, &mut mail, now);
            }
        }
        for (instance, jobs) in mail.letters {
            if let Some(answer) = self.polls.remove(&instance) {
                // Whoever has gone away asks again, and is told again.
                let _ = answer.send(jobs);
            }
        }
    }
}

/// The ways to machines: over their control channels, or with the answer to a poll.
struct Mail<'a> {
    region: &'a RegionServer,
    polls: &'a HashMap<InstanceId, oneshot::Sender<Vec<Job>>>,
    /// What goes with the answers to polls.
    letters: BTreeMap<InstanceId, Vec<Job>>,
}

impl Mail<'_> {
    /// Whether there is a way to a machine.
    fn reaches(&self, instance: InstanceId) -> bool {
        let has_room = || self.letters.get(&instance).is_none_or(|jobs| jobs.len() < MESSAGES_PER_POLL_MAX);
        let waits = || self.polls.get(&instance).is_some_and(|answer| !answer.is_closed());
        self.region.channels().is_connected(instance) || (waits() && has_room())
    }

    /// Sends a job on its way; whether there is one.
    fn post(&mut self, instance: InstanceId, job: Job) -> bool {
        if self.region.channels().is_connected(instance) {
            return match self.region.tell_agent(instance, AGENT_JOB, &job.payload()) {
                Ok(_) => true,
                Err(error) => {
                    tracing::debug!(%instance, %error, "a job has to wait");
                    false
                }
            };
        }
        self.letters.entry(instance).or_default().push(job);
        true
    }
}

/// Sends what is due of a command: to this machine, or to all. To be ended a machine may always be told.
fn send_command(
    command: &mut OpenCommand,
    only: Option<InstanceId>,
    may_be_sent: impl Fn(InstanceId) -> bool,
    mail: &mut Mail<'_>,
    now: UnixTime,
) {
    let mut room = command.room();
    for (instance, due) in command.due(only, now) {
        let takes_room = due == Due::Command && command.takes_room(instance);
        let is_unclaimed = due == Due::Command && !may_be_sent(instance);
        if is_unclaimed || (takes_room && room == 0) || !mail.reaches(instance) {
            continue;
        }
        let job = match due {
            Due::Command => Job::run(&command.command, &command.document, instance),
            Due::Cancellation => Job::cancel(&command.command.id, instance, &new_uuid().to_string()),
        };
        if mail.post(instance, job) {
            command.note_sent(instance, due, now);
            room -= usize::from(takes_room);
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
