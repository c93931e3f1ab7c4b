//! Columns of a row group back to events: any row, in any order, and no other.

use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::RowGroupReader;
use serde_json::{Map, Number, Value};

use super::schema::{Node, Schema, Shape};

/// Every column of a row group, decoded.
pub(super) struct Rows {
    schema: Schema,
    columns: Vec<Column>,
}

struct Column {
    definitions: Vec<i16>,
    /// Empty where nothing can repeat.
    repetitions: Vec<i16>,
    values: Values,
    /// Where each row begins; empty where row and place are the same.
    starts: Vec<usize>,
    /// Which value stands at each place; empty where all or none have one.
    valued: Vec<u32>,
}

enum Values {
    Text(Vec<ByteArray>),
    Int(Vec<i32>),
    Long(Vec<i64>),
    Double(Vec<f64>),
    Bool(Vec<bool>),
}

impl Rows {
    /// Reads a row group.
    pub(super) fn read(group: &dyn RowGroupReader) -> Result<Self> {
        let descriptor = group.metadata().schema_descr_ptr();
        let schema = Schema::of_file(descriptor.root_schema());
        let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let mut columns = Vec::with_capacity(descriptor.num_columns());
        for (index, described) in descriptor.columns().iter().enumerate() {
            let column = Column::read(group.get_column_reader(index)?, rows, described.max_def_level())?;
            columns.push(column);
        }
        if columns.len() != schema.leaves.len() {
            return Err(ParquetError::General("columns that are none of ours".to_owned()));
        }
        Ok(Self { schema, columns })
    }

    /// One event, as its columns tell it.
    pub(super) fn event(&self, row: usize) -> Map<String, Value> {
        let mut at: Vec<usize> = self.columns.iter().map(|column| column.start(row)).collect();
        let members = self.schema.fields.nodes.iter();
        members.filter_map(|field| Some((field.name.to_string(), self.value(field, 0, &mut at)?))).collect()
    }

    /// What is at `at`, which goes on to what follows. `definition`: how much of the path to it is there.
    fn value(&self, node: &Node, definition: i16, at: &mut [usize]) -> Option<Value> {
        let first = self.columns.get(node.first)?;
        let level = first.definition(*at.get(node.first)?);
        match &node.shape {
            _ if level <= definition => {
                pass(node, at);
                None
            }
            Shape::Leaf(_) => {
                let value = first.value(*at.get(node.first)?);
                pass(node, at);
                value
            }
            Shape::Group(members) => {
                let mut object = Map::new();
                for member in &members.nodes {
                    if let Some(value) = self.value(member, definition + 1, at) {
                        object.insert(member.name.to_string(), value);
                    }
                }
                Some(object.into())
            }
            Shape::List(..) if level == definition + 1 => {
                pass(node, at);
                Some(Value::Array(Vec::new()))
            }
            Shape::List(repetition, element) => {
                let mut elements = Vec::new();
                loop {
                    elements.push(self.value(element, definition + 2, at).unwrap_or(Value::Null));
                    if first.repetitions.get(*at.get(node.first)?) != Some(repetition) {
                        return Some(elements.into());
                    }
                }
            }
        }
    }
}

/// Goes on in every column below a node.
fn pass(node: &Node, at: &mut [usize]) {
    at.get_mut(node.first..node.end).unwrap_or_default().iter_mut().for_each(|place| *place = place.saturating_add(1));
}

impl Column {
    fn read(reader: ColumnReader, rows: usize, full: i16) -> Result<Self> {
        let (mut definitions, mut repetitions) = (Vec::new(), Vec::new());
        macro_rules! values {
            ($reader:ident, $kind:ident) => {{
                let mut values = Vec::new();
                $reader.read_records(rows, Some(&mut definitions), Some(&mut repetitions), &mut values)?;
                Values::$kind(values)
            }};
        }
        let values = match reader {
            ColumnReader::ByteArrayColumnReader(mut reader) => values!(reader, Text),
            ColumnReader::Int32ColumnReader(mut reader) => values!(reader, Int),
            ColumnReader::Int64ColumnReader(mut reader) => values!(reader, Long),
            ColumnReader::DoubleColumnReader(mut reader) => values!(reader, Double),
            ColumnReader::BoolColumnReader(mut reader) => values!(reader, Bool),
            _ => return Err(ParquetError::General("a column of a type that is none of ours".to_owned())),
        };
        let places = definitions.len();
        let starts = if places == rows {
            Vec::new()
        } else {
            repetitions.iter().enumerate().filter(|(_, level)| **level == 0).map(|(place, _)| place).collect()
        };
        let mut count = 0_u32;
        let valued = if values.len() == places || values.len() == 0 {
            Vec::new()
        } else {
            let mut next = |level: &i16| {
                let value = count;
                count += u32::from(*level == full);
                value
            };
            definitions.iter().map(&mut next).collect()
        };
        Ok(Self { definitions, repetitions, values, starts, valued })
    }

    fn start(&self, row: usize) -> usize {
        if self.starts.is_empty() { row } else { self.starts.get(row).copied().unwrap_or(usize::MAX) }
    }

    /// Past the end nothing is defined.
    fn definition(&self, place: usize) -> i16 {
        self.definitions.get(place).copied().unwrap_or(0)
    }

    fn value(&self, place: usize) -> Option<Value> {
        let index = if self.valued.is_empty() { place } else { *self.valued.get(place)? as usize };
        Some(match &self.values {
            Values::Text(values) => core::str::from_utf8(values.get(index)?.data()).ok()?.into(),
            Values::Int(values) => (*values.get(index)?).into(),
            Values::Long(values) => (*values.get(index)?).into(),
            Values::Double(values) => Number::from_f64(*values.get(index)?)?.into(),
            Values::Bool(values) => (*values.get(index)?).into(),
        })
    }
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Long(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }
}
