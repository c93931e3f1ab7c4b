//! `inborn region` behind what balances TCP: where calls come from, and who is believed about it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod balancer;
mod calls;
mod hosts;
mod patience;
mod servers;

use std::net::Ipv4Addr;
use std::path::Path;

use balancer::Balancer;
use patience::until;
use servers::{REGION, Server, WHOAMI, audit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const LOOK: &str = "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

fn store(data: &Path) -> String {
    format!("sqlite:{}/inborn.db", data.display())
}

fn whoami(server: &Server, address: &str) -> std::io::Result<(u16, String)> {
    calls::call(address, &format!("sts.{REGION}.amazonaws.com"), &server.operator, ("sts", REGION), WHOAMI)
}

/// The sources of the calls that were recorded so far.
fn sources(data: &Path) -> Vec<String> {
    let audit = audit(data);
    let lines = audit.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter_map(|line| Some(line["sourceIPAddress"].as_str()?.to_owned())).collect()
}

/// Sends all of `said`, and gives what is answered until the connection ends. One that is reset has no answer.
async fn answered(stream: Option<TcpStream>, said: &[u8]) -> String {
    let mut stream = stream.unwrap();
    let _ = stream.write_all(said).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

fn operations(server: &Server) -> &str {
    server.ready["operations"].as_str().unwrap().strip_prefix("http://").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_that_is_believed_says_where_calls_come_from() {
    let (directory, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, log) = (directory.path(), others.path().join("log"));
    let (url, hosts_port) = (store(data), hosts::free_port().to_string());
    let settings = [
        ("INBORN_STORE", url.as_str()),
        ("INBORN_HOSTS_PORT", &hosts_port),
        ("INBORN_PROXY_PROTOCOL_FROM", balancer::SOURCE),
    ];
    let server = Server::start_saying("a", data, &settings, &log);
    let front = Balancer::telling(CLIENT, vec![server.address().to_owned()]).await;
    let (status, body) = whoami(&server, &front.address).unwrap();
    assert_eq!(status, 200, "{body}");
    assert_eq!(until("a call is recorded", || sources(data).pop()), CLIENT.to_string());

    // Hosts prove who they are by TLS behind the header, and where they are is recorded as well.
    let for_hosts = Balancer::telling(CLIENT, vec![format!("127.0.0.1:{hosts_port}")]).await;
    let (status, body) = server.operate(REGION, "Action=Inborn.CreateJoinToken");
    assert_eq!(status, 200, "{body}");
    let mut host = hosts::Host::joined_at(&for_hosts.address, hosts::between(&body, "<joinToken>", "</joinToken>"));
    host.come_back();
    until("a host that joined is known", || {
        let (status, _) = server.operate(REGION, &hosts::launch(&host.id));
        (status == 200).then_some(())
    });
    let joined = format!("\"sourceIPAddress\":\"{CLIENT}\"");
    let join = until("a host that joined is recorded", || {
        audit(data).lines().find(|line| line.contains("Inborn.HostJoined")).map(str::to_owned)
    });
    assert!(join.contains(&joined), "{join}");

    // Who is no balancer comes from where it is, and its header is what any nonsense is.
    let (status, body) = whoami(&server, server.address()).unwrap();
    assert_eq!(status, 200, "{body}");
    until("a call is recorded", || (sources(data).pop()? == "127.0.0.1").then_some(()));
    let forged = [&balancer::header(Ipv4Addr::new(198, 51, 100, 9))[..], LOOK.as_bytes()].concat();
    let answer = answered(TcpStream::connect(server.address()).await.ok(), &forged).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");

    // A balancer has to say it, and in version 2.
    assert_eq!(answered(balancer::connect(server.address()).await, LOOK.as_bytes()).await, "");
    let old = format!("PROXY TCP4 {CLIENT} 127.0.0.1 4711 4580\r\n{LOOK}");
    assert_eq!(answered(balancer::connect(server.address()).await, old.as_bytes()).await, "");

    // How the server is it may ask with a header and without.
    for said in [LOOK.as_bytes(), &[b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", LOOK.as_bytes()].concat()] {
        let answer = answered(balancer::connect(operations(&server)).await, said).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
    }
    let metrics = LOOK.replace("/readyz", "/metrics");
    let answer = answered(balancer::connect(operations(&server)).await, metrics.as_bytes()).await;
    for (reason, count) in [("missing", 1), ("version-1", 1), ("malformed", 0)] {
        let line = format!("inborn_balancer_connections_refused_total{{reason=\"{reason}\"}} {count}");
        assert!(answer.lines().any(|found| found == line), "{line}: {answer}");
    }
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("switch the balancer to version 2"), "{log}");

    let sources = sources(data);
    assert!(sources.iter().all(|source| source == "127.0.0.1" || *source == CLIENT.to_string()), "{sources:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_that_nobody_has_named_is_the_source() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let server = Server::start("a", data, &store(data));
    let hiding = Balancer::before(vec![server.address().to_owned()]).await;
    let (status, body) = whoami(&server, &hiding.address).unwrap();
    assert_eq!(status, 200, "{body}");
    assert_eq!(until("a call is recorded", || sources(data).pop()), balancer::SOURCE);
    let telling = Balancer::telling(CLIENT, vec![server.address().to_owned()]).await;
    let answer = whoami(&server, &telling.address);
    assert!(!answer.as_ref().is_ok_and(|(status, _)| *status == 200), "{answer:?}");
    assert!(sources(data).iter().all(|source| source == balancer::SOURCE));
}

#[test]
fn who_would_believe_everybody_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let url = store(directory.path());
    for (everybody, told) in [("0.0.0.0/0", "/8 or smaller"), ("::/0", "/32 or smaller")] {
        let settings = [("INBORN_STORE", url.as_str()), ("INBORN_PROXY_PROTOCOL_FROM", everybody)];
        let said = Server::refused("a", directory.path(), &settings);
        assert!(said.contains(&format!("proxy protocol from `{everybody}`")) && said.contains(told), "{said}");
    }
}
