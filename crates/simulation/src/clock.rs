//! Clocks that go with the simulated time, and may be off.

use core::sync::atomic::{AtomicI64, Ordering};
use core::time::Duration;

use inborn_identity::{Clock, UnixTime};
use tokio::time::Instant;

/// When a simulation begins.
const BEGINNING: UnixTime = UnixTime::from_secs(1_800_000_000);

/// Clocks of servers are within a minute of each other, where revocation and release are to end what was issued before. Source:
/// docs/revocation.md.
const OFF_SECONDS_MAX: i64 = 30;
/// What epochs, and signatures, allow between any two. Whole seconds pass while somebody asks. Source: docs/revocation.md.
const FAR_OFF_SECONDS_MAX: i64 = 895;
/// How long a clock is far off: somebody has to meet it, also while all is slow.
const FAR_OFF_FOR: core::ops::RangeInclusive<u64> = 60..=900;

/// How clocks of servers go wrong in a simulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Clocks {
    Near,
    /// Ahead, or behind, of those that are right: of two that are off so, none is further from the other.
    FarAhead,
    FarBehind,
}

impl Clocks {
    pub(crate) const fn is_far(self) -> bool {
        !matches!(self, Self::Near)
    }

    /// By how much one is off, and for how long, where other trouble would last for so long.
    pub(crate) fn draw(self, random: &mut fastrand::Rng, lasts: Duration) -> (i64, Duration) {
        let near = random.i64(-OFF_SECONDS_MAX..=OFF_SECONDS_MAX);
        let far = |by: i64, random: &mut fastrand::Rng| (by, Duration::from_secs(random.u64(FAR_OFF_FOR)));
        match self {
            Self::Near => (near, lasts),
            Self::FarAhead => far(random.i64(OFF_SECONDS_MAX..=FAR_OFF_SECONDS_MAX), random),
            Self::FarBehind => far(random.i64(-FAR_OFF_SECONDS_MAX..=-OFF_SECONDS_MAX), random),
        }
    }
}

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
