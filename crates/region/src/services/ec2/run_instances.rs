//! `RunInstances`: machines are born.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use inborn_identity::{HostId, MetadataOptions};
use inborn_store::{Instance, InstanceState, LaunchOutcome, LaunchRequest, MetadataOptionsChange, UserData};
use inborn_wire::error::Problem;
use inborn_wire::query::{Parameters, Structure};
use serde_json::{Value, json};

use super::{host, key_pair, metadata_defaults, refusal, request, shape, state_change};
use crate::operation::{Call, Outcome, Reply};
use crate::private_address;

const DEFAULT_TYPE: &str = "m1.small";
const CLIENT_TOKEN_LENGTH_MAX: usize = 64;
const NAME_LENGTH_MAX: usize = 255;

/// Understood, and without effect here: there are no networks, disks or placements. Everything below a name counts.
const WITHOUT_EFFECT: [&str; 23] = [
    "BlockDeviceMapping",
    "CapacityReservationSpecification",
    "CpuOptions",
    "CreditSpecification",
    "DisableApiStop",
    "DisableApiTermination",
    "EbsOptimized",
    "EnaSrdSpecification",
    "EnclaveOptions",
    "HibernationOptions",
    "InstanceInitiatedShutdownBehavior",
    "KernelId",
    "MaintenanceOptions",
    "Monitoring",
    "NetworkInterface",
    "NetworkPerformanceOptions",
    "Placement",
    "PrivateDnsNameOptions",
    "RamdiskId",
    "SecurityGroup",
    "SecurityGroupId",
    "SecondaryPrivateIpAddressCount",
    "SubnetId",
];

/// Understood, and refused rather than forgotten: a launch that relied on one of these would not be what it seems.
const REFUSED: [(&str, &str); 3] = [
    ("IamInstanceProfile", "Instance profiles are not served here: an instance has its identity role and no other."),
    ("LaunchTemplate", "Launch templates are not served here: name the parameters themselves."),
    ("InstanceMarketOptions", "There are no spot instances here."),
];

/// What a launch takes from its account.
struct Settled {
    metadata_options: MetadataOptions,
    public_key: Option<String>,
}

/// The parameters of a launch, checked.
struct Launch {
    count_min: i32,
    count_max: i32,
    image_id: String,
    instance_type: String,
    key_name: Option<String>,
    user_data: Option<UserData>,
    client_token: Option<String>,
    private_address: Option<Ipv4Addr>,
    /// Outside `None` without an IPv6 address, inside `None` with one that is made for it.
    ipv6: Option<Option<Ipv6Addr>>,
    placement_group: Option<String>,
    placement_partition: Option<u32>,
    host: Option<HostId>,
    tags: BTreeMap<String, String>,
    metadata_options: MetadataOptionsChange,
    /// Ours, not EC2's: the machine's life is that of the command it was launched for.
    lease: bool,
}

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let launch = Launch::read(call.parameters)?;
        let settled = launch.settle(&call).await?;
        request::finish(call.parameters)?;
        let request = launch.request(&call, settled)?;
        let outcome = call.region.machines().launch(request).await.map_err(refusal::of_store)?;
        let (instances, is_new) = match outcome {
            LaunchOutcome::New(instances) => (instances, true),
            LaunchOutcome::Replayed(instances) => (instances, false),
            LaunchOutcome::Mismatch => return Err(refusal::token_mismatch()),
        };
        let response_elements = state_change::instances_set(instances.iter().map(|instance| instance.id));
        let answer = shape::response("RunInstances", call.request_id, |w| {
            let shown = |instance: &Instance| if is_new { shape::PENDING } else { shape::state(instance.state) };
            shape::reservation(w, call.region.identity(), &instances.iter().collect::<Vec<_>>(), shown);
        });
        Ok(Reply { answer, response_elements })
    })
}

impl Launch {
    fn read(parameters: &Parameters) -> Result<Self, Problem> {
        let root = parameters.root();
        for (name, why) in REFUSED {
            if root.get(name).is_some() || root.structure(name).is_present() {
                return Err(refusal::unsupported(why));
            }
        }
        let most = i32::try_from(LaunchRequest::INSTANCES_MAX).unwrap_or(i32::MAX);
        let count = |name| root.integer(name, 1..=most).map_err(Problem::Parameter);
        let (count_min, count_max) = (count("MinCount")?, count("MaxCount")?);
        let count_min = count_min.ok_or_else(|| refusal::missing_parameter("MinCount"))?;
        let count_max = count_max.ok_or_else(|| refusal::missing_parameter("MaxCount"))?;
        if count_min > count_max {
            let message =
                format!("Value ({count_min}) for parameter minCount is invalid. It must not be above maxCount");
            return Err(refusal::invalid_value(message));
        }
        let placement = root.structure("Placement");
        let launch = Self {
            count_min,
            count_max,
            image_id: image_id(root.get("ImageId"))?,
            instance_type: word(root.get("InstanceType").unwrap_or(DEFAULT_TYPE), "InstanceType")?,
            key_name: root.get("KeyName").map(|name| word(name, "KeyName")).transpose()?,
            user_data: root.get("UserData").map(request::user_data).transpose()?,
            client_token: root.get("ClientToken").filter(|token| !token.is_empty()).map(client_token).transpose()?,
            private_address: root.get("PrivateIpAddress").map(address).transpose()?,
            ipv6: ipv6(&root)?,
            placement_group: placement.get("GroupName").map(|name| word(name, "GroupName")).transpose()?,
            placement_partition: partition_number(&placement)?,
            host: host::placement(&placement)?,
            tags: request::tags_for(parameters, "instance")?,
            metadata_options: request::metadata_options(&root.structure("MetadataOptions"))?,
            lease: root.structure("Inborn").boolean("Lease").map_err(Problem::Parameter)?.unwrap_or(false),
        };
        if launch.private_address.is_some() && launch.count_max > 1 {
            return Err(refusal::invalid_combination("A private IP address can be given to a single instance only"));
        }
        if matches!(launch.ipv6, Some(Some(_))) && launch.count_max > 1 {
            return Err(refusal::invalid_combination("An IPv6 address can be given to a single instance only"));
        }
        if launch.lease && launch.host.is_some() {
            return Err(refusal::invalid_combination(
                "A machine that lives as long as a command is where the command is",
            ));
        }
        WITHOUT_EFFECT.iter().for_each(|name| parameters.ignore(name));
        Ok(launch)
    }

    /// Asks the account for the key pair and for the metadata options that the launch leaves open.
    async fn settle(&self, call: &Call<'_>) -> Result<Settled, Problem> {
        let public_key = match &self.key_name {
            Some(name) => Some(key_pair::named(call, name).await?.public_key),
            None => None,
        };
        if let Some(id) = self.host {
            host::check_placement(call, id, usize::try_from(self.count_max).unwrap_or(usize::MAX)).await?;
        }
        let metadata_options = metadata_defaults::of_account(call).await?.launch_options(self.metadata_options)?;
        if metadata_options.tags {
            request::check_tags_in_metadata(self.tags.keys())?;
        }
        Ok(Settled { metadata_options, public_key })
    }

    /// The launch as the store takes it. `MaxCount` machines: there is always room.
    fn request(self, call: &Call<'_>, settled: Settled) -> Result<LaunchRequest, Problem> {
        let identity = call.region.identity();
        let (account, zone) = (call.caller.principal.account(), identity.zone());
        let reservation_id = format!("r-{}", request::new_id()?.to_string().trim_start_matches("i-"));
        let fingerprint = self.fingerprint();
        let mut instances = Vec::new();
        for index in 0..u32::try_from(self.count_max).unwrap_or_default() {
            let id = request::new_id()?;
            instances.push(Instance {
                id,
                account,
                zone: zone.clone(),
                image_id: self.image_id.clone(),
                instance_type: self.instance_type.clone(),
                private_address: self.private_address.unwrap_or_else(|| private_address(id)),
                ipv6_address: self.ipv6.map(|wanted| wanted.unwrap_or_else(|| identity.ipv6_address(account, id))),
                placement_group: self.placement_group.clone(),
                placement_partition: self.placement_partition,
                state: InstanceState::Running,
                launch_time: call.now,
                boot_time: call.now,
                boot_generation: 1,
                terminated_at: None,
                state_reason: None,
                metadata_options: settled.metadata_options,
                key_name: self.key_name.clone(),
                public_key: settled.public_key.clone(),
                user_data: self.user_data.clone(),
                ami_launch_index: index,
                reservation_id: reservation_id.clone(),
                client_token: self.client_token.clone(),
                tags: self.tags.clone(),
                lease: self.lease,
                host: self.host,
                attachment: None,
                mac: None,
            });
        }
        Ok(LaunchRequest { account, client_token: self.client_token, fingerprint, reservation_id, instances })
    }

    /// A digest of everything a repeated client token must come with again.
    fn fingerprint(&self) -> [u8; 32] {
        let options = self.metadata_options.apply(MetadataOptions::default());
        let mut parts = json!([
            self.count_min,
            self.count_max,
            self.image_id,
            self.instance_type,
            self.key_name,
            self.user_data.as_ref().map(UserData::as_bytes),
            self.private_address,
            self.tags,
            [options.http_tokens.to_string(), options.http_endpoint.to_string()],
            [u8::from(options.ipv6), u8::from(options.tags), options.hop_limit, u8::from(self.lease)],
        ]);
        // What came to be read later counts only where it is there: the digests of older launches stay what they were.
        let later = [
            self.ipv6.map(|address| json!(["ipv6", address])),
            self.placement_group.as_ref().map(|group| json!(["group", group])),
            self.placement_partition.map(|number| json!(["partition", number])),
            self.host.map(|host| json!(["host", host.to_string()])),
        ];
        if let Value::Array(parts) = &mut parts {
            parts.extend(later.into_iter().flatten());
        }
        inborn_sigv4::sha256(parts.to_string().as_bytes())
    }
}

/// `Ipv6Address.1.Ipv6Address`, or `Ipv6AddressCount`: at most one address.
fn ipv6(root: &Structure<'_>) -> Result<Option<Option<Ipv6Addr>>, Problem> {
    let count = root.integer("Ipv6AddressCount", 0..=1).map_err(Problem::Parameter)?;
    let addresses = root.structures("Ipv6Address");
    match (addresses.as_slice(), count) {
        ([], None | Some(0)) => Ok(None),
        ([], Some(_)) => Ok(Some(None)),
        ([address], None) => {
            let name = address.whole_name("Ipv6Address");
            let text = address.get("Ipv6Address").ok_or_else(|| refusal::missing_parameter(&name))?;
            let invalid = |_| refusal::invalid_value(format!("Invalid IPv6 address for parameter {name}"));
            text.parse().map(|address| Some(Some(address))).map_err(invalid)
        }
        (_, Some(_)) => Err(refusal::invalid_combination("Ipv6AddressCount and Ipv6Address cannot be combined")),
        _ => Err(refusal::unsupported("An instance has at most one IPv6 address here.")),
    }
}

/// From 1; only of a group that is named.
fn partition_number(placement: &Structure<'_>) -> Result<Option<u32>, Problem> {
    let number = placement.integer("PartitionNumber", 1..=i32::MAX).map_err(Problem::Parameter)?;
    if number.is_some() && placement.get("GroupName").is_none() {
        return Err(refusal::invalid_combination("PartitionNumber needs the GroupName of its placement group"));
    }
    Ok(number.and_then(|number| u32::try_from(number).ok()))
}

fn image_id(text: Option<&str>) -> Result<String, Problem> {
    let text = text.ok_or_else(|| refusal::missing_parameter("ImageId"))?;
    let digits = text.strip_prefix("ami-").unwrap_or_default();
    let is_well_formed =
        matches!(digits.len(), 8 | 17) && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if is_well_formed { Ok(text.to_owned()) } else { Err(refusal::malformed_id(text, "ami-")) }
}

/// A name of printable ASCII: it is shown, logged and served as metadata.
fn word(text: &str, name: &str) -> Result<String, Problem> {
    let is_fine = (1..=NAME_LENGTH_MAX).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    if is_fine {
        Ok(text.to_owned())
    } else {
        Err(refusal::invalid_value(format!("Invalid value for parameter {name}")))
    }
}

/// Source: EC2 API reference, "Ensuring idempotency": at most 64 ASCII characters.
fn client_token(text: &str) -> Result<String, Problem> {
    if text.len() <= CLIENT_TOKEN_LENGTH_MAX && text.is_ascii() {
        Ok(text.to_owned())
    } else {
        Err(refusal::invalid_value(format!("A client token has at most {CLIENT_TOKEN_LENGTH_MAX} ASCII characters")))
    }
}

fn address(text: &str) -> Result<Ipv4Addr, Problem> {
    text.parse().map_err(|_| refusal::invalid_value("Invalid IPv4 address for parameter PrivateIpAddress"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(extra: &str) -> Result<Launch, String> {
        let form = format!("ImageId=ami-0123456789abcdef0&MinCount=1&MaxCount=2{extra}");
        let parameters = Parameters::parse(b"", form.as_bytes()).unwrap();
        let launch = Launch::read(&parameters).map_err(|problem| match problem {
            Problem::Service { code, .. } => code.to_owned(),
            Problem::Parameter(_) => "Parameter".to_owned(),
            other => format!("{other:?}"),
        })?;
        match parameters.unread().next() {
            Some(name) => Err(format!("unread {name}")),
            None => Ok(launch),
        }
    }

    #[test]
    fn what_has_no_effect_is_taken_and_what_would_mislead_is_not() {
        let taken = "&SubnetId=s&SecurityGroupId.1=g&NetworkInterface.1.DeviceIndex=0&Placement.Tenancy=default&BlockDeviceMapping.1.Ebs.VolumeSize=8";
        assert!(launch(taken).is_ok());
        for refused in [
            "&IamInstanceProfile.Name=p",
            "&LaunchTemplate.LaunchTemplateId=l",
            "&InstanceMarketOptions.MarketType=spot",
        ] {
            assert_eq!(launch(refused).err().as_deref(), Some("UnsupportedOperation"), "{refused}");
        }
        assert_eq!(launch("&SubnetIdea=1").err().as_deref(), Some("unread SubnetIdea"));
    }

    #[test]
    fn tags_for_other_things_are_left_out() {
        let tags = "&TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key=v\
                    &TagSpecification.2.ResourceType=instance&TagSpecification.2.Tag.1.Key=Name&TagSpecification.2.Tag.1.Value=web";
        assert_eq!(launch(tags).unwrap().tags, BTreeMap::from([("Name".to_owned(), "web".to_owned())]));
    }

    #[test]
    fn refusals() {
        let cases = [
            ("&ImageId2=", "unread ImageId2"),
            ("&UserData=***", "InvalidUserData.Malformed"),
            ("&PrivateIpAddress=10.0.0.1", "InvalidParameterCombination"),
            ("&TagSpecification.1.Tag.1.Key=a", "MissingParameter"),
            ("&Ipv6AddressCount=2", "Parameter"),
            ("&Ipv6AddressCount=1&Ipv6Address.1.Ipv6Address=::1", "InvalidParameterCombination"),
            ("&Ipv6Address.1.Ipv6Address=fd00::1", "InvalidParameterCombination"),
            ("&Ipv6Address.1.Ipv6Address=10.0.0.1", "InvalidParameterValue"),
            ("&Ipv6Address.1.Ipv6Address=::1&Ipv6Address.2.Ipv6Address=::2", "UnsupportedOperation"),
            ("&Placement.PartitionNumber=1", "InvalidParameterCombination"),
            ("&Placement.GroupName=g&Placement.PartitionNumber=0", "Parameter"),
        ];
        for (extra, code) in cases {
            assert_eq!(launch(extra).err().as_deref(), Some(code), "{extra}");
        }
        for (token, is_fine) in [(63, true), (64, true), (65, false)] {
            assert_eq!(launch(&format!("&ClientToken={}", "t".repeat(token))).is_ok(), is_fine);
        }
        for (id, is_fine) in
            [("ami-12345678", true), ("ami-1234567", false), ("i-12345678", false), ("ami-0123456789ABCDEF0", false)]
        {
            assert_eq!(image_id(Some(id)).is_ok(), is_fine, "{id}");
        }
    }

    #[test]
    fn the_fingerprint_tells_launches_apart() {
        let plain = launch("").unwrap().fingerprint();
        assert_eq!(plain, launch("").unwrap().fingerprint());
        for extra in [
            "&InstanceType=m5.large",
            "&UserData=AAAA",
            "&MetadataOptions.HttpTokens=optional",
            "&Inborn.Lease=true",
            "&Ipv6AddressCount=1",
            "&Placement.GroupName=g",
            "&Placement.GroupName=g&Placement.PartitionNumber=1",
        ] {
            assert_ne!(plain, launch(extra).unwrap().fingerprint(), "{extra}");
        }
    }
}
