//! The file: a first line, frames under gzip, and the SHA-256 of all of it.
//!
//! The checksum is compared before anything in the file is believed. It finds damage, not forgery: who can write the file can
//! write the checksum.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Take, Write};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use super::catalogue::TABLES;
use super::error::DumpError;
use super::frames::{FrameReader, FrameWriter, Part};
use super::rows::{Pages, Snapshot, Summary};
use super::{About, Origin};

/// The first line of a file. A later form has another number.
pub const MAGIC: &[u8] = b"inborn-store-backup 1\n";
/// What the first line of every form begins with.
const MAGIC_OF_ALL: &[u8] = b"inborn-store-backup ";
/// How much is read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Writes, and sums up what is written.
struct Summing<W> {
    out: W,
    digest: Context,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Writes one moment of a store to a file; `program` is the version of the one that does.
///
/// # Errors
/// The store's, the writer's; a row that is too long.
pub async fn dump<W: Write + Send>(
    from: &mut dyn Snapshot,
    program: &str,
    made_at: inborn_identity::UnixTime,
    out: W,
) -> Result<Summary, DumpError> {
    let about = About { catalogue: super::CATALOGUE, program: program.to_owned(), origin: from.origin(), made_at };
    let mut out = Summing { out, digest: Context::new(&SHA256) };
    out.write_all(MAGIC)?;
    let mut frames = FrameWriter::begin(GzEncoder::new(out, Compression::default()), about)?;
    for table in TABLES {
        frames.table(table)?;
        let mut pages = Pages::of(table);
        while let Some(rows) = pages.next(from).await? {
            rows.iter().try_for_each(|row| frames.row(row))?;
        }
    }
    let (compressed, summary) = frames.end()?;
    let Summing { mut out, digest } = compressed.finish()?;
    out.write_all(digest.finish().as_ref())?;
    out.flush()?;
    Ok(summary)
}

/// A file whose checksum is right.
pub struct DumpFile<R: Read> {
    frames: FrameReader<GzDecoder<BufReader<Take<R>>>>,
}

impl<R: Read + Seek> DumpFile<R> {
    /// Reads all of the file and compares its checksum, then its beginning.
    ///
    /// # Errors
    /// `NotADump`, `Cut`, `Damaged`, `Newer`, `Malformed`, the reader's.
    pub fn open(mut file: R) -> Result<Self, DumpError> {
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        let magic_length = MAGIC.len() as u64;
        let mut magic = Vec::new();
        file.by_ref().take(magic_length).read_to_end(&mut magic)?;
        if magic != MAGIC {
            // The first line of a later form, of which the number is all that can be read.
            let number = magic.strip_prefix(MAGIC_OF_ALL).map(<[u8]>::trim_ascii_end);
            let number = number.and_then(|bytes| core::str::from_utf8(bytes).ok()).and_then(|text| text.parse().ok());
            return Err(number.map_or(DumpError::NotADump, |found| DumpError::Newer { found, known: 1 }));
        }
        let body = length.checked_sub(magic_length + SHA256_OUTPUT_LEN as u64).ok_or(DumpError::Cut)?;
        let mut digest = Context::new(&SHA256);
        digest.update(MAGIC);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut rest = file.by_ref().take(body);
        loop {
            let count = rest.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            digest.update(buffer.get(..count).unwrap_or_default());
        }
        let mut said = [0; SHA256_OUTPUT_LEN];
        file.read_exact(&mut said)?;
        if digest.finish().as_ref() != said {
            // What is cut off has no checksum at its end: the bytes there are of the middle.
            file.seek(SeekFrom::Start(magic_length))?;
            let whole = length - magic_length;
            return Err(if is_cut(BufReader::new(file.take(whole))) { DumpError::Cut } else { DumpError::Damaged });
        }
        file.seek(SeekFrom::Start(magic_length))?;
        let input = BufReader::with_capacity(BUFFER_BYTES, file.take(body));
        Ok(Self { frames: FrameReader::open(GzDecoder::new(input))? })
    }

    /// What the file says of itself.
    #[must_use]
    pub const fn about(&self) -> &About {
        self.frames.about()
    }

    /// Its frames.
    pub const fn frames(&mut self) -> &mut FrameReader<GzDecoder<BufReader<Take<R>>>> {
        &mut self.frames
    }

    /// Reads all of it once, as [`super::load`] would, and asks each row of a table; for what has to be known beforehand.
    ///
    /// # Errors
    /// What no program writes; the reader's.
    pub fn look_through(mut self, mut ask: impl FnMut(&'static str, &super::Row)) -> Result<Origin, DumpError> {
        let mut table = "";
        while let Some(part) = self.frames.next_part()? {
            match part {
                Part::Table(of) => table = of.name,
                Part::Row(row) => ask(table, &row),
            }
        }
        let origin = self.frames.about().origin.clone();
        // The decoder compares its own checksum when it comes to the end of its part, which must be all there is.
        let mut decoder = self.frames.into_input();
        if decoder.read(&mut [0])? != 0 || !decoder.into_inner().fill_buf()?.is_empty() {
            return Err(DumpError::Malformed("something follows its end"));
        }
        Ok(origin)
    }
}

/// Whether compressed bytes end before their end, or the checksum behind them does.
fn is_cut(input: impl BufRead) -> bool {
    let mut decoder = GzDecoder::new(input);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => {
                let mut rest = Vec::new();
                let read = decoder.into_inner().take(SHA256_OUTPUT_LEN as u64).read_to_end(&mut rest);
                return read.is_ok_and(|count| count < SHA256_OUTPUT_LEN);
            }
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::UnexpectedEof,
        }
    }
}
