//! What a region and its hosts say to each other, as values: the token that lets a host join, and the messages of
//! `/host/v1/…`, JSON over TLS that both sides show certificates for.
//!
//! | path | a host asks | and is told |
//! |---|---|---|
//! | [`JOIN`] | [`Join`], the one call without a certificate | [`Joined`] |
//! | [`RENEW`] | `{}` | [`Renewed`] |
//! | [`MACHINES`] | [`Machines`], answered once something differs from what it knows | [`MachinesChanged`] |
//! | [`CREDENTIALS`] | [`Credentials`] | [`CredentialsGiven`] |
//! | [`DOCUMENT`] | [`Document`] | [`DocumentSigned`] |
//!
//! A refusal is a status from 400 on and a [`Refused`].
#![forbid(unsafe_code)]

mod message;
mod text;
mod token;

pub use message::{
    Credentials, CredentialsGiven, Document, DocumentSigned, Generation, GivenCredential, GivenMachine, Interface,
    Join, Joined, KeyPair, MachineRecord, Machines, MachinesChanged, MetadataOptions, RefusalCode, Refused, Renewed,
};
pub use token::{JoinToken, JoinTokenError};

/// A host joins.
pub const JOIN: &str = "/host/v1/join";
/// A host wants its next certificate.
pub const RENEW: &str = "/host/v1/renew";
/// A host wants to know of changes to its machines.
pub const MACHINES: &str = "/host/v1/machines";
/// A host wants credentials of its machines.
pub const CREDENTIALS: &str = "/host/v1/credentials";
/// A host wants the identity document of a machine, signed.
pub const DOCUMENT: &str = "/host/v1/document";

/// Bytes of a request: a host says of each machine that it knows some sixty.
pub const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Bytes of an answer: [`RECORDS_MAX`] machines with all the user data and tags they may have.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Machines of one host.
pub const MACHINES_MAX: usize = 2000;
/// Machines in one answer to [`Machines`]; of more the host is told when it asks again.
pub const RECORDS_MAX: usize = 64;
/// Machines in one [`Credentials`].
pub const CREDENTIALS_MAX: usize = 100;
/// How long an answer to [`Machines`] waits for a change, in seconds.
pub const WAIT_SECONDS: u64 = 25;
/// The longest name of a host, in bytes.
pub const NAME_MAX: usize = 253;
