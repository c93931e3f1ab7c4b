//! What was seen, before it is written as OCSF.

use std::net::IpAddr;

/// How something was seen: `metadata.log_provider`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Provider {
    Proc,
    ProcConnector,
    Fanotify,
    Audit,
    Laurel,
    Falco,
}

impl Provider {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Proc => "proc",
            Self::ProcConnector => "proc_connector",
            Self::Fanotify => "fanotify",
            Self::Audit => "audit",
            Self::Laurel => "laurel",
            Self::Falco => "falco",
        }
    }
}

/// A user, with the name if it is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct User {
    pub(crate) id: u32,
    pub(crate) name: Option<String>,
}

/// A process, as far as it is known. The texts are cut already.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Of this very process, not of the number.
    pub(crate) uid: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) command_line: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) created_ms: Option<i64>,
    pub(crate) directory: Option<String>,
    pub(crate) user: Option<User>,
    pub(crate) parent: Option<Box<Process>>,
}

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Endpoint {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
}

/// What carries a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Unknown,
}

/// Who began a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

/// What became of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Created,
    Modified,
    Deleted,
    RenamedTo(String),
    /// Another mode, in octal.
    Mode(String),
    /// A new name for a file: a hard link or a symbolic one, and what it leads to.
    Linked {
        symbolic: bool,
        target: String,
    },
}

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Launched {
        process: Process,
        exe_deleted: bool,
        environment: Vec<(String, String)>,
    },
    Ended {
        process: Process,
        exit_code: Option<i32>,
    },
    /// One process traces, reads or writes another.
    Accessed {
        actor: Process,
        target: Process,
        syscall: String,
        request: Option<String>,
        writes: bool,
    },
    UserSet {
        process: Process,
        previous_uid: Option<u32>,
        previous_euid: Option<u32>,
        uid: u32,
        euid: u32,
    },
    Opened {
        actor: Option<Process>,
        path: String,
        flags: u32,
    },
    Changed {
        actor: Option<Process>,
        path: String,
        change: Change,
    },
    Mounted {
        actor: Process,
        target: String,
        source: Option<String>,
        kind: Option<String>,
        flags: Option<u64>,
    },
    ModuleLoaded {
        actor: Option<Process>,
        name: String,
        path: Option<String>,
    },
    Duplicated {
        actor: Process,
        old_fd: Option<u32>,
        new_fd: u32,
        fds: Vec<u32>,
        local: Option<Endpoint>,
        remote: Option<Endpoint>,
        syscall: String,
    },
    Invoked {
        actor: Process,
        syscall: String,
    },
    MadeExecutable {
        actor: Process,
        flags: u64,
    },
    Connected {
        actor: Option<Process>,
        protocol: Protocol,
        local: Option<Endpoint>,
        remote: Option<Endpoint>,
        direction: Direction,
        failed: bool,
        unix_path: Option<String>,
    },
    Listening {
        actor: Option<Process>,
        protocol: Protocol,
        local: Option<Endpoint>,
    },
    LookedUp {
        actor: Option<Process>,
        name: String,
        kind: Option<String>,
        answers: Vec<String>,
        is_answer: bool,
    },
    Alerted {
        rule: String,
        text: String,
        severity: u8,
        tags: Vec<String>,
        actor: Option<Process>,
    },
}

/// One event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    pub(crate) time_ms: i64,
    pub(crate) provider: Provider,
    pub(crate) what: What,
}
