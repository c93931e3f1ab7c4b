//! Writes a file: row groups in order, each from a table of bounded size.

use std::fs::File;
use std::io;
use std::sync::Arc;

use inborn_identity::InstanceId;
use inborn_telemetry::{ClassUid, Record};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::ColumnPath;

use super::schema::Schema;
use super::sealed::Seal;
use super::shred::{Column, Table, Values};

/// How much JSON one row group has: what the columns of it take in memory is about the same.
pub(crate) const ROW_GROUP_JSON_BYTES: usize = 8 << 20;

/// How many events one row group has.
pub(crate) const ROW_GROUP_ROWS: usize = 8192;

/// Security Lake wants pages of at most a megabyte. The library makes a batch of values shorter where it would make a page
/// longer than this.
const PAGE_BYTES: usize = 512 << 10;
const DICTIONARY_BYTES: usize = 256 << 10;
const BATCH_ROWS: usize = ROW_GROUP_ROWS;

const LEVEL: i32 = 3;

/// One file that is being written.
pub(crate) struct Writer {
    schema: Schema,
    file: SerializedFileWriter<io::BufWriter<File>>,
    table: Table,
    json_bytes: usize,
    seal: Seal,
    not_ocsf: u64,
    /// The machine that was told of last, and its name.
    machine: (Option<InstanceId>, String),
}

impl Writer {
    /// Begins a file for events of one class. It must be one that can be read as well.
    pub(crate) fn new(file: File, class: ClassUid, seal: Seal) -> io::Result<Self> {
        let schema = Schema::of(class).map_err(failed)?;
        let properties = properties(&schema).map_err(failed)?;
        let file = io::BufWriter::new(file);
        let file = SerializedFileWriter::new(file, Arc::clone(&schema.root), Arc::new(properties)).map_err(failed)?;
        let table = Table::new(&schema);
        Ok(Self { schema, file, table, json_bytes: 0, seal, not_ocsf: 0, machine: (None, String::new()) })
    }

    /// Adds an event, which is not earlier than the one before.
    pub(crate) fn push(&mut self, instance: InstanceId, record: Record) -> io::Result<()> {
        if self.table.rows >= ROW_GROUP_ROWS || self.json_bytes + record.json.len() > ROW_GROUP_JSON_BYTES {
            self.flush()?;
        }
        self.json_bytes += record.json.len();
        // The events of a machine often follow one another.
        if self.machine.0 != Some(instance) {
            self.machine = (Some(instance), instance.to_string());
        }
        self.not_ocsf += u64::from(!self.table.push(&self.schema, &self.machine.1, record));
        Ok(())
    }

    /// Ends the file, durably. Gives how many of its events were no JSON objects.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        let file = self.file.into_inner().map_err(failed)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.seal.put(&file)?;
        file.sync_all()?;
        Ok(self.not_ocsf)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.table.rows == 0 {
            return Ok(());
        }
        let table = core::mem::replace(&mut self.table, Table::new(&self.schema));
        self.json_bytes = 0;
        self.row_group(table).map_err(failed)
    }

    fn row_group(&mut self, table: Table) -> Result<()> {
        let mut group = self.file.next_row_group()?;
        for column in table.finish(&self.schema) {
            let Some(mut writer) = group.next_column()? else { break };
            write(&mut writer, &column)?;
            writer.close()?;
        }
        group.close()?;
        Ok(())
    }
}

fn write(writer: &mut SerializedColumnWriter<'_>, column: &Column) -> Result<()> {
    let definitions = Some(column.definitions.as_slice());
    let repetitions = column.repetitions.as_deref();
    match &column.values {
        Values::Text(values) => writer.typed::<ByteArrayType>().write_batch(values, definitions, repetitions)?,
        Values::Int(values) => writer.typed::<Int32Type>().write_batch(values, definitions, repetitions)?,
        Values::Long(values) => writer.typed::<Int64Type>().write_batch(values, definitions, repetitions)?,
        Values::Double(values) => writer.typed::<DoubleType>().write_batch(values, definitions, repetitions)?,
        Values::Bool(values) => writer.typed::<BoolType>().write_batch(values, definitions, repetitions)?,
    };
    Ok(())
}

fn properties(schema: &Schema) -> Result<WriterProperties> {
    let device = ColumnPath::from(vec!["device".to_owned(), "uid".to_owned()]);
    let time = schema.fields.nodes.iter().find(|field| field.name.as_ref() == "time").map_or(0, |field| field.first);
    let sorted = SortingColumn { column_idx: i32::try_from(time).unwrap_or(0), descending: false, nulls_first: false };
    Ok(WriterProperties::builder()
        .set_created_by(concat!("inborn ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(LEVEL)?))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_write_batch_size(BATCH_ROWS)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_sorting_columns(Some(vec![sorted]))
        .set_column_bloom_filter_enabled(device.clone(), true)
        .set_column_bloom_filter_max_ndv(device, BLOOM_MACHINES)
        .build())
}

/// How many machines the filter of a row group is made for: more only make it say "perhaps" more often.
const BLOOM_MACHINES: u64 = 1024;

/// Errors of the library as errors of files, which they are where they are not ours.
pub(super) fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}
