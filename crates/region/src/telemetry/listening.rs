//! Who is told of batches, within bounds.

use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use inborn_telemetry::Batch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Memory of the batches that wait for one listener.
const WAITING_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Batches that wait for one listener.
const WAITING_MAX: usize = 4096;
/// What a batch takes beside its events.
const BATCH_BYTES: usize = 512;
/// What an event takes beside its text.
const RECORD_BYTES: usize = 128;
const KIBIBYTE: usize = 1024;

/// The listeners.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<Vec<Listener>>);

/// Our end of a [`Listening`].
#[derive(Debug)]
struct Listener {
    to: mpsc::Sender<Heard>,
    room: Arc<Semaphore>,
    skipped: Arc<AtomicU64>,
}

/// A batch that was accepted. Its memory counts until this is dropped.
#[derive(Debug)]
pub struct Heard {
    batch: Arc<Batch>,
    _room: OwnedSemaphorePermit,
}

impl Deref for Heard {
    type Target = Batch;
    fn deref(&self) -> &Batch {
        &self.batch
    }
}

/// Every batch that was accepted since this was made, in the order in which they were: each is durable, and may hold events
/// that were there before. Of what comes faster than it is taken, the newest is left out.
#[derive(Debug)]
pub struct Listening {
    from: mpsc::Receiver<Heard>,
    skipped: Arc<AtomicU64>,
}

impl Listening {
    /// The next batch; waits for one. `None` when the region is gone.
    pub async fn next(&mut self) -> Option<Heard> {
        self.from.recv().await
    }

    /// How many events were left out, because they came faster than they were taken.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }
}

impl Listeners {
    pub(super) fn add(&self) -> Listening {
        let (to, from) = mpsc::channel(WAITING_MAX);
        let skipped = Arc::new(AtomicU64::new(0));
        let room = Arc::new(Semaphore::new(WAITING_BYTES_MAX / KIBIBYTE));
        let listener = Listener { to, room, skipped: Arc::clone(&skipped) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
        Listening { from, skipped }
    }

    /// Whether there is anybody.
    pub(super) fn is_any(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Hands a batch to all of them. Never waits.
    pub(super) fn tell(&self, batch: &Arc<Batch>) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| {
            let heard = Arc::clone(&listener.room)
                .try_acquire_many_owned(kibibytes(batch))
                .map(|room| Heard { batch: Arc::clone(batch), _room: room });
            let is_told = heard.is_ok_and(|heard| listener.to.try_send(heard).is_ok());
            if !is_told {
                let count = u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
                listener.skipped.fetch_add(count, Ordering::Relaxed);
            }
            !listener.to.is_closed()
        });
    }
}

/// The memory of a batch.
fn kibibytes(batch: &Batch) -> u32 {
    let records = batch.records.iter().map(|record| record.json.len() + record.uid.len() + RECORD_BYTES);
    let bytes = records.sum::<usize>() + BATCH_BYTES;
    u32::try_from(bytes.div_ceil(KIBIBYTE)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_identity::{AccountId, UnixTime};
    use inborn_telemetry::{ClassUid, Record, Source};

    fn batch(bytes: usize) -> Arc<Batch> {
        let record =
            Record { uid: "".into(), time_ms: 0, class: ClassUid(1007), json: "x".repeat(bytes).into_boxed_str() };
        let source = Source {
            account: AccountId::new(1).unwrap(),
            instance: "i-0123456789abcdef0".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
        };
        Arc::new(Batch { source, received_at: UnixTime::from_secs(0), records: vec![record] })
    }

    #[tokio::test]
    async fn what_is_not_taken_in_time_is_left_out_and_counted() {
        let listeners = Listeners::default();
        let mut listening = listeners.add();
        let eighth = batch(WAITING_BYTES_MAX / 8 - BATCH_BYTES - RECORD_BYTES);
        for _ in 0..7 {
            listeners.tell(&eighth);
        }
        assert_eq!(listening.skipped(), 0, "below");
        listeners.tell(&eighth);
        assert_eq!(listening.skipped(), 0, "at");
        listeners.tell(&batch(1));
        assert_eq!(listening.skipped(), 1, "above");
        let heard = listening.next().await.unwrap();
        listeners.tell(&batch(1));
        assert_eq!(listening.skipped(), 2, "what was handed over still takes its memory");
        drop(heard);
        listeners.tell(&batch(1));
        assert_eq!(listening.skipped(), 2);
    }

    #[tokio::test]
    async fn small_batches_are_counted_too() {
        let listeners = Listeners::default();
        let listening = listeners.add();
        let small = batch(1);
        for at in 1..=WAITING_MAX + 1 {
            listeners.tell(&small);
            assert_eq!(listening.skipped(), u64::from(at > WAITING_MAX), "{at}");
        }
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let listeners = Listeners::default();
        let (gone, mut here) = (listeners.add(), listeners.add());
        drop(gone);
        listeners.tell(&batch(1));
        assert_eq!(listeners.0.lock().unwrap().len(), 1);
        assert_eq!(here.from.try_recv().unwrap().records.len(), 1);
        assert!(here.from.try_recv().is_err());
    }
}
