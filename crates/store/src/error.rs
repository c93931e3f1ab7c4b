//! Why a store could not do what it was asked, and what to do next.

use inborn_identity::{HostId, InstanceId};

use crate::{InstanceState, QuarantineScope};

/// The store is well, but what it holds does not allow the change. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// The instance is in a state from which this change is not possible.
    #[error("instance {instance} is {state}, which does not allow {change}")]
    WrongState {
        /// The first instance that stood in the way.
        instance: InstanceId,
        /// The state it is in.
        state: InstanceState,
        /// The change, in a word: `start`, `reboot`, …
        change: &'static str,
    },
    /// There is such a record already, and records of this kind are never replaced.
    #[error("there is already {0} with this key: use another key, or read the one that is there")]
    Exists(&'static str),
    /// The account has another operator of this name, in whatever case it is written.
    #[error("the account has an operator {0} already: choose another name")]
    OperatorName(String),
    /// What the record belongs to is not there, or no longer.
    #[error("there is not {0} of this id: it may have been deleted")]
    Absent(&'static str),
    /// What is restored or copied goes into an empty store.
    #[error("the store is not empty (it has rows in {0}): name another one, which is new or empty")]
    NotEmpty(&'static str),
    /// The attachment belongs to another instance.
    #[error("the attachment is another instance's: choose another port or place")]
    AttachmentTaken,
    /// The setting no longer has the value that the writer expected.
    #[error("setting {0} was changed by somebody else: read it and decide again")]
    SettingChanged(String),
    /// The epoch is no longer as the writer expected.
    #[error("epoch {0} was changed by somebody else: read it and decide again")]
    EpochChanged(u32),
    /// A secret is no longer the one that was to be sealed anew.
    #[error("a secret was changed by somebody else: stop all servers and begin again")]
    SecretChanged,
    /// The detector, or what is set up at it, is no longer as the writer decided by.
    #[error("detector {0} was changed by somebody else: read it and decide again")]
    DetectorChanged(String),
    /// The quarantine is no longer as the writer decided by, or what it was to cut off is cut off as late already.
    #[error("the quarantine of {0} was changed by somebody else: look at it, and try again")]
    QuarantineChanged(QuarantineScope),
    /// The record of host keys is no longer the one that the writer decided by.
    #[error("the host keys of {0} were changed by somebody else: read them and decide again")]
    HostKeysChanged(InstanceId),
    /// The agent's key is no longer the one that the writer expected.
    #[error("the key of the agent on {0} was changed by somebody else: read it and decide again")]
    KeyChanged(InstanceId),
    /// The inventory of this type is not the one whose hash was given.
    #[error("the inventory of type {0} has another hash: give its content too")]
    ContentAbsent(String),
    /// The token is none, was used, or has ended.
    #[error("the join token is not good (any more): make another with `inborn host token`")]
    JoinTokenRefused,
    /// The host takes no machine of this account now.
    #[error("host {0} takes no machines of this account: see `inborn hosts`")]
    HostRefused(HostId),
    /// A machine has as much inventory as it may.
    #[error("the inventory of {0} has too many types or bytes: give less of it")]
    InventoryFull(InstanceId),
}

/// Why a store could not do what it was asked.
///
/// After [`StoreError::Io`] and [`StoreError::Closed`] a write may or may not have taken effect (a launch with a
/// client token can be repeated safely). After every other error it has not.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No room for the write. Reads, and writes that need no more room, still work.
    #[error("the disk is full or the store has reached its size limit: free some space and try again")]
    Full,
    /// Another program has the store locked.
    #[error("another program keeps the store locked: end its transaction, or try again")]
    Busy,
    /// The database does not answer. Nothing was changed.
    #[error("the database is not available ({0}): see that it runs and can be reached, or try again")]
    Unavailable(String),
    /// The database says that it takes no writes now. Nothing was changed.
    #[error("the database takes no writes ({0})")]
    ReadOnly(String),
    /// The database is not set up as a store needs it.
    #[error("the database is not fit for a store: {0}")]
    Unfit(String),
    /// What the store holds does not allow the change.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// There are no such instances in the account; all that are missing, in the order asked.
    #[error("no such instances in this account: {0:?}")]
    NotFound(Vec<InstanceId>),
    /// The request itself makes no sense to a store, whatever it holds: a mistake in the calling program.
    #[error("the store cannot take this: {0}")]
    Invalid(&'static str),
    /// What was read is not what was written. The store takes no more writes.
    #[error("the store is damaged ({0}): stop, keep a copy of the files, and restore the last backup")]
    Corrupt(String),
    /// The store was written by a later version of this program.
    #[error(
        "the store has schema version {found} and this program knows versions up to {known}: use the newer program, \
         or restore a backup from before it was upgraded"
    )]
    Newer {
        /// The version in the file.
        found: u32,
        /// The highest version this program knows.
        known: u32,
    },
    /// The file is a database, but not one of ours.
    #[error("{0} is a database of another program: name another path")]
    Foreign(String),
    /// A restore or copy into it has not come to its end.
    #[error("a restore into this store did not come to its end: begin it again; nothing may open the store before")]
    HalfRestored,
    /// Something else was put into the database while it was open.
    #[error(
        "the database is no longer the one that was opened: something was restored into it meanwhile. Nothing was written; start \
         this server again"
    )]
    Replaced,
    /// The store has to be brought to the version of this program first.
    #[error(
        "the store has schema version {found} and this program works with {known}: `inborn store migrate` first, or use the \
         program that wrote it"
    )]
    Older {
        /// The version it has.
        found: u32,
        /// The version this program works with.
        known: u32,
    },
    /// There is no such store.
    #[error("there is no store {0}: name another one")]
    Absent(String),
    /// Another process, or another part of this one, has the store open.
    #[error(
        "{0} is in use: another `inborn up` or `inborn region` runs on this data; stop it, or name another data directory"
    )]
    InUse(String),
    /// The medium, the file system or its permissions failed.
    #[error(
        "the store cannot be read or written ({0}): check the disk and the permissions, or the database, then try again"
    )]
    Io(String),
    /// The store was closed, or its thread ended.
    #[error("the store is closed: start the program again")]
    Closed,
}

impl StoreError {
    /// Whether the same request may succeed a little later without anybody doing anything about it.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable(_) | Self::ReadOnly(_))
    }
}
