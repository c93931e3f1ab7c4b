//! The commands about SSH: host keys in, decided about, and out to clients; logins.

pub(crate) mod arguments;
mod cache;
mod config;
mod host_keys;
mod known_hosts;
mod login;
mod names;
mod tunnel;

pub(crate) use config::ssh_config;
pub(crate) use host_keys::host_keys;
pub(crate) use known_hosts::known_hosts;
pub(crate) use login::{scp, ssh};
pub(crate) use tunnel::open_tunnel;
