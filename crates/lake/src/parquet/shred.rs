//! One event to columns, and back.
//!
//! What has a column and is of its type goes there. Everything else goes into the column `unmapped`, at its path: an
//! attribute that OCSF does not have, a value of another type, a list of which one element does not fit. Nothing is lost
//! but `null`, which in OCSF says the same as no attribute.

use inborn_identity::InstanceId;
use inborn_telemetry::Record;
use parquet::data_type::ByteArray;
use serde_json::{Map, Value};

use super::schema::{Leaf, Node, Scalar, Schema, Shape, UNMAPPED};

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

/// Events as columns.
///
/// Most attributes of most events are not there, and there are hundreds of columns. That an attribute is absent is noted once
/// for all columns below it, and handed down to them when one of them has a value, or at the end.
pub(super) struct Table {
    columns: Vec<Column>,
    pub(super) rows: usize,
    /// By the number of the attribute: what its columns have not been told yet.
    absent: Vec<Vec<Run>>,
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
        Self { columns, rows: 0, absent: vec![Vec::new(); schema.singles] }
    }

    /// The columns, whole.
    pub(super) fn finish(mut self, schema: &Schema) -> Vec<Column> {
        schema.fields.iter().for_each(|field| self.tell_all(field));
        self.columns
    }

    fn tell_all(&mut self, node: &Node) {
        self.tell(node);
        if let Shape::Group(members) = &node.shape {
            members.iter().for_each(|member| self.tell_all(member));
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
                for below in members {
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

    /// Adds an event. `time`, `class_uid`, `device.uid` and `metadata.uid` are what the record says, whatever its JSON does: files are
    /// found by them. `false`: it is no JSON object, and is kept as it is, in `raw_data`.
    pub(super) fn push(&mut self, schema: &Schema, instance: InstanceId, record: &Record) -> bool {
        let (mut event, is_object) = match serde_json::from_str(&record.json) {
            Ok(Value::Object(event)) => (event, true),
            // Whoever appended it saw to it that it is one.
            _ => (Map::from_iter([("raw_data".to_owned(), Value::from(record.json.as_ref()))]), false),
        };
        strip(&mut event);
        let mut beyond = Map::new();
        force(&mut event, &mut beyond, &["time"], record.time_ms.into());
        force(&mut event, &mut beyond, &["class_uid"], record.class.0.into());
        force(&mut event, &mut beyond, &["device", "uid"], instance.to_string().into());
        force(&mut event, &mut beyond, &["metadata", "uid"], record.uid.as_ref().into());
        let own = event.remove(UNMAPPED);
        for field in &schema.fields {
            if field.name.as_ref() != UNMAPPED {
                self.member(field, &mut event, 0, 0);
            }
        }
        merge(&mut event, beyond);
        let unmapped = unmapped(own, event).map_or(Value::Null, Value::from);
        if let Some(field) = schema.fields.last() {
            self.member(field, &mut Map::from_iter([(UNMAPPED.to_owned(), unmapped)]), 0, 0);
        }
        self.rows += 1;
        is_object
    }

    /// Takes what fits of an attribute out of `object`, and leaves the rest there.
    fn member(&mut self, node: &Node, object: &mut Map<String, Value>, definition: i16, repetition: i16) {
        let Some(value) = object.get_mut(node.name.as_ref()) else { return self.nothing(node, definition, repetition) };
        if self.value(node, value, definition, repetition) {
            object.remove(node.name.as_ref());
        }
    }

    /// The same of a value. `true`: nothing is left.
    fn value(&mut self, node: &Node, value: &mut Value, definition: i16, repetition: i16) -> bool {
        match (&node.shape, &mut *value) {
            (_, Value::Null) => {
                self.nothing(node, definition, repetition);
                return true;
            }
            (Shape::Group(members), Value::Object(object)) => {
                self.tell(node);
                for member in members {
                    self.member(member, object, definition + 1, repetition);
                }
                return object.is_empty();
            }
            (Shape::List(level, element), Value::Array(elements))
                if elements.len().saturating_mul(element.end - element.first) <= LIST_LEVELS_MAX
                    && elements.iter().all(|one| fits(element, one)) =>
            {
                if elements.is_empty() {
                    self.nothing(node, definition + 1, repetition);
                    return true;
                }
                self.tell(node);
                for (index, one) in elements.iter_mut().enumerate() {
                    // The list is there, this repetition of it is there; that the element is, it says itself.
                    self.value(element, one, definition + 2, if index == 0 { repetition } else { *level });
                }
                return true;
            }
            (Shape::Leaf(scalar), value) if is(*scalar, value) => {
                self.tell(node);
                if let Some(column) = self.columns.get_mut(node.first) {
                    column.push(value, definition + 1, repetition);
                }
                return true;
            }
            _ => {}
        }
        self.nothing(node, definition, repetition);
        false
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

    /// A value of which [`is`] said that it is one.
    fn push(&mut self, value: &mut Value, definition: i16, repetition: i16) {
        self.nothing(definition, repetition);
        match (&mut self.values, value) {
            (Values::Text(values), Value::String(text)) => {
                values.push(ByteArray::from(core::mem::take(text).into_bytes()))
            }
            (Values::Int(values), value) => values.push(int(value).unwrap_or_default()),
            (Values::Long(values), value) => values.push(value.as_i64().unwrap_or_default()),
            (Values::Double(values), value) => values.push(value.as_f64().unwrap_or_default()),
            (Values::Bool(values), value) => values.push(value.as_bool().unwrap_or_default()),
            (Values::Text(values), _) => values.push(ByteArray::from(Vec::new())),
        }
    }
}

fn int(value: &Value) -> Option<i32> {
    value.as_i64().and_then(|value| i32::try_from(value).ok())
}

fn is(scalar: Scalar, value: &Value) -> bool {
    match scalar {
        Scalar::Text => value.is_string(),
        Scalar::Int => int(value).is_some(),
        Scalar::Long => value.is_i64(),
        Scalar::Double => value.is_f64(),
        Scalar::Bool => value.is_boolean(),
    }
}

/// Whether nothing of a value would be left.
fn fits(node: &Node, value: &Value) -> bool {
    match (&node.shape, value) {
        (Shape::Leaf(scalar), value) => is(*scalar, value),
        (Shape::List(_, element), Value::Array(elements)) => elements.iter().all(|one| fits(element, one)),
        (Shape::Group(members), Value::Object(object)) => object.iter().all(|(name, value)| {
            members.iter().find(|member| member.name.as_ref() == name).is_some_and(|member| fits(member, value))
        }),
        _ => false,
    }
}

/// Puts a value at a path. Another one that was there goes to `beyond`.
fn force(event: &mut Map<String, Value>, beyond: &mut Map<String, Value>, path: &[&str], value: Value) {
    let Some((name, rest)) = path.split_first() else { return };
    let place = event.entry(*name).or_insert(Value::Null);
    if rest.is_empty() {
        let was = core::mem::replace(place, value);
        if !was.is_null() && was != *place {
            beyond.insert((*name).to_owned(), was);
        }
        return;
    }
    if !place.is_object() {
        let was = core::mem::replace(place, Value::Object(Map::new()));
        if !was.is_null() {
            beyond.insert((*name).to_owned(), was);
        }
    }
    let mut inner = Map::new();
    if let Some(object) = place.as_object_mut() {
        force(object, &mut inner, rest, value);
    }
    if !inner.is_empty() {
        merge(beyond, Map::from_iter([((*name).to_owned(), Value::Object(inner))]));
    }
}

/// Takes away members that are null, and nothing else. What is within lists stays as it is.
fn strip(object: &mut Map<String, Value>) {
    object.retain(|_, value| {
        if let Value::Object(inner) = value {
            strip(inner);
        }
        !value.is_null()
    });
}

/// The JSON of the column `unmapped`: the event's own, and beside it what is beyond the columns.
fn unmapped(own: Option<Value>, mut beyond: Map<String, Value>) -> Option<String> {
    let mut object = match own {
        Some(Value::Object(own)) if !own.contains_key(BEYOND) && (beyond.is_empty() || !own.is_empty()) => own,
        Some(other) => {
            beyond.insert(UNMAPPED.to_owned(), other);
            Map::new()
        }
        None if beyond.is_empty() => return None,
        None => Map::new(),
    };
    if !beyond.is_empty() {
        object.insert(BEYOND.to_owned(), Value::Object(beyond));
    }
    Some(Value::Object(object).to_string())
}

/// The event whose columns these are: the opposite of [`unmapped`].
pub(super) fn restore(event: &mut Map<String, Value>) {
    let Some(Value::String(text)) = event.remove(UNMAPPED) else { return };
    let Ok(Value::Object(mut own)) = serde_json::from_str(&text) else {
        event.insert(UNMAPPED.to_owned(), Value::String(text));
        return;
    };
    let beyond = own.remove(BEYOND);
    let replaced = beyond.as_ref().is_some_and(|beyond| beyond.get(UNMAPPED).is_some());
    if !(replaced || own.is_empty() && beyond.is_some()) {
        event.insert(UNMAPPED.to_owned(), Value::Object(own));
    }
    if let Some(Value::Object(beyond)) = beyond {
        merge(event, beyond);
    }
}

fn merge(object: &mut Map<String, Value>, other: Map<String, Value>) {
    for (name, value) in other {
        match (object.get_mut(&name), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => merge(inner, value),
            (_, value) => {
                object.insert(name, value);
            }
        }
    }
}
