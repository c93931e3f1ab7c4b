//! Which parts of the log a finding counts, written into its document beside the count. So an event that is judged again after
//! a crash is not counted again. It is not for those who ask for findings.

use inborn_lake::Place;
use serde_json::{Value, json};

use crate::detection::Counted;

const MEMBER: &str = "inbornCounted";

/// The most parts that a finding names: one for each start of a region server whose log is not yet Parquet.
const PARTS_MAX: usize = 16;

/// A part of the log of a lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    lake: u64,
    from: u64,
    to: Place,
}

/// Whether a finding counts the last of what `counted` says already.
pub(super) fn is_in(document: &Value, counted: &Counted) -> bool {
    let covers = |part: &Part| {
        part.lake == counted.lake && part.from <= counted.to.segment && counted.to <= part.to && counted.is_again
    };
    parts(document).iter().any(covers)
}

/// Writes into a document what the finding counts: what it did when it was `earlier`, and what is added.
pub(super) fn carry(earlier: &Value, document: &mut Value, counted: Option<&Counted>) {
    let mut parts = parts(earlier);
    if let Some(Counted { lake, from, to, oldest, .. }) = counted.copied() {
        // What is never read again need not be known.
        parts.retain(|part| part.lake != lake || part.to.segment >= oldest);
        match parts.iter_mut().find(|part| part.lake == lake && part.from == from) {
            Some(part) => part.to = part.to.max(to),
            None => parts.push(Part { lake, from, to }),
        }
        parts.drain(..parts.len().saturating_sub(PARTS_MAX));
    }
    let Some(members) = document.as_object_mut().filter(|_| !parts.is_empty()) else { return };
    let parts = parts.iter().map(|Part { lake, from, to }| json!([lake, from, to.segment, to.offset]));
    members.insert(MEMBER.to_owned(), parts.collect());
}

/// The document as others see it.
pub(super) fn without(mut document: Value) -> Value {
    if let Some(members) = document.as_object_mut() {
        members.remove(MEMBER);
    }
    document
}

fn parts(document: &Value) -> Vec<Part> {
    let part = |part: &Value| {
        let numbers = part.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>()?;
        let ([lake, from, segment, offset], []) = numbers.split_first_chunk::<4>()? else { return None };
        Some(Part { lake: *lake, from: *from, to: Place { segment: *segment, offset: *offset } })
    };
    document.get(MEMBER).and_then(Value::as_array).into_iter().flatten().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(lake: u64, from: u64, segment: u64, offset: u64) -> Counted {
        Counted { lake, from, to: Place { segment, offset }, oldest: 0, is_again: true }
    }

    fn carried(earlier: &Value, counted: &Counted) -> Value {
        let mut document = json!({"id": "a"});
        carry(earlier, &mut document, Some(counted));
        document
    }

    #[test]
    fn a_place_below_at_and_above_what_is_counted() {
        let document = carried(&Value::Null, &counted(1, 5, 7, 100));
        for (segment, offset, is_counted) in
            [(4, 9, false), (5, 9, true), (7, 99, true), (7, 100, true), (7, 101, false), (8, 0, false)]
        {
            assert_eq!(is_in(&document, &counted(1, 5, segment, offset)), is_counted, "{segment} {offset}");
        }
        assert!(!is_in(&document, &counted(2, 5, 6, 1)), "another lake");
        let new = Counted { is_again: false, ..counted(1, 5, 6, 1) };
        assert!(!is_in(&document, &new), "what comes now was never counted");
    }

    #[test]
    fn parts_are_carried_on_and_forgotten_when_nobody_reads_them_again() {
        let first = carried(&Value::Null, &counted(1, 5, 7, 100));
        let second = carried(&first, &counted(2, 1, 1, 10));
        let third = carried(&second, &counted(1, 8, 8, 50));
        let fourth = carried(&third, &counted(1, 8, 8, 40));
        assert_eq!(third, fourth, "it never goes back");
        assert!(is_in(&fourth, &counted(1, 0, 6, 1)) && is_in(&fourth, &counted(2, 0, 1, 10)));
        let fifth = carried(&fourth, &Counted { oldest: 8, ..counted(1, 8, 9, 1) });
        assert!(!is_in(&fifth, &counted(1, 0, 6, 1)) && is_in(&fifth, &counted(2, 0, 1, 10)));
        let mut last = json!({"id": "a"});
        carry(&fifth, &mut last, None);
        assert_eq!(last, fifth);
        assert_eq!(without(last), json!({"id": "a"}));
        let mut none = json!({"id": "a"});
        carry(&Value::Null, &mut none, None);
        assert_eq!(none, json!({"id": "a"}));
    }

    #[test]
    fn parts_below_at_and_above_the_limit() {
        let mut document = json!({});
        for from in 1..=PARTS_MAX as u64 + 1 {
            assert_eq!(parts(&document).len() as u64, (from - 1).min(PARTS_MAX as u64));
            document = carried(&document, &counted(1, from * 10, from * 10, 1));
        }
        assert_eq!(parts(&document).len(), PARTS_MAX);
        assert!(!is_in(&document, &counted(1, 10, 10, 1)) && is_in(&document, &counted(1, 20, 20, 1)));
    }

    #[test]
    fn what_is_no_part_is_none() {
        for member in [json!(1), json!([1]), json!([[1, 2, 3]]), json!([[1, 2, 3, -4]]), json!([[1, 2, 3, 4, 5]])] {
            assert_eq!(parts(&json!({ MEMBER: member })), []);
        }
    }
}
