//! A region of a million machines: how long it takes to start, how much memory it takes, what a look-up and a credential cost,
//! and the memory of a million cut-offs. The goals: 2 s, 300 MB, 1 ms, a tenth of a core for a million refreshes an hour, 64 MB.
//!
//! The store is filled once, on the disk of the target directory; each round opens it in a process of its own, whose memory is
//! then told apart from everything else. Its pages are in the system's cache by then: what is measured is ours, not the disk.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::cast_precision_loss, reason = "figures")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use common::{NOW, identity};
use inborn_credential::{CutOff, CutOffs, Delivery};
use inborn_identity::{AccountId, Clock, InstanceId};
use inborn_region::{EpochSettings, KeySource, Opening, Rates, RegionServer, TelemetrySettings};
use inborn_store::conformance::samples::bare;
use inborn_store::{Instance, LaunchRequest, SqliteStore, Store};
use inborn_testkit::ManualClock;
use rustix::time::{ClockId, clock_gettime};

const MACHINES: u32 = 1_000_000;
const ROUNDS: usize = 3;
const LOOKED_UP: u32 = 200_000;

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("open"), Some(directory)) => runtime().block_on(open(Path::new(&directory))),
        (Some("cut-offs"), _) => cut_offs(),
        _ => {
            let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            runtime().block_on(fill(directory.path()));
            println!("{MACHINES} machines, each with a tag, in SQLite");
            for _ in 0..ROUNDS {
                again(&["open", directory.path().to_str().unwrap()]);
            }
            again(&["cut-offs"]);
        }
    }
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
    Instance { id: id(number), account, tags, reservation_id: format!("r-{:017x}", number / 1000), ..bare(number) }
}

fn id(number: u32) -> InstanceId {
    let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let [a, b, c, d, e, f, g, h] = spread.to_be_bytes();
    InstanceId::from_bytes([a & 0x0f, b, c, d, e, f, g, h, 7])
}

async fn fill(directory: &Path) {
    let store = SqliteStore::open(&directory.join("region.db")).unwrap();
    for first in (0..MACHINES).step_by(1000) {
        let mut instances: Vec<Instance> = (first..first + 1000).map(machine).collect();
        let reservation_id = instances[0].reservation_id.clone();
        for (index, instance) in (0..).zip(&mut instances) {
            instance.ami_launch_index = index;
        }
        let account = identity().account;
        let request = LaunchRequest { account, client_token: None, fingerprint: [0; 32], reservation_id, instances };
        store.launch(request).await.unwrap();
    }
    store.close().await.unwrap();
}

async fn open(directory: &Path) {
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
    let took = started.elapsed().as_secs_f64();
    assert_eq!(region.machines().count(), MACHINES as usize);
    let (rest, most) = (memory("VmRSS") - before, memory("VmHWM") - before);
    println!("  ready after {took:.2} s, {rest:.0} MB, at most {most:.0} MB meanwhile");
    let looked_up = each(|number| region.machines().get(id(number)).is_some());
    let issued = each(|number| region.issue(id(number), Delivery::V2, NOW).is_some());
    let share = f64::from(MACHINES) * issued * 1e-6 / 3600.0;
    println!(
        "  a look-up {looked_up:.2} us, a credential {issued:.1} us: {:.2} % of a core for one a machine and hour",
        100.0 * share
    );
}

/// Microseconds of this thread for each of many machines.
fn each(does: impl Fn(u32) -> bool) -> f64 {
    let started = cpu();
    let found = (0..LOOKED_UP).filter(|number| does(number.wrapping_mul(7919) % MACHINES)).count();
    let took = cpu() - started;
    assert_eq!(found, LOOKED_UP as usize);
    took * 1e6 / f64::from(LOOKED_UP)
}

fn cut_offs() {
    let before = memory("VmRSS");
    let mut all = CutOffs::new();
    let started = cpu();
    for number in 0..MACHINES {
        all.insert(CutOff::Dead { instance: id(number) }, NOW);
    }
    let took = cpu() - started;
    assert_eq!(all.len(), MACHINES as usize);
    let (rest, most) = (memory("VmRSS") - before, memory("VmHWM") - before);
    let asked = each(|number| all.issue_not_before(identity().account, id(number)).as_secs() == 0);
    println!(
        "{MACHINES} cut-offs: {rest:.0} MB, at most {most:.0} MB meanwhile; {:.2} us to add one, {asked:.2} us to ask for one",
        took * 1e6 / f64::from(MACHINES)
    );
}

/// Megabytes of this process.
fn memory(of: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(of)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
}

fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
