//! The data directory: where it is, who holds it, and how other commands find the `up` that runs on it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::beside::{self, Beside};

const LOCK: &str = "lock";
const READY: &str = "ready.json";
/// In the default directory: names the data directory of an `up --ephemeral` that was given none.
const EPHEMERAL: &str = "ephemeral";

const START_WAIT: Duration = Duration::from_secs(3);
const START_ROUND: Duration = Duration::from_millis(50);

const LOCK_TRIES: u32 = 5;
const LOCK_ROUND: Duration = Duration::from_millis(20);

/// A data directory that this process holds, and no other can.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    ephemeral: bool,
    /// Locked until dropped; the kernel unlocks it when the process dies, however it dies.
    _lock: File,
}

/// What `up` tells the world once it is ready: the ready file, and how other commands find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) endpoint: String,
    pub(crate) tls_endpoint: String,
    pub(crate) operations: String,
    pub(crate) operator_env: PathBuf,
    pub(crate) ca_bundle: PathBuf,
    pub(crate) region: String,
    /// All regions of the deployment, the home first, where there are several and this is the home.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) regions: Vec<String>,
    pub(crate) account: String,
    pub(crate) data: PathBuf,
    pub(crate) domain: String,
    pub(crate) partition: String,
    pub(crate) pid: u32,
    /// What a region server is called among those over its store; `up` is alone with its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
}

impl DataDirectory {
    /// Takes the directory at `path`, which is made if there is none.
    pub(crate) fn hold(path: &Path, ephemeral: bool) -> anyhow::Result<Self> {
        make_private(path)?;
        let path = path.canonicalize().with_context(|| format!("cannot use {}", path.display()))?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK))
            .with_context(|| format!("cannot write in the data directory {}", path.display()))?;
        match lock_soon(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another `inborn up`, `inborn region` or `inborn host` is running on {}: stop it, or use another directory (--data DIR)",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock the data directory {}", path.display()));
            }
        }
        let _ = std::fs::remove_file(path.join(READY));
        // Nobody else writes here from now on.
        beside::sweep_all(&path);
        Ok(Self { path, ephemeral, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The absolute path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Lets other commands, and whoever waits for `ready_file`, find what runs here.
    pub(crate) fn announce(&self, ready: &Ready, ready_file: Option<&Path>) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(ready)?;
        replace_private(&self.path.join(READY), &text)?;
        if self.ephemeral
            && let Ok(default) = default_path()
            && default != self.path
        {
            // Without it the directory must be named (--data, INBORN_DATA): not a reason to fail.
            let named = make_private(&default)
                .and_then(|()| replace_private(&default.join(EPHEMERAL), self.path.as_os_str().as_encoded_bytes()));
            if let Err(error) = named {
                tracing::warn!("other commands need --data {}: {error:#}", self.path.display());
            }
        }
        match ready_file {
            Some(path) => replace_private(path, &text),
            None => Ok(()),
        }
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path.join(READY));
        // Only what `temporary` has made: a directory that was named is its owner's.
        if self.ephemeral && is_temporary(&self.path) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Takes the lock. One who only looks whether an `up` is running holds it too, for an instant: hence more than one try.
fn lock_soon(lock: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_ROUND),
            other => return other,
        }
    }
    lock.try_lock()
}

/// `$STATE_DIRECTORY`, else `$XDG_STATE_HOME/inborn`, else `~/.local/state/inborn`.
pub(crate) fn default_path() -> anyhow::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = variable("STATE_DIRECTORY") {
        return Ok(path);
    }
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    let state = state.context("there is no home directory to keep state in: name one with --data DIR")?;
    Ok(state.join("inborn"))
}

const TEMPORARY_PREFIX: &str = "inborn-ephemeral-";

/// A new directory that goes when its `up` goes.
pub(crate) fn temporary() -> anyhow::Result<PathBuf> {
    let base = std::env::temp_dir();
    for attempt in 0..100 {
        let path = base.join(format!("{TEMPORARY_PREFIX}{}-{attempt}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
        }
    }
    bail!("cannot make a directory in {}", base.display())
}

/// Whether this very process has made the directory: its name holds the process id, and a chosen name hardly does.
fn is_temporary(path: &Path) -> bool {
    let own = format!("{TEMPORARY_PREFIX}{}-", std::process::id());
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(own.as_bytes()))
}

/// As [`find`], but with patience for an `up` that was started a moment ago, as in `inborn up & inborn launch`.
pub(crate) async fn find_soon(data: Option<&Path>) -> anyhow::Result<Option<Ready>> {
    let deadline = Instant::now() + START_WAIT;
    loop {
        let found = find(data)?;
        if found.is_some() || Instant::now() >= deadline {
            return Ok(found);
        }
        tokio::time::sleep(START_ROUND).await;
    }
}

/// The `up` that runs on `data`, if one was named, else on the default directory, else the newest ephemeral one.
pub(crate) fn find(data: Option<&Path>) -> anyhow::Result<Option<Ready>> {
    if let Some(path) = data {
        let owner = std::fs::metadata(path).map_or(0, |metadata| metadata.uid());
        let own = rustix::process::geteuid();
        // What is announced there is believed and signed for, and may end up in a shell.
        if owner != 0 && owner != own.as_raw() && !own.is_root() {
            bail!("the data directory {} belongs to another user: run this as that user", path.display());
        }
        return running_on(path);
    }
    let default = default_path()?;
    if let Some(ready) = running_on(&default)? {
        return Ok(Some(ready));
    }
    match std::fs::read(default.join(EPHEMERAL)) {
        Ok(bytes) => {
            use std::os::unix::ffi::OsStringExt;
            let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
            // The one it names may be long gone, and in a directory where everybody can make another of that name.
            if is_own(&path) { running_on(&path) } else { Ok(None) }
        }
        Err(_) => Ok(None),
    }
}

/// Whether the directory at `path` belongs to this user and nobody else may write in it.
pub(crate) fn is_own(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| {
        metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0
    })
}

/// What runs on the directory at `path`: its announcement, if a process still holds the lock.
pub(crate) fn running_on(path: &Path) -> anyhow::Result<Option<Ready>> {
    let Ok(text) = std::fs::read(path.join(READY)) else { return Ok(None) };
    let lock = match File::open(path.join(LOCK)) {
        Ok(lock) => lock,
        Err(_) => return Ok(None),
    };
    // Shared, so that two commands that look at the same time do not take each other for an `up`.
    match lock.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let ready = serde_json::from_slice(&text)
                .with_context(|| format!("{} is damaged: restart `inborn up`", path.join(READY).display()))?;
            Ok(Some(ready))
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// Makes a directory that only its owner may enter; an existing one that others may write to is refused.
pub(crate) fn make_private(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the data directory {}", path.display()))?;
    let mode = std::fs::metadata(path).with_context(|| format!("cannot use {}", path.display()))?.permissions().mode();
    if mode & 0o022 != 0 {
        bail!(
            "the data directory {0} may be written to by others (mode {1:04o}): chmod 700 {0}",
            path.display(),
            mode & 0o7777
        );
    }
    Ok(())
}

/// Writes a file that appears whole or not at all, mode 0600.
pub(crate) fn replace_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let beside = Beside::create(path)?;
        beside.file().write_all(bytes)?;
        beside.put()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(path: &Path) -> Ready {
        Ready {
            endpoint: "http://127.0.0.1:1".into(),
            tls_endpoint: "https://127.0.0.1:2".into(),
            operations: "http://127.0.0.1:3".into(),
            operator_env: path.join("operator.env"),
            ca_bundle: path.join("ca.pem"),
            region: "us-east-1".into(),
            regions: Vec::new(),
            account: "123456789012".into(),
            data: path.into(),
            domain: "amazonaws.com".into(),
            partition: "aws".into(),
            pid: 1,
            node: None,
        }
    }

    #[test]
    fn one_process_holds_it_and_others_find_it() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("deep/data");
        assert_eq!(find(Some(&path)).unwrap(), None);
        let held = DataDirectory::hold(&path, false).unwrap();
        assert_eq!(find(Some(&path)).unwrap(), None, "not ready yet");
        held.announce(&ready(held.path()), Some(&base.path().join("ready"))).unwrap();
        assert_eq!(find(Some(&path)).unwrap(), Some(ready(held.path())));
        assert!(base.path().join("ready").exists());
        let second = DataDirectory::hold(&path, false).unwrap_err().to_string();
        assert!(second.contains("another `inborn up`") && second.contains("--data"), "{second}");
        drop(held);
        assert_eq!(find(Some(&path)).unwrap(), None);
        assert!(path.exists());
    }

    #[test]
    fn an_announcement_of_the_dead_is_not_believed() {
        let base = tempfile::tempdir().unwrap();
        let held = DataDirectory::hold(base.path(), false);
        assert!(held.is_ok(), "{held:?}");
        drop(held);
        std::fs::write(base.path().join(READY), serde_json::to_vec(&ready(base.path())).unwrap()).unwrap();
        assert_eq!(find(Some(base.path())).unwrap(), None);
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let base = tempfile::tempdir().unwrap();
        std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = DataDirectory::hold(base.path(), false).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
    }

    #[test]
    fn only_a_directory_of_ones_own_is_followed() {
        let base = tempfile::tempdir().unwrap();
        assert!(is_own(base.path()));
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).unwrap();
        assert!(!is_own(&link) && !is_own(&base.path().join("absent")));
        std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!is_own(base.path()));
        // The root directory is somebody else's, unless this is root.
        assert_eq!(is_own(Path::new("/")), rustix::process::geteuid().is_root());
    }

    /// Of this program and of earlier ones, and none of another's.
    #[test]
    fn what_killed_processes_have_left_goes_at_the_next_start() {
        let base = tempfile::tempdir().unwrap();
        for name in ["operator.env.new-4711", "host.key.new-0123456789abcdef", "notes.new-idea"] {
            std::fs::write(base.path().join(name), "secret").unwrap();
        }
        let held = DataDirectory::hold(base.path(), false).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(held.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [LOCK, "notes.new-idea"]);
    }

    #[test]
    fn a_temporary_one_goes_with_its_holder() {
        let path = temporary().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(DataDirectory::hold(&path, true).unwrap());
        assert!(!path.exists());
    }
}
