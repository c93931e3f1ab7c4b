//! What of a day is in the bucket: a list in the directory of the day, replaced as a whole.
//!
//! ```text
//! NAME LENGTH FIRST LAST          it is there: how many bytes, the first and last time of its events
//! - NAME LENGTH FIRST LAST        it is being removed
//! ```

use std::fs;
use std::io;
use std::path::Path;

use crate::files;
use crate::layout;

/// Readers of the tree pass over what begins with a dot.
const NAME: &str = ".delivered";

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
    text.lines().map(|line| parse(line).ok_or_else(damaged)).collect()
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
    files::replace(&day.join(NAME), entries.iter().map(line).collect::<String>().as_bytes())
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
}
