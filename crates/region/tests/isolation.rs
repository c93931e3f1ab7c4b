//! Two accounts in one region: what is one's, the other neither sees nor changes. Walks the real operation tables: every operation
//! is asked, by an operator and by a machine of another account, about what is the first one's. One that is added without a line here
//! fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;
#[path = "isolation/controls.rs"]
mod controls;
#[path = "isolation/mixed.rs"]
mod mixed;
#[path = "isolation/rows.rs"]
mod rows;

use common::agent::{Agent, session};
use common::*;
use inborn_identity::{CallerKind, InstanceId};
use inborn_region::{Protocol, SERVICES, Service};
use rows::Expect::{Nothing, Own, Refused};
use rows::ROWS;
use serde_json::{Value, json as value};

/// No call takes longer.
const PATIENCE: core::time::Duration = core::time::Duration::from_secs(20);
/// The second account.
const OTHER: &str = "210987654321";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMd6eplFJygDaby7l9CC2zxVE3VP1nuDKDnsXxR4W99/";
/// A document that Systems Manager may take a role by.
const TRUST: &str = "%7B%22Statement%22%3A%7B%22Effect%22%3A%22Allow%22%2C%22Principal%22%3A%7B%22Service%22%3A%22\
                     ssm.amazonaws.com%22%7D%2C%22Action%22%3A%22sts%3AAssumeRole%22%7D%7D";
const CONTENT: &str = r#"{\"schemaVersion\":\"2.2\",\"mainSteps\":[{\"action\":\"aws:runShellScript\",\"name\":\"first\",\"inputs\":{\"runCommand\":[\"true\"]}}]}"#;

/// Two accounts: all kinds of things in the first, and who asks about them in the second.
struct Scene {
    running: Running,
    names: Vec<(&'static str, String)>,
    /// What only the first account has: none of it may be in an answer to the second.
    marks: Vec<String>,
    stranger: Signer,
    machine: Signer,
    role: Signer,
    /// The machine of the first account, and what its agent was given.
    first_machine: Signer,
    first_session: Signer,
    own: InstanceId,
    agent: Agent,
    reset_role: bool,
    _control: channel::Socket,
}

async fn done(running: &Running, signer: &Signer, call: &Call) -> String {
    let reply = running.send(signer, call).await;
    assert!((200..300).contains(&reply.status), "{} {}: {}", call.target, call.body, reply.body);
    reply.body
}

fn ssm(operation: &str, input: &Value) -> Call {
    json("ssm", &format!("AmazonSSM.{operation}"), &input.to_string())
}

fn guardduty(target: &str, body: &Value) -> Call {
    let headers = vec![("content-type", "application/json".to_owned())];
    Call { target: target.to_owned(), headers, ..call("guardduty", &body.to_string()) }
}

fn member(body: &str, name: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    body.pointer(name).and_then(Value::as_str).unwrap_or_else(|| panic!("{name} of {body}")).to_owned()
}

/// An operator of another account.
async fn stranger(running: &Running, account: &str) -> Signer {
    let owner = running.operator();
    done(running, &owner, &ec2(&format!("Action=Inborn.CreateAccount&AccountId={account}&Name=other"))).await;
    operator(running, &owner, account, "stranger").await
}

async fn operator(running: &Running, by: &Signer, account: &str, name: &str) -> Signer {
    let made = done(running, by, &ec2(&format!("Action=Inborn.CreateOperator&AccountId={account}&Name={name}"))).await;
    Signer {
        access_key_id: between(&made, "<accessKeyId>", "</accessKeyId>").to_owned(),
        secret: between(&made, "<secretAccessKey>", "</secretAccessKey>").to_owned(),
        token: None,
    }
}

async fn launched(running: &Running, by: &Signer) -> InstanceId {
    let launch = ec2("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1");
    between(&done(running, by, &launch).await, "<instanceId>", "</instanceId>").parse().unwrap()
}

async fn scene() -> Scene {
    let running = start().await;
    running.region.complete_signers().await.unwrap();
    let lists = running.directory.path().join("lists");
    std::fs::create_dir(&lists).unwrap();
    std::fs::write(lists.join("first.txt"), "192.0.2.1\n").unwrap();
    running.region.read_lists_from(lists);
    let owner = running.operator();
    let (id, session_of_agent) = running.node().await;
    let control = running.control_channel(&session_of_agent, id).await;
    let iam = |name: &str| {
        let text = format!("Action=CreateRole&RoleName={name}&AssumeRolePolicyDocument={TRUST}&Version=2010-05-08");
        call("iam", &text)
    };
    for name in ["first-role", "first-only-role"] {
        done(&running, &owner, &iam(name)).await;
    }
    let content = CONTENT.replace("\\\"", "\"");
    for name in ["first-document", "first-only-document"] {
        done(&running, &owner, &ssm("CreateDocument", &value!({"Name": name, "Content": content}))).await;
    }
    let pair = done(&running, &owner, &ec2("Action=CreateKeyPair&KeyName=first-key&KeyType=ed25519")).await;
    let pair = between(&pair, "<keyPairId>", "</keyPairId>").to_owned();
    let tag = ec2(&format!("Action=CreateTags&ResourceId.1={id}&Tag.1.Key=first-tag&Tag.1.Value=first-value"));
    done(&running, &owner, &tag).await;
    let token = "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&ClientToken=first-token";
    let quarantined = done(&running, &owner, &ec2(token)).await;
    let quarantined = between(&quarantined, "<instanceId>", "</instanceId>").to_owned();
    done(&running, &owner, &ec2(&format!("Action=Inborn.PutQuarantine&Subject.1={quarantined}"))).await;
    let inventory = value!({"InstanceId": id.to_string(), "Items": [{"TypeName": "Custom:Disk", "SchemaVersion": "1.0",
        "CaptureTime": "2027-01-15T08:00:00Z", "Content": [{"name": "first-disk"}]}]});
    done(&running, &session_of_agent, &ssm("PutInventory", &inventory)).await;
    let command = running.command(value!({"InstanceIds": [id.to_string()]})).await;
    let started = done(&running, &owner, &ssm("StartSession", &value!({"Target": id.to_string()}))).await;
    let started = member(&started, "/SessionId");
    let detector = done(&running, &owner, &guardduty("/detector", &value!({"enable": true}))).await;
    let detector = member(&detector, "/detectorId");
    let kinds = value!({"findingTypes": ["Execution:Runtime/ReverseShell"]});
    done(&running, &owner, &guardduty(&format!("/detector/{detector}/findings/create"), &kinds)).await;
    let findings = done(&running, &owner, &guardduty(&format!("/detector/{detector}/findings"), &value!({}))).await;
    let finding = member(&findings, "/findingIds/0");
    let quiet = value!({"name": "quiet", "findingCriteria": {"criterion": {"severity": {"gte": 4}}}});
    done(&running, &owner, &guardduty(&format!("/detector/{detector}/filter"), &quiet)).await;

    let set = value!({"name": "set", "format": "TXT", "location": "file:first.txt", "activate": true});
    let ip_set = done(&running, &owner, &guardduty(&format!("/detector/{detector}/ipset"), &set)).await;
    let ip_set = member(&ip_set, "/ipSetId");
    let threat_set = done(&running, &owner, &guardduty(&format!("/detector/{detector}/threatintelset"), &set)).await;
    let threat_set = member(&threat_set, "/threatIntelSetId");

    let other = stranger(&running, OTHER).await;
    let own = launched(&running, &other).await;
    let agent = Agent::new();
    assert_eq!(running.register(&agent, own).await.status, 200);

    let identity = running.region.identity();
    let endpoint = identity.connect_endpoints(identity.account, std::iter::empty()).remove(0).1.id;
    let address = running.region.machines().get(id).unwrap().private_address.to_string();
    let marks = [
        &id.to_string(),
        &quarantined,
        "123456789012",
        "first-only",
        "first-tag",
        "first-value",
        "first-disk",
        &command,
        &started,
        &detector,
        &finding,
        &pair,
        &endpoint,
        &ip_set,
        &threat_set,
    ];
    let marks = marks.map(str::to_owned).to_vec();
    let names = vec![
        ("{id}", id.to_string()),
        ("{own}", own.to_string()),
        ("{quarantined}", quarantined),
        ("{operator}", owner.access_key_id.clone()),
        ("{pair}", pair),
        ("{material}", "c3NoLWVkMjU1MTkgQUFBQUMzTnphQzFsWkRJMU5URTVBQUFBSU1kNmVwbEZKeWdEYWJ5N2w5Q0Myenh WRTNWUDFudURLRG5zWHhSNFc5OS8=".replace(' ', "")),
        ("{trust}", TRUST.to_owned()),
        ("{content}", CONTENT.to_owned()),
        ("{command}", command),
        ("{session}", started),
        ("{detector}", detector),
        ("{finding}", finding),
        ("{ipset}", ip_set),
        ("{threats}", threat_set),
        ("{endpoint}", endpoint),
        ("{address}", address),
        ("{key}", KEY.to_owned()),
        ("{digest}", "0".repeat(64)),
        ("{public}", agent.public_key()),
        ("{setting}", SETTING.to_owned()),
        ("{gateway}", channel::BODY.to_owned()),
    ];
    let machine = running.machine(own);
    let role = machine.clone();
    let first_machine = running.machine(id);
    let mut scene = Scene {
        running,
        names,
        marks,
        stranger: other,
        machine,
        role,
        first_machine,
        first_session: session_of_agent,
        own,
        agent,
        reset_role: false,
        _control: control,
    };
    scene.grant().await;
    scene
}

impl Scene {
    /// Passes the role of the second account to its machine.
    async fn grant(&mut self) {
        let setting = value!({"SettingId": SETTING, "SettingValue": inborn_identity::MANAGEMENT_ROLE_NAME});
        done(&self.running, &self.stranger, &ssm("UpdateServiceSetting", &setting)).await;
        let granted = self.running.role_token(&self.agent, self.own).await;
        assert_eq!(granted.status, 200, "{}", granted.body);
        (self.role, self.reset_role) = (session(&granted), false);
    }

    fn named(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (name, meant)| text.replace(name, meant))
    }

    /// The call that a row means.
    fn call(&self, service: &Service, operation: &str, text: &str) -> Call {
        let text = self.named(text);
        let call = match service.protocol {
            Protocol::Query => {
                let version = match service.name {
                    "sts" => "2011-06-15",
                    "iam" => "2010-05-08",
                    _ => "2016-11-15",
                };
                call(service.name, &format!("Action={operation}&Version={version}&{text}"))
            }
            Protocol::Rest { routes } => {
                let route = routes.iter().find(|route| route.operation == operation).unwrap();
                let (detector, session) = (self.named("{detector}"), self.named("{session}"));
                let arn = format!("arn%3Aaws%3Aguardduty%3Aeu-central-1%3A123456789012%3Adetector%2F{detector}");
                let target = route.path.replace("{detectorId}", &detector).replace("{filterName}", "quiet");
                let target = target.replace("{ipSetId}", &self.named("{ipset}"));
                let target = target.replace("{threatIntelSetId}", &self.named("{threats}"));
                let target = target.replace("{SessionId}", &session).replace("{resourceArn}", &arn);
                let target = target.replace("{ControlChannelId}", &self.named("{id}"));
                let is_channel = service.name == "ssmmessages" && route.method == "GET";
                let (target, body) = match text.strip_prefix('?') {
                    Some(query) => (format!("{target}?{query}"), ""),
                    None if is_channel => (format!("{target}?role=publish_subscribe&stream=input"), ""),
                    None => (target, text.as_str()),
                };
                let json = vec![("content-type", "application/json".to_owned())];
                let headers = if is_channel { handshake() } else { json };
                Call { method: route.method, target, headers, ..call(service.name, body) }
            }
            Protocol::Json { target_prefix, sockets, named_by_path } => {
                if let Some(socket) = sockets.iter().find(|socket| socket.operation == operation) {
                    let target = format!("{}?{text}", socket.path);
                    Call { method: "GET", target, headers: handshake(), ..call(service.name, "") }
                } else if let Some(named) = named_by_path.iter().find(|named| named.operation == operation) {
                    let headers = vec![("content-type", "application/json".to_owned())];
                    Call { target: named.path.to_owned(), headers, ..call(service.name, &text) }
                } else {
                    json(service.name, &format!("{target_prefix}.{operation}"), &text)
                }
            }
        };
        Call { service: service.signing_name.to_owned(), ..call }
    }

    /// What the first account has, as its operator sees it.
    async fn of_the_first(&self) -> Vec<String> {
        let owner = self.running.operator();
        let detector = self.named("{detector}");
        let calls = [
            ec2("Action=DescribeInstances"),
            ec2("Action=DescribeKeyPairs"),
            ec2("Action=DescribeTags"),
            ec2("Action=GetInstanceMetadataDefaults"),
            ec2("Action=Inborn.DescribeQuarantines"),
            ec2("Action=Inborn.DescribeOperators&AccountId=123456789012"),
            call("iam", "Action=ListRoles&Version=2010-05-08"),
            ssm("ListDocuments", &value!({})),
            ssm("ListCommands", &value!({})),
            ssm("ListCommandInvocations", &value!({"Details": true})),
            ssm("DescribeInstanceInformation", &value!({})),
            ssm("GetInventory", &value!({"ResultAttributes": [{"TypeName": "Custom:Disk"}]})),
            ssm("DescribeSessions", &value!({"State": "Active"})),
            ssm("GetServiceSetting", &value!({"SettingId": SETTING})),
            json("ec2-instance-connect", "AWSEC2InstanceConnectService.Inborn.GetHostKeyPolicy", "{}"),
            json(
                "ec2-instance-connect",
                "AWSEC2InstanceConnectService.Inborn.DescribeHostKeys",
                &self.named(r#"{"InstanceId":"{id}"}"#),
            ),
            Call { method: "GET", ..guardduty(&format!("/detector/{detector}"), &Value::Null) },
            Call { method: "GET", ..guardduty(&format!("/detector/{detector}/filter"), &Value::Null) },
            guardduty(&format!("/detector/{detector}/findings"), &value!({})),
            guardduty(
                &format!("/detector/{detector}/findings/get"),
                &value!({"findingIds": [self.named("{finding}")]}),
            ),
        ];
        let mut all = Vec::new();
        for call in calls {
            let call = if call.method == "GET" { Call { body: String::new(), ..call } } else { call };
            let body = done(&self.running, &owner, &call).await;
            all.push(without_request_ids(&body));
        }
        all
    }
}

fn without_request_ids(body: &str) -> String {
    match (body.split_once("<requestId>"), body.split_once("<ResponseMetadata>")) {
        (Some((front, rest)), _) => format!("{front}{}", rest.split_once("</requestId>").unwrap().1),
        (None, Some((front, _))) => front.to_owned(),
        _ => body.to_owned(),
    }
}

/// What asks for a WebSocket.
fn handshake() -> Vec<(&'static str, String)> {
    channel::HANDSHAKE.map(|(name, value)| (name, value.to_owned())).to_vec()
}

/// The code of a refusal in any dialect.
fn code(reply: &Reply) -> String {
    if let Some(code) = reply.header("x-amzn-errortype") {
        return code.to_owned();
    }
    let body = reply.body.as_str();
    let in_json = ["\"__type\":\"", "\"ErrorCode\":\""].into_iter().find_map(|start| body.split_once(start));
    match in_json {
        Some((_, rest)) => rest.split('"').next().unwrap().rsplit('#').next().unwrap().to_owned(),
        None if body.contains("<Code>") => between(body, "<Code>", "</Code>").to_owned(),
        None if body.starts_with('<') => between(body, "<", ">").to_owned(),
        None => body.to_owned(),
    }
}

#[test]
fn every_operation_is_decided() {
    let mut tables: Vec<(&str, &str, bool, bool)> = Vec::new();
    for service in SERVICES {
        for operation in service.operations {
            let is_for = |kinds: &[CallerKind]| operation.callers.iter().any(|kind| kinds.contains(kind));
            let machines = [CallerKind::IdentityRole, CallerKind::ManagementRole];
            tables.push((service.name, operation.name, is_for(&[CallerKind::Operator]), is_for(&machines)));
        }
    }
    let mut rows: Vec<_> = ROWS
        .iter()
        .map(|(service, name, _, operator, machine)| (*service, *name, operator.is_some(), machine.is_some()))
        .collect();
    tables.sort_unstable();
    rows.sort_unstable();
    assert_eq!(rows, tables, "what each operation tells another account has to be decided here");
}

#[tokio::test]
async fn nothing_of_one_account_is_another_s() {
    let mut scene = Box::pin(scene()).await;
    let before = scene.of_the_first().await;
    let mut wrong = Vec::new();
    for service in SERVICES {
        for operation in service.operations {
            let (_, _, text, by_operator, by_machine) =
                ROWS.iter().find(|row| (row.0, row.1) == (service.name, operation.name)).unwrap();
            let call = scene.call(service, operation.name, text);
            if operation.name.starts_with("ResetServiceSetting") {
                scene.reset_role = true;
            } else if scene.reset_role {
                // What the call before has ended for the second account is there again for the next.
                scene.grant().await;
            }
            let is_for_agents = operation.callers.contains(&CallerKind::ManagementRole);
            let machine = if is_for_agents { &scene.role } else { &scene.machine };
            for (who, signer, expected) in
                [("an operator", &scene.stranger, by_operator), ("a machine", machine, by_machine)]
            {
                let Some(expected) = expected else { continue };
                // A WebSocket that is opened after all does not end.
                let sent = tokio::time::timeout(PATIENCE, scene.running.send(signer, &call)).await;
                let reply = sent.unwrap_or_else(|_| panic!("{} by {who} is not refused", operation.name));
                let is_done = (200..300).contains(&reply.status);
                let is_right = match expected {
                    Refused(refused) => !is_done && code(&reply) == *refused,
                    Own => {
                        is_done
                            && !scene.marks.iter().any(|mark| reply.body.contains(mark) && !call.body.contains(mark))
                    }
                    Nothing => {
                        is_done
                            && !scene.marks.iter().any(|mark| reply.body.contains(mark) && !call.body.contains(mark))
                    }
                };
                let name = format!("{}:{} by {who}", service.name, operation.name);
                if !is_right {
                    wrong.push(format!("{name}: expected {expected:?}: {} {}", reply.status, reply.body));
                }
                if let (Nothing, "an operator") = (expected, who) {
                    let own = scene.running.send(&scene.running.operator(), &call).await;
                    // Whoever may see something is told something else: else the call proves nothing.
                    if !(200..300).contains(&own.status)
                        || without_request_ids(&own.body) == without_request_ids(&reply.body)
                    {
                        wrong.push(format!("{name}: the first account sees the same: {} {}", own.status, own.body));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let after = scene.of_the_first().await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after, "the second account has changed something of the first");
    }
    let failed = controls::failed(&scene).await;
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[tokio::test]
async fn everybody_is_told_its_own_account() {
    let running = start().await;
    let other = stranger(&running, OTHER).await;
    let id = launched(&running, &other).await;
    for (signer, arn) in [
        (other.clone(), format!("arn:aws:iam::{OTHER}:user/stranger")),
        (running.machine(id), format!("arn:aws:sts::{OTHER}:assumed-role/aws:ec2-instance/{id}")),
    ] {
        let told = done(&running, &signer, &call("sts", WHOAMI)).await;
        assert_eq!(between(&told, "<Account>", "</Account>"), OTHER);
        assert_eq!(between(&told, "<Arn>", "</Arn>"), arn);
        let key: inborn_identity::AccessKeyId = signer.access_key_id.parse().unwrap();
        assert_eq!(key.account().unwrap().to_string(), OTHER);
        let line = running.audit().pop().unwrap();
        assert_eq!(
            (line["recipientAccountId"].as_str(), line["eventName"].as_str()),
            (Some(OTHER), Some("GetCallerIdentity"))
        );
    }
    // The secret that was shown once is written down nowhere.
    let audit = std::fs::read_to_string(running.directory.path().join("audit.jsonl")).unwrap();
    assert!(!audit.contains(&other.secret));
}

#[tokio::test]
async fn a_client_token_is_its_account_s_own() {
    let running = start().await;
    let other = stranger(&running, OTHER).await;
    let launch = ec2("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&ClientToken=once");
    let mut ids = std::collections::BTreeSet::new();
    for signer in [&running.operator(), &other, &running.operator(), &other] {
        let body = done(&running, signer, &launch).await;
        ids.insert(between(&body, "<instanceId>", "</instanceId>").to_owned());
    }
    assert_eq!(ids.len(), 2);
}

#[tokio::test]
async fn an_account_has_what_it_wants_of_new_machines() {
    let running = start().await;
    let owner = running.operator();
    let create =
        "Action=Inborn.CreateAccount&AccountId=210987654321&HttpTokensEnforced=enabled&HttpPutResponseHopLimit=3";
    done(&running, &owner, &ec2(create)).await;
    let other = operator(&running, &owner, OTHER, "admin").await;
    let launch = "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1";
    let made = done(&running, &other, &ec2(launch)).await;
    assert_eq!(between(&made, "<httpPutResponseHopLimit>", "</httpPutResponseHopLimit>"), "3");
    let optional = format!("{launch}&MetadataOptions.HttpTokens=optional");
    assert_eq!(code(&running.send(&other, &ec2(&optional)).await), "UnsupportedOperation");
    assert_eq!(running.send(&owner, &ec2(&optional)).await.status, 200, "the other account is as it was");
    assert_eq!(code(&running.send(&owner, &ec2(create)).await), "AccountAlreadyExists");
    for (name, is_good) in [("n".repeat(50), true), ("n".repeat(51), false), ("a%0Ab".to_owned(), false)] {
        let text = format!("Action=Inborn.CreateAccount&AccountId=000000000007&DryRun=true&Name={name}");
        let refused = code(&running.send(&owner, &ec2(&text)).await);
        assert_eq!(refused == "DryRunOperation", is_good, "{name} {refused}");
    }
}

#[tokio::test]
async fn a_key_that_is_off_is_nobody_s_and_one_is_always_left() {
    let running = start().await;
    let owner = running.operator();
    let second = operator(&running, &owner, "123456789012", "second").await;
    let whoami = call("sts", WHOAMI);
    let act = |action: &str, key: &str| ec2(&format!("Action={action}&AccessKeyId={key}"));
    let off = act("Inborn.ModifyOperator", &second.access_key_id);
    let off = Call { body: format!("{}&State=disabled", off.body), ..off };
    let on = Call { body: off.body.replace("disabled", "enabled"), ..off.clone() };
    done(&running, &second, &whoami).await;
    done(&running, &owner, &off).await;
    assert_eq!(code(&running.send(&second, &whoami).await), "InvalidClientTokenId");
    let listed = done(&running, &owner, &ec2("Action=Inborn.DescribeOperators")).await;
    assert!(listed.contains("<state>disabled</state>") && !listed.contains("secretAccessKey"), "{listed}");
    done(&running, &owner, &on).await;
    done(&running, &second, &whoami).await;
    for action in ["Inborn.DeleteOperator", "Inborn.ModifyOperator"] {
        let own = act(action, &owner.access_key_id);
        let own = Call { body: format!("{}&State=disabled", own.body), ..own };
        let own = if action == "Inborn.DeleteOperator" { act(action, &owner.access_key_id) } else { own };
        assert_eq!(code(&running.send(&owner, &own).await), "OperationNotPermitted", "{action}");
    }
    let taken = ec2("Action=Inborn.CreateOperator&Name=SECOND");
    assert_eq!(code(&running.send(&owner, &taken).await), "OperatorAlreadyExists");
    done(&running, &owner, &act("Inborn.DeleteOperator", &second.access_key_id)).await;
    assert_eq!(code(&running.send(&second, &whoami).await), "InvalidClientTokenId");
    let again = act("Inborn.DeleteOperator", &second.access_key_id);
    assert_eq!(code(&running.send(&owner, &again).await), "InvalidAccessKeyId.NotFound");
}

#[tokio::test]
async fn operators_of_an_account_below_at_and_above_the_most() {
    let running = start().await;
    let other = stranger(&running, OTHER).await;
    for number in 1..100 {
        done(&running, &other, &ec2(&format!("Action=Inborn.CreateOperator&Name=operator-{number}"))).await;
    }
    let above = ec2("Action=Inborn.CreateOperator&Name=one-more");
    assert_eq!(code(&running.send(&other, &above).await), "OperatorLimitExceeded");
    assert_eq!(running.send(&running.operator(), &above).await.status, 200, "another account has its own");
}

#[tokio::test]
async fn an_account_is_closed_for_good() {
    let running = start().await;
    let owner = running.operator();
    let other = stranger(&running, OTHER).await;
    let id = launched(&running, &other).await;
    let machine = running.machine(id);
    let close = |account: &str| ec2(&format!("Action=Inborn.CloseAccount&AccountId={account}"));
    assert_eq!(code(&running.send(&owner, &close("123456789012")).await), "OperationNotPermitted");
    assert_eq!(code(&running.send(&owner, &close("000000000009")).await), "InvalidAccountId.NotFound");
    assert_eq!(code(&running.send(&owner, &close(OTHER)).await), "DependencyViolation");
    done(&running, &other, &ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"))).await;
    done(&running, &owner, &close(OTHER)).await;
    for signer in [&other, &machine] {
        assert_eq!(code(&running.send(signer, &call("sts", WHOAMI)).await), "InvalidClientTokenId");
    }
    for (call, refused) in [
        (close(OTHER), "InvalidAccountId.NotFound"),
        (ec2(&format!("Action=Inborn.CreateAccount&AccountId={OTHER}")), "AccountAlreadyExists"),
        (ec2(&format!("Action=Inborn.CreateOperator&AccountId={OTHER}&Name=late")), "InvalidAccountId.NotFound"),
    ] {
        assert_eq!(code(&running.send(&owner, &call).await), refused);
    }
    let listed = done(&running, &owner, &ec2("Action=Inborn.DescribeAccounts")).await;
    assert!(listed.contains("<state>closed</state>") && listed.contains("<closeTime>"), "{listed}");
}
