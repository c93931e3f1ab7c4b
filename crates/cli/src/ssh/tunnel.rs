//! `inborn open-tunnel`: a TCP connection to a machine, carried over standard input and output.

use anyhow::{Context, bail};
use bytes::BytesMut;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::arguments::OpenTunnel;
use crate::operator::Operator;
use crate::output::printable;

/// Bytes that are sent in one message; the region takes no more than 65000.
const WINDOW_BYTES: usize = 32 * 1024;

pub(crate) async fn open_tunnel(arguments: &OpenTunnel) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let machine = operator.machine(&arguments.machine).await?;
    if machine.state != "running" {
        bail!("{} is {}: only a running machine can be reached", arguments.machine, machine.state);
    }
    let stream = operator.open_tunnel(&machine, arguments.port).await?;
    let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    carry(socket, tokio::io::stdin(), tokio::io::stdout()).await
}

/// Carries bytes until one of both sides has ended.
async fn carry<S>(
    socket: WebSocketStream<S>,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (to_region, from_region) = socket.split();
    let farewell = {
        let sending = send(input, to_region);
        let receiving = receive(from_region, output);
        tokio::pin!(receiving);
        tokio::select! {
            farewell = &mut receiving => farewell?,
            // The region says farewell too, once all is with the machine.
            sent = sending => {
                sent?;
                receiving.await?
            }
        }
    };
    match farewell {
        Some(CloseFrame { code: CloseCode::Normal, .. }) => Ok(()),
        Some(CloseFrame { reason, .. }) => bail!("the tunnel was closed: {}", printable(&reason)),
        None => bail!("the tunnel broke off: is `inborn up` still running?"),
    }
}

async fn send(
    mut input: impl AsyncRead + Unpin,
    mut to_region: impl Sink<Message, Error = SocketError> + Unpin,
) -> anyhow::Result<()> {
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(WINDOW_BYTES);
        let window = bytes.spare_capacity_mut().len().min(WINDOW_BYTES);
        let read = (&mut input).take(u64::try_from(window)?).read_buf(&mut bytes).await;
        if read.context("cannot read standard input")? == 0 {
            let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            // A region that has closed already has said why.
            let _ = to_region.send(Message::Close(Some(frame))).await;
            return Ok(());
        }
        if to_region.send(Message::Binary(bytes.split().freeze())).await.is_err() {
            return Ok(());
        }
    }
}

/// What the region said last.
async fn receive(
    mut from_region: impl Stream<Item = Result<Message, SocketError>> + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> anyhow::Result<Option<CloseFrame>> {
    loop {
        match from_region.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                output.write_all(&bytes).await.context("cannot write standard output")?;
                output.flush().await.context("cannot write standard output")?;
            }
            Some(Ok(Message::Close(frame))) => return Ok(frame),
            Some(Ok(Message::Text(_))) => bail!("the region sent a text, which no tunnel carries"),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(_)) | None => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(4096);
        let region = WebSocketStream::from_raw_socket(theirs, Role::Server, None);
        tokio::join!(WebSocketStream::from_raw_socket(ours, Role::Client, None), region)
    }

    #[tokio::test]
    async fn what_comes_in_goes_out_and_messages_fit() {
        let (ours, mut region) = pair().await;
        let input: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut output = Vec::new();
        let carrying = carry(ours, input.as_slice(), &mut output);
        let echo = async {
            let mut all = Vec::new();
            while let Some(Ok(message)) = region.next().await {
                if let Message::Binary(bytes) = message {
                    assert!(bytes.len() <= WINDOW_BYTES);
                    all.extend_from_slice(&bytes);
                    region.send(Message::Binary(bytes)).await.unwrap();
                }
            }
            all
        };
        let (carried, got) = tokio::join!(carrying, echo);
        carried.unwrap();
        assert!(got == input && output == input);
    }

    #[tokio::test]
    async fn the_reason_of_an_end_is_told() {
        for (code, reason, said) in
            [(CloseCode::Normal, "", None), (CloseCode::Away, "It is gone", Some("the tunnel was closed: It is gone"))]
        {
            let (ours, mut region) = pair().await;
            let (input, _open) = tokio::io::duplex(16);
            let closing = async {
                region.close(Some(CloseFrame { code, reason: reason.into() })).await.unwrap();
                while region.next().await.is_some() {}
            };
            let (carried, ()) = tokio::join!(carry(ours, input, Vec::new()), closing);
            assert_eq!(carried.err().map(|error| error.to_string()).as_deref(), said);
        }
        let (ours, region) = pair().await;
        drop(region);
        let (input, _open) = tokio::io::duplex(16);
        assert!(carry(ours, input, Vec::new()).await.unwrap_err().to_string().contains("broke off"));
    }
}
