//! Some hundred hosts over real sockets: a region that was killed and is back is found by all of them, and answers others
//! meanwhile. Ten thousand are in `host-agent/tests/load.rs`, in simulated time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says how long things took"
)]

mod calls;
mod hosts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hosts::{PATIENCE, Region};
use inborn_fleet::{Join, JoinToken};
use inborn_host_agent::{Address, Agent, Client, SystemDice, Talk};
use inborn_identity::{Clock, UnixTime};
use inborn_pki::{HostCertificate, HostKey, tls};
use tokio::sync::watch;

const HOSTS: usize = 400;
/// Hosts that come back within any one second. Two hundred are meant (`region/src/hosts`).
const RETURNS_MAX: usize = 300;
const TRIES: usize = 3;
/// After this every host has had an answer.
const TOLD_AFTER: Duration = Duration::from_secs(27);
/// How long a call of an operator may take while they do, on a busy machine and without optimisation.
const CALL_MAX: Duration = Duration::from_secs(5);

struct Today;

impl Clock for Today {
    fn now(&self) -> UnixTime {
        calls::now()
    }
}

/// A host that has joined.
async fn join(region: &Region, address: &Address) -> Arc<Talk> {
    let token: JoinToken = region.join_token().parse().unwrap();
    let key = HostKey::generate().unwrap();
    let stranger = Client::new(tls::host_client_config(token.authority(), None).unwrap());
    let secret = token.secret().to_vec();
    let asked = Join { secret, name: "kvm".to_owned(), public_key: key.public_key().to_vec() };
    let joined = stranger.join(address, &asked).await.unwrap();
    let ends = HostCertificate::from_pem(&joined.certificate).unwrap().not_after;
    let config = tls::host_client_config(token.authority(), Some((&joined.certificate, &key))).unwrap();
    let addresses = vec![address.clone()];
    Talk::new(Client::new(config), addresses, Arc::new(Today), Box::new(SystemDice), |_, dice| {
        Agent::new(1, ends, dice)
    })
}

/// Waits until all have the region, or none has; gives when each was seen to.
async fn seen(hosts: &[Arc<Talk>], wanted: bool) -> Vec<Duration> {
    let begun = Instant::now();
    let mut seen = vec![None; hosts.len()];
    while seen.iter().any(Option::is_none) {
        assert!(begun.elapsed() < PATIENCE, "{} of them", seen.iter().flatten().count());
        for (host, seen) in hosts.iter().zip(&mut seen) {
            if seen.is_none() && host.agent().is_connected() == wanted {
                *seen = Some(begun.elapsed());
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut seen: Vec<Duration> = seen.into_iter().flatten().collect();
    seen.sort();
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn some_hundred_hosts_come_back_without_a_rush() {
    let mut region = Region::start();
    let address: Address = region.hosts_address().parse().unwrap();
    let (stop, stopped) = watch::channel(false);
    let mut all = Vec::new();
    for _ in 0..HOSTS {
        let host = join(&region, &address).await;
        tokio::spawn(Arc::clone(&host).go_on(stopped.clone(), async |_| {}));
        all.push(host);
    }
    seen(&all, true).await;
    // With its next answer each is told over how long they shall spread.
    tokio::time::sleep(TOLD_AFTER).await;

    // A computer that stands still for a moment brings together who came apart; a region that does not spread them always does.
    let mut tries = Vec::new();
    while tries.len() < TRIES {
        let found = come_back(&mut region, &all).await;
        tries.push(found);
        if is_well(&found) {
            break;
        }
        // Until all have heard again over how long they shall spread.
        tokio::time::sleep(TOLD_AFTER).await;
    }
    assert!(tries.iter().any(is_well), "{tries:?}");
    let _ = stop.send(true);
}

/// Whether the hosts did not come all at once, and kept no operator waiting.
fn is_well((peak, slowest): &(usize, Duration)) -> bool {
    *peak <= RETURNS_MAX && *slowest < CALL_MAX
}

/// How many of them are back within one second, once the region that went away is back; and the slowest of an operator's calls meanwhile.
async fn come_back(region: &mut Region, all: &[Arc<Talk>]) -> (usize, Duration) {
    region.go_away();
    seen(all, false).await;
    region.come_back();
    let returning = tokio::spawn({
        let all = all.to_vec();
        async move { seen(&all, true).await }
    });
    let mut slowest = Duration::ZERO;
    let mut calls = 0;
    while !returning.is_finished() {
        let begun = Instant::now();
        tokio::task::block_in_place(|| region.operate("Action=DescribeInstances"));
        slowest = slowest.max(begun.elapsed());
        calls += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let back = returning.await.unwrap();
    let within =
        |from: &Duration| back.iter().filter(|at| *at >= from && **at < *from + Duration::from_secs(1)).count();
    let peak = back.iter().map(within).max().unwrap();
    eprintln!(
        "{HOSTS} hosts were back after {:?}, at most {peak} within a second; the slowest of {calls} other calls took {slowest:?}",
        back[HOSTS - 1]
    );
    (peak, slowest)
}
