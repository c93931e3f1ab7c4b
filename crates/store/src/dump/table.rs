//! What a table is, and the SQL to read and write it that every store has.

use super::cell::{Cell, CellKind, Row, room};

/// How many rows are read at once.
const PAGE_ROWS: usize = 500;
/// How many of a table whose rows may be megabytes.
const PAGE_ROWS_WIDE: usize = 16;

/// A page ends with the row that brings it to this.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Rows that are read at once: no more than [`Table::page_rows`], nor than what takes some megabytes, but always one.
#[derive(Debug)]
pub struct Page {
    rows: Vec<Row>,
    rows_max: usize,
    bytes: usize,
}

impl Page {
    /// Adds a row; gives whether another one may follow.
    pub fn push(&mut self, row: Row) -> bool {
        self.bytes = self.bytes.saturating_add(room(&row));
        self.rows.push(row);
        self.rows.len() < self.rows_max && self.bytes < PAGE_BYTES
    }

    /// Its rows.
    #[must_use]
    pub fn into_rows(self) -> Vec<Row> {
        self.rows
    }
}

/// A column of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Column {
    /// Its name in every store.
    pub name: &'static str,
    /// What it holds.
    pub kind: CellKind,
    /// Whether it may hold nothing.
    pub is_optional: bool,
    /// Since which version of the catalogue it is there, and what rows of earlier dumps have in it.
    pub since: Option<(u32, Earlier)>,
}

/// What rows of dumps that are older than a column have in it: what the migration that added the column gave them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Earlier {
    /// Nothing.
    Null,
    /// Yes or no.
    Flag(bool),
    /// A number.
    Number(i64),
    /// A text.
    Text(&'static str),
}

impl Earlier {
    pub(super) fn cell(self) -> Cell {
        match self {
            Self::Null => Cell::Null,
            Self::Flag(flag) => Cell::Flag(flag),
            Self::Number(number) => Cell::Number(number),
            Self::Text(text) => Cell::Text(text.to_owned()),
        }
    }
}

impl Column {
    pub(super) const fn new(name: &'static str, kind: CellKind) -> Self {
        Self { name, kind, is_optional: false, since: None }
    }

    /// It may hold nothing.
    pub(super) const fn or_null(self) -> Self {
        Self { is_optional: true, ..self }
    }

    /// It is there since a version of the catalogue; rows of before have this in it.
    pub(super) const fn since(self, version: u32, earlier: Earlier) -> Self {
        Self { since: Some((version, earlier)), ..self }
    }

    /// Whether it may hold this.
    #[must_use]
    pub fn takes(&self, cell: &Cell) -> bool {
        cell.kind().map_or(self.is_optional, |kind| kind == self.kind)
    }
}

/// What the rows of a table belong to, and go with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parent {
    /// Its table.
    pub table: &'static str,
    /// A column here, and the one there that it names.
    pub columns: &'static [(&'static str, &'static str)],
}

/// A table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// Its name in every store.
    pub name: &'static str,
    /// Its columns, those of the key first.
    pub columns: &'static [Column],
    /// How many columns the key has.
    pub key: usize,
    /// What its rows belong to.
    pub parent: Option<Parent>,
    /// Whether one row may be megabytes.
    pub is_wide: bool,
}

impl Table {
    /// How many rows are read at once.
    #[must_use]
    pub const fn page_rows(&self) -> usize {
        if self.is_wide { PAGE_ROWS_WIDE } else { PAGE_ROWS }
    }

    /// A page of its rows that is empty yet.
    #[must_use]
    pub const fn new_page(&self) -> Page {
        Page { rows: Vec::new(), rows_max: self.page_rows(), bytes: 0 }
    }

    /// The key of one of its rows.
    #[must_use]
    pub fn key_of<'a>(&self, row: &'a [Cell]) -> &'a [Cell] {
        row.get(..self.key).unwrap_or(row)
    }

    /// Whether it may hold this row.
    #[must_use]
    pub fn takes(&self, row: &[Cell]) -> bool {
        row.len() == self.columns.len() && self.columns.iter().zip(row).all(|(column, cell)| column.takes(cell))
    }

    fn names(&self, count: usize) -> String {
        self.columns.iter().take(count).map(|column| column.name).collect::<Vec<_>>().join(", ")
    }

    /// A page in the order of the key; with `is_behind`, of what comes after a key, which is the parameters. `mark` is what
    /// stands before the number of a parameter.
    #[must_use]
    pub fn select(&self, mark: char, is_behind: bool) -> String {
        let (all, key) = (self.names(self.columns.len()), self.names(self.key));
        let behind =
            if is_behind { format!(" WHERE ({key}) > ({})", parameters(mark, self.key)) } else { String::new() };
        format!("SELECT {all} FROM {}{behind} ORDER BY {key} LIMIT {}", self.name, self.page_rows())
    }

    /// A new row.
    #[must_use]
    pub fn insert(&self, mark: char) -> String {
        let count = self.columns.len();
        format!("INSERT INTO {} ({}) VALUES ({})", self.name, self.names(count), parameters(mark, count))
    }

    /// How many of its rows belong to something that is not there; `None` where they belong to nothing.
    #[must_use]
    pub fn count_orphans(&self) -> Option<String> {
        let Parent { table, columns } = self.parent?;
        let same: Vec<String> =
            columns.iter().map(|(here, there)| format!("parents.{there} = children.{here}")).collect();
        Some(format!(
            "SELECT COUNT(1) FROM {} AS children WHERE NOT EXISTS (SELECT 1 FROM {table} AS parents WHERE {})",
            self.name,
            same.join(" AND ")
        ))
    }

    /// How many of its rows there are.
    #[must_use]
    pub fn count(&self) -> String {
        format!("SELECT COUNT(1) FROM {}", self.name)
    }
}

fn parameters(mark: char, count: usize) -> String {
    (1..=count).map(|number| format!("{mark}{number}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::TABLES;
    use super::*;

    fn table(name: &str) -> &'static Table {
        TABLES.iter().find(|table| table.name == name).unwrap()
    }

    #[test]
    fn the_sql_of_a_table() {
        let tags = table("instance_tags");
        assert_eq!(
            tags.select('$', true),
            "SELECT instance_id, tag_key, tag_value FROM instance_tags WHERE (instance_id, tag_key) > ($1, $2) \
             ORDER BY instance_id, tag_key LIMIT 500"
        );
        let settings = table("settings");
        assert_eq!(settings.select('?', false), "SELECT name, value FROM settings ORDER BY name LIMIT 16");
        assert_eq!(settings.insert('?'), "INSERT INTO settings (name, value) VALUES (?1, ?2)");
        assert_eq!(settings.count_orphans(), None);
        assert_eq!(
            tags.count_orphans().unwrap(),
            "SELECT COUNT(1) FROM instance_tags AS children WHERE NOT EXISTS \
             (SELECT 1 FROM instances AS parents WHERE parents.id = children.instance_id)"
        );
    }

    #[test]
    fn a_page_ends_with_its_rows_or_its_bytes() {
        let of = |length: usize| vec![Cell::Bytes(vec![0; length])];
        let mut page = table("instance_tags").new_page();
        for number in 1..=PAGE_ROWS {
            assert_eq!(page.push(of(1)), number < PAGE_ROWS, "{number}");
        }
        assert_eq!(page.into_rows().len(), PAGE_ROWS);
        let one = size_of::<Cell>();
        for (length, goes_on) in [(PAGE_BYTES - one - 1, true), (PAGE_BYTES - one, false), (PAGE_BYTES, false)] {
            let mut page = table("settings").new_page();
            assert_eq!(page.push(of(length)), goes_on, "{length}");
            assert_eq!(page.into_rows().len(), 1, "however long, one there is");
        }
    }

    #[test]
    fn what_belongs_to_something_comes_behind_it() {
        for (at, table) in TABLES.iter().enumerate() {
            assert!((1..=table.columns.len()).contains(&table.key), "{}", table.name);
            assert!(table.columns[..table.key].iter().all(|column| !column.is_optional), "{}", table.name);
            assert!(!TABLES[..at].iter().any(|other| other.name == table.name), "{} twice", table.name);
            if let Some(parent) = table.parent {
                let parent_at = TABLES.iter().position(|other| other.name == parent.table).unwrap();
                assert!(parent_at < at, "{}", table.name);
            }
            // What null flags and bytes are as parameters, the stores need not know.
            let optional = table.columns.iter().filter(|column| column.is_optional);
            for column in optional {
                assert!(matches!(column.kind, CellKind::Text | CellKind::Number), "{}.{}", table.name, column.name);
            }
        }
    }

    #[test]
    fn rows_are_taken_by_kind() {
        let row = |public_key| vec![Cell::Text("i-1".into()), public_key, Cell::Number(1), Cell::Number(2)];
        let registrations = table("registrations");
        assert!(registrations.takes(&row(Cell::Bytes(vec![]))));
        assert!(!registrations.takes(&row(Cell::Null)) && !registrations.takes(&row(Cell::Text(String::new()))));
        assert!(!registrations.takes(&row(Cell::Bytes(vec![]))[..3]));
        let sessions = table("sessions");
        let ended = sessions.columns.iter().find(|column| column.name == "ended_at").unwrap();
        assert!(ended.takes(&Cell::Null) && ended.takes(&Cell::Number(1)) && !ended.takes(&Cell::Flag(true)));
    }
}
