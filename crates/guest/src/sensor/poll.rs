//! What can be seen by looking at /proc again and again, which needs no privilege at all: programs that started and ended, users
//! that changed, sockets that became standard streams, connections, ports, kernel modules. What lives shorter than the time
//! between two looks is not seen, unless the proc connector tells of it in time.

use std::collections::{HashMap, HashSet};

use super::event::{Direction, Endpoint, Event, Process, Provider, What};
use super::proc::{Found, Proc, Stat};
use super::sockets::{Socket, State, TABLE_BYTES_MAX, TABLES, inode_of, parse};
use super::text::base_name;

/// Processes that are known at a time; further ones are not watched until some have ended.
pub(crate) const PROCESSES_MAX: usize = 32_768;
/// Descriptors that one look for the owners of new sockets goes through.
const DESCRIPTORS_MAX: usize = 65_536;
/// Events of one look. What is over is counted as lost.
pub(crate) const EVENTS_MAX: usize = 4096;
/// Bytes of /proc/modules.
const MODULES_BYTES_MAX: u64 = 1024 * 1024;
/// How often a process that could not be looked into is looked at again, before it is taken to be of the computer around this machine:
/// one may be unreadable for a moment, between a fork and the program that it starts, or while it has another's rights.
pub(crate) const FOREIGN_LOOKS_MAX: u8 = 20;
/// Programs whose standard streams are looked at each time, not only now and then.
const SHELLS: [&str; 10] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "busybox", "csh"];

/// How much is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Depth {
    /// Programs, and the streams of shells.
    Quick,
    /// All there is.
    Full,
}

/// Which processes are of this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// All: the sensor runs in the kernel's first user namespace.
    All,
    /// Those of the own user namespace and of those below it: the kernel shows the namespaces of no others. What else is in
    /// /proc belongs to the computer around this machine.
    OwnUserNamespace,
}

/// A process that was seen.
struct Known {
    start_ticks: u64,
    /// Nothing is told of those that are not of this machine.
    is_foreign: bool,
    /// How often one that is foreign is still looked at.
    looks_left: u8,
    name: String,
    exe: Option<String>,
    stack: u64,
    ids: Option<(u32, u32)>,
    /// The sockets that its standard streams lead to, as far as they were judged.
    streams: Vec<u64>,
}

impl Known {
    /// Whether the process has started another program since.
    fn runs_another(&self, stat: &Stat, exe: Option<&str>) -> bool {
        self.exe.as_deref() != exe || self.stack != stat.stack || (exe.is_none() && self.name != stat.name)
    }

    fn is_shell(&self) -> bool {
        let program = self.exe.as_deref().map_or(self.name.as_str(), base_name);
        SHELLS.contains(&program)
    }
}

/// Looks at /proc, and remembers what it saw.
pub(crate) struct Poller {
    proc: Proc,
    scope: Scope,
    known: HashMap<u32, Known>,
    sockets: HashMap<u64, Socket>,
    /// The sockets that were told of, and those whose owner was not found yet.
    told: HashSet<u64>,
    unowned: HashSet<u64>,
    modules: HashSet<String>,
    /// The sensor says nothing of itself: what it sends would be news again.
    own_pid: u32,
    /// Nothing is news when it was there before.
    is_first: bool,
    lost: u64,
}

/// When a look is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moment {
    pub(crate) now_ms: i64,
    /// When the computer was started.
    pub(crate) boot_ms: i64,
}

impl Poller {
    pub(crate) fn new(proc: Proc, scope: Scope) -> Self {
        Self {
            proc,
            scope,
            known: HashMap::new(),
            sockets: HashMap::new(),
            told: HashSet::new(),
            unowned: HashSet::new(),
            modules: HashSet::new(),
            own_pid: std::process::id(),
            is_first: true,
            lost: 0,
        }
    }

    /// Events that one look had too many of, since the last time this was asked.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// What is new since the last look.
    pub(crate) fn look(&mut self, depth: Depth, at: Moment) -> Vec<Event> {
        let mut seen = Vec::new();
        let pids = self.proc.pids();
        self.forget_ended(&pids, at, &mut seen);
        if depth == Depth::Full {
            self.proc.read_users();
            self.look_at_sockets(&pids, at, &mut seen);
        }
        for pid in pids {
            self.look_at_process(pid, depth, Provider::Proc, at, &mut seen);
        }
        if depth == Depth::Full {
            self.look_at_modules(at, &mut seen);
            self.is_first = false;
        }
        let over = seen.len().saturating_sub(EVENTS_MAX);
        self.lost += u64::try_from(over).unwrap_or(u64::MAX);
        seen.truncate(EVENTS_MAX);
        seen
    }

    /// Somebody has heard that this process has just started a program.
    pub(crate) fn hint(&mut self, pid: u32, at: Moment) -> Vec<Event> {
        let mut seen = Vec::new();
        self.look_at_process(pid, Depth::Full, Provider::ProcConnector, at, &mut seen);
        seen
    }

    /// Somebody has heard that this process has ended, and how.
    pub(crate) fn ended(&mut self, pid: u32, exit_code: i32, at: Moment) -> Option<Event> {
        let known = self.known.remove(&pid).filter(|known| !known.is_foreign)?;
        Some(event(
            Provider::ProcConnector,
            at,
            What::Ended { process: self.brief(pid, known), exit_code: Some(exit_code) },
        ))
    }

    fn forget_ended(&mut self, pids: &[u32], at: Moment, seen: &mut Vec<Event>) {
        let ended: Vec<u32> = self.known.keys().filter(|pid| pids.binary_search(pid).is_err()).copied().collect();
        for pid in ended {
            if let Some(known) = self.known.remove(&pid).filter(|known| !known.is_foreign) {
                let process = self.brief(pid, known);
                seen.push(event(Provider::Proc, at, What::Ended { process, exit_code: None }));
            }
        }
    }

    /// What is still known of a process that is no more.
    fn brief(&self, pid: u32, known: Known) -> Process {
        Process {
            pid,
            uid: Some(self.proc.unique(pid, known.start_ticks)),
            name: Some(known.exe.as_deref().map_or_else(|| known.name.clone(), |exe| base_name(exe).to_owned())),
            path: known.exe,
            user: known.ids.map(|(_, effective)| self.proc.user(effective)),
            ..Process::default()
        }
    }

    fn look_at_process(&mut self, pid: u32, depth: Depth, by: Provider, at: Moment, seen: &mut Vec<Event>) {
        let Some(stat) = self.proc.stat(pid) else { return };
        if self.is_foreign_still(pid, &stat) {
            return;
        }
        let before = self.known.get(&pid).filter(|known| known.start_ticks == stat.start_ticks);
        if before.is_none() && self.known.len() >= PROCESSES_MAX && !self.known.contains_key(&pid) {
            self.lost += 1;
            return;
        }
        let exe = self.proc.link(pid, "exe");
        let is_new = before.is_none_or(|known| known.runs_another(&stat, exe.as_deref()));
        if is_new {
            self.meet(pid, stat, exe, by, at, seen);
        } else if depth == Depth::Full {
            self.compare_users(pid, &stat, at, seen);
        }
        let looks_at_streams = is_new || depth == Depth::Full || self.known.get(&pid).is_some_and(Known::is_shell);
        if looks_at_streams {
            self.look_at_streams(pid, by, at, seen);
        }
    }

    /// Whether a process is known not to be of this machine. One that can be looked into by now is not known any more: it is met
    /// anew.
    fn is_foreign_still(&mut self, pid: u32, stat: &Stat) -> bool {
        let is_same = |known: &&mut Known| known.start_ticks == stat.start_ticks && known.is_foreign;
        let Some(known) = self.known.get_mut(&pid).filter(is_same) else { return false };
        if pid == self.own_pid {
            return true;
        }
        if known.name != stat.name {
            // It runs another program.
            (known.name, known.looks_left) = (stat.name.clone(), FOREIGN_LOOKS_MAX);
        }
        let Some(left) = known.looks_left.checked_sub(1) else { return true };
        known.looks_left = left;
        if self.is_outside(pid) {
            return true;
        }
        self.known.remove(&pid);
        false
    }

    /// Whether a process cannot be looked into, as those of others cannot.
    fn is_outside(&self, pid: u32) -> bool {
        self.scope == Scope::OwnUserNamespace && self.proc.link(pid, "ns/user").is_none()
    }

    /// A process, or a program in one, that was not there before.
    fn meet(&mut self, pid: u32, stat: Stat, exe: Option<String>, by: Provider, at: Moment, seen: &mut Vec<Event>) {
        let is_foreign = pid == self.own_pid || self.is_outside(pid);
        // A thread of the kernel runs no program.
        let is_kernels = exe.is_none() && self.proc.command_line(pid).is_none();
        if !(is_foreign || is_kernels || self.is_first || self.is_fork(pid, &stat, exe.as_deref())) {
            let Found { process, exe_deleted } = self.proc.process(pid, &stat, at.boot_ms);
            let environment = self.proc.environment(pid);
            let what = What::Launched { process, exe_deleted, environment };
            seen.push(event(by, at, what));
        }
        let ids = if is_foreign { None } else { self.proc.ids(pid) };
        let known = Known {
            start_ticks: stat.start_ticks,
            is_foreign,
            looks_left: FOREIGN_LOOKS_MAX,
            name: stat.name,
            exe,
            stack: stat.stack,
            ids,
            streams: Vec::new(),
        };
        self.known.insert(pid, known);
    }

    /// Whether a process that was not there before is its parent once more, and has started no program.
    fn is_fork(&self, pid: u32, stat: &Stat, exe: Option<&str>) -> bool {
        let is_known = self.known.get(&pid).is_some_and(|known| known.start_ticks == stat.start_ticks);
        if is_known || exe.is_none() || self.proc.link(stat.parent, "exe").as_deref() != exe {
            return false;
        }
        let Some(parent) = self.proc.stat(stat.parent) else { return false };
        if stat.stack != 0 {
            return parent.stack == stat.stack;
        }
        self.proc.command_line(pid) == self.proc.command_line(stat.parent)
    }

    fn compare_users(&mut self, pid: u32, stat: &Stat, at: Moment, seen: &mut Vec<Event>) {
        let Some(ids) = self.proc.ids(pid) else { return };
        let Some(known) = self.known.get_mut(&pid) else { return };
        let Some(before) = known.ids.replace(ids).filter(|before| *before != ids) else { return };
        let Found { process, .. } = self.proc.process(pid, stat, at.boot_ms);
        let (previous_uid, previous_euid) = (Some(before.0), Some(before.1));
        let what = What::UserSet { process, previous_uid, previous_euid, uid: ids.0, euid: ids.1 };
        seen.push(event(Provider::Proc, at, what));
    }

    /// Whether 0, 1 or 2 lead to another computer.
    fn look_at_streams(&mut self, pid: u32, by: Provider, at: Moment, seen: &mut Vec<Event>) {
        if self.known.get(&pid).is_none_or(|known| known.is_foreign) {
            return;
        }
        let streams: Vec<(u32, u64)> =
            (0..3).filter_map(|fd| Some((fd, inode_of(&self.proc.link(pid, &format!("fd/{fd}"))?)?))).collect();
        let Some(known) = self.known.get_mut(&pid) else { return };
        let mut fresh: Vec<u64> =
            streams.iter().map(|(_, inode)| *inode).filter(|inode| !known.streams.contains(inode)).collect();
        fresh.dedup();
        known.streams = streams.iter().map(|(_, inode)| *inode).collect();
        for inode in fresh {
            let Some(socket) = self.socket_of(pid, inode).filter(|socket| socket.state == State::Connected) else {
                continue;
            };
            let Some(stat) = self.proc.stat(pid) else { return };
            let fds: Vec<u32> = streams.iter().filter(|(_, of)| *of == inode).map(|(fd, _)| *fd).collect();
            let what = What::Duplicated {
                actor: self.proc.process(pid, &stat, at.boot_ms).process,
                old_fd: None,
                new_fd: fds.first().copied().unwrap_or_default(),
                fds,
                local: Some(socket.local),
                remote: Some(socket.remote),
                syscall: "dup2".to_owned(),
            };
            seen.push(event(by, at, what));
        }
    }

    /// The socket of an inode, in the network namespace of the process that has it.
    fn socket_of(&self, pid: u32, inode: u64) -> Option<Socket> {
        if let Some(socket) = self.sockets.get(&inode) {
            return Some(*socket);
        }
        let mut sockets = HashMap::new();
        for (table, protocol) in TABLES {
            if let Some(bytes) = super::proc::read(&self.proc.path(pid, table), TABLE_BYTES_MAX) {
                parse(&bytes, protocol, &mut sockets);
            }
            if let Some(socket) = sockets.get(&inode) {
                return Some(*socket);
            }
        }
        None
    }

    /// Connections and ports of the own network namespace that were not there before, and whose they are.
    fn look_at_sockets(&mut self, pids: &[u32], at: Moment, seen: &mut Vec<Event>) {
        let mut sockets = HashMap::new();
        for (table, protocol) in TABLES {
            if let Some(bytes) = self.proc.file(table, TABLE_BYTES_MAX) {
                parse(&bytes, protocol, &mut sockets);
            }
        }
        let before = std::mem::replace(&mut self.sockets, sockets);
        self.told.retain(|inode| self.sockets.contains_key(inode));
        let fresh: HashSet<u64> = self.sockets.keys().filter(|inode| !self.told.contains(inode)).copied().collect();
        if self.is_first {
            self.told = fresh;
            return;
        }
        if fresh.is_empty() {
            return;
        }
        let ports: HashSet<Endpoint> = self.ports(&before);
        let owners = self.owners(pids, &fresh);
        let unowned = std::mem::take(&mut self.unowned);
        let mut fresh: Vec<u64> = fresh.into_iter().collect();
        fresh.sort_unstable();
        for inode in fresh {
            let Some(socket) = self.sockets.get(&inode).copied() else { continue };
            let owner = owners.get(&inode).copied();
            if owner.is_none() && !unowned.contains(&inode) {
                // Closed in this very moment, or of somebody who cannot be looked into: the next look tells.
                self.unowned.insert(inode);
                continue;
            }
            self.told.insert(inode);
            if owner == Some(self.own_pid) || (owner.is_none() && self.scope == Scope::OwnUserNamespace) {
                // Of no process of this machine: served from outside, as the metadata service of a pocket is.
                continue;
            }
            let actor = owner.and_then(|pid| Some(self.proc.process(pid, &self.proc.stat(pid)?, at.boot_ms).process));
            let what = match socket.state {
                State::Listening => What::Listening { actor, protocol: socket.protocol, local: Some(socket.local) },
                State::Connected => What::Connected {
                    actor,
                    protocol: socket.protocol,
                    local: Some(socket.local),
                    remote: Some(socket.remote),
                    direction: if ports.iter().any(|port| is_at(*port, socket.local)) {
                        Direction::Inbound
                    } else {
                        Direction::Outbound
                    },
                    failed: false,
                    unix_path: None,
                },
            };
            seen.push(event(Provider::Proc, at, what));
        }
    }

    /// Where something listens or has listened a moment ago: a connection at such a port came in.
    fn ports(&self, before: &HashMap<u64, Socket>) -> HashSet<Endpoint> {
        let all = self.sockets.values().chain(before.values());
        all.filter(|socket| socket.state == State::Listening).map(|socket| socket.local).collect()
    }

    /// Which process has each of these sockets; of several, the one with the lowest number.
    fn owners(&self, pids: &[u32], inodes: &HashSet<u64>) -> HashMap<u64, u32> {
        let mut owners = HashMap::new();
        let mut budget = DESCRIPTORS_MAX;
        for pid in pids {
            if *pid != self.own_pid && self.known.get(pid).is_some_and(|known| known.is_foreign) {
                continue;
            }
            let Ok(entries) = std::fs::read_dir(self.proc.path(*pid, "fd")) else { continue };
            for entry in entries.flatten() {
                budget = budget.saturating_sub(1);
                if budget == 0 || owners.len() == inodes.len() {
                    return owners;
                }
                let Ok(target) = std::fs::read_link(entry.path()) else { continue };
                if let Some(inode) = target.to_str().and_then(inode_of).filter(|inode| inodes.contains(inode)) {
                    owners.entry(inode).or_insert(*pid);
                }
            }
        }
        owners
    }

    /// The kernel's modules are of the computer, and this machine's only if it has the kernel.
    fn look_at_modules(&mut self, at: Moment, seen: &mut Vec<Event>) {
        if self.scope != Scope::All {
            return;
        }
        let Some(bytes) = self.proc.file("modules", MODULES_BYTES_MAX) else { return };
        let text = String::from_utf8_lossy(&bytes);
        let modules: HashSet<String> = text
            .lines()
            .filter_map(|line| line.split(' ').next())
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        if !self.is_first {
            let mut fresh: Vec<&String> = modules.difference(&self.modules).collect();
            fresh.sort_unstable();
            for name in fresh {
                let what = What::ModuleLoaded { actor: None, name: name.clone(), path: None };
                seen.push(event(Provider::Proc, at, what));
            }
        }
        self.modules = modules;
    }
}

/// Whether a connection with this local end came to that port.
fn is_at(port: Endpoint, local: Endpoint) -> bool {
    port.port == local.port && (port.ip == local.ip || port.ip.is_unspecified())
}

fn event(provider: Provider, at: Moment, what: What) -> Event {
    Event { time_ms: at.now_ms, provider, what }
}

#[cfg(test)]
mod tests;
