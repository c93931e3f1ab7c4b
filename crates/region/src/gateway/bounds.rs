//! What clients who have proved nothing share, and how much of it one may take.

use std::sync::Arc;

use inborn_listener::BodyError;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::BODY_TIMEOUT;
use crate::throttle::{Limited, Rate, Rates, Source, Throttle};

/// A body of at most this many bytes never waits for memory.
const SMALL_BODY_BYTES_MAX: usize = 16 * 1024;
/// Memory that longer bodies share, of all clients together: who sends them has proved nothing yet.
const LARGE_BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
const KIBIBYTE: usize = 1024;
/// Requests that wait at once for an epoch that their token names and nobody here has heard of, in all regions together: who sends them
/// has proved nothing yet, and each makes a region ask its store.
const WAITING_FOR_EPOCHS_MAX: usize = 64;
/// Audit lines for each source about callers who proved nothing.
const UNPROVEN_RECORDS: Rate = Rate { per_second: 20, burst: 400 };

/// What keeps one client from being everybody's problem.
#[derive(Debug)]
pub(crate) struct Bounds {
    pub(super) sources: Arc<Throttle<Source>>,
    pub(super) principals: Throttle<Limited>,
    pub(super) unproven: Arc<Throttle<Source>>,
    large_bodies: Arc<Semaphore>,
    waiting_for_epochs: Arc<Semaphore>,
}

impl Bounds {
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            sources: Arc::new(Throttle::new(rates.source)),
            principals: Throttle::new(rates.principal),
            unproven: Arc::new(Throttle::new(UNPROVEN_RECORDS)),
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_BYTES_MAX / KIBIBYTE)),
            waiting_for_epochs: Arc::new(Semaphore::new(WAITING_FOR_EPOCHS_MAX)),
        }
    }

    /// Those of another region of the same process. Whoever has proved nothing has no more of it by there being more regions.
    pub(crate) fn beside(home: &Self, rates: Rates) -> Self {
        Self {
            sources: Arc::clone(&home.sources),
            principals: Throttle::new(rates.principal),
            unproven: Arc::clone(&home.unproven),
            large_bodies: Arc::clone(&home.large_bodies),
            waiting_for_epochs: Arc::clone(&home.waiting_for_epochs),
        }
    }

    /// From now on these are the rates.
    pub(crate) fn change(&self, rates: Rates) {
        self.sources.change(rates.source);
        self.principals.change(rates.principal);
    }

    /// A place to wait for an epoch in, until it is dropped; `None`: all are taken, and nobody waits for one.
    pub(crate) fn place_to_wait(&self) -> Option<SemaphorePermit<'_>> {
        self.waiting_for_epochs.try_acquire().ok()
    }

    /// Waits until there is memory for a body; it is free again when the permit is dropped, after the answer.
    pub(super) async fn room_for(&self, bytes: usize) -> Result<Option<SemaphorePermit<'_>>, BodyError> {
        if bytes <= SMALL_BODY_BYTES_MAX {
            return Ok(None);
        }
        let kibibytes = u32::try_from(bytes.div_ceil(KIBIBYTE)).unwrap_or(u32::MAX);
        match tokio::time::timeout(BODY_TIMEOUT, self.large_bodies.acquire_many(kibibytes)).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => Err(BodyError::TooSlow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_wait_for_epochs_and_no_more() {
        let home = Bounds::new(Rates::default());
        let other = Bounds::beside(&home, Rates::default());
        let mut places: Vec<_> = (1..WAITING_FOR_EPOCHS_MAX).map(|_| home.place_to_wait().unwrap()).collect();
        places.push(other.place_to_wait().unwrap());
        assert!(home.place_to_wait().is_none() && other.place_to_wait().is_none(), "those of all regions are counted");
        places.pop();
        assert!(home.place_to_wait().is_some());
    }
}
