//! Run Command from end to end: operators over the wire, and agents that ask for messages.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;

use common::channel::Socket;
use common::commands::*;
use common::verdict::until;
use common::*;
use inborn_identity::InstanceId;
use inborn_region::KeySource;
use inborn_store::{SqliteStore, Store};
use inborn_testkit::{Fault, FaultyStore};
use serde_json::{Value, json as value};

fn to(id: InstanceId) -> Value {
    value!({"InstanceIds": [id.to_string()]})
}

#[tokio::test]
async fn a_command_goes_to_a_machine_and_its_output_comes_back() {
    let running = start().await;
    let (id, session) = running.node().await;
    let input = value!({
        "InstanceIds": [id.to_string()], "DocumentName": "AWS-RunShellScript", "Comment": "why",
        "Parameters": {"commands": ["echo hello", "exit 3"], "executionTimeout": ["60"]},
    });
    let sent = body(&running.ssm("SendCommand", input).await)["Command"].clone();
    let command = sent["CommandId"].as_str().unwrap().to_owned();
    assert_eq!((command.len(), &sent["Status"], &sent["StatusDetails"]), (36, &value!("Pending"), &value!("Pending")));
    assert_eq!((&sent["TargetCount"], &sent["CompletedCount"]), (&value!(1), &value!(0)));
    assert_eq!((&sent["MaxConcurrency"], &sent["MaxErrors"]), (&value!("50"), &value!("0")));
    assert_eq!(sent["ExpiresAfter"], NOW.as_secs() + 3600 + 60);
    assert_eq!(sent["InstanceIds"], value!([id.to_string()]));
    assert_eq!(sent["Parameters"]["commands"], value!(["echo hello", "exit 3"]));
    let waiting = running.invocation(&command, id).await;
    assert_eq!((&waiting["Status"], &waiting["ResponseCode"]), (&value!("Pending"), &value!(-1)));
    assert_eq!(waiting["PluginName"], "aws:runShellScript");

    let messages = running.poll(id, &session).await;
    let [message] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(message["MessageId"], format!("aws.ssm.{command}.{id}"));
    assert_eq!((&message["Topic"], &message["Destination"]), (&value!("aws.ssm.sendCommand"), &value!(id.to_string())));
    let payload: Value = serde_json::from_str(message["Payload"].as_str().unwrap()).unwrap();
    assert_eq!((&payload["CommandId"], &payload["DocumentName"]), (&value!(command), &value!("AWS-RunShellScript")));
    assert_eq!(payload["DocumentContent"]["schemaVersion"], "1.2");
    let expected = value!({"commands": ["echo hello", "exit 3"], "executionTimeout": "60", "workingDirectory": ""});
    assert_eq!(payload["Parameters"], expected);

    let message_id = &message["MessageId"];
    assert_eq!(running.message(&session, "AcknowledgeMessage", value!({"MessageId": message_id})).await.status, 200);
    assert_eq!(running.details(&command, id).await, "InProgress");
    running.answer(&session, message, &reply("Failed", 3, "hello\n", "oh")).await;
    let done = running.invocation(&command, id).await;
    for (name, expected) in [
        ("Status", value!("Failed")),
        ("StatusDetails", value!("Failed")),
        ("ResponseCode", value!(3)),
        ("StandardOutputContent", value!("hello\n")),
        ("StandardErrorContent", value!("oh")),
        ("ExecutionElapsedTime", value!("PT1.5S")),
        ("ExecutionStartDateTime", value!("2027-01-15T08:00:01.500Z")),
    ] {
        assert_eq!(done[name], expected, "{name}");
    }
    let listed = running.listed(&command).await;
    assert_eq!(
        (&listed["Status"], &listed["CompletedCount"], &listed["ErrorCount"]),
        (&value!("Failed"), &value!(1), &value!(1))
    );
    let details = body(&running.ssm("ListCommandInvocations", value!({"CommandId": command, "Details": true})).await);
    let plugin = &details["CommandInvocations"][0]["CommandPlugins"][0];
    assert_eq!((&plugin["Output"], &plugin["ResponseStartDateTime"]), (&value!("hello\n"), &value!(1_800_000_001.5)));

    let audit = running.audit();
    let line = |name: &str| audit.iter().find(|line| line["eventName"] == name).unwrap_or_else(|| panic!("{name}"));
    let sent = line("SendCommand");
    assert_eq!(sent["requestParameters"]["parameters"], "<sensitiveDataRemoved>");
    assert_eq!(sent["responseElements"]["command"]["commandId"], value!(command));
    assert_eq!(line("SendReply")["requestParameters"]["payload"], "<sensitiveDataRemoved>");
    assert!(!audit.iter().any(|line| line.to_string().contains("hello")));
}

#[tokio::test]
async fn the_last_word_may_come_first() {
    let running = start().await;
    let (id, session) = running.node().await;
    let command = running.command(to(id)).await;
    let message = running.poll(id, &session).await.remove(0);
    for (status, text) in [("Success", "done"), ("InProgress", ""), ("Failed", "no"), ("Success", "again")] {
        running.answer(&session, &message, &reply(status, 0, text, "")).await;
        let found = running.invocation(&command, id).await;
        assert_eq!((&found["Status"], &found["StandardOutputContent"]), (&value!("Success"), &value!("done")));
    }
    assert_eq!(running.listed(&command).await["Status"], "Success");
}

#[tokio::test]
async fn a_machine_that_is_away_is_told_when_it_comes_back() {
    let running = start().await;
    let (id, session) = running.node().await;
    let command = running.command(to(id)).await;
    // It fetches the message and is cut off before it can say so.
    assert_eq!(running.poll(id, &session).await.len(), 1);
    running.clock.set(NOW.plus(15));
    until("it counts as delayed", async || running.details(&command, id).await == "Delayed").await;
    let message = running.poll(id, &session).await.remove(0);
    running.answer(&session, &message, &reply("Success", 0, "", "")).await;
    assert_eq!(running.details(&command, id).await, "Success");
}

#[tokio::test]
async fn what_is_not_taken_in_time_is_not_taken() {
    let running = start().await;
    let (id, session) = running.node().await;
    let mut input = to(id);
    input["TimeoutSeconds"] = 30.into();
    let command = running.command(input).await;
    running.clock.set(NOW.plus(30));
    until("the time is over", async || running.details(&command, id).await == "DeliveryTimedOut").await;
    let listed = running.listed(&command).await;
    assert_eq!((&listed["Status"], &listed["DeliveryTimedOutCount"]), (&value!("TimedOut"), &value!(1)));
    assert!(running.waits_in_vain(id, &session).await);
}

#[tokio::test]
async fn what_takes_too_long_is_over() {
    let running = start().await;
    let (id, session) = running.node().await;
    let input = value!({
        "InstanceIds": [id.to_string()], "DocumentName": "AWS-RunShellScript",
        "Parameters": {"commands": ["sleep 100"], "executionTimeout": ["100"]},
    });
    let command = body(&running.ssm("SendCommand", input).await)["Command"]["CommandId"].as_str().unwrap().to_owned();
    let message = running.poll(id, &session).await.remove(0);
    running.answer(&session, &message, &reply("InProgress", 0, "", "")).await;
    running.clock.set(NOW.plus(100 + 60));
    until("the time is over", async || running.details(&command, id).await == "ExecutionTimedOut").await;
    running.answer(&session, &message, &reply("Success", 0, "late", "")).await;
    assert_eq!(running.details(&command, id).await, "ExecutionTimedOut");
    assert_eq!(running.listed(&command).await["Status"], "TimedOut");
}

#[tokio::test]
async fn a_restart_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let key = KeySource::File(directory.path().join("epoch.key"));
    let first = start_in(tempfile::tempdir().unwrap(), Arc::clone(&store), key.clone()).await;
    let (id, session) = first.node().await;
    let unsent = first.command(to(id)).await;
    let sent = first.poll(id, &session).await.remove(0);
    let running_command = first.command(to(id)).await;
    let taken = first.poll(id, &session).await.remove(0);
    first.answer(&session, &taken, &reply("InProgress", 0, "half", "")).await;
    let (other, _session) = first.node().await;
    let waiting = first.command(to(other)).await;
    drop(first);
    let second = start_in(tempfile::tempdir().unwrap(), store, key).await;
    // What the machine has not said that it has comes again under its old name; what it has does not.
    let again = second.poll(id, &session).await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0]["MessageId"], sent["MessageId"]);
    second.answer(&session, &again[0], &reply("Success", 0, "", "")).await;
    second.answer(&session, &taken, &reply("Success", 0, "whole", "")).await;
    assert_eq!(second.details(&unsent, id).await, "Success");
    // One that may have gone out before the restart is not called cancelled before the machine says so.
    second.ssm("CancelCommand", value!({"CommandId": waiting})).await;
    assert_eq!(second.details(&waiting, other).await, "Cancelling");
    assert_eq!(second.invocation(&running_command, id).await["StandardOutputContent"], "whole");
}

#[tokio::test]
async fn what_cannot_be_stored_is_told_again() {
    let store = Arc::new(FaultyStore::new(Arc::new(SqliteStore::in_memory().unwrap())));
    let running = start_on(Arc::clone(&store) as Arc<dyn Store>, KeySource::Ephemeral).await;
    let (id, session) = running.node().await;
    store.fail_next(Fault::full());
    let refused = running.ssm("SendCommand", value!({"InstanceIds": [id.to_string()], "DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["true"]}})).await;
    assert_eq!((refused.status, code(&refused).as_str()), (500, "InternalServerError"));
    assert_eq!(body(&running.ssm("ListCommands", value!({})).await)["Commands"], value!([]));
    // The answer of this write is lost, and the command is there: it is sent, and not refused.
    store.fail_next(Fault::io_after());
    let command = running.command(to(id)).await;
    let message = running.poll(id, &session).await.remove(0);
    store.fail_next(Fault::full());
    let reply_input =
        value!({"MessageId": message["MessageId"], "ReplyId": "1", "Payload": reply("Success", 0, "", "").to_string()});
    assert_eq!(running.message(&session, "SendReply", reply_input.clone()).await.status, 503);
    assert_eq!(running.details(&command, id).await, "Pending");
    assert_eq!(running.message(&session, "SendReply", reply_input).await.status, 200);
    assert_eq!(running.details(&command, id).await, "Success");
}

#[tokio::test]
async fn what_has_ended_stays_so_though_the_answer_of_the_store_was_lost() {
    let store = Arc::new(FaultyStore::new(Arc::new(SqliteStore::in_memory().unwrap())));
    let running = start_on(Arc::clone(&store) as Arc<dyn Store>, KeySource::Ephemeral).await;
    let (id, session) = running.node().await;
    let mut input = to(id);
    input["TimeoutSeconds"] = 30.into();
    let command = running.command(input).await;
    let message = running.poll(id, &session).await.remove(0);
    let reply = value!({"MessageId": message["MessageId"], "ReplyId": "1", "Payload": reply("Success", 0, "done", "").to_string()});
    store.fail_next(Fault::io_after());
    assert_eq!(running.message(&session, "SendReply", reply.clone()).await.status, 500);
    let (other, _session) = running.node().await;
    let mut input = to(other);
    input["TimeoutSeconds"] = 30.into();
    let waiting = running.command(input).await;
    running.clock.set(NOW.plus(30));
    until("the time is over", async || running.details(&waiting, other).await == "DeliveryTimedOut").await;
    let found = running.invocation(&command, id).await;
    assert_eq!((&found["StatusDetails"], &found["StandardOutputContent"]), (&value!("Success"), &value!("done")));
    assert_eq!(running.listed(&command).await["Status"], "Success");
    assert_eq!(running.message(&session, "SendReply", reply).await.status, 200);
}

#[tokio::test]
async fn however_many_steps_a_machine_tells_of_its_last_word_is_kept() {
    let running = start().await;
    let (id, session) = running.node().await;
    let command = running.command(to(id)).await;
    let message = running.poll(id, &session).await.remove(0);
    // Each report is of the most that is kept of a step: three of them are more than is kept of all.
    let (stdout, stderr) = ("🦀".repeat(24_000), "🦀".repeat(8_000));
    for (name, status) in [("a", "InProgress"), ("b", "InProgress"), ("c", "Success")] {
        let mut report = reply(status, 7, &stdout, &stderr);
        let mut step = report["runtimeStatus"]["aws:runShellScript"].take();
        (step["name"], step["status"], step["output"]) = (name.into(), "Success".into(), "".into());
        report["runtimeStatus"] = value!({name: step});
        running.answer(&session, &message, &report).await;
    }
    assert_eq!(running.listed(&command).await["Status"], "Success");
    let details = body(&running.ssm("ListCommandInvocations", value!({"CommandId": command, "Details": true})).await);
    let plugins = details["CommandInvocations"][0]["CommandPlugins"].as_array().unwrap();
    let told: Vec<_> = plugins.iter().map(|step| (&step["Name"], &step["Status"], &step["ResponseCode"])).collect();
    // The first is the document's own, of which this agent never tells.
    let (status, code) = (value!("Success"), value!(7));
    assert_eq!(told[1..], ["a", "b", "c"].map(|name| value!(name)).each_ref().map(|name| (name, &status, &code)));
}

#[tokio::test]
async fn commands_are_cancelled() {
    let running = start().await;
    let (id, session) = running.node().await;
    // Not sent yet: it never is.
    let command = running.command(to(id)).await;
    assert_eq!(running.ssm("CancelCommand", value!({"CommandId": command})).await.body, "{}");
    assert_eq!(running.details(&command, id).await, "Cancelled");
    assert_eq!(running.listed(&command).await["Status"], "Cancelled");
    // Under way: the agent is told, and has the last word.
    let command = running.command(to(id)).await;
    let messages = running.poll(id, &session).await;
    let [message] = messages.as_slice() else { panic!("{messages:?}") };
    running.answer(&session, message, &reply("InProgress", 0, "", "")).await;
    running.ssm("CancelCommand", value!({"CommandId": command, "InstanceIds": [id.to_string()]})).await;
    assert_eq!(running.details(&command, id).await, "Cancelling");
    let cancel = running.poll(id, &session).await.remove(0);
    assert_eq!(cancel["Topic"], "aws.ssm.cancelCommand");
    let payload: Value = serde_json::from_str(cancel["Payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload["CancelMessageId"], message["MessageId"]);
    assert_eq!(
        running.message(&session, "AcknowledgeMessage", value!({"MessageId": cancel["MessageId"]})).await.status,
        200
    );
    running.answer(&session, message, &reply("Cancelled", 1, "", "")).await;
    assert_eq!(running.details(&command, id).await, "Cancelled");
    for (input, expected) in [
        (value!({"CommandId": "x"}), "ValidationException"),
        (value!({"CommandId": "00000000-0000-4000-8000-000000000000"}), "InvalidCommandId"),
        (value!({"CommandId": command, "InstanceIds": ["i-1"]}), "InvalidInstanceId"),
        (value!({"CommandId": command, "InstanceIds": [id.to_string(), id.to_string()]}), "DuplicateInstanceId"),
    ] {
        assert_eq!(code(&running.ssm("CancelCommand", input.clone()).await), expected, "{input}");
    }
    // On a machine that the command never was for, nothing is ended, and nothing on the others that are named with it.
    let (other, _) = running.node().await;
    let command = running.command(to(id)).await;
    for ids in [vec![other], vec![id, other], vec!["i-0123456789abcdef0".parse().unwrap()]] {
        let ids: Vec<String> = ids.iter().map(InstanceId::to_string).collect();
        let refused = running.ssm("CancelCommand", value!({"CommandId": command, "InstanceIds": ids})).await;
        let named = ids.last().unwrap();
        let message = format!("Instances [[{named}]] not in a valid state for account 123456789012");
        let expected = value!({"__type": "InvalidInstanceId", "Message": message});
        assert_eq!((refused.status, body(&refused)), (400, expected));
        assert_eq!(running.details(&command, id).await, "Pending");
    }
}

#[tokio::test]
async fn a_machine_whose_agent_was_forgotten_is_sent_nothing() {
    let running = start().await;
    let (id, _session) = running.node().await;
    let tag = format!("Action=CreateTags&ResourceId.1={id}&Tag.1.Key=role&Tag.1.Value=web");
    assert_eq!(running.send(&running.operator(), &ec2(&tag)).await.status, 200);
    let forgotten = running.ssm("DeregisterManagedInstance", value!({"InstanceId": id.to_string()})).await;
    assert_eq!(forgotten.status, 200, "{}", forgotten.body);
    let mut input = to(id);
    input["DocumentName"] = "AWS-RunShellScript".into();
    input["Parameters"] = value!({"commands": ["true"]});
    let refused = running.ssm("SendCommand", input).await;
    let message = format!("Instances [[{id}]] not in a valid state for account 123456789012");
    let expected = value!({"__type": "InvalidInstanceId", "Message": message});
    assert_eq!((refused.status, body(&refused)), (400, expected));
    let nobody = running.command(value!({"Targets": [{"Key": "tag:role", "Values": ["web"]}]})).await;
    assert_eq!(running.listed(&nobody).await["StatusDetails"], "NoInstancesInTag");
}

#[tokio::test]
async fn machines_are_found_by_tags_and_asked_so_many_at_a_time() {
    let running = start().await;
    let mut nodes = Vec::new();
    for _ in 0..4 {
        let node = running.node().await;
        let tag = format!("Action=CreateTags&ResourceId.1={}&Tag.1.Key=role&Tag.1.Value=web", node.0);
        assert_eq!(running.send(&running.operator(), &ec2(&tag)).await.status, 200);
        nodes.push(node);
    }
    let (windows, _agent, session) = running.managed().await;
    running.speaks(windows, &session, "Windows").await;
    let tag = format!("Action=CreateTags&ResourceId.1={windows}&Tag.1.Key=role&Tag.1.Value=web");
    running.send(&running.operator(), &ec2(&tag)).await;
    nodes.sort_by_key(|(id, _)| *id);

    let targets = value!([{"Key": "tag:role", "Values": ["db", "web"]}, {"Key": "tag-key", "Values": ["role"]}]);
    let command = running.command(value!({"Targets": targets, "MaxConcurrency": "2", "MaxErrors": "0"})).await;
    assert_eq!(running.listed(&command).await["TargetCount"], 5);
    assert_eq!(running.details(&command, windows).await, "InvalidPlatform");
    let mut first = Vec::new();
    for (id, session) in &nodes[..2] {
        first.push(running.poll(*id, session).await.remove(0));
    }
    // Two at a time: the third is told when one of them is done.
    let is_done = std::cell::Cell::new(false);
    let third = async {
        let third = running.poll(nodes[2].0, &nodes[2].1).await.remove(0);
        assert!(is_done.get());
        third
    };
    let done = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        is_done.set(true);
        running.answer(&nodes[0].1, &first[0], &reply("Success", 0, "", "")).await;
    };
    let (third, ()) = tokio::join!(third, done);
    running.answer(&nodes[1].1, &first[1], &reply("Failed", 1, "", "")).await;
    // One error is too many: the fourth is never asked. The third goes on.
    assert_eq!(running.details(&command, nodes[3].0).await, "Terminated");
    assert_eq!(running.listed(&command).await["StatusDetails"], "InProgress");
    running.answer(&nodes[2].1, &third, &reply("Success", 0, "", "")).await;
    let listed = running.listed(&command).await;
    assert_eq!(
        (&listed["Status"], &listed["CompletedCount"], &listed["ErrorCount"]),
        (&value!("Failed"), &value!(5), &value!(1))
    );

    let nobody = running.command(value!({"Targets": [{"Key": "tag:role", "Values": ["none"]}]})).await;
    assert_eq!(running.listed(&nobody).await["StatusDetails"], "NoInstancesInTag");
}

#[tokio::test]
async fn a_machine_that_ends_ends_its_part() {
    let running = start().await;
    let (id, _session) = running.node().await;
    let command = running.command(to(id)).await;
    running.send(&running.operator(), &ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"))).await;
    until("it is undeliverable", async || running.details(&command, id).await == "Undeliverable").await;
    assert_eq!(running.listed(&command).await["StatusDetails"], "Incomplete");
}

#[tokio::test]
async fn a_machine_takes_its_own_messages_alone() {
    let running = start().await;
    let (id, session) = running.node().await;
    let (_other, thief) = running.node().await;
    let command = running.command(to(id)).await;
    let message = running.poll(id, &session).await.remove(0);
    let id_of = &message["MessageId"];
    for (operation, input) in [
        ("AcknowledgeMessage", value!({"MessageId": id_of})),
        ("DeleteMessage", value!({"MessageId": id_of})),
        ("FailMessage", value!({"MessageId": id_of, "FailureType": "NoHandlerExists"})),
        ("SendReply", value!({"MessageId": id_of, "ReplyId": "1", "Payload": reply("Success", 0, "", "").to_string()})),
        ("GetMessages", value!({"Destination": id.to_string(), "MessagesRequestId": "r"})),
        ("GetEndpoint", value!({"Destination": id.to_string()})),
    ] {
        assert_eq!(code(&running.message(&thief, operation, input).await), "AccessDeniedException", "{operation}");
    }
    assert_eq!(running.details(&command, id).await, "Pending");
    let endpoint = running.message(&session, "GetEndpoint", value!({"Destination": id.to_string()})).await;
    assert_eq!(endpoint.body, r#"{"Endpoint":"ec2messages.eu-central-1.amazonaws.com"}"#);
    for (operation, input) in [
        ("AcknowledgeMessage", value!({"MessageId": "x"})),
        ("SendReply", value!({"MessageId": id_of, "ReplyId": "1", "Payload": "{}"})),
        ("SendReply", value!({"MessageId": id_of, "Payload": "{}"})),
        ("FailMessage", value!({"MessageId": id_of})),
    ] {
        assert_eq!(code(&running.message(&session, operation, input.clone()).await), "ValidationException", "{input}");
    }
    // What is about a command that nobody knows is passed over: agents tell of old ones for hours.
    let old = value!({"MessageId": format!("aws.ssm.00000000-0000-4000-8000-000000000000.{id}")});
    assert_eq!(running.message(&session, "AcknowledgeMessage", old).await.status, 200);
    let failed = value!({"MessageId": id_of, "FailureType": "NoHandlerExists"});
    assert_eq!(running.message(&session, "FailMessage", failed).await.status, 200);
    let found = running.invocation(&command, id).await;
    assert_eq!(found["Status"], "Failed");
    assert_eq!(found["StandardErrorContent"], "The agent cannot do anything with the message: NoHandlerExists");
}

#[tokio::test]
async fn a_session_that_ends_while_it_waits_is_told_nothing() {
    let running = start().await;
    let (id, session) = running.node().await;
    let (waiting, command) = tokio::join!(running.poll(id, &session), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let off = running.ssm("ResetServiceSetting", value!({"SettingId": SETTING})).await;
        assert_eq!(off.status, 200);
        running.command(to(id)).await
    });
    assert_eq!(waiting, Vec::<Value>::new());
    assert_eq!(running.details(&command, id).await, "Pending");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let running = start().await;
    let (id, _session) = running.node().await;
    let silent = running.launch().await;
    let (windows, _agent, session) = running.managed().await;
    running.speaks(windows, &session, "Windows").await;
    let with = |member: &str, given: Value| {
        let mut input = value!({
            "InstanceIds": [id.to_string()], "DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["true"]},
        });
        input[member] = given;
        input
    };
    let text = id.to_string();
    for (input, expected) in [
        (with("InstanceIds", value!([])), "ValidationException"),
        (with("InstanceIds", value!(["i-1"])), "InvalidInstanceId"),
        (with("InstanceIds", value!([silent.to_string()])), "InvalidInstanceId"),
        (with("InstanceIds", value!([text, text])), "DuplicateInstanceId"),
        (with("InstanceIds", value!(vec![text.clone(); 51])), "ValidationException"),
        (with("InstanceIds", value!([windows.to_string()])), "UnsupportedPlatformType"),
        (with("Targets", value!([{"Key": "tag:a", "Values": ["b"]}])), "ValidationException"),
        (
            value!({
                "DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["true"]},
                "Targets": [{"Key": "tag:a", "Values": ["b".repeat(262_144)]}],
            }),
            "ValidationException",
        ),
        (with("DocumentName", value!("AWS-NotHere")), "InvalidDocument"),
        (with("DocumentName", value!("a b")), "ValidationException"),
        (with("DocumentVersion", value!("2")), "InvalidDocumentVersion"),
        (with("DocumentHash", value!("00")), "InvalidDocument"),
        (with("Parameters", value!({})), "InvalidParameters"),
        (with("Parameters", value!({"commands": ["true"], "colour": ["red"]})), "InvalidParameters"),
        (with("Parameters", value!({"commands": []})), "InvalidParameters"),
        (with("Parameters", value!({"commands": ["true"], "executionTimeout": ["soon"]})), "InvalidParameters"),
        (with("Parameters", value!({"commands": ["x".repeat(142_000)]})), "MaxDocumentSizeExceeded"),
        (with("TimeoutSeconds", value!(29)), "ValidationException"),
        (with("TimeoutSeconds", value!(2_592_001)), "ValidationException"),
        (with("Comment", value!("c".repeat(101))), "ValidationException"),
        (with("MaxConcurrency", value!("0")), "ValidationException"),
        (with("MaxErrors", value!("101%")), "ValidationException"),
        (with("OutputS3BucketName", value!("bucket")), "InvalidOutputFolder"),
        (with("NotificationConfig", value!({"NotificationArn": "arn:aws:sns:a:b:c"})), "InvalidNotificationConfig"),
        (with("CloudWatchOutputConfig", value!({"CloudWatchOutputEnabled": true})), "ValidationException"),
    ] {
        let refused = running.ssm("SendCommand", input.clone()).await;
        assert_eq!((refused.status, code(&refused).as_str()), (400, expected), "{input}");
    }
    let refused = running.ssm("SendCommand", with("InstanceIds", value!([silent.to_string()]))).await;
    let message = format!("Instances [[{silent}]] not in a valid state for account 123456789012");
    assert_eq!(body(&refused)["Message"], message);
    for seconds in [30, 31, 2_592_000] {
        assert_eq!(running.ssm("SendCommand", with("TimeoutSeconds", value!(seconds))).await.status, 200, "{seconds}");
    }
    assert_eq!(running.ssm("SendCommand", with("Comment", value!("c".repeat(100)))).await.status, 200);
    for (input, expected) in [
        (value!({"CommandId": "00000000-0000-4000-8000-000000000000", "InstanceId": text}), "InvocationDoesNotExist"),
        (value!({"InstanceId": text}), "ValidationException"),
        (value!({"CommandId": "00000000-0000-4000-8000-000000000000", "InstanceId": "i-1"}), "InvalidInstanceId"),
        (value!({"CommandId": "x".repeat(36), "InstanceId": text}), "InvalidCommandId"),
    ] {
        assert_eq!(code(&running.ssm("GetCommandInvocation", input.clone()).await), expected, "{input}");
    }
    let command = running.command(to(id)).await;
    let input = value!({"CommandId": command, "InstanceId": text, "PluginName": "nothing"});
    assert_eq!(code(&running.ssm("GetCommandInvocation", input).await), "InvalidPluginName");
}

#[tokio::test]
async fn lists_have_filters_and_pages() {
    let running = start().await;
    let (one, session) = running.node().await;
    let (two, _session) = running.node().await;
    let both = value!({"InstanceIds": [one.to_string(), two.to_string()]});
    let mut commands = Vec::new();
    for (seconds, input) in [(0, to(one)), (1, both.clone()), (2, to(two))] {
        running.clock.set(NOW.plus(seconds));
        commands.push(running.command(input).await);
    }
    let message = running.poll(one, &session).await.remove(0);
    running.answer(&session, &message, &reply("Success", 0, "", "")).await;
    let found = async |operation: &str, list: &str, input: Value| -> Vec<String> {
        let reply = running.ssm(operation, input).await;
        let list = body(&reply)[list].as_array().unwrap_or_else(|| panic!("{}", reply.body)).clone();
        list.iter().map(|one| one["CommandId"].as_str().unwrap().to_owned()).collect()
    };
    let by = |key: &str, text: &str| value!({"Filters": [{"key": key, "value": text}]});
    let pick = |numbers: &[usize]| numbers.iter().map(|number| commands[*number].clone()).collect::<Vec<_>>();
    for (input, expected) in [
        (value!({}), &[2, 1, 0][..]),
        (value!({"InstanceId": one.to_string()}), &[1, 0]),
        (by("Status", "Success"), &[0]),
        (by("ExecutionStage", "Executing"), &[2, 1]),
        (by("ExecutionStage", "Complete"), &[0]),
        (by("InvokedAfter", &NOW.plus(1).rfc3339()), &[2, 1]),
        (by("InvokedBefore", &NOW.plus(1).rfc3339()), &[0]),
        (by("DocumentName", "AWS-RunShellScript"), &[2, 1, 0]),
        (by("DocumentName", "Other"), &[]),
    ] {
        assert_eq!(found("ListCommands", "Commands", input.clone()).await, pick(expected), "{input}");
    }
    let invocations = async |input| found("ListCommandInvocations", "CommandInvocations", input).await;
    assert_eq!(invocations(value!({})).await, pick(&[2, 1, 1, 0]));
    assert_eq!(invocations(value!({"InstanceId": two.to_string()})).await, pick(&[2, 1]));
    assert_eq!(invocations(by("Status", "Success")).await, pick(&[0]));
    for (operation, list, expected) in [
        ("ListCommands", "Commands", pick(&[2, 1, 0])),
        ("ListCommandInvocations", "CommandInvocations", pick(&[2, 1, 1, 0])),
    ] {
        let (mut all, mut token) = (Vec::new(), Value::Null);
        loop {
            let page = body(&running.ssm(operation, value!({"MaxResults": 1, "NextToken": token})).await);
            all.extend(page[list].as_array().unwrap().iter().map(|one| one["CommandId"].as_str().unwrap().to_owned()));
            token = page["NextToken"].clone();
            if token.is_null() {
                break;
            }
        }
        assert_eq!(all, expected, "{operation}");
        for (input, code_of) in [
            (value!({"MaxResults": 0}), "ValidationException"),
            (value!({"MaxResults": 51}), "ValidationException"),
            (value!({"NextToken": "x"}), "InvalidNextToken"),
            (by("Colour", "red"), "InvalidFilterKey"),
            (value!({"CommandId": "x"}), "ValidationException"),
        ] {
            assert_eq!(code(&running.ssm(operation, input.clone()).await), code_of, "{operation} {input}");
        }
    }
}

#[tokio::test]
async fn operators_write_documents() {
    let running = start().await;
    let (id, session) = running.node().await;
    let step = value!({"action": "aws:runShellScript", "name": "greet", "inputs": {"runCommand": ["echo {{ Word }}"], "timeoutSeconds": "10"}});
    let content = value!({
        "schemaVersion": "2.2", "description": "Greets.",
        "parameters": {"Word": {"type": "String", "default": "hello", "allowedPattern": "[a-z]+"}},
        "mainSteps": [step, {"action": "aws:runShellScript", "name": "again", "inputs": {"runCommand": ["true"]}}],
    });
    let create = value!({"Name": "Greet", "Content": content.to_string(), "VersionName": "v1"});
    let created = body(&running.ssm("CreateDocument", create.clone()).await)["DocumentDescription"].clone();
    assert_eq!((&created["Name"], &created["SchemaVersion"]), (&value!("Greet"), &value!("2.2")));
    assert_eq!(created["PlatformTypes"], value!(["Linux", "MacOS"]));
    assert_eq!(
        created["Parameters"][0],
        value!({"Name": "Word", "Type": "String", "Description": "", "DefaultValue": "hello"})
    );
    assert_eq!(code(&running.ssm("CreateDocument", create).await), "DocumentAlreadyExists");
    let got = body(&running.ssm("GetDocument", value!({"Name": "Greet", "DocumentVersion": "$LATEST"})).await);
    assert_eq!(got["Content"], content.to_string());
    let arn = "arn:aws:ssm:eu-central-1:123456789012:document/Greet";
    assert_eq!(body(&running.ssm("DescribeDocument", value!({"Name": arn})).await)["Document"], created);

    let input = value!({
        "InstanceIds": [id.to_string()], "DocumentName": "Greet", "Parameters": {"Word": ["moin"]},
        "DocumentHash": created["Hash"], "DocumentHashType": "Sha256",
    });
    let command =
        body(&running.ssm("SendCommand", input.clone()).await)["Command"]["CommandId"].as_str().unwrap().to_owned();
    // The command has its text: the document may go.
    assert_eq!(running.ssm("DeleteDocument", value!({"Name": "Greet"})).await.body, "{}");
    let message = running.poll(id, &session).await.remove(0);
    let payload: Value = serde_json::from_str(message["Payload"].as_str().unwrap()).unwrap();
    assert_eq!((&payload["DocumentContent"], &payload["Parameters"]), (&content, &value!({"Word": "moin"})));
    let both = value!({"CommandId": command, "InstanceId": id.to_string()});
    assert_eq!(code(&running.ssm("GetCommandInvocation", both).await), "ValidationException", "which step?");
    let one = value!({"CommandId": command, "InstanceId": id.to_string(), "PluginName": "greet"});
    assert_eq!(body(&running.ssm("GetCommandInvocation", one).await)["Status"], "Pending");

    for (operation, input, expected) in [
        ("SendCommand", input, "InvalidDocument"),
        ("GetDocument", value!({"Name": "Greet"}), "InvalidDocument"),
        ("DeleteDocument", value!({"Name": "Greet"}), "InvalidDocument"),
        ("DeleteDocument", value!({"Name": "AWS-RunShellScript"}), "InvalidDocument"),
        ("GetDocument", value!({"Name": "AWS-RunShellScript", "DocumentVersion": "7"}), "InvalidDocumentVersion"),
        ("GetDocument", value!({"Name": "AWS-RunShellScript", "DocumentFormat": "YAML"}), "InvalidDocumentContent"),
        ("CreateDocument", value!({"Name": "AWS-Mine", "Content": content.to_string()}), "InvalidDocumentContent"),
        ("CreateDocument", value!({"Name": "x", "Content": content.to_string()}), "ValidationException"),
        ("CreateDocument", value!({"Name": "Mine", "Content": "schemaVersion: '2.2'"}), "InvalidDocumentContent"),
        (
            "CreateDocument",
            value!({"Name": "Mine", "Content": "{}", "DocumentFormat": "YAML"}),
            "InvalidDocumentContent",
        ),
        (
            "CreateDocument",
            value!({"Name": "Mine", "Content": r#"{"schemaVersion":"0.3"}"#}),
            "InvalidDocumentSchemaVersion",
        ),
        ("CreateDocument", value!({"Name": "Mine", "Content": "x".repeat(65_537)}), "MaxDocumentSizeExceeded"),
        (
            "CreateDocument",
            value!({"Name": "Mine", "Content": "{}", "DocumentType": "Automation"}),
            "InvalidDocumentContent",
        ),
    ] {
        assert_eq!(code(&running.ssm(operation, input.clone()).await), expected, "{operation} {input}");
    }
}

#[tokio::test]
async fn documents_are_listed_and_there_are_not_too_many() {
    let running = start().await;
    let content = value!({
        "schemaVersion": "2.2", "description": "d",
        "mainSteps": [{"action": "aws:runPowerShellScript", "name": "one", "inputs": {"runCommand": ["x"]}}],
    });
    let create = async |name: String| {
        running.ssm("CreateDocument", value!({"Name": name, "Content": content.to_string()})).await
    };
    for number in 0..499 {
        assert_eq!(create(format!("doc-{number:03}")).await.status, 200, "{number}");
    }
    assert_eq!(create("doc-499".to_owned()).await.status, 200);
    assert_eq!(code(&create("doc-500".to_owned()).await), "DocumentLimitExceeded");
    let names = async |input: Value| -> Vec<String> {
        let (mut names, mut input) = (Vec::new(), input);
        loop {
            let page = body(&running.ssm("ListDocuments", input.clone()).await);
            let list = page["DocumentIdentifiers"].as_array().unwrap_or_else(|| panic!("{page}")).clone();
            names.extend(list.iter().map(|one| one["Name"].as_str().unwrap().to_owned()));
            match page["NextToken"].as_str() {
                Some(token) => input["NextToken"] = token.into(),
                None => return names,
            }
        }
    };
    assert_eq!(names(value!({})).await.len(), 502);
    let owned = |owner: &str| value!({"Filters": [{"Key": "Owner", "Values": [owner]}], "MaxResults": 50});
    assert_eq!(names(owned("Self")).await.len(), 500);
    assert_eq!(names(owned("Amazon")).await, ["AWS-RunPowerShellScript", "AWS-RunShellScript"]);
    let old = value!({"DocumentFilterList": [{"key": "Name", "value": "doc-49"}]});
    assert_eq!(names(old).await.len(), 10);
    let linux =
        value!({"Filters": [{"Key": "PlatformTypes", "Values": ["MacOS"]}, {"Key": "Owner", "Values": ["Amazon"]}]});
    assert_eq!(names(linux).await.len(), 2);
    assert_eq!(code(&running.ssm("ListDocuments", value!({"NextToken": "x"})).await), "InvalidNextToken");
    assert_eq!(code(&running.ssm("ListDocuments", value!({"MaxResults": 51})).await), "ValidationException");
}

#[tokio::test]
async fn what_is_over_is_forgotten_after_thirty_days() {
    let running = start().await;
    let (id, session) = running.node().await;
    let over = running.command(to(id)).await;
    let message = running.poll(id, &session).await.remove(0);
    running.answer(&session, &message, &reply("Success", 0, "", "")).await;
    for (seconds, is_kept) in [(30 * 86_400, true), (30 * 86_400 + 1, false)] {
        running.clock.set(NOW.plus(seconds));
        running.region.tidy().await;
        assert_eq!(!running.listed(&over).await.is_null(), is_kept, "{seconds}");
    }
}

/// The frames that an agent sends about a job.
async fn says(socket: &mut Socket, message_type: &str, facts: Value) -> inborn_wire::uuid::Uuid {
    socket.frame(message_type, &facts.to_string()).await
}

#[tokio::test]
async fn a_command_goes_over_the_control_channel() {
    let running = start().await;
    let (id, session) = running.node().await;
    let waiting = running.command(to(id)).await;
    // What has waited comes with the channel.
    let mut socket = running.control_channel_at_once(&session, id).await;
    let received = socket.receive().await;
    assert_eq!(received.message_type, "agent_job");
    let job: Value = serde_json::from_str(&received.payload).unwrap();
    assert_eq!(job["JobId"], format!("aws.ssm.{waiting}.{id}"));
    assert_eq!((&job["SchemaVersion"], &job["Topic"]), (&value!(1), &value!("aws.ssm.sendCommand")));
    let content: Value = serde_json::from_str(job["Content"].as_str().unwrap()).unwrap();
    assert_eq!(content["Parameters"]["commands"], value!(["true"]));
    // An agent that was cut off before it said anything is told again.
    drop(socket);
    let mut socket = running.control_channel_at_once(&session, id).await;
    assert_eq!(socket.receive().await.payload, received.payload);

    let ack = value!({"jobId": job["JobId"], "acknowledgedMessageId": received.id.to_string(), "statusCode": "200", "errorMessage": "Successful"});
    says(&mut socket, "agent_job_ack", ack).await;
    socket.ping().await;
    assert_eq!(running.details(&waiting, id).await, "InProgress");
    // Success first, then what came before it: each is acknowledged, and the first counts.
    for (status, text) in [("Success", "out"), ("InProgress", "")] {
        let content = reply(status, 0, text, "").to_string();
        let facts =
            value!({"schemaVersion": 1, "jobId": job["JobId"], "content": content, "topic": "aws.ssm.sendCommand"});
        let sent = says(&mut socket, "agent_job_reply", facts).await;
        let ack = socket.receive().await;
        assert_eq!(ack.message_type, "agent_job_reply_ack");
        let expected = value!({"jobId": job["JobId"], "acknowledgedMessageId": sent.to_string()});
        assert_eq!(serde_json::from_str::<Value>(&ack.payload).unwrap(), expected);
        assert_eq!(running.invocation(&waiting, id).await["StandardOutputContent"], "out");
    }
    assert_eq!(running.details(&waiting, id).await, "Success");

    // One that is sent while the channel is open, and cancelled.
    let command = running.command(to(id)).await;
    let job: Value = serde_json::from_str(&socket.receive().await.payload).unwrap();
    running.ssm("CancelCommand", value!({"CommandId": command})).await;
    let cancel: Value = serde_json::from_str(&socket.receive().await.payload).unwrap();
    assert_eq!(cancel["Topic"], "aws.ssm.cancelCommand");
    assert_eq!(cancel["Content"], value!({"CancelMessageId": job["JobId"]}).to_string());
    // One that the agent refuses.
    let refused = running.command(to(id)).await;
    let job: Value = serde_json::from_str(&socket.receive().await.payload).unwrap();
    says(&mut socket, "agent_job_ack", value!({"jobId": job["JobId"], "statusCode": "51401", "errorMessage": "no"}))
        .await;
    socket.ping().await;
    let found = running.invocation(&refused, id).await;
    assert_eq!(
        (&found["Status"], &found["StandardErrorContent"]),
        (&value!("Failed"), &value!("The agent refuses the command: 51401 no"))
    );
}

#[tokio::test]
async fn an_agent_speaks_of_its_own_jobs_alone_and_nonsense_is_passed_over() {
    let running = start().await;
    let (id, _session) = running.node().await;
    let (other, thief) = running.node().await;
    let command = running.command(to(id)).await;
    let mut socket = running.control_channel(&thief, other).await;
    let job = format!("aws.ssm.{command}.{id}");
    says(&mut socket, "agent_job_ack", value!({"jobId": job, "statusCode": "200"})).await;
    let content = reply("Success", 0, "", "").to_string();
    says(&mut socket, "agent_job_reply", value!({"jobId": job, "content": content})).await;
    assert_eq!(socket.receive().await.message_type, "agent_job_reply_ack", "so that it does not say it again");
    for (message_type, payload) in [
        ("agent_job_ack", "{}"),
        ("agent_job_ack", "nonsense"),
        ("agent_job_reply", "[]"),
        ("agent_job_reply", r#"{"jobId":"x"}"#),
    ] {
        socket.frame(message_type, payload).await;
    }
    assert_eq!(socket.receive().await.payload.split('"').nth(3), Some("x"));
    socket.ping().await;
    assert_eq!(running.details(&command, id).await, "Pending");
}

#[tokio::test]
async fn an_answer_has_so_many_messages_in_the_order_in_which_they_were_sent() {
    let running = start().await;
    let (id, session) = running.node().await;
    let mut commands = Vec::new();
    for _ in 0..6 {
        commands.push(running.command(to(id)).await);
    }
    let mut told = Vec::new();
    for count in [4, 2] {
        let messages = running.poll(id, &session).await;
        assert_eq!(messages.len(), count);
        told.extend(messages.iter().map(|message| message["MessageId"].as_str().unwrap().to_owned()));
    }
    let expected: Vec<String> = commands.iter().map(|command| format!("aws.ssm.{command}.{id}")).collect();
    assert_eq!(told, expected);
}
