//! Any text as a file of rules, and any bytes as an event: rules are read or named with a line, an event is judged, and nothing panics.
//! The first NUL parts the rules from the event; without one the own rules judge.
#![no_main]

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use inborn_detect::sigma::SigmaRules;
use inborn_detect::{Event, RuleFile, Rules, describe, own_rules, ready_made};
use inborn_identity::{Partition, UnixTime};
use inborn_telemetry::Source;
use libfuzzer_sys::fuzz_target;

fn own() -> &'static SigmaRules {
    static OWN: OnceLock<SigmaRules> = OnceLock::new();
    OWN.get_or_init(|| {
        let loaded = SigmaRules::read(&own_rules(), &BTreeSet::new());
        assert!(loaded.errors.is_empty());
        loaded.rules
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some(at) = bytes.iter().position(|byte| *byte == 0) else {
        judge(own(), bytes);
        return;
    };
    let (text, event) = bytes.split_at(at);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let loaded = SigmaRules::read(&[RuleFile { name: Arc::from("x.yml"), text: text.to_owned() }], &BTreeSet::new());
    for error in &loaded.errors {
        assert!(error.place.line >= 1 && error.place.line <= text.lines().count() + 1, "{error}");
        assert!(!error.what.contains('\n'));
    }
    judge(&loaded.rules, &event[1..]);
});

fn judge(rules: &SigmaRules, event: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(event) else { return };
    let Some(event) = Event::of(&value) else { return };
    let source = Source {
        account: "123456789012".parse().expect("an account"),
        instance: "i-0123456789abcdef0".parse().expect("an id"),
        region: "us-east-1".parse().expect("a region"),
    };
    let now = UnixTime::from_secs(1_800_000_000);
    let matched = rules.matches(&event);
    for rule in &matched {
        let finding = describe(rule, &event, &source, Partition::Aws, now);
        assert!(finding.last_seen <= now);
        assert!(finding.key().as_str().len() < 1024);
    }
    let _ = ready_made(&event, &source, Partition::Aws, now);
}
