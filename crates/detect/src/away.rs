//! Credentials of a machine that are used somewhere else. Sigma cannot say it: it takes what the region knows of its machines.
//!
//! Nothing is claimed that the source of a request does not tell. It tells something in two cases only:
//!
//! - The request came in by a listener that is for one machine alone (a pocket's): it comes from that machine.
//! - The machine whose credentials they are has an address in a network of which the operator says that its machines reach
//!   the region without translation. Then another address is another place; one of the other family, about which the operator
//!   has said nothing, is one that nobody can show to be the machine ([`Place::Unshown`]), and is treated as away: else who
//!   took credentials would only have to come by IPv6.
//!
//! Everything else is silence: loopback addresses, machines behind NAT, networks that nobody has named.

use crate::finding::{
    AccessKeyDetails, Action, AwsApiCall, Finding, FindingType, InstanceDetails, IpDetails, Resource, Severity,
};
use core::fmt;
use core::str::FromStr;
use inborn_identity::{AccountId, InstanceId, Partition, Region, UnixTime};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is done about credentials that are used away from their machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Policy {
    /// Nothing is looked at.
    Off,
    /// It is found.
    #[default]
    Detect,
    /// It is found, and the call is refused.
    Enforce,
}

/// A word that is no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a policy is one of off, detect, enforce")]
pub struct PolicyError;

impl FromStr for Policy {
    type Err = PolicyError;
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "off" => Ok(Self::Off),
            "detect" => Ok(Self::Detect),
            "enforce" => Ok(Self::Enforce),
            _ => Err(PolicyError),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Detect => "detect",
            Self::Enforce => "enforce",
        })
    }
}

/// Who may send on what another machine has signed: a service that is shown a `GetCallerIdentity` call and asks the region
/// with it who that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayer {
    /// Everything with such an address.
    Network(IpNet),
    /// A machine of this region.
    Machine(InstanceId),
}

/// A text that names no replayer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a replayer is an address, a network as in 10.0.0.0/8, or an instance id")]
pub struct ReplayerError;

impl FromStr for Replayer {
    type Err = ReplayerError;
    fn from_str(text: &str) -> Result<Self, ReplayerError> {
        if let Ok(machine) = text.parse() {
            return Ok(Self::Machine(machine));
        }
        network(text).map(Self::Network).ok_or(ReplayerError)
    }
}

/// A network, or one address as a network.
#[must_use]
pub fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().map(|net| net.trunc()).or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// What an operator says about the use of credentials.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AwaySettings {
    /// What is done.
    pub policy: Policy,
    /// The networks whose machines reach the region with their own private addresses.
    pub networks: Vec<IpNet>,
    /// Who may send on.
    pub replayers: Vec<Replayer>,
}

/// The use of a machine's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Whose credentials.
    pub instance: InstanceId,
    /// Its private address.
    pub private_address: Ipv4Addr,
    /// Its IPv6 address, if it has one.
    pub ipv6_address: Option<Ipv6Addr>,
    /// The machine that the listener is for, if it is for one alone.
    pub listener: Option<InstanceId>,
    /// The other end of the connection.
    pub source: IpAddr,
    /// Whether it is a call that others may send on for the machine: who the caller is, and nothing else.
    pub may_be_sent_on: bool,
}

/// Where they were used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the machine.
    Home,
    /// Where somebody is who may send on.
    Replayer,
    /// The source does not tell.
    Untold,
    /// On another machine of this region.
    Inside(InstanceId),
    /// Where no machine of this region is.
    Outside,
    /// Where no machine of this region is known to be, by a family of addresses of which nothing was said for this machine. It
    /// may be the machine itself, by an address that nobody knows; nobody can show it.
    Unshown,
}

impl Place {
    /// Whether it is another place than the machine, or one that cannot be shown to be the machine although addresses tell.
    #[must_use]
    pub const fn is_away(self) -> bool {
        matches!(self, Self::Inside(_) | Self::Outside | Self::Unshown)
    }
}

impl AwaySettings {
    /// Where credentials were used. `machine_at` finds a machine that runs at an address.
    pub fn place(&self, used: &Use, machine_at: impl FnOnce(IpAddr) -> Option<InstanceId>) -> Place {
        if self.policy == Policy::Off {
            return Place::Untold;
        }
        if let Some(machine) = used.listener {
            return match machine {
                machine if machine == used.instance => Place::Home,
                machine if self.sends_on(used, machine) => Place::Replayer,
                machine => Place::Inside(machine),
            };
        }
        let source = used.source.to_canonical();
        let home = match source {
            IpAddr::V4(_) => Some(IpAddr::V4(used.private_address)),
            IpAddr::V6(_) => used.ipv6_address.map(IpAddr::V6),
        };
        if home == Some(source) {
            return Place::Home;
        }
        if used.may_be_sent_on && self.replays(source) {
            return Place::Replayer;
        }
        if is_of_this_computer(source) {
            return Place::Untold;
        }
        let is_named = |home: IpAddr| self.networks.iter().any(|network| network.contains(&home));
        let is_telling = home.is_some_and(is_named);
        let other = [Some(IpAddr::V4(used.private_address)), used.ipv6_address.map(IpAddr::V6)];
        if !is_telling && !other.into_iter().flatten().any(is_named) {
            return Place::Untold;
        }
        match machine_at(source) {
            Some(machine) if machine == used.instance => Place::Home,
            Some(machine) if self.sends_on(used, machine) => Place::Replayer,
            Some(machine) => Place::Inside(machine),
            None if is_telling => Place::Outside,
            None => Place::Unshown,
        }
    }

    fn sends_on(&self, used: &Use, machine: InstanceId) -> bool {
        used.may_be_sent_on && self.replayers.contains(&Replayer::Machine(machine))
    }

    fn replays(&self, source: IpAddr) -> bool {
        self.replayers
            .iter()
            .any(|replayer| matches!(replayer, Replayer::Network(network) if network.contains(&source)))
    }
}

/// Loopback and link-local addresses are of the region's own computer, or of a link that nothing tells apart.
fn is_of_this_computer(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(address) => address.is_loopback() || address.is_unspecified() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unspecified() || address.is_unicast_link_local(),
    }
}

/// A call that was made with credentials away from their machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwayCall {
    /// Of the region.
    pub partition: Partition,
    /// The account of the machine.
    pub account: AccountId,
    /// The region that was called.
    pub region: Region,
    /// Whose credentials.
    pub instance: InstanceId,
    /// The key that signed.
    pub access_key_id: String,
    /// The `UserId` of the session.
    pub principal_id: String,
    /// The role of the session.
    pub role: String,
    /// The service, as in `sts.amazonaws.com`.
    pub service: String,
    /// The operation.
    pub api: String,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// The refusal that it met, if it met one.
    pub error_code: Option<String>,
    /// Where it came from.
    pub source: IpAddr,
    /// Where that is.
    pub place: Place,
    /// When.
    pub at: UnixTime,
}

impl AwayCall {
    /// The finding about it, if it was away.
    #[must_use]
    pub fn finding(self) -> Option<Finding> {
        let source = self.source.to_canonical();
        let (kind, from, subject) = match self.place {
            Place::Inside(machine) => {
                (FindingType::EXFILTRATION_INSIDE, format!("the machine {machine}"), machine.to_string())
            }
            Place::Outside | Place::Unshown => {
                (FindingType::EXFILTRATION_OUTSIDE, format!("the address {source}"), source.to_string())
            }
            Place::Home | Place::Replayer | Place::Untold => return None,
        };
        let title = format!("Credentials of {} were used from {from}", self.instance);
        let (severity, conclusion) = match self.place {
            Place::Unshown => (
                Severity::Medium,
                "That cannot be shown to be the machine: of its addresses of this family none is known, or none is in a network \
                 that was named. Either they were taken, or the machine has an address that the region does not know.",
            ),
            _ => (Severity::High, "They may have been taken from the machine."),
        };
        let description = format!(
            "{} of {} was called with credentials that were issued to the machine {}, from {from} ({source}). {conclusion}",
            self.api, self.service, self.instance
        );
        Some(Finding {
            kind,
            severity,
            title,
            description,
            partition: self.partition,
            account: self.account,
            region: self.region,
            resource: Resource {
                instance: Some(InstanceDetails::of(self.instance)),
                access_key: Some(AccessKeyDetails {
                    access_key_id: self.access_key_id,
                    principal_id: self.principal_id,
                    user_name: self.role,
                    user_type: "AssumedRole".to_owned(),
                }),
                container: None,
            },
            action: Some(Action::AwsApiCall(AwsApiCall {
                api: self.api,
                service: self.service,
                user_agent: self.user_agent,
                remote: IpDetails(source),
                error_code: self.error_code,
            })),
            runtime: None,
            threat_lists: Vec::new(),
            rule: None,
            subject,
            count: 1,
            first_seen: self.at,
            last_seen: self.at,
        })
    }
}

#[cfg(test)]
mod tests;
