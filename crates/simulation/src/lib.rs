//! Deterministic simulation: several real region servers over one real store, with operators and machines that call them, while
//! links are cut, messages are lost or come late, servers and hosts crash, the store is slow, disks are slow or fail, clocks jump, and
//! sometimes hours pass.
//!
//! All of it runs on one thread with a clock that is paused: seconds pass when nobody has anything to do. What goes wrong, who
//! asks for what, how long everything takes, and the ids of all there is are drawn from a seed. Keys are not: nothing depends on
//! what they are. What may never happen is said in `oracle`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a harness: what fails, fails the run")]

mod call;
mod clock;
mod disk;
mod epochs;
mod host;
mod late;
mod line;
mod lineage;
mod machine;
mod operator;
mod oracle;
mod quarantine;
mod server;
mod trouble;
mod world;

pub use disk::Disks;
pub use line::Messages;
pub use oracle::Summary;
pub use world::{Failure, Report, run};
