//! Criteria: which findings are meant. A map from a place in a finding to conditions, all of which must hold.

use inborn_identity::UnixTime;
use serde_json::{Map, Value};

/// Most places that criteria name. Source: API reference of GuardDuty, `FilterCriteria`: fifty.
pub(crate) const PLACES_MAX: usize = 50;
/// Most values of one condition. Source: the same.
pub(crate) const VALUES_MAX: usize = 50;
/// Most patterns of one condition, and the longest of them in characters. Source: botocore's model, `Matches`, `Match`.
pub(crate) const PATTERNS_MAX: usize = 5;
/// See [`PATTERNS_MAX`].
pub(crate) const PATTERN_CHARS_MAX: usize = 512;
/// Longest name of a place, and longest value that is compared, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// What a finding has at its top. A place begins with one of them: what is misspelled must not be taken for what is absent.
const MEMBERS: [&str; 16] = [
    "accountId",
    "arn",
    "confidence",
    "createdAt",
    "customDetectionRuleName",
    "description",
    "id",
    "partition",
    "region",
    "resource",
    "schemaVersion",
    "service",
    "severity",
    "title",
    "type",
    "updatedAt",
];

/// Which findings are meant.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Criteria(Vec<(String, Vec<Test>)>);

#[derive(Clone, PartialEq, Debug)]
enum Test {
    Equals(Vec<String>),
    NotEquals(Vec<String>),
    Above(f64),
    From(f64),
    Below(f64),
    UpTo(f64),
    Matches(Vec<String>),
    NotMatches(Vec<String>),
}

/// Criteria that cannot be meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CriteriaError;

impl Criteria {
    /// Reads `FindingCriteria.criterion`.
    pub(crate) fn parse(criterion: &Map<String, Value>) -> Result<Self, CriteriaError> {
        if criterion.len() > PLACES_MAX {
            return Err(CriteriaError);
        }
        let place = |(place, condition): (&String, &Value)| {
            if !is_place(place) {
                return Err(CriteriaError);
            }
            let condition = condition.as_object().filter(|condition| !condition.is_empty()).ok_or(CriteriaError)?;
            let tests = condition.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| test(name, value));
            let tests = tests.collect::<Result<Vec<_>, _>>()?;
            if tests.is_empty() { Err(CriteriaError) } else { Ok((place.clone(), tests)) }
        };
        criterion.iter().map(place).collect::<Result<_, _>>().map(Self)
    }

    /// Whether they name anything: criteria that do not are met by every finding.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a finding meets them.
    pub(crate) fn meets(&self, finding: &Value) -> bool {
        self.0.iter().all(|(place, tests)| {
            let found = at(finding, place);
            tests.iter().all(|test| test.holds(&found))
        })
    }
}

/// Whether this can be a place in a finding.
pub(crate) fn is_place(text: &str) -> bool {
    let first = text.split('.').next().unwrap_or_default();
    text.len() <= TEXT_BYTES_MAX && MEMBERS.contains(&first) && text.split('.').all(|part| !part.is_empty())
}

/// What a finding has at a place; more than one thing where there is a list on the way.
pub(crate) fn at<'a>(finding: &'a Value, place: &str) -> Vec<&'a Value> {
    place.split('.').fold(vec![finding], |found, part| {
        let below = found.into_iter().filter_map(|value| value.get(part));
        below.flat_map(|value| value.as_array().map_or_else(|| vec![value], |items| items.iter().collect())).collect()
    })
}

/// A value as a number: a moment as milliseconds, which criteria give moments in.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => {
            let moment = UnixTime::parse_rfc3339(text.as_bytes()).ok()?;
            Some(moment.as_secs() as f64 * 1000.0)
        }
        value => value.as_f64(),
    }
}

fn test(name: &str, value: &Value) -> Result<Test, CriteriaError> {
    let limit = || value.as_i64().map(|limit| limit as f64).ok_or(CriteriaError);
    Ok(match name {
        "eq" | "equals" => Test::Equals(texts(value, VALUES_MAX)?),
        "neq" | "notEquals" => Test::NotEquals(texts(value, VALUES_MAX)?),
        "gt" | "greaterThan" => Test::Above(limit()?),
        "gte" | "greaterThanOrEqual" => Test::From(limit()?),
        "lt" | "lessThan" => Test::Below(limit()?),
        "lte" | "lessThanOrEqual" => Test::UpTo(limit()?),
        "matches" => Test::Matches(patterns(value)?),
        "notMatches" => Test::NotMatches(patterns(value)?),
        _ => return Err(CriteriaError),
    })
}

fn texts(value: &Value, most: usize) -> Result<Vec<String>, CriteriaError> {
    let items = value.as_array().filter(|items| (1..=most).contains(&items.len())).ok_or(CriteriaError)?;
    let text = |item: &Value| item.as_str().filter(|text| text.len() <= TEXT_BYTES_MAX * 4).map(str::to_owned);
    items.iter().map(|item| text(item).ok_or(CriteriaError)).collect()
}

fn patterns(value: &Value) -> Result<Vec<String>, CriteriaError> {
    let patterns = texts(value, PATTERNS_MAX)?;
    let is_good = |pattern: &String| (1..=PATTERN_CHARS_MAX).contains(&pattern.chars().count());
    if patterns.iter().all(is_good) { Ok(patterns) } else { Err(CriteriaError) }
}

impl Test {
    /// Whether what was found at a place passes. What is absent equals nothing and is not compared.
    fn holds(&self, found: &[&Value]) -> bool {
        let any_is = |texts: &[String]| found.iter().any(|value| texts.iter().any(|text| is(value, text)));
        let any_matches = |patterns: &[String]| {
            found
                .iter()
                .filter_map(|value| value.as_str())
                .any(|text| patterns.iter().any(|pattern| matches(pattern, text)))
        };
        let any_number = |holds: &dyn Fn(f64) -> bool| found.iter().filter_map(|value| number(value)).any(holds);
        match self {
            Self::Equals(texts) => any_is(texts),
            Self::NotEquals(texts) => !any_is(texts),
            Self::Matches(patterns) => any_matches(patterns),
            Self::NotMatches(patterns) => !any_matches(patterns),
            Self::Above(limit) => any_number(&|number| number > *limit),
            Self::From(limit) => any_number(&|number| number >= *limit),
            Self::Below(limit) => any_number(&|number| number < *limit),
            Self::UpTo(limit) => any_number(&|number| number <= *limit),
        }
    }
}

fn is(value: &Value, text: &str) -> bool {
    match value {
        Value::String(own) => own == text,
        Value::Bool(own) => text == if *own { "true" } else { "false" },
        Value::Number(own) => own.as_f64().is_some_and(|own| text.parse() == Ok(own)),
        _ => false,
    }
}

/// Whether a text is as a pattern says, in which `*` stands for any text and `?` for any character. The time is the product
/// of both lengths at worst.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut star: Option<(core::str::Chars<'_>, core::str::Chars<'_>)> = None;
    loop {
        let text_here = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((pattern.clone(), text_here.clone()));
                text = text_here;
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => {
                let Some((after_star, mut from)) = star.take() else { return false };
                if from.next().is_none() {
                    return false;
                }
                (pattern, text) = (after_star.clone(), from.clone());
                star = Some((after_star, from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn criteria(value: Value) -> Result<Criteria, CriteriaError> {
        Criteria::parse(value.as_object().unwrap())
    }

    fn finding() -> Value {
        json!({
            "type": "Execution:Runtime/ReverseShell",
            "severity": 8.0,
            "updatedAt": "2027-01-15T08:00:00.000Z",
            "resource": {"instanceDetails": {"instanceId": "i-1", "tags": [
                {"key": "Name", "value": "web"}, {"key": "a", "value": "b"}
            ]}},
            "service": {"archived": false, "count": 3},
        })
    }

    #[test]
    fn each_condition_in_both_spellings() {
        let moment = 1_800_000_000_000_i64;
        for (place, condition, holds) in [
            ("type", json!({"eq": ["x", "Execution:Runtime/ReverseShell"]}), true),
            ("type", json!({"equals": ["Execution"]}), false),
            ("type", json!({"neq": ["Execution"]}), true),
            ("type", json!({"notEquals": ["Execution:Runtime/ReverseShell"]}), false),
            ("type", json!({"matches": ["Execution:*"]}), true),
            ("type", json!({"notMatches": ["Execution:*"]}), false),
            ("severity", json!({"eq": ["8"]}), true),
            ("severity", json!({"gt": 7}), true),
            ("severity", json!({"greaterThan": 8}), false),
            ("severity", json!({"gte": 8}), true),
            ("severity", json!({"greaterThanOrEqual": 9}), false),
            ("severity", json!({"lt": 9}), true),
            ("severity", json!({"lessThan": 8}), false),
            ("severity", json!({"lte": 8}), true),
            ("severity", json!({"lessThanOrEqual": 7}), false),
            ("severity", json!({"gte": 7, "lt": 8}), false),
            ("updatedAt", json!({"gte": moment, "lte": moment}), true),
            ("updatedAt", json!({"greaterThan": moment}), false),
            ("service.archived", json!({"eq": ["false"]}), true),
            ("service.archived", json!({"eq": ["true"]}), false),
            ("service.count", json!({"eq": ["3"]}), true),
            ("resource.instanceDetails.tags.value", json!({"eq": ["b"]}), true),
            ("resource.instanceDetails.tags.value", json!({"neq": ["b"]}), false),
            ("resource.accessKeyDetails.userName", json!({"eq": ["x"]}), false),
            ("resource.accessKeyDetails.userName", json!({"neq": ["x"]}), true),
            ("resource.accessKeyDetails.userName", json!({"gt": 0}), false),
        ] {
            let criteria = criteria(json!({place: condition})).unwrap();
            assert_eq!(criteria.meets(&finding()), holds, "{place} {criteria:?}");
        }
        let both = json!({"type": {"matches": ["*Shell"]}, "severity": {"lt": 8}});
        assert!(!criteria(both).unwrap().meets(&finding()));
        assert!(criteria(json!({})).unwrap().meets(&finding()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [
            json!({"typ": {"eq": ["x"]}}),
            json!({"": {"eq": ["x"]}}),
            json!({"service.": {"eq": ["x"]}}),
            json!({"type": {}}),
            json!({"type": {"eq": null}}),
            json!({"type": {"eq": []}}),
            json!({"type": {"eq": "x"}}),
            json!({"type": {"eq": [1]}}),
            json!({"type": {"like": ["x"]}}),
            json!({"type": {"matches": [""]}}),
            json!({"severity": {"gt": "7"}}),
            json!({"severity": {"gt": 7.5}}),
            json!({"severity": 7}),
        ] {
            assert_eq!(criteria(bad.clone()), Err(CriteriaError), "{bad}");
        }
    }

    #[test]
    fn limits_below_at_and_above() {
        let places = |count: usize| {
            let all: Map<String, Value> =
                (0..count).map(|number| (format!("service.x{number}"), json!({"eq": ["x"]}))).collect();
            Criteria::parse(&all).is_ok()
        };
        assert_eq!([1, PLACES_MAX, PLACES_MAX + 1].map(places), [true, true, false]);
        let values = |count: usize| criteria(json!({"type": {"eq": vec!["x"; count]}})).is_ok();
        assert_eq!([1, VALUES_MAX, VALUES_MAX + 1].map(values), [true, true, false]);
        let patterns = |count: usize| criteria(json!({"type": {"matches": vec!["x"; count]}})).is_ok();
        assert_eq!([1, PATTERNS_MAX, PATTERNS_MAX + 1].map(patterns), [true, true, false]);
        let long = |count: usize| criteria(json!({"type": {"matches": ["é".repeat(count)]}})).is_ok();
        assert_eq!([1, PATTERN_CHARS_MAX, PATTERN_CHARS_MAX + 1].map(long), [true, true, false]);
    }

    #[test]
    fn patterns_are_whole() {
        for (pattern, text, is_match) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c*e", "abcde", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("abc", "abcd", false),
            ("", "", true),
            ("?", "é", true),
            ("*ab", "aab", true),
        ] {
            assert_eq!(matches(pattern, text), is_match, "{pattern} {text}");
        }
        // Not exponential.
        assert!(!matches(&"*a".repeat(200), &"a".repeat(150)));
    }

    proptest! {
        #[test]
        fn patterns_agree_with_regular_expressions(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let expression = format!("^{}$", pattern.replace('*', ".*").replace('?', "."));
            let expected = regex_lite::Regex::new(&expression).unwrap().is_match(&text);
            prop_assert_eq!(matches(&pattern, &text), expected);
        }
    }
}
