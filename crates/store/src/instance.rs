//! An instance: what is remembered of a machine that was launched.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use inborn_identity::{AccountId, HostId, InstanceId, MacAddress, MetadataOptions, UnixTime, Zone};

/// Where an instance is in its life. The passing states of EC2 (`pending`, `stopping`, …) take no time here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum InstanceState {
    /// It runs, and its metadata endpoint answers.
    Running,
    /// It is stopped, and may be started again.
    Stopped,
    /// It is gone. Nothing leads out of this state.
    Terminated,
}

impl InstanceState {
    /// `running`, `stopped` or `terminated`, as EC2 writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Terminated => "terminated",
        }
    }

    /// The code EC2 gives beside the name. Source: EC2 API reference, `InstanceState`.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Running => 16,
            Self::Stopped => 80,
            Self::Terminated => 48,
        }
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for InstanceState {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Running, Self::Stopped, Self::Terminated].into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// Why an instance is in its state, as `DescribeInstances` tells it. Source: EC2 API reference, `StateReason`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StateReason {
    /// As in `Client.UserInitiatedShutdown`.
    pub code: String,
    /// As in `Client.UserInitiatedShutdown: User initiated shutdown`.
    pub message: String,
}

/// How the host that runs an instance knows that it is the one asking. No two instances of a host share one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Attachment {
    /// Whatever connects to this port of 127.0.0.1 is the instance.
    LoopbackPort(u16),
    /// Whatever asks inside the network namespace with this file is the instance.
    Namespace {
        /// The file's absolute path. It holds no line end.
        path: String,
        /// The host's word for the one namespace that is meant, if not every one that has this path is.
        mark: Option<String>,
    },
    /// Whatever asks inside the network namespace of this process is the instance.
    Process {
        /// Its id.
        pid: u32,
        /// The host's word for the one process that is meant: ids are given again.
        mark: String,
    },
    /// Whatever arrives by this network interface is the instance.
    Interface {
        /// Its name. It holds no line end.
        name: String,
        /// The host's word for the one interface that is meant, if not every one that has this name is.
        mark: Option<String>,
    },
    /// The virtual machine with this vsock context id is the instance.
    Vsock(u32),
}

/// The MAC address of an instance's own network interface, and how its host knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OwnMac {
    /// The host has looked where the instance is: good for what was there then.
    Found(MacAddress),
    /// Whoever attached the instance said it.
    Told(MacAddress),
}

impl OwnMac {
    /// The address.
    #[must_use]
    pub const fn address(self) -> MacAddress {
        match self {
            Self::Found(address) | Self::Told(address) => address,
        }
    }
}

/// User data that is too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("user data is at most {max} bytes", max = UserData::BYTES_MAX)]
pub struct UserDataError;

/// What the launcher hands to the instance. People put secrets there, so `Debug` shows only its length.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserData(Vec<u8>);

impl UserData {
    /// The longest user data, in bytes after base64 is taken off. Source: EC2 user guide, "Run commands at launch".
    pub const BYTES_MAX: usize = 16 * 1024;

    /// From raw bytes.
    ///
    /// # Errors
    /// More than [`UserData::BYTES_MAX`] of them.
    pub fn new(bytes: Vec<u8>) -> Result<Self, UserDataError> {
        if bytes.len() <= Self::BYTES_MAX { Ok(Self(bytes)) } else { Err(UserDataError) }
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for UserData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserData({} bytes)", self.0.len())
    }
}

/// A machine that was launched. Its region is the store's own and is not repeated in each record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// Its id, for ever its own.
    pub id: InstanceId,
    /// Whose it is.
    pub account: AccountId,
    /// The zone it is in.
    pub zone: Zone,
    /// As in `ami-0123456789abcdef0`.
    pub image_id: String,
    /// As in `t3.micro`.
    pub instance_type: String,
    /// Its address on the inside.
    pub private_address: Ipv4Addr,
    /// Its IPv6 address, if it was launched to have one.
    pub ipv6_address: Option<Ipv6Addr>,
    /// The placement group it was launched into.
    pub placement_group: Option<String>,
    /// Its partition of that group.
    pub placement_partition: Option<u32>,
    /// Where it is in its life.
    pub state: InstanceState,
    /// When it was launched or last started: EC2 moves it at each start.
    pub launch_time: UnixTime,
    /// When it last booted. No credential of it was issued before that with the present generation.
    pub boot_time: UnixTime,
    /// Starts at what the launcher says, grows by one at each stop, start and reboot.
    pub boot_generation: u32,
    /// When it was terminated; set exactly when the state is [`InstanceState::Terminated`].
    pub terminated_at: Option<UnixTime>,
    /// Why it is not running.
    pub state_reason: Option<StateReason>,
    /// How its metadata service behaves.
    pub metadata_options: MetadataOptions,
    /// The name of the key pair it was launched with.
    pub key_name: Option<String>,
    /// The public half of that key pair at launch, a line in the form of `authorized_keys`: what becomes of the key pair
    /// later does not change the machine.
    pub public_key: Option<String>,
    /// What its launcher hands to it.
    pub user_data: Option<UserData>,
    /// Its place among the instances launched together, from 0.
    pub ami_launch_index: u32,
    /// As in `r-0123456789abcdef0`: the same for all that were launched together.
    pub reservation_id: String,
    /// The client token of the launch, if it had one.
    pub client_token: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Whether its life is that of a command, and it is to be terminated when the command is gone.
    pub lease: bool,
    /// The host it was placed on; `None`: the one in the region's own process.
    pub host: Option<HostId>,
    /// How its host knows it.
    pub attachment: Option<Attachment>,
    /// Its own interface, where the attachment says which that is. None is attached to nothing and has one.
    pub mac: Option<OwnMac>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_below_at_and_above_the_limit() {
        for (length, fits) in [(0, true), (16_383, true), (16_384, true), (16_385, false)] {
            assert_eq!(UserData::new(vec![7; length]).is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn user_data_is_not_shown() {
        let data = UserData::new(b"password=hunter2".to_vec()).unwrap();
        assert_eq!(format!("{data:?}"), "UserData(16 bytes)");
    }

    #[test]
    fn states_round_trip() {
        for (state, text, code) in [
            (InstanceState::Running, "running", 16),
            (InstanceState::Stopped, "stopped", 80),
            (InstanceState::Terminated, "terminated", 48),
        ] {
            assert_eq!((state.to_string().as_str(), state.code()), (text, code));
            assert_eq!(text.parse(), Ok(state));
        }
        assert_eq!("Running".parse::<InstanceState>(), Err(()));
    }
}
