//! A file under another name in the same directory, until it is whole; then it is put at its place in one step.
//!
//! A process that is killed leaves such a file, which may hold secrets and megabytes. So each is locked while it is written: what nobody
//! has locked is left over, and the next one who writes there removes it.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

/// Between the name of a file and what makes it another one.
const MARK: &[u8] = b".new-";
/// How many hex digits follow the mark.
const DIGITS: usize = 16;
/// Earlier programs wrote their process id there, in decimal, behind the names of these files of a data directory.
const EARLIER: [&str; 10] = [
    "attachments.json",
    "ca.pem",
    "cache.key",
    "cache.sealed",
    "host.json",
    "host.key",
    "identity.pem",
    "instance-connect.pem",
    "operator.env",
    "ready.json",
];
/// No process id has more digits.
const PROCESS_ID_DIGITS_MAX: usize = 10;
/// How often another name is tried.
const ATTEMPTS_MAX: u32 = 8;

/// A file that is not at its place yet. Removed if it does not come so far.
#[derive(Debug)]
pub(crate) struct Beside {
    file: File,
    /// `None`: it is at its place.
    path: Option<PathBuf>,
    place: PathBuf,
}

impl Beside {
    /// Begins one that is to be at `place`, mode 0600. What killed ones have left for the same place is removed.
    pub(crate) fn create(place: &Path) -> io::Result<Self> {
        #[cfg(test)]
        if tests::IS_DISK_FULL.get() {
            return Err(ErrorKind::StorageFull.into());
        }
        sweep(directory_of(place), |name| is_left_of(name, place.file_name().unwrap_or_default()));
        let mut outcome = Err(ErrorKind::AlreadyExists.into());
        for _ in 0..ATTEMPTS_MAX {
            let mut name = place.file_name().unwrap_or_default().to_owned();
            name.push(format!(".new-{:016x}", RandomState::new().build_hasher().finish()));
            outcome = make(&place.with_file_name(name));
            match &outcome {
                // Somebody who swept has met it before it was locked, or it was there.
                Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
                _ => break,
            }
        }
        let (file, path) = outcome?;
        Ok(Self { file, path: Some(path), place: place.to_owned() })
    }

    /// What to write to.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// On disk first, then at its place, in place of what is there.
    pub(crate) fn put(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(path) = &self.path {
            fs::rename(path, &self.place)?;
            self.path = None;
        }
        sync_directory_of(&self.place)
    }

    /// As [`Beside::put`], but fails with `AlreadyExists` where something is there.
    pub(crate) fn put_new(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(path) = &self.path {
            rename_new(path, &self.place)?;
            self.path = None;
        }
        sync_directory_of(&self.place)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes a file of this name, and locks it.
fn make(path: &Path) -> io::Result<(File, PathBuf)> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    match file.try_lock() {
        // Somebody who sweeps has met it first, and removes it.
        Err(TryLockError::WouldBlock) => {
            let _ = fs::remove_file(path);
            return Err(ErrorKind::NotFound.into());
        }
        // Where nothing can be locked nothing is swept either.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    if file.metadata()?.nlink() == 0 {
        return Err(ErrorKind::NotFound.into());
    }
    Ok((file, path.to_owned()))
}

/// Not every file system knows each of the ways; none of them replaces what is there.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let is_unknown = |error: &io::Error| {
        matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput | ErrorKind::PermissionDenied)
    };
    match rename_no_replace(from, to) {
        Err(error) if is_unknown(&error) => {}
        outcome => return outcome,
    }
    match link_and_remove(from, to) {
        Err(error) if is_unknown(&error) => Err(io::Error::new(
            ErrorKind::Unsupported,
            "this file system knows no way to put a file where surely none is: look that there is none, and say --force",
        )),
        outcome => outcome,
    }
}

fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

fn link_and_remove(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

/// Removes what killed processes have left in a data directory, of which this process is the only one who writes there: also what earlier
/// programs, which did not lock, have left. A person may keep files of other names there.
pub(crate) fn sweep_all(directory: &Path) {
    sweep(directory, |name| {
        suffix_of(name).is_some_and(|(before, digits)| digits.len() == DIGITS || is_left_of_earlier(before, digits))
    });
}

/// Removes those files of these names that nobody has locked. What cannot be removed stays: nothing depends on it.
fn sweep(directory: &Path, is_one: impl Fn(&OsStr) -> bool) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| is_one(&entry.file_name())) {
        let path = entry.path();
        // What is no file was made by somebody else, and a pipe would wait for one who writes.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let is_ours = metadata.is_file() && metadata.uid() == rustix::process::geteuid().as_raw();
        if is_ours && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// Whether a name is that of a file beside one of the name `of`, in today's form.
fn is_left_of(name: &OsStr, of: &OsStr) -> bool {
    suffix_of(name).is_some_and(|(before, digits)| digits.len() == DIGITS && before == of.as_encoded_bytes())
}

/// Whether a name has the form of earlier programs, and is of a file that they wrote.
fn is_left_of_earlier(before: &[u8], digits: &[u8]) -> bool {
    EARLIER.iter().any(|name| name.as_bytes() == before)
        && digits.len() <= PROCESS_ID_DIGITS_MAX
        && digits.iter().all(u8::is_ascii_digit)
}

/// The name before the mark, and the digits behind it, of which there are some and nothing else.
fn suffix_of(name: &OsStr) -> Option<(&[u8], &[u8])> {
    let name = name.as_encoded_bytes();
    let at = name.windows(MARK.len()).rposition(|window| window == MARK)?;
    let (before, rest) = name.split_at_checked(at)?;
    let digits = rest.get(MARK.len()..)?;
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (!before.is_empty() && (1..=DIGITS).contains(&digits.len()) && digits.iter().all(is_digit))
        .then_some((before, digits))
}

fn directory_of(place: &Path) -> &Path {
    place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_directory_of(place: &Path) -> io::Result<()> {
    File::open(directory_of(place))?.sync_all()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;
    use std::ffi::OsString;
    use std::io::Write;

    use super::*;

    std::thread_local! {
        /// As on a full disk, nothing that this thread begins can be written.
        pub(crate) static IS_DISK_FULL: Cell<bool> = const { Cell::new(false) };
    }

    fn names(directory: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    fn written(place: &Path, text: &str) -> Beside {
        let beside = Beside::create(place).unwrap();
        beside.file().write_all(text.as_bytes()).unwrap();
        beside
    }

    #[test]
    fn it_is_at_its_place_whole_or_not_at_all() {
        let base = tempfile::tempdir().unwrap();
        let place = base.path().join("a");
        drop(written(&place, "never"));
        assert_eq!(names(base.path()), [""; 0]);
        written(&place, "one").put_new().unwrap();
        assert_eq!(written(&place, "two").put_new().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&place).unwrap(), b"one");
        written(&place, "three").put().unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"three");
        assert_eq!(names(base.path()), ["a"]);
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn neither_way_replaces_what_is_there() {
        let base = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| base.path().join(name));
        for way in [rename_no_replace, link_and_remove] {
            fs::write(&from, "new").unwrap();
            fs::write(&to, "old").unwrap();
            assert_eq!(way(&from, &to).unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&to).unwrap(), b"old");
            fs::remove_file(&to).unwrap();
            way(&from, &to).unwrap();
            assert_eq!((fs::read(&to).unwrap().as_slice(), from.exists()), (&b"new"[..], false));
        }
    }

    #[test]
    fn what_a_killed_one_has_left_goes_and_what_is_being_written_stays() {
        let base = tempfile::tempdir().unwrap();
        let place = base.path().join("a");
        let left = base.path().join("a.new-0123456789abcdef");
        fs::write(&left, "secret").unwrap();
        let others = [
            "b.new-0123456789abcdef",
            "operator.env.new-42",
            "operator.env.new-4a",
            "operator.env.new-12345678901",
            "backup.new-20261127",
            "a.new-",
            "a.new-xyz",
            "a.new-0123456789abcdef0",
            ".new-1",
        ];
        others.iter().for_each(|name| fs::write(base.path().join(name), "").unwrap());
        let first = written(&place, "first");
        assert!(!left.exists());
        let second = written(&place, "second");
        first.put().unwrap();
        second.put().unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"second", "neither has taken the other for one that was left");
        assert!(others.iter().all(|name| base.path().join(name).exists()));
        // Whoever alone writes in a directory removes those of earlier programs too.
        let third = written(&place, "third");
        sweep_all(base.path());
        third.put().unwrap();
        let gone = ["b.new-0123456789abcdef", "operator.env.new-42"];
        let mut stay: Vec<_> = others.into_iter().filter(|name| !gone.contains(name)).chain(["a"]).collect();
        stay.sort_unstable();
        assert_eq!(names(base.path()), stay);
    }

    /// Somebody who sweeps may meet a file between its being made and its being locked.
    #[test]
    fn files_that_are_begun_while_others_sweep_are_at_their_places() {
        let base = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..2 {
                let place = base.path().join(format!("{number}"));
                scope.spawn(move || (0..200).for_each(|_| written(&place, "whole").put().unwrap()));
            }
            scope.spawn(|| (0..400).for_each(|_| sweep_all(base.path())));
        });
        assert_eq!(names(base.path()), ["0", "1"]);
    }

    #[test]
    fn a_link_of_such_a_name_is_nobody_s_file() {
        let base = tempfile::tempdir().unwrap();
        let victim = base.path().join("victim");
        fs::write(&victim, "").unwrap();
        let link = base.path().join("a.new-0123456789abcdef");
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        sweep_all(base.path());
        assert!(victim.exists() && link.is_symlink());
    }
}
