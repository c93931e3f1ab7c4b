//! The commands about SSH: host keys in, decided about, and out to clients; logins; keys for logins, for sshd.

pub(crate) mod arguments;
mod authorized_keys;
mod cache;
mod config;
mod host_keys;
mod installed;
mod known_hosts;
mod login;
mod names;
mod sshd;
mod tunnel;

pub(crate) use authorized_keys::authorized_keys;
pub(crate) use config::ssh_config;
pub(crate) use host_keys::host_keys;
pub(crate) use known_hosts::known_hosts;
pub(crate) use login::{scp, ssh};
pub(crate) use tunnel::open_tunnel;
