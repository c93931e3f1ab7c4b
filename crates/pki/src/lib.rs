//! Certificate authorities, signatures of documents and TLS configuration: the only crate that touches CA keys, and the
//! only place where TLS is configured (provider, versions, ALPN), so that no connection is made or taken with other choices.
#![forbid(unsafe_code)]

mod authority;
mod base64;
mod certificate;
mod cms;
mod document;
mod hosts;
mod instance_connect;
mod login_keys;
mod ocsp;
mod rsa;
pub mod tls;

pub use authority::{Authority, AuthorityError, ServerNames};
pub use certificate::{CertificateSummary, SealableKey};
pub use document::{DocumentSigner, SignedDocument};
pub use hosts::{
    HOST_LIFE_SECONDS, HOST_PUBLIC_KEY_BYTES, HOST_RENEW_SECONDS, HOSTS_ENDPOINT_NAME, HostCertificate, HostKey,
    HostsAuthority,
};
pub use instance_connect::{InstanceConnectSigner, SealableSigner, Staple};
pub use login_keys::{LoginKeysError, LoginKeysRoot, LoginKeysSigner, SignerChain};
