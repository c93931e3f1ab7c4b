//! Machines: each is given credentials by some server, and asks all of them who it is.

use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;

use inborn_credential::Delivery;
use inborn_identity::InstanceId;
use inborn_store::{InstanceState, QuarantineScope};
use tokio::time::sleep;

use crate::call::Signer;
use crate::host::{GIVEN_AHEAD_SECONDS, Held};
use crate::oracle::Asked;
use crate::server::Running;
use crate::world::World;

/// Longer than a server gives anything by what it heard last.
const HEARD_WITHIN: Duration = Duration::from_secs(7);
const WHOAMI: &str = "Action=GetCallerIdentity&Version=2011-06-15";
/// The most credentials a machine keeps: those of before are tried, too.
const KEPT_MAX: usize = 4;

/// One machine, until all is well.
pub(crate) async fn live(world: Rc<World>, id: InstanceId, host: Option<usize>, mut random: fastrand::Rng) {
    let mut kept: Vec<Held> = Vec::new();
    let mut held = None;
    while world.is_troubled() {
        world.rest(Duration::from_millis(random.u64(300..3500))).await;
        if let Some(host) = host {
            look_again(&world, id, host, &mut held);
        }
        if kept.is_empty() || random.u32(0..3) == 0 {
            let found = credential(&world, id, host);
            let is_new = |held: &Held| kept.iter().all(|have| have.signer.access_key_id != held.signer.access_key_id);
            if let Some(found) = found.filter(is_new) {
                kept.push(found);
                if kept.len() > KEPT_MAX {
                    kept.remove(0);
                }
            }
        }
        let Some(server) = world.any_server() else { continue };
        let Some(Held { signer, issued, .. }) = kept.get(random.usize(0..kept.len().max(1))) else { continue };
        let sent = world.elapsed();
        let Some(reply) = world.call(&server, "sts", WHOAMI, signer).await else { continue };
        let asked =
            Asked { id, epoch: signer.epoch, issued: *issued, sent, answered: world.elapsed(), server: server.run };
        let policy = world.whoami;
        let told = world.oracle.borrow_mut().answered(asked, reply.status, reply.code(), policy);
        if let Some(line) = told {
            world.note(line);
        }
    }
}

/// What a machine finds in its metadata: of its host, or straight from some server. Whatever it is, it is good for long.
fn credential(world: &World, id: InstanceId, host: Option<usize>) -> Option<Held> {
    let held = match host {
        Some(host) => world.hosts[host].credential(id),
        None => world.any_server().and_then(|server| {
            let now = server.region.now();
            let issued = server.region.issue(id, Delivery::V2, now)?;
            let at = world.elapsed();
            Some(Held::new(&issued.credential, now, (at, at)))
        }),
    }?;
    world.oracle.borrow_mut().found(id, held.left, world.elapsed());
    Some(held)
}

/// What a host has of a machine that lives and is not changed, it has until its computer ends, whatever becomes of the region.
fn look_again(world: &World, id: InstanceId, host: usize, held: &mut Option<(usize, Duration)>) {
    let now = world.hosts[host].run().zip(world.oracle.borrow().lives_since(id));
    let has = credential(world, id, Some(host));
    if now.is_some() && now == *held && has.is_none() {
        let number = world.oracle.borrow().place(id).map(|(number, _)| number);
        let line = format!("machine {number:?} has no credential any more at host {host}");
        world.oracle.borrow_mut().violation(world.elapsed(), line);
    }
    // What was given before the last change is to go, and so is what a server gave that had not heard of it.
    *held = now.filter(|(_, changed)| has.is_some_and(|has| has.issued.0 > *changed + HEARD_WITHIN));
}

/// Whether servers agree about each byte of what they issue.
pub(crate) async fn compare(world: Rc<World>, mut random: fastrand::Rng) {
    loop {
        sleep(Duration::from_secs(2)).await;
        let ids: Vec<InstanceId> = world.oracle.borrow().settled(world.elapsed()).collect();
        if ids.is_empty() {
            continue;
        }
        let id = ids[random.usize(0..ids.len())];
        // Hosts are given what comes next ahead of its time.
        let at = world.now().plus(random.u64(0..=GIVEN_AHEAD_SECONDS));
        let issued: Vec<_> = world
            .servers
            .iter()
            .filter_map(|server| server.running())
            .filter_map(|server| server.region.issue(id, Delivery::V2, at))
            .map(|issued| issued.credential)
            .collect();
        let is_same = issued.windows(2).all(|pair| pair[0] == pair[1]);
        let sealed = issued.first().map(|credential| (Signer::from(credential).epoch, credential.issued_at));
        world.oracle.borrow_mut().compared(world.elapsed(), is_same, sealed);
    }
}

/// At the end, when all is well: every server knows every machine that is there, gives all the same, and lets nobody in who has
/// ended.
pub(crate) async fn all_are_known(world: &Rc<World>) {
    let (living, ended) = world.oracle.borrow().living_and_ended();
    for server in world.servers.iter().map(|server| server.running().unwrap()) {
        for (id, number) in &living {
            let now = server.region.now();
            if server.region.issue(*id, Delivery::V2, now).is_none() {
                let line = format!("machine {number} is not known to server run {} in the end", server.run);
                world.oracle.borrow_mut().violation(world.elapsed(), line);
                continue;
            }
            let host = world.oracle.borrow().place(*id).and_then(|(_, host)| host);
            let Some(held) = credential(world, *id, host) else {
                let line = format!("machine {number} has no credential in the end, on host {host:?}");
                world.oracle.borrow_mut().violation(world.elapsed(), line);
                continue;
            };
            let reply = world.call(&server, "sts", WHOAMI, &held.signer).await;
            let status = reply.as_ref().map(|reply| reply.status);
            if status != Some(200) {
                let code = reply.map(|reply| reply.code().to_owned()).unwrap_or_default();
                let line = format!("machine {number} is refused in the end: {status:?} {code}");
                world.oracle.borrow_mut().violation(world.elapsed(), line);
            }
        }
        for (id, number) in &ended {
            let host = world.oracle.borrow().place(*id).and_then(|(_, host)| host);
            let is_held = host.is_some_and(|host| world.hosts[host].credential(*id).is_some());
            if is_held || Arc::clone(&server.region).issue(*id, Delivery::V2, server.region.now()).is_some() {
                let line = format!("machine {number} is given credentials after its end");
                world.oracle.borrow_mut().violation(world.elapsed(), line);
            }
        }
    }
}

/// At the end also of what nobody was told: every server has what the store has, and all have the same.
pub(crate) async fn all_are_as_stored(world: &Rc<World>) {
    let (quarantines, evicted) = world.stored_ends().await;
    let is_in = |scope| quarantines.contains(&scope);
    for machine in world.stored_machines().await {
        let has_ended = machine.state != InstanceState::Running
            || is_in(QuarantineScope::All)
            || is_in(QuarantineScope::Account(machine.account))
            || is_in(QuarantineScope::Instance(machine.id))
            || machine.host.is_some_and(|host| is_in(QuarantineScope::Host(host)) || evicted.contains(&host));
        let now = world.now();
        let servers = world.servers.iter().map(|server| server.running().unwrap());
        let issue = |server: Running| (server.run, server.region.issue(machine.id, Delivery::V2, now));
        let issued: Vec<_> = servers.map(issue).map(|(run, issued)| (run, issued.map(|one| one.credential))).collect();
        let number = world.oracle.borrow().place(machine.id).map(|(number, _)| number);
        let wrong = match issued.iter().find(|(_, credential)| credential.is_none() != has_ended) {
            Some((run, None)) => {
                Some(format!("machine {number:?} runs, and is not known to server run {run} in the end"))
            }
            Some((run, Some(_))) => {
                Some(format!("machine {number:?} has ended, and server run {run} does not know it"))
            }
            None if issued.windows(2).all(|pair| pair[0].1 == pair[1].1) => None,
            None => Some(format!("servers disagree about a credential of machine {number:?} in the end")),
        };
        if let Some(line) = wrong {
            world.oracle.borrow_mut().violation(world.elapsed(), line);
        }
    }
}
