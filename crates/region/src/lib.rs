//! A region server: listeners, authentication, the operation table, STS and EC2, audit.
