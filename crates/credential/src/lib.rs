//! Credentials that are derived and never stored: mint, seal, open, cut off, and the decision who a caller is.
//!
//! A credential of a machine is a function of (epoch, instance, window, delivery, boot generation). Two issuers that
//! hold the same epoch give the same bytes, a restart changes nothing, and there is no table of sessions to lose.
//!
//! ```text
//! EpochRoot ─HKDF-SHA-256, bound to the partition─▶ K_token  K_nonce  K_id  K_secret
//!
//! claims         who, where, from when to when, how it was fetched             (64–179 bytes, see `claims`)
//! access key id  ASIA + base32(1 ‖ account ‖ 39 bits of HMAC(K_id, claims))    (20 characters)
//! secret         base64(30 bytes of HMAC(K_secret, access key id ‖ claims))    (40 characters)
//! token          base64url("inb1" ‖ epoch ‖ nonce ‖ AES-256-GCM-SIV(K_token, claims))   (132–286 characters)
//!                nonce = HMAC(K_nonce, claims), associated data = "inb1" ‖ epoch ‖ access key id
//! ```
//!
//! - [`Keyring::mint`] makes a credential, [`Keyring::open`] reads one back; both are pure.
//! - [`generation`] says which credential an instance holds at a given moment: a new one each hour, good for more than
//!   five hours whenever it is handed out.
//! - [`CutOffs`] is the short list of credentials that ended before their time.
//! - [`Authenticator`] joins all of it with `inborn-sigv4`: a signed request goes in, a [`Caller`] comes out.
//! - [`SecondSignature`] is what an SSM agent signs beside, with the [`AgentKey`] that it registered.
//! - [`Kek`] seals small secrets, epoch roots above all, for their rest on a disk.
//!
//! The crate opens no socket and reads no file and no clock: time comes in as a value. The one thing it takes from
//! outside is randomness, for new roots, new operator keys and the nonces of [`Kek`].
#![forbid(unsafe_code)]

mod authenticator;
mod base64;
mod claims;
mod cut_offs;
mod epoch;
mod kek;
mod keyring;
mod operators;
mod schedule;
mod second_signature;
mod secret;
mod session;
mod token;

pub use authenticator::{AuthFault, Authenticator, Caller, SignedHeaders};
pub use claims::{Claims, ClaimsError, Delivery, Kind};
pub use cut_offs::{CutOff, CutOffs, Scope, Verdict};
pub use epoch::{Epoch, EpochId, EpochRoot};
pub use kek::{Kek, KekError};
pub use keyring::{Credential, InvalidToken, Keyring, KeyringError, MintError, Opened};
pub use operators::{Operator, OperatorError};
pub use schedule::{Generation, LIFE_MAX_SECONDS, LIFE_SECONDS, WINDOW_SECONDS, generation};
pub use second_signature::{AgentKey, SecondSignature};
pub use secret::{SecretAccessKey, SecretError, SessionToken, SessionTokenError, generate_long_lived};

/// The crypto library refused something it only refuses when it is broken or out of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the crypto library failed")]
pub struct CryptoError;

impl From<aws_lc_rs::error::Unspecified> for CryptoError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self
    }
}
