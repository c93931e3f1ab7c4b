//! A host's side of the talk with its region (docs/hosts.md): what to ask next, what to keep of the answers, and how to come
//! back after an outage without being one of ten thousand that come at once.
//!
//! [`Agent`] is a pure state machine: moments, answers and dice go in, questions and events come out. [`Talk`] is its rim: it
//! sends the questions over TLS ([`Client`]; [`Lanes`] is all of that which does not know over what). [`seal`] and [`open`] are
//! what rests on disk between two starts.
#![forbid(unsafe_code)]

mod agent;
mod ask;
mod backoff;
mod cache;
mod client;
mod facts;
mod keeping;
mod lanes;
mod mirror;
mod talk;
#[cfg(test)]
mod testing;

pub use agent::{Agent, Event, Now, SERVE_ALONE_SECONDS};
pub use ask::{Answer, Ask, Failure, Lane, decode};
pub use backoff::{Dice, SystemDice, WINDOW_SECONDS_MAX};
pub use cache::{CACHE_BYTES_MAX, CacheError, Snapshot, open, seal};
pub use client::{ADDRESSES_MAX, Address, AddressError, Client};
pub use facts::{document_of, facts_of, options_of};
pub use keeping::{KEEP_ROUND, Keeping};
pub use lanes::Lanes;
pub use mirror::{Known, Mirror};
pub use talk::{Ended, Talk};
