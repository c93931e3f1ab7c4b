//! Commands that were sent to machines, and what became of each on each machine.

use core::fmt;
use core::str::FromStr;

use inborn_identity::{AccountId, InstanceId, UnixTime};

use crate::StoreError;

/// Texts for the states of `$name`, in one place for reading and writing.
macro_rules! states {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $state:ident = $text:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($(#[$inner])* $state,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$state,)*];

            /// As it is written: the details that AWS gives of a status.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$state => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ();
            fn from_str(text: &str) -> Result<Self, ()> {
                Self::ALL.iter().copied().find(|state| state.as_str() == text).ok_or(())
            }
        }
    };
}

states! {
    /// How far a command has come on one machine. Source: botocore's model, `CommandInvocation`.
    InvocationState {
        /// The machine has not said that it has it.
        Pending = "Pending",
        /// It was sent, and the machine has not said so in time. It is sent again.
        Delayed = "Delayed",
        /// The machine has it.
        InProgress = "InProgress",
        /// Somebody wants it ended; the machine has not said that it has.
        Cancelling = "Cancelling",
        /// It was done.
        Success = "Success",
        /// It was done, and failed.
        Failed = "Failed",
        /// It took longer than it may.
        ExecutionTimedOut = "ExecutionTimedOut",
        /// The machine did not take it in time.
        DeliveryTimedOut = "DeliveryTimedOut",
        /// It was ended.
        Cancelled = "Cancelled",
        /// The machine is gone.
        Undeliverable = "Undeliverable",
        /// The document is not for that kind of machine.
        InvalidPlatform = "InvalidPlatform",
        /// It failed on so many other machines that it was not sent to this one.
        Terminated = "Terminated",
    }
}

impl InvocationState {
    /// Whether nothing more becomes of it.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Delayed | Self::InProgress | Self::Cancelling)
    }

    /// Whether it counts against the errors that a command may have. Source: botocore's model, `Command`, `ErrorCount`.
    #[must_use]
    pub const fn is_error(self) -> bool {
        matches!(self, Self::Failed | Self::ExecutionTimedOut)
    }
}

states! {
    /// How far a command has come. Source: botocore's model, `Command`.
    CommandState {
        /// No machine has it.
        Pending = "Pending",
        /// At least one machine has it.
        InProgress = "InProgress",
        /// Somebody wants it ended.
        Cancelling = "Cancelling",
        /// All machines did it.
        Success = "Success",
        /// It failed on more machines than it may.
        Failed = "Failed",
        /// It took too long on more machines than it may.
        ExecutionTimedOut = "ExecutionTimedOut",
        /// More machines than may fail did not take it in time.
        DeliveryTimedOut = "DeliveryTimedOut",
        /// It was ended.
        Cancelled = "Cancelled",
        /// Not every machine did it, but not too many failed.
        Incomplete = "Incomplete",
        /// There was no machine to send it to.
        NoInstancesInTag = "NoInstancesInTag",
    }
}

impl CommandState {
    /// Whether nothing more becomes of it.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::InProgress | Self::Cancelling)
    }
}

/// How far a command has come, over all its machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandProgress {
    /// In one word.
    pub state: CommandState,
    /// How many machines it is for.
    pub targets: u32,
    /// On how many nothing more becomes of it.
    pub completed: u32,
    /// On how many of these it failed or took too long.
    pub errors: u32,
    /// How many of these did not take it in time.
    pub delivery_timed_out: u32,
}

/// A command as an operator sent it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// A UUID.
    pub id: String,
    /// Whose it is.
    pub account: AccountId,
    /// When it was sent.
    pub requested_at: UnixTime,
    /// What it runs, by name.
    pub document_name: String,
    /// The parameters, as JSON.
    pub parameters: String,
    /// For whom it is, as JSON.
    pub targets: String,
    /// What a person wrote about it.
    pub comment: String,
    /// How long machines have to take it.
    pub delivery_seconds: u32,
    /// How long each has to do it.
    pub execution_seconds: u32,
    /// On how many machines at once, as it was said.
    pub concurrency_max: String,
    /// On how many it may fail, as it was said.
    pub errors_max: String,
    /// How far it has come.
    pub progress: CommandProgress,
}

/// One step of a command on one machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommandStep {
    /// Its name in the document.
    pub name: String,
    /// How far it has come, in the agent's words.
    pub status: String,
    /// The exit code.
    pub code: i32,
    /// When it began, as the agent writes times; empty: it has not.
    pub started: String,
    /// When it ended, likewise.
    pub finished: String,
    /// Its output in short, as the agent puts it together.
    pub output: String,
    /// What it wrote to standard output.
    pub standard_output: String,
    /// What it wrote to standard error.
    pub standard_error: String,
}

/// A command on one machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invocation {
    /// The command.
    pub command: String,
    /// The machine.
    pub instance: InstanceId,
    /// The machine's name at the time; empty: none.
    pub instance_name: String,
    /// How far it has come.
    pub state: InvocationState,
    /// When the machine said that it has it.
    pub acknowledged_at: Option<UnixTime>,
    /// What the agent says of it beside its steps.
    pub trace: String,
    /// Its steps, as far as the agent told of them: at most [`Invocation::STEPS_MAX`].
    pub steps: Vec<CommandStep>,
}

impl Invocation {
    /// The most steps that are kept.
    pub const STEPS_MAX: usize = 100;
    /// The most bytes of texts of all steps and the trace together: agents drop replies of more than 120,000.
    pub const STEPS_BYTES_MAX: usize = 256 * 1024;

    /// The bytes of the texts of all steps and of the trace: at most [`Invocation::STEPS_BYTES_MAX`] can be stored.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let bytes = |step: &CommandStep| {
            let texts = [&step.name, &step.status, &step.started, &step.finished, &step.output];
            let streams = step.standard_output.len() + step.standard_error.len();
            texts.iter().map(|text| text.len()).sum::<usize>() + streams
        };
        self.steps.iter().map(bytes).sum::<usize>() + self.trace.len()
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.steps.len() > Self::STEPS_MAX {
            return Err(StoreError::Invalid("an invocation has at most 100 steps"));
        }
        if self.text_bytes() > Self::STEPS_BYTES_MAX {
            return Err(StoreError::Invalid("the steps of an invocation have at most 262144 bytes"));
        }
        Ok(())
    }
}

/// A command with all that is needed to send it to the machines that have not taken it yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SentCommand {
    /// The command.
    pub command: Command,
    /// The text of its document, which may be deleted meanwhile.
    pub content: String,
    /// The command on each machine: at most [`SentCommand::INVOCATIONS_MAX`], each once.
    pub invocations: Vec<Invocation>,
}

impl SentCommand {
    /// The most machines of one command.
    pub const INVOCATIONS_MAX: usize = 10_000;
    /// The most bytes of parameters and of targets, each.
    pub const TEXT_BYTES_MAX: usize = 256 * 1024;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.invocations.len() > Self::INVOCATIONS_MAX {
            return Err(StoreError::Invalid("a command has at most 10000 invocations"));
        }
        if self.invocations.iter().any(|invocation| invocation.command != self.command.id) {
            return Err(StoreError::Invalid("an invocation and its command disagree"));
        }
        let texts = [&self.command.parameters, &self.command.targets, &self.content];
        if texts.iter().any(|text| text.len() > Self::TEXT_BYTES_MAX) {
            return Err(StoreError::Invalid("a text of a command has at most 262144 bytes"));
        }
        self.invocations.iter().try_for_each(Invocation::check)
    }
}

/// A place in the order of commands and invocations: latest first, then by command, then by machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandPlace {
    /// When the command was sent.
    pub requested_at: UnixTime,
    /// The command.
    pub command: String,
    /// The machine; of commands: `None`.
    pub instance: Option<InstanceId>,
}

/// Which commands, or which invocations, to list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommandQuery {
    /// Whose; `None`: everybody's.
    pub account: Option<AccountId>,
    /// Only of this command.
    pub command: Option<String>,
    /// Only on this machine.
    pub instance: Option<InstanceId>,
    /// Only what comes behind this place.
    pub after: Option<CommandPlace>,
    /// How many at most: 1 to [`CommandQuery::LIMIT_MAX`].
    pub limit: u32,
}

impl CommandQuery {
    /// The most on one page.
    pub const LIMIT_MAX: u32 = 100;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.limit {
            1..=Self::LIMIT_MAX => Ok(()),
            _ => Err(StoreError::Invalid("a page has 1 to 100 commands")),
        }
    }
}

/// What is kept of commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandRetention {
    /// Commands of which nothing more becomes and that were sent before this are forgotten.
    pub sent_before: UnixTime,
    /// Of those of which nothing more becomes, so many invocations are kept, the latest.
    pub invocations_max: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_round_trip() {
        for state in InvocationState::ALL {
            assert_eq!(state.to_string().parse(), Ok(*state));
        }
        for state in CommandState::ALL {
            assert_eq!(state.to_string().parse(), Ok(*state));
        }
        assert_eq!("".parse::<CommandState>(), Err(()));
    }
}
