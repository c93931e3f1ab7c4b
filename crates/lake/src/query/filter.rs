//! What an attribute must be.

use core::fmt;
use core::str::FromStr;

use serde_json::Value;

/// The longest filter.
const FILTER_BYTES_MAX: usize = 4096;

/// The most names of a path.
const PATH_NAMES_MAX: usize = 16;

/// A condition on an attribute, as in `process.file.path=/bin/sh`, `severity_id!=1` or `process.cmd_line~curl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    path: Vec<Box<str>>,
    test: Test,
    value: Box<str>,
}

/// How an attribute is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// `=`: it is there, and is this. Numbers and truths are compared as they are written in JSON.
    Is,
    /// `!=`: it is not there, or is something else.
    IsNot,
    /// `~`: it is there, and contains this, whatever the case.
    Contains,
}

/// Why a text is no filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// There is no `=`, `!=` or `~` in it.
    #[error("a filter is PATH=VALUE, PATH!=VALUE or PATH~TEXT")]
    NoTest,
    /// The path has an empty name, or too many.
    #[error("a path is names with dots between them, at most {PATH_NAMES_MAX}")]
    Path,
    /// It is too long.
    #[error("a filter has at most {FILTER_BYTES_MAX} bytes")]
    TooLong,
}

impl Filter {
    /// A condition.
    ///
    /// # Errors
    /// The path or the value is not one.
    pub fn new(path: &str, test: Test, value: &str) -> Result<Self, FilterError> {
        if path.len() + value.len() > FILTER_BYTES_MAX {
            return Err(FilterError::TooLong);
        }
        let path: Vec<Box<str>> = path.split('.').map(Box::from).collect();
        if path.len() > PATH_NAMES_MAX || path.iter().any(|name| name.is_empty()) {
            return Err(FilterError::Path);
        }
        Ok(Self { path, test, value: value.into() })
    }

    /// Whether an event meets it. A path that leads through a list leads to each of its elements; one that fits is enough,
    /// and for `!=` none may.
    pub(crate) fn admits(&self, event: &Value) -> bool {
        let lower = if self.test == Test::Contains { self.value.to_lowercase() } else { String::new() };
        match self.test {
            Test::Is => any(event, &self.path, &|value| is(value, &self.value)),
            Test::IsNot => !any(event, &self.path, &|value| is(value, &self.value)),
            Test::Contains => any(event, &self.path, &|value| contains(value, &lower)),
        }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let at = text.find(['=', '~', '!']).ok_or(FilterError::NoTest)?;
        let (path, rest) = text.split_at(at);
        for (sign, test) in [("!=", Test::IsNot), ("=", Test::Is), ("~", Test::Contains)] {
            if let Some(value) = rest.strip_prefix(sign) {
                return Self::new(path, test, value);
            }
        }
        Err(FilterError::NoTest)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.test {
            Test::Is => "=",
            Test::IsNot => "!=",
            Test::Contains => "~",
        };
        write!(f, "{}{sign}{}", self.path.join("."), self.value)
    }
}

fn any(value: &Value, path: &[Box<str>], test: &dyn Fn(&Value) -> bool) -> bool {
    if let Value::Array(elements) = value {
        return elements.iter().any(|element| any(element, path, test));
    }
    match path.split_first() {
        None => test(value),
        Some((name, rest)) => value.get(name.as_ref()).is_some_and(|value| any(value, rest, test)),
    }
}

fn is(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Bool(truth) => (if *truth { "true" } else { "false" }) == wanted,
        _ => false,
    }
}

/// Whether a text or number in `value`, however deep, contains `lower`, which is in lower case.
pub(super) fn contains(value: &Value, lower: &str) -> bool {
    match value {
        Value::String(text) => text.to_lowercase().contains(lower),
        Value::Number(number) => number.to_string().contains(lower),
        Value::Bool(truth) => (if *truth { "true" } else { "false" }).contains(lower),
        Value::Array(elements) => elements.iter().any(|element| contains(element, lower)),
        Value::Object(members) => members.values().any(|member| contains(member, lower)),
        Value::Null => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn admits(filter: &str) -> bool {
        let event = json!({
            "severity_id": 4, "is_mfa": true, "process": {"cmd_line": "Curl http://x=y", "file": {"path": "/bin/curl"}},
            "answers": [{"rdata": "1.2.3.4"}, {"rdata": "169.254.169.254", "flag_ids": [1, 2]}], "none": null,
        });
        filter.parse::<Filter>().unwrap().admits(&event)
    }

    #[test]
    fn attributes_are_compared() {
        for yes in [
            "severity_id=4",
            "severity_id!=5",
            "is_mfa=true",
            "process.file.path=/bin/curl",
            "process.cmd_line~cURL",
            "process.cmd_line=Curl http://x=y",
            "process~/bin/",
            "answers.rdata=169.254.169.254",
            "answers.flag_ids=2",
            "answers.rdata~254.169",
            "nothing!=1",
            "answers.rdata!=8.8.8.8",
            "process!=x",
        ] {
            assert!(admits(yes), "{yes}");
        }
        for no in [
            "severity_id=04",
            "severity_id!=4",
            "process=1",
            "process.file=/bin/curl",
            "none=null",
            "nothing=1",
            "answers.rdata!=1.2.3.4",
            "process.cmd_line=curl http://x=y",
            "process.file.path.x=1",
            "nothing~",
            "none~",
        ] {
            assert!(!admits(no), "{no}");
        }
    }

    #[test]
    fn what_is_no_filter_is_said() {
        assert_eq!("severity_id".parse::<Filter>(), Err(FilterError::NoTest));
        assert_eq!("a!b=c".parse::<Filter>(), Err(FilterError::NoTest));
        for path in ["=x", "a..b=x", ".=x", "a.=x"] {
            assert_eq!(path.parse::<Filter>(), Err(FilterError::Path), "{path}");
        }
        for (names, good) in [(PATH_NAMES_MAX - 1, true), (PATH_NAMES_MAX, true), (PATH_NAMES_MAX + 1, false)] {
            assert_eq!(Filter::new(&vec!["a"; names].join("."), Test::Is, "").is_ok(), good, "{names}");
        }
        for (length, good) in [(FILTER_BYTES_MAX - 1, true), (FILTER_BYTES_MAX, true), (FILTER_BYTES_MAX + 1, false)] {
            assert_eq!(Filter::new("a", Test::Is, &"x".repeat(length - 1)).is_ok(), good, "{length}");
        }
        assert_eq!("a.b!=c".parse::<Filter>().unwrap().to_string(), "a.b!=c");
    }
}
