//! Cases: documents and commands.

use std::sync::Arc;

use super::samples::{LAUNCHED_AT, account, command, document, id, invocation, sent};
use crate::{
    CommandChange, CommandPlace, CommandProgress, CommandQuery, CommandRetention, CommandState, Conflict, Document,
    Invocation, InvocationState, SentCommand, Store, StoreError,
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

    let done =
        CommandProgress { state: CommandState::Failed, targets: 1, completed: 1, errors: 1, delivery_timed_out: 0 };
    let failed = invocation(2, 1, InvocationState::Failed, 2);
    let half = CommandProgress { state: CommandState::InProgress, ..first.command.progress };
    let running = invocation(1, 2, InvocationState::InProgress, 1);
    let changes = vec![
        CommandChange { command: command(2, 0).id, progress: done, invocations: vec![failed.clone()] },
        CommandChange { command: command(1, 0).id, progress: half, invocations: vec![running.clone()] },
        CommandChange { command: "of nobody".into(), progress: done, invocations: vec![] },
    ];
    assert_eq!(store.change_commands(changes).await, Ok(()));
    let found = store.commands(CommandQuery { command: Some(command(2, 0).id), ..all() }).await.unwrap();
    assert_eq!(found[0].progress, done);
    let mut open = by_machine(&first);
    (open.command.progress, open.invocations[1]) = (half, running.clone());
    assert_eq!(store.open_commands().await, Ok(vec![open.clone()]));
    let expected = vec![failed, open.invocations[0].clone(), running];
    assert_eq!(store.invocations(all()).await, Ok(expected));
}

/// Whatever is told afterwards: neither a command nor an invocation of which nothing more becomes changes, nor its steps.
pub async fn what_has_ended_stays_as_it_ended(store: Arc<dyn Store>) {
    let progress = |state| CommandProgress { state, ..command(1, 0).progress };
    let change = |state, number, invocations| CommandChange {
        command: command(number, 0).id,
        progress: progress(state),
        invocations,
    };
    // Every state that is not the last may become every other; one that is stays.
    for (number, before) in (1..).zip(InvocationState::ALL.iter().copied()) {
        let mut sent = sent(number, 10, &[1, 2]);
        let first = invocation(number, 1, before, 1);
        sent.invocations[0] = first.clone();
        assert_eq!(store.put_command(sent).await, Ok(()));
        let after = invocation(number, 1, InvocationState::Failed, 2);
        let other = invocation(number, 2, InvocationState::Success, 1);
        let changes = vec![change(CommandState::InProgress, number, vec![after.clone(), other.clone()])];
        assert_eq!(store.change_commands(changes).await, Ok(()));
        let query = CommandQuery { command: Some(command(number, 0).id), ..all() };
        let own = store.invocations(query).await.unwrap();
        assert_eq!(own, [if before.is_terminal() { first } else { after }, other], "{before}");
    }
    let query = CommandQuery { command: Some(command(1, 0).id), ..all() };
    for (told, expected) in [
        (CommandState::Cancelling, CommandState::Cancelling),
        (CommandState::Cancelled, CommandState::Cancelled),
        (CommandState::InProgress, CommandState::Cancelled),
        (CommandState::Failed, CommandState::Cancelled),
    ] {
        assert_eq!(store.change_commands(vec![change(told, 1, vec![])]).await, Ok(()));
        assert_eq!(store.commands(query.clone()).await.unwrap()[0].progress, progress(expected), "{told}");
    }
    assert!(store.open_commands().await.unwrap().iter().all(|sent| sent.command.id != command(1, 0).id));
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
