//! What lies between a program and its store: calls and answers take their time, and may be lost on the way.

use core::future::Future as _;
use core::pin::pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

use inborn_store::{Future, Store, StoreError};
use tokio::time::sleep;

use crate::late::{LateChanges, OwnNews, in_doubt};

/// Says of each call what becomes of it.
pub trait Link: Send + Sync {
    /// What becomes of a call that is made now.
    fn passage(&self) -> Passage;

    /// How much later than it arrives a change takes effect that is made now, if its caller is not told what became of it.
    fn lateness(&self) -> Option<Duration> {
        None
    }

    /// The late changes of the store at the other end.
    fn late(&self) -> Arc<LateChanges>;
}

/// What becomes of one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passage {
    /// How long it takes to the store.
    pub there: Duration,
    /// How long its answer takes back.
    pub back: Duration,
    /// What arrives.
    pub fate: Fate,
}

/// What arrives of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// The call, and its answer.
    Arrives,
    /// Nothing: it has no effect, and the caller is told that it failed.
    CallIsLost,
    /// The call: it has its effect, and the caller is told that it failed.
    AnswerIsLost,
    /// Nothing, and the caller hears nothing of it: it is gone itself.
    CallerIsGone,
}

/// A call over a link; what is done of a change whose answer is lost, its own node is told.
pub(crate) async fn call<'a, T: Send + 'a>(
    store: &'a dyn Store,
    link: &dyn Link,
    own: &OwnNews,
    begin: impl FnOnce(&'a dyn Store) -> Future<'a, T> + Send + 'a,
) -> Result<T, StoreError> {
    let Passage { there, back, fate } = link.passage();
    sleep(there).await;
    let answer = match fate {
        Fate::CallIsLost => Err(lost()),
        Fate::CallerIsGone => core::future::pending().await,
        Fate::Arrives => at_once(begin(store)),
        Fate::AnswerIsLost => in_doubt(store, own, begin).and(Err(answer_lost())),
    };
    sleep(back).await;
    answer
}

pub(crate) fn lost() -> StoreError {
    StoreError::Unavailable("injected loss".into())
}

pub(crate) fn answer_lost() -> StoreError {
    StoreError::Io("injected loss of an answer".into())
}

/// Waits with the whole thread, so that nothing else happens meanwhile and no time passes by a clock that is paused.
pub(crate) fn at_once<T>(future: Future<'_, T>) -> Result<T, StoreError> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    // Who yields to the tasks of a runtime would wait for a turn that never comes.
    let mut future = pin!(tokio::task::coop::unconstrained(future));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}
