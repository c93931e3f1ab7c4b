//! Every rule of ours: events that it matches, events that come near, and what machines do all day.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what it does not expect")]

use inborn_detect::sigma::SigmaRules;
use inborn_detect::{Event, Rules as _, describe, own_rules, ready_made};
use inborn_identity::{Partition, UnixTime};
use inborn_telemetry::Source;
use serde_json::{Value, json};
use std::collections::BTreeSet;

mod events;

fn rules() -> SigmaRules {
    let loaded = SigmaRules::read(&own_rules(), &BTreeSet::new());
    assert_eq!(loaded.errors, []);
    assert_eq!((loaded.unreachable, loaded.disabled), (0, 0));
    loaded.rules
}

fn matching(rules: &SigmaRules, event: &Value) -> Vec<String> {
    let event = Event::of(event).unwrap();
    rules.matches(&event).iter().map(|facts| short(&facts.place.file)).collect()
}

fn short(name: &str) -> String {
    name.trim_start_matches("inborn/").trim_end_matches(".yml").to_owned()
}

#[test]
fn every_rule_matches_what_it_is_for_and_not_what_comes_near() {
    let rules = rules();
    let mut tested = BTreeSet::new();
    for case in events::cases() {
        for event in &case.matching {
            assert!(matching(&rules, event).contains(&case.rule.to_owned()), "{} does not match {event}", case.rule);
        }
        for event in &case.near {
            let found = matching(&rules, event);
            assert!(!found.contains(&case.rule.to_owned()), "{} matches {event}", case.rule);
        }
        assert!(!case.matching.is_empty() && !case.near.is_empty(), "{}", case.rule);
        tested.insert(case.rule.to_owned());
    }
    let all = own_rules().iter().map(|rule| short(&rule.name)).collect::<BTreeSet<_>>();
    assert_eq!(tested, all, "each rule has events that it matches and near misses");
}

#[test]
fn what_machines_do_all_day_gives_nothing() {
    let rules = rules();
    for event in events::benign() {
        assert_eq!(matching(&rules, &event), Vec::<String>::new(), "{event}");
    }
}

#[test]
fn rules_of_ours_name_a_type_of_guardduty_and_say_what_they_mean() {
    for file in own_rules() {
        let loaded = SigmaRules::read(std::slice::from_ref(&file), &BTreeSet::new());
        let event = events::cases().into_iter().find(|case| case.rule == short(&file.name)).unwrap();
        let event = Event::of(&event.matching[0]).map(|event| loaded.rules.matches(&event)).unwrap();
        assert!(event[0].kind.as_str().contains(":Runtime/"), "{}", file.name);
        assert!(!event[0].kind.as_str().starts_with("Inborn"), "{}", file.name);
        assert!(event[0].description.len() > 40, "{}", file.name);
    }
}

fn source() -> Source {
    Source {
        account: "123456789012".parse().unwrap(),
        instance: "i-0123456789abcdef0".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
    }
}

#[test]
fn a_reverse_shell_becomes_a_finding_that_names_process_and_remote() {
    let rules = rules();
    let event = events::reverse_shell();
    let event = Event::of(&event).unwrap();
    let matches = rules.matches(&event);
    let finding = describe(&matches[0], &event, &source(), Partition::Aws, UnixTime::from_secs(1_764_192_010));
    assert_eq!(finding.kind.as_str(), "Execution:Runtime/ReverseShell");
    assert_eq!(finding.severity.value(), 8.0);
    assert_eq!(finding.first_seen.as_secs(), 1_764_192_000);
    let process = finding.runtime.as_ref().and_then(|runtime| runtime.process.as_ref()).unwrap();
    assert_eq!((process.pid, process.executable_path.as_deref()), (Some(4711), Some("/usr/bin/bash")));
    assert!(finding.description.contains("remote address 127.0.0.1, remote port 4444"), "{}", finding.description);
    assert!(finding.title.ends_with("on i-0123456789abcdef0"), "{}", finding.title);

    // The same shell to the same place is the same finding; to another place it is another.
    let again = describe(&matches[0], &event, &source(), Partition::Aws, UnixTime::from_secs(1_764_192_099));
    assert_eq!(again.key(), finding.key());
    let mut elsewhere = events::reverse_shell();
    elsewhere["unmapped"]["dup"]["dst_endpoint"]["ip"] = json!("192.0.2.9");
    let elsewhere = Event::of(&elsewhere).unwrap();
    assert_ne!(describe(&matches[0], &elsewhere, &source(), Partition::Aws, again.last_seen).key(), finding.key());
}

#[test]
fn a_clock_that_is_ahead_makes_no_finding_of_the_future() {
    let rules = rules();
    let mut event = events::reverse_shell();
    event["time"] = json!(9_999_999_999_000_u64);
    let event = Event::of(&event).unwrap();
    let now = UnixTime::from_secs(1_764_192_010);
    assert_eq!(describe(&rules.matches(&event)[0], &event, &source(), Partition::Aws, now).last_seen, now);
}

#[test]
fn what_another_tool_found_keeps_its_words_and_claims_no_type_of_guardduty() {
    let event = json!({
        "class_uid": 2004, "activity_id": 1, "severity_id": 4, "time": 1_764_192_000_000_u64,
        "metadata": { "product": { "name": "Falco" } },
        "finding_info": { "uid": "1", "title": "Terminal shell in container", "desc": "A shell was spawned", "types": ["x"] },
    });
    let event = Event::of(&event).unwrap();
    let finding = ready_made(&event, &source(), Partition::Aws, UnixTime::from_secs(1_764_192_010)).unwrap();
    assert_eq!(finding.kind.as_str(), "Inborn:Runtime/ToolFinding");
    assert_eq!((finding.severity.value(), finding.subject.as_str()), (8.0, "Falco: Terminal shell in container"));
    assert!(finding.title.starts_with("Terminal shell in container on i-"), "{}", finding.title);
    let other = events::reverse_shell();
    assert_eq!(ready_made(&Event::of(&other).unwrap(), &source(), Partition::Aws, UnixTime::default()), None);
}
