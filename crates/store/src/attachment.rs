//! How attachments are written by every store.

use crate::{Attachment, OwnMac};

const LOOPBACK_PORT: &str = "loopback-port";
const NAMESPACE: &str = "network-namespace";
const PROCESS: &str = "process";
const INTERFACE: &str = "network-interface";
const VSOCK: &str = "vsock";
const FOUND: &str = "found";
const TOLD: &str = "told";

impl Attachment {
    /// Its kind, and what tells it from others of that kind.
    #[must_use]
    pub fn to_columns(&self) -> (&'static str, String) {
        // What has a mark is two lines: no name of a place holds a line end.
        let marked = |name: &str, mark: Option<&String>| match mark {
            Some(mark) => format!("{name}\n{mark}"),
            None => name.to_owned(),
        };
        match self {
            Self::LoopbackPort(port) => (LOOPBACK_PORT, port.to_string()),
            Self::Namespace { path, mark } => (NAMESPACE, marked(path, mark.as_ref())),
            Self::Process { pid, mark } => (PROCESS, marked(&pid.to_string(), Some(mark))),
            Self::Interface { name, mark } => (INTERFACE, marked(name, mark.as_ref())),
            Self::Vsock(cid) => (VSOCK, cid.to_string()),
        }
    }

    /// From what [`Attachment::to_columns`] gave; `None`: it gives no such thing.
    #[must_use]
    pub fn from_columns(kind: &str, value: &str) -> Option<Self> {
        let (name, mark) = match value.split_once('\n') {
            Some((name, mark)) => (name.to_owned(), Some(mark.to_owned())),
            None => (value.to_owned(), None),
        };
        Some(match (kind, mark) {
            (LOOPBACK_PORT, None) => Self::LoopbackPort(name.parse().ok()?),
            (NAMESPACE, mark) => Self::Namespace { path: name, mark },
            (PROCESS, Some(mark)) => Self::Process { pid: name.parse().ok()?, mark },
            (INTERFACE, mark) => Self::Interface { name, mark },
            (VSOCK, None) => Self::Vsock(name.parse().ok()?),
            _ => return None,
        })
    }
}

impl OwnMac {
    /// How the host knows it, and the address.
    #[must_use]
    pub fn to_column(self) -> String {
        let word = match self {
            Self::Found(_) => FOUND,
            Self::Told(_) => TOLD,
        };
        format!("{word} {}", self.address())
    }

    /// From what [`OwnMac::to_column`] gave; `None`: it gives no such thing.
    #[must_use]
    pub fn from_column(text: &str) -> Option<Self> {
        match text.split_once(' ')? {
            (FOUND, address) => Some(Self::Found(address.parse().ok()?)),
            (TOLD, address) => Some(Self::Told(address.parse().ok()?)),
            _ => None,
        }
    }
}
