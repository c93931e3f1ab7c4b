use super::*;
use inborn_wire::message_gateway::report::{Outcome, Report};
use proptest::prelude::*;
use std::collections::BTreeSet;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn id(number: u8) -> InstanceId {
    InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, number])
}

fn open(machines: u8, concurrency_max: &str, errors_max: &str) -> OpenCommand {
    let none =
        CommandProgress { state: CommandState::Pending, targets: 0, completed: 0, errors: 0, delivery_timed_out: 0 };
    let command = Command {
        account: inborn_identity::AccountId::new(123_456_789_012).unwrap(),
        id: "c".into(),
        requested_at: NOW,
        document_name: "d".into(),
        parameters: "{}".into(),
        targets: "{}".into(),
        comment: String::new(),
        delivery_seconds: 600,
        execution_seconds: 100,
        concurrency_max: concurrency_max.into(),
        errors_max: errors_max.into(),
        progress: none,
    };
    let pending = |number| Invocation {
        command: "c".into(),
        instance: id(number),
        instance_name: String::new(),
        state: InvocationState::Pending,
        acknowledged_at: None,
        trace: String::new(),
        steps: Vec::new(),
    };
    let invocations = (0..machines).map(pending).collect();
    OpenCommand::new(SentCommand { command, content: "{}".into(), invocations }, 1, false)
}

fn ends(outcome: Outcome) -> Event {
    Event::Reported(Report { outcome, trace: String::new(), steps: Vec::new() })
}

/// Sends what there is room for, as the engine does.
fn send(command: &mut OpenCommand, now: UnixTime, is_there: impl Fn(InstanceId) -> bool) -> Vec<InstanceId> {
    let mut sent = Vec::new();
    let mut room = command.room();
    for (instance, due) in command.due(None, now) {
        let takes_room = due == Due::Command && command.takes_room(instance);
        if !is_there(instance) || (takes_room && room == 0) {
            continue;
        }
        room -= usize::from(takes_room);
        command.note_sent(instance, due, now);
        sent.push(instance);
    }
    sent
}

fn happen(command: &mut OpenCommand, instance: InstanceId, event: Event, now: UnixTime) {
    let mut draft = Draft::default();
    command.apply(&mut draft, instance, event, now);
    command.complete(&mut draft, now);
    store(command, draft);
}

/// As a store does that nobody else has changed.
fn store(command: &mut OpenCommand, draft: Draft) {
    let outcome = CommandOutcome { progress: Some(command.progress(&draft)), refused: vec![], is_written: true };
    command.commit(draft, &outcome);
}

/// What the region knows after a restart: what is stored.
fn restart(command: OpenCommand) -> OpenCommand {
    let invocations = command.invocations.into_values().map(|tracked| tracked.invocation).collect();
    OpenCommand::new(SentCommand { command: command.command, content: "{}".into(), invocations }, 1, true)
}

fn state(command: &OpenCommand) -> CommandState {
    command.progress(&Draft::default()).state
}

#[test]
fn that_it_is_to_be_ended_is_said_once() {
    let mut command = open(2, "2", "0");
    command.note_sent(id(0), Due::Command, NOW);
    let mut draft = Draft::default();
    command.cancel(&mut draft, &[], NOW);
    assert!(command.change(&draft).is_cancelled);
    store(&mut command, draft);
    assert_eq!(state(&command), CommandState::Cancelling);
    let mut draft = Draft::default();
    command.apply(&mut draft, id(0), Event::Acknowledged, NOW);
    assert!(!command.change(&draft).is_cancelled && !command.is_unchanged(&draft));
}

#[test]
fn shares_of_machines() {
    for (text, count, expected) in
        [("0", 9, 0), ("50", 9, 50), ("10%", 9, 0), ("10%", 10, 1), ("100%", 7, 7), ("50%", 3, 1), ("x", 3, 0)]
    {
        assert_eq!(share(text, count), expected, "{text} of {count}");
    }
}

#[test]
fn no_more_run_side_by_side_than_may() {
    let mut command = open(5, "2", "0");
    assert_eq!(send(&mut command, NOW, |_| true), [id(0), id(1)]);
    assert_eq!(send(&mut command, NOW, |_| true), []);
    happen(&mut command, id(0), ends(Outcome::Success), NOW);
    assert_eq!(send(&mut command, NOW, |_| true), [id(2)]);
    // Machines that are away take no room.
    let mut command = open(5, "2", "0");
    assert_eq!(send(&mut command, NOW, |instance| instance >= id(2)), [id(2), id(3)]);
    let mut command = open(5, "1%", "0");
    assert_eq!(send(&mut command, NOW, |_| true), [id(0)], "one at least");
}

#[test]
fn after_too_many_errors_nobody_else_is_asked() {
    let mut command = open(4, "1", "1");
    for number in 0..2 {
        assert_eq!(send(&mut command, NOW, |_| true), [id(number)]);
        happen(&mut command, id(number), ends(Outcome::Failed), NOW);
    }
    assert_eq!(send(&mut command, NOW, |_| true), []);
    assert_eq!(state(&command), CommandState::Failed);
    let progress = command.progress(&Draft::default());
    assert_eq!((progress.targets, progress.completed, progress.errors), (4, 4, 2));
    let mut command = open(2, "2", "1");
    send(&mut command, NOW, |_| true);
    happen(&mut command, id(0), ends(Outcome::Failed), NOW);
    happen(&mut command, id(1), ends(Outcome::Success), NOW);
    assert_eq!(state(&command), CommandState::Incomplete);
}

#[test]
fn what_is_not_answered_is_sent_again() {
    let mut command = open(1, "1", "0");
    send(&mut command, NOW, |_| true);
    for (seconds, is_again) in [(RESEND_SECONDS - 1, false), (RESEND_SECONDS, true)] {
        assert_eq!(!send(&mut command, NOW.plus(seconds), |_| true).is_empty(), is_again, "{seconds}");
    }
    command.forget_sent(id(0), NOW.plus(20));
    assert_eq!(send(&mut command, NOW.plus(20), |_| true), [id(0)], "it was away");
    happen(&mut command, id(0), Event::Acknowledged, NOW.plus(21));
    command.forget_sent(id(0), NOW.plus(22));
    assert_eq!(send(&mut command, NOW.plus(100), |_| true), [], "it has it");
}

#[test]
fn times_below_at_and_above_their_ends() {
    let pass = |command: &mut OpenCommand, now| {
        let mut draft = Draft::default();
        command.pass_time(&mut draft, now, |_| false);
        store(command, draft);
        state(command)
    };
    for (seconds, expected) in
        [(599, CommandState::Pending), (600, CommandState::DeliveryTimedOut), (601, CommandState::DeliveryTimedOut)]
    {
        assert_eq!(pass(&mut open(1, "1", "0"), NOW.plus(seconds)), expected, "{seconds}");
    }
    let ends = 100 + EXECUTION_GRACE_SECONDS;
    for (seconds, expected) in [
        (ends - 1, CommandState::InProgress),
        (ends, CommandState::ExecutionTimedOut),
        (ends + 1, CommandState::ExecutionTimedOut),
    ] {
        let mut command = open(1, "1", "0");
        happen(&mut command, id(0), Event::Acknowledged, NOW.plus(599));
        assert_eq!(pass(&mut command, NOW.plus(599 + seconds)), expected, "{seconds}");
    }
    let mut command = open(1, "1", "0");
    let mut draft = Draft::default();
    command.pass_time(&mut draft, NOW, |_| true);
    store(&mut command, draft);
    assert_eq!(state(&command), CommandState::Incomplete, "its machine is gone");
}

#[test]
fn cancelled_before_and_after_it_was_sent() {
    let mut command = open(3, "1", "0");
    send(&mut command, NOW, |_| true);
    let mut draft = Draft::default();
    command.cancel(&mut draft, &[], NOW);
    store(&mut command, draft);
    assert_eq!(state(&command), CommandState::Cancelling);
    assert_eq!(command.due(None, NOW), [(id(0), Due::Cancellation)]);
    happen(&mut command, id(0), ends(Outcome::Cancelled), NOW);
    assert_eq!(state(&command), CommandState::Cancelled);
    // On one machine only: the others go on.
    let mut command = open(2, "1", "0");
    let mut draft = Draft::default();
    command.cancel(&mut draft, &[id(0)], NOW);
    assert!(!command.is_unchanged(&draft));
    store(&mut command, draft);
    assert_eq!(send(&mut command, NOW, |_| true), [id(1)]);
    happen(&mut command, id(1), ends(Outcome::Success), NOW);
    assert_eq!(state(&command), CommandState::Incomplete);
}

#[test]
fn what_may_be_out_when_the_region_restarts_is_not_said_to_be_terminated() {
    let mut command = open(4, "2", "0");
    assert_eq!(send(&mut command, NOW, |_| true), [id(0), id(1)]);
    let mut command = restart(command);
    happen(&mut command, id(0), ends(Outcome::Failed), NOW);
    // The second has it, and the others may: all are told to end it.
    let told = [1, 2, 3].map(|number| (id(number), Due::Cancellation));
    assert_eq!(command.due(None, NOW), told);
    happen(&mut command, id(1), ends(Outcome::Success), NOW);
    assert_eq!(command.invocations[&id(1)].invocation.state, InvocationState::Success);
    // Sent again after the restart, it goes on as it does without one.
    let mut command = restart(open(3, "2", "0"));
    assert_eq!(send(&mut command, NOW, |_| true), [id(0), id(1)]);
    happen(&mut command, id(0), ends(Outcome::Failed), NOW);
    let states = [InvocationState::Failed, InvocationState::Pending, InvocationState::Cancelling];
    assert!(command.states(&Draft::default()).eq(states));
}

#[test]
fn what_is_known_to_be_out_takes_room_after_a_restart() {
    for event in [Event::Unanswered, Event::Acknowledged, Event::Cancel { was_sent: true }] {
        let mut command = open(4, "2", "0");
        send(&mut command, NOW, |_| true);
        happen(&mut command, id(1), event.clone(), NOW);
        let mut command = restart(command);
        assert_eq!(command.room(), 1, "{event:?}");
        assert!(!command.takes_room(id(1)), "{event:?}");
        let sent = send(&mut command, NOW, |instance| instance != id(1));
        assert_eq!(sent, [id(0)], "{event:?}");
    }
}

fn any_number() -> ClaimsLeft {
    ClaimsLeft { new: usize::MAX, again: usize::MAX }
}

/// Of several servers each writes down what it sends; what it believes of the others may be wrong.
#[test]
fn what_is_claimed_is_what_is_reached_and_has_room() {
    let mut command = open(5, "3", "0");
    happen(&mut command, id(0), Event::Acknowledged, NOW);
    let mut draft = Draft::default();
    command.claim(&mut draft, |instance| instance != id(1), None, &mut any_number(), NOW);
    let change = command.change(&draft);
    let claimed: Vec<_> = change.invocations.iter().map(|change| change.after.instance).collect();
    assert!(change.claims);
    assert_eq!((claimed, change.concurrency_max, change.errors_max), (vec![id(2), id(3)], 3, 0));
    // The store takes one of them: another server has taken the last place.
    let progress = Some(command.progress(&Draft::default()));
    command.commit(draft, &CommandOutcome { progress, refused: vec![id(3)], is_written: true });
    assert!(command.is_unsent(id(3)) && !command.is_unsent(id(2)));
    assert_eq!(command.room(), 1);
    let due = command.due(Some(id(2)), NOW);
    assert_eq!(due, [(id(2), Due::Command)], "it is not sent yet");
    // Once asked for one machine after the other, it is the same.
    let mut draft = Draft::default();
    for instance in [id(3), id(3), id(4)] {
        command.claim(&mut draft, |_| true, Some(instance), &mut any_number(), NOW);
    }
    assert_eq!(command.change(&draft).invocations.len(), 1);
    // What was written down may be out: it is ended by telling the machine, what was not is over at once.
    let mut draft = Draft::default();
    command.cancel(&mut draft, &[], NOW);
    let ends: Vec<_> = command.change(&draft).invocations.iter().map(|change| change.after.state).collect();
    let (told, over) = (InvocationState::Cancelling, InvocationState::Cancelled);
    assert_eq!(ends, [told, over, told, over, over]);
}

#[derive(Clone, Debug)]
enum Act {
    Send,
    Restart,
    Event(u8, Event),
    Cancel(Option<u8>),
    Pass(u64),
    Back(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let ends_of = vec![Outcome::Success, Outcome::Failed, Outcome::Cancelled, Outcome::TimedOut];
    let end = prop::sample::select(ends_of);
    prop_oneof![
        3 => Just(Act::Send),
        1 => Just(Act::Restart),
        2 => (0..6u8).prop_map(|number| Act::Event(number, Event::Acknowledged)),
        4 => (0..6u8, end).prop_map(|(number, end)| Act::Event(number, ends(end))),
        1 => prop::option::of(0..6u8).prop_map(Act::Cancel),
        1 => (0..400u64).prop_map(Act::Pass),
        1 => (0..6u8).prop_map(Act::Back),
    ]
}

proptest! {
    /// Whatever happens: what has ended stays so, counts add up, no more run than may, what was sent is not said not to be,
    /// and all comes to an end.
    #[test]
    fn a_command_always_adds_up(acts in prop::collection::vec(act(), 0..40), concurrency in 1..4usize, errors in 0..3usize) {
        let mut command = open(6, &concurrency.to_string(), &errors.to_string());
        let mut now = NOW;
        let mut ended: BTreeMap<InstanceId, InvocationState> = BTreeMap::new();
        // The machines to which it was sent ever.
        let mut told: BTreeSet<InstanceId> = BTreeSet::new();
        for act in acts {
            match act {
                Act::Send => {
                    let running = |command: &OpenCommand| {
                        let is_known = |t: &&Tracked| t.sent_at.is_some() || t.invocation.state != InvocationState::Pending;
                        let open = command.invocations.values().filter(|t| !t.invocation.state.is_terminal());
                        open.filter(is_known).count()
                    };
                    let before = running(&command);
                    let due = command.due(None, now);
                    let sent = send(&mut command, now, |_| true);
                    prop_assert!(running(&command) <= concurrency.max(before));
                    told.extend(sent.into_iter().filter(|instance| due.contains(&(*instance, Due::Command))));
                }
                Act::Restart => command = restart(command),
                Act::Event(number, event) => happen(&mut command, id(number), event, now),
                Act::Cancel(number) => {
                    let instances: Vec<InstanceId> = number.into_iter().map(id).collect();
                    let mut draft = Draft::default();
                    command.cancel(&mut draft, &instances, now);
                    store(&mut command, draft);
                }
                Act::Pass(seconds) => {
                    now = now.plus(seconds);
                    let mut draft = Draft::default();
                    command.pass_time(&mut draft, now, |_| false);
                    command.complete(&mut draft, now);
                    store(&mut command, draft);
                }
                Act::Back(number) => command.forget_sent(id(number), now),
            }
            let progress = command.progress(&Draft::default());
            prop_assert_eq!(progress.targets, 6);
            prop_assert!(progress.errors + progress.delivery_timed_out <= progress.completed);
            prop_assert_eq!(progress.state.is_terminal(), progress.completed == progress.targets);
            prop_assert_eq!(command.open_instances().count(), (progress.targets - progress.completed) as usize);
            for (instance, tracked) in &command.invocations {
                let state = tracked.invocation.state;
                prop_assert!(state != InvocationState::Terminated || !told.contains(instance));
                if let Some(before) = ended.get(instance) {
                    prop_assert_eq!(*before, state);
                } else if state.is_terminal() {
                    ended.insert(*instance, state);
                }
            }
        }
        // Nobody says anything any more: time ends what is left.
        for _ in 0..2 {
            now = now.plus(1000);
            let mut draft = Draft::default();
            command.pass_time(&mut draft, now, |_| false);
            command.complete(&mut draft, now);
            store(&mut command, draft);
        }
        prop_assert!(state(&command).is_terminal());
    }
}
