//! How many events a second the rules judge on one core: with our own rules, with 200 more in the form that SigmaHQ's have,
//! and beside the floor that nobody gets around, which is parsing the event.
//!
//! What is counted is CPU time of this thread, so that others on the machine do not count.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]

use inborn_detect::sigma::SigmaRules;
use inborn_detect::{Event, RuleFile, Rules as _, own_rules};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;

#[path = "../tests/events/mod.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod events;

const ROUNDS: usize = 5;
const EVENTS_PER_ROUND: usize = 10_000;
/// As large as the records that ingest is measured with.
const EVENT_BYTES: usize = 780;

fn main() {
    let corpus = corpus();
    let bytes = corpus.iter().map(String::len).sum::<usize>() / corpus.len();
    println!("{} different events of {bytes} bytes on average", corpus.len());
    report("parse only (the floor)", &corpus, |event| {
        black_box(event);
    });
    let own = SigmaRules::read(&own_rules(), &BTreeSet::new()).rules;
    report(&format!("{} rules of ours", own.len()), &corpus, |event| judge(&own, event));
    let mut files = own_rules();
    files.extend(many());
    let many = SigmaRules::read(&files, &BTreeSet::new());
    assert_eq!(many.errors, []);
    report(&format!("{} rules", many.rules.len()), &corpus, |event| judge(&many.rules, event));
}

fn judge(rules: &SigmaRules, event: &Value) {
    black_box(rules.matches(&Event::of(event).unwrap()));
}

fn report(what: &str, corpus: &[String], mut judge: impl FnMut(&Value)) {
    let mut rates = (0..ROUNDS)
        .map(|_| {
            let started = cpu_seconds();
            for text in corpus.iter().cycle().take(EVENTS_PER_ROUND) {
                judge(&serde_json::from_str::<Value>(text).unwrap());
            }
            EVENTS_PER_ROUND as f64 / (cpu_seconds() - started)
        })
        .collect::<Vec<_>>();
    rates.sort_by(f64::total_cmp);
    println!("{what:<28} {:>9.0} events/s of CPU ({:.0} to {:.0})", rates[ROUNDS / 2], rates[0], rates[ROUNDS - 1]);
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What machines do all day, and now and then what they should not; each event made as long as a record of ingest.
fn corpus() -> Vec<String> {
    let mut found = Vec::new();
    for number in 0..20_usize {
        for mut event in events::benign() {
            event["metadata"]["uid"] = json!(format!("6f1c9d-{number}"));
            found.push(long(event, number));
        }
    }
    found.extend(events::cases().into_iter().map(|case| long(case.matching[0].clone(), 7)));
    found
}

fn long(mut event: Value, number: usize) -> String {
    let missing = EVENT_BYTES.saturating_sub(event.to_string().len() + 24);
    let letters = ('a'..='z').cycle().skip(number).step_by(7);
    let noise = letters.take(missing).collect::<String>();
    event["unmapped"]["noise"] = json!(noise);
    event.to_string()
}

/// Rules in the form of SigmaHQ's for Linux: most about processes, by ends of paths and by parts of command lines.
fn many() -> Vec<RuleFile> {
    let one = |number: usize, category: &str, body: &str| RuleFile {
        name: Arc::from(format!("many/{number}.yml")),
        text: format!(
            "title: Rule {number}\nid: many-{number}\nlogsource:\n    product: linux\n    category: {category}\ndetection:\n{body}\nlevel: low\n"
        ),
    };
    (0..200)
        .map(|number| match number % 10 {
            0..=3 => one(
                number,
                "process_creation",
                &format!("    selection:\n        Image|endswith:\n            - '/tool{number}'\n            - '/other{number}'\n        CommandLine|contains:\n            - ' --flag{number}'\n            - ' -x{number} '\n    condition: selection"),
            ),
            4 | 5 => one(
                number,
                "process_creation",
                &format!("    a:\n        CommandLine|contains|all:\n            - 'part{number}'\n            - 'rest{number}'\n    b:\n        ParentImage|endswith: '/parent{number}'\n    filter:\n        User: root\n    condition: (a or b) and not filter"),
            ),
            6 => one(
                number,
                "process_creation",
                &format!("    selection:\n        CommandLine|re: '(curl|wget)[^|]+\\|\\s*(ba)?sh{number}'\n    condition: selection"),
            ),
            7 | 8 => one(
                number,
                "file_event",
                &format!("    selection:\n        TargetFilename|startswith: '/etc/dir{number}/'\n    condition: selection"),
            ),
            _ => one(
                number,
                "network_connection",
                &format!("    selection:\n        DestinationHostname|endswith: '.host{number}.example'\n    condition: selection"),
            ),
        })
        .collect()
}
