use super::{FILE_BYTES_MAX, Loaded, REGEX_BYTES_MAX, RULES_MAX, SigmaRules, VALUES_MAX};
use crate::category::Category;
use crate::event::Event;
use crate::finding::{FindingType, Severity};
use crate::rules::{RuleFile, Rules as _};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

fn read(text: &str) -> Loaded {
    SigmaRules::read(&[RuleFile { name: Arc::from("a.yml"), text: text.to_owned() }], &BTreeSet::new())
}

fn errors(text: &str) -> Vec<String> {
    read(text).errors.iter().map(ToString::to_string).collect()
}

fn titles(loaded: &Loaded, event: &Value) -> Vec<String> {
    let Some(event) = Event::of(event) else { return Vec::new() };
    loaded.rules.matches(&event).iter().map(|facts| facts.title.clone()).collect()
}

fn started(path: &str) -> Value {
    json!({ "class_uid": 1007, "activity_id": 1, "process": { "file": { "path": path } } })
}

const GOOD: &str = "title: A\nid: a\nlogsource:\n  product: linux\n  category: process_creation\ndetection:\n  selection:\n    Image: /bin/a\n  condition: selection\n";

#[test]
fn a_rule_that_is_wrong_stops_no_other_and_is_named_with_its_line() {
    let text = format!(
        "{GOOD}---\ntitle: B\nid: b\nlogsource:\n  category: process_creation\ndetection:\n  selection:\n    Image|re: '(b'\n  condition: selection\n---\n{}",
        GOOD.replace("title: A", "title: C").replace("id: a", "id: c")
    );
    let loaded = read(&text);
    assert_eq!(loaded.rules.len(), 2);
    assert_eq!(titles(&loaded, &started("/bin/a")), ["A", "C"]);
    assert_eq!(loaded.errors.len(), 1);
    assert_eq!((&*loaded.errors[0].place.file, loaded.errors[0].place.line), ("a.yml", 17), "{}", loaded.errors[0]);
}

#[test]
fn errors_name_their_line() {
    let with = |from: &str, to: &str| format!("# a comment\n---\n{}", GOOD.replace(from, to));
    for (text, line) in [
        (with("condition: selection", "condition: nothing"), 11),
        (with("condition: selection", "condition: selection and and"), 11),
        (with("Image: /bin/a", "Image|nonsense: /bin/a"), 10),
        (with("Image: /bin/a", "Image|cidr: nonsense"), 10),
        (with("    Image: /bin/a", "  - : ["), 10),
        (with("id: a", "id: a\ntags:\n  - guardduty.no-such-type"), 6),
        (with("title: A\n", ""), 3),
        (with("title: A", "title: A\naction: global"), 3),
        ("just words".to_owned(), 1),
    ] {
        let found = errors(&text);
        assert!(
            found.first().is_some_and(|error| error.starts_with(&format!("a.yml:{line}: "))),
            "{line}: {found:?}\n{text}"
        );
        assert_eq!(read(&text).rules.len(), 0);
        assert!(!read(&text).rules.wants(Category::ProcessCreation));
    }
}

#[test]
fn rules_are_asked_only_about_what_they_are_about() {
    let loaded = read(GOOD);
    assert!(loaded.rules.wants(Category::ProcessCreation));
    assert!(!loaded.rules.wants(Category::FileEvent));
    let ended = json!({ "class_uid": 1007, "activity_id": 2, "process": { "file": { "path": "/bin/a" } } });
    assert!(titles(&loaded, &ended).is_empty());
    let windows = json!({
        "class_uid": 1007, "activity_id": 1, "process": { "file": { "path": "/bin/a" } }, "device": { "os": { "type_id": 100 } },
    });
    assert!(titles(&loaded, &windows).is_empty());
    assert_eq!(titles(&read(&GOOD.replace("  product: linux\n", "")), &windows), ["A"]);
    // Without a category a rule is about all events, and counts once for an event of two categories.
    let everywhere = read(
        "title: E\nlogsource:\n  product: linux\ndetection:\n  selection:\n    actor.process.file.path: /bin/a\n  condition: selection\n",
    );
    let injected =
        json!({ "class_uid": 1007, "activity_id": 4, "actor": { "process": { "file": { "path": "/bin/a" } } } });
    assert_eq!(titles(&everywhere, &injected), ["E"]);
}

#[test]
fn rules_about_what_is_not_here_are_counted_and_are_no_error() {
    for source in
        ["  product: windows\n  service: security", "  category: webserver", "  product: aws\n  service: cloudtrail"]
    {
        let loaded = read(&GOOD.replace("  product: linux\n  category: process_creation", source));
        assert_eq!((loaded.rules.len(), loaded.errors.len(), loaded.unreachable), (0, 0, 1), "{source}");
    }
}

#[test]
fn a_tag_names_the_type_and_the_level_the_severity() {
    let tagged = GOOD.replace(
        "id: a",
        "id: a\nlevel: critical\ntags:\n  - attack.t1059\n  - GuardDuty.Execution:Runtime/ReverseShell",
    );
    let facts = read(&tagged).rules.facts[0].clone();
    assert_eq!((facts.kind.as_str(), facts.severity), ("Execution:Runtime/ReverseShell", Severity::Critical));
    assert_eq!(facts.place.to_string(), "a.yml:1");
    let plain = read(GOOD).rules.facts[0].clone();
    assert_eq!((plain.kind, plain.severity), (FindingType::RULE_MATCHED, Severity::Medium));
}

#[test]
fn an_id_is_there_once_and_can_be_switched_off() {
    let twice = read(&format!("{GOOD}---\n{GOOD}"));
    assert_eq!(twice.rules.len(), 1);
    assert_eq!(twice.errors[0].to_string(), "a.yml:11: the rule at a.yml:1 has this id as well: 'a'");
    let file = RuleFile { name: Arc::from("a.yml"), text: GOOD.to_owned() };
    let loaded = SigmaRules::read(&[file], &BTreeSet::from(["a".to_owned()]));
    assert_eq!((loaded.rules.len(), loaded.disabled, loaded.errors.len()), (0, 1, 0));
}

#[test]
fn filters_narrow_rules_down() {
    let filter = "---\ntitle: F\nlogsource:\n  product: linux\n  category: process_creation\nfilter:\n  rules:\n    - a\n  harmless:\n    User: builder\n  condition: not harmless\n";
    let loaded = read(&format!("{GOOD}{filter}"));
    assert_eq!(loaded.errors, []);
    assert_eq!(titles(&loaded, &started("/bin/a")), ["A"]);
    let mut by_builder = started("/bin/a");
    by_builder["process"]["user"] = json!({ "name": "builder" });
    assert!(titles(&loaded, &by_builder).is_empty());
    let unknown = errors(&format!("{GOOD}{}", filter.replace("    - a", "    - other")));
    assert!(unknown[0].starts_with("a.yml:11: the filter is for a rule that is not there"), "{unknown:?}");
}

#[test]
fn regular_expressions_below_at_and_above_the_limit() {
    for (length, refused) in [(REGEX_BYTES_MAX - 1, false), (REGEX_BYTES_MAX, false), (REGEX_BYTES_MAX + 1, true)] {
        let text = GOOD.replace("Image: /bin/a", &format!("Image|re: '{}'", "x".repeat(length)));
        assert_eq!(!errors(&text).is_empty(), refused, "{length}");
    }
    // Small to write and large to run: what `regex` allows is the limit.
    assert!(!errors(&GOOD.replace("Image: /bin/a", "Image|re: '((a{500}){500}){500}'")).is_empty());
}

#[test]
fn values_below_at_and_above_the_limit() {
    for (count, refused) in [(VALUES_MAX - 1, false), (VALUES_MAX, false), (VALUES_MAX + 1, true)] {
        let values = (0..count).map(|number| format!("\n      - /bin/{number}")).collect::<String>();
        assert_eq!(!errors(&GOOD.replace("Image: /bin/a", &format!("Image:{values}"))).is_empty(), refused, "{count}");
    }
}

#[test]
fn files_below_at_and_above_the_limit() {
    for (length, refused) in [(FILE_BYTES_MAX - 1, false), (FILE_BYTES_MAX, false), (FILE_BYTES_MAX + 1, true)] {
        let text = format!("{GOOD}#{}", "x".repeat(length - GOOD.len() - 1));
        assert_eq!(text.len(), length);
        assert_eq!(!errors(&text).is_empty(), refused, "{length}");
    }
}

#[test]
fn rules_below_at_and_above_the_limit() {
    let files = (0..=RULES_MAX)
        .map(|number| RuleFile {
            name: Arc::from(format!("{number}.yml")),
            text: GOOD.replace("id: a", &format!("id: a{number}")),
        })
        .collect::<Vec<_>>();
    for (count, refused) in [(RULES_MAX - 1, 0), (RULES_MAX, 0), (RULES_MAX + 1, 1)] {
        let loaded = SigmaRules::read(&files[..count], &BTreeSet::new());
        assert_eq!(loaded.errors.len(), refused, "{count}");
        assert_eq!(loaded.rules.len(), count.min(RULES_MAX));
    }
}

/// One of each way in which rules name texts.
const NAMING: &str = "
title: A
id: a
logsource: { category: process_creation }
detection:
    s: { Image|endswith: [/KIT, /bash] }
    f: { User: root }
    condition: s and not f
---
title: B
id: b
logsource: { category: process_creation }
detection:
    s_one: { CommandLine|contains|all: [ka, 'ta'] }
    s_two: { Image|startswith: '/t*k' }
    condition: 1 of s_*
---
title: C
id: c
logsource: { category: process_creation }
detection:
    s: [{ Image: /kt }, { CommandLine|contains: kk, User|cased: K }]
    condition: s
---
title: D
id: d
logsource: { product: linux }
detection:
    s: { 'unmapped.list': [k, '7', tk] }
    condition: s
---
title: E
id: e
logsource: { category: process_creation }
detection:
    a: { CommandLine|re: '^k+$' }
    b: { Image|contains: t }
    condition: a or b
---
title: Narrowed
id: f
logsource: { category: process_creation }
filter:
    rules: [a, e]
    selection: { CommandLine: tt }
    condition: not selection
";

fn one_by_one(rules: &SigmaRules, event: &Event<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for category in event.categories() {
        rules.categories[*category as usize].matches_one_by_one(event, &mut found);
    }
    rules.everywhere.matches_one_by_one(event, &mut found);
    found.sort_unstable();
    found.into_iter().map(|number| rules.facts[number].id.clone()).collect()
}

proptest::proptest! {
    /// The search for texts passes over nothing: capitals, letters whose small form is another byte (the Kelvin sign), lists and numbers.
    #[test]
    fn the_search_finds_what_comparing_one_by_one_finds(
        image in "(/[tkKT\u{212A}i]{0,3}){1,2}|/bash|/x/BASH",
        command in "[tkaT\u{212A}K ]{0,5}",
        user in "root|k|K|\u{212A}",
        list in proptest::collection::vec("[kt7K]{1,2}", 0..3),
        number in 0..9,
        shape in 0..3,
    ) {
        let loaded = read(NAMING);
        proptest::prop_assert_eq!(&loaded.errors, &Vec::new());
        let list = match shape {
            0 => serde_json::json!(list),
            1 => serde_json::json!(number),
            _ => serde_json::json!([list.first(), number]),
        };
        let value = serde_json::json!({
            "class_uid": 1007, "activity_id": 1, "unmapped": { "list": list },
            "process": { "file": { "path": image }, "cmd_line": command, "user": { "name": user } },
        });
        let event = Event::of(&value).unwrap();
        let found: Vec<String> = loaded.rules.matches(&event).iter().map(|rule| rule.id.clone()).collect();
        proptest::prop_assert_eq!(found, one_by_one(&loaded.rules, &event));
    }
}
