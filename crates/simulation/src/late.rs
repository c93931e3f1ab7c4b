//! Changes that take effect late, after whoever asked for them was told that nobody knows what became of them.

use core::time::Duration;
use std::rc::Rc;

use tokio::time::sleep;

use crate::world::World;

/// How often it is looked what has taken effect: sooner than anybody has to have heard of it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Tells the oracle what takes effect, as long as the simulation lasts.
pub(crate) async fn watch(world: Rc<World>) {
    loop {
        sleep(LOOK_EVERY).await;
        for (at, what) in world.late.taken_effect() {
            let at = world.since_beginning(at);
            world.note(format!("at {at:?} a change takes effect late of {}", what.join(", ")));
            world.oracle.borrow_mut().took_effect(&what, at);
        }
    }
}
