//! The sealed pocket of `inborn run`: a command in user, network and mount namespaces of its own.
//!
//! Inside there is nothing but the loopback interface, with four addresses on it: the metadata service (two, one for each
//! protocol), a resolver, and the endpoints of the region. Their listening sockets are made inside and served from outside, so that no packet has to
//! cross. What the command reads to find its way (resolver, trusted certificates, AWS configuration) lies in a
//! file system of the pocket's own and is bound over the machine's files, for the command alone.
//!
//! ```text
//! inborn run                              inborn __pocket (the child)
//!   Pocket::open ── spawn ───────────────▶ unshare
//!        map ids ◀──── Unshared ──────────
//!                ───── Mapped ───────────▶ loopback, addresses, sockets
//!                ◀──── Ready + sockets ───
//!   (launch the instance, serve the sockets)
//!   Pocket::go   ───── Go: files, env ───▶ mounts, death signal, exec CMD
//!                ◀──── end of stream: it runs; or Failed
//!   Running::wait
//! ```
//!
//! **Threads.** The kernel kills the command when the *thread* that spawned the child ends, so [`Pocket::open`] belongs on
//! the program's main thread: the future that `Runtime::block_on` runs in `main`, not a spawned task.

mod child;
mod directory;
pub mod dns;
pub mod egress;
mod environment;
mod error;
mod files;
mod ids;
mod message;
mod mounts;
mod network;
pub mod signals;
mod sockets;
pub mod terminal;

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use inborn_identity::{InstanceId, Region};
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::passing::Channel;
use directory::PrivateDirectory;
use egress::Egress;
use message::{FROM_CHILD_BYTES_MAX, FromChild, ToChild, WayOut};
use terminal::{Relay, Terminal};

pub use crate::passing::PassingError;
pub use child::child_main;
pub use error::PocketError;
pub use sockets::{Sockets, SocketsError};

/// The metadata service.
pub const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The metadata service over IPv6: it answers while the machine's `HttpProtocolIpv6` is enabled.
pub const METADATA_ADDRESS_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// The resolver, at the address where EC2 has its own.
pub const RESOLVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
/// The endpoints of the region.
pub const ENDPOINTS_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 252);

/// The first argument by which the program knows that it is the child: `inborn __pocket FD CMD…`.
pub const CHILD_ARGUMENT: &str = "__pocket";

/// The exit code for failures that are ours and not the command's.
pub const EXIT_FAILED: u8 = 125;
/// The exit code when the command is there but cannot be executed.
pub const EXIT_NOT_EXECUTABLE: u8 = 126;
/// The exit code when there is no such command.
pub const EXIT_NOT_FOUND: u8 = 127;

/// How long each step of the child may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the command is told about the machine that it is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Becomes `INSTANCE_ID`.
    pub instance: InstanceId,
    /// Becomes the region of the AWS configuration, `AWS_REGION` and `AWS_DEFAULT_REGION`.
    pub region: Region,
    /// All certificates to trust, PEM: the system's and the region's own.
    pub ca_bundle: String,
    /// The absolute path of the program whose `credentials` the AWS configuration calls.
    pub executable: PathBuf,
    /// Directories that look empty to the command, such as the one that holds the operator's keys. One that does not
    /// exist is passed over.
    pub hidden: Vec<PathBuf>,
}

/// What the command can reach beside its metadata and its region.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Network {
    /// Nothing.
    #[default]
    None,
    /// What this computer reaches, but not this computer ([`egress`]).
    HostEgress,
}

/// A pocket that is ready, and a child in it that waits.
#[derive(Debug)]
pub struct Pocket {
    child: Child,
    channel: Channel,
    directory: PrivateDirectory,
    has_terminal: bool,
    egress: Option<Egress>,
}

/// A command that runs in its pocket.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Removed when this is dropped.
    _directory: PrivateDirectory,
}

impl Pocket {
    /// Makes a pocket for `command` (program and arguments), by starting `executable` (this very program) as the child.
    /// It inherits the environment, less what would lead an AWS client elsewhere. Its streams are those of this process, or
    /// the inner side of `terminal`. If this is dropped, the child ends.
    ///
    /// Call it on the main thread, in a runtime with I/O and time enabled.
    ///
    /// # Errors
    /// See [`PocketError`]; each says what to do.
    pub async fn open(
        executable: &Path,
        command: &[OsString],
        network: Network,
        terminal: Option<&Terminal>,
    ) -> Result<(Self, Sockets), PocketError> {
        if command.is_empty() {
            return Err(PocketError::NoCommand);
        }
        let way_out = match network {
            Network::None => None,
            Network::HostEgress => {
                egress::check()?;
                Some(WayOut { ipv6: egress::has_ipv6() })
            }
        };
        let directory = PrivateDirectory::create().map_err(PocketError::Directory)?;
        let (child, channel) = spawn(executable, command, terminal).map_err(PocketError::Spawn)?;
        let mut pocket = Self { child, channel, directory, has_terminal: terminal.is_some(), egress: None };
        match pocket.next().await? {
            (FromChild::Unshared { user_namespace: true }, _) => {
                let pid = pocket.child.id().ok_or(PocketError::Vanished)?;
                ids::map(pid).map_err(PocketError::Map)?;
            }
            (FromChild::Unshared { user_namespace: false }, _) => {}
            _ => return Err(PocketError::Confused),
        }
        pocket.tell(&ToChild::Mapped { way_out }).await?;
        let (FromChild::Ready, mut descriptors) = pocket.next().await? else { return Err(PocketError::Confused) };
        if way_out.is_some() {
            let tap = descriptors.pop().ok_or(PocketError::Confused)?;
            pocket.egress = Some(Egress::start(tap).await?);
        }
        Ok((pocket, Sockets::from_descriptors(descriptors)?))
    }

    /// The way out, which is open as long as it lives.
    #[must_use]
    pub fn take_egress(&mut self) -> Option<Egress> {
        self.egress.take()
    }

    /// Lets the command run. Returns when it has taken the child's place.
    ///
    /// # Errors
    /// See [`PocketError`]; [`PocketError::exit_code`] tells a command that cannot be executed (126) or found (127).
    pub async fn go(mut self, plan: &Plan) -> Result<Running, PocketError> {
        let go = files::prepare(plan, self.directory.path(), self.has_terminal)?;
        self.tell(&ToChild::Go(go)).await?;
        match tokio::time::timeout(STEP_TIMEOUT, self.channel.receive::<FromChild>(FROM_CHILD_BYTES_MAX)).await {
            Err(_) => Err(PocketError::TimedOut),
            // The socket closes on exec. A child that was killed instead is told by its exit status.
            Ok(Ok(None)) => Ok(Running { child: self.child, _directory: self.directory }),
            Ok(Ok(Some((FromChild::Failed { message, exit_code }, _)))) => {
                Err(PocketError::Child { message, exit_code })
            }
            Ok(Ok(Some(_))) => Err(PocketError::Confused),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    async fn tell(&mut self, message: &ToChild) -> Result<(), PocketError> {
        let sending = self.channel.send(message, &[]);
        Ok(tokio::time::timeout(STEP_TIMEOUT, sending).await.map_err(|_| PocketError::TimedOut)??)
    }

    /// The child's next message, unless it is a failure.
    async fn next(&mut self) -> Result<(FromChild, Vec<std::os::fd::OwnedFd>), PocketError> {
        let receiving = self.channel.receive(FROM_CHILD_BYTES_MAX);
        let received = tokio::time::timeout(STEP_TIMEOUT, receiving).await.map_err(|_| PocketError::TimedOut)??;
        match received {
            None => Err(PocketError::Vanished),
            Some((FromChild::Failed { message, exit_code }, _)) => Err(PocketError::Child { message, exit_code }),
            Some(message) => Ok(message),
        }
    }
}

impl Running {
    /// The process id of the command.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the command to end, and meanwhile passes it the signals that are meant for it. `relay` is its terminal, if
    /// it has one of its own.
    ///
    /// # Errors
    /// When waiting fails, which a living parent does not see.
    pub async fn wait(&mut self, signals: &mut signals::Signals, relay: Option<&Relay>) -> std::io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = self.child.wait() => return status,
                signal = signals.next() => match (signal, relay) {
                    // The inner terminal tells its processes of a new size itself.
                    (signals::Signal::WINCH | signals::Signal::CONT, Some(relay)) => relay.refresh(),
                    (signal, _) => self.send(signal),
                },
            }
        }
    }

    /// Sends the command a signal. One that has ended is not an error.
    pub fn send(&self, signal: signals::Signal) {
        // The id is known only as long as nobody has waited for the process, so it cannot be another's.
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// Starts the child with one end of a socket pair.
fn spawn(executable: &Path, command: &[OsString], terminal: Option<&Terminal>) -> std::io::Result<(Child, Channel)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    // For the child alone: this end is closed here as soon as the child has it. A program that starts others at this very
    // moment would hand it on to them, so a command line does this before it starts anything else.
    fcntl_setfd(theirs.as_fd(), FdFlags::empty())?;
    let mut child = Command::new(executable);
    if let Some(terminal) = terminal {
        let [input, output, errors] = terminal.streams()?;
        child.stdin(input).stdout(output).stderr(errors);
    }
    let child = child
        .arg(CHILD_ARGUMENT)
        .arg(theirs.as_raw_fd().to_string())
        .args(command)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| environment::is_kept(name)))
        .kill_on_drop(true)
        .spawn()?;
    drop(theirs);
    Ok((child, Channel::new(UnixStream::from_std(ours)?)))
}
