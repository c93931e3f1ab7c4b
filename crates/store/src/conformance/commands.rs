//! Cases: documents and commands.

use std::sync::Arc;

use super::samples::{LAUNCHED_AT, account, command, command_change, document, id, invocation, sent};
use crate::{
    Command, CommandChange, CommandOutcome, CommandPlace, CommandProgress, CommandQuery, CommandRetention,
    CommandState, Conflict, Document, Invocation, InvocationState, SentCommand, Store, StoreError,
};

/// Documents come back as given, ordered by name; none is replaced; one that is gone may come again.
pub async fn documents_are_kept_until_they_are_deleted(store: Arc<dyn Store>) {
    assert_eq!(store.documents().await, Ok(vec![]));
    for one in [document("b", 2), document("a", 1)] {
        assert_eq!(store.put_document(one).await, Ok(()));
    }
    assert_eq!(store.put_document(document("a", 3)).await, Err(Conflict::Exists("a document").into()));
    assert_eq!(store.documents().await, Ok(vec![document("a", 1), document("b", 2)]));
    assert_eq!(store.delete_document(account(), "a".into()).await, Ok(true));
    assert_eq!(store.delete_document(account(), "a".into()).await, Ok(false));
    assert_eq!(store.put_document(document("a", 4)).await, Ok(()));
    assert_eq!(store.documents().await, Ok(vec![document("a", 4), document("b", 2)]));
}

/// Names of 1 to 128 bytes, texts of 1 to 65536.
pub async fn document_limits(store: Arc<dyn Store>) {
    for (length, fits) in [(0, false), (1, true), (127, true), (128, true), (129, false)] {
        assert_eq!(store.put_document(document(&"n".repeat(length), 1)).await.is_ok(), fits, "name {length}");
    }
    for (length, fits) in [(0, false), (1, true), (65_535, true), (65_536, true), (65_537, false)] {
        let content = "c".repeat(length);
        let document = Document { content, ..document(&format!("document-{length}"), 1) };
        assert_eq!(store.put_document(document).await.is_ok(), fits, "content {length}");
    }
    for (length, fits) in [(4095, true), (4096, true), (4097, false)] {
        let display_name = "d".repeat(length);
        let document = Document { display_name, ..document(&format!("named-{length}"), 1) };
        assert_eq!(store.put_document(document).await.is_ok(), fits, "display name {length}");
    }
}

fn all() -> CommandQuery {
    CommandQuery { limit: CommandQuery::LIMIT_MAX, ..CommandQuery::default() }
}

/// Commands come back as sent, and as they have come on; what is finished is no longer open.
pub async fn commands_come_back_as_far_as_they_have_come(store: Arc<dyn Store>) {
    let (first, second) = (sent(1, 10, &[2, 1]), sent(2, 11, &[1]));
    for one in [&first, &second] {
        assert_eq!(store.put_command(one.clone()).await, Ok(()));
    }
    assert_eq!(store.put_command(first.clone()).await, Err(Conflict::Exists("a command").into()));
    let by_machine = |sent: &SentCommand| {
        let mut sent = sent.clone();
        sent.invocations.sort_by_key(|invocation| invocation.instance);
        sent
    };
    assert_eq!(store.open_commands().await, Ok(vec![by_machine(&first), by_machine(&second)]));
    assert_eq!(store.commands(all()).await, Ok(vec![second.command.clone(), first.command.clone()]));

    let pending = |number, machine| invocation(number, machine, InvocationState::Pending, 0);
    let failed = invocation(2, 1, InvocationState::Failed, 2);
    let running = invocation(1, 2, InvocationState::InProgress, 1);
    let changes = vec![
        command_change(2, vec![(pending(2, 1), failed.clone())]),
        command_change(1, vec![(pending(1, 2), running.clone())]),
        command_change(9, vec![(pending(9, 1), invocation(9, 1, InvocationState::Success, 0))]),
    ];
    let done =
        CommandProgress { state: CommandState::Failed, targets: 1, completed: 1, errors: 1, delivery_timed_out: 0 };
    let half = CommandProgress { state: CommandState::InProgress, ..first.command.progress };
    let became = [Some(done), Some(half), None].map(|progress| CommandOutcome {
        progress,
        refused: vec![],
        is_written: progress.is_some(),
    });
    assert_eq!(store.change_commands(changes).await, Ok(became.to_vec()));
    let found = store.commands(CommandQuery { command: Some(command(2, 0).id), ..all() }).await.unwrap();
    assert_eq!(found[0].progress, done);
    let mut open = by_machine(&first);
    (open.command.progress, open.invocations[1]) = (half, running.clone());
    assert_eq!(store.open_commands().await, Ok(vec![open.clone()]));
    let expected = vec![failed.clone(), open.invocations[0].clone(), running.clone()];
    assert_eq!(store.invocations(all()).await, Ok(expected));

    // One of them, on all of its machines or on some.
    let one = async |number, machines: &[u32]| {
        let machines = machines.iter().map(|machine| id(*machine)).collect();
        store.sent_command(command(number, 0).id, machines).await.unwrap()
    };
    assert_eq!(one(1, &[]).await, Some(open.clone()));
    assert_eq!(one(1, &[2, 7]).await, Some(SentCommand { invocations: vec![running], ..open }));
    let over = SentCommand { content: String::new(), invocations: vec![failed.without_last_words()], ..second };
    let over = SentCommand { command: Command { progress: done, ..over.command.clone() }, ..over };
    assert_eq!(one(2, &[]).await, Some(over));
    assert_eq!(one(9, &[]).await, None);
}

/// Whatever is told afterwards: neither a command nor an invocation of which nothing more becomes changes, nor its steps.
pub async fn what_has_ended_stays_as_it_ended(store: Arc<dyn Store>) {
    // Every state that is not the last may become every other; one that is stays.
    for (number, before) in (1..).zip(InvocationState::ALL.iter().copied()) {
        let mut sent = sent(number, 10, &[1, 2]);
        let first = invocation(number, 1, before, 1);
        sent.invocations[0] = first.clone();
        let pending = sent.invocations[1].clone();
        assert_eq!(store.put_command(sent).await, Ok(()));
        let after = invocation(number, 1, InvocationState::InProgress, 2);
        let other = invocation(number, 2, InvocationState::Success, 1);
        let change = command_change(number, vec![(first.clone(), after.clone()), (pending, other.clone())]);
        let outcomes = store.change_commands(vec![change]).await.unwrap();
        assert_eq!(outcomes[0].refused, if before.is_terminal() { vec![id(1)] } else { vec![] }, "{before}");
        let query = CommandQuery { command: Some(command(number, 0).id), ..all() };
        let own = store.invocations(query).await.unwrap();
        assert_eq!(own, [if before.is_terminal() { first } else { after }, other], "{before}");
    }
    // One that is over does not come back, whoever wants it ended.
    let mut over = sent(90, 10, &[1]);
    over.command.progress.state = CommandState::Failed;
    over.invocations[0] = invocation(90, 1, InvocationState::Failed, 1);
    assert_eq!(store.put_command(over.clone()).await, Ok(()));
    let cancelled = CommandChange { is_cancelled: true, ..command_change(90, vec![]) };
    let outcome = CommandOutcome { progress: Some(over.command.progress), refused: vec![], is_written: false };
    assert_eq!(store.change_commands(vec![cancelled]).await, Ok(vec![outcome]));
    assert!(store.open_commands().await.unwrap().iter().all(|sent| sent.command.id != over.command.id));
}

/// Who believes something else of a machine than is so changes nothing there, and is told; what else it says is taken, and how far
/// the command is as a whole is made out of all machines.
pub async fn changes_of_commands_are_compared(store: Arc<dyn Store>) {
    let one = sent(1, 10, &[1, 2]);
    assert_eq!(store.put_command(one.clone()).await, Ok(()));
    let [first, second] = [one.invocations[0].clone(), one.invocations[1].clone()];
    let taken = Invocation { acknowledged_at: Some(LAUNCHED_AT.plus(1)), ..first.clone() };
    let running = invocation(1, 1, InvocationState::InProgress, 1);
    let later = Invocation { acknowledged_at: Some(LAUNCHED_AT.plus(9)), ..running.clone() };
    let too_late = invocation(1, 1, InvocationState::DeliveryTimedOut, 0);
    let success = invocation(1, 1, InvocationState::Success, 2);
    let change = async |before: &Invocation, after: &Invocation| {
        let change = command_change(1, vec![(before.clone(), after.clone())]);
        let outcome = store.change_commands(vec![change]).await.unwrap().remove(0);
        (outcome.refused.is_empty(), outcome.progress.unwrap())
    };
    assert!(change(&first, &running).await.0);
    // Who has not heard that the machine has it would end it.
    for before in [&first, &taken, &later] {
        let (is_taken, progress) = change(before, &too_late).await;
        assert!(!is_taken);
        assert_eq!((progress.state, progress.completed), (CommandState::InProgress, 0));
    }
    let both = command_change(
        1,
        vec![(first.clone(), too_late), (second.clone(), invocation(1, 2, InvocationState::Success, 1))],
    );
    let outcome = store.change_commands(vec![both]).await.unwrap().remove(0);
    assert_eq!((outcome.refused, outcome.progress.unwrap().completed), (vec![id(1)], 1));
    let (is_taken, progress) = change(&running, &success).await;
    assert!(is_taken);
    assert_eq!((progress.state, progress.completed), (CommandState::Success, 2));
    assert_eq!(store.open_commands().await, Ok(vec![]));
    let found = store.invocations(all()).await.unwrap();
    assert_eq!(found, [success.clone(), invocation(1, 2, InvocationState::Success, 1)]);

    // To be ended is said once, and stays said until all has ended.
    assert_eq!(store.put_command(sent(2, 11, &[1, 2])).await, Ok(()));
    let cancel = CommandChange { is_cancelled: true, ..command_change(2, vec![]) };
    let outcome = store.change_commands(vec![cancel]).await.unwrap().remove(0);
    assert_eq!(outcome.progress.unwrap().state, CommandState::Cancelling);
    for (machine, expected) in [(1, CommandState::Cancelling), (2, CommandState::Cancelled)] {
        let before = invocation(2, machine, InvocationState::Pending, 0);
        let change = command_change(2, vec![(before, invocation(2, machine, InvocationState::Cancelled, 0))]);
        let outcome = store.change_commands(vec![change]).await.unwrap().remove(0);
        assert_eq!(outcome.progress.unwrap().state, expected);
    }
    let twice = command_change(2, vec![(first.clone(), success.clone()), (first, success)]);
    let twice = CommandChange { command: command(1, 0).id, ..twice };
    assert!(matches!(store.change_commands(vec![twice]).await, Err(StoreError::Invalid(_))));
}

/// What an agent has told is written only where a change says something of it, and then compared as well: who has not heard of it
/// makes none of it undone.
pub async fn what_agents_have_told_is_compared_too(store: Arc<dyn Store>) {
    let one = sent(1, 10, &[1]);
    assert_eq!(store.put_command(one.clone()).await, Ok(()));
    let stale = invocation(1, 1, InvocationState::InProgress, 1);
    let change = async |before: &Invocation, after: &Invocation| {
        let change = command_change(1, vec![(before.clone(), after.clone())]);
        let outcome = store.change_commands(vec![change]).await.unwrap().remove(0);
        assert_eq!(outcome.refused.is_empty(), outcome.is_written);
        outcome.is_written
    };
    let there = async || store.invocations(all()).await.unwrap().remove(0);
    assert!(change(&one.invocations[0], &stale).await);
    let told = Invocation { trace: "later".into(), ..invocation(1, 1, InvocationState::InProgress, 3) };
    assert!(change(&stale, &told).await);
    // Of other steps, of a shorter trace, of the trace alone: each would be taken for what was there before.
    let other = invocation(1, 1, InvocationState::InProgress, 2);
    let traced = Invocation { trace: String::new(), ..stale.clone() };
    let mut same_steps = Invocation { trace: stale.trace.clone(), ..told.clone() };
    for (before, after) in [(&stale, &other), (&stale, &traced), (&same_steps, &told), (&same_steps, &other)] {
        assert!(!change(before, after).await);
        assert_eq!(there().await, told);
    }
    // A step that is otherwise in one of its texts, or its code.
    same_steps = told.clone();
    same_steps.steps[2].standard_error.push('x');
    assert!(!change(&same_steps, &other).await);
    same_steps = told.clone();
    same_steps.steps[2].code += 1;
    assert!(!change(&same_steps, &other).await);
    // Who says nothing of it changes the rest.
    let ending = Invocation { state: InvocationState::Cancelling, ..stale.clone() };
    assert!(change(&stale, &ending).await);
    let expected = Invocation { state: InvocationState::Cancelling, ..told };
    assert_eq!(there().await, expected);
    let last = Invocation { trace: "last".into(), ..invocation(1, 1, InvocationState::Cancelled, 0) };
    assert!(change(&expected, &last).await);
    assert_eq!(there().await, last, "steps that are said to be gone are gone");
}

/// What is under way is sent again only if the store has it so still; that takes no room, and changes nothing.
pub async fn who_sends_again_asks_as_well(store: Arc<dyn Store>) {
    let mut one = sent(1, 10, &[1, 2]);
    one.invocations[0] = invocation(1, 1, InvocationState::Delayed, 0);
    assert_eq!(store.put_command(one.clone()).await, Ok(()));
    let claim = async |before: &Invocation| {
        let change = command_change(1, vec![(before.clone(), before.clone())]);
        let claim = CommandChange { claims: true, concurrency_max: 1, ..change };
        let outcome = store.change_commands(vec![claim]).await.unwrap().remove(0);
        assert!(!outcome.is_written);
        outcome.refused.is_empty()
    };
    let delayed = one.invocations[0].clone();
    assert!(claim(&delayed).await && claim(&delayed).await);
    let cancelling = Invocation { state: InvocationState::Cancelling, ..delayed.clone() };
    let ends = command_change(1, vec![(delayed.clone(), cancelling.clone())]);
    assert!(store.change_commands(vec![ends]).await.unwrap()[0].is_written);
    assert!(!claim(&delayed).await);
    let found = store.invocations(all()).await.unwrap();
    assert_eq!(found, [cancelling, one.invocations[1].clone()]);
    // All of it is to be ended, which has not come to that machine yet.
    let mut other = sent(2, 10, &[1]);
    other.invocations[0] = invocation(2, 1, InvocationState::Delayed, 0);
    assert_eq!(store.put_command(other.clone()).await, Ok(()));
    let cancel = CommandChange { is_cancelled: true, ..command_change(2, vec![]) };
    assert!(store.change_commands(vec![cancel.clone()]).await.unwrap()[0].is_written);
    assert!(!store.change_commands(vec![cancel]).await.unwrap()[0].is_written, "that was said before");
    let again = command_change(2, vec![(other.invocations[0].clone(), other.invocations[0].clone())]);
    let again = CommandChange { claims: true, ..again };
    assert_eq!(store.change_commands(vec![again]).await.unwrap()[0].refused, [id(1)]);
}

/// Of machines that are about to be sent a command no more are taken than may be under way, whoever asks, and none after too many
/// errors.
pub async fn claims_take_no_more_room_than_there_is(store: Arc<dyn Store>) {
    for (number, concurrency_max, expected) in [(1, 1, 0), (2, 2, 1), (3, 3, 2), (4, 4, 2)] {
        let mut one = sent(number, 10, &[1, 2, 3, 4]);
        one.invocations[0] = invocation(number, 1, InvocationState::InProgress, 0);
        one.invocations[3] = invocation(number, 4, InvocationState::Success, 0);
        assert_eq!(store.put_command(one.clone()).await, Ok(()));
        let claim = |machine: u32| {
            let before = one.invocations[machine as usize - 1].clone();
            let after = Invocation { state: InvocationState::Delayed, ..before.clone() };
            (before, after)
        };
        let claims = command_change(number, vec![claim(2), claim(3)]);
        let claims = CommandChange { claims: true, concurrency_max, ..claims };
        let outcome = store.change_commands(vec![claims]).await.unwrap().remove(0);
        assert_eq!(2 - outcome.refused.len(), expected, "{concurrency_max}");
    }
    for (number, errors_max, is_taken) in [(11, 0, false), (12, 1, true), (13, 2, true)] {
        let mut one = sent(number, 10, &[1, 2]);
        one.invocations[0] = invocation(number, 1, InvocationState::Failed, 0);
        assert_eq!(store.put_command(one.clone()).await, Ok(()));
        let before = one.invocations[1].clone();
        let after = Invocation { state: InvocationState::Delayed, ..before.clone() };
        let claim = CommandChange { claims: true, errors_max, ..command_change(number, vec![(before, after)]) };
        let outcome = store.change_commands(vec![claim]).await.unwrap().remove(0);
        assert_eq!(outcome.refused.is_empty(), is_taken, "{errors_max}");
    }
    // Nor is what is to be ended sent to anybody more.
    for (number, is_cancelled) in [(21, false), (22, true)] {
        let one = sent(number, 10, &[1, 2]);
        assert_eq!(store.put_command(one.clone()).await, Ok(()));
        let cancel = CommandChange { is_cancelled, ..command_change(number, vec![]) };
        store.change_commands(vec![cancel]).await.unwrap();
        let before = one.invocations[0].clone();
        let after = Invocation { state: InvocationState::Delayed, ..before.clone() };
        let claim = CommandChange { claims: true, concurrency_max: 2, ..command_change(number, vec![(before, after)]) };
        let outcome = store.change_commands(vec![claim]).await.unwrap().remove(0);
        assert_eq!(outcome.refused.is_empty(), !is_cancelled);
    }
}

/// Of many that want the last place at the same time one gets it.
pub async fn one_of_many_claims_the_last_place(store: Arc<dyn Store>) {
    let machines: Vec<u32> = (1..=8).collect();
    let one = sent(1, 10, &machines);
    assert_eq!(store.put_command(one.clone()).await, Ok(()));
    let mut asking = tokio::task::JoinSet::new();
    for before in one.invocations {
        let store = Arc::clone(&store);
        let after = Invocation { state: InvocationState::Delayed, ..before.clone() };
        let claim = CommandChange { claims: true, concurrency_max: 1, ..command_change(1, vec![(before, after)]) };
        asking.spawn(async move { store.change_commands(vec![claim]).await });
    }
    let mut taken = 0;
    while let Some(outcome) = asking.join_next().await {
        // A store that is too busy says so, and has done nothing.
        let Ok(outcomes) = outcome.unwrap() else { continue };
        taken += usize::from(outcomes[0].refused.is_empty());
    }
    assert_eq!(taken, 1);
    let found = store.invocations(all()).await.unwrap();
    assert_eq!(found.iter().filter(|one| one.state == InvocationState::Delayed).count(), 1);
}

/// Pages in the one order have no gaps, and show what was asked for.
pub async fn commands_are_listed_in_pages(store: Arc<dyn Store>) {
    // Two were sent within one second.
    for (number, seconds, machines) in [(1, 10, &[1, 2][..]), (2, 11, &[1, 2]), (3, 11, &[2]), (4, 12, &[1])] {
        assert_eq!(store.put_command(sent(number, seconds, machines)).await, Ok(()));
    }
    let mut query = CommandQuery { limit: 1, ..CommandQuery::default() };
    let mut found = Vec::new();
    while let Some(next) = store.commands(query.clone()).await.unwrap().pop() {
        query.after = Some(CommandPlace { requested_at: next.requested_at, command: next.id.clone(), instance: None });
        found.push(next.id);
    }
    assert_eq!(found, [4, 2, 3, 1].map(|number| command(number, 0).id));
    let on = store.commands(CommandQuery { instance: Some(id(2)), ..all() }).await.unwrap();
    let ids: Vec<_> = on.into_iter().map(|command| command.id).collect();
    assert_eq!(ids, [2, 3, 1].map(|number| command(number, 0).id));

    let pages = async |instance, command: Option<String>| {
        let mut query = CommandQuery { instance, command, limit: 1, ..CommandQuery::default() };
        let mut found = Vec::new();
        while let Some(Invocation { command: of, instance, .. }) = store.invocations(query.clone()).await.unwrap().pop()
        {
            let requested_at = store
                .commands(CommandQuery { command: Some(of.clone()), ..all() })
                .await
                .unwrap()
                .first()
                .map(|command| command.requested_at)
                .unwrap();
            query.after = Some(CommandPlace { requested_at, command: of.clone(), instance: Some(instance) });
            found.push((of, instance));
        }
        found
    };
    let expected = |pairs: &[(u32, u32)]| -> Vec<_> {
        pairs.iter().map(|(number, machine)| (command(*number, 0).id, id(*machine))).collect()
    };
    assert_eq!(pages(None, None).await, expected(&[(4, 1), (2, 1), (2, 2), (3, 2), (1, 1), (1, 2)]));
    assert_eq!(pages(Some(id(2)), None).await, expected(&[(2, 2), (3, 2), (1, 2)]));
    assert_eq!(pages(None, Some(command(1, 0).id)).await, expected(&[(1, 1), (1, 2)]));
    for (limit, fits) in [(0, false), (1, true), (100, true), (101, false)] {
        let query = CommandQuery { limit, ..CommandQuery::default() };
        assert_eq!(store.commands(query.clone()).await.is_ok(), fits, "{limit}");
        assert_eq!(store.invocations(query).await.is_ok(), fits, "{limit}");
    }
}

/// What is finished is forgotten by its age and by its number, with its invocations; what is open stays.
pub async fn finished_commands_are_forgotten(store: Arc<dyn Store>) {
    for number in 1..=5 {
        let mut sent = sent(number, u64::from(number), &[1, 2]);
        if number != 2 {
            sent.command.progress.state = CommandState::Success;
        }
        assert_eq!(store.put_command(sent).await, Ok(()));
    }
    let left = async || {
        let found = store.commands(all()).await.unwrap();
        assert_eq!(store.invocations(all()).await.unwrap().len(), 2 * found.len());
        found.into_iter().map(|command| command.id).collect::<Vec<_>>()
    };
    let keep = |seconds, invocations_max| CommandRetention { sent_before: LAUNCHED_AT.plus(seconds), invocations_max };
    assert_eq!(store.forget_commands(keep(1, 8)).await, Ok(0));
    assert_eq!(store.forget_commands(keep(3, 8)).await, Ok(1));
    assert_eq!(left().await, [5, 4, 3, 2].map(|number| command(number, 0).id));
    // Six invocations of three commands are there, and room for two commands.
    assert_eq!(store.forget_commands(keep(0, 5)).await, Ok(1));
    assert_eq!(left().await, [5, 4, 2].map(|number| command(number, 0).id));
    assert_eq!(store.forget_commands(keep(100, 0)).await, Ok(2));
    assert_eq!(left().await, [command(2, 0).id]);
}

/// 10,000 invocations; 100 steps, of 256 KiB together; parameters of 256 KiB.
pub async fn command_limits(store: Arc<dyn Store>) {
    for (count, fits) in [(9_999, true), (10_000, true), (10_001, false)] {
        let machines: Vec<u32> = (1..=count).collect();
        assert_eq!(store.put_command(sent(count, 0, &machines)).await.is_ok(), fits, "{count}");
    }
    for (count, fits) in [(99, true), (100, true), (101, false)] {
        let invocations = vec![invocation(count, 1, InvocationState::Success, count as usize)];
        let sent = SentCommand { invocations, ..sent(count, 0, &[]) };
        assert_eq!(store.put_command(sent).await.is_ok(), fits, "{count} steps");
    }
    for (length, fits) in [(262_143, true), (262_144, true), (262_145, false)] {
        let mut one = invocation(length, 1, InvocationState::Success, 0);
        one.trace = "t".repeat(length as usize);
        let with_trace = SentCommand { invocations: vec![one], ..sent(length, 0, &[]) };
        assert_eq!(store.put_command(with_trace).await.is_ok(), fits, "{length} bytes");
        let mut with_parameters = sent(length + 1_000_000, 0, &[]);
        with_parameters.command.parameters = "p".repeat(length as usize);
        assert_eq!(store.put_command(with_parameters).await.is_ok(), fits, "{length} bytes of parameters");
    }
    let foreign = SentCommand { invocations: vec![invocation(8, 1, InvocationState::Pending, 0)], ..sent(7, 0, &[]) };
    assert!(matches!(store.put_command(foreign).await, Err(StoreError::Invalid(_))));
}
