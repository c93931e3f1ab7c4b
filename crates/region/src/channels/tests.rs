//! The registry of channels, without sockets: whatever happens in whatever order, the newest channel of a machine is the one.

use std::collections::HashMap;

use inborn_credential::{Delivery, Kind};
use inborn_identity::{AccountId, UnixTime};
use proptest::prelude::*;

use super::*;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn claims(number: u8, issued_at: u64) -> Arc<Claims> {
    Arc::new(Claims {
        kind: Kind::Management { role: "R".parse().unwrap(), role_id: "AROAABCDEFGHIJKLMNOPQ".into() },
        account: AccountId::new(123_456_789_012).unwrap(),
        instance: format!("i-{number:017x}").parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
        issued_at: NOW.plus(issued_at),
        expires_at: NOW.plus(issued_at + 3600),
        delivery: Delivery::V2,
        boot_generation: 1,
        private_address: None,
    })
}

#[test]
fn queues_below_at_and_above_the_most() {
    let (channels, claims) = (Channels::new(), claims(1, 0));
    let say = || channels.send(claims.instance, "agent_job", b"{}", 0);
    assert_eq!(say(), Err(SendError::NotConnected));
    let (_, mut outgoing) = channels.enter(&claims);
    for nth in 1..=QUEUE_FRAMES_MAX {
        assert!(say().is_ok(), "{nth}");
    }
    assert_eq!(say(), Err(SendError::Busy));
    let first = outgoing.try_recv().unwrap();
    assert_eq!(Frame::decode(&first).unwrap().message_type, "agent_job");
    assert!(say().is_ok());
    drop(outgoing);
    assert_eq!(say(), Err(SendError::NotConnected), "the agent has gone, although nobody has said so yet");
}

#[test]
fn what_no_frame_holds_is_not_sent() {
    let (channels, claims) = (Channels::new(), claims(1, 0));
    let (_, _outgoing) = channels.enter(&claims);
    let payload = vec![b' '; inborn_wire::message_gateway::FRAME_BYTES_MAX];
    assert_eq!(channels.send(claims.instance, "agent_job", &payload, 0), Err(SendError::TooLong));
}

#[derive(Clone, Debug)]
enum Action {
    Enter(u8, u64),
    /// The nth channel that was ever entered ends.
    Leave(usize),
    Send(u8),
    /// Sessions of before this second are cut off.
    Keep(u64),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0..3_u8, 0..10_u64).prop_map(|(number, at)| Action::Enter(number, at)),
        (0..8_usize).prop_map(Action::Leave),
        (0..3_u8).prop_map(Action::Send),
        (0..10_u64).prop_map(Action::Keep),
    ]
}

proptest! {
    #[test]
    fn the_newest_channel_is_the_one(actions in prop::collection::vec(action(), 1..60)) {
        let channels = Channels::new();
        // Of each machine the channel that should be open: which one it is, and when its session was issued.
        let mut model: HashMap<u8, (usize, u64)> = HashMap::new();
        let mut entered = Vec::new();
        for action in actions {
            match action {
                Action::Enter(number, at) => {
                    model.insert(number, (entered.len(), at));
                    let claims = claims(number, at);
                    let (serial, outgoing) = channels.enter(&claims);
                    entered.push((number, claims.instance, serial, outgoing, 0));
                }
                Action::Leave(nth) => {
                    if let Some((number, instance, serial, ..)) = entered.get(nth) {
                        channels.leave(*instance, *serial);
                        if model.get(number).is_some_and(|(open, _)| *open == nth) {
                            model.remove(number);
                        }
                    }
                }
                Action::Send(number) => {
                    let sent = channels.send(claims(number, 0).instance, "agent_job", b"{}", 0);
                    prop_assert_eq!(sent.is_ok(), model.contains_key(&number));
                    if let Some((open, _)) = model.get(&number) {
                        entered[*open].4 += 1;
                    }
                }
                Action::Keep(from) => {
                    channels.keep(|claims| claims.issued_at >= NOW.plus(from));
                    model.retain(|_, (_, at)| *at >= from);
                }
            }
            prop_assert_eq!(channels.count(), model.len());
        }
        for (nth, (number, instance, _, outgoing, sent)) in entered.iter_mut().enumerate() {
            let is_open = model.get(number).is_some_and(|(open, _)| *open == nth);
            for _ in 0..*sent {
                prop_assert!(outgoing.try_recv().is_ok(), "what was queued is there");
            }
            let expected = if is_open { mpsc::error::TryRecvError::Empty } else { mpsc::error::TryRecvError::Disconnected };
            prop_assert_eq!(outgoing.try_recv(), Err(expected));
            prop_assert_eq!(channels.is_connected(*instance), model.contains_key(number));
        }
    }
}
