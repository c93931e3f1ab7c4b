//! The high-water mark: by it a region notices that its store was put back from a backup.
//!
//! An older store knows nothing of what has ended since: machines that were terminated, cut-offs, quarantines, epochs, keys, roles. So
//! whenever something has ended the store counts one further, and each server notes the count in a file of its own once the
//! store has it. A store that counts less than the file is older than what was seen here, and a region does not start on it,
//! nor go on.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use inborn_credential::Kek;
use inborn_identity::UnixTime;
use inborn_store::{SettingChange, Store, StoreError};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

use crate::accepted::end_all;
use crate::fence::{self, NotedFence};
use crate::quarantine::leaves_doubt;
use crate::secrets::KeySource;
use crate::{OpenError, RegionServer};

/// The setting in the store.
pub(crate) const SETTING: &str = "high-water";
/// The file beside the key file.
const FILE_NAME: &str = "high-water.json";
/// It is a line; anything much longer is not ours.
const FILE_BYTES_MAX: u64 = 4096;
/// How much further than anything known an accepted older store counts, at least: more than any region ever counts. The store of before
/// went on from the same count in another way, so that a backup of that would look as new as what is here.
const LEAP: u64 = 1 << 32;
/// How often it is looked whether something has ended, and whether the store still counts as far.
const ROUND: Duration = Duration::from_secs(1);

/// How far a store has come.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Which store: chosen when it began to count.
    history: String,
    /// Grows whenever something has ended.
    pub(crate) count: u64,
}

impl Mark {
    /// A mark as the store has it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, OpenError> {
        serde_json::from_slice(bytes).map_err(|_| OpenError::Damaged("the high-water mark"))
    }
}

/// The file: how far the store had come, and what it had answered. A program of before reads the first two alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Noted {
    history: String,
    count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fence: Option<NotedFence>,
}

impl Noted {
    fn new(mark: &Mark, fence: Option<NotedFence>) -> Self {
        Self { history: mark.history.clone(), count: mark.count, fence }
    }

    fn mark(&self) -> Mark {
        Mark { history: self.history.clone(), count: self.count }
    }
}

/// What is known of the mark while the region runs.
pub(crate) struct HighWater {
    /// `None`: a region that lives as long as its process.
    path: Option<PathBuf>,
    seen: Mutex<Mark>,
    /// How many ends the last mark is of.
    noted: AtomicU64,
    /// What has ended by calls to this server and is no cut-off.
    ends: AtomicU64,
    went_back: AtomicBool,
    /// Whether the file lacks what was seen: its disk is full, or fails.
    is_unwritten: AtomicBool,
    /// When the file was written last.
    written: Mutex<Instant>,
}

/// Why a store is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Older {
    /// It counts less than was seen.
    #[error("it has come to mark {found}, and {known} was seen here", found = .0, known = .1)]
    Behind(u64, u64),
    /// It does not count, or is another one.
    #[error("it is not the one that was seen here")]
    Other,
    /// It counts as far, and is not the database that has answered here.
    #[error(
        "it does not know what it has answered to this server. If it is a primary that was replaced and has come back, keep it off, so \
         that the store's URL leads to the one that took over, and start again"
    )]
    Forgetful,
}

/// A store, compared with what was seen here.
pub(crate) struct Compared {
    path: Option<PathBuf>,
    known: Option<Mark>,
    found: Option<Mark>,
    /// Whether it is older, and that is accepted.
    is_older: bool,
}

/// Compares the store with what was seen here, and changes nothing. An older one is taken only where that is accepted.
///
/// # Errors
/// [`OpenError::Older`]; the store's, the file's.
pub(crate) async fn compare(
    store: &dyn Store,
    source: &KeySource,
    accept_older: bool,
    now: UnixTime,
) -> Result<Compared, OpenError> {
    let path = match source {
        KeySource::File(path) => Some(path.with_file_name(FILE_NAME)),
        KeySource::Credential { state, .. } | KeySource::Command { state, .. } => Some(state.join(FILE_NAME)),
        KeySource::Ephemeral => None,
    };
    let noted = path.as_deref().map(read).transpose()?.flatten();
    let known = noted.as_ref().map(Noted::mark);
    let found = found(store).await?;
    let is_forgotten = match noted.and_then(|noted| noted.fence) {
        Some(fence) if !was_accepted(known.as_ref(), found.as_ref()) => fence.is_forgotten_by(store, now).await?,
        _ => false,
    };
    // Where both were put back nobody can tell: whoever takes the file away and says so is believed.
    let is_said = accept_older && path.is_some() && known.is_none() && found.is_some();
    // What says most of why goes first.
    let older = match older(known.as_ref(), found.as_ref()) {
        older if older == Some(Older::Other) || !is_forgotten => older,
        _ => Some(Older::Forgetful),
    };
    match (older, &path) {
        (Some(older), Some(path)) if !accept_older => Err(OpenError::Older { older, path: path.clone() }),
        (older, _) => Ok(Compared { is_older: older.is_some() || is_said, path, known, found }),
    }
}

impl HighWater {
    /// Counts one further from here. Where the store is older everything ends that was ever issued.
    pub(crate) async fn begin(
        compared: Compared,
        store: &Arc<dyn Store>,
        kek: &Kek,
        now: UnixTime,
    ) -> Result<Self, OpenError> {
        let Compared { path, known, found, is_older } = compared;
        if is_older {
            end_all(store, kek, now).await?;
        }
        // The store's own: other servers over it know it by that.
        let history = found.as_ref().or(known.as_ref()).map_or_else(new_history, |mark| Ok(mark.history.clone()))?;
        let count = [known.as_ref(), found.as_ref()].into_iter().flatten().map(|mark| mark.count).max().unwrap_or(0);
        let mark = Mark { history, count: count.saturating_add(if is_older { leap()? } else { 1 }) };
        let high_water = Self {
            path,
            seen: Mutex::new(found.clone().unwrap_or_else(|| mark.clone())),
            noted: AtomicU64::new(0),
            ends: AtomicU64::new(0),
            went_back: AtomicBool::new(false),
            is_unwritten: AtomicBool::new(false),
            written: Mutex::new(Instant::now()),
        };
        match put(&**store, found.as_ref(), &mark).await {
            Ok(()) => high_water.note(mark, NotedFence::of(&**store, now))?,
            // Another server has counted on, or was the first to count at all: its history is this one's, too.
            Err(StoreError::Conflict(_)) if !is_older => {
                if let Some(there) = self::found(&**store).await?
                    && older(known.as_ref(), Some(&there)).is_none()
                {
                    high_water.note(there, NotedFence::of(&**store, now))?;
                }
            }
            // The store takes no writes now: the next round does it.
            Err(error) if !is_older => tracing::debug!(%error, "the high-water mark has to wait"),
            Err(error) => return Err(error.into()),
        }
        Ok(high_water)
    }

    /// Something has ended that an older store would bring back, and that is no cut-off: what is in quarantine now, a host, a join token,
    /// an epoch, an account, an operator's key, a role or that it is passed, an agent's key.
    pub(crate) fn count_an_end(&self) {
        self.ends.fetch_add(1, Ordering::SeqCst);
    }

    /// The same of what the store was asked for, if it has done it or may have.
    pub(crate) fn count_end_by<T>(&self, outcome: &Result<T, StoreError>) {
        if outcome.as_ref().err().is_none_or(leaves_doubt) {
            self.count_an_end();
        }
    }

    /// Whether the store was put back while the region runs.
    pub(crate) fn went_back(&self) -> bool {
        self.went_back.load(Ordering::SeqCst)
    }

    /// Whether it is time to note what was answered.
    fn is_due(&self, now: Instant) -> bool {
        let written = *self.written.lock().unwrap_or_else(PoisonError::into_inner);
        self.path.is_some() && now.saturating_duration_since(written) >= fence::NOTED_EVERY
    }

    fn seen(&self) -> Mark {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes a mark that the store has, and what it has answered. A file that cannot be written makes nothing unseen.
    fn note(&self, mark: Mark, fence: Option<NotedFence>) -> Result<(), OpenError> {
        let noted = Noted::new(&mark, fence);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = mark;
        if let Some(path) = &self.path {
            self.is_unwritten.store(true, Ordering::SeqCst);
            aside(|| write(path, &noted))?;
            self.is_unwritten.store(false, Ordering::SeqCst);
        }
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(())
    }
}

/// Whether a store that says `found` is older than what was `known`.
pub(crate) fn older(known: Option<&Mark>, found: Option<&Mark>) -> Option<Older> {
    let known = known?;
    match found {
        Some(found) if found.history != known.history => Some(Older::Other),
        Some(found) if found.count < known.count => Some(Older::Behind(found.count, known.count)),
        Some(_) => None,
        None => Some(Older::Other),
    }
}

/// Whether the store was older and has been accepted by another server since it was seen here.
fn was_accepted(known: Option<&Mark>, found: Option<&Mark>) -> bool {
    matches!((known, found), (Some(known), Some(found))
        if known.history == found.history && found.count.saturating_sub(known.count) >= LEAP)
}

fn new_history() -> Result<String, OpenError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(inborn_credential::CryptoError::from)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Another one each time: of one store there may be two that were accepted, on two computers.
fn leap() -> Result<u64, OpenError> {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).map_err(inborn_credential::CryptoError::from)?;
    Ok(LEAP + u64::from(u32::from_le_bytes(bytes)))
}

async fn found(store: &dyn Store) -> Result<Option<Mark>, OpenError> {
    store.setting(SETTING).await?.as_deref().map(Mark::parse).transpose()
}

async fn put(store: &dyn Store, expected: Option<&Mark>, mark: &Mark) -> Result<(), StoreError> {
    let bytes = |mark: &Mark| serde_json::to_vec(mark).map_err(|_| StoreError::Invalid("a mark"));
    let (expected, value) = (expected.map(bytes).transpose()?, bytes(mark)?);
    store.put_setting(SettingChange { name: SETTING.to_owned(), expected, value }).await
}

/// Takes down that a backup is put back of which nobody knows how much has ended since. The history is a new one, which no backup is of, so
/// that a server with this data directory starts on whatever is put back only where an older store is accepted. Gives the file.
pub(crate) fn note_put_back(backup: Option<&Mark>, data: &Path) -> Result<PathBuf, OpenError> {
    let path = data.join(FILE_NAME);
    let known = read(&path)?;
    let known = known.map(|noted| noted.mark());
    let count = [known.as_ref(), backup].into_iter().flatten().map(|mark| mark.count).max().unwrap_or(0);
    write(&path, &Noted::new(&Mark { history: new_history()?, count }, None))?;
    Ok(path)
}

/// What was seen by a server with this data directory.
pub(crate) fn read_beside(data: &Path) -> Result<Option<Mark>, OpenError> {
    Ok(read(&data.join(FILE_NAME))?.map(|noted| noted.mark()))
}

/// Whether a store is another one than has answered a server with this data directory, though it may count as far.
pub(crate) async fn has_forgotten(store: &dyn Store, data: &Path, now: UnixTime) -> Result<bool, OpenError> {
    let Some(fence) = read(&data.join(FILE_NAME))?.and_then(|noted| noted.fence) else { return Ok(false) };
    Ok(fence.is_forgotten_by(store, now).await?)
}

fn read(path: &Path) -> Result<Option<Noted>, OpenError> {
    let failed = |source| OpenError::HighWater { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    let noted = serde_json::from_str(&text);
    noted.map(Some).map_err(|error| failed(std::io::Error::new(ErrorKind::InvalidData, error)))
}

/// Does what blocks while this worker's other tasks go on at another one. It is done when this has answered, and nobody can give up
/// waiting for it: a mark is never written after a later one. Where there is one worker alone (in tests, and in simulations, which must
/// go the same way each time), they wait.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Replaces the file as a whole: after a crash it is the old one or the new one.
fn write(path: &Path, noted: &Noted) -> Result<(), OpenError> {
    let failed = |source| OpenError::HighWater { path: path.to_owned(), source };
    let text = serde_json::to_string(noted).map_err(|error| failed(error.into()))?;
    // Several servers of one test have one file: each writes its own and puts it in place.
    let unique = path.with_extension(format!("{:016x}", rand_suffix()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unique)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unique, path)?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    })();
    if written.is_err() {
        let _ = fs::remove_file(&unique);
    }
    written.map_err(failed)
}

fn rand_suffix() -> u64 {
    use core::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// Looks after the mark for as long as the region is there.
pub(crate) fn start(region: &Arc<RegionServer>) {
    let region = Arc::downgrade(region);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(ROUND).await;
            let Some(region) = region.upgrade() else { return };
            match region.keep_high_water().await {
                Ok(()) => {}
                Err(OpenError::Store(StoreError::Closed)) => return,
                Err(error) => tracing::warn!(%error, "the high-water mark has to wait"),
            }
        }
    });
}

impl RegionServer {
    /// Counts one further if something has ended, and notes how far the store has come.
    pub(crate) async fn keep_high_water(&self) -> Result<(), OpenError> {
        let high_water = &self.high_water;
        if high_water.went_back() {
            return Ok(());
        }
        // Before the store is read: what ends from here on is the next mark's.
        let ended = self.authenticator.cut_offs_made() + high_water.ends.load(Ordering::SeqCst);
        let (seen, found) = (high_water.seen(), found(&*self.store).await?);
        if let Some(older) = older(Some(&seen), found.as_ref()) {
            // A first mark that could not be written yet is none.
            if found.is_none() && high_water.noted.load(Ordering::SeqCst) == 0 {
                return self.first_mark(&seen).await;
            }
            tracing::error!(
                "the store was put back from a backup while this server runs ({older}): it makes no credentials and lets no \
                 session in. Stop all servers, and start them with --accept-older-store"
            );
            high_water.went_back.store(true, Ordering::SeqCst);
            self.end_what_no_longer_stands();
            return Ok(());
        }
        let Some(found) = found else { return Ok(()) };
        if ended > high_water.noted.load(Ordering::SeqCst) {
            let mark = Mark { count: found.count.saturating_add(1), ..found.clone() };
            let is_put = match put(&*self.store, Some(&found), &mark).await {
                Ok(()) => true,
                // Somebody else has counted on since: that is of what had ended here, too.
                Err(StoreError::Conflict(_)) => false,
                Err(error) => return Err(error.into()),
            };
            high_water.noted.store(ended, Ordering::SeqCst);
            if is_put {
                high_water.note(mark, self.fence_to_note())?;
            }
        } else if found.count > seen.count || high_water.is_unwritten.load(Ordering::SeqCst) {
            high_water.note(found, self.fence_to_note())?;
        } else if let Some(fence) = self.fence_to_note()
            && high_water.is_due(Instant::now())
        {
            high_water.note(found, Some(fence))?;
        }
        Ok(())
    }

    fn fence_to_note(&self) -> Option<NotedFence> {
        NotedFence::of(&*self.store, self.now())
    }

    async fn first_mark(&self, seen: &Mark) -> Result<(), OpenError> {
        match put(&*self.store, None, seen).await {
            Ok(()) => self.high_water.note(seen.clone(), self.fence_to_note()),
            Err(StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(history: &str, count: u64) -> Mark {
        Mark { history: history.to_owned(), count }
    }

    #[test]
    fn a_store_that_counts_less_is_older() {
        let known = mark("a", 5);
        for (found, expected) in [
            (Some(mark("a", 4)), Some(Older::Behind(4, 5))),
            (Some(mark("a", 5)), None),
            (Some(mark("a", 6)), None),
            (Some(mark("b", 9)), Some(Older::Other)),
            (None, Some(Older::Other)),
        ] {
            assert_eq!(older(Some(&known), found.as_ref()), expected);
            assert_eq!(older(None, found.as_ref()), None, "nothing was seen yet");
        }
    }

    #[tokio::test]
    async fn two_that_begin_with_a_new_store_at_once_have_one_history() {
        let store: Arc<dyn Store> = Arc::new(inborn_store::SqliteStore::in_memory().unwrap());
        let (kek, now) = (Kek::from_bytes(&[7; 32]).unwrap(), UnixTime::from_secs(1_800_000_000));
        let (mut compared, mut begun) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            compared.push(compare(&*store, &KeySource::Ephemeral, false, now).await.unwrap());
        }
        for compared in compared {
            begun.push(HighWater::begin(compared, &store, &kek, now).await.unwrap());
        }
        let found = found(&*store).await.unwrap();
        for high_water in begun {
            assert_eq!(older(Some(&high_water.seen()), found.as_ref()), None);
        }
    }

    /// What a disk takes its time with holds up nobody else, though there is one worker for all.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_while_the_file_is_written() {
        let (done, is_done) = std::sync::mpsc::channel();
        let writing = tokio::spawn(async move {
            // On this worker, after what is done here.
            tokio::spawn(async move { done.send(()) });
            aside(|| is_done.recv_timeout(Duration::from_secs(60)))
        });
        assert_eq!(writing.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn one_worker_alone_writes_as_it_comes_to_it() {
        assert_eq!(aside(|| 7), 7);
        assert_eq!(std::thread::spawn(|| aside(|| 8)).join().unwrap(), 8, "nor is a runtime needed");
    }

    #[test]
    fn an_older_store_that_was_accepted_is_known_by_its_leap() {
        let known = mark("a", 5);
        for (found, expected) in [
            (Some(mark("a", 5)), false),
            (Some(mark("a", 5 + LEAP - 1)), false),
            (Some(mark("a", 5 + LEAP)), true),
            (Some(mark("a", u64::MAX)), true),
            (Some(mark("b", 5 + LEAP)), false),
            (None, false),
        ] {
            assert_eq!(was_accepted(Some(&known), found.as_ref()), expected, "{found:?}");
        }
        assert!(!was_accepted(None, Some(&known)));
    }

    #[test]
    fn whatever_is_put_back_is_older_than_what_is_taken_down() {
        let directory = tempfile::tempdir().unwrap();
        let is_other = |backup: Option<Mark>| {
            let known = read_beside(directory.path()).unwrap();
            assert_eq!(older(known.as_ref(), backup.as_ref()), Some(Older::Other), "{backup:?}");
            known.unwrap().count
        };
        // Also another backup than the one that it was written for, and one that counts as far as it can.
        for backup in [None, Some(mark("a", 7)), Some(mark("a", u64::MAX))] {
            note_put_back(backup.as_ref(), directory.path()).unwrap();
            for other in [None, Some(mark("a", 6)), Some(mark("a", 7)), Some(mark("a", 8)), Some(mark("a", u64::MAX))] {
                is_other(other);
            }
        }
        // What a server has seen is not forgotten.
        write(&directory.path().join(FILE_NAME), &Noted::new(&mark("a", 5), None)).unwrap();
        note_put_back(Some(&mark("a", 4)), directory.path()).unwrap();
        assert_eq!(is_other(Some(mark("a", 4))), 5);
        note_put_back(Some(&mark("a", 9)), directory.path()).unwrap();
        assert_eq!(is_other(Some(mark("a", 9))), 9);
    }

    #[test]
    fn a_file_comes_back_and_what_is_none_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        assert!(read(&path).unwrap().is_none());
        write(&path, &Noted::new(&mark("a", 1), None)).unwrap();
        let store = inborn_store::SqliteStore::in_memory().unwrap();
        assert_eq!(NotedFence::of(&store, UnixTime::from_secs(1)), None, "a file is itself");
        let fence = r#"{"node":"0000000000000007","beats":9,"filled":-3,"at":1}"#;
        let noted = Noted::new(&mark("a", u64::MAX), Some(serde_json::from_str(fence).unwrap()));
        write(&path, &noted).unwrap();
        assert_eq!(read(&path).unwrap(), Some(noted));
        // Each of two programs reads what the other has written.
        assert_eq!(Mark::parse(&fs::read(&path).unwrap()).unwrap(), mark("a", u64::MAX));
        fs::write(&path, serde_json::to_string(&mark("a", 2)).unwrap()).unwrap();
        assert_eq!(read(&path).unwrap(), Some(Noted::new(&mark("a", 2), None)));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
        for text in ["", "{}", "x"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(read(&path), Err(OpenError::HighWater { .. })), "{text}");
        }
    }
}
