//! What goes wrong: drawn one after the other, each with its end.

use core::time::Duration;
use std::rc::Rc;

use tokio::time::{Instant, sleep};

use crate::clock::Clocks;
use crate::disk::{Troubles, WRITE_MAX};
use crate::host::Seeded;
use crate::line::Losses;
use crate::world::World;

/// How many of a host's messages are lost, and late, while its connections are bad. What is sent over them is little.
const OF_HOSTS: Losses = Losses { lost_per_mille: 250, late_per_mille: 350 };
/// How many of all others: who asks for a change and is not answered does nothing more with a machine.
const OF_CALLERS: Losses = Losses { lost_per_mille: 60, late_per_mille: 60 };

/// Makes trouble until the time for it is over; then all is well again.
pub(crate) async fn make(world: Rc<World>, mut random: fastrand::Rng) {
    while world.is_troubled() {
        world.rest(Duration::from_millis(random.u64(200..6000))).await;
        let server = random.usize(0..world.servers.len());
        let lasts = Duration::from_millis(random.u64(100..14_000));
        let kind = random.u32(0..9);
        let host = random.usize(0..world.hosts.len());
        let mut dice = Seeded(random.fork());
        let (off_by, _) = Clocks::Near.draw(&mut random, lasts);
        let (far_by, far_for) = world.clocks.draw(&mut random, lasts);
        let world = Rc::clone(&world);
        tokio::task::spawn_local(async move {
            let one = &world.servers[server];
            match kind {
                0 => {
                    world.note(format!("server {server} is cut off from the store for {lasts:?}"));
                    one.link.lock().unwrap().is_cut = true;
                    sleep(lasts).await;
                    one.link.lock().unwrap().is_cut = false;
                }
                1 => {
                    world.note(format!("server {server} crashes and is gone for {lasts:?}"));
                    one.crash();
                    sleep(lasts).await;
                    world.start(server).await;
                }
                2 => {
                    world.note(format!("the store is slow to server {server} for {lasts:?}"));
                    one.link.lock().unwrap().way_max = Duration::from_secs(4);
                    sleep(lasts).await;
                    one.link.lock().unwrap().way_max = Duration::from_millis(3);
                }
                3 => {
                    world.note(format!("calls of server {server} to the store are lost for {lasts:?}"));
                    one.link.lock().unwrap().lost_per_mille = 400;
                    sleep(lasts).await;
                    one.link.lock().unwrap().lost_per_mille = 0;
                }
                4 => {
                    // All is well when the time is over.
                    let far_for = far_for.min(world.trouble_left().max(lasts));
                    world.note(format!("the clock of server {server} is off by {far_by} s for {far_for:?}"));
                    one.clock.set_off_by(far_by);
                    sleep(far_for).await;
                    one.clock.set_off_by(0);
                }
                5 => {
                    world.note(format!("host {host} is cut off from its region for {lasts:?}"));
                    world.hosts[host].state.borrow_mut().is_cut = true;
                    sleep(lasts).await;
                    world.hosts[host].state.borrow_mut().is_cut = false;
                }
                6 => {
                    world
                        .note(format!("host {host} crashes and is gone for {lasts:?}, its clock is off by {off_by} s"));
                    world.hosts[host].crash();
                    sleep(lasts).await;
                    world.hosts[host].clock.set_off_by(off_by);
                    world.start_host(host, &mut dice);
                }
                7 => {
                    world.note(format!("changes of server {server} take effect late for {lasts:?}"));
                    one.link.lock().unwrap().late_per_mille = 300;
                    sleep(lasts).await;
                    one.link.lock().unwrap().late_per_mille = 0;
                }
                _ => {
                    world.note(format!("every server is cut off from the store for {lasts:?}"));
                    world.servers.iter().for_each(|server| server.link.lock().unwrap().is_cut = true);
                    sleep(lasts).await;
                    world.servers.iter().for_each(|server| server.link.lock().unwrap().is_cut = false);
                }
            }
        });
    }
}

/// How long a crash waits for a write, and how often it is looked for one.
const MIDST_WITHIN: Duration = Duration::from_secs(3);
const MIDST_LOOK: Duration = Duration::from_millis(5);

/// As [`make`], beside it, so that none of both comes more seldom for the other: messages are lost, and disks are slow or fail.
pub(crate) async fn make_small(world: Rc<World>, mut random: fastrand::Rng) {
    while world.is_troubled() {
        world.rest(Duration::from_millis(random.u64(200..8000))).await;
        let server = random.usize(0..world.servers.len());
        let host = random.usize(0..world.hosts.len());
        let lasts = Duration::from_millis(random.u64(1000..14_000));
        let kind = random.u32(0..7);
        let crashes_after = random.bool().then(|| lasts.mul_f64(random.f64()));
        let mut dice = Seeded(random.fork());
        let world = Rc::clone(&world);
        tokio::task::spawn_local(async move {
            match kind {
                0 | 1 => {
                    world.note(format!("messages of host {host} are lost, or late, for {lasts:?}"));
                    world.hosts[host].losses.set(OF_HOSTS);
                    sleep(lasts).await;
                    world.hosts[host].losses.set(Losses::default());
                }
                2 => {
                    world.note(format!("calls to server {server} are lost, or late, for {lasts:?}"));
                    world.servers[server].losses.set(OF_CALLERS);
                    sleep(lasts).await;
                    world.servers[server].losses.set(Losses::default());
                }
                3 => {
                    world.note(format!("the data directory of server {server} is not there for {lasts:?}"));
                    world.bare.set(world.bare.get() + 1);
                    world.servers[server].set_bare(true);
                    sleep(lasts).await;
                    world.servers[server].set_bare(false);
                }
                _ => {
                    let (what, troubles) = if kind == 4 || kind == 5 {
                        let write_max = Duration::from_secs(4);
                        ("is slow", Troubles { write_max, failed_per_mille: 0, lies: false })
                    } else {
                        ("fails", Troubles { write_max: WRITE_MAX, failed_per_mille: 400, lies: true })
                    };
                    world.note(format!("the disk of host {host} {what} for {lasts:?}"));
                    world.hosts[host].disk.borrow_mut().troubles = troubles;
                    sleep(crashes_after.unwrap_or(lasts)).await;
                    if crashes_after.is_some() {
                        // In the midst of a write, if there is one soon.
                        let until = Instant::now() + MIDST_WITHIN;
                        while !world.hosts[host].disk.borrow().is_writing() && Instant::now() < until {
                            sleep(MIDST_LOOK).await;
                        }
                        world.note(format!("host {host}, whose disk {what}, crashes"));
                        world.hosts[host].crash();
                        sleep(lasts / 4).await;
                        world.start_host(host, &mut dice);
                        sleep(lasts / 2).await;
                    }
                    world.hosts[host].disk.borrow_mut().troubles = Troubles::NONE;
                }
            }
        });
    }
}
