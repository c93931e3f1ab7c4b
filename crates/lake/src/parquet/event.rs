//! One event as it is read from its text: a tree that borrows what it can, in memory that is used again.
//!
//! The text is read by `serde_json`, so that what is JSON here is what is JSON everywhere else. Of a name that is given twice in
//! an object the last counts, as for rules, queries and everybody else who reads the text by it.

use core::fmt;
use std::borrow::Cow;
use std::collections::HashMap;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// An event has no more levels: it must be possible to put what is left of it two levels deeper, and to read that again.
pub(super) const DEPTH_MAX: usize = 120;

/// What is kept of the memory of one event for the next one.
const NODES_KEPT: usize = 8192;

/// Up to so many members of an object are compared each with each.
const COMPARED_MAX: usize = 32;

/// No node.
const NONE: u32 = u32::MAX;

/// Where the event itself is.
pub(super) const ROOT: u32 = 0;

/// An event.
pub(super) struct Event<'a> {
    nodes: Vec<Node<'a>>,
}

/// A member of an object, an element of an array, or the event.
struct Node<'a> {
    /// Empty where it is no member.
    name: Cow<'a, str>,
    value: Value<'a>,
    /// The next member or element.
    next: u32,
    /// It is no attribute of the event any more, and has to be kept.
    is_replaced: bool,
}

/// What there is at a place.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// `null`, which in OCSF says the same as no attribute; or what was taken.
    Nothing,
    Bool(bool),
    Int(i64),
    /// Beyond `i64`.
    Large(u64),
    Double(f64),
    Text(Cow<'a, str>),
    /// Its first element, and how many there are.
    Array(u32, usize),
    /// Its first member.
    Object(u32),
}

impl<'a> Event<'a> {
    /// Reads an event.
    ///
    /// # Errors
    /// It is no JSON object, or has too many levels; the memory comes back.
    pub(super) fn read(text: &'a str, memory: Memory) -> Result<Self, Memory> {
        let mut event = Self { nodes: memory.0 };
        event.add("".into(), Value::Nothing);
        let mut reader = serde_json::Deserializer::from_str(text);
        let seed = Seed { nodes: &mut event.nodes, at: ROOT as usize, left: DEPTH_MAX };
        let read = seed.deserialize(&mut reader).and_then(|()| reader.end());
        match (read, event.value(ROOT)) {
            (Ok(()), Value::Object(_)) => Ok(event),
            _ => Err(event.memory()),
        }
    }

    /// An event of nothing but a text.
    pub(super) fn of_text(name: &'static str, text: &'a str, memory: Memory) -> Self {
        let mut event = Self { nodes: memory.0 };
        event.add("".into(), Value::Object(1));
        event.add(name.into(), Value::Text(text.into()));
        event
    }

    /// The memory, for the next one.
    pub(super) fn memory(mut self) -> Memory {
        self.nodes.clear();
        self.nodes.shrink_to(NODES_KEPT);
        // Nothing borrows from a text any more; the elements, of which there are none, may be of another lifetime in place.
        Memory(self.nodes.into_iter().map_while(|_| None).collect())
    }

    pub(super) fn value(&self, at: u32) -> &Value<'a> {
        self.nodes.get(at as usize).map_or(&Value::Nothing, |node| &node.value)
    }

    pub(super) fn name(&self, at: u32) -> &str {
        self.nodes.get(at as usize).map_or("", |node| &node.name)
    }

    /// The members of an object, or the elements of an array.
    pub(super) fn first(&self, at: u32) -> Option<u32> {
        match self.value(at) {
            Value::Array(first, _) | Value::Object(first) => Some(*first).filter(|first| *first != NONE),
            _ => None,
        }
    }

    /// What is after a member or element.
    pub(super) fn next(&self, at: u32) -> Option<u32> {
        self.nodes.get(at as usize).map(|node| node.next).filter(|next| *next != NONE)
    }

    /// Whether it was replaced by [`Event::force`].
    pub(super) fn is_replaced(&self, at: u32) -> bool {
        self.nodes.get(at as usize).is_some_and(|node| node.is_replaced)
    }

    /// Takes a value: it is as if it were not there.
    pub(super) fn take(&mut self, at: u32) -> Value<'a> {
        self.nodes
            .get_mut(at as usize)
            .map_or(Value::Nothing, |node| core::mem::replace(&mut node.value, Value::Nothing))
    }

    /// A member of an object.
    pub(super) fn member(&self, object: u32, name: &str) -> Option<u32> {
        let mut next = self.first(object);
        while let Some(at) = next {
            if self.name(at) == name && !self.is_replaced(at) {
                return Some(at);
            }
            next = self.next(at);
        }
        None
    }

    /// Whether an object has no member with a value.
    pub(super) fn is_empty(&self, object: u32) -> bool {
        let mut next = self.first(object);
        while let Some(at) = next {
            if *self.value(at) != Value::Nothing {
                return false;
            }
            next = self.next(at);
        }
        true
    }

    /// Puts a value at a path. Another one that is there is kept beside it.
    pub(super) fn force(&mut self, object: u32, path: &[&'static str], value: Forced<'_>) {
        let Some((name, rest)) = path.split_first() else { return };
        let there = self.member(object, name);
        let is_good = there.is_some_and(|at| match self.value(at) {
            Value::Object(_) => !rest.is_empty(),
            Value::Int(there) => rest.is_empty() && value == Forced::Int(*there),
            Value::Text(there) => rest.is_empty() && value == Forced::Text(there),
            _ => false,
        });
        let at = match there {
            Some(at) if is_good => at,
            there => {
                if let Some(node) = there.and_then(|at| self.nodes.get_mut(at as usize)) {
                    node.is_replaced = true;
                }
                let value = match value {
                    _ if !rest.is_empty() => Value::Object(NONE),
                    Forced::Int(value) => Value::Int(value),
                    Forced::Text(value) => Value::Text(Cow::Owned(value.to_owned())),
                };
                self.push(object, name, value)
            }
        };
        self.force(at, rest, value);
    }

    /// Adds a member in front of the others of an object.
    fn push(&mut self, object: u32, name: &'static str, value: Value<'a>) -> u32 {
        let at = self.add(name.into(), value);
        if let Some(Value::Object(first)) = self.nodes.get_mut(object as usize).map(|node| &mut node.value) {
            let next = core::mem::replace(first, at);
            if let Some(node) = self.nodes.get_mut(at as usize) {
                node.next = next;
            }
        }
        at
    }

    fn add(&mut self, name: Cow<'a, str>, value: Value<'a>) -> u32 {
        add(&mut self.nodes, name, value)
    }

    /// Writes the members of an object that are there and are not `without`, with commas between them. Members of objects that
    /// are not there are left out as well; what is within arrays stays as it is.
    pub(super) fn write_members(&self, object: u32, without: Option<u32>, is_first: &mut bool, out: &mut Vec<u8>) {
        let members = core::iter::successors(self.first(object), |at| self.next(*at));
        for at in members.filter(|at| Some(*at) != without && *self.value(*at) != Value::Nothing) {
            self.write_name(at, is_first, out);
            match self.value(at) {
                Value::Object(_) => {
                    out.push(b'{');
                    self.write_members(at, None, &mut true, out);
                    out.push(b'}');
                }
                _ => self.write_whole(at, out),
            }
        }
    }

    fn write_name(&self, at: u32, is_first: &mut bool, out: &mut Vec<u8>) {
        if !core::mem::replace(is_first, false) {
            out.push(b',');
        }
        scalar(self.name(at), out);
        out.push(b':');
    }

    fn write_whole(&self, at: u32, out: &mut Vec<u8>) {
        let below = core::iter::successors(self.first(at), |at| self.next(*at));
        let mut is_first = true;
        match self.value(at) {
            Value::Nothing => out.extend_from_slice(b"null"),
            Value::Bool(value) => scalar(value, out),
            Value::Int(value) => scalar(value, out),
            Value::Large(value) => scalar(value, out),
            Value::Double(value) => scalar(value, out),
            Value::Text(value) => scalar(value.as_ref(), out),
            Value::Object(_) => {
                out.push(b'{');
                for at in below {
                    self.write_name(at, &mut is_first, out);
                    self.write_whole(at, out);
                }
                out.push(b'}');
            }
            Value::Array(..) => {
                out.push(b'[');
                for at in below {
                    if !core::mem::replace(&mut is_first, false) {
                        out.push(b',');
                    }
                    self.write_whole(at, out);
                }
                out.push(b']');
            }
        }
    }
}

/// What is put at a place.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Forced<'v> {
    Int(i64),
    Text(&'v str),
}

/// Writing to memory does not fail.
fn scalar<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}

/// What events have used.
#[derive(Default)]
pub(super) struct Memory(Vec<Node<'static>>);

/// Adds a node of which nobody knows yet. There are fewer than bytes of an event, which are far fewer than 2^32.
fn add<'a>(nodes: &mut Vec<Node<'a>>, name: Cow<'a, str>, value: Value<'a>) -> u32 {
    let at = u32::try_from(nodes.len()).unwrap_or(NONE);
    nodes.push(Node { name, value, next: NONE, is_replaced: false });
    at
}

/// Leaves of members with the same name only the last. Gives the first member.
fn last_of_each(nodes: &mut [Node<'_>], first: u32, count: usize) -> u32 {
    let walk = |first: u32| {
        let next = |at: &u32| nodes.get(*at as usize).map(|node| node.next).filter(|next| *next != NONE);
        core::iter::successors(Some(first).filter(|first| *first != NONE), next)
    };
    let name = |at: u32| nodes.get(at as usize).map_or("", |node| &node.name);
    let again: Vec<u32> = if count <= COMPARED_MAX {
        walk(first).filter(|at| walk(*at).skip(1).any(|later| name(later) == name(*at))).collect()
    } else {
        let last: HashMap<&str, u32> = walk(first).map(|at| (name(at), at)).collect();
        walk(first).filter(|at| last.get(name(*at)) != Some(at)).collect()
    };
    if again.is_empty() {
        return first;
    }
    let left: Vec<u32> = walk(first).filter(|at| again.binary_search(at).is_err()).collect();
    for (place, at) in left.iter().enumerate() {
        if let Some(node) = nodes.get_mut(*at as usize) {
            node.next = left.get(place + 1).copied().unwrap_or(NONE);
        }
    }
    left.first().copied().unwrap_or(NONE)
}

/// Reads a value into its node.
struct Seed<'n, 'a> {
    nodes: &'n mut Vec<Node<'a>>,
    at: usize,
    /// How many more levels may be.
    left: usize,
}

impl<'a> Seed<'_, 'a> {
    fn is(self, value: Value<'a>) {
        if let Some(node) = self.nodes.get_mut(self.at) {
            node.value = value;
        }
    }

    /// A node for the next member or element.
    fn begin(&mut self, name: Cow<'a, str>, left: usize) -> (u32, Seed<'_, 'a>) {
        let at = add(self.nodes, name, Value::Nothing);
        (at, Seed { nodes: self.nodes, at: at as usize, left })
    }

    /// Puts it behind the one before, of which there may be none.
    fn link(&mut self, last: u32, at: u32) {
        if let Some(node) = self.nodes.get_mut(last as usize) {
            node.next = at;
        }
    }

    fn deeper<E: Error>(&self) -> Result<usize, E> {
        self.left.checked_sub(1).ok_or_else(|| E::custom("too many levels"))
    }
}

impl<'a> DeserializeSeed<'a> for Seed<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Seed<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.is(Value::Bool(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.is(Value::Int(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.is(i64::try_from(value).map_or(Value::Large(value), Value::Int));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.is(Value::Double(value));
        Ok(())
    }

    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<(), E> {
        self.is(Value::Text(value.into()));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.is(Value::Text(Cow::Owned(value.to_owned())));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut elements: A) -> Result<(), A::Error> {
        let left = self.deeper()?;
        let (mut first, mut last, mut count) = (NONE, NONE, 0);
        loop {
            let (at, element) = self.begin("".into(), left);
            if elements.next_element_seed(element)?.is_none() {
                // The node was for one more than there are.
                self.nodes.pop();
                break;
            }
            self.link(last, at);
            first = first.min(at);
            last = at;
            count += 1;
        }
        self.is(Value::Array(first, count));
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut members: A) -> Result<(), A::Error> {
        let left = self.deeper()?;
        let (mut first, mut last, mut count) = (NONE, NONE, 0);
        while let Some(name) = members.next_key_seed(Name)? {
            let (at, member) = self.begin(name, left);
            members.next_value_seed(member)?;
            self.link(last, at);
            first = first.min(at);
            last = at;
            count += 1;
        }
        let first = last_of_each(self.nodes, first, count);
        self.is(Value::Object(first));
        Ok(())
    }
}

/// Reads the name of a member.
struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Cow<'a, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'a str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of an event from which nothing was taken.
    fn left(event: &Event<'_>) -> serde_json::Value {
        let mut out = b"{".to_vec();
        event.write_members(ROOT, None, &mut true, &mut out);
        out.push(b'}');
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn an_event_is_what_everybody_else_reads() {
        let text = r#" {"a": [1, -0, 1.5, "x\n\u00e9", {"b": [], "c": {}}, true], "d\u0065": 18446744073709551615, "é": "ü"} "#;
        let event = Event::read(text, Memory::default()).ok().unwrap();
        assert_eq!(left(&event), serde_json::from_str::<serde_json::Value>(text).unwrap());
        assert_eq!(event.value(event.member(ROOT, "de").unwrap()), &Value::Large(u64::MAX));
        for text in ["", "[1]", "1", "{\"a\":1", "{} {}", "{\"a\":1,}", "{\"a\":\"\\ud800\"}", "null"] {
            assert!(Event::read(text, Memory::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn members_that_are_null_are_left_out_but_in_arrays() {
        let text = r#"{"a":null,"b":{"c":null},"d":[null,{"e":null}]}"#;
        let event = Event::read(text, Memory::default()).ok().unwrap();
        assert_eq!(left(&event).to_string(), r#"{"b":{},"d":[null,{"e":null}]}"#);
    }

    #[test]
    fn of_a_name_that_is_given_twice_the_last_counts() {
        // So few that they are compared, and more.
        for others in [0, COMPARED_MAX - 3, COMPARED_MAX - 2, COMPARED_MAX + 9] {
            let others: String = (0..others).map(|number| format!(",\"{number}\":{number}")).collect();
            for twice in [r#""a":1,"b":2,"\u0061":3"#, r#""a":1,"a":{"x":1,"x":2},"b":2"#, r#""b":1,"a":1,"a":null"#] {
                let text = format!("{{{twice}{others}}}");
                let event = Event::read(&text, Memory::default()).ok().unwrap();
                let mut expected: serde_json::Value = serde_json::from_str(&text).unwrap();
                expected.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                assert_eq!(left(&event), expected, "{text}");
            }
        }
    }

    #[test]
    fn an_event_has_so_many_levels() {
        for (levels, good) in [(DEPTH_MAX - 1, true), (DEPTH_MAX, true), (DEPTH_MAX + 1, false)] {
            let text = format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
            assert_eq!(Event::read(&text, Memory::default()).is_ok(), good, "{levels}");
            let text = format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
            assert_eq!(Event::read(&text, Memory::default()).is_ok(), good, "{levels}");
        }
        // And what is left of the deepest one is read again, where it is put.
        let text = format!("{{\"a\":{}{}}}", "[".repeat(DEPTH_MAX - 1), "]".repeat(DEPTH_MAX - 1));
        assert!(serde_json::from_str::<serde_json::Value>(&format!("{{\"beyond_columns\":{text}}}")).is_ok());
    }

    #[test]
    fn memory_is_used_again_and_is_bounded() {
        let mut memory = Memory::default();
        for count in [10, NODES_KEPT * 4, 3] {
            let text = format!("{{\"a\":[{}]}}", vec!["1"; count].join(","));
            let event = Event::read(&text, memory).ok().unwrap();
            assert_eq!(left(&event)["a"].as_array().unwrap().len(), count);
            memory = event.memory();
            assert!(memory.0.is_empty() && memory.0.capacity() <= NODES_KEPT, "{}", memory.0.capacity());
        }
    }
}
