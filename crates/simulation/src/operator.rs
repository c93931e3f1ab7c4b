//! Operators: they launch, stop, start, reboot, quarantine, release and terminate, and ask again when they hear nothing.

use core::time::Duration;
use std::rc::Rc;

use inborn_identity::InstanceId;
use tokio::time::sleep;

use crate::call::Reply;
use crate::host::Host;
use crate::oracle::Ending;
use crate::world::{REGION_ACCOUNT, World};
use crate::{epochs, machine, quarantine};

/// How often somebody asks who hears nothing.
const TRIES_MAX: usize = 12;
const MACHINES_MAX: usize = 12;
/// An operator has something against a host, an account or all once in so many times.
const QUARANTINES_ONE_OF: u32 = 40;
/// An operator has something against a host for good once in so many times.
const EVICTIONS_ONE_OF: u32 = 250;
/// And so often an operator lets a new epoch take the place of the present one, or revokes one.
const ROTATIONS_ONE_OF: u32 = 120;
const REVOCATIONS_ONE_OF: u32 = 200;
/// How often somebody asks who has to know: longer than any trouble lasts.
const TRIES_UNTIL_KNOWN_MAX: usize = 120;

/// One operator, until the trouble is over.
pub(crate) async fn work(world: Rc<World>, mut random: fastrand::Rng) {
    let mut launches = 0;
    while world.is_troubled() {
        world.rest(Duration::from_millis(random.u64(0..2500))).await;
        if random.u32(0..ROTATIONS_ONE_OF) == 0 {
            epochs::rotate(&world).await;
            continue;
        }
        // While hours pass more seldom: else none would come to its end. Clocks must not be far off.
        let is_far = world.clocks.is_far();
        if random.u32(0..REVOCATIONS_ONE_OF) == 0 && !is_far && (world.slow_for().is_zero() || random.u32(0..4) == 0) {
            epochs::revoke(&world, &mut random).await;
            continue;
        }
        if random.u32(0..QUARANTINES_ONE_OF) == 0 && !is_far {
            quarantine::put_and_release(&world, &mut random).await;
            continue;
        }
        if world.hands.are_awaited() {
            continue;
        }
        if random.u32(0..EVICTIONS_ONE_OF) == 0 {
            let _hand = world.hands.take();
            evict(&world, &mut random).await;
            continue;
        }
        let known: Vec<InstanceId> = world.oracle.borrow().free().collect();
        if known.is_empty() && world.oracle.borrow().in_wide() >= MACHINES_MAX {
            continue;
        }
        if known.is_empty() || (random.u32(0..4) == 0 && known.len() < MACHINES_MAX) {
            launches += 1;
            launch(&world, &mut random, launches).await;
            continue;
        }
        let id = known[random.usize(0..known.len())];
        // One operator at a time has a machine, so that it is known what came after what.
        world.oracle.borrow_mut().take(id);
        let _hand = world.hands.take();
        match random.u32(0..5) {
            0 => _ = end(&world, id, "TerminateInstances", Ending::Terminated).await,
            1 => {
                let pair = ("StopInstances", Ending::Stopped, "StartInstances");
                if !end_and_begin(&world, id, pair, &mut random).await {
                    continue;
                }
            }
            2 => {
                let reboot = format!("Action=RebootInstances&Version=2016-11-15&InstanceId.1={id}");
                world.oracle.borrow_mut().rebooted(id, world.elapsed());
                let account = world.oracle.borrow().account_of(id);
                let done = ask_for(&world, account, &reboot).await;
                world.oracle.borrow_mut().rebooted(id, world.elapsed());
                // It may end a boot whenever it takes effect.
                if !done.is_some_and(|done| done.is_alone) {
                    continue;
                }
            }
            3 if !is_far => {
                let pair = ("Inborn.PutQuarantine", Ending::Quarantined, "Inborn.EndQuarantine");
                if !end_and_begin(&world, id, pair, &mut random).await {
                    continue;
                }
            }
            _ => sleep(Duration::from_millis(random.u64(0..3000))).await,
        }
        world.oracle.borrow_mut().give_back(id);
    }
}

async fn launch(world: &Rc<World>, random: &mut fastrand::Rng, number: u32) {
    let token = format!("{number}-{:016x}", random.u64(..));
    let account = usize::from(random.u32(0..3) == 0);
    let count = random.u32(1..=2);
    let on = random.choice(&world.hosts).filter(|host| !host.state.borrow().is_ending && random.bool());
    let placed = on.map(|host| format!("&Placement.HostId={}", host.id)).unwrap_or_default();
    let body = format!(
        "Action=RunInstances&Version=2016-11-15&ImageId=ami-12345678&MinCount={count}&MaxCount={count}&ClientToken={token}{placed}"
    );
    let launching = |by: isize| {
        on.iter().for_each(|host| {
            let mut state = host.state.borrow_mut();
            state.launching = state.launching.saturating_add_signed(by);
        });
    };
    launching(1);
    let reply = ask_of(world, account, &body).await;
    // Whether one that was not acknowledged is there nobody knows: its host is not to be cut off by the book.
    let Some(reply) = reply else { return };
    launching(-1);
    let ids: Vec<InstanceId> = reply.all("instanceId").map(|id| id.parse().unwrap()).collect();
    if ids.len() != count as usize {
        world.oracle.borrow_mut().violation(world.elapsed(), format!("{count} were launched, {} told", ids.len()));
    }
    for id in ids {
        let host = on.map(|host| host.number);
        let number = world.oracle.borrow_mut().launched(id, account, host, world.elapsed());
        world.note(format!(
            "machine {number} is launched{}",
            host.map(|host| format!(" on host {host}")).unwrap_or_default()
        ));
        tokio::task::spawn_local(machine::live(Rc::clone(world), id, host, random.fork()));
    }
}

/// Ends a machine and lets it begin again; whether its operator knows how it is. A call that nobody has answered goes on at its
/// server, and may do what it was asked for when the next has long been answered: after it nothing else is asked for.
async fn end_and_begin(
    world: &Rc<World>,
    id: InstanceId,
    (end_by, ending, begin_by): (&str, Ending, &str),
    random: &mut fastrand::Rng,
) -> bool {
    if !end(world, id, end_by, ending).await {
        return false;
    }
    sleep(Duration::from_millis(random.u64(0..8000))).await;
    begin(world, id, begin_by).await
}

/// Whether it is done, and nothing of it is still under way.
async fn end(world: &Rc<World>, id: InstanceId, action: &str, ending: Ending) -> bool {
    world.oracle.borrow_mut().may_end(id, ending, world.elapsed());
    let Some(done) = told(world, id, action).await else { return false };
    let number = world.oracle.borrow_mut().ended(id, ending, done.server, world.elapsed());
    world.note(format!("machine {number} has ended: {ending:?}"));
    done.is_alone
}

/// Cuts a host off, and with it all that it has.
async fn evict(world: &Rc<World>, random: &mut fastrand::Rng) {
    let is_whole = |host: &&Host| {
        let state = host.state.borrow();
        !state.is_ending && state.launching == 0
    };
    let Some(host) = random.choice(&world.hosts).filter(is_whole) else { return };
    let free = world.oracle.borrow().free_on(host.number);
    let Some(ids) = free else { return };
    host.state.borrow_mut().is_ending = true;
    for id in &ids {
        world.oracle.borrow_mut().take(*id);
        world.oracle.borrow_mut().may_end(*id, Ending::Terminated, world.elapsed());
    }
    let ask = format!("Action=Inborn.EvictHost&Version=2016-11-15&HostId={}", host.id);
    // Of what was not acknowledged nobody knows anything.
    let Some(Done { server, .. }) = ask_for(world, REGION_ACCOUNT, &ask).await else { return };
    world.note(format!("host {} is evicted", host.number));
    world.oracle.borrow_mut().evicted();
    host.state.borrow_mut().is_cut_off = true;
    for id in ids {
        world.oracle.borrow_mut().ended(id, Ending::Terminated, server, world.elapsed());
        world.oracle.borrow_mut().give_back(id);
    }
}

/// As [`end`].
async fn begin(world: &Rc<World>, id: InstanceId, action: &str) -> bool {
    world.oracle.borrow_mut().may_begin(id, world.elapsed());
    let Some(done) = told(world, id, action).await else { return false };
    let number = world.oracle.borrow_mut().begun(id, world.elapsed());
    world.note(format!("machine {number} has begun again"));
    done.is_alone
}

/// What was asked for, and is done.
pub(crate) struct Done {
    /// Which run of a server has said so.
    pub(crate) server: usize,
    pub(crate) reply: Reply,
    /// Whether every try before was answered.
    pub(crate) is_alone: bool,
    /// Whether there was no try before, which may have done it.
    pub(crate) is_first: bool,
}

async fn told(world: &Rc<World>, id: InstanceId, action: &str) -> Option<Done> {
    let subject = if action.starts_with("Inborn.") { "Subject" } else { "InstanceId" };
    let account = world.oracle.borrow().account_of(id);
    ask_for(world, account, &format!("Action={action}&Version=2016-11-15&{subject}.1={id}")).await
}

/// As an operator of the region's own account.
pub(crate) async fn ask(world: &Rc<World>, body: &str) -> Option<Reply> {
    ask_of(world, REGION_ACCOUNT, body).await
}

async fn ask_of(world: &Rc<World>, account: usize, body: &str) -> Option<Reply> {
    ask_for(world, account, body).await.map(|done| done.reply)
}

/// Asks one server after the other until one has done it.
async fn ask_for(world: &Rc<World>, account: usize, body: &str) -> Option<Done> {
    let done = answered(world, account, body, TRIES_MAX).await?;
    // What was done at the first try, whose answer was lost, or cannot be done.
    if done.reply.status == 400 {
        let action = body.split('&').next().unwrap_or_default();
        world.note(format!("refused: {} for {action}", done.reply.code()));
        return None;
    }
    Some(done)
}

/// As [`ask_for`], until it is known that it is done: what is refused is what was done at a try before.
pub(crate) async fn try_until_known(world: &Rc<World>, body: &str) -> Option<Done> {
    answered(world, REGION_ACCOUNT, body, TRIES_UNTIL_KNOWN_MAX).await
}

/// Asks one server after the other until one says that it is done, or that it cannot be done.
async fn answered(world: &Rc<World>, account: usize, body: &str, tries_max: usize) -> Option<Done> {
    let (mut is_alone, mut is_first) = (true, true);
    for _ in 0..tries_max {
        if let Some(server) = world.any_server() {
            let signer = world.operator_of(account, &server);
            match world.call(&server, "ec2", body, &signer).await {
                Some(reply) if [200, 400].contains(&reply.status) => {
                    return Some(Done { server: server.run, reply, is_alone, is_first });
                }
                Some(_) => is_first = false,
                None => (is_alone, is_first) = (false, false),
            }
        }
        sleep(Duration::from_millis(700)).await;
    }
    None
}
