//! Every refusal in every dialect: one table of codes and statuses, one place of texts, one place of envelopes.
//!
//! Sources: `[N]` captured from AWS by a public source, `[D]` vendor documentation, `[I]` inferred. Where a cell
//! says nothing, it is `[N]` or `[D]`.

mod dialect;
mod envelope;
mod problem;
mod signature;
#[cfg(test)]
mod signature_tests;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use dialect::{Dialect, RequestShape, STS_NAMESPACE, dialect_for};
pub use envelope::{Refusal, answer, refusal};
pub use problem::Problem;
