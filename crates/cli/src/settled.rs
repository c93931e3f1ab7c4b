//! Reading a file that somebody may be writing in place, as an editor or a shell does: half of a file of settings may be a good one, too.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A file is read once nobody has written to it for so long.
const QUIET: Duration = Duration::from_millis(100);
/// How often it is looked, so long apart each.
const LOOKS_MAX: u32 = 50;

/// What tells that a file is another one, or was written to.
type Print = (u64, u64, u64, i64, i64);

/// Reads a file as it is when nobody writes to it. What is no file, such as a pipe, is read as it comes.
///
/// # Errors
/// The file system's; `ResourceBusy`: it was being written all along.
#[allow(
    clippy::disallowed_methods,
    reason = "it is held against times that the file system has made, not against ours"
)]
pub(crate) fn read(path: &Path) -> io::Result<String> {
    for _ in 0..LOOKS_MAX {
        let mut file = File::open(path)?;
        let before = file.metadata()?;
        let mut text = String::new();
        // Half a letter is no reason to fail while it is being written.
        let outcome = file.read_to_string(&mut text);
        if !before.is_file() {
            return outcome.map(|_| text);
        }
        // By its name: it may have been replaced as a whole since.
        let after = std::fs::metadata(path)?;
        if print_of(&before) == print_of(&after) && is_quiet(&after, SystemTime::now()) {
            return outcome.map(|_| text);
        }
        std::thread::sleep(QUIET);
    }
    Err(io::Error::new(ErrorKind::ResourceBusy, "it is being written: try again when that is done"))
}

fn print_of(metadata: &Metadata) -> Print {
    (metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

/// A time that is to come, or none, says nothing.
fn is_quiet(metadata: &Metadata, now: SystemTime) -> bool {
    let written = metadata.modified().ok();
    written.and_then(|written| now.duration_since(written).ok()).is_none_or(|since| since >= QUIET)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_file_is_read_when_it_is_whole() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("inborn.toml");
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::NotFound);
        let whole: String = (0..10).map(|number| format!("line{number} = 1\n")).collect();
        // A machine may be too busy for a writer that does not rest: that proves nothing, and is tried again.
        let is_steady = || {
            let mut file = File::create(&path).unwrap();
            let mut last = Instant::now();
            let mut longest = Duration::ZERO;
            let text = std::thread::scope(|scope| {
                let reading = scope.spawn(|| read(&path).unwrap());
                for line in whole.split_inclusive('\n') {
                    std::thread::sleep(QUIET / 20);
                    file.write_all(line.as_bytes()).unwrap();
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                reading.join().unwrap()
            });
            assert!(text == whole || longest >= QUIET / 2, "{text}");
            text == whole
        };
        assert!((0..100).any(|_| is_steady()));
        assert_eq!(read(Path::new("/dev/null")).unwrap(), "");
    }

    #[test]
    fn quiet_below_at_and_above() {
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        let written = metadata.modified().unwrap();
        let nanosecond = Duration::from_nanos(1);
        assert!(!is_quiet(&metadata, written) && !is_quiet(&metadata, written + QUIET - nanosecond));
        assert!(is_quiet(&metadata, written + QUIET) && is_quiet(&metadata, written + QUIET + nanosecond));
        assert!(is_quiet(&metadata, written - nanosecond), "a clock that was set back");
    }
}
