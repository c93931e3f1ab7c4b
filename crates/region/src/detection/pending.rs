//! Findings between those who find and those who record.

use std::sync::{Mutex, MutexGuard, PoisonError};

use inborn_detect::Finding;
use inborn_detect::finding::Gathered;
use tokio::sync::mpsc;

/// Findings that wait. Who adds one never waits.
pub(super) struct Pending {
    gathered: Mutex<Gathered>,
    wake: mpsc::Sender<()>,
}

impl Pending {
    /// Room for so many different findings ([`Gathered::new`]), and what tells that some wait: until all of [`Pending`] is gone.
    pub(super) fn new(findings_max: usize) -> (Self, mpsc::Receiver<()>) {
        let (wake, woken) = mpsc::channel(1);
        (Self { gathered: Mutex::new(Gathered::new(findings_max)), wake }, woken)
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes findings in; gives how many occurrences there was no room for.
    pub(super) fn add(&self, findings: impl IntoIterator<Item = Finding>) -> u64 {
        self.each(findings, Gathered::add)
    }

    /// Gives back what could not be recorded; gives how many occurrences there was no room for any more.
    pub(super) fn give_back(&self, findings: Vec<Finding>) -> u64 {
        self.each(findings, Gathered::give_back)
    }

    fn each(&self, findings: impl IntoIterator<Item = Finding>, put: impl Fn(&mut Gathered, Finding) -> bool) -> u64 {
        let mut lost = 0;
        {
            let mut gathered = self.lock();
            for finding in findings {
                let count = u64::from(finding.count);
                lost += if put(&mut gathered, finding) { 0 } else { count };
            }
        }
        // If it is full, whoever reads it is about to wake.
        let _ = self.wake.try_send(());
        lost
    }

    /// Takes all of them out.
    pub(super) fn take(&self) -> Vec<Finding> {
        self.lock().take()
    }
}
