//! One value of a row, whatever database it is in.

use core::fmt;

/// What a column holds. Numbers have 64 bits, moments are whole seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CellKind {
    /// Yes or no.
    Flag,
    /// A whole number.
    Number,
    /// A text.
    Text,
    /// Bytes.
    Bytes,
}

impl CellKind {
    const ALL: [Self; 4] = [Self::Flag, Self::Number, Self::Text, Self::Bytes];

    /// The number it has in a file.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Flag => 1,
            Self::Number => 2,
            Self::Text => 3,
            Self::Bytes => 4,
        }
    }

    /// What [`CellKind::code`] says, if it is one.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// One value. They may be sealed keys or other people's data: `Debug` shows how long they are and no more.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Nothing.
    Null,
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// The values of a row, in the order of its table's columns.
pub type Row = Vec<Cell>;

const NULL: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;
const NUMBER: u8 = 3;
const TEXT: u8 = 4;
const BYTES: u8 = 5;

impl Cell {
    /// What kind of value it is; `None`: nothing.
    #[must_use]
    pub const fn kind(&self) -> Option<CellKind> {
        match self {
            Self::Null => None,
            Self::Flag(_) => Some(CellKind::Flag),
            Self::Number(_) => Some(CellKind::Number),
            Self::Text(_) => Some(CellKind::Text),
            Self::Bytes(_) => Some(CellKind::Bytes),
        }
    }

    /// Writes it in the one form that it has in files and digests: a byte that says what it is, and the value, with its length
    /// before it where that is not fixed.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut sized = |mark: u8, bytes: &[u8]| {
            out.push(mark);
            out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Null => out.push(NULL),
            Self::Flag(flag) => out.push(if *flag { YES } else { NO }),
            Self::Number(number) => {
                out.push(NUMBER);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::Text(text) => sized(TEXT, text.as_bytes()),
            Self::Bytes(bytes) => sized(BYTES, bytes),
        }
    }

    /// Reads one; gives it and what is behind it.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
        }
        let (mark, rest) = bytes.split_first()?;
        Some(match *mark {
            NULL => (Self::Null, rest),
            NO => (Self::Flag(false), rest),
            YES => (Self::Flag(true), rest),
            NUMBER => {
                let (number, rest) = rest.split_first_chunk::<8>()?;
                (Self::Number(i64::from_be_bytes(*number)), rest)
            }
            TEXT => {
                let (text, rest) = sized(rest)?;
                (Self::Text(core::str::from_utf8(text).ok()?.to_owned()), rest)
            }
            BYTES => {
                let (bytes, rest) = sized(rest)?;
                (Self::Bytes(bytes.to_vec()), rest)
            }
            _ => return None,
        })
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Flag(flag) => write!(f, "Flag({flag})"),
            Self::Number(number) => write!(f, "Number({number})"),
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
        }
    }
}

/// All cells of a row, one behind the other.
pub(super) fn encode_row(row: &[Cell], out: &mut Vec<u8>) {
    row.iter().for_each(|cell| cell.encode(out));
}

/// How much room the values of a row take, about: their bytes, and what each value takes beside them.
pub(super) fn room(row: &[Cell]) -> usize {
    let beside = |cell: &Cell| match cell {
        Cell::Text(text) => text.len(),
        Cell::Bytes(bytes) => bytes.len(),
        Cell::Null | Cell::Flag(_) | Cell::Number(_) => 0,
    };
    row.iter().map(|cell| size_of::<Cell>().saturating_add(beside(cell))).fold(0, usize::saturating_add)
}

/// The cells that bytes hold, and nothing else; `None` also where there are more than `cells_max`. A byte may be a whole cell, of which
/// the value in memory takes thirty times that.
pub(super) fn decode_row(mut bytes: &[u8], cells_max: usize) -> Option<Row> {
    let mut row = Row::new();
    while !bytes.is_empty() {
        if row.len() >= cells_max {
            return None;
        }
        let (cell, rest) = Cell::decode(bytes)?;
        row.push(cell);
        bytes = rest;
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cell() -> impl Strategy<Value = Cell> {
        prop_oneof![
            Just(Cell::Null),
            any::<bool>().prop_map(Cell::Flag),
            any::<i64>().prop_map(Cell::Number),
            any::<String>().prop_map(Cell::Text),
            any::<Vec<u8>>().prop_map(Cell::Bytes),
        ]
    }

    proptest! {
        #[test]
        fn rows_come_back(row in prop::collection::vec(cell(), 0..8)) {
            let mut bytes = Vec::new();
            encode_row(&row, &mut bytes);
            prop_assert_eq!(decode_row(&bytes, row.len()), Some(row));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            if let Some(row) = decode_row(&bytes, bytes.len()) {
                let mut again = Vec::new();
                encode_row(&row, &mut again);
                prop_assert_eq!(again, bytes, "there is one form");
            }
        }
    }

    #[test]
    fn the_form_is_this_for_ever() {
        let mut bytes = Vec::new();
        let row = [Cell::Null, Cell::Flag(true), Cell::Number(-2), Cell::Text("é".into()), Cell::Bytes(vec![7])];
        encode_row(&row, &mut bytes);
        let expected = b"\x00\x02\x03\xff\xff\xff\xff\xff\xff\xff\xfe\x04\0\0\0\x02\xc3\xa9\x05\0\0\0\x01\x07";
        assert_eq!(bytes, expected);
        for cut in [2..3, 2..10, 11..17, 18..23].map(|range| &bytes[range]) {
            assert_eq!(decode_row(cut, 5), None, "{cut:?}");
        }
        assert_eq!(decode_row(b"\x04\0\0\0\x01\xff", 1), None, "not a text");
        assert_eq!(decode_row(b"\x06", 1), None);
    }

    #[test]
    fn cells_below_at_and_above_the_most() {
        for (count, fits) in [(0, true), (2, true), (3, true), (4, false), (1 << 20, false)] {
            assert_eq!(decode_row(&vec![NULL; count], 3).map(|row| row.len()), fits.then_some(count), "{count}");
        }
    }

    #[test]
    fn room_is_that_of_the_values_and_what_they_say() {
        let each = size_of::<Cell>();
        assert_eq!(room(&[]), 0);
        assert_eq!(
            room(&[Cell::Null, Cell::Number(1), Cell::Text("abc".into()), Cell::Bytes(vec![0; 7])]),
            4 * each + 10
        );
    }

    #[test]
    fn values_are_not_shown() {
        let row = [Cell::Text("secret".into()), Cell::Bytes(b"secret".to_vec())];
        assert_eq!(format!("{row:?}"), "[Text(6 bytes), Bytes(6 bytes)]");
    }

    #[test]
    fn kinds_have_numbers() {
        for kind in CellKind::ALL {
            assert_eq!(CellKind::from_code(kind.code()), Some(kind));
        }
        assert_eq!([0, 5, -1].map(CellKind::from_code), [None; 3]);
    }
}
