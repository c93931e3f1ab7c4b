//! What runs inside a machine: credentials and whoami.
