//! Whether what a store holds is what stores write: for `inborn store check`, beside the checks of the database itself.

use core::future::Future;
use std::collections::BTreeSet;

use inborn_identity::{AccountId, UnixTime};

use crate::dump::{INVARIANTS, Row, Snapshot, TABLES, Table};
use crate::{
    CommandPlace, CommandQuery, CutOff, EpochState, FindingPlace, FindingQuery, Heard, InstanceQuery, InventoryKind,
    InventoryQuery, SealedEpoch, SessionPlace, SessionQuery, Store, StoreError,
};

/// What was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// How many rows each table has.
    pub rows: Vec<(&'static str, u64)>,
    /// What is wrong, each in a sentence for people.
    pub faults: Vec<String>,
}

/// Looks at all of a store: each row is read by the code that a region reads it with, and what must be true of rows together is
/// counted. `snapshot` and `store` are the same store. Of machines that were terminated since `dead_since` the cut-offs must be there.
///
/// # Errors
/// The medium's. What is damaged is no error, but a fault that is told.
pub async fn check(
    snapshot: &mut dyn Snapshot,
    store: &dyn Store,
    dead_since: UnixTime,
) -> Result<Checked, StoreError> {
    let mut checked = Checked { rows: Vec::new(), faults: Vec::new() };
    for table in TABLES {
        if let Some(rows) = told(&mut checked.faults, count(snapshot, table).await)? {
            checked.rows.push((table.name, rows));
        }
        if let Some(sql) = table.count_orphans()
            && let Some(orphans @ 1..) = told(&mut checked.faults, snapshot.count(sql).await)?
        {
            let parent = table.parent.map_or("", |parent| parent.table);
            checked.faults.push(format!("{orphans} rows of {} belong to none of {parent}", table.name));
        }
    }
    for (what, sql) in INVARIANTS {
        if let Some(count @ 1..) = told(&mut checked.faults, snapshot.count((*sql).to_owned()).await)? {
            checked.faults.push(format!("{count} {what}"));
        }
    }
    let mut looking = Looking { store, faults: checked.faults };
    looking.at_machines(dead_since).await?;
    looking.at_epochs().await?;
    looking.at_the_rest().await?;
    checked.faults = looking.faults;
    Ok(checked)
}

/// How many rows a table has, each read as what its columns are.
async fn count(snapshot: &mut dyn Snapshot, table: &'static Table) -> Result<u64, StoreError> {
    let (mut count, mut after): (u64, Option<Row>) = (0, None);
    loop {
        let rows = snapshot.page(table, after.take()).await?;
        let Some(last) = rows.last() else { return Ok(count) };
        count += rows.len() as u64;
        after = Some(table.key_of(last).to_vec());
    }
}

/// What came of a look: damage becomes a fault, everything else is as it was.
fn told<T>(faults: &mut Vec<String>, outcome: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Corrupt(what)) => {
            faults.push(what);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

struct Looking<'a> {
    store: &'a dyn Store,
    faults: Vec<String>,
}

impl Looking<'_> {
    async fn see<T>(&mut self, reading: impl Future<Output = Result<T, StoreError>>) -> Result<Option<T>, StoreError> {
        told(&mut self.faults, reading.await)
    }

    /// Machines and what hangs on each; the key pairs of their accounts.
    async fn at_machines(&mut self, dead_since: UnixTime) -> Result<(), StoreError> {
        let store = self.store;
        let mut lately_dead = Vec::new();
        let mut accounts: BTreeSet<AccountId> = BTreeSet::new();
        let mut after = None;
        loop {
            let query = InstanceQuery { account: None, after, limit: InstanceQuery::LIMIT_MAX };
            let Some(page) = self.see(store.instances(query)).await? else { break };
            for machine in &page.instances {
                accounts.insert(machine.account);
                let is_lately_dead = machine.terminated_at.is_some_and(|at| at >= dead_since);
                if is_lately_dead {
                    lately_dead.push(machine.id);
                }
                self.see(store.host_keys(machine.id)).await?;
                for kind in [InventoryKind::Item, InventoryKind::Compliance] {
                    let query = InventoryQuery { instance: machine.id, kind, type_name: None, with_content: true };
                    self.see(store.inventory(query)).await?;
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        for account in accounts {
            self.see(store.key_pairs(account)).await?;
        }
        // After the machines: one that was seen terminated was cut off in the same transaction, hence before this is read.
        let cut_offs = self.see(store.cut_offs()).await?.unwrap_or_default();
        let dead: BTreeSet<_> = cut_offs
            .iter()
            .filter_map(|recorded| match recorded.cut_off {
                CutOff::Dead { instance } => Some(instance),
                _ => None,
            })
            .collect();
        for id in lately_dead.iter().filter(|id| !dead.contains(id)) {
            self.faults.push(format!("{id} was terminated, and its credentials are not cut off"));
        }
        Ok(())
    }

    /// Epochs follow each other, and there is one to seal with.
    async fn at_epochs(&mut self) -> Result<(), StoreError> {
        let Some(epochs) = self.see(self.store.epochs()).await? else { return Ok(()) };
        self.faults.extend(faults_of_epochs(&epochs));
        Ok(())
    }

    async fn at_the_rest(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        self.see(store.accounts()).await?;
        self.see(store.hosts()).await?;
        self.see(store.operators()).await?;
        self.see(store.quarantines()).await?;
        self.see(store.roles()).await?;
        self.see(store.registrations()).await?;
        self.see(store.nodes()).await?;
        self.see(store.documents()).await?;
        self.see(store.agent_reports()).await?;
        self.see(store.detector_parts()).await?;
        self.see(store.news(Heard::default())).await?;
        for name in self.see(store.setting_names()).await?.unwrap_or_default() {
            self.see(store.setting(&name)).await?;
        }
        for detector in self.see(store.detectors()).await?.unwrap_or_default() {
            self.at_findings(detector.id).await?;
        }
        self.at_commands().await?;
        for has_ended in [false, true] {
            self.at_sessions(has_ended).await?;
        }
        Ok(())
    }

    async fn at_findings(&mut self, detector: String) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let query = FindingQuery { detector: detector.clone(), key: None, after, limit: FindingQuery::LIMIT_MAX };
            let Some(page) = self.see(self.store.findings(query)).await? else { return Ok(()) };
            match page.last() {
                Some(last) if page.len() == FindingQuery::LIMIT_MAX as usize => {
                    after = Some(FindingPlace { updated_at: last.updated_at, id: last.id.clone() });
                }
                _ => return Ok(()),
            }
        }
    }

    async fn at_commands(&mut self) -> Result<(), StoreError> {
        self.see(self.store.open_commands()).await?;
        let mut after = None;
        loop {
            let query = CommandQuery { after, limit: CommandQuery::LIMIT_MAX, ..CommandQuery::default() };
            let Some(page) = self.see(self.store.commands(query)).await? else { return Ok(()) };
            let places = page.iter().map(|command| CommandPlace {
                requested_at: command.requested_at,
                command: command.id.clone(),
                instance: None,
            });
            let places: Vec<CommandPlace> = places.collect();
            for place in &places {
                self.at_invocations(place).await?;
            }
            after = places.into_iter().next_back();
            if page.len() < CommandQuery::LIMIT_MAX as usize {
                return Ok(());
            }
        }
    }

    async fn at_invocations(&mut self, of: &CommandPlace) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let command = Some(of.command.clone());
            let query = CommandQuery { command, after, limit: CommandQuery::LIMIT_MAX, ..CommandQuery::default() };
            let Some(page) = self.see(self.store.invocations(query)).await? else { return Ok(()) };
            match page.last() {
                Some(last) if page.len() == CommandQuery::LIMIT_MAX as usize => {
                    after = Some(CommandPlace { instance: Some(last.instance), ..of.clone() });
                }
                _ => return Ok(()),
            }
        }
    }

    async fn at_sessions(&mut self, has_ended: bool) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let query = SessionQuery { account: None, has_ended, after, limit: SessionQuery::LIMIT_MAX };
            let Some(page) = self.see(self.store.sessions(query)).await? else { return Ok(()) };
            match page.last() {
                Some(last) if page.len() == SessionQuery::LIMIT_MAX as usize => {
                    after = Some(SessionPlace { started_at: last.started_at, id: last.id.clone() });
                }
                _ => return Ok(()),
            }
        }
    }
}

/// What is wrong with epochs, which are in order of their numbers.
fn faults_of_epochs(epochs: &[SealedEpoch]) -> Vec<String> {
    let mut faults = Vec::new();
    for (before, after) in epochs.iter().zip(epochs.iter().skip(1)) {
        if after.id != before.id.saturating_add(1) {
            faults.push(format!("epoch {} follows epoch {}: those between them are missing", after.id, before.id));
        }
    }
    if !epochs.is_empty() && !epochs.iter().any(|epoch| epoch.state == EpochState::Sealing) {
        faults.push("there is no epoch to seal with".to_owned());
    }
    for epoch in epochs {
        if epoch.state != EpochState::Retired && epoch.blob.as_bytes().is_empty() {
            faults.push(format!("epoch {} is in use and has no root", epoch.id));
        }
        if epoch.state != EpochState::Retired && (epoch.revoked || epoch.ended_at.is_some()) {
            faults.push(format!("epoch {} has ended and is in use", epoch.id));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sealed;

    fn epoch(id: u32, state: EpochState) -> SealedEpoch {
        SealedEpoch {
            id,
            blob: Sealed::new(if state == EpochState::Retired { vec![] } else { vec![1] }),
            created_at: UnixTime::from_secs(1),
            state,
            seals_from: None,
            ended_at: None,
            revoked: false,
        }
    }

    #[test]
    fn epochs_follow_each_other() {
        use EpochState::{Published, Retired, Sealing};
        let faults = |epochs: &[SealedEpoch]| faults_of_epochs(epochs).len();
        assert_eq!(faults(&[]), 0);
        assert_eq!(faults(&[epoch(1, Retired), epoch(2, Sealing), epoch(3, Published)]), 0);
        assert_eq!(faults(&[epoch(1, Retired), epoch(3, Sealing)]), 1, "a gap");
        assert_eq!(faults(&[epoch(1, Retired), epoch(2, Published)]), 1, "none seals");
        let rootless = SealedEpoch { blob: Sealed::new(vec![]), ..epoch(1, Sealing) };
        assert_eq!(faults(&[rootless]), 1);
        assert_eq!(faults(&[SealedEpoch { revoked: true, ..epoch(1, Sealing) }]), 1);
    }
}
