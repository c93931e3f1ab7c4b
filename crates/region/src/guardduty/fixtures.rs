//! What tests of several modules need.

use inborn_detect::finding::Resource;
use inborn_detect::{Finding, FindingType, Severity};
use inborn_identity::{AccountId, Partition, UnixTime};

/// A shell of one machine, found at the moment `now`.
pub(crate) fn finding(subject: &str, now: UnixTime) -> Finding {
    Finding {
        kind: FindingType::named("Execution:Runtime/ReverseShell").unwrap(),
        severity: Severity::High,
        title: "a shell".to_owned(),
        description: "a shell is tied to a connection".to_owned(),
        partition: Partition::Aws,
        account: AccountId::new(123_456_789_012).unwrap(),
        region: "eu-central-1".parse().unwrap(),
        resource: Resource::machine("i-0123456789abcdef0".parse().unwrap()),
        action: None,
        runtime: None,
        threat_lists: Vec::new(),
        rule: None,
        subject: subject.to_owned(),
        count: 1,
        first_seen: now,
        last_seen: now,
    }
}
