//! Several regions in one deployment: each request goes to the region that can judge it, what is the deployment's holds in all,
//! and nothing that one region has given is good in another but at STS.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;

use common::calls::{code, good_call, refused_by};
use common::verdict::*;
use common::*;
use inborn_credential::Delivery;
use inborn_identity::{Clock, InstanceId, Partition};
use inborn_region::{
    DeploymentError, EpochSettings, FleetSettings, KeySource, OpenError, Opening, REGIONS_MAX, Rate, Rates,
    RegionIdentity, RegionServer, SERVICES, TelemetrySettings,
};
use inborn_store::{
    Account, Instance, LaunchRequest, Quarantine, QuarantineBasis, QuarantineScope, SettingChange, SqliteStore, Store,
    StoreError,
};
use inborn_testkit::{Fault, FaultyStore};

/// The home, and another region.
const HOME: &str = "eu-central-1";
const OTHER: &str = "eu-west-1";
/// The global region of the partition, which is none of the deployment.
const GLOBAL: &str = "us-east-1";

/// A deployment of two regions that one listener serves.
struct Two {
    home: Running,
    other: Arc<RegionServer>,
    of_home: Arc<FaultyStore>,
    of_other: Arc<FaultyStore>,
    /// Where the other one has its audit.
    audit: tempfile::TempDir,
}

fn opening(region: &str, directory: &tempfile::TempDir, fleet: bool) -> Opening {
    Opening {
        identity: RegionIdentity { region: region.parse().unwrap(), ..identity() },
        key_source: KeySource::Ephemeral,
        audit_file: directory.path().join("audit.jsonl"),
        rates: Rates::default(),
        telemetry: TelemetrySettings::default(),
        epochs: EpochSettings::DEFAULT,
        accept_older_store: false,
        fleet: fleet.then(FleetSettings::default),
    }
}

fn memory() -> Arc<FaultyStore> {
    behind(&(Arc::new(SqliteStore::in_memory().unwrap()) as Arc<dyn Store>))
}

/// The store as another program has it open.
fn behind(store: &Arc<dyn Store>) -> Arc<FaultyStore> {
    Arc::new(FaultyStore::of_another_program(Arc::clone(store)))
}

async fn two_in(fleet: bool) -> Two {
    two_over(memory(), fleet, Rates::default()).await
}

async fn two_over(of_home: Arc<FaultyStore>, fleet: bool, rates: Rates) -> Two {
    two_of([of_home, memory()], [KeySource::Ephemeral, KeySource::Ephemeral], fleet, rates).await
}

/// Over the stores of the home and of the other region, with the keys of each.
async fn two_of(stores: [Arc<FaultyStore>; 2], keys: [KeySource; 2], fleet: bool, rates: Rates) -> Two {
    let ([of_home, of_other], [of_homes, of_others]) = (stores, keys);
    let directory = tempfile::tempdir().unwrap();
    let opening_of_home = Opening { rates, key_source: of_homes, ..opening(HOME, &directory, fleet) };
    let home = start_opening(directory, Arc::clone(&of_home) as _, opening_of_home).await;
    let audit = tempfile::tempdir().unwrap();
    let clock = Arc::clone(&home.clock) as Arc<dyn Clock>;
    let opening = Opening { rates, key_source: of_others, ..opening(OTHER, &audit, fleet) };
    let other = RegionServer::open_beside(&home.region, Arc::clone(&of_other) as _, opening, clock).await.unwrap();
    Two { home, other, of_home, of_other, audit }
}

async fn two() -> Two {
    two_in(false).await
}

impl Two {
    /// The credential that a machine of a region holds now.
    fn machine(&self, region: &RegionServer, id: InstanceId) -> Signer {
        (&region.issue(id, Delivery::V2, self.home.clock.now()).unwrap().credential).into()
    }

    /// The same call, for a region, at an address that names none.
    async fn send(&self, signer: &Signer, region: &str, call: &Call) -> Reply {
        self.home.send(signer, &at(region, call)).await
    }

    async fn launch(&self, region: &str) -> InstanceId {
        let launch = ec2("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1");
        let reply = self.send(&self.home.operator(), region, &launch).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        between(&reply.body, "<instanceId>", "</instanceId>").parse().unwrap()
    }

    async fn operate(&self, region: &str, parameters: &str) -> Reply {
        self.send(&self.home.operator(), region, &ec2(parameters)).await
    }

    /// What STS says of a caller that signs for a region.
    async fn whoami(&self, signer: &Signer, region: &str) -> (u16, String) {
        verdict(&self.send(signer, region, &call("sts", WHOAMI)).await)
    }

    fn audit_of_other(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.audit.path().join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn at(region: &str, call: &Call) -> Call {
    Call { host: "127.0.0.1".to_owned(), region: region.to_owned(), ..call.clone() }
}

fn verdict(reply: &Reply) -> (u16, String) {
    let refused = || code(reply).to_owned();
    (reply.status, if reply.status == 200 { String::new() } else { refused() })
}

fn wrong_scope() -> (u16, String) {
    (403, "SignatureDoesNotMatch".to_owned())
}

#[tokio::test]
async fn sts_knows_a_machine_in_every_region_and_nothing_else_does() {
    let two = &two().await;
    for (own, foreign) in [(HOME, OTHER), (OTHER, HOME)] {
        let id = two.launch(own).await;
        let region = if own == HOME { &two.home.region } else { &two.other };
        let machine = two.machine(region, id);
        let arn = format!("arn:aws:sts::123456789012:assumed-role/aws:ec2-instance/{id}");
        // By an address, by each region's name, by the global name.
        for (host, scope, is_good) in [
            ("127.0.0.1", own, true),
            ("127.0.0.1", foreign, true),
            ("127.0.0.1", GLOBAL, true),
            ("127.0.0.1", "eu-north-1", false),
            (&*format!("sts.{own}.amazonaws.com"), own, true),
            (&*format!("sts.{own}.amazonaws.com"), foreign, false),
            (&*format!("sts.{foreign}.amazonaws.com"), foreign, true),
            (&*format!("sts.{foreign}.amazonaws.com"), own, false),
            (&*format!("sts.{foreign}.amazonaws.com"), GLOBAL, true),
            ("sts.amazonaws.com", GLOBAL, true),
            ("sts.amazonaws.com", foreign, true),
            ("sts.eu-north-1.amazonaws.com", "eu-north-1", false),
        ] {
            let call = Call { host: host.to_owned(), region: scope.to_owned(), ..call("sts", WHOAMI) };
            let reply = two.home.send(&machine, &call).await;
            if is_good {
                assert_eq!((reply.status, reply.body.contains(&arn)), (200, true), "{host} {scope}: {}", reply.body);
            } else {
                assert_eq!(verdict(&reply), wrong_scope(), "{host} {scope}");
            }
        }
        // Every operation of every other service, in the other region: as a key that nobody knows, and by the name of that
        // region's host with a signature for the own one as a signature for another region.
        for service in SERVICES.iter().filter(|service| service.name != "sts") {
            for operation in service.operations {
                let (name, refused) = (format!("{}:{}", service.name, operation.name), refused_by(service, operation));
                let good = good_call(service, operation, id);
                let names = format!("{}.{foreign}.amazonaws.com", service.name);
                for host in ["127.0.0.1", &*names] {
                    let call = Call { host: host.to_owned(), region: foreign.to_owned(), ..good.clone() };
                    let reply = two.home.send(&machine, &call).await;
                    assert_eq!(code(&reply), refused.unknown, "{name} at {host} for {foreign}");
                }
                let call = Call { host: names, region: own.to_owned(), ..good };
                let reply = two.home.send(&machine, &call).await;
                assert_eq!(code(&reply), refused.signature, "{name} for {own} at the other's host");
            }
        }
    }
}

#[tokio::test]
async fn an_operator_signs_for_each_region_and_each_has_its_machines() {
    let two = &two().await;
    let (here, there) = (two.launch(HOME).await, two.launch(OTHER).await);
    for (region, own, foreign) in [(HOME, here, there), (OTHER, there, here)] {
        let listed = two.operate(region, "Action=DescribeInstances").await.body;
        assert!(listed.contains(&own.to_string()) && !listed.contains(&foreign.to_string()), "{listed}");
        assert!(listed.contains(&format!("{region}a")), "{listed}");
        assert_eq!(two.whoami(&two.home.operator(), region).await, good());
        let refused = two.operate(region, &format!("Action=TerminateInstances&InstanceId.1={foreign}")).await;
        assert_eq!(code(&refused), "InvalidInstanceID.NotFound");
    }
    let described = two.operate(OTHER, "Action=DescribeRegions").await.body;
    for text in ["<regionName>eu-central-1<", "<regionEndpoint>ec2.eu-west-1.amazonaws.com<", "opt-in-not-required"] {
        assert!(described.contains(text), "{text} in {described}");
    }
    let one = two.operate(HOME, "Action=DescribeRegions&RegionName.1=eu-west-1").await.body;
    assert!(one.contains("eu-west-1") && !one.contains("eu-central-1"), "{one}");
    let filtered = "Action=DescribeRegions&Filter.1.Name=region-name&Filter.1.Value.1=eu-c%2A&AllRegions=true";
    let filtered = two.operate(HOME, filtered).await.body;
    assert!(!filtered.contains("eu-west-1") && filtered.contains("eu-central-1"), "{filtered}");
    let unknown = two.operate(HOME, "Action=DescribeRegions&RegionName.1=mars-1").await;
    assert_eq!((code(&unknown), unknown.status), ("InvalidParameterValue", 400));
    assert!(unknown.body.contains("Invalid region: [mars-1]"), "{}", unknown.body);
    // One that is not of the deployment, as where there is one region alone.
    let foreign = two.operate("eu-north-1", "Action=DescribeInstances").await;
    assert_eq!((foreign.status, code(&foreign)), (401, "AuthFailure"));
    assert_eq!(two.whoami(&two.home.operator(), "eu-north-1").await, wrong_scope());
}

#[tokio::test]
async fn who_has_ended_in_one_region_has_ended_at_sts_in_all() {
    let two = &two().await;
    let id = two.launch(OTHER).await;
    let machine = two.machine(&two.other, id);
    for region in [HOME, OTHER, GLOBAL] {
        assert_eq!(two.whoami(&machine, region).await, good(), "{region}");
    }
    // The call at the other's endpoint is in the machine's region's audit, with the region that was asked.
    let regions = |lines: Vec<serde_json::Value>| -> Vec<String> {
        let calls = lines.into_iter().filter(|line| line["eventName"] == "GetCallerIdentity");
        calls.map(|line| line["awsRegion"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(regions(two.audit_of_other()), [HOME, OTHER, OTHER]);
    assert_eq!(regions(two.home.audit()), Vec::<String>::new());

    assert_eq!(two.operate(OTHER, &format!("Action=StopInstances&InstanceId.1={id}")).await.status, 200);
    for region in [HOME, OTHER, GLOBAL] {
        assert_eq!(two.whoami(&machine, region).await, expired(), "{region}");
    }
    assert_eq!(two.operate(OTHER, &format!("Action=TerminateInstances&InstanceId.1={id}")).await.status, 200);
    for region in [HOME, OTHER, GLOBAL] {
        assert_eq!(two.whoami(&machine, region).await, unknown(), "{region}");
    }
}

/// Both begin with epoch 1, and a machine of one id is in both.
#[tokio::test]
async fn machines_of_one_id_are_not_confused() {
    let running = start().await;
    let id = running.launch().await;
    let forged = Instance::clone(&running.region.machines().get(id).unwrap());
    let of_other = memory();
    let (account, reservation_id) = (forged.account, forged.reservation_id.clone());
    let instances = vec![forged];
    let launch = LaunchRequest { account, client_token: None, fingerprint: [0; 32], reservation_id, instances };
    of_other.launch(launch).await.unwrap();
    let (audit, clock) = (tempfile::tempdir().unwrap(), Arc::clone(&running.clock) as Arc<dyn Clock>);
    let opening = opening(OTHER, &audit, false);
    let other = RegionServer::open_beside(&running.region, Arc::clone(&of_other) as _, opening, clock).await.unwrap();
    let two = &Two { home: running, other, of_home: memory(), of_other, audit };
    let epochs = two.of_other.epochs().await.unwrap().into_iter().map(|epoch| epoch.id);
    assert_eq!(epochs.collect::<Vec<_>>(), [1]);

    let (home, other) = (two.machine(&two.home.region, id), two.machine(&two.other, id));
    assert!(home.access_key_id != other.access_key_id && home.secret != other.secret && home.token != other.token);
    for (region, machine) in [(HOME, &home), (OTHER, &other)] {
        assert_eq!(two.whoami(machine, HOME).await, good(), "{region}");
        assert_eq!(two.whoami(machine, OTHER).await, good(), "{region}");
    }
    // The token of one with the key of the other, and the key and token of one with the other's secret.
    let swapped = Signer { token: other.token.clone(), ..home.clone() };
    let stolen = Signer { secret: other.secret.clone(), ..home.clone() };
    for region in [HOME, OTHER] {
        assert_eq!(two.whoami(&swapped, region).await, unknown());
        assert_eq!(two.whoami(&stolen, region).await, wrong_scope(), "the signature does not match");
    }
    // At another service of the other's region the home's is nobody, although there is a machine of its name.
    let agents = json("ssm", "AmazonSSM.ListAssociations", "{}");
    assert_eq!(code(&two.send(&home, OTHER, &agents).await), "UnrecognizedClientException");

    assert_eq!(two.operate(HOME, &format!("Action=TerminateInstances&InstanceId.1={id}")).await.status, 200);
    for region in [HOME, OTHER] {
        assert_eq!(two.whoami(&home, region).await, unknown());
        assert_eq!(two.whoami(&other, region).await, good(), "the other one lives");
    }
}

#[tokio::test]
async fn a_key_that_is_disabled_is_out_everywhere_at_once() {
    let two = &two().await;
    // Asked in the other region, done in the home.
    let made = two.operate(OTHER, "Action=Inborn.CreateOperator&Name=second").await.body;
    let second = Signer {
        access_key_id: between(&made, "<accessKeyId>", "<").to_owned(),
        secret: between(&made, "<secretAccessKey>", "<").to_owned(),
        token: None,
    };
    assert_eq!(two.of_home.operators().await.unwrap().len(), 2);
    assert_eq!(two.of_other.operators().await.unwrap().len(), 0, "operators are in the home's store alone");
    assert_eq!(two.of_other.accounts().await.unwrap().len(), 0, "and accounts");
    for region in [HOME, OTHER] {
        assert_eq!(two.whoami(&second, region).await, good());
    }
    for (asked, state) in [(HOME, "disabled"), (OTHER, "enabled"), (OTHER, "disabled")] {
        let change = format!("Action=Inborn.ModifyOperator&AccessKeyId={}&State={state}", second.access_key_id);
        assert_eq!(two.operate(asked, &change).await.status, 200);
        let expected = if state == "enabled" { good() } else { unknown() };
        for region in [HOME, OTHER, GLOBAL] {
            assert_eq!(two.whoami(&second, region).await, expected, "{asked} {state} {region}");
        }
    }
}

#[tokio::test]
async fn an_account_is_the_deployments() {
    let two = &two().await;
    let made =
        two.operate(OTHER, "Action=Inborn.CreateAccount&AccountId=210987654321&HttpTokensEnforced=enabled").await;
    assert_eq!(made.status, 200, "{}", made.body);
    let made = two.operate(HOME, "Action=Inborn.CreateOperator&Name=theirs&AccountId=210987654321").await.body;
    let theirs = Signer {
        access_key_id: between(&made, "<accessKeyId>", "<").to_owned(),
        secret: between(&made, "<secretAccessKey>", "<").to_owned(),
        token: None,
    };
    let launch = "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1";
    for region in [HOME, OTHER] {
        // What the account wants of new machines it wants everywhere.
        let optional = ec2(&format!("{launch}&MetadataOptions.HttpTokens=optional"));
        assert_eq!(two.send(&theirs, region, &optional).await.status, 400, "{region}");
    }
    let reply = two.send(&theirs, OTHER, &ec2(launch)).await;
    let id: InstanceId = between(&reply.body, "<instanceId>", "</instanceId>").parse().unwrap();
    let machine = two.machine(&two.other, id);
    let listed = two.operate(HOME, "Action=Inborn.DescribeAccounts").await.body;
    assert!(listed.contains("<instanceCount>1<"), "machines of all regions are counted: {listed}");
    // It has a machine in another region than the one that is asked.
    let close = "Action=Inborn.CloseAccount&AccountId=210987654321";
    assert_eq!(code(&two.operate(HOME, close).await), "DependencyViolation");
    let terminate = ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"));
    assert_eq!(two.send(&theirs, OTHER, &terminate).await.status, 200);
    assert_eq!(two.operate(OTHER, close).await.status, 200);
    for region in [HOME, OTHER] {
        assert_eq!(two.whoami(&theirs, region).await, unknown());
        assert_eq!(two.whoami(&machine, region).await, unknown());
    }
}

#[tokio::test]
async fn roles_are_the_deployments() {
    let two = &two().await;
    let iam = |parameters: &str| call("iam", &format!("{parameters}&Version=2010-05-08"));
    let trust = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Principal\
                 %22%3A%7B%22Service%22%3A%22ssm.amazonaws.com%22%7D%2C%22Action%22%3A%22sts%3AAssumeRole%22%7D%5D%7D";
    let create = iam(&format!("Action=CreateRole&RoleName=passed&AssumeRolePolicyDocument={trust}"));
    // Clients sign for the global region, or for their own.
    let made = two.send(&two.home.operator(), OTHER, &create).await;
    assert_eq!(made.status, 200, "{}", made.body);
    for region in [HOME, OTHER, GLOBAL] {
        let found = two.send(&two.home.operator(), region, &iam("Action=GetRole&RoleName=passed")).await;
        assert_eq!(found.status, 200, "{region}: {}", found.body);
    }
    let body = format!(r#"{{"SettingId":"{SETTING}","SettingValue":"passed"}}"#);
    let pass = json("ssm", "AmazonSSM.UpdateServiceSetting", &body);
    assert_eq!(two.send(&two.home.operator(), OTHER, &pass).await.status, 200);
    let delete = iam("Action=DeleteRole&RoleName=passed");
    let refused = two.send(&two.home.operator(), GLOBAL, &delete).await;
    assert_eq!(code(&refused), "DeleteConflict", "it is passed in another region: {}", refused.body);
}

#[tokio::test]
async fn a_quarantine_of_an_account_is_one_in_every_region() {
    let two = &two().await;
    let (here, there) = (two.launch(HOME).await, two.launch(OTHER).await);
    let machines = || [two.machine(&two.home.region, here), two.machine(&two.other, there)];
    for subject in ["123456789012", "%2A"] {
        for (put_at, end_at) in [(HOME, OTHER), (OTHER, HOME)] {
            let [home, other] = machines();
            let put = two.operate(put_at, &format!("Action=Inborn.PutQuarantine&Subject.1={subject}")).await;
            assert_eq!(put.status, 200, "{}", put.body);
            for machine in [&home, &other] {
                for region in [HOME, OTHER] {
                    assert_eq!(two.whoami(machine, region).await, unknown(), "{subject} {put_at} {region}");
                }
            }
            assert!(two.home.region.issue(here, Delivery::V2, NOW).is_none());
            assert!(two.other.issue(there, Delivery::V2, NOW).is_none());
            let end = two.operate(end_at, &format!("Action=Inborn.EndQuarantine&Subject.1={subject}")).await;
            assert_eq!(end.status, 200, "{}", end.body);
            for machine in [&home, &other] {
                assert_eq!(two.whoami(machine, OTHER).await, expired(), "what was before stays refused");
            }
            two.home.clock.advance(1000);
            for machine in machines() {
                assert_eq!(two.whoami(&machine, HOME).await, good());
            }
        }
    }
    // A machine is in quarantine in its region, and is unknown at STS everywhere.
    let [_, other] = machines();
    let put = two.operate(OTHER, &format!("Action=Inborn.PutQuarantine&Subject.1={there}")).await;
    assert_eq!(put.status, 200);
    assert_eq!(two.whoami(&other, HOME).await, unknown());
    let refused = two.operate(HOME, &format!("Action=Inborn.EndQuarantine&Subject.1={there}")).await;
    assert_eq!(refused.status, 400, "it is none of the home's");
}

/// Where one region cannot do it, it is said which, the others have done it, and that one takes it over later.
#[tokio::test]
async fn a_quarantine_that_is_not_everywhere_is_told() {
    let two = &two().await;
    let (here, there) = (two.launch(HOME).await, two.launch(OTHER).await);
    let (home, other) = (two.machine(&two.home.region, here), two.machine(&two.other, there));
    two.of_other.fail_next(Fault::full());
    let put = two.operate(HOME, "Action=Inborn.PutQuarantine&Subject.1=123456789012").await;
    assert_eq!((put.status, code(&put)), (503, "Unavailable"));
    for text in ["quarantine is done in eu-central-1, and not in eu-west-1 (", "try again"] {
        assert!(put.body.contains(text), "{text} in {}", put.body);
    }
    assert_eq!(two.whoami(&home, HOME).await, unknown());
    assert_eq!(two.whoami(&other, HOME).await, good(), "as it was said");
    two.other.tidy().await;
    assert_eq!(two.whoami(&other, HOME).await, unknown(), "taken over");

    two.of_other.fail_next(Fault::full());
    let end = two.operate(OTHER, "Action=Inborn.EndQuarantine&Subject.1=123456789012").await;
    assert_eq!((end.status, code(&end)), (503, "Unavailable"), "{}", end.body);
    assert_eq!(two.of_home.quarantines().await.unwrap().len(), 0);
    assert_eq!(two.of_other.quarantines().await.unwrap().len(), 1);
    two.other.tidy().await;
    assert_eq!(two.of_other.quarantines().await.unwrap().len(), 1, "nothing but a release ends it");
    assert_eq!(two.operate(HOME, "Action=Inborn.EndQuarantine&Subject.1=123456789012").await.status, 200);
    assert_eq!(two.of_other.quarantines().await.unwrap().len(), 0);
}

/// What the operators of the deployment have against an account is not undone where a region has something else, or nothing.
#[tokio::test]
async fn an_account_does_not_undo_what_the_operators_have_against_it_in_any_region() {
    let two = &two().await;
    let made = two.operate(HOME, "Action=Inborn.CreateAccount&AccountId=210987654321").await;
    assert_eq!(made.status, 200, "{}", made.body);
    let made = two.operate(HOME, "Action=Inborn.CreateOperator&Name=theirs&AccountId=210987654321").await.body;
    let theirs = Signer {
        access_key_id: between(&made, "<accessKeyId>", "<").to_owned(),
        secret: between(&made, "<secretAccessKey>", "<").to_owned(),
        token: None,
    };
    let (put, end) =
        ("Action=Inborn.PutQuarantine&Subject.1=210987654321", "Action=Inborn.EndQuarantine&Subject.1=210987654321");
    let own_in_other = async || {
        let all = two.of_other.quarantines().await.unwrap();
        all.iter().map(|found| found.by.contains("210987654321")).collect::<Vec<_>>()
    };
    let not_theirs = async |parameters: &str| {
        for region in [HOME, OTHER] {
            let refused = two.send(&theirs, region, &ec2(parameters)).await;
            assert!(refused.status == 400 && refused.body.contains("only they can"), "{region}: {}", refused.body);
        }
    };
    // The other region has none.
    two.of_other.fail_next(Fault::full());
    assert_eq!(two.operate(HOME, put).await.status, 503);
    not_theirs(put).await;
    not_theirs(end).await;
    assert_eq!(own_in_other().await, Vec::<bool>::new(), "nothing was put that could be ended");
    two.other.tidy().await;
    assert_eq!(own_in_other().await, [false]);
    not_theirs(end).await;
    assert_eq!(two.operate(OTHER, end).await.status, 200);

    // It has the account's own, which is older.
    assert_eq!(two.send(&theirs, OTHER, &ec2(put)).await.status, 200);
    assert_eq!(own_in_other().await, [true]);
    two.of_other.fail_next(Fault::full());
    assert_eq!(two.operate(HOME, put).await.status, 503);
    assert_eq!(own_in_other().await, [true]);
    not_theirs(put).await;
    not_theirs(end).await;
    assert_eq!(own_in_other().await, [true]);
    two.other.tidy().await;
    assert_eq!(own_in_other().await, [false], "the operators' takes its place");
    not_theirs(end).await;
    // Where the home cannot release, nobody does.
    two.of_home.fail_next(Fault::full());
    let refused = two.operate(OTHER, end).await;
    assert_eq!((refused.status, refused.body.contains("done in no region")), (503, true), "{}", refused.body);
    assert_eq!(own_in_other().await, [false]);
    assert_eq!(two.operate(OTHER, end).await.status, 200);
    assert_eq!(own_in_other().await, Vec::<bool>::new());
    assert_eq!(two.send(&theirs, OTHER, &ec2(put)).await.status, 200);
    assert_eq!(two.send(&theirs, HOME, &ec2(end)).await.status, 200, "its own it ends");
}

#[tokio::test]
async fn a_region_that_comes_later_takes_over_the_quarantine_of_an_account() {
    let running = start().await;
    let put = running.send(&running.operator(), &ec2("Action=Inborn.PutQuarantine&Subject.1=123456789012")).await;
    assert_eq!(put.status, 200);
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::clone(&running.clock) as Arc<dyn Clock>);
    let opening = opening(OTHER, &directory, false);
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    RegionServer::open_beside(&running.region, Arc::clone(&store), opening, clock).await.unwrap();
    let scopes: Vec<_> = store.quarantines().await.unwrap().into_iter().map(|Quarantine { scope, .. }| scope).collect();
    assert_eq!(scopes, [QuarantineScope::Account(identity().account)]);
}

/// What an account wants of new machines it wants in a region that is added later, too. From then on each region has its own.
#[tokio::test]
async fn a_region_that_comes_later_takes_over_what_accounts_want() {
    const WANTED: &str = "ec2/metadata-defaults/210987654321";
    let elsewhere: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let keys = tempfile::tempdir().unwrap();
    let key = || KeySource::File(keys.path().join("epoch.key"));
    let (directory, of_home) = (tempfile::tempdir().unwrap(), behind(&elsewhere));
    let running = start_opening(directory, Arc::clone(&of_home) as _, opening(HOME, &keys, true)).await;
    let operate = async |region: &str, parameters: &str| {
        let reply = running.send(&running.operator(), &at(region, &ec2(parameters))).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body
    };
    operate(HOME, "Action=Inborn.CreateAccount&AccountId=210987654321&HttpTokensEnforced=enabled").await;
    operate(HOME, "Action=ModifyInstanceMetadataDefaults&HttpPutResponseHopLimit=3").await;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let audit = tempfile::tempdir().unwrap();
    let open = async || {
        let opening = Opening { key_source: key(), ..opening(OTHER, &audit, false) };
        let clock = Arc::clone(&running.clock) as Arc<dyn Clock>;
        RegionServer::open_beside(&running.region, Arc::clone(&store), opening, clock).await.unwrap()
    };
    let other = open().await;
    let made = operate(HOME, "Action=Inborn.CreateOperator&Name=theirs&AccountId=210987654321").await;
    let theirs = Signer {
        access_key_id: between(&made, "<accessKeyId>", "<").to_owned(),
        secret: between(&made, "<secretAccessKey>", "<").to_owned(),
        token: None,
    };
    let launch =
        ec2("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&MetadataOptions.HttpTokens=optional");
    let launched = async || running.send(&theirs, &at(OTHER, &launch)).await.status;
    assert_eq!(launched().await, 400, "version 1 is forbidden here, too");
    let own = operate(OTHER, "Action=GetInstanceMetadataDefaults").await;
    assert!(own.contains("<httpPutResponseHopLimit>3<"), "{own}");

    // Each has its own from here on, also that it wants nothing.
    let free = ec2("Action=ModifyInstanceMetadataDefaults&HttpTokensEnforced=no-preference");
    assert_eq!(running.send(&theirs, &at(OTHER, &free)).await.status, 200);
    operate(HOME, "Action=ModifyInstanceMetadataDefaults&HttpPutResponseHopLimit=5").await;
    other.tidy().await;
    assert_eq!(launched().await, 200);
    let own = operate(OTHER, "Action=GetInstanceMetadataDefaults").await;
    assert!(own.contains("<httpPutResponseHopLimit>3<"), "{own}");

    // Accounts that a server has made which does not serve the other region.
    let value = br#"{"httpTokensEnforced":true}"#.to_vec();
    let make = async |id: &str| {
        let name = WANTED.replace("210987654321", id);
        let change = SettingChange { name: name.clone(), expected: None, value: value.clone() };
        elsewhere.put_setting(change).await.unwrap();
        let account = Account { id: id.parse().unwrap(), name: String::new(), created_at: NOW, closed_at: None };
        elsewhere.put_account(account).await.unwrap();
        name
    };
    let (waiting, name) = (make("321098765432").await, make("109876543210").await);
    // Until the region has taken them over the home's count, also in what is changed.
    let new = ec2("Action=Inborn.CreateOperator&Name=new&AccountId=321098765432");
    let mut made = String::new();
    until("the account is known", async || {
        let reply = running.send(&running.operator(), &at(HOME, &new)).await;
        made = reply.body;
        reply.status == 200
    })
    .await;
    let new = Signer {
        access_key_id: between(&made, "<accessKeyId>", "<").to_owned(),
        secret: between(&made, "<secretAccessKey>", "<").to_owned(),
        token: None,
    };
    let refused = running.send(&new, &at(OTHER, &launch)).await;
    assert_eq!((refused.status, store.setting(&waiting).await), (400, Ok(None)), "{}", refused.body);
    let three = ec2("Action=ModifyInstanceMetadataDefaults&HttpPutResponseHopLimit=3");
    let changed = running.send(&new, &at(OTHER, &three)).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    let kept = store.setting(&waiting).await.unwrap().unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!((&kept["httpTokensEnforced"], &kept["httpPutResponseHopLimit"]), (&true.into(), &3.into()));
    assert_eq!(running.send(&new, &at(OTHER, &launch)).await.status, 400);
    until("it is taken over", async || {
        other.tidy().await;
        store.setting(&name).await.unwrap() == Some(value.clone())
    })
    .await;
}

/// An epoch of the other region that another server has made a moment ago: a token of it is waited for at STS, whatever region is signed
/// for, and where that region does not hear nobody says that the token is no one's.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_epoch_that_was_not_heard_of_is_waited_for_at_sts() {
    let inner = [(); 2].map(|()| Arc::new(SqliteStore::in_memory().unwrap()) as Arc<dyn Store>);
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let server = async || {
        let stores = [behind(&inner[0]), behind(&inner[1])];
        let keys = directories.each_ref().map(|directory| KeySource::File(directory.path().join("epoch.key")));
        two_of(stores, keys, true, Rates::default()).await
    };
    let (first, second) = (&server().await, &server().await);
    let id = second.launch(OTHER).await;
    let before = second.machine(&second.other, id);
    for region in [HOME, OTHER] {
        until("it is known", async || first.whoami(&before, region).await == good()).await;
    }
    first.of_other.deafen().await;
    assert_eq!(second.operate(OTHER, "Action=Inborn.RevokeEpoch&EpochId=1").await.status, 200);
    for two in [first, second] {
        two.home.clock.advance(1);
    }
    let machine = second.machine(&second.other, id);
    for region in [HOME, OTHER, GLOBAL] {
        assert_eq!(second.whoami(&machine, region).await, good(), "{region}");
        assert_eq!(first.whoami(&machine, region).await.0, 503, "it cannot tell: {region}");
    }
    assert_eq!(first.whoami(&first.home.operator(), OTHER).await, good());
    first.of_other.silence(false);
    let mut told = unknown();
    until("it hears in time", async || {
        told = first.whoami(&machine, HOME).await;
        told.0 != 503
    })
    .await;
    assert_eq!(told, good(), "nothing else was said of it meanwhile");
    let swapped = Signer { access_key_id: before.access_key_id.clone(), ..machine.clone() };
    assert_eq!(first.whoami(&swapped, HOME).await, unknown());
}

/// Of a change of which a region's store says that it is not available nobody knows whether it was made: the region looks.
#[tokio::test]
async fn a_region_that_does_not_know_what_became_of_a_release_looks_again() {
    let two = &two().await;
    let there = two.launch(OTHER).await;
    assert_eq!(two.operate(HOME, "Action=Inborn.PutQuarantine&Subject.1=123456789012").await.status, 200);
    two.of_other.fail_next(Fault::After(StoreError::Unavailable("injected, after the write".to_owned())));
    let end = two.operate(HOME, "Action=Inborn.EndQuarantine&Subject.1=123456789012").await;
    assert_eq!((end.status, code(&end)), (503, "Unavailable"));
    assert_eq!(two.of_other.quarantines().await.unwrap().len(), 0);
    two.home.clock.advance(1000);
    let is_issued = || two.other.issue(there, Delivery::V2, two.home.clock.now()).is_some();
    assert!(!is_issued());
    two.other.tidy().await;
    assert!(is_issued());
}

/// Whoever proves nothing has no more of the process by asking for more of its regions.
#[tokio::test]
async fn a_source_is_one_for_all_regions() {
    let source = Rate { per_second: 4, burst: 4 };
    let two = &two_over(memory(), false, Rates { source, ..Rates::default() }).await;
    for region in [HOME, OTHER, OTHER, HOME] {
        assert_eq!(two.whoami(&two.home.operator(), region).await, good(), "{region}");
    }
    for region in [HOME, OTHER] {
        assert_eq!(two.whoami(&two.home.operator(), region).await, (400, "Throttling".to_owned()), "{region}");
    }
    two.home.clock.advance(1);
    assert_eq!(two.whoami(&two.home.operator(), OTHER).await, good());
}

/// What another server puts into quarantine in the home the other region takes over at once, not when it tidies up.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_home_hears_of_it_hands_on() {
    let elsewhere: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let two = &two_over(behind(&elsewhere), true, Rates::default()).await;
    let by = format!("arn:aws:iam::{}:user/elsewhere", identity().account);
    let scope = QuarantineScope::Account(identity().account);
    let quarantine = Quarantine { scope, reason: String::new(), by, since: NOW };
    elsewhere.put_quarantine(quarantine, QuarantineBasis::Any).await.unwrap();
    until("it is taken over", async || two.of_other.quarantines().await.unwrap().len() == 1).await;
}

/// The other region does not hear: it is stale by itself. The home does not: who may have lost a key changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn regions_fail_apart() {
    let two = &two_in(true).await;
    let (here, there) = (two.launch(HOME).await, two.launch(OTHER).await);
    let (home, other) = (two.machine(&two.home.region, here), two.machine(&two.other, there));
    let launch = "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1";
    let unavailable = (503, "Unavailable".to_owned());

    two.of_other.deafen().await;
    until("the other is stale", async || verdict(&two.operate(OTHER, launch).await) == unavailable).await;
    assert_eq!(two.operate(HOME, launch).await.status, 200, "the home goes on");
    assert_eq!(two.whoami(&home, OTHER).await, good(), "who is of the home is known to the home");
    // After 15 s it lets no session in, in whatever region it is asked.
    until("the other has lapsed", async || two.whoami(&other, HOME).await.0 == 503).await;
    assert_eq!(two.whoami(&home, OTHER).await, good());
    two.of_other.silence(false);
    until("the other hears again", async || two.whoami(&other, HOME).await == good()).await;

    two.of_home.deafen().await;
    until("the home is stale", async || verdict(&two.operate(HOME, launch).await) == unavailable).await;
    assert_eq!(verdict(&two.operate(OTHER, launch).await), unavailable, "the key may be disabled by now");
    assert_eq!(two.operate(OTHER, "Action=DescribeInstances").await.status, 200, "operators read");
    until("the home has lapsed", async || two.whoami(&home, OTHER).await.0 == 503).await;
    assert_eq!(two.whoami(&other, HOME).await, good(), "machines of the other go on");
    assert!(two.other.issue(there, Delivery::V2, two.home.clock.now()).is_some());
    assert!(two.home.region.issue(here, Delivery::V2, two.home.clock.now()).is_none());
    two.of_home.silence(false);
    until("the home hears again", async || two.operate(OTHER, launch).await.status == 200).await;
}

#[tokio::test]
async fn not_every_store_can_be_a_region_of_a_deployment() {
    let running = start().await;
    let clock = || Arc::clone(&running.clock) as Arc<dyn Clock>;
    let directory = tempfile::tempdir().unwrap();
    let beside = async |opening: Opening, store: Arc<dyn Store>| match RegionServer::open_beside(
        &running.region,
        store,
        opening,
        clock(),
    )
    .await
    {
        Err(OpenError::Deployment(error)) => Err(error),
        outcome => Ok(outcome.unwrap()),
    };
    let new = || Arc::new(SqliteStore::in_memory().unwrap()) as Arc<dyn Store>;
    let wanted = || opening(OTHER, &directory, false);
    let with = |change: fn(&mut RegionIdentity)| {
        let mut opening = wanted();
        change(&mut opening.identity);
        opening
    };
    for unlike in [
        with(|identity| identity.partition = Partition::AwsCn),
        with(|identity| identity.account = inborn_identity::AccountId::new(7).unwrap()),
        with(|identity| identity.domain = "lab.internal".to_owned()),
    ] {
        assert!(matches!(beside(unlike, new()).await, Err(DeploymentError::Unlike(..))));
    }
    let twice = beside(opening(HOME, &directory, false), new()).await.unwrap_err();
    assert_eq!(twice, DeploymentError::Twice(HOME.parse().unwrap()));

    // One that was a deployment by itself.
    let (store, elsewhere) = (new(), tempfile::tempdir().unwrap());
    RegionServer::open(Arc::clone(&store), opening(OTHER, &elsewhere, false), clock()).await.unwrap();
    let own = beside(wanted(), store).await.unwrap_err();
    assert_eq!(own, DeploymentError::HasOperators(OTHER.parse().unwrap()));

    // One that is another deployment's is never a home: its operators are elsewhere.
    let key_source = KeySource::File(directory.path().join("epoch.key"));
    let member = || Opening { key_source: key_source.clone(), ..wanted() };
    let store = new();
    let first = beside(member(), Arc::clone(&store)).await.unwrap();
    let alone = RegionServer::open(Arc::clone(&store), member(), clock()).await.unwrap_err();
    assert!(alone.to_string().contains("--region eu-central-1 --more-regions eu-west-1"), "{alone}");
    assert_eq!(store.operators().await.unwrap().len(), 0, "and no key was made");
    drop(first);
}

#[tokio::test]
async fn regions_below_at_and_above_the_most() {
    let running = start().await;
    let directory = tempfile::tempdir().unwrap();
    let mut kept = Vec::new();
    for number in 2..=REGIONS_MAX + 1 {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
        let clock = Arc::clone(&running.clock) as Arc<dyn Clock>;
        let audit = tempfile::tempdir_in(&directory).unwrap();
        let opening = opening(&format!("lab-{number}"), &audit, false);
        let opened = RegionServer::open_beside(&running.region, store, opening, clock).await;
        match opened {
            Ok(region) => kept.push((region, audit)),
            Err(OpenError::Deployment(DeploymentError::TooMany)) => assert_eq!(number, REGIONS_MAX + 1),
            Err(error) => panic!("{number}: {error}"),
        }
    }
    assert_eq!(running.region.region_names().len(), REGIONS_MAX);
}
