//! /proc: what it says of a process, read with limits. Everything may be gone or refused at any moment, and then is absent.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::event::{Process, User};
use super::text::{base_name, cut, lossy};

/// Bytes of a command line that an event has.
pub(crate) const COMMAND_LINE_BYTES_MAX: usize = 4096;
/// Bytes of a path: `PATH_MAX` of the kernel.
pub(crate) const PATH_BYTES_MAX: usize = 4096;
/// Bytes of the value of a variable.
const VARIABLE_BYTES_MAX: usize = 512;
/// Bytes of a process's environment that are looked at.
const ENVIRONMENT_BYTES_MAX: u64 = 128 * 1024;
/// Bytes of a small file of /proc.
const FILE_BYTES_MAX: u64 = 16 * 1024;
/// Bytes of /etc/passwd, and users that are remembered of it.
const PASSWD_BYTES_MAX: u64 = 1024 * 1024;
const USERS_MAX: usize = 8192;
/// Of a process's variables, those that change what code it runs.
const VARIABLES: [&str; 2] = ["LD_PRELOAD", "LD_LIBRARY_PATH"];
/// What readlink says behind the name of a file that is no more.
const DELETED: &str = " (deleted)";

/// What /proc/PID/stat has of use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stat {
    pub(crate) name: String,
    pub(crate) parent: u32,
    /// Clock ticks between the boot and its start.
    pub(crate) start_ticks: u64,
    /// Where its stack begins: another place for each program that is started, the same after a fork. 0 for who may not look.
    pub(crate) stack: u64,
}

/// A mounted /proc and what else tells of processes.
#[derive(Debug)]
pub(crate) struct Proc {
    root: PathBuf,
    boot_id: String,
    ticks_per_second: u64,
    users: HashMap<u32, String>,
}

/// A process and what an event tells of it besides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) process: Process,
    pub(crate) exe_deleted: bool,
}

impl Proc {
    /// Looks at the /proc and the users of the file system `root`.
    pub(crate) fn open(root: &Path) -> Self {
        let boot_id = read(&root.join("proc/sys/kernel/random/boot_id"), FILE_BYTES_MAX).unwrap_or_default();
        let boot_id = String::from_utf8_lossy(&boot_id);
        let boot_id = boot_id.split('-').next().unwrap_or_default().trim().to_owned();
        let mut proc = Self {
            root: root.to_owned(),
            boot_id,
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
            users: HashMap::new(),
        };
        proc.read_users();
        proc
    }

    /// Reads /etc/passwd anew.
    pub(crate) fn read_users(&mut self) {
        let Some(bytes) = read(&self.root.join("etc/passwd"), PASSWD_BYTES_MAX) else { return };
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            Some((fields.nth(1)?.parse().ok()?, cut(name, 64)))
        });
        self.users.clear();
        for (id, name) in lines.take(USERS_MAX) {
            // Of two names for one number the first is the one that tools show.
            self.users.entry(id).or_insert(name);
        }
    }

    /// The homes of those who can log in, each once.
    pub(crate) fn homes(&self) -> Vec<PathBuf> {
        let bytes = read(&self.root.join("etc/passwd"), PASSWD_BYTES_MAX).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let homes = text.lines().filter_map(|line| {
            let mut fields = line.split(':').skip(5);
            let (home, shell) = (fields.next()?, fields.next().unwrap_or_default());
            let is_login =
                home.starts_with('/') && home != "/" && !shell.ends_with("nologin") && !shell.ends_with("/false");
            is_login.then(|| PathBuf::from(home))
        });
        let mut homes: Vec<PathBuf> = homes.take(USERS_MAX).collect();
        homes.sort_unstable();
        homes.dedup();
        homes
    }

    pub(crate) fn user(&self, id: u32) -> User {
        User { id, name: self.users.get(&id).cloned() }
    }

    pub(crate) fn path(&self, pid: u32, name: &str) -> PathBuf {
        self.root.join(format!("proc/{pid}/{name}"))
    }

    /// A file of /proc itself.
    pub(crate) fn file(&self, name: &str, bytes_max: u64) -> Option<Vec<u8>> {
        read(&self.root.join("proc").join(name), bytes_max)
    }

    /// All process numbers there are, in order.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(self.root.join("proc")) else { return Vec::new() };
        let mut pids: Vec<u32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        pids
    }

    pub(crate) fn stat(&self, pid: u32) -> Option<Stat> {
        parse_stat(&read(&self.path(pid, "stat"), FILE_BYTES_MAX)?)
    }

    /// Where a symbolic link of a process leads, such as `exe`, `cwd` or `fd/0`.
    pub(crate) fn link(&self, pid: u32, name: &str) -> Option<String> {
        let target = fs::read_link(self.path(pid, name)).ok()?;
        Some(lossy(target.as_os_str().as_encoded_bytes(), PATH_BYTES_MAX))
    }

    /// The users of a process: real and effective.
    pub(crate) fn ids(&self, pid: u32) -> Option<(u32, u32)> {
        let status = read(&self.path(pid, "status"), FILE_BYTES_MAX)?;
        let status = String::from_utf8_lossy(&status);
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        let mut ids = line.split_whitespace().map(str::parse);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    }

    /// The arguments of a process, with spaces between them.
    pub(crate) fn command_line(&self, pid: u32) -> Option<String> {
        let limit = u64::try_from(COMMAND_LINE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        let bytes = read(&self.path(pid, "cmdline"), limit)?;
        let spaced: Vec<u8> = bytes.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
        let line = lossy(&spaced, COMMAND_LINE_BYTES_MAX);
        let line = line.trim_end();
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// The variables of a process that change what code it runs.
    pub(crate) fn environment(&self, pid: u32) -> Vec<(String, String)> {
        let bytes = read(&self.path(pid, "environ"), ENVIRONMENT_BYTES_MAX).unwrap_or_default();
        let variables = bytes.split(|byte| *byte == 0).filter_map(|variable| {
            let (name, value) = std::str::from_utf8(variable).ok()?.split_once('=')?;
            let is_wanted = VARIABLES.contains(&name) && !value.is_empty();
            is_wanted.then(|| (name.to_owned(), cut(value, VARIABLE_BYTES_MAX)))
        });
        variables.take(VARIABLES.len()).collect()
    }

    /// What makes a process itself, whatever else gets its number later.
    pub(crate) fn unique(&self, pid: u32, start_ticks: u64) -> String {
        format!("{}-{pid}-{start_ticks}", self.boot_id)
    }

    /// All that is told of a process. `boot_ms` is when the computer was started.
    pub(crate) fn process(&self, pid: u32, stat: &Stat, boot_ms: i64) -> Found {
        let mut found = self.alone(pid, stat, boot_ms);
        if stat.parent != 0 {
            found.process.parent = match self.stat(stat.parent) {
                Some(parent) => Some(Box::new(self.alone(stat.parent, &parent, boot_ms).process)),
                None => Some(Box::new(Process { pid: stat.parent, ..Process::default() })),
            };
        }
        found
    }

    fn alone(&self, pid: u32, stat: &Stat, boot_ms: i64) -> Found {
        let exe = self.link(pid, "exe");
        let exe_deleted = exe.as_deref().is_some_and(|exe| exe.ends_with(DELETED));
        let path = exe.map(|exe| exe.strip_suffix(DELETED).map(str::to_owned).unwrap_or(exe));
        let since_boot = stat.start_ticks.saturating_mul(1000) / self.ticks_per_second;
        let process = Process {
            pid,
            uid: Some(self.unique(pid, stat.start_ticks)),
            name: Some(path.as_deref().map_or_else(|| stat.name.clone(), |path| base_name(path).to_owned())),
            command_line: self.command_line(pid),
            path,
            created_ms: i64::try_from(since_boot).ok().map(|since| boot_ms.saturating_add(since)),
            directory: self.link(pid, "cwd"),
            user: self.ids(pid).map(|(_, effective)| self.user(effective)),
            parent: None,
        };
        Found { process, exe_deleted }
    }
}

/// Reads at most so many bytes of a file.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The name stands in parentheses and may hold any, so that the last one ends it.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let text = String::from_utf8_lossy(bytes);
    let (head, rest) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = rest.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    let stack = fields.nth(5).and_then(|text| text.parse().ok()).unwrap_or(0);
    Some(Stat { name: cut(name, 64), parent, start_ticks, stack })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let line = b"4711 (a) (b c) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 8831 1 2 3 4 5 77 8\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent, stat.start_ticks, stat.stack), ("a) (b c", 1, 8831, 77));
        for bad in [&b""[..], b"1 (x", b"1 (x) S", b"1 (x) S 1 2", b"\xff\xfe"] {
            assert_eq!(parse_stat(bad), None);
        }
    }

    #[test]
    fn this_very_process() {
        let proc = Proc::open(Path::new("/"));
        let pid = std::process::id();
        let stat = proc.stat(pid).unwrap();
        let found = proc.process(pid, &stat, 0);
        let exe = std::env::current_exe().unwrap();
        assert_eq!(found.process.path.as_deref(), exe.to_str());
        assert!(!found.exe_deleted && found.process.command_line.is_some());
        assert_eq!(found.process.user.unwrap().id, rustix::process::geteuid().as_raw());
        assert_eq!(found.process.parent.unwrap().pid, stat.parent);
        assert!(proc.pids().contains(&pid));
    }

    #[test]
    fn a_made_up_process() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/sys/kernel/random/boot_id", b"3f2b9c1e-0000-0000-0000-000000000000\n");
        let passwd = "root:x:0:0:root:/srv/r:/bin/sh\nanna:x:1000:1000::/srv/a:\ntwin:x:1000:1::/srv/a:/bin/sh\n\
                      broken\nnobody:x:65534:1::/srv/n:/usr/sbin/nologin\nd:x:2:2::/:/bin/sh\n";
        write("etc/passwd", passwd.as_bytes());
        write("proc/7/stat", b"7 (sh) S 0 7 7 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 250 1\n");
        write("proc/7/status", b"Name:\tsh\nUid:\t1000\t0\t0\t0\n");
        write("proc/7/cmdline", b"sh\0-c\0a b\0");
        write("proc/7/environ", b"HOME=/root\0LD_PRELOAD=/tmp/x.so\0SECRET=1\0");
        std::os::unix::fs::symlink("/memfd:x (deleted)", root.path().join("proc/7/exe")).unwrap();
        let proc = Proc::open(root.path());
        let found = proc.process(7, &proc.stat(7).unwrap(), 1000);
        assert!(found.exe_deleted);
        let process = found.process;
        assert_eq!(process.uid.as_deref(), Some("3f2b9c1e-7-250"));
        assert_eq!(process.path.as_deref(), Some("/memfd:x"));
        assert_eq!((process.command_line.as_deref(), process.created_ms), (Some("sh -c a b"), Some(3500)));
        assert_eq!(process.user, Some(User { id: 0, name: Some("root".into()) }));
        assert_eq!((process.parent, proc.ids(7)), (None, Some((1000, 0))));
        assert_eq!(proc.user(1000).name.as_deref(), Some("anna"));
        assert_eq!(proc.homes(), [PathBuf::from("/srv/a"), PathBuf::from("/srv/r")]);
        assert_eq!(proc.environment(7), [("LD_PRELOAD".to_owned(), "/tmp/x.so".to_owned())]);
        assert_eq!(proc.pids(), [7]);
        assert!(proc.stat(8).is_none() && proc.link(7, "cwd").is_none());
    }

    #[test]
    fn command_lines_below_at_and_above_the_limit() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/1")).unwrap();
        let proc = Proc::open(root.path());
        for (length, expected) in [(4095, 4095), (4096, 4096), (4097, 4096 + '…'.len_utf8())] {
            fs::write(root.path().join("proc/1/cmdline"), "x".repeat(length)).unwrap();
            assert_eq!(proc.command_line(1).unwrap().len(), expected);
        }
    }
}
