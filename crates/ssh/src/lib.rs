//! SSH keys of machines and people as values: host keys that a machine publishes, proofs that it holds them, and the rule
//! by which a set of host keys may take the place of another.
//!
//! The crate is pure: text and bytes in, values out. The formats are OpenSSH's (`PROTOCOL`, `PROTOCOL.sshsig`, RFC 4253,
//! RFC 5656, RFC 8332); signatures are checked with aws-lc-rs.
#![forbid(unsafe_code)]

mod certificate;
mod change;
pub mod der;
mod host_keys;
mod imported;
mod known_hosts;
mod proof;
mod public_key;

pub use certificate::{
    AUTHORITY_SEED_BYTES, CERTIFICATE_BYTES_MAX, CERTIFICATE_LIFE_SECONDS, CERTIFICATE_SKEW_SECONDS, CertificateError,
    HostAuthority, HostClaims, PRINCIPALS_MAX, cert_authority_line, certified_key,
};
pub use change::{Current, FRESH_BOOT_SECONDS, Offer, PendingReason, Policy, PolicyError, Verdict, decide, is_served};
pub use host_keys::{HostKeySet, HostKeysError, KEYS_MAX, LINES_MAX};
pub use imported::{IMPORT_BYTES_MAX, ImportError, ImportedKey};
pub use known_hosts::{known_hosts_line, sshfp_records};
pub use proof::{NAMESPACE, PROOF_BYTES_MAX, PROOFS_MAX, ProofError, proof_message, verify_proof};
pub use public_key::{COMMENT_BYTES_MAX, KeyError, KeyKind, LINE_BYTES_MAX, PublicKey, RSA_BITS_MAX, RSA_BITS_MIN};
