//! Types of findings.

use core::fmt;

/// The type of a finding: `PURPOSE:RESOURCE/NAME`, as in `Execution:Runtime/ReverseShell`. One of a list: a finding that claims
/// to be of GuardDuty's types is spelled as GuardDuty spells it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FindingType(&'static str);

/// A name that no type has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "no finding type has this name; GuardDuty's are PURPOSE:Runtime/NAME, as in guardduty.execution:runtime/reverseshell"
)]
pub struct FindingTypeError;

impl FindingType {
    /// Credentials of an instance, used from where no machine of this region is.
    pub const EXFILTRATION_OUTSIDE: Self = Self("UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS");
    /// Credentials of an instance, used from where another machine of this region is.
    pub const EXFILTRATION_INSIDE: Self = Self("UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.InsideAWS");
    /// A connection with an address on a list of the operator's.
    pub const MALICIOUS_ADDRESS: Self = Self("UnauthorizedAccess:EC2/MaliciousIPCaller.Custom");
    /// A question for a name on a list of the operator's.
    pub const MALICIOUS_DOMAIN: Self = Self("Impact:EC2/MaliciousDomainRequest.Custom");
    /// A rule matched that names no type. It is of ours: nothing of GuardDuty's is claimed for a rule that does not claim it.
    pub const RULE_MATCHED: Self = Self("Inborn:Runtime/RuleMatched");

    /// Another tool on the machine found something. It is of ours.
    pub const TOOL_FOUND: Self = Self("Inborn:Runtime/ToolFinding");

    /// What a rule's tag names, after `guardduty.`: capitals and all but letters and digits do not count, because the
    /// specification of Sigma's tags knows neither capitals nor `:` and `/`. `execution:runtime/reverseshell` and
    /// `execution.runtime.reverseshell` are one.
    ///
    /// # Errors
    /// No type has that name.
    pub fn named(text: &str) -> Result<Self, FindingTypeError> {
        TYPES.into_iter().find(|name| folded(name).eq(folded(text))).map(Self).ok_or(FindingTypeError)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        TYPES.into_iter().map(Self)
    }

    /// The type, as the service spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

fn folded(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase())
}

impl fmt::Display for FindingType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for FindingType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Source: GuardDuty user guide, "Runtime Monitoring finding types", "IAM finding types" and "EC2 finding types"; the last ones are of ours.
const TYPES: [&str; 54] = [
    "CryptoCurrency:Runtime/BitcoinTool.B",
    "CryptoCurrency:Runtime/BitcoinTool.B!DNS",
    "Backdoor:Runtime/C&CActivity.B",
    "Backdoor:Runtime/C&CActivity.B!DNS",
    "UnauthorizedAccess:Runtime/TorRelay",
    "UnauthorizedAccess:Runtime/TorClient",
    "UnauthorizedAccess:Runtime/MetadataDNSRebind",
    "Trojan:Runtime/BlackholeTraffic",
    "Trojan:Runtime/DropPoint",
    "Trojan:Runtime/BlackholeTraffic!DNS",
    "Trojan:Runtime/DropPoint!DNS",
    "Trojan:Runtime/DGADomainRequest.C!DNS",
    "Trojan:Runtime/DriveBySourceTraffic!DNS",
    "Trojan:Runtime/PhishingDomainRequest!DNS",
    "Impact:Runtime/AbusedDomainRequest.Reputation",
    "Impact:Runtime/BitcoinDomainRequest.Reputation",
    "Impact:Runtime/MaliciousDomainRequest.Reputation",
    "Impact:Runtime/SuspiciousDomainRequest.Reputation",
    "Impact:Runtime/CryptoMinerExecuted",
    "Execution:Runtime/NewBinaryExecuted",
    "Execution:Runtime/ReverseShell",
    "Execution:Runtime/NewLibraryLoaded",
    "Execution:Runtime/SuspiciousTool",
    "Execution:Runtime/SuspiciousCommand",
    "Execution:Runtime/MaliciousFileExecuted",
    "Execution:Runtime/MaliciousFileExecuted.Custom",
    "Execution:Runtime/SuspiciousShellCreated",
    "PrivilegeEscalation:Runtime/DockerSocketAccessed",
    "PrivilegeEscalation:Runtime/RuncContainerEscape",
    "PrivilegeEscalation:Runtime/CGroupsReleaseAgentModified",
    "PrivilegeEscalation:Runtime/ContainerMountsHostDirectory",
    "PrivilegeEscalation:Runtime/UserfaultfdUsage",
    "PrivilegeEscalation:Runtime/ElevationToRoot",
    "PrivilegeEscalation:Runtime/SuspiciousCommand",
    "PrivilegeEscalation:Runtime/SensitiveFileModified",
    "DefenseEvasion:Runtime/ProcessInjection.Proc",
    "DefenseEvasion:Runtime/ProcessInjection.Ptrace",
    "DefenseEvasion:Runtime/ProcessInjection.VirtualMemoryWrite",
    "DefenseEvasion:Runtime/FilelessExecution",
    "DefenseEvasion:Runtime/SuspiciousCommand",
    "DefenseEvasion:Runtime/PtraceAntiDebugging",
    "DefenseEvasion:Runtime/KernelModuleLoaded",
    "DefenseEvasion:Runtime/SensitiveFileModified",
    "Discovery:Runtime/SuspiciousCommand",
    "Persistence:Runtime/SuspiciousCommand",
    "Persistence:Runtime/SensitiveFileModified",
    FindingType::EXFILTRATION_OUTSIDE.0,
    FindingType::EXFILTRATION_INSIDE.0,
    FindingType::MALICIOUS_ADDRESS.0,
    FindingType::MALICIOUS_DOMAIN.0,
    FindingType::RULE_MATCHED.0,
    FindingType::TOOL_FOUND.0,
    "CredentialAccess:Runtime/IdentityCredentialsRead",
    "CredentialAccess:Runtime/SensitiveFileRead",
];

#[cfg(test)]
mod tests {
    use super::{FindingType, folded};
    use std::collections::HashSet;

    #[test]
    fn a_type_is_named_without_capitals_and_signs() {
        for text in [
            "Execution:Runtime/ReverseShell",
            "execution:runtime/reverseshell",
            "execution.runtime.reverseshell",
            "execution-runtime-reverse_shell",
        ] {
            assert_eq!(
                FindingType::named(text).map(FindingType::as_str),
                Ok("Execution:Runtime/ReverseShell"),
                "{text}"
            );
        }
        assert_eq!(
            FindingType::named("Backdoor:Runtime/C&CActivity.B!DNS").map(FindingType::as_str),
            Ok("Backdoor:Runtime/C&CActivity.B!DNS")
        );
        for text in ["", "execution", "execution:runtime/reverseshells", "runtime/reverseshell", "é"] {
            assert!(FindingType::named(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_two_types_have_one_name() {
        let names = FindingType::all().map(|kind| folded(kind.as_str()).collect::<String>()).collect::<Vec<_>>();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }
}
