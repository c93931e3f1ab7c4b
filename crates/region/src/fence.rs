//! What a server was answered by its store, noted beside the high-water mark: by it the next start tells the database that has answered
//! from another one in its place, such as a primary that was replaced and has come back by itself.
//!
//! A server that runs knows its own beats. One that is started has none yet: it asks for those of its last run.

use core::time::Duration;

use inborn_identity::UnixTime;
use inborn_store::{Fence, Store, StoreError};
use serde::{Deserialize, Serialize};

/// How often it is noted while the region runs. A note is a file that is synced; a database may have forgotten the last ten seconds anyhow.
pub(crate) const NOTED_EVERY: Duration = Duration::from_secs(5);
/// After so long other servers may have forgotten who beats no more: that the database does not know it says nothing then.
const REMEMBERED_SECONDS: u64 = 6 * 24 * 3600;

/// A fence as it stands in the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NotedFence {
    node: String,
    beats: u64,
    filled: i64,
    /// When it was noted, in seconds since 1970.
    at: u64,
}

impl NotedFence {
    /// What there is to note now, if the store has such a thing.
    pub(crate) fn of(store: &dyn Store, now: UnixTime) -> Option<Self> {
        let Fence { node, beats, filled } = store.fence()?;
        Some(Self { node: node.to_string(), beats, filled, at: now.as_secs() })
    }

    /// Whether the store is another one than has answered, as far as that can be told.
    pub(crate) async fn is_forgotten_by(&self, store: &dyn Store, now: UnixTime) -> Result<bool, StoreError> {
        match self.asked_for(now) {
            Some(fence) => store.has_forgotten(fence).await,
            None => Ok(false),
        }
    }

    /// What to ask for; `None`: it was too long ago, or is no name of a node.
    fn asked_for(&self, now: UnixTime) -> Option<Fence> {
        let is_remembered = now.as_secs().saturating_sub(self.at) < REMEMBERED_SECONDS;
        let node = self.node.parse().ok().filter(|_| is_remembered)?;
        Some(Fence { node, beats: self.beats, filled: self.filled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_store::NodeId;

    #[test]
    fn what_others_may_have_forgotten_is_not_asked_for() {
        let at = UnixTime::from_secs(1_800_000_000);
        let noted = NotedFence { node: NodeId::new(7).to_string(), beats: 9, filled: 3, at: at.as_secs() };
        let fence = Fence { node: NodeId::new(7), beats: 9, filled: 3 };
        for (later, expected) in
            [(0, true), (REMEMBERED_SECONDS - 1, true), (REMEMBERED_SECONDS, false), (REMEMBERED_SECONDS + 1, false)]
        {
            assert_eq!(noted.asked_for(at.plus(later)), expected.then_some(fence), "{later}");
        }
        assert_eq!(noted.asked_for(at.minus(100)), Some(fence), "a clock that was set back");
        assert_eq!(NotedFence { node: "x".into(), ..noted }.asked_for(at), None);
    }
}
