//! An object store, as the lake needs one; and a file in it that is read as one on disk is.

use core::fmt;
use core::ops::Range;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::log::frame::ReadAt;

/// Where finished Parquet is kept beside the local disk. All of it may take long, and is called by threads that may wait.
///
/// Keys are paths as in the lake's directory, `ext/…/NAME.parquet`; what stands before them in the bucket is the bucket's matter.
pub trait Bucket: Send + Sync + fmt::Debug {
    /// What a person calls it, as in `s3://bucket/prefix`. Without secrets: it is logged, and written down.
    fn address(&self) -> &str;

    /// Puts a whole file there, in place of what may be there. When this answers `Ok`, it is durable and others can read it;
    /// else it is there whole or not at all.
    ///
    /// # Errors
    /// The store is away, or refuses.
    fn put(&self, key: &str, file: File) -> io::Result<()>;

    /// Reads a part, all of it.
    ///
    /// # Errors
    /// `NotFound`: there is no such object. `UnexpectedEof`: it is shorter.
    fn get(&self, key: &str, range: Range<u64>) -> io::Result<Bytes>;

    /// Removes an object. That it is not there is as good.
    ///
    /// # Errors
    /// The store is away, or refuses.
    fn delete(&self, key: &str) -> io::Result<()>;
}

/// A file of no more than this is fetched at once.
const WHOLE_BYTES: u64 = 1 << 20;

/// So much of the end of a longer one is fetched first: the footers of some row groups.
const TAIL_BYTES: u64 = 256 << 10;

/// And then so much from where it is read on: columns are read one after the other.
const AHEAD_BYTES: u64 = 1 << 20;

/// A file in a bucket. Has some [`AHEAD_BYTES`] and [`TAIL_BYTES`] of it in memory.
pub(crate) struct RemoteFile {
    bucket: Arc<dyn Bucket>,
    key: Box<str>,
    length: u64,
    /// What was fetched of its end, and last: where that begins, and it.
    fetched: Mutex<[Option<(u64, Bytes)>; 2]>,
}

impl RemoteFile {
    pub(crate) fn new(bucket: Arc<dyn Bucket>, key: &str, length: u64) -> Self {
        Self { bucket, key: key.into(), length, fetched: Mutex::default() }
    }

    /// Which part to fetch when so many bytes are wanted from a place on, and whether it is the end.
    fn part(&self, position: u64, count: u64) -> (Range<u64>, bool) {
        if self.length <= WHOLE_BYTES {
            return (0..self.length, true);
        }
        let tail = self.length - TAIL_BYTES;
        if position >= tail {
            return (tail..self.length, true);
        }
        (position..position.saturating_add(count.max(AHEAD_BYTES)).min(self.length), false)
    }
}

impl ReadAt for RemoteFile {
    fn read_exact_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
        let end = position.checked_add(bytes.len() as u64).filter(|end| *end <= self.length);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let from = |(start, part): &(u64, Bytes), bytes: &mut [u8]| -> Option<()> {
            let place = usize::try_from(position.checked_sub(*start)?).ok()?;
            bytes.copy_from_slice(part.get(place..place.checked_add(bytes.len())?)?);
            Some(())
        };
        if fetched.iter().flatten().any(|part| from(part, bytes).is_some()) {
            return Ok(());
        }
        let (range, is_tail) = self.part(position, end - position);
        let wanted = range.end - range.start;
        let part = (range.start, self.bucket.get(&self.key, range)?);
        if part.1.len() as u64 != wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        from(&part, bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let [tail, last] = &mut *fetched;
        *(if is_tail { tail } else { last }) = Some(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One object, and which parts of it were asked for.
    #[derive(Debug, Default)]
    struct One(Vec<u8>, Mutex<Vec<Range<u64>>>);

    impl Bucket for One {
        fn address(&self) -> &str {
            "memory"
        }
        fn put(&self, _: &str, _: File) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
        fn get(&self, _: &str, range: Range<u64>) -> io::Result<Bytes> {
            self.1.lock().unwrap().push(range.clone());
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            self.0.get(range).map(Bytes::copy_from_slice).ok_or(io::ErrorKind::UnexpectedEof.into())
        }
        fn delete(&self, _: &str) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn object(length: u64) -> (Arc<One>, RemoteFile) {
        let bytes = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let one = Arc::new(One(bytes, Mutex::default()));
        let file = RemoteFile::new(Arc::clone(&one) as _, "k", length);
        (one, file)
    }

    fn read(file: &RemoteFile, position: u64, count: usize) -> io::Result<()> {
        let mut bytes = vec![0; count];
        file.read_exact_at(&mut bytes, position)?;
        for (at, byte) in (position..).zip(bytes) {
            assert_eq!(byte, u8::try_from(at % 251).unwrap(), "{at}");
        }
        Ok(())
    }

    #[test]
    fn a_short_file_is_fetched_once_and_a_longer_one_by_parts() {
        for (length, is_whole) in [(WHOLE_BYTES - 1, true), (WHOLE_BYTES, true), (WHOLE_BYTES + 1, false)] {
            let (one, file) = object(length);
            read(&file, length - 8, 8).unwrap();
            read(&file, 5, 70_000).unwrap();
            let asked: Vec<_> = one.1.lock().unwrap().iter().map(|part| (part.start, part.end)).collect();
            let parts = [(length - TAIL_BYTES, length), (5, length.min(5 + AHEAD_BYTES))];
            let expected = if is_whole { vec![(0, length)] } else { parts.to_vec() };
            assert_eq!(asked, expected, "{length}");
        }
    }

    #[test]
    fn parts_that_follow_one_another_are_fetched_ahead_and_a_long_one_whole() {
        let (one, file) = object(5 << 20);
        for step in 0..32 {
            read(&file, step << 16, 1 << 16).unwrap();
        }
        assert_eq!(one.1.lock().unwrap().len(), 2);
        read(&file, 1 << 20, 3 << 20).unwrap();
        // Across what was fetched and what was not.
        read(&file, (5 << 20) - TAIL_BYTES - 10, 20).unwrap();
        assert_eq!(one.1.lock().unwrap().len(), 4);
    }

    #[test]
    fn beyond_the_end_there_is_nothing() {
        let (one, file) = object(100);
        assert_eq!(read(&file, 99, 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(&file, u64::MAX, 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(one.1.lock().unwrap().is_empty(), "and nobody is asked");
        let shorter = RemoteFile::new(one, "k", 101);
        assert_eq!(read(&shorter, 0, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
