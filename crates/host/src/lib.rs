//! What runs beside the guests: attachments, metadata listeners, credential rotation, the sealed pocket of inborn run.

mod attachment;
mod machine;
mod metadata;
mod metrics;

pub use attachment::{Host, Kind as AttachmentKind, Lost};
pub use machine::{Issuer, Machine, MachineParts, PREPARE_AHEAD_SECONDS, Wallet};
pub use metadata::MetadataLimits;
pub use metrics::Metrics;

pub mod control;
mod passing;
pub mod place;
pub mod pocket;
