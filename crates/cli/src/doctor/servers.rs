//! The servers over one store: who beats, whose clock is off, who is where it says.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inborn_identity::{Clock, UnixTime};
use inborn_pki::tls;
use inborn_store::{Heard, RegionNode, Store};
use ipnet::IpNet;

use super::{Finding, Patient};
use crate::certificates::Published;
use crate::clock::SystemClock;
use crate::settings::Settings;

/// Between two looks at the beats: servers beat twice a second, and say so by whole seconds.
const PAUSE: Duration = Duration::from_secs(3);
/// How far a server's clock may be off before what is passed on from one to another is refused (docs/stores.md), and from where on
/// somebody should look. What a beat says is up to three seconds old.
const CLOCK_OFF_MAX_SECONDS: u64 = 30;
const CLOCK_OFF_SECONDS: u64 = 5;
/// A server that was heard within this time and is not any more may be missed.
const MISSED_SECONDS: u64 = 24 * 3600;
/// How long an address may take.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(5);

const SERVERS: &str = "servers";
const CLOCKS: &str = "clocks";
const ADDRESSES: &str = "addresses";
const BALANCERS: &str = "balancers";

/// A server that beats.
struct Living<'a> {
    node: &'a RegionNode,
    /// How much its clock is ahead.
    ahead_seconds: i64,
}

pub(super) async fn look(patient: &Patient, settings: &Settings, store: &dyn Store) -> Vec<Finding> {
    // What runs knows best what it was called.
    let running = patient.running.as_ref().and_then(|ready| ready.node.as_deref());
    let own = running.or(settings.fleet.as_ref().map(|fleet| fleet.name.as_str())).unwrap_or_default();
    let asked = async {
        let before = store.news(Heard::default()).await?;
        if !before.nodes.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
        let after = store.news(before.heard(None)).await?;
        Ok::<_, inborn_store::StoreError>((before.nodes, after.nodes))
    };
    let (before, after) = match asked.await {
        Ok(nodes) => nodes,
        Err(error) => return vec![Finding::problem(SERVERS, error.to_string(), "inborn store check")],
    };
    let now = SystemClock.now();
    let living = living(&before, &after, now);
    let mut findings = vec![verdict_on_servers(&living, &after, own, patient.running.is_some(), now)];
    findings.extend(verdict_on_clocks(&living));
    findings.push(verdict_on_balancers(&settings.balancers, living.len()));
    if living.is_empty() {
        return findings;
    }
    let mut reached = BTreeMap::new();
    for address in living.iter().map(|one| &one.node.address).filter(|address| !address.is_empty()) {
        let name = format!("ssm.{}.{}", settings.identity.region, settings.identity.domain);
        let (asked, ca) = (address.clone(), patient.data.join(Published::Tls.file()));
        let answer = tokio::task::spawn_blocking(move || reach(&asked, &name, &ca)).await;
        reached.insert(address.clone(), answer.unwrap_or_else(|error| Err(error.to_string())));
    }
    findings.push(verdict_on_addresses(&living, own, &reached));
    findings
}

/// Those that have beaten between the two looks.
fn living<'a>(before: &[RegionNode], after: &'a [RegionNode], now: UnixTime) -> Vec<Living<'a>> {
    let has_beaten = |node: &&RegionNode| {
        before.iter().find(|other| other.id == node.id).is_none_or(|other| other.beaten_at != node.beaten_at)
    };
    let ahead = |at: UnixTime| {
        let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        if at > now { signed(at.since(now)) } else { -signed(now.since(at)) }
    };
    let of = |node: &'a RegionNode| Living { node, ahead_seconds: ahead(node.beaten_at) };
    after.iter().filter(has_beaten).map(of).collect()
}

/// Names as a list; a name cannot be long.
fn names<'a>(nodes: impl Iterator<Item = &'a RegionNode>) -> String {
    let mut names: Vec<&str> = nodes.map(|node| node.name.as_str()).collect();
    names.sort_unstable();
    names.join(", ")
}

fn verdict_on_servers(
    living: &[Living<'_>],
    all: &[RegionNode],
    own: &str,
    is_running: bool,
    now: UnixTime,
) -> Finding {
    let lives = |name: &str| living.iter().any(|one| one.node.name == name);
    if is_running && !lives(own) {
        return Finding::problem(
            SERVERS,
            format!("this one, {own}, runs, and does not beat: others take it for gone"),
            "its log says why: does it reach the database, and may it write there?",
        );
    }
    // Each start is a node of its own: of a server that runs again the earlier ones are not missed.
    let is_missed =
        |node: &&RegionNode| !lives(&node.name) && node.name != own && node.beaten_at.plus(MISSED_SECONDS) > now;
    let mut missed: Vec<&RegionNode> = all.iter().filter(is_missed).collect();
    missed.sort_by(|one, other| (&one.name, other.beaten_at).cmp(&(&other.name, one.beaten_at)));
    missed.dedup_by(|one, other| one.name == other.name);
    let found = if living.is_empty() {
        "none beats".to_owned()
    } else {
        format!("{} beat: {}", living.len(), names(living.iter().map(|one| one.node)))
    };
    if !missed.is_empty() {
        let list: Vec<String> =
            missed.iter().map(|node| format!("{} since {}", node.name, node.beaten_at.rfc3339())).collect();
        let next = "is it meant to be off? if not, its log says why, or the network to the database";
        return Finding::hint(SERVERS, format!("{found}; not heard: {}", list.join(", ")), next);
    }
    let mut seen: Vec<&str> = living.iter().map(|one| one.node.name.as_str()).collect();
    seen.sort_unstable();
    let pairs = seen.iter().zip(seen.iter().skip(1));
    if let Some((twice, _)) = pairs.into_iter().find(|(one, other)| one == other) {
        return Finding::hint(
            SERVERS,
            format!("{found}: two are called {twice}"),
            "give each a name of its own (--node)",
        );
    }
    Finding::fine(SERVERS, found)
}

/// By the clock of this computer, which may be the one that is wrong.
fn verdict_on_clocks(living: &[Living<'_>]) -> Option<Finding> {
    let furthest = living.iter().max_by_key(|one| one.ahead_seconds.unsigned_abs())?;
    let told = || {
        let (name, off) = (&furthest.node.name, furthest.ahead_seconds);
        let way = if off > 0 { "ahead of" } else { "behind" };
        format!("that of server {name} is {} s {way} this computer's", off.unsigned_abs())
    };
    let next = "look at both computers: `timedatectl`, or chrony";
    let off = furthest.ahead_seconds.unsigned_abs();
    Some(if off > CLOCK_OFF_MAX_SECONDS {
        Finding::problem(CLOCKS, format!("{}: they refuse what the other passes on", told()), next)
    } else if off > CLOCK_OFF_SECONDS {
        Finding::hint(CLOCKS, told(), next)
    } else {
        Finding::fine(CLOCKS, "those of the servers that beat agree with this computer's")
    })
}

fn verdict_on_addresses(living: &[Living<'_>], own: &str, reached: &BTreeMap<String, Result<(), String>>) -> Finding {
    let of = |address: &str| names(living.iter().map(|one| one.node).filter(|node| node.address == address));
    let failed: Vec<String> = reached
        .iter()
        .filter_map(|(address, answer)| Some(format!("{} at {address}: {}", of(address), answer.as_ref().err()?)))
        .collect();
    let none = living.iter().filter(|one| one.node.address.is_empty()).count();
    if !failed.is_empty() {
        return Finding::problem(
            ADDRESSES,
            format!("not reached from here: {}", failed.join("; ")),
            "let servers reach each other there, or correct --advertise; sessions of Session Manager work at one server alone meanwhile",
        );
    }
    if let Some(shared) = reached.keys().find(|address| of(address).contains(", ")) {
        return Finding::problem(
            ADDRESSES,
            format!("{} say the same of themselves: {shared}", of(shared)),
            "--advertise is each server's own, and not the balancer's",
        );
    }
    let has = |scheme: &str| reached.keys().any(|address| address.starts_with(scheme));
    if has("https://") && has("http://") {
        return Finding::problem(
            ADDRESSES,
            "some servers are reached by https:// and some by http://: the former go to none of the latter",
            "give all the same kind with --advertise",
        );
    }
    if none > 0 && living.len() > 1 {
        return Finding::hint(
            ADDRESSES,
            format!("not said by {}", of("")),
            "--advertise: without it sessions of Session Manager are for calls that come to the server that carries them",
        );
    }
    match reached.len() {
        0 => Finding::fine(ADDRESSES, format!("{own} is alone, and says none")),
        count => Finding::fine(ADDRESSES, format!("{count} reached from here")),
    }
}

/// What is in front of servers nobody here can see: so it is said what holds, and what that means.
fn verdict_on_balancers(networks: &[IpNet], living: usize) -> Finding {
    if !networks.is_empty() {
        let list: Vec<String> = networks.iter().map(ToString::to_string).collect();
        let what = "what connects from there says where its calls come from (PROXY protocol, version 2), and is refused without that";
        return Finding::fine(BALANCERS, format!("{}: {what}", list.join(", ")));
    }
    let found = "no balancer is named: calls come from the address that connects. Behind a balancer that opens connections of its own, that is \
        the balancer, for everybody: all share its rate and its places, and the audit and findings name it";
    if living > 1 {
        let next = "if such a balancer is before these servers: let it send the PROXY protocol, version 2, and name it to each server at \
            the same time (--proxy-protocol-from; docs/operations.md, A fleet)";
        return Finding::hint(BALANCERS, found, next);
    }
    Finding::fine(BALANCERS, found)
}

/// Goes where a server says that it is, and has it show that it is one of the region, as servers do.
fn reach(address: &str, name: &str, ca: &Path) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let (scheme, at) = address.split_once("://").ok_or("it is no address")?;
    let mut found = at.to_socket_addrs().map_err(text)?;
    let at = found.next().ok_or("the name has no address")?;
    let mut stream = TcpStream::connect_timeout(&at, ADDRESS_PATIENCE).map_err(text)?;
    stream.set_read_timeout(Some(ADDRESS_PATIENCE)).map_err(text)?;
    stream.set_write_timeout(Some(ADDRESS_PATIENCE)).map_err(text)?;
    if scheme == "https" {
        let config = tls::client_config(Some(ca)).map_err(|error| error.to_string())?;
        let name = name.to_owned().try_into().map_err(|_| "the region's name is no name".to_owned())?;
        let connection = rustls::ClientConnection::new(Arc::clone(&config), name);
        let mut connection = connection.map_err(|error| error.to_string())?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).map_err(text)?;
        }
        return ask(&mut rustls::Stream::new(&mut connection, &mut stream)).map_err(text);
    }
    ask(&mut stream).map_err(text)
}

/// Whether something answers that speaks HTTP. What it says to who signs nothing does not matter.
fn ask(stream: &mut (impl Read + Write)) -> std::io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: sibling\r\nconnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    if head == *b"HTTP/" { Ok(()) } else { Err(std::io::Error::other("what answers there is no server")) }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use inborn_store::NodeId;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn node(id: u64, name: &str, beaten_at: UnixTime, address: &str) -> RegionNode {
        RegionNode {
            id: NodeId::new(id),
            name: name.to_owned(),
            started_at: beaten_at,
            beaten_at,
            verifies: 1,
            settled: 0,
            forgotten: 0,
            address: address.to_owned(),
        }
    }

    fn ahead(node: &RegionNode, seconds: i64) -> Living<'_> {
        Living { node, ahead_seconds: seconds }
    }

    #[test]
    fn who_has_beaten_lives_whatever_its_clock_says() {
        let before = [node(1, "a", NOW.minus(2), ""), node(2, "b", NOW.plus(600), ""), node(3, "c", NOW, "")];
        let after =
            [node(1, "a", NOW, ""), node(2, "b", NOW.plus(603), ""), node(3, "c", NOW, ""), node(4, "d", NOW, "")];
        let found: Vec<_> =
            living(&before, &after, NOW).iter().map(|one| (one.node.name.clone(), one.ahead_seconds)).collect();
        assert_eq!(found, [("a".to_owned(), 0), ("b".to_owned(), 603), ("d".to_owned(), 0)]);
    }

    #[test]
    fn servers_that_are_missed() {
        let all = [
            node(1, "a", NOW, ""),
            node(2, "a", NOW.minus(100), ""),
            node(3, "b", NOW.minus(100), ""),
            node(4, "b", NOW.minus(50), ""),
            node(5, "c", NOW.minus(MISSED_SECONDS), ""),
        ];
        let a = [ahead(&all[0], 0)];
        let finding = verdict_on_servers(&a, &all, "a", true, NOW);
        assert!(finding.verdict == Verdict::Hint && finding.found.contains("b since"), "{finding:?}");
        assert!(!finding.found.contains("c since") && finding.found.matches("since").count() == 1, "{finding:?}");
        assert_eq!(verdict_on_servers(&a, &all[..2], "a", true, NOW).verdict, Verdict::Fine);
        assert_eq!(verdict_on_servers(&[], &all[..2], "a", true, NOW).verdict, Verdict::Problem, "it runs");
        assert_eq!(verdict_on_servers(&[], &all[..2], "a", false, NOW).verdict, Verdict::Fine, "it is stopped");
        let twice = [ahead(&all[0], 0), ahead(&all[1], 0)];
        assert!(verdict_on_servers(&twice, &all[..2], "a", true, NOW).found.contains("two are called a"));
    }

    #[test]
    fn clocks_below_at_and_above_what_they_may_be_off() {
        let one = node(1, "a", NOW, "");
        let bound = i64::try_from(CLOCK_OFF_MAX_SECONDS).unwrap();
        let low = i64::try_from(CLOCK_OFF_SECONDS).unwrap();
        for (seconds, verdict) in [
            (0, Verdict::Fine),
            (low, Verdict::Fine),
            (-low, Verdict::Fine),
            (low + 1, Verdict::Hint),
            (-low - 1, Verdict::Hint),
            (bound, Verdict::Hint),
            (-bound, Verdict::Hint),
            (bound + 1, Verdict::Problem),
            (-bound - 1, Verdict::Problem),
        ] {
            let finding = verdict_on_clocks(&[ahead(&one, 1), ahead(&one, seconds)]).unwrap();
            assert_eq!(finding.verdict, verdict, "{seconds}: {finding:?}");
            assert_eq!(finding.found.contains("behind"), seconds < -low, "{finding:?}");
        }
        assert!(verdict_on_clocks(&[]).is_none());
    }

    #[test]
    fn addresses_that_are_missing_shared_mixed_or_not_reached() {
        let verdict = |addresses: &[&str], failed: &str| {
            let names = ["a", "b", "c"];
            let nodes: Vec<_> = addresses.iter().zip(names).map(|(at, name)| node(1, name, NOW, at)).collect();
            let living: Vec<_> = nodes.iter().map(|node| ahead(node, 0)).collect();
            let said = addresses.iter().filter(|address| !address.is_empty());
            let reached = said.map(|address| {
                let answer = if *address == failed { Err("refused".to_owned()) } else { Ok(()) };
                ((*address).to_owned(), answer)
            });
            let finding = verdict_on_addresses(&living, "a", &reached.collect());
            (finding.verdict, finding.found)
        };
        assert_eq!(verdict(&[""], "").0, Verdict::Fine, "nobody asks it");
        assert_eq!(verdict(&["https://a:1", "https://b:1"], "").0, Verdict::Fine);
        let (found, told) = verdict(&["https://a:1", ""], "");
        assert!(found == Verdict::Hint && told == "not said by b", "{told}");
        let (found, told) = verdict(&["https://a:1", "https://a:1"], "");
        assert!(found == Verdict::Problem && told.starts_with("a, b say the same"), "{told}");
        assert_eq!(verdict(&["https://a:1", "http://b:1"], "").0, Verdict::Problem);
        let (found, told) = verdict(&["https://a:1", "https://b:1"], "https://b:1");
        assert!(found == Verdict::Problem && told == "not reached from here: b at https://b:1: refused", "{told}");
    }

    #[test]
    fn what_holds_about_balancers_is_said() {
        let named: IpNet = "10.0.0.8/32".parse().unwrap();
        let finding = verdict_on_balancers(&[named], 2);
        assert!(finding.verdict == Verdict::Fine && finding.found.starts_with("10.0.0.8/32: "), "{finding:?}");
        // Something leads clients to several servers, and may be one that hides them.
        for (living, verdict) in [(0, Verdict::Fine), (1, Verdict::Fine), (2, Verdict::Hint)] {
            let finding = verdict_on_balancers(&[], living);
            assert!(finding.verdict == verdict && finding.found.starts_with("no balancer is named"), "{finding:?}");
            assert_eq!(finding.next.contains("--proxy-protocol-from"), living > 1);
        }
    }

    #[test]
    fn what_answers_at_an_address_has_to_speak_http() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        let answer = |text: &'static [u8]| {
            let listener = listener.try_clone().unwrap();
            std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 16];
                stream.read_exact(&mut asked).unwrap();
                stream.write_all(text).unwrap();
            })
        };
        let ca = Path::new("/nowhere");
        let thread = answer(b"HTTP/1.1 403 Forbidden\r\n\r\n");
        assert_eq!(reach(&at, "ssm.x.lab", ca), Ok(()));
        thread.join().unwrap();
        let thread = answer(b"SSH-2.0-x\r\n");
        assert!(reach(&at, "ssm.x.lab", ca).is_err());
        thread.join().unwrap();
        drop(listener);
        assert!(reach(&at, "ssm.x.lab", ca).is_err() && reach("a:1", "ssm.x.lab", ca).is_err());
    }
}
