//! Default Host Management: who registers, who is given a session of the management role, and when that ends.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;

use common::agent::*;
use common::*;
use inborn_identity::{InstanceId, MANAGEMENT_ROLE_NAME};
use inborn_region::KeySource;
use inborn_store::{SqliteStore, Store};
use serde_json::{Value, json as value};

fn body(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{}", reply.body))
}

/// The status, code and text of a refusal.
fn refused(reply: &Reply) -> (u16, String, String) {
    let body = body(reply);
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    (reply.status, text("__type"), text("message") + &text("Message"))
}

async fn setting(running: &Running, operation: &str, body: Value) -> Reply {
    running.send(&running.operator(), &json("ssm", &format!("AmazonSSM.{operation}"), &body.to_string())).await
}

async fn whoami(running: &Running, signer: &Signer) -> Reply {
    running.send(signer, &call("sts", WHOAMI)).await
}

#[tokio::test]
async fn the_setting_is_off_until_an_operator_passes_a_role() {
    let running = start().await;
    let arn = format!("arn:aws:ssm:eu-central-1:123456789012:servicesetting{SETTING}");
    let off = value!({"ServiceSetting": {
        "ARN": arn, "SettingId": SETTING, "SettingValue": "$None", "Status": "Default", "LastModifiedUser": "System",
    }});
    for id in [SETTING, &arn] {
        let got = setting(&running, "GetServiceSetting", value!({"SettingId": id})).await;
        assert_eq!((got.status, body(&got)), (200, off.clone()), "{id}");
    }
    for name in [MANAGEMENT_ROLE_NAME.to_owned(), format!("service-role/{MANAGEMENT_ROLE_NAME}")] {
        let set = setting(&running, "UpdateServiceSetting", value!({"SettingId": arn, "SettingValue": name})).await;
        assert_eq!((set.status, set.body.as_str()), (200, "{}"));
        let got = body(&setting(&running, "GetServiceSetting", value!({"SettingId": SETTING})).await);
        let on = value!({"ServiceSetting": {
            "ARN": arn, "SettingId": SETTING, "SettingValue": name, "Status": "Customized",
            "LastModifiedUser": "arn:aws:iam::123456789012:user/operator", "LastModifiedDate": NOW.as_secs(),
        }});
        assert_eq!(got, on);
    }
    let reset = setting(&running, "ResetServiceSetting", value!({"SettingId": SETTING})).await;
    assert_eq!((reset.status, body(&reset)), (200, off));
}

#[tokio::test]
async fn settings_that_are_not_here_and_roles_that_cannot_be_passed() {
    let running = start().await;
    for id in
        ["/ssm/parameter-store/default-parameter-tier", "x", "arn:aws:ssm:eu-west-1:123456789012:servicesetting/x"]
    {
        for operation in ["GetServiceSetting", "UpdateServiceSetting", "ResetServiceSetting"] {
            let reply = setting(&running, operation, value!({"SettingId": id, "SettingValue": "x"})).await;
            assert_eq!(refused(&reply).1, "ServiceSettingNotFound", "{operation} {id}");
        }
    }
    for length in [0, 1001] {
        let reply = setting(&running, "GetServiceSetting", value!({"SettingId": "s".repeat(length)})).await;
        assert_eq!(refused(&reply).1, "ValidationException", "{length}");
    }
    let long = "r".repeat(4097);
    for name in [
        "",
        "Absent",
        "aws:ec2-instance",
        "role/",
        "other-path/AWSSystemsManagerDefaultEC2InstanceManagementRole",
        &long,
    ] {
        let reply = running.pass_role(name).await;
        assert_eq!(refused(&reply).1, "ValidationException", "{name}: {}", reply.body);
    }
    assert_eq!(running.pass_role("$None").await.status, 200);
}

#[tokio::test]
async fn a_machine_that_registers_is_given_the_management_role() {
    let running = start().await;
    let (id, agent) = (running.launch().await, Agent::new());
    let reply = running.role_token(&agent, id).await;
    let absent = (400, "InvalidInstanceId".to_owned(), format!("Instance {id} is not registered."));
    assert_eq!(refused(&reply), absent);
    let registered = running.register(&agent, id).await;
    assert_eq!((registered.status, body(&registered)), (200, value!({"InstanceId": id.to_string()})));
    // Off, to the letter.
    let off = "Systems Manager's instance management role is not configured for account: 123456789012";
    let reply = running.role_token(&agent, id).await;
    assert_eq!(refused(&reply), (400, "AccessDeniedException".to_owned(), off.to_owned()));
    running.pass_role(MANAGEMENT_ROLE_NAME).await;
    let reply = running.role_token(&agent, id).await;
    assert_eq!(body(&reply)["TokenExpirationDate"], NOW.as_secs() + 3600);
    assert_eq!(body(&reply)["UpdateKeyPair"], false);

    let reply = whoami(&running, &session(&reply)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let arn = format!("arn:aws:sts::123456789012:assumed-role/{MANAGEMENT_ROLE_NAME}/{id}");
    assert_eq!(between(&reply.body, "<Arn>", "</Arn>"), arn);
    let user = between(&reply.body, "<UserId>", "</UserId>");
    assert!(user.starts_with("AROA") && user.ends_with(&format!(":{id}")), "{user}");

    let audit = std::fs::read_to_string(running.directory.path().join("audit.jsonl")).unwrap();
    let token = body(&running.role_token(&agent, id).await)["SessionToken"].as_str().unwrap().to_owned();
    assert!(!audit.contains(&token) && audit.contains("RequestManagedInstanceRoleToken"));
}

#[tokio::test]
async fn the_management_role_may_do_nothing_else() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let arn = format!("arn:aws:sts::123456789012:assumed-role/{MANAGEMENT_ROLE_NAME}/{id}");
    for (target, action) in [
        ("AmazonSSM.GetParameter", "ssm:GetParameter"),
        ("AmazonSSM.UpdateServiceSetting", "ssm:UpdateServiceSetting"),
        ("AmazonSSM.RegisterManagedInstance", "ssm:RegisterManagedInstance"),
    ] {
        let reply = running.send(&role, &json("ssm", target, "{}")).await;
        let message = format!(
            "User: {arn} is not authorized to perform: {action} because no identity-based policy allows the {action} action"
        );
        assert_eq!(refused(&reply), (400, "AccessDeniedException".to_owned(), message));
    }
    let reply = running.send(&role, &ec2("Action=DescribeInstances")).await;
    assert_eq!((reply.status, between(&reply.body, "<Code>", "</Code>")), (403, "UnauthorizedOperation"));
    let reply = running.send(&role, &call("sns", "Action=ListTopics&Version=2010-03-31")).await;
    assert_eq!((reply.status, between(&reply.body, "<Code>", "</Code>")), (403, "AccessDenied"));
    let message = between(&reply.body, "<Message>", "</Message>");
    assert!(message.starts_with(&format!("User: {arn} is not authorized to perform: sns:ListTopics")), "{message}");
}

#[tokio::test]
async fn a_registration_is_the_machines_own_and_stays() {
    let running = start().await;
    let (id, other) = (running.launch().await, running.launch().await);
    let (agent, intruder) = (Agent::new(), Agent::new());
    let send = async |id: InstanceId, body: String| {
        running.send(&running.machine(id), &json("ssm", "AmazonSSM.RegisterManagedInstance", &body)).await
    };
    // Another machine's id, and what is no key.
    assert_eq!(refused(&send(id, agent.registration(other)).await).1, "MachineFingerprintDoesNotMatch");
    let key = agent.public_key();
    for (broken, code) in [
        (
            value!({"Fingerprint": id.to_string(), "PublicKey": "A".repeat(392), "PublicKeyType": "Rsa"}),
            "InvalidPublicKey",
        ),
        (value!({"Fingerprint": id.to_string(), "PublicKey": key, "PublicKeyType": "Ed25519"}), "InvalidPublicKey"),
        (
            value!({"Fingerprint": id.to_string(), "PublicKey": &key[..391], "PublicKeyType": "Rsa"}),
            "ValidationException",
        ),
        (
            value!({"Fingerprint": id.to_string(), "PublicKey": "A".repeat(2049), "PublicKeyType": "Rsa"}),
            "ValidationException",
        ),
        (value!({"Fingerprint": id.to_string(), "PublicKey": key}), "ValidationException"),
        (value!({"PublicKey": key, "PublicKeyType": "Rsa"}), "ValidationException"),
        (
            value!({"Fingerprint": id.to_string(), "ActivationId": "a".repeat(36), "PublicKey": key}),
            "InvalidActivation",
        ),
    ] {
        assert_eq!(refused(&send(id, broken.to_string()).await).1, code, "{broken}");
    }
    // The same key again is the same registration, as after a crash; another key is refused; a cloned disk is welcome.
    for _ in 0..2 {
        assert_eq!(running.register(&agent, id).await.status, 200);
    }
    assert_eq!(refused(&running.register(&intruder, id).await).1, "InstanceAlreadyRegistered");
    assert_eq!(running.register(&agent, other).await.status, 200);
    // Members that later agents send change nothing.
    let later = agent.registration(id).replacen('{', r#"{"Surprise":{"a":[1]},"#, 1);
    assert_eq!(send(id, later).await.status, 200);
}

#[tokio::test]
async fn a_token_needs_the_key_that_registered() {
    let running = start().await;
    let (id, agent, _) = running.managed().await;
    let (other, machine) = (running.launch().await, running.machine(id));
    let ask = |fingerprint: InstanceId| format!(r#"{{"Fingerprint":"{fingerprint}"}}"#);
    let request = "RequestManagedInstanceRoleToken";
    let reply = running.twice_signed(&agent, &machine, request, &ask(other)).await;
    assert_eq!(refused(&reply).1, "MachineFingerprintDoesNotMatch");
    let reply = running.twice_signed(&Agent::new(), &machine, request, &ask(id)).await;
    assert_eq!(refused(&reply).1, "InvalidSignatureException");
    let reply = running.send(&machine, &json("ssm", "AmazonSSM.RequestManagedInstanceRoleToken", &ask(id))).await;
    assert_eq!(refused(&reply).1, "InvalidSignatureException", "without a second signature");
    // The signature of another request, with the same body.
    let text = running.signed(&machine, &json("ssm", "AmazonSSM.RequestManagedInstanceRoleToken", &ask(id)));
    running.clock.set(NOW.plus(1));
    let later = running.signed(&machine, &json("ssm", "AmazonSSM.RequestManagedInstanceRoleToken", &ask(id)));
    let mixed = with_header(&later, SECOND, &agent.sign(authorization(&text)));
    assert_eq!(refused(&exchange(running.address, &mixed).await).1, "InvalidSignatureException");
    // Nor does the key alone do anything: the machine itself must sign.
    let reply = running.twice_signed(&agent, &running.machine(other), request, &ask(id)).await;
    assert_eq!(refused(&reply).1, "MachineFingerprintDoesNotMatch");
}

/// Whoever has seen a request can send it again for as long as its signature is fresh, as on AWS: it gives no more than the
/// request of now would.
#[tokio::test]
async fn a_request_that_is_repeated_gives_what_it_would_give_now() {
    let running = start().await;
    let (id, agent, _) = running.managed().await;
    let machine = running.machine(id);
    let ask = json("ssm", "AmazonSSM.RequestManagedInstanceRoleToken", &format!(r#"{{"Fingerprint":"{id}"}}"#));
    let register = running.signed(&machine, &json("ssm", "AmazonSSM.RegisterManagedInstance", &agent.registration(id)));
    let text = running.signed(&machine, &ask);
    let token = with_header(&text, SECOND, &agent.sign(authorization(&text)));
    for repeated in [&register, &token, &register, &token] {
        assert_eq!(exchange(running.address, repeated).await.status, 200);
    }
    setting(&running, "ResetServiceSetting", value!({"SettingId": SETTING})).await;
    assert_eq!(refused(&exchange(running.address, &token).await).1, "AccessDeniedException");
    running.pass_role(MANAGEMENT_ROLE_NAME).await;
    let forget = value!({"InstanceId": id.to_string()});
    assert_eq!(setting(&running, "DeregisterManagedInstance", forget).await.status, 200);
    assert_eq!(refused(&exchange(running.address, &token).await).1, "InvalidInstanceId");
    assert_eq!(running.register(&Agent::new(), id).await.status, 200);
    assert_eq!(refused(&exchange(running.address, &register).await).1, "InstanceAlreadyRegistered");
    assert_eq!(refused(&exchange(running.address, &token).await).1, "InvalidSignatureException");
    running.clock.set(NOW.plus(16 * 60));
    for stale in [&register, &token] {
        assert_eq!(refused(&exchange(running.address, stale).await).1, "InvalidSignatureException");
    }
}

/// What one account's machines are given, however far ahead, keeps nobody from ending what another's are.
#[tokio::test]
async fn settings_are_changed_whatever_others_were_given() {
    let running = start().await;
    let (id, agent, _) = running.managed().await;
    let other = running.operator_of("000000000002").await;
    for action in ["PutQuarantine", "EndQuarantine"] {
        let reply = running.send(&running.operator(), &ec2(&format!("Action=Inborn.{action}&Subject.1={id}"))).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    assert_eq!(running.role_token(&agent, id).await.status, 200);
    let on = value!({"SettingId": SETTING, "SettingValue": MANAGEMENT_ROLE_NAME});
    let changes = [("UpdateServiceSetting", on), ("ResetServiceSetting", value!({"SettingId": SETTING}))];
    for signer in [&other, &running.operator()] {
        for (operation, input) in changes.iter().chain(&changes) {
            let call = json("ssm", &format!("AmazonSSM.{operation}"), &input.to_string());
            let reply = running.send(signer, &call).await;
            assert_eq!(reply.status, 200, "{operation}: {}", reply.body);
        }
    }
}

/// A request as the SDK sends it again: the values of earlier tries under another spelling, signed; the fresh one before
/// them, not signed.
#[tokio::test]
async fn a_request_that_is_tried_again_still_proves_its_key() {
    let running = start().await;
    let (id, agent, _) = running.managed().await;
    let machine = running.machine(id);
    for tries in 1..=3 {
        let body = format!(r#"{{"Fingerprint":"{id}"}}"#);
        let mut call = json("ssm", "AmazonSSM.RequestManagedInstanceRoleToken", &body);
        let stale = (0..tries).map(|earlier| ("ssm-asymmetrickeyauthorization", agent.sign(&format!("try {earlier}"))));
        call.headers.extend(stale);
        let text = running.signed(&machine, &call).replace("\r\nssm-asymm", "\r\nSsm-Asymm");
        assert!(text.contains(";ssm-asymmetrickeyauthorization"), "{text}");
        let good = with_header(&text, SECOND, &agent.sign(authorization(&text)));
        let reply = exchange(running.address, &good).await;
        assert_eq!(reply.status, 200, "{tries} tries: {}", reply.body);
        // Without the fresh one, the first stale one stands for it, and the first signature no longer holds.
        let reply = exchange(running.address, &text).await;
        assert_eq!(refused(&reply).1, "InvalidSignatureException", "{tries}");
        // A fresh one by somebody else.
        let forged = with_header(&text, SECOND, &Agent::new().sign(authorization(&text)));
        assert_eq!(refused(&exchange(running.address, &forged).await).1, "InvalidSignatureException", "{tries}");
    }
}

#[tokio::test]
async fn an_agent_may_change_its_key() {
    let running = start().await;
    let (id, agent, session) = running.managed().await;
    let (machine, next) = (running.machine(id), Agent::new());
    let update = |key: &Agent| format!(r#"{{"NewPublicKey":"{}","NewPublicKeyType":"Rsa"}}"#, key.public_key());
    let operation = "UpdateManagedInstancePublicKey";
    let reply = running.twice_signed(&next, &machine, operation, &update(&next)).await;
    assert_eq!(refused(&reply).1, "InvalidSignatureException", "vouched for by itself");
    let reply = running.twice_signed(&agent, &machine, operation, &update(&agent)).await;
    assert_eq!(refused(&reply).1, "PublicKeyAlreadyRegistered");
    let reply = running.twice_signed(&agent, &machine, operation, &update(&next)).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
    assert_eq!(refused(&running.role_token(&agent, id).await).1, "InvalidSignatureException");
    assert_eq!(running.role_token(&next, id).await.status, 200);
    assert_eq!(whoami(&running, &session).await.status, 200, "the session goes on");
}

/// What must end at once, and how the old session is answered from then on.
#[tokio::test]
async fn a_session_ends_with_all_that_it_stands_on() {
    let expired = "ExpiredToken";
    let code = async |running: &Running, signer: &Signer| {
        let reply = whoami(running, signer).await;
        if reply.status == 200 { String::new() } else { between(&reply.body, "<Code>", "</Code>").to_owned() }
    };
    // The setting is reset, and set again in the same second.
    let running = start().await;
    let (id, agent, session) = running.managed().await;
    setting(&running, "ResetServiceSetting", value!({"SettingId": SETTING})).await;
    assert_eq!(code(&running, &session).await, expired);
    assert_eq!(refused(&running.role_token(&agent, id).await).1, "AccessDeniedException");
    running.pass_role(MANAGEMENT_ROLE_NAME).await;
    assert_eq!(code(&running, &session).await, expired);
    let session = common::agent::session(&running.role_token(&agent, id).await);
    assert_eq!(code(&running, &session).await, "");
    // The operator forgets the key, and the machine registers again in the same second, with another one.
    let forget = value!({"InstanceId": id.to_string()});
    assert_eq!(setting(&running, "DeregisterManagedInstance", forget.clone()).await.status, 200);
    assert_eq!(code(&running, &session).await, expired);
    assert_eq!(refused(&setting(&running, "DeregisterManagedInstance", forget).await).1, "InvalidInstanceId");
    let again = Agent::new();
    assert_eq!(running.register(&again, id).await.status, 200);
    assert_eq!(code(&running, &session).await, expired);
    let session = common::agent::session(&running.role_token(&again, id).await);
    assert_eq!(code(&running, &session).await, "");
    // An hour passes.
    running.clock.set(NOW.plus(3599));
    assert_eq!(code(&running, &session).await, "");
    running.clock.set(NOW.plus(3700));
    assert_eq!(code(&running, &session).await, expired);
    // The machine is stopped, then terminated.
    let session = common::agent::session(&running.role_token(&again, id).await);
    running.send(&running.operator(), &ec2(&format!("Action=StopInstances&InstanceId.1={id}"))).await;
    assert_eq!(code(&running, &session).await, expired);
    running.send(&running.operator(), &ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"))).await;
    assert_eq!(code(&running, &session).await, "InvalidClientTokenId");
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let key = KeySource::File(directory.path().join("epoch.key"));
    let first = start_in(tempfile::tempdir().unwrap(), Arc::clone(&store), key.clone()).await;
    let (id, agent, session) = first.managed().await;
    let ended = {
        let (id, _, session) = first.managed().await;
        setting(&first, "DeregisterManagedInstance", value!({"InstanceId": id.to_string()})).await;
        session
    };
    drop(first);
    let second = start_in(tempfile::tempdir().unwrap(), store, key).await;
    assert_eq!(whoami(&second, &session).await.status, 200);
    assert_ne!(whoami(&second, &ended).await.status, 200);
    assert_eq!(second.register(&agent, id).await.status, 200);
    assert_eq!(second.role_token(&agent, id).await.status, 200);
    assert_eq!(refused(&second.register(&Agent::new(), id).await).1, "InstanceAlreadyRegistered");
}

const TRUST: &str = "%7B%22Statement%22%3A%7B%22Effect%22%3A%22Allow%22%2C%22Principal%22%3A%7B%22Service%22%3A%22\
                     ssm.amazonaws.com%22%7D%2C%22Action%22%3A%22sts%3AAssumeRole%22%7D%7D";

async fn iam(running: &Running, parameters: &str) -> Reply {
    running.send(&running.operator(), &call("iam", &format!("{parameters}&Version=2010-05-08"))).await
}

fn iam_code(reply: &Reply) -> (u16, &str) {
    (reply.status, between(&reply.body, "<Code>", "</Code>"))
}

#[tokio::test]
async fn a_role_of_the_operators_own_is_made_passed_and_deleted() {
    let running = start().await;
    let (id, agent, default) = running.managed().await;
    let create = format!("Action=CreateRole&RoleName=Agents&Path=/fleet/&AssumeRolePolicyDocument={TRUST}");
    let made = iam(&running, &create).await;
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(between(&made.body, "<Arn>", "</Arn>"), "arn:aws:iam::123456789012:role/fleet/Agents");
    assert_eq!(iam_code(&iam(&running, &create.replace("Agents", "AGENTS")).await), (409, "EntityAlreadyExists"));
    assert_eq!(running.pass_role("fleet/agents").await.status, 200);
    assert_ne!(whoami(&running, &default).await.status, 200, "the sessions of the role that is no longer passed");
    let session = session(&running.role_token(&agent, id).await);
    let reply = whoami(&running, &session).await;
    let arn = format!("arn:aws:sts::123456789012:assumed-role/Agents/{id}");
    assert_eq!(between(&reply.body, "<Arn>", "</Arn>"), arn);
    assert_eq!(iam_code(&iam(&running, "Action=DeleteRole&RoleName=Agents").await), (409, "DeleteConflict"));
    running.pass_role(MANAGEMENT_ROLE_NAME).await;
    let gone = iam(&running, "Action=DeleteRole&RoleName=Agents").await;
    assert_eq!(gone.status, 200, "{}", gone.body);
    let reply = whoami(&running, &session).await;
    assert_eq!(iam_code(&reply), (403, "InvalidClientTokenId"));
    // One of the same name is another role.
    assert_eq!(iam(&running, &create).await.status, 200);
    running.pass_role("Agents").await;
    assert_eq!(iam_code(&whoami(&running, &session).await), (403, "InvalidClientTokenId"));
}

#[tokio::test]
async fn roles_are_listed_in_pages_and_the_management_role_stays() {
    let running = start().await;
    for name in ["b", "C", "a"] {
        let create = format!("Action=CreateRole&RoleName={name}&AssumeRolePolicyDocument={TRUST}&Description=x");
        assert_eq!(iam(&running, &create).await.status, 200);
    }
    let (mut found, mut marker) = (Vec::new(), String::new());
    loop {
        let page = iam(&running, &format!("Action=ListRoles&MaxItems=3{marker}")).await.body;
        found.extend(page.split("<RoleName>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()));
        if between(&page, "<IsTruncated>", "<") == "false" {
            break;
        }
        marker = format!("&Marker={}", between(&page, "<Marker>", "<"));
    }
    assert_eq!(found, ["a", MANAGEMENT_ROLE_NAME, "b", "C"]);
    let delete = format!("Action=DeleteRole&RoleName={MANAGEMENT_ROLE_NAME}");
    assert_eq!(iam_code(&iam(&running, &delete).await), (400, "UnmodifiableEntity"));
    assert_eq!(iam_code(&iam(&running, "Action=GetRole&RoleName=absent").await), (404, "NoSuchEntity"));
    let tagged = format!("Action=CreateRole&RoleName=t&AssumeRolePolicyDocument={TRUST}&Tags.member.1.Key=k");
    assert_eq!(iam_code(&iam(&running, &tagged).await), (400, "ValidationError"));
    for count in [0, 1001] {
        assert_eq!(iam_code(&iam(&running, &format!("Action=ListRoles&MaxItems={count}")).await).0, 400, "{count}");
    }
}
