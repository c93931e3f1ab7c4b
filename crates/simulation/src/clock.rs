//! Clocks that go with the simulated time, and may be off.

use core::sync::atomic::{AtomicI64, Ordering};

use inborn_identity::{Clock, UnixTime};
use tokio::time::Instant;

/// When a simulation begins.
const BEGINNING: UnixTime = UnixTime::from_secs(1_800_000_000);

/// The clock of one server.
#[derive(Debug)]
pub(crate) struct SimulatedClock {
    begun: Instant,
    off_by: AtomicI64,
}

impl SimulatedClock {
    pub(crate) fn new(begun: Instant) -> Self {
        Self { begun, off_by: AtomicI64::new(0) }
    }

    /// Sets by how many seconds it is off.
    pub(crate) fn set_off_by(&self, seconds: i64) {
        self.off_by.store(seconds, Ordering::SeqCst);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> UnixTime {
        let true_time = BEGINNING.plus(self.begun.elapsed().as_secs());
        let off_by = self.off_by.load(Ordering::SeqCst);
        if off_by < 0 { true_time.minus(off_by.unsigned_abs()) } else { true_time.plus(off_by.unsigned_abs()) }
    }
}
