//! What becomes of a command on one machine: a state, an event, the next state. Pure.
//!
//! Messages come twice, in any order, or not at all. A state in which nothing more becomes of an invocation is never left.

use inborn_identity::UnixTime;
use inborn_store::{CommandStep, Invocation, InvocationState};
use inborn_wire::message_gateway::report::{Outcome, Report, Step, TEXT_CHARS_MAX, TRACE_CHARS_MAX};

/// The most bytes of a character.
const CHAR_BYTES_MAX: usize = 4;

// Names, statuses and the trace are never cut to make room: they can be stored whatever an agent tells.
const _: () = assert!(
    CHAR_BYTES_MAX * (Invocation::STEPS_MAX * 2 * TEXT_CHARS_MAX + TRACE_CHARS_MAX) <= Invocation::STEPS_BYTES_MAX
);

/// What happens to an invocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// It was sent, and the machine has not said in time that it has it.
    Unanswered,
    /// It is about to be sent, by one of several servers: the others must know.
    Claimed,
    /// The machine has it.
    Acknowledged,
    /// The machine does not take it; why.
    Refused(String),
    /// The machine tells how far it is.
    Reported(Report),
    /// Somebody wants it ended. Whether the machine may have it already.
    Cancel { was_sent: bool },
    /// The time to take it is over.
    DeliveryOver,
    /// The time to do it is over.
    ExecutionOver,
    /// The machine is gone for good.
    MachineGone,
    /// It has failed on so many machines that it is not sent to others. Whether the machine may have it already.
    TooManyErrors { was_sent: bool },
}

/// The invocation after an event; `None` if that changes nothing.
pub(super) fn next(before: &Invocation, event: Event, now: UnixTime) -> Option<Invocation> {
    use InvocationState as State;
    if before.state.is_terminal() {
        return None;
    }
    let mut after = before.clone();
    let is_untaken = before.acknowledged_at.is_none();
    match event {
        Event::Unanswered | Event::Claimed if before.state == State::Pending => after.state = State::Delayed,
        Event::Unanswered | Event::Claimed => return None,
        Event::Acknowledged => acknowledge(&mut after, now),
        Event::Refused(why) => {
            after.state = if before.state == State::Cancelling { State::Cancelled } else { State::Failed };
            after.trace = why;
            make_fit(&mut after, None);
        }
        Event::Reported(report) => {
            acknowledge(&mut after, now);
            take(&mut after, report);
        }
        Event::Cancel { was_sent } => after.state = if was_sent { State::Cancelling } else { State::Cancelled },
        Event::DeliveryOver if is_untaken => after.state = ended(before.state, State::DeliveryTimedOut),
        Event::ExecutionOver if !is_untaken => after.state = ended(before.state, State::ExecutionTimedOut),
        Event::DeliveryOver | Event::ExecutionOver => return None,
        Event::MachineGone => after.state = ended(before.state, State::Undeliverable),
        Event::TooManyErrors { was_sent } if before.state == State::Pending => {
            after.state = if was_sent { State::Cancelling } else { State::Terminated };
        }
        Event::TooManyErrors { .. } => return None,
    }
    (after != *before).then_some(after)
}

/// The bytes that an invocation takes in memory: what has ended is in the store alone.
pub(super) fn held_bytes(invocation: &Invocation) -> usize {
    if invocation.state.is_terminal() { 0 } else { invocation.text_bytes() }
}

/// The invocation after an event, for which there are so many more bytes in memory: output that does not fit is cut, and what
/// then does not fit either stays as it was.
pub(super) fn next_within(before: &Invocation, event: Event, room: usize, now: UnixTime) -> Option<Invocation> {
    let mut after = next(before, event, now)?;
    let most = before.text_bytes().saturating_add(room);
    if held_bytes(&after) > most {
        let newest = after.steps.iter().zip(&before.steps).position(|(after, before)| after != before);
        let newest = newest.or_else(|| after.steps.len().checked_sub(1));
        make_fit_in(&mut after, newest, most);
        if held_bytes(&after) > most {
            (after.steps, after.trace) = (before.steps.clone(), before.trace.clone());
        }
    }
    (after != *before).then_some(after)
}

/// What was to be cancelled and ends without a word is cancelled.
fn ended(before: InvocationState, otherwise: InvocationState) -> InvocationState {
    if before == InvocationState::Cancelling { InvocationState::Cancelled } else { otherwise }
}

fn acknowledge(invocation: &mut Invocation, now: UnixTime) {
    invocation.acknowledged_at.get_or_insert(now);
    if invocation.state != InvocationState::Cancelling {
        invocation.state = InvocationState::InProgress;
    }
}

/// Takes over what the agent tells. A step that has ended does not go back either.
fn take(invocation: &mut Invocation, report: Report) {
    match report.outcome {
        Outcome::InProgress => {}
        Outcome::Success => invocation.state = InvocationState::Success,
        Outcome::Failed => invocation.state = InvocationState::Failed,
        Outcome::TimedOut => invocation.state = InvocationState::ExecutionTimedOut,
        Outcome::Cancelled => invocation.state = InvocationState::Cancelled,
    }
    if !report.trace.is_empty() {
        invocation.trace = report.trace;
        make_fit(invocation, None);
    }
    for step in report.steps.into_iter().map(kept) {
        let count = invocation.steps.len();
        let known = invocation.steps.iter_mut().enumerate().find(|(_, known)| known.name == step.name);
        let place = match known {
            Some((_, known)) if is_over(&known.status) && !is_over(&step.status) => continue,
            Some((place, known)) => {
                *known = step;
                place
            }
            None if count >= Invocation::STEPS_MAX => continue,
            None => {
                invocation.steps.push(step);
                count
            }
        };
        make_fit(invocation, Some(place));
    }
}

/// Cuts an invocation to what can be stored, for each report may tell of other steps: first the output of the step that has
/// just come, then that of the last ones. What a step is called and how it ended stays.
fn make_fit(invocation: &mut Invocation, newest: Option<usize>) {
    make_fit_in(invocation, newest, Invocation::STEPS_BYTES_MAX);
}

fn make_fit_in(invocation: &mut Invocation, newest: Option<usize>, most: usize) {
    let mut excess = invocation.text_bytes().saturating_sub(most);
    for place in newest.into_iter().chain((0..invocation.steps.len()).rev()) {
        if excess == 0 {
            return;
        }
        let Some(step) = invocation.steps.get_mut(place) else { continue };
        let streams = [&mut step.standard_output, &mut step.standard_error, &mut step.output];
        for text in streams.into_iter().chain([&mut step.finished, &mut step.started]) {
            let whole = text.len();
            let end = (0..=whole.saturating_sub(excess)).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or_default());
            excess = excess.saturating_sub(whole - text.len());
        }
    }
}

fn kept(step: Step) -> CommandStep {
    let Step { name, status, code, started, finished, output, standard_output, standard_error } = step;
    CommandStep { name, status, code, started, finished, output, standard_output, standard_error }
}

/// Whether an agent says of a step that it has ended.
pub(crate) fn is_over(status: &str) -> bool {
    matches!(status, "Success" | "Failed" | "TimedOut" | "Cancelled" | "Skipped")
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_identity::InstanceId;
    use proptest::prelude::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn pending() -> Invocation {
        Invocation {
            command: "c".into(),
            instance: InstanceId::from_bytes([0; 9]),
            instance_name: String::new(),
            state: InvocationState::Pending,
            acknowledged_at: None,
            trace: String::new(),
            steps: Vec::new(),
        }
    }

    fn step(name: &str, status: &str) -> Step {
        let none = String::new;
        Step {
            name: name.into(),
            status: status.into(),
            code: 0,
            started: none(),
            finished: none(),
            output: none(),
            standard_output: none(),
            standard_error: none(),
        }
    }

    fn report_of(outcome: Outcome, steps: Vec<Step>) -> Event {
        Event::Reported(Report { outcome, trace: String::new(), steps })
    }

    fn report(outcome: Outcome, status: &str) -> Event {
        report_of(outcome, vec![step("s", status)])
    }

    fn run(events: &[Event]) -> Invocation {
        events.iter().fold(pending(), |state, event| next(&state, event.clone(), NOW).unwrap_or(state))
    }

    #[test]
    fn each_event_leads_where_it_should() {
        use InvocationState as State;
        let success = report(Outcome::Success, "Success");
        let progress = report(Outcome::InProgress, "InProgress");
        let cancel = Event::Cancel { was_sent: true };
        for (events, expected) in [
            (vec![Event::Unanswered], State::Delayed),
            (vec![Event::Claimed], State::Delayed),
            (vec![Event::Acknowledged, Event::Claimed], State::InProgress),
            (vec![Event::Claimed, Event::TooManyErrors { was_sent: false }], State::Delayed),
            (vec![Event::Unanswered, Event::Acknowledged], State::InProgress),
            (vec![Event::Acknowledged, Event::Unanswered], State::InProgress),
            (vec![progress.clone()], State::InProgress),
            (vec![success.clone()], State::Success),
            (vec![success.clone(), progress.clone()], State::Success),
            (vec![Event::Refused("no".into())], State::Failed),
            (vec![Event::Cancel { was_sent: false }], State::Cancelled),
            (vec![cancel.clone()], State::Cancelling),
            (vec![cancel.clone(), Event::Acknowledged, progress], State::Cancelling),
            (vec![cancel.clone(), Event::Acknowledged, success.clone()], State::Success),
            (vec![cancel.clone(), Event::DeliveryOver], State::Cancelled),
            (vec![Event::Acknowledged, cancel.clone(), Event::ExecutionOver], State::Cancelled),
            (vec![cancel, Event::MachineGone], State::Cancelled),
            (vec![Event::DeliveryOver], State::DeliveryTimedOut),
            (vec![Event::ExecutionOver], State::Pending),
            (vec![Event::Acknowledged, Event::DeliveryOver], State::InProgress),
            (vec![Event::Acknowledged, Event::ExecutionOver], State::ExecutionTimedOut),
            (vec![Event::Acknowledged, Event::ExecutionOver, success], State::ExecutionTimedOut),
            (vec![Event::MachineGone], State::Undeliverable),
            (vec![Event::TooManyErrors { was_sent: false }], State::Terminated),
            (vec![Event::TooManyErrors { was_sent: true }], State::Cancelling),
            (vec![Event::Unanswered, Event::TooManyErrors { was_sent: true }], State::Delayed),
            (vec![Event::Acknowledged, Event::TooManyErrors { was_sent: true }], State::InProgress),
        ] {
            assert_eq!(run(&events).state, expected, "{events:?}");
        }
    }

    #[test]
    fn a_step_that_has_ended_stays_ended() {
        let invocation = run(&[report(Outcome::InProgress, "Success"), report(Outcome::InProgress, "InProgress")]);
        assert_eq!((invocation.steps.len(), invocation.steps[0].status.as_str()), (1, "Success"));
    }

    /// Two reports of different steps, which together are one byte below the most, as much, and one more.
    #[test]
    fn reports_together_below_at_and_above_the_most_bytes() {
        const MAX: usize = Invocation::STEPS_BYTES_MAX;
        let names = "a".len() + "b".len() + "Success".len() + "Failed".len();
        for (bytes, cut) in [(MAX - 1, 0), (MAX, 0), (MAX + 1, 1), (MAX + 1000, 1000)] {
            let first = Step { standard_output: "1".repeat(MAX / 2), ..step("a", "Success") };
            let rest = bytes - names - MAX / 2;
            let second = Step { code: 3, standard_output: "2".repeat(rest), ..step("b", "Failed") };
            let invocation =
                run(&[report_of(Outcome::InProgress, vec![first]), report_of(Outcome::Failed, vec![second])]);
            assert_eq!(invocation.text_bytes(), bytes - cut, "{bytes}");
            let [first, second] = invocation.steps.as_slice() else { panic!("{bytes}") };
            assert_eq!(first.standard_output.len(), MAX / 2, "what was told before stays");
            assert_eq!((second.status.as_str(), second.code, second.standard_output.len()), ("Failed", 3, rest - cut));
        }
    }

    /// A trace and a step that come when there is no room left are kept, at the cost of output.
    #[test]
    fn what_comes_when_all_is_full_makes_room() {
        const MAX: usize = Invocation::STEPS_BYTES_MAX;
        // Two bytes a character: none is cut apart.
        let full = Step { standard_error: "é".repeat(MAX / 2), ..step("a", "InProgress") };
        let full = run(&[report_of(Outcome::InProgress, vec![full])]);
        assert!((MAX - 1..=MAX).contains(&full.text_bytes()));
        let refused = next(&full, Event::Refused("no room".into()), NOW).unwrap();
        assert!(refused.text_bytes() <= MAX);
        assert_eq!((refused.trace.as_str(), refused.state), ("no room", InvocationState::Failed));
        let later = next(&full, report_of(Outcome::Success, vec![step("b", "Success")]), NOW).unwrap();
        assert!(later.text_bytes() <= MAX);
        let told: Vec<_> = later.steps.iter().map(|step| (step.name.as_str(), step.status.as_str())).collect();
        assert_eq!(told, [("a", "InProgress"), ("b", "Success")]);
    }

    /// Of what is under way so much is in memory, one byte below what there is room for, as much, and one more.
    #[test]
    fn output_below_at_and_above_the_room_in_memory() {
        let begun = run(&[report(Outcome::InProgress, "InProgress")]);
        let told = |bytes: usize, outcome| {
            report_of(outcome, vec![Step { standard_output: "x".repeat(bytes), ..step("s", "InProgress") }])
        };
        for (room, kept) in [(101, 100), (100, 100), (99, 99), (0, 0)] {
            let after = next_within(&begun, told(100, Outcome::InProgress), room, NOW).unwrap_or_else(|| begun.clone());
            assert_eq!(after.steps[0].standard_output.len(), kept, "{room}");
            assert!(held_bytes(&after) <= held_bytes(&begun) + room);
            // What has ended is not in memory: nothing of its last word is lost.
            let over = next_within(&after, told(100, Outcome::Success), 0, NOW).unwrap();
            assert_eq!((over.steps[0].standard_output.len(), held_bytes(&over)), (100, 0), "{room}");
        }
        // What cannot be cut away is passed over as a whole, but not that the machine is at work.
        let named = report_of(Outcome::InProgress, vec![step(&"n".repeat(200), "InProgress")]);
        let after = next_within(&pending(), named, 100, NOW).unwrap();
        assert_eq!((after.state, after.steps.len()), (InvocationState::InProgress, 0));
    }

    /// A report of one step, of any sizes that can be read.
    fn large_report() -> impl Strategy<Value = Event> {
        let text = |chars_max: usize| (0..=chars_max).prop_map(|chars| "🦀".repeat(chars));
        let texts = (text(TEXT_CHARS_MAX), text(TEXT_CHARS_MAX), text(2_500), text(24_000), text(8_000));
        (0..120_u32, prop::bool::ANY, text(TRACE_CHARS_MAX), texts).prop_map(|(number, is_over, trace, texts)| {
            let (started, finished, output, standard_output, standard_error) = texts;
            let (name, status) = (format!("{number:🦀>256}"), if is_over { "Success" } else { "InProgress" });
            let step = Step { started, finished, output, standard_output, standard_error, ..step(&name, status) };
            Event::Reported(Report { outcome: Outcome::InProgress, trace, steps: vec![step] })
        })
    }

    fn event() -> impl Strategy<Value = Event> {
        let ends = vec![Outcome::Success, Outcome::Failed, Outcome::Cancelled, Outcome::TimedOut];
        let ends = prop::sample::select(ends);
        prop_oneof![
            Just(Event::Unanswered),
            Just(Event::Claimed),
            Just(Event::Acknowledged),
            Just(Event::Refused("no".into())),
            Just(report(Outcome::InProgress, "InProgress")),
            ends.prop_map(|end| report(end, "Success")),
            any::<bool>().prop_map(|was_sent| Event::Cancel { was_sent }),
            Just(Event::DeliveryOver),
            Just(Event::ExecutionOver),
            Just(Event::MachineGone),
            any::<bool>().prop_map(|was_sent| Event::TooManyErrors { was_sent }),
        ]
    }

    proptest! {
        /// Whatever comes, and in whatever order: what has ended stays as it ended, to the last byte.
        #[test]
        fn a_terminal_state_is_never_left(events in prop::collection::vec(event(), 0..12)) {
            let mut state = pending();
            let mut ended: Option<Invocation> = None;
            for event in events {
                let after = next(&state, event, NOW);
                if let Some(ended) = &ended {
                    prop_assert_eq!(after.as_ref(), None);
                    prop_assert_eq!(&state, ended);
                }
                state = after.unwrap_or(state);
                if state.state.is_terminal() && ended.is_none() {
                    ended = Some(state.clone());
                }
            }
        }

        /// The same message twice is the same as once.
        #[test]
        fn a_duplicate_changes_nothing(events in prop::collection::vec(event(), 0..8), last in event()) {
            let once = run(&[events.clone(), vec![last.clone()]].concat());
            let twice = run(&[events, vec![last.clone(), last.clone()]].concat());
            // What was ended before it was sent is cancelled; ending it again cannot tell whether it was sent.
            if !matches!(last, Event::Cancel { .. } | Event::Refused(_)) {
                prop_assert_eq!(once, twice);
            }
        }

        /// The last word of the agent and the words before it may come in any order, some of them not at all: it ends
        /// as the agent said.
        #[test]
        fn any_order_and_any_loss_ends_alike(order in Just(vec![0, 1, 2, 3]).prop_shuffle(), kept in any::<[bool; 4]>()) {
            let words = [
                Event::Acknowledged,
                report(Outcome::InProgress, "InProgress"),
                report(Outcome::InProgress, "Success"),
                report(Outcome::Success, "Success"),
            ];
            let heard: Vec<Event> =
                order.into_iter().filter(|word| kept[*word] || *word == 3).map(|word| words[word].clone()).collect();
            let state = run(&heard);
            prop_assert_eq!(state.state, InvocationState::Success);
            prop_assert_eq!(state.steps[0].status.as_str(), "Success");
            prop_assert!(state.acknowledged_at.is_some());
        }

        /// What the machine has taken has begun to count its time, and never counts it anew.
        #[test]
        fn time_begins_once(events in prop::collection::vec(event(), 0..12)) {
            let mut state = pending();
            for (seconds, event) in (0..).zip(events) {
                let after = next(&state, event, NOW.plus(seconds)).unwrap_or_else(|| state.clone());
                prop_assert!(state.acknowledged_at.is_none() || after.acknowledged_at == state.acknowledged_at);
                prop_assert!(after.state != InvocationState::InProgress || after.acknowledged_at.is_some());
                state = after;
            }
        }
    }
    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Whatever agents tell, and in however many reports, can be stored; the last trace and the last status are whole.
        #[test]
        fn what_is_told_can_always_be_stored(events in prop::collection::vec(large_report(), 0..150)) {
            let mut state = pending();
            for event in events {
                let Event::Reported(report) = &event else { unreachable!() };
                let (told, trace) = (report.steps[0].clone(), report.trace.clone());
                let before = state.clone();
                state = next(&before, event, NOW).unwrap_or(before.clone());
                prop_assert!(state.text_bytes() <= Invocation::STEPS_BYTES_MAX);
                prop_assert!(state.steps.len() <= Invocation::STEPS_MAX);
                prop_assert!(trace.is_empty() || state.trace == trace);
                for known in &before.steps {
                    prop_assert!(state.steps.iter().any(|step| step.name == known.name));
                }
                if let Some(kept) = state.steps.iter().find(|step| step.name == told.name) {
                    prop_assert!(is_over(&kept.status) || kept.status == told.status);
                }
            }
        }
    }
}
