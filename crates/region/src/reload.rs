//! What an operator may change while a region runs: settings that no connection and no stored thing depends on.

use std::collections::BTreeMap;

use crate::{DetectionSettings, Rates, RegionServer, StalePolicy};

/// What is to be from now on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changeable {
    /// How many calls may be made.
    pub rates: Rates,
    /// What is done while a server is stale, by service; of a server that is alone nothing comes of it.
    pub stale: BTreeMap<String, StalePolicy>,
    /// What is judged; `None`: nothing, which a start alone can make so.
    pub detection: Option<DetectionSettings>,
}

/// What was read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReadAgain {
    /// Files of addresses.
    pub lists: usize,
    /// Those that cannot be read: they are as they were.
    pub lists_failed: usize,
}

impl RegionServer {
    /// As [`RegionServer::reload`], of each region of the deployment; what was read is of all of them.
    pub async fn reload_all(&self, changeable: &Changeable) -> ReadAgain {
        let mut all = ReadAgain::default();
        for region in self.regions() {
            let ReadAgain { lists, lists_failed } = region.reload(changeable.clone()).await;
            all = ReadAgain { lists: all.lists + lists, lists_failed: all.lists_failed + lists_failed };
        }
        all
    }

    /// Takes settings over, and reads the rules and the lists of addresses again. Nothing that is open is closed by it, and what cannot be
    /// read stays as it was.
    pub async fn reload(&self, changeable: Changeable) -> ReadAgain {
        let Changeable { rates, stale, detection } = changeable;
        self.bounds.change(rates);
        if let Some(fleet) = self.fleet() {
            fleet.change_policies(stale);
        }
        if let Some(detection) = detection {
            self.detect_by(detection);
        }
        let (lists, lists_failed) = self.guardduty.read_lists_again().await;
        ReadAgain { lists, lists_failed }
    }
}
