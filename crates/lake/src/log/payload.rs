//! What a frame holds: events of one source as bytes, compressed.

use std::io;

use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_telemetry::{Batch, ClassUid, Record, Source};

use crate::settings::RECORD_BYTES_MAX;

/// A batch is cut into frames of about so many bytes: what a reader has in memory at once.
pub(crate) const FRAME_RAW_BYTES: usize = 1 << 20;

/// The longest payload: one event more than was aimed for, with its uid.
pub(crate) const FRAME_RAW_BYTES_MAX: usize = FRAME_RAW_BYTES + 2 * RECORD_BYTES_MAX + 4096;

/// Parquet compresses it again soon. Level 1 makes a log two thirds as long, and takes twice as long for it, which was a quarter
/// of what a record costs on its way in.
const LEVEL: i32 = -5;

/// The form of the bytes below.
const FORM: u8 = 1;

/// Writes payloads, with buffers that are used again.
pub(crate) struct Encoder {
    raw: Vec<u8>,
    stored: Vec<u8>,
    zstd: zstd::bulk::Compressor<'static>,
}

/// One payload, as long as the encoder is not used again.
pub(crate) struct Encoded<'a> {
    pub(crate) stored: &'a [u8],
    pub(crate) raw: usize,
}

impl Encoder {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { raw: Vec::new(), stored: Vec::new(), zstd: zstd::bulk::Compressor::new(LEVEL)? })
    }

    /// Begins a payload.
    pub(crate) fn begin(&mut self, source: &Source, received_at: UnixTime) {
        self.raw.clear();
        self.raw.push(FORM);
        self.raw.extend_from_slice(&source.account.number().to_le_bytes());
        self.raw.extend_from_slice(&source.instance.to_bytes());
        self.put(source.region.as_str().as_bytes());
        self.raw.extend_from_slice(&received_at.as_secs().to_le_bytes());
    }

    /// Adds an event.
    pub(crate) fn record(&mut self, record: &Record) {
        self.raw.extend_from_slice(&record.class.0.to_le_bytes());
        self.raw.extend_from_slice(&record.time_ms.to_le_bytes());
        self.put(record.uid.as_bytes());
        self.put(record.json.as_bytes());
    }

    /// Bytes so far.
    pub(crate) fn length(&self) -> usize {
        self.raw.len()
    }

    /// Ends it.
    pub(crate) fn finish(&mut self) -> io::Result<Encoded<'_>> {
        self.stored.clear();
        self.stored.reserve(zstd::zstd_safe::compress_bound(self.raw.len()));
        self.zstd.compress_to_buffer(&self.raw, &mut self.stored)?;
        Ok(Encoded { stored: &self.stored, raw: self.raw.len() })
    }

    /// Texts are bounded by `RECORD_BYTES_MAX`, far below what the length can say.
    fn put(&mut self, text: &[u8]) {
        self.raw.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.raw.extend_from_slice(text);
    }
}

/// Reads payloads.
pub(crate) struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
}

impl Decoder {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Decompressor::new()? })
    }

    /// The events of a payload whose CRC was right. `None`: it is none of ours.
    pub(crate) fn decode(&mut self, stored: &[u8], raw: u32) -> Option<Batch> {
        let raw = self.zstd.decompress(stored, raw as usize).ok()?;
        batch(&raw)
    }
}

/// The events of a payload that was decompressed.
fn batch(raw: &[u8]) -> Option<Batch> {
    let ([FORM], rest) = raw.split_first_chunk::<1>()? else { return None };
    let (account, rest) = rest.split_first_chunk::<8>()?;
    let (instance, mut rest) = rest.split_first_chunk::<{ InstanceId::BYTES }>()?;
    let region = text(&mut rest)?.parse().ok()?;
    let (received_at, mut rest) = rest.split_first_chunk::<8>()?;
    let account = AccountId::new(u64::from_le_bytes(*account)).ok()?;
    let source = Source { account, instance: InstanceId::from_bytes(*instance), region };
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (class, after) = rest.split_first_chunk::<4>()?;
        let (time_ms, after) = after.split_first_chunk::<8>()?;
        rest = after;
        records.push(Record {
            class: ClassUid(u32::from_le_bytes(*class)),
            time_ms: i64::from_le_bytes(*time_ms),
            uid: text(&mut rest)?.into(),
            json: text(&mut rest)?.into(),
        });
    }
    Some(Batch { source, received_at: UnixTime::from_secs(u64::from_le_bytes(*received_at)), records })
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (text, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    core::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let record = (any::<u32>(), any::<i64>(), ".{0,40}", ".{0,200}").prop_map(|(class, time_ms, uid, json)| {
            Record { class: ClassUid(class), time_ms, uid: uid.into(), json: json.into() }
        });
        prop::collection::vec(record, 0..10)
    }

    fn batch_of(records: Vec<Record>) -> Batch {
        let source = Source {
            account: AccountId::new(AccountId::MAX).unwrap(),
            instance: InstanceId::from_bytes([9; InstanceId::BYTES]),
            region: "eu-west-1".parse().unwrap(),
        };
        Batch { source, received_at: UnixTime::from_secs(1_800_000_000), records }
    }

    fn encode(encoder: &mut Encoder, batch: &Batch) -> (Vec<u8>, u32) {
        encoder.begin(&batch.source, batch.received_at);
        batch.records.iter().for_each(|record| encoder.record(record));
        let encoded = encoder.finish().unwrap();
        (encoded.stored.to_vec(), u32::try_from(encoded.raw).unwrap())
    }

    proptest! {
        #[test]
        fn a_batch_comes_back(records in records()) {
            let batch = batch_of(records);
            let (stored, raw) = encode(&mut Encoder::new().unwrap(), &batch);
            prop_assert_eq!(Decoder::new().unwrap().decode(&stored, raw), Some(batch));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), raw in 0_u32..1000) {
            let _ = batch(&bytes);
            let _ = Decoder::new().unwrap().decode(&bytes, raw);
        }

        #[test]
        fn a_payload_that_is_cut_is_none_or_fewer_events(records in records(), cut in any::<prop::sample::Index>()) {
            let whole = batch_of(records);
            let mut encoder = Encoder::new().unwrap();
            encode(&mut encoder, &whole);
            let cut = cut.index(encoder.raw.len());
            if let Some(found) = batch(&encoder.raw[..cut]) {
                prop_assert!(whole.records.starts_with(&found.records));
                prop_assert!(found.records.len() < whole.records.len());
            }
        }
    }

    #[test]
    fn more_than_the_head_says_is_not_decompressed() {
        let (stored, raw) = encode(&mut Encoder::new().unwrap(), &batch_of(Vec::new()));
        assert!(Decoder::new().unwrap().decode(&stored, raw).is_some());
        assert!(Decoder::new().unwrap().decode(&stored, raw - 1).is_none());
    }
}
