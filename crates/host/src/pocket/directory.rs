//! The empty directory on which a pocket's file system is mounted.
//!
//! Nothing is ever written into it outside the pocket, so removing it needs no recursion and can take nothing along. But
//! what is mounted on it would go with it, in every namespace (rmdir(2) since Linux 3.19), so who lives is known from a lock
//! that the kernel gives up at the owner's death. A process id would not do: containers share a directory for temporary
//! files and count processes each for themselves.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

const PREFIX: &str = "inborn-run-";
/// How many names are tried; a name is taken when somebody else made it in a directory that all can write.
const ATTEMPTS: u32 = 16;

/// A directory of this process alone (mode 0700); removed when this is dropped.
#[derive(Debug)]
pub(super) struct PrivateDirectory {
    path: PathBuf,
    /// Locked while this lives.
    _lock: File,
}

impl PrivateDirectory {
    /// Makes one below `$XDG_RUNTIME_DIR`, else below the directory for temporary files.
    pub(super) fn create() -> io::Result<Self> {
        let candidates = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        for base in candidates.into_iter().chain([std::env::temp_dir()]) {
            // The path becomes part of variables and configurations, which are text.
            if base.to_str().is_none_or(|path| path.chars().any(char::is_control)) {
                continue;
            }
            match Self::create_in(&base) {
                Ok(directory) => return Ok(directory),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Makes one in `base`, after removing those of processes that are no more.
    fn create_in(base: &Path) -> io::Result<Self> {
        remove_stale(base);
        let base = fs::canonicalize(base)?;
        let mut failure = io::Error::from(io::ErrorKind::AlreadyExists);
        for attempt in 0..ATTEMPTS {
            let path = base.join(format!("{PREFIX}{}-{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    if let Some(lock) = hold(&path)? {
                        return Ok(Self { path, _lock: lock });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => failure = error,
                Err(error) => return Err(error),
            }
        }
        Err(failure)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // If it cannot be removed, the next start tries again.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Locks a directory that was just made; nothing if somebody took it for a dead process's before the lock was there.
fn hold(path: &Path) -> io::Result<Option<File>> {
    let lock = match open_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    flock(&lock, FlockOperation::LockExclusive)?;
    let is_there = fs::symlink_metadata(path)
        .is_ok_and(|there| lock.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino())));
    Ok(is_there.then_some(lock))
}

/// Removes the directories that nobody holds. Only empty ones of this user can be removed, whatever they are named.
fn remove_stale(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(is_of_a_process) {
            continue;
        }
        let path = entry.path();
        // The lock is kept until it is gone, so that its maker sees what became of it.
        if let Ok(directory) = open_directory(&path)
            && flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = fs::remove_dir(&path);
        }
    }
}

fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?.into())
}

/// Whether it is the name of such a directory.
fn is_of_a_process(name: &str) -> bool {
    let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
    process.is_some_and(|(process, _)| process.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_private_and_leaves_nothing() {
        let base = tempfile::tempdir().unwrap();
        let one = PrivateDirectory::create_in(base.path()).unwrap();
        let other = PrivateDirectory::create_in(base.path()).unwrap();
        assert_ne!(one.path(), other.path());
        assert_eq!(fs::metadata(one.path()).unwrap().permissions().mode() & 0o777, 0o700);
        drop((one, other));
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_nobody_holds_is_removed_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let dead = format!("{PREFIX}4711-0");
        let filled = format!("{PREFIX}4712-0");
        // As if of another namespace, where the same number is another process.
        let living = format!("{PREFIX}4000000000-0");
        for name in [dead.as_str(), &filled, &living, "inborn-run-x-0", "other-4711-0"] {
            fs::create_dir(base.path().join(name)).unwrap();
        }
        fs::write(base.path().join(&filled).join("file"), "").unwrap();
        std::os::unix::fs::symlink(base.path().join("other-4711-0"), base.path().join("inborn-run-4713-0")).unwrap();
        let held = hold(&base.path().join(&living)).unwrap().unwrap();
        let directory = PrivateDirectory::create_in(base.path()).unwrap();
        assert!(!base.path().join(&dead).exists());
        for name in [filled.as_str(), &living, "inborn-run-x-0", "other-4711-0", "inborn-run-4713-0"] {
            assert!(base.path().join(name).exists(), "{name}");
        }
        drop(held);
        drop(PrivateDirectory::create_in(base.path()).unwrap());
        assert!(!base.path().join(&living).exists(), "its owner is gone");
        assert!(directory.path().exists());
    }

    #[test]
    fn one_that_was_taken_away_before_it_was_locked_is_not_held() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("taken");
        assert!(hold(&path).unwrap().is_none());
        fs::create_dir(&path).unwrap();
        assert!(hold(&path).unwrap().is_some());
    }

    #[test]
    fn names_below_and_at_the_limit_of_attempts() {
        let base = tempfile::tempdir().unwrap();
        let name = |attempt: u32| base.path().join(format!("{PREFIX}{}-{attempt}", std::process::id()));
        let make = |attempt| {
            fs::create_dir(name(attempt)).unwrap();
            hold(&name(attempt)).unwrap()
        };
        let mut taken: Vec<_> = (0..ATTEMPTS - 1).map(make).collect();
        drop(PrivateDirectory::create_in(base.path()).unwrap());
        taken.push(make(ATTEMPTS - 1));
        assert_eq!(PrivateDirectory::create_in(base.path()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
