//! The other half of a refusal: the same call by the one whose the thing is. A call that is refused to everybody proves nothing.

use super::*;

/// What the owner's call comes to where it is not done. It must be another answer than the stranger's.
const OTHERWISE: &[(&str, &str, &str, &str)] = &[
    ("ec2", "Inborn.CloseAccount", "OperationNotPermitted", "the region's own account is never closed"),
    ("ec2", "Inborn.DeleteOperator", "OperationNotPermitted", "nobody deletes the key that signs"),
    ("ec2", "Inborn.ModifyOperator", "OperationNotPermitted", "nobody disables the key that signs"),
    ("ec2", "Inborn.DrainHost", "InvalidHostID.NotFound", "no host has joined: hosts.rs drains and evicts"),
    ("ec2", "Inborn.EvictHost", "InvalidHostID.NotFound", "as above"),
    (
        "ec2",
        "ImportKeyPair",
        "InvalidKeyPair.Duplicate",
        "the stranger's own key of that name is the refusal there too",
    ),
    ("ec2-instance-connect", "Inborn.DecideHostKeys", "InvalidArgsException", "none wait: host_keys.rs decides"),
    (
        "ec2-instance-connect",
        "SendSerialConsoleSSHPublicKey",
        "SerialConsoleAccessDisabledException",
        "no account has a serial console",
    ),
    ("ec2messages", "SendReply", "ValidationException", "the payload is no reply: commands.rs replies"),
    ("ssm", "RegisterManagedInstance", "InstanceAlreadyRegistered", "with the key of its own agent"),
    ("ssm", "RequestManagedInstanceRoleToken", "InvalidSignatureException", "the agent's signature is not there"),
    ("iam", "DeleteRole", "DeleteConflict", "it was passed to machines by a call before"),
    ("ec2", "ModifyInstanceAttribute", "IncorrectInstanceState", "user data changes while a machine is stopped"),
];

/// Calls that are not asked by their owner here, and why.
const NOT_ASKED: &[(&str, &str, &str)] = &[
    ("ec2-instance-connect", "OpenTunnel", "a stream that does not end: tunnels.rs"),
    ("guardduty", "Inborn.QueryEvents", "there is no lake here: the lake's own tests, and compat"),
    ("ec2messages", "GetMessages", "waits until there is one: commands.rs"),
    ("ssm", "UpdateManagedInstancePublicKey", "takes the agent's signature too: management.rs"),
    ("ssmmessages", "OpenControlChannel", "a stream that does not end: the scene has opened one"),
    ("ssmmessages", "OpenDataChannel", "a stream that does not end: sessions.rs"),
    ("ssmmessages", "CreateDataChannel", "takes the token of a session: sessions.rs"),
];

/// What ends something comes last, in this order.
const LAST: &[(&str, &str)] = &[
    ("ssm", "CancelCommand"),
    ("ssm", "TerminateSession"),
    ("guardduty", "DeleteFilter"),
    ("guardduty", "DeleteIPSet"),
    ("guardduty", "CreateIPSet"),
    ("guardduty", "DeleteThreatIntelSet"),
    ("guardduty", "DeleteDetector"),
    ("ssm", "DeleteDocument"),
    // Ends what agents were given.
    ("ssm", "UpdateServiceSetting"),
    ("iam", "DeleteRole"),
    ("ssm", "DeregisterManagedInstance"),
    ("ec2", "DeleteTags"),
    ("ec2", "DeleteKeyPair"),
    ("ec2", "Inborn.EndQuarantine"),
    ("ec2", "Inborn.PutQuarantine"),
    ("ec2", "RebootInstances"),
    ("ec2", "StartInstances"),
    ("ec2", "StopInstances"),
    ("ec2", "TerminateInstances"),
    // What ends every session.
    ("ec2", "Inborn.RotateEpoch"),
    ("ec2", "Inborn.RevokeEpoch"),
];

/// Sends every call that was refused to a stranger once more, signed by the first account's own; gives what does not come out as it should.
pub(super) async fn failed(scene: &Scene) -> Vec<String> {
    let place = |row: &&rows::Row| LAST.iter().position(|last| *last == (row.0, row.1)).map_or(0, |at| at + 1);
    let mut ordered: Vec<&rows::Row> = ROWS.iter().collect();
    ordered.sort_by_key(place);
    let mut failed = Vec::new();
    for (service_name, operation_name, text, by_operator, by_machine) in ordered {
        if NOT_ASKED.iter().any(|(service, operation, _)| (service, operation) == (service_name, operation_name)) {
            continue;
        }
        let service = SERVICES.iter().find(|service| service.name == *service_name).unwrap();
        let operation = service.operations.iter().find(|operation| operation.name == *operation_name).unwrap();
        let call = scene.call(service, operation_name, text);
        let machine = match operation.callers.contains(&CallerKind::ManagementRole) {
            true => &scene.first_session,
            false => &scene.first_machine,
        };
        let owner = scene.running.operator();
        for (who, signer, expected) in [("its operator", &owner, by_operator), ("its machine", machine, by_machine)] {
            let Some(Refused(refused)) = expected else { continue };
            let sent = tokio::time::timeout(PATIENCE, scene.running.send(signer, &call)).await;
            let Ok(reply) = sent else {
                failed.push(format!("{service_name}:{operation_name} by {who} does not end"));
                continue;
            };
            let otherwise = OTHERWISE.iter().find(|one| (one.0, one.1) == (*service_name, *operation_name));
            let is_done = (200..300).contains(&reply.status);
            let is_right = match otherwise {
                Some((.., expected, _)) => !is_done && code(&reply) == *expected,
                None => is_done,
            };
            if !is_right {
                let said = format!("{} {}", reply.status, reply.body);
                failed.push(format!("{service_name}:{operation_name} by {who}, {refused} to a stranger: {said}"));
            }
        }
    }
    failed
}
