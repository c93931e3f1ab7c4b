//! Whom operators ask for events.

use std::sync::{Arc, OnceLock};

use inborn_lake::{Events, Lake, Query, QueryError};
use tokio::sync::Semaphore;

/// Questions that are answered at the same time: each reads files.
const QUERIES_MAX: usize = 4;

/// Where events are that were kept.
pub trait EventSource: Send + Sync + 'static {
    /// Answers a question. May take long.
    ///
    /// # Errors
    /// See [`QueryError`].
    fn query(&self, query: &Query) -> Result<Events, QueryError>;
}

impl EventSource for Lake {
    fn query(&self, query: &Query) -> Result<Events, QueryError> {
        Self::query(self, query)
    }
}

/// Who answers, if anybody does, and how many questions at a time.
pub(crate) struct Asked {
    source: OnceLock<Arc<dyn EventSource>>,
    turns: Arc<Semaphore>,
}

impl Default for Asked {
    fn default() -> Self {
        Self { source: OnceLock::new(), turns: Arc::new(Semaphore::new(QUERIES_MAX)) }
    }
}

impl Asked {
    pub(crate) fn set(&self, source: Arc<dyn EventSource>) {
        let _ = self.source.set(source);
    }

    /// The answer to a question; `None` if nobody answers questions here.
    pub(crate) async fn query(&self, query: Query) -> Option<Result<Events, QueryError>> {
        let source = Arc::clone(self.source.get()?);
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let answering = move || {
            let answer = source.query(&query);
            // The turn ends with the work, also where nobody waits for its answer any more.
            drop(turn);
            answer
        };
        let answered = tokio::task::spawn_blocking(answering).await;
        Some(answered.unwrap_or_else(|error| Err(QueryError::Io(std::io::Error::other(error)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, mpsc};

    /// Answers when it is told to, and counts who asks at the same time.
    struct Slow {
        go: Mutex<mpsc::Receiver<()>>,
        begun: mpsc::Sender<()>,
        at_once: AtomicUsize,
        most: AtomicUsize,
    }

    impl EventSource for Slow {
        fn query(&self, _: &Query) -> Result<Events, QueryError> {
            self.most.fetch_max(self.at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            self.begun.send(()).unwrap();
            let _ = self.go.lock().unwrap().recv();
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            Ok(Events::default())
        }
    }

    #[tokio::test]
    async fn who_goes_away_does_not_let_more_in_than_may_be() {
        let (begun, begins) = mpsc::channel();
        let (answer, go) = mpsc::channel();
        let most = AtomicUsize::new(0);
        let slow = Arc::new(Slow { go: Mutex::new(go), begun, at_once: AtomicUsize::new(0), most });
        let asked = Arc::new(Asked::default());
        asked.set(Arc::clone(&slow) as _);
        let ask = || {
            let asked = Arc::clone(&asked);
            tokio::spawn(async move { asked.query(Query::default()).await })
        };
        // As many as may ask, all of whom go away while they are answered.
        let gone: Vec<_> = (0..QUERIES_MAX).map(|_| ask()).collect();
        let begins = tokio::task::spawn_blocking(move || {
            (0..QUERIES_MAX).for_each(|_| begins.recv().unwrap());
            begins
        });
        let begins = begins.await.unwrap();
        for asking in gone {
            asking.abort();
            assert!(asking.await.unwrap_err().is_cancelled());
        }
        assert_eq!(asked.turns.available_permits(), 0, "the work goes on");
        let next = ask();
        tokio::task::yield_now().await;
        assert!(begins.try_recv().is_err(), "and nobody else's begins");
        (0..=QUERIES_MAX).for_each(|_| answer.send(()).unwrap());
        assert!(next.await.unwrap().unwrap().is_ok());
        assert_eq!(slow.most.load(Ordering::SeqCst), QUERIES_MAX);
    }
}
