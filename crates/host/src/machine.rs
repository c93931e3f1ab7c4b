//! A machine as its host sees it: what metadata is made of.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use inborn_credential::{Credential, Delivery};
use inborn_identity::{AccountId, InstanceId, MetadataOptions, UnixTime};
use inborn_imds::{DocumentSignatures, Facts, LiveKeys, ManagedKeys, PreparedCredentials, View, identity_document};

use crate::document::Document;

/// A machine. Built by whoever knows the region's records; replaced as a whole when one of them changes.
#[derive(Debug)]
pub struct Machine {
    id: InstanceId,
    is_running: bool,
    boot_generation: u32,
    options: MetadataOptions,
    tags: Vec<(String, String)>,
    facts: Facts,
    document: Arc<Document>,
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
        let document = Arc::new(Document::new(identity_document(id, &facts)));
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

    /// The address that its region gave it.
    pub(crate) const fn address(&self) -> Option<Ipv4Addr> {
        self.facts.private_ip
    }

    pub(crate) const fn account(&self) -> AccountId {
        self.facts.account
    }

    pub(crate) const fn boot_generation(&self) -> u32 {
        self.boot_generation
    }

    /// Whether the IPv6 endpoint is on: `HttpProtocolIpv6`.
    pub(crate) const fn answers_over_ipv6(&self) -> bool {
        self.options.ipv6
    }

    pub(crate) const fn document(&self) -> &Arc<Document> {
        &self.document
    }

    /// Takes over what is signed already, if it is the same document: most changes of a machine do not change it.
    pub(crate) fn keep_document_of(&mut self, earlier: &Self) {
        if self.document.text() == earlier.document.text() {
            self.document = Arc::clone(&earlier.document);
        }
    }

    pub(crate) fn view<'a>(
        &'a self,
        credentials: Option<&'a PreparedCredentials>,
        is_withheld: bool,
        managed_keys: Option<LiveKeys<'a>>,
    ) -> View<'a> {
        View {
            instance: self.id,
            options: self.options,
            tags: &self.tags,
            facts: &self.facts,
            document: self.document.text(),
            signatures: self.document.signatures(),
            credentials,
            is_withheld,
            managed_keys,
        }
    }
}

/// The SSH keys that were sent to a machine in one of its boots.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SentKeys {
    /// Which boot; in any other they are not served.
    pub boot_generation: u32,
    /// The keys.
    pub keys: ManagedKeys,
}

/// Gives credentials of machines: the region in the same process, or one far away.
pub trait Issuer: Send + Sync + 'static {
    /// The credential that `instance` holds at the moment `at`, fetched by `delivery`, and when the next one takes its
    /// place; `None` when there is none to be had now.
    fn issue(&self, instance: InstanceId, delivery: Delivery, at: UnixTime) -> Option<(Credential, UnixTime)>;

    /// Whether `instance` is given no credentials for as long as somebody says so, not only at the moment.
    fn withholds(&self, instance: InstanceId) -> bool {
        let _ = instance;
        false
    }

    /// The signatures of an identity document, made at the moment `at`: some milliseconds of work. `None` when there are
    /// none to be had now.
    fn sign_document(&self, document: &Bytes, at: UnixTime) -> Option<DocumentSignatures> {
        let _ = (document, at);
        None
    }

    /// The SSH keys that were sent to `instance` and have not ended at the moment `at`.
    fn sent_keys(&self, instance: InstanceId, at: UnixTime) -> SentKeys {
        let _ = (instance, at);
        SentKeys::default()
    }
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
}
