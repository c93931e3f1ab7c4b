//! The service as its clients see it: requests and answers as values, no sockets.
#![cfg(test)]

mod crawl;
mod documents;
mod lab;
mod managed_keys;
mod no_panic;
mod refusals;
mod tokens;
mod tree;
