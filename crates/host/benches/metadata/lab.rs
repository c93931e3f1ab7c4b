//! A host with machines, without a region.

use std::sync::Arc;

use inborn_credential::{Claims, Credential, Delivery, Epoch, EpochId, EpochRoot, Keyring, Kind, generation};
use inborn_host::{Host, Issuer, Machine, MachineParts, MetadataLimits, Metrics};
use inborn_identity::{InstanceId, MetadataOptions, Partition, UnixTime};
use inborn_imds::Facts;
use inborn_testkit::ManualClock;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
pub(crate) const CREDENTIALS: &str = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";
pub(crate) const NO_LIMIT: MetadataLimits = MetadataLimits { requests_per_second: 0, ..MetadataLimits::DEFAULT };

struct Region(Keyring);

impl Issuer for Region {
    fn issue(&self, instance: InstanceId, delivery: Delivery, at: UnixTime) -> Option<(Credential, UnixTime)> {
        let held = generation(instance, NOW, at);
        let claims = Claims {
            kind: Kind::Identity,
            account: "123456789012".parse().unwrap(),
            instance,
            region: "us-east-1".parse().unwrap(),
            issued_at: held.issued_at,
            expires_at: held.expires_at,
            delivery,
            boot_generation: 1,
            private_address: None,
        };
        Some((self.0.mint(&claims).unwrap(), held.next_at))
    }
}

pub(crate) fn host(limits: MetadataLimits) -> Arc<Host> {
    let epoch = Epoch::new(EpochId(1), &EpochRoot::from_bytes([7; 32]), Partition::Aws).unwrap();
    let region = Region(Keyring::new(vec![epoch], EpochId(1)).unwrap());
    Host::with_limits(Arc::new(ManualClock::new(NOW)), Arc::new(region), Metrics::default(), limits).unwrap()
}

pub(crate) fn machine(number: u16) -> Machine {
    let [high, low] = number.to_be_bytes();
    MachineParts {
        id: InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 0, high, low]),
        is_running: true,
        boot_generation: 1,
        options: MetadataOptions::default(),
        tags: vec![("Name".into(), "web".into())],
        facts: Facts {
            domain: "amazonaws.com".into(),
            image_id: "ami-12345678".into(),
            instance_type: "m5.large".into(),
            reservation_id: "r-12345678".into(),
            security_groups: vec!["default".into()],
            ..Facts::bare(
                "123456789012".parse().unwrap(),
                Partition::Aws,
                "us-east-1".parse().unwrap(),
                "us-east-1a".parse().unwrap(),
                NOW,
            )
        },
    }
    .into()
}
