//! Reads a file, as far as a question needs it.

use std::io;

use inborn_identity::InstanceId;
use inborn_telemetry::ClassUid;
use parquet::column::reader::{ColumnReader, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::{FileReader as _, RowGroupReader};
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use parquet::file::statistics::Statistics;
use serde_json::{Map, Value};

use super::assemble::Rows;
use super::sealed::Sealed;
use super::shred::restore;
use super::write::failed;

/// An event that was read.
pub(crate) struct Found {
    /// `time`.
    pub(crate) time_ms: i64,
    /// `class_uid`.
    pub(crate) class: ClassUid,
    /// `device.uid`, as the region stamped it.
    pub(crate) instance: Box<str>,
    /// `metadata.uid`, as it was when it was stored.
    pub(crate) uid: Box<str>,
    /// The event.
    pub(crate) event: Map<String, Value>,
}

/// Which events of a file are wanted.
pub(crate) struct Wanted<'a> {
    /// The earliest `time`.
    pub(crate) first_ms: i64,
    /// The latest.
    pub(crate) last_ms: i64,
    /// The machines; none is all.
    pub(crate) instances: &'a [InstanceId],
}

/// Gives every wanted event to `take`. Row groups and rows come in the order of time, or the other way round; before each,
/// `more` is asked whether one with these first and last times can still matter.
pub(crate) fn read(
    file: Sealed,
    wanted: &Wanted<'_>,
    newest_first: bool,
    more: &mut dyn FnMut(i64, i64) -> bool,
    take: &mut dyn FnMut(Found),
) -> io::Result<()> {
    read_groups(file, wanted, newest_first, more, take).map_err(failed)
}

fn read_groups(
    file: Sealed,
    wanted: &Wanted<'_>,
    newest_first: bool,
    more: &mut dyn FnMut(i64, i64) -> bool,
    take: &mut dyn FnMut(Found),
) -> Result<()> {
    let properties = ReaderProperties::builder().set_read_bloom_filter(true).build();
    let options = ReadOptionsBuilder::new().with_reader_properties(properties).build();
    let reader = SerializedFileReader::new_with_options(file, options)?;
    let count = reader.num_row_groups();
    for step in 0..count {
        let group = reader.get_row_group(if newest_first { count - 1 - step } else { step })?;
        let (first, last) = times(group.as_ref());
        if first > wanted.last_ms || last < wanted.first_ms || !more(first, last) || !may_have(group.as_ref(), wanted) {
            continue;
        }
        let (times, selected) = selected(group.as_ref(), wanted)?;
        let count = selected.len();
        let mut rows = None;
        for row in (0..count).map(|row| if newest_first { count - 1 - row } else { row }) {
            let time = times.get(row).copied().unwrap_or_default();
            if !selected.get(row).copied().unwrap_or(false) || !more(time, time) {
                continue;
            }
            // The columns are read once something of them is wanted.
            let rows = match &mut rows {
                Some(rows) => rows,
                none => none.insert(Rows::read(group.as_ref())?),
            };
            take(found(rows.event(row)));
        }
    }
    Ok(())
}

/// The first and last time of all events of a file, from its footer.
pub(crate) fn span(file: Sealed) -> io::Result<(i64, i64)> {
    let reader = SerializedFileReader::new(file).map_err(failed)?;
    let mut span = (i64::MAX, i64::MIN);
    for number in 0..reader.num_row_groups() {
        let (first, last) = times(reader.get_row_group(number).map_err(failed)?.as_ref());
        span = (span.0.min(first), span.1.max(last));
    }
    Ok(span)
}

fn column(group: &dyn RowGroupReader, path: &str) -> Option<usize> {
    group.metadata().columns().iter().position(|column| column.column_path().string() == path)
}

/// The first and last time of a row group. Without statistics it may be any.
fn times(group: &dyn RowGroupReader) -> (i64, i64) {
    let statistics = column(group, "time").and_then(|index| group.metadata().columns().get(index)?.statistics());
    match statistics {
        Some(Statistics::Int64(values)) => {
            (values.min_opt().copied().unwrap_or(i64::MIN), values.max_opt().copied().unwrap_or(i64::MAX))
        }
        _ => (i64::MIN, i64::MAX),
    }
}

fn may_have(group: &dyn RowGroupReader, wanted: &Wanted<'_>) -> bool {
    let filter = column(group, "device.uid").and_then(|index| group.get_column_bloom_filter(index));
    let Some(filter) = filter else { return true };
    wanted.instances.is_empty() || wanted.instances.iter().any(|instance| filter.check(instance.to_string().as_str()))
}

/// The time of every row, and which are wanted, from the two columns that tell it.
fn selected(group: &dyn RowGroupReader, wanted: &Wanted<'_>) -> Result<(Vec<i64>, Vec<bool>)> {
    let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    let missing = || ParquetError::General("a row without its time or machine".to_owned());
    let times = longs(group, "time", rows)?.ok_or_else(missing)?;
    let within = |time: &i64| (wanted.first_ms..=wanted.last_ms).contains(time);
    let mut selected: Vec<bool> = times.iter().map(within).collect();
    if !wanted.instances.is_empty() {
        let machines = texts(group, "device.uid", rows)?.ok_or_else(missing)?;
        let names: Vec<String> = wanted.instances.iter().map(ToString::to_string).collect();
        for (selected, machine) in selected.iter_mut().zip(&machines) {
            *selected &= names.iter().any(|name| name.as_bytes() == machine.data());
        }
    }
    Ok((times, selected))
}

/// A column without gaps; `None` if it has some, or is not there.
fn longs(group: &dyn RowGroupReader, path: &str, rows: usize) -> Result<Option<Vec<i64>>> {
    let Some(index) = column(group, path) else { return Ok(None) };
    let ColumnReader::Int64ColumnReader(_) = group.get_column_reader(index)? else { return Ok(None) };
    let mut reader = get_typed_column_reader::<Int64Type>(group.get_column_reader(index)?);
    let (mut values, mut levels) = (Vec::with_capacity(rows), Vec::new());
    reader.read_records(rows, Some(&mut levels), None, &mut values)?;
    Ok((values.len() == rows).then_some(values))
}

fn texts(group: &dyn RowGroupReader, path: &str, rows: usize) -> Result<Option<Vec<ByteArray>>> {
    let Some(index) = column(group, path) else { return Ok(None) };
    let ColumnReader::ByteArrayColumnReader(_) = group.get_column_reader(index)? else { return Ok(None) };
    let mut reader = get_typed_column_reader::<ByteArrayType>(group.get_column_reader(index)?);
    let (mut values, mut levels) = (Vec::with_capacity(rows), Vec::new());
    reader.read_records(rows, Some(&mut levels), None, &mut values)?;
    Ok((values.len() == rows).then_some(values))
}

fn found(mut event: Map<String, Value>) -> Found {
    let time_ms = event.get("time").and_then(Value::as_i64).unwrap_or_default();
    // Read before what the event said of itself is put back.
    let text = |object: &str, name: &str| -> Box<str> {
        event.get(object).and_then(|object| object.get(name)).and_then(Value::as_str).unwrap_or_default().into()
    };
    let (instance, uid) = (text("device", "uid"), text("metadata", "uid"));
    let class = event.get("class_uid").and_then(Value::as_u64).and_then(|class| u32::try_from(class).ok());
    restore(&mut event);
    Found { time_ms, class: ClassUid(class.unwrap_or(0)), instance, uid, event }
}

#[cfg(test)]
mod tests {
    use inborn_telemetry::Record;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::sealed::Seal;
    use super::super::write::Writer;
    use super::*;

    fn machine() -> InstanceId {
        InstanceId::from_bytes([7; 9])
    }

    fn round_trip(class: u32, events: &[Value]) -> Vec<Value> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let seal = Seal::new(&[0; 32], "x");
        let mut writer = Writer::new(file.reopen().unwrap(), ClassUid(class), seal.clone()).unwrap();
        for (index, event) in events.iter().enumerate() {
            let time_ms = i64::try_from(index).unwrap();
            let record = Record {
                uid: format!("u{index}").into(),
                time_ms,
                class: ClassUid(class),
                json: event.to_string().into(),
            };
            writer.push(machine(), record).unwrap();
        }
        writer.finish().unwrap();
        let mut found = Vec::new();
        let wanted = Wanted { first_ms: i64::MIN, last_ms: i64::MAX, instances: &[] };
        let mut take = |one: Found| found.push(Value::Object(one.event));
        let length = file.as_file().metadata().unwrap().len();
        let file = Sealed::open(Box::new(file.reopen().unwrap()), length, seal).unwrap();
        read(file, &wanted, false, &mut |_, _| true, &mut take).unwrap();
        found
    }

    /// What must come back: the event without nulls, and with what it is found by.
    fn expected(class: u32, index: usize, event: &Value) -> Value {
        let mut event = event.clone();
        strip(&mut event);
        for (path, value) in [
            (vec!["time"], json!(index)),
            (vec!["class_uid"], json!(class)),
            (vec!["device", "uid"], json!(machine().to_string())),
            (vec!["metadata", "uid"], json!(format!("u{index}"))),
        ] {
            put(&mut event, &path, value);
        }
        event
    }

    /// Only where nothing else is.
    fn put(place: &mut Value, path: &[&str], value: Value) {
        let Some((name, rest)) = path.split_first() else {
            if place.is_null() {
                *place = value;
            }
            return;
        };
        if place.is_null() {
            *place = json!({});
        }
        if let Some(object) = place.as_object_mut() {
            put(object.entry(*name).or_insert(Value::Null), rest, value);
        }
    }

    fn strip(value: &mut Value) {
        if let Value::Object(object) = value {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(strip);
        }
    }

    #[test]
    fn an_event_comes_back_with_what_has_no_column() {
        let events = [
            json!({"class_uid": 1007, "activity_id": 1, "type_uid": 100_701, "process": {"pid": 4711, "name": "bash",
                "working_directory": "/tmp", "lineage": ["a", "b"], "file": {"path": "/bin/bash", "hashes":
                [{"algorithm_id": 3, "value": "ab"}, {"value": "cd"}]}}, "unmapped": {"claimed": {"device": 1}}}),
            json!({"process": {"pid": "not a number", "lineage": [], "user": {}}, "made_up": [1, {"a": null}]}),
            json!({"process": "no object", "unmapped": "a text", "metadata": {"uid": "another"}, "time": "then"}),
            json!({"unmapped": {"beyond_columns": {"pid": 1}}, "device": 5, "metadata": {"uid": 9, "labels": ["x", 1]}}),
            json!({"unmapped": {}, "exit_code": 3_000_000_000_u64, "count": -1, "duration": 1e3, "is_mfa": true}),
            json!({}),
        ];
        let expected: Vec<_> = events.iter().enumerate().map(|(index, event)| expected(1007, index, event)).collect();
        assert_eq!(round_trip(1007, &events), expected);
    }

    /// Of many short texts, and of fewer long ones that no dictionary is made of.
    #[test]
    fn no_page_is_longer_than_a_megabyte() {
        for (count, length) in [(8192_usize, 40_usize), (400, 20_000), (12, 600_000)] {
            let event = |number: usize| json!({"message": format!("{number:08}").repeat(length / 8), "count": number});
            let events: Vec<_> = (0..count).map(event).collect();
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut writer = Writer::new(file.reopen().unwrap(), ClassUid(9), Seal::new(&[0; 32], "x")).unwrap();
            for (number, event) in (0..).zip(&events) {
                let (uid, json) = (format!("u{number}").into(), event.to_string().into());
                writer.push(machine(), Record { uid, time_ms: number, class: ClassUid(9), json }).unwrap();
            }
            writer.finish().unwrap();
            let reader = SerializedFileReader::new(file.reopen().unwrap()).unwrap();
            let mut pages = 0;
            for group in 0..reader.num_row_groups() {
                let group = reader.get_row_group(group).unwrap();
                for column in 0..group.num_columns() {
                    let mut reader = group.get_column_page_reader(column).unwrap();
                    while let Some(page) = reader.get_next_page().unwrap() {
                        assert!(page.buffer().len() <= 1 << 20, "{count} × {length}: {} bytes", page.buffer().len());
                        pages += 1;
                    }
                }
            }
            assert!(pages > 10, "{pages}");
        }
    }

    #[test]
    fn lists_of_groups_with_lists_come_back() {
        let answers = json!([{"rdata": "1.2.3.4", "flag_ids": [1, 2], "flags": []}, {"ttl": 5}, {}, {"flag_ids": [3]}]);
        let events = [json!({"answers": answers}), json!({"answers": []}), json!({}), json!({"answers": [{"x": 1}]})];
        let expected: Vec<_> = events.iter().enumerate().map(|(index, event)| expected(4003, index, event)).collect();
        assert_eq!(round_trip(4003, &events), expected);
    }

    /// JSON whose names are often those of columns, with values that often are not of their type.
    fn values() -> impl Strategy<Value = Value> {
        let name = prop::sample::select(vec![
            "process",
            "file",
            "user",
            "pid",
            "uid",
            "name",
            "hashes",
            "value",
            "lineage",
            "time",
            "device",
            "metadata",
            "unmapped",
            "beyond_columns",
            "labels",
            "parent_process",
            "actor",
            "count",
            "observables",
            "element",
            "list",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-9_i32..9).prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-8000_i32..8000).prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, move |inner| {
            prop_oneof![
                1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                4 => prop::collection::vec((name.clone(), inner), 0..6).prop_map(|members| {
                    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
        #[test]
        fn nothing_is_lost(values in prop::collection::vec(values(), 1..6), class in prop::sample::select(vec![1007_u32, 1001, 2004, 9])) {
            let events: Vec<_> = values.into_iter().filter(Value::is_object).collect();
            let expected: Vec<_> = events.iter().enumerate().map(|(index, event)| expected(class, index, event)).collect();
            prop_assert_eq!(round_trip(class, &events), expected);
        }
    }
}
