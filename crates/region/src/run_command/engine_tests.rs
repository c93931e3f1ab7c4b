use super::*;
use inborn_store::{Command, CommandQuery, Invocation, InvocationState, SqliteStore};
use inborn_testkit::{Fault, FaultyStore};
use inborn_wire::message_gateway::report::{Outcome, Report};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
/// When what could not be read is tried again.
const LATER: UnixTime = NOW.plus(60);

fn machine(number: u8) -> InstanceId {
    InstanceId::from_bytes([number; 9])
}

/// A command for machine 1.
fn sent(id: &str) -> SentCommand {
    let invocation = Invocation {
        command: id.into(),
        instance: machine(1),
        instance_name: String::new(),
        state: InvocationState::Pending,
        acknowledged_at: None,
        trace: String::new(),
        steps: Vec::new(),
    };
    let command = Command {
        account: inborn_identity::AccountId::new(123_456_789_012).unwrap(),
        id: id.into(),
        requested_at: NOW,
        document_name: "d".into(),
        parameters: "{}".into(),
        targets: "{}".into(),
        comment: String::new(),
        delivery_seconds: 600,
        execution_seconds: 100,
        concurrency_max: "1".into(),
        errors_max: "0".into(),
        progress: super::super::first_progress([InvocationState::Pending].into_iter()),
    };
    SentCommand { command, content: "{}".into(), invocations: vec![invocation] }
}

async fn store_with(commands: &[&str]) -> FaultyStore {
    let store = FaultyStore::new(Arc::new(SqliteStore::in_memory().unwrap()));
    for id in commands {
        store.put_command(sent(id)).await.unwrap();
    }
    store
}

fn engine_of(open: Vec<SentCommand>) -> Engine {
    Engine::new(mpsc::channel(1).1, open, Arc::default(), Arc::default())
}

/// One turn in which this happens on machine 1, without sending.
async fn turn(engine: &mut Engine, store: &dyn Store, events: &[(&str, Event)]) -> Failed {
    engine.read_again(store, NOW).await;
    let mut turn = Turn::default();
    for (command, event) in events {
        let (command, event, done) = ((*command).to_owned(), event.clone(), oneshot::channel().0);
        engine.take(Input::Event { command, instance: machine(1), event, done }, &mut turn, NOW);
    }
    engine.settle(store, &turn, NOW).await
}

async fn read(store: &dyn Store, id: &str) -> Invocation {
    store.sent_command(id.into(), Vec::new()).await.unwrap().unwrap().invocations.remove(0)
}

async fn state(store: &dyn Store, id: &str) -> InvocationState {
    read(store, id).await.state
}

fn success() -> Event {
    Event::Reported(Report { outcome: Outcome::Success, trace: String::new(), steps: Vec::new() })
}

#[tokio::test]
async fn what_cannot_be_stored_fails_alone() {
    let store = store_with(&["a", "b", "c"]).await;
    let mut bad = sent("b");
    bad.invocations[0].trace = "t".repeat(Invocation::STEPS_BYTES_MAX + 1);
    let mut engine = engine_of(vec![sent("a"), bad, sent("c")]);
    let events = ["a", "b", "c"].map(|id| (id, Event::Acknowledged));
    let failed = turn(&mut engine, &store, &events).await;
    assert_eq!(failed.keys().collect::<Vec<_>>(), ["b"]);
    assert!(matches!(failed["b"], StoreError::Invalid(_)));
    for (id, expected) in
        [("a", InvocationState::InProgress), ("b", InvocationState::Pending), ("c", InvocationState::InProgress)]
    {
        assert_eq!(state(&store, id).await, expected, "{id}");
    }
    // What went well is taken over: it goes on from there.
    assert_eq!(turn(&mut engine, &store, &[("a", success()), ("c", success())]).await, Failed::new());
    assert_eq!(engine.commands.keys().collect::<Vec<_>>(), ["b"]);
}

/// Of all commands together no more than so much is in memory of what is under way; all of it is there in the end.
#[tokio::test]
async fn running_output_of_all_commands_is_bounded() {
    let step = |bytes: usize| inborn_wire::message_gateway::report::Step {
        name: "s".into(),
        status: "InProgress".into(),
        code: 0,
        started: String::new(),
        finished: String::new(),
        output: String::new(),
        standard_output: "x".repeat(bytes),
        standard_error: String::new(),
    };
    let told = |outcome, bytes| Event::Reported(Report { outcome, trace: String::new(), steps: vec![step(bytes)] });
    let ids: Vec<String> = (0..3).map(|number| format!("c{number}")).collect();
    let store = store_with(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut engine = engine_of(ids.iter().map(|id| sent(id)).collect());
    // As if others took all but a thousand bytes.
    let others = RUNNING_OUTPUT_BYTES_MAX - 1000;
    engine.commands.get_mut("c2").unwrap().hold_more(others);
    let events = ["c0", "c1"].map(|id| (id, told(Outcome::InProgress, 600)));
    assert_eq!(turn(&mut engine, &store, &events).await, Failed::new());
    let output = async |id: &str| read(&store, id).await.steps.first().map_or(0, |step| step.standard_output.len());
    let names = "s".len() + "InProgress".len();
    assert_eq!([output("c0").await, output("c1").await], [600, 1000 - 600 - 2 * names]);
    assert_eq!(engine.room(), 0);
    assert_eq!(turn(&mut engine, &store, &[("c0", told(Outcome::Success, 700))]).await, Failed::new());
    assert_eq!(engine.room(), 600 + names, "what is over takes no memory");
    assert_eq!(turn(&mut engine, &store, &[("c1", told(Outcome::InProgress, 600))]).await, Failed::new());
    assert_eq!((output("c1").await, engine.room()), (600, 400 - names));
}

#[tokio::test]
async fn what_is_in_doubt_is_read_again() {
    let store = store_with(&["a", "b"]).await;
    let mut engine = engine_of(vec![sent("a"), sent("b")]);
    // It took effect: the command is over, and time does not end it anew.
    store.fail_next(Fault::io_after());
    let failed = turn(&mut engine, &store, &[("a", success())]).await;
    assert_eq!(failed.keys().collect::<Vec<_>>(), ["a"], "the agent tells it again");
    assert_eq!(engine.commands.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(turn(&mut engine, &store, &[("a", Event::DeliveryOver)]).await, Failed::new());
    assert_eq!(state(&store, "a").await, InvocationState::Success);
    // It took none: it is where it was.
    store.fail_next(Fault::io_before());
    turn(&mut engine, &store, &[("b", success())]).await;
    assert_eq!(state(&store, "b").await, InvocationState::Pending);
    assert_eq!(turn(&mut engine, &store, &[("b", success())]).await, Failed::new());
    assert_eq!(state(&store, "b").await, InvocationState::Success);
}

#[tokio::test]
async fn nothing_becomes_of_what_stays_in_doubt() {
    let mut engine = engine_of(vec![sent("a")]);
    let closed = store_with(&["a"]).await;
    closed.close().await.unwrap();
    assert_eq!(turn(&mut engine, &closed, &[("a", success())]).await.len(), 1);
    assert_eq!(engine.in_doubt.len(), 1);
    // As it is read again it had ended meanwhile, otherwise than what is told now.
    let store = store_with(&["a"]).await;
    let mut other = engine_of(vec![sent("a")]);
    turn(&mut other, &store, &[("a", Event::Refused("no".into()))]).await;
    let failed = {
        let drafts = BTreeMap::from([("a".to_owned(), Draft::default())]);
        engine.store(&store, drafts, LATER).await.0
    };
    assert_eq!(failed.len(), 1, "the draft was made before it was read");
    assert_eq!(turn(&mut engine, &store, &[("a", success())]).await, Failed::new());
    assert!(engine.commands.is_empty() && engine.in_doubt.is_empty());
    assert_eq!(state(&store, "a").await, InvocationState::Failed);
}

/// A turn in which time is looked at.
async fn tick(engine: &mut Engine, store: &dyn Store, now: UnixTime) -> Failed {
    let turn = Turn { gone: Some(BTreeSet::new()), ..Turn::default() };
    engine.settle(store, &turn, now).await
}

/// Two servers over one store, of which the second has not heard of anything since its start.
#[tokio::test]
async fn who_has_not_heard_ends_nothing_that_another_has_finished() {
    let all = ["a", "b", "c"].map(|id| {
        let mut sent = sent(id);
        sent.command.execution_seconds = 10_000;
        sent
    });
    let store = store_with(&[]).await;
    for sent in &all {
        store.put_command(sent.clone()).await.unwrap();
    }
    let engine = || engine_of(all.to_vec());
    let (mut one, mut other) = (engine(), engine());
    assert_eq!(turn(&mut one, &store, &[("a", success()), ("b", Event::Acknowledged)]).await, Failed::new());
    // The time to take it is over: for "c", which nobody has taken.
    assert_eq!(tick(&mut other, &store, NOW.plus(600)).await, Failed::new());
    for (id, expected) in
        [("a", InvocationState::Success), ("b", InvocationState::InProgress), ("c", InvocationState::DeliveryTimedOut)]
    {
        assert_eq!(state(&store, id).await, expected, "{id}");
    }
    let command = store.sent_command("b".into(), vec![]).await.unwrap().unwrap();
    assert_eq!(command.command.progress.state, inborn_store::CommandState::InProgress);
    assert!(!command.content.is_empty());
    assert_eq!(other.commands.keys().collect::<Vec<_>>(), ["b"], "it knows now");
    // The last word comes to the other server, and the first has not heard of it.
    assert_eq!(turn(&mut other, &store, &[("b", success())]).await, Failed::new());
    assert_eq!(tick(&mut one, &store, NOW.plus(20_000)).await, Failed::new());
    assert_eq!(state(&store, "b").await, InvocationState::Success);
    assert_eq!(state(&store, "c").await, InvocationState::DeliveryTimedOut);
    assert!(one.commands.is_empty() && one.by_instance.is_empty());
}

/// What is told of a command that only another server knows is not lost.
#[tokio::test]
async fn what_another_has_sent_is_read_when_somebody_speaks_of_it() {
    let store = store_with(&["a"]).await;
    let mut engine = engine_of(vec![]);
    let act = |command: &str| Act {
        command: command.into(),
        what: What::Event(machine(1), success()),
        done: oneshot::channel().0,
    };
    let spoken_of = Turn { acts: vec![act("a"), act("of nobody")], ..Turn::default() };
    assert_eq!(engine.read_unknown(&store, &spoken_of).await, Failed::new());
    assert_eq!(engine.settle(&store, &spoken_of, NOW).await, Failed::new());
    assert_eq!(state(&store, "a").await, InvocationState::Success);
    assert!(engine.commands.is_empty());
    let closed = store_with(&[]).await;
    closed.close().await.unwrap();
    let mut engine = engine_of(vec![]);
    assert_eq!(engine.read_unknown(&closed, &spoken_of).await.len(), 2, "the agent tells it again");
}

/// What was told is read, from the machines that were named or from all; what could not be read is read later.
#[tokio::test]
async fn what_others_have_told_is_read() {
    let store = store_with(&["a", "b"]).await;
    let (mut one, mut other) = (engine_of(vec![sent("a"), sent("b")]), engine_of(vec![sent("a")]));
    turn(&mut one, &store, &[("a", Event::Acknowledged)]).await;
    other.told.lock().unwrap().add("a", &[machine(1)]);
    other.told.lock().unwrap().add("b", &[machine(1)]);
    let closed = store_with(&[]).await;
    closed.close().await.unwrap();
    assert!(other.read_told(&closed, NOW).await.is_empty());
    assert_eq!(other.read_told(&store, LATER).await.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(other.commands.len(), 2);
    assert_eq!(other.to_read, Told::default());
    assert!(!other.commands["a"].is_unsent(machine(1)) && other.commands["b"].is_unsent(machine(1)));
    // All of it, after it was away for too long: one is over, one is new.
    turn(&mut one, &store, &[("a", success())]).await;
    store.put_command(sent("c")).await.unwrap();
    other.told.lock().unwrap().everything = true;
    other.read_told(&store, LATER).await;
    let mut known: Vec<_> = other.commands.keys().cloned().collect();
    known.sort_unstable();
    assert_eq!(known, ["b", "c"]);
}

/// One that cannot be read holds up no other, and is left alone for a while, whoever has changed it meanwhile.
#[tokio::test]
async fn a_command_that_cannot_be_read_holds_up_no_other() {
    let store = store_with(&["a", "b", "c"]).await;
    let all = || ["a", "b", "c"].map(sent).to_vec();
    let (mut one, mut other) = (engine_of(all()), engine_of(all()));
    turn(&mut one, &store, &["a", "b", "c"].map(|id| (id, Event::Acknowledged))).await;
    for id in ["a", "b", "c"] {
        other.told.lock().unwrap().add(id, &[machine(1)]);
    }
    store.hide_command(Some("a"));
    let reads = store.command_reads();
    assert_eq!(other.read_told(&store, NOW).await.into_iter().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(store.command_reads(), reads + 3);
    assert!(other.read_told(&store, NOW).await.is_empty());
    assert_eq!(store.command_reads(), reads + 3, "it is left alone");
    // Nor is a turn thought through again and again for it: it would come to the same.
    let writes = store.writes();
    let failed = turn(&mut other, &store, &[("a", success()), ("b", success())]).await;
    assert_eq!(failed.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!((state(&store, "b").await, store.writes()), (InvocationState::Success, writes + 1));
    store.hide_command(None);
    assert!(other.read_told(&store, NOW).await.is_empty());
    assert_eq!(other.read_told(&store, NOW.plus(1)).await.into_iter().collect::<Vec<_>>(), ["a"]);
    assert_eq!(turn(&mut other, &store, &[("a", success())]).await, Failed::new());
    assert_eq!(state(&store, "a").await, InvocationState::Success);
    // The same of those in doubt.
    let store = store_with(&["a", "b"]).await;
    let mut engine = engine_of(["a", "b"].map(sent).to_vec());
    store.hide_command(Some("a"));
    store.fail_next(Fault::io_after());
    turn(&mut engine, &store, &["a", "b"].map(|id| (id, Event::Acknowledged))).await;
    assert_eq!(engine.in_doubt.keys().collect::<Vec<_>>(), ["a"]);
}

/// What an agent says of commands that are over, or that nobody sent, reads no output, and the second time nothing at all.
#[tokio::test]
async fn what_is_over_is_not_read_whenever_an_agent_speaks_of_it() {
    let store = store_with(&["a"]).await;
    let mut other = engine_of(vec![sent("a")]);
    turn(&mut other, &store, &[("a", success())]).await;
    let mut engine = engine_of(vec![]);
    let act = |command: &str| Act {
        command: command.into(),
        what: What::Event(machine(1), success()),
        done: oneshot::channel().0,
    };
    let spoken_of = || Turn { acts: vec![act("a"), act("of nobody")], ..Turn::default() };
    let reads = store.command_reads();
    assert_eq!(engine.read_unknown(&store, &spoken_of()).await, Failed::new());
    assert_eq!(store.command_reads(), reads);
    let closed = store_with(&[]).await;
    closed.close().await.unwrap();
    for engine in [&mut engine, &mut other] {
        let again = Turn { acts: vec![act("a")], ..Turn::default() };
        assert_eq!(engine.read_unknown(&closed, &again).await, Failed::new(), "it is not even looked for");
    }
    // What is sent meanwhile is told of, and known.
    store.put_command(sent("of nobody")).await.unwrap();
    engine.told.lock().unwrap().add("of nobody", &[]);
    engine.read_told(&store, NOW).await;
    assert_eq!(engine.commands.keys().collect::<Vec<_>>(), ["of nobody"]);
}

/// What nobody has told of may have been sent: it is not over before its agent says so.
#[tokio::test]
async fn what_is_found_after_being_away_may_have_been_sent() {
    let store = store_with(&["a", "b"]).await;
    let mut engine = engine_of(vec![]);
    engine.told.lock().unwrap().add("a", &[]);
    engine.read_told(&store, NOW).await;
    engine.told.lock().unwrap().everything = true;
    engine.read_told(&store, NOW).await;
    let mut turn = Turn::default();
    for id in ["a", "b"] {
        engine.take(
            Input::Cancel { command: id.into(), instances: vec![], done: oneshot::channel().0 },
            &mut turn,
            NOW,
        );
    }
    assert_eq!(engine.settle(&store, &turn, NOW).await, Failed::new());
    assert_eq!(state(&store, "a").await, InvocationState::Cancelled);
    assert_eq!(state(&store, "b").await, InvocationState::Cancelling);
}

/// A command for these machines, of which one at a time may run it.
fn sent_to(id: &str, machines: core::ops::RangeInclusive<u8>) -> SentCommand {
    let mut sent = sent(id);
    let one = sent.invocations.remove(0);
    sent.invocations = machines.map(|number| Invocation { instance: machine(number), ..one.clone() }).collect();
    sent
}

/// What a server that reaches these machines may send of a command, as the store answers.
async fn claim(engine: &mut Engine, store: &dyn Store, reached: &[u8], now: UnixTime) -> Vec<InstanceId> {
    let looked = engine.looked(["a".to_owned()].into(), &BTreeSet::new());
    let drafts = engine.claims(&looked, |instance| reached.iter().any(|number| machine(*number) == instance), now);
    let mut claimed = engine.store_claims(store, drafts, now).await;
    claimed.remove("a").unwrap_or_default().into_iter().collect()
}

/// What an agent has told one server stays, whatever another makes of the command that has not heard of it.
#[tokio::test]
async fn steps_that_another_server_has_taken_down_stay() {
    let step = |name: &str| inborn_wire::message_gateway::report::Step {
        name: name.into(),
        status: "Success".into(),
        code: 0,
        started: String::new(),
        finished: String::new(),
        output: String::new(),
        standard_output: format!("of {name}"),
        standard_error: String::new(),
    };
    let told = |outcome, name: &str| Event::Reported(Report { outcome, trace: String::new(), steps: vec![step(name)] });
    let names = async |store: &FaultyStore| {
        read_words(store).await.steps.iter().map(|step| step.name.clone()).collect::<Vec<_>>()
    };
    for last in [
        told(Outcome::InProgress, "2"),
        told(Outcome::Success, "2"),
        Event::Cancel { was_sent: true },
        Event::ExecutionOver,
        Event::MachineGone,
        Event::Refused("no".into()),
    ] {
        let store = store_with(&["a"]).await;
        let mut one = engine_of(vec![sent("a")]);
        assert_eq!(turn(&mut one, &store, &[("a", Event::Acknowledged)]).await, Failed::new());
        // It has heard so far.
        let mut other = engine_of(store.open_commands().await.unwrap());
        assert_eq!(turn(&mut one, &store, &[("a", told(Outcome::InProgress, "1"))]).await, Failed::new());
        assert_eq!(turn(&mut other, &store, &[("a", last.clone())]).await, Failed::new());
        let mut expected = vec!["1"];
        if matches!(last, Event::Reported(_)) {
            expected.push("2");
        }
        assert_eq!(names(&store).await, expected, "{last:?}");
        let is_said = matches!(last, Event::Refused(_));
        assert_eq!(read_words(&store).await.trace == "no", is_said, "{last:?}");
    }
}

/// With what its agent has told, also when it is over.
async fn read_words(store: &FaultyStore) -> Invocation {
    let query = CommandQuery { limit: 1, ..CommandQuery::default() };
    store.invocations(query).await.unwrap().remove(0)
}

/// What was written down as sent is sent by whoever reaches the machine, if the store has it so still.
#[tokio::test]
async fn whether_it_is_sent_the_store_says() {
    let store = store_with(&["a"]).await;
    let mut one = engine_of(vec![sent("a")]);
    let mut other = engine_of(vec![sent("a")]);
    assert_eq!(claim(&mut one, &store, &[], NOW).await, [], "it does not reach it");
    assert_eq!(claim(&mut one, &store, &[1], NOW).await, [machine(1)]);
    // Who has not heard of that finds it out, and does not send in the same turn.
    assert!(other.commands["a"].is_unsent(machine(1)));
    assert_eq!(claim(&mut other, &store, &[1], NOW).await, []);
    assert!(!other.commands["a"].is_unsent(machine(1)));
    // The first has died, for all that anybody knows: its agent is here, and has not said that it has it.
    let writes = store.open_commands().await.unwrap();
    assert_eq!(claim(&mut other, &store, &[1], NOW).await, [machine(1)]);
    assert_eq!(store.open_commands().await.unwrap(), writes);
    other.commands.get_mut("a").unwrap().note_sent(machine(1), Due::Command, NOW);
    assert_eq!(claim(&mut other, &store, &[1], NOW.plus(14)).await, []);
    assert_eq!(claim(&mut other, &store, &[1], NOW.plus(15)).await, [machine(1)]);
    // It has it, or it is to be ended: who has not heard of that sends nothing.
    for event in [Event::Acknowledged, Event::Cancel { was_sent: true }, success()] {
        let store = store_with(&["a"]).await;
        let mut one = engine_of(vec![sent("a")]);
        assert_eq!(claim(&mut one, &store, &[1], NOW).await, [machine(1)]);
        let mut other = engine_of(store.open_commands().await.unwrap());
        assert_eq!(turn(&mut one, &store, &[("a", event.clone())]).await, Failed::new());
        assert_eq!(claim(&mut other, &store, &[1], NOW).await, [], "{event:?}");
        let due = other.commands.get("a").map_or(vec![], |command| command.due(None, NOW));
        assert!(!due.contains(&(machine(1), Due::Command)), "{event:?}: it knows now");
    }
    // Nor what the store has not answered.
    let store = store_with(&["a"]).await;
    for fault in [Fault::io_before(), Fault::io_after()] {
        let mut one = engine_of(vec![sent("a")]);
        store.fail_next(fault);
        assert_eq!(claim(&mut one, &store, &[1], NOW).await, []);
    }
}

/// Who finds no room for what it would send reads which machines take it, but not again and again.
#[tokio::test]
async fn who_finds_no_room_learns_who_takes_it() {
    let store = store_with(&[]).await;
    let all = sent_to("a", 1..=4);
    store.put_command(all.clone()).await.unwrap();
    let [mut one, mut other] = [engine_of(vec![all.clone()]), engine_of(vec![all])];
    assert_eq!(claim(&mut one, &store, &[3], NOW).await, [machine(3)]);
    let reads = store.command_reads();
    assert_eq!(claim(&mut other, &store, &[1], NOW).await, []);
    assert!(!other.commands["a"].is_unsent(machine(3)) && other.commands["a"].is_unsent(machine(1)));
    assert_eq!((other.commands["a"].room(), store.command_reads()), (0, reads + 2));
    // So it asks no more.
    let writes = store.writes();
    assert_eq!(claim(&mut other, &store, &[1], NOW).await, []);
    assert_eq!((store.writes(), store.command_reads()), (writes, reads + 2));
    // The place goes to another one each time, before anybody has told.
    for (from, to, seconds, whole) in [(3, 2, 14, 0), (2, 4, 15, 1)] {
        let now = NOW.plus(seconds);
        let reads = store.command_reads();
        for engine in [&mut one, &mut other] {
            engine.told.lock().unwrap().add("a", &[machine(from)]);
        }
        let over = CommandQuery { limit: 100, ..CommandQuery::default() };
        let before =
            store.invocations(over).await.unwrap().into_iter().find(|own| own.instance == machine(from)).unwrap();
        let after = Invocation { state: InvocationState::Success, ..before.clone() };
        let ends = inborn_store::InvocationChange::new(&before, after);
        let ends = CommandChange { invocations: vec![ends], ..one.commands["a"].change(&Draft::default()) };
        store.change_commands(vec![ends]).await.unwrap();
        one.read_told(&store, now).await;
        other.read_told(&store, now).await;
        assert_eq!(claim(&mut one, &store, &[to], now).await, [machine(to)]);
        assert_eq!(claim(&mut other, &store, &[1], now).await, []);
        assert_eq!(store.command_reads(), reads + 3 + whole, "{seconds}");
        assert_eq!(other.commands["a"].is_unsent(machine(to)), whole == 0, "{seconds}");
    }
    // To be ended is found out with the refusal.
    let store = store_with(&["a"]).await;
    let [mut one, mut other] = [engine_of(vec![sent("a")]), engine_of(vec![sent("a")])];
    let cancel = CommandChange { is_cancelled: true, ..one.commands["a"].change(&Draft::default()) };
    store.change_commands(vec![cancel]).await.unwrap();
    let reads = store.command_reads();
    for engine in [&mut one, &mut other] {
        assert_eq!(claim(engine, &store, &[1], NOW).await, []);
    }
    assert_eq!(store.command_reads(), reads + 2, "the machine alone");
    let writes = store.writes();
    assert_eq!(claim(&mut other, &store, &[1], NOW).await, []);
    assert_eq!(store.writes(), writes);
}

/// Of all commands together, and of those that are sent again for themselves.
#[test]
fn claims_of_a_turn_below_at_and_above_the_most() {
    for (machines, expected) in [(127, 254), (128, 256), (129, 256)] {
        let of = |id: &str, state| {
            let mut sent = sent_to(id, 1..=machines);
            sent.command.concurrency_max = "1000".into();
            sent.invocations.iter_mut().for_each(|invocation| invocation.state = state);
            sent
        };
        let (new, again) = (InvocationState::Pending, InvocationState::Delayed);
        let engine = engine_of(vec![of("a", again), of("b", again), of("c", new), of("d", new)]);
        let looked = engine.looked(["a", "b", "c", "d"].map(str::to_owned).into(), &BTreeSet::new());
        let claims = engine.claims(&looked, |_| true, NOW);
        let count = |id: &str| engine.commands[id].change(&claims[id]).invocations.len();
        assert_eq!((count("a") + count("b"), count("c") + count("d")), (expected, expected));
    }
}

/// However many commands find no room, few of them are read whole in one turn.
#[tokio::test]
async fn whole_reads_of_a_turn_below_at_and_above_the_most() {
    for (count, whole) in [(3, 3), (4, 4), (5, 4)] {
        let ids: Vec<String> = (0..count).map(|number| format!("c{number}")).collect();
        let store = store_with(&[]).await;
        let all: Vec<_> = ids.iter().map(|id| sent_to(id, 1..=2)).collect();
        for sent in &all {
            store.put_command(sent.clone()).await.unwrap();
        }
        let [mut one, mut other] = [engine_of(all.clone()), engine_of(all)];
        let looked = one.looked(ids.iter().cloned().collect(), &BTreeSet::new());
        let drafts = one.claims(&looked, |instance| instance == machine(2), NOW);
        assert_eq!(one.store_claims(&store, drafts, NOW).await.len(), count);
        let reads = store.command_reads();
        let drafts = other.claims(&looked, |instance| instance == machine(1), NOW);
        let claimed = other.store_claims(&store, drafts, NOW).await;
        assert!(claimed.values().all(BTreeSet::is_empty));
        assert_eq!(store.command_reads() - reads, count as u64 + whole, "{count}");
    }
}
