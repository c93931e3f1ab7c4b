//! What runs beside the guests: attachments, metadata listeners, credential rotation, the sealed pocket of inborn run.

mod attachment;
mod document;
mod machine;
mod metadata;
mod metrics;
mod wallet;

pub use attachment::{Host, Kind as AttachmentKind, Looked, Lost, Reached, Unreachable};
pub use machine::{Issuer, Machine, MachineParts, SentKeys};
pub use metadata::MetadataLimits;
pub use metrics::Metrics;
pub use wallet::{BEGINS_WITHIN_SECONDS, PREPARE_AHEAD_SECONDS, Wallet};

pub mod control;
mod passing;
pub mod place;
pub mod pocket;
