//! What parent and child say to each other.

use serde::{Deserialize, Serialize};

/// Bytes of a message from the child: a sentence at most.
pub(super) const FROM_CHILD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a message to the child: two bundles of certificates and room to grow.
pub(super) const TO_CHILD_BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Serialize, Deserialize, Debug)]
pub(super) enum FromChild {
    /// It is in namespaces of its own, and waits for its user ids if one of them is a user namespace.
    Unshared { user_namespace: bool },
    /// The network is up; the sockets are beside this, and behind them the device of the way out.
    Ready,
    /// It stops.
    Failed { message: String, exit_code: u8 },
}

#[derive(Serialize, Deserialize, Debug)]
pub(super) enum ToChild {
    /// The user ids are mapped; now the network.
    Mapped {
        way_out: Option<WayOut>,
    },
    Go(Go),
}

/// How the pocket gets a network.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WayOut {
    /// Whether it leads to the IPv6 world too.
    pub(super) ipv6: bool,
}

/// All that is left to do before the command runs.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq)]
pub(super) struct Go {
    /// The process that must still be the parent when the death signal is set.
    pub(super) parent: u32,
    /// An empty directory, where the pocket's file system is mounted.
    pub(super) directory: String,
    pub(super) files: Vec<File>,
    /// Sockets of the machine that would answer in place of the pocket's resolver.
    pub(super) hidden_files: Vec<String>,
    pub(super) hidden_directories: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    /// Whether the streams are a terminal of the command's own.
    pub(super) terminal: bool,
}

/// A file of the pocket.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) contents: String,
    /// Files of the machine that it is bound over, those of them that exist.
    pub(super) over: Vec<String>,
    /// Whether one of them must exist.
    pub(super) essential: bool,
}
