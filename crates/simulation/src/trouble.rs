//! What goes wrong: drawn one after the other, each with its end.

use core::time::Duration;
use std::rc::Rc;

use tokio::time::sleep;

use crate::clock::Clocks;
use crate::host::Seeded;
use crate::world::World;

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
                    world.hosts[host].start(world.servers.len(), &mut dice);
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
