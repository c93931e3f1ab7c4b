//! What is to become of a command, where several programs may change it at the same time: each says what it believes of the
//! machines that it speaks of, and the store takes what is so.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use inborn_identity::{InstanceId, UnixTime};

use crate::{CommandProgress, CommandState, CommandStep, Invocation, InvocationState, StoreError};

/// How far a command has come on one machine, as far as others may have changed it meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvocationBasis {
    /// How far.
    pub state: InvocationState,
    /// When the machine said that it has it.
    pub acknowledged_at: Option<UnixTime>,
}

/// What its agent has told of a command on one machine, beside how far it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InvocationWords {
    /// What it says of it beside its steps.
    pub trace: String,
    /// Its steps.
    pub steps: Vec<CommandStep>,
}

impl Invocation {
    /// What a change of it is based upon.
    #[must_use]
    pub const fn basis(&self) -> InvocationBasis {
        InvocationBasis { state: self.state, acknowledged_at: self.acknowledged_at }
    }

    /// What its agent has told of it.
    #[must_use]
    pub fn words(&self) -> InvocationWords {
        InvocationWords { trace: self.trace.clone(), steps: self.steps.clone() }
    }

    /// Without what its agent has told, if nothing more becomes of it: that may be much, and is never changed any more.
    #[must_use]
    pub fn without_last_words(mut self) -> Self {
        if self.state.is_terminal() {
            (self.trace, self.steps) = (String::new(), Vec::new());
        }
        self
    }
}

/// A change on one machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvocationChange {
    /// How it was when this was decided: it is changed only if it is still so.
    pub expected: InvocationBasis,
    /// What its agent had told, if that changes too: likewise. `None`: what its agent has told stays as the store has it, whatever
    /// is in `after`.
    pub expected_words: Option<InvocationWords>,
    /// How it is to be.
    pub after: Invocation,
}

impl InvocationChange {
    /// What makes `after` of an invocation.
    #[must_use]
    pub fn new(before: &Invocation, after: Invocation) -> Self {
        let is_told = before.trace != after.trace || before.steps != after.steps;
        Self { expected: before.basis(), expected_words: is_told.then(|| before.words()), after }
    }

    /// Whether it is to become another than it was expected to be. What is not is only compared.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.expected_words.is_some() || self.expected != self.after.basis()
    }

    fn is_based_upon(&self, found: &FoundInvocation) -> bool {
        self.expected == found.basis && (self.expected_words.is_none() || self.expected_words == found.words)
    }
}

/// How far a command has come on one machine, as a store finds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundInvocation {
    /// How far.
    pub basis: InvocationBasis,
    /// What its agent has told: has to be there only where a change says what it expects of it.
    pub words: Option<InvocationWords>,
}

/// How far a command has come on the machines where that has changed. How far it has come as a whole the store makes out of all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandChange {
    /// The command.
    pub command: String,
    /// It is to be ended on all machines, as somebody says now. Once said, that stays.
    pub is_cancelled: bool,
    /// The machines are about to be sent it: only so many of them are taken that no more than
    /// [`CommandChange::concurrency_max`] are under way, and none once it has failed on too many or is to be ended. Those that
    /// were taken before, and are to be sent it again, take no more room.
    pub claims: bool,
    /// On how many machines it may be under way at once.
    pub concurrency_max: u32,
    /// On how many it may fail.
    pub errors_max: u32,
    /// On each machine where it has changed, each once.
    pub invocations: Vec<InvocationChange>,
}

/// What became of a change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommandOutcome {
    /// How far the command has come; `None`: it is not there.
    pub progress: Option<CommandProgress>,
    /// The machines on which it was not as expected, or for which there was no room: nothing was changed there.
    pub refused: Vec<InstanceId>,
    /// Whether anything is another than it was: others have to hear of it.
    pub is_written: bool,
}

/// On how many machines a command has come how far.
pub type InvocationCounts = HashMap<InvocationState, usize>;

impl CommandChange {
    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        let mut seen = BTreeSet::new();
        for InvocationChange { after, .. } in &self.invocations {
            if after.command != self.command {
                return Err(StoreError::Invalid("an invocation and its command disagree"));
            }
            if !seen.insert(after.instance) {
                return Err(StoreError::Invalid("an invocation is changed once at a time"));
            }
            after.check()?;
        }
        Ok(())
    }

    /// What of it takes effect, and what becomes of the command: asked by every store within the transaction that writes it.
    /// `before` is how far the command had come, `counts` how many machines are how far, and `own` how far those are that the
    /// change speaks of. `None`: nothing is to be written.
    #[must_use]
    pub fn judge(
        &self,
        before: CommandProgress,
        mut counts: InvocationCounts,
        own: &BTreeMap<InstanceId, FoundInvocation>,
    ) -> (Option<Vec<&InvocationChange>>, CommandOutcome) {
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        let was_cancelled = before.state == CommandState::Cancelling;
        for change in &self.invocations {
            let (expected, after) = (change.expected.state, change.after.state);
            let is_as_expected = own.get(&change.after.instance).is_some_and(|found| change.is_based_upon(found));
            let may_be_sent = || !was_cancelled && (expected.is_under_way() || self.has_room(&counts));
            if !is_as_expected || expected.is_terminal() || (self.claims && !may_be_sent()) {
                refused.push(change.after.instance);
                continue;
            }
            if !change.is_new() {
                continue;
            }
            let left = counts.entry(expected).or_default();
            *left = left.saturating_sub(1);
            *counts.entry(after).or_default() += 1;
            taken.push(change);
        }
        let is_cancelled_now = self.is_cancelled && !was_cancelled && !before.state.is_terminal();
        let is_written = !taken.is_empty() || is_cancelled_now;
        let progress = if is_written && !before.state.is_terminal() {
            let errors_max = usize::try_from(self.errors_max).unwrap_or(usize::MAX);
            CommandProgress::of(&counts, errors_max, was_cancelled || self.is_cancelled)
        } else {
            before
        };
        (is_written.then_some(taken), CommandOutcome { progress: Some(progress), refused, is_written })
    }

    fn has_room(&self, counts: &InvocationCounts) -> bool {
        let count = |is_meant: fn(InvocationState) -> bool| -> usize {
            counts.iter().filter(|(state, _)| is_meant(**state)).map(|(_, count)| *count).sum()
        };
        let most = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        count(InvocationState::is_under_way) < most(self.concurrency_max)
            && count(InvocationState::is_error) <= most(self.errors_max)
    }
}

impl InvocationState {
    /// Whether the machine has it, or was sent it.
    #[must_use]
    pub const fn is_under_way(self) -> bool {
        matches!(self, Self::Delayed | Self::InProgress | Self::Cancelling)
    }
}

impl CommandProgress {
    /// What the states on all machines make of a command. Source: AWS's page on command statuses.
    #[must_use]
    pub fn of(counts: &InvocationCounts, errors_max: usize, is_cancelled: bool) -> Self {
        let count = |state: InvocationState| counts.get(&state).copied().unwrap_or_default();
        let targets: usize = counts.values().sum();
        let completed = counts.iter().filter(|(state, _)| state.is_terminal()).map(|(_, count)| *count).sum();
        let (failed, too_long) = (count(InvocationState::Failed), count(InvocationState::ExecutionTimedOut));
        let (errors, undelivered) = (failed + too_long, count(InvocationState::DeliveryTimedOut));
        let untouched = count(InvocationState::Pending) + count(InvocationState::Delayed);
        let cancelled = count(InvocationState::Cancelled);
        let state = if targets == 0 {
            CommandState::NoInstancesInTag
        } else if completed < targets {
            match (is_cancelled, untouched == targets) {
                (true, _) => CommandState::Cancelling,
                (false, true) => CommandState::Pending,
                (false, false) => CommandState::InProgress,
            }
        } else if count(InvocationState::Success) == targets {
            CommandState::Success
        } else if cancelled > 0 && (is_cancelled || cancelled == targets) {
            CommandState::Cancelled
        } else if errors > errors_max {
            if failed > 0 { CommandState::Failed } else { CommandState::ExecutionTimedOut }
        } else if undelivered > errors_max {
            CommandState::DeliveryTimedOut
        } else {
            CommandState::Incomplete
        };
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            state,
            targets: small(targets),
            completed: small(completed),
            errors: small(errors),
            delivery_timed_out: small(undelivered),
        }
    }
}
