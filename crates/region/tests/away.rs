//! Credentials that are used away from their machine, over real sockets: what is found, what is refused, and what is not said.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what it does not expect")]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Running, WHOAMI, between, call, ec2, exchange};
use inborn_detect::away::{AwaySettings, Policy, network};
use inborn_detect::{Finding, Recorded};
use inborn_identity::{InstanceId, UnixTime};
use inborn_listener::{Limits, Peer};
use inborn_region::{Counted, DetectionSettings, FindingSink, Recording, RequestOrigin};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Longer than any machine needs, however loaded.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Kept(Mutex<Vec<Finding>>);

impl FindingSink for Kept {
    fn record<'a>(&'a self, finding: &'a Finding, _: Option<Counted>, now: UnixTime) -> Recording<'a> {
        Box::pin(async move {
            self.0.lock().unwrap().push(finding.clone());
            let (detector, id) = ("0".repeat(32).into(), "1".repeat(32).into());
            Ok(Some(Recorded { detector, id, created_at: now, updated_at: now, archived: false, first: true }))
        })
    }
}

struct Lab {
    running: Running,
    kept: Arc<Kept>,
    stops: Mutex<Vec<watch::Sender<bool>>>,
}

async fn lab(policy: Policy, networks: &[&str], replayers: &[&str]) -> Lab {
    let running = common::start().await;
    let kept = Arc::new(Kept::default());
    running.region.detection().record_to(Arc::clone(&kept) as Arc<dyn FindingSink>);
    let away = AwaySettings {
        policy,
        networks: networks.iter().map(|text| network(text).unwrap()).collect(),
        replayers: replayers.iter().map(|text| text.parse().unwrap()).collect(),
    };
    running.region.detect(DetectionSettings { away, ..DetectionSettings::default() });
    Lab { running, kept, stops: Mutex::default() }
}

impl Lab {
    /// A way to the region by which everybody has this address, or is this machine.
    async fn way(&self, address: Option<IpAddr>, machine: Option<InstanceId>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        self.stops.lock().unwrap().push(stop);
        let served = Arc::clone(&self.running.region);
        tokio::spawn(inborn_listener::serve(listener, None, Limits::DEFAULT, stopping, move |request, peer| {
            let shown = address.map_or(peer.address, |address| SocketAddr::new(address, peer.address.port()));
            let peer = Arc::new(Peer { address: shown, tls: None });
            Arc::clone(&served).handle(request, RequestOrigin { peer, machine })
        }));
        at
    }

    async fn whoami(&self, of: InstanceId, by: SocketAddr) -> u16 {
        let text = self.running.signed(&self.running.machine(of), &call("sts", WHOAMI));
        let reply = exchange(by, &text).await;
        if reply.status != 200 {
            assert_eq!(reply.status, 403);
            assert!(reply.body.contains("<Code>InvalidClientTokenId</Code>"), "{}", reply.body);
            assert!(reply.body.contains("The security token included in the request is invalid"), "{}", reply.body);
        }
        reply.status
    }

    async fn found(&self) -> Finding {
        let begun = Instant::now();
        loop {
            if let Some(finding) = self.kept.0.lock().unwrap().pop() {
                return finding;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing was found");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn nothing_is_found(&self) {
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(self.kept.0.lock().unwrap().len(), 0);
    }

    async fn address_of(&self, machine: InstanceId) -> IpAddr {
        let described = ec2(&format!("Action=DescribeInstances&InstanceId.1={machine}"));
        let reply = self.running.send(&self.running.operator(), &described).await;
        between(&reply.body, "<privateIpAddress>", "</privateIpAddress>").parse().unwrap()
    }
}

#[tokio::test]
async fn another_machines_own_way_in_tells_and_the_machine_itself_is_never_accused() {
    let lab = lab(Policy::Detect, &[], &[]).await;
    let (own, other) = (lab.running.launch().await, lab.running.launch().await);
    assert_eq!(lab.whoami(own, lab.way(None, Some(own)).await).await, 200);
    assert_eq!(lab.whoami(own, lab.running.address).await, 200, "a loopback address tells nothing");
    lab.nothing_is_found().await;
    assert_eq!(lab.whoami(own, lab.way(None, Some(other)).await).await, 200, "it is found, not refused");
    let finding = lab.found().await;
    assert_eq!(finding.kind.as_str(), "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.InsideAWS");
    let key = finding.resource.access_key.as_ref().unwrap();
    assert!(key.access_key_id.starts_with("ASIA"));
    assert_eq!(key.user_name, "aws:ec2-instance");
    assert_eq!(key.principal_id, format!("123456789012:aws:ec2-instance:{own}"));
    let instance = finding.resource.instance.as_ref().unwrap();
    assert_eq!((instance.instance, instance.state.as_deref()), (own, Some("running")));
    assert_eq!(finding.subject, other.to_string());
}

#[tokio::test]
async fn an_address_tells_where_the_operator_says_so() {
    let lab = lab(Policy::Detect, &["0.0.0.0/0"], &["198.51.100.0/24"]).await;
    let (own, other) = (lab.running.launch().await, lab.running.launch().await);
    let (home, next_door) = (lab.address_of(own).await, lab.address_of(other).await);
    assert_eq!(lab.whoami(own, lab.way(Some(home), None).await).await, 200);
    assert_eq!(lab.whoami(own, lab.way(Some("198.51.100.7".parse().unwrap()), None).await).await, 200);
    lab.nothing_is_found().await;
    lab.whoami(own, lab.way(Some(next_door), None).await).await;
    assert!(lab.found().await.kind.as_str().ends_with("InsideAWS"));
    lab.whoami(own, lab.way(Some("192.0.2.1".parse().unwrap()), None).await).await;
    let finding = lab.found().await;
    assert!(finding.kind.as_str().ends_with("OutsideAWS"));
    assert_eq!(finding.subject, "192.0.2.1");
}

#[tokio::test]
async fn where_nobody_says_so_an_address_tells_nothing() {
    let lab = lab(Policy::Enforce, &[], &[]).await;
    let own = lab.running.launch().await;
    assert_eq!(lab.whoami(own, lab.way(Some("192.0.2.1".parse().unwrap()), None).await).await, 200);
    lab.nothing_is_found().await;
}

#[tokio::test]
async fn enforced_a_thief_is_nobody_and_the_machine_is_itself() {
    let lab = lab(Policy::Enforce, &["0.0.0.0/0"], &[]).await;
    let own = lab.running.launch().await;
    let home = lab.address_of(own).await;
    let thief = lab.way(Some("192.0.2.1".parse().unwrap()), None).await;
    assert_eq!(lab.whoami(own, thief).await, 403);
    let finding = lab.found().await;
    let document = finding.document(&Recorded {
        detector: "0".repeat(32).into(),
        id: "1".repeat(32).into(),
        created_at: finding.first_seen,
        updated_at: finding.last_seen,
        archived: false,
        first: true,
    });
    let action = &document["service"]["action"]["awsApiCallAction"];
    assert_eq!(action["api"], "GetCallerIdentity");
    assert_eq!(action["serviceName"], "sts.amazonaws.com");
    assert_eq!(action["errorCode"], "InvalidClientTokenId");
    assert_eq!(action["remoteIpDetails"]["ipAddressV4"], "192.0.2.1");
    assert_eq!(lab.whoami(own, lab.way(Some(home), None).await).await, 200);
    // Operators have no machine that they could be away from.
    let text = lab.running.signed(&lab.running.operator(), &call("sts", WHOAMI));
    assert_eq!(exchange(thief, &text).await.status, 200);
}

#[tokio::test]
async fn off_finds_nothing() {
    let lab = lab(Policy::Off, &["0.0.0.0/0"], &[]).await;
    let (own, other) = (lab.running.launch().await, lab.running.launch().await);
    assert_eq!(lab.whoami(own, lab.way(None, Some(other)).await).await, 200);
    lab.nothing_is_found().await;
}
