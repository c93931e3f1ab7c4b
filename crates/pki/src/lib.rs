//! Certificate authority and TLS configuration: the only crate that touches CA keys, and the only place where
//! TLS is configured (provider, versions, ALPN), so that no connection is made or taken with other choices.
#![forbid(unsafe_code)]

mod authority;
pub mod tls;

pub use authority::{Authority, AuthorityError, SealableAuthority, ServerNames};
