//! Batches on their way: in memory while the region takes them, on disk while it does not, oldest first.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::batch::Batch;
use super::outlet::Counts;
use super::post::{Outcome, Post};
use super::spool::Spool;

/// Batches in memory. Further ones go to disk.
pub const MEMORY_BATCHES_MAX: usize = 4;
/// How often a batch is sent to a region that answers 500 to it, before it is given up.
pub const FAULTS_MAX: u32 = 5;
/// The pause after the first failure; it doubles up to the last.
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// Says something to a person.
pub type Report = std::sync::Arc<dyn Fn(&str) + Send + Sync>;

/// Something to send, and where its fate is told.
enum Errand {
    Batch(Batch, oneshot::Sender<Outcome>),
    Heartbeat(oneshot::Sender<Outcome>),
}

/// What is on its way.
struct InFlight {
    /// None: a heartbeat.
    sequence: Option<u64>,
    fate: oneshot::Receiver<Outcome>,
}

/// Keeps batches until their fate is known.
pub(crate) struct Courier {
    errands: mpsc::Sender<Errand>,
    in_flight: Option<InFlight>,
    memory: BTreeMap<u64, Batch>,
    spool: Spool,
    next: u64,
    /// Failures in a row, and until when nothing is sent.
    failures: u32,
    until: Instant,
    /// How often the region failed over this batch.
    faults: (u64, u32),
    counts: std::sync::Arc<Counts>,
    report: Report,
}

/// Nothing more may be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OtherMachine;

impl Courier {
    pub(crate) fn new(mut post: Post, spool: Spool, counts: std::sync::Arc<Counts>, report: Report) -> Self {
        let (errands, mut mail) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(errand) = mail.recv().await {
                match errand {
                    Errand::Batch(batch, fate) => drop(fate.send(post.batch(&batch).await)),
                    Errand::Heartbeat(fate) => drop(fate.send(post.heartbeat().await)),
                }
            }
        });
        let next = spool.next_sequence();
        let until = Instant::now();
        Self {
            errands,
            in_flight: None,
            memory: BTreeMap::new(),
            spool,
            next,
            failures: 0,
            until,
            faults: (0, 0),
            counts,
            report,
        }
    }

    /// Takes a batch.
    pub(crate) fn accept(&mut self, batch: Batch) {
        let sequence = self.next;
        self.next = self.next.saturating_add(1);
        if self.failures > 0 || self.spool.first().is_some() || self.memory.len() >= MEMORY_BATCHES_MAX {
            self.store(sequence, batch);
        } else {
            self.memory.insert(sequence, batch);
        }
    }

    /// Puts a batch on disk; where that fails it stays in memory if there is room.
    fn store(&mut self, sequence: u64, batch: Batch) {
        match self.spool.write(sequence, &batch) {
            Ok(0) => {}
            Ok(dropped) => {
                Counts::add(&self.counts.dropped, dropped);
                (self.report)(&format!("the spool is full: {dropped} of the oldest events were given up"));
            }
            Err(error) => {
                (self.report)(&format!("cannot write to {}: {error}", self.spool.directory().display()));
                if self.memory.len() < MEMORY_BATCHES_MAX {
                    self.memory.insert(sequence, batch);
                } else {
                    Counts::add(&self.counts.dropped, batch.len().try_into().unwrap_or_default());
                }
            }
        }
    }

    /// Whether anything waits to be sent.
    pub(crate) fn has_any(&self) -> bool {
        self.first().is_some()
    }

    pub(crate) fn is_away(&self) -> bool {
        self.failures > 0
    }

    fn first(&self) -> Option<u64> {
        let in_memory = self.memory.first_key_value().map(|(sequence, _)| *sequence);
        match (in_memory, self.spool.first()) {
            (Some(memory), Some(spool)) => Some(memory.min(spool)),
            (memory, spool) => memory.or(spool),
        }
    }

    /// When something can be sent: nothing if there is nothing, or something is on its way already.
    pub(crate) fn due(&self) -> Option<Instant> {
        (self.in_flight.is_none() && self.has_any()).then_some(self.until)
    }

    /// Sends the oldest batch.
    pub(crate) fn send(&mut self) {
        let Some(sequence) = self.first() else { return };
        let batch = match self.memory.get(&sequence) {
            Some(batch) => batch.clone(),
            None => match self.spool.read(sequence) {
                Some(batch) => batch,
                None => {
                    let lost = self.spool.remove(sequence);
                    Counts::add(&self.counts.dropped, lost);
                    (self.report)(&format!("{lost} events that waited on disk cannot be read and were given up"));
                    return;
                }
            },
        };
        self.start(Some(sequence), |fate| Errand::Batch(batch, fate));
    }

    /// Says that the sensor is there, if nothing else is being said.
    pub(crate) fn heartbeat(&mut self) {
        if self.in_flight.is_none() && self.until <= Instant::now() {
            self.start(None, Errand::Heartbeat);
        }
    }

    fn start(&mut self, sequence: Option<u64>, errand: impl FnOnce(oneshot::Sender<Outcome>) -> Errand) {
        let (tell, fate) = oneshot::channel();
        if self.errands.try_send(errand(tell)).is_ok() {
            self.in_flight = Some(InFlight { sequence, fate });
        }
    }

    /// Waits for the fate of what is on its way; without, for ever.
    pub(crate) async fn fate(&mut self) -> Outcome {
        match &mut self.in_flight {
            Some(in_flight) => (&mut in_flight.fate).await.unwrap_or_else(|_| Outcome::Later {
                after: None,
                why: "it was broken off".to_owned(),
                is_fault: false,
            }),
            None => std::future::pending().await,
        }
    }

    /// Acts on the fate of what was on its way.
    pub(crate) fn settle(&mut self, outcome: Outcome) -> Result<(), OtherMachine> {
        let sequence = self.in_flight.take().and_then(|in_flight| in_flight.sequence);
        match outcome {
            Outcome::Done { delivered, refused, why } => {
                if self.failures > 0 {
                    self.failures = 0;
                    (self.report)("the region answers again");
                }
                Counts::add(&self.counts.delivered, delivered);
                Counts::add(&self.counts.refused, refused);
                if refused > 0 {
                    (self.report)(&format!("the region will not take {refused} events: {}", why.unwrap_or_default()));
                }
                self.forget(sequence);
            }
            Outcome::Later { after, why, is_fault } => {
                if is_fault && self.is_given_up(sequence) {
                    (self.report)(&format!("a batch was given up after {FAULTS_MAX} attempts: {why}"));
                    let lost = self.forget(sequence);
                    Counts::add(&self.counts.refused, lost);
                    return Ok(());
                }
                self.pause(after, &why);
            }
            Outcome::OtherMachine => return Err(OtherMachine),
        }
        Ok(())
    }

    fn is_given_up(&mut self, sequence: Option<u64>) -> bool {
        let Some(sequence) = sequence else { return false };
        let (of, count) = self.faults;
        self.faults = (sequence, if of == sequence { count + 1 } else { 1 });
        self.faults.1 >= FAULTS_MAX
    }

    fn forget(&mut self, sequence: Option<u64>) -> u64 {
        let Some(sequence) = sequence else { return 0 };
        match self.memory.remove(&sequence) {
            Some(batch) => batch.len().try_into().unwrap_or_default(),
            None => self.spool.remove(sequence),
        }
    }

    fn pause(&mut self, after: Option<Duration>, why: &str) {
        let doubled = BACK_OFF.saturating_mul(1 << self.failures.min(6)).min(BACK_OFF_MAX);
        self.until = Instant::now() + after.unwrap_or(doubled);
        if self.failures == 0 {
            let place = self.spool.directory().display();
            (self.report)(&format!("the region takes nothing now ({why}); events wait in {place}"));
        }
        self.failures = self.failures.saturating_add(1);
        self.put_on_disk();
    }

    /// Puts all that is in memory on disk.
    pub(crate) fn put_on_disk(&mut self) {
        for (sequence, batch) in std::mem::take(&mut self.memory) {
            self.store(sequence, batch);
        }
    }

    /// Events that wait on disk.
    pub(crate) fn waiting(&self) -> u64 {
        self.spool.events()
    }
}
