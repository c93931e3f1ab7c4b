//! Settings of an account: one word each.

use inborn_store::{Conflict, SettingChange, StoreError};
use inborn_wire::error::Problem;

use super::refusal;
use crate::RegionServer;

/// How often a setting is read again because somebody else has set it.
const TRIES: u32 = 5;

/// The word, if one was set.
pub(super) async fn read(region: &RegionServer, name: &str) -> Result<Option<String>, Problem> {
    let bytes = region.store().setting(name).await.map_err(refusal::of_store)?;
    bytes.map(String::from_utf8).transpose().map_err(|_| damaged(name))
}

/// Nobody can know what was meant, and the weaker word must not be guessed.
pub(super) fn damaged(name: &str) -> Problem {
    tracing::error!(name, "a setting in the store is damaged: set it again");
    Problem::Internal
}

pub(super) async fn write(region: &RegionServer, name: &str, word: &str) -> Result<(), Problem> {
    for _ in 0..TRIES {
        let expected = region.store().setting(name).await.map_err(refusal::of_store)?;
        let change = SettingChange { name: name.to_owned(), expected, value: word.as_bytes().to_vec() };
        match region.store().put_setting(change).await {
            Err(StoreError::Conflict(Conflict::SettingChanged(_))) => {}
            other => return other.map_err(refusal::of_store),
        }
    }
    Err(Problem::Unavailable)
}
