//! Where batches go.

use core::future::Future;
use core::pin::Pin;
use std::sync::Arc;

use inborn_lake::{AppendError, Lake};
use inborn_telemetry::Batch;

/// What became of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The batch, with those of its events that are new.
    pub new: Arc<Batch>,
    /// How many of its events were there.
    pub duplicates: usize,
}

/// Why a batch was not taken. None of it is the client's fault: it sends the same again later.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// More is on its way than memory is set aside for.
    #[error("too much telemetry is waiting to be written")]
    Busy,
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// More than will ever be taken at once.
    #[error("the events are too large")]
    TooLarge,
    /// The disk in another way, or the end of the process.
    #[error("telemetry cannot be written: {0}")]
    Failed(String),
}

/// A batch that is being written.
pub type Appending<'a> = Pin<Box<dyn Future<Output = Result<Kept, SinkError>> + Send + 'a>>;

/// Where batches go: the [`Lake`], but for tests.
pub trait Sink: Send + Sync {
    /// Takes a batch. When this has answered well, the batch is on disk, and a batch with the same events is known again.
    fn append(&self, batch: Batch) -> Appending<'_>;
}

impl Sink for Lake {
    fn append(&self, batch: Batch) -> Appending<'_> {
        Box::pin(async move {
            match self.take(batch).await {
                Ok((appended, new)) => Ok(Kept { new, duplicates: appended.duplicates }),
                Err(AppendError::Busy) => Err(SinkError::Busy),
                Err(AppendError::Full) => Err(SinkError::Full),
                Err(AppendError::TooLarge) => Err(SinkError::TooLarge),
                Err(error) => Err(SinkError::Failed(error.to_string())),
            }
        })
    }
}
