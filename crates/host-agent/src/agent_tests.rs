use std::collections::BTreeSet;

use inborn_fleet::{CredentialsGiven, DocumentSigned, Generation, GivenMachine, MACHINES_MAX, Renewed};
use inborn_pki::HOST_LIFE_SECONDS;
use proptest::prelude::*;

use super::*;
use crate::backoff::tests::Loaded;
use crate::testing::{BOOT, given, id, record, signed_of, token_of};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const ENDS: UnixTime = NOW.plus(HOST_LIFE_SECONDS);

fn at(seconds: u64) -> Now {
    Now { wall: NOW.plus(seconds), up: Duration::from_secs(seconds) }
}

fn agent(addresses: usize) -> Agent {
    Agent::new(addresses, ENDS, &mut Loaded(0))
}

fn unreachable() -> Result<Answer, Failure> {
    Err(Failure::Unreachable("away".to_owned()))
}

fn refused(code: RefusalCode, retry_after: Option<u64>) -> Result<Answer, Failure> {
    Err(Failure::Refused { code, message: String::new(), retry_after })
}

fn changed(machines: Vec<GivenMachine>, gone: Vec<InstanceId>) -> Result<Answer, Failure> {
    Ok(Answer::Machines(MachinesChanged { changed: machines, gone, more: false, spread_seconds: 1 }))
}

/// What it asks now, which has to be this one thing.
fn one(agent: &mut Agent, now: Now) -> Ask {
    let mut asks = agent.next(now);
    assert_eq!(asks.len(), 1, "{asks:?}");
    asks.pop().unwrap()
}

fn hear(agent: &mut Agent, ask: Ask, outcome: Result<Answer, Failure>, now: Now) -> Vec<Event> {
    agent.heard(ask, outcome, now, &mut Loaded(1000))
}

/// An agent that knows machines 1 to `count`, waits for changes, and has nothing else to ask.
fn settled(count: u8) -> Agent {
    let mut agent = agent(1);
    let ask = one(&mut agent, at(0));
    let machines = (1..=count).map(|n| given(record(n), "v1")).collect();
    hear(&mut agent, ask, changed(machines, Vec::new()), at(0));
    loop {
        let asks = agent.next(at(0));
        let Some(work) = asks.into_iter().find(|ask| ask.lane() == Lane::Work) else { break };
        let answer = answer(&work, at(0));
        hear(&mut agent, work, Ok(answer), at(0));
    }
    agent
}

/// What a region whose clock is `now` answers.
fn answer(ask: &Ask, now: Now) -> Answer {
    match ask {
        Ask::Machines(_) => Answer::Machines(MachinesChanged::default()),
        Ask::Credentials(asked) => Answer::Credentials(CredentialsGiven {
            generations: asked.instances.iter().flat_map(|instance| generations(*instance, now.wall)).collect(),
        }),
        Ask::Document(asked) => Answer::Document(signed_of(asked.instance)),
        Ask::Renew => Answer::Renewed(Renewed { certificate: "next".to_owned() }),
    }
}

/// The present generation, and the next one where it is near.
fn generations(instance: InstanceId, now: UnixTime) -> Vec<Generation> {
    let make = |at: UnixTime| {
        let held = inborn_credential::generation(instance, UnixTime::from_secs(BOOT), at);
        Generation {
            instance,
            boot_generation: 1,
            issued_at: held.issued_at.as_secs(),
            expires_at: held.expires_at.as_secs(),
            next_at: held.next_at.as_secs(),
            v1: token_of(instance, held.issued_at),
            v2: token_of(instance, held.issued_at),
        }
    };
    let present = make(now);
    let next = UnixTime::from_secs(present.next_at);
    let is_near = now.plus(360) >= next;
    core::iter::once(present).chain(is_near.then(|| make(next))).collect()
}

#[test]
fn it_learns_its_machines_and_then_what_they_need() {
    let mut agent = agent(1);
    let ask = one(&mut agent, at(0));
    assert_eq!(ask, Ask::Machines(Machines::default()));
    assert!(agent.next(at(0)).is_empty(), "one question of each kind at a time");
    let events = hear(&mut agent, ask, changed(vec![given(record(1), "v1")], Vec::new()), at(0));
    assert_eq!(events, [Event::Changed(id(1))]);
    let asks = agent.next(at(0));
    let [Ask::Machines(known), Ask::Credentials(wanted)] = asks.as_slice() else { panic!("{asks:?}") };
    assert_eq!(known.known, [(id(1), "v1".to_owned())].into());
    assert_eq!(wanted.instances, [id(1)]);
    let ask = asks[1].clone();
    let given = answer(&ask, at(0));
    assert_eq!(hear(&mut agent, ask, Ok(given), at(0)), [Event::Credentials(id(1))]);
    let ask = one(&mut agent, at(0));
    assert_eq!(ask, Ask::Document(Document { instance: id(1) }));
    let given = answer(&ask, at(0));
    assert_eq!(hear(&mut agent, ask, Ok(given), at(0)), [Event::Document(id(1))]);
    assert!(agent.next(at(0)).is_empty());
    let rest = agent.rests_for(at(0)).as_secs();
    assert!((1..=3600).contains(&rest), "the next generation is due within the hour: {rest}");
}

#[test]
fn machines_come_change_and_go() {
    let mut agent = settled(2);
    let known = Ask::Machines(Machines { known: agent.mirror().versions() });
    let mut stopped = record(1);
    stopped.is_running = false;
    let events = hear(&mut agent, known.clone(), changed(vec![given(stopped, "v2")], vec![id(2), id(9)]), at(1));
    assert_eq!(events, [Event::Gone(id(2)), Event::Changed(id(1))]);
    let left = agent.mirror().get(id(1)).unwrap();
    assert!(left.credential(inborn_credential::Delivery::V2, NOW).is_none(), "what is off has no credentials");
    assert!(agent.mirror().get(id(2)).is_none());
    assert!(agent.next(at(1)).iter().all(|ask| ask.lane() == Lane::Watch), "and needs none");
}

/// Each ends what was given before: a start, a cut-off, a quarantine. A reboot does not, until there is something newer.
#[test]
fn what_has_ended_is_dropped_and_asked_for_anew() {
    for (what, is_asked) in
        [("reboot", true), ("start", true), ("cut-off", true), ("quarantine", false), ("tag", false)]
    {
        let mut agent = settled(1);
        let mut next = record(1);
        match what {
            "reboot" => next.boot_generation = 2,
            "start" => (next.boot_generation, next.launch_time) = (3, NOW.as_secs() + 1),
            "cut-off" => next.credentials_since = NOW.as_secs() + 1,
            "quarantine" => next.is_withheld = true,
            _ => next.tags = [("a".to_owned(), "b".to_owned())].into(),
        }
        let known = Ask::Machines(Machines { known: agent.mirror().versions() });
        hear(&mut agent, known, changed(vec![given(next, "v2")], Vec::new()), at(1));
        let held = agent.mirror().get(id(1)).unwrap().credential(inborn_credential::Delivery::V1, NOW.plus(1));
        assert_eq!(held.is_some(), ["tag", "reboot"].contains(&what), "{what}");
        let asks = agent.next(at(1));
        assert_eq!(asks.iter().any(|ask| matches!(ask, Ask::Credentials(_))), is_asked, "{what}: {asks:?}");
    }
}

/// The next generation is there before its time, and what an outage interrupts goes on from the last one.
#[test]
fn credentials_are_asked_for_ahead_of_their_time_and_not_sooner() {
    let mut agent = settled(1);
    let next_at = generations(id(1), NOW)[0].next_at - NOW.as_secs();
    let due = next_at.saturating_sub(crate::mirror::AHEAD_SECONDS);
    assert!(due > 0, "the example is no example");
    assert!(agent.next(at(due - 1)).iter().all(|ask| ask.lane() == Lane::Watch));
    assert_eq!(agent.rests_for(at(due - 1)), Duration::from_secs(1));
    let ask = agent.next(at(due)).into_iter().find(|ask| ask.lane() == Lane::Work).unwrap();
    assert_eq!(ask, Ask::Credentials(Credentials { instances: vec![id(1)] }));
    let given = answer(&ask, at(due));
    assert_eq!(hear(&mut agent, ask, Ok(given), at(due)), [Event::Credentials(id(1))]);
    let held = |seconds| {
        let known = agent.mirror().get(id(1)).unwrap();
        known.credential(inborn_credential::Delivery::V2, NOW.plus(seconds)).unwrap().0.issued_at
    };
    assert!(held(next_at - 1) < held(next_at), "each in its time");
    assert_eq!(held(next_at + 4 * 3600), held(next_at), "and the last one through four hours without a region");
}

/// A region whose clock is behind has nothing new yet: it is not asked in a loop.
#[test]
fn an_answer_without_anything_new_is_not_asked_for_at_once_again() {
    let mut agent = settled(1);
    let due = generations(id(1), NOW)[0].next_at - NOW.as_secs() - crate::mirror::AHEAD_SECONDS;
    let ask = agent.next(at(due)).into_iter().find(|ask| ask.lane() == Lane::Work).unwrap();
    let stale = answer(&ask, at(0));
    assert!(hear(&mut agent, ask, Ok(stale), at(due)).is_empty());
    assert!(agent.next(at(due + 29)).is_empty());
    assert_eq!(agent.next(at(due + 30)).len(), 1);
}

/// A server that has not heard of a start gives what is of the boot before: nothing for who has nothing, who asks again soon.
#[test]
fn a_machine_without_credentials_does_not_wait_long() {
    let mut agent = agent(1);
    let ask = one(&mut agent, at(0));
    let mut started = record(1);
    started.boot_generation = 2;
    started.launch_time = NOW.plus(1).as_secs();
    hear(&mut agent, ask, changed(vec![given(started, "v1")], Vec::new()), at(1));
    let ask = agent.next(at(1)).into_iter().find(|ask| ask.lane() == Lane::Work).unwrap();
    let of_before = answer(&ask, at(0));
    assert!(hear(&mut agent, ask, Ok(of_before), at(1)).is_empty());
    let is_asked = |agent: &mut Agent, now| agent.next(now).iter().any(|ask| matches!(ask, Ask::Credentials(_)));
    hold_documents(&mut agent, at(1));
    assert!(!is_asked(&mut agent, at(3)));
    assert!(is_asked(&mut agent, at(4)));
}

/// A reboot by a clock that is ahead, or a release, dates what a machine has ahead. It is handed out at once, and nothing else is to be
/// had, so that nobody is asked until the next is due. Of what begins much later it is not so: somebody's clock is wrong.
#[test]
fn what_begins_soon_is_held_and_not_asked_for_again_and_again() {
    for (ahead, is_asked) in [(0, false), (20, false), (430, false), (603, false), (604, true)] {
        let mut agent = settled(1);
        let mut rebooted = record(1);
        rebooted.boot_generation = 2;
        let known = Ask::Machines(Machines { known: agent.mirror().versions() });
        hear(&mut agent, known, changed(vec![given(rebooted, "v2")], Vec::new()), at(1));
        let ask = agent.next(at(1)).into_iter().find(|ask| ask.lane() == Lane::Work).unwrap();
        let mut given = generations(id(1), NOW);
        given.truncate(1);
        (given[0].boot_generation, given[0].issued_at) = (2, NOW.as_secs() + 1 + ahead);
        given[0].next_at = given[0].issued_at + 3600;
        let answer = Answer::Credentials(CredentialsGiven { generations: given });
        assert_eq!(hear(&mut agent, ask, Ok(answer), at(1)), [Event::Credentials(id(1))]);
        let known = agent.mirror().get(id(1)).unwrap();
        let (held, _) = known.credential(inborn_credential::Delivery::V2, NOW.plus(1)).unwrap();
        assert_eq!(held.issued_at, NOW.plus(1 + ahead), "at once");
        // Three seconds later: 603 s ahead of the first moment are 600 now.
        let asks = agent.next(at(4));
        assert_eq!(asks.iter().any(|ask| matches!(ask, Ask::Credentials(_))), is_asked, "{ahead}: {asks:?}");
    }
}

/// Its documents are signed.
fn hold_documents(agent: &mut Agent, now: Now) {
    while let Some(ask @ Ask::Document(_)) = agent.next(now).into_iter().find(|ask| ask.lane() == Lane::Work) {
        let answer = answer(&ask, now);
        hear(agent, ask, Ok(answer), now);
    }
}

#[test]
fn while_the_region_is_away_one_question_looks_for_it_at_all_addresses() {
    let mut agent = agent(3);
    let mut asked = Vec::new();
    let mut now = at(0);
    for _ in 0..6 {
        let ask = one(&mut agent, now);
        asked.push(agent.address());
        assert!(hear(&mut agent, ask, unreachable(), now).is_empty());
        assert!(!agent.is_connected() && agent.next(now).is_empty());
        let rest = agent.rests_for(now);
        now.up += rest;
        now.wall = now.wall.plus(rest.as_secs());
    }
    assert_eq!(asked, [0, 1, 2, 0, 1, 2]);
    assert_eq!(now.up.as_secs(), 1 + 2 + 4 + 8 + 16 + 32);
    let ask = one(&mut agent, now);
    hear(&mut agent, ask, refused(RefusalCode::Unavailable, Some(7)), now);
    assert!(agent.is_connected() && agent.address() == 1, "a server that cannot is there, and another is asked");
    assert!(agent.rests_for(now) >= Duration::from_secs(7));
}

#[test]
fn a_busy_region_is_left_alone_for_as_long_as_it_says() {
    let mut agent = settled(1);
    let known = Ask::Machines(Machines { known: agent.mirror().versions() });
    hear(&mut agent, known, refused(RefusalCode::Busy, Some(9)), at(10));
    assert!(agent.next(at(18)).is_empty());
    assert!(agent.is_connected() && agent.address() == 0, "another server is no better");
    assert_eq!(agent.next(at(20)).len(), 1, "nine seconds, and one of jitter");
}

#[test]
fn a_machine_that_went_between_does_not_keep_the_others_from_their_credentials() {
    let mut agent = agent(1);
    let ask = one(&mut agent, at(0));
    hear(&mut agent, ask, changed(vec![given(record(1), "v"), given(record(2), "v")], Vec::new()), at(0));
    let ask = agent.next(at(0)).into_iter().find(|ask| ask.lane() == Lane::Work).unwrap();
    hear(&mut agent, ask, refused(RefusalCode::NotPlaced, None), at(0));
    let mut now = at(0);
    now.up += Duration::from_secs(1);
    let ask = agent.next(now).into_iter().find(|ask| ask.lane() == Lane::Work).unwrap();
    assert_eq!(ask, Ask::Credentials(Credentials { instances: vec![id(2)] }));
}

#[test]
fn an_eviction_is_the_end() {
    let mut agent = settled(2);
    let known = Ask::Machines(Machines { known: agent.mirror().versions() });
    let events = hear(&mut agent, known, refused(RefusalCode::Evicted, None), at(1));
    assert_eq!(events, [Event::Gone(id(1)), Event::Gone(id(2)), Event::Evicted]);
    assert!(agent.next(at(10_000)).is_empty() && agent.mirror().count() == 0);
    // What was on its way brings nothing back.
    let late = Ask::Machines(Machines::default());
    assert!(hear(&mut agent, late, changed(vec![given(record(1), "v")], Vec::new()), at(2)).is_empty());
    assert_eq!(agent.mirror().count(), 0);
}

#[test]
fn a_host_serves_alone_for_so_long_and_no_longer() {
    let mut agent = settled(1);
    for (seconds, is_forgotten) in
        [(SERVE_ALONE_SECONDS - 1, false), (SERVE_ALONE_SECONDS, false), (SERVE_ALONE_SECONDS + 1, true)]
    {
        let events = agent.look_at_the_time(at(seconds));
        assert_eq!(events == [Event::Forgotten(id(1))], is_forgotten, "{seconds}");
    }
    assert_eq!(agent.mirror().count(), 0);
    // Nor longer because the clock was far ahead when the region was heard.
    let mut agent = settled(1);
    let early = |seconds: u64| Now { wall: NOW.minus(1_000_000).plus(seconds), up: Duration::from_secs(seconds) };
    assert!(agent.look_at_the_time(early(0)).is_empty());
    assert_eq!(agent.look_at_the_time(early(SERVE_ALONE_SECONDS + 1)), [Event::Forgotten(id(1))]);
    // Nor longer by a restart.
    for (seconds, count) in [(SERVE_ALONE_SECONDS, 1), (SERVE_ALONE_SECONDS + 1, 0)] {
        let kept = settled(1).snapshot().unwrap();
        let mut restarted = self::agent(1);
        restarted.restore(kept, at(seconds), &mut Loaded(0));
        assert_eq!(restarted.mirror().count(), count, "{seconds}");
    }
}

/// Something between that lets credentials through and stalls the wait for changes.
#[test]
fn credentials_that_come_through_do_not_stand_for_word_of_its_machines() {
    let mut agent = settled(1);
    let _stalled = agent.next(at(0));
    let mut given_in = 0;
    for seconds in (60..=SERVE_ALONE_SECONDS).step_by(60) {
        for ask in agent.next(at(seconds)) {
            assert_eq!(ask.lane(), Lane::Work);
            let answer = answer(&ask, at(seconds));
            hear(&mut agent, ask, Ok(answer), at(seconds));
            given_in += 1;
        }
        assert!(agent.look_at_the_time(at(seconds)).is_empty(), "{seconds}");
    }
    assert!(given_in > 1 && agent.heard_at() == Some(NOW), "{given_in}");
    assert_eq!(agent.look_at_the_time(at(SERVE_ALONE_SECONDS + 1)), [Event::Forgotten(id(1))]);
}

/// However often the clock is set back, it serves alone no longer; a restart goes on from there.
#[test]
fn a_clock_that_is_set_back_gives_no_time() {
    let back = |seconds: u64| Now { wall: at(0).wall, up: Duration::from_secs(seconds) };
    for seconds in [1, 3600, SERVE_ALONE_SECONDS - 1, SERVE_ALONE_SECONDS] {
        let mut agent = settled(1);
        assert!(agent.look_at_the_time(back(seconds)).is_empty(), "{seconds}");
        let left = SERVE_ALONE_SECONDS + 1 - seconds;
        assert!(agent.rests_for(back(seconds)) <= Duration::from_secs(left), "{seconds}");
        assert_eq!(agent.heard_at(), Some(NOW.minus(seconds)));
        // After a restart: nothing is known by the time since, but what was written down counts, and from then on both clocks do.
        for (more, count) in [(left - 1, 1), (left, 0)] {
            let mut restarted = self::agent(1);
            restarted.restore(agent.snapshot().unwrap(), at(0), &mut Loaded(0));
            restarted.look_at_the_time(back(more));
            assert_eq!(restarted.mirror().count(), count, "{seconds} and {more}");
        }
        assert!(agent.look_at_the_time(back(SERVE_ALONE_SECONDS)).is_empty(), "{seconds}");
        let events = agent.look_at_the_time(back(SERVE_ALONE_SECONDS + 1));
        assert_eq!(events, [Event::Forgotten(id(1))], "{seconds}");
    }
}

#[test]
fn a_certificate_is_renewed_in_the_second_half_of_its_life() {
    for (side, due) in [(0, HOST_LIFE_SECONDS / 2), (1000, HOST_LIFE_SECONDS / 2 + RENEW_JITTER_SECONDS)] {
        let mut agent = Agent::new(1, ENDS, &mut Loaded(side));
        let first = one(&mut agent, at(0));
        hear(&mut agent, first, changed(Vec::new(), Vec::new()), at(0));
        let renews = |agent: &mut Agent, seconds| agent.next(at(seconds)).into_iter().find(|ask| *ask == Ask::Renew);
        assert_eq!(renews(&mut agent, due - 1), None, "{side}");
        let ask = renews(&mut agent, due).unwrap();
        assert!(hear(&mut agent, ask, refused(RefusalCode::Malformed, None), at(due)).is_empty());
        assert_eq!(renews(&mut agent, due + 3599), None, "{side}");
        let ask = renews(&mut agent, due + 3600).unwrap();
        let renewed = Ok(answer(&ask, at(due + 3600)));
        assert_eq!(hear(&mut agent, ask, renewed, at(due + 3600)), [Event::Renewed("next".to_owned())]);
        // It could not be kept, and the old one goes on ending.
        assert_eq!(renews(&mut agent, due + 7199), None);
        let ask = renews(&mut agent, due + 7200).unwrap();
        let renewed = Ok(answer(&ask, at(due + 7200)));
        hear(&mut agent, ask, renewed, at(due + 7200));
        agent.renewed(at(due + 7200).wall.plus(HOST_LIFE_SECONDS), &mut Loaded(side));
        assert_eq!(renews(&mut agent, due + 7200 + due - 1), None);
        assert!(renews(&mut agent, due + 7200 + due).is_some());
    }
}

#[test]
fn what_was_kept_is_served_at_once_and_the_region_is_asked_in_turn() {
    let mut kept = settled(3);
    kept.spread = 50;
    let mut restarted = agent(1);
    restarted.restore(kept.snapshot().unwrap(), at(60), &mut Loaded(500));
    assert_eq!(restarted.mirror(), kept.mirror());
    assert!(restarted.next(at(60)).is_empty());
    assert_eq!(restarted.rests_for(at(60)), Duration::from_secs(25));
    assert_eq!(restarted.next(at(85)), [Ask::Machines(Machines { known: kept.mirror().versions() })]);
    assert_eq!(restarted.heard_at(), Some(NOW));
}

#[test]
fn machines_below_at_and_above_the_limit() {
    let mut agent = agent(1);
    let ask = one(&mut agent, at(0));
    let machine = |n: usize| {
        let mut machine = record(0);
        let bytes = u64::try_from(n).unwrap().to_be_bytes();
        let mut whole = [0; 9];
        whole[1..].copy_from_slice(&bytes);
        machine.instance = InstanceId::from_bytes(whole);
        machine.is_running = false;
        given(machine, "v")
    };
    let all = (0..=MACHINES_MAX).map(machine).collect();
    let events = hear(&mut agent, ask, changed(all, Vec::new()), at(0));
    assert_eq!((events.len(), agent.mirror().count()), (MACHINES_MAX, MACHINES_MAX));
}

#[derive(Clone, Debug)]
enum Happens {
    Answer,
    Change(u8, u8),
    Unreachable,
    Refused(u8, u64),
    Wait(u64),
    ClockSet(i64),
    Restart,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => Just(Happens::Answer),
        3 => (1..6u8, any::<u8>()).prop_map(|(n, how)| Happens::Change(n, how)),
        2 => Just(Happens::Unreachable),
        1 => (0..6u8, 0..20u64).prop_map(|(code, after)| Happens::Refused(code, after)),
        3 => (0..5000u64).prop_map(Happens::Wait),
        1 => (-9000..9000i64).prop_map(Happens::ClockSet),
        1 => Just(Happens::Restart),
    ]
}

proptest! {
    /// Whatever happens: never two questions of one kind at a time, never a question before its time, never a credential for
    /// what the region has said to be gone, stopped or withheld, or outside its own times; and it never stops asking.
    #[test]
    fn whatever_happens_it_stays_sound(story in proptest::collection::vec(happens(), 1..80), side in 0..=1000u64) {
        let mut agent = agent(2);
        let mut now = at(10_000);
        let mut open: Vec<Ask> = Vec::new();
        let mut serves: BTreeSet<InstanceId> = BTreeSet::new();
        for what in story {
            let _ = agent.look_at_the_time(now);
            open.extend(agent.next(now));
            let watching = open.iter().filter(|ask| ask.lane() == Lane::Watch).count();
            prop_assert!(watching <= 1 && open.len() - watching <= 1, "{open:?}");
            let dice = &mut Loaded(side);
            match what {
                Happens::Answer => if let Some(ask) = open.pop() {
                    let given = answer(&ask, now);
                    agent.heard(ask, Ok(given), now, dice);
                },
                Happens::Change(n, how) => if let Some(at) = open.iter().position(|ask| ask.lane() == Lane::Watch) {
                    let ask = open.remove(at);
                    let mut machine = record(n);
                    machine.is_running = how & 1 == 0;
                    machine.is_withheld = how & 2 != 0;
                    let is_gone = how & 12 == 12;
                    if !is_gone && machine.is_running && !machine.is_withheld {
                        serves.insert(id(n));
                    } else {
                        serves.remove(&id(n));
                    }
                    let told = if is_gone { changed(Vec::new(), vec![id(n)]) } else { changed(vec![given(machine, &how.to_string())], Vec::new()) };
                    agent.heard(ask, told, now, dice);
                },
                Happens::Unreachable => if let Some(ask) = open.pop() {
                    agent.heard(ask, unreachable(), now, dice);
                },
                Happens::Refused(code, after) => if let Some(ask) = open.pop() {
                    let codes = [RefusalCode::Busy, RefusalCode::Unavailable, RefusalCode::NotPlaced, RefusalCode::NotJoined, RefusalCode::Malformed, RefusalCode::JoinTokenRefused];
                    let failed = refused(codes[usize::from(code)], Some(after));
                    agent.heard(ask, failed, now, dice);
                    prop_assert!(open.is_empty() || agent.rests_for(now) <= Duration::from_secs(SERVE_ALONE_SECONDS));
                },
                Happens::Wait(seconds) => {
                    now.up += Duration::from_secs(seconds);
                    now.wall = now.wall.plus(seconds);
                }
                Happens::ClockSet(by) => {
                    now.wall = if by < 0 { now.wall.minus(by.unsigned_abs()) } else { now.wall.plus(by.unsigned_abs()) };
                }
                Happens::Restart => {
                    let kept = agent.snapshot();
                    open.clear();
                    agent = self::agent(2);
                    if let Some(kept) = kept {
                        agent.restore(kept, now, dice);
                    }
                }
            }
            for n in 1..6 {
                let held = agent.mirror().get(id(n)).and_then(|known| known.credential(inborn_credential::Delivery::V2, now.wall));
                if let Some((credential, _)) = held {
                    prop_assert!(serves.contains(&id(n)), "{n}");
                    prop_assert!(now.wall < credential.expires_at);
                }
            }
        }
        // Left alone, it asks within its widest window, or waits for an answer.
        let rest = agent.rests_for(now);
        now.up += rest;
        now.wall = now.wall.plus(rest.as_secs() + 1);
        let _ = agent.look_at_the_time(now);
        prop_assert!(!agent.next(now).is_empty() || open.iter().any(|ask| ask.lane() == Lane::Watch) || agent.mirror().count() == 0);
    }
}

#[test]
fn a_document_of_another_text_is_none() {
    let mut agent = agent(1);
    let ask = one(&mut agent, at(0));
    let mut stopped = record(1);
    stopped.is_withheld = true;
    hear(&mut agent, ask, changed(vec![given(stopped, "v")], Vec::new()), at(0));
    let ask = agent.next(at(0)).into_iter().find(|ask| ask.lane() == Lane::Work).unwrap();
    let other = DocumentSigned { document: "{}".to_owned(), ..signed_of(id(1)) };
    assert!(hear(&mut agent, ask, Ok(Answer::Document(other)), at(0)).is_empty());
    assert!(agent.mirror().get(id(1)).unwrap().document().is_none());
    assert!(agent.next(at(29)).iter().all(|ask| ask.lane() == Lane::Watch));
    assert!(agent.next(at(30)).iter().any(|ask| ask.lane() == Lane::Work));
}
