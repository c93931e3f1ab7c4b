//! What can go wrong with a pocket, in sentences that say what to do.

use std::io;

use super::egress::EgressError;
use super::{EXIT_FAILED, SocketsError};
use crate::passing::PassingError;

/// Why there is no pocket, or no command in it.
#[derive(Debug, thiserror::Error)]
pub enum PocketError {
    /// Nothing to run.
    #[error("there is no command to run: inborn run -- COMMAND [ARGUMENT…]")]
    NoCommand,
    /// No place for the pocket's files.
    #[error("cannot make a private directory: {0}; set XDG_RUNTIME_DIR or TMPDIR to a directory of your own")]
    Directory(#[source] io::Error),
    /// The child did not start.
    #[error("cannot start the process of the pocket: {0}")]
    Spawn(#[source] io::Error),
    /// The kernel did not take the mapping of user ids.
    #[error("cannot map user ids into the pocket: {0}; run as root, or use `inborn launch --export`")]
    Map(#[source] io::Error),
    /// The child said why it stopped.
    #[error("{message}")]
    Child {
        /// Its sentence.
        message: String,
        /// The exit code that belongs to it.
        exit_code: u8,
    },
    /// The child ended without a word.
    #[error("the process of the pocket was killed before it was ready")]
    Vanished,
    /// The child did not get on.
    #[error("the pocket was not ready in time; the machine may be overloaded: try again")]
    TimedOut,
    /// The child said something at the wrong time: two versions of the program are mixed.
    #[error("the process of the pocket is of another version: was the program replaced? start it again")]
    Confused,
    /// The conversation with the child broke.
    #[error("the conversation with the process of the pocket broke: {0}")]
    Passing(#[from] PassingError),
    /// The sockets are not those of a pocket.
    #[error(transparent)]
    Sockets(#[from] SocketsError),
    /// There is no way out of it.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// A path that cannot be written into a configuration.
    #[error("the path {path:?} holds characters that the AWS configuration cannot; install the program elsewhere")]
    Path {
        /// The path.
        path: std::path::PathBuf,
    },
}

impl PocketError {
    /// What `inborn run` exits with: 126 for a command that cannot be executed, 127 for one that is not there, else 125.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Child { exit_code, .. } => *exit_code,
            _ => EXIT_FAILED,
        }
    }
}
