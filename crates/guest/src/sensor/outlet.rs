//! Where sources put what they saw: one queue with a bound in bytes. Who cannot wait leaves out, and it is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::event::Event;
use super::ocsf::{Stamp, render};

/// Bytes of events that wait to be put into a batch.
pub const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Events that wait.
pub const QUEUE_EVENTS_MAX: usize = 8192;
/// Bytes of one event. What is larger is left out: by the limits of its texts it cannot be.
pub const EVENT_BYTES_MAX: usize = 128 * 1024;

/// An event as a line of JSON, and its share of the queue.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) json: String,
    _share: OwnedSemaphorePermit,
}

/// What has become of events.
#[derive(Debug, Default)]
pub struct Counts {
    /// Seen by a source.
    pub seen: AtomicU64,
    /// Left out because the queue was full, or by the kernel because the sensor was slow.
    pub lost: AtomicU64,
    /// Acknowledged by the region.
    pub delivered: AtomicU64,
    /// Refused by the region for good.
    pub refused: AtomicU64,
    /// Removed from a full spool, or found broken there.
    pub dropped: AtomicU64,
    /// Lines of standard input that are none of its format.
    pub unreadable: AtomicU64,
}

impl Counts {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// One line for people.
    #[must_use]
    pub fn text(&self) -> String {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} events seen, {} delivered, {} refused, {} lost, {} dropped from the spool, {} lines not understood",
            of(&self.seen),
            of(&self.delivered),
            of(&self.refused),
            of(&self.lost),
            of(&self.dropped),
            of(&self.unreadable),
        )
    }
}

/// The way in.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    queue: mpsc::Sender<Line>,
    room: Arc<Semaphore>,
    stamp: Arc<Stamp>,
    number: Arc<AtomicU64>,
    counts: Arc<Counts>,
}

/// A queue: the way in, and its end.
pub(crate) fn outlet(stamp: Stamp, counts: Arc<Counts>) -> (Outlet, mpsc::Receiver<Line>) {
    let (queue, lines) = mpsc::channel(QUEUE_EVENTS_MAX);
    let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
    (Outlet { queue, room, stamp: Arc::new(stamp), number: Arc::default(), counts }, lines)
}

impl Outlet {
    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Puts an event in if there is room.
    pub(crate) fn offer(&self, event: &Event) {
        let Some((json, bytes)) = self.write(event) else { return };
        let share = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        let is_in = share.is_ok_and(|share| self.queue.try_send(Line { json, _share: share }).is_ok());
        if !is_in {
            Counts::add(&self.counts.lost, 1);
        }
    }

    /// Puts an event in as soon as there is room: for sources that can wait.
    pub(crate) async fn put(&self, event: &Event) {
        let Some((json, bytes)) = self.write(event) else { return };
        let Ok(share) = Arc::clone(&self.room).acquire_many_owned(bytes).await else { return };
        if self.queue.send(Line { json, _share: share }).await.is_err() {
            Counts::add(&self.counts.lost, 1);
        }
    }

    fn write(&self, event: &Event) -> Option<(String, u32)> {
        Counts::add(&self.counts.seen, 1);
        let json = render(event, &self.stamp, self.number.fetch_add(1, Ordering::Relaxed));
        match u32::try_from(json.len()) {
            Ok(bytes) if json.len() <= EVENT_BYTES_MAX => Some((json, bytes)),
            _ => {
                Counts::add(&self.counts.lost, 1);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Process, Provider, What};
    use super::*;

    fn event(bytes: usize) -> Event {
        let actor = Process { command_line: Some("x".repeat(bytes)), ..Process::default() };
        Event { time_ms: 1, provider: Provider::Proc, what: What::Invoked { actor, syscall: "bpf".into() } }
    }

    #[tokio::test]
    async fn events_below_at_and_above_the_room() {
        let counts = Arc::new(Counts::default());
        let (outlet, mut lines) = outlet(Stamp { run: "r".into(), hostname: None }, Arc::clone(&counts));
        let bare = render(&event(0), &outlet.stamp, 0).len();
        for (length, lost) in [(EVENT_BYTES_MAX - 1, 0), (EVENT_BYTES_MAX, 0), (EVENT_BYTES_MAX + 1, 1)] {
            outlet.number.store(0, Ordering::Relaxed);
            outlet.offer(&event(length - bare));
            assert_eq!(counts.lost.load(Ordering::Relaxed), lost, "{length}");
        }
        let fit = QUEUE_BYTES_MAX / EVENT_BYTES_MAX;
        for _ in 2..fit {
            outlet.offer(&event(EVENT_BYTES_MAX - bare - 16));
        }
        outlet.offer(&event(EVENT_BYTES_MAX - bare - 16));
        assert_eq!(counts.lost.load(Ordering::Relaxed), 2, "one more than there is room for");
        drop(lines.recv().await);
        outlet.offer(&event(EVENT_BYTES_MAX - bare - 16));
        assert_eq!(counts.lost.load(Ordering::Relaxed), 2, "what was taken out makes room");
    }

    #[tokio::test]
    async fn lines_below_at_and_above_the_number() {
        let counts = Arc::new(Counts::default());
        let (outlet, _lines) = outlet(Stamp { run: "r".into(), hostname: None }, Arc::clone(&counts));
        for count in 1..=QUEUE_EVENTS_MAX + 1 {
            outlet.offer(&event(0));
            let over = u64::from(count > QUEUE_EVENTS_MAX);
            assert_eq!(counts.lost.load(Ordering::Relaxed), over, "{count}");
        }
    }
}
