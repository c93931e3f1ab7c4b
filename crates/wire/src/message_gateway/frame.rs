//! The binary frames: a header of fixed size, the length of the payload, the payload. All numbers are big-endian.

use inborn_sigv4::sha256;

use crate::uuid::Uuid;

/// Bytes of a header, its own length counted and that of the payload not.
pub const HEADER_BYTES: usize = HEADER_LENGTH as usize;
const HEADER_LENGTH: u32 = 116;
/// The longest frame that agents take: the size of their write buffer. They send none that is longer.
pub const FRAME_BYTES_MAX: usize = 142_000;
/// The longest payload that agents send as a reply to a job; they drop longer ones themselves.
pub const REPLY_BYTES_MAX: usize = 120_000;
/// The longest message type.
pub const MESSAGE_TYPE_BYTES_MAX: usize = 32;
/// The schema of the header.
const SCHEMA: u32 = 1;
/// Where the payload begins, after its length.
const PAYLOAD_AT: usize = HEADER_BYTES + 4;

/// One frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// What it is, as in `agent_job`: 1 to [`MESSAGE_TYPE_BYTES_MAX`] bytes of visible ASCII.
    pub message_type: &'a str,
    /// When it was made, in milliseconds since the epoch.
    pub created_ms: u64,
    /// Its place in a stream; 0 where nobody counts.
    pub sequence: i64,
    /// Bit 0: the first of a stream; bit 1: the last.
    pub flags: u64,
    /// Its name.
    pub id: Uuid,
    /// What the payload of a stream is: 1 output, 2 error, 3 size of the terminal, and so on; 0 elsewhere.
    pub payload_type: u32,
    /// The payload.
    pub payload: &'a [u8],
}

/// Why bytes are no frame, or a frame cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// More than [`FRAME_BYTES_MAX`].
    #[error("the frame has more than {FRAME_BYTES_MAX} bytes")]
    TooLong,
    /// Fewer bytes than the header and the length of the payload.
    #[error("the frame ends within its header")]
    TooShort,
    /// The header says that it has another length than headers have.
    #[error("the header of the frame is of unknown length")]
    Header,
    /// The schema is not one that is known.
    #[error("the schema of the frame is not known")]
    Schema,
    /// The message type is empty, too long, or holds something else than visible ASCII.
    #[error("the message type of the frame is not readable")]
    MessageType,
    /// The payload is longer or shorter than the frame says.
    #[error("the payload of the frame is not as long as the frame says")]
    Length,
    /// The payload is not what was digested.
    #[error("the payload of the frame does not have the digest that the frame says")]
    Digest,
}

impl<'a> Frame<'a> {
    /// Reads a frame. Every byte of it is accounted for.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FrameError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong);
        }
        let mut rest = bytes;
        if u32::from_be_bytes(take(&mut rest)?) != HEADER_LENGTH {
            return Err(FrameError::Header);
        }
        let (message_type, after) = rest.split_at_checked(MESSAGE_TYPE_BYTES_MAX).ok_or(FrameError::TooShort)?;
        rest = after;
        let schema = u32::from_be_bytes(take(&mut rest)?);
        let created_ms = u64::from_be_bytes(take(&mut rest)?);
        let sequence = i64::from_be_bytes(take(&mut rest)?);
        let flags = u64::from_be_bytes(take(&mut rest)?);
        let id = swapped(take(&mut rest)?);
        let digest: [u8; 32] = take(&mut rest)?;
        let payload_type = u32::from_be_bytes(take(&mut rest)?);
        let length = u32::from_be_bytes(take(&mut rest)?);
        let payload = rest;
        let message_type = read_type(message_type)?;
        if schema != SCHEMA {
            return Err(FrameError::Schema);
        }
        if payload.len() != length as usize {
            return Err(FrameError::Length);
        }
        if sha256(payload) != digest {
            return Err(FrameError::Digest);
        }
        Ok(Self { message_type, created_ms, sequence, flags, id: Uuid::from_bytes(id), payload_type, payload })
    }

    /// Writes the frame.
    ///
    /// # Errors
    /// [`FrameError::MessageType`], [`FrameError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        if !is_type(self.message_type) {
            return Err(FrameError::MessageType);
        }
        let bytes = PAYLOAD_AT + self.payload.len();
        if bytes > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong);
        }
        let length = u32::try_from(self.payload.len()).map_err(|_| FrameError::TooLong)?;
        let mut frame = Vec::with_capacity(bytes);
        frame.extend(HEADER_LENGTH.to_be_bytes());
        frame.extend(self.message_type.bytes());
        frame.resize(4 + MESSAGE_TYPE_BYTES_MAX, b' ');
        frame.extend(SCHEMA.to_be_bytes());
        frame.extend(self.created_ms.to_be_bytes());
        frame.extend(self.sequence.to_be_bytes());
        frame.extend(self.flags.to_be_bytes());
        frame.extend(swapped(self.id.to_bytes()));
        frame.extend(sha256(self.payload));
        frame.extend(self.payload_type.to_be_bytes());
        frame.extend(length.to_be_bytes());
        frame.extend(self.payload);
        Ok(frame)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], FrameError> {
    let (first, after) = rest.split_first_chunk::<N>().ok_or(FrameError::TooShort)?;
    *rest = after;
    Ok(*first)
}

/// The two halves of a UUID change places on the wire: the agent writes it as two numbers, the lower one first.
fn swapped(bytes: [u8; 16]) -> [u8; 16] {
    u128::from_be_bytes(bytes).rotate_right(64).to_be_bytes()
}

/// The field is filled up with spaces; some writers use zeros.
fn read_type(field: &[u8]) -> Result<&str, FrameError> {
    let end = field.iter().rposition(|byte| !matches!(byte, b' ' | 0)).map_or(0, |last| last + 1);
    let text = field.get(..end).and_then(|text| core::str::from_utf8(text).ok()).ok_or(FrameError::MessageType)?;
    if is_type(text) { Ok(text) } else { Err(FrameError::MessageType) }
}

fn is_type(text: &str) -> bool {
    (1..=MESSAGE_TYPE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "01234567-89ab-cdef-0011-223344556677";

    fn frame<'a>(message_type: &'a str, payload: &'a [u8]) -> Frame<'a> {
        let id = ID.parse().unwrap();
        Frame { message_type, created_ms: 1_503_434_274_948, sequence: 2, flags: 3, id, payload_type: 1, payload }
    }

    /// Laid out by hand from the description of the format; the digest is that of `sha256sum`.
    #[test]
    fn a_frame_to_the_byte() {
        let mut expected = vec![0, 0, 0, 116];
        expected.extend(b"input_stream_data               ");
        expected.extend([0, 0, 0, 1]);
        expected.extend([0, 0, 1, 94, 11, 170, 120, 132]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 2]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 3]);
        expected.extend([0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
        expected.extend([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        expected.extend((0..32).map(|at| u8::from_str_radix(&digest[2 * at..2 * at + 2], 16).unwrap()));
        expected.extend([0, 0, 0, 1, 0, 0, 0, 3]);
        expected.extend(b"abc");
        let frame = frame("input_stream_data", b"abc");
        assert_eq!(frame.encode().unwrap(), expected);
        assert_eq!(Frame::decode(&expected), Ok(frame));
    }

    #[test]
    fn types_padded_with_zeros_are_read() {
        let mut bytes = frame("agent_job", b"").encode().unwrap();
        bytes[13..36].fill(0);
        assert_eq!(Frame::decode(&bytes).unwrap().message_type, "agent_job");
    }

    #[test]
    fn lengths_below_at_and_above_the_most() {
        let payload = vec![7; FRAME_BYTES_MAX];
        for (bytes, is_good) in [(FRAME_BYTES_MAX - 1, true), (FRAME_BYTES_MAX, true), (FRAME_BYTES_MAX + 1, false)] {
            let encoded = frame("agent_job", &payload[..bytes - PAYLOAD_AT]).encode();
            assert_eq!(encoded.is_ok(), is_good, "{bytes}");
            if let Ok(encoded) = encoded {
                assert_eq!(encoded.len(), bytes);
                assert!(Frame::decode(&encoded).is_ok());
            }
        }
        assert_eq!(Frame::decode(&vec![0; FRAME_BYTES_MAX + 1]), Err(FrameError::TooLong));
        for (length, is_good) in [(0, false), (1, true), (31, true), (32, true), (33, false)] {
            assert_eq!(frame(&"x".repeat(length), b"").encode().is_ok(), is_good, "{length}");
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        let good = frame("agent_job", b"payload").encode().unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(Frame::decode(&with(3, 117)), Err(FrameError::Header));
        assert_eq!(Frame::decode(&with(4, b'\n')), Err(FrameError::MessageType));
        assert_eq!(Frame::decode(&with(4, 0xff)), Err(FrameError::MessageType));
        assert_eq!(Frame::decode(&with(39, 2)), Err(FrameError::Schema));
        assert_eq!(Frame::decode(&with(119, 8)), Err(FrameError::Length));
        assert_eq!(Frame::decode(&with(119, 6)), Err(FrameError::Length));
        assert_eq!(Frame::decode(&with(116, 0xff)), Err(FrameError::Length));
        assert_eq!(Frame::decode(&with(80, !good[80])), Err(FrameError::Digest));
        assert_eq!(Frame::decode(&with(120, b'P')), Err(FrameError::Digest));
        for length in 4..PAYLOAD_AT {
            assert_eq!(Frame::decode(&good[..length]), Err(FrameError::TooShort), "{length}");
        }
        let mut empty = good.clone();
        empty[4..36].fill(b' ');
        assert_eq!(Frame::decode(&empty), Err(FrameError::MessageType));
    }

    proptest! {
        #[test]
        fn frames_and_back(
            message_type in "[!-~]{1,32}",
            (created_ms, sequence, flags, id) in any::<(u64, i64, u64, [u8; 16])>(),
            payload_type in any::<u32>(),
            payload in prop::collection::vec(any::<u8>(), 0..512),
        ) {
            let id = Uuid::from_bytes(id);
            let (message_type, payload) = (message_type.as_str(), payload.as_slice());
            let frame = Frame { message_type, created_ms, sequence, flags, id, payload_type, payload };
            let bytes = frame.encode().unwrap();
            prop_assert_eq!(Frame::decode(&bytes), Ok(frame));
        }

        /// Header length, schema, payload length and payload are all held to account.
        #[test]
        fn one_byte_more_or_less_is_no_frame(payload in prop::collection::vec(any::<u8>(), 1..64), more in any::<u8>()) {
            let mut bytes = frame("agent_job", &payload).encode().unwrap();
            prop_assert!(Frame::decode(&bytes[..bytes.len() - 1]).is_err());
            bytes.push(more);
            prop_assert!(Frame::decode(&bytes).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Frame::decode(&bytes);
        }
    }
}
