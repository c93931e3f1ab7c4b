//! Who is told of batches, within bounds.

use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use inborn_identity::InstanceId;
use inborn_telemetry::Batch;
use tokio::sync::mpsc;

use super::shared_room::{Share, SharedRoom};

/// Memory of the batches that wait for one listener. The machines share it.
const WAITING_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Batches that wait for one listener. There are never more, since each takes at least [`BATCH_BYTES`].
const WAITING_MAX: usize = 4096;
/// What a batch counts beside its events: so much that small ones leave others their places, too.
const BATCH_BYTES: usize = WAITING_BYTES_MAX / WAITING_MAX;
/// What an event takes beside its text.
const RECORD_BYTES: usize = 128;

/// The listeners.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<Vec<Listener>>);

/// Our end of a [`Listening`].
#[derive(Debug)]
struct Listener {
    to: mpsc::Sender<Heard>,
    room: SharedRoom<InstanceId>,
    skipped: Arc<AtomicU64>,
}

/// A batch that was accepted. Its memory counts until this is dropped.
#[derive(Debug)]
pub struct Heard {
    batch: Arc<Batch>,
    _room: Share<InstanceId>,
}

impl Deref for Heard {
    type Target = Batch;
    fn deref(&self) -> &Batch {
        &self.batch
    }
}

/// Every batch that was accepted since this was made, in the order in which they were: each is durable, and may hold events
/// that were there before. Of what comes faster than it is taken, the newest is left out: of each machine what is beyond its
/// share, so that the others' is taken.
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
        let room = SharedRoom::new(WAITING_BYTES_MAX);
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
            let share = listener.room.take(batch.source.instance, bytes_of(batch));
            let heard = share.map(|share| Heard { batch: Arc::clone(batch), _room: share });
            let is_told = heard.is_some_and(|heard| listener.to.try_send(heard).is_ok());
            if !is_told {
                let count = u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
                listener.skipped.fetch_add(count, Ordering::Relaxed);
            }
            !listener.to.is_closed()
        });
    }
}

/// The memory of a batch.
fn bytes_of(batch: &Batch) -> usize {
    let records = batch.records.iter().map(|record| record.json.len() + record.uid.len() + RECORD_BYTES);
    records.sum::<usize>() + BATCH_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_identity::{AccountId, UnixTime};
    use inborn_telemetry::{ClassUid, Record, Source};

    /// A batch of one event that takes so much in all.
    fn batch(machine: u8, bytes: usize) -> Arc<Batch> {
        let json = "x".repeat(bytes.saturating_sub(BATCH_BYTES + RECORD_BYTES)).into_boxed_str();
        let record = Record { uid: "".into(), time_ms: 0, class: ClassUid(1007), json };
        let source = Source {
            account: AccountId::new(1).unwrap(),
            instance: InstanceId::from_bytes([machine; InstanceId::BYTES]),
            region: "us-east-1".parse().unwrap(),
        };
        Arc::new(Batch { source, received_at: UnixTime::from_secs(0), records: vec![record] })
    }

    #[tokio::test]
    async fn what_is_not_taken_in_time_is_left_out_and_counted() {
        let listeners = Listeners::default();
        let mut listening = listeners.add();
        let eighth = batch(1, WAITING_BYTES_MAX / 8);
        for _ in 0..3 {
            listeners.tell(&eighth);
        }
        assert_eq!(listening.skipped(), 0, "below");
        listeners.tell(&eighth);
        assert_eq!(listening.skipped(), 0, "at");
        listeners.tell(&batch(1, 1));
        assert_eq!(listening.skipped(), 1, "above");
        let heard = listening.next().await.unwrap();
        listeners.tell(&batch(1, 1));
        assert_eq!(listening.skipped(), 2, "what was handed over still takes its memory");
        drop(heard);
        listeners.tell(&batch(1, 1));
        assert_eq!(listening.skipped(), 2);
    }

    #[tokio::test]
    async fn a_flood_of_one_machine_leaves_the_others_theirs() {
        let listeners = Listeners::default();
        let mut listening = listeners.add();
        for _ in 0..100 {
            listeners.tell(&batch(1, WAITING_BYTES_MAX / 16));
        }
        let flooded = listening.skipped();
        assert_eq!(flooded, 100 - 8);
        for machine in 2..=200 {
            listeners.tell(&batch(machine, 8 * 1024));
        }
        assert_eq!(listening.skipped(), flooded);
        let mut others = 0;
        while let Ok(heard) = listening.from.try_recv() {
            others += usize::from(heard.source.instance != InstanceId::from_bytes([1; InstanceId::BYTES]));
        }
        assert_eq!(others, 199);
    }

    #[tokio::test]
    async fn small_batches_are_counted_too() {
        let listeners = Listeners::default();
        let listening = listeners.add();
        let each = BATCH_BYTES + RECORD_BYTES;
        for at in 1..=WAITING_MAX {
            listeners.tell(&batch(1, 1));
            let is_over = at > WAITING_BYTES_MAX / 2 / each;
            assert_eq!(listening.skipped() > 0, is_over, "{at}");
        }
        // However many machines: there are places for all that there is memory for.
        const { assert!(WAITING_BYTES_MAX / (BATCH_BYTES + RECORD_BYTES) < WAITING_MAX) };
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let listeners = Listeners::default();
        let (gone, mut here) = (listeners.add(), listeners.add());
        drop(gone);
        listeners.tell(&batch(1, 1));
        assert_eq!(listeners.0.lock().unwrap().len(), 1);
        assert_eq!(here.from.try_recv().unwrap().records.len(), 1);
        assert!(here.from.try_recv().is_err());
    }
}
