//! Walks the real operation tables: every operation, for every kind of caller and every state a caller can be in, has an
//! expectation. An operation that is added without one fails here.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::*;
use inborn_credential::{Claims, Delivery, Epoch, EpochId, EpochRoot, Kek, Keyring, Kind};
use inborn_identity::{CallerKind, InstanceId, Partition};
use inborn_region::{KeySource, SERVICES};
use inborn_store::{SqliteStore, Store};

/// What each operation is expected to allow. Adding an operation means adding a line.
const EXPECTED: [(&str, &str, &[CallerKind]); 19] = [
    ("sts", "GetCallerIdentity", &CallerKind::ALL),
    ("ec2", "CreateKeyPair", &[CallerKind::Operator]),
    ("ec2", "CreateTags", &[CallerKind::Operator]),
    ("ec2", "DeleteKeyPair", &[CallerKind::Operator]),
    ("ec2", "DeleteTags", &[CallerKind::Operator]),
    ("ec2", "DescribeInstanceAttribute", &[CallerKind::Operator]),
    ("ec2", "DescribeInstances", &[CallerKind::Operator]),
    ("ec2", "DescribeKeyPairs", &[CallerKind::Operator]),
    ("ec2", "DescribeTags", &[CallerKind::Operator]),
    ("ec2", "GetInstanceMetadataDefaults", &[CallerKind::Operator]),
    ("ec2", "ImportKeyPair", &[CallerKind::Operator]),
    ("ec2", "ModifyInstanceAttribute", &[CallerKind::Operator]),
    ("ec2", "ModifyInstanceMetadataDefaults", &[CallerKind::Operator]),
    ("ec2", "ModifyInstanceMetadataOptions", &[CallerKind::Operator]),
    ("ec2", "RebootInstances", &[CallerKind::Operator]),
    ("ec2", "RunInstances", &[CallerKind::Operator]),
    ("ec2", "StartInstances", &[CallerKind::Operator]),
    ("ec2", "StopInstances", &[CallerKind::Operator]),
    ("ec2", "TerminateInstances", &[CallerKind::Operator]),
];

#[test]
fn the_tables_say_what_is_expected_and_nothing_else() {
    let mut tables: Vec<_> = SERVICES
        .iter()
        .flat_map(|service| {
            service.operations.iter().map(|operation| (service.name, operation.name, operation.callers))
        })
        .collect();
    let mut expected = EXPECTED.to_vec();
    tables.sort_by_key(|(service, name, _)| (*service, *name));
    expected.sort_by_key(|(service, name, _)| (*service, *name));
    assert_eq!(tables, expected);
}

fn code(body: &str) -> &str {
    between(body, "<Code>", "</Code>")
}

#[tokio::test]
async fn each_operation_refuses_everybody_it_should() {
    let running = start().await;
    let (id, dead) = (running.launch().await, running.launch().await);
    let ended = running.machine(dead);
    running.send(&running.operator(), &ec2(&format!("Action=TerminateInstances&InstanceId.1={dead}"))).await;
    let machine = running.machine(id);
    for service in SERVICES {
        for operation in service.operations {
            let name = format!("{}:{}", service.name, operation.name);
            let version = service.version.unwrap_or("2016-11-15");
            let good = call(service.name, &format!("Action={}&Version={version}", operation.name));
            let (unknown, signature, unsigned) = match service.name {
                "ec2" => ("AuthFailure", "AuthFailure", (400, "MissingParameter")),
                _ => ("InvalidClientTokenId", "SignatureDoesNotMatch", (403, "MissingAuthenticationToken")),
            };

            // The identity role.
            let reply = running.send(&machine, &good).await;
            if operation.callers.contains(&CallerKind::IdentityRole) {
                assert_eq!(reply.status, 200, "{name}: {}", reply.body);
            } else {
                assert_eq!(code(&reply.body), unknown, "{name} by the identity role");
            }
            // An operator gets past the table: done, or refused for its parameters.
            let reply = running.send(&running.operator(), &good).await;
            let is_let_in = reply.status == 200
                || code(&reply.body) == "MissingParameter"
                || code(&reply.body) == "InvalidParameterCombination";
            assert!(is_let_in, "{name} by the operator: {}", reply.body);
            // A terminated machine.
            let reply = running.send(&ended, &good).await;
            assert_eq!(code(&reply.body), unknown, "{name} by a terminated machine");
            // Nobody.
            let text = running.signed(&machine, &good);
            let lines: Vec<&str> = text.split("\r\n").filter(|line| !line.starts_with("authorization")).collect();
            let reply = exchange(running.address, &lines.join("\r\n")).await;
            assert_eq!((reply.status, code(&reply.body)), unsigned, "{name} by nobody");
            // A tampered body, for both.
            for signer in [&machine, &running.operator()] {
                let text = running.signed(signer, &good).replace("Version=2", "Version=3");
                let reply = exchange(running.address, &text).await;
                assert_eq!(code(&reply.body), signature, "{name} with a tampered body");
            }
            // Signed for another region, and for another service.
            for signer in [&machine, &running.operator()] {
                let mut elsewhere = good.clone();
                elsewhere.region = "eu-west-1".to_owned();
                assert_eq!(code(&running.send(signer, &elsewhere).await.body), signature, "{name} for another region");
                for other in SERVICES.iter().filter(|other| other.name != service.name) {
                    let mut mixed = good.clone();
                    mixed.service = other.name.to_owned();
                    let reply = running.send(signer, &mixed).await;
                    // In the dialect of the service that was signed for.
                    let mismatch = if other.name == "ec2" { "AuthFailure" } else { "SignatureDoesNotMatch" };
                    assert_eq!(code(&reply.body), mismatch, "{name} signed for {}", other.name);
                    mixed.host = mixed.host.to_ascii_uppercase();
                    let reply = running.send(signer, &mixed).await;
                    assert_eq!(code(&reply.body), mismatch, "{name} signed for {}, in capitals", other.name);
                }
            }
        }
    }
    // An expired credential, everywhere.
    let issued = running.region.issue(id, inborn_credential::Delivery::V2, NOW).unwrap().credential;
    running.clock.set(issued.expires_at);
    for service in SERVICES {
        for operation in service.operations {
            let version = service.version.unwrap_or("2016-11-15");
            let good = call(service.name, &format!("Action={}&Version={version}", operation.name));
            let reply = running.send(&machine, &good).await;
            let expired = if service.name == "ec2" { "RequestExpired" } else { "ExpiredToken" };
            assert_eq!(code(&reply.body), expired, "{}:{}", service.name, operation.name);
        }
    }
}

/// The management role of an instance: nothing passes it on yet, so its credential is made from the region's own epoch,
/// opened with the region's own key file.
async fn management(store: &Arc<dyn Store>, key_file: &Path, instance: InstanceId) -> Signer {
    let digits = std::fs::read_to_string(key_file).unwrap().trim().strip_prefix("inborn-key-1 ").unwrap().to_owned();
    let byte = |index: usize| u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).unwrap();
    let kek = Kek::from_bytes(&std::array::from_fn(byte)).unwrap();
    let sealed = store.epochs().await.unwrap().remove(0);
    let root = kek.open("epoch 1", sealed.blob.as_bytes()).unwrap();
    let root = EpochRoot::from_bytes(root.as_slice().try_into().unwrap());
    let epoch = Epoch::new(EpochId(1), &root, Partition::Aws).unwrap();
    let claims = Claims {
        kind: Kind::Management {
            role: inborn_identity::MANAGEMENT_ROLE_NAME.parse().unwrap(),
            role_id: "AROAEXAMPLEEXAMPLE234".into(),
        },
        account: identity().account,
        instance,
        region: identity().region,
        issued_at: NOW,
        expires_at: NOW.plus(3600),
        delivery: Delivery::V2,
        boot_generation: 1,
        private_address: None,
    };
    (&Keyring::new(vec![epoch], EpochId(1)).unwrap().mint(&claims).unwrap()).into()
}

#[tokio::test]
async fn the_management_role_is_known_and_may_ask_who_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let key_file = directory.path().join("epoch.key");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let running = start_in(directory, Arc::clone(&store), KeySource::File(key_file.clone())).await;
    let id = running.launch().await;
    let role = management(&store, &key_file, id).await;
    for service in SERVICES {
        for operation in service.operations {
            let name = format!("{}:{}", service.name, operation.name);
            let version = service.version.unwrap_or("2016-11-15");
            let good = call(service.name, &format!("Action={}&Version={version}", operation.name));
            let reply = running.send(&role, &good).await;
            if operation.callers.contains(&CallerKind::ManagementRole) {
                assert_eq!(reply.status, 200, "{name}: {}", reply.body);
                let arn = format!("assumed-role/AWSSystemsManagerDefaultEC2InstanceManagementRole/{id}");
                assert!(reply.body.contains(&arn) && reply.body.contains(&format!("AROAEXAMPLEEXAMPLE234:{id}")));
            } else {
                assert_eq!((reply.status, code(&reply.body)), (403, "UnauthorizedOperation"), "{name}");
            }
        }
    }
    for operation in all_operations() {
        let OperationCall { name, good, signature, expired, .. } = operation;
        let text = running.signed(&role, &good).replace("Version=2", "Version=3");
        assert_eq!(code(&exchange(running.address, &text).await.body), signature, "{name} with a tampered body");
        let elsewhere = Call { region: "eu-west-1".to_owned(), ..good.clone() };
        assert_eq!(code(&running.send(&role, &elsewhere).await.body), signature, "{name} for another region");
        let mixed = Call { service: if name.starts_with("ec2") { "sts" } else { "ec2" }.to_owned(), ..good.clone() };
        assert!([401, 403].contains(&running.send(&role, &mixed).await.status), "{name} for another service");
        running.clock.set(NOW.plus(3600));
        assert_eq!(code(&running.send(&role, &good).await.body), expired, "{name} when it has expired");
        running.clock.set(NOW);
    }
    let terminated = ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"));
    assert_eq!(running.send(&running.operator(), &terminated).await.status, 200);
    for OperationCall { name, good, unknown, .. } in all_operations() {
        assert_eq!(code(&running.send(&role, &good).await.body), unknown, "{name} ended with its machine");
    }
}

/// A call of each operation of the tables, and the codes that its service refuses it with.
struct OperationCall {
    name: String,
    good: Call,
    unknown: &'static str,
    signature: &'static str,
    expired: &'static str,
}

fn all_operations() -> Vec<OperationCall> {
    let of = |service: &'static inborn_region::Service| {
        let version = service.version.unwrap_or("2016-11-15");
        service.operations.iter().map(move |operation| {
            let [unknown, signature, expired] = match service.name {
                "ec2" => ["AuthFailure", "AuthFailure", "RequestExpired"],
                _ => ["InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken"],
            };
            let name = format!("{}:{}", service.name, operation.name);
            let good = call(service.name, &format!("Action={}&Version={version}", operation.name));
            OperationCall { name, good, unknown, signature, expired }
        })
    };
    SERVICES.iter().flat_map(|service| of(service)).collect()
}

#[tokio::test]
async fn services_that_are_not_here_know_nobody() {
    let running = start().await;
    let id = running.launch().await;
    for signer in [running.machine(id), running.operator()] {
        let mut sqs = call("sqs", "{}");
        sqs.headers = vec![
            ("content-type", "application/x-amz-json-1.0".to_owned()),
            ("x-amz-target", "AmazonSQS.ListQueues".to_owned()),
        ];
        let reply = running.send(&signer, &sqs).await;
        assert_eq!(reply.status, 403);
        assert_eq!(
            reply.body,
            r#"{"__type":"com.amazon.coral.service#UnrecognizedClientException","message":"The security token included in the request is invalid"}"#
        );
        let reply = running.send(&signer, &call("iam", "Action=ListUsers&Version=2010-05-08")).await;
        assert_eq!((reply.status, code(&reply.body)), (403, "InvalidClientTokenId"));
    }
    // What S3 clients send: the body is not signed, and the answer has to be S3's own all the same.
    let mut s3 = call("s3", "");
    (s3.method, s3.host) = ("GET", "127.0.0.1:4580".to_owned());
    s3.headers = vec![("x-amz-content-sha256", "UNSIGNED-PAYLOAD".to_owned())];
    let reply = running.send(&running.machine(id), &s3).await;
    assert_eq!((reply.status, code(&reply.body)), (400, "InvalidToken"));
    for action in ["GetSessionToken", "AssumeRole", "GetFederationToken", "GetAccessKeyInfo", "Surprise"] {
        let reply =
            running.send(&running.machine(id), &call("sts", &format!("Action={action}&Version=2011-06-15"))).await;
        assert_eq!((reply.status, code(&reply.body)), (403, "InvalidClientTokenId"), "{action}");
        let message = between(&reply.body, "<Message>", "</Message>");
        assert_eq!(message, "The security token included in the request is invalid", "{action}");
    }
}
