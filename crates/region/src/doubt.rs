//! What this server may not know of its own changes, and how it finds out.
//!
//! It is told nothing of what it did itself. Where the store cannot say what became of a change, memory may be behind it: it is read
//! again at once, and a change that takes effect even later is told by the store ([`inborn_store::Store::tells_of_doubtful`]).

use core::sync::atomic::Ordering;

use inborn_store::{QuarantineScope, StoreError};

use crate::fleet::ENTRIES_KEPT_SECONDS;
use crate::{RegionServer, secrets, sessions};

/// What memory may not know of this server's own changes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum Doubt {
    None,
    /// What became of a change that the store could not answer: it may still happen, and then the store tells of it.
    Some,
    /// Anything.
    All,
}

impl Doubt {
    const fn of(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Some,
            _ => Self::All,
        }
    }
}

/// What is read again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// All that others may have changed while this server was away.
    Everything,
    /// All of which there is little, and of the rest what was changed lately: however many machines there are, nobody becomes stale
    /// over it.
    Lately,
}

impl RegionServer {
    /// Notes that it is not known whether a change of this server's own took effect.
    pub(crate) fn doubt(&self) {
        self.doubt_of(Doubt::Some);
    }

    /// As [`RegionServer::doubt`], of so much.
    pub(crate) fn doubt_of(&self, doubt: Doubt) {
        self.doubt.fetch_max(doubt as u8, Ordering::SeqCst);
    }

    /// What is in doubt; from then on nothing is.
    pub(crate) fn take_doubt(&self) -> Doubt {
        let of_machines = if self.machines.is_in_doubt() { Doubt::Some } else { Doubt::None };
        match of_machines.max(Doubt::of(self.doubt.swap(0, Ordering::SeqCst))) {
            // Nobody but this server itself could tell it.
            Doubt::Some if !self.store.tells_of_doubtful() => Doubt::All,
            doubt => doubt,
        }
    }

    /// Reads everything again if it is in doubt, where no rounds do so.
    pub(crate) async fn settle_doubts(&self) -> Result<(), StoreError> {
        if self.fleet.is_some() || self.take_doubt() == Doubt::None {
            return Ok(());
        }
        self.read_again(Again::Everything).await.inspect_err(|_| self.doubt_of(Doubt::All))
    }

    /// Reads what others may have changed.
    pub(crate) async fn read_again(&self, again: Again) -> Result<(), StoreError> {
        let is_all = again == Again::Everything;
        self.hear_epochs().await?;
        let cut_offs = match again {
            Again::Everything => self.store.cut_offs().await?,
            Again::Lately => self.store.cut_offs_since(self.now().minus(ENTRIES_KEPT_SECONDS)).await?,
        };
        for recorded in cut_offs {
            self.machines.end(secrets::cut_off(recorded.cut_off), recorded.at);
        }
        self.hear_accounts().await?;
        self.hosts.refresh().await?;
        self.machines.settle(self.now()).await?;
        if is_all {
            self.machines.read_again(self.now()).await?;
        }
        if self.is_home() {
            self.roles.hear().await?;
        }
        self.documents.hear().await?;
        self.host_management.hear().await?;
        self.guardduty.read_again().await?;
        sessions::hear_all_carried(self).await?;
        if is_all {
            self.read_agents_again().await?;
            self.nodes.read_again().await?;
        }
        self.run_command.read_again();
        self.hear_quarantines().await?;
        self.hand_on_quarantines();
        if self.is_home() {
            self.end_everywhere_what_no_longer_stands();
        } else {
            self.end_what_no_longer_stands();
        }
        // Whose credentials were cut off meanwhile is not known any more.
        self.credentials_ended(QuarantineScope::All);
        Ok(())
    }
}
