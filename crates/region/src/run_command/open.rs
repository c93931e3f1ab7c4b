//! A command of which something may still become: where it is, where it goes next, and what that makes of it as a whole.
//! Pure.

use std::collections::BTreeMap;

use inborn_identity::{InstanceId, UnixTime};
use inborn_store::{
    Command, CommandChange, CommandOutcome, CommandProgress, CommandState, Invocation, InvocationChange,
    InvocationCounts, InvocationState, SentCommand,
};
use serde_json::Value;

use super::invocation::{Event, held_bytes, next, next_within};

/// How long a machine has to say that it has what it was sent, before it is sent again. Agents say so at once, and ask that
/// what they fetch be kept from others for ten seconds.
pub(super) const RESEND_SECONDS: u64 = 15;
/// How often at most all of a command is read again because its claims are refused.
pub(super) const WHOLE_READ_SECONDS: u64 = 15;
/// How much longer than its time a command may take until we end it: its agent does so itself, and says so.
pub(super) const EXECUTION_GRACE_SECONDS: u64 = 60;

/// A command and its invocations.
#[derive(Debug)]
pub(super) struct OpenCommand {
    /// Its place among all commands.
    pub(super) serial: u64,
    pub(super) command: Command,
    pub(super) document: Value,
    invocations: BTreeMap<InstanceId, Tracked>,
    concurrency_max: usize,
    errors_max: usize,
    is_cancelled: bool,
    /// The bytes of what is in memory of its invocations.
    held: usize,
    /// When all of it was read again last because its claims were refused.
    read_whole_at: Option<UnixTime>,
}

/// An invocation, and what is known of it until the region restarts: it is sent again then.
#[derive(Debug)]
struct Tracked {
    invocation: Invocation,
    /// Whether it may have been sent before the region restarted.
    is_restored: bool,
    /// When it was sent last, if it was.
    sent_at: Option<UnixTime>,
    /// When the machine was told last that it is to be ended, if it was.
    cancel_sent_at: Option<UnixTime>,
}

impl Tracked {
    /// Whether the machine has it, or was sent it, as far as is known: no state but the first is reached without that.
    fn is_out(&self) -> bool {
        let state = self.invocation.state;
        !state.is_terminal() && (self.sent_at.is_some() || state != InvocationState::Pending)
    }
}

/// What is to be sent to a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Command,
    Cancellation,
}

/// What an event makes of a command: to be stored, and then taken over by [`OpenCommand::commit`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Draft {
    invocations: BTreeMap<InstanceId, Invocation>,
    is_cancelled: bool,
    /// They are about to be sent.
    claims: bool,
}

/// How many machines may still be claimed in one turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClaimsLeft {
    /// Those to which it was not sent yet.
    pub(super) new: usize,
    /// Those to which it is sent again. They are counted for themselves: who does not answer is not to hold up others.
    pub(super) again: usize,
}

impl Draft {
    /// The machines that it is about.
    pub(super) fn instances(&self) -> impl Iterator<Item = InstanceId> {
        self.invocations.keys().copied()
    }
}

impl OpenCommand {
    pub(super) fn new(sent: SentCommand, serial: u64, is_restored: bool) -> Self {
        let SentCommand { command, content, invocations } = sent;
        let count = invocations.len();
        let track = |invocation: Invocation| {
            (invocation.instance, Tracked { invocation, is_restored, sent_at: None, cancel_sent_at: None })
        };
        Self {
            serial,
            concurrency_max: share(&command.concurrency_max, count).max(1),
            errors_max: share(&command.errors_max, count),
            is_cancelled: command.progress.state == CommandState::Cancelling,
            held: invocations.iter().map(held_bytes).sum(),
            read_whole_at: None,
            document: serde_json::from_str(&content).unwrap_or_default(),
            invocations: invocations.into_iter().map(track).collect(),
            command,
        }
    }

    /// The machines on which something may still become of it.
    pub(super) fn open_instances(&self) -> impl Iterator<Item = InstanceId> {
        self.invocations
            .values()
            .filter(|tracked| !tracked.invocation.state.is_terminal())
            .map(|t| t.invocation.instance)
    }

    /// All its machines.
    pub(super) fn instances(&self) -> impl Iterator<Item = InstanceId> {
        self.invocations.keys().copied()
    }

    fn state_of<'a>(&'a self, draft: &'a Draft, instance: InstanceId) -> Option<&'a Invocation> {
        let stored = || self.invocations.get(&instance).map(|tracked| &tracked.invocation);
        draft.invocations.get(&instance).or_else(stored)
    }

    fn states<'a>(&'a self, draft: &'a Draft) -> impl Iterator<Item = InvocationState> + 'a {
        self.invocations.iter().map(|(instance, tracked)| {
            draft.invocations.get(instance).map_or(tracked.invocation.state, |invocation| invocation.state)
        })
    }

    /// Adds what an event on one machine makes of it.
    pub(super) fn apply(&self, draft: &mut Draft, instance: InstanceId, event: Event, now: UnixTime) {
        let changed = self.state_of(draft, instance).and_then(|before| next(before, event, now));
        if let Some(after) = changed {
            draft.invocations.insert(instance, after);
        }
    }

    /// The bytes of what is in memory of its invocations.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    #[cfg(test)]
    pub(super) const fn hold_more(&mut self, bytes: usize) {
        self.held += bytes;
    }

    /// Adds what a machine tells, for which there are so many more bytes in memory; how many are left.
    pub(super) fn report(
        &self,
        draft: &mut Draft,
        instance: InstanceId,
        event: Event,
        room: usize,
        now: UnixTime,
    ) -> usize {
        let Some(before) = self.state_of(draft, instance) else { return room };
        let Some(after) = next_within(before, event, room, now) else { return room };
        let left = (room + held_bytes(before)).saturating_sub(held_bytes(&after));
        draft.invocations.insert(instance, after);
        left
    }

    /// Adds that it is to be ended: on these machines, or on all.
    pub(super) fn cancel(&self, draft: &mut Draft, instances: &[InstanceId], now: UnixTime) {
        let asked = self
            .invocations
            .values()
            .filter(|tracked| instances.is_empty() || instances.contains(&tracked.invocation.instance));
        for Tracked { invocation, sent_at, is_restored, .. } in asked {
            let was_sent = sent_at.is_some() || *is_restored || invocation.state != InvocationState::Pending;
            self.apply(draft, invocation.instance, Event::Cancel { was_sent }, now);
        }
        draft.is_cancelled |= instances.is_empty();
    }

    /// Adds what time alone does.
    pub(super) fn pass_time(&self, draft: &mut Draft, now: UnixTime, is_gone: impl Fn(InstanceId) -> bool) {
        let delivery_ends = self.command.requested_at.plus(self.command.delivery_seconds.into());
        for (instance, tracked) in &self.invocations {
            let Some(invocation) = self.state_of(draft, *instance).filter(|found| !found.state.is_terminal()) else {
                continue;
            };
            let execution = u64::from(self.command.execution_seconds) + EXECUTION_GRACE_SECONDS;
            let event = if is_gone(*instance) {
                Event::MachineGone
            } else if invocation.acknowledged_at.is_some_and(|at| now >= at.plus(execution)) {
                Event::ExecutionOver
            } else if invocation.acknowledged_at.is_none() && now >= delivery_ends {
                Event::DeliveryOver
            } else if tracked.sent_at.is_some_and(|at| now.since(at) >= RESEND_SECONDS) {
                Event::Unanswered
            } else {
                continue;
            };
            self.apply(draft, *instance, event, now);
        }
    }

    /// Completes a draft: it is not sent to more machines once it has failed on too many. Where nobody knows whether it was
    /// sent before the region restarted, it is ended.
    pub(super) fn complete(&self, draft: &mut Draft, now: UnixTime) {
        if draft.claims || self.states(draft).filter(|state| state.is_error()).count() <= self.errors_max {
            return;
        }
        for (instance, tracked) in &self.invocations {
            if tracked.sent_at.is_none() {
                self.apply(draft, *instance, Event::TooManyErrors { was_sent: tracked.is_restored }, now);
            }
        }
    }

    /// Whether there is nothing to store.
    pub(super) fn is_unchanged(&self, draft: &Draft) -> bool {
        draft.invocations.is_empty() && self.is_cancelled >= draft.is_cancelled
    }

    /// How far it has come with a draft.
    #[cfg(test)]
    pub(super) fn progress(&self, draft: &Draft) -> CommandProgress {
        progress(self.states(draft), self.errors_max, self.is_cancelled || draft.is_cancelled)
    }

    /// A draft as stores take it.
    pub(super) fn change(&self, draft: &Draft) -> CommandChange {
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let change = |(instance, after): (&InstanceId, &Invocation)| {
            Some(InvocationChange::new(&self.invocations.get(instance)?.invocation, after.clone()))
        };
        CommandChange {
            command: self.command.id.clone(),
            // What was said before the store knows.
            is_cancelled: draft.is_cancelled,
            claims: draft.claims,
            concurrency_max: small(self.concurrency_max),
            errors_max: small(self.errors_max),
            invocations: draft.invocations.iter().filter_map(change).collect(),
        }
    }

    /// Takes over of a draft what the store has taken.
    pub(super) fn commit(&mut self, mut draft: Draft, outcome: &CommandOutcome) {
        for instance in &outcome.refused {
            draft.invocations.remove(instance);
        }
        if let Some(progress) = outcome.progress {
            self.command.progress = progress;
        }
        // Others may have said so.
        self.is_cancelled |= draft.is_cancelled || self.command.progress.state == CommandState::Cancelling;
        draft.invocations.into_values().for_each(|invocation| self.hold(invocation));
    }

    /// Adds that it is about to be sent to these of its machines to which it is due: to those to which it was not sent yet, as far as
    /// there is room; of the others the store is asked whether that is to be still. At most so many as are left, which then are less.
    pub(super) fn claim(
        &self,
        draft: &mut Draft,
        reached: impl Fn(InstanceId) -> bool,
        only: Option<InstanceId>,
        left: &mut ClaimsLeft,
        now: UnixTime,
    ) {
        draft.claims = true;
        // A store refuses it once all of it is to be ended.
        if self.is_cancelled {
            return;
        }
        let claimed = draft.invocations.keys().filter(|instance| self.is_unsent(**instance)).count();
        let mut room = self.room().saturating_sub(claimed);
        for (instance, due) in self.due(only, now) {
            if due != Due::Command || draft.invocations.contains_key(&instance) || !reached(instance) {
                continue;
            }
            if !self.is_unsent(instance) {
                if left.again > 0
                    && let Some(invocation) = self.state_of(draft, instance).cloned()
                {
                    draft.invocations.insert(instance, invocation);
                    left.again -= 1;
                }
            } else if room > 0 && left.new > 0 {
                self.apply(draft, instance, Event::Claimed, now);
                room -= 1;
                left.new -= 1;
            }
        }
    }

    /// Whether all of it is to be read again, since a claim of these machines was refused though nobody has sent it to them: others
    /// are under way than are known here. Not more often than every [`WHOLE_READ_SECONDS`]: the feed says the same soon.
    pub(super) fn wants_whole_read(&mut self, refused: &[InstanceId], now: UnixTime) -> bool {
        let is_early = self.read_whole_at.is_some_and(|at| now >= at && now.since(at) < WHOLE_READ_SECONDS);
        if self.is_cancelled || is_early || !refused.iter().any(|instance| self.is_unsent(*instance)) {
            return false;
        }
        self.read_whole_at = Some(now);
        true
    }

    /// Whether nobody has sent it to this machine, as far as the store says.
    pub(super) fn is_unsent(&self, instance: InstanceId) -> bool {
        self.invocations.get(&instance).is_some_and(|tracked| tracked.invocation.state == InvocationState::Pending)
    }

    /// Takes over an invocation, as much of it as stays in memory.
    fn hold(&mut self, invocation: Invocation) {
        if let Some(tracked) = self.invocations.get_mut(&invocation.instance) {
            self.held = (self.held + held_bytes(&invocation)).saturating_sub(held_bytes(&tracked.invocation));
            tracked.invocation = invocation.without_last_words();
        }
    }

    /// Takes over what the store has: another server may have changed it, or a write of our own of which nobody knows whether
    /// it took effect.
    pub(super) fn take_over(&mut self, progress: CommandProgress, invocations: Vec<Invocation>) {
        self.command.progress = progress;
        self.is_cancelled |= progress.state == CommandState::Cancelling;
        invocations.into_iter().for_each(|invocation| self.hold(invocation));
    }

    /// What is due to be sent, to this machine or to any: no more at a time than may run side by side.
    pub(super) fn due(&self, instance: Option<InstanceId>, now: UnixTime) -> Vec<(InstanceId, Due)> {
        let is_due = |sent_at: Option<UnixTime>| sent_at.is_none_or(|at| now.since(at) >= RESEND_SECONDS);
        let mut due = Vec::new();
        let asked = self.invocations.iter().filter(|(id, _)| instance.is_none_or(|only| only == **id));
        for (id, tracked) in asked {
            match tracked.invocation.state {
                InvocationState::Pending | InvocationState::Delayed if is_due(tracked.sent_at) => {
                    due.push((*id, Due::Command));
                }
                InvocationState::Cancelling if is_due(tracked.cancel_sent_at) => due.push((*id, Due::Cancellation)),
                _ => {}
            }
        }
        due
    }

    /// On how many more machines it may run now. Of those that nobody has heard of since the region restarted none counts
    /// before it is sent to again: any may have it, and to wait for all would be to wait until their time is over.
    pub(super) fn room(&self) -> usize {
        self.concurrency_max.saturating_sub(self.invocations.values().filter(|tracked| tracked.is_out()).count())
    }

    /// Whether sending it to this machine takes room: it does not run there already, as far as is known.
    pub(super) fn takes_room(&self, instance: InstanceId) -> bool {
        self.invocations.get(&instance).is_some_and(|tracked| !tracked.is_out())
    }

    /// Notes that something was sent.
    pub(super) fn note_sent(&mut self, instance: InstanceId, due: Due, now: UnixTime) {
        if let Some(tracked) = self.invocations.get_mut(&instance) {
            match due {
                Due::Command => tracked.sent_at = Some(now),
                Due::Cancellation => tracked.cancel_sent_at = Some(now),
            }
        }
    }

    /// A machine has come back: what it was sent before and has not said that it has may be lost.
    pub(super) fn forget_sent(&mut self, instance: InstanceId, now: UnixTime) {
        let long_ago = now.minus(RESEND_SECONDS);
        if let Some(tracked) = self.invocations.get_mut(&instance) {
            tracked.sent_at = tracked.sent_at.map(|_| long_ago);
            tracked.cancel_sent_at = None;
        }
    }
}

/// A number, or a percentage of `count`, of which parts of a machine count as none.
fn share(text: &str, count: usize) -> usize {
    match text.strip_suffix('%') {
        Some(percent) => percent.parse::<usize>().unwrap_or(0).saturating_mul(count) / 100,
        None => text.parse().unwrap_or(0),
    }
}

/// What the states on all machines make of a command.
pub(super) fn progress(
    states: impl Iterator<Item = InvocationState>,
    errors_max: usize,
    is_cancelled: bool,
) -> CommandProgress {
    let mut counts = InvocationCounts::new();
    states.for_each(|state| *counts.entry(state).or_default() += 1);
    CommandProgress::of(&counts, errors_max, is_cancelled)
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
