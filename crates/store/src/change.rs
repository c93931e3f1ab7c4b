//! What can be done to instances, and the states that allow it: a pure function from one record to the next.

use std::collections::BTreeMap;

use inborn_identity::{AccountId, HttpEndpoint, HttpTokens, InstanceId, MetadataOptions, UnixTime};

use crate::{Attachment, Conflict, CutOff, Instance, InstanceState, OwnMac, StateReason, StoreError, UserData};

/// The metadata options to change; what is `None` stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MetadataOptionsChange {
    /// `HttpTokens`.
    pub http_tokens: Option<HttpTokens>,
    /// `HttpEndpoint`.
    pub http_endpoint: Option<HttpEndpoint>,
    /// `HttpPutResponseHopLimit`, checked by [`MetadataOptions::check_hop_limit`].
    pub hop_limit: Option<u8>,
    /// `HttpProtocolIpv6`.
    pub ipv6: Option<bool>,
    /// `InstanceMetadataTags`.
    pub tags: Option<bool>,
}

impl MetadataOptionsChange {
    /// `options` with what is to change changed.
    #[must_use]
    pub fn apply(self, options: MetadataOptions) -> MetadataOptions {
        MetadataOptions {
            http_tokens: self.http_tokens.unwrap_or(options.http_tokens),
            http_endpoint: self.http_endpoint.unwrap_or(options.http_endpoint),
            hop_limit: self.hop_limit.unwrap_or(options.hop_limit),
            ipv6: self.ipv6.unwrap_or(options.ipv6),
            tags: self.tags.unwrap_or(options.tags),
        }
    }
}

/// A tag to take away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TagRemoval {
    /// Its key.
    pub key: String,
    /// Take it away only if it has this value; `None`: whatever its value. Source: EC2 API reference, `DeleteTags`.
    pub value: Option<String>,
}

/// What to do to instances.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Change {
    /// Stop what runs; leaves stopped ones as they are.
    Stop {
        /// When.
        at: UnixTime,
        /// Why.
        reason: Option<StateReason>,
        /// Whether what was issued to earlier boots ends with it, in the same transaction.
        cut_off: bool,
    },
    /// Start what is stopped; leaves running ones as they are.
    Start {
        /// When: the new launch time and boot time.
        at: UnixTime,
        /// Whether what was issued to earlier boots ends with it, in the same transaction.
        cut_off: bool,
    },
    /// Reboot what runs.
    Reboot {
        /// When: the new boot time.
        at: UnixTime,
        /// Whether what was issued to earlier boots ends with it, in the same transaction.
        cut_off: bool,
    },
    /// Terminate; leaves terminated ones as they are. Writes [`CutOff::Dead`] in the same transaction, and takes the
    /// attachment away.
    Terminate {
        /// When.
        at: UnixTime,
        /// Why.
        reason: Option<StateReason>,
    },
    /// Change metadata options of what is not terminated.
    MetadataOptions(MetadataOptionsChange),
    /// Hand other user data, or none, to what is stopped.
    UserData(Option<UserData>),
    /// Take tags away, then set tags, in any state. How many an instance may have is not decided here.
    Tags {
        /// Keys and their new values.
        set: BTreeMap<String, String>,
        /// Tags to take away first.
        remove: Vec<TagRemoval>,
    },
    /// Give an attachment to what is not terminated, instead of any it has, and the interface that it has there.
    Attach(Attachment, Option<OwnMac>),
    /// Take the attachment away.
    Detach,
}

/// A change to instances of one account: all of them, or none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangeRequest {
    /// Whose. Other accounts' instances are as good as absent.
    pub account: AccountId,
    /// Which: 1 to [`ChangeRequest::INSTANCES_MAX`]. One named twice is changed once.
    pub instances: Vec<InstanceId>,
    /// What.
    pub change: Change,
}

impl ChangeRequest {
    /// The most instances one request may name.
    pub const INSTANCES_MAX: usize = 1000;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.instances.len() {
            0 => Err(StoreError::Invalid("a change names no instance")),
            1..=Self::INSTANCES_MAX => Ok(()),
            _ => Err(StoreError::Invalid("a change names more than 1000 instances")),
        }
    }
}

/// An instance before and after a change; equal if there was nothing to change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    /// As it was.
    pub before: Instance,
    /// As it is.
    pub after: Instance,
}

impl Changed {
    /// What the change cuts off.
    #[must_use]
    pub fn cut_off(&self, change: &Change) -> Option<(CutOff, UnixTime)> {
        let instance = self.after.id;
        let below = self.after.boot_generation;
        match change {
            Change::Terminate { at, .. } if self.before.state != self.after.state => {
                Some((CutOff::Dead { instance }, *at))
            }
            Change::Stop { at, cut_off: true, .. }
            | Change::Start { at, cut_off: true }
            | Change::Reboot { at, cut_off: true }
                if below > self.before.boot_generation =>
            {
                Some((CutOff::OlderBoot { instance, below }, *at))
            }
            _ => None,
        }
    }
}

impl Change {
    const fn word(&self) -> &'static str {
        match self {
            Self::Stop { .. } => "stop",
            Self::Start { .. } => "start",
            Self::Reboot { .. } => "reboot",
            Self::Terminate { .. } => "terminate",
            Self::MetadataOptions(_) => "a change of its metadata options",
            Self::UserData(_) => "a change of its user data",
            Self::Tags { .. } => "a change of its tags",
            Self::Attach(..) => "attach",
            Self::Detach => "detach",
        }
    }

    /// The record after the change.
    ///
    /// # Errors
    /// `Conflict`: the state forbids it; `Invalid`: the boot generations are used up.
    pub fn apply(&self, before: &Instance) -> Result<Instance, StoreError> {
        use InstanceState::{Running, Stopped, Terminated};
        let wrong_state = || {
            let (instance, state, change) = (before.id, before.state, self.word());
            Err(Conflict::WrongState { instance, state, change }.into())
        };
        let mut after = before.clone();
        match (self, before.state) {
            (Self::Stop { reason, .. }, Running) => {
                after.state = Stopped;
                after.state_reason.clone_from(reason);
                after.boot_generation = next_generation(before)?;
            }
            (Self::Start { at, .. }, Stopped) => {
                after.state = Running;
                after.state_reason = None;
                after.boot_generation = next_generation(before)?;
                (after.launch_time, after.boot_time) = (*at, *at);
            }
            (Self::Reboot { at, .. }, Running) => {
                after.boot_generation = next_generation(before)?;
                after.boot_time = *at;
            }
            (Self::Terminate { at, reason }, Running | Stopped) => {
                after.state = Terminated;
                after.state_reason.clone_from(reason);
                after.terminated_at = Some(*at);
                (after.attachment, after.mac) = (None, None);
            }
            (Self::Stop { .. }, Stopped) | (Self::Start { .. }, Running) | (Self::Terminate { .. }, Terminated) => {}
            (Self::MetadataOptions(change), Running | Stopped) => {
                after.metadata_options = change.apply(before.metadata_options);
            }
            (Self::UserData(data), Stopped) => after.user_data.clone_from(data),
            (Self::Attach(attachment, mac), Running | Stopped) => {
                (after.attachment, after.mac) = (Some(attachment.clone()), *mac);
            }
            (Self::Detach, _) => (after.attachment, after.mac) = (None, None),
            (Self::Tags { set, remove }, _) => {
                for TagRemoval { key, value } in remove {
                    if value.is_none() || after.tags.get(key) == value.as_ref() {
                        after.tags.remove(key);
                    }
                }
                after.tags.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            (Self::Stop { .. } | Self::Start { .. } | Self::MetadataOptions(_) | Self::Attach(..), Terminated)
            | (Self::Reboot { .. }, Stopped | Terminated)
            | (Self::UserData(_), Running | Terminated) => return wrong_state(),
        }
        Ok(after)
    }
}

/// A generation that came round again would revive credentials of long ago, so the count stops instead.
fn next_generation(instance: &Instance) -> Result<u32, StoreError> {
    instance.boot_generation.checked_add(1).ok_or(StoreError::Invalid("the instance has used up its boot generations"))
}
