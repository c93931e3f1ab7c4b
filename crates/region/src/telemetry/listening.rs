//! Who is told of batches, within bounds.

use core::ops::Deref;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use inborn_identity::InstanceId;
use inborn_lake::Place;
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
    told: Arc<Told>,
}

/// What a listener was told of, and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Events that were left out.
    skipped: AtomicU64,
    /// Batches that wait for the listener, or that he is not done with.
    open: AtomicUsize,
    /// Behind the last batch, whether it was left out or not. Where there is a lake.
    last: Mutex<Option<Place>>,
}

impl Told {
    /// Whether nothing waits for the listener, and he holds nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// Behind everything that he was told of, if he is done with all of it.
    pub(crate) fn all_done(&self) -> Option<Place> {
        // In this order: what comes in between makes him busy, or is behind.
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|_| self.is_idle())
    }
}

/// A batch that was accepted. Its memory counts, and its listener is not done with it, until this is dropped.
#[derive(Debug)]
pub struct Heard {
    batch: Arc<Batch>,
    place: Option<Place>,
    told: Arc<Told>,
    _room: Share<InstanceId>,
}

impl Heard {
    /// Behind it in the log of the lake, if there is one.
    pub(crate) const fn place(&self) -> Option<Place> {
        self.place
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.told.open.fetch_sub(1, Ordering::AcqRel);
    }
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
    told: Arc<Told>,
}

impl Listening {
    /// The next batch; waits for one. `None` when the region is gone.
    pub async fn next(&mut self) -> Option<Heard> {
        self.from.recv().await
    }

    /// How many events were left out, because they came faster than they were taken.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.told.skipped.load(Ordering::Relaxed)
    }

    /// The same, for somebody else to look at.
    pub(crate) fn told(&self) -> Arc<Told> {
        Arc::clone(&self.told)
    }
}

impl Listeners {
    pub(super) fn add(&self) -> Listening {
        let (to, from) = mpsc::channel(WAITING_MAX);
        let told = Arc::<Told>::default();
        let room = SharedRoom::new(WAITING_BYTES_MAX);
        let listener = Listener { to, room, told: Arc::clone(&told) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
        Listening { from, told }
    }

    /// Hands a batch to all of them. Never waits.
    pub(super) fn tell(&self, batch: &Arc<Batch>, place: Option<Place>) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| {
            let share = listener.room.take(batch.source.instance, bytes_of(batch));
            let told = &listener.told;
            let heard = share.map(|share| {
                told.open.fetch_add(1, Ordering::AcqRel);
                Heard { batch: Arc::clone(batch), place, told: Arc::clone(told), _room: share }
            });
            let is_told = heard.is_some_and(|heard| listener.to.try_send(heard).is_ok());
            if !is_told {
                let count = u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
                told.skipped.fetch_add(count, Ordering::Relaxed);
            }
            *told.last.lock().unwrap_or_else(PoisonError::into_inner) = place;
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
            listeners.tell(&eighth, None);
        }
        assert_eq!(listening.skipped(), 0, "below");
        listeners.tell(&eighth, None);
        assert_eq!(listening.skipped(), 0, "at");
        listeners.tell(&batch(1, 1), None);
        assert_eq!(listening.skipped(), 1, "above");
        let heard = listening.next().await.unwrap();
        listeners.tell(&batch(1, 1), None);
        assert_eq!(listening.skipped(), 2, "what was handed over still takes its memory");
        drop(heard);
        listeners.tell(&batch(1, 1), None);
        assert_eq!(listening.skipped(), 2);
    }

    #[tokio::test]
    async fn a_flood_of_one_machine_leaves_the_others_theirs() {
        let listeners = Listeners::default();
        let mut listening = listeners.add();
        for _ in 0..100 {
            listeners.tell(&batch(1, WAITING_BYTES_MAX / 16), None);
        }
        let flooded = listening.skipped();
        assert_eq!(flooded, 100 - 8);
        for machine in 2..=200 {
            listeners.tell(&batch(machine, 8 * 1024), None);
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
            listeners.tell(&batch(1, 1), None);
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
        listeners.tell(&batch(1, 1), None);
        assert_eq!(listeners.0.lock().unwrap().len(), 1);
        assert_eq!(here.from.try_recv().unwrap().records.len(), 1);
        assert!(here.from.try_recv().is_err());
    }

    #[tokio::test]
    async fn who_has_nothing_left_is_done_with_everything_that_was_told() {
        let listeners = Listeners::default();
        let mut listening = listeners.add();
        let told = listening.told();
        let place = |offset| Some(Place { segment: 1, offset });
        assert_eq!((told.is_idle(), told.all_done()), (true, None));
        listeners.tell(&batch(1, 1), place(10));
        assert_eq!((told.is_idle(), told.all_done()), (false, None), "it waits");
        let heard = listening.next().await.unwrap();
        assert_eq!((heard.place(), told.all_done()), (place(10), None), "he holds it");
        drop(heard);
        assert_eq!(told.all_done(), place(10));
        listeners.tell(&batch(1, WAITING_BYTES_MAX + 1), place(20));
        assert_eq!((listening.skipped(), told.all_done()), (1, place(20)), "what was left out is not waited for");
    }
}
