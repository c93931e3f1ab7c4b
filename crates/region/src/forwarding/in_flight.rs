//! Questions that are under way: who asks the same meanwhile is given the same answer.

use core::hash::Hash;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

type Answer<T> = Shared<BoxFuture<'static, Option<T>>>;
type Answers<K, T> = Mutex<HashMap<K, Answer<T>>>;

/// Questions by what they are about.
pub(super) struct InFlight<K, T>(Arc<Answers<K, T>>);

impl<K, T> Default for InFlight<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> core::fmt::Debug for InFlight<K, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("InFlight").finish_non_exhaustive()
    }
}

fn lock<K, T>(answers: &Answers<K, T>) -> MutexGuard<'_, HashMap<K, Answer<T>>> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, T> InFlight<K, T>
where
    K: Eq + Hash + Copy + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Asks, unless that is under way. It goes on to its end, though whoever asked goes away. `None` if it came to nothing.
    pub(super) async fn ask(&self, key: K, asking: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let answer = {
            let mut answers = lock(&self.0);
            match answers.get(&key) {
                Some(answer) => answer.clone(),
                None => {
                    let task = tokio::spawn(asking);
                    let all = Arc::clone(&self.0);
                    // Whoever asks from here on asks anew.
                    let done = tokio::spawn(async move {
                        let answer = task.await.ok();
                        lock(&all).remove(&key);
                        answer
                    });
                    let answer = done.map(|answer| answer.ok().flatten()).boxed().shared();
                    answers.insert(key, answer.clone());
                    answer
                }
            }
        };
        answer.await
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn the_same_is_asked_once_at_a_time() {
        let (flight, asked) = (InFlight::<u8, usize>::default(), Arc::new(AtomicUsize::new(0)));
        let ask = |key| {
            let asked = Arc::clone(&asked);
            flight.ask(key, async move {
                let number = asked.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                number
            })
        };
        let (a, b, other) = tokio::join!(ask(1), ask(1), ask(2));
        assert_eq!((a, other.is_some(), asked.load(Ordering::SeqCst)), (b, true, 2));
        ask(1).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 3, "an answer is no memory");
        assert!(lock(&flight.0).is_empty());
    }

    #[tokio::test]
    async fn one_that_fails_stands_in_nobodys_way() {
        let flight = InFlight::<u8, u8>::default();
        #[allow(clippy::panic, reason = "that is what is tested")]
        let failed = flight.ask(1, async { panic!("on purpose") }).await;
        assert_eq!((failed, flight.ask(1, async { 7 }).await), (None, Some(7)));
    }
}
