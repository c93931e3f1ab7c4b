//! Findings between those who find and those who record.

use std::sync::{Mutex, MutexGuard, PoisonError};

use inborn_detect::Finding;
use inborn_detect::finding::Gathered;
use inborn_lake::Place;
use tokio::sync::mpsc;

/// Findings that wait. Who adds one never waits.
pub(super) struct Pending {
    state: Mutex<State>,
    wake: mpsc::Sender<()>,
}

struct State {
    gathered: Gathered,
    /// Everything before it was judged, and what was found was added.
    judged: Option<Place>,
    /// Everything before it was judged, and what was found was recorded.
    recorded: Option<Place>,
    /// Whether some are taken out and not recorded yet.
    is_recording: bool,
}

/// What was taken out to be recorded.
pub(super) struct Taken {
    pub(super) findings: Vec<Finding>,
    /// They are of what is before it, and all of it.
    pub(super) judged: Option<Place>,
}

impl Pending {
    /// Room for so many different findings ([`Gathered::new`]), and what tells that some wait: until all of [`Pending`] is gone.
    pub(super) fn new(findings_max: usize) -> (Self, mpsc::Receiver<()>) {
        let (wake, woken) = mpsc::channel(1);
        let gathered = Gathered::new(findings_max);
        let state = Mutex::new(State { gathered, judged: None, recorded: None, is_recording: false });
        (Self { state, wake }, woken)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes findings in; gives how many occurrences there was no room for.
    pub(super) fn add(&self, findings: impl IntoIterator<Item = Finding>) -> u64 {
        self.each(&mut self.lock(), findings, Gathered::add)
    }

    /// The same, of what is the last that was judged, up to a place.
    pub(super) fn add_judged(&self, findings: Vec<Finding>, place: Option<Place>) -> u64 {
        let mut state = self.lock();
        state.judged = state.judged.max(place);
        if findings.is_empty() { 0 } else { self.each(&mut state, findings, Gathered::add) }
    }

    /// Says that what was taken out is recorded, but for what could not be and is given back. Gives how many occurrences of that
    /// there was no room for any more.
    pub(super) fn recorded(&self, judged: Option<Place>, failed: Vec<Finding>) -> u64 {
        let mut state = self.lock();
        state.is_recording = false;
        if failed.is_empty() {
            state.recorded = state.recorded.max(judged);
            return 0;
        }
        self.each(&mut state, failed, Gathered::give_back)
    }

    fn each(
        &self,
        state: &mut State,
        findings: impl IntoIterator<Item = Finding>,
        put: impl Fn(&mut Gathered, Finding) -> bool,
    ) -> u64 {
        let mut lost = 0;
        for finding in findings {
            let count = u64::from(finding.count);
            lost += if put(&mut state.gathered, finding) { 0 } else { count };
        }
        // If it is full, whoever reads it is about to wake.
        let _ = self.wake.try_send(());
        lost
    }

    /// Takes all of them out. Then [`Self::recorded`].
    pub(super) fn take(&self) -> Taken {
        let mut state = self.lock();
        state.is_recording = true;
        Taken { findings: state.gathered.take(), judged: state.judged }
    }

    /// Everything before it was judged, and what was found was recorded.
    pub(super) fn settled(&self) -> Option<Place> {
        let state = self.lock();
        if state.gathered.is_empty() && !state.is_recording { state.judged } else { state.recorded }
    }
}

#[cfg(test)]
mod tests {
    use inborn_identity::UnixTime;

    use super::*;
    use crate::guardduty::fixtures::finding;

    fn at(offset: u64) -> Option<Place> {
        Some(Place { segment: 1, offset })
    }

    fn found(subject: &str) -> Vec<Finding> {
        vec![finding(subject, UnixTime::from_secs(1_800_000_000))]
    }

    #[test]
    fn what_is_not_recorded_is_not_settled() {
        let (pending, _woken) = Pending::new(8);
        assert_eq!(pending.settled(), None);
        pending.add_judged(Vec::new(), at(1));
        assert_eq!(pending.settled(), at(1), "there is nothing to record");
        pending.add_judged(found("a"), at(2));
        pending.add_judged(Vec::new(), at(3));
        assert_eq!(pending.settled(), None, "one waits, and what was settled before was never recorded");
        let taken = pending.take();
        assert_eq!((taken.findings.len(), taken.judged, pending.settled()), (1, at(3), None));
        pending.add_judged(found("b"), at(4));
        assert_eq!(pending.recorded(taken.judged, Vec::new()), 0);
        assert_eq!(pending.settled(), at(3), "the second waits");
        let taken = pending.take();
        assert_eq!(pending.recorded(taken.judged, taken.findings), 0);
        assert_eq!(pending.settled(), at(3), "it could not be recorded, and waits again");
        let taken = pending.take();
        pending.recorded(taken.judged, Vec::new());
        assert_eq!((taken.findings.len(), pending.settled()), (1, at(4)));
    }
}
