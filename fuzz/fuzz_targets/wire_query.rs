//! Any bytes as a query string and a form body: read or refused, never a panic, and what is read can be written again.
//! The first line feed parts the one from the other.
#![no_main]

use inborn_wire::error::{Dialect, Problem, answer};
use inborn_wire::query::{Parameters, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut halves = input.splitn(2, |byte| *byte == b'\n');
    let (query, body) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let parameters = match Parameters::parse(query, body) {
        Ok(parameters) => parameters,
        Err(error) => {
            let refusal = answer(&Problem::Query(error), Dialect::Ec2, "id");
            assert_eq!(refusal.status, 400);
            return;
        }
    };
    let names: Vec<String> = parameters.unread().map(str::to_owned).collect();
    for name in &names {
        for head in name.match_indices('.').filter_map(|(end, _)| name.get(..end)) {
            let _ = parameters.root().list(head);
            for structure in parameters.root().structures(head) {
                assert!(structure.is_present());
            }
        }
    }
    let pairs = || names.iter().map(|name| (name.as_str(), parameters.get(name).unwrap_or_default()));
    let again = Parameters::parse(encode(pairs()).as_bytes(), b"").expect("what was read can be written");
    for (name, value) in pairs() {
        assert_eq!(again.get(name), Some(value));
    }
});
