//! The two streams of a session: numbered pieces, each acknowledged by the other side, and sent again if it is not.

use std::collections::{BTreeMap, VecDeque};

use inborn_wire::message_gateway::payload::{ACKNOWLEDGE, INPUT_STREAM_DATA};
use inborn_wire::message_gateway::{Frame, FrameError};
use inborn_wire::uuid::Uuid;
use serde_json::json;

/// Pieces that wait to be acknowledged, and that wait for an earlier one: beyond that nothing is read.
pub(super) const PIECES_MAX: usize = 256;

/// What goes to the agent.
#[derive(Default)]
pub(super) struct Outgoing {
    next: i64,
    waiting: VecDeque<(i64, Vec<u8>)>,
}

impl Outgoing {
    /// Whether nothing more should be sent before something is acknowledged.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= PIECES_MAX
    }

    /// The next piece, as a frame to be sent.
    pub(super) fn piece(
        &mut self,
        payload_type: u32,
        payload: &[u8],
        id: Uuid,
        created_ms: u64,
    ) -> Result<Vec<u8>, FrameError> {
        let sequence = self.next;
        let message_type = INPUT_STREAM_DATA;
        let frame = Frame { message_type, created_ms, sequence, flags: 0, id, payload_type, payload }.encode()?;
        self.next += 1;
        self.waiting.push_back((sequence, frame.clone()));
        Ok(frame)
    }

    /// The other side has this piece.
    pub(super) fn acknowledged(&mut self, sequence: i64) {
        self.waiting.retain(|(waiting, _)| *waiting != sequence);
    }

    /// The piece that has waited longest.
    pub(super) fn oldest(&self) -> Option<&(i64, Vec<u8>)> {
        self.waiting.front()
    }
}

/// What comes from the agent: in order, each piece once.
#[derive(Default)]
pub(super) struct Incoming {
    next: i64,
    early: BTreeMap<i64, (u32, Vec<u8>)>,
}

impl Incoming {
    /// Takes a piece. Gives whether it is to be acknowledged, and what is ready by it: types and payloads.
    pub(super) fn take(&mut self, frame: &Frame<'_>) -> (bool, Vec<(u32, Vec<u8>)>) {
        if frame.sequence < self.next {
            // The acknowledgement got lost.
            return (true, Vec::new());
        }
        if self.early.len() >= PIECES_MAX && frame.sequence != self.next {
            return (false, Vec::new());
        }
        self.early.insert(frame.sequence, (frame.payload_type, frame.payload.to_vec()));
        let mut ready = Vec::new();
        while let Some(piece) = self.early.remove(&self.next) {
            ready.push(piece);
            self.next += 1;
        }
        (true, ready)
    }
}

/// The frame that acknowledges a piece.
pub(super) fn acknowledgement(piece: &Frame<'_>, id: Uuid, created_ms: u64) -> Result<Vec<u8>, FrameError> {
    let said = json!({
        "AcknowledgedMessageType": piece.message_type,
        "AcknowledgedMessageId": piece.id.to_string(),
        "AcknowledgedMessageSequenceNumber": piece.sequence,
        "IsSequentialMessage": true,
    });
    let payload = said.to_string();
    let (message_type, payload) = (ACKNOWLEDGE, payload.as_bytes());
    Frame { message_type, created_ms, sequence: 0, flags: 3, id, payload_type: 0, payload }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(sequence: i64) -> Vec<u8> {
        let id = Uuid::from_bytes([1; 16]);
        let payload = sequence.to_be_bytes();
        let message_type = "output_stream_data";
        Frame { message_type, created_ms: 1, sequence, flags: 0, id, payload_type: 1, payload: &payload }
            .encode()
            .unwrap()
    }

    /// Every order of five pieces, with one that comes twice.
    #[test]
    fn pieces_come_in_order_and_once_however_they_arrive() {
        let mut orders = vec![vec![]];
        for next in 0..5_i64 {
            orders = orders
                .into_iter()
                .flat_map(|order: Vec<i64>| {
                    (0..=order.len()).map(move |at| [&order[..at], &[next], &order[at..]].concat())
                })
                .collect();
        }
        assert_eq!(orders.len(), 120);
        for order in orders {
            let mut incoming = Incoming::default();
            let mut got = Vec::new();
            for sequence in order.iter().chain(&order[..1]) {
                let bytes = piece(*sequence);
                let (is_acknowledged, ready) = incoming.take(&Frame::decode(&bytes).unwrap());
                assert!(is_acknowledged);
                got.extend(ready.into_iter().map(|(_, payload)| i64::from_be_bytes(payload.try_into().unwrap())));
            }
            assert_eq!(got, [0, 1, 2, 3, 4], "{order:?}");
        }
    }

    #[test]
    fn early_pieces_below_at_and_above_the_most() {
        let mut incoming = Incoming::default();
        let mut take = |sequence| incoming.take(&Frame::decode(&piece(sequence)).unwrap());
        for sequence in 1..=i64::try_from(PIECES_MAX).unwrap() {
            assert_eq!(take(sequence), (true, vec![]), "{sequence}");
        }
        assert!(!take(10_000).0);
        let (is_acknowledged, ready) = take(0);
        assert!(is_acknowledged && ready.len() == PIECES_MAX + 1);
        assert!(take(10_000).0);
    }

    #[test]
    fn what_is_not_acknowledged_waits() {
        let mut outgoing = Outgoing::default();
        let id = Uuid::from_bytes([2; 16]);
        for nth in 0..PIECES_MAX {
            assert!(!outgoing.is_full(), "{nth}");
            outgoing.piece(1, b"x", id, 1).unwrap();
        }
        assert!(outgoing.is_full());
        outgoing.acknowledged(1);
        assert!(!outgoing.is_full());
        assert_eq!(outgoing.oldest().map(|(sequence, _)| *sequence), Some(0));
        outgoing.acknowledged(0);
        let (sequence, frame) = outgoing.oldest().unwrap();
        assert_eq!((*sequence, Frame::decode(frame).unwrap().sequence), (2, 2));
    }
}
