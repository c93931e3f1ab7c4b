//! Parameters of documents: what a document says of each, and the values that a command gives them.

use inborn_wire::json::Object;
use regex_lite::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::Content;
use super::content::{ContentError, invalid, shown};

/// Most memory that a pattern takes when it is compiled, in bytes.
const PATTERN_BYTES_MAX: usize = 256 * 1024;
/// Deepest nesting of a pattern.
const PATTERN_DEPTH_MAX: u32 = 32;

/// What a document says of a parameter.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) kind: ParameterKind,
    pub(crate) description: String,
    pub(crate) default: Option<Value>,
    allowed_values: Vec<String>,
    allowed_pattern: Option<String>,
    items: Range,
    chars: Range,
}

/// The type of a parameter. Source: AWS's page on the syntax of documents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ParameterKind {
    String,
    StringList,
    Boolean,
    Integer,
    MapList,
    StringMap,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    min: u64,
    max: u64,
}

/// Why a command cannot run with these values.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ParametersError(String);

impl ParameterKind {
    const ALL: [(Self, &str); 6] = [
        (Self::String, "String"),
        (Self::StringList, "StringList"),
        (Self::Boolean, "Boolean"),
        (Self::Integer, "Integer"),
        (Self::MapList, "MapList"),
        (Self::StringMap, "StringMap"),
    ];

    /// As documents write it.
    pub(crate) fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, _)| *kind == self).map(|(_, text)| text).unwrap_or_default()
    }

    fn is_list(self) -> bool {
        matches!(self, Self::StringList | Self::MapList)
    }

    /// What an agent is given for one text of a call; `None` if the text is not of this type.
    fn value(self, text: &str) -> Option<Value> {
        match self {
            Self::String | Self::StringList => Some(text.into()),
            Self::Boolean => text.parse::<bool>().ok().map(Value::from),
            Self::Integer => text.parse::<i64>().ok().map(Value::from),
            Self::MapList | Self::StringMap => serde_json::from_str(text).ok().filter(Value::is_object),
        }
    }

    fn is_default(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::StringList => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            Self::Boolean => value.is_boolean() || matches!(value.as_str(), Some("true" | "false")),
            Self::Integer => value.is_i64(),
            Self::MapList => value.as_array().is_some_and(|list| list.iter().all(Value::is_object)),
            Self::StringMap => value.is_object(),
        }
    }
}

impl Parameter {
    pub(super) fn read(name: &str, members: &Map<String, Value>) -> Result<Self, ContentError> {
        let text = |key: &str| match members.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(invalid(format!("{key} of the parameter {name} is not a text."))),
        };
        let number = |key: &str, otherwise: u64| match members.get(key) {
            None => Ok(otherwise),
            Some(value) => {
                value.as_u64().ok_or_else(|| invalid(format!("{key} of the parameter {name} is no number.")))
            }
        };
        let kind = text("type")?.unwrap_or_default();
        let kind = ParameterKind::ALL.into_iter().find(|(_, text)| *text == kind).map(|(kind, _)| kind);
        let kind = kind.ok_or_else(|| invalid(format!("The type of the parameter {name} is not known.")))?;
        let default = members.get("default").cloned();
        if default.as_ref().is_some_and(|default| !kind.is_default(default)) {
            return Err(invalid(format!("The default of the parameter {name} is not a {}.", kind.as_str())));
        }
        let allowed_values = match members.get("allowedValues") {
            None => Vec::new(),
            Some(Value::Array(list)) => {
                list.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect()
            }
            Some(_) => return Err(invalid(format!("allowedValues of the parameter {name} is not a list."))),
        };
        let allowed_pattern = text("allowedPattern")?;
        if let Some(text) = &allowed_pattern {
            pattern(text).map_err(|error| {
                invalid(format!("allowedPattern of the parameter {name} cannot be read here: {error}."))
            })?;
        }
        Ok(Self {
            kind,
            description: text("description")?.unwrap_or_default(),
            default,
            allowed_values,
            allowed_pattern,
            items: Range { min: number("minItems", 0)?, max: number("maxItems", u64::MAX)? },
            chars: Range { min: number("minChars", 0)?, max: number("maxChars", u64::MAX)? },
        })
    }

    /// What an agent is given for the texts of a call.
    fn values(&self, name: &str, texts: &[&str]) -> Result<Value, ParametersError> {
        let refuse = |what: String| Err(ParametersError(format!("The parameter {name} {what}.")));
        if !self.kind.is_list() && texts.len() != 1 {
            return refuse("takes exactly one value".to_owned());
        }
        if self.kind.is_list() && !self.items.holds(texts.len()) {
            return refuse(format!("takes {} values", self.items.in_words()));
        }
        let pattern = self.allowed_pattern.as_deref().map(pattern).transpose();
        let Ok(pattern) = pattern else { return refuse("has a pattern that cannot be read".to_owned()) };
        let mut values = Vec::with_capacity(texts.len());
        for text in texts {
            if !self.chars.holds(text.chars().count()) {
                return refuse(format!("takes values of {} characters", self.chars.in_words()));
            }
            if !self.allowed_values.is_empty() && !self.allowed_values.iter().any(|allowed| allowed == text) {
                return refuse(format!("has a value that is not one of {}", self.allowed_values.join(", ")));
            }
            if pattern.as_ref().is_some_and(|pattern| !pattern.is_match(text)) {
                let said = self.allowed_pattern.as_deref().unwrap_or_default();
                return refuse(format!("has a value that does not match {said}"));
            }
            match self.kind.value(text) {
                Some(value) => values.push(value),
                None => return refuse(format!("has a value that is not a {}", self.kind.as_str())),
            }
        }
        if self.kind.is_list() {
            return Ok(Value::Array(values));
        }
        Ok(values.pop().unwrap_or_default())
    }
}

impl Range {
    fn holds(self, count: usize) -> bool {
        u64::try_from(count).is_ok_and(|count| (self.min..=self.max).contains(&count))
    }

    fn in_words(self) -> String {
        if self.max == u64::MAX { format!("at least {}", self.min) } else { format!("{} to {}", self.min, self.max) }
    }
}

/// A pattern that holds for whole values. Linear in the length of what it is matched with, whatever it says.
fn pattern(text: &str) -> Result<Regex, regex_lite::Error> {
    RegexBuilder::new(&format!("^(?:{text})$")).size_limit(PATTERN_BYTES_MAX).nest_limit(PATTERN_DEPTH_MAX).build()
}

impl Content {
    /// What an agent is given for the parameters of a call, which are lists of texts; what the call does not give has its
    /// default.
    pub(crate) fn values(&self, given: Option<&Object>) -> Result<Map<String, Value>, ParametersError> {
        let mut values = Map::new();
        for name in given.into_iter().flat_map(|given| given.members().keys()) {
            let Some(parameter) = self.parameter(name) else {
                return Err(ParametersError(format!("The document has no parameter {}.", shown(name))));
            };
            let texts = given.map(|given| given.texts(name)).transpose();
            let Ok(Some(Some(texts))) = texts else {
                return Err(ParametersError(format!("The parameter {name} is not a list of texts.")));
            };
            values.insert(name.clone(), parameter.values(name, &texts)?);
        }
        for (name, parameter) in self.parameters() {
            if values.contains_key(name) {
                continue;
            }
            match &parameter.default {
                Some(default) => values.insert(name.to_owned(), default.clone()),
                None => return Err(ParametersError(format!("The parameter {name} has no value and no default."))),
            };
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_wire::json::decode;
    use proptest::prelude::*;
    use serde_json::json;

    fn content(parameter: Value) -> Result<Content, ContentError> {
        let step = json!({"name": "a", "action": "aws:runShellScript", "inputs": {}});
        let document = json!({"schemaVersion": "2.2", "parameters": {"P": parameter}, "mainSteps": [step]});
        Content::read(&document.to_string())
    }

    fn value(parameter: Value, given: Value) -> Result<Value, String> {
        let given = decode(json!({"P": given}).to_string().as_bytes()).unwrap();
        content(parameter)
            .unwrap()
            .values(Some(&given))
            .map(|mut map| map["P"].take())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_of_their_type() {
        for (kind, given, expected) in [
            ("String", json!(["a"]), json!("a")),
            ("StringList", json!(["a", "b"]), json!(["a", "b"])),
            ("StringList", json!([]), json!([])),
            ("Boolean", json!(["true"]), json!(true)),
            ("Integer", json!(["-7"]), json!(-7)),
            ("StringMap", json!([r#"{"a":"b"}"#]), json!({"a": "b"})),
            ("MapList", json!([r#"{"a":"b"}"#]), json!([{"a": "b"}])),
        ] {
            assert_eq!(value(json!({"type": kind}), given), Ok(expected), "{kind}");
        }
        for (kind, given) in [
            ("String", json!([])),
            ("String", json!(["a", "b"])),
            ("String", json!("a")),
            ("StringList", json!([1])),
            ("Boolean", json!(["yes"])),
            ("Integer", json!(["1.5"])),
            ("StringMap", json!(["[]"])),
        ] {
            assert!(value(json!({"type": kind}), given.clone()).is_err(), "{kind} {given}");
        }
    }

    #[test]
    fn constraints_below_at_and_above() {
        let list = json!({"type": "StringList", "minItems": 1, "maxItems": 2});
        for (count, is_good) in [(0, false), (1, true), (2, true), (3, false)] {
            assert_eq!(value(list.clone(), json!(vec!["x"; count])).is_ok(), is_good, "{count}");
        }
        let text = json!({"type": "String", "minChars": 2, "maxChars": 3});
        for (given, is_good) in [("é", false), ("éé", true), ("ééé", true), ("éééé", false)] {
            assert_eq!(value(text.clone(), json!([given])).is_ok(), is_good, "{given}");
        }
        let one_of = json!({"type": "String", "allowedValues": ["a", "b"]});
        assert!(value(one_of.clone(), json!(["b"])).is_ok());
        assert_eq!(value(one_of, json!(["c"])), Err("The parameter P has a value that is not one of a, b.".into()));
        let pattern = json!({"type": "String", "allowedPattern": "a|b+"});
        for (given, is_good) in [("a", true), ("bb", true), ("ab", false), ("xa", false), ("", false), ("a\n", false)] {
            assert_eq!(value(pattern.clone(), json!([given])).is_ok(), is_good, "{given:?}");
        }
    }

    #[test]
    fn what_is_not_given_has_its_default_or_is_missed() {
        let empty = decode(b"{}").unwrap();
        let with = content(json!({"type": "String", "default": "d"})).unwrap();
        assert_eq!(with.values(None).unwrap(), *json!({"P": "d"}).as_object().unwrap());
        let without = content(json!({"type": "String"})).unwrap();
        let missed = "The parameter P has no value and no default.";
        assert_eq!(without.values(Some(&empty)).unwrap_err().to_string(), missed);
        let more = decode(br#"{"Q":["x"]}"#).unwrap();
        assert_eq!(with.values(Some(&more)).unwrap_err().to_string(), "The document has no parameter Q.");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_document() {
        for parameter in [
            json!({}),
            json!({"type": "Number"}),
            json!({"type": "String", "default": []}),
            json!({"type": "StringList", "default": "a"}),
            json!({"type": "String", "allowedPattern": "("}),
            json!({"type": "String", "allowedPattern": ".{100000}"}),
            json!({"type": "String", "allowedPattern": "(?=a)a"}),
            json!({"type": "String", "allowedValues": "a"}),
            json!({"type": "String", "minChars": -1}),
            json!({"type": "String", "description": 1}),
        ] {
            assert!(content(parameter.clone()).is_err(), "{parameter}");
        }
    }

    proptest! {
        #[test]
        fn patterns_never_panic(text in "[()a-c|*+?{},0-9\\[\\]^$.\\\\]{0,40}", value in "[a-c0-9]{0,40}") {
            if let Ok(pattern) = pattern(&text) {
                let _ = pattern.is_match(&value);
            }
        }
    }
}
