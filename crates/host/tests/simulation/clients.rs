//! Clients, as far as when they read their credentials again.

use core::ops::Range;

use inborn_identity::{InstanceId, UnixTime};

use super::{HOUR, MINUTE, Simulation};

/// botocore 1.43: `RefreshableCredentials` reads again when less than 15 minutes are left; `InstanceMetadataFetcher` takes
/// what then has less than ten minutes and up to ten more left for an outage, and makes an end of its own up.
pub(crate) struct Botocore {
    id: InstanceId,
    held: Range<UnixTime>,
    pub(crate) reads: u32,
}

impl Botocore {
    const REFRESH_SECONDS: u64 = 15 * MINUTE;
    const OUTAGE_SECONDS: u64 = 20 * MINUTE;

    pub(crate) fn start(simulation: &Simulation, id: InstanceId) -> Self {
        Self { id, held: simulation.held(id), reads: 1 }
    }

    pub(crate) fn live(&mut self, simulation: &Simulation, now: UnixTime) {
        assert!(now < self.held.end, "{} ran dry at {now:?}", self.id);
        if self.held.end.since(now) < Self::REFRESH_SECONDS {
            self.held = simulation.held(self.id);
            self.reads += 1;
            assert!(self.held.end.since(now) > Self::OUTAGE_SECONDS, "{} takes this for an outage", self.id);
        }
    }
}

/// amazon-ssm-agent: reads again at half of the life that was left.
pub(crate) struct SsmAgent {
    id: InstanceId,
    held: Range<UnixTime>,
    next_at: UnixTime,
    pub(crate) reads: u32,
}

impl SsmAgent {
    pub(crate) fn start(simulation: &Simulation, id: InstanceId) -> Self {
        let held = simulation.held(id);
        let next_at = simulation.now().plus(simulation.left(id) / 2);
        Self { id, held, next_at, reads: 1 }
    }

    pub(crate) fn live(&mut self, simulation: &Simulation, now: UnixTime) {
        assert!(now < self.held.end, "{} ran dry at {now:?}", self.id);
        if now >= self.next_at {
            self.held = simulation.held(self.id);
            self.next_at = now.plus(simulation.left(self.id) / 2);
            self.reads += 1;
        }
    }
}

/// The SDK for Go v2 takes no credentials of a metadata service for longer than an hour.
pub(crate) struct HourlyReader {
    id: InstanceId,
    held: Range<UnixTime>,
    next_at: UnixTime,
}

impl HourlyReader {
    pub(crate) fn start(simulation: &Simulation, id: InstanceId) -> Self {
        Self { id, held: simulation.held(id), next_at: simulation.now().plus(HOUR) }
    }

    pub(crate) fn live(&mut self, simulation: &Simulation, now: UnixTime) {
        assert!(now < self.held.end, "{} ran dry at {now:?}", self.id);
        if now >= self.next_at {
            self.held = simulation.held(self.id);
            self.next_at = now.plus(HOUR);
        }
    }
}
