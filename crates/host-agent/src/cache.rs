//! What a host keeps over its own restart: everything that is needed to serve its machines without the region, sealed.

use inborn_credential::{Kek, KekError};
use inborn_fleet::{DocumentSigned, Generation, MACHINES_MAX, MachineRecord};
use inborn_identity::HostId;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::mirror::{Known, Mirror};

/// Bytes of a snapshot before it is sealed: as many machines as a host may have, with all the user data and tags, credentials
/// and documents that they may have.
pub const CACHE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The form of what is sealed.
const VERSION: u32 = 1;
/// What the longest record of an ordinary machine takes, about: so that no secret is left behind by a buffer that grows.
const MACHINE_BYTES: usize = 16 * 1024;

/// Why a snapshot was not kept, or is of no use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CacheError {
    /// It does not open.
    #[error("it was sealed by another key or for another host, or it was changed since")]
    Refused,
    /// It is of another version.
    #[error("it is of version {0}, and this program reads version {VERSION}")]
    Version(u32),
    /// It opens, and is none.
    #[error("it is none")]
    Malformed,
    /// There is too much in it.
    #[error("there is more in it than a host may have")]
    TooMuch,
    /// It could not be sealed.
    #[error(transparent)]
    Seal(#[from] KekError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: String,
    machine: MachineRecord,
    generations: Vec<Generation>,
    document: Option<DocumentSigned>,
}

/// A snapshot of what an agent knows. Secret: not in `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    version: u32,
    pub(crate) heard_at: u64,
    pub(crate) spread_seconds: u64,
    machines: Vec<Kept>,
}

impl core::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let count = self.machines.len();
        f.debug_struct("Snapshot").field("heard_at", &self.heard_at).field("machines", &count).finish_non_exhaustive()
    }
}

/// To tell a version before anything else is read.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

impl Snapshot {
    pub(crate) fn of(mirror: &Mirror, heard_at: inborn_identity::UnixTime, spread_seconds: u64) -> Self {
        let kept = |known: &Known| Kept {
            version: known.version.clone(),
            machine: known.record.clone(),
            generations: known.generations.clone(),
            document: known.document.clone(),
        };
        let machines = mirror.all().map(kept).collect();
        Self { version: VERSION, heard_at: heard_at.as_secs(), spread_seconds, machines }
    }

    pub(crate) fn into_machines(self) -> impl Iterator<Item = Known> {
        self.machines.into_iter().map(|kept| {
            let mut known = Known::new(kept.version, kept.machine);
            known.generations = kept.generations;
            known.generations.sort_by_key(|one| one.issued_at);
            known.document = kept.document;
            known
        })
    }
}

fn label(host: HostId) -> String {
    format!("host-cache {host}")
}

/// Seals a snapshot of `host`.
///
/// # Errors
/// It is too long, or the crypto library fails.
pub fn seal(snapshot: &Snapshot, key: &Kek, host: HostId) -> Result<Vec<u8>, CacheError> {
    let mut text = Zeroizing::new(Vec::with_capacity((snapshot.machines.len() + 1) * MACHINE_BYTES));
    serde_json::to_writer(&mut *text, snapshot).map_err(|_| CacheError::Malformed)?;
    Ok(key.seal_up_to(CACHE_BYTES_MAX, &label(host), &text)?)
}

/// Opens what [`seal`] gave for the same host.
///
/// # Errors
/// It was not made by this key for this host, or is of no use.
pub fn open(blob: &[u8], key: &Kek, host: HostId) -> Result<Snapshot, CacheError> {
    let text = key.open_up_to(CACHE_BYTES_MAX, &label(host), blob).map_err(|error| match error {
        KekError::TooLong(_) => CacheError::TooMuch,
        KekError::Refused | KekError::Crypto(_) => CacheError::Refused,
    })?;
    read(&text)
}

fn read(text: &[u8]) -> Result<Snapshot, CacheError> {
    let head: Head = serde_json::from_slice(text).map_err(|_| CacheError::Malformed)?;
    if head.version != VERSION {
        return Err(CacheError::Version(head.version));
    }
    let snapshot: Snapshot = serde_json::from_slice(text).map_err(|_| CacheError::Malformed)?;
    if snapshot.machines.len() > MACHINES_MAX {
        return Err(CacheError::TooMuch);
    }
    Ok(snapshot)
}
