//! Bodies of awsJson 1.1 and restJson calls: one JSON object, of bounded depth, with each key once.
//!
//! How large a body may be is for the listener to say, before a byte of it gets here.

use core::cell::Cell;
use core::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Most levels of objects and arrays, the outermost counted.
pub const DEPTH_MAX: usize = 32;

/// A body that is not what the protocol asks for. `Display` is the text of the answer, empty where AWS gives none.
///
/// The texts of [`JsonError::Kind`] follow those that Kinesis gives; the rest are ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, not UTF-8, or something after the end.
    #[error("")]
    Syntax,
    /// JSON, but not an object.
    #[error("Unexpected value at the start of the request body")]
    NotAnObject,
    /// More than [`DEPTH_MAX`] levels.
    #[error("The request body has more than {DEPTH_MAX} levels")]
    TooDeep,
    /// A key that comes twice in one object: two readers would disagree on its value.
    #[error("Key '{key}' is given more than once")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A member of the wrong kind.
    #[error("{found} can not be converted to {expected}")]
    Kind {
        /// The member.
        key: String,
        /// What was found, in the protocol's own words.
        found: &'static str,
        /// What was asked for, with its article.
        expected: &'static str,
    },
    /// A member that must be there is not.
    #[error("{key} is missing")]
    Missing {
        /// The member.
        key: String,
    },
}

/// A JSON object of a call. A member that is `null` counts as absent.
#[derive(Clone, PartialEq, Debug)]
pub struct Object(Map<String, Value>);

/// Reads a body. An empty one is an empty object, as it is for operations without input.
///
/// # Errors
/// Anything that is not one JSON object within [`DEPTH_MAX`], with each key once.
pub fn decode(body: &[u8]) -> Result<Object, JsonError> {
    if body.is_empty() {
        return Ok(Object(Map::new()));
    }
    let fault = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let seed = Level { left: DEPTH_MAX, fault: &fault };
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|_| fault.take().unwrap_or(JsonError::Syntax))?;
    match value {
        Value::Object(map) => Ok(Object(map)),
        _ => Err(JsonError::NotAnObject),
    }
}

impl Object {
    /// A text.
    ///
    /// # Errors
    /// It is there and is no text.
    pub fn text(&self, key: &str) -> Result<Option<&str>, JsonError> {
        self.member(key, "a String", Value::as_str)
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// It is missing, or no text.
    pub fn require_text(&self, key: &str) -> Result<&str, JsonError> {
        self.text(key)?.ok_or_else(|| JsonError::Missing { key: key.to_owned() })
    }

    /// A whole number.
    ///
    /// # Errors
    /// It is there and is no whole number of 64 bits.
    pub fn integer(&self, key: &str) -> Result<Option<i64>, JsonError> {
        self.member(key, "an Integer", Value::as_i64)
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// It is there and is neither.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, JsonError> {
        self.member(key, "a Boolean", Value::as_bool)
    }

    /// An object within this one.
    ///
    /// # Errors
    /// It is there and is no object.
    pub fn object(&self, key: &str) -> Result<Option<Object>, JsonError> {
        Ok(self.member(key, "a Structure", Value::as_object)?.cloned().map(Object))
    }

    /// The objects of a list.
    ///
    /// # Errors
    /// It is there and is no list, or holds something else than objects.
    pub fn objects(&self, key: &str) -> Result<Option<Vec<Object>>, JsonError> {
        let Some(list) = self.member(key, "a List", Value::as_array)? else { return Ok(None) };
        let object = |item: &Value| match item {
            Value::Object(members) => Ok(Object(members.clone())),
            other => Err(kind(key, other, "a Structure")),
        };
        list.iter().map(object).collect::<Result<_, _>>().map(Some)
    }

    /// The texts of a list.
    ///
    /// # Errors
    /// It is there and is no list, or holds something else than texts.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, JsonError> {
        let Some(list) = self.member(key, "a List", Value::as_array)? else { return Ok(None) };
        list.iter()
            .map(|item| item.as_str().ok_or_else(|| kind(key, item, "a String")))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// With one more member, a list of texts.
    ///
    /// # Errors
    /// As [`Object::with`].
    pub fn with_list(mut self, key: &str, texts: Vec<String>) -> Result<Self, JsonError> {
        match self.0.insert(key.to_owned(), Value::from(texts)) {
            None => Ok(self),
            Some(_) => Err(JsonError::DuplicateKey { key: key.to_owned() }),
        }
    }

    /// With one more member, which the request says elsewhere than in its body.
    ///
    /// # Errors
    /// The body has it too: two readers would disagree on its value.
    pub fn with(mut self, key: &str, text: &str) -> Result<Self, JsonError> {
        match self.0.insert(key.to_owned(), Value::from(text)) {
            None => Ok(self),
            Some(_) => Err(JsonError::DuplicateKey { key: key.to_owned() }),
        }
    }

    /// The members as they stand.
    #[must_use]
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    fn member<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, JsonError> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| kind(key, value, expected)),
        }
    }
}

fn kind(key: &str, value: &Value, expected: &'static str) -> JsonError {
    let found = match value {
        Value::Null => "NULL_VALUE",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Number(number) if number.is_f64() => "DECIMAL_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::String(_) => "STRING_VALUE",
        Value::Array(_) => "LIST_VALUE",
        Value::Object(_) => "STRUCTURE_VALUE",
    };
    JsonError::Kind { key: key.to_owned(), found, expected }
}

/// Reads one value with so many levels left, and leaves behind what went wrong.
#[derive(Clone, Copy)]
struct Level<'a> {
    left: usize,
    fault: &'a Cell<Option<JsonError>>,
}

impl<'a> Level<'a> {
    /// The level below, if there may be one.
    fn below<E: serde::de::Error>(self) -> Result<Level<'a>, E> {
        let left = self.left.checked_sub(1).ok_or_else(|| self.refuse(JsonError::TooDeep))?;
        Ok(Level { left, ..self })
    }

    fn refuse<E: serde::de::Error>(self, fault: JsonError) -> E {
        self.fault.set(Some(fault));
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(self.refuse(JsonError::DuplicateKey { key }));
            }
            map.insert(key, entries.next_value_seed(below)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nested(levels: usize) -> String {
        format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
    }

    #[test]
    fn reads_members_by_kind() {
        let body = decode(br#" {"T":"x","I":-7,"B":false,"N":null,"O":{"T":"y"},"L":["a","b"]} "#).unwrap();
        assert_eq!(body.text("T"), Ok(Some("x")));
        assert_eq!(body.require_text("T"), Ok("x"));
        assert_eq!(body.integer("I"), Ok(Some(-7)));
        assert_eq!(body.boolean("B"), Ok(Some(false)));
        assert_eq!(body.text("N"), Ok(None));
        assert_eq!(body.text("absent"), Ok(None));
        assert_eq!(body.object("O").unwrap().unwrap().text("T"), Ok(Some("y")));
        assert_eq!(body.texts("L"), Ok(Some(vec!["a", "b"])));
        assert_eq!(body.members().len(), 6);
        let body = decode(br#"{"S":[{"T":"x"},{}],"E":[]}"#).unwrap();
        let objects = body.objects("S").unwrap().unwrap();
        assert_eq!((objects.len(), objects[0].text("T")), (2, Ok(Some("x"))));
        assert_eq!((body.objects("E").unwrap().map(|list| list.len()), body.objects("absent")), (Some(0), Ok(None)));
    }

    #[test]
    fn says_what_a_member_is_instead() {
        let body = decode(br#"{"T":1,"F":1.5,"I":"1","B":true,"L":[1],"O":{},"A":[]}"#).unwrap();
        let text = |result: Result<Option<&str>, JsonError>| result.unwrap_err().to_string();
        assert_eq!(text(body.text("T")), "NUMBER_VALUE can not be converted to a String");
        assert_eq!(text(body.text("F")), "DECIMAL_VALUE can not be converted to a String");
        assert_eq!(text(body.text("B")), "TRUE_VALUE can not be converted to a String");
        assert_eq!(text(body.text("O")), "STRUCTURE_VALUE can not be converted to a String");
        assert_eq!(text(body.text("A")), "LIST_VALUE can not be converted to a String");
        assert_eq!(body.integer("I").unwrap_err().to_string(), "STRING_VALUE can not be converted to an Integer");
        assert_eq!(body.objects("L").unwrap_err().to_string(), "NUMBER_VALUE can not be converted to a Structure");
        assert_eq!(body.texts("L").unwrap_err().to_string(), "NUMBER_VALUE can not be converted to a String");
        assert_eq!(body.require_text("absent"), Err(JsonError::Missing { key: "absent".to_owned() }));
    }

    #[test]
    fn an_empty_body_is_an_empty_object() {
        assert!(decode(b"").unwrap().members().is_empty());
        assert!(decode(b"{}").unwrap().members().is_empty());
    }

    #[test]
    fn refuses_what_is_not_one_object() {
        for body in [&b"{"[..], b"{}x", b"{}{}", b"{'a':1}", b"{\"a\":1e999}", b"\xff", b"{\"a\":\"\xff\"}", b" "] {
            assert_eq!(decode(body), Err(JsonError::Syntax), "{body:?}");
        }
        for body in [&b"[]"[..], b"1", b"null", b"\"x\""] {
            assert_eq!(decode(body), Err(JsonError::NotAnObject), "{body:?}");
        }
    }

    #[test]
    fn depth_below_at_and_above_the_limit() {
        assert!(decode(nested(DEPTH_MAX - 1).as_bytes()).is_ok());
        assert!(decode(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(decode(nested(DEPTH_MAX + 1).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(decode("[".repeat(100_000).as_bytes()), Err(JsonError::TooDeep));
    }

    #[test]
    fn refuses_a_key_that_comes_twice_at_any_level() {
        let duplicate = Err(JsonError::DuplicateKey { key: "a".to_owned() });
        assert_eq!(decode(br#"{"a":1,"a":1}"#), duplicate);
        assert_eq!(decode(br#"{"x":[{"a":1,"\u0061":2}]}"#), duplicate);
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&body);
        }

        #[test]
        fn agrees_with_serde_json(text in "[{}\\[\\]\",:a0-9 .truefalsn]{0,40}") {
            if let Ok(object) = decode(text.as_bytes()) && !text.is_empty() {
                let reference: Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(Some(object.members()), reference.as_object());
            }
        }
    }
}
