//! The task that owns the commands of which something may still become.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use inborn_identity::{InstanceId, UnixTime};
use inborn_store::{Command, CommandChange, CommandPlace, CommandQuery, Invocation, SentCommand, Store, StoreError};
use inborn_wire::message_gateway::payload::AGENT_JOB;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::invocation::{Event, without_old_steps};
use super::message::Job;
use super::open::{Draft, Due, OpenCommand};
use super::{Load, RUNNING_OUTPUT_BYTES_MAX};
use crate::RegionServer;
use crate::gateway::new_uuid;

/// How often time is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Most things that are taken in one turn, and so in one commit.
const INPUTS_PER_TURN_MAX: usize = 256;
/// Most messages in the answer to one poll.
const MESSAGES_PER_POLL_MAX: usize = 4;

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
}

/// Who waits until it is stored.
type Done = oneshot::Sender<Result<(), StoreError>>;
/// The commands of which something could not be stored, and why.
type Failed = BTreeMap<String, StoreError>;

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
}

/// What one turn is about.
#[derive(Default)]
struct Turn {
    drafts: BTreeMap<String, Draft>,
    /// Who waits, and for which command.
    waiting: Vec<(String, Done)>,
    /// Machines that have come to fetch something.
    arrived: BTreeSet<InstanceId>,
    /// Bytes that there is memory for of what machines tell.
    room: usize,
}

impl Engine {
    pub(super) fn new(inputs: mpsc::Receiver<Input>, open: Vec<SentCommand>, load: Arc<Load>) -> Self {
        let (commands, by_instance, polls) = (HashMap::new(), HashMap::new(), HashMap::new());
        let in_doubt = Failed::new();
        let mut engine = Self { inputs, load, commands, by_instance, serial: 0, polls, in_doubt };
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
            let first = tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(input) => Some(input),
                    None => return,
                },
                _ = ticks.tick() => None,
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
        self.read_again(store).await;
        let mut turn = Turn { room: self.room(), ..Turn::default() };
        for input in inputs {
            self.take(input, &mut turn, now);
        }
        if is_tick {
            for (id, command) in &self.commands {
                let draft = turn.drafts.entry(id.clone()).or_default();
                command.pass_time(draft, now, |instance| !region.machines().contains(instance));
            }
            self.polls.retain(|_, answer| !answer.is_closed());
        }
        let failed = self.store(store, &mut turn.drafts, now).await;
        for (command, done) in turn.waiting {
            // Who has gone away does not need to know.
            let _ = done.send(failed.get(&command).cloned().map_or(Ok(()), Err));
        }
        if let Some((command, error)) = failed.first_key_value() {
            let count = failed.len();
            tracing::error!(%command, count, %error, "what became of commands cannot be stored: agents will tell it again");
        }
        self.send(region, &turn.drafts, &turn.arrived, &failed, now);
    }

    /// The bytes that there is memory for of what machines tell of commands that are not over there.
    fn room(&self) -> usize {
        RUNNING_OUTPUT_BYTES_MAX.saturating_sub(self.commands.values().map(OpenCommand::held).sum())
    }

    fn take(&mut self, input: Input, turn: &mut Turn, now: UnixTime) {
        match input {
            Input::Opened(sent) => {
                turn.drafts.entry(sent.command.id.clone()).or_default();
                self.open(*sent, false);
            }
            Input::Cancel { command, instances, done } => {
                if let Some(open) = self.commands.get(&command) {
                    open.cancel(turn.drafts.entry(command.clone()).or_default(), &instances, now);
                }
                turn.waiting.push((command, done));
            }
            Input::Event { command, instance, event, done } => {
                if let Some(open) = self.commands.get(&command) {
                    let draft = turn.drafts.entry(command.clone()).or_default();
                    turn.room = open.report(draft, instance, event, turn.room, now);
                }
                turn.waiting.push((command, done));
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
        }
    }

    fn open(&mut self, sent: SentCommand, is_restored: bool) {
        self.serial += 1;
        let id = sent.command.id.clone();
        let command = OpenCommand::new(sent, self.serial, is_restored);
        for instance in command.open_instances() {
            self.by_instance.entry(instance).or_default().insert(command.serial, id.clone());
        }
        self.commands.insert(id, command);
    }

    /// Stores what has changed, then takes it over: all in one commit, unless something cannot be stored at all.
    async fn store(&mut self, store: &dyn Store, drafts: &mut BTreeMap<String, Draft>, now: UnixTime) -> Failed {
        let mut failed = Failed::new();
        let mut changed = Vec::new();
        for (id, draft) in drafts.iter_mut() {
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
        match self.write(store, drafts, &changed).await {
            Ok(()) => {}
            Err(StoreError::Invalid(_)) => {
                // One machine must not keep what others tell from being stored.
                for id in changed {
                    if let Err(error) = self.write(store, drafts, core::slice::from_ref(&id)).await {
                        failed.insert(id, error);
                    }
                }
            }
            Err(error) => failed.extend(changed.into_iter().map(|id| (id, error.clone()))),
        }
        for (id, draft) in drafts.iter_mut().filter(|(id, _)| !failed.contains_key(*id)) {
            let Some(command) = self.commands.get_mut(id) else { continue };
            command.commit(core::mem::take(draft));
            if command.command.progress.state.is_terminal() {
                self.close(id);
            }
        }
        let in_doubt = failed.iter().filter(|(_, error)| matches!(error, StoreError::Io(_) | StoreError::Closed));
        self.in_doubt.extend(in_doubt.map(|(id, error)| (id.clone(), error.clone())));
        self.read_again(store).await;
        failed
    }

    /// Writes what drafts make of these commands, in one commit.
    async fn write(
        &self,
        store: &dyn Store,
        drafts: &BTreeMap<String, Draft>,
        changed: &[String],
    ) -> Result<(), StoreError> {
        let change = |id: &String| {
            let (command, draft) = (self.commands.get(id)?, drafts.get(id)?);
            let invocations = command.changed(draft).cloned().collect();
            Some(CommandChange { command: id.clone(), progress: command.progress(draft), invocations })
        };
        let changes: Vec<_> = changed.iter().filter_map(change).collect();
        if changes.is_empty() { Ok(()) } else { store.change_commands(changes).await }
    }

    /// Takes over what the store has of commands that are in doubt. If it cannot be read they stay so.
    async fn read_again(&mut self, store: &dyn Store) {
        while let Some(id) = self.in_doubt.keys().next().cloned() {
            let Ok(found) = read(store, &id).await else { return };
            self.in_doubt.remove(&id);
            let Some(command) = self.commands.get_mut(&id) else { continue };
            let is_over = found.as_ref().is_none_or(|(command, _)| command.progress.state.is_terminal());
            if let Some((stored, invocations)) = found {
                command.take_over(stored.progress, invocations);
            }
            if is_over {
                self.close(&id);
            }
        }
    }

    fn close(&mut self, id: &str) {
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

    /// Sends what is due: of the commands to which something has happened, and to the machines that have come.
    fn send(
        &mut self,
        region: &RegionServer,
        drafts: &BTreeMap<String, Draft>,
        arrived: &BTreeSet<InstanceId>,
        failed: &Failed,
        now: UnixTime,
    ) {
        let mut due: BTreeMap<(u64, Option<InstanceId>), &String> = BTreeMap::new();
        for id in drafts.keys() {
            if let Some(command) = self.commands.get(id) {
                due.insert((command.serial, None), id);
            }
        }
        for instance in arrived {
            let ids = self.by_instance.get(instance).into_iter().flatten();
            due.extend(ids.map(|(serial, id)| ((*serial, Some(*instance)), id)));
        }
        let mut mail = Mail { region, polls: &self.polls, letters: BTreeMap::new() };
        // Nothing is sent of what the store may know better.
        due.retain(|_, id| !failed.contains_key(*id) && !self.in_doubt.contains_key(*id));
        for ((_, only), id) in due {
            if let Some(command) = self.commands.get_mut(id) {
                send_command(command, only, &mut mail, now);
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

/// A command and its invocations as they are stored; of those of which nothing more becomes, without their steps.
async fn read(store: &dyn Store, id: &str) -> Result<Option<(Command, Vec<Invocation>)>, StoreError> {
    let limit = CommandQuery::LIMIT_MAX;
    let mut query = CommandQuery { command: Some(id.to_owned()), limit, ..CommandQuery::default() };
    let Some(command) = store.commands(query.clone()).await?.pop() else { return Ok(None) };
    let mut invocations: Vec<Invocation> = Vec::new();
    loop {
        let page = store.invocations(query.clone()).await?;
        let Some(last) = page.last() else { return Ok(Some((command, invocations))) };
        query.after = Some(CommandPlace {
            requested_at: command.requested_at,
            command: id.to_owned(),
            instance: Some(last.instance),
        });
        invocations.extend(page.into_iter().map(without_old_steps));
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

/// Sends what is due of a command: to this machine, or to all.
fn send_command(command: &mut OpenCommand, only: Option<InstanceId>, mail: &mut Mail<'_>, now: UnixTime) {
    let mut room = command.room();
    for (instance, due) in command.due(only, now) {
        let takes_room = due == Due::Command && command.takes_room(instance);
        if (takes_room && room == 0) || !mail.reaches(instance) {
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
