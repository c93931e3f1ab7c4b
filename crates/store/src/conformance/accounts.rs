//! Cases: accounts, and what is theirs.

use std::sync::Arc;

use super::samples::{LAUNCHED_AT, account, document, id, operator, other_account, sent};
use crate::{
    Account, Beat, CommandQuery, Conflict, Document, Heard, Operator, OperatorChange, SentCommand, Store, StoreError,
    Topic,
};

fn of(id: inborn_identity::AccountId, name: &str) -> Account {
    Account { id, name: name.to_owned(), created_at: LAUNCHED_AT, closed_at: None }
}

/// Accounts come back as given, ordered by id; none is replaced; what is closed stays closed.
pub async fn accounts_are_kept_and_closed_once(store: Arc<dyn Store>) {
    assert_eq!(store.accounts().await, Ok(vec![]));
    let (first, second) = (of(other_account(), "'Räume' ☃"), of(account(), ""));
    for one in [&second, &first] {
        assert_eq!(store.put_account(one.clone()).await, Ok(()));
    }
    assert_eq!(store.put_account(of(account(), "again")).await, Err(Conflict::Exists("an account").into()));
    assert_eq!(store.accounts().await, Ok(vec![first.clone(), second.clone()]));
    let at = LAUNCHED_AT.plus(9);
    assert_eq!(store.close_account(first.id, at).await, Ok(true));
    assert_eq!(store.close_account(first.id, at.plus(1)).await, Ok(false));
    let closed = Account { closed_at: Some(at), ..first };
    assert_eq!(store.accounts().await, Ok(vec![closed.clone(), second]));
    assert_eq!(store.put_account(of(other_account(), "anew")).await, Err(Conflict::Exists("an account").into()));
    let nobody = inborn_identity::AccountId::new(7).unwrap();
    assert_eq!(store.close_account(nobody, at).await, Ok(false));
}

/// Names of up to 200 bytes.
pub async fn account_limits(store: Arc<dyn Store>) {
    for (number, length, fits) in [(1, 199, true), (2, 200, true), (3, 201, false)] {
        let id = inborn_identity::AccountId::new(number).unwrap();
        let outcome = store.put_account(of(id, &"n".repeat(length))).await;
        assert_eq!(outcome.is_ok(), fits, "{length}");
        assert!(fits || matches!(outcome, Err(StoreError::Invalid(_))));
    }
}

/// An operator is switched off and on, and forgotten; the others stay as they are. Others are told of each.
pub async fn operators_are_changed_and_forgotten(store: Arc<dyn Store>) {
    store.beat(Beat { name: "one".into(), at: LAUNCHED_AT, verifies: 0, address: String::new() }).await.unwrap();
    for number in [1, 2] {
        store.put_operator(operator(number)).await.unwrap();
    }
    let key = operator(1).access_key_id;
    assert_eq!(store.change_operator(key, OperatorChange::Disable).await, Ok(true));
    let off = Operator { disabled: true, ..operator(1) };
    assert_eq!(store.operators().await, Ok(vec![off, operator(2)]));
    assert_eq!(store.change_operator(key, OperatorChange::Enable).await, Ok(true));
    assert_eq!(store.operators().await, Ok(vec![operator(1), operator(2)]));
    assert_eq!(store.change_operator(key, OperatorChange::Delete).await, Ok(true));
    for change in [OperatorChange::Enable, OperatorChange::Disable, OperatorChange::Delete] {
        assert_eq!(store.change_operator(key, change).await, Ok(false));
    }
    assert_eq!(store.operators().await, Ok(vec![operator(2)]));
    store.put_account(of(account(), "")).await.unwrap();
    store.close_account(account(), LAUNCHED_AT).await.unwrap();
    let told = store.news(Heard::default()).await.unwrap().entries;
    let told: Vec<Topic> = told.into_iter().map(|entry| entry.topic).collect();
    let (operators, accounts) = (Topic::Operators, Topic::Accounts);
    let expected = [&operators, &operators, &operators, &operators, &operators, &accounts, &accounts];
    assert_eq!(told.iter().collect::<Vec<_>>(), expected);
}

/// No two operators of an account have one name, in whatever case and whoever makes them at once; those of two accounts may.
pub async fn operators_of_an_account_have_names_of_their_own(store: Arc<dyn Store>) {
    let named = |number, name: &str| Operator { name: name.to_owned(), ..operator(number) };
    let taken = |name: &str| Err(Conflict::OperatorName(name.to_owned()).into());
    assert_eq!(store.put_operator(named(1, "alice")).await, Ok(()));
    for name in ["alice", "Alice", "ALICE"] {
        assert_eq!(store.put_operator(named(2, name)).await, taken(name));
    }
    let key = operator(1).access_key_id;
    store.change_operator(key, OperatorChange::Disable).await.unwrap();
    assert_eq!(store.put_operator(named(2, "alice")).await, taken("alice"), "one that is switched off is there");
    let others = Operator { account: other_account(), ..named(3, "alice") };
    assert_eq!(store.put_operator(others).await, Ok(()));
    store.change_operator(key, OperatorChange::Delete).await.unwrap();
    assert_eq!(store.put_operator(named(2, "alice")).await, Ok(()), "the name is free again");
    // Many at once, as from many servers.
    let mut making = tokio::task::JoinSet::new();
    for number in 10..18 {
        let store = Arc::clone(&store);
        making.spawn(async move { store.put_operator(named(number, "bob")).await });
    }
    let outcomes = making.join_all().await;
    let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(made, 1, "{outcomes:?}");
    let busy = |outcome: &&Result<(), StoreError>| matches!(outcome, Err(StoreError::Busy));
    let refused = outcomes.iter().filter(|outcome| **outcome == taken("bob")).count();
    assert_eq!(refused + outcomes.iter().filter(busy).count(), 7, "{outcomes:?}");
    let bobs = store.operators().await.unwrap().into_iter().filter(|operator| operator.name == "bob").count();
    assert_eq!(bobs, 1);
}

/// Two accounts may have documents of one name; each is its account's alone.
pub async fn documents_are_their_accounts_own(store: Arc<dyn Store>) {
    let others = Document { account: other_account(), ..document("a", 2) };
    assert_eq!(store.put_document(document("a", 1)).await, Ok(()));
    assert_eq!(store.put_document(others.clone()).await, Ok(()));
    assert_eq!(store.put_document(others.clone()).await, Err(Conflict::Exists("a document").into()));
    assert_eq!(store.documents().await, Ok(vec![others.clone(), document("a", 1)]));
    assert_eq!(store.delete_document(account(), "a".into()).await, Ok(true));
    assert_eq!(store.delete_document(account(), "a".into()).await, Ok(false));
    assert_eq!(store.documents().await, Ok(vec![others]));
}

/// Commands and their invocations are listed for one account, or for all.
pub async fn commands_are_their_accounts_own(store: Arc<dyn Store>) {
    let own = sent(1, 10, &[1]);
    let mut others: SentCommand = sent(2, 11, &[2]);
    others.command.account = other_account();
    for one in [&own, &others] {
        assert_eq!(store.put_command(one.clone()).await, Ok(()));
    }
    for (account, expected) in
        [(Some(account()), vec![&own]), (Some(other_account()), vec![&others]), (None, vec![&others, &own])]
    {
        let query = CommandQuery { account, limit: 10, ..CommandQuery::default() };
        let commands: Vec<_> = expected.iter().map(|sent| sent.command.clone()).collect();
        assert_eq!(store.commands(query.clone()).await, Ok(commands));
        let invocations: Vec<_> = expected.iter().flat_map(|sent| sent.invocations.clone()).collect();
        assert_eq!(store.invocations(query).await, Ok(invocations));
    }
    // Whatever else is asked for: another's is not there.
    let query = CommandQuery {
        account: Some(account()),
        command: Some(others.command.id),
        instance: Some(id(2)),
        limit: 10,
        after: None,
    };
    assert_eq!(store.commands(query.clone()).await, Ok(vec![]));
    assert_eq!(store.invocations(query).await, Ok(vec![]));
}
