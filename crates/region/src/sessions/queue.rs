//! What is on its way to one side of a session: bounded in messages and in bytes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore, mpsc};

/// Messages that wait at most.
const MESSAGES_MAX: usize = 1024;
/// Bytes that wait at most. Larger than any message.
const BYTES_MAX: usize = 1 << 20;

/// A queue whose far end passes from one data channel of the side to the next.
pub(super) struct Queue {
    sender: mpsc::Sender<Waiting>,
    receiver: Mutex<mpsc::Receiver<Waiting>>,
    room: Arc<Semaphore>,
}

/// A message, and the room that it takes until it is dropped.
pub(super) struct Waiting {
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Queue {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        Self { sender, receiver: Mutex::new(receiver), room: Arc::new(Semaphore::new(BYTES_MAX)) }
    }

    /// Waits until there is room, and puts a message at the end.
    pub(super) async fn push(&self, bytes: Bytes) {
        let length = u32::try_from(bytes.len().min(BYTES_MAX)).unwrap_or(u32::MAX);
        // Neither half is ever closed.
        if let Ok(room) = Arc::clone(&self.room).acquire_many_owned(length).await {
            let _ = self.sender.send(Waiting { bytes, _room: room }).await;
        }
    }

    /// The far end, once whoever had it before has let go.
    pub(super) async fn far_end(&self) -> MutexGuard<'_, mpsc::Receiver<Waiting>> {
        self.receiver.lock().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn has_room(queue: &Queue, bytes: usize) -> bool {
        tokio::time::timeout(Duration::from_millis(20), queue.push(vec![0; bytes].into())).await.is_ok()
    }

    #[tokio::test]
    async fn bytes_below_at_and_above_the_most() {
        let queue = Queue::new();
        assert!(has_room(&queue, BYTES_MAX - 1).await);
        assert!(!has_room(&queue, 2).await);
        assert!(has_room(&queue, 1).await);
        assert!(!has_room(&queue, 1).await);
        let first = queue.far_end().await.recv().await.unwrap();
        assert!(!has_room(&queue, 1).await, "it is not gone before it is dropped");
        drop(first);
        assert!(has_room(&queue, BYTES_MAX - 1).await);
    }

    #[tokio::test]
    async fn messages_below_at_and_above_the_most() {
        let queue = Queue::new();
        for nth in 1..=MESSAGES_MAX {
            assert!(has_room(&queue, 1).await, "{nth}");
        }
        assert!(!has_room(&queue, 1).await);
        queue.far_end().await.recv().await.unwrap();
        assert!(has_room(&queue, 0).await);
    }
}
