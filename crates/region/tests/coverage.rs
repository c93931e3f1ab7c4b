//! Walks the real operation tables: every operation, for every kind of caller and every state a caller can be in, has an
//! expectation. An operation that is added without one fails here.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use common::calls::*;
use common::*;
use inborn_identity::{CallerKind, InstanceId};
use inborn_region::{Protocol, SERVICES, Service};

/// What each operation is expected to allow. Adding an operation means adding a line.
const EXPECTED: &[(&str, &str, &[CallerKind])] = &[
    ("sts", "GetCallerIdentity", &CallerKind::ALL),
    ("ec2", "CreateKeyPair", &[CallerKind::Operator]),
    ("ec2", "CreateTags", &[CallerKind::Operator]),
    ("ec2", "DeleteKeyPair", &[CallerKind::Operator]),
    ("ec2", "DeleteTags", &[CallerKind::Operator]),
    ("ec2", "DescribeInstanceAttribute", &[CallerKind::Operator]),
    ("ec2", "DescribeInstanceConnectEndpoints", &[CallerKind::Operator]),
    ("ec2", "DescribeInstances", &[CallerKind::Operator]),
    ("ec2", "DescribeKeyPairs", &[CallerKind::Operator]),
    ("ec2", "DescribeRegions", &[CallerKind::Operator]),
    ("ec2", "DescribeTags", &[CallerKind::Operator]),
    ("ec2", "GetInstanceMetadataDefaults", &[CallerKind::Operator]),
    ("ec2", "ImportKeyPair", &[CallerKind::Operator]),
    ("ec2", "Inborn.DescribeEpochs", &[CallerKind::Operator]),
    ("ec2", "Inborn.DescribeQuarantines", &[CallerKind::Operator]),
    ("ec2", "Inborn.EndQuarantine", &[CallerKind::Operator]),
    ("ec2", "Inborn.PutQuarantine", &[CallerKind::Operator]),
    ("ec2", "Inborn.RevokeEpoch", &[CallerKind::Operator]),
    ("ec2", "Inborn.RotateEpoch", &[CallerKind::Operator]),
    ("ec2", "Inborn.CloseAccount", &[CallerKind::Operator]),
    ("ec2", "Inborn.CreateAccount", &[CallerKind::Operator]),
    ("ec2", "Inborn.CreateOperator", &[CallerKind::Operator]),
    ("ec2", "Inborn.DeleteOperator", &[CallerKind::Operator]),
    ("ec2", "Inborn.DescribeAccounts", &[CallerKind::Operator]),
    ("ec2", "Inborn.DescribeOperators", &[CallerKind::Operator]),
    ("ec2", "Inborn.ModifyOperator", &[CallerKind::Operator]),
    ("ec2", "Inborn.CreateJoinToken", &[CallerKind::Operator]),
    ("ec2", "Inborn.DescribeHosts", &[CallerKind::Operator]),
    ("ec2", "Inborn.DrainHost", &[CallerKind::Operator]),
    ("ec2", "Inborn.EvictHost", &[CallerKind::Operator]),
    ("ec2", "Inborn.RevokeJoinTokens", &[CallerKind::Operator]),
    ("ec2", "ModifyInstanceAttribute", &[CallerKind::Operator]),
    ("ec2", "ModifyInstanceMetadataDefaults", &[CallerKind::Operator]),
    ("ec2", "ModifyInstanceMetadataOptions", &[CallerKind::Operator]),
    ("ec2", "RebootInstances", &[CallerKind::Operator]),
    ("ec2", "RunInstances", &[CallerKind::Operator]),
    ("ec2", "StartInstances", &[CallerKind::Operator]),
    ("ec2", "StopInstances", &[CallerKind::Operator]),
    ("ec2", "TerminateInstances", &[CallerKind::Operator]),
    ("ec2-instance-connect", "GetEC2HostKeys", &[CallerKind::IdentityRole, CallerKind::Operator]),
    ("ec2-instance-connect", "Inborn.DecideHostKeys", &[CallerKind::Operator]),
    ("ec2-instance-connect", "Inborn.DescribeHostKeys", &[CallerKind::Operator]),
    ("ec2-instance-connect", "Inborn.GetHostKeyPolicy", &[CallerKind::Operator]),
    ("ec2-instance-connect", "Inborn.PutHostKeyPolicy", &[CallerKind::Operator]),
    ("ec2-instance-connect", "OpenTunnel", &[CallerKind::Operator]),
    ("ec2-instance-connect", "PutEC2HostKeys", &[CallerKind::IdentityRole]),
    ("ec2-instance-connect", "SendSSHPublicKey", &[CallerKind::Operator]),
    ("ec2-instance-connect", "SendSerialConsoleSSHPublicKey", &[CallerKind::Operator]),
    ("ec2messages", "AcknowledgeMessage", &[CallerKind::ManagementRole]),
    ("ec2messages", "DeleteMessage", &[CallerKind::ManagementRole]),
    ("ec2messages", "FailMessage", &[CallerKind::ManagementRole]),
    ("ec2messages", "GetEndpoint", &[CallerKind::ManagementRole]),
    ("ec2messages", "GetMessages", &[CallerKind::ManagementRole]),
    ("ec2messages", "SendReply", &[CallerKind::ManagementRole]),
    ("guardduty", "ArchiveFindings", &[CallerKind::Operator]),
    ("guardduty", "CreateDetector", &[CallerKind::Operator]),
    ("guardduty", "CreateFilter", &[CallerKind::Operator]),
    ("guardduty", "CreateIPSet", &[CallerKind::Operator]),
    ("guardduty", "CreateSampleFindings", &[CallerKind::Operator]),
    ("guardduty", "CreateThreatIntelSet", &[CallerKind::Operator]),
    ("guardduty", "DeleteDetector", &[CallerKind::Operator]),
    ("guardduty", "DeleteFilter", &[CallerKind::Operator]),
    ("guardduty", "DeleteIPSet", &[CallerKind::Operator]),
    ("guardduty", "DeleteThreatIntelSet", &[CallerKind::Operator]),
    ("guardduty", "GetCoverageStatistics", &[CallerKind::Operator]),
    ("guardduty", "GetDetector", &[CallerKind::Operator]),
    ("guardduty", "GetFilter", &[CallerKind::Operator]),
    ("guardduty", "GetFindings", &[CallerKind::Operator]),
    ("guardduty", "GetFindingsStatistics", &[CallerKind::Operator]),
    ("guardduty", "GetIPSet", &[CallerKind::Operator]),
    ("guardduty", "GetThreatIntelSet", &[CallerKind::Operator]),
    ("guardduty", "Inborn.QueryEvents", &[CallerKind::Operator]),
    ("guardduty", "ListCoverage", &[CallerKind::Operator]),
    ("guardduty", "ListDetectors", &[CallerKind::Operator]),
    ("guardduty", "ListFilters", &[CallerKind::Operator]),
    ("guardduty", "ListFindings", &[CallerKind::Operator]),
    ("guardduty", "ListIPSets", &[CallerKind::Operator]),
    ("guardduty", "ListTagsForResource", &[CallerKind::Operator]),
    ("guardduty", "ListThreatIntelSets", &[CallerKind::Operator]),
    ("guardduty", "TagResource", &[CallerKind::Operator]),
    ("guardduty", "UnarchiveFindings", &[CallerKind::Operator]),
    ("guardduty", "UntagResource", &[CallerKind::Operator]),
    ("guardduty", "UpdateDetector", &[CallerKind::Operator]),
    ("guardduty", "UpdateFilter", &[CallerKind::Operator]),
    ("guardduty", "UpdateFindingsFeedback", &[CallerKind::Operator]),
    ("guardduty", "UpdateIPSet", &[CallerKind::Operator]),
    ("guardduty", "UpdateThreatIntelSet", &[CallerKind::Operator]),
    ("guardduty-data", "SendSecurityTelemetry", &[CallerKind::IdentityRole]),
    ("iam", "CreateRole", &[CallerKind::Operator]),
    ("iam", "DeleteRole", &[CallerKind::Operator]),
    ("iam", "GetRole", &[CallerKind::Operator]),
    ("iam", "ListRoles", &[CallerKind::Operator]),
    ("ssm", "CancelCommand", &[CallerKind::Operator]),
    ("ssm", "CreateDocument", &[CallerKind::Operator]),
    ("ssm", "DeleteDocument", &[CallerKind::Operator]),
    ("ssm", "DeregisterManagedInstance", &[CallerKind::Operator]),
    ("ssm", "DescribeDocument", &[CallerKind::ManagementRole, CallerKind::Operator]),
    ("ssm", "DescribeInstanceInformation", &[CallerKind::Operator]),
    ("ssm", "DescribeInstanceProperties", &[CallerKind::Operator]),
    ("ssm", "GetCommandInvocation", &[CallerKind::Operator]),
    ("ssm", "GetDocument", &[CallerKind::ManagementRole, CallerKind::Operator]),
    ("ssm", "GetInventory", &[CallerKind::Operator]),
    ("ssm", "ListComplianceItems", &[CallerKind::Operator]),
    ("ssm", "ListInventoryEntries", &[CallerKind::Operator]),
    ("ssm", "PutComplianceItems", &[CallerKind::ManagementRole, CallerKind::Operator]),
    ("ssm", "PutInventory", &[CallerKind::ManagementRole, CallerKind::Operator]),
    ("ssm", "DescribeSessions", &[CallerKind::Operator]),
    ("ssm", "GetConnectionStatus", &[CallerKind::Operator]),
    ("ssm", "GetServiceSetting", &[CallerKind::Operator]),
    ("ssm", "ListAssociations", &[CallerKind::ManagementRole, CallerKind::Operator]),
    ("ssm", "ListCommandInvocations", &[CallerKind::Operator]),
    ("ssm", "ListCommands", &[CallerKind::Operator]),
    ("ssm", "ListDocuments", &[CallerKind::Operator]),
    ("ssm", "ListInstanceAssociations", &[CallerKind::ManagementRole]),
    ("ssm", "RegisterManagedInstance", &[CallerKind::IdentityRole]),
    ("ssm", "RequestManagedInstanceRoleToken", &[CallerKind::IdentityRole]),
    ("ssm", "ResetServiceSetting", &[CallerKind::Operator]),
    ("ssm", "SendCommand", &[CallerKind::Operator]),
    ("ssm", "ResumeSession", &[CallerKind::Operator]),
    ("ssm", "StartSession", &[CallerKind::Operator]),
    ("ssm", "TerminateSession", &[CallerKind::Operator]),
    ("ssm", "UpdateInstanceInformation", &[CallerKind::ManagementRole]),
    ("ssm", "UpdateManagedInstancePublicKey", &[CallerKind::IdentityRole]),
    ("ssm", "UpdateServiceSetting", &[CallerKind::Operator]),
    ("ssmmessages", "CreateControlChannel", &[CallerKind::ManagementRole]),
    ("ssmmessages", "CreateDataChannel", &[CallerKind::ManagementRole]),
    ("ssmmessages", "OpenControlChannel", &[CallerKind::ManagementRole]),
    ("ssmmessages", "OpenDataChannel", &[CallerKind::ManagementRole, CallerKind::Operator]),
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
            let good = good_call(service, operation, id);
            let Refused { unknown, signature, unsigned, denied, .. } = refused_by(service, operation);

            // The identity role.
            let reply = running.send(&machine, &good).await;
            if operation.callers.contains(&CallerKind::IdentityRole) {
                assert!(is_let_in(&reply), "{name}: {}", reply.body);
            } else {
                assert_eq!(code(&reply), unknown, "{name} by the identity role");
            }
            // An operator.
            let reply = running.send(&running.operator(), &good).await;
            if operation.callers.contains(&CallerKind::Operator) {
                assert!(is_let_in(&reply), "{name} by the operator: {}", reply.body);
            } else {
                assert_eq!((reply.status, code(&reply)), denied, "{name} by the operator");
            }
            // A terminated machine.
            let reply = running.send(&ended, &good).await;
            assert_eq!(code(&reply), unknown, "{name} by a terminated machine");
            // Nobody.
            let text = running.signed(&machine, &good);
            let lines: Vec<&str> = text.split("\r\n").filter(|line| !line.starts_with("authorization")).collect();
            let reply = exchange(running.address, &lines.join("\r\n")).await;
            assert_eq!((reply.status, code(&reply)), unsigned, "{name} by nobody");
            // A tampered body, for both.
            for signer in [&machine, &running.operator()] {
                let text = running.signed(signer, &good).replace("Version=2", "Version=3");
                let reply = exchange(running.address, &text).await;
                assert_eq!(code(&reply), signature, "{name} with a tampered body");
            }
            // Signed for another region, and for another service.
            for signer in [&machine, &running.operator()] {
                let mut elsewhere = good.clone();
                elsewhere.region = "eu-west-1".to_owned();
                assert_eq!(code(&running.send(signer, &elsewhere).await), signature, "{name} for another region");
                for other in SERVICES.iter().filter(|other| other.signing_name != service.signing_name) {
                    let mut mixed = good.clone();
                    mixed.service = other.signing_name.to_owned();
                    // A path or a method that the other does not know is refused for itself.
                    let path = match other.protocol {
                        Protocol::Rest { routes } => routes.iter().find(|route| route.method == "POST").unwrap().path,
                        _ => "/",
                    };
                    let path = path.replace(['{', '}'], "");
                    (mixed.target, mixed.method) = (path, "POST");
                    let reply = running.send(signer, &mixed).await;
                    // In the dialect of the service that was signed for.
                    let mismatch = refused(other).signature;
                    assert_eq!(code(&reply), mismatch, "{name} signed for {}", other.name);
                    mixed.host = mixed.host.to_ascii_uppercase();
                    let reply = running.send(signer, &mixed).await;
                    assert_eq!(code(&reply), mismatch, "{name} signed for {}, in capitals", other.name);
                }
            }
        }
    }
    // An expired credential, everywhere.
    let issued = running.region.issue(id, inborn_credential::Delivery::V2, NOW).unwrap().credential;
    running.clock.set(issued.expires_at);
    for service in SERVICES {
        for operation in service.operations {
            let reply = running.send(&machine, &good_call(service, operation, id)).await;
            assert_eq!(code(&reply), refused(service).expired, "{}:{}", service.name, operation.name);
        }
    }
}

#[tokio::test]
async fn the_management_role_is_known_and_may_do_what_its_tables_say() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    for service in SERVICES {
        for operation in service.operations {
            let name = format!("{}:{}", service.name, operation.name);
            let reply = running.send(&role, &good_call(service, operation, id)).await;
            if operation.callers.contains(&CallerKind::ManagementRole) {
                assert!(is_let_in(&reply), "{name}: {}", reply.body);
            } else {
                let denied = refused_by(service, operation).denied;
                assert_eq!((reply.status, code(&reply)), denied, "{name}");
            }
        }
    }
    for operation in all_operations(id) {
        let OperationCall { name, good, refused: Refused { signature, expired, .. } } = operation;
        let text = running.signed(&role, &good).replace("Version=2", "Version=3");
        assert_eq!(code(&exchange(running.address, &text).await), signature, "{name} with a tampered body");
        let elsewhere = Call { region: "eu-west-1".to_owned(), ..good.clone() };
        assert_eq!(code(&running.send(&role, &elsewhere).await), signature, "{name} for another region");
        let other = if name.starts_with("ec2") { "sts" } else { "ec2" };
        let mixed = Call { service: other.to_owned(), method: "POST", ..good.clone() };
        assert!([401, 403].contains(&running.send(&role, &mixed).await.status), "{name} for another service");
        running.clock.set(NOW.plus(3600));
        assert_eq!(code(&running.send(&role, &good).await), expired, "{name} when it has expired");
        running.clock.set(NOW);
    }
    let terminated = ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"));
    assert_eq!(running.send(&running.operator(), &terminated).await.status, 200);
    for OperationCall { name, good, refused } in all_operations(id) {
        assert_eq!(code(&running.send(&role, &good).await), refused.unknown, "{name} ended with its machine");
    }
}

/// A call of each operation of the tables, and how its service refuses.
struct OperationCall {
    name: String,
    good: Call,
    refused: Refused,
}

fn all_operations(id: InstanceId) -> Vec<OperationCall> {
    let of = |service: &'static Service| {
        service.operations.iter().map(move |operation| OperationCall {
            name: format!("{}:{}", service.name, operation.name),
            good: good_call(service, operation, id),
            refused: refused(service),
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
        let reply = running.send(&signer, &call("sns", "Action=ListTopics&Version=2010-03-31")).await;
        assert_eq!((reply.status, code(&reply)), (403, "InvalidClientTokenId"));
    }
    // What S3 clients send: the body is not signed, and the answer has to be S3's own all the same.
    let mut s3 = call("s3", "");
    (s3.method, s3.host) = ("GET", "127.0.0.1:4580".to_owned());
    s3.headers = vec![("x-amz-content-sha256", "UNSIGNED-PAYLOAD".to_owned())];
    let reply = running.send(&running.machine(id), &s3).await;
    assert_eq!((reply.status, code(&reply)), (400, "InvalidToken"));
    for action in ["GetSessionToken", "AssumeRole", "GetFederationToken", "GetAccessKeyInfo", "Surprise"] {
        let reply =
            running.send(&running.machine(id), &call("sts", &format!("Action={action}&Version=2011-06-15"))).await;
        assert_eq!((reply.status, code(&reply)), (403, "InvalidClientTokenId"), "{action}");
        let message = between(&reply.body, "<Message>", "</Message>");
        assert_eq!(message, "The security token included in the request is invalid", "{action}");
    }
}
