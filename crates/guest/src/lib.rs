//! What runs inside a machine: a client of the metadata service, `inborn credentials`, `inborn whoami`
//! `inborn host-keys push`, `inborn authorized-keys` and `inborn sensor`.
//!
//! Nothing here knows Inborn: it asks what any guest may ask and works on EC2 as well. The command line passes the
//! variables and the time in, and prints what comes out.
#![forbid(unsafe_code)]

pub mod authorized_keys;
pub mod credentials;
pub mod credentials_server;
pub mod host_keys;
pub mod http;
pub mod metadata;
mod secret;
pub mod sensor;
mod settings;
mod signed;
pub mod whoami;

pub use credentials::{Credentials, CredentialsError, credentials};
pub use metadata::{MetadataClient, MetadataError};
pub use secret::Secret;
pub use settings::{Settings, SettingsError};
pub use signed::sign_request;
pub use whoami::{Identity, WhoamiError, whoami};
