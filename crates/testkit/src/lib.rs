//! What tests share: a clock that is set by hand, a store that injects faults.
#![forbid(unsafe_code)]

mod clock;
mod faulty;

pub use clock::ManualClock;
pub use faulty::{Fault, FaultyStore};
