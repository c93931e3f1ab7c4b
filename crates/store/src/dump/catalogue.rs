//! Every table that is dumped, the same for every store: SQLite at version 17, PostgreSQL at version 8.
//!
//! What region servers tell each other while they run (`region_nodes`, `feed`) is nobody's any more once they have ended, and
//! `schema_version` is each database's own: those three are in no dump. Tests of both stores hold this list to what is there.
//!
//! Whoever adds a column or a table raises [`CATALOGUE`], and says with `Column::since` what rows of earlier dumps have there.

use super::table::{Column, Earlier, Parent, Table};

/// The version of this list. A dump says which it was made by; one of a later version is refused.
pub const CATALOGUE: u32 = 2;

/// Tables that are each store's own, and in no dump.
pub const NOT_DUMPED: [&str; 3] = ["schema_version", "region_nodes", "feed"];

const fn text(name: &'static str) -> Column {
    Column::new(name, super::CellKind::Text)
}

const fn number(name: &'static str) -> Column {
    Column::new(name, super::CellKind::Number)
}

const fn flag(name: &'static str) -> Column {
    Column::new(name, super::CellKind::Flag)
}

const fn bytes(name: &'static str) -> Column {
    Column::new(name, super::CellKind::Bytes)
}

/// The tables, what others belong to before those that belong to it. Of each the columns of the key come first.
pub static TABLES: &[Table] = &[
    Table {
        name: "instances",
        columns: &[
            text("id"),
            text("account"),
            text("zone"),
            text("image_id"),
            text("instance_type"),
            text("private_address"),
            text("state"),
            number("launch_time"),
            number("boot_time"),
            number("boot_generation"),
            number("terminated_at").or_null(),
            text("reason_code").or_null(),
            text("reason_message").or_null(),
            text("http_tokens"),
            text("http_endpoint"),
            number("hop_limit"),
            flag("metadata_ipv6"),
            flag("metadata_tags"),
            text("key_name").or_null(),
            number("ami_launch_index"),
            text("reservation_id"),
            text("client_token").or_null(),
            flag("lease"),
            text("attachment_kind").or_null(),
            text("attachment_value").or_null(),
            text("public_key").or_null(),
            text("ipv6_address").or_null(),
            text("placement_group").or_null(),
            number("placement_partition").or_null(),
            text("attachment_mac").or_null(),
            text("host_id"),
        ],
        key: 1,
        parent: None,
        is_wide: false,
    },
    Table {
        name: "instance_tags",
        columns: &[text("instance_id"), text("tag_key"), text("tag_value")],
        key: 2,
        parent: Some(Parent { table: "instances", columns: &[("instance_id", "id")] }),
        is_wide: false,
    },
    Table {
        name: "instance_user_data",
        columns: &[text("instance_id"), bytes("user_data")],
        key: 1,
        parent: Some(Parent { table: "instances", columns: &[("instance_id", "id")] }),
        is_wide: true,
    },
    Table {
        name: "launches",
        columns: &[text("account"), text("client_token"), bytes("fingerprint"), text("reservation_id")],
        key: 2,
        parent: None,
        is_wide: false,
    },
    Table {
        name: "accounts",
        columns: &[text("id"), text("name"), number("created_at"), number("closed_at").or_null()],
        key: 1,
        parent: None,
        is_wide: false,
    },
    Table {
        name: "operators",
        columns: &[
            text("access_key_id"),
            bytes("sealed_secret"),
            text("name"),
            text("user_id"),
            text("account"),
            number("created_at"),
            flag("disabled"),
        ],
        key: 1,
        parent: None,
        is_wide: false,
    },
    Table {
        name: "epochs",
        columns: &[
            number("id"),
            bytes("sealed_root"),
            number("created_at"),
            text("state"),
            number("seals_from").or_null(),
            number("ended_at").or_null(),
            flag("revoked"),
        ],
        key: 1,
        parent: None,
        is_wide: false,
    },
    Table {
        name: "cut_offs",
        columns: &[text("kind"), text("subject"), number("threshold"), number("made_at")],
        key: 2,
        parent: None,
        is_wide: false,
    },
    Table { name: "settings", columns: &[text("name"), bytes("value")], key: 1, parent: None, is_wide: true },
    Table {
        name: "host_key_records",
        columns: &[text("instance_id"), number("revision"), number("proofs_until")],
        key: 1,
        parent: Some(Parent { table: "instances", columns: &[("instance_id", "id")] }),
        is_wide: false,
    },
    Table {
        name: "host_key_sets",
        columns: &[
            text("instance_id"),
            number("place"),
            text("key_lines"),
            text("basis"),
            flag("proven"),
            number("first_seen"),
            number("last_seen"),
            number("boot_generation"),
            text("access_key_id"),
            text("source_address"),
        ],
        key: 2,
        parent: Some(Parent { table: "host_key_records", columns: &[("instance_id", "instance_id")] }),
        is_wide: true,
    },
    Table {
        name: "key_pairs",
        columns: &[
            text("account"),
            text("name"),
            text("id"),
            text("key_type"),
            text("fingerprint"),
            text("public_key"),
            number("created_at"),
        ],
        key: 2,
        parent: None,
        is_wide: false,
    },
    Table {
        name: "key_pair_tags",
        columns: &[text("key_pair_id"), text("tag_key"), text("tag_value")],
        key: 2,
        parent: Some(Parent { table: "key_pairs", columns: &[("key_pair_id", "id")] }),
        is_wide: false,
    },
    Table {
        name: "roles",
        columns: &[
            text("account"),
            text("name"),
            text("path"),
            text("role_id"),
            text("description"),
            number("created_at"),
        ],
        key: 2,
        parent: None,
        is_wide: false,
    },
    Table {
        name: "registrations",
        columns: &[text("instance_id"), bytes("public_key"), number("registered_at"), number("key_changed_at")],
        key: 1,
        parent: Some(Parent { table: "instances", columns: &[("instance_id", "id")] }),
        is_wide: false,
    },
    Table {
        name: "nodes",
        columns: &[
            text("instance_id"),
            number("pinged_at"),
            text("agent_name"),
            text("agent_version"),
            text("agent_status"),
            text("platform_type"),
            text("platform_name"),
            text("platform_version"),
            text("computer_name"),
            text("ip_address"),
            text("availability_zone"),
            text("availability_zone_id"),
            text("connection_channel"),
        ],
        key: 1,
        parent: Some(Parent { table: "instances", columns: &[("instance_id", "id")] }),
        is_wide: false,
    },
    Table {
        name: "account_documents",
        columns: &[
            text("account"),
            text("name"),
            number("created_at"),
            text("display_name"),
            text("version_name"),
            text("target_type"),
            text("content"),
        ],
        key: 2,
        parent: None,
        is_wide: true,
    },
    Table {
        name: "commands",
        columns: &[
            text("id"),
            number("requested_at"),
            text("document_name"),
            text("content"),
            text("parameters"),
            text("targets"),
            text("comment"),
            number("delivery_seconds"),
            number("execution_seconds"),
            text("concurrency_max"),
            text("errors_max"),
            text("state"),
            flag("is_open"),
            number("target_count"),
            number("completed_count"),
            number("error_count"),
            number("delivery_timed_out_count"),
            text("account"),
        ],
        key: 1,
        parent: None,
        is_wide: true,
    },
    Table {
        name: "invocations",
        columns: &[
            text("command_id"),
            text("instance_id"),
            number("requested_at"),
            text("instance_name"),
            text("state"),
            number("acknowledged_at").or_null(),
            text("trace"),
        ],
        key: 2,
        parent: Some(Parent { table: "commands", columns: &[("command_id", "id")] }),
        is_wide: true,
    },
    Table {
        name: "invocation_steps",
        columns: &[
            text("command_id"),
            text("instance_id"),
            number("place"),
            text("name"),
            text("status"),
            number("code"),
            text("started"),
            text("finished"),
            text("output"),
            text("standard_output"),
            text("standard_error"),
        ],
        key: 3,
        parent: Some(Parent {
            table: "invocations",
            columns: &[("command_id", "command_id"), ("instance_id", "instance_id")],
        }),
        is_wide: true,
    },
    Table {
        name: "inventory",
        columns: &[
            text("instance_id"),
            text("kind"),
            text("type_name"),
            text("schema_version"),
            text("captured_at"),
            text("content_hash"),
            text("context"),
            text("content"),
            number("received_at"),
            number("bytes"),
        ],
        key: 3,
        parent: Some(Parent { table: "instances", columns: &[("instance_id", "id")] }),
        is_wide: true,
    },
    Table {
        name: "sessions",
        columns: &[
            text("id"),
            text("account"),
            text("instance_id"),
            text("owner"),
            text("document_name"),
            text("reason"),
            number("started_at"),
            number("ended_at").or_null(),
            text("status"),
            text("details"),
            text("carrier").since(2, Earlier::Text("")),
        ],
        key: 1,
        parent: None,
        is_wide: false,
    },
    Table {
        name: "detectors",
        columns: &[text("id"), text("account"), number("created_at"), number("updated_at"), text("document")],
        key: 1,
        parent: None,
        is_wide: true,
    },
    Table {
        name: "detector_parts",
        columns: &[text("detector_id"), text("kind"), text("id"), text("document")],
        key: 3,
        parent: Some(Parent { table: "detectors", columns: &[("detector_id", "id")] }),
        is_wide: true,
    },
    Table {
        name: "findings",
        columns: &[
            text("id"),
            text("detector_id"),
            text("key"),
            text("type"),
            number("severity"),
            number("created_at"),
            number("updated_at"),
            flag("is_archived"),
            text("instance_id").or_null(),
            number("count"),
            text("document"),
        ],
        key: 1,
        parent: Some(Parent { table: "detectors", columns: &[("detector_id", "id")] }),
        is_wide: true,
    },
    Table {
        name: "agent_reports",
        columns: &[
            text("instance_id"),
            text("agent_name"),
            text("agent_version"),
            number("first_at"),
            number("last_at"),
        ],
        key: 1,
        parent: Some(Parent { table: "instances", columns: &[("instance_id", "id")] }),
        is_wide: false,
    },
    Table {
        name: "hosts",
        columns: &[
            text("id"),
            text("name"),
            text("state"),
            bytes("public_key"),
            text("accounts"),
            number("joined_at"),
            number("seen_at"),
        ],
        key: 1,
        parent: None,
        is_wide: false,
    },
    Table {
        name: "join_tokens",
        columns: &[bytes("digest"), text("accounts"), number("created_at"), number("expires_at")],
        key: 1,
        parent: None,
        is_wide: false,
    },
    Table {
        name: "quarantines",
        columns: &[text("subject"), text("reason"), text("made_by"), number("since")],
        key: 1,
        parent: None,
        is_wide: false,
    },
];

/// What must be true of every store beside what its schema says: what is counted must not be there.
pub static INVARIANTS: &[(&str, &str)] = &[
    (
        "client tokens of launches of which no machine is left",
        "SELECT COUNT(1) FROM launches WHERE NOT EXISTS (SELECT 1 FROM instances WHERE \
         instances.account = launches.account AND instances.client_token = launches.client_token)",
    ),
    (
        "machines that were launched with a client token which is not kept",
        "SELECT COUNT(1) FROM instances WHERE client_token IS NOT NULL AND NOT EXISTS (SELECT 1 FROM launches WHERE \
         launches.account = instances.account AND launches.client_token = instances.client_token \
         AND launches.reservation_id = instances.reservation_id)",
    ),
    (
        "machines on a host that never joined",
        "SELECT COUNT(1) FROM instances WHERE host_id <> '' AND NOT EXISTS (SELECT 1 FROM hosts WHERE \
         hosts.id = instances.host_id)",
    ),
];
