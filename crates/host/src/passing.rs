//! Messages between processes of one machine: a line of JSON over a Unix socket, with file descriptors beside it.
//!
//! A descriptor travels with the first byte of its message. Both users of this speak in turns, so descriptors that arrive
//! before a line ends belong to that line.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Descriptors that one message may carry.
pub(crate) const DESCRIPTORS_MAX: usize = 8;
/// Bytes taken from the socket at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// Why a message did not pass.
#[derive(Debug, thiserror::Error)]
pub enum PassingError {
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The other side closed in the middle of a message.
    #[error("the connection ended in the middle of a message")]
    Cut,
    /// The line is longer than its limit.
    #[error("the message is longer than {bytes_max} bytes")]
    TooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// More descriptors than a message may carry.
    #[error("the message carries more than {DESCRIPTORS_MAX} file descriptors")]
    TooManyDescriptors,
    /// Not the JSON that was expected. The text holds no value of the message, only where it went wrong.
    #[error("the message is not understood (column {column})")]
    Malformed {
        /// Where, in bytes from 1.
        column: usize,
    },
}

/// One end of a connection that carries messages.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: UnixStream,
    /// Bytes after the last line.
    pending: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Channel {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, pending: Vec::new(), descriptors: Vec::new() }
    }

    /// Sends `message` as a line, and `descriptors` with it.
    pub(crate) async fn send<M: Serialize>(
        &mut self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), PassingError> {
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(PassingError::TooManyDescriptors);
        }
        let mut line =
            serde_json::to_vec(message).map_err(|error| PassingError::Malformed { column: error.column() })?;
        line.push(b'\n');
        let mut rest = line.as_slice();
        let mut descriptors = descriptors;
        while !rest.is_empty() {
            let sent =
                self.stream.async_io(Interest::WRITABLE, || send_some(self.stream.as_fd(), rest, descriptors)).await?;
            descriptors = &[];
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// The next message, of at most `bytes_max` bytes with its line end, and the descriptors that came with it; nothing
    /// if the other side closed instead.
    pub(crate) async fn receive<M: DeserializeOwned>(
        &mut self,
        bytes_max: usize,
    ) -> Result<Option<(M, Vec<OwnedFd>)>, PassingError> {
        let mut searched = 0;
        let end = loop {
            if let Some(at) = self.pending.iter().skip(searched).position(|byte| *byte == b'\n') {
                break searched + at;
            }
            searched = self.pending.len();
            if searched >= bytes_max {
                return Err(PassingError::TooLong { bytes_max });
            }
            if !self.fill().await? {
                return if searched == 0 { Ok(None) } else { Err(PassingError::Cut) };
            }
        };
        if end >= bytes_max {
            return Err(PassingError::TooLong { bytes_max });
        }
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        let message = serde_json::from_slice(line.trim_ascii_end())
            .map_err(|error| PassingError::Malformed { column: error.column() })?;
        Ok(Some((message, std::mem::take(&mut self.descriptors))))
    }

    /// Waits until the other side closes. Whatever it says meanwhile is read and dropped.
    pub(crate) async fn closed(&mut self) {
        while matches!(self.fill().await, Ok(true)) {
            self.pending.clear();
            self.descriptors.clear();
        }
    }

    /// Takes what has arrived; false at the end of the stream.
    async fn fill(&mut self) -> Result<bool, PassingError> {
        let Self { stream, pending, descriptors } = self;
        let received =
            stream.async_io(Interest::READABLE, || receive_some(stream.as_fd(), pending, descriptors)).await?;
        if descriptors.len() > DESCRIPTORS_MAX {
            descriptors.clear();
            return Err(PassingError::TooManyDescriptors);
        }
        Ok(received > 0)
    }
}

fn send_some(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

fn receive_some(socket: BorrowedFd<'_>, pending: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut chunk = [0; CHUNK_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut chunk)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(arrived) = part {
            descriptors.extend(arrived);
        }
    }
    // The kernel has closed those that did not fit; what is left of such a message is of no use.
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more file descriptors than fit"));
    }
    pending.extend_from_slice(chunk.get(..message.bytes).unwrap_or_default());
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one), Channel::new(other))
    }

    fn descriptors(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| OwnedFd::from(std::fs::File::open("/dev/null").unwrap())).collect()
    }

    #[tokio::test]
    async fn a_message_and_its_descriptors_arrive_together() {
        let (mut one, mut other) = pair();
        let (reader, mut writer) = std::io::pipe().unwrap();
        one.send(&"hello\nworld", &[reader.as_fd()]).await.unwrap();
        let (text, mut received) = other.receive::<String>(64).await.unwrap().unwrap();
        assert_eq!(text, "hello\nworld");
        assert_eq!(received.len(), 1);
        writer.write_all(b"through").unwrap();
        drop((writer, reader));
        let mut read = String::new();
        std::fs::File::from(received.remove(0)).read_to_string(&mut read).unwrap();
        assert_eq!(read, "through");
        drop(one);
        assert!(other.receive::<String>(64).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn lines_below_at_and_above_the_limit() {
        // "…" and the line end: three bytes more than the text.
        for (length, fits) in [(60, true), (61, true), (62, false), (200_000, false)] {
            let (mut one, mut other) = pair();
            let sending = tokio::spawn(async move { one.send(&"x".repeat(length), &[]).await });
            match other.receive::<String>(64).await {
                Ok(Some((text, _))) => assert!(fits && text.len() == length),
                Err(PassingError::TooLong { bytes_max: 64 }) => assert!(!fits, "{length}"),
                unexpected => panic!("{unexpected:?}"),
            }
            drop(other);
            let _ = sending.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_long_message_crosses_in_pieces() {
        let (mut one, mut other) = pair();
        let text = "z".repeat(1_000_000);
        let expected = text.clone();
        let sending = tokio::spawn(async move { one.send(&text, &[]).await });
        let (received, _) = other.receive::<String>(1_000_003).await.unwrap().unwrap();
        assert_eq!(received, expected);
        sending.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn descriptors_below_at_and_above_the_limit() {
        for count in [DESCRIPTORS_MAX - 1, DESCRIPTORS_MAX] {
            let (mut one, mut other) = pair();
            let sent = descriptors(count);
            one.send(&1, &sent.iter().map(AsFd::as_fd).collect::<Vec<_>>()).await.unwrap();
            assert_eq!(other.receive::<u8>(8).await.unwrap().unwrap().1.len(), count);
        }
        let (mut one, _other) = pair();
        let sent = descriptors(DESCRIPTORS_MAX + 1);
        let error = one.send(&1, &sent.iter().map(AsFd::as_fd).collect::<Vec<_>>()).await.unwrap_err();
        assert!(matches!(error, PassingError::TooManyDescriptors));
    }

    #[tokio::test]
    async fn descriptors_in_many_small_portions_are_counted_too() {
        let (one, mut other) = pair();
        let sent = descriptors(DESCRIPTORS_MAX);
        for descriptor in sent.iter().chain(&sent) {
            one.stream.writable().await.unwrap();
            send_some(one.stream.as_fd(), b" ", &[descriptor.as_fd()]).unwrap();
        }
        assert!(matches!(other.receive::<u8>(64).await, Err(PassingError::TooManyDescriptors)));
    }

    #[tokio::test]
    async fn what_is_not_json_is_refused_without_repeating_it() {
        let (one, mut other) = pair();
        one.stream.writable().await.unwrap();
        send_some(one.stream.as_fd(), b"\"secret\n", &[]).unwrap();
        let error = other.receive::<String>(64).await.unwrap_err();
        assert_eq!(error.to_string(), "the message is not understood (column 7)");
        send_some(one.stream.as_fd(), b"12", &[]).unwrap();
        drop(one);
        assert!(matches!(other.receive::<u8>(64).await, Err(PassingError::Cut)));
    }
}
