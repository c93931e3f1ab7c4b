//! What a finding is about.

use super::cut;
use inborn_identity::{InstanceId, UnixTime};
use serde_json::{Map, Value, json};

/// `resource` of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Resource {
    /// The machine.
    pub instance: Option<InstanceDetails>,
    /// The credentials that were used. Their key makes the resource an `AccessKey`; without one it is an `Instance`.
    pub access_key: Option<AccessKeyDetails>,
    /// The container on the machine.
    pub container: Option<ContainerDetails>,
}

/// `instanceDetails`. What telemetry does not tell, the region adds from what it knows of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceDetails {
    /// The machine.
    pub instance: InstanceId,
    /// Its zone.
    pub zone: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// Its type.
    pub instance_type: Option<String>,
    /// Its state, as in `running`.
    pub state: Option<String>,
    /// When it was launched.
    pub launched_at: Option<UnixTime>,
    /// Its private address.
    pub private_address: Option<String>,
    /// Its tags.
    pub tags: Vec<(String, String)>,
}

/// `accessKeyDetails`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKeyDetails {
    /// `ASIA…`.
    pub access_key_id: String,
    /// The unique id of the session.
    pub principal_id: String,
    /// The name of the role.
    pub user_name: String,
    /// `AssumedRole`.
    pub user_type: String,
}

/// `containerDetails`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ContainerDetails {
    /// Its id.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// What runs it.
    pub runtime: Option<String>,
}

impl InstanceDetails {
    /// A machine of which nothing but its id is known.
    #[must_use]
    pub fn of(instance: InstanceId) -> Self {
        Self {
            instance,
            zone: None,
            image: None,
            instance_type: None,
            state: None,
            launched_at: None,
            private_address: None,
            tags: Vec::new(),
        }
    }

    fn document(&self) -> Value {
        let mut members = Map::new();
        members.insert("instanceId".to_owned(), Value::from(self.instance.to_string()));
        put(&mut members, "availabilityZone", self.zone.as_deref());
        put(&mut members, "imageId", self.image.as_deref());
        put(&mut members, "instanceType", self.instance_type.as_deref());
        put(&mut members, "instanceState", self.state.as_deref());
        put(&mut members, "launchTime", self.launched_at.map(UnixTime::rfc3339).as_deref());
        if let Some(address) = &self.private_address {
            members.insert(
                "networkInterfaces".to_owned(),
                json!([{ "privateIpAddress": address, "privateIpAddresses": [{ "privateIpAddress": address }] }]),
            );
        }
        if !self.tags.is_empty() {
            let tags = self.tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
            members.insert("tags".to_owned(), Value::Array(tags));
        }
        Value::Object(members)
    }
}

impl Resource {
    /// A machine of which nothing but its id is known.
    #[must_use]
    pub fn machine(instance: InstanceId) -> Self {
        Self { instance: Some(InstanceDetails::of(instance)), ..Self::default() }
    }

    /// `resourceType`.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        if self.access_key.is_some() { "AccessKey" } else { "Instance" }
    }

    pub(super) fn document(&self) -> Value {
        let mut members = Map::new();
        members.insert("resourceType".to_owned(), Value::from(self.type_name()));
        if let Some(instance) = &self.instance {
            members.insert("instanceDetails".to_owned(), instance.document());
        }
        if let Some(key) = &self.access_key {
            let document = json!({
                "accessKeyId": key.access_key_id,
                "principalId": key.principal_id,
                "userName": key.user_name,
                "userType": key.user_type,
            });
            members.insert("accessKeyDetails".to_owned(), document);
        }
        if let Some(container) = &self.container {
            let mut document = Map::new();
            put(&mut document, "id", container.id.as_deref());
            put(&mut document, "name", container.name.as_deref());
            put(&mut document, "image", container.image.as_deref());
            put(&mut document, "containerRuntime", container.runtime.as_deref());
            members.insert("containerDetails".to_owned(), Value::Object(document));
        }
        Value::Object(members)
    }
}

fn put(members: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        members.insert(name.to_owned(), Value::from(cut(value)));
    }
}
