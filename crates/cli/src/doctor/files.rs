//! The data directory: who may read what, is the key there, is there room.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use inborn_identity::Clock;
use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

use super::{Finding, Kind, Patient};
use crate::clock::SystemClock;
use crate::operations::{DISK_FREE_MIN_BYTES, disk_free};
use crate::serving::{AUDIT_DIRECTORY, AUDIT_FILE, DATABASE, KEY_FILE, OPERATOR_ENV};
use crate::settings::Key;

/// With less than this, somebody should make room before it is urgent.
const DISK_LOW_BYTES: u64 = 1 << 30;
/// A clock may be this far behind a file that was written by it; more is a clock that was set back.
const CLOCK_BEHIND_SECONDS: u64 = 120;

/// The private key of a host.
const HOST_KEY: &str = "host.key";

const DIRECTORY: &str = "data directory";
const KEY: &str = "key file";
const MODES: &str = "file modes";
const OWNERS: &str = "file owners";
const DISK: &str = "disk";
const AUDIT: &str = "audit";
const CLOCK: &str = "clock";

/// `source` is where the key is to come from, if the settings can be read; `is_sealed` whether something in the store is sealed with it.
pub(super) fn look(patient: &Patient, source: Option<&Key>, is_sealed: bool) -> Vec<Finding> {
    let (data, kind) = (&patient.data, patient.kind);
    let metadata = match std::fs::metadata(data) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let found = format!("{} is not there yet", data.display());
            let next = format!("`{}` makes it at its first start", kind.command());
            return vec![Finding::hint(DIRECTORY, found, next), clock(data)];
        }
        Err(error) => {
            return vec![Finding::problem(
                DIRECTORY,
                format!("{}: {error}", data.display()),
                "run this as its owner, or as root",
            )];
        }
    };
    if let Err(error) = std::fs::read_dir(data) {
        let found = format!("{} cannot be looked into: {error}", data.display());
        return vec![Finding::problem(DIRECTORY, found, "run this as its owner, or as root")];
    }
    let mut findings = vec![directory(data, kind, &metadata)];
    if kind != Kind::Host {
        findings.push(key(patient, source, is_sealed));
    }
    findings.extend([modes(data), owners(data, metadata.uid(), metadata.gid()), disk(data)]);
    if kind != Kind::Host {
        findings.push(audit(data, kind));
    }
    findings.push(clock(data));
    findings
}

fn directory(data: &Path, kind: Kind, metadata: &std::fs::Metadata) -> Finding {
    let (place, mode) = (data.display(), metadata.mode() & 0o7777);
    if mode & 0o077 != 0 {
        let next = format!("chmod 700 {place}");
        return Finding::problem(DIRECTORY, format!("{place} is open to others (mode {mode:04o})"), next);
    }
    Finding::fine(DIRECTORY, format!("{place}, mode {mode:04o}: that of `{}`", kind.command()))
}

fn key(patient: &Patient, source: Option<&Key>, is_sealed: bool) -> Finding {
    let Patient { data, kind, .. } = patient;
    let path = match source {
        // It may ask somebody, or count who asks: a doctor does not run it.
        Some(Key::Command(argv)) => {
            let program = argv.first().map_or("a program", String::as_str);
            return Finding::fine(KEY, format!("{program} prints it: keep what it needs apart from the database"));
        }
        Some(Key::Credential(path)) => path.clone(),
        Some(Key::File) | None => data.join(KEY_FILE),
    };
    let is_sealed = is_sealed || data.join(DATABASE).exists();
    match inborn_region::check_key_file(&path) {
        Err(inborn_region::KeyFileError::Missing(_)) if source.is_none() => Finding::hint(
            KEY,
            format!("{} is not there, and the settings that may say where it is cannot be read", path.display()),
            "run this where the region runs, with its environment",
        ),
        Ok(()) => Finding::fine(KEY, format!("{}: have a copy of it apart from the database", path.display())),
        Err(inborn_region::KeyFileError::Missing(_)) if !is_sealed => {
            let next = match kind {
                Kind::Region => "of several servers the first one makes it: copy it from there before this one's start",
                Kind::Up | Kind::Host => "`inborn up` makes it",
            };
            Finding::hint(KEY, "there is none, and nothing that is known of is sealed with one", next)
        }
        Err(error @ inborn_region::KeyFileError::Missing(_)) if *kind == Kind::Region => Finding::problem(
            KEY,
            error.to_string(),
            "or copy it from another server of the region (mode 0600); never make a new one by hand",
        ),
        // Its texts say what to do.
        Err(error) => Finding::problem(KEY, error.to_string(), "see above; never make a new one by hand"),
    }
}

/// The files of a data directory of which something holds, in order.
fn files(data: &Path, holds: impl Fn(&std::fs::Metadata) -> bool) -> Vec<String> {
    let entries = |directory: &Path| std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries(data)
        .chain(entries(&data.join(AUDIT_DIRECTORY)))
        .filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.is_file() && holds(&metadata)))
        .map(|entry| entry.path().display().to_string())
        .collect();
    found.sort();
    found
}

/// Who has run a command as root in the directory of a service has left files that the service cannot read.
fn owners(data: &Path, owner: u32, group: u32) -> Finding {
    match files(data, |metadata| metadata.uid() != owner).as_slice() {
        [] => Finding::fine(OWNERS, "all belong to the owner of the directory"),
        some => Finding::problem(
            OWNERS,
            format!("what runs as the owner of the directory cannot use {}", some.join(", ")),
            format!("chown {owner}:{group} {}, and run such commands as that user", some.join(" ")),
        ),
    }
}

/// Of everything that only the owner may read.
fn modes(data: &Path) -> Finding {
    match files(data, |metadata| metadata.permissions().mode() & 0o077 != 0).as_slice() {
        [] => Finding::fine(MODES, "nobody else may read the files"),
        some => {
            let has_key = some.iter().any(|path| path.ends_with(OPERATOR_ENV));
            let has_hosts_key = some.iter().any(|path| path.ends_with(HOST_KEY));
            let more = match (has_key, has_hosts_key) {
                (true, _) => "; whoever has read operator.env has the operator's key",
                (_, true) => {
                    "; whoever has read host.key can be this host: if somebody may have, evict it (`inborn host evict`)"
                }
                _ => "",
            };
            Finding::problem(
                MODES,
                format!("others may use {}{more}", some.join(", ")),
                format!("chmod 600 {}", some.join(" ")),
            )
        }
    }
}

fn disk(data: &Path) -> Finding {
    let place = data.display();
    match (disk_free(data), statvfs(data)) {
        (_, Ok(disk)) if disk.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            Finding::problem(DISK, format!("{place} is on a file system that is mounted read-only"), "look at dmesg")
        }
        (Ok(free), _) => verdict_on_room(free),
        (Err(error), _) => Finding::problem(DISK, format!("{place}: {error}"), "look at the disk"),
    }
}

fn verdict_on_room(free: u64) -> Finding {
    let found = format!("{} MiB are free", free >> 20);
    match free {
        0..DISK_FREE_MIN_BYTES => {
            Finding::problem(DISK, format!("{found}: changes are refused, or soon are"), "free some space")
        }
        DISK_FREE_MIN_BYTES..DISK_LOW_BYTES => Finding::hint(DISK, found, "make room before it is urgent"),
        _ => Finding::fine(DISK, found),
    }
}

fn audit(data: &Path, kind: Kind) -> Finding {
    let directory = data.join(AUDIT_DIRECTORY);
    let file = directory.join(AUDIT_FILE);
    let target = if file.exists() { &file } else { &directory };
    match access(target, Access::WRITE_OK) {
        Ok(()) => Finding::fine(AUDIT, format!("{} can be written", target.display())),
        Err(error) if error == rustix::io::Errno::NOENT => {
            Finding::hint(AUDIT, "there is none yet", format!("`{}` makes it", kind.command()))
        }
        Err(error) => Finding::problem(
            AUDIT,
            format!("{} cannot be written by this user: {error}", target.display()),
            format!("without it, changes are refused: give it to the user that runs `{}`", kind.command()),
        ),
    }
}

/// Signatures and credentials are judged by the clock.
fn clock(data: &Path) -> Finding {
    let now = SystemClock.now().as_secs();
    let newest = [DATABASE, "inborn.db-wal", KEY_FILE, "host.json", "cache.sealed"]
        .iter()
        .filter_map(|name| u64::try_from(std::fs::metadata(data.join(name)).ok()?.mtime()).ok())
        .max();
    let is_kept =
        ["/run/systemd/timesync/synchronized", "/run/chrony/chronyd.pid", "/run/chronyd.pid", "/run/ntpd.pid"]
            .iter()
            .any(|path| Path::new(path).exists());
    verdict_on_clock(now, newest, is_kept)
}

fn verdict_on_clock(now: u64, newest: Option<u64>, is_kept: bool) -> Finding {
    if newest.is_some_and(|newest| newest > now.saturating_add(CLOCK_BEHIND_SECONDS)) {
        return Finding::problem(
            CLOCK,
            "it is behind the files that were written by it: it was set back, or they were set ahead",
            "set it right before credentials are issued: `timedatectl`",
        );
    }
    if is_kept {
        return Finding::fine(CLOCK, "something keeps it right");
    }
    Finding::hint(
        CLOCK,
        "nothing was seen that keeps it right; calls that are signed 5 minutes away from it are refused",
        "on a computer of its own: `timedatectl set-ntp true`, or chrony",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn room_below_at_and_above_what_is_needed() {
        for (free, verdict) in [
            (0, Verdict::Problem),
            (DISK_FREE_MIN_BYTES - 1, Verdict::Problem),
            (DISK_FREE_MIN_BYTES, Verdict::Hint),
            (DISK_LOW_BYTES - 1, Verdict::Hint),
            (DISK_LOW_BYTES, Verdict::Fine),
        ] {
            assert_eq!(verdict_on_room(free).verdict, verdict, "{free}");
        }
    }

    #[test]
    fn a_clock_below_at_and_above_what_files_may_be_ahead() {
        let at = 1000 + CLOCK_BEHIND_SECONDS;
        assert_eq!(verdict_on_clock(1000, Some(at - 1), true).verdict, Verdict::Fine);
        assert_eq!(verdict_on_clock(1000, Some(at), true).verdict, Verdict::Fine);
        assert_eq!(verdict_on_clock(1000, Some(at + 1), true).verdict, Verdict::Problem);
        assert_eq!(verdict_on_clock(1000, None, false).verdict, Verdict::Hint);
    }

    #[test]
    fn files_that_others_may_read_are_named() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join(OPERATOR_ENV), "").unwrap();
        let set = |mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(base.path().join(OPERATOR_ENV), permissions).unwrap();
        };
        set(0o640);
        let finding = modes(base.path());
        assert!(finding.verdict == Verdict::Problem && finding.found.contains("operator's key"), "{finding:?}");
        assert!(finding.next.starts_with("chmod 600 "), "{finding:?}");
        set(0o600);
        assert_eq!(modes(base.path()).verdict, Verdict::Fine);
    }

    #[test]
    fn files_of_somebody_else_are_named() {
        let base = tempfile::tempdir().unwrap();
        let key = base.path().join(HOST_KEY);
        std::fs::write(&key, "").unwrap();
        let metadata = std::fs::metadata(&key).unwrap();
        let (user, group) = (metadata.uid(), metadata.gid());
        assert_eq!(owners(base.path(), user, group).verdict, Verdict::Fine);
        // As if the directory were of the next user.
        let finding = owners(base.path(), user + 1, group + 2);
        assert!(finding.verdict == Verdict::Problem && finding.found.contains("host.key"), "{finding:?}");
        let chown = format!("chown {}:{} {}, ", user + 1, group + 2, key.display());
        assert!(finding.next.starts_with(&chown), "{finding:?}");
    }

    fn patient(data: &Path, kind: Kind) -> Patient {
        Patient { data: data.to_owned(), kind, running: None }
    }

    #[test]
    fn a_missing_key_is_a_problem_only_where_something_is_sealed() {
        let base = tempfile::tempdir().unwrap();
        let key = |kind, source, is_sealed| key(&patient(base.path(), kind), source, is_sealed);
        assert_eq!(key(Kind::Up, Some(&Key::File), false).verdict, Verdict::Hint);
        let of_server = key(Kind::Region, Some(&Key::File), true);
        assert!(of_server.verdict == Verdict::Problem && of_server.next.contains("another server"), "{of_server:?}");
        let of_server = key(Kind::Region, Some(&Key::File), false);
        assert!(of_server.verdict == Verdict::Hint && of_server.next.contains("copy it"), "{of_server:?}");
        std::fs::write(base.path().join(DATABASE), "").unwrap();
        let finding = key(Kind::Up, Some(&Key::File), false);
        assert!(finding.verdict == Verdict::Problem && finding.found.contains("backup"), "{finding:?}");
        assert_eq!(key(Kind::Up, None, false).verdict, Verdict::Hint, "it may be elsewhere");
    }

    #[test]
    fn a_key_from_elsewhere_is_looked_for_there() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join(DATABASE), "").unwrap();
        let key = |source: Key| key(&patient(base.path(), Kind::Up), Some(&source), true);
        let finding = key(Key::Command(vec!["/usr/bin/age".to_owned(), "-d".to_owned()]));
        assert!(finding.verdict == Verdict::Fine && finding.found.starts_with("/usr/bin/age "), "{finding:?}");
        let credential = base.path().join("key");
        let finding = key(Key::Credential(credential));
        assert!(finding.verdict == Verdict::Problem && finding.found.contains("key"), "{finding:?}");
    }
}
