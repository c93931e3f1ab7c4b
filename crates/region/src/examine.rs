//! What a region has to say of a store that it does not serve: for `inborn store`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use inborn_identity::UnixTime;
use inborn_store::Store;

use crate::OpenError;
use crate::high_water::{self, Mark, Older};
use crate::rewrap::sealed;
use crate::secrets::{self, KeySource};

/// How far a store has come, beside what servers have seen of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HighWaterReport {
    /// The count of the store; `None`: it does not count yet.
    pub store: Option<u64>,
    /// What was seen; `None`: nothing, or there is no data directory.
    pub seen: Option<u64>,
    /// Whether a server with that data directory would refuse to start on it, and why.
    pub older: Option<Older>,
}

impl HighWaterReport {
    /// Whether nothing has ended that the store does not know of, as far as this data directory tells: it is of the history that was seen,
    /// and has come exactly as far. One that has come further was not seen by a server here since, so that the file is an old one.
    #[must_use]
    pub const fn is_as_seen(&self) -> bool {
        matches!((&self.older, self.store, self.seen), (None, Some(store), Some(seen)) if store == seen)
    }
}

/// Compares the mark of a store (the setting [`HIGH_WATER_SETTING`]) with what was seen in a data directory.
///
/// # Errors
/// The mark or the file is none.
pub fn compare_high_water(setting: Option<&[u8]>, data: &Path) -> Result<HighWaterReport, OpenError> {
    let found = setting.map(Mark::parse).transpose()?;
    let seen = high_water::read_beside(data)?;
    Ok(HighWaterReport {
        older: high_water::older(seen.as_ref(), found.as_ref()),
        store: found.map(|mark| mark.count),
        seen: seen.map(|mark| mark.count),
    })
}

/// Compares a store with what was seen in a data directory: its mark, and whether it knows what it has answered there.
///
/// # Errors
/// The mark or the file is none; the store's.
pub async fn compare_store(store: &dyn Store, data: &Path, now: UnixTime) -> Result<HighWaterReport, OpenError> {
    let setting = store.setting(HIGH_WATER_SETTING).await?;
    let mut report = compare_high_water(setting.as_deref(), data)?;
    if report.older.is_none() && high_water::has_forgotten(store, data, now).await? {
        report.older = Some(Older::Forgetful);
    }
    Ok(report)
}

/// Takes down in a data directory that a backup with this mark is put back, of which it is not certain that nothing has ended since; hence
/// that a server has to be told to accept an older store, whichever backup it finds. Gives the file.
///
/// # Errors
/// The mark is none; the file cannot be read or written.
pub fn note_restore(setting: Option<&[u8]>, data: &Path) -> Result<PathBuf, OpenError> {
    let mark = setting.map(Mark::parse).transpose()?;
    high_water::note_put_back(mark.as_ref(), data)
}

/// The name of the setting that is a store's high-water mark.
pub const HIGH_WATER_SETTING: &str = high_water::SETTING;

/// Tries a key on everything that is sealed: how much there is, and what the key does not open.
///
/// # Errors
/// The key's, the store's.
pub async fn open_all_sealed(store: &Arc<dyn Store>, source: &KeySource) -> Result<(usize, Vec<String>), OpenError> {
    let kek = secrets::key_encryption_key(source, false).await?;
    let all = sealed(&**store).await?;
    let is_closed = |blob: &inborn_store::Sealed, label: &str| kek.open(label, blob.as_bytes()).is_err();
    let closed = all.iter().filter(|(_, label, blob)| is_closed(blob, label)).map(|(_, label, _)| label.clone());
    let closed = closed.collect();
    Ok((all.len(), closed))
}

/// Since when machines were terminated whose cut-offs must still be there: nothing that they hold outlives that.
#[must_use]
pub fn cut_offs_kept_since(now: UnixTime) -> UnixTime {
    now.minus(inborn_credential::LIFE_MAX_SECONDS + inborn_credential::WINDOW_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_counts_as_far_as_was_seen_is_as_seen() {
        let directory = tempfile::tempdir().unwrap();
        let mark = |history: &str, count: u64| format!("{{\"history\":\"{history}\",\"count\":{count}}}");
        let is_as_seen = |setting: Option<String>| {
            compare_high_water(setting.as_ref().map(String::as_bytes), directory.path()).unwrap().is_as_seen()
        };
        assert!(!is_as_seen(None) && !is_as_seen(Some(mark("a", 5))), "nothing was seen");
        std::fs::write(directory.path().join("high-water.json"), mark("a", 5)).unwrap();
        for (history, count, expected) in [("a", 4, false), ("a", 5, true), ("a", 6, false), ("b", 5, false)] {
            assert_eq!(is_as_seen(Some(mark(history, count))), expected, "{history} {count}");
        }
        assert!(!is_as_seen(None));
        note_restore(Some(mark("a", 5).as_bytes()), directory.path()).unwrap();
        assert!(!is_as_seen(Some(mark("a", 5))), "a restore was begun here");
    }
}
