//! What can be seen on this kernel, by this process, and why not the rest: said plainly before anything is watched.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use tokio::io::AsyncRead;

use super::audit::source::{Kernel, Log};
use super::connector::Connector;
use super::enrich::Enrich;
use super::fanotify::Files;
use super::lines::{Format, Lines};
use super::poll::{Poller, Scope};
use super::proc::Proc;
use super::source::{Now, Source, Watch};

/// The kernel's first user namespace has a number of its own: `PROC_USER_INIT_INO` of `linux/proc_ns.h`.
const FIRST_USER_NAMESPACE: &str = "user:[4026531837]";

/// Where events come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum From {
    /// /proc, with the proc connector and fanotify where the kernel lets this process.
    Proc,
    /// The kernel's audit.
    Audit,
    /// A log of auditd.
    AuditLog(PathBuf),
    /// Lines of laurel on standard input.
    Laurel,
    /// Lines of Falco on standard input.
    Falco,
}

/// One thing that can be seen, or why it cannot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sight {
    /// What.
    pub what: String,
    /// Whether it is seen.
    pub is_seen: bool,
    /// How, or why not.
    pub how: String,
}

/// Sources that were opened, and what they see.
pub struct Sources {
    pub(crate) open: Vec<Box<dyn Source>>,
    /// For people.
    pub sights: Vec<Sight>,
}

impl core::fmt::Debug for Sources {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let names: Vec<_> = self.open.iter().map(|source| source.name()).collect();
        f.debug_struct("Sources").field("open", &names).field("sights", &self.sights).finish()
    }
}

impl Sources {
    fn see(&mut self, what: &str, how: impl Into<String>) {
        self.sights.push(Sight { what: what.to_owned(), is_seen: true, how: how.into() });
    }

    fn miss(&mut self, what: &str, why: impl Into<String>) {
        self.sights.push(Sight { what: what.to_owned(), is_seen: false, how: why.into() });
    }
}

/// Opens what `from` names. `input` is standard input. Needs a tokio runtime.
///
/// # Errors
/// What was asked for by name cannot be opened. What is only better than /proc is told as not seen.
pub fn open(from: &[From], input: Pin<Box<dyn AsyncRead + Send>>, now: &Now) -> io::Result<Sources> {
    let mut sources = Sources { open: Vec::new(), sights: Vec::new() };
    let mut input = Some(input);
    let proc = || Proc::open(Path::new("/"));
    for one in from {
        match one {
            From::Proc => open_proc(&mut sources, now),
            From::Audit => {
                let kernel = Kernel::open(Enrich::by(proc()), now.clone());
                let kernel = kernel.map_err(|error| explained("the kernel's audit", &audit_reason(&error), error))?;
                sources.open.push(Box::new(kernel));
                sources.see("audit", "the kernel's records, as far as its rules ask for them (`auditctl -l`)");
            }
            From::AuditLog(path) => {
                std::fs::File::open(path)
                    .map_err(|error| explained(&path.display().to_string(), "is auditd running?", error))?;
                sources.open.push(Box::new(Log { path: path.clone(), enrich: Enrich::by(proc()), now: now.clone() }));
                sources.see("audit", format!("records that auditd writes to {}", path.display()));
            }
            From::Laurel | From::Falco => {
                let format = if *one == From::Laurel { Format::Laurel } else { Format::Falco };
                let Some(input) = input.take() else {
                    return Err(io::Error::other("standard input can be read by one source only"));
                };
                let source = Lines { format, input };
                sources.see(source.name(), "lines of JSON on standard input");
                sources.open.push(Box::new(source));
            }
        }
    }
    Ok(sources)
}

fn open_proc(sources: &mut Sources, now: &Now) {
    let scope = scope();
    let of_whom = match scope {
        Scope::All => "of the whole computer",
        Scope::OwnUserNamespace => {
            "of this user namespace and those below it; what else /proc shows is not this machine's"
        }
    };
    sources.see("programs that start and end", format!("by looking at /proc four times a second, {of_whom}"));
    sources.see("reverse shells", "standard streams that lead to a socket, where the process may be looked into");
    sources.see(
        "connections and ports",
        "by looking at /proc/net once a second, of this network namespace; short ones are missed",
    );
    sources.see("users of processes that change", "by looking at /proc once a second");
    if scope == Scope::All {
        sources.see("kernel modules", "by looking at /proc/modules once a second");
    } else {
        sources.miss("kernel modules", "the kernel is not this machine's own");
    }
    if !rustix::process::geteuid().is_root() {
        sources.miss("what processes of other users have open", "this is not root");
    }
    let connector = if scope == Scope::All { Connector::open() } else { Err(not_first()) };
    let connector = match connector {
        Ok(connector) => {
            sources.see(
                "programs that live shorter than a look",
                "the proc connector, where the kernel tells it to this network namespace",
            );
            Some(connector)
        }
        Err(error) => {
            sources.miss(
                "programs that live shorter than a look",
                format!("no proc connector: {error}; it needs CAP_NET_ADMIN"),
            );
            None
        }
    };
    let files =
        if scope == Scope::All { Files::open(Proc::open(Path::new("/")), now.clone()) } else { Err(not_first()) };
    match files {
        Ok(files) => {
            sources.see("writes to sensitive files", format!("fanotify, {} directories", files.places));
            sources.open.push(Box::new(files));
        }
        Err(error) => {
            sources.miss("writes to sensitive files", format!("no fanotify: {error}; it needs CAP_SYS_ADMIN"))
        }
    }
    sources.miss(
        "ptrace, memory of other processes, mounts, modes of files, names looked up",
        "only audit, laurel or Falco tell of these",
    );
    let poller = Poller::new(Proc::open(Path::new("/")), scope);
    sources.open.push(Box::new(Watch { poller, connector, now: now.clone() }));
}

/// A pocket maps numbers as it likes, all to themselves too: the namespace itself tells.
fn scope() -> Scope {
    let own = std::fs::read_link("/proc/self/ns/user").unwrap_or_default();
    if own.to_str() == Some(FIRST_USER_NAMESPACE) { Scope::All } else { Scope::OwnUserNamespace }
}

fn not_first() -> io::Error {
    io::Error::other("this is not the kernel's first user namespace")
}

fn audit_reason(error: &io::Error) -> String {
    match rustix::io::Errno::from_io_error(error) {
        Some(rustix::io::Errno::PROTONOSUPPORT) => "this kernel was built without it".to_owned(),
        Some(rustix::io::Errno::PERM | rustix::io::Errno::CONNREFUSED) => {
            "it needs CAP_AUDIT_READ in the kernel's first user namespace".to_owned()
        }
        _ => "is it switched on (`auditctl -s`)?".to_owned(),
    }
}

fn explained(what: &str, why: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read {what}: {error}; {why}"))
}
