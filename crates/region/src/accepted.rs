//! What becomes of an older store once it is accepted: nobody knows what had ended since, so everything does that can be told to.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::try_join_all;
use inborn_credential::Kek;
use inborn_identity::UnixTime;
use inborn_store::{
    CutOff, CutOffScope, EpochChange, EpochState, HostState, OperatorChange, Quarantine, QuarantineBasis,
    QuarantineScope, RecordedCutOff, SealedEpoch, Store, StoreError,
};

use crate::OpenError;
use crate::epochs::{new_epoch, retired};

/// No join token lives longer, by any clock that is nearly right.
const TOKENS_ENDED_BY_SECONDS: u64 = 366 * 86_400;
/// What is shown with a host that nobody knows whether to trust.
const HOST_REASON: &str = "an older store was accepted: whether this host was evicted since, nobody knows. Release it if it is to be \
                           trusted, else evict it";
/// Who has put it into quarantine: whoever has started a server so.
const HOST_BY: &str = "--accept-older-store";
/// Quarantines that are being written at a time: they share waits for the disk.
const QUARANTINES_AT_ONCE: usize = 32;

/// Ends all epochs but a new one, and everything that was issued: nobody knows what had ended already. That is true of operators'
/// keys as well, of which the region's own account is given a new one, and of tokens that let hosts join. And it is of hosts: one that
/// was evicted since has its certificate still, so each is given nothing for its machines until an operator has released it.
pub(crate) async fn end_all(store: &Arc<dyn Store>, kek: &Kek, now: UnixTime) -> Result<(), OpenError> {
    let hosts = put_hosts_into_quarantine(&**store, now).await?;
    let epochs = store.epochs().await?;
    let last = epochs.iter().map(|epoch| epoch.id).max().unwrap_or(0);
    let next = new_epoch(kek, last.saturating_add(1), now)?;
    store.put_epoch(next.clone()).await?;
    let before = now.plus(1);
    let is_in_use = |epoch: &&SealedEpoch| epoch.state != EpochState::Retired;
    let mut changes: Vec<EpochChange> = epochs
        .iter()
        .filter(is_in_use)
        .map(|epoch| EpochChange {
            expected: epoch.clone(),
            after: SealedEpoch { revoked: true, ..retired(epoch, now) },
        })
        .collect();
    let sealing = SealedEpoch { state: EpochState::Sealing, seals_from: Some(before), ..next.clone() };
    changes.push(EpochChange { expected: next, after: sealing });
    let cut_off = CutOff::IssuedBefore { scope: CutOffScope::All, before };
    store.change_epochs(changes, vec![RecordedCutOff { cut_off, at: now }]).await?;
    store.forget_join_tokens(now.plus(TOKENS_ENDED_BY_SECONDS)).await?;
    for operator in store.operators().await?.iter().filter(|operator| !operator.disabled) {
        store.change_operator(operator.access_key_id, OperatorChange::Disable).await?;
    }
    tracing::warn!(
        "an older store was accepted: all that was issued so far is refused, operators' keys too; a new one is in operator.env. \
         Look at the machines (`inborn ps`): those that were terminated since the backup run again, and quarantines that were \
         made since are gone; and at the operators (`inborn operator list`): enable the keys that are to be good"
    );
    if hosts > 0 {
        tracing::warn!(
            hosts,
            "their machines are given nothing, since nobody knows which hosts were evicted since the backup: they are in \
             quarantine (`inborn hosts`). Evict again whoever was evicted (`inborn host evict ID`), terminate again what was \
             terminated, and then release those that you trust (`inborn release --host ID,ID…`)"
        );
    }
    Ok(())
}

/// Puts all hosts into quarantine that are not evicted; those that are in it stay there as they are. Gives how many are new to it.
async fn put_hosts_into_quarantine(store: &dyn Store, now: UnixTime) -> Result<usize, StoreError> {
    let known: HashSet<_> = store.quarantines().await?.into_iter().map(|known| known.scope).collect();
    let quarantine = |scope| Quarantine { scope, reason: HOST_REASON.to_owned(), by: HOST_BY.to_owned(), since: now };
    let hosts = store.hosts().await?.into_iter().filter(|host| host.state != HostState::Evicted);
    let scopes = hosts.map(|host| QuarantineScope::Host(host.id));
    let new: Vec<_> = scopes.filter(|scope| !known.contains(scope)).collect();
    for some in new.chunks(QUARANTINES_AT_ONCE) {
        try_join_all(some.iter().map(|scope| store.put_quarantine(quarantine(*scope), QuarantineBasis::Any))).await?;
    }
    Ok(new.len())
}
