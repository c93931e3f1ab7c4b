//! Two regions in one deployment over PostgreSQL, a database for each, and two servers that both serve both: each request is judged by
//! its region, whichever server it comes to, and neither a server nor a region needs the other to live.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

#[path = "../../store-postgres/tests/common/mod.rs"]
mod postgres;

mod calls;
mod patience;
mod servers;

use inborn_identity::InstanceId;
use patience::until;
use servers::{LAUNCH, Mint, REGION as HOME, Server, Signer, copy_key, launched, run, said};

const OTHER: &str = "eu-west-1";
const DESCRIBE: &str = "Action=DescribeInstances&Version=2016-11-15";

fn end(id: InstanceId) -> String {
    format!("Action=TerminateInstances&InstanceId.1={id}")
}

/// What it says in each region.
fn whoami(server: &Server, signer: &Signer) -> [u16; 2] {
    [HOME, OTHER].map(|region| server.verdict_in(region, signer).0)
}

#[tokio::test]
async fn two_servers_serve_two_regions() {
    let Some(cluster) = postgres::cluster() else { return };
    let (of_home, of_other) = (cluster.database(), cluster.database());
    let stores = format!("{OTHER}={of_other}");
    let settings = [("INBORN_STORE", of_home.as_str()), ("INBORN_REGION_STORES", stores.as_str())];
    let (of_a, of_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (of_a, of_b) = (of_a.path(), of_b.path());
    let below = |data: &std::path::Path| data.join("regions").join(OTHER);
    let mut a = Server::start_with("a", of_a, &settings);
    assert_eq!(a.ready["regions"], serde_json::json!([HOME, OTHER]));
    // Each region has a key of its own, and a server is told which one it lacks.
    copy_key(of_a, of_b);
    let refused = Server::refused("b", of_b, &settings);
    assert!(
        refused.contains(&format!("region {OTHER} cannot be served")) && refused.contains("epoch.key is missing"),
        "{refused}"
    );
    copy_key(&below(of_a), &below(of_b));
    let b = Server::start_with("b", of_b, &settings);

    let mints = [
        Mint::open(HOME, &of_home, &of_a.join("epoch.key")).await,
        Mint::open(OTHER, &of_other, &below(of_a).join("epoch.key")).await,
    ];
    let ids = [a.launch_in(HOME), b.launch_in(OTHER)];
    let machines = [mints[0].machine(ids[0]).await, mints[1].machine(ids[1]).await];
    for server in [&a, &b] {
        for (at, (own, foreign)) in [(HOME, OTHER), (OTHER, HOME)].into_iter().enumerate() {
            let (id, machine) = (ids[at].to_string(), &machines[at]);
            // STS knows it in every region, and never says that it is no one; every other service in its own alone.
            for region in [own, foreign] {
                let (status, body) = server.verdict_in(region, machine);
                assert!(status == 200 && body.contains(&id), "{body}");
            }
            let (status, body) = server.call_in(foreign, machine, "ec2", DESCRIBE);
            assert!(status == 401 && body.contains("AuthFailure"), "{status} {body}");
            // To an operator each region has its own machines.
            until("a launch is known", || {
                server.operate(own, "Action=DescribeInstances").1.contains(&id).then_some(())
            });
            assert!(!server.operate(foreign, "Action=DescribeInstances").1.contains(&id));
            let (status, body) = server.operate(foreign, &end(ids[at]));
            assert!(status == 400 && body.contains("InvalidInstanceID.NotFound"), "{body}");
        }
    }
    let listed = said(&run(of_b, &["ps", "--output", "json"]));
    assert!(ids.iter().all(|id| listed.contains(&id.to_string())), "{listed}");

    // What one server ends is ended at the other, in all regions.
    let gone = b.launch_in(OTHER);
    let of_gone = mints[1].machine(gone).await;
    assert_eq!(whoami(&a, &of_gone), [200, 200]);
    assert_eq!(b.operate(OTHER, &end(gone)).0, 200);
    assert_eq!(whoami(&b, &of_gone), [403, 403], "from the answer on");
    until("a termination is known", || (whoami(&a, &of_gone) == [403, 403]).then_some(()));

    // A key that is made at one server by one region is good at the other in both, until it is switched off.
    let (status, made) = a.operate(OTHER, "Action=Inborn.CreateOperator&Name=second");
    assert_eq!(status, 200, "{made}");
    let text = |name: &str| made.split_once(&format!("<{name}>")).unwrap().1.split_once('<').unwrap().0.to_owned();
    let second = Signer { access_key_id: text("accessKeyId"), secret: text("secretAccessKey"), token: None };
    until("the key is known", || (whoami(&b, &second) == [200, 200]).then_some(()));
    let off = format!("Action=Inborn.ModifyOperator&State=disabled&AccessKeyId={}", second.access_key_id);
    assert_eq!(b.operate(OTHER, &off).0, 200);
    until("the key is off", || (whoami(&a, &second) == [403, 403]).then_some(()));

    // A server that is killed and comes back knows all.
    drop(a);
    let while_away = b.launch_in(OTHER);
    a = Server::start_with("a", of_a, &settings);
    assert_eq!(whoami(&a, &mints[1].machine(while_away).await), [200, 200]);
    for (region, id) in [(HOME, ids[0]), (OTHER, ids[1])] {
        assert!(a.operate(region, "Action=DescribeInstances").1.contains(&id.to_string()));
    }

    // One database is gone: its region is stale by itself, at both servers, and goes on by itself.
    let name = of_other.rsplit_once('/').unwrap().1;
    let elsewhere = cluster.url("postgres");
    cluster.sql(&elsewhere, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"));
    let end_all = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    cluster.sql(&elsewhere, &end_all);
    let launch = |server: &Server, region: &str| server.call_in(region, &server.operator, "ec2", LAUNCH);
    let in_home = mints[0].machine(launched(&launch(&a, HOME).1)).await;
    for server in [&a, &b] {
        let (status, body) = launch(server, OTHER);
        assert!(status == 503 && body.contains("<Code>Unavailable</Code>"), "{body}");
        assert_eq!(launch(server, HOME).0, 200, "the home goes on");
        assert_eq!(whoami(server, &in_home), [200, 200]);
        assert_eq!(server.readiness().0, 200, "one of two can do its work");
    }
    cluster.sql(&elsewhere, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"));
    for server in [&a, &b] {
        until("it goes on", || (launch(server, OTHER).0 == 200).then_some(()));
    }

    // The quarantine of an account is one in both regions, at both servers.
    let account = a.ready["account"].as_str().unwrap().to_owned();
    assert_eq!(a.operate(OTHER, &format!("Action=Inborn.PutQuarantine&Subject.1={account}")).0, 200);
    for machine in &machines {
        assert_eq!(whoami(&a, machine), [403, 403]);
        until("a quarantine is known", || (whoami(&b, machine) == [403, 403]).then_some(()));
    }
    for region in [HOME, OTHER] {
        assert!(b.operate(region, "Action=Inborn.DescribeQuarantines").1.contains(&format!(">{account}<")));
    }
    assert_eq!(b.operate(HOME, &format!("Action=Inborn.EndQuarantine&Subject.1={account}")).0, 200);
    for region in [HOME, OTHER] {
        let listed = || a.operate(region, "Action=Inborn.DescribeQuarantines").1;
        until("its end is known", || (!listed().contains(&format!(">{account}<"))).then_some(()));
    }
}
