//! Epochs: operators let one follow another, or revoke one; and it is looked at how far each is, at each server and in the store.

use core::time::Duration;
use std::rc::Rc;

use tokio::time::{sleep, timeout};

use crate::clock::Clocks;
use crate::lineage::Place;
use crate::operator::{ask, try_until_known};
use crate::world::World;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long it is waited for a server that is about to change what it knows.
const PATIENCE: Duration = Duration::from_secs(1);

/// A new epoch is to take the place of the present one.
pub(crate) async fn rotate(world: &Rc<World>) {
    // Where one is on its way already that is refused.
    let Some(reply) = ask(world, "Action=Inborn.RotateEpoch&Version=2016-11-15").await else { return };
    let epoch = reply.all("epochId").next().unwrap().parse().unwrap();
    world.note(format!("epoch {epoch} is made by a rotation"));
    world.oracle.borrow_mut().lineage.rotated(epoch, world.elapsed());
}

/// Some epoch is ended at once, mostly the one that seals.
pub(crate) async fn revoke(world: &Rc<World>, random: &mut fastrand::Rng) {
    let target = world.oracle.borrow().lineage.target(random, world.now());
    let Some((epoch, has_sealed)) = target else { return };
    if !world.oracle.borrow_mut().lineage.may_revoke(world.elapsed()) {
        return;
    }
    world.note(format!("epoch {epoch} is to be revoked"));
    let body = format!("Action=Inborn.RevokeEpoch&Version=2016-11-15&EpochId={epoch}");
    // Refused is what an earlier try has done.
    let Some(done) = try_until_known(world, &body).await else { return };
    world.note(format!("epoch {epoch} is revoked"));
    world.oracle.borrow_mut().lineage.revoked(epoch, has_sealed, done.server, world.elapsed());
}

/// Looks, as long as the simulation lasts.
pub(crate) async fn watch(world: Rc<World>) {
    loop {
        sleep(LOOK_EVERY).await;
        look(&world).await;
    }
}

/// How far the epochs are: first at the servers, so that none of them has to know more than the store has then.
pub(crate) async fn look(world: &Rc<World>) {
    let mut found = Vec::new();
    for server in &world.servers {
        let Some(running) = server.running() else { continue };
        // Who crashes meanwhile may never say.
        if let Ok(known) = timeout(PATIENCE, running.region.known_epochs()).await {
            found.push((Place::Server(server.number), known));
        }
    }
    found.push((Place::Store, world.stored_epochs().await));
    for (place, epochs) in found {
        let wrong = world.oracle.borrow_mut().lineage.look(place, epochs, world.now());
        if let Some(wrong) = wrong {
            world.oracle.borrow_mut().violation(world.elapsed(), wrong);
        }
    }
}

/// At the end, when all is well: what was revoked is over everywhere, and every rotation goes on.
pub(crate) async fn all_are_onward(world: &Rc<World>) {
    look(world).await;
    let lacks = world.oracle.borrow().lineage.lacks(world.elapsed());
    if let Some(lacks) = lacks {
        world.oracle.borrow_mut().violation(world.elapsed(), lacks);
    }
}

/// One seed of so many has hours in it: this one of them, so that it is known how many there are.
const HOURS_ONE_OF: u64 = 128;
const HOURS_AT: u64 = 77;
const HOURS_MIN: Duration = Duration::from_secs(20 * 60);
const HOURS_MAX: Duration = Duration::from_secs(70 * 60);

/// Every second one of those has clocks that are as far off as a rotation allows.
const FAR_ONE_OF: u64 = 2;

const fn has_hours(seed: u64) -> bool {
    seed % HOURS_ONE_OF == HOURS_AT
}

/// How far clocks are off.
pub(crate) const fn clocks(seed: u64) -> Clocks {
    let number = seed / HOURS_ONE_OF;
    match (has_hours(seed) && number % FAR_ONE_OF == 1, number % (2 * FAR_ONE_OF) == 1) {
        (true, true) => Clocks::FarAhead,
        (true, false) => Clocks::FarBehind,
        (false, _) => Clocks::Near,
    }
}

/// In few simulations a long time passes, for all alike: servers and hosts do what they do, and everybody else does all more seldom.
/// It begins with a rotation, so that most of them see one epoch follow another.
pub(crate) async fn let_hours_pass(world: Rc<World>, seed: u64, mut random: fastrand::Rng) {
    if !has_hours(seed) {
        return;
    }
    sleep(Duration::from_millis(random.u64(5_000..45_000))).await;
    let lasts = Duration::from_secs(random.u64(HOURS_MIN.as_secs()..=HOURS_MAX.as_secs()));
    world.note(format!("from now on everything is slow for {lasts:?}"));
    world.slow_down(lasts);
    rotate(&world).await;
}
