//! The instance metadata service as a function: request, view of one instance, point in time in; response out.
//!
//! [`respond`] holds the whole service: the order of checks, session tokens, the tree, the error pages. Which instance is
//! asking is not its business: the [`View`] it is given belongs to the connection, and nothing in a request can choose
//! another. It opens no socket, reads no file and no clock; its only source of randomness is the nonce of a new token.
//!
//! The wire it speaks is EC2's. A listener owes it three things: header names in lower case, the raw request target, and
//! the socket work a [`Response`] asks for (`Content-Length`, `Date`, the hop limit, closing).
#![forbid(unsafe_code)]

mod document;
mod facts;
mod interface;
mod managed_keys;
mod page;
mod path;
mod request;
mod respond;
mod response;
mod token;
mod tree;
mod version;

pub use document::{DocumentSignatures, PreparedCredential, PreparedCredentials, identity_document};
pub use facts::{Facts, KeyPair, View, tag_key_fits_a_path};
pub use inborn_credential::Delivery;
pub use interface::Interface;
pub use managed_keys::{LiveKeys, ManagedKey, ManagedKeys};
pub use request::{Headers, Request};
pub use respond::{FORWARDED_HEADER, TOKEN_HEADER, TOKEN_PATH, TTL_HEADER, respond};
pub use response::{Class, FieldValue, Response};
pub use token::{InvalidToken, Token, TokenKey, TokenKeyError, TokenTtl};
pub use version::VERSIONS;
