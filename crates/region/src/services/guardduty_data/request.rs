//! From the bytes on the wire to events.

use std::sync::Arc;

use inborn_identity::UnixTime;
use inborn_telemetry::{Decoded, Encoding, Foreign, Form, InflateError, Malformed, Source, Stamp, decode, inflate};
use inborn_wire::error::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal::{bad_request, too_large, unavailable, unsupported};
use crate::operation::Upload;
use crate::telemetry::Decoding;

/// A body of more bytes, or one that is compressed, is decoded where it keeps nobody waiting.
const QUICK_BYTES_MAX: usize = 16 * 1024;
const KIBIBYTE: usize = 1024;

/// A request that was decoded.
pub(super) struct Request {
    pub(super) decoded: Decoded,
    /// Its bytes, uncompressed.
    pub(super) bytes: usize,
    /// The memory that its events take.
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

/// What each event of a request is stamped with.
#[derive(Clone)]
pub(super) struct Marks {
    pub(super) source: Source,
    pub(super) received_at: UnixTime,
    pub(super) foreign: Foreign,
}

/// Inflates and decodes a body, within the memory that all of them share.
pub(super) async fn read(upload: &Upload, marks: Marks, decoding: &Decoding) -> Result<Request, Problem> {
    let form = form(upload)?;
    let encoding = Encoding::of(&upload.content_encoding, &upload.body).map_err(not_inflated)?;
    let body = upload.body.clone();
    let memory = Arc::clone(&decoding.memory);
    let work = move || read_at_once(form, encoding, &body, &marks, &memory);
    if encoding == Encoding::Identity && upload.body.len() <= QUICK_BYTES_MAX {
        return work();
    }
    let turn = Arc::clone(&decoding.turns).acquire_owned().await.map_err(|_| Problem::Internal)?;
    let in_turn = move || {
        let request = work();
        drop(turn);
        request
    };
    tokio::task::spawn_blocking(in_turn).await.unwrap_or_else(|error| {
        tracing::error!(%error, "telemetry could not be decoded");
        Err(Problem::Internal)
    })
}

fn read_at_once(
    form: Form,
    encoding: Encoding,
    body: &[u8],
    marks: &Marks,
    memory: &Arc<Semaphore>,
) -> Result<Request, Problem> {
    // What is inflated is needed no longer than until it is decoded.
    let mut passing = Room::of(memory);
    let mut room = Room::of(memory);
    let inflated = inflate(body, encoding, &mut |bytes| passing.take(bytes)).map_err(not_inflated)?;
    let Marks { source, received_at, foreign } = marks;
    let stamp = Stamp { source, received_at: *received_at, sha256: inborn_sigv4::sha256, foreign: *foreign };
    let decoded = decode(form, &inflated, &stamp, &mut |bytes| room.take(bytes)).map_err(not_decoded)?;
    Ok(Request { decoded, bytes: inflated.len(), room })
}

/// Memory that a request has taken; given back when this is dropped.
pub(super) struct Room {
    memory: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Room {
    fn of(memory: &Arc<Semaphore>) -> Self {
        Self { memory: Arc::clone(memory), taken: None }
    }

    /// Takes memory for so many bytes more, if there is any.
    fn take(&mut self, bytes: usize) -> bool {
        let kibibytes = u32::try_from(bytes.div_ceil(KIBIBYTE)).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&self.memory).try_acquire_many_owned(kibibytes) else { return false };
        match self.taken.as_mut() {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        true
    }
}

fn not_decoded(malformed: Malformed) -> Problem {
    match malformed {
        Malformed::Syntax(_) => bad_request(&malformed.to_string()),
        Malformed::TooMany | Malformed::TooLarge => too_large(&malformed.to_string()),
        Malformed::NoRoom => no_room(),
    }
}

fn no_room() -> Problem {
    unavailable("Too much telemetry is being decoded.")
}

fn not_inflated(error: InflateError) -> Problem {
    let message = error.to_string();
    match error {
        InflateError::Unknown => unsupported(&message),
        InflateError::Corrupt => bad_request(&message),
        InflateError::TooLarge | InflateError::Ratio => too_large(&message),
        InflateError::NoRoom => no_room(),
    }
}
