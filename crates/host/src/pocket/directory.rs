//! The empty directory on which a pocket's file system is mounted.
//!
//! Nothing is ever written into it outside the pocket, so removing it needs no recursion and can take nothing along.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const PREFIX: &str = "inborn-run-";
/// How many names are tried; a name is taken when somebody else made it in a directory that all can write.
const ATTEMPTS: u32 = 16;

/// A directory of this process alone (mode 0700); removed when this is dropped.
#[derive(Debug)]
pub(super) struct PrivateDirectory {
    path: PathBuf,
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
                Ok(()) => return Ok(Self { path }),
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

/// Removes the directories of dead processes. Only empty ones of this user can be removed, whatever they are named.
fn remove_stale(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().and_then(process_of).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The process that a directory's name says it belongs to.
fn process_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
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
    fn what_dead_processes_left_is_removed_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        // Process ids end far below this one.
        let dead = format!("{PREFIX}4000000000-0");
        let filled = format!("{PREFIX}4000000001-0");
        let living = format!("{PREFIX}1-0");
        for name in [dead.as_str(), &filled, &living, "inborn-run-x-0", "other-4000000000-0"] {
            fs::create_dir(base.path().join(name)).unwrap();
        }
        fs::write(base.path().join(&filled).join("file"), "").unwrap();
        let directory = PrivateDirectory::create_in(base.path()).unwrap();
        assert!(!base.path().join(&dead).exists());
        for name in [filled.as_str(), &living, "inborn-run-x-0", "other-4000000000-0"] {
            assert!(base.path().join(name).exists(), "{name}");
        }
        assert!(directory.path().exists());
    }

    #[test]
    fn names_below_and_at_the_limit_of_attempts() {
        let base = tempfile::tempdir().unwrap();
        let name = |attempt: u32| base.path().join(format!("{PREFIX}{}-{attempt}", std::process::id()));
        (0..ATTEMPTS - 1).for_each(|attempt| fs::create_dir(name(attempt)).unwrap());
        drop(PrivateDirectory::create_in(base.path()).unwrap());
        fs::create_dir(name(ATTEMPTS - 1)).unwrap();
        assert_eq!(PrivateDirectory::create_in(base.path()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
