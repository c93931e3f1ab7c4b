//! The commands about SSH: host keys in, decided about, and out to clients.

pub(crate) mod arguments;
mod cache;
mod config;
mod host_keys;
mod known_hosts;
mod names;

pub(crate) use config::ssh_config;
pub(crate) use host_keys::host_keys;
pub(crate) use known_hosts::known_hosts;
