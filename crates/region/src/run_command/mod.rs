//! Run Command: what operators want done on machines, how it gets there, and what becomes of it.
//!
//! ```text
//! SendCommand ▶ store ▶ engine ▶ courier (control channel, or a poll of ec2messages) ▶ agent
//!    operator ◀ store ◀ engine ◀ acknowledgements and reports, as many as have gathered in one commit
//! ```
//!
//! One task, the [`Engine`], owns every command of which something may still become, and takes all that happens in turns: the
//! pure rules of [`open`] and [`invocation`] say what becomes of it, the store has it before anybody is answered, and only then
//! is more sent. What was sent is remembered in memory alone: after a restart it is sent again, under the same name, and agents
//! do what they were told under one name once. Of several servers each has an engine for all commands, and tells of its changes in
//! the change feed; there the store also knows what was sent (`Delayed`), so that no more machines run a command than may.

mod channel;
mod engine;
mod invocation;
mod message;
mod open;
mod over;
mod told;
mod waits;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use inborn_identity::{InstanceId, UnixTime};
use inborn_store::{
    CommandProgress, CommandQuery, CommandRetention, Invocation, InvocationState, SentCommand, Store, StoreError,
};
use inborn_wire::message_gateway::report::{self, OUTPUT_CHARS_MAX, Report};
use tokio::sync::{mpsc, oneshot};

pub(crate) use channel::{arrived, job_ack, job_reply};
pub(crate) use engine::Engine;
use engine::Input;
use invocation::Event;
pub(crate) use invocation::is_over;
pub(crate) use message::{Job, PAYLOAD_BYTES_MAX, read_job_id};
use told::Told;

/// Most invocations of which something may still become.
pub(crate) const OPEN_INVOCATIONS_MAX: usize = 50_000;
/// Most bytes of documents and parameters of the commands of which something may still become.
pub(crate) const OPEN_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most bytes that are in memory of what machines have told of commands that are not over there. What is told beyond that is
/// passed over until the end, with which an agent tells everything again.
pub(crate) const RUNNING_OUTPUT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What a step of an invocation takes beside its output.
const STEP_BYTES: usize = 256;
/// How long commands are shown. Source: AWS's page on Run Command, which says 30 days.
const RETENTION_SECONDS: u64 = 30 * 24 * 3600;
/// Most invocations of the past that are kept.
const PAST_INVOCATIONS_MAX: u32 = 50_000;
/// Things that wait for the engine.
const INBOX_MAX: usize = 1024;

// What is read of an agent's words can be stored.
const _: () =
    assert!(report::REPORT_BYTES_MAX <= Invocation::STEPS_BYTES_MAX && report::STEPS_MAX <= Invocation::STEPS_MAX);

/// Why a command was not sent.
#[derive(Debug)]
pub(crate) enum SendError {
    /// [`OPEN_INVOCATIONS_MAX`] or [`OPEN_BYTES_MAX`].
    TooMany,
    /// The store's.
    Store(StoreError),
}

/// The way to the engine.
pub(crate) struct RunCommand {
    store: Arc<dyn Store>,
    inbox: mpsc::Sender<Input>,
    load: Arc<Load>,
    told: Arc<Mutex<Told>>,
}

/// What the commands take of which something may still become.
#[derive(Debug, Default)]
struct Load(Mutex<HashMap<String, (usize, usize)>>);

impl Load {
    /// Takes room for a command, if there is some.
    fn take(&self, sent: &SentCommand) -> bool {
        let steps: usize = sent.invocations.iter().map(|invocation| invocation.steps.len()).sum();
        let bytes = sent.content.len() + sent.command.parameters.len() + steps * STEP_BYTES;
        let own = (sent.invocations.len(), bytes);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (invocations, bytes) = taken.values().fold(own, |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let is_room = invocations <= OPEN_INVOCATIONS_MAX && bytes <= OPEN_BYTES_MAX;
        if is_room {
            taken.insert(sent.command.id.clone(), own);
        }
        is_room
    }

    fn release(&self, command: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(command);
    }
}

impl RunCommand {
    /// Reads what is still going on; the engine is to be started once the region is there.
    pub(crate) async fn load(store: Arc<dyn Store>) -> Result<(Self, Engine), StoreError> {
        let open = store.open_commands().await?;
        let load = Arc::new(Load::default());
        for sent in &open {
            // More than there may be was let in by a build that had other limits: it is finished all the same.
            load.take(sent);
        }
        let (inbox, inputs) = mpsc::channel(INBOX_MAX);
        let told = Arc::default();
        let engine = Engine::new(inputs, open, Arc::clone(&load), Arc::clone(&told));
        Ok((Self { store, inbox, load, told }, engine))
    }

    /// Other servers have changed commands, each on these machines, or on any if none is named. Nobody waits until they are read.
    pub(crate) fn hear<'a>(&self, changed: impl Iterator<Item = (&'a str, &'a [InstanceId])>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        changed.for_each(|(command, machines)| told.add(command, machines));
        drop(told);
        self.wake();
    }

    /// Other servers may have changed any command.
    pub(crate) fn read_again(&self) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).everything = true;
        self.wake();
    }

    /// Where there is no room for it, the engine is about to look all the same.
    fn wake(&self) {
        let _ = self.inbox.try_send(Input::Told);
    }

    /// Sends a command, which is stored when this has answered.
    pub(crate) async fn send(&self, sent: SentCommand) -> Result<(), SendError> {
        let (id, is_over) = (sent.command.id.clone(), sent.command.progress.state.is_terminal());
        if !is_over && !self.load.take(&sent) {
            return Err(SendError::TooMany);
        }
        if let Err(error) = self.put(&sent).await {
            self.load.release(&id);
            return Err(SendError::Store(error));
        }
        if !is_over {
            self.tell(Input::Opened(Box::new(sent))).await.map_err(SendError::Store)?;
        }
        Ok(())
    }

    /// Stores a command. Whether a write whose answer was lost took effect is found out: a command that is refused must not
    /// run after the next restart.
    async fn put(&self, sent: &SentCommand) -> Result<(), StoreError> {
        let error = match self.store.put_command(sent.clone()).await {
            Err(error @ (StoreError::Io(_) | StoreError::Closed)) => error,
            other => return other,
        };
        let query = CommandQuery { command: Some(sent.command.id.clone()), limit: 1, ..CommandQuery::default() };
        match self.store.commands(query).await {
            Ok(found) if !found.is_empty() => Ok(()),
            _ => Err(error),
        }
    }

    /// Ends a command on these machines, or on all: at once where it was not sent yet, elsewhere when the agent says so.
    pub(crate) async fn cancel(&self, command: &str, instances: Vec<InstanceId>) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        self.tell(Input::Cancel { command: command.to_owned(), instances, done }).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// A machine has what it was sent. Like all that agents say, it is stored when this has answered; what is about a command
    /// that is not there is passed over.
    pub(crate) async fn acknowledged(&self, command: &str, instance: InstanceId) -> Result<(), StoreError> {
        self.event(command, instance, Event::Acknowledged).await
    }

    /// A machine does not take what it was sent.
    pub(crate) async fn refused(&self, command: &str, instance: InstanceId, why: &str) -> Result<(), StoreError> {
        let why = why.chars().take(OUTPUT_CHARS_MAX).collect();
        self.event(command, instance, Event::Refused(why)).await
    }

    /// A machine tells how far it is.
    pub(crate) async fn reported(&self, command: &str, instance: InstanceId, report: Report) -> Result<(), StoreError> {
        self.event(command, instance, Event::Reported(report)).await
    }

    async fn event(&self, command: &str, instance: InstanceId, event: Event) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        self.tell(Input::Event { command: command.to_owned(), instance, event, done }).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// A machine has opened its channel.
    pub(crate) async fn arrived(&self, instance: InstanceId) -> Result<(), StoreError> {
        self.tell(Input::Arrived(instance)).await
    }

    /// What there is to be told to a machine that asks: sent once there is something. Whoever asks again ends this one.
    pub(crate) async fn poll(&self, instance: InstanceId) -> Result<oneshot::Receiver<Vec<Job>>, StoreError> {
        let (answer, jobs) = oneshot::channel();
        self.tell(Input::Poll { instance, answer }).await?;
        Ok(jobs)
    }

    async fn tell(&self, input: Input) -> Result<(), StoreError> {
        self.inbox.send(input).await.map_err(|_| StoreError::Closed)
    }

    /// Forgets what is too old, a part at a time.
    pub(crate) async fn tidy(&self, now: UnixTime) -> Result<(), StoreError> {
        let retention =
            CommandRetention { sent_before: now.minus(RETENTION_SECONDS), invocations_max: PAST_INVOCATIONS_MAX };
        while self.store.forget_commands(retention).await? > 0 {}
        Ok(())
    }
}

/// How far a command has come that was sent just now.
pub(crate) fn first_progress(states: impl Iterator<Item = InvocationState>) -> CommandProgress {
    open::progress(states, 0, false)
}

/// The bytes of the message that a command is, or why there is none.
pub(crate) fn payload_bytes(sent: &SentCommand) -> usize {
    let document = serde_json::from_str(&sent.content).unwrap_or_default();
    let to = InstanceId::from_bytes([0; 9]);
    Job::run(&sent.command, &document, to).payload().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_store::Command;

    fn sent(id: &str, invocations: usize, bytes: usize) -> SentCommand {
        let one = Invocation {
            command: id.to_owned(),
            instance: InstanceId::from_bytes([0; 9]),
            instance_name: String::new(),
            state: InvocationState::Pending,
            acknowledged_at: None,
            trace: String::new(),
            steps: Vec::new(),
        };
        let command = Command {
            account: inborn_identity::AccountId::new(123_456_789_012).unwrap(),
            id: id.to_owned(),
            requested_at: UnixTime::from_secs(0),
            document_name: String::new(),
            parameters: String::new(),
            targets: String::new(),
            comment: String::new(),
            delivery_seconds: 0,
            execution_seconds: 0,
            concurrency_max: String::new(),
            errors_max: String::new(),
            progress: first_progress([InvocationState::Pending].into_iter()),
        };
        SentCommand { command, content: "x".repeat(bytes), invocations: vec![one; invocations] }
    }

    #[test]
    fn open_commands_below_at_and_above_the_most() {
        let load = Load::default();
        assert!(load.take(&sent("a", OPEN_INVOCATIONS_MAX - 1, 0)));
        assert!(load.take(&sent("b", 1, 0)));
        assert!(!load.take(&sent("c", 1, 0)));
        load.release("b");
        assert!(load.take(&sent("c", 1, 0)));
        let load = Load::default();
        assert!(load.take(&sent("a", 1, OPEN_BYTES_MAX - 1)));
        assert!(load.take(&sent("b", 1, 1)));
        assert!(!load.take(&sent("c", 1, 1)));
    }
}
