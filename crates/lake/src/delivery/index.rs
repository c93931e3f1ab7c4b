//! What of a day is in the bucket: a list in the directory of the day, replaced as a whole.
//!
//! ```text
//! # inborn delivered 2            what it is
//! NAME LENGTH FIRST LAST          it is there: how many bytes, the first and last time of its events
//! - NAME LENGTH FIRST LAST        it is being removed
//! # COUNT CRC32C                  how many lines stand between, and the checksum of all before
//! ```
//!
//! Lists of earlier programs have neither the first line nor the last. Both taken away by hand, a list is read as one of those.

use std::fs;
use std::io;
use std::path::Path;

use crate::files;
use crate::layout;

/// Readers of the tree pass over what begins with a dot.
const NAME: &str = ".delivered";

/// The first line.
const FIRST: &str = "# inborn delivered 2\n";

/// A file in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Box<str>,
    pub(crate) length: u64,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    /// Nobody shall read it any more.
    pub(crate) is_going: bool,
}

/// Reads the list of a day; a day without one has nothing in the bucket.
pub(crate) fn read(day: &Path) -> io::Result<Vec<Entry>> {
    let text = match fs::read_to_string(day.join(NAME)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        text => text?,
    };
    let damaged = || io::Error::other(format!("{}: not a list of what is in the bucket", day.join(NAME).display()));
    parse_all(&text).ok_or_else(damaged)
}

/// Writes the list, durably. An empty one is removed.
pub(crate) fn write(day: &Path, entries: &[Entry]) -> io::Result<()> {
    if entries.is_empty() {
        files::remove(&day.join(NAME))?;
        return files::sync_directory(day);
    }
    let line = |entry: &Entry| {
        let Entry { name, length, first_ms, last_ms, is_going } = entry;
        let mark = if *is_going { "- " } else { "" };
        format!("{mark}{name} {length} {first_ms} {last_ms}\n")
    };
    let mut text = FIRST.to_owned();
    text.extend(entries.iter().map(line));
    let last = format!("# {} {:08x}\n", entries.len(), crc32c::crc32c(text.as_bytes()));
    text.push_str(&last);
    files::replace(&day.join(NAME), text.as_bytes())
}

/// All of a list; `None`: it is none, or something of it is missing. An empty one was never written.
fn parse_all(text: &str) -> Option<Vec<Entry>> {
    if text.is_empty() {
        return None;
    }
    let Some(_) = text.strip_prefix(FIRST) else { return text.lines().map(parse).collect() };
    let last_at = text.strip_suffix('\n')?.rfind('\n')?.checked_add(1)?;
    let (before, last) = text.split_at_checked(last_at)?;
    let entries: Vec<Entry> = before.strip_prefix(FIRST)?.lines().map(parse).collect::<Option<_>>()?;
    let (count, check) = last.strip_suffix('\n')?.strip_prefix("# ")?.split_once(' ')?;
    let is_whole = count.parse() == Ok(entries.len())
        && check.len() == 8
        && u32::from_str_radix(check, 16) == Ok(crc32c::crc32c(before.as_bytes()));
    is_whole.then_some(entries)
}

fn parse(line: &str) -> Option<Entry> {
    let (is_going, rest) = line.strip_prefix("- ").map_or((false, line), |rest| (true, rest));
    let mut words = rest.split(' ');
    let name: Box<str> = words.next().filter(|name| layout::job_of(name).is_some())?.into();
    let length = words.next()?.parse().ok()?;
    let (first_ms, last_ms) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(Entry { name, length, first_ms, last_ms, is_going })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_was_written_and_what_is_none_is_said() {
        let day = tempfile::tempdir().unwrap();
        assert_eq!(read(day.path()).unwrap(), []);
        assert_eq!(read(&day.path().join("gone")).unwrap(), []);
        let entry = |part, is_going| Entry {
            name: layout::file_name(&[1; 32], 7, part, 9).into(),
            length: 5,
            first_ms: i64::MIN,
            last_ms: i64::MAX,
            is_going,
        };
        let entries = [entry(1, false), entry(2, true)];
        write(day.path(), &entries).unwrap();
        assert_eq!(read(day.path()).unwrap(), entries);
        write(day.path(), &[]).unwrap();
        assert_eq!(fs::read_dir(day.path()).unwrap().count(), 0);
        let good = format!("{} 1 2 3", entry(1, false).name);
        for bad in ["x 1 2 3", "", &good[..good.len() - 2], &format!("{good} 4"), &good.replace(" 1 ", " -1 ")] {
            fs::write(day.path().join(NAME), format!("{good}\n{bad}\n")).unwrap();
            assert!(read(day.path()).is_err(), "{bad}");
        }
    }

    /// What is there no longer, or is another, is no list: nothing is ever taken for not delivered because of it.
    #[test]
    fn a_list_of_which_something_is_missing_or_changed_is_known() {
        let day = tempfile::tempdir().unwrap();
        let entries: Vec<Entry> = (1..4)
            .map(|part| Entry {
                name: layout::file_name(&[1; 32], 7, part, 9).into(),
                length: 5,
                first_ms: 1,
                last_ms: 2,
                is_going: part == 2,
            })
            .collect();
        write(day.path(), &entries).unwrap();
        let text = fs::read(day.path().join(NAME)).unwrap();
        let is_read = |text: &[u8]| {
            fs::write(day.path().join(NAME), text).unwrap();
            read(day.path()).is_ok()
        };
        for length in 0..text.len() {
            assert!(!is_read(&text[..length]), "cut to {length}");
        }
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert!(!is_read(&changed), "another byte at {at}");
        }
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        for without in 0..lines.len() {
            let rest = [&lines[..without], &lines[without + 1..]].concat().concat();
            assert!(!is_read(&rest), "line {without} is missing");
        }
        // One of an earlier program, or from which somebody has taken both.
        assert!(is_read(&lines[1..lines.len() - 1].concat()));
        assert_eq!(read(day.path()).unwrap(), entries);
    }
}
