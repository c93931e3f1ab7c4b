//! The rules that come with Inborn.

use crate::rules::RuleFile;
use std::sync::Arc;

macro_rules! rules {
    ($($name:literal)*) => { [$((concat!("inborn/", $name, ".yml"), include_str!(concat!("../rules/", $name, ".yml")))),*] };
}

const OWN: [(&str, &str); 22] = rules![
    "container_mounts_host" "crypto_miner" "docker_socket" "elevation_to_root" "fileless_execution" "injection_proc_mem"
    "injection_ptrace" "injection_vm_write" "kernel_module" "kernel_module_unattributed" "metadata_dns_rebind" "ptrace_anti_debugging" "release_agent"
    "reverse_shell" "reverse_shell_interpreter" "runc_overwritten" "sensitive_file_evasion" "sensitive_file_persistence"
    "sensitive_file_privilege" "suspicious_shell" "suspicious_tool" "userfaultfd"
];

/// The files of our own rules.
#[must_use]
pub fn own_rules() -> Vec<RuleFile> {
    OWN.into_iter().map(|(name, text)| RuleFile { name: Arc::from(name), text: text.to_owned() }).collect()
}
