//! A number that only grows, and those who wait for it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Wakes who waits in the order in which they began to, so that a simulation goes the same way each time: `watch` of Tokio wakes
/// in an order that is drawn.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    number: AtomicU64,
    raised: Notify,
}

impl Signal {
    /// The number as it is.
    pub(crate) fn get(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }

    /// The next number.
    pub(crate) fn raise(&self) {
        self.number.fetch_add(1, Ordering::SeqCst);
        self.raised.notify_waiters();
    }

    /// This number, if it is not there yet.
    pub(crate) fn raise_to(&self, number: u64) {
        self.number.fetch_max(number, Ordering::SeqCst);
        self.raised.notify_waiters();
    }

    /// Waits until the number is at least this one.
    pub(crate) async fn reaches(&self, number: u64) {
        loop {
            let raised = self.raised.notified();
            tokio::pin!(raised);
            // From here on no call is missed.
            raised.as_mut().enable();
            if self.get() >= number {
                return;
            }
            raised.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn who_waits_is_woken_in_turn_once_the_number_is_there() {
        let signal = Arc::new(Signal::default());
        let woken: Arc<Mutex<Vec<u64>>> = Arc::default();
        let waiting: Vec<_> = [(0, 1), (1, 1), (2, 3), (3, 1)]
            .into_iter()
            .map(|(name, number)| {
                let (signal, woken) = (Arc::clone(&signal), Arc::clone(&woken));
                tokio::spawn(async move {
                    signal.reaches(number).await;
                    woken.lock().unwrap().push(name);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(woken.lock().unwrap().is_empty());
        signal.raise();
        tokio::task::yield_now().await;
        assert_eq!(*woken.lock().unwrap(), [0, 1, 3]);
        signal.raise_to(3);
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!((signal.get(), woken.lock().unwrap().last()), (3, Some(&2)));
        signal.raise_to(2);
        assert_eq!(signal.get(), 3);
        signal.reaches(3).await;
    }
}
