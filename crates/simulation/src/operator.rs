//! Operators: they launch, stop, start, reboot, quarantine, release and terminate, and ask again when they hear nothing.

use core::time::Duration;
use std::rc::Rc;

use inborn_identity::InstanceId;
use tokio::time::sleep;

use crate::call::{Reply, Signer};
use crate::machine;
use crate::oracle::Ending;
use crate::world::World;

/// How often somebody asks who hears nothing.
const TRIES_MAX: usize = 12;
const MACHINES_MAX: usize = 12;

/// One operator, until the trouble is over.
pub(crate) async fn work(world: Rc<World>, mut random: fastrand::Rng) {
    let mut launches = 0;
    while world.is_troubled() {
        sleep(Duration::from_millis(random.u64(0..2500))).await;
        let known: Vec<InstanceId> = world.oracle.borrow().free().collect();
        if known.is_empty() || (random.u32(0..4) == 0 && known.len() < MACHINES_MAX) {
            launches += 1;
            launch(&world, &mut random, launches).await;
            continue;
        }
        let id = known[random.usize(0..known.len())];
        // One operator at a time has a machine, so that it is known what came after what.
        world.oracle.borrow_mut().take(id);
        match random.u32(0..5) {
            0 => end(&world, id, "TerminateInstances", Ending::Terminated).await,
            1 => {
                end(&world, id, "StopInstances", Ending::Stopped).await;
                sleep(Duration::from_millis(random.u64(0..8000))).await;
                begin(&world, id, "StartInstances").await;
            }
            2 => {
                let reboot = format!("Action=RebootInstances&Version=2016-11-15&InstanceId.1={id}");
                world.oracle.borrow_mut().rebooted(id, world.elapsed());
                let _ = ask(&world, &reboot).await;
                world.oracle.borrow_mut().rebooted(id, world.elapsed());
            }
            3 => {
                end(&world, id, "Inborn.PutQuarantine", Ending::Quarantined).await;
                sleep(Duration::from_millis(random.u64(0..8000))).await;
                begin(&world, id, "Inborn.EndQuarantine").await;
            }
            _ => sleep(Duration::from_millis(random.u64(0..3000))).await,
        }
        world.oracle.borrow_mut().give_back(id);
    }
}

async fn launch(world: &Rc<World>, random: &mut fastrand::Rng, number: u32) {
    let token = format!("{number}-{:016x}", random.u64(..));
    let count = random.u32(1..=2);
    let body = format!(
        "Action=RunInstances&Version=2016-11-15&ImageId=ami-12345678&MinCount={count}&MaxCount={count}&ClientToken={token}"
    );
    let Some(reply) = ask(world, &body).await else { return };
    let ids: Vec<InstanceId> = reply.all("instanceId").map(|id| id.parse().unwrap()).collect();
    if ids.len() != count as usize {
        world.oracle.borrow_mut().violation(world.elapsed(), format!("{count} were launched, {} told", ids.len()));
    }
    for id in ids {
        let number = world.oracle.borrow_mut().launched(id, world.elapsed());
        world.note(format!("machine {number} is launched"));
        tokio::task::spawn_local(machine::live(Rc::clone(world), id, random.fork()));
    }
}

async fn end(world: &Rc<World>, id: InstanceId, action: &str, ending: Ending) {
    world.oracle.borrow_mut().may_end(id, world.elapsed());
    if let Some(server) = told(world, id, action).await {
        let number = world.oracle.borrow_mut().ended(id, ending, server, world.elapsed());
        world.note(format!("machine {number} has ended: {ending:?}"));
    }
}

async fn begin(world: &Rc<World>, id: InstanceId, action: &str) {
    world.oracle.borrow_mut().may_begin(id, world.elapsed());
    if told(world, id, action).await.is_some() {
        let number = world.oracle.borrow_mut().begun(id, world.elapsed());
        world.note(format!("machine {number} has begun again"));
    }
}

/// Which run of a server has said that it is done.
async fn told(world: &Rc<World>, id: InstanceId, action: &str) -> Option<usize> {
    let subject = if action.starts_with("Inborn.") { "Subject" } else { "InstanceId" };
    ask_for(world, &format!("Action={action}&Version=2016-11-15&{subject}.1={id}")).await.map(|(server, _)| server)
}

async fn ask(world: &Rc<World>, body: &str) -> Option<Reply> {
    ask_for(world, body).await.map(|(_, reply)| reply)
}

/// Asks one server after the other until one has done it.
async fn ask_for(world: &Rc<World>, body: &str) -> Option<(usize, Reply)> {
    for _ in 0..TRIES_MAX {
        if let Some(server) = world.any_server() {
            let signer = Signer::from(server.region.operator_key().unwrap());
            match world.call(&server, "ec2", body, &signer).await {
                Some(reply) if reply.status == 200 => return Some((server.run, reply)),
                // What was done at the first try, whose answer was lost, or cannot be done.
                Some(reply) if reply.status == 400 => {
                    world.note(format!("refused: {} for {}", reply.code(), body.split('&').next().unwrap_or_default()));
                    return None;
                }
                _ => {}
            }
        }
        sleep(Duration::from_millis(700)).await;
    }
    None
}
