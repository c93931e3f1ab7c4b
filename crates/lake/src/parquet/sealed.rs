//! Seals: nothing of a file is taken for Parquet before it was checked.
//!
//! A library that reads a damaged file may panic, and with the release's `panic = "abort"` that would end the region; or it
//! may read something else than was written. So each file of ours has digests of all its bytes, between the columns and
//! Parquet's footer, where no reader of Parquet looks:
//!
//! ```text
//! columns, in blocks of 64 KiB | a digest of each block 8 × n | "INBSEAL1" | n 4 | digest of all that follows the blocks 8 |
//!     footer | its length 4 | "PAR1"
//! ```
//!
//! Digests are SipHash-2-4 under the lake's key, over the name of the file and the number of the block as well: what somebody
//! else made, or put elsewhere, is not taken either.

use core::hash::Hasher as _;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use crate::log::frame::ReadAt;
use crate::recent::Key;

const BLOCK_BYTES: u64 = 64 << 10;
const MAGIC: &[u8; 8] = b"INBSEAL1";
const DIGEST_BYTES: usize = 8;
const MARK_BYTES: usize = MAGIC.len() + 4 + DIGEST_BYTES;
/// Parquet's: the length of the footer and `PAR1`.
const END_BYTES: usize = 8;

/// The longest footer that is read into memory. A row group of three hundred columns has about 40 KiB of it.
pub(crate) const FOOTER_BYTES_MAX: u32 = 64 << 20;

/// Whose seal, on which file.
#[derive(Clone)]
pub(crate) struct Seal {
    key: Key,
    name: Box<str>,
}

impl Seal {
    /// Of the file that is called `name`, whatever its directory.
    pub(crate) fn new(key: &Key, name: &str) -> Self {
        Self { key: *key, name: name.into() }
    }

    /// `u64::MAX` stands for what follows the blocks.
    #[expect(deprecated, reason = "SipHash-2-4 with keys, the same in every version")]
    fn digest(&self, block: u64, parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
        let word = |from: usize| {
            let bytes = self.key.get(from..from + 8).and_then(|bytes| bytes.first_chunk::<8>());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        // The window's digests are 9 bytes and a text under the same key: these begin with what no such text is given for.
        let mut hasher = core::hash::SipHasher::new_with_keys(word(16), word(24));
        hasher.write(b"inborn parquet seal");
        hasher.write(&(self.name.len() as u64).to_le_bytes());
        hasher.write(self.name.as_bytes());
        hasher.write(&block.to_le_bytes());
        for part in parts {
            hasher.write(part);
        }
        hasher.finish().to_le_bytes()
    }

    /// Seals a file that was just written as Parquet. To be synced afterwards.
    pub(crate) fn put(&self, file: &std::fs::File) -> io::Result<()> {
        let length = file.metadata()?.len();
        let (start, footer) = footer(file, length)?;
        let mut table = Vec::new();
        let mut block = Vec::new();
        for (number, from) in (0..start).step_by(usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX)).enumerate() {
            block.resize(usize::try_from(BLOCK_BYTES.min(start - from)).unwrap_or(0), 0);
            ReadAt::read_exact_at(file, &mut block, from)?;
            table.extend_from_slice(&self.digest(number as u64, &[&block]));
        }
        let count = u32::try_from(table.len() / DIGEST_BYTES).map_err(|_| damaged("too long"))?;
        let digest = self.digest(u64::MAX, &[&start.to_le_bytes(), &table, &count.to_le_bytes(), &footer]);
        let mark = [MAGIC.as_slice(), &count.to_le_bytes(), &digest].concat();
        file.write_all_at(&[table.as_slice(), &mark, &footer].concat(), start)
    }
}

/// Where the footer begins, and it: unchecked.
fn footer(source: &dyn ReadAt, length: u64) -> io::Result<(u64, Vec<u8>)> {
    let mut end = [0; END_BYTES];
    let end_at = length.checked_sub(END_BYTES as u64).ok_or_else(|| damaged("too short"))?;
    source.read_exact_at(&mut end, end_at)?;
    let [a, b, c, d, magic @ ..] = end;
    let footer_bytes = u32::from_le_bytes([a, b, c, d]);
    if &magic != b"PAR1" || footer_bytes > FOOTER_BYTES_MAX {
        return Err(damaged("its end"));
    }
    let start = end_at.checked_sub(u64::from(footer_bytes)).ok_or_else(|| damaged("its end"))?;
    let mut footer = vec![0; footer_bytes as usize + END_BYTES];
    source.read_exact_at(&mut footer, start)?;
    Ok((start, footer))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the file is damaged, or was not written here: {what}"))
}

/// A file whose bytes are checked before they are given.
#[derive(Clone)]
pub(crate) struct Sealed {
    inner: Arc<Inner>,
}

struct Inner {
    source: Box<dyn ReadAt + Send + Sync>,
    seal: Seal,
    length: u64,
    /// Where the blocks end.
    blocks_end: u64,
    table: Vec<u8>,
    footer_at: u64,
    footer: Bytes,
    /// The block that was checked last: columns are read one after the other, and are shorter.
    last: Mutex<Option<(u64, Bytes)>>,
}

impl Sealed {
    /// Opens a file of so many bytes.
    ///
    /// # Errors
    /// It cannot be read, or its seal is broken.
    pub(crate) fn open(source: Box<dyn ReadAt + Send + Sync>, length: u64, seal: Seal) -> io::Result<Self> {
        let (footer_at, footer) = footer(source.as_ref(), length)?;
        let broken = || damaged("its seal");
        let mark_at = footer_at.checked_sub(MARK_BYTES as u64).ok_or_else(broken)?;
        let mut mark = [0; MARK_BYTES];
        source.read_exact_at(&mut mark, mark_at)?;
        let rest = mark.strip_prefix(MAGIC.as_slice()).ok_or_else(broken)?;
        let (count, digest) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        let table_bytes = u64::from(u32::from_le_bytes(*count)) * DIGEST_BYTES as u64;
        let blocks_end = mark_at.checked_sub(table_bytes).ok_or_else(broken)?;
        // Before so much memory is taken: there are as many digests as there are blocks.
        if blocks_end.div_ceil(BLOCK_BYTES) != u64::from(u32::from_le_bytes(*count)) {
            return Err(broken());
        }
        let mut table = vec![0; usize::try_from(table_bytes).map_err(|_| broken())?];
        source.read_exact_at(&mut table, blocks_end)?;
        if seal.digest(u64::MAX, &[&blocks_end.to_le_bytes(), &table, count, &footer]) != *digest {
            return Err(broken());
        }
        let (footer, last) = (footer.into(), Mutex::new(None));
        Ok(Self { inner: Arc::new(Inner { source, seal, length, blocks_end, table, footer_at, footer, last }) })
    }

    /// A block, which was checked.
    fn block(&self, number: u64) -> io::Result<Bytes> {
        let inner = &self.inner;
        let mut last = inner.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = last.as_ref().filter(|(at, _)| *at == number) {
            return Ok(bytes.clone());
        }
        let from = number.saturating_mul(BLOCK_BYTES);
        let length = inner.blocks_end.saturating_sub(from).min(BLOCK_BYTES);
        let mut bytes = BytesMut::zeroed(usize::try_from(length).unwrap_or(0));
        inner.source.read_exact_at(&mut bytes, from)?;
        let place = usize::try_from(number).unwrap_or(usize::MAX).saturating_mul(DIGEST_BYTES);
        let expected = inner.table.get(place..place.saturating_add(DIGEST_BYTES));
        if expected != Some(inner.seal.digest(number, &[&bytes]).as_slice()) {
            return Err(damaged(&format!("between the bytes {from} and {}", from + length)));
        }
        let bytes = bytes.freeze();
        *last = Some((number, bytes.clone()));
        Ok(bytes)
    }

    /// What there is from `start` to the end of its block, or of the footer.
    fn piece(&self, start: u64) -> io::Result<Bytes> {
        let inner = &self.inner;
        let from = |bytes: &Bytes, at: u64| {
            let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            bytes.slice(at..)
        };
        if start < inner.blocks_end {
            return Ok(from(&self.block(start / BLOCK_BYTES)?, start % BLOCK_BYTES));
        }
        let at = start.checked_sub(inner.footer_at).ok_or_else(|| damaged("its footer"))?;
        Ok(from(&inner.footer, at))
    }
}

impl Length for Sealed {
    fn len(&self) -> u64 {
        self.inner.length
    }
}

impl ChunkReader for Sealed {
    type T = Pieces;

    fn get_read(&self, start: u64) -> Result<Pieces> {
        Ok(Pieces { sealed: self.clone(), position: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let failed = |error: io::Error| ParquetError::External(Box::new(error));
        let first = self.piece(start).map_err(failed)?;
        if length <= first.len() {
            return Ok(first.slice(..length));
        }
        // Not more than there is in the file, whatever is asked for.
        if start.saturating_add(length as u64) > self.inner.length {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut bytes = BytesMut::with_capacity(length);
        let mut piece = first;
        loop {
            let wanted = length - bytes.len();
            bytes.extend_from_slice(piece.get(..wanted.min(piece.len())).unwrap_or_default());
            if bytes.len() == length {
                return Ok(bytes.freeze());
            }
            if piece.is_empty() {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
            piece = self.piece(start + bytes.len() as u64).map_err(failed)?;
        }
    }
}

/// Reads on from a place.
pub(crate) struct Pieces {
    sealed: Sealed,
    position: u64,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.sealed.piece(self.position)?;
        let length = into.len().min(piece.len());
        if let (Some(into), Some(piece)) = (into.get_mut(..length), piece.get(..length)) {
            into.copy_from_slice(piece);
        }
        self.position += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use inborn_identity::InstanceId;
    use inborn_telemetry::{ClassUid, Record};
    use proptest::prelude::*;

    use super::super::read::{Wanted, read};
    use super::super::write::Writer;
    use super::*;

    const KEY: Key = [5; 32];
    const NAME: &str = "a-file.parquet";

    impl ReadAt for Vec<u8> {
        fn read_exact_at(&self, bytes: &mut [u8], position: u64) -> io::Result<()> {
            self.as_slice().read_exact_at(bytes, position)
        }
    }

    /// A file of several row groups and blocks, and the uids of its events.
    fn file() -> (Vec<u8>, Vec<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = Writer::new(file.reopen().unwrap(), ClassUid(9), Seal::new(&KEY, NAME)).unwrap();
        let mut uids = Vec::new();
        let mut number = 1_u64;
        for time_ms in 0..24 {
            let text: String = (0..20_000)
                .map(|_| {
                    number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    char::from(b'a' + u8::try_from(number >> 60).unwrap())
                })
                .collect();
            let json = serde_json::json!({"message": text}).to_string().into();
            let uid = format!("u{time_ms}");
            let record = Record { uid: uid.as_str().into(), time_ms, class: ClassUid(9), json };
            writer.push(InstanceId::from_bytes([7; 9]), record).unwrap();
            uids.push(uid);
        }
        writer.finish().unwrap();
        (std::fs::read(file.path()).unwrap(), uids)
    }

    /// The uids of what is read before an error, if there is one.
    fn uids(bytes: Vec<u8>, seal: Seal) -> (Vec<String>, io::Result<()>) {
        let mut found = Vec::new();
        let length = bytes.len() as u64;
        let wanted = Wanted { first_ms: i64::MIN, last_ms: i64::MAX, instances: &[InstanceId::from_bytes([7; 9])] };
        let outcome = Sealed::open(Box::new(bytes), length, seal).and_then(|sealed| {
            read(sealed, &wanted, false, &mut |_, _| true, &mut |one| found.push(one.uid.to_string()))
        });
        (found, outcome)
    }

    #[test]
    fn a_sealed_file_is_read_by_us_and_is_parquet_to_others() {
        let (bytes, expected) = file();
        assert!(bytes.len() as u64 > 2 * BLOCK_BYTES, "{}", bytes.len());
        let (found, outcome) = uids(bytes.clone(), Seal::new(&KEY, NAME));
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(found, expected);
        let reader = parquet::file::serialized_reader::SerializedFileReader::new(Bytes::from(bytes)).unwrap();
        let rows = parquet::file::reader::FileReader::metadata(&reader).file_metadata().num_rows();
        assert_eq!(rows, 24);
    }

    #[test]
    fn a_file_of_another_lake_or_in_the_place_of_another_is_none() {
        let (bytes, _) = file();
        for seal in [Seal::new(&[6; 32], NAME), Seal::new(&KEY, "b-file.parquet")] {
            let (found, outcome) = uids(bytes.clone(), seal);
            assert_eq!((found.len(), outcome.unwrap_err().kind()), (0, io::ErrorKind::InvalidData));
        }
    }

    /// Nothing but an end that tells of a footer of so many bytes.
    struct End(u32);

    impl ReadAt for End {
        fn read_exact_at(&self, bytes: &mut [u8], _: u64) -> io::Result<()> {
            if bytes.len() == END_BYTES {
                bytes.copy_from_slice(&[self.0.to_le_bytes(), *b"PAR1"].concat());
            }
            Ok(())
        }
    }

    #[test]
    fn a_footer_longer_than_may_be_is_not_read() {
        for (length, good) in [(FOOTER_BYTES_MAX - 1, true), (FOOTER_BYTES_MAX, true), (FOOTER_BYTES_MAX + 1, false)] {
            assert_eq!(footer(&End(length), 1 << 40).is_ok(), good, "{length}");
        }
    }

    /// Every byte of the last kilobytes and some of all others: what is read is what was written, or an error.
    #[test]
    fn no_flipped_byte_is_read_or_panics() {
        let (bytes, expected) = file();
        let end = bytes.len();
        let all = (0..end).step_by(9_973).chain((end - 3000..end).step_by(7)).chain(end - 40..end);
        for at in all {
            let mut changed = bytes.clone();
            changed[at] ^= 0x41;
            let (found, outcome) = uids(changed, Seal::new(&KEY, NAME));
            // A few bytes are of columns that nobody asked for.
            assert!(expected.starts_with(&found), "byte {at}");
            assert!(outcome.is_err() || found == expected, "byte {at}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn no_bytes_are_a_sealed_file(
            mut bytes in prop::collection::vec(any::<u8>(), 0..400), footer in 0_u32..400, parquet in any::<bool>(),
        ) {
            if parquet {
                bytes.extend_from_slice(MAGIC);
                bytes.extend_from_slice(&footer.to_le_bytes());
                bytes.extend_from_slice(b"PAR1");
            }
            let length = bytes.len() as u64;
            prop_assert!(Sealed::open(Box::new(bytes), length, Seal::new(&KEY, NAME)).is_err());
        }

        #[test]
        fn a_file_that_was_cut_or_overwritten_is_said(
            cut in any::<prop::sample::Index>(), with in prop::collection::vec(any::<u8>(), 1..64), is_cut in any::<bool>(),
        ) {
            let (bytes, expected) = FILE.with(Clone::clone);
            let mut changed = bytes.clone();
            let at = cut.index(bytes.len());
            if is_cut {
                changed.truncate(at);
            } else {
                for (place, byte) in changed.iter_mut().skip(at).zip(&with) {
                    *place = *byte;
                }
            }
            let (found, outcome) = uids(changed.clone(), Seal::new(&KEY, NAME));
            prop_assert!(expected.starts_with(&found));
            prop_assert!(changed == bytes || outcome.is_err() || found == expected);
            prop_assert!(!is_cut || outcome.is_err());
        }
    }

    thread_local! {
        static FILE: (Vec<u8>, Vec<String>) = file();
    }
}
