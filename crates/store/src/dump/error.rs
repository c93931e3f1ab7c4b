//! Why rows could not be written to a file, or taken from one.

use crate::StoreError;

/// Why a dump could not be made or read. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// It is another kind of file.
    #[error("this is not a backup that `inborn store backup` made: name another file")]
    NotADump,
    /// A part of it is missing.
    #[error(
        "the backup ends before its end: the copy broke off, or the disk was full. Fetch it again, or take another backup"
    )]
    Cut,
    /// It is not what was written.
    #[error("the backup is damaged (its checksum is another): take another backup, or another copy of this one")]
    Damaged,
    /// What it holds makes no sense, though the checksum is right.
    #[error("the backup was not made by this program ({0}): take another one")]
    Malformed(&'static str),
    /// A later program made it.
    #[error("the backup has version {found} and this program knows versions up to {known}: use the newer program")]
    Newer {
        /// The version of the file.
        found: u32,
        /// The latest that is known.
        known: u32,
    },
    /// What arrived is not what was sent.
    #[error(
        "{0} did not arrive as it was read: nothing was changed; look at the disks and the memory of this computer"
    )]
    Differs(&'static str),
    /// The store has a row that no file takes.
    #[error("a row of {0} is longer than a backup takes")]
    TooLong(&'static str),
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system's.
    #[error("the backup cannot be read or written: {0}")]
    Io(#[from] std::io::Error),
}
