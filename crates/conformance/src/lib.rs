//! Nothing to use: the tests of this crate hold `inborn-sigv4` against the signature suite that AWS publishes and against
//! another verifier. They are a crate of their own for what they depend on.
#![forbid(unsafe_code)]
