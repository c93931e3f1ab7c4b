//! Changes that take effect late: whoever asked was told that nobody knows what became of them.
//!
//! So it is with a commit that waits for a synchronous standby: no timeout ends it, who asked goes away, and all it changes stays
//! locked until it is over, seconds or minutes later. Then it takes effect, also for a program that has ended meanwhile.

use core::pin::pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inborn_store::{Future, Heard, News, NodeId, Store, StoreError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use crate::link::{Fate, Link, Passage, answer_lost, at_once, lost};

/// How long somebody waits for what is locked before it is told that the store is busy, as by the `statement_timeout` of PostgreSQL. Shorter
/// than that usually is, so that who asks a server is answered before it gives up.
const LOCKED_FOR_MAX: Duration = Duration::from_secs(4);

/// What such changes have locked, of all programs that have one store open.
#[derive(Debug, Default)]
pub struct LateChanges {
    locked: Mutex<BTreeSet<String>>,
    unlocked: Notify,
    taken_effect: Mutex<Vec<(Instant, Vec<String>)>>,
    held_up: AtomicUsize,
}

impl LateChanges {
    /// Whether any is still to take effect.
    #[must_use]
    pub fn are_to_come(&self) -> bool {
        !self.locked().is_empty()
    }

    /// What has taken effect since this was asked last: when, and what it had locked.
    #[must_use]
    pub fn taken_effect(&self) -> Vec<(Instant, Vec<String>)> {
        core::mem::take(&mut *self.taken_effect.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_effect(&self, what: Vec<String>) {
        self.taken_effect.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), what));
    }

    /// How many others had to wait for one.
    #[must_use]
    pub fn held_up(&self) -> usize {
        self.held_up.load(Ordering::SeqCst)
    }

    fn locked(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_locked(&self, what: &[String]) -> bool {
        let locked = self.locked();
        what.iter().any(|one| locked.contains(one))
    }

    /// Waits until nobody has locked any of this, or long enough; gives whether it is so.
    async fn are_unlocked(&self, what: &[String]) -> bool {
        let until = Instant::now() + LOCKED_FOR_MAX;
        if self.is_locked(what) {
            self.held_up.fetch_add(1, Ordering::SeqCst);
        }
        loop {
            let mut unlocked = pin!(self.unlocked.notified());
            unlocked.as_mut().enable();
            if !self.is_locked(what) {
                return true;
            }
            if timeout_at(until, unlocked).await.is_err() {
                return false;
            }
        }
    }

    fn lock(&self, what: &[String]) {
        self.locked().extend(what.iter().cloned());
    }

    fn unlock(&self, what: &[String]) {
        let mut locked = self.locked();
        for one in what {
            locked.remove(one);
        }
        drop(locked);
        self.unlocked.notify_waiters();
    }
}

/// What one opening of a store is to be told of its own: changes that it was told nothing certain of.
#[derive(Default)]
pub(crate) struct Own {
    /// What the reader had heard when it asked last.
    heard: Heard,
    /// The serials under which such changes have entered something.
    doubtful: BTreeSet<u64>,
}

/// [`Own`], of the opening and of what it has left on its way.
pub(crate) type OwnNews = Arc<Mutex<Own>>;

fn lock(own: &OwnNews) -> MutexGuard<'_, Own> {
    own.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See [`Store::news`], with what the node is to be told of its own.
pub(crate) fn news<'a>(store: &'a dyn Store, own: &OwnNews, heard: Heard) -> Future<'a, News> {
    let Some(node) = heard.except.filter(|node| *node == store.node()) else { return store.news(heard) };
    let doubtful = {
        let mut own = lock(own);
        own.heard = heard.clone();
        let settled = heard.positions.get(&node).copied().unwrap_or_default();
        own.doubtful.retain(|serial| *serial > settled);
        own.doubtful.clone()
    };
    if doubtful.is_empty() {
        return store.news(heard);
    }
    Box::pin(async move {
        let mut news = store.news(Heard { except: None, ..heard }).await?;
        news.entries.retain(|entry| entry.writer != node || doubtful.contains(&entry.serial));
        Ok(news)
    })
}

/// What the node has entered that its reader has not heard to be settled.
fn entered(store: &dyn Store, node: NodeId, heard: &Heard) -> BTreeSet<u64> {
    let news = at_once(store.news(Heard { except: None, ..heard.clone() })).unwrap_or_default();
    news.entries.iter().filter(|entry| entry.writer == node).map(|entry| entry.serial).collect()
}

/// Makes a change now of which nobody hears what became of it.
pub(crate) fn in_doubt<'a, T>(
    store: &'a dyn Store,
    own: &OwnNews,
    begin: impl FnOnce(&'a dyn Store) -> Future<'a, T>,
) -> Result<T, StoreError> {
    let (node, heard) = (store.node(), lock(own).heard.clone());
    let before = entered(store, node, &heard);
    let outcome = at_once(begin(store));
    let after = entered(store, node, &heard);
    lock(own).doubtful.extend(after.difference(&before));
    outcome
}

/// A change of this, over a link.
pub(crate) async fn call<T, B>(
    store: Arc<dyn Store>,
    link: Arc<dyn Link>,
    own: OwnNews,
    what: Vec<String>,
    begin: B,
) -> Result<T, StoreError>
where
    T: Send + 'static,
    B: for<'s> FnOnce(&'s dyn Store) -> Future<'s, T> + Send + 'static,
{
    let Passage { there, back, fate } = link.passage();
    let lateness = link.lateness();
    sleep(there).await;
    let late = link.late();
    let answer = match (fate, lateness) {
        (Fate::CallIsLost, _) => Err(lost()),
        (Fate::CallerIsGone, _) => core::future::pending().await,
        (Fate::Arrives | Fate::AnswerIsLost, _) if !late.are_unlocked(&what).await => Err(StoreError::Busy),
        (Fate::Arrives, None) => at_once(begin(&*store)),
        (Fate::AnswerIsLost, None) => in_doubt(&*store, &own, begin).and(Err(answer_lost())),
        (Fate::Arrives | Fate::AnswerIsLost, Some(lateness)) => {
            late.lock(&what);
            tokio::spawn(async move {
                sleep(lateness).await;
                let outcome = in_doubt(&*store, &own, begin);
                late.unlock(&what);
                // One that comes to nothing is nobody's news.
                if outcome.is_ok() {
                    late.take_effect(what);
                }
            });
            Err(StoreError::Io("injected: it did not answer in time; the change may have taken effect".into()))
        }
    };
    sleep(back).await;
    answer
}
