//! What the host serves: from what the region told and gave, never from anything else.

use std::sync::Arc;

use bytes::Bytes;
use inborn_credential::{Credential, Delivery};
use inborn_fleet::MachineRecord;
use inborn_host::{Issuer, Machine, MachineParts};
use inborn_host_agent::{Known, Talk, facts_of, options_of};
use inborn_identity::{InstanceId, MacAddress, UnixTime};
use inborn_imds::DocumentSignatures;
use serde::Deserialize;

/// Hands out what was prepared.
#[derive(Debug)]
pub(super) struct RemoteIssuer(pub(super) Arc<Talk>);

/// Whose a document is.
#[derive(Deserialize)]
struct Named {
    #[serde(rename = "instanceId")]
    instance: String,
}

impl Issuer for RemoteIssuer {
    fn issue(&self, instance: InstanceId, delivery: Delivery, at: UnixTime) -> Option<(Credential, UnixTime)> {
        self.0.agent().mirror().get(instance)?.credential(delivery, at)
    }

    fn withholds(&self, instance: InstanceId) -> bool {
        let agent = self.0.agent();
        agent.mirror().get(instance).is_some_and(|known| known.record().is_withheld)
    }

    fn sign_document(&self, document: &Bytes, _: UnixTime) -> Option<DocumentSignatures> {
        let Named { instance } = serde_json::from_slice(document).ok()?;
        let agent = self.0.agent();
        let signed = agent.mirror().get(instance.parse().ok()?).and_then(Known::document)?;
        if signed.document.as_bytes() != document {
            return None;
        }
        Some(DocumentSignatures { signature: signed.signature.clone().into(), pkcs7: signed.pkcs7.clone().into() })
    }
}

/// The machine as the host wants to know it, with the interface that it has if that is known.
pub(super) fn machine(record: &MachineRecord, mac: Option<MacAddress>) -> Machine {
    let mut facts = facts_of(record);
    if let (Some(interface), Some(mac)) = (facts.interface.as_mut(), mac) {
        interface.mac = mac.to_string();
    }
    Machine::from(MachineParts {
        id: record.instance,
        is_running: record.is_running,
        boot_generation: record.boot_generation,
        options: options_of(record),
        tags: record.tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        facts,
    })
}
