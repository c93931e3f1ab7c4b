//! The inside of a file: frames, each a length, a mark and cells.
//!
//! What the tables are stands in the file, so that a program reads what an earlier one wrote.

use std::io::{ErrorKind, Read, Write};

use aws_lc_rs::digest::{Context, SHA256};
use inborn_identity::UnixTime;

use super::catalogue::{CATALOGUE, TABLES};
use super::cell::{Cell, CellKind, Row, decode_row, encode_row};
use super::error::DumpError;
use super::table::{Column, Table};
use super::{About, Origin, Summary, TableSummary};

/// The longest frame, hence the longest row: more than any verb lets in.
pub const ROW_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest frame of another kind than a row.
const OTHER_BYTES_MAX: usize = 64 * 1024;
/// The most columns of a table, in whatever version of a file.
const COLUMNS_MAX: usize = 128;

/// How many cells the beginning has: catalogue, program, kind, schema, time.
const ABOUT_CELLS: usize = 5;
/// The most cells of a table: its name, its key, and name and kind of each column.
const TABLE_CELLS_MAX: usize = 2 + 2 * COLUMNS_MAX;
/// How many cells the end of a table has: rows and digest.
const END_OF_TABLE_CELLS: usize = 2;
/// How many cells the end has: tables and rows.
const END_CELLS: usize = 2;

const ABOUT: u8 = b'A';
const TABLE: u8 = b'T';
const ROW: u8 = b'R';
const END_OF_TABLE: u8 = b'E';
const END: u8 = b'Z';

/// Writes frames.
pub struct FrameWriter<W> {
    out: W,
    buffer: Vec<u8>,
    table: Option<Running>,
    summaries: Vec<TableSummary>,
    about: About,
}

/// A table that is under way.
struct Running {
    table: &'static Table,
    rows: u64,
    digest: Context,
}

impl Running {
    fn new(table: &'static Table) -> Self {
        Self { table, rows: 0, digest: Context::new(&SHA256) }
    }

    fn end(self) -> TableSummary {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.digest.finish().as_ref());
        TableSummary { table: self.table.name, rows: self.rows, digest }
    }
}

impl<W: Write> FrameWriter<W> {
    /// Begins with what the file says of itself.
    ///
    /// # Errors
    /// The writer's.
    pub fn begin(out: W, about: About) -> Result<Self, DumpError> {
        let mut writer = Self { out, buffer: Vec::new(), table: None, summaries: Vec::new(), about: about.clone() };
        let made_at = i64::try_from(about.made_at.as_secs()).unwrap_or(i64::MAX);
        let cells = [
            Cell::Number(about.catalogue.into()),
            Cell::Text(about.program),
            Cell::Text(about.origin.kind),
            Cell::Number(about.origin.schema.into()),
            Cell::Number(made_at),
        ];
        writer.frame(ABOUT, &cells, "the beginning")?;
        Ok(writer)
    }

    /// Begins a table.
    ///
    /// # Errors
    /// The writer's.
    pub fn table(&mut self, table: &'static Table) -> Result<(), DumpError> {
        self.end_table()?;
        let number = |count: usize| Cell::Number(i64::try_from(count).unwrap_or(i64::MAX));
        let mut cells = vec![Cell::Text(table.name.to_owned()), number(table.key)];
        for column in table.columns {
            cells.push(Cell::Text(column.name.to_owned()));
            cells.push(Cell::Number(column.kind.code()));
        }
        self.frame(TABLE, &cells, table.name)?;
        self.table = Some(Running::new(table));
        Ok(())
    }

    /// Adds a row to the table that was begun last.
    ///
    /// # Errors
    /// The writer's; a row that is too long.
    pub fn row(&mut self, row: &[Cell]) -> Result<(), DumpError> {
        let Some(running) = &mut self.table else { return Err(DumpError::Malformed("a row without a table")) };
        let name = running.table.name;
        running.rows += 1;
        self.buffer.clear();
        encode_row(row, &mut self.buffer);
        running.digest.update(&self.buffer);
        self.flush(ROW, name)
    }

    /// Ends the file; gives the writer and what was written.
    ///
    /// # Errors
    /// The writer's.
    pub fn end(mut self) -> Result<(W, Summary), DumpError> {
        self.end_table()?;
        let rows: u64 = self.summaries.iter().map(|table| table.rows).sum();
        let tables = u64::try_from(self.summaries.len()).unwrap_or(u64::MAX);
        self.frame(
            END,
            &[tables, rows].map(|count| Cell::Number(i64::try_from(count).unwrap_or(i64::MAX))),
            "the end",
        )?;
        Ok((self.out, Summary { about: self.about, tables: self.summaries }))
    }

    fn end_table(&mut self) -> Result<(), DumpError> {
        let Some(running) = self.table.take() else { return Ok(()) };
        let summary = running.end();
        let rows = Cell::Number(i64::try_from(summary.rows).unwrap_or(i64::MAX));
        self.frame(END_OF_TABLE, &[rows, Cell::Bytes(summary.digest.to_vec())], summary.table)?;
        self.summaries.push(summary);
        Ok(())
    }

    fn frame(&mut self, mark: u8, cells: &[Cell], what: &'static str) -> Result<(), DumpError> {
        self.buffer.clear();
        encode_row(cells, &mut self.buffer);
        self.flush(mark, what)
    }

    fn flush(&mut self, mark: u8, what: &'static str) -> Result<(), DumpError> {
        if self.buffer.len() > if mark == ROW { ROW_BYTES_MAX } else { OTHER_BYTES_MAX } {
            return Err(DumpError::TooLong(what));
        }
        let length = u32::try_from(self.buffer.len()).map_err(|_| DumpError::TooLong(what))?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(&[mark])?;
        self.out.write_all(&self.buffer)?;
        Ok(())
    }
}

/// What comes next in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// A table begins. Those that an earlier program did not know do not come.
    Table(&'static Table),
    /// A row of it, as that table has them now.
    Row(Row),
}

/// Reads frames, and holds them to what a store can hold: known tables and columns in their order, rows that fit and whose keys
/// grow, as many as is said, with the digest that is said.
pub struct FrameReader<R> {
    input: R,
    known: &'static [Table],
    about: About,
    table: Option<Reading>,
    /// How many of the known tables have come or cannot come any more.
    passed: usize,
    tables: u64,
    rows: u64,
    is_over: bool,
}

struct Reading {
    running: Running,
    /// For each column that the table has now, which one of the file it is; `None`: none.
    places: Vec<Option<usize>>,
    columns: usize,
    last_key: Option<Row>,
}

impl<R: Read> FrameReader<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// A later version; what no program writes; the reader's.
    pub fn open(input: R) -> Result<Self, DumpError> {
        Self::open_with(input, TABLES, CATALOGUE)
    }

    /// As [`FrameReader::open`], for tables of another catalogue.
    pub(super) fn open_with(mut input: R, known: &'static [Table], catalogue: u32) -> Result<Self, DumpError> {
        let (mark, cells) = frame(&mut input)?;
        let about = match <[Cell; ABOUT_CELLS]>::try_from(decode_row(&cells, ABOUT_CELLS).unwrap_or_default()) {
            Ok(
                [
                    Cell::Number(catalogue),
                    Cell::Text(program),
                    Cell::Text(kind),
                    Cell::Number(schema),
                    Cell::Number(made_at),
                ],
            ) if mark == ABOUT => About {
                catalogue: u32::try_from(catalogue).map_err(|_| DumpError::Malformed("its version"))?,
                program,
                origin: Origin { kind, schema: u32::try_from(schema).map_err(|_| DumpError::Malformed("its schema"))? },
                made_at: UnixTime::from_secs(u64::try_from(made_at).map_err(|_| DumpError::Malformed("its time"))?),
            },
            _ => return Err(DumpError::Malformed("its beginning")),
        };
        if about.catalogue > catalogue {
            return Err(DumpError::Newer { found: about.catalogue, known: catalogue });
        }
        if about.catalogue == 0 {
            return Err(DumpError::Malformed("its version"));
        }
        Ok(Self { input, known, about, table: None, passed: 0, tables: 0, rows: 0, is_over: false })
    }

    /// What the file says of itself.
    #[must_use]
    pub const fn about(&self) -> &About {
        &self.about
    }

    /// What comes next; `None` once all of it was read.
    ///
    /// # Errors
    /// What no program writes; the reader's.
    pub fn next_part(&mut self) -> Result<Option<Part>, DumpError> {
        if self.is_over {
            return Ok(None);
        }
        loop {
            let (mark, bytes) = frame(&mut self.input)?;
            match (mark, self.table.take()) {
                (ROW, Some(reading)) => return self.row(reading, &bytes).map(Some),
                (END_OF_TABLE, Some(reading)) => {
                    let said = decode_row(&bytes, END_OF_TABLE_CELLS).unwrap_or_default();
                    self.rows = self.rows.saturating_add(reading.running.rows);
                    let summary = reading.running.end();
                    let rows = Cell::Number(i64::try_from(summary.rows).unwrap_or(i64::MAX));
                    if said != [rows, Cell::Bytes(summary.digest.to_vec())] {
                        return Err(DumpError::Malformed("a table is not what it says"));
                    }
                }
                (TABLE, None) => return self.table(&bytes).map(Some),
                (END, None) => {
                    let counts =
                        [self.tables, self.rows].map(|count| Cell::Number(i64::try_from(count).unwrap_or(i64::MAX)));
                    if decode_row(&bytes, END_CELLS).unwrap_or_default() != counts {
                        return Err(DumpError::Malformed("it does not hold what it says"));
                    }
                    self.pass(self.known.len())?;
                    self.is_over = true;
                    return Ok(None);
                }
                _ => return Err(DumpError::Malformed("its parts are out of order")),
            }
        }
    }

    /// The input, for whoever knows whether something may follow.
    pub(super) fn into_input(self) -> R {
        self.input
    }

    fn table(&mut self, bytes: &[u8]) -> Result<Part, DumpError> {
        let cells = decode_row(bytes, TABLE_CELLS_MAX).ok_or(DumpError::Malformed("a table"))?;
        let [Cell::Text(name), Cell::Number(key), columns @ ..] = cells.as_slice() else {
            return Err(DumpError::Malformed("a table"));
        };
        let at = self.known.iter().position(|table| table.name == name).ok_or(DumpError::Malformed("a table"))?;
        let table = self.known.get(at).ok_or(DumpError::Malformed("a table"))?;
        if at < self.passed || usize::try_from(*key) != Ok(table.key) || columns.len() % 2 != 0 {
            return Err(DumpError::Malformed("a table"));
        }
        self.pass(at)?;
        self.passed = at + 1;
        self.tables = self.tables.saturating_add(1);
        let mut found = Vec::new();
        for pair in columns.chunks_exact(2) {
            match pair {
                [Cell::Text(name), Cell::Number(kind)] => found.push((name.as_str(), CellKind::from_code(*kind))),
                _ => return Err(DumpError::Malformed("a column")),
            }
        }
        let places = self.places(table, &found)?;
        self.table = Some(Reading { running: Running::new(table), places, columns: found.len(), last_key: None });
        Ok(Part::Table(table))
    }

    /// Where in the file each column of a table is. Those that are missing came later than the file, and no other does.
    fn places(&self, table: &Table, found: &[(&str, Option<CellKind>)]) -> Result<Vec<Option<usize>>, DumpError> {
        let mut places = Vec::new();
        for column in table.columns {
            let place = found.iter().position(|(name, _)| *name == column.name);
            match place {
                Some(at) if found.get(at).is_some_and(|(_, kind)| *kind == Some(column.kind)) => {}
                None if self.is_later(column) => {}
                _ => return Err(DumpError::Malformed("a column")),
            }
            places.push(place);
        }
        // All of them, each once, and the key as the first ones.
        let is_key_first = places.iter().take(table.key).enumerate().all(|(at, place)| *place == Some(at));
        if places.iter().flatten().count() != found.len() || !is_key_first {
            return Err(DumpError::Malformed("a column"));
        }
        Ok(places)
    }

    fn is_later(&self, column: &Column) -> bool {
        column.since.is_some_and(|(since, _)| since > self.about.catalogue)
    }

    /// Goes over known tables up to `to`, which do not come: they must be later than the file.
    fn pass(&self, to: usize) -> Result<(), DumpError> {
        let mut passed = self.known.iter().take(to).skip(self.passed);
        // A table is as old as its key.
        let is_later = |table: &Table| table.columns.first().is_some_and(|column| self.is_later(column));
        if passed.all(is_later) { Ok(()) } else { Err(DumpError::Malformed("a table is missing")) }
    }

    fn row(&mut self, mut reading: Reading, bytes: &[u8]) -> Result<Part, DumpError> {
        let wrong = DumpError::Malformed("a row");
        let mut cells = match decode_row(bytes, reading.columns) {
            Some(cells) if cells.len() == reading.columns => cells,
            _ => return Err(wrong),
        };
        reading.running.rows = reading.running.rows.saturating_add(1);
        reading.running.digest.update(bytes);
        let table = reading.running.table;
        let row: Row = table
            .columns
            .iter()
            .zip(&reading.places)
            .map(|(column, place)| match place.and_then(|at| cells.get_mut(at)) {
                Some(cell) => core::mem::replace(cell, Cell::Null),
                None => column.since.map_or(Cell::Null, |(_, earlier)| earlier.cell()),
            })
            .collect();
        let key = table.key_of(&row).to_vec();
        if !table.takes(&row) || reading.last_key.as_ref().is_some_and(|last| *last >= key) {
            return Err(wrong);
        }
        reading.last_key = Some(key);
        self.table = Some(reading);
        Ok(Part::Row(row))
    }
}

/// The next frame. Memory is taken as bytes arrive, not as a length claims.
fn frame(input: &mut impl Read) -> Result<(u8, Vec<u8>), DumpError> {
    let mut head = [0; 5];
    input.read_exact(&mut head).map_err(cut)?;
    let [a, b, c, d, mark] = head;
    let length = u64::from(u32::from_be_bytes([a, b, c, d]));
    let longest = if mark == ROW { ROW_BYTES_MAX } else { OTHER_BYTES_MAX };
    if length > longest as u64 {
        return Err(DumpError::Malformed("a part is too long"));
    }
    let mut bytes = Vec::new();
    input.by_ref().take(length).read_to_end(&mut bytes).map_err(cut)?;
    if bytes.len() as u64 != length {
        return Err(DumpError::Cut);
    }
    Ok((mark, bytes))
}

fn cut(error: std::io::Error) -> DumpError {
    match error.kind() {
        ErrorKind::UnexpectedEof => DumpError::Cut,
        ErrorKind::InvalidData | ErrorKind::InvalidInput => DumpError::Malformed("its compression"),
        _ => DumpError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Earlier;
    use super::*;

    const ID: Column = Column::new("id", CellKind::Text);
    const COUNT: Column = Column::new("count", CellKind::Number);

    const fn table(name: &'static str, columns: &'static [Column]) -> Table {
        Table { name, columns, key: 1, parent: None, is_wide: false }
    }

    /// The first catalogue, and a second one that has more.
    static FIRST: &[Table] = &[table("a", &[ID, COUNT]), table("c", &[ID])];
    static SECOND: &[Table] = &[
        table(
            "a",
            &[
                ID,
                Column { since: Some((2, Earlier::Flag(true))), ..Column::new("is_new", CellKind::Flag) },
                COUNT,
                Column { since: Some((2, Earlier::Null)), ..Column::new("note", CellKind::Text).or_null() },
            ],
        ),
        table("b", &[Column { since: Some((2, Earlier::Null)), ..ID }]),
        table("c", &[ID]),
    ];

    fn about(catalogue: u32) -> About {
        let origin = Origin { kind: "sqlite".into(), schema: 1 };
        About { catalogue, program: "0".into(), origin, made_at: UnixTime::from_secs(1) }
    }

    fn written(catalogue: u32, tables: &[&'static Table], row: &[Cell]) -> Vec<u8> {
        let mut frames = FrameWriter::begin(Vec::new(), about(catalogue)).unwrap();
        for table in tables {
            frames.table(table).unwrap();
            if table.name == "a" {
                frames.row(row).unwrap();
            }
        }
        frames.end().unwrap().0
    }

    fn rows(bytes: &[u8], known: &'static [Table], catalogue: u32) -> Option<Vec<Row>> {
        let mut reader = FrameReader::open_with(bytes, known, catalogue).ok()?;
        let mut rows = Vec::new();
        while let Some(part) = reader.next_part().ok()? {
            if let Part::Row(row) = part {
                rows.push(row);
            }
        }
        Some(rows)
    }

    #[test]
    fn what_an_earlier_program_did_not_know_is_what_its_migration_gave() {
        let row = [Cell::Text("x".into()), Cell::Number(7)];
        let file = written(1, &[&FIRST[0], &FIRST[1]], &row);
        let expected = vec![Cell::Text("x".into()), Cell::Flag(true), Cell::Number(7), Cell::Null];
        assert_eq!(rows(&file, SECOND, 2), Some(vec![expected]));
        assert_eq!(rows(&file, FIRST, 1), Some(vec![row.to_vec()]));
    }

    /// A frame, whatever is in it.
    fn raw(mark: u8, bytes: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        frame.push(mark);
        frame.extend_from_slice(bytes);
        frame
    }

    fn began() -> Vec<u8> {
        let mut bytes = Vec::new();
        let about = ABOUT_OF_A_TEST.map(|cell| cell());
        encode_row(&about, &mut bytes);
        raw(ABOUT, &bytes)
    }

    const ABOUT_OF_A_TEST: [fn() -> Cell; ABOUT_CELLS] = [
        || Cell::Number(1),
        || Cell::Text("0".into()),
        || Cell::Text("sqlite".into()),
        || Cell::Number(1),
        || Cell::Number(1),
    ];

    #[test]
    fn every_kind_of_frame_has_a_longest() {
        let begin = |program: usize| {
            let mut bytes = Vec::new();
            let mut cells = ABOUT_OF_A_TEST.map(|cell| cell());
            cells[1] = Cell::Text("p".repeat(program));
            encode_row(&cells, &mut bytes);
            (bytes.len(), FrameReader::open_with(&*raw(ABOUT, &bytes), FIRST, 1).is_ok())
        };
        let beside = begin(0).0;
        for (length, fits) in [(OTHER_BYTES_MAX - 1, true), (OTHER_BYTES_MAX, true), (OTHER_BYTES_MAX + 1, false)] {
            assert_eq!(begin(length - beside), (length, fits), "{length}");
        }
        for mark in [TABLE, END_OF_TABLE, END] {
            for (length, fits) in [(OTHER_BYTES_MAX, true), (OTHER_BYTES_MAX + 1, false)] {
                assert_eq!(frame(&mut &*raw(mark, &vec![0; length])).is_ok(), fits, "{length}");
            }
        }
        assert!(frame(&mut &*raw(ROW, &vec![0; OTHER_BYTES_MAX + 1])).is_ok());
    }

    /// Bytes that are a cell each would take thirty times as much in memory.
    #[test]
    fn a_frame_has_no_more_cells_than_its_kind() {
        for (cells, fits) in [(ABOUT_CELLS, true), (ABOUT_CELLS - 1, false), (ABOUT_CELLS + 1, false)] {
            let mut bytes = Vec::new();
            let all = ABOUT_OF_A_TEST.iter().cycle().take(cells).map(|cell| cell()).collect::<Vec<_>>();
            encode_row(&all, &mut bytes);
            assert_eq!(FrameReader::open_with(&*raw(ABOUT, &bytes), FIRST, 1).is_ok(), fits, "{cells}");
        }
        let row = |cells: usize| {
            let mut file = began();
            let mut table = Vec::new();
            encode_row(
                &[Cell::Text("c".into()), Cell::Number(1), Cell::Text("id".into()), Cell::Number(3)],
                &mut table,
            );
            file.extend(raw(TABLE, &table));
            let mut bytes = Vec::new();
            encode_row(&vec![Cell::Text("x".into()); cells], &mut bytes);
            file.extend(raw(ROW, &bytes));
            let only = &FIRST[1..];
            let mut reader = FrameReader::open_with(&*file, only, 1).unwrap();
            reader.next_part().unwrap();
            reader.next_part().is_ok()
        };
        assert_eq!([0, 1, 2, 1000].map(row), [false, true, false, false]);
        for (columns, named) in [(COLUMNS_MAX - 1, true), (COLUMNS_MAX, true), (COLUMNS_MAX + 1, false)] {
            let mut cells = vec![Cell::Text("c".into()), Cell::Number(1)];
            cells.extend((0..columns).flat_map(|_| [Cell::Text("id".into()), Cell::Number(3)]));
            let mut bytes = Vec::new();
            encode_row(&cells, &mut bytes);
            let file = [began(), raw(TABLE, &bytes)].concat();
            let refused = FrameReader::open_with(&*file, &FIRST[1..], 1).unwrap().next_part().unwrap_err().to_string();
            // One that may be is read, and refused for its columns.
            assert_eq!(refused.contains("(a column)"), named, "{columns}: {refused}");
        }
        assert!(super::super::TABLES.iter().all(|table| table.columns.len() <= COLUMNS_MAX));
    }

    #[test]
    fn what_a_program_of_now_does_not_say_is_missing() {
        let row = [Cell::Text("x".into()), Cell::Number(7)];
        let named_two = written(2, &[&FIRST[0], &FIRST[1]], &row);
        assert_eq!(rows(&named_two, SECOND, 2), None, "it would have said the new columns");
        let without_c = written(1, &[&FIRST[0]], &row);
        assert_eq!(rows(&without_c, SECOND, 2), None, "it knew that table");
        let of_the_second = written(
            2,
            &[&SECOND[0], &SECOND[1], &SECOND[2]],
            &[Cell::Text("x".into()), Cell::Flag(false), Cell::Number(7), Cell::Text("n".into())],
        );
        assert_eq!(rows(&of_the_second, SECOND, 2).map(|rows| rows.len()), Some(1));
        assert_eq!(rows(&of_the_second, FIRST, 1), None, "a later program made it");
    }
}
