//! How filters compare what they find with what they were given.

use core::cmp::Ordering;

/// A filter's operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    BeginWith,
    LessThan,
    GreaterThan,
}

impl Comparison {
    /// As botocore's model names them: `BeginWith` of nodes and inventory, `BEGIN_WITH` of compliance.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "Equal" | "EQUAL" => Self::Equal,
            "NotEqual" | "NOT_EQUAL" => Self::NotEqual,
            "BeginWith" | "BEGIN_WITH" => Self::BeginWith,
            "LessThan" | "LESS_THAN" => Self::LessThan,
            "GreaterThan" | "GREATER_THAN" => Self::GreaterThan,
            _ => return None,
        })
    }

    /// Whether something that has these values is let through by a filter with those.
    pub(super) fn holds<'a>(self, mut found: impl Iterator<Item = &'a str>, values: &[String]) -> bool {
        let one = |found: &str, value: &str| match self {
            Self::Equal | Self::NotEqual => found == value,
            Self::BeginWith => found.starts_with(value),
            Self::LessThan => order(found, value).is_lt(),
            Self::GreaterThan => order(found, value).is_gt(),
        };
        let any = found.any(|found| values.iter().any(|value| one(found, value)));
        any != (self == Self::NotEqual)
    }
}

/// Versions by their numbers, everything else by its letters.
fn order(a: &str, b: &str) -> Ordering {
    let parts = a.split('.').zip(b.split('.')).map(|(a, b)| match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => a.cmp(b),
    });
    let unequal = parts.into_iter().find(|order| order.is_ne());
    unequal.unwrap_or_else(|| a.split('.').count().cmp(&b.split('.').count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comparison() {
        let holds = |name: &str, found: &[&str], values: &[&str]| {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            Comparison::parse(name).unwrap().holds(found.iter().copied(), &values)
        };
        assert!(holds("Equal", &["a", "b"], &["b", "c"]) && !holds("Equal", &["a"], &["b"]));
        assert!(holds("NotEqual", &["a"], &["b"]) && !holds("NotEqual", &["a", "b"], &["b"]));
        assert!(holds("NOT_EQUAL", &[], &["b"]) && !holds("EQUAL", &[], &["b"]));
        assert!(holds("BeginWith", &["abc"], &["x", "ab"]) && !holds("BEGIN_WITH", &["abc"], &["b"]));
        for (a, b) in [("3.2.582.0", "3.10.0.0"), ("3", "3.0"), ("a", "b"), ("9", "10"), ("", "0")] {
            assert!(holds("LessThan", &[a], &[b]) && !holds("LESS_THAN", &[b], &[a]), "{a} {b}");
            assert!(holds("GreaterThan", &[b], &[a]) && !holds("GREATER_THAN", &[a], &[b]), "{a} {b}");
        }
        assert!(!holds("LessThan", &["1.0"], &["1.0"]) && !holds("GreaterThan", &["1.0"], &["1.0"]));
        assert_eq!(Comparison::parse("Exists"), None);
    }
}
