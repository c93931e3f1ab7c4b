//! From the bytes on the wire to events.

use std::sync::Arc;

use inborn_identity::UnixTime;
use inborn_telemetry::{Decoded, Encoding, Form, InflateError, Malformed, Source, Stamp, decode, inflate};
use inborn_wire::error::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal::{bad_request, too_large, unavailable, unsupported};
use crate::operation::Upload;

/// A body of more bytes, or one that is compressed, is decoded where it keeps nobody waiting.
const QUICK_BYTES_MAX: usize = 16 * 1024;
/// What a byte of a body takes in memory: itself, and its event.
const MEMORY_FACTOR: usize = 3;
const KIBIBYTE: usize = 1024;

/// A request that was decoded.
pub(super) struct Request {
    pub(super) decoded: Decoded,
    /// Its bytes, uncompressed.
    pub(super) bytes: usize,
    /// The memory that it takes until it is written.
    pub(super) room: Room,
}

/// What a request is, by path and type.
pub(super) fn form(upload: &Upload) -> Result<Form, Problem> {
    let media_type = upload.content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match (upload.path, media_type.as_str()) {
        (super::LOGS, "application/x-protobuf") => Ok(Form::OtlpProtobuf),
        (super::LOGS, "application/json") => Ok(Form::OtlpJson),
        (super::LOGS, _) => Err(unsupported("Content-Type must be application/x-protobuf or application/json")),
        (_, "application/json" | "application/x-ndjson" | "application/ndjson" | "application/jsonl") => Ok(Form::Ocsf),
        _ => Err(unsupported("Content-Type must be application/x-ndjson or application/json")),
    }
}

/// Inflates and decodes a body, within the memory that all of them share.
pub(super) async fn read(
    upload: &Upload,
    source: &Source,
    received_at: UnixTime,
    memory: &Arc<Semaphore>,
) -> Result<Request, Problem> {
    let form = form(upload)?;
    let encoding = Encoding::of(&upload.content_encoding, &upload.body).map_err(not_inflated)?;
    let (body, source) = (upload.body.clone(), source.clone());
    let room = Room { memory: Arc::clone(memory), taken: None };
    let work = move || read_at_once(form, encoding, &body, &source, received_at, room);
    if encoding == Encoding::Identity && upload.body.len() <= QUICK_BYTES_MAX {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "telemetry could not be decoded");
        Err(Problem::Internal)
    })
}

fn read_at_once(
    form: Form,
    encoding: Encoding,
    body: &[u8],
    source: &Source,
    received_at: UnixTime,
    mut room: Room,
) -> Result<Request, Problem> {
    if encoding == Encoding::Identity && !room.take(body.len()) {
        return Err(not_inflated(InflateError::NoRoom));
    }
    let inflated = inflate(body, encoding, &mut |bytes| room.take(bytes)).map_err(not_inflated)?;
    let stamp = Stamp { source, received_at, sha256: inborn_sigv4::sha256 };
    let decoded = decode(form, &inflated, &stamp).map_err(|malformed| match malformed {
        Malformed::Syntax(_) => bad_request(&malformed.to_string()),
        Malformed::TooMany => too_large(&malformed.to_string()),
    })?;
    Ok(Request { decoded, bytes: inflated.len(), room })
}

/// Memory that a request has taken; given back when this is dropped.
pub(super) struct Room {
    memory: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Takes memory for so many bytes more, if there is any.
    fn take(&mut self, bytes: usize) -> bool {
        let kibibytes = bytes.saturating_mul(MEMORY_FACTOR).div_ceil(KIBIBYTE);
        let kibibytes = u32::try_from(kibibytes).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&self.memory).try_acquire_many_owned(kibibytes) else { return false };
        match self.taken.as_mut() {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        true
    }
}

fn not_inflated(error: InflateError) -> Problem {
    let message = error.to_string();
    match error {
        InflateError::Unknown => unsupported(&message),
        InflateError::Corrupt => bad_request(&message),
        InflateError::TooLarge | InflateError::Ratio => too_large(&message),
        InflateError::NoRoom => unavailable("Too much telemetry is being decoded."),
    }
}
