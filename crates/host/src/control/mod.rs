//! The control socket of a running `inborn up`: how the other commands of the same user attach machines to it.
//!
//! A Unix stream socket `control.sock` in the data directory, for its owner and root alone. A connection carries one
//! request and one answer, each a line of JSON. The connection of `attach_pocket` stays open afterwards: it is the
//! machine's lease, and when it ends, however it ends, the machine does.
//!
//! ```text
//! {"verb":"attach_loopback","instance":"i-…"}               ▶ {"answer":"loopback","port":40123}
//! {"verb":"attach","instance":"i-…","place":{"kind":"interface","name":"tap0"},"once":false}
//!   (and "mac":"02:…", if it is known)                      ▶ {"answer":"attached"}
//! {"verb":"attach_pocket","instance":"i-…","region":"us-east-1","domain":"amazonaws.com"} + 5 or 6 sockets
//!                                                           ▶ {"answer":"attached"}   … until one side closes
//! {"verb":"attachments"}                                    ▶ {"answer":"attachments","attachments":[…]}
//! {"verb":"detach","instance":"i-…"}                        ▶ {"answer":"detached"}
//! {"verb":"status"}                                         ▶ {"answer":"status","is_connected":true,"heard_at":…,"machines":[…]}
//!   (of a host apart from its region)
//! anything else                                             ▶ {"answer":"refused","reason":"…"} and the connection closes
//! ```

mod client;
mod message;
mod server;
pub(crate) mod text;

use std::path::Path;
use std::time::Duration;

pub use crate::passing::PassingError;
pub use client::{ControlClient, ControlError, PocketLease};
pub use message::{Attachment, HostStatus, PlacedMachine, PocketRequest};
pub use server::{BoxFuture, ControlSocket, Handler, Lease, Refusal};

/// The name of the socket in the data directory.
pub const SOCKET_NAME: &str = "control.sock";
/// Bytes of a request with its line end.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024;
/// Bytes of an answer with its line end: room for some ten thousand attachments, or two thousand machines with the longest names.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Connections at a time; each pocket holds one for its life. Further ones are refused.
pub const CONNECTIONS_MAX: usize = 1024;
/// How long a client may take to send its request, and the server to have its answer taken.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client waits for an answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The path of a file in an open directory: short, however long the directory's own path is (a socket's address holds 107
/// bytes), and the same directory even if that path has come to mean another.
fn path_in(directory: &std::fs::File, name: &str) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())
}

fn open_directory(path: &Path) -> std::io::Result<std::fs::File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty()).map(std::fs::File::from)?)
}

#[cfg(test)]
mod tests;
