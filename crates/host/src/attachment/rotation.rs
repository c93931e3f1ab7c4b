//! What goes on beside the requests of machines, for as long as the host lives: fresh credentials, signed documents.

use core::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use inborn_identity::{InstanceId, UnixTime};

use super::Host;
use crate::document::Document;

/// The longest time between two looks at what is due.
const ROTATION_ROUND_SECONDS: u64 = 60;
/// How often it is looked whether the clock was set, or the computer slept: then all may be due at once.
const CLOCK_ROUND: Duration = Duration::from_secs(1);
/// From one look at the clock to the next: more is a clock that was set.
const CLOCK_STEP_MAX_SECONDS: u64 = 5;
/// How long until the region is asked again for signatures that were not to be had.
const SIGNING_ROUND: Duration = Duration::from_millis(200);

impl Host {
    /// Keeps credentials fresh until the host is gone.
    pub async fn rotate(self: Arc<Self>) {
        let mut rounds = Rounds::new(self.service.clock.now());
        loop {
            tokio::time::sleep(CLOCK_ROUND).await;
            if rounds.is_due(self.service.clock.now()) {
                self.prepare();
            }
        }
    }

    /// From when until when the credentials are good that a machine would be handed now.
    #[must_use]
    pub fn credentials_of(&self, id: InstanceId) -> Option<Range<UnixTime>> {
        let attached = self.lock().get(&id).cloned()?;
        let wallet = attached.wallet();
        wallet.at(self.service.clock.now()).map(|credentials| credentials.issued_at()..credentials.expires_at())
    }

    /// Has the identity documents of running machines signed, one after the other beside all requests, until the host is
    /// gone.
    pub async fn sign_documents(self: Arc<Self>) {
        loop {
            let (issuer, now, unsigned) = (Arc::clone(&self.issuer), self.service.clock.now(), self.unsigned());
            // All of them are tried: of a region that is away, some may have been prepared.
            let sign = move || unsigned.iter().filter(|document| !document.sign(&*issuer, now)).count();
            if tokio::task::spawn_blocking(sign).await.is_ok_and(|left| left == 0) {
                self.unsigned.notified().await;
            } else {
                tokio::time::sleep(SIGNING_ROUND).await;
            }
        }
    }

    fn unsigned(&self) -> Vec<Arc<Document>> {
        let machines = self.lock();
        let running = machines.values().map(|attached| attached.machine()).filter(|machine| machine.is_running());
        let documents = running.map(|machine| Arc::clone(machine.document()));
        documents.filter(|document| document.signatures().is_none()).collect()
    }
}

/// When to look at what is due.
struct Rounds {
    last: UnixTime,
    seen: UnixTime,
}

impl Rounds {
    const fn new(now: UnixTime) -> Self {
        Self { last: now, seen: now }
    }

    /// Whether a round has passed, or the clock has made a step that time does not make.
    fn is_due(&mut self, now: UnixTime) -> bool {
        let was_set = now < self.seen || now.since(self.seen) > CLOCK_STEP_MAX_SECONDS;
        self.seen = now;
        let is_due = was_set || now.since(self.last) >= ROTATION_ROUND_SECONDS;
        if is_due {
            self.last = now;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_due_in_time_and_when_the_clock_was_set() {
        let begin = UnixTime::from_secs(1_800_000_000);
        let due = |steps: &[i64]| {
            let (mut rounds, mut now) = (Rounds::new(begin), begin);
            let mut step = |step: &i64| {
                let by = step.unsigned_abs();
                now = if *step < 0 { now.minus(by) } else { now.plus(by) };
                rounds.is_due(now)
            };
            steps.iter().map(&mut step).collect::<Vec<_>>()
        };
        assert_eq!(due(&[0, 1, 5]), [false, false, false]);
        assert_eq!(due(&[6, 1]), [true, false], "set forwards, or the computer slept");
        assert_eq!(due(&[1, -1, 1]), [false, true, false], "set back");
        let minutes = due(&[1; 121]);
        assert_eq!(minutes.iter().filter(|is_due| **is_due).count(), 2);
        assert!(minutes[59] && minutes[119]);
    }
}
