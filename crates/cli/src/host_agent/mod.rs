//! `inborn host`: this computer as a host apart from its region. Here the parts meet: what it asks (`inborn-host-agent`), what
//! it serves (`inborn-host`), and what it keeps in its data directory.

mod attachments;
mod cache;
mod control;
mod eviction;
mod identity;
mod issuer;
mod join;
mod operations;
mod serve;
mod status;

pub(crate) use cache::{KeptCache, look as look_at_cache};
pub(crate) use identity::HostIdentity;
pub(crate) use join::{JOIN_HELP, Join, join};
pub(crate) use serve::{Serve, serve};
pub(crate) use status::{Status, find, status};

/// What a join exits with whose token is not good: another one is needed.
pub(crate) const EXIT_TOKEN_REFUSED: u8 = 3;
/// What a host exits with that its region has cut off.
pub(crate) const EXIT_EVICTED: u8 = 4;
