//! Classes of OCSF 1.3: which have columns of their own, and what their source is called in Security Lake.

use inborn_telemetry::ClassUid;

use super::objects::{
    ANSWER, API, BASE, CONNECTION, CONTROL, ENDPOINT, EVIDENCE, FILE, FINDING, HTTP_REQUEST, JUDGED, KERNEL, LAST,
    MODULE, PROCESS, QUERY, RESOURCE, SERVICE, SESSION, TRAFFIC, USER,
};
use super::schema::Field;
use super::schema::Kind::{Bool, Group, Int, List, Long, Text};

/// The classes of OCSF 1.3.0, with those of its extensions: each is a source of its own, and no machine can make another.
pub(crate) const ALL: [u32; 71] = [
    1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 2001, 2002, 2003, 2004, 2005, 2006, 3001, 3002, 3003, 3004, 3005,
    3006, 4001, 4002, 4003, 4004, 4005, 4006, 4007, 4008, 4009, 4010, 4011, 4012, 4013, 4014, 5001, 5002, 5003, 5004,
    5006, 5007, 5008, 5009, 5010, 5011, 5012, 5013, 5014, 5015, 5016, 5017, 5018, 5019, 5020, 6001, 6002, 6003, 6004,
    6005, 6006, 6007, 7001, 7002, 7003, 7004, 201_001, 201_002, 201_003, 201_004, 205_004, 205_005, 205_019,
];

/// The name of the source in the path. What is of no other class is together in one.
pub(crate) fn source(class: ClassUid) -> String {
    let name = match class.0 {
        1001 => "file",
        1002 => "kernel-extension",
        1003 => "kernel",
        1004 => "memory",
        1005 => "module",
        1007 => "process",
        2004 => "finding",
        3002 => "authentication",
        4001 => "network",
        4003 => "dns",
        4007 => "ssh",
        6003 => "api",
        other if ALL.contains(&other) => return format!("inborn-class-{other}"),
        _ => "other",
    };
    format!("inborn-{name}")
}

/// Whether two classes are in the same files.
pub(crate) fn group(class: ClassUid) -> ClassUid {
    if ALL.contains(&class.0) { class } else { ClassUid(0) }
}

/// The attributes of a class, in the order of the columns. A class that is not told apart has those that all have.
pub(super) fn fields(class: ClassUid) -> [&'static [Field]; 5] {
    let own = match class.0 {
        1001 => FILE_ACTIVITY,
        1002 => KERNEL_EXTENSION,
        1003 => KERNEL_ACTIVITY,
        1004 => MEMORY,
        1005 => MODULE_ACTIVITY,
        1007 => PROCESS_ACTIVITY,
        2004 => DETECTION,
        3002 => AUTHENTICATION,
        4001 => NETWORK,
        4003 => DNS,
        4007 => SSH,
        6003 => API_ACTIVITY,
        _ => &[],
    };
    let judged = if class.0 == 2004 { JUDGED } else { &[] };
    let control = if matches!(class.0, 3002 | 6003) { &[] } else { CONTROL };
    [BASE, control, own, judged, LAST]
}

const FILE_ACTIVITY: &[Field] = &[
    Field("file", Group(FILE)),
    Field("file_result", Group(FILE)),
    Field("access_mask", Int),
    Field("create_mask", Text),
    Field("component", Text),
    Field("connection_uid", Text),
    Field("file_diff", Text),
];

const KERNEL_EXTENSION: &[Field] = &[Field("driver", Group(&[Field("file", Group(FILE))]))];

const KERNEL_ACTIVITY: &[Field] = &[Field("kernel", Group(KERNEL))];

const MEMORY: &[Field] = &[
    Field("process", Group(PROCESS)),
    Field("base_address", Text),
    Field("size", Long),
    Field("actual_permissions", Int),
    Field("requested_permissions", Int),
];

const MODULE_ACTIVITY: &[Field] = &[Field("module", Group(MODULE))];

const PROCESS_ACTIVITY: &[Field] = &[
    Field("process", Group(PROCESS)),
    Field("module", Group(MODULE)),
    Field("exit_code", Int),
    Field("injection_type_id", Int),
    Field("injection_type", Text),
    Field("actual_permissions", Int),
    Field("requested_permissions", Int),
];

const DETECTION: &[Field] = &[
    Field("finding_info", Group(FINDING)),
    Field("evidences", List(&Group(EVIDENCE))),
    Field("resources", List(&Group(RESOURCE))),
    Field("remediation", Group(&[Field("desc", Text), Field("references", List(&Text))])),
];

const AUTHENTICATION: &[Field] = &[
    Field("user", Group(USER)),
    Field("session", Group(SESSION)),
    Field("service", Group(SERVICE)),
    Field("logon_process", Group(PROCESS)),
    Field("src_endpoint", Group(ENDPOINT)),
    Field("dst_endpoint", Group(ENDPOINT)),
    Field("auth_protocol_id", Int),
    Field("auth_protocol", Text),
    Field("logon_type_id", Int),
    Field("logon_type", Text),
    Field("is_cleartext", Bool),
    Field("is_mfa", Bool),
    Field("is_new_logon", Bool),
    Field("is_remote", Bool),
];

const NETWORK: &[Field] = &[
    Field("src_endpoint", Group(ENDPOINT)),
    Field("dst_endpoint", Group(ENDPOINT)),
    Field("connection_info", Group(CONNECTION)),
    Field("traffic", Group(TRAFFIC)),
    Field("app_name", Text),
    Field("url", Group(&[Field("url_string", Text), Field("hostname", Text), Field("port", Int), Field("path", Text)])),
];

const DNS: &[Field] = &[
    Field("query", Group(QUERY)),
    Field("answers", List(&Group(ANSWER))),
    Field("rcode_id", Int),
    Field("rcode", Text),
    Field("query_time", Long),
    Field("response_time", Long),
    Field("src_endpoint", Group(ENDPOINT)),
    Field("dst_endpoint", Group(ENDPOINT)),
    Field("connection_info", Group(CONNECTION)),
    Field("traffic", Group(TRAFFIC)),
    Field("app_name", Text),
];

const SSH: &[Field] = &[
    Field("src_endpoint", Group(ENDPOINT)),
    Field("dst_endpoint", Group(ENDPOINT)),
    Field("connection_info", Group(CONNECTION)),
    Field("traffic", Group(TRAFFIC)),
    Field("app_name", Text),
    Field("auth_type_id", Int),
    Field("auth_type", Text),
    Field("protocol_ver", Text),
    Field("file", Group(FILE)),
];

const API_ACTIVITY: &[Field] = &[
    Field("api", Group(API)),
    Field("src_endpoint", Group(ENDPOINT)),
    Field("dst_endpoint", Group(ENDPOINT)),
    Field("http_request", Group(HTTP_REQUEST)),
    Field("resources", List(&Group(RESOURCE))),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_a_source_of_its_own() {
        let mut sources: Vec<_> = ALL.iter().map(|class| source(ClassUid(*class))).collect();
        sources.sort();
        sources.dedup();
        assert_eq!(sources.len(), ALL.len());
        assert_eq!(source(ClassUid(1006)), "inborn-class-1006");
    }

    #[test]
    fn what_machines_make_up_is_one_source() {
        for class in [0, 1, 1000, 9999, u32::MAX] {
            assert_eq!(source(ClassUid(class)), "inborn-other");
            assert_eq!(group(ClassUid(class)), ClassUid(0));
        }
        assert_eq!(group(ClassUid(1007)), ClassUid(1007));
    }
}
