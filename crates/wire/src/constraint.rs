//! The constraints that a service's model puts on members of a JSON call, and the sentences in which a broken one is told.

use core::fmt::Display;
use core::ops::RangeInclusive;

use crate::error::Problem;

/// Longest part of a value that a sentence repeats, in characters.
const SHOWN_MAX: usize = 256;

/// A text of so many characters.
///
/// # Errors
/// [`Problem::Validation`], as all here.
pub fn length(member: &str, text: &str, range: RangeInclusive<usize>) -> Result<(), Problem> {
    let count = text.chars().count();
    if count < *range.start() {
        let rule = format!("Member must have length greater than or equal to {}", range.start());
        return Err(broken(member, text, &rule));
    }
    if count > *range.end() {
        return Err(broken(member, text, &format!("Member must have length less than or equal to {}", range.end())));
    }
    Ok(())
}

/// A number within a range.
///
/// # Errors
/// It is outside.
pub fn range(member: &str, value: i64, range: RangeInclusive<i64>) -> Result<(), Problem> {
    if value < *range.start() {
        let rule = format!("Member must have value greater than or equal to {}", range.start());
        return Err(broken(member, value, &rule));
    }
    if value > *range.end() {
        let rule = format!("Member must have value less than or equal to {}", range.end());
        return Err(broken(member, value, &rule));
    }
    Ok(())
}

/// A text of a set.
///
/// # Errors
/// It is no member of it.
pub fn one_of(member: &str, text: &str, set: &[&str]) -> Result<(), Problem> {
    if set.contains(&text) {
        return Ok(());
    }
    Err(broken(member, text, &format!("Member must satisfy enum value set: [{}]", set.join(", "))))
}

/// What is said of a text that does not match its pattern.
#[must_use]
pub fn pattern(member: &str, text: &str, pattern: &str) -> Problem {
    broken(member, text, &format!("Member must satisfy regular expression pattern: {pattern}"))
}

/// `member` is said as the wire has it, but for a small first letter.
fn broken(member: &str, value: impl Display, rule: &str) -> Problem {
    let value: String = value.to_string().chars().take(SHOWN_MAX).collect();
    let mut place = member.to_owned();
    if let Some(first) = place.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let message =
        format!("1 validation error detected: Value '{value}' at '{place}' failed to satisfy constraint: {rule}");
    Problem::Validation { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(outcome: Result<(), Problem>) -> String {
        match outcome {
            Ok(()) => String::new(),
            Err(Problem::Validation { message }) => message,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn lengths_below_at_and_above() {
        for (text, is_good) in [("", false), ("é", true), ("éé", true), ("ééé", false)] {
            assert_eq!(length("SettingId", text, 1..=2).is_ok(), is_good, "{text}");
        }
        assert_eq!(
            said(length("SettingId", "", 1..=2)),
            "1 validation error detected: Value '' at 'settingId' failed to satisfy constraint: Member must have length \
             greater than or equal to 1"
        );
        let long = said(length("X", &"a".repeat(10_000), 1..=2));
        assert!(long.len() < 400 && long.ends_with("less than or equal to 2"), "{long}");
    }

    #[test]
    fn numbers_below_at_and_above() {
        for (value, is_good) in [(4, false), (5, true), (50, true), (51, false)] {
            assert_eq!(range("MaxResults", value, 5..=50).is_ok(), is_good, "{value}");
        }
        assert_eq!(
            said(range("MaxResults", 51, 5..=50)),
            "1 validation error detected: Value '51' at 'maxResults' failed to satisfy constraint: Member must have value \
             less than or equal to 50"
        );
    }

    #[test]
    fn sets_and_patterns() {
        assert!(one_of("A", "b", &["a", "b"]).is_ok());
        assert_eq!(
            said(one_of("PlatformType", "x", &["Linux", "Windows"])),
            "1 validation error detected: Value 'x' at 'platformType' failed to satisfy constraint: Member must satisfy \
             enum value set: [Linux, Windows]"
        );
        assert_eq!(
            said(Err(pattern("", "x", "[a-z]"))),
            "1 validation error detected: Value 'x' at '' failed to satisfy constraint: Member must satisfy regular \
             expression pattern: [a-z]"
        );
    }
}
