//! Any bytes as the inside of a backup: never a panic, never a row that its table does not take, keys that only grow.
#![no_main]

use inborn_store::dump::{FrameReader, Part};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = FrameReader::open(bytes) else { return };
    let mut table = None;
    let mut last = None;
    loop {
        match reader.next_part() {
            Ok(Some(Part::Table(next))) => (table, last) = (Some(next), None),
            Ok(Some(Part::Row(row))) => {
                let table = table.expect("a row is of a table");
                assert!(table.takes(&row));
                let key = table.key_of(&row).to_vec();
                assert!(last.replace(key.clone()).is_none_or(|last| last < key));
            }
            Ok(None) => break assert_eq!(reader.next_part().ok(), Some(None), "the end stays the end"),
            Err(_) => break,
        }
    }
});
