//! One event to columns, and back.
//!
//! What has a column and is of its type goes there. Everything else goes into the column `unmapped`, at its path: an
//! attribute that OCSF does not have, a value of another type, a list of which one element does not fit. Nothing is lost
//! but `null`, which in OCSF says the same as no attribute.

use std::borrow::Cow;

use bytes::Bytes;
use inborn_telemetry::Record;
use parquet::data_type::ByteArray;
use serde_json::{Map, Value as Json};

use super::event::{Event, Forced, Memory, ROOT, Value};
use super::schema::{Leaf, Members, Node, Scalar, Schema, Shape, UNMAPPED};

/// What the columns of one list may come to, elements by columns: an element of three bytes takes a place in each column of its
/// list, so that a small event could become a large row. A longer list stays in `unmapped` as it is.
const LIST_LEVELS_MAX: usize = 4096;

/// Under this name the column `unmapped` has what is not the event's own `unmapped`.
const BEYOND: &str = "beyond_columns";

/// What is in one column, as Parquet wants it.
pub(super) struct Column {
    pub(super) definitions: Vec<i16>,
    pub(super) repetitions: Option<Vec<i16>>,
    pub(super) values: Values,
}

pub(super) enum Values {
    Text(Vec<ByteArray>),
    Int(Vec<i32>),
    Long(Vec<i64>),
    Double(Vec<f64>),
    Bool(Vec<bool>),
}

/// An event that becomes a row, and its text. Columns hold pieces of the text, not copies.
struct Row<'a> {
    event: Event<'a>,
    text: &'a Bytes,
}

/// Events as columns.
///
/// Most attributes of most events are not there, and there are hundreds of columns. That an attribute is absent is noted once
/// for all columns below it, and handed down to them when one of them has a value, or at the end.
pub(super) struct Table {
    columns: Vec<Column>,
    pub(super) rows: usize,
    /// By the number of the attribute: what its columns have not been told yet.
    absent: Vec<Vec<Run>>,
    /// Which members the objects have that are being looked at: for each attribute of one, where it is.
    found: Vec<Option<u32>>,
    memory: Memory,
}

/// Rows one after the other in which an attribute is absent in the same way.
#[derive(Clone, Copy)]
struct Run {
    definition: i16,
    rows: usize,
}

fn note(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.definition == run.definition => last.rows += run.rows,
        _ => runs.push(run),
    }
}

impl Table {
    pub(super) fn new(schema: &Schema) -> Self {
        let columns = schema.leaves.iter().map(Column::new).collect();
        let (absent, found, memory) = (vec![Vec::new(); schema.singles], Vec::new(), Memory::default());
        Self { columns, rows: 0, absent, found, memory }
    }

    /// The columns, whole.
    pub(super) fn finish(mut self, schema: &Schema) -> Vec<Column> {
        schema.fields.nodes.iter().for_each(|field| self.tell_all(field));
        self.columns
    }

    fn tell_all(&mut self, node: &Node) {
        self.tell(node);
        if let Shape::Group(members) = &node.shape {
            members.nodes.iter().for_each(|member| self.tell_all(member));
        }
    }

    /// Hands down what is noted of an attribute: to the next attributes below it, or to its columns.
    fn tell(&mut self, node: &Node) {
        let Some(noted) = node.single.and_then(|single| self.absent.get_mut(single)) else { return };
        if noted.is_empty() {
            return;
        }
        let runs = core::mem::take(noted);
        match &node.shape {
            Shape::Group(members) => {
                for below in &members.nodes {
                    let noted = below.single.and_then(|single| self.absent.get_mut(single));
                    noted.into_iter().for_each(|noted| runs.iter().for_each(|run| note(noted, *run)));
                }
            }
            Shape::Leaf(_) | Shape::List(..) => {
                for column in self.columns.get_mut(node.first..node.end).unwrap_or_default() {
                    runs.iter().for_each(|run| column.absent(*run));
                }
            }
        }
        // The memory is used again.
        if let Some(noted) = node.single.and_then(|single| self.absent.get_mut(single)) {
            *noted = runs;
            noted.clear();
        }
    }

    /// Adds an event. `time`, `class_uid`, `device.uid` (the machine) and `metadata.uid` are what the record says, whatever its JSON
    /// does: files are found by them. `false`: it is no JSON object, and is kept as it is, in `raw_data`.
    pub(super) fn push(&mut self, schema: &Schema, machine: &str, record: Record) -> bool {
        let text = Bytes::from(String::from(record.json));
        let memory = core::mem::take(&mut self.memory);
        let json = core::str::from_utf8(&text).unwrap_or_default();
        let (mut event, is_object) = match Event::read(json, memory) {
            Ok(event) => (event, true),
            // Whoever appended it saw to it that it is one.
            Err(memory) => (Event::of_text("raw_data", json, memory), false),
        };
        event.force(ROOT, &["time"], Forced::Int(record.time_ms));
        event.force(ROOT, &["class_uid"], Forced::Int(record.class.0.into()));
        event.force(ROOT, &["device", "uid"], Forced::Text(machine));
        event.force(ROOT, &["metadata", "uid"], Forced::Text(&record.uid));
        let mut row = Row { event, text: &text };
        // The last one is `unmapped`.
        let fields = schema.fields.nodes.len().saturating_sub(1);
        let is_whole = self.members(&schema.fields, fields, &mut row, ROOT, 0, 0);
        if let Some(field) = schema.fields.nodes.last() {
            match unmapped(&row.event, is_whole) {
                Some(json) => self.leaf(field, Value::Text(Cow::Owned(json)), &text, 0, 0),
                None => self.nothing(field, 0, 0),
            }
        }
        self.memory = row.event.memory();
        self.rows += 1;
        is_object
    }

    /// Takes what fits of the first `count` attributes out of an object, and leaves the rest there. `true`: nothing is left, but
    /// perhaps of the attributes behind.
    fn members(
        &mut self,
        members: &Members,
        count: usize,
        row: &mut Row<'_>,
        object: u32,
        definition: i16,
        repetition: i16,
    ) -> bool {
        let base = self.found.len();
        self.found.resize(base + members.nodes.len(), None);
        let mut is_whole = true;
        let mut next = row.event.first(object);
        while let Some(at) = next {
            next = row.event.next(at);
            let known = members.find(row.event.name(at)).filter(|_| !row.event.is_replaced(at));
            match known.and_then(|member| self.found.get_mut(base + member)) {
                Some(found) => *found = Some(at),
                None => is_whole &= *row.event.value(at) == Value::Nothing,
            }
        }
        for (index, member) in members.nodes.iter().enumerate().take(count) {
            match self.found.get(base + index).copied().flatten() {
                Some(at) if self.value(member, row, at, definition, repetition) => drop(row.event.take(at)),
                Some(_) => is_whole = false,
                None => self.nothing(member, definition, repetition),
            }
        }
        self.found.truncate(base);
        is_whole
    }

    /// The same of a value. `true`: nothing is left.
    fn value(&mut self, node: &Node, row: &mut Row<'_>, at: u32, definition: i16, repetition: i16) -> bool {
        match (&node.shape, row.event.value(at)) {
            (_, Value::Nothing) => {
                self.nothing(node, definition, repetition);
                true
            }
            (Shape::Group(members), Value::Object(_)) => {
                self.tell(node);
                self.members(members, members.nodes.len(), row, at, definition + 1, repetition)
            }
            (Shape::List(level, element), Value::Array(_, count))
                if count.saturating_mul(element.end - element.first) <= LIST_LEVELS_MAX
                    && fits(node, &row.event, at) =>
            {
                let mut next = row.event.first(at);
                if next.is_none() {
                    self.nothing(node, definition + 1, repetition);
                    return true;
                }
                self.tell(node);
                let mut repetition = repetition;
                while let Some(one) = next {
                    // The list is there, this repetition of it is there; that the element is, it says itself.
                    self.value(element, row, one, definition + 2, repetition);
                    repetition = *level;
                    next = row.event.next(one);
                }
                true
            }
            (Shape::Leaf(scalar), value) if is(*scalar, value) => {
                let value = row.event.take(at);
                self.leaf(node, value, row.text, definition, repetition);
                true
            }
            _ => {
                self.nothing(node, definition, repetition);
                false
            }
        }
    }

    /// Adds a value of which [`is`] said that it is one.
    fn leaf(&mut self, node: &Node, value: Value<'_>, text: &Bytes, definition: i16, repetition: i16) {
        self.tell(node);
        if let Some(column) = self.columns.get_mut(node.first) {
            column.push(value, text, definition + 1, repetition);
        }
    }

    fn nothing(&mut self, node: &Node, definition: i16, repetition: i16) {
        if let Some(noted) = node.single.and_then(|single| self.absent.get_mut(single)) {
            return note(noted, Run { definition, rows: 1 });
        }
        for column in self.columns.get_mut(node.first..node.end).unwrap_or_default() {
            column.nothing(definition, repetition);
        }
    }
}

impl Column {
    fn new(leaf: &Leaf) -> Self {
        let values = match leaf.scalar {
            Scalar::Text => Values::Text(Vec::new()),
            Scalar::Int => Values::Int(Vec::new()),
            Scalar::Long => Values::Long(Vec::new()),
            Scalar::Double => Values::Double(Vec::new()),
            Scalar::Bool => Values::Bool(Vec::new()),
        };
        Self { definitions: Vec::new(), repetitions: leaf.repeated.then(Vec::new), values }
    }

    fn nothing(&mut self, definition: i16, repetition: i16) {
        self.definitions.push(definition);
        if let Some(repetitions) = &mut self.repetitions {
            repetitions.push(repetition);
        }
    }

    /// Rows in which nothing is repeated and nothing is there.
    fn absent(&mut self, run: Run) {
        self.definitions.resize(self.definitions.len() + run.rows, run.definition);
        if let Some(repetitions) = &mut self.repetitions {
            repetitions.resize(repetitions.len() + run.rows, 0);
        }
    }

    /// Adds a value of which [`is`] said that it is one. What it borrows is of `text`.
    fn push(&mut self, value: Value<'_>, text: &Bytes, definition: i16, repetition: i16) {
        self.nothing(definition, repetition);
        match (&mut self.values, value) {
            (Values::Text(values), Value::Text(Cow::Borrowed(piece))) => {
                values.push(text.slice_ref(piece.as_bytes()).into());
            }
            (Values::Text(values), Value::Text(Cow::Owned(value))) => values.push(value.into_bytes().into()),
            (Values::Text(values), _) => values.push(ByteArray::from(Vec::new())),
            (Values::Int(values), value) => values.push(int(&value).unwrap_or_default()),
            (Values::Long(values), value) => values.push(if let Value::Int(value) = value { value } else { 0 }),
            (Values::Double(values), value) => values.push(if let Value::Double(value) = value { value } else { 0.0 }),
            (Values::Bool(values), value) => values.push(value == Value::Bool(true)),
        }
    }
}

fn int(value: &Value<'_>) -> Option<i32> {
    if let Value::Int(value) = value { i32::try_from(*value).ok() } else { None }
}

fn is(scalar: Scalar, value: &Value<'_>) -> bool {
    match scalar {
        Scalar::Text => matches!(value, Value::Text(_)),
        Scalar::Int => int(value).is_some(),
        Scalar::Long => matches!(value, Value::Int(_)),
        Scalar::Double => matches!(value, Value::Double(_)),
        Scalar::Bool => matches!(value, Value::Bool(_)),
    }
}

/// Whether nothing of a value would be left.
fn fits(node: &Node, event: &Event<'_>, at: u32) -> bool {
    let mut below = core::iter::successors(event.first(at), |one| event.next(*one));
    match (&node.shape, event.value(at)) {
        (Shape::Leaf(scalar), value) => is(*scalar, value),
        (Shape::List(_, element), Value::Array(..)) => below.all(|one| fits(element, event, one)),
        (Shape::Group(members), Value::Object(_)) => below.all(|one| {
            let member = members.find(event.name(one)).and_then(|member| members.nodes.get(member));
            member.is_some_and(|member| fits(member, event, one))
        }),
        _ => false,
    }
}

/// The JSON of the column `unmapped`: the event's own, and beside it what is beyond the columns. `is_whole`: that is nothing.
fn unmapped(event: &Event<'_>, is_whole: bool) -> Option<String> {
    let own = event.member(ROOT, UNMAPPED).filter(|own| *event.value(*own) != Value::Nothing);
    // There it is also one of the members beyond the columns, unless it can stand for itself.
    let beside = own.filter(|own| {
        let is_taken = event.member(*own, BEYOND).is_some_and(|beyond| *event.value(beyond) != Value::Nothing);
        matches!(event.value(*own), Value::Object(_)) && !is_taken && (is_whole || !event.is_empty(*own))
    });
    if own.is_none() && is_whole {
        return None;
    }
    let (mut json, mut is_first) = (b"{".to_vec(), true);
    if let Some(own) = beside {
        event.write_members(own, None, &mut is_first, &mut json);
    }
    if beside.is_none() || !is_whole {
        if !is_first {
            json.push(b',');
        }
        json.extend_from_slice(b"\"");
        json.extend_from_slice(BEYOND.as_bytes());
        json.extend_from_slice(b"\":{");
        event.write_members(ROOT, beside, &mut true, &mut json);
        json.push(b'}');
    }
    json.push(b'}');
    String::from_utf8(json).ok()
}

/// The event whose columns these are: the opposite of [`unmapped`].
pub(super) fn restore(event: &mut Map<String, Json>) {
    let Some(Json::String(text)) = event.remove(UNMAPPED) else { return };
    let Ok(Json::Object(mut own)) = serde_json::from_str(&text) else {
        event.insert(UNMAPPED.to_owned(), Json::String(text));
        return;
    };
    let beyond = own.remove(BEYOND);
    let replaced = beyond.as_ref().is_some_and(|beyond| beyond.get(UNMAPPED).is_some());
    if !(replaced || own.is_empty() && beyond.is_some()) {
        event.insert(UNMAPPED.to_owned(), Json::Object(own));
    }
    if let Some(Json::Object(beyond)) = beyond {
        merge(event, beyond);
    }
}

fn merge(object: &mut Map<String, Json>, other: Map<String, Json>) {
    for (name, value) in other {
        match (object.get_mut(&name), value) {
            (Some(Json::Object(inner)), Json::Object(value)) => merge(inner, value),
            (_, value) => {
                object.insert(name, value);
            }
        }
    }
}
