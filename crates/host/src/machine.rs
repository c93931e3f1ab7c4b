//! A machine as its host sees it: what metadata is made of, and the credentials prepared for it.

use std::sync::Arc;

use bytes::Bytes;
use inborn_credential::{Credential, Delivery};
use inborn_identity::{InstanceId, MetadataOptions, UnixTime};
use inborn_imds::{Facts, PreparedCredential, PreparedCredentials, View, identity_document};

/// A machine. Built by whoever knows the region's records; replaced as a whole when one of them changes.
#[derive(Debug)]
pub struct Machine {
    id: InstanceId,
    is_running: bool,
    boot_generation: u32,
    options: MetadataOptions,
    tags: Vec<(String, String)>,
    facts: Facts,
    document: Bytes,
}

/// What a [`Machine`] is made from.
#[derive(Debug)]
pub struct MachineParts {
    /// Its id.
    pub id: InstanceId,
    /// Whether it runs; one that does not gets no answers.
    pub is_running: bool,
    /// Grows at each start; credentials of another generation are not served.
    pub boot_generation: u32,
    /// What `ModifyInstanceMetadataOptions` set.
    pub options: MetadataOptions,
    /// Its tags.
    pub tags: Vec<(String, String)>,
    /// What does not change while it runs.
    pub facts: Facts,
}

impl From<MachineParts> for Machine {
    fn from(parts: MachineParts) -> Self {
        let MachineParts { id, is_running, boot_generation, options, tags, facts } = parts;
        let document = identity_document(id, &facts);
        Self { id, is_running, boot_generation, options, tags, facts, document }
    }
}

impl Machine {
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> InstanceId {
        self.id
    }

    /// Whether it runs.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.is_running
    }

    pub(crate) const fn boot_generation(&self) -> u32 {
        self.boot_generation
    }

    /// Whether the IPv6 endpoint is on: `HttpProtocolIpv6`.
    pub(crate) const fn answers_over_ipv6(&self) -> bool {
        self.options.ipv6
    }

    pub(crate) fn view<'a>(&'a self, credentials: Option<&'a PreparedCredentials>) -> View<'a> {
        View {
            instance: self.id,
            options: self.options,
            tags: &self.tags,
            facts: &self.facts,
            document: &self.document,
            signatures: None,
            credentials,
        }
    }
}

/// Gives credentials of machines: the region in the same process, or one far away.
pub trait Issuer: Send + Sync + 'static {
    /// The credential that `instance` holds at the moment `at`, fetched by `delivery`, and when the next one takes its
    /// place; `None` when there is none to be had now.
    fn issue(&self, instance: InstanceId, delivery: Delivery, at: UnixTime) -> Option<(Credential, UnixTime)>;
}

/// The next generation is prepared this long before its time: longer than two rounds of the rotation.
pub const PREPARE_AHEAD_SECONDS: u64 = 300;

/// The credentials of a machine, ready to be handed out: the present generation, and the next one when it is near.
///
/// Nothing on the request path waits for a key: [`Wallet::at`] only looks which of the two is due.
#[derive(Clone, Debug, Default)]
pub struct Wallet {
    boot_generation: u32,
    current: Option<Arc<PreparedCredentials>>,
    next: Option<Arc<PreparedCredentials>>,
    next_at: UnixTime,
}

impl Wallet {
    /// Which boot of its machine it was filled for.
    #[must_use]
    pub const fn boot_generation(&self) -> u32 {
        self.boot_generation
    }

    /// The credentials to hand out at the moment `now`. Those of the last generation that could be had, if the region
    /// is away, but never expired ones.
    #[must_use]
    pub fn at(&self, now: UnixTime) -> Option<&PreparedCredentials> {
        let due = if now >= self.next_at { self.next.as_ref() } else { None };
        due.or(self.current.as_ref()).map(Arc::as_ref).filter(|credentials| credentials.expires_at() > now)
    }

    /// This wallet with what `issuer` has to add at the moment `now`; `None` when nothing is due.
    #[must_use]
    pub fn refilled(&self, machine: &Machine, issuer: &dyn Issuer, now: UnixTime) -> Option<Self> {
        let rebooted = self.boot_generation != machine.boot_generation;
        // The clock was set back: to the verifier, what begins later than now is a forgery.
        let ahead = self.current.as_ref().is_some_and(|current| current.issued_at() > now);
        let mut wallet = if rebooted || ahead { Self::default() } else { self.clone() };
        wallet.boot_generation = machine.boot_generation;
        let mut changed = rebooted || ahead;
        if now >= wallet.next_at {
            if let Some(next) = wallet.next.take() {
                // The prepared generation has become the present one; when it ends is asked below.
                wallet.current = Some(next);
                changed = true;
            }
            if let Some((credentials, next_at)) = prepare(machine, issuer, now) {
                wallet.current = Some(Arc::new(credentials));
                wallet.next_at = next_at;
                changed = true;
            }
        }
        if wallet.next.is_none()
            && wallet.current.is_some()
            && now.plus(PREPARE_AHEAD_SECONDS) >= wallet.next_at
            && now < wallet.next_at
            && let Some((credentials, _)) = prepare(machine, issuer, wallet.next_at)
        {
            wallet.next = Some(Arc::new(credentials));
            changed = true;
        }
        changed.then_some(wallet)
    }
}

fn prepare(machine: &Machine, issuer: &dyn Issuer, at: UnixTime) -> Option<(PreparedCredentials, UnixTime)> {
    let (v1, next_at) = issuer.issue(machine.id, Delivery::V1, at)?;
    let (v2, _) = issuer.issue(machine.id, Delivery::V2, at)?;
    let (v1, v2) = (PreparedCredential::from(&v1), PreparedCredential::from(&v2));
    Some((PreparedCredentials::new(machine.facts.account, v1, v2), next_at))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use inborn_credential::{Claims, Epoch, EpochId, EpochRoot, Keyring, Kind, generation};
    use inborn_identity::Partition;

    pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    /// The region, as far as an issuer is one.
    pub(crate) struct Region(Keyring);

    impl Issuer for Region {
        fn issue(&self, instance: InstanceId, delivery: Delivery, at: UnixTime) -> Option<(Credential, UnixTime)> {
            let held = generation(instance, UnixTime::default(), at);
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

    pub(crate) fn region() -> Region {
        let epoch = Epoch::new(EpochId(1), &EpochRoot::from_bytes([1; 32]), Partition::Aws).unwrap();
        Region(Keyring::new(vec![epoch], EpochId(1)).unwrap())
    }

    fn machine(boot_generation: u32) -> Machine {
        machine_with(boot_generation, MetadataOptions::default())
    }

    pub(crate) fn machine_with(boot_generation: u32, options: MetadataOptions) -> Machine {
        parts(boot_generation, options).into()
    }

    pub(crate) fn numbered(n: u8, options: MetadataOptions) -> Machine {
        MachineParts { id: InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, n]), ..parts(1, options) }.into()
    }

    pub(crate) fn parts(boot_generation: u32, options: MetadataOptions) -> MachineParts {
        let region: inborn_identity::Region = "us-east-1".parse().unwrap();
        let facts = Facts::bare(
            "123456789012".parse().unwrap(),
            Partition::Aws,
            region.clone(),
            inborn_identity::Zone::new(&region, 'a').unwrap(),
            NOW,
        );
        let id = "i-0123456789abcdef0".parse().unwrap();
        MachineParts { id, is_running: true, boot_generation, options, tags: Vec::new(), facts }
    }

    #[test]
    fn a_wallet_is_of_one_boot() {
        let wallet = Wallet::default().refilled(&machine(1), &region(), NOW).unwrap();
        assert!(wallet.refilled(&machine(1), &region(), NOW).is_none(), "nothing is due");
        assert_eq!(wallet.refilled(&machine(2), &region(), NOW).unwrap().boot_generation(), 2);
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_nothing_from_the_future() {
        let ahead = NOW.plus(86_400);
        let wallet = Wallet::default().refilled(&machine(1), &region(), ahead).unwrap();
        assert!(wallet.at(NOW).unwrap().issued_at() > NOW);
        let wallet = wallet.refilled(&machine(1), &region(), NOW).unwrap();
        assert!(wallet.at(NOW).unwrap().issued_at() <= NOW);
    }
}
