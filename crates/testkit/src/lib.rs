//! What tests share: a clock that is set by hand, a store that injects faults, a link to it that loses and delays.
#![forbid(unsafe_code)]

mod clock;
mod faulty;
mod late;
mod link;

pub use clock::ManualClock;
pub use faulty::{Fault, FaultyStore};
pub use late::LateChanges;
pub use link::{Fate, Link, Passage};
