//! The files of a pocket: a small file system of its own, bound over the machine's files.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use super::message::{File, Go};

/// The pocket's file system. Others than the caller may look in, as they may in `/etc`.
const OWN_OPTIONS: &CStr = c"mode=0755,size=32m";
/// What hides a directory: empty, and too small to be otherwise.
const HIDDEN_OPTIONS: &CStr = c"mode=0555,size=4k";
/// What is bound over sockets.
const NOTHING: &str = "nothing";

/// Cuts the mounts off from the machine's: what is mounted here is seen nowhere else.
pub(super) fn separate() -> Result<(), String> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| format!("cannot separate the pocket's mounts: {error}"))
}

/// Writes the files and binds them into place.
pub(super) fn arrange(go: &Go) -> Result<(), String> {
    let directory = Path::new(&go.directory);
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    mount(c"tmpfs", directory, c"tmpfs", safe | MountFlags::NOEXEC, OWN_OPTIONS)
        .map_err(|error| format!("cannot mount the pocket's file system on {}: {error}", directory.display()))?;
    for file in &go.files {
        let path = directory.join(&file.name);
        fs::write(&path, &file.contents).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        bind(file, &path)?;
    }
    let nothing = directory.join(NOTHING);
    fs::write(&nothing, "").map_err(|error| format!("cannot write {}: {error}", nothing.display()))?;
    for hidden in targets(&go.hidden_files)? {
        mount_bind(&nothing, &hidden).map_err(|error| format!("cannot hide {}: {error}", hidden.display()))?;
    }
    for hidden in targets(&go.hidden_directories)? {
        mount(c"tmpfs", &hidden, c"tmpfs", safe | MountFlags::NOEXEC | MountFlags::RDONLY, HIDDEN_OPTIONS)
            .map_err(|error| format!("cannot hide {}: {error}", hidden.display()))?;
    }
    Ok(())
}

fn bind(file: &File, path: &Path) -> Result<(), String> {
    let targets = targets(&file.over)?;
    if file.essential && targets.is_empty() {
        return Err(format!(
            "{} does not exist, so the pocket's own cannot stand in its place: create it (an empty file is enough)",
            file.over.join(", ")
        ));
    }
    for target in targets {
        mount_bind(path, &target).map_err(|error| format!("cannot replace {}: {error}", target.display()))?;
    }
    Ok(())
}

/// Those of `paths` that exist, at the end of their symbolic links, each once.
fn targets(paths: &[String]) -> Result<BTreeSet<PathBuf>, String> {
    let mut targets = BTreeSet::new();
    for path in paths {
        match fs::canonicalize(path) {
            Ok(target) => {
                targets.insert(target);
            }
            // Absent, a dangling link, or in a directory that the caller cannot enter and so the command cannot either.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(format!("cannot look at {path}: {error}")),
        }
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn targets_are_real_files_each_once() {
        let directory = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(directory.path()).unwrap();
        fs::write(base.join("real"), "").unwrap();
        symlink("real", base.join("link")).unwrap();
        symlink("gone", base.join("dangling")).unwrap();
        let paths =
            ["link", "real", "dangling", "absent", "real/below"].map(|name| format!("{}/{name}", base.display()));
        assert_eq!(targets(&paths).unwrap().into_iter().collect::<Vec<_>>(), [base.join("real")]);
        symlink("loop", base.join("loop")).unwrap();
        assert!(targets(&[format!("{}/loop", base.display())]).unwrap_err().contains("loop"));
    }

    #[test]
    fn what_is_essential_and_missing_is_named() {
        let file =
            File { name: "x".into(), contents: String::new(), over: vec!["/nonexistent/x".into()], essential: true };
        let error = bind(&file, Path::new("/nonexistent")).unwrap_err();
        assert!(error.starts_with("/nonexistent/x does not exist") && error.contains("create it"), "{error}");
        assert_eq!(bind(&File { essential: false, ..file }, Path::new("/nonexistent")), Ok(()));
    }
}
