//! Nodes: what agents say of themselves, and how operators find it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use inborn_identity::InstanceId;
use inborn_region::KeySource;
use inborn_store::{SqliteStore, Store};
use serde_json::{Value, json as value};

fn body(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{}", reply.body))
}

fn code(reply: &Reply) -> String {
    body(reply)["__type"].as_str().unwrap_or_default().to_owned()
}

async fn say(running: &Running, session: &Signer, facts: Value) -> Reply {
    running.send(session, &json("ssm", "AmazonSSM.UpdateInstanceInformation", &facts.to_string())).await
}

fn minimal(id: InstanceId) -> Value {
    value!({"AgentName": "amazon-ssm-agent", "AgentVersion": "3.3.0.0", "InstanceId": id.to_string(), "PlatformType": "Linux"})
}

async fn describe(running: &Running, question: Value) -> Reply {
    let call = json("ssm", "AmazonSSM.DescribeInstanceInformation", &question.to_string());
    running.send(&running.operator(), &call).await
}

async fn found(running: &Running, question: Value) -> Vec<String> {
    let reply = describe(running, question).await;
    let list = body(&reply)["InstanceInformationList"].as_array().unwrap_or_else(|| panic!("{}", reply.body)).clone();
    list.iter().map(|node| node["InstanceId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_machine_is_online_once_its_agent_has_spoken() {
    let running = start().await;
    let (id, _agent, session) = running.managed().await;
    assert!(found(&running, value!({})).await.is_empty());
    let reply = say(&running, &session, minimal(id)).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
    let mut full = minimal(id);
    full.as_object_mut().unwrap().remove("AgentVersion");
    for (name, fact) in [
        ("AgentStatus", "Active"),
        ("ComputerName", "web-1"),
        ("IPAddress", "10.1.2.3"),
        ("PlatformName", "Debian GNU/Linux"),
        ("PlatformVersion", "12"),
        ("SSMConnectionChannel", ""),
        ("Surprise", "of a later agent"),
    ] {
        full[name] = fact.into();
    }
    running.clock.set(NOW.plus(1));
    assert_eq!(say(&running, &session, full).await.status, 200);
    let mut expected = value!({
        "InstanceId": id.to_string(), "PingStatus": "Online", "LastPingDateTime": NOW.as_secs() + 1, "AgentVersion": "3.3.0.0",
        "IsLatestVersion": false, "PlatformType": "Linux", "PlatformName": "Debian GNU/Linux", "PlatformVersion": "12",
        "ResourceType": "EC2Instance", "IPAddress": "10.1.2.3", "ComputerName": "web-1", "SourceId": id.to_string(),
        "SourceType": "AWS::EC2::Instance", "IamRole": inborn_identity::MANAGEMENT_ROLE_NAME,
    });
    let shown = async || body(&describe(&running, value!({})).await)["InstanceInformationList"][0].clone();
    assert_eq!(shown().await, expected);
    // Agents speak every five minutes.
    for (seconds, status) in [(660, "Online"), (661, "ConnectionLost")] {
        running.clock.set(NOW.plus(1 + seconds));
        expected["PingStatus"] = status.into();
        assert_eq!(shown().await, expected, "{seconds}");
    }
    running.send(&running.operator(), &ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"))).await;
    assert!(found(&running, value!({})).await.is_empty(), "nodes go with their machine");
}

#[tokio::test]
async fn what_an_agent_said_before_it_was_cut_off_makes_nothing_online() {
    let deregister = |id: InstanceId| {
        json("ssm", "AmazonSSM.DeregisterManagedInstance", &value!({"InstanceId": id.to_string()}).to_string())
    };
    let reset = json("ssm", "AmazonSSM.ResetServiceSetting", &value!({"SettingId": SETTING}).to_string());
    for end in ["restart", "deregister", "reset"] {
        let running = start().await;
        let (id, _agent, session) = running.managed().await;
        assert_eq!(say(&running, &session, minimal(id)).await.status, 200);
        let status =
            async || body(&describe(&running, value!({})).await)["InstanceInformationList"][0]["PingStatus"].clone();
        assert_eq!(status().await, "Online");
        running.clock.set(NOW.plus(1));
        let machine = |action: &str| ec2(&format!("Action={action}&InstanceId.1={id}"));
        let calls = match end {
            "restart" => vec![machine("StopInstances"), machine("StartInstances")],
            "deregister" => vec![deregister(id)],
            _ => vec![reset.clone()],
        };
        for call in calls {
            let reply = running.send(&running.operator(), &call).await;
            assert_eq!(reply.status, 200, "{end}: {}", reply.body);
        }
        assert_eq!(status().await, "ConnectionLost", "{end}");
    }
}

#[tokio::test]
async fn a_machine_speaks_for_itself_alone() {
    let running = start().await;
    let (id, _agent, session) = running.managed().await;
    let other = running.launch().await;
    let reply = say(&running, &session, minimal(other)).await;
    let arn = format!("arn:aws:sts::123456789012:assumed-role/{}/{id}", inborn_identity::MANAGEMENT_ROLE_NAME);
    let message = format!(
        "User: {arn} is not authorized to perform: ssm:UpdateInstanceInformation on resource: \
         arn:aws:ec2:eu-central-1:123456789012:instance/{other} because no identity-based policy allows the \
         ssm:UpdateInstanceInformation action"
    );
    assert_eq!((reply.status, body(&reply)), (400, value!({"__type": "AccessDeniedException", "message": message})));
    for (service, target, member) in [
        ("ssm", "AmazonSSM.ListInstanceAssociations", "InstanceId"),
        ("ec2messages", "EC2WindowsMessageDeliveryService.GetMessages", "Destination"),
    ] {
        let reply =
            running.send(&session, &json(service, target, &value!({member: other.to_string()}).to_string())).await;
        assert_eq!(code(&reply), "AccessDeniedException", "{target}");
    }
    for facts in [value!({}), value!({"InstanceId": id.to_string(), "PlatformType": "Plan 9"})] {
        assert_eq!(code(&say(&running, &session, facts).await), "ValidationException");
    }
    for (length, status) in [(254, 200), (255, 200), (256, 400)] {
        let facts = value!({"InstanceId": id.to_string(), "ComputerName": "é".repeat(length)});
        assert_eq!(say(&running, &session, facts).await.status, status, "{length}");
    }
}

#[tokio::test]
async fn filters_and_pages() {
    let running = start().await;
    let mut ids = Vec::new();
    for number in 0..7 {
        let (id, _agent, session) = running.managed().await;
        let mut facts = minimal(id);
        facts["PlatformType"] = if number == 0 { "Windows" } else { "Linux" }.into();
        assert_eq!(say(&running, &session, facts).await.status, 200);
        ids.push(id.to_string());
    }
    let tag = format!("Action=CreateTags&ResourceId.1={}&Tag.1.Key=role&Tag.1.Value=web", ids[1]);
    assert_eq!(running.send(&running.operator(), &ec2(&tag)).await.status, 200);
    let filter = |key: &str, values: &[&str]| value!({"Filters": [{"Key": key, "Values": values}]});
    assert_eq!(found(&running, filter("PlatformType", &["Windows"])).await, [ids[0].clone()]);
    assert_eq!(found(&running, filter("tag:role", &["db", "web"])).await, [ids[1].clone()]);
    assert_eq!(found(&running, filter("tag-key", &["role"])).await, [ids[1].clone()]);
    assert_eq!(found(&running, filter("InstanceIds", &[&ids[2]])).await, [ids[2].clone()]);
    assert_eq!(found(&running, filter("PingStatus", &["ConnectionLost"])).await.len(), 0);
    assert_eq!(found(&running, filter("ResourceType", &["EC2Instance"])).await.len(), 7);
    assert_eq!(found(&running, filter("ResourceType", &["ManagedInstance"])).await.len(), 0);
    let old = value!({"InstanceInformationFilterList": [{"key": "PlatformTypes", "valueSet": ["Windows"]}]});
    assert_eq!(found(&running, old).await, [ids[0].clone()]);
    let both =
        value!({"Filters": [{"Key": "tag:role", "Values": ["web"]}, {"Key": "PlatformType", "Values": ["Windows"]}]});
    assert_eq!(found(&running, both).await.len(), 0);

    ids.sort();
    let first = body(&describe(&running, value!({"MaxResults": 5})).await);
    let second = found(&running, value!({"MaxResults": 5, "NextToken": first["NextToken"]})).await;
    let list = first["InstanceInformationList"].as_array().unwrap();
    let mut all: Vec<String> = list.iter().map(|node| node["InstanceId"].as_str().unwrap().to_owned()).collect();
    all.extend(second);
    assert_eq!(all, ids);

    for (question, expected) in [
        (filter("Colour", &["red"]), "InvalidFilterKey"),
        (filter("tag:", &["x"]), "InvalidFilterKey"),
        (filter("PingStatus", &["Asleep"]), "InvalidInstanceInformationFilterValue"),
        (filter("PlatformType", &[]), "InvalidInstanceInformationFilterValue"),
        (filter("InstanceIds", &["i-1"]), "InvalidInstanceId"),
        (value!({"NextToken": "x"}), "InvalidNextToken"),
        (value!({"MaxResults": 4}), "ValidationException"),
        (value!({"MaxResults": 51}), "ValidationException"),
        (value!({"Filters": [1]}), "SerializationException"),
    ] {
        assert_eq!(code(&describe(&running, question.clone()).await), expected, "{question}");
    }
}

#[tokio::test]
async fn nothing_is_associated_and_no_message_comes() {
    let running = start().await;
    let (id, _agent, session) = running.managed().await;
    let ask = value!({"InstanceId": id.to_string(), "MaxResults": 20}).to_string();
    let reply = running.send(&session, &json("ssm", "AmazonSSM.ListInstanceAssociations", &ask)).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"Associations":[]}"#));
    let ask = value!({"AssociationFilterList": [{"key": "InstanceId", "value": id.to_string()}], "MaxResults": 1})
        .to_string();
    let reply = running.send(&session, &json("ssm", "AmazonSSM.ListAssociations", &ask)).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"Associations":[]}"#));
    let ask = value!({"Destination": id.to_string(), "MessagesRequestId": "4f2b", "VisibilityTimeoutInSeconds": 10})
        .to_string();
    let poll = json("ec2messages", "EC2WindowsMessageDeliveryService.GetMessages", &ask);
    let answered = tokio::time::timeout(Duration::from_millis(300), running.send(&session, &poll)).await;
    assert!(answered.is_err(), "an agent that is answered at once asks again at once");
}

#[tokio::test]
async fn nodes_are_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let key = KeySource::File(directory.path().join("epoch.key"));
    let first = start_in(tempfile::tempdir().unwrap(), Arc::clone(&store), key.clone()).await;
    let (id, _agent, session) = first.managed().await;
    say(&first, &session, minimal(id)).await;
    let before = body(&describe(&first, value!({})).await);
    drop(first);
    let second = start_in(tempfile::tempdir().unwrap(), store, key).await;
    assert_eq!(body(&describe(&second, value!({})).await), before);
    assert_eq!(say(&second, &session, minimal(id)).await.status, 200);
}
