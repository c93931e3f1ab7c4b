//! Deterministic simulation: several real region servers over one real store, with operators and machines that call them, while
//! links are cut, servers crash, the store is slow and clocks jump.
//!
//! All of it runs on one thread with a clock that is paused: seconds pass when nobody has anything to do. What happens is drawn
//! from a seed, so a seed that fails fails again. What may never happen is said in [`oracle`].
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a harness: what fails, fails the run")]

mod call;
mod clock;
mod machine;
mod operator;
mod oracle;
mod server;
mod trouble;
mod world;

pub use oracle::Summary;
pub use world::{Failure, run};
