//! Systems Manager over several region servers: what is sent at one reaches the agent that is connected to another, and is known
//! everywhere; no server ends what another has finished, and none has to live for it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::channel::{Socket, opening};
use common::commands::{body, reply};
use common::fleet::{PATIENCE, Server, node, set_time, two, until};
use common::*;
use inborn_identity::InstanceId;
use inborn_store::{CommandQuery, Store};
use serde_json::{Value, json as value};
use tokio_tungstenite::tungstenite::Message;

/// The next frame, however slow the computer is.
async fn receive(socket: &mut Socket) -> (String, Value) {
    let received = tokio::time::timeout(PATIENCE, socket.receive_ever()).await.unwrap();
    (received.message_type, serde_json::from_str(&received.payload).unwrap())
}

/// The next job over a channel, by name.
async fn job(socket: &mut Socket) -> Value {
    let (message_type, job) = receive(socket).await;
    assert_eq!(message_type, "agent_job");
    job
}

async fn takes(socket: &mut Socket, job: &Value) {
    let ack = value!({"jobId": job["JobId"], "statusCode": "200", "errorMessage": "Successful"});
    socket.frame("agent_job_ack", &ack.to_string()).await;
}

/// An agent says how it went, and is told that it is known.
async fn says(socket: &mut Socket, job: &Value, status: &str, text: &str) {
    let content = reply(status, 0, text, "").to_string();
    let facts = value!({"schemaVersion": 1, "jobId": job["JobId"], "content": content});
    socket.frame("agent_job_reply", &facts.to_string()).await;
    assert_eq!(receive(socket).await.0, "agent_job_reply_ack");
}

fn to(ids: &[InstanceId]) -> Value {
    value!({"InstanceIds": ids.iter().map(ToString::to_string).collect::<Vec<_>>()})
}

fn job_id(command: &str, id: InstanceId) -> Value {
    format!("aws.ssm.{command}.{id}").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_sent_at_one_reaches_the_agent_at_the_other() {
    let (_fleet, a, b) = two().await;
    let (id, session) = node(&a, &b).await;
    let mut socket = a.control_channel(&session, id).await;
    let command = b.command(to(&[id])).await;
    let told = job(&mut socket).await;
    assert_eq!(told["JobId"], job_id(&command, id));
    takes(&mut socket, &told).await;
    until("it is under way", async || b.details(&command, id).await == "InProgress").await;
    says(&mut socket, &told, "Success", "out").await;
    let done = b.invocation(&command, id).await;
    assert_eq!((&done["StatusDetails"], &done["StandardOutputContent"]), (&value!("Success"), &value!("out")));
    assert_eq!(b.listed(&command).await["Status"], "Success");

    // By a poll too, of an agent that waits already.
    drop(socket);
    until("it is gone", async || !connected(&a, id).await).await;
    let (messages, command) = tokio::join!(a.poll(id, &session), b.command(to(&[id])));
    let message = match messages.first() {
        Some(message) => message.clone(),
        None => a.poll(id, &session).await.remove(0),
    };
    assert_eq!(message["MessageId"], job_id(&command, id));
    // What it says comes to the other server, which has not sent it.
    b.answer(&session, &message, &reply("Success", 0, "polled", "")).await;
    assert_eq!(a.invocation(&command, id).await["StandardOutputContent"], "polled");
}

async fn connected(at: &Running, id: InstanceId) -> bool {
    body(&at.ssm("GetConnectionStatus", value!({"Target": id.to_string()})).await)["Status"] == "connected"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_cancelled_wherever_its_agent_is() {
    let (_fleet, a, b) = two().await;
    let (id, session) = node(&a, &b).await;
    // To nobody it was sent yet: it is over at once, without a wait for what was sent at the other server just now.
    let command = a.command(to(&[id])).await;
    assert_eq!(b.ssm("CancelCommand", value!({"CommandId": command})).await.status, 200);
    assert_eq!(b.details(&command, id).await, "Cancelled");
    assert_eq!(a.listed(&command).await["Status"], "Cancelled");

    let mut socket = a.control_channel(&session, id).await;
    let command = a.command(to(&[id])).await;
    let told = job(&mut socket).await;
    assert_eq!(told["JobId"], job_id(&command, id), "what was cancelled before is not told");
    takes(&mut socket, &told).await;
    until("it is under way", async || b.details(&command, id).await == "InProgress").await;
    assert_eq!(b.ssm("CancelCommand", value!({"CommandId": command})).await.status, 200);
    let cancel = job(&mut socket).await;
    assert_eq!(cancel["Topic"], "aws.ssm.cancelCommand");
    assert_eq!(cancel["Content"], value!({"CancelMessageId": told["JobId"]}).to_string());
    says(&mut socket, &told, "Cancelled", "").await;
    assert_eq!(b.details(&command, id).await, "Cancelled");
}

/// A server that does not hear sends nothing that was cancelled meanwhile: the store says whether it is to be sent.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_heard_of_a_cancel_sends_no_command() {
    let (fleet, a, b) = two().await;
    let (id, session) = node(&a, &b).await;
    let mut socket = a.control_channel(&session, id).await;
    let (ended, open) = (a.command(to(&[id])).await, a.command(to(&[id])).await);
    let told = [job(&mut socket).await, job(&mut socket).await];
    assert_eq!(told.map(|told| told["JobId"].clone()), [job_id(&ended, id), job_id(&open, id)]);
    // It has not said that it has them, and is gone.
    drop(socket);
    until("it is gone", async || !connected(&a, id).await).await;
    let c = fleet.server("c").await;
    // Nor as long as it cannot read what it is told is otherwise than it knew.
    c.link.hide_command(Some(&ended));
    c.link.deafen().await;
    assert_eq!(a.ssm("CancelCommand", value!({"CommandId": ended})).await.status, 200);
    assert_eq!(a.details(&ended, id).await, "Cancelling");
    let mut socket = c.control_channel_at_once(&session, id).await;
    let told = job(&mut socket).await;
    assert_eq!((&told["Topic"], &told["JobId"]), (&value!("aws.ssm.sendCommand"), &job_id(&open, id)));
    let waits = tokio::time::timeout(Duration::from_millis(1500), job(&mut socket)).await;
    assert!(waits.is_err(), "it was cancelled: {waits:?}");
    c.link.hide_command(None);
    c.clock.advance(2);
    let told = job(&mut socket).await;
    assert_eq!(told["Topic"], "aws.ssm.cancelCommand");
    assert_eq!(told["Content"], value!({"CancelMessageId": job_id(&ended, id)}).to_string());
}

/// A balancer may lead each connection of an agent to another server.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_opens_with_the_token_of_another_server() {
    let (_fleet, a, b) = two().await;
    let (id, session) = node(&a, &b).await;
    let (other, of_other) = node(&a, &b).await;
    let token = a.control_token(&session, id).await;
    let mut stranger = b.control_socket(&of_other, other).await;
    stranger.say(Message::text(opening(&token))).await;
    assert_eq!(stranger.closed().await, 1008, "it is a machine's own");
    let mut socket = b.control_socket(&session, id).await;
    socket.say(Message::text(opening(&token))).await;
    socket.ping().await;
    assert!(connected(&b, id).await);
    let command = a.command(to(&[id])).await;
    assert_eq!(job(&mut socket).await["JobId"], job_id(&command, id));
}

/// Ends a server, with all that it has in memory.
async fn kill(server: Server) {
    let region = Arc::downgrade(&server.running.region);
    drop(server);
    until("it is dead", async || region.upgrade().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_leaves_its_commands_to_the_others() {
    let (fleet, a, b) = two().await;
    let (id, session) = node(&a, &b).await;
    let mut socket = a.control_channel(&session, id).await;
    // One that the agent has, one that it was sent and has not said that it has.
    let mut input = to(&[id]);
    input["TimeoutSeconds"] = 600.into();
    let (first, second) = (a.command(input.clone()).await, a.command(input).await);
    let told = [job(&mut socket).await, job(&mut socket).await];
    takes(&mut socket, &told[0]).await;
    until("it is under way", async || b.details(&first, id).await == "InProgress").await;
    drop(socket);
    kill(a).await;
    let mut socket = b.control_channel_at_once(&session, id).await;
    assert_eq!(job(&mut socket).await["JobId"], job_id(&second, id), "under the name that the agent knows");
    // It comes back while the agent is elsewhere, after the time to take them is over.
    drop(socket);
    let c = fleet.server("a").await;
    set_time(&[&b, &c], NOW.plus(601)).await;
    until("the other was not taken in time", async || c.details(&second, id).await == "DeliveryTimedOut").await;
    let mut socket = b.control_channel(&session, id).await;
    says(&mut socket, &told[0], "Success", "first").await;
    assert_eq!(c.invocation(&first, id).await["StandardOutputContent"], "first");
    assert_eq!(
        (b.details(&first, id).await.as_str(), c.listed(&first).await["Status"].as_str()),
        ("Success", Some("Success"))
    );
}

/// A server that does not hear, and whose time goes on, writes all the same: it ends nothing that another has under way or has finished.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_heard_times_nothing_out() {
    let (fleet, a, b) = two().await;
    let (id, session) = node(&a, &b).await;
    let mut socket = a.control_channel(&session, id).await;
    let untaken = {
        let (other, _) = node(&a, &b).await;
        let mut input = to(&[other]);
        input["TimeoutSeconds"] = 30.into();
        (a.command(input).await, other)
    };
    let mut input = to(&[id]);
    input["TimeoutSeconds"] = 30.into();
    let (running, done) = (a.command(input.clone()).await, a.command(input).await);
    // Of most of it the second server has heard; a third one knows all of it as it was sent.
    until("the second server has heard", async || b.link.command_reads() >= 3).await;
    let third = fleet.server("c").await;
    third.link.deafen().await;
    b.link.deafen().await;
    let told = [job(&mut socket).await, job(&mut socket).await];
    for told in &told {
        takes(&mut socket, told).await;
    }
    says(&mut socket, &told[1], "Success", "out").await;
    let reads = third.link.command_reads();
    for server in [&b, &third] {
        server.clock.set(NOW.plus(31));
    }
    until("what nobody took is over", async || a.details(&untaken.0, untaken.1).await == "DeliveryTimedOut").await;
    // It would end what is under way, finds that this is otherwise than it knew, and reads it.
    until("the third has looked", async || third.link.command_reads() > reads).await;
    for _ in 0..2 {
        assert_eq!(a.details(&running, id).await, "InProgress");
        assert_eq!(a.invocation(&done, id).await["StandardOutputContent"], "out");
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    says(&mut socket, &told[0], "Success", "late").await;
    assert_eq!(a.invocation(&running, id).await["StandardOutputContent"], "late");
    assert_eq!(a.listed(&running).await["Status"], "Success");
    let open = CommandQuery { command: Some(untaken.0), limit: 1, ..CommandQuery::default() };
    assert_eq!(fleet.store.commands(open).await.unwrap()[0].progress.delivery_timed_out, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_machines_run_a_command_than_may_wherever_they_are() {
    let (_fleet, a, b) = two().await;
    let (first, of_first) = node(&a, &b).await;
    let (second, of_second) = node(&a, &b).await;
    let mut at_a = a.control_channel(&of_first, first).await;
    let mut at_b = b.control_channel(&of_second, second).await;
    for round in 0..4 {
        let mut input = to(&[first, second]);
        input["MaxConcurrency"] = "1".into();
        let command = if round % 2 == 0 { a.command(input).await } else { b.command(input).await };
        // Whichever comes first, the other one waits for it.
        let (is_first, told) = tokio::select! {
            told = job(&mut at_a) => (true, told),
            told = job(&mut at_b) => (false, told),
        };
        let (one, other) = if is_first { (&mut at_a, &mut at_b) } else { (&mut at_b, &mut at_a) };
        // It has not even said that it has it: that it was sent is known to both.
        let waits = tokio::time::timeout(Duration::from_millis(1500), job(other)).await;
        assert!(waits.is_err(), "it runs on both: {waits:?}");
        let (running, waiting) = if is_first { (first, second) } else { (second, first) };
        assert_eq!(a.details(&command, running).await, "Delayed");
        assert_eq!(a.details(&command, waiting).await, "Pending");
        takes(one, &told).await;
        says(one, &told, "Success", "").await;
        let told = job(other).await;
        says(other, &told, "Success", "").await;
        for server in [&a, &b] {
            assert_eq!(server.listed(&command).await["Status"], "Success");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_at_one_keep_the_command_from_machines_at_the_other() {
    let (_fleet, a, b) = two().await;
    let (first, of_first) = node(&a, &b).await;
    let (second, of_second) = node(&a, &b).await;
    let mut at_a = a.control_channel(&of_first, first).await;
    // The second machine is away.
    let command = b.command(to(&[first, second])).await;
    let told = job(&mut at_a).await;
    says(&mut at_a, &told, "Failed", "").await;
    until("it is sent to nobody else", async || b.details(&command, second).await == "Terminated").await;
    assert_eq!(b.listed(&command).await["StatusDetails"], "Failed");
    assert!(b.waits_in_vain(second, &of_second).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_agents_say_at_one_is_shown_at_the_other() {
    let (_fleet, a, b) = two().await;
    let (id, session) = node(&a, &b).await;
    let shown = async |at: &Running, status: &str| {
        let filters = value!([{"Key": "PingStatus", "Values": [status]}]);
        let information = body(&at.ssm("DescribeInstanceInformation", value!({"Filters": filters})).await);
        let filters = value!([{"key": "InstanceIds", "valueSet": [id.to_string()]}]);
        let input = value!({"InstancePropertyFilterList": filters});
        let properties = body(&at.ssm("DescribeInstanceProperties", input).await);
        let properties = properties["InstanceProperties"][0].clone();
        assert_eq!(properties["PingStatus"] == status, information["InstanceInformationList"][0].is_object());
        properties
    };
    set_time(&[&a, &b], NOW.plus(600)).await;
    // What it said before, at one of them.
    a.speaks(id, &session, "Linux").await;
    set_time(&[&a, &b], NOW.plus(1000)).await;
    let online = shown(&b, "Online").await;
    assert_eq!((&online["PingStatus"], &online["LastPingDateTime"]), (&value!("Online"), &value!(NOW.as_secs() + 600)));
    // Something else, at the other.
    let facts = value!({"InstanceId": id.to_string(), "AgentVersion": "3.4.0.0", "ComputerName": "web-2"});
    let call = json("ssm", "AmazonSSM.UpdateInstanceInformation", &facts.to_string());
    assert_eq!(b.send(&session, &call).await.status, 200);
    until("it is known", async || shown(&a, "Online").await["ComputerName"] == "web-2").await;
    assert_eq!(shown(&a, "Online").await["PlatformType"], "Linux", "what it left out it said before");
    set_time(&[&a, &b], NOW.plus(1000 + 11 * 60 + 1)).await;
    for server in [&a, &b] {
        assert_eq!(shown(server, "ConnectionLost").await["PingStatus"], "ConnectionLost");
    }
}
