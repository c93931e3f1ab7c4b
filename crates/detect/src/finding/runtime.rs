//! The process behind a finding, and what it touched.

use serde::Serialize;

/// `runtimeDetails`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeDetails {
    /// The process that did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessDetails>,
    /// What it touched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<RuntimeContext>,
}

/// `ProcessDetails`, and with less in it `LineageObject`: they share their names.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessDetails {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The path of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable_path: Option<String>,
    /// SHA-256 of its program.
    #[serde(rename = "executableSha256", skip_serializing_if = "Option::is_none")]
    pub executable_sha256: Option<String>,
    /// Its id in its own namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_pid: Option<i32>,
    /// Where it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pwd: Option<String>,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// When it started: seconds since 1970, as timestamps are in this protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<u64>,
    /// What tells it from one with the same id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The same of its parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_uuid: Option<String>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whose it is, as a number. Ids above 2³¹ do not fit the model's integers and are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<i32>,
    /// Whose rights it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub euid: Option<i32>,
    /// Its ancestors, the nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<ProcessDetails>,
}

/// `RuntimeContext`: the members that events here can fill.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeContext {
    /// Another process that was touched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_process: Option<ProcessDetails>,
    /// A Unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// runc.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runc_binary_path: Option<String>,
    /// A `release_agent` of control groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_agent_path: Option<String>,
    /// What was mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_source: Option<String>,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_target: Option<String>,
    /// As what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_system_type: Option<String>,
    /// How.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// A kernel module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_name: Option<String>,
    /// Its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_file_path: Option<String>,
    /// SHA-256 of its file.
    #[serde(rename = "moduleSha256", skip_serializing_if = "Option::is_none")]
    pub module_sha256: Option<String>,
    /// `IPv4`, `IPv6` or `Unix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_family: Option<String>,
    /// 6 is TCP, 17 UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iana_protocol_number: Option<i32>,
    /// A tool that is known for misuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<String>,
    /// A command line, as an example of what was run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line_example: Option<String>,
    /// What was done to a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_operation: Option<String>,
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_path: Option<String>,
    /// A file that is on a list of the operator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threat_file_path: Option<String>,
}
