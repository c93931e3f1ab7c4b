//! What an event of audit means.

use super::join::{Group, PathName, Syscall};
use super::record::Address;
use super::syscalls::call_name;
use crate::sensor::event::{Change, Direction, Endpoint, Event, Process, Protocol, Provider, User, What};
use crate::sensor::proc::PATH_BYTES_MAX;
use crate::sensor::text::{base_name, cut};

/// Of a mapping's protection: it may be executed.
const PROT_EXEC: u64 = 4;
/// connect(2) has begun, and goes on by itself.
const EINPROGRESS: i64 = -115;
/// What creat(2) opens with: `O_CREAT | O_WRONLY | O_TRUNC`.
const CREAT_FLAGS: u32 = 0o1101;
const DELETED: &str = " (deleted)";

/// Requests of ptrace(2) by number, and whether they change the other process.
const PTRACE: [(u64, &str, bool); 12] = [
    (0, "PTRACE_TRACEME", false),
    (1, "PTRACE_PEEKTEXT", false),
    (2, "PTRACE_PEEKDATA", false),
    (3, "PTRACE_PEEKUSER", false),
    (4, "PTRACE_POKETEXT", true),
    (5, "PTRACE_POKEDATA", true),
    (6, "PTRACE_POKEUSER", true),
    (13, "PTRACE_SETREGS", true),
    (15, "PTRACE_SETFPREGS", true),
    (16, "PTRACE_ATTACH", false),
    (0x4205, "PTRACE_SETREGSET", true),
    (0x4206, "PTRACE_SEIZE", false),
];

/// Calls that are told of as such.
const NOTABLE: [&str; 12] = [
    "memfd_create",
    "userfaultfd",
    "bpf",
    "unshare",
    "setns",
    "pivot_root",
    "chroot",
    "kexec_load",
    "kexec_file_load",
    "open_by_handle_at",
    "pidfd_getfd",
    "io_uring_setup",
];

/// The events that a group of records stands for: none, or one.
pub(crate) fn events_of(group: &Group, provider: Provider) -> Vec<Event> {
    let Some(syscall) = &group.syscall else { return Vec::new() };
    let Some(call) = name_of(syscall) else { return Vec::new() };
    // What was refused did not happen. A connection that nobody answered did.
    if syscall.success == Some(false) && call != "connect" {
        return Vec::new();
    }
    let Some(pid) = syscall.pid else { return Vec::new() };
    let meant = Meant { group, syscall, actor: process(group, syscall, pid) };
    meant.what(call).into_iter().map(|what| Event { time_ms: group.time_ms, provider, what }).collect()
}

/// By name, else by number; a program that was started can be told without either.
fn name_of(syscall: &Syscall) -> Option<&str> {
    syscall.name.as_deref().or_else(|| call_name(&syscall.arch, syscall.number?))
}

fn process(group: &Group, syscall: &Syscall, pid: u32) -> Process {
    let exe = syscall.exe.as_deref().map(|exe| exe.strip_suffix(DELETED).unwrap_or(exe));
    let parent = syscall.ppid.map(|ppid| {
        let (name, command_line) = group.parent.clone().unwrap_or_default();
        Box::new(Process { pid: ppid, name, command_line, ..Process::default() })
    });
    let name = exe.map(base_name).or(syscall.comm.as_deref());
    Process {
        pid,
        name: name.map(str::to_owned),
        command_line: group.command_line.clone().or_else(|| group.title.clone()),
        path: exe.map(|exe| cut(exe, PATH_BYTES_MAX)),
        directory: group.directory.clone(),
        user: syscall.euid.or(syscall.uid).map(|id| User { id, name: None }),
        parent,
        ..Process::default()
    }
}

/// A group whose process is known.
struct Meant<'a> {
    group: &'a Group,
    syscall: &'a Syscall,
    actor: Process,
}

impl Meant<'_> {
    fn what(self, call: &str) -> Option<What> {
        match call {
            "execve" | "execveat" => {
                let exe_deleted = self.syscall.exe.as_deref().is_some_and(|exe| exe.ends_with(DELETED));
                Some(What::Launched { process: self.actor, exe_deleted, environment: Vec::new() })
            }
            "connect" | "accept" | "accept4" | "bind" => self.socket(call),
            "dup2" | "dup3" => self.duplicated(call),
            "ptrace" => self.traced(),
            "process_vm_readv" | "process_vm_writev" => {
                let target = self.other(self.argument(0)?)?;
                let writes = call == "process_vm_writev";
                Some(What::Accessed { actor: self.actor, target, syscall: call.to_owned(), request: None, writes })
            }
            "setuid" | "setreuid" | "setresuid" => {
                let (uid, euid) = (self.syscall.uid?, self.syscall.euid?);
                Some(What::UserSet { process: self.actor, previous_uid: None, previous_euid: None, uid, euid })
            }
            "init_module" | "finit_module" => {
                let name = self.group.module.clone()?;
                Some(What::ModuleLoaded { actor: Some(self.actor), name, path: None })
            }
            "mprotect" | "pkey_mprotect" => {
                let flags = self.argument(2)?;
                (flags & PROT_EXEC != 0).then_some(What::MadeExecutable { actor: self.actor, flags })
            }
            "mount" | "move_mount" => self.mounted(call),
            call if NOTABLE.contains(&call) => Some(What::Invoked { actor: self.actor, syscall: call.to_owned() }),
            call => self.file(call),
        }
    }

    fn argument(&self, number: usize) -> Option<u64> {
        *self.syscall.arguments.get(number)?
    }

    /// The process of this number, which a call is about.
    fn other(&self, pid: u64) -> Option<Process> {
        let pid = u32::try_from(pid).ok()?;
        let name = self.group.target.as_ref().filter(|(own, _)| *own == pid).and_then(|(_, name)| name.clone());
        Some(Process { pid, name, ..Process::default() })
    }

    fn traced(self) -> Option<What> {
        let number = self.argument(0)?;
        let (request, writes) = PTRACE
            .iter()
            .find(|(own, _, _)| *own == number)
            .map_or_else(|| (number.to_string(), false), |(_, name, writes)| ((*name).to_owned(), *writes));
        let target = if number == 0 { self.actor.clone() } else { self.other(self.argument(1)?)? };
        Some(What::Accessed { actor: self.actor, target, syscall: "ptrace".to_owned(), request: Some(request), writes })
    }

    fn duplicated(self, call: &str) -> Option<What> {
        let old_fd = self.argument(0).and_then(|fd| u32::try_from(fd).ok());
        let new_fd = self.argument(1).and_then(|fd| u32::try_from(fd).ok()).filter(|fd| *fd <= 2)?;
        Some(What::Duplicated {
            actor: self.actor,
            old_fd,
            new_fd,
            fds: Vec::new(),
            local: None,
            remote: None,
            syscall: call.to_owned(),
        })
    }

    fn socket(self, call: &str) -> Option<What> {
        let (end, unix_path): (Option<Endpoint>, _) = match self.group.address.clone()? {
            Address::Inet(end) => (Some(end), None),
            Address::Unix(path) => (None, Some(path)),
        };
        if call == "bind" {
            end?;
            return Some(What::Listening { actor: Some(self.actor), protocol: Protocol::Unknown, local: end });
        }
        let failed = self.syscall.success == Some(false) && self.syscall.exit != Some(EINPROGRESS);
        Some(What::Connected {
            actor: Some(self.actor),
            protocol: Protocol::Unknown,
            local: None,
            remote: end,
            direction: if call == "connect" { Direction::Outbound } else { Direction::Inbound },
            failed,
            unix_path,
        })
    }

    fn mounted(self, call: &str) -> Option<What> {
        let paths: Vec<String> =
            self.group.paths.iter().filter(|path| path.kind == "NORMAL").map(|path| self.absolute(path)).collect();
        // mount(2) looks its target up first; move_mount(2) its source.
        let (target, source) = if call == "mount" { (0, 1) } else { (1, 0) };
        let target = paths.get(target).or_else(|| paths.first())?.clone();
        let source = paths.get(source).filter(|source| **source != target).cloned();
        let flags = if call == "mount" { self.argument(3) } else { None };
        Some(What::Mounted { actor: self.actor, target, source, kind: None, flags })
    }

    fn file(self, call: &str) -> Option<What> {
        let path_of = |kinds: &[&str]| {
            self.group.paths.iter().rfind(|path| kinds.contains(&path.kind.as_str())).map(|path| self.absolute(path))
        };
        let there = || path_of(&["NORMAL"]).or_else(|| path_of(&["UNKNOWN", ""]));
        let (path, change) = match call {
            "open" | "openat" | "openat2" | "creat" => match path_of(&["CREATE"]) {
                Some(created) => (created, Change::Created),
                None => {
                    let path = there()?;
                    let argument = match call {
                        "open" => self.argument(1),
                        "openat" => self.argument(2),
                        "creat" => Some(CREAT_FLAGS.into()),
                        // openat2(2) has them in memory, which the record does not show.
                        _ => None,
                    };
                    let flags = u32::try_from(argument? & u64::from(u32::MAX)).ok()?;
                    return Some(What::Opened { actor: Some(self.actor), path, flags });
                }
            },
            "truncate" => (there()?, Change::Modified),
            "unlink" | "unlinkat" => (path_of(&["DELETE"])?, Change::Deleted),
            "rename" | "renameat" | "renameat2" => {
                let first = self.group.paths.iter().find(|path| path.kind == "DELETE")?;
                (self.absolute(first), Change::RenamedTo(path_of(&["CREATE"])?))
            }
            "link" | "linkat" => (path_of(&["CREATE"])?, Change::Linked { symbolic: false, target: there()? }),
            "symlink" | "symlinkat" => {
                let target = self.group.paths.iter().find(|path| path.kind == "UNKNOWN" || path.kind == "NORMAL");
                let target = target.map(|path| path.name.clone()).unwrap_or_default();
                (path_of(&["CREATE"])?, Change::Linked { symbolic: true, target })
            }
            "chmod" | "fchmod" => (there()?, Change::Mode(octal(self.argument(1)?))),
            "fchmodat" | "fchmodat2" => (there()?, Change::Mode(octal(self.argument(2)?))),
            _ => return None,
        };
        Some(What::Changed { actor: Some(self.actor), path, change })
    }

    fn absolute(&self, path: &PathName) -> String {
        let name = &path.name;
        let whole = match self.group.directory.as_deref() {
            Some(directory) if !name.starts_with('/') => {
                format!("{}/{}", directory.trim_end_matches('/'), name.trim_start_matches("./"))
            }
            _ => name.clone(),
        };
        cut(&whole, PATH_BYTES_MAX)
    }
}

fn octal(mode: u64) -> String {
    format!("{:04o}", mode & 0o7777)
}
