#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod authorization;
mod bytes;
mod canonical;
mod fault;
mod fields;
mod hex;
mod hmac;
mod key;
mod path;
mod presented;
mod presigned;
mod query;
mod request;
mod scratch;
pub mod sign;
mod signed;

pub use authorization::Scope;
pub use fault::{DateMismatch, Fault, FaultClass, Limit, Missing, ScopeFault};
pub use key::{SigningKey, sha256};
pub use presented::{Form, Presented};
pub use request::{Endpoint, Expires, Header, PathMode, Request};
pub use scratch::Scratch;

/// The one algorithm that is verified.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The last element of every scope.
pub const TERMINATOR: &str = "aws4_request";

/// The longest that a request signed in its query may be good for, in seconds: a week.
pub const EXPIRES_MAX: u64 = 604_800;

/// Longest path, in bytes as on the wire. The longest that clients send is an S3 key: 1024 bytes, all of them escaped.
pub const PATH_MAX: usize = 8 * 1024;
/// Longest query, in bytes as on the wire.
pub const QUERY_MAX: usize = 32 * 1024;
/// Most `name=value` pairs in a query.
pub const QUERY_PAIRS_MAX: usize = 1024;
/// Most header fields.
pub const HEADERS_MAX: usize = 128;
/// Most bytes in the names and values of all header fields together.
pub const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// Longest `Authorization` header field, in bytes, and longest of the parameters that stand for its parts in a query.
/// SDKs send 250 to 700.
pub const AUTHORIZATION_MAX: usize = 4096;
/// Most names in the list of signed headers. SDKs send 3 to 15.
pub const SIGNED_HEADERS_MAX: usize = 64;
/// Longest session token, in bytes. AWS advises to expect 4096; ours have at most 300.
pub const TOKEN_MAX: usize = 4096;
