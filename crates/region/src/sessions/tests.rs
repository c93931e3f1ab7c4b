//! A session as a state machine: whatever happens to it, in whatever order, beside a model of a few lines.

use proptest::prelude::*;
use tokio::sync::watch;

use super::relay::{attach, replaced};
use super::*;

const START: UnixTime = UnixTime::from_secs(1_800_000_000);

fn session() -> Arc<Session> {
    let record = Record {
        id: "operator-0".to_owned(),
        account: inborn_identity::AccountId::new(123_456_789_012).unwrap(),
        instance: InstanceId::from_bytes([0; 9]),
        owner: String::new(),
        document_name: String::new(),
        reason: String::new(),
        started_at: START,
        end: None,
        carrier: None,
    };
    Session::new(record, START)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A side opens a data channel.
    Join(Side),
    /// One of the channels that were opened ends, the latest or one that was replaced.
    Leave(Side, prop::sample::Index),
    /// A side sends something.
    Say,
    /// Time passes, and the session is looked at.
    Wait(u64),
    /// Something ends it.
    End(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let side = prop_oneof![Just(Side::Agent), Just(Side::Client)];
    prop_oneof![
        4 => side.clone().prop_map(Step::Join),
        4 => (side, any::<prop::sample::Index>()).prop_map(|(side, which)| Step::Leave(side, which)),
        2 => Just(Step::Say),
        2 => (0..=IDLE_SECONDS_MAX / 2).prop_map(Step::Wait),
        1 => (IDLE_SECONDS_MAX - 1..LIFE_SECONDS_MAX).prop_map(Step::Wait),
        1 => any::<u8>().prop_map(Step::End),
    ]
}

/// What ought to be.
#[derive(Default)]
struct Model {
    /// Of each side, how many channels it has had, and which one is open.
    had: [u64; 2],
    open: [Option<u64>; 2],
    ended: Option<String>,
    heard: u64,
}

impl Model {
    fn status(&self) -> &'static str {
        match (&self.ended, self.open, self.had[0] > 0) {
            (Some(_), ..) => "Terminating",
            (None, [Some(_), Some(_)], _) => "Connected",
            (None, _, true) => "Disconnected",
            (None, ..) => "Connecting",
        }
    }

    fn wait(&mut self, now: u64) {
        let why = if now - self.heard >= IDLE_SECONDS_MAX {
            "The session was idle."
        } else if now >= LIFE_SECONDS_MAX {
            "The session had lasted a day."
        } else {
            return;
        };
        self.ended.get_or_insert_with(|| why.to_owned());
    }
}

proptest! {
    /// The newest channel of a side is the one, a channel that was replaced takes nothing with it, the first end is the end.
    #[test]
    fn whatever_happens_to_a_session_it_is_in_one_state(steps in prop::collection::vec(step(), 0..60)) {
        let (session, mut model, mut now) = (session(), Model::default(), 0);
        let mut channels: [Vec<(u64, watch::Receiver<u64>)>; 2] = [Vec::new(), Vec::new()];
        for step in steps {
            match step {
                Step::Join(side) => {
                    let at = usize::from(side == Side::Client);
                    channels[at].push(attach(session.side(side)));
                    model.had[at] += 1;
                    model.open[at] = Some(model.had[at]);
                }
                Step::Leave(side, which) => {
                    let at = usize::from(side == Side::Client);
                    if !channels[at].is_empty() {
                        let (own, _) = channels[at].remove(which.index(channels[at].len()));
                        session.side(side).leave(own);
                        model.open[at] = model.open[at].filter(|open| *open != own);
                    }
                }
                Step::Say => {
                    session.heard(START.plus(now));
                    model.heard = now;
                }
                Step::Wait(seconds) => {
                    now += seconds;
                    session.look(START.plus(now));
                    model.wait(now);
                }
                Step::End(reason) => {
                    session.close(End::terminated(reason.to_string(), ""));
                    model.ended.get_or_insert_with(|| reason.to_string());
                }
            }
            prop_assert_eq!(session.status(), model.status());
            prop_assert_eq!(session.end.borrow().as_ref().map(|end| end.details.clone()), model.ended.clone());
            for (at, channels) in channels.iter_mut().enumerate() {
                for (own, newest) in channels {
                    let is_replaced = futures_util::FutureExt::now_or_never(replaced(newest, *own)).is_some();
                    prop_assert_eq!(is_replaced, *own != model.had[at]);
                }
            }
        }
    }
}

#[test]
fn what_the_agent_was_told_is_kept_for_an_opening_and_no_longer() {
    let told = |later: u64| {
        let session = session();
        *session.told.lock().unwrap() = Some(b"shell".to_vec());
        session.untold(START.plus(later))
    };
    let told_again = |later: u64| told(later).is_some();
    assert_eq!(
        [OPENING_SECONDS_MAX - 1, OPENING_SECONDS_MAX, OPENING_SECONDS_MAX + 1].map(told_again),
        [true, false, false]
    );
    for end in [Session::agent_knows, |session: &Session| session.look(START.plus(OPENING_SECONDS_MAX))] {
        let session = session();
        *session.told.lock().unwrap() = Some(b"shell".to_vec());
        end(&session);
        assert_eq!(session.untold(START), None);
    }
}
