//! Deterministic simulation: several real region servers over one real store, with operators and machines that call them, while
//! links are cut, servers crash, the store is slow and clocks jump.
//!
//! All of it runs on one thread with a clock that is paused: seconds pass when nobody has anything to do. What goes wrong, who
//! asks for what, and how long everything takes is drawn from a seed. Ids and keys are not (they are the servers' own, and
//! secret): of two changes that wait for each other another one may come first, so a seed that fails is run several times.
//! What may never happen is said in `oracle`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a harness: what fails, fails the run")]

mod call;
mod clock;
mod host;
mod machine;
mod operator;
mod oracle;
mod server;
mod trouble;
mod world;

pub use oracle::Summary;
pub use world::{Failure, Report, run};
