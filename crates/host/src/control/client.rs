//! The side of the other commands.

use std::io;
use std::path::{Path, PathBuf};

use inborn_identity::{InstanceId, MacAddress};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::message::{Answer, Attachment, HostStatus, PocketRequest, Request};
use super::{ANSWER_BYTES_MAX, ANSWER_TIMEOUT, SOCKET_NAME, open_directory, path_in};
use crate::passing::{Channel, PassingError};
use crate::place::Place;
use crate::pocket::Sockets;

/// Why a running `inborn up` did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// None is running.
    #[error("no `inborn up` or `inborn host` is running on {}: start one, or name its data directory with --data", directory.display())]
    NotRunning {
        /// The data directory that was looked at.
        directory: PathBuf,
    },
    /// It belongs to somebody else.
    #[error("the `inborn up` on {} belongs to another user: run this as that user", directory.display())]
    NotYours {
        /// The data directory.
        directory: PathBuf,
    },
    /// The socket cannot be reached.
    #[error("cannot reach the `inborn up` on {}: {source}", directory.display())]
    Io {
        /// The data directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The conversation broke.
    #[error("the conversation with `inborn up` broke: {0}")]
    Passing(#[from] PassingError),
    /// It went away.
    #[error("`inborn up` ended the conversation: was it stopped?")]
    Ended,
    /// It is too slow.
    #[error("`inborn up` did not answer in {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut,
    /// It says no, and why.
    #[error("{reason}")]
    Refused {
        /// Its sentence.
        reason: String,
    },
    /// It answers something else.
    #[error("`inborn up` gave an answer that does not fit: is it of another version?")]
    Unexpected,
}

/// Speaks with the `inborn up` of a data directory; each call is a connection.
#[derive(Clone, Debug)]
pub struct ControlClient {
    directory: PathBuf,
}

/// A machine that lives as long as this: the connection to the server.
#[derive(Debug)]
pub struct PocketLease {
    channel: Channel,
}

impl PocketLease {
    /// Returns when the server has gone, and the machine with it.
    pub async fn lost(&mut self) {
        self.channel.closed().await;
    }
}

impl ControlClient {
    /// For the data directory `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Whether a server is listening.
    pub async fn is_running(&self) -> bool {
        self.connect().await.is_ok()
    }

    /// Has a launched instance answered at this port of 127.0.0.1, or any; returns the port.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn attach_loopback(&self, instance: InstanceId, port: Option<u16>) -> Result<u16, ControlError> {
        match self.ask(&Request::AttachLoopback { instance, port }).await? {
            Answer::Loopback { port } => Ok(port),
            other => Err(unexpected(other)),
        }
    }

    /// Has a launched instance answered at the place where it is; with `once`, until what is there now has gone. Its own
    /// interface is looked for there, unless it is told.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn attach(
        &self,
        instance: InstanceId,
        place: Place,
        once: bool,
        mac: Option<MacAddress>,
    ) -> Result<(), ControlError> {
        match self.ask(&Request::Attach { instance, place, once, mac }).await? {
            Answer::Attached => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Hands the sockets of a pocket over. The instance is terminated when the lease is dropped.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn attach_pocket(&self, pocket: PocketRequest, sockets: &Sockets) -> Result<PocketLease, ControlError> {
        let mut channel = self.connect().await?;
        channel.send(&Request::AttachPocket(pocket), &sockets.descriptors()).await?;
        match receive(&mut channel).await? {
            Answer::Attached => Ok(PocketLease { channel }),
            other => Err(unexpected(other)),
        }
    }

    /// All machines that are attached.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn attachments(&self) -> Result<Vec<Attachment>, ControlError> {
        match self.ask(&Request::Attachments {}).await? {
            Answer::Attachments { attachments } => Ok(attachments),
            other => Err(unexpected(other)),
        }
    }

    /// What a host apart from its region knows of it.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn status(&self) -> Result<HostStatus, ControlError> {
        match self.ask(&Request::Status {}).await? {
            Answer::Status(status) => Ok(status),
            other => Err(unexpected(other)),
        }
    }

    /// Has the host stop answering for a machine.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn detach(&self, instance: InstanceId) -> Result<(), ControlError> {
        match self.ask(&Request::Detach { instance }).await? {
            Answer::Detached => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Answer, ControlError> {
        let mut channel = self.connect().await?;
        channel.send(request, &[]).await?;
        receive(&mut channel).await
    }

    async fn connect(&self) -> Result<Channel, ControlError> {
        let directory = || self.directory.clone();
        let explain = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ControlError::NotRunning { directory: directory() }
            }
            io::ErrorKind::PermissionDenied => ControlError::NotYours { directory: directory() },
            _ => ControlError::Io { directory: directory(), source },
        };
        let opened = open_directory(&self.directory).map_err(explain)?;
        let stream = UnixStream::connect(path_in(&opened, SOCKET_NAME)).await.map_err(explain)?;
        // Whoever could put a socket here could otherwise be handed the sockets of a pocket.
        let server = stream.peer_cred().map_err(explain)?.uid();
        if server != rustix::process::geteuid().as_raw() && server != 0 && !rustix::process::geteuid().is_root() {
            return Err(ControlError::NotYours { directory: directory() });
        }
        Ok(Channel::new(stream))
    }
}

async fn receive(channel: &mut Channel) -> Result<Answer, ControlError> {
    let received = timeout(ANSWER_TIMEOUT, channel.receive(ANSWER_BYTES_MAX)).await;
    match received.map_err(|_| ControlError::TimedOut)?? {
        Some((answer, _)) => Ok(answer),
        None => Err(ControlError::Ended),
    }
}

fn unexpected(answer: Answer) -> ControlError {
    match answer {
        Answer::Refused { reason } => ControlError::Refused { reason },
        _ => ControlError::Unexpected,
    }
}
