//! Whatever machines send and operators write: no panic, and no end that does not come.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what it does not expect")]

use inborn_detect::sigma::SigmaRules;
use inborn_detect::{Event, RuleFile, Rules as _, describe, own_rules};
use inborn_identity::{Partition, UnixTime};
use inborn_telemetry::Source;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

fn rules() -> &'static SigmaRules {
    static RULES: OnceLock<SigmaRules> = OnceLock::new();
    RULES.get_or_init(|| SigmaRules::read(&own_rules(), &BTreeSet::new()).rules)
}

fn judge(event: &Value) {
    let Some(event) = Event::of(event) else { return };
    let source = Source {
        account: "123456789012".parse().unwrap(),
        instance: "i-0123456789abcdef0".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
    };
    for rule in rules().matches(&event) {
        let finding = describe(&rule, &event, &source, Partition::Aws, UnixTime::from_secs(1_764_192_010));
        assert!(finding.key().as_str().len() < 1024);
    }
}

/// The names that rules ask for, so that values of every kind stand in their places.
fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "process",
            "actor",
            "file",
            "path",
            "parent_process",
            "unmapped",
            "dup",
            "fds",
            "new_fd",
            "kernel",
            "name",
            "dst_endpoint",
            "ip",
            "port",
            "answers",
            "rdata",
            "query",
            "hostname",
            "ptrace",
            "request",
            "setuid",
            "uid",
            "container",
            "open",
            "write",
            "driver",
            "mount",
            "source",
            "time",
            "user",
            "pid",
            "hashes",
            "device",
            "os",
        ])
        .prop_map(ToOwned::to_owned),
        "[a-z.]{0,6}",
    ]
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,24}".prop_map(Value::from),
        prop::sample::select(vec!["/bin/sh", "dup", "/memfd:x", "169.254.169.254", "PTRACE_ATTACH", "/dev/vda"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 96, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((names(), inner), 0..8).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_event_panics(
        members in prop::collection::vec((names(), values()), 0..10),
        class in prop::sample::select(vec![1001, 1002, 1003, 1004, 1005, 1007, 2004, 4001, 4003, 6003]),
        activity in 0..16,
    ) {
        let mut event = members.into_iter().collect::<serde_json::Map<_, _>>();
        event.insert("class_uid".to_owned(), json!(class));
        event.insert("activity_id".to_owned(), json!(activity));
        judge(&Value::Object(event));
    }

    #[test]
    fn no_value_panics(value in values()) {
        judge(&value);
    }

    /// A file of rules with a piece of it overwritten: an error, or rules that can be asked.
    #[test]
    fn no_rule_panics(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), what in "[ -~\n]{0,12}") {
        let files = own_rules();
        let mut file = which.get(&files).clone();
        let mut place = at.index(file.text.len());
        while !file.text.is_char_boundary(place) {
            place -= 1;
        }
        file.text.insert_str(place, &what);
        let loaded = SigmaRules::read(&[file], &BTreeSet::new());
        let event = json!({ "class_uid": 1007, "activity_id": 1, "process": { "file": { "path": "/bin/sh" } } });
        let _ = loaded.rules.matches(&Event::of(&event).unwrap());
        for error in loaded.errors {
            prop_assert!(error.place.line >= 1);
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        let _ = SigmaRules::read(&[RuleFile { name: Arc::from("x"), text }], &BTreeSet::new());
    }
}

#[test]
fn events_as_deep_as_json_goes_are_judged() {
    let mut deep = json!("/bin/sh");
    for _ in 0..120 {
        deep = json!({ "parent_process": deep, "file": { "path": "/bin/sh" } });
    }
    judge(&json!({ "class_uid": 1007, "activity_id": 1, "process": deep }));
    let mut lists = json!("x");
    for _ in 0..120 {
        lists = json!([lists]);
    }
    judge(
        &json!({ "class_uid": 1003, "activity_id": 4, "unmapped": { "dup": { "fds": lists } }, "kernel": { "name": "dup" } }),
    );
}
