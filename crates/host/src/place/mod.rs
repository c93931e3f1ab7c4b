//! Places: where on this computer a machine is. A listener that is bound to a place hears that machine and no other.
//!
//! A place has a name (`tap0`, `/run/netns/web`) that may come to mean another thing: a device that was removed and made
//! again, a process id that was given to another process. [`Place::mark`] tells one thing from the next of its name.

mod connecting;
mod error;
mod interface;
mod listening;
mod namespace;
mod netlink;
mod text;
mod trace;
mod vsock;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use inborn_identity::MacAddress;
use serde::{Deserialize, Serialize};

pub(crate) use connecting::socket;
pub use error::PlaceError;
pub(crate) use listening::open;
pub use text::{BadPlace, INTERFACE_BYTES_MAX, InterfaceName, NamespacePath, PATH_BYTES_MAX};
pub(crate) use trace::{Holder, Traces};
pub(crate) use vsock::VsockSocket;

/// Where the metadata service is on EC2.
pub(crate) const ADDRESS_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// And over IPv6.
pub(crate) const ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// Its port.
pub(crate) const PORT: u16 = 80;
/// The port of the host where virtual machines ask over vsock.
pub const VSOCK_PORT: u32 = 80;
/// The first context id that a virtual machine can have. Source: vsock(7); 0 to 2 are hypervisor, loopback and host.
pub const VSOCK_CID_MIN: u32 = 3;

/// Where a machine is.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Place {
    /// In a network namespace that has a file.
    Namespace {
        /// The file, as in `/run/netns/web`.
        path: NamespacePath,
    },
    /// In the network namespace of a process.
    Process {
        /// Its id, as this computer counts.
        pid: u32,
    },
    /// Behind a network interface of this computer.
    Interface {
        /// As in `tap0`.
        name: InterfaceName,
    },
    /// In a virtual machine that speaks by vsock.
    Vsock {
        /// The context id that its hypervisor gave it.
        cid: u32,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace { path } => write!(f, "network namespace {path}"),
            Self::Process { pid } => write!(f, "network namespace of process {pid}"),
            Self::Interface { name } => write!(f, "network interface {name}"),
            Self::Vsock { cid } => write!(f, "vsock context {cid}"),
        }
    }
}

/// What tells the thing that a place means now from another that has, had or will have the same name: of this boot, and
/// with what the kernel does not give twice.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
#[serde(transparent)]
pub struct Mark(String);

impl Mark {
    fn new(what: fmt::Arguments<'_>) -> Self {
        Self(format!("{}/{what}", trace::boot()))
    }

    /// As it was stored.
    #[must_use]
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// One word, to be stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Place {
    /// The namespace with this file. That of a process is known by its process.
    #[must_use]
    pub fn of_namespace(path: NamespacePath) -> Self {
        namespace::place_of(&path)
    }

    /// The mark of what is there now, or nothing if there is nothing.
    ///
    /// # Errors
    /// It cannot be looked at, or is not what its name says.
    pub fn mark(&self) -> Result<Option<Mark>, PlaceError> {
        match self {
            Self::Namespace { path } => namespace::mark_of_path(path),
            Self::Process { pid } => namespace::mark_of_process(*pid),
            Self::Interface { name } => Ok(interface::index(name)?.map(|index| Mark::new(format_args!("if{index}")))),
            // A context id is nobody's thing: whoever has it is the machine.
            Self::Vsock { .. } => Ok(Some(Mark(String::from("vsock")))),
        }
    }

    /// The MAC of the interface that the machine has there, as far as this computer can see: the far end of an interface
    /// or of vsock it cannot.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub async fn own_mac(&self) -> Result<Option<MacAddress>, PlaceError> {
        namespace::own_mac(self).await
    }

    /// Whether its name never comes to mean the same machine again.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Process { .. })
    }

    /// Whether what is there can go, as far as this computer can see.
    #[must_use]
    pub const fn can_pass(&self) -> bool {
        !matches!(self, Self::Vsock { .. })
    }
}
