//! What is said again and again, and not each time.

use core::time::Duration;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// How often the same is said.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// When something was said last.
#[derive(Debug, Default)]
pub(crate) struct Said(Mutex<Option<Instant>>);

impl Said {
    /// Whether it is time to say it (again); then it counts as said.
    pub(crate) fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut said_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said_at.is_none_or(|at| now.saturating_duration_since(at) >= SAID_EVERY);
        if is_due {
            *said_at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_said_once_a_minute() {
        let said = Said::default();
        let mut told = vec![said.is_due()];
        for advance in [SAID_EVERY - Duration::from_millis(1), Duration::from_millis(1), Duration::ZERO] {
            tokio::time::advance(advance).await;
            told.push(said.is_due());
        }
        assert_eq!(told, [true, false, true, false]);
    }
}
