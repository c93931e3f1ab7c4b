//! Objects of OCSF 1.3 that get columns. An attribute that is not here is in `unmapped`, and is not lost.

use super::schema::Field;
use super::schema::Kind::{self, Bool, Double, Group, Int, List, Long, Text};

const TEXTS: Kind = List(&Text);

/// Everything that every class has before its own attributes.
pub(super) const BASE: &[Field] = &[
    Field("time", Long),
    Field("class_uid", Int),
    Field("class_name", Text),
    Field("category_uid", Int),
    Field("category_name", Text),
    Field("activity_id", Int),
    Field("activity_name", Text),
    Field("type_uid", Long),
    Field("type_name", Text),
    Field("severity_id", Int),
    Field("severity", Text),
    Field("status_id", Int),
    Field("status", Text),
    Field("status_code", Text),
    Field("status_detail", Text),
    Field("message", Text),
    Field("count", Int),
    Field("duration", Long),
    Field("start_time", Long),
    Field("end_time", Long),
    Field("timezone_offset", Int),
    Field("raw_data", Text),
    Field("metadata", Group(METADATA)),
    Field("cloud", Group(CLOUD)),
    Field("device", Group(DEVICE)),
    Field("actor", Group(ACTOR)),
    Field("observables", List(&Group(OBSERVABLE))),
];

/// What was done about it, in classes that OCSF lets have this profile.
pub(super) const CONTROL: &[Field] =
    &[Field("action_id", Int), Field("action", Text), Field("disposition_id", Int), Field("disposition", Text)];

/// And after them.
pub(super) const LAST: &[Field] = &[Field(super::schema::UNMAPPED, Text)];

const METADATA: &[Field] = &[
    Field("version", Text),
    Field("uid", Text),
    Field("correlation_uid", Text),
    Field("event_code", Text),
    Field("log_level", Text),
    Field("log_name", Text),
    Field("log_provider", Text),
    Field("log_version", Text),
    Field("logged_time", Long),
    Field("modified_time", Long),
    Field("original_time", Text),
    Field("processed_time", Long),
    Field("sequence", Int),
    Field("tenant_uid", Text),
    Field("profiles", TEXTS),
    Field("labels", TEXTS),
    Field(
        "product",
        Group(&[
            Field("name", Text),
            Field("vendor_name", Text),
            Field("version", Text),
            Field("uid", Text),
            Field("lang", Text),
            Field("feature", Group(&[Field("name", Text), Field("uid", Text), Field("version", Text)])),
        ]),
    ),
];

const ACCOUNT: &[Field] = &[Field("uid", Text), Field("name", Text), Field("type_id", Int), Field("type", Text)];

const CLOUD: &[Field] = &[
    Field("provider", Text),
    Field("region", Text),
    Field("zone", Text),
    Field("account", Group(ACCOUNT)),
    Field("org", Group(&[Field("uid", Text), Field("name", Text), Field("ou_uid", Text), Field("ou_name", Text)])),
    Field("project_uid", Text),
];

const DEVICE: &[Field] = &[
    Field("uid", Text),
    Field("type_id", Int),
    Field("type", Text),
    Field("name", Text),
    Field("hostname", Text),
    Field("ip", Text),
    Field("mac", Text),
    Field("domain", Text),
    Field("region", Text),
    Field("instance_uid", Text),
    Field("interface_name", Text),
    Field("interface_uid", Text),
    Field("subnet_uid", Text),
    Field("vpc_uid", Text),
    Field(
        "os",
        Group(&[
            Field("name", Text),
            Field("type_id", Int),
            Field("type", Text),
            Field("version", Text),
            Field("build", Text),
            Field("edition", Text),
        ]),
    ),
    Field("image", Group(IMAGE)),
];

const IMAGE: &[Field] = &[Field("uid", Text), Field("name", Text), Field("tag", Text)];

const CONTAINER: &[Field] = &[
    Field("uid", Text),
    Field("name", Text),
    Field("runtime", Text),
    Field("orchestrator", Text),
    Field("pod_uuid", Text),
    Field("image", Group(IMAGE)),
];

/// A user.
pub(super) const USER: &[Field] = &[
    Field("uid", Text),
    Field("name", Text),
    Field("type_id", Int),
    Field("type", Text),
    Field("uid_alt", Text),
    Field("domain", Text),
    Field("credential_uid", Text),
    Field("account", Group(ACCOUNT)),
];

const HASH: &[Field] = &[Field("algorithm_id", Int), Field("algorithm", Text), Field("value", Text)];

/// A file.
pub(super) const FILE: &[Field] = &[
    Field("path", Text),
    Field("name", Text),
    Field("type_id", Int),
    Field("type", Text),
    Field("parent_folder", Text),
    Field("size", Long),
    Field("uid", Text),
    Field("desc", Text),
    Field("mime_type", Text),
    Field("attributes", Int),
    Field("is_system", Bool),
    Field("security_descriptor", Text),
    Field("accessed_time", Long),
    Field("created_time", Long),
    Field("modified_time", Long),
    Field("hashes", List(&Group(HASH))),
    Field("owner", Group(&[Field("uid", Text), Field("name", Text)])),
];

/// The file of a process: what is known of executables.
const EXECUTABLE: &[Field] = &[
    Field("path", Text),
    Field("name", Text),
    Field("type_id", Int),
    Field("type", Text),
    Field("parent_folder", Text),
    Field("size", Long),
    Field("modified_time", Long),
    Field("hashes", List(&Group(HASH))),
];

const PARENT: &[Field] = &[
    Field("pid", Int),
    Field("uid", Text),
    Field("name", Text),
    Field("cmd_line", Text),
    Field("created_time", Long),
    Field("file", Group(EXECUTABLE)),
    Field("user", Group(&[Field("uid", Text), Field("name", Text)])),
];

/// A process, with its parent. Further ancestors are in `unmapped`.
pub(super) const PROCESS: &[Field] = &[
    Field("pid", Int),
    Field("uid", Text),
    Field("name", Text),
    Field("cmd_line", Text),
    Field("tid", Int),
    Field("created_time", Long),
    Field("terminated_time", Long),
    Field("integrity_id", Int),
    Field("integrity", Text),
    Field("namespace_pid", Int),
    Field("auid", Int),
    Field("egid", Int),
    Field("euid", Int),
    Field("sandbox", Text),
    Field("lineage", TEXTS),
    Field("file", Group(EXECUTABLE)),
    Field("user", Group(USER)),
    Field("session", Group(SESSION)),
    Field("container", Group(CONTAINER)),
    Field("parent_process", Group(PARENT)),
];

/// A session.
pub(super) const SESSION: &[Field] = &[
    Field("uid", Text),
    Field("uid_alt", Text),
    Field("issuer", Text),
    Field("created_time", Long),
    Field("expiration_time", Long),
    Field("is_remote", Bool),
    Field("is_mfa", Bool),
    Field("terminal", Text),
];

const ACTOR: &[Field] = &[
    Field("process", Group(PROCESS)),
    Field("user", Group(USER)),
    Field("session", Group(SESSION)),
    Field("app_name", Text),
    Field("app_uid", Text),
    Field("invoked_by", Text),
];

const OBSERVABLE: &[Field] = &[Field("name", Text), Field("type_id", Int), Field("type", Text), Field("value", Text)];

/// One end of a connection.
pub(super) const ENDPOINT: &[Field] = &[
    Field("ip", Text),
    Field("port", Int),
    Field("hostname", Text),
    Field("name", Text),
    Field("uid", Text),
    Field("type_id", Int),
    Field("type", Text),
    Field("mac", Text),
    Field("domain", Text),
    Field("instance_uid", Text),
    Field("interface_name", Text),
    Field("interface_uid", Text),
    Field("subnet_uid", Text),
    Field("vpc_uid", Text),
    Field("svc_name", Text),
    Field(
        "location",
        Group(&[
            Field("city", Text),
            Field("country", Text),
            Field("continent", Text),
            Field("region", Text),
            Field("coordinates", List(&Double)),
        ]),
    ),
];

/// What kind of connection it is.
pub(super) const CONNECTION: &[Field] = &[
    Field("protocol_num", Int),
    Field("protocol_name", Text),
    Field("protocol_ver_id", Int),
    Field("protocol_ver", Text),
    Field("direction_id", Int),
    Field("direction", Text),
    Field("boundary_id", Int),
    Field("boundary", Text),
    Field("tcp_flags", Int),
    Field("uid", Text),
];

/// How much was sent over it.
pub(super) const TRAFFIC: &[Field] = &[
    Field("bytes", Long),
    Field("bytes_in", Long),
    Field("bytes_out", Long),
    Field("packets", Long),
    Field("packets_in", Long),
    Field("packets_out", Long),
];

/// What is asked of DNS.
pub(super) const QUERY: &[Field] = &[
    Field("hostname", Text),
    Field("type", Text),
    Field("class", Text),
    Field("opcode_id", Int),
    Field("opcode", Text),
    Field("packet_uid", Int),
];

/// What DNS answers.
pub(super) const ANSWER: &[Field] = &[
    Field("rdata", Text),
    Field("type", Text),
    Field("class", Text),
    Field("ttl", Int),
    Field("packet_uid", Int),
    Field("flag_ids", List(&Int)),
    Field("flags", TEXTS),
];

/// A library that is loaded.
pub(super) const MODULE: &[Field] = &[
    Field("file", Group(FILE)),
    Field("type", Text),
    Field("load_type_id", Int),
    Field("load_type", Text),
    Field("base_address", Text),
    Field("start_address", Text),
    Field("function_name", Text),
];

/// What of the kernel is touched.
pub(super) const KERNEL: &[Field] = &[
    Field("name", Text),
    Field("type_id", Int),
    Field("type", Text),
    Field("path", Text),
    Field("system_call", Text),
    Field("is_system", Bool),
];

const NAMED: &[Field] = &[Field("uid", Text), Field("name", Text)];

/// What was found.
pub(super) const FINDING: &[Field] = &[
    Field("uid", Text),
    Field("title", Text),
    Field("desc", Text),
    Field("types", TEXTS),
    Field("created_time", Long),
    Field("modified_time", Long),
    Field("first_seen_time", Long),
    Field("last_seen_time", Long),
    Field("product_uid", Text),
    Field("src_url", Text),
    Field("data_sources", TEXTS),
    Field(
        "analytic",
        Group(&[
            Field("uid", Text),
            Field("name", Text),
            Field("type_id", Int),
            Field("type", Text),
            Field("category", Text),
            Field("desc", Text),
            Field("version", Text),
        ]),
    ),
    Field(
        "attacks",
        List(&Group(&[
            Field("version", Text),
            Field("tactic", Group(NAMED)),
            Field("technique", Group(NAMED)),
            Field("sub_technique", Group(NAMED)),
        ])),
    ),
];

/// What a finding rests on.
pub(super) const EVIDENCE: &[Field] = &[
    Field("process", Group(PROCESS)),
    Field("actor", Group(&[Field("process", Group(PROCESS)), Field("user", Group(USER))])),
    Field("file", Group(FILE)),
    Field("src_endpoint", Group(ENDPOINT)),
    Field("dst_endpoint", Group(ENDPOINT)),
    Field("connection_info", Group(CONNECTION)),
    Field("query", Group(QUERY)),
];

/// What a finding or a call is about.
pub(super) const RESOURCE: &[Field] = &[
    Field("uid", Text),
    Field("name", Text),
    Field("type", Text),
    Field("region", Text),
    Field("cloud_partition", Text),
    Field("labels", TEXTS),
];

/// A call of an API.
pub(super) const API: &[Field] = &[
    Field("operation", Text),
    Field("version", Text),
    Field("service", Group(&[Field("name", Text), Field("uid", Text), Field("version", Text)])),
    Field("request", Group(&[Field("uid", Text), Field("flags", TEXTS)])),
    Field(
        "response",
        Group(&[Field("code", Int), Field("error", Text), Field("error_message", Text), Field("message", Text)]),
    ),
];

/// A request of HTTP.
pub(super) const HTTP_REQUEST: &[Field] = &[
    Field("http_method", Text),
    Field("user_agent", Text),
    Field("uid", Text),
    Field("version", Text),
    Field("referrer", Text),
    Field("x_forwarded_for", TEXTS),
];

/// How sure and how bad.
pub(super) const JUDGED: &[Field] = &[
    Field("confidence_id", Int),
    Field("confidence", Text),
    Field("confidence_score", Int),
    Field("impact_id", Int),
    Field("impact", Text),
    Field("impact_score", Int),
    Field("risk_level_id", Int),
    Field("risk_level", Text),
    Field("risk_score", Int),
    Field("comment", Text),
];

/// A service that somebody logs in to.
pub(super) const SERVICE: &[Field] = NAMED;
