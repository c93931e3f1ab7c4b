//! What an event means. Rules in Sigma, and rules of our own for what Sigma cannot say, turn events into findings. A rule
//! that cannot be read is named with its file and line, and stops nothing.
//!
//! The crate is pure: no sockets, no files, no clocks.
#![forbid(unsafe_code)]

pub mod away;
mod category;
mod describe;
mod event;
pub mod finding;
mod own;
mod rules;
pub mod sigma;
mod threats;

pub use category::{Category, Product};
pub use describe::{describe, ready_made};
pub use event::Event;
pub use finding::{Finding, FindingKey, FindingType, Recorded, Severity};
pub use own::own_rules;
pub use rules::{Place, RuleError, RuleFacts, RuleFile, Rules};
pub use threats::{AddressList, LISTS_NAMED_MAX, NamedList, is_trusted, threatened};
