//! Sealing everything anew under another key-encryption key, while no server runs.

use std::path::Path;
use std::sync::Arc;

use inborn_credential::{EpochId, Kek, KekError};
use inborn_store::{EpochState, Resealing, Sealed, SealedPlace, Store, StoreError};

use crate::key_file::{self, KeyFileError};
use crate::secrets::{self, KeySource};
use crate::{OpenError, signers};

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rewrapped {
    /// So many secrets were sealed anew.
    Done(usize),
    /// They are sealed under the new key already: an earlier attempt had come so far.
    Before,
}

/// Seals everything in the store under the key in the file `new`, which is made if it is not there: on disk before anything is
/// sealed under it. All of it or nothing; an attempt that was broken off is begun again with the same file. No server may run.
///
/// # Errors
/// The keys', the store's; something sealed that neither key opens: nothing was changed then.
pub async fn rewrap(store: &Arc<dyn Store>, old: &KeySource, new: &Path) -> Result<Rewrapped, OpenError> {
    let bytes = match key_file::read(new) {
        Err(KeyFileError::Missing(_)) => key_file::create(new)?,
        other => other?,
    };
    let new_kek = Kek::from_bytes(&bytes)?;
    let old_kek = secrets::key_encryption_key(old, false).await?;
    let all = sealed(&**store).await?;
    if !all.is_empty() && all.iter().all(|(_, label, blob)| new_kek.open(label, blob.as_bytes()).is_ok()) {
        return Ok(Rewrapped::Before);
    }
    let mut resealings = Vec::with_capacity(all.len());
    for (place, label, expected) in all {
        let text = secrets::unseal(&old_kek, old, &label, &expected)?;
        let after = Sealed::new(new_kek.seal(&label, &text).map_err(|error: KekError| error)?);
        resealings.push(Resealing { place, expected, after });
    }
    let count = resealings.len();
    store.reseal(resealings).await?;
    Ok(Rewrapped::Done(count))
}

/// Everything that is sealed, with its label.
pub(crate) async fn sealed(store: &dyn Store) -> Result<Vec<(SealedPlace, String, Sealed)>, StoreError> {
    let mut all = Vec::new();
    for epoch in store.epochs().await?.into_iter().filter(|epoch| epoch.state != EpochState::Retired) {
        all.push((SealedPlace::Epoch(epoch.id), secrets::epoch_label(EpochId(epoch.id)), epoch.blob));
    }
    for operator in store.operators().await? {
        let id = operator.access_key_id;
        all.push((SealedPlace::Operator(id), secrets::operator_label(&id.to_string()), operator.secret));
    }
    // Of every domain that the region ever had.
    for name in store.setting_names().await? {
        if (secrets::is_sealed_setting(&name) || signers::is_sealed_setting(&name))
            && let Some(value) = store.setting(&name).await?
        {
            all.push((SealedPlace::Setting(name.clone()), name, Sealed::new(value)));
        }
    }
    Ok(all)
}
