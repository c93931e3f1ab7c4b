//! The sealed cache of a host: what it needs to serve on after a restart while its region is away.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail};
use inborn_credential::Kek;
use inborn_host_agent::{CACHE_BYTES_MAX, KEEP_ROUND, Keeping, Snapshot, Talk, open, seal};
use inborn_identity::HostId;
use inborn_region::KeyFileError;
use tokio::sync::Notify;

use super::identity::remove;
use crate::directory;

const FILE: &str = "cache.sealed";
const KEY_FILE: &str = "cache.key";

/// How much of what the agent knows would be there after a crash.
#[derive(Debug)]
pub(super) struct Kept(AtomicU64);

impl Kept {
    const NOTHING: u64 = u64::MAX;

    /// Whether it is all that the agent knew at this revision.
    pub(super) fn is(&self, revision: u64) -> bool {
        self.0.load(Ordering::SeqCst) == revision
    }

    fn set(&self, revision: u64) {
        self.0.store(revision, Ordering::SeqCst);
    }
}

/// Where it is, and what it is sealed under.
pub(super) struct Cache {
    path: PathBuf,
    key: Arc<Kek>,
    host: HostId,
    kept: Arc<Kept>,
    /// Something is to be kept.
    changed: Notify,
    /// Whether nothing may be kept any more. Held by whoever keeps: that goes on when nobody waits for it any longer.
    is_closed: Arc<Mutex<bool>>,
}

impl Cache {
    /// The cache of `host` in a data directory. The key is a file there, made at the first start, or what the service manager
    /// gives under the name `credential`.
    pub(super) fn open(data: &Path, credential: Option<&str>, host: HostId) -> anyhow::Result<Self> {
        let key_file = data.join(KEY_FILE);
        let key = match credential {
            Some(name) => inborn_region::read_key_credential(&credential_path(name)?)?,
            None => match inborn_region::read_key_file(&key_file) {
                Ok(key) => key,
                Err(KeyFileError::Missing(_)) => inborn_region::create_key_file(&key_file)?,
                Err(error) => bail!(
                    "{error}. The cache that is sealed with it holds only what the region gives again: both can be removed \
                     while the region can be reached"
                ),
            },
        };
        let (path, key) = (data.join(FILE), Arc::new(Kek::from_bytes(&key)?));
        let kept = Arc::new(Kept(AtomicU64::new(Kept::NOTHING)));
        Ok(Self { path, key, host, kept, changed: Notify::new(), is_closed: Arc::default() })
    }

    /// What of the agent's knowledge is in it.
    pub(super) fn kept(&self) -> Arc<Kept> {
        Arc::clone(&self.kept)
    }

    /// Something has become different: it is kept soon.
    pub(super) fn changed(&self) {
        self.changed.notify_one();
    }

    /// What was kept; nothing where nothing can be used. Why is said: a host that has to wait for its region must not be a
    /// riddle.
    pub(super) fn read(&self) -> Option<Snapshot> {
        let read = || -> anyhow::Result<Option<Snapshot>> {
            let blob = read_blob(&self.path)?;
            Ok(blob.map(|blob| open(&blob, &self.key, self.host)).transpose()?)
        };
        read().unwrap_or_else(|error| {
            let path = self.path.display();
            tracing::warn!(
                "the cache {path} is not used: {error:#}. Machines are served once the region has been heard"
            );
            None
        })
    }

    /// Keeps a snapshot: whole, or not at all.
    async fn keep(&self, snapshot: Snapshot) -> anyhow::Result<()> {
        let (key, host, path) = (Arc::clone(&self.key), self.host, self.path.clone());
        let is_closed = Arc::clone(&self.is_closed);
        let keeping = move || {
            let is_closed = is_closed.lock().unwrap_or_else(PoisonError::into_inner);
            if *is_closed { Ok(()) } else { directory::replace_private(&path, &seal(&snapshot, &key, host)?) }
        };
        tokio::task::spawn_blocking(keeping).await?
    }

    /// Keeps what the agent knows, until this is dropped.
    pub(super) async fn follow(&self, talk: &Talk) {
        let (start, mut keeping) = (Instant::now(), Keeping::default());
        let mut is_failing = false;
        loop {
            let _ = tokio::time::timeout(KEEP_ROUND, self.changed.notified()).await;
            let (revision, snapshot) = {
                let agent = talk.agent();
                let revision = agent.revision();
                (revision, if keeping.is_due(revision, start.elapsed()) { agent.snapshot() } else { None })
            };
            let Some(snapshot) = snapshot else { continue };
            let begun = Instant::now();
            match self.keep(snapshot).await {
                Ok(()) => {
                    keeping.has_kept(revision, start.elapsed());
                    self.kept.set(revision);
                    is_failing = false;
                }
                Err(error) => {
                    if !is_failing {
                        tracing::error!("what is known of machines cannot be kept over a restart: {error:#}");
                    }
                    is_failing = true;
                }
            }
            tokio::time::sleep(Keeping::rest_after(begun.elapsed())).await;
        }
    }

    /// As [`Cache::follow`], once: before the end.
    pub(super) async fn keep_last(&self, talk: &Talk) {
        let snapshot = talk.agent().snapshot();
        let Some(snapshot) = snapshot else { return };
        if let Err(error) = self.keep(snapshot).await {
            tracing::error!("what is known of machines was not kept: {error:#}");
        }
    }

    /// Keeps nothing any more, once a keep that is under way has ended: what is removed now stays away.
    pub(super) fn close(&self) {
        *self.is_closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// What is kept in a data directory, for who only looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeptCache {
    /// It can be used.
    Good,
    /// There is none.
    Absent,
    /// Its key is not in the directory.
    Elsewhere,
}

/// Whether what `host` has kept could be used. Changes nothing.
pub(crate) fn look(data: &Path, host: HostId) -> anyhow::Result<KeptCache> {
    let path = data.join(FILE);
    let blob = match read_blob(&path) {
        Ok(None) => return Ok(KeptCache::Absent),
        Ok(Some(blob)) => blob,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let key = match inborn_region::read_key_file(&data.join(KEY_FILE)) {
        Ok(key) => Kek::from_bytes(&key)?,
        Err(KeyFileError::Missing(_)) => return Ok(KeptCache::Elsewhere),
        Err(error) => return Err(error.into()),
    };
    open(&blob, &key, host).with_context(|| format!("{} is of no use", path.display()))?;
    Ok(KeptCache::Good)
}

/// The sealed bytes, if there are some.
fn read_blob(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let length = file.metadata()?.len();
    let longest = u64::try_from(CACHE_BYTES_MAX)?.saturating_add(1024);
    if length > longest {
        bail!("it is longer than any cache");
    }
    let mut blob = Vec::with_capacity(usize::try_from(length)?);
    file.take(longest).read_to_end(&mut blob)?;
    Ok(Some(blob))
}

/// Removes the cache of a data directory, and its key.
pub(super) fn remove_from(data: &Path) -> anyhow::Result<()> {
    // The key first: without it the other is nothing.
    let key = remove(&data.join(KEY_FILE));
    remove(&data.join(FILE)).and(key)
}

fn credential_path(name: &str) -> anyhow::Result<PathBuf> {
    if name.is_empty() || name.contains('/') || name == ".." || name == "." {
        bail!("--key-credential `{name}`: it is the name of a credential, without a directory");
    }
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").with_context(|| {
        format!("the key is to be the credential {name}, and there are none: have the unit load it (LoadCredentialEncrypted={name}:FILE)")
    })?;
    Ok(Path::new(&directory).join(name))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use inborn_fleet::MachinesChanged;
    use inborn_host_agent::{Agent, Answer, Now, SystemDice};
    use inborn_identity::UnixTime;

    use super::*;

    fn snapshot() -> Snapshot {
        let now = Now { wall: UnixTime::from_secs(1_800_000_000), up: Duration::ZERO };
        let mut agent = Agent::new(1, now.wall.plus(1_000_000), &mut SystemDice);
        let ask = agent.next(now).pop().unwrap();
        agent.heard(ask, Ok(Answer::Machines(MachinesChanged::default())), now, &mut SystemDice);
        agent.snapshot().unwrap()
    }

    #[tokio::test]
    async fn who_only_looks_is_told_what_is_kept_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (data, host) = (directory.path(), "h-0123456789abcdef0".parse().unwrap());
        assert_eq!(look(data, host).unwrap(), KeptCache::Absent);
        assert_eq!(std::fs::read_dir(data).unwrap().count(), 0, "no key was made");
        Cache::open(data, None, host).unwrap().keep(snapshot()).await.unwrap();
        assert_eq!(look(data, host).unwrap(), KeptCache::Good);
        assert!(look(data, "h-0123456789abcdef1".parse().unwrap()).is_err(), "another host's");
        std::fs::remove_file(data.join(KEY_FILE)).unwrap();
        assert_eq!(look(data, host).unwrap(), KeptCache::Elsewhere);
    }

    /// Nobody waits for the keep any more, and it goes on: it does not put back what was removed.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_being_kept_at_an_eviction_does_not_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let cache = Arc::new(Cache::open(data, None, "h-0123456789abcdef0".parse().unwrap()).unwrap());
        cache.keep(snapshot()).await.unwrap();
        assert!(cache.read().is_some());
        let under_way = cache.is_closed.lock().unwrap();
        let keeping = {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.keep(snapshot()).await })
        };
        let closing = {
            let (cache, data) = (Arc::clone(&cache), data.to_owned());
            std::thread::spawn(move || {
                cache.close();
                remove_from(&data).unwrap();
            })
        };
        std::thread::sleep(Duration::from_millis(50));
        assert!(!closing.is_finished(), "it waits for what is under way");
        keeping.abort();
        drop(under_way);
        closing.join().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        cache.keep(snapshot()).await.unwrap();
        assert!(!data.join(FILE).exists() && !data.join(KEY_FILE).exists());
    }
}
