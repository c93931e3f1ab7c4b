//! `inborn sensor`: what this machine sees of itself, told to its region.
//!
//! ```text
//! sources ──▶ outlet (bounded) ──▶ batch ──▶ courier ──▶ post ──▶ guardduty-data.REGION.DOMAIN
//!   /proc, proc connector,                      │
//!   fanotify, audit, laurel, falco              └─▶ spool, while the region is away
//! ```
//!
//! In memory are the queue ([`QUEUE_BYTES_MAX`]), [`MEMORY_BATCHES_MAX`] batches and one on its way ([`BATCH_BYTES_MAX`] each), and what
//! sources remember: all has a bound, together well below 64 MB.

pub mod audit;
mod batch;
mod connector;
mod courier;
mod enrich;
mod event;
mod falco;
mod fanotify;
mod laurel;
mod lines;
mod ocsf;
mod outlet;
mod poll;
mod post;
mod proc;
mod run;
mod sight;
mod sockets;
mod source;
mod spool;
mod text;

pub use batch::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX};
pub use courier::{FAULTS_MAX, MEMORY_BATCHES_MAX, Report};
pub use outlet::{Counts, EVENT_BYTES_MAX, QUEUE_BYTES_MAX, QUEUE_EVENTS_MAX};
pub use post::PostError;
pub use run::{Options, SensorError, print, run};
pub use sight::{From, Sight, Sources, open};
pub use source::Now;
pub use spool::{SPOOL_BYTES_MAX, SPOOL_FILES_MAX, SpoolError};
