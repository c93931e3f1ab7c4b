//! Hosts apart from their region, as processes: they join, serve their machines, outlive their region's absence and their own
//! restart, and are cut off.
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

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use hosts::{Host, OTHER, REGION, Region, code, credential, join, join_at, launch, metadata, run, text, until};

/// By when a host has done what the region says, on a busy machine. It hears of it at once; nobody was let in meanwhile.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(20);

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_token_makes_one_host() {
    let region = Region::start();
    let base = tempfile::tempdir().unwrap();
    let data = base.path().join("host");
    let token = region.token();
    let other = if &token[6..7] == "A" { "B" } else { "A" };
    let refused = join(&region, &format!("inbj1_{other}{}", &token[7..]), &data);
    let said = text(&refused.stderr);
    assert!(code(refused.status) == 3 && said.contains("inborn host token"), "{said}");
    assert!(!data.join("host.json").exists());

    let joined = join(&region, &format!("{token}\n"), &data);
    assert!(joined.status.success(), "{}", text(&joined.stderr));
    assert!(text(&joined.stdout).contains("inborn host --data"), "{}", text(&joined.stdout));
    assert_eq!((mode(&data), mode(&data.join("host.key")), mode(&data.join("host.json"))), (0o700, 0o600, 0o600));
    let listed = run(&["hosts", "--data", region.data()]);
    assert!(text(&listed.stdout).contains("kvm-1") && text(&listed.stdout).contains("active"), "{listed:?}");

    // The token is used up, and the directory is taken: whichever is tried, it is said what to do.
    let replayed = join(&region, &token, &base.path().join("other"));
    assert_eq!(code(replayed.status), 3, "{}", text(&replayed.stderr));
    let before = std::fs::read(data.join("host.json")).unwrap();
    let again = join(&region, &region.token(), &data);
    let said = text(&again.stderr);
    assert!(code(again.status) == 1 && said.contains("already") && said.contains("--data"), "{said}");
    assert_eq!(std::fs::read(data.join("host.json")).unwrap(), before);

    // One that may be in other hands: the one printed just now that nobody has used, and this.
    let lost = region.token();
    let revoked = run(&["host", "revoke-tokens", "--data", region.data()]);
    assert!(text(&revoked.stdout).starts_with("2 tokens were revoked"), "{revoked:?}");
    let refused = join(&region, &lost, &base.path().join("lost"));
    assert_eq!(code(refused.status), 3, "{}", text(&refused.stderr));
}

#[test]
fn a_join_that_cannot_be_costs_no_token() {
    let mut region = Region::start();
    let base = tempfile::tempdir().unwrap();
    let token = region.token();
    // A region's own directory, and a token of another region: its authority is not the one at this address.
    let in_regions = join(&region, &token, std::path::Path::new(region.data()));
    assert_eq!(code(in_regions.status), 1, "{}", text(&in_regions.stderr));
    let other = Region::start();
    let foreign = join(&region, &other.token(), &base.path().join("a"));
    let said = text(&foreign.stderr);
    assert!(code(foreign.status) == 1 && said.contains("no server of the region"), "{said}");
    let none = join(&region, "inbj1_x", &base.path().join("b"));
    assert!(text(&none.stderr).contains("a join token begins with inbj1_"), "{}", text(&none.stderr));
    region.go_away();
    let away = join(&region, &token, &base.path().join("c"));
    assert_eq!(code(away.status), 1, "{}", text(&away.stderr));
    region.come_back();
    let file = base.path().join("token");
    std::fs::write(&file, &token).unwrap();
    let address = format!("127.0.0.1:1,{}", region.hosts_address());
    let (file, data) = (file.to_str().unwrap(), base.path().join("c"));
    let joined =
        run(&["host", "join", "--token-file", file, "--region-endpoint", &address, "--data", data.to_str().unwrap()]);
    assert!(joined.status.success(), "{}", text(&joined.stderr));
}

/// The way of a machine on a host: placed, attached, asked; through its region's absence, its host's restart, and back.
#[test]
fn a_host_serves_while_its_region_is_away_and_after_its_own_restart() {
    let mut region = Region::start();
    let mut host = Host::start(&region);
    let id = region.launch_long_before_rotation(REGION, &host.id);
    let port = host.attach(&id.to_string());
    let signer = until("the machine has a credential", || credential(port));
    let (status, body) = region.whoami(&signer);
    assert!(status == 200 && body.contains(&id.to_string()), "{body}");
    let document = || metadata(port, "/latest/dynamic/instance-identity/document").ok();
    let signature =
        || metadata(port, "/latest/dynamic/instance-identity/pkcs7").ok().filter(|(status, _)| *status == 200);
    assert!(document().unwrap().1.contains(&id.to_string()));
    let signed = until("the document is signed", signature);
    host.wait_until_kept();

    region.go_away();
    assert_eq!(credential(port).unwrap().secret, signer.secret, "served on");
    host.go_away();
    assert!(credential(port).is_none(), "nobody serves");
    host.come_back();
    let after = credential(port).expect("served from what was kept, at the same port, without the region");
    assert_eq!((after.access_key_id, after.secret), (signer.access_key_id.clone(), signer.secret.clone()));
    assert_eq!(signature().unwrap(), signed, "and the signed document too");
    until("it finds that the region is away", || (host.status()["is_connected"] == false).then_some(()));
    assert_eq!(host.status()["machines"][0]["state"], "running");
    assert_eq!((host.operations("/livez").0, host.operations("/readyz").0), (200, 200), "it lacks nothing yet");
    let metrics = host.operations("/metrics").1;
    for line in
        ["inborn_host_region_connected 0", "inborn_host_machines 1", "inborn_host_machines_without_credentials 0"]
    {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }

    region.come_back();
    assert_eq!(region.whoami(&signer).0, 200);
    let begun = Instant::now();
    until("the region is heard again", || (host.status()["is_connected"] == true).then_some(()));
    eprintln!("the region was heard {:?} after it was back", begun.elapsed());
    // And what it says counts: another machine comes, this one ends.
    let other = region.launch_on(&host.id);
    let others = host.attach(&other.to_string());
    assert!(region.whoami(&until("the other has a credential", || credential(others))).1.contains(&other.to_string()));
    region.operate(&format!("Action=TerminateInstances&InstanceId.1={id}"));
    let begun = Instant::now();
    until("a terminated machine is not served", || metadata(port, "/latest/meta-data/").is_err().then_some(()));
    eprintln!("a termination was followed by its host after {:?}", begun.elapsed());
    assert!(begun.elapsed() < FOLLOWED_WITHIN, "{:?}", begun.elapsed());
    assert_eq!(region.whoami(&signer).0, 403);
    assert!(credential(others).is_some());
}

/// A host of the second region of a deployment: it is that region's alone, and so are its machines, which STS knows in both.
#[test]
fn a_host_of_a_second_region() {
    let mut region = Region::start_with_other();
    let base = tempfile::tempdir().unwrap();
    // Each region has an authority of hosts: a token is shown to nobody else.
    let token = region.token_of(OTHER);
    let refused = join(&region, &token, &base.path().join("a"));
    let said = text(&refused.stderr);
    assert!(code(refused.status) == 1 && said.contains("no server of the region"), "{said}");
    let of_home = join_at(&region.hosts_address_of_other(), &region.token(), &base.path().join("b"));
    assert_eq!(code(of_home.status), 1, "{}", text(&of_home.stderr));
    let mut host = Host::joined_at(&region.hosts_address_of_other(), &token);
    host.come_back();
    let listed = |name: &str| text(&run(&["hosts", "--region", name, "--data", region.data()]).stdout);
    assert!(listed(OTHER).contains(&host.id) && !listed(REGION).contains(&host.id));

    let (status, body) = region.ask_in(REGION, &launch(&host.id));
    assert!(status == 400 && body.contains("InvalidHostID.NotFound"), "{body}");
    let id = region.launch_long_before_rotation(OTHER, &host.id).to_string();
    let port = host.attach(&id);
    let signer = until("the machine has a credential", || credential(port));
    let placed = metadata(port, "/latest/meta-data/placement/region").unwrap();
    assert_eq!(placed, (200, OTHER.to_owned()));
    let whoami = |region: &Region| {
        [REGION, OTHER].map(|name| region.call_in(name, &signer, "sts", "Action=GetCallerIdentity&Version=2011-06-15"))
    };
    for (status, body) in whoami(&region) {
        assert!(status == 200 && body.contains(&id), "{body}");
    }
    let describe = "Action=DescribeInstances&Version=2016-11-15";
    let (status, body) = region.call_in(REGION, &signer, "ec2", describe);
    assert!(status == 401 && body.contains("AuthFailure"), "nobody at the home: {status} {body}");

    // Through the absence of all regions, and its own restart in it.
    host.wait_until_kept();
    region.go_away();
    host.go_away();
    host.come_back();
    let after = credential(port).expect("served from what was kept");
    assert_eq!(after.secret, signer.secret);
    region.come_back();
    until("the region is heard again", || (host.status()["is_connected"] == true).then_some(()));
    assert_eq!(whoami(&region).map(|(status, _)| status), [200, 200]);

    let evicted = run(&["host", "evict", &host.id, "--region", OTHER, "--data", region.data()]);
    assert!(evicted.status.success(), "{}", text(&evicted.stderr));
    assert_eq!(whoami(&region).map(|(status, _)| status), [403, 403], "refused from the answer on");
    assert_eq!(host.ended(), 4);
}

/// What was terminated while the host was away is gone as soon as the region is heard, also after a restart from the cache.
#[test]
fn what_ended_meanwhile_does_not_come_back() {
    let mut region = Region::start();
    let mut host = Host::start(&region);
    let id = region.launch_on(&host.id);
    let port = host.attach(&id.to_string());
    until("the machine has a credential", || credential(port));
    host.wait_until_kept();
    host.go_away();
    region.operate(&format!("Action=TerminateInstances&InstanceId.1={id}"));
    host.come_back();
    until("it is not served", || metadata(port, "/latest/meta-data/").is_err().then_some(()));
    assert_eq!(host.status()["machines"].as_array().unwrap().len(), 0);
    assert!(!std::fs::read_to_string(host.data().join("attachments.json")).unwrap().contains(&id.to_string()));
    // A cache that was damaged, or is another host's, is not served from: the region is waited for.
    let other = region.launch_on(&host.id);
    let port = host.attach(&other.to_string());
    until("the machine has a credential", || credential(port));
    host.wait_until_kept();
    host.go_away();
    region.go_away();
    let cache = host.data().join("cache.sealed");
    let mut bytes = std::fs::read(&cache).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&cache, bytes).unwrap();
    host.come_back();
    assert_eq!(host.status()["machines"].as_array().unwrap().len(), 0);
    assert!(metadata(port, "/latest/meta-data/").is_err());
    region.come_back();
    until("it is served again", || credential(port));
}

#[test]
fn a_stopped_machine_is_silent_and_one_in_quarantine_has_no_credential() {
    let region = Region::start();
    let host = Host::start(&region);
    let id = region.launch_on(&host.id);
    let port = host.attach(&id.to_string());
    let first = until("the machine has a credential", || credential(port));
    region.operate(&format!("Action=StopInstances&InstanceId.1={id}"));
    until("a stopped machine is silent", || (metadata(port, "/latest/meta-data/").unwrap().0 == 404).then_some(()));
    region.operate(&format!("Action=StartInstances&InstanceId.1={id}"));
    let second = until("it has another credential", || credential(port).filter(|now| now.secret != first.secret));
    assert_eq!((region.whoami(&first).0, region.whoami(&second).0), (403, 200));
    let path = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";
    region.operate(&format!("Action=Inborn.PutQuarantine&Subject.1={id}"));
    until("it has none in quarantine", || (metadata(port, path).unwrap().0 == 404).then_some(()));
    region.operate(&format!("Action=Inborn.EndQuarantine&Subject.1={id}"));
    // The new ones are dated some minutes ahead, behind all that was given before, and are good at once.
    let third = until("it has others", || credential(port).filter(|now| now.secret != second.secret));
    assert_eq!((region.whoami(&second).0, region.whoami(&third).0), (403, 200), "what it had before has ended");
}

#[test]
fn an_evicted_host_forgets_and_ends() {
    let region = Region::start();
    let mut host = Host::start(&region);
    let id = region.launch_on(&host.id);
    let port = host.attach(&id.to_string());
    let signer = until("the machine has a credential", || credential(port));
    until("it is kept", || host.data().join("cache.sealed").exists().then_some(()));
    let begun = Instant::now();
    let evicted = run(&["host", "evict", &host.id, "--data", region.data()]);
    assert!(evicted.status.success(), "{}", text(&evicted.stderr));
    assert_eq!(region.whoami(&signer).0, 403, "refused from the answer on");
    until("its metadata is gone", || metadata(port, "/latest/meta-data/").is_err().then_some(()));
    eprintln!("an eviction took {:?}", begun.elapsed());
    assert!(begun.elapsed() < FOLLOWED_WITHIN, "{:?}", begun.elapsed());
    assert_eq!(host.ended(), 4);
    for file in ["host.key", "cache.sealed", "cache.key", "attachments.json"] {
        assert!(!host.data().join(file).exists(), "{file}");
    }
    // And stays so, until it joins anew.
    let again = run(&["host", "--data", &host.path()]);
    assert!(code(again.status) == 4 && text(&again.stderr).contains("evicted"), "{}", text(&again.stderr));
    let joined = join(&region, &region.token(), &host.data());
    assert!(joined.status.success(), "{}", text(&joined.stderr));
    host.come_back();
}

/// A backup was put back: which hosts were evicted since nobody knows, and one command lets those in that are trusted.
#[test]
fn after_an_older_store_was_accepted_hosts_wait_for_their_release() {
    let mut region = Region::start();
    let hosts = [(); 3].map(|()| Host::start(&region));
    let ports = hosts.each_ref().map(|host| host.attach(&region.launch_on(&host.id).to_string()));
    for port in ports {
        until("a machine has a credential", || credential(port));
    }
    region.go_away();
    // Where the whole directory was put back, who takes this away and says so is believed.
    std::fs::remove_file(std::path::Path::new(region.data()).join("high-water.json")).unwrap();
    region.come_back_with(&["--accept-older-store"]);
    let listed = run(&["hosts", "--data", region.data()]);
    assert_eq!(text(&listed.stdout).matches("active, quarantine").count(), 3, "{listed:?}");
    let why = text(&run(&["quarantine", "--list", "--data", region.data()]).stdout);
    assert!(why.matches("--accept-older-store").count() == 3 && why.contains("an older store was accepted"), "{why}");
    for port in ports {
        until("nothing is served any more", || credential(port).is_none().then_some(()));
    }

    let release = |ids: &str| run(&["release", "--host", ids, "--data", region.data()]);
    // More than one call may name: it is not refused for that.
    let many: Vec<String> = (1..=101).map(|number| format!("h-{number:017x}")).collect();
    let refused = release(&many.join(","));
    assert!(text(&refused.stderr).contains(&format!("{} is not in quarantine", many[0])), "{refused:?}");
    let [stolen, trusted @ ..] = &hosts;
    let evicted = run(&["host", "evict", &stolen.id, "--data", region.data()]);
    assert!(evicted.status.success(), "{evicted:?}");
    let named: Vec<&str> = trusted.iter().map(|host| host.id.as_str()).collect();
    let released = release(&named.join(","));
    assert!(released.status.success(), "{released:?}");
    for port in &ports[1..] {
        let held = until("a machine has a credential again", || credential(*port));
        assert_eq!(region.whoami(&held).0, 200);
    }
    assert!(credential(ports[0]).is_none());
}

/// Nothing of a machine is readable in the host's files, and no two of them can be mixed up.
#[test]
fn what_a_host_keeps_is_sealed() {
    let region = Region::start();
    let host = Host::start(&region);
    let id = region.launch_on(&host.id);
    let port = host.attach(&id.to_string());
    let signer = until("the machine has a credential", || credential(port));
    host.wait_until_kept();
    let token = signer.token.unwrap();
    for entry in std::fs::read_dir(host.data()).unwrap() {
        let entry = entry.unwrap();
        if !entry.metadata().unwrap().is_file() {
            continue;
        }
        let bytes = std::fs::read(entry.path()).unwrap();
        let holds = |secret: &str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!holds(&signer.secret) && !holds(&token), "{}", entry.path().display());
        assert_eq!(mode(&entry.path()) & 0o077, 0, "{}", entry.path().display());
    }
}

#[test]
fn the_host_says_what_to_do() {
    let region = Region::start();
    let base = tempfile::tempdir().unwrap();
    let nowhere = run(&["host", "--data", base.path().to_str().unwrap()]);
    assert!(
        code(nowhere.status) == 1 && text(&nowhere.stderr).contains("inborn host join"),
        "{}",
        text(&nowhere.stderr)
    );
    let host = Host::start(&region);
    let unknown = run(&["attach", "i-0123456789abcdef0", "--loopback", "--data", &host.path()]);
    assert!(text(&unknown.stderr).contains("inborn host status"), "{}", text(&unknown.stderr));
    let twice = run(&["host", "--data", &host.path()]);
    assert!(text(&twice.stderr).contains("running"), "{}", text(&twice.stderr));
    let idle = Host::joined(&region);
    let up = run(&["up", "--port", "0", "--tls-port", "0", "--operations-port", "0", "--data", &idle.path()]);
    assert!(text(&up.stderr).contains("host apart from its region"), "{}", text(&up.stderr));
}

/// As a service manager runs it: it is told that the host serves, and gives the key of the cache.
#[test]
fn a_service_manager_gives_the_key_and_is_told() {
    let region = Region::start();
    let mut host = Host::joined(&region);
    let base = tempfile::tempdir().unwrap();
    std::fs::write(base.path().join("cache"), format!("inborn-key-1 {}\n", "5a".repeat(32))).unwrap();
    let notify = base.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(hosts::PATIENCE)).unwrap();
    let variables = [("CREDENTIALS_DIRECTORY", base.path()), ("NOTIFY_SOCKET", notify.as_path())];
    let arguments = ["--key-credential", "cache"];
    host.come_back_with(&arguments, &variables);
    let mut told = [0; 256];
    let length = manager.recv(&mut told).unwrap();
    assert_eq!(text(&told[..length]), format!("READY=1\nSTATUS=host {} of region us-east-1", host.id));
    let id = region.launch_long_before_rotation(REGION, &host.id);
    let port = host.attach(&id.to_string());
    let held = until("the machine has a credential", || credential(port));
    host.wait_until_kept();
    assert!(!host.data().join("cache.key").exists(), "the key is the service manager's");
    host.go_away();
    drop(region);
    host.come_back_with(&arguments, &variables);
    assert_eq!(credential(port).unwrap().secret, held.secret);
    host.go_away();
    // Without it, the cache is of no use.
    let missing = run(&["host", "--key-credential", "cache", "--data", &host.path()]);
    let said = text(&missing.stderr);
    assert!(code(missing.status) == 1 && said.contains("LoadCredentialEncrypted"), "{said}");
}

/// Neither by `inborn open-tunnel` nor by what stands on it; nobody waits for a tunnel that leads nowhere.
#[test]
fn to_a_machine_on_a_host_no_tunnel_leads_and_it_is_said_what_does() {
    let region = Region::start();
    let host = Host::joined(&region);
    let id = region.launch_on(&host.id).to_string();
    let refused = run(&["open-tunnel", &id, "--data", region.data()]);
    let said = text(&refused.stderr);
    assert_eq!(code(refused.status), 1, "{said}");
    assert!(said.contains(&host.id) && said.contains("inborn shell") && said.contains("your own network"), "{said}");
}
