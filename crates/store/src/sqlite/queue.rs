//! A bounded queue to a thread of ours, and the end of it.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::StoreError;

/// The most jobs that wait in one queue. Whoever comes after waits outside, in its own future.
pub(super) const QUEUE_LENGTH_MAX: usize = 1024;

/// The sending end. Jobs that are in the queue when it is closed are still done.
pub(super) struct Queue<J>(Mutex<Option<Open<J>>>);

struct Open<J> {
    sender: mpsc::Sender<J>,
    /// One for each thread: dropped when it has ended and let go of its connection.
    ended: Vec<oneshot::Receiver<()>>,
}

impl<J> Queue<J> {
    pub(super) fn new(sender: mpsc::Sender<J>, ended: Vec<oneshot::Receiver<()>>) -> Self {
        Self(Mutex::new(Some(Open { sender, ended })))
    }

    fn sender(&self) -> Option<mpsc::Sender<J>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|open| open.sender.clone())
    }

    pub(super) async fn send(&self, job: J) -> Result<(), StoreError> {
        let sender = self.sender().ok_or(StoreError::Closed)?;
        sender.send(job).await.map_err(|_| StoreError::Closed)
    }

    pub(super) async fn close(&self) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Open { sender, ended }) = open else { return };
        drop(sender);
        for thread in ended {
            // Nothing is ever sent: the other end is dropped, which is the message.
            let _ = thread.await;
        }
    }
}
