//! Cases: sessions.

use std::sync::Arc;

use super::samples::{LAUNCHED_AT, account, ended, other_account, session};
use crate::{NodeId, Session, SessionPlace, SessionQuery, SessionRetention, Store, StoreError};

fn query(has_ended: bool) -> SessionQuery {
    SessionQuery { account: None, has_ended, after: None, limit: 200 }
}

/// A session is open until it ends, which it does once; it needs no machine to be remembered.
pub async fn sessions_end_once(store: Arc<dyn Store>) {
    let open = session(1, 5);
    store.put_session(open.clone()).await.unwrap();
    let again = store.put_session(Session { reason: "another".into(), ..open.clone() }).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "{again:?}");
    assert_eq!(store.sessions(query(false)).await, Ok(vec![open.clone()]));
    assert_eq!(store.sessions(query(true)).await, Ok(vec![]));

    let end = ended(9);
    assert_eq!(store.end_session(open.id.clone(), end.clone(), None).await, Ok(true));
    assert_eq!(store.end_session(open.id.clone(), ended(10), None).await, Ok(false), "it has ended already");
    assert_eq!(store.end_session("nobody".into(), end.clone(), None).await, Ok(false));
    assert_eq!(store.sessions(query(false)).await, Ok(vec![]));
    assert_eq!(store.sessions(query(true)).await, Ok(vec![Session { end: Some(end), ..open }]));
}

/// One node carries a session, or nobody, and another takes it over once; who does not carry it does not end it.
pub async fn sessions_are_carried_by_one(store: Arc<dyn Store>) {
    let [first, second] = [7, 8].map(NodeId::new);
    let open = session(1, 5);
    store.put_session(open.clone()).await.unwrap();
    let unsaid = Session { carrier: None, ..session(2, 5) };
    store.put_session(unsaid.clone()).await.unwrap();
    assert_eq!(store.session(open.id.clone()).await, Ok(Some(open.clone())));
    assert_eq!(store.session(unsaid.id.clone()).await, Ok(Some(unsaid.clone())));
    assert_eq!(store.session("nobody".into()).await, Ok(None));

    let carry = async |id: &str, from, to| store.carry_session(id.to_owned(), from, to).await.unwrap();
    assert!(!carry(&open.id, Some(second), second).await, "another carries it");
    assert!(!carry(&open.id, None, second).await);
    assert!(carry(&open.id, Some(first), NodeId::NOBODY).await);
    assert!(carry(&open.id, Some(NodeId::NOBODY), second).await);
    assert!(!carry(&open.id, Some(NodeId::NOBODY), first).await, "once");
    assert!(carry(&unsaid.id, None, second).await);
    assert!(!carry("nobody", None, second).await);
    let carried = Session { carrier: Some(second), ..open.clone() };
    assert_eq!(store.session(open.id.clone()).await, Ok(Some(carried.clone())));

    assert_eq!(store.end_session(open.id.clone(), ended(9), Some(first)).await, Ok(false));
    assert_eq!(store.end_session(open.id.clone(), ended(9), Some(second)).await, Ok(true));
    assert!(!carry(&open.id, Some(second), first).await, "it has ended");
    assert_eq!(store.session(open.id).await, Ok(Some(Session { end: Some(ended(9)), ..carried })));
}

/// The latest first, an account's own, page by page.
pub async fn sessions_are_listed_in_pages(store: Arc<dyn Store>) {
    let mut all: Vec<Session> = [(1, 5), (2, 7), (3, 5), (4, 1)].map(|(number, at)| session(number, at)).into();
    all[3].account = other_account();
    for session in &all {
        store.put_session(session.clone()).await.unwrap();
    }
    let order = [1, 0, 2, 3].map(|at: usize| all[at].clone());
    assert_eq!(store.sessions(query(false)).await.unwrap(), order);
    let own = SessionQuery { account: Some(account()), ..query(false) };
    assert_eq!(store.sessions(own).await.unwrap(), order[..3]);
    let mut after = None;
    for expected in &order {
        let one = SessionQuery { after, limit: 1, ..query(false) };
        let page = store.sessions(one.clone()).await.unwrap();
        assert_eq!(page, core::slice::from_ref(expected));
        let place = SessionPlace { started_at: expected.started_at, id: expected.id.clone() };
        assert_eq!(store.session_places(one).await.unwrap(), core::slice::from_ref(&place));
        after = Some(place);
    }
    assert_eq!(store.sessions(SessionQuery { after, ..query(false) }).await, Ok(vec![]));
}

/// What has ended is forgotten by age and by number; what is open is not.
pub async fn ended_sessions_are_forgotten(store: Arc<dyn Store>) {
    for number in 1..=5 {
        store.put_session(session(number, number.into())).await.unwrap();
    }
    for number in 2..=5 {
        store.end_session(session(number, 0).id, ended(9), None).await.unwrap();
    }
    let keep = |seconds, sessions_max| SessionRetention { started_since: LAUNCHED_AT.plus(seconds), sessions_max };
    assert_eq!(store.forget_sessions(keep(2, 4)).await, Ok(0));
    assert_eq!(store.forget_sessions(keep(3, 4)).await, Ok(1), "by age");
    assert_eq!(store.forget_sessions(keep(0, 2)).await, Ok(1), "by number");
    let left: Vec<String> = store.sessions(query(true)).await.unwrap().into_iter().map(|session| session.id).collect();
    assert_eq!(left, [session(5, 0).id, session(4, 0).id]);
    assert_eq!(store.forget_sessions(keep(100, 0)).await, Ok(2));
    assert_eq!(store.sessions(query(false)).await.unwrap().len(), 1);
}

/// Below, at and above each limit.
pub async fn session_limits(store: Arc<dyn Store>) {
    let long = |length| "x".repeat(length);
    for (length, is_good) in [(0, false), (1, true), (Session::ID_MAX, true), (Session::ID_MAX + 1, false)] {
        let put = store.put_session(Session { id: long(length), ..session(1, 0) }).await;
        assert_eq!(put.is_ok(), is_good, "{length}");
    }
    for (length, is_good) in [(Session::TEXT_MAX, true), (Session::TEXT_MAX + 1, false)] {
        let put = store.put_session(Session { reason: long(length), ..session(2, 0) }).await;
        assert_eq!(put.is_ok(), is_good, "{length}");
        let end = crate::SessionEnd { details: long(length), ..ended(1) };
        assert_eq!(store.end_session(session(2, 0).id, end, None).await.is_ok(), is_good, "{length}");
    }
    for (limit, is_good) in [(0, false), (1, true), (200, true), (201, false)] {
        let limited = SessionQuery { limit, ..query(false) };
        assert_eq!(store.sessions(limited.clone()).await.is_ok(), is_good, "{limit}");
        assert_eq!(store.session_places(limited).await.is_ok(), is_good, "{limit}");
    }
}
