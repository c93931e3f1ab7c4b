//! How much one machine may ask of its metadata service, so that it cannot take it away from another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// What one machine may ask of its metadata service, over all its sockets together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MetadataLimits {
    /// Connections open at a time; further ones wait in the queue of the kernel.
    pub connections_max: usize,
    /// Requests a second that may go on for ever, a new connection counting as its first request; 0 for any number.
    pub requests_per_second: u32,
    /// Requests that may come at once after a pause.
    pub burst: u32,
}

impl MetadataLimits {
    /// Limits that no honest guest meets: EC2 drops what is over 1,024 packets a second, of which a request over a kept
    /// connection takes two and one over a new connection five.
    pub const DEFAULT: Self = Self::of_rate(500);

    /// So many requests a second, of which a fifth of a second's may come at once: more of them would be felt by others.
    #[must_use]
    pub const fn of_rate(requests_per_second: u32) -> Self {
        Self { connections_max: 256, requests_per_second, burst: requests_per_second.div_ceil(5) }
    }
}

impl Default for MetadataLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The longest that a request waits for its turn; one whose turn is later than that is refused when this has passed. With
/// the default limits no request gets there: 256 connections are served in half a second. Clients give up after one second.
const TURN_WAIT_MAX: Duration = Duration::from_secs(1);

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// The load that one machine puts on its metadata service.
#[derive(Debug)]
pub(crate) struct Load {
    places: Arc<Semaphore>,
    turns: Option<Turns>,
}

/// What became of a request's turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// It is now.
    Now,
    /// It comes after so long.
    After(Duration),
    /// It would come too late: the request waits so long and is refused.
    RefusedAfter(Duration),
}

impl Load {
    pub(crate) fn new(limits: MetadataLimits) -> Self {
        let places = limits.connections_max.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places)), turns: Turns::new(limits, Instant::now()) }
    }

    /// Waits for a place for one more connection.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            // Only a closed semaphore has an error, and nothing closes this one.
            if let Ok(place) = Arc::clone(&self.places).acquire_owned().await {
                return place;
            }
            std::future::pending::<()>().await;
        }
    }

    /// Takes a turn: one for each request.
    pub(crate) fn turn(&self) -> Turn {
        self.turns.as_ref().map_or(Turn::Now, |turns| turns.take(Instant::now()))
    }
}

/// A bucket that refills steadily, kept as the moment at which it will be full again: one number, so that the connections
/// of a machine need no lock (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
struct Turns {
    start: Instant,
    /// Nanoseconds from one request to the next at the steady rate.
    period: u64,
    /// Nanoseconds in which an empty bucket fills.
    capacity: u64,
    /// Nanoseconds after `start`.
    full_at: AtomicU64,
}

impl Turns {
    fn new(limits: MetadataLimits, start: Instant) -> Option<Self> {
        let period = SECOND.checked_div(limits.requests_per_second.into())?;
        let capacity = period.saturating_mul(limits.burst.max(1).into());
        Some(Self { start, period, capacity, full_at: AtomicU64::new(0) })
    }

    fn take(&self, now: Instant) -> Turn {
        let now = u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX);
        let full_after = |full_at: u64| full_at.max(now).saturating_add(self.period);
        let wait = |full_at: u64| full_after(full_at).saturating_sub(now.saturating_add(self.capacity));
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            // A request that will be refused takes nothing from those that wait.
            (wait(full_at) <= TURN_WAIT_MAX.as_secs() * SECOND).then(|| full_after(full_at))
        });
        match taken.map(wait) {
            Ok(0) => Turn::Now,
            Ok(nanoseconds) => Turn::After(Duration::from_nanos(nanoseconds)),
            Err(_) => Turn::RefusedAfter(TURN_WAIT_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(requests_per_second: u32, burst: u32) -> (Turns, Instant) {
        let start = Instant::now();
        let limits = MetadataLimits { requests_per_second, burst, ..MetadataLimits::DEFAULT };
        (Turns::new(limits, start).unwrap(), start)
    }

    fn after(milliseconds: u64) -> Turn {
        Turn::After(Duration::from_millis(milliseconds))
    }

    #[test]
    fn turns_below_at_and_above_the_burst() {
        let (turns, start) = turns(10, 3);
        for request in 1..=3 {
            assert_eq!(turns.take(start), Turn::Now, "{request}");
        }
        assert_eq!(turns.take(start), after(100), "the fourth waits for the rate");
        assert_eq!(turns.take(start), after(200));
        assert_eq!(turns.take(start + Duration::from_millis(200)), after(100), "time has passed, the queue has not");
        assert_eq!(turns.take(start + Duration::from_secs(3600)), Turn::Now);
    }

    #[test]
    fn a_pause_fills_one_burst_and_no_more() {
        let (turns, start) = turns(10, 3);
        let later = start + Duration::from_secs(86_400);
        let now = (0..100).take_while(|_| turns.take(later) == Turn::Now).count();
        assert_eq!(now, 3);
    }

    #[test]
    fn waits_below_at_and_above_the_longest() {
        let (turns, start) = turns(10, 1);
        assert_eq!(turns.take(start), Turn::Now);
        for request in 1..=9 {
            assert_eq!(turns.take(start), after(100 * request));
        }
        assert_eq!(turns.take(start), Turn::After(TURN_WAIT_MAX));
        for _ in 0..1000 {
            assert_eq!(turns.take(start), Turn::RefusedAfter(TURN_WAIT_MAX));
        }
        let soon = start + Duration::from_millis(100);
        assert_eq!(turns.take(soon), Turn::After(TURN_WAIT_MAX), "the refused took no turn from who comes later");
    }

    #[test]
    fn zero_is_no_limit() {
        let load = Load::new(MetadataLimits { requests_per_second: 0, ..MetadataLimits::DEFAULT });
        assert!((0..100_000).all(|_| load.turn() == Turn::Now));
    }

    #[test]
    fn the_highest_rate_still_lets_everybody_pass() {
        let (turns, start) = turns(u32::MAX, u32::MAX);
        assert!((0..1000).all(|_| turns.take(start) == Turn::Now));
    }

    #[tokio::test]
    async fn places_below_at_and_above_the_limit() {
        let load = Load::new(MetadataLimits { connections_max: 2, ..MetadataLimits::DEFAULT });
        let first = load.place().await;
        let _second = load.place().await;
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, load.place()).await.is_err(), "the third waits");
        drop(first);
        assert!(tokio::time::timeout(soon, load.place()).await.is_ok());
    }
}
