//! Certificate authority and TLS configuration: the only crate that touches CA keys.
