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
    turns: Semaphore,
}

impl Default for Asked {
    fn default() -> Self {
        Self { source: OnceLock::new(), turns: Semaphore::new(QUERIES_MAX) }
    }
}

impl Asked {
    pub(crate) fn set(&self, source: Arc<dyn EventSource>) {
        let _ = self.source.set(source);
    }

    /// The answer to a question; `None` if nobody answers questions here.
    pub(crate) async fn query(&self, query: Query) -> Option<Result<Events, QueryError>> {
        let source = Arc::clone(self.source.get()?);
        let _turn = self.turns.acquire().await.ok()?;
        let answered = tokio::task::spawn_blocking(move || source.query(&query)).await;
        Some(answered.unwrap_or_else(|error| Err(QueryError::Io(std::io::Error::other(error)))))
    }
}
