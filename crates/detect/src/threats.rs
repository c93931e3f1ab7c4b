//! What machines do with addresses and names that an operator has put on lists. There is no list but the operator's, so that
//! findings say no more than that something is on one, and on which.

use crate::category::Category;
use crate::describe::described;
use crate::event::Event;
use crate::finding::{Action, Finding, FindingType, Severity, ThreatList};
use inborn_identity::{Partition, UnixTime};
use inborn_telemetry::Source;
use std::net::IpAddr;

/// How many lists a finding names.
pub const LISTS_NAMED_MAX: usize = 8;

/// A list of addresses and names of hosts.
pub trait AddressList {
    /// Whether an address is on it.
    fn has_address(&self, address: IpAddr) -> bool;

    /// Whether a name, or one that it is below, is on it.
    fn has_name(&self, name: &str) -> bool;
}

/// A list of threats, and how the operator calls it.
#[derive(Clone, Copy)]
pub struct NamedList<'a> {
    /// Its name.
    pub name: &'a str,
    /// What is on it.
    pub list: &'a dyn AddressList,
}

/// The finding about an event whose other side, or whose name, is on a list. `Source` of the types: GuardDuty user guide, "EC2 finding
/// types": `MaliciousIPCaller.Custom` is a connection with what is on a custom threat list, `MaliciousDomainRequest.Custom` a question
/// for it; both are of medium severity.
#[must_use]
pub fn threatened(
    event: &Event<'_>,
    lists: &[NamedList<'_>],
    source: &Source,
    partition: Partition,
    now: UnixTime,
) -> Option<Finding> {
    if lists.is_empty() || !event.categories().iter().any(|category| is_about_others(*category)) {
        return None;
    }
    let mut finding = described(event, source, partition, now);
    let (kind, threat, address) = match finding.action.as_ref()? {
        Action::DnsRequest(request) => (FindingType::MALICIOUS_DOMAIN, request.domain.clone(), None),
        Action::NetworkConnection(connection) => {
            let address = connection.remote.0?.0.to_canonical();
            (FindingType::MALICIOUS_ADDRESS, address.to_string(), Some(address))
        }
        Action::AwsApiCall(_) => return None,
    };
    let is_on = |list: &dyn AddressList| match address {
        Some(address) => list.has_address(address),
        None => list.has_name(&threat),
    };
    let named = lists.iter().filter(|named| is_on(named.list)).take(LISTS_NAMED_MAX);
    let lists: Vec<ThreatList> =
        named.map(|named| ThreatList { name: named.name.to_owned(), threats: vec![threat.clone()] }).collect();
    let list = &lists.first()?.name;
    let (what, done) = match kind {
        FindingType::MALICIOUS_DOMAIN => ("asked for the name", "A name on a list of threats was asked for"),
        _ => ("has a connection with", "A connection with an address on a list of threats"),
    };
    finding.title = format!("{done} on {}", source.instance);
    finding.description =
        format!("The machine {} {what} {threat}, which is on the list '{list}' of this account.", source.instance);
    finding.subject = format!("{threat}|{}", event.text("Image").unwrap_or_default());
    (finding.kind, finding.severity, finding.threat_lists) = (kind, Severity::Medium, lists);
    Some(finding)
}

const fn is_about_others(category: Category) -> bool {
    matches!(category, Category::NetworkConnection | Category::DnsQuery)
}

/// Whether the other side of what was found is on a list of addresses that an operator trusts: nothing is found about them.
#[must_use]
pub fn is_trusted(finding: &Finding, lists: &[&dyn AddressList]) -> bool {
    let remote = match &finding.action {
        Some(Action::NetworkConnection(connection)) => connection.remote.0,
        Some(Action::AwsApiCall(call)) => Some(call.remote),
        Some(Action::DnsRequest(_)) | None => None,
    };
    remote.is_some_and(|remote| lists.iter().any(|list| list.has_address(remote.0)))
}

#[cfg(test)]
mod tests {
    use super::{AddressList, NamedList, is_trusted, threatened};
    use crate::event::Event;
    use crate::finding::Finding;
    use inborn_identity::{Partition, UnixTime};
    use inborn_telemetry::Source;
    use serde_json::{Value, json};
    use std::net::IpAddr;

    struct List(&'static str, &'static str);

    impl AddressList for List {
        fn has_address(&self, address: IpAddr) -> bool {
            address.to_string() == self.0
        }

        fn has_name(&self, name: &str) -> bool {
            name.ends_with(self.1)
        }
    }

    const BAD: List = List("192.0.2.66", "evil.example");
    const WORSE: List = List("192.0.2.66", "none.example");

    fn judged(value: &Value) -> Option<Finding> {
        let source = Source {
            account: "123456789012".parse().unwrap(),
            instance: "i-0123456789abcdef0".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
        };
        let lists = [NamedList { name: "bad", list: &BAD }, NamedList { name: "worse", list: &WORSE }];
        threatened(&Event::of(value).unwrap(), &lists, &source, Partition::Aws, UnixTime::from_secs(1_800_000_000))
    }

    fn connection(activity: u32, direction: u32, source: &str, destination: &str) -> Value {
        json!({
            "class_uid": 4001, "activity_id": activity, "connection_info": { "direction_id": direction },
            "src_endpoint": { "ip": source, "port": 40000 }, "dst_endpoint": { "ip": destination, "port": 443 },
            "actor": { "process": { "pid": 7, "file": { "path": "/usr/bin/curl" } } },
        })
    }

    #[test]
    fn a_connection_in_either_direction_is_judged_by_its_other_side() {
        let out = judged(&connection(1, 2, "172.31.0.10", "192.0.2.66")).unwrap();
        let document = out.document(&crate::finding::tests::recorded());
        assert_eq!(out.kind.as_str(), "UnauthorizedAccess:EC2/MaliciousIPCaller.Custom");
        assert_eq!(out.severity.value(), 5.0);
        let lists = &document["service"]["evidence"]["threatIntelligenceDetails"];
        assert_eq!(lists[0], json!({ "threatListName": "bad", "threatNames": ["192.0.2.66"] }));
        assert_eq!(lists[1]["threatListName"], "worse");
        let into = judged(&connection(1, 1, "192.0.2.66", "172.31.0.10")).unwrap();
        let action = &into.document(&crate::finding::tests::recorded())["service"]["action"]["networkConnectionAction"];
        assert_eq!(action["remoteIpDetails"]["ipAddressV4"], "192.0.2.66");
        assert_eq!(action["localPortDetails"]["port"], 443);
        assert_eq!(judged(&connection(1, 2, "::ffff:172.31.0.10", "::ffff:192.0.2.66")).unwrap().key(), out.key());
        assert!(judged(&connection(1, 2, "192.0.2.66", "172.31.0.10")).is_none(), "its own side");
        assert!(judged(&connection(1, 2, "172.31.0.10", "192.0.2.67")).is_none());
        assert!(judged(&connection(7, 1, "192.0.2.66", "0.0.0.0")).is_none(), "a port that was opened");
    }

    #[test]
    fn a_name_is_judged_when_it_is_asked_for() {
        let asked = |name: &str| json!({ "class_uid": 4003, "activity_id": 1, "query": { "hostname": name } });
        let found = judged(&asked("a.evil.example")).unwrap();
        assert_eq!(found.kind.as_str(), "Impact:EC2/MaliciousDomainRequest.Custom");
        assert!(found.description.contains("a.evil.example, which is on the list 'bad'"), "{}", found.description);
        assert!(judged(&asked("good.example")).is_none());
        assert!(judged(&json!({ "class_uid": 1007, "activity_id": 1, "process": { "pid": 1 } })).is_none());
    }

    #[test]
    fn trust_is_of_the_other_side() {
        let found = judged(&connection(1, 2, "172.31.0.10", "192.0.2.66")).unwrap();
        assert!(is_trusted(&found, &[&List("192.0.2.1", ""), &List("192.0.2.66", "")]));
        assert!(!is_trusted(&found, &[&List("172.31.0.10", "")]));
        assert!(!is_trusted(&found, &[]));
    }
}
