//! Machines: each is given credentials by some server, and asks all of them who it is.

use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;

use inborn_credential::Delivery;
use inborn_identity::InstanceId;
use tokio::time::sleep;

use crate::call::Signer;
use crate::oracle::Asked;
use crate::world::World;

const WHOAMI: &str = "Action=GetCallerIdentity&Version=2011-06-15";
/// The most credentials a machine keeps: those of before are tried, too.
const KEPT_MAX: usize = 4;

/// One machine, until all is well.
pub(crate) async fn live(world: Rc<World>, id: InstanceId, mut random: fastrand::Rng) {
    let mut kept: Vec<(Duration, Signer)> = Vec::new();
    while world.is_troubled() {
        sleep(Duration::from_millis(random.u64(300..3500))).await;
        if kept.is_empty() || random.u32(0..3) == 0 {
            let issued = world.any_server().and_then(|server| {
                let now = server.region.now();
                server.region.issue(id, Delivery::V2, now)
            });
            if let Some(issued) = issued {
                let signer = Signer::from(&issued.credential);
                if kept.iter().all(|(_, have)| have.access_key_id != signer.access_key_id) {
                    kept.push((world.elapsed(), signer));
                    if kept.len() > KEPT_MAX {
                        kept.remove(0);
                    }
                }
            }
        }
        let Some(server) = world.any_server() else { continue };
        let Some((issued, signer)) = kept.get(random.usize(0..kept.len().max(1))) else { continue };
        let sent = world.elapsed();
        let Some(reply) = world.call(&server, "sts", WHOAMI, signer).await else { continue };
        let asked = Asked { id, issued: *issued, sent, answered: world.elapsed(), server: server.run };
        let policy = world.whoami;
        let told = world.oracle.borrow_mut().answered(asked, reply.status, reply.code(), policy);
        if let Some(line) = told {
            world.note(line);
        }
    }
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
        let at = world.now();
        let issued: Vec<_> = world
            .servers
            .iter()
            .filter_map(|server| server.running())
            .filter_map(|server| server.region.issue(id, Delivery::V2, at))
            .map(|issued| {
                let credential = issued.credential;
                let secret = credential.secret_access_key.expose().to_owned();
                (credential.access_key_id.to_string(), secret, credential.session_token.expose().to_owned())
            })
            .collect();
        world.oracle.borrow_mut().compared(world.elapsed(), issued.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

/// At the end, when all is well: every server knows every machine that is there, gives all the same, and lets nobody in who has
/// ended.
pub(crate) async fn all_are_known(world: &Rc<World>) {
    let (living, ended) = world.oracle.borrow().living_and_ended();
    for server in world.servers.iter().map(|server| server.running().unwrap()) {
        for (id, number) in &living {
            let now = server.region.now();
            let Some(issued) = server.region.issue(*id, Delivery::V2, now) else {
                let line = format!("machine {number} is not known to server run {} in the end", server.run);
                world.oracle.borrow_mut().violation(world.elapsed(), line);
                continue;
            };
            let reply = world.call(&server, "sts", WHOAMI, &Signer::from(&issued.credential)).await;
            let status = reply.as_ref().map(|reply| reply.status);
            if status != Some(200) {
                let code = reply.map(|reply| reply.code().to_owned()).unwrap_or_default();
                let line = format!("machine {number} is refused in the end: {status:?} {code}");
                world.oracle.borrow_mut().violation(world.elapsed(), line);
            }
        }
        for (id, number) in &ended {
            if Arc::clone(&server.region).issue(*id, Delivery::V2, server.region.now()).is_some() {
                let line = format!("machine {number} is given credentials after its end");
                world.oracle.borrow_mut().violation(world.elapsed(), line);
            }
        }
    }
}
