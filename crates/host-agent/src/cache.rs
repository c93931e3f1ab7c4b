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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{given, id, record, signed_of, token_of};
    use inborn_identity::UnixTime;
    use proptest::prelude::*;

    const HOST: &str = "h-0123456789abcdef0";

    fn key(byte: u8) -> Kek {
        Kek::from_bytes(&[byte; 32]).unwrap()
    }

    fn host() -> HostId {
        HOST.parse().unwrap()
    }

    fn mirror() -> Mirror {
        let mut mirror = Mirror::default();
        for n in 1..=2 {
            mirror.change(given(record(n), "v1"));
            mirror.take_document(id(n), signed_of(id(n)), core::time::Duration::ZERO);
            let generation = Generation {
                instance: id(n),
                boot_generation: 1,
                issued_at: 1_800_000_000,
                expires_at: 1_800_021_600,
                next_at: 1_800_003_600,
                v1: token_of(id(n), UnixTime::from_secs(1)),
                v2: token_of(id(n), UnixTime::from_secs(2)),
            };
            let now = UnixTime::from_secs(1_800_000_000);
            assert_eq!(mirror.take(&[id(n)], vec![generation], now, core::time::Duration::ZERO), [id(n)]);
        }
        mirror
    }

    fn snapshot() -> Snapshot {
        Snapshot::of(&mirror(), UnixTime::from_secs(1_800_000_000), 7)
    }

    fn restored(snapshot: Snapshot, now: u64) -> Mirror {
        let mut mirror = Mirror::default();
        for known in snapshot.into_machines() {
            mirror.restore(known, UnixTime::from_secs(now));
        }
        mirror
    }

    #[test]
    fn what_was_kept_is_read_back() {
        let blob = seal(&snapshot(), &key(1), host()).unwrap();
        for secret in [&b"hunter2"[..], b"web-1", &[b'a'; 40]] {
            assert!(!blob.windows(secret.len()).any(|window| window == secret));
        }
        let opened = open(&blob, &key(1), host()).unwrap();
        assert_eq!((opened.heard_at, opened.spread_seconds), (1_800_000_000, 7));
        assert_eq!(restored(opened, 1_800_000_000), mirror());
        assert_eq!(format!("{:?}", snapshot()), "Snapshot { heard_at: 1800000000, machines: 2, .. }");
    }

    #[test]
    fn nothing_that_has_ended_is_restored() {
        for (now, is_there) in [(1_800_021_599, true), (1_800_021_600, false)] {
            let mirror = restored(snapshot(), now);
            let held = mirror.get(id(1)).unwrap().credential(inborn_credential::Delivery::V1, UnixTime::from_secs(now));
            assert_eq!(held.is_some(), is_there, "{now}");
        }
    }

    #[test]
    fn another_key_host_or_byte_is_refused() {
        let blob = seal(&snapshot(), &key(1), host()).unwrap();
        let other = "h-0123456789abcdef1".parse().unwrap();
        assert_eq!(open(&blob, &key(2), host()).unwrap_err(), CacheError::Refused);
        assert_eq!(open(&blob, &key(1), other).unwrap_err(), CacheError::Refused);
        for at in (0..blob.len()).step_by(101) {
            let mut changed = blob.clone();
            changed[at] ^= 1;
            assert_eq!(open(&changed, &key(1), host()).unwrap_err(), CacheError::Refused, "{at}");
            assert_eq!(open(&blob[..at], &key(1), host()).unwrap_err(), CacheError::Refused, "{at}");
        }
    }

    #[test]
    fn versions_and_limits() {
        assert_eq!(read(br#"{"version":2,"heard_at":[]}"#).unwrap_err(), CacheError::Version(2));
        for text in
            ["", "{}", "[]", r#"{"version":1}"#, r#"{"version":1,"heard_at":1,"spread_seconds":1,"machines":[],"x":1}"#]
        {
            assert_eq!(read(text.as_bytes()).unwrap_err(), CacheError::Malformed, "{text}");
        }
        for (count, fits) in [(MACHINES_MAX - 1, true), (MACHINES_MAX, true), (MACHINES_MAX + 1, false)] {
            let kept = || Kept { version: String::new(), machine: record(1), generations: Vec::new(), document: None };
            let machines = (0..count).map(|_| kept()).collect();
            let text =
                serde_json::to_vec(&Snapshot { version: VERSION, heard_at: 0, spread_seconds: 0, machines }).unwrap();
            assert_eq!(read(&text).is_ok(), fits, "{count}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in r#"\{"version":1,"heard_at":[0-9]{1,20},"spread_seconds":[0-9]{1,20},"machines":\[.{0,40}\]\}"#) {
            let _ = (open(&bytes, &key(1), host()), read(&bytes));
            if let Ok(snapshot) = read(text.as_bytes()) {
                let _ = restored(snapshot, 0);
            }
        }
    }
}
