//! What a region remembers: the [`Store`] trait, its conformance suite and the SQLite store.
//!
//! The trait has about twenty verbs, each one atomic and durable when it has answered. Records are plain values
//! over the `identity` types; the crate knows nothing of HTTP, of who is asking, or of how secrets are sealed.
//! Credentials are never stored.
#![forbid(unsafe_code)]

mod account;
mod attachment;
mod change;
mod check;
mod command;
mod command_change;
#[cfg(feature = "conformance")]
pub mod conformance;
mod cut_off;
mod detector;
mod document;
pub mod dump;
mod epoch;
mod error;
mod feed;
mod finding;
mod host;
mod host_keys;
mod instance;
mod inventory;
mod key_pair;
mod node;
mod operator;
pub mod packed;
mod quarantine;
mod registration;
mod resealing;
mod role;
mod session;
mod sqlite;
mod store;

pub use account::Account;
pub use change::{Change, ChangeRequest, Changed, MetadataOptionsChange, TagRemoval};
pub use check::{Checked, check};
pub use command::{
    Command, CommandPlace, CommandProgress, CommandQuery, CommandRetention, CommandState, CommandStep, Invocation,
    InvocationState, SentCommand,
};
pub use command_change::{
    CommandChange, CommandOutcome, FoundInvocation, InvocationBasis, InvocationChange, InvocationCounts,
    InvocationWords,
};
pub use cut_off::{CutOff, CutOffScope, RecordedCutOff};
pub use detector::{AgentReport, Detector, DetectorChange, DetectorPart, PartChange, PartKind};
pub use document::Document;
pub use epoch::{EpochChange, EpochState, Sealed, SealedEpoch};
pub use error::{Conflict, StoreError};
pub use feed::{Beat, Entry, Fence, Heard, News, NodeId, RegionNode, Topic};
pub use finding::{Finding, FindingPlace, FindingQuery, FindingRetention};
pub use host::{Host, HostChange, HostJoin, HostState, JoinToken, accounts_from_column, accounts_to_column};
pub use host_keys::{HostKeyBasis, HostKeySet, HostKeys, HostKeysChange};
pub use instance::{Attachment, Instance, InstanceState, OwnMac, StateReason, UserData, UserDataError};
pub use inventory::{InventoryChange, InventoryKind, InventoryQuery, InventoryRecord};
pub use key_pair::{KeyPair, KeyType};
pub use node::Node;
pub use operator::{Operator, OperatorChange};
pub use packed::{PackedInstance, PackedTags, Packer};
pub use quarantine::{Quarantine, QuarantineBasis, QuarantineScope};
pub use registration::{Registration, RegistrationChange, SettingBasis};
pub use resealing::{Resealing, SealedPlace};
pub use role::Role;
pub use session::{Session, SessionEnd, SessionPlace, SessionQuery, SessionRetention};
pub use sqlite::{SqliteLoading, SqliteOptions, SqliteSnapshot, SqliteStore, Statistics};
pub use store::{
    Future, InstancePage, InstanceQuery, LaunchOutcome, LaunchRequest, Living, PURGE_MAX, SettingChange, Store,
};
