//! Sessions over real sockets: an operator, an agent, and what the region carries between them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use std::sync::Arc;

use common::channel::*;
use common::session::*;
use common::verdict::until;
use common::*;
use inborn_region::KeySource;
use inborn_store::{SqliteStore, Store};
use inborn_testkit::{Fault, FaultyStore};
use serde_json::{Value, json as value};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn the_agent_is_told_what_session_it_is() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let mut control = running.control_channel(&role, id).await;
    for (document, parameters, kind) in [
        ("SSM-SessionManagerRunShell", value!({}), "Standard_Stream"),
        ("AWS-StartInteractiveCommand", value!({"command": ["top"]}), "InteractiveCommands"),
        ("AWS-StartPortForwardingSession", value!({"portNumber": ["5432"], "localPortNumber": ["0"]}), "Port"),
        ("AWS-StartPortForwardingSessionToRemoteHost", value!({"host": ["db"], "portNumber": ["5432"]}), "Port"),
        ("AWS-StartSSHSession", value!({"portNumber": ["22"]}), "Port"),
    ] {
        let body = value!({"Target": id.to_string(), "DocumentName": document, "Parameters": parameters});
        let started = running.done("StartSession", body).await;
        let session = started["SessionId"].as_str().unwrap();
        let url = started["StreamUrl"].as_str().unwrap();
        assert_eq!(
            url,
            format!("ws://ssmmessages.eu-central-1.amazonaws.com/v1/data-channel/{session}?role=publish_subscribe")
        );
        let told: Value = serde_json::from_str(&control.receive().await.payload).unwrap();
        let content: Value = serde_json::from_str(told["Content"].as_str().unwrap()).unwrap();
        assert_eq!(content["DocumentName"], document);
        assert_eq!(content["SessionId"], session);
        assert_eq!(content["DocumentContent"]["schemaVersion"], "1.0");
        assert_eq!(content["DocumentContent"]["sessionType"], kind);
        let single: Value =
            parameters.as_object().unwrap().iter().map(|(name, all)| (name.clone(), all[0].clone())).collect();
        assert_eq!(content["Parameters"], single);
        assert_eq!(content["SessionOwner"].as_str().unwrap().split(':').nth(2), Some("iam"));
    }
    assert_eq!(
        running.done("GetConnectionStatus", value!({"Target": id.to_string()})).await,
        value!({"Target": id.to_string(), "Status": "connected"})
    );
}

#[tokio::test]
async fn an_agent_that_comes_back_is_told_of_the_session_until_it_knows() {
    let Scene { running, role, session, token, control, id } = scene().await;
    // The channel breaks before the agent has read what it was told.
    drop(control);
    let mut again = running.control_channel_at_once(&role, id).await;
    let told = again.receive().await;
    assert_eq!(told.message_type, "interactive_shell");
    assert_eq!(serde_json::from_str::<Value>(&told.payload).unwrap()["TaskId"], session);
    // It is told on every channel, until it asks for its own of the session.
    let mut agent = running.agent_side(&role, &session).await;
    let mut third = running.control_channel(&role, id).await;
    let sent = bytes("input_stream_data", 0, b"x");
    running.client_side(&session, &token).await.say(Message::binary(sent.clone())).await;
    assert_eq!(agent.next().await, Ok(Message::binary(sent)));
    third.ping().await;

    // Nor of one that nobody waits for any more, or that has ended.
    let late = running.done("StartSession", value!({"Target": id.to_string()})).await;
    let over = running.done("StartSession", value!({"Target": id.to_string()})).await;
    for _ in 0..2 {
        assert_eq!(third.receive().await.message_type, "interactive_shell");
    }
    running.done("TerminateSession", value!({"SessionId": over["SessionId"]})).await;
    running.clock.set(NOW.plus(59));
    let mut fourth = running.control_channel_at_once(&role, id).await;
    let told: Value = serde_json::from_str(&fourth.receive().await.payload).unwrap();
    assert_eq!(told["TaskId"], late["SessionId"]);
    fourth.ping().await;
    running.clock.set(NOW.plus(60));
    running.control_channel(&role, id).await.ping().await;
}

#[tokio::test]
async fn bytes_are_carried_as_they_are() {
    let Scene { running, role, session, token, mut control, .. } = scene().await;
    // What comes before the other side is there waits for it.
    let mut client = running.client_side(&session, &token).await;
    let early = bytes("input_stream_data", 0, b"early");
    client.say(Message::binary(early.clone())).await;
    let mut agent = running.agent_side_at_once(&role, &session).await;
    assert_eq!(agent.next().await, Ok(Message::binary(early)));
    // Frames, and what is none: the region does not judge.
    let large = bytes("output_stream_data", 1, &vec![1; 141_880]);
    for sent in [bytes("output_stream_data", 0, b"$ "), vec![], vec![0xff; 3], large] {
        agent.say(Message::binary(sent.clone())).await;
        assert_eq!(client.next().await, Ok(Message::binary(sent.clone())));
        client.say(Message::binary(sent.clone())).await;
        assert_eq!(agent.next().await, Ok(Message::binary(sent)));
    }
    // What the agent says to the region does not reach the client.
    let state = value!({"SchemaVersion": 1, "SessionState": "Connected", "SessionId": session}).to_string();
    agent.say(Message::binary(bytes("agent_session_state", 0, state.as_bytes()))).await;
    let last = bytes("output_stream_data", 2, b"last");
    agent.say(Message::binary(last.clone())).await;
    assert_eq!(client.next().await, Ok(Message::binary(last)));
    let shown = running.done("DescribeSessions", value!({"State": "Active"})).await;
    assert_eq!(shown["Sessions"][0]["Status"], "Connected");

    // The agent ends it.
    let bye = bytes("output_stream_data", 3, b"logout");
    agent.say(Message::binary(bye.clone())).await;
    let state = state.replace("Connected", "Terminating");
    agent.say(Message::binary(bytes("agent_session_state", 0, state.as_bytes()))).await;
    let complete = value!({"SchemaVersion": 1, "TaskId": session, "FinalTaskStatus": "Success", "Output": "Bye."});
    control.frame("agent_task_complete", &complete.to_string()).await;
    assert_eq!(control.receive().await.message_type, "agent_task_acknowledge");
    assert_eq!(client.next().await, Ok(Message::binary(bye)), "what was said before the end is not lost");
    let closed = client.receive().await;
    assert_eq!(closed.message_type, "channel_closed");
    let closed: Value = serde_json::from_str(&closed.payload).unwrap();
    assert_eq!((&closed["MessageType"], &closed["SessionId"]), (&value!("channel_closed"), &value!(session)));
    assert_eq!(closed["Output"], "Bye.");
    assert_eq!(client.closed().await, 1000);
    ended(&running, &session, "Terminated", "The agent ended the session.").await;
}

/// The session is in the history, and its end in the audit.
async fn ended(running: &Running, session: &str, status: &str, details: &str) {
    for _ in 0..200 {
        let history = running.done("DescribeSessions", value!({"State": "History"})).await;
        if let Some(found) = history["Sessions"].as_array().unwrap().iter().find(|found| found["SessionId"] == session)
        {
            assert_eq!((&found["Status"], &found["Details"]), (&value!(status), &value!(details)));
            let lines = running.audit();
            let line = lines.iter().find(|line| {
                line["eventName"] == "Inborn.SessionEnded" && line["requestParameters"]["sessionId"] == session
            });
            assert_eq!(line.unwrap()["responseElements"]["status"], status);
            let active = running.done("DescribeSessions", value!({"State": "Active"})).await;
            assert_eq!(active["Sessions"], value!([]));
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{session} has not ended");
}

#[tokio::test]
async fn an_operator_ends_a_session_for_both_sides() {
    let Scene { running, role, session, token, .. } = scene().await;
    let mut client = running.client_side(&session, &token).await;
    let mut agent = running.agent_side(&role, &session).await;
    let answer = running.done("TerminateSession", value!({"SessionId": session})).await;
    assert_eq!(answer, value!({"SessionId": session}));
    for side in [&mut client, &mut agent] {
        assert_eq!(side.receive().await.message_type, "channel_closed");
        assert_eq!(side.closed().await, 1000);
    }
    let owner = running.audit().into_iter().find(|line| line["eventName"] == "TerminateSession").unwrap();
    let arn = owner["userIdentity"]["arn"].as_str().unwrap().to_owned();
    ended(&running, &session, "Terminated", &format!("Terminated by {arn}.")).await;
    // It is over: nobody comes in any more.
    assert_eq!(running.asked("ResumeSession", &value!({"SessionId": session})).await.0, 400);
    assert_eq!(running.client_socket(&session).await.err().unwrap().status, 403);
    assert_eq!(running.send(&role, &create("data", &session, BODY)).await.status, 400);
}

/// What is on its way when a session ends finds its connection still there: else it would be reset, and the end could not be read.
#[tokio::test]
async fn whoever_still_speaks_at_the_end_hears_of_it() {
    let Scene { running, role, session, token, .. } = scene().await;
    let mut client = running.client_side(&session, &token).await;
    let _agent = running.agent_side(&role, &session).await;
    running.done("TerminateSession", value!({"SessionId": session})).await;
    for number in 0..5 {
        // Each is answered by a reset, if it is answered at all.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let message = Message::binary(bytes("input_stream_data", number, b"x"));
        if futures_util::SinkExt::send(&mut client.0, message).await.is_err() {
            break;
        }
    }
    assert_eq!(client.receive().await.message_type, "channel_closed");
    assert_eq!(client.closed().await, 1000);
}

#[tokio::test]
async fn each_side_may_come_back_and_takes_its_own_place() {
    let Scene { running, role, session, token, .. } = scene().await;
    let mut client = running.client_side(&session, &token).await;
    let mut agent = running.agent_side(&role, &session).await;
    let resumed = running.done("ResumeSession", value!({"SessionId": session})).await;
    assert_eq!(resumed["SessionId"], session);
    assert_ne!(resumed["TokenValue"], token);
    let mut second = running.client_side(&session, resumed["TokenValue"].as_str().unwrap()).await;
    assert_eq!(client.closed().await, 1000, "the channel before it is replaced");
    let mut agents_second = running.agent_side(&role, &session).await;
    assert_eq!(agent.closed().await, 1000);
    let sent = bytes("output_stream_data", 0, b"here");
    agents_second.say(Message::binary(sent.clone())).await;
    assert_eq!(second.next().await, Ok(Message::binary(sent.clone())));
    // While the client is away its bytes wait.
    second.0.close(None).await.unwrap();
    assert_eq!(second.closed().await, 1006);
    agents_second.say(Message::binary(sent.clone())).await;
    agents_second.ping().await;
    let resumed = running.done("ResumeSession", value!({"SessionId": session})).await;
    let mut third = running.client_side_at_once(&session, resumed["TokenValue"].as_str().unwrap()).await;
    let after = bytes("output_stream_data", 1, b"after");
    agents_second.say(Message::binary(after.clone())).await;
    assert_eq!(third.next().await, Ok(Message::binary(sent)));
    assert_eq!(third.next().await, Ok(Message::binary(after)));
}

#[tokio::test]
async fn tokens_are_for_one_side_of_one_session_once() {
    let Scene { running, role, session, token, id, mut control } = scene().await;
    let other = running.done("StartSession", value!({"Target": id.to_string()})).await;
    control.receive().await;
    let other_token = other["TokenValue"].as_str().unwrap();
    let agents = running.send(&role, &create("data", &session, BODY)).await;
    let agents = between(&agents.body, "<TokenValue>", "</TokenValue>").to_owned();
    let first =
        |token: &str| value!({"MessageSchemaVersion": "1.0", "RequestId": "r", "TokenValue": token}).to_string();
    for wrong in [other_token, agents.as_str(), "", "guess"] {
        let mut socket = running.client_socket(&session).await.ok().unwrap();
        socket.say(Message::text(first(wrong))).await;
        assert_eq!(socket.closed().await, 1008, "{wrong}");
    }
    let call = open(&format!("/v1/data-channel/{session}?role=publish_subscribe"));
    let mut socket = connect(running.address, &upgrading(&running.signed(&role, &call))).await.ok().unwrap();
    socket.say(Message::text(first(&token))).await;
    assert_eq!(socket.closed().await, 1008, "the client's token, by the agent");
    // None of this has used it up; the first right use does.
    let mut client = running.client_side(&session, &token).await;
    let mut again = running.client_socket(&session).await.ok().unwrap();
    again.say(Message::text(first(&token))).await;
    assert_eq!(again.closed().await, 1008);
    client.ping().await;
    let resumed = running.done("ResumeSession", value!({"SessionId": session})).await;
    running.clock.set(NOW.plus(60));
    let mut late = running.client_socket(&session).await.ok().unwrap();
    late.say(Message::text(first(resumed["TokenValue"].as_str().unwrap()))).await;
    assert_eq!(late.closed().await, 1008, "a token a minute old");
    // No token is in the audit, nor what it is a token for.
    let text = std::fs::read_to_string(running.directory.path().join("audit.jsonl")).unwrap();
    for secret in [&token, &agents, other_token] {
        assert!(!text.contains(secret));
    }
    let line = running.audit().into_iter().find(|line| line["eventName"] == "StartSession").unwrap();
    assert_eq!(line["responseElements"]["sessionId"], session);
}

#[tokio::test]
async fn channels_opened_in_silence_keep_out_no_other_side_and_no_other_session() {
    let Scene { running, role, session, token, id, mut control } = scene().await;
    let other = running.done("StartSession", value!({"Target": id.to_string()})).await;
    control.receive().await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        let mut socket = running.client_socket(&session).await.ok().unwrap();
        let waited = std::time::Duration::from_millis(100);
        assert!(tokio::time::timeout(waited, socket.next()).await.is_err(), "it has a place");
        silent.push(socket);
    }
    assert_eq!(running.client_socket(&session).await.ok().unwrap().closed().await, 1008, "one more than its own");
    running.agent_side(&role, &session).await;
    running.client_side(other["SessionId"].as_str().unwrap(), other["TokenValue"].as_str().unwrap()).await;
    silent[0].say(Message::text(opening(&token))).await;
    silent[0].ping().await;
    assert!(running.client_socket(&session).await.is_ok());
}

/// As AWS's plugin does from version 1.3 on.
#[tokio::test]
async fn an_operator_may_sign_what_it_opens_and_still_needs_the_token() {
    let Scene { running, role, session, token, id, .. } = scene().await;
    let call = open(&format!("/v1/data-channel/{session}?role=publish_subscribe"));
    let signed =
        async |signer: &Signer, call: &Call| connect(running.address, &upgrading(&running.signed(signer, call))).await;
    let agents = running.send(&role, &create("data", &session, BODY)).await;
    let agents = between(&agents.body, "<TokenValue>", "</TokenValue>").to_owned();
    for wrong in [agents.as_str(), "", "guess"] {
        let mut socket = signed(&running.operator(), &call).await.ok().unwrap();
        socket.say(Message::text(opening(wrong))).await;
        assert_eq!(socket.closed().await, 1008, "{wrong}");
    }
    let mut silent = signed(&running.operator(), &call).await.ok().unwrap();
    silent.say(Message::text("{}")).await;
    assert_eq!(silent.closed().await, 1008, "without a token");
    let mut client = signed(&running.operator(), &call).await.ok().unwrap();
    client.say(Message::text(opening(&token))).await;
    client.ping().await;
    let mut again = signed(&running.operator(), &call).await.ok().unwrap();
    again.say(Message::text(opening(&token))).await;
    assert_eq!(again.closed().await, 1008, "a token that was used");
    // The operator is the client, not the agent.
    let mut agent = running.agent_side(&role, &session).await;
    let sent = bytes("output_stream_data", 0, b"$ ");
    agent.say(Message::binary(sent.clone())).await;
    assert_eq!(client.next().await, Ok(Message::binary(sent)));
    // The identity role may not, and of a control channel not even the operator.
    let refused = signed(&running.machine(id), &call).await.err().unwrap();
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert!(refused.body.starts_with("<UnrecognizedClientException>"), "{}", refused.body);
    let control = open(&format!("/v1/control-channel/{id}?role=subscribe&stream=input"));
    let refused = signed(&running.operator(), &control).await.err().unwrap();
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert!(refused.body.starts_with("<AccessDeniedException>"), "{}", refused.body);
    running.done("TerminateSession", value!({"SessionId": session})).await;
    let gone = signed(&running.operator(), &call).await.err().unwrap();
    assert_eq!(gone.status, 400, "{}", gone.body);
}

#[tokio::test]
async fn who_comes_in_is_audited_and_so_are_wrong_tokens() {
    let Scene { running, role, session, token, .. } = scene().await;
    let mut wrong = running.client_socket(&session).await.ok().unwrap();
    wrong.say(Message::text(opening("guess"))).await;
    assert_eq!(wrong.closed().await, 1008);
    let _client = running.client_side(&session, &token).await;
    let _agent = running.agent_side(&role, &session).await;
    let lines: Vec<Value> =
        running.audit().into_iter().filter(|line| line["eventName"] == "Inborn.SessionJoined").collect();
    let [wrong, client, agent] = lines.as_slice() else { panic!("{lines:?}") };
    for (line, side) in [(wrong, "client"), (client, "client"), (agent, "agent")] {
        assert_eq!(line["requestParameters"]["sessionId"], session);
        assert_eq!(line["requestParameters"]["side"], side);
        assert_eq!(line["sourceIPAddress"], "127.0.0.1");
    }
    assert_eq!(wrong["errorCode"], "AccessDenied");
    assert_eq!((&client["errorCode"], &agent["errorCode"]), (&Value::Null, &Value::Null));
    assert_eq!(client["userIdentity"]["type"], "Unknown", "a token names nobody");
    assert_eq!(agent["userIdentity"]["accessKeyId"], role.access_key_id);
    let text = std::fs::read_to_string(running.directory.path().join("audit.jsonl")).unwrap();
    assert!(!text.contains(&token) && !text.contains("guess"));
    // Whoever guesses does not fill the disk.
    for _ in 0..420 {
        let mut wrong = running.client_socket(&session).await.ok().unwrap();
        wrong.say(Message::text(opening("guess"))).await;
        assert_eq!(wrong.closed().await, 1008);
    }
    let refused = running.audit().into_iter().filter(|line| line["errorCode"] == "AccessDenied").count();
    assert_eq!(refused, 400);
}

#[tokio::test]
async fn an_end_that_cannot_be_stored_is_told_and_tried_again() {
    let store = Arc::new(FaultyStore::new(Arc::new(SqliteStore::in_memory().unwrap())));
    let key = KeySource::File(tempfile::tempdir().unwrap().keep().join("epoch.key"));
    let Scene { running, role, session, .. } =
        scene_on(start_on(Arc::clone(&store) as Arc<dyn Store>, key.clone()).await).await;
    // After nothing, half a second, a second and a half and three seconds and a half. The answer comes after three seconds.
    for nth in 0..4 {
        store.fail(store.writes() + nth, if nth == 1 { Fault::io_before() } else { Fault::full() });
    }
    let (status, answer) = running.asked("TerminateSession", &value!({"SessionId": session})).await;
    assert_eq!((status, &answer["__type"]), (500, &value!("InternalServerError")), "{answer}");
    let active = running.done("DescribeSessions", value!({"State": "Active"})).await;
    assert_eq!(active["Sessions"][0]["Status"], "Terminating");
    // Nobody comes in any more all the same.
    assert_eq!(running.asked("ResumeSession", &value!({"SessionId": session})).await.0, 400);
    assert_eq!(running.client_socket(&session).await.err().unwrap().status, 403);
    assert_eq!(running.send(&role, &create("data", &session, BODY)).await.status, 400);
    let mut told = (500, Value::Null);
    until("its end is stored", async || {
        told = running.asked("TerminateSession", &value!({"SessionId": session})).await;
        told.0 != 500
    })
    .await;
    // Who asks between two answers finds it gone.
    let (status, answer) = told;
    assert!(
        status == 200 || (status, &answer["__type"]) == (400, &value!("DoesNotExistException")),
        "{status} {answer}"
    );
    let again = start_on(store, key).await;
    assert_eq!(again.done("DescribeSessions", value!({"State": "Active"})).await["Sessions"], value!([]));
    let ends = running.audit().into_iter().filter(|line| line["eventName"] == "Inborn.SessionEnded").count();
    assert_eq!(ends, 1);
}

#[tokio::test]
async fn an_end_that_was_stored_without_an_answer_is_one() {
    let store = Arc::new(FaultyStore::new(Arc::new(SqliteStore::in_memory().unwrap())));
    let Scene { running, session, .. } =
        scene_on(start_on(Arc::clone(&store) as Arc<dyn Store>, KeySource::Ephemeral).await).await;
    store.fail_next(Fault::io_after());
    running.done("TerminateSession", value!({"SessionId": session})).await;
    let history = running.done("DescribeSessions", value!({"State": "History"})).await;
    assert_eq!(history["Sessions"][0]["Status"], "Terminated");
}

#[tokio::test]
async fn an_agent_that_floods_the_region_with_states_is_cut_off() {
    let Scene { running, role, session, .. } = scene().await;
    let mut agent = running.agent_side(&role, &session).await;
    let state = value!({"SchemaVersion": 1, "SessionState": "Connected", "SessionId": session}).to_string();
    let state = bytes("agent_session_state", 0, state.as_bytes());
    for _ in 0..3000 {
        if futures_util::SinkExt::send(&mut agent.0, Message::binary(state.clone())).await.is_err() {
            break;
        }
    }
    assert!([1006, 1008].contains(&agent.closed().await));
    running.agent_side(&role, &session).await;
}

#[tokio::test]
async fn another_machine_and_strangers_know_of_no_session() {
    let Scene { running, session, id, .. } = scene().await;
    let (_other, _agent, role) = running.managed().await;
    let reply = running.send(&role, &create("data", &session, BODY)).await;
    assert_eq!(reply.status, 400, "{}", reply.body);
    assert!(reply.body.starts_with("<BadRequest>"), "{}", reply.body);
    let unknown = running.send(&role, &create("data", "operator-0123456789abcdef0", BODY)).await;
    assert_eq!(unknown.body, reply.body, "as if there was none");
    let call = open(&format!("/v1/data-channel/{session}?role=publish_subscribe"));
    let Err(reply) = connect(running.address, &upgrading(&running.signed(&role, &call))).await else { panic!() };
    assert_eq!(reply.status, 400);
    for signer in [running.machine(id), running.operator()] {
        let reply = running.send(&signer, &create("data", &session, BODY)).await;
        assert_eq!(reply.status, 403, "{}", reply.body);
    }
    // Without a signature: of a session that is not there, and of other paths, nothing is told.
    let missing = running.client_socket("operator-0123456789abcdef0").await.err().unwrap();
    assert_eq!(missing.status, 403);
    assert!(missing.body.contains("MissingAuthenticationToken"), "{}", missing.body);
    let text = format!(
        "GET /v1/control-channel/{id}?role=subscribe&stream=input HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(connect(running.address, &upgrading(&text)).await.err().unwrap().status, 403);
    let text = format!(
        "GET /v1/data-channel/{session}?role=publish_subscribe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(exchange(running.address, &text).await.status, 403, "no WebSocket");
}

#[tokio::test]
async fn a_session_ends_with_what_allows_it() {
    for (end, details) in [
        ("reset", "The agent's session was cut off."),
        ("deregister", "The agent's session was cut off."),
        ("terminate", "The machine was stopped."),
        ("stop", "The machine was stopped."),
    ] {
        let Scene { running, role, session, token, id, .. } = scene().await;
        let mut client = running.client_side(&session, &token).await;
        let mut agent = running.agent_side(&role, &session).await;
        let call = match end {
            "reset" => json("ssm", "AmazonSSM.ResetServiceSetting", &format!(r#"{{"SettingId":"{SETTING}"}}"#)),
            "deregister" => json("ssm", "AmazonSSM.DeregisterManagedInstance", &format!(r#"{{"InstanceId":"{id}"}}"#)),
            "terminate" => ec2(&format!("Action=TerminateInstances&InstanceId.1={id}")),
            _ => ec2(&format!("Action=StopInstances&InstanceId.1={id}")),
        };
        assert_eq!(running.send(&running.operator(), &call).await.status, 200, "{end}");
        // Without a word from either side.
        assert_eq!(client.receive().await.message_type, "channel_closed", "{end}");
        assert_eq!(client.closed().await, 1000, "{end}");
        assert_eq!(agent.closed().await, 1000, "{end}");
        ended(&running, &session, "Terminated", details).await;
    }
}

#[tokio::test]
async fn idle_and_old_sessions_end() {
    for (away, lives, details) in [
        (20 * 60 - 1, true, ""),
        (20 * 60, false, "The session was idle."),
        (20 * 60 + 1, false, "The session was idle."),
    ] {
        let Scene { running, session, .. } = scene().await;
        running.clock.set(NOW.plus(away));
        running.region.tidy().await;
        if lives {
            let active = running.done("DescribeSessions", value!({"State": "Active"})).await;
            assert_eq!(active["Sessions"][0]["Status"], "Connecting");
        } else {
            ended(&running, &session, "Terminated", details).await;
        }
    }
    let Scene { running, session, token, .. } = scene().await;
    let mut client = running.client_side(&session, &token).await;
    for quarter in 1..=96 {
        running.clock.set(NOW.plus(quarter * 900));
        client.say(Message::binary(bytes("input_stream_data", 0, b"x"))).await;
        if quarter < 96 {
            client.ping().await;
            running.region.tidy().await;
        }
    }
    running.region.tidy().await;
    ended(&running, &session, "Terminated", "The session had lasted a day.").await;
}

#[tokio::test]
async fn what_cannot_be_started_is_refused() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let target = id.to_string();
    let refused = async |body: Value| {
        let (status, answer) = running.asked("StartSession", &body).await;
        assert_eq!(status, 400, "{body}: {answer}");
        // botocore's model spells the member so for modelled errors, the service's own errors have it small.
        let message = answer.get("Message").or(answer.get("message")).and_then(Value::as_str);
        (answer["__type"].as_str().unwrap().to_owned(), message.unwrap_or_default().to_owned())
    };
    let not_connected = ("TargetNotConnected".to_owned(), format!("{target} is not connected."));
    assert_eq!(refused(value!({"Target": target})).await, not_connected);
    assert_eq!(running.done("GetConnectionStatus", value!({"Target": target})).await["Status"], "notconnected");
    let _control = running.control_channel(&role, id).await;
    for stranger in ["i-0123456789abcdef0", "mi-0123456789abcdef0", "web-1"] {
        assert_eq!(refused(value!({"Target": stranger})).await.0, "TargetNotConnected");
    }
    for (body, code) in [
        (value!({}), "ValidationException"),
        (value!({"Target": ""}), "ValidationException"),
        (value!({"Target": "x".repeat(401)}), "ValidationException"),
        (value!({"Target": target, "Reason": "x".repeat(257)}), "ValidationException"),
        (value!({"Target": target, "Reason": "a\nb"}), "ValidationException"),
        (value!({"Target": target, "DocumentName": "AWS-RunShellScript"}), "InvalidDocument"),
        (value!({"Target": target, "Parameters": {"x": ["y"]}}), "InvalidParameters"),
        (value!({"Target": target, "DocumentName": "AWS-StartInteractiveCommand"}), "InvalidParameters"),
        (
            value!({"Target": target, "DocumentName": "AWS-StartSSHSession", "Parameters": {"portNumber": ["0"]}}),
            "InvalidParameters",
        ),
        (
            value!({"Target": target, "DocumentName": "AWS-StartSSHSession", "Parameters": {"portNumber": "22"}}),
            "SerializationException",
        ),
    ] {
        assert_eq!(refused(body.clone()).await.0, code, "{body}");
    }
    for operation in ["ResumeSession", "TerminateSession"] {
        let (status, answer) = running.asked(operation, &value!({"SessionId": "nobody-0"})).await;
        assert_eq!((status, &answer["__type"]), (400, &value!("DoesNotExistException")));
    }
    let listed = running.done("DescribeSessions", value!({"State": "History"})).await;
    assert_eq!(listed["Sessions"], value!([]), "what was refused was never a session");
}

#[tokio::test]
async fn sessions_are_listed_filtered_and_in_pages() {
    let Scene { running, id, session, mut control, .. } = scene().await;
    let mut ids = vec![session];
    for second in 1..5 {
        running.clock.set(NOW.plus(second));
        let started = running.done("StartSession", value!({"Target": id.to_string()})).await;
        control.receive().await;
        ids.push(started["SessionId"].as_str().unwrap().to_owned());
    }
    for ended in &ids[..4] {
        running.done("TerminateSession", value!({"SessionId": ended})).await;
    }
    let list = async |body: Value| {
        let answer = running.done("DescribeSessions", body).await;
        let all = answer["Sessions"].as_array().unwrap();
        let found: Vec<String> = all.iter().map(|one| one["SessionId"].as_str().unwrap().to_owned()).collect();
        (found, answer["NextToken"].clone())
    };
    let latest_first: Vec<String> = ids[..4].iter().rev().cloned().collect();
    assert_eq!(list(value!({"State": "Active"})).await.0, ids[4..]);
    assert_eq!(list(value!({"State": "History"})).await, (latest_first.clone(), Value::Null));
    let (first, next) = list(value!({"State": "History", "MaxResults": 3})).await;
    assert_eq!(first, latest_first[..3]);
    let (second, next) = list(value!({"State": "History", "MaxResults": 3, "NextToken": next})).await;
    assert_eq!((second.as_slice(), next), (&latest_first[3..], Value::Null));
    for (key, given, count) in [
        ("SessionId", ids[0].clone(), 1),
        ("Target", id.to_string(), 4),
        ("Target", "i-0123456789abcdef0".to_owned(), 0),
        ("Status", "Terminated".to_owned(), 4),
        ("Status", "Failed".to_owned(), 0),
        ("InvokedAfter", NOW.plus(1).rfc3339(), 2),
        ("InvokedBefore", NOW.plus(1).rfc3339(), 1),
    ] {
        let filters = value!([{"key": key, "value": given}]);
        assert_eq!(list(value!({"State": "History", "Filters": filters})).await.0.len(), count, "{key} {given}");
    }
    let bad = value!({"State": "History", "NextToken": "x"});
    assert_eq!(running.asked("DescribeSessions", &bad).await.1["__type"], "InvalidNextToken");
    for limit in [0, 201] {
        let (status, _) = running.asked("DescribeSessions", &value!({"State": "Active", "MaxResults": limit})).await;
        assert_eq!(status, 400, "{limit}");
    }
}

#[tokio::test]
async fn an_open_session_goes_on_after_a_restart_of_the_region() {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let key = KeySource::File(tempfile::tempdir().unwrap().keep().join("epoch.key"));
    let scene = scene_on(start_on(Arc::clone(&store), key.clone()).await).await;
    let again = start_on(store, key).await;
    let resumed = again.done("ResumeSession", value!({"SessionId": scene.session})).await;
    let mut client = again.client_side(&scene.session, resumed["TokenValue"].as_str().unwrap()).await;
    let mut agent = again.agent_side(&scene.role, &scene.session).await;
    let sent = bytes("output_stream_data", 0, b"still here");
    agent.say(Message::binary(sent.clone())).await;
    assert_eq!(client.next().await, Ok(Message::binary(sent)));
}

#[tokio::test]
async fn a_side_that_does_not_read_stops_the_other() {
    let Scene { running, role, session, .. } = scene().await;
    let mut agent = running.agent_side(&role, &session).await;
    // No client is there, so that everything has to wait: first in the region, then in the sockets, then at the agent.
    let sent = bytes("output_stream_data", 0, &vec![0; 100_000]);
    let mut count = 0_u32;
    while count < 1000 {
        let send = futures_util::SinkExt::send(&mut agent.0, Message::binary(sent.clone()));
        match tokio::time::timeout(std::time::Duration::from_secs(5), send).await {
            Ok(sent) => sent.unwrap(),
            Err(_) => break,
        }
        count += 1;
    }
    assert!((10..400).contains(&count), "{count} messages of 100 kB were taken");
}
