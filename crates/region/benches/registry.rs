//! A region of a million machines: how long it takes to start, how much memory it takes, what a look-up and a credential cost,
//! how long it takes to start with a million cut-offs more, and the memory of these. The goals: 2 s, 300 MB, 1 ms, a tenth of a core for a million refreshes an hour, 64 MB.
//!
//! The store is filled once, on the disk of the target directory; each round opens it in a process of its own, whose memory is
//! then told apart from everything else. Its pages are in the system's cache by then: what is measured is ours, not the disk.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::cast_precision_loss, reason = "figures")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{NOW, identity};
use inborn_credential::{CutOff, CutOffs, Delivery};
use inborn_identity::{AccountId, Clock, HostId, InstanceId};
use inborn_region::{EpochSettings, KeySource, Opening, Rates, RegionServer, TelemetrySettings};
use inborn_store::conformance::samples::bare;
use inborn_store::{
    HostJoin, Instance, JoinToken, LaunchRequest, Quarantine, QuarantineBasis, QuarantineScope, RecordedCutOff,
    SqliteStore, Store,
};
use inborn_testkit::ManualClock;
use rustix::time::{ClockId, clock_gettime};

/// Another number may be said by the variable `INBORN_BENCH_MACHINES`: a multiple of [`ON_HOST`].
const MACHINES: u32 = 1_000_000;
const ROUNDS: usize = 3;
const LOOKED_UP: u32 = 200_000;
/// Machines that are launched together, on one host.
const ON_HOST: u32 = 1000;
/// Cut-offs that are written together.
const CUT_OFFS_TOGETHER: u32 = 50_000;

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("open"), Some(directory)) => runtime().block_on(open(Path::new(&directory))),
        (Some("start"), Some(directory)) => drop(runtime().block_on(start(Path::new(&directory)))),
        (Some("cut-offs"), _) => cut_offs(),
        _ => {
            let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            runtime().block_on(fill(directory.path()));
            let machines = machines_at_all();
            println!("{machines} machines, each with a tag, on {} hosts, in SQLite", machines / ON_HOST);
            for _ in 0..ROUNDS {
                again(&["open", directory.path().to_str().unwrap()]);
            }
            runtime().block_on(fill_cut_offs(directory.path()));
            println!("and {machines} cut-offs of machines that have ended");
            for _ in 0..ROUNDS {
                again(&["start", directory.path().to_str().unwrap()]);
            }
            again(&["cut-offs"]);
        }
    }
}

fn machines_at_all() -> u32 {
    std::env::var("INBORN_BENCH_MACHINES").map_or(MACHINES, |number| number.parse().unwrap())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn again(arguments: &[&str]) {
    assert!(Command::new(std::env::current_exe().unwrap()).args(arguments).status().unwrap().success());
}

/// A machine as people have them. Ids are spread as real ones are.
fn machine(number: u32) -> Instance {
    let tags = BTreeMap::from([("Name".to_owned(), format!("web-{number}"))]);
    let account: AccountId = identity().account;
    let reservation_id = format!("r-{:017x}", number / ON_HOST);
    Instance { id: id(number), account, tags, reservation_id, private_address: address(number), ..bare(number) }
}

/// Each has another one of the region's own network.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() | number.wrapping_mul(0x009e_3779) & 0x00ff_ffff)
}

fn id(number: u32) -> InstanceId {
    let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let [a, b, c, d, e, f, g, h] = spread.to_be_bytes();
    InstanceId::from_bytes([a & 0x0f, b, c, d, e, f, g, h, 7])
}

async fn fill(directory: &Path) {
    let store = SqliteStore::open(&directory.join("region.db")).unwrap();
    for first in (0..machines_at_all()).step_by(ON_HOST as usize) {
        let mut instances: Vec<Instance> = (first..first + ON_HOST).map(machine).collect();
        let reservation_id = instances[0].reservation_id.clone();
        let host = host(&store, first / ON_HOST).await;
        for (index, instance) in (0..).zip(&mut instances) {
            instance.ami_launch_index = index;
            instance.host = Some(host);
        }
        let account = identity().account;
        let request = LaunchRequest { account, client_token: None, fingerprint: [0; 32], reservation_id, instances };
        store.launch(request).await.unwrap();
    }
    store.close().await.unwrap();
    let bytes = std::fs::metadata(directory.join("region.db")).unwrap().len();
    println!("the database has {:.0} bytes for each machine", bytes as f64 / f64::from(machines_at_all()));
}

/// As many machines as there are have ended, and nobody has forgotten them yet. The end of a quarantine writes many at once.
async fn fill_cut_offs(directory: &Path) {
    let store = SqliteStore::open(&directory.join("region.db")).unwrap();
    let (scope, reason, by) = (QuarantineScope::All, String::new(), "operator".to_owned());
    let quarantine = Quarantine { scope, reason, by, since: NOW };
    let of_ended = |number: u32| {
        let cut_off = inborn_store::CutOff::Dead { instance: id(machines_at_all() + number) };
        RecordedCutOff { cut_off, at: NOW }
    };
    for first in (0..machines_at_all()).step_by(CUT_OFFS_TOGETHER as usize) {
        let behind = (first + CUT_OFFS_TOGETHER).min(machines_at_all());
        store.put_quarantine(quarantine.clone(), QuarantineBasis::Any).await.unwrap();
        assert!(store.end_quarantine(quarantine.clone(), (first..behind).map(of_ended).collect()).await.unwrap());
    }
    store.close().await.unwrap();
}

async fn host(store: &SqliteStore, number: u32) -> HostId {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&number.to_be_bytes());
    let id = HostId::from_bytes(id(number).to_bytes());
    let token = JoinToken {
        digest,
        accounts: BTreeSet::from([identity().account]),
        created_at: NOW,
        expires_at: NOW.plus(900),
    };
    store.put_join_token(token).await.unwrap();
    let name = format!("host-{number}");
    store.join_host(HostJoin { digest, id, name, public_key: vec![4; 65], at: NOW }).await.unwrap();
    id
}

/// Starts a region: also by itself, to compare two builds in turn over the store that one of them has left.
async fn start(directory: &Path) -> Arc<RegionServer> {
    let before = memory("VmRSS");
    let started = Instant::now();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&directory.join("region.db")).unwrap());
    let opening = Opening {
        identity: identity(),
        key_source: KeySource::File(directory.join("epoch.key")),
        audit_file: directory.join("audit.jsonl"),
        rates: Rates::default(),
        telemetry: TelemetrySettings::default(),
        epochs: EpochSettings::DEFAULT,
        accept_older_store: false,
        fleet: None,
    };
    let clock = Arc::new(ManualClock::new(NOW)) as Arc<dyn Clock>;
    let region = RegionServer::open(store, opening, clock).await.unwrap();
    let (took, processors) = (started.elapsed().as_secs_f64(), seconds(ClockId::ProcessCPUTime));
    assert_eq!(region.machines().count(), machines_at_all() as usize);
    let (rest, most) = (memory("VmRSS"), memory("VmHWM"));
    println!(
        "  ready after {took:.2} s, of processors {processors:.2} s; the process has {before:.0} MB before and {rest:.0} MB \
        after, {most:.0} MB at most"
    );
    region
}

async fn open(directory: &Path) {
    let region = start(directory).await;
    let machines = region.machines();
    let account = identity().account;
    spread("a look-up as for verification", |number| machines.packed(id(number)).is_some());
    spread("a look-up of the whole record", |number| machines.get(id(number)).is_some());
    spread("a look-up by address", |number| machines.running_at(account, address(number).into()).len() == 1);
    spread("how many have an address", |number| machines.count_at(address(number).into()) == 1);
    let looked_up = each(|number| machines.packed(id(number)).is_some());
    let begun = Instant::now();
    assert_eq!(machines.of_account(account).filter(|machine| machine.is_running()).count(), machines_at_all() as usize);
    let of_account = begun.elapsed();
    let begun = Instant::now();
    assert_eq!(machines.iter().filter(|machine| machine.is_running()).count(), machines_at_all() as usize);
    let all = begun.elapsed();
    let begun = Instant::now();
    assert!(machines.blocks(account, 16).len() <= 256);
    println!(
        "  through all machines {:.0} ms, through all of an account {:.0} ms, its blocks of addresses {:.2} ms",
        milliseconds(all),
        milliseconds(of_account),
        milliseconds(begun.elapsed())
    );
    let issued = each(|number| region.issue(id(number), Delivery::V2, NOW).is_some());
    let share = f64::from(machines_at_all()) * issued * 1e-6 / 3600.0;
    println!(
        "  a look-up {looked_up:.2} us, a credential {issued:.1} us: {:.2} % of a core for one a machine and hour",
        100.0 * share
    );
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What each of many machines takes, by the clock: the fastest, the median, the 99th of a hundred, and the slowest.
fn spread(what: &str, does: impl Fn(u32) -> bool) {
    let one = |number: u32| {
        let begun = Instant::now();
        assert!(does(number.wrapping_mul(7919) % machines_at_all()));
        begun.elapsed()
    };
    let mut took: Vec<f64> = (0..LOOKED_UP).map(|number| one(number).as_secs_f64() * 1e6).collect();
    took.sort_by(f64::total_cmp);
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    println!(
        "  {what}: {:.2} us at best, {:.2} median, {:.2} for 99 %, {:.0} at worst",
        at(0),
        at(50),
        at(99),
        at(100)
    );
}

/// Microseconds of this thread for each of many machines.
fn each(does: impl Fn(u32) -> bool) -> f64 {
    let started = cpu();
    let found = (0..LOOKED_UP).filter(|number| does(number.wrapping_mul(7919) % machines_at_all())).count();
    let took = cpu() - started;
    assert_eq!(found, LOOKED_UP as usize);
    took * 1e6 / f64::from(LOOKED_UP)
}

fn cut_offs() {
    let before = memory("VmRSS");
    let mut all = CutOffs::new();
    let started = cpu();
    for number in 0..machines_at_all() {
        all.insert(CutOff::Dead { instance: id(number) }, NOW);
    }
    let took = cpu() - started;
    assert_eq!(all.len(), machines_at_all() as usize);
    let (rest, most) = (memory("VmRSS") - before, memory("VmHWM") - before);
    let asked = each(|number| all.issue_not_before(identity().account, id(number)).as_secs() == 0);
    println!(
        "{} cut-offs: {rest:.0} MB, at most {most:.0} MB meanwhile; {:.2} us to add one, {asked:.2} us to ask for one",
        machines_at_all(),
        took * 1e6 / f64::from(machines_at_all())
    );
}

/// Megabytes of this process.
fn memory(of: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(of)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
}

fn cpu() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
