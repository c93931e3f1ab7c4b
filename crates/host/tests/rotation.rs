//! Rotation through simulated days: the real host, hundreds of machines, the schedule and the keys of a region that can be
//! away, a clock that is set by hand, and clients that refresh the way AWS's do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod simulation;

use inborn_credential::{AuthFault, Delivery};
use inborn_host::BEGINS_WITHIN_SECONDS;
use inborn_identity::{InstanceId, UnixTime};

use simulation::clients::{Botocore, HourlyReader, SsmAgent};
use simulation::{Fetched, HOUR, MINUTE, NOW, Simulation, machine_id};

const DAY: u64 = 24 * HOUR;
const MACHINES: u64 = 160;

#[tokio::test]
async fn for_two_days_no_machine_is_ever_without_an_hour_left() {
    let simulation = Simulation::of(MACHINES);
    let mut generations = vec![Vec::new(); usize::try_from(MACHINES).unwrap()];
    simulation.run(2 * DAY, |now| {
        for (n, seen) in (0..MACHINES).zip(&mut generations) {
            let held = simulation.held(machine_id(n));
            assert!(held.contains(&now) && held.end.since(now) > HOUR, "{n} at {now:?}: {held:?}");
            if seen.last() != Some(&held.start) {
                seen.push(held.start);
            }
        }
    });
    for seen in generations {
        assert!(seen.is_sorted());
        assert!((48..=50).contains(&seen.len()), "{} generations in 48 hours", seen.len());
    }
}

/// Windows begin at another second of the hour for each machine, so that outages that begin at any minute of one hour meet
/// every machine at every minute of its window.
#[tokio::test]
async fn an_outage_of_four_hours_is_survived_whenever_it_begins() {
    for minute in (0..60).step_by(10) {
        let simulation = Simulation::of(MACHINES);
        simulation.run(6 * HOUR + minute * MINUTE, |_| ());
        simulation.region.leave();
        simulation.run(4 * HOUR, |now| {
            for n in 0..MACHINES {
                let held = simulation.held(machine_id(n));
                assert!(held.contains(&now), "{n} after {minute} min and {now:?}: {held:?}");
            }
        });
        simulation.region.come_back();
        simulation.run(2 * MINUTE, |_| ());
        for n in 0..MACHINES {
            assert!(simulation.left(machine_id(n)) > 5 * HOUR, "{n} is given what it missed");
        }
    }
}

/// botocore, the SSM agent and a client that reads hourly live through two days with an outage of four hours in the middle.
#[tokio::test]
async fn clients_that_refresh_by_their_own_rules_never_run_dry() {
    let simulation = Simulation::of(MACHINES);
    let mut botocore: Vec<_> = (0..MACHINES).map(|n| Botocore::start(&simulation, machine_id(n))).collect();
    let mut agents: Vec<_> = (0..MACHINES).map(|n| SsmAgent::start(&simulation, machine_id(n))).collect();
    let mut readers: Vec<_> = (0..MACHINES).map(|n| HourlyReader::start(&simulation, machine_id(n))).collect();
    for phase in 0..3 {
        if phase == 1 {
            simulation.region.leave()
        } else {
            simulation.region.come_back()
        }
        simulation.run(if phase == 1 { 4 * HOUR } else { 22 * HOUR }, |now| {
            botocore.iter_mut().for_each(|client| client.live(&simulation, now));
            agents.iter_mut().for_each(|client| client.live(&simulation, now));
            readers.iter_mut().for_each(|client| client.live(&simulation, now));
        });
    }
    // Every 4 h 45 min at the soonest; once or twice sooner during the outage.
    let reads = botocore.iter().map(|client| client.reads).max().unwrap();
    assert!(
        reads <= 13,
        "botocore reads when 15 minutes are left of more than five hours, not {reads} times in two days"
    );
    // At half of what is left: some three hours from generation to generation, and sooner and sooner during the outage.
    let reads = agents.iter().map(|client| client.reads).max().unwrap();
    assert!(reads <= 24, "an agent read {reads} times in two days");
}

/// What is verified here is what the metadata service has really served, over a connection.
#[tokio::test]
async fn each_generation_of_each_delivery_is_good_until_its_own_end() {
    let simulation = Simulation::of(3);
    let mut fetched: Vec<(InstanceId, Fetched)> = Vec::new();
    for _ in 0..8 {
        for n in 0..3 {
            let (v1, v2) = (simulation.fetch(n, Delivery::V1).await, simulation.fetch(n, Delivery::V2).await);
            assert_eq!((v1.issued_at, v1.expires_at), (v2.issued_at, v2.expires_at), "one generation");
            assert_ne!(v1.access_key_id, v2.access_key_id, "but two credentials");
            assert_ne!(v1.token, v2.token);
            fetched.extend([v1, v2].map(|one| (machine_id(n), one)));
        }
        simulation.run(HOUR, |_| ());
        let now = simulation.now();
        for (id, one) in fetched.iter().filter(|(_, one)| one.expires_at > now) {
            assert_eq!(simulation.verify(one, now), Ok(*id), "issued {:?}", one.issued_at);
        }
    }
    for (id, one) in &fetched {
        assert_eq!(simulation.verify(one, one.expires_at.minus(1)), Ok(*id));
        assert_eq!(simulation.verify(one, one.expires_at), Err(AuthFault::TokenExpired));
    }
    let keys: std::collections::HashSet<_> = fetched.iter().map(|(_, one)| &one.access_key_id).collect();
    assert_eq!(keys.len(), fetched.len(), "an hour later it is another one each time");
}

/// The clock of host and region is set forwards and back, a little and a lot. One look at what is due is enough, and until
/// then nothing is handed out that the region would refuse.
#[tokio::test]
async fn a_clock_that_jumps_leaves_nothing_that_is_refused() {
    let simulation = Simulation::of(MACHINES);
    simulation.run(8 * HOUR, |_| ());
    for jump in [1, 59, MINUTE, 10 * MINUTE, HOUR, 5 * HOUR, 8 * HOUR, 3 * DAY, 400 * DAY] {
        for forwards in [true, false, false, true] {
            let now = simulation.now();
            let there = if forwards { now.plus(jump) } else { now.minus(jump) };
            simulation.clock.set(there);
            for n in 0..MACHINES {
                let held = simulation.host.credentials_of(machine_id(n));
                // The region takes what begins so soon.
                let is_taken = |held: core::ops::Range<UnixTime>| {
                    held.start <= there.plus(BEGINS_WITHIN_SECONDS) && there < held.end
                };
                assert!(held.is_none_or(is_taken), "{n} after a jump of {jump} s");
            }
            simulation.host.prepare();
            for n in 0..MACHINES {
                assert!(simulation.left(machine_id(n)) > 5 * HOUR, "{n} after a jump of {jump} s");
            }
            assert_eq!(simulation.verify(&simulation.fetch(0, Delivery::V2).await, there), Ok(machine_id(0)));
        }
    }
    assert_eq!(simulation.now(), NOW.plus(8 * HOUR));
}

/// A step of the clock while the region is away: with what is held, as long as any of it is good.
#[tokio::test]
async fn a_small_step_of_the_clock_during_an_outage_costs_nothing() {
    for step in [1, 2, MINUTE, 30 * MINUTE] {
        let simulation = Simulation::of(MACHINES);
        simulation.run(6 * HOUR, |_| ());
        simulation.region.leave();
        for minute in 0..60 {
            for back in [true, false] {
                let now = simulation.now();
                simulation.clock.set(if back { now.minus(step) } else { now.plus(step) });
                simulation.host.prepare();
                for n in 0..MACHINES {
                    assert!(simulation.left(machine_id(n)) > 0, "{n} after {minute} min and a step of {step} s");
                }
            }
            simulation.run(MINUTE, |_| ());
        }
    }
}
