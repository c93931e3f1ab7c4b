//! Values on their way to the database and back.
//!
//! Every integer is a BIGINT, every text a TEXT: the three databases agree about no other widths.

use core::fmt::Display;
use core::str::FromStr;
use std::borrow::Cow;

use inborn_identity::UnixTime;
use inborn_store::dump::{self, Cell, CellKind};
use tokio_postgres::types::{FromSqlOwned, ToSql};

use crate::fault::{self, Outcome};

/// A parameter of a statement.
#[derive(Clone, PartialEq)]
pub(crate) enum Value {
    Text(Option<String>),
    Texts(Vec<String>),
    Bytes(Vec<u8>),
    Number(Option<i64>),
    Flag(bool),
    Column(Column),
}

/// What several rows have in one column, as `UNNEST` takes it.
#[derive(Clone, PartialEq)]
pub(crate) enum Column {
    Texts(Vec<Option<String>>),
    Numbers(Vec<Option<i64>>),
    Flags(Vec<bool>),
    Bytes(Vec<Vec<u8>>),
}

impl Column {
    /// An empty one, of the kind that `value` has. There are no columns of lists.
    fn of_kind(value: &Value) -> Option<Self> {
        match value {
            Value::Text(_) => Some(Self::Texts(Vec::new())),
            Value::Number(_) => Some(Self::Numbers(Vec::new())),
            Value::Flag(_) => Some(Self::Flags(Vec::new())),
            Value::Bytes(_) => Some(Self::Bytes(Vec::new())),
            Value::Texts(_) | Value::Column(_) => None,
        }
    }

    fn push(&mut self, value: Value) -> Option<()> {
        match (self, value) {
            (Self::Texts(column), Value::Text(text)) => column.push(text),
            (Self::Numbers(column), Value::Number(number)) => column.push(number),
            (Self::Flags(column), Value::Flag(flag)) => column.push(flag),
            (Self::Bytes(column), Value::Bytes(bytes)) => column.push(bytes),
            _ => return None,
        }
        Some(())
    }

    fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Texts(column) => column,
            Self::Numbers(column) => column,
            Self::Flags(column) => column,
            Self::Bytes(column) => column,
        }
    }
}

/// Rows of one shape, turned: what they have in each column. No rows have no columns: these would be of no kind.
///
/// # Errors
/// `Corrupt`: they are not of one shape.
pub(crate) fn columns(rows: impl IntoIterator<Item = Vec<Value>>) -> Outcome<Vec<Value>> {
    let unlike = || fault::corrupt("rows that are written together are not alike");
    let mut rows = rows.into_iter().peekable();
    let kinds = rows.peek().map_or(&[][..], Vec::as_slice).iter().map(Column::of_kind);
    let mut columns = kinds.collect::<Option<Vec<Column>>>().ok_or_else(unlike)?;
    for row in rows {
        if row.len() != columns.len() {
            return Err(unlike());
        }
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value).ok_or_else(unlike)?;
        }
    }
    Ok(columns.into_iter().map(Value::Column).collect())
}

/// How rows are inserted by one statement, which takes their values in the order of its parameters.
pub(crate) struct Insertion {
    /// A single row, by its values: a server makes a table of each array, which is more work than the row is.
    pub(crate) one: &'static str,
    /// Any number of rows, each column as one array.
    pub(crate) many: &'static str,
}

impl Insertion {
    /// The statement for these rows, and its parameters, of which no rows have none.
    ///
    /// # Errors
    /// As of [`columns`].
    pub(crate) fn of(&self, mut rows: Vec<Vec<Value>>) -> Outcome<(&'static str, Vec<Value>)> {
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok((self.one, row)),
            (last, _) => Ok((self.many, columns(rows.into_iter().chain(last))?)),
        }
    }
}

impl Value {
    /// As the driver takes it.
    pub(crate) fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Text(text) => text,
            Self::Texts(texts) => texts,
            Self::Bytes(bytes) => bytes,
            Self::Number(number) => number,
            Self::Flag(flag) => flag,
            Self::Column(column) => column.as_sql(),
        }
    }

    /// The text that something is written as.
    pub(crate) fn shown(value: impl Display) -> Self {
        value.to_string().into()
    }

    /// Several texts, for `= ANY`.
    pub(crate) fn all<T: Display>(values: impl IntoIterator<Item = T>) -> Self {
        Self::Texts(values.into_iter().map(|value| escape(&value.to_string()).into_owned()).collect())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(escape(text).into_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        (&text).into()
    }
}

impl From<&Option<String>> for Value {
    fn from(text: &Option<String>) -> Self {
        text.as_deref().into()
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(|text| escape(text).into_owned()))
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<UnixTime> for Value {
    /// The last moment there is has 38 bits.
    fn from(time: UnixTime) -> Self {
        Self::Number(Some(i64::try_from(time.as_secs()).unwrap_or(i64::MAX)))
    }
}

impl From<Option<UnixTime>> for Value {
    fn from(time: Option<UnixTime>) -> Self {
        time.map_or(Self::Number(None), Self::from)
    }
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl From<$type> for Value {
            fn from(number: $type) -> Self {
                Self::Number(Some(number.into()))
            }
        }
    )*};
}
numbers!(u8, u16, u32, i32, i64);

impl From<&Cell> for Value {
    /// Of what may be nothing there are only texts and numbers, see [`inborn_store::dump`].
    fn from(cell: &Cell) -> Self {
        match cell {
            Cell::Null => Self::Text(None),
            Cell::Flag(flag) => Self::Flag(*flag),
            Cell::Number(number) => Self::Number(Some(*number)),
            Cell::Text(text) => text.into(),
            Cell::Bytes(bytes) => bytes.as_slice().into(),
        }
    }
}

impl From<Option<u32>> for Value {
    fn from(number: Option<u32>) -> Self {
        Self::Number(number.map(i64::from))
    }
}

/// The parameters of a statement.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::value::Value::from($value)),*] };
}
pub(crate) use values;

/// What stands for U+0000 and for itself, each with a digit behind it.
const MARK: char = '\u{1}';

/// PostgreSQL has no U+0000 in texts; outputs of commands have. Keeps the order, and no two texts become the same.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => escaped.extend([MARK, '0']),
            MARK => escaped.extend([MARK, '1']),
            character => escaped.push(character),
        }
    }
    Cow::Owned(escaped)
}

/// `None`: [`escape`] gives no such text.
pub(crate) fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(MARK) {
        return Some(Cow::Borrowed(text));
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match (character, character == MARK) {
            (character, false) => character,
            (_, true) => match characters.next()? {
                '0' => '\0',
                '1' => MARK,
                _ => return None,
            },
        });
    }
    Some(Cow::Owned(plain))
}

/// A row, whose columns are read by name.
pub(crate) struct Row(pub(crate) tokio_postgres::Row);

impl Row {
    fn raw<T: FromSqlOwned>(&self, name: &str) -> Outcome<T> {
        self.0.try_get(name).map_err(|error| fault::from_statement(&error))
    }

    /// A value of a dump.
    pub(crate) fn cell(&self, column: &dump::Column) -> Outcome<Cell> {
        let name = column.name;
        let cell = match column.kind {
            CellKind::Flag => Cell::Flag(self.flag(name)?),
            CellKind::Number => self.number_if_any(name)?.map_or(Cell::Null, Cell::Number),
            CellKind::Text => self.text_if_any(name)?.map_or(Cell::Null, Cell::Text),
            CellKind::Bytes => Cell::Bytes(self.bytes(name)?),
        };
        Ok(cell)
    }

    /// A text that may be absent.
    pub(crate) fn text_if_any(&self, name: &str) -> Outcome<Option<String>> {
        let text: Option<&str> = self.0.try_get(name).map_err(|error| fault::from_statement(&error))?;
        text.map(|text| unescape(text).map(Cow::into_owned).ok_or_else(|| strange(name))).transpose()
    }

    /// A text.
    pub(crate) fn text(&self, name: &str) -> Outcome<String> {
        self.text_if_any(name)?.ok_or_else(|| strange(name))
    }

    /// One of our texts that may be absent.
    pub(crate) fn parsed_if_any<T: FromStr>(&self, name: &str) -> Outcome<Option<T>> {
        self.text_if_any(name)?.map(|text| text.parse().map_err(|_| strange(name))).transpose()
    }

    /// One of our texts.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> Outcome<T> {
        self.parsed_if_any(name)?.ok_or_else(|| strange(name))
    }

    /// A number that may be absent.
    pub(crate) fn number_if_any<T: TryFrom<i64>>(&self, name: &str) -> Outcome<Option<T>> {
        let number: Option<i64> = self.raw(name)?;
        number.map(|number| T::try_from(number).map_err(|_| strange(name))).transpose()
    }

    /// A number.
    pub(crate) fn number<T: TryFrom<i64>>(&self, name: &str) -> Outcome<T> {
        self.number_if_any(name)?.ok_or_else(|| strange(name))
    }

    /// A point in time that may be absent.
    pub(crate) fn moment_if_any(&self, name: &str) -> Outcome<Option<UnixTime>> {
        Ok(self.number_if_any::<u64>(name)?.map(UnixTime::from_secs))
    }

    /// A point in time.
    pub(crate) fn moment(&self, name: &str) -> Outcome<UnixTime> {
        self.number(name).map(UnixTime::from_secs)
    }

    /// A flag.
    pub(crate) fn flag(&self, name: &str) -> Outcome<bool> {
        self.raw(name)
    }

    /// Bytes.
    pub(crate) fn bytes(&self, name: &str) -> Outcome<Vec<u8>> {
        self.raw(name)
    }
}

/// A column holds something else than we write.
pub(crate) fn strange(name: &str) -> fault::Fault {
    fault::corrupt(format_args!("column {name} holds what was never written there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_in_the_same_order() {
        let mut texts = ["", "a", "\0", "\0\0", "\u{1}", "\u{1}0", "\u{1}1", "\u{2}", "a\0b", "a\u{1}b", "ab", "é\0"];
        texts.sort_unstable();
        let escaped = texts.map(|text| escape(text).into_owned());
        assert!(escaped.is_sorted_by(|a, b| a < b));
        for (text, escaped) in texts.into_iter().zip(escaped) {
            assert!(!escaped.contains('\0'));
            assert_eq!(unescape(&escaped).as_deref(), Some(text));
        }
    }

    #[test]
    fn rows_become_columns_if_they_are_alike() {
        let rows =
            [values![1_u32, "a", true, Option::<u32>::None], values![2_u32, Option::<&str>::None, false, Some(7_u32)]];
        let column = |column| Value::Column(column);
        let turned = columns(rows.map(|row| row.to_vec())).unwrap();
        let numbers = column(Column::Numbers(vec![Some(1), Some(2)]));
        let texts = column(Column::Texts(vec![Some("a".into()), None]));
        let flags = column(Column::Flags(vec![true, false]));
        assert!(turned == [numbers, texts, flags, column(Column::Numbers(vec![None, Some(7)]))]);
        assert!(columns([]).unwrap().is_empty());
        let unlike: [[&[Value]; 2]; 3] = [
            [values![1_u32], values!["a"]],
            [values![1_u32], values![1_u32, 2_u32]],
            [&[Value::all(["a"])], &[Value::all(["b"])]],
        ];
        for rows in unlike {
            assert!(columns(rows.map(|row| row.to_vec())).is_err());
        }
    }

    #[test]
    fn one_row_is_inserted_by_its_values() {
        let insertion = Insertion { one: "one", many: "many" };
        let row = |number: u32| values![number, "a"].to_vec();
        assert!(insertion.of(vec![]).unwrap() == ("many", vec![]));
        assert!(insertion.of(vec![row(1)]).unwrap() == ("one", row(1)));
        assert!(insertion.of(vec![row(1), row(2)]).unwrap() == ("many", columns([row(1), row(2)]).unwrap()));
    }

    #[test]
    fn what_was_never_written_is_not_read() {
        for text in ["\u{1}", "\u{1}2", "a\u{1}", "\u{1}\u{1}"] {
            assert_eq!(unescape(text), None, "{text:?}");
        }
    }
}
