//! An instance in little memory, for those who hold all of them: some 170 bytes where [`Instance`] has thousands.
//!
//! What machines have in common (image, type, key, user data, …) is one [`Kind`], which all that have it share; what nearly no
//! machine has is behind one pointer; texts of its own are one piece. What is asked for at every call is read without
//! unpacking anything.

mod kind;
mod texts;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use inborn_identity::{AccountId, HostId, IdError, InstanceId, UnixTime};

use crate::{Attachment, Instance, InstanceState, OwnMac, StateReason, UserData};
use texts::Texts;

pub use kind::{Kind, Packer, Parts, Shares};
pub use texts::PackedTags;

/// What only few instances have.
#[derive(Clone, PartialEq, Eq, Default)]
struct Rare {
    ipv6_address: Option<Ipv6Addr>,
    terminated_at: Option<UnixTime>,
    state_reason: Option<StateReason>,
    attachment: Option<Attachment>,
    mac: Option<OwnMac>,
    /// Where it is not an `r-` and 17 hex digits.
    reservation_id: Option<Box<str>>,
}

/// What an instance has for itself, as it lies in the row: texts are borrowed. What it has in common with others is in [`Parts`]. The fields
/// are those of an [`Instance`].
#[allow(missing_docs, reason = "they are told where an instance has them")]
pub struct OwnRow<'a> {
    pub id: InstanceId,
    pub private_address: Ipv4Addr,
    pub ipv6_address: Option<Ipv6Addr>,
    pub state: InstanceState,
    pub launch_time: UnixTime,
    pub boot_time: UnixTime,
    pub boot_generation: u32,
    pub terminated_at: Option<UnixTime>,
    pub state_reason: Option<StateReason>,
    pub ami_launch_index: u32,
    pub reservation_id: &'a str,
    pub client_token: Option<&'a str>,
    pub tags: PackedTags,
    pub host: Option<HostId>,
    pub attachment: Option<Attachment>,
    pub mac: Option<OwnMac>,
}

/// The 17 digits of a reservation that is named as EC2 names them.
type ReservationDigits = [u8; InstanceId::BYTES];

/// An instance in little memory. Two are equal exactly if the instances are.
#[derive(Clone, PartialEq, Eq)]
pub struct PackedInstance {
    kind: Arc<Kind>,
    texts: Texts,
    rare: Option<Box<Rare>>,
    launch_time: UnixTime,
    boot_time: UnixTime,
    private_address: Ipv4Addr,
    boot_generation: u32,
    ami_launch_index: u32,
    // Bytes, since the numbers behind ids are as long as they are aligned.
    id: [u8; InstanceId::BYTES],
    host: PackedHost,
    reservation: ReservationDigits,
    state: InstanceState,
}

/// A host, if there is one: of an id the upper half of the first byte is 0, so that there is room for whether it is one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct PackedHost([u8; HostId::BYTES]);

impl PackedHost {
    const IS_ONE: u8 = 0x10;

    fn new(host: Option<HostId>) -> Self {
        let Some(host) = host else { return Self([0; HostId::BYTES]) };
        let mut bytes = host.to_bytes();
        let [first, ..] = &mut bytes;
        *first |= Self::IS_ONE;
        Self(bytes)
    }

    fn get(self) -> Option<HostId> {
        let Self([first, ..]) = self;
        (first & Self::IS_ONE != 0).then(|| HostId::from_bytes(self.0))
    }
}

impl core::fmt::Debug for PackedInstance {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PackedInstance").field("id", &self.id()).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Packer {
    /// Packs an instance.
    #[must_use]
    pub fn pack(&self, instance: &Instance) -> PackedInstance {
        // Every field by its name: one that is added is not forgotten here.
        let Instance {
            id,
            account,
            zone,
            image_id,
            instance_type,
            private_address,
            ipv6_address,
            placement_group,
            placement_partition,
            state,
            launch_time,
            boot_time,
            boot_generation,
            terminated_at,
            state_reason,
            metadata_options,
            key_name,
            public_key,
            user_data,
            ami_launch_index,
            reservation_id,
            client_token,
            tags,
            lease,
            host,
            attachment,
            mac,
        } = instance;
        let parts = Parts {
            account: *account,
            zone: zone.as_str(),
            image_id,
            instance_type,
            placement_group: placement_group.as_deref(),
            placement_partition: *placement_partition,
            metadata_options: *metadata_options,
            key_name: key_name.as_deref(),
            public_key: public_key.as_deref(),
            user_data: user_data.as_ref(),
            lease: *lease,
        };
        let row = OwnRow {
            id: *id,
            private_address: *private_address,
            ipv6_address: *ipv6_address,
            state: *state,
            launch_time: *launch_time,
            boot_time: *boot_time,
            boot_generation: *boot_generation,
            terminated_at: *terminated_at,
            state_reason: state_reason.clone(),
            ami_launch_index: *ami_launch_index,
            reservation_id,
            client_token: client_token.as_deref(),
            tags: tags.iter().collect(),
            host: *host,
            attachment: attachment.clone(),
            mac: *mac,
        };
        PackedInstance::new(self.kind(&parts, || zone.clone()), row)
    }

    /// What instances have in common that lie in rows.
    ///
    /// # Errors
    /// The zone is none.
    pub fn kind_of_rows(&self, parts: &Parts<'_>) -> Result<Arc<Kind>, IdError> {
        self.try_kind(parts, || parts.zone.parse())
    }

    /// The same instance with other user data.
    #[must_use]
    pub fn with_user_data(&self, instance: &PackedInstance, user_data: &UserData) -> PackedInstance {
        let parts = instance.kind.parts().with_user_data(user_data);
        let kind = self.kind(&parts, || instance.kind.zone.clone());
        PackedInstance { kind, ..instance.clone() }
    }
}

impl PackedInstance {
    /// Of what it has in common with others and what it has for itself.
    #[must_use]
    pub fn new(kind: Arc<Kind>, row: OwnRow<'_>) -> Self {
        let reservation = reservation_digits(row.reservation_id);
        let rare = Rare {
            ipv6_address: row.ipv6_address,
            terminated_at: row.terminated_at,
            state_reason: row.state_reason,
            attachment: row.attachment,
            mac: row.mac,
            reservation_id: if reservation.is_none() { Some(row.reservation_id.into()) } else { None },
        };
        Self {
            kind,
            texts: Texts::new(row.client_token, &row.tags),
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
            launch_time: row.launch_time,
            boot_time: row.boot_time,
            private_address: row.private_address,
            boot_generation: row.boot_generation,
            ami_launch_index: row.ami_launch_index,
            id: row.id.to_bytes(),
            host: PackedHost::new(row.host),
            reservation: reservation.unwrap_or_default(),
            state: row.state,
        }
    }

    /// The whole instance.
    #[must_use]
    pub fn unpack(&self) -> Instance {
        let rare = self.rare.as_deref().cloned().unwrap_or_default();
        let text = |text: &Option<Box<str>>| text.as_deref().map(ToOwned::to_owned);
        Instance {
            id: self.id(),
            account: self.kind.account,
            zone: self.kind.zone.clone(),
            image_id: self.kind.image_id.to_string(),
            instance_type: self.kind.instance_type.to_string(),
            private_address: self.private_address,
            ipv6_address: rare.ipv6_address,
            placement_group: text(&self.kind.placement_group),
            placement_partition: self.kind.placement_partition,
            state: self.state,
            launch_time: self.launch_time,
            boot_time: self.boot_time,
            boot_generation: self.boot_generation,
            terminated_at: rare.terminated_at,
            state_reason: rare.state_reason,
            metadata_options: self.kind.metadata_options,
            key_name: text(&self.kind.key_name),
            public_key: text(&self.kind.public_key),
            user_data: self.kind.user_data.clone(),
            ami_launch_index: self.ami_launch_index,
            reservation_id: rare.reservation_id.map_or_else(|| reservation_text(self.reservation), String::from),
            client_token: self.texts.client_token().map(ToOwned::to_owned),
            tags: self.tags().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            lease: self.kind.lease,
            host: self.host(),
            attachment: rare.attachment,
            mac: rare.mac,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        InstanceId::from_bytes(self.id)
    }

    /// Its id, as [`InstanceId::to_bytes`] gives it.
    #[must_use]
    pub const fn id_bytes(&self) -> &[u8; InstanceId::BYTES] {
        &self.id
    }

    /// Whose it is.
    #[must_use]
    pub fn account(&self) -> AccountId {
        self.kind.account
    }

    /// Where it is in its life.
    #[must_use]
    pub const fn state(&self) -> InstanceState {
        self.state
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == InstanceState::Running
    }

    /// When it was launched or last started.
    #[must_use]
    pub const fn launch_time(&self) -> UnixTime {
        self.launch_time
    }

    /// When it last booted.
    #[must_use]
    pub const fn boot_time(&self) -> UnixTime {
        self.boot_time
    }

    /// Grows by one at each stop, start and reboot.
    #[must_use]
    pub const fn boot_generation(&self) -> u32 {
        self.boot_generation
    }

    /// Its address on the inside.
    #[must_use]
    pub const fn private_address(&self) -> Ipv4Addr {
        self.private_address
    }

    /// Its IPv6 address, if it has one.
    #[must_use]
    pub fn ipv6_address(&self) -> Option<Ipv6Addr> {
        self.rare.as_ref()?.ipv6_address
    }

    /// The host it was placed on; `None`: the one in the region's own process.
    #[must_use]
    pub fn host(&self) -> Option<HostId> {
        self.host.get()
    }

    /// As in `t3.micro`.
    #[must_use]
    pub fn instance_type(&self) -> &str {
        &self.kind.instance_type
    }

    /// Whether its life is that of a command.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.kind.lease
    }

    /// How its host knows it.
    #[must_use]
    pub fn attachment(&self) -> Option<&Attachment> {
        self.rare.as_ref()?.attachment.as_ref()
    }

    /// Its tags, ordered by key.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.tags()
    }

    /// Gives it these tags instead of those that it has.
    pub fn set_tags(&mut self, tags: &PackedTags) {
        self.texts = Texts::new(self.texts.client_token(), tags);
    }
}

/// `None`: it is no `r-` and 17 lower-case hex digits.
fn reservation_digits(text: &str) -> Option<ReservationDigits> {
    // Of the same form as an instance's id: only that parser knows which digits there may be.
    let digits = text.strip_prefix("r-").filter(|digits| digits.len() == 17)?;
    let mut id = [0; 19];
    let (prefix, rest) = id.split_at_mut(2);
    prefix.copy_from_slice(b"i-");
    rest.copy_from_slice(digits.as_bytes());
    let id: InstanceId = core::str::from_utf8(&id).ok()?.parse().ok()?;
    Some(id.to_bytes())
}

fn reservation_text(digits: ReservationDigits) -> String {
    let mut text = InstanceId::from_bytes(digits).to_string();
    text.replace_range(..1, "r");
    text
}

#[cfg(test)]
mod tests;
