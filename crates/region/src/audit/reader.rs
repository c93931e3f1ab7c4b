//! Reading an audit: archives and the current file as one stream of lines, while it may be written and rotated.
//!
//! Memory is bounded by the longest line, whatever the files hold.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inborn_identity::UnixTime;

use super::archive::{self, Archive};
use super::record::LINE_BYTES_MAX;

/// How much older than a file's newest line the lines around it may be: calls are recorded in the order of their
/// answers, with the times of their requests.
const DISORDER_SECONDS: u64 = 60;
/// How often to look again when a rotation happens while one looks.
const LOOKS: u32 = 20;
const LOOK_ROUND: Duration = Duration::from_millis(5);

/// What [`AuditReader::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// A line, now in the buffer, without its line feed.
    Line,
    /// Something that cannot be read was passed over.
    Skipped {
        /// Where.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// There are no more lines, now; the next call looks again if the reader follows.
    End,
}

/// Reads an audit from its oldest line.
pub struct AuditReader {
    path: PathBuf,
    follows: bool,
    /// Archives still to be read.
    archives: VecDeque<Archive>,
    /// The archive that is being read.
    archive: Option<(PathBuf, Box<dyn BufRead + Send>)>,
    /// The file that was the current one when it was opened.
    current: Option<Current>,
    /// The number of the newest archive that was there then.
    newest_archive: u64,
}

struct Current {
    file: BufReader<File>,
    identity: (u64, u64),
    /// Where the next line begins.
    offset: u64,
    /// It is an archive now: what is in it is all there will be.
    is_rotated: bool,
}

/// What was read from a stream.
enum Got {
    /// A line, and its length with its line feed.
    Line(u64),
    TooLong(u64),
    /// The stream ended within a line.
    Tail,
    End,
}

impl core::fmt::Debug for AuditReader {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AuditReader").field("path", &self.path).finish_non_exhaustive()
    }
}

impl AuditReader {
    /// Reads the audit whose current file is `path`, leaving out archives that hold nothing of `since` or later. One
    /// that `follows` finds lines that are written later, and waits with an unfinished line until it is whole.
    ///
    /// # Errors
    /// The operating system's; not found only if the directory is not there.
    pub fn open(path: &Path, since: UnixTime, follows: bool) -> io::Result<Self> {
        let mut reader = Self {
            path: path.into(),
            follows,
            archives: VecDeque::new(),
            archive: None,
            current: None,
            newest_archive: 0,
        };
        reader.look(0)?;
        reader.archives.retain(|archive| archive.time.plus(DISORDER_SECONDS) >= since);
        Ok(reader)
    }

    /// Puts the next line into `line`.
    ///
    /// # Errors
    /// The operating system's. What is merely damaged is passed over.
    pub fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Entry> {
        loop {
            if let Some((path, stream)) = &mut self.archive {
                match read_line(stream, line) {
                    Ok(Got::Line(_) | Got::Tail) => return Ok(Entry::Line),
                    Ok(Got::TooLong(_)) => return Ok(too_long(path)),
                    Ok(Got::End) => self.archive = None,
                    Err(error) => {
                        let skipped = Entry::Skipped { path: path.clone(), reason: format!("damaged: {error}") };
                        self.archive = None;
                        return Ok(skipped);
                    }
                }
            } else if let Some(archive) = self.archives.pop_front() {
                match archive.open() {
                    Ok(opened) => self.archive = Some(opened),
                    // Removed since it was listed: its time was over.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            } else if let Some(entry) = self.next_of_current(line)? {
                return Ok(entry);
            }
        }
    }

    /// The next entry of the current file, or `None` if what is current has changed.
    fn next_of_current(&mut self, line: &mut Vec<u8>) -> io::Result<Option<Entry>> {
        let Some(current) = &mut self.current else {
            if self.follows {
                self.look(self.newest_archive)?;
            }
            let found = self.current.is_some() || !self.archives.is_empty();
            return Ok(if found && self.follows { None } else { Some(Entry::End) });
        };
        match read_line(&mut current.file, line)? {
            Got::Line(length) => {
                current.offset += length;
                Ok(Some(Entry::Line))
            }
            Got::TooLong(length) => {
                current.offset += length;
                Ok(Some(too_long(&self.path)))
            }
            Got::Tail if !self.follows || current.is_rotated => {
                self.leave_current()?;
                Ok(Some(Entry::Line))
            }
            Got::End if current.is_rotated => {
                self.leave_current()?;
                Ok(None)
            }
            Got::End if !self.follows => Ok(Some(Entry::End)),
            Got::Tail | Got::End => {
                current.file.seek(SeekFrom::Start(current.offset))?;
                current.is_rotated = identity(&self.path)?.is_some_and(|now| now != current.identity);
                // Lines may have come between the reading and the rotation.
                Ok(if current.is_rotated { None } else { Some(Entry::End) })
            }
        }
    }

    /// Goes on with what came after the current file, if the reader follows.
    fn leave_current(&mut self) -> io::Result<()> {
        self.current = None;
        if self.follows {
            // The file that was read is the archive after those that were there when it was opened.
            self.look(self.newest_archive.saturating_add(1))?;
        }
        Ok(())
    }

    /// Finds the current file and the archives numbered above `after`, as they are at one moment.
    fn look(&mut self, after: u64) -> io::Result<()> {
        for look in 1..=LOOKS {
            let current = Current::open(&self.path)?;
            let archives = archive::list(&self.path)?;
            let is_one_moment = match &current {
                // As long as it is open, no other file can have its identity.
                Some(current) => identity(&self.path)? == Some(current.identity),
                // A rotation has an instant without a current file; a region that was stopped in it has none for longer.
                None => false,
            };
            if is_one_moment || look == LOOKS {
                self.newest_archive = archives.last().map_or(after, |archive| archive.number.max(after));
                self.archives = archives.into_iter().filter(|archive| archive.number > after).collect();
                self.current = current;
                return Ok(());
            }
            std::thread::sleep(LOOK_ROUND);
        }
        Ok(())
    }
}

impl Current {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Some(Self { file: BufReader::new(file), identity, offset: 0, is_rotated: false }))
    }
}

fn identity(path: &Path) -> io::Result<Option<(u64, u64)>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn too_long(path: &Path) -> Entry {
    Entry::Skipped { path: path.into(), reason: format!("a line of more than {LINE_BYTES_MAX} bytes") }
}

/// Reads one line into `line`; never more of it than a line may have.
fn read_line(stream: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Got> {
    line.clear();
    let mut length: u64 = 0;
    loop {
        let chunk = match stream.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(match length {
                0 => Got::End,
                _ if length >= LINE_BYTES_MAX as u64 => Got::TooLong(length),
                _ => Got::Tail,
            });
        }
        let (part, has_end) = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(at) => (chunk.get(..at).unwrap_or_default(), true),
            None => (chunk, false),
        };
        let used = part.len() + usize::from(has_end);
        length += used as u64;
        if length <= LINE_BYTES_MAX as u64 {
            line.extend_from_slice(part);
        }
        stream.consume(used);
        if has_end {
            return Ok(if length <= LINE_BYTES_MAX as u64 { Got::Line(length) } else { Got::TooLong(length) });
        }
    }
}
