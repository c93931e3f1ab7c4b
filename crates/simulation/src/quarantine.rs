//! Quarantine of a host, of an account, or of all: one at a time, so that it is known what came after what.

use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;

use tokio::time::sleep;

use crate::operator::try_until_known;
use crate::oracle::Scope;
use crate::world::{ACCOUNTS, World};

/// How often it is looked whether nobody has a machine in hand.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who has machines in hand, and who waits until nobody has.
#[derive(Default)]
pub(crate) struct Hands {
    taken: Cell<usize>,
    is_awaited: Cell<bool>,
    /// Whether there is a quarantine of many, or may be.
    is_wide: Cell<bool>,
}

/// An operator does something with machines.
pub(crate) struct Hand<'a>(&'a Hands);

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
    }
}

impl Hands {
    pub(crate) fn take(&self) -> Hand<'_> {
        self.taken.set(self.taken.get() + 1);
        Hand(self)
    }

    /// Whether nobody is to begin anything now.
    pub(crate) const fn are_awaited(&self) -> bool {
        self.is_awaited.get()
    }
}

/// Puts many into quarantine, and releases them. What nobody knows the end of, and what may still be done by a call that was not
/// answered, stays as it is: then there is no other.
pub(crate) async fn put_and_release(world: &Rc<World>, random: &mut fastrand::Rng) {
    if world.hands.is_wide.replace(true) {
        return;
    }
    world.hands.is_awaited.set(true);
    while world.hands.taken.get() > 0 {
        sleep(LOOK_EVERY).await;
    }
    let scope = match random.u32(0..4) {
        0 => Scope::All,
        1 => Scope::Account(random.usize(0..ACCOUNTS.len())),
        _ => Scope::Host(random.usize(0..world.hosts.len())),
    };
    world.oracle.borrow_mut().wide_may_begin(scope, world.elapsed());
    world.hands.is_awaited.set(false);
    world.note(format!("{scope:?} is to be in quarantine"));
    let Some((server, is_alone)) = until_done(world, "Inborn.PutQuarantine", scope).await else { return };
    world.oracle.borrow_mut().wide_began(server, world.elapsed());
    world.note(format!("{scope:?} is in quarantine"));
    if !is_alone {
        return;
    }
    sleep(Duration::from_millis(random.u64(0..9000))).await;
    world.oracle.borrow_mut().wide_may_end(world.elapsed());
    let Some((_, is_alone)) = until_done(world, "Inborn.EndQuarantine", scope).await else { return };
    world.oracle.borrow_mut().wide_ended(world.elapsed());
    world.note(format!("{scope:?} is released"));
    // One that comes late would end the next.
    world.hands.is_wide.set(!is_alone);
}

/// Which run of a server has said that it is done, and whether nothing of it is still under way.
async fn until_done(world: &Rc<World>, action: &str, scope: Scope) -> Option<(usize, bool)> {
    let subject = match scope {
        Scope::Host(number) => world.hosts[number].id.to_string(),
        Scope::Account(number) => ACCOUNTS[number].to_owned(),
        Scope::All => "%2A".to_owned(),
    };
    let done = try_until_known(world, &format!("Action={action}&Version=2016-11-15&Subject.1={subject}")).await?;
    // What a try before has done is not there any more, and is the only reason for a refusal.
    if done.reply.status != 200 && done.is_first {
        let line = format!("{action} of {scope:?} is refused: {}", done.reply.code());
        world.oracle.borrow_mut().violation(world.elapsed(), line);
    }
    Some((done.server, done.is_alone))
}
