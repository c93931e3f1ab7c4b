//! The SSH keys that EC2 Instance Connect has sent to an instance: what is below `managed-ssh-keys`.
//!
//! Nothing is signed here: the blocks, the certificates and the proofs that these are good come ready to be served.

use bytes::Bytes;
use inborn_identity::UnixTime;

use crate::interface::Below;
use crate::path::{spells, split_first};

const ACTIVE_KEYS: &str = "active-keys";
const SIGNER_CERTIFICATE: &str = "signer-cert";
const SIGNER_OCSP: &str = "signer-ocsp";

/// A key that was sent for a user, and its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManagedKey {
    /// The user of the instance's system that it is for.
    pub user: String,
    /// What is signed, its signature, and an empty line.
    pub block: String,
    /// From then on it is gone.
    pub expires_at: UnixTime,
}

/// The keys of one instance, in the order in which they came, and who signed them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ManagedKeys {
    /// The keys; never empty where there is something to serve.
    pub keys: Vec<ManagedKey>,
    /// `signer-cert`: PEM, the signer's certificate first.
    pub signer_chain: Bytes,
    /// `signer-ocsp/`: the name of each staple, and the staple.
    pub staples: Vec<(String, Bytes)>,
}

impl ManagedKeys {
    /// What of it there is at the moment `now`; nothing once the last key has ended.
    #[must_use]
    pub fn at(&self, now: UnixTime) -> Option<LiveKeys<'_>> {
        let live = LiveKeys { all: self, now };
        live.keys().next().is_some().then_some(live)
    }
}

/// The keys that have not ended; at least one.
#[derive(Clone, Copy, Debug)]
pub struct LiveKeys<'a> {
    all: &'a ManagedKeys,
    now: UnixTime,
}

impl<'a> LiveKeys<'a> {
    fn keys(self) -> impl Iterator<Item = &'a ManagedKey> {
        self.all.keys.iter().filter(move |key| self.now < key.expires_at)
    }

    /// The listing of `managed-ssh-keys` itself.
    pub(crate) fn listing() -> String {
        format!("{ACTIVE_KEYS}/\n{SIGNER_CERTIFICATE}\n{SIGNER_OCSP}/")
    }

    /// What is at `path`, whose slashes are folded.
    pub(crate) fn find(self, path: &[u8]) -> Below {
        let (first, rest) = split_first(path);
        match (core::str::from_utf8(first), rest) {
            (Ok(SIGNER_CERTIFICATE), b"") => Below::Leaf(self.all.signer_chain.clone()),
            (Ok(SIGNER_OCSP), b"") => Below::Listing(self.staple_names().join("\n")),
            (Ok(SIGNER_OCSP), name) => self.staple(name),
            (Ok(ACTIVE_KEYS), b"") => Below::Listing(self.users().join("\n")),
            (Ok(ACTIVE_KEYS), user) => self.blocks(user),
            _ => Below::Absent,
        }
    }

    fn staple_names(self) -> Vec<&'a str> {
        self.all.staples.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn staple(self, name: &[u8]) -> Below {
        let found = self.all.staples.iter().find(|(known, _)| known.as_bytes() == name);
        found.map_or(Below::Absent, |(_, staple)| Below::Leaf(staple.clone()))
    }

    fn users(self) -> Vec<&'a str> {
        let mut users: Vec<&str> = self.keys().map(|key| key.user.as_str()).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    fn blocks(self, user: &[u8]) -> Below {
        let blocks: String = self.keys().filter(|key| spells(user, &key.user)).map(|key| key.block.as_str()).collect();
        if blocks.is_empty() { Below::Absent } else { Below::Leaf(Bytes::from(blocks)) }
    }
}
