//! Whether the region can do its work now: what `/readyz` and the metrics tell.

use std::time::Duration;

use inborn_store::{SettingChange, StoreError};

use crate::RegionServer;

/// The setting that is written to see whether the store takes writes.
const PROBE: &str = "health-probe";
/// A store that has not answered by then is told as silent.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// Something that the region needs and has not. The texts say what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It takes no writes.
    #[error("store: {0}")]
    Store(StoreError),
    /// It does not answer.
    #[error(
        "store: no answer within {} s: look at the disk that the data directory is on, or see that its database answers",
        STORE_PATIENCE.as_secs()
    )]
    StoreSilent,
    /// Mutating calls are being refused.
    #[error("audit: no room for the lines of further calls, so that changes are refused: free some disk space")]
    Audit,
    /// It has not heard for too long what other servers change.
    #[error(
        "fleet: nothing was heard for {0} s of what other servers change, or no beat acknowledged, so that terminations may be unknown \
         here: see that the database answers, and that its commits wait for no standby that is gone"
    )]
    Stale(u64),
    /// The store was put back from a backup while this server runs.
    #[error(
        "store: it was put back from a backup while this server runs, so that nobody is let in: stop all servers, and start \
         them with --accept-older-store"
    )]
    Older,
    /// There is no epoch to make credentials with.
    #[error("epoch: there is none to make credentials with: put the store back from your backup")]
    Epoch,
}

impl RegionServer {
    /// What stands in the way of the region's work, nothing if all is well. Writes to the store, so ask with measure.
    pub async fn faults(&self) -> Vec<Fault> {
        let store = match tokio::time::timeout(STORE_PATIENCE, self.write_probe()).await {
            Ok(outcome) => outcome.err().map(Fault::Store),
            Err(_) => Some(Fault::StoreSilent),
        };
        let audit = (!self.audit.accepts_mutations()).then_some(Fault::Audit);
        let epoch = self.authenticator.keyring().sealing_at(self.now()).is_none().then_some(Fault::Epoch);
        let silence = self.fleet().and_then(|fleet| fleet.stale_for(self.now()));
        let stale = silence.map(|silence| Fault::Stale(silence.as_secs()));
        let older = self.high_water.went_back().then_some(Fault::Older);
        [store, audit, stale, older, epoch].into_iter().flatten().collect()
    }

    /// A write like any other: on disk when it answers.
    async fn write_probe(&self) -> Result<(), StoreError> {
        let expected = self.store.setting(PROBE).await?;
        let value = self.now().as_secs().to_be_bytes().to_vec();
        if expected.as_deref() == Some(value.as_slice()) {
            return Ok(());
        }
        match self.store.put_setting(SettingChange { name: PROBE.to_owned(), expected, value }).await {
            // Somebody else has just written it.
            Err(StoreError::Conflict(_)) => Ok(()),
            outcome => outcome,
        }
    }
}
