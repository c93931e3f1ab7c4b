//! What a machine's agent told of itself last.

use inborn_identity::{InstanceId, UnixTime};

use crate::StoreError;

/// A machine with an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// The machine.
    pub instance: InstanceId,
    /// When its agent spoke last.
    pub pinged_at: UnixTime,
    /// What the agent said, one text for each of [`Node::FACTS`] in their order; empty where it said nothing.
    pub facts: [String; Node::FACTS.len()],
}

impl Node {
    /// The names of the facts. Source: botocore's and the agent's model of `UpdateInstanceInformation`.
    pub const FACTS: [&str; 11] = [
        "AgentName",
        "AgentVersion",
        "AgentStatus",
        "PlatformType",
        "PlatformName",
        "PlatformVersion",
        "ComputerName",
        "IPAddress",
        "AvailabilityZone",
        "AvailabilityZoneId",
        "SSMConnectionChannel",
    ];
    /// The longest fact, in bytes. `ComputerName` has up to 255 characters.
    pub const FACT_BYTES_MAX: usize = 1024;

    /// The fact of this name; empty if it is not known.
    #[must_use]
    pub fn fact(&self, name: &str) -> &str {
        let known = Self::FACTS.iter().zip(&self.facts).find(|(own, _)| **own == name);
        known.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.facts.iter().all(|fact| fact.len() <= Self::FACT_BYTES_MAX) {
            Ok(())
        } else {
            Err(StoreError::Invalid("a fact of a node has at most 1024 bytes"))
        }
    }
}
