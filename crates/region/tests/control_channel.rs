//! Control channels over real sockets: who may open one, what ends it, and that nothing an agent sends does harm.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use common::channel::*;
use common::*;
use inborn_wire::message_gateway::Frame;
use tokio_tungstenite::tungstenite::Message;

const ROLE_ENDS: [&str; 4] = ["reset", "terminate", "stop", "deregister"];

#[tokio::test]
async fn an_agent_is_online_while_its_channel_is_open() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let update = format!(r#"{{"InstanceId":"{id}","AgentVersion":"3.3.0.0","PlatformType":"Linux"}}"#);
    assert_eq!(running.send(&role, &json("ssm", "AmazonSSM.UpdateInstanceInformation", &update)).await.status, 200);
    let status = async || {
        let list = json("ssm", "AmazonSSM.DescribeInstanceInformation", "{}");
        let reply = running.send(&running.operator(), &list).await;
        between(&reply.body, "\"PingStatus\":\"", "\"").to_owned()
    };
    running.clock.set(NOW.plus(1200));
    assert_eq!(status().await, "ConnectionLost");
    let mut socket = running.control_channel(&role, id).await;
    assert_eq!(status().await, "Online");
    socket.0.close(None).await.unwrap();
    assert_eq!(socket.closed().await, 1006);
    for _ in 0..100 {
        if status().await == "ConnectionLost" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("still online");
}

#[tokio::test]
async fn the_end_of_a_session_is_acknowledged_and_strange_messages_are_passed_over() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let mut socket = running.control_channel(&role, id).await;
    socket.frame("agent_telemetry", "not even JSON").await;
    socket.say(Message::text("a text")).await;
    socket.frame("agent_task_complete", "not even JSON").await;
    let sent =
        socket.frame("agent_task_complete", r#"{"SchemaVersion":1,"TaskId":"s-1","FinalTaskStatus":"Success"}"#).await;
    let received = socket.receive().await;
    assert_eq!(received.message_type, "agent_task_acknowledge");
    let expected =
        format!(r#"{{"SchemaVersion":1,"MessageId":"{sent}","TaskId":"s-1","Topic":"agent_task_complete"}}"#);
    assert_eq!(received.payload, expected);
}

#[tokio::test]
async fn a_channel_is_its_own_machines_alone() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let other = running.launch().await;
    for (call, action) in [
        (create("control", &other.to_string(), BODY), "CreateControlChannel"),
        (open(&format!("/v1/control-channel/{other}?role=subscribe&stream=input")), "OpenControlChannel"),
    ] {
        let text = running.signed(&role, &call);
        let text = if call.method == "GET" { upgrading(&text) } else { text };
        let Err(reply) = connect(running.address, &text).await else { panic!("{action}") };
        assert_eq!(reply.status, 403);
        let resource = format!("arn:aws:ec2:eu-central-1:123456789012:instance/{other}");
        let said = format!("is not authorized to perform: ssmmessages:{action} on resource: {resource}");
        assert!(reply.body.starts_with("<AccessDeniedException>\n  <Message>User: "), "{}", reply.body);
        assert!(reply.body.contains(&said), "{}", reply.body);
    }
    // Nobody else is told what makes agents look elsewhere.
    for signer in [running.machine(id), running.machine(other)] {
        let reply = running.send(&signer, &create("control", &id.to_string(), BODY)).await;
        assert_eq!(reply.status, 403);
        assert!(reply.body.starts_with("<UnrecognizedClientException>"), "{}", reply.body);
    }
}

#[tokio::test]
async fn a_token_opens_one_channel_once() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let first = running.control_token(&role, id).await;
    let token = running.control_token(&role, id).await;
    let words = [
        opening(&first),
        opening("guess"),
        opening(""),
        "{}".to_owned(),
        "nonsense".to_owned(),
        format!("[{}]", opening(&token)),
    ];
    for word in words {
        let mut socket = running.control_socket(&role, id).await;
        socket.say(Message::text(word.clone())).await;
        assert_eq!(socket.closed().await, 1008, "{word}");
    }
    let mut socket = running.control_socket(&role, id).await;
    socket.say(Message::binary(opening(&token))).await;
    assert_eq!(socket.closed().await, 1008, "a first word that is no text");
    // None of these has used it up.
    let mut open = running.control_socket(&role, id).await;
    open.say(Message::text(opening(&token))).await;
    open.ping().await;
    let mut again = running.control_socket(&role, id).await;
    again.say(Message::text(opening(&token))).await;
    assert_eq!(again.closed().await, 1008);
    open.ping().await;
    let late = running.control_token(&role, id).await;
    let mut socket = running.control_socket(&role, id).await;
    running.clock.set(NOW.plus(60));
    socket.say(Message::text(opening(&late))).await;
    assert_eq!(socket.closed().await, 1008, "a token a minute old");
}

#[tokio::test]
async fn a_machine_that_opens_channels_in_silence_keeps_out_itself_alone() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let (other, _other_agent, other_role) = running.managed().await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        let mut socket = running.control_socket(&role, id).await;
        let waited = std::time::Duration::from_millis(100);
        assert!(tokio::time::timeout(waited, socket.next()).await.is_err(), "it has a place");
        silent.push(socket);
    }
    let token = running.control_token(&role, id).await;
    assert_eq!(running.control_socket(&role, id).await.closed().await, 1008, "one more than its own");
    running.control_channel(&other_role, other).await.ping().await;
    // One that says its token makes room, and so does one that leaves.
    silent[0].say(Message::text(opening(&token))).await;
    silent[0].ping().await;
    running.control_channel(&role, id).await.ping().await;
}

#[tokio::test]
async fn a_new_channel_takes_the_place_of_the_old() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let mut old = running.control_channel(&role, id).await;
    let mut new = running.control_channel(&role, id).await;
    assert_eq!(old.closed().await, 1000);
    new.ping().await;
}

#[tokio::test]
async fn a_channel_ends_with_what_allows_it() {
    for end in ROLE_ENDS {
        let running = start().await;
        let (id, _agent, role) = running.managed().await;
        let mut socket = running.control_channel(&role, id).await;
        let mut opened = running.control_socket(&role, id).await;
        let token = running.control_token(&role, id).await;
        let call = match end {
            "reset" => json("ssm", "AmazonSSM.ResetServiceSetting", &format!(r#"{{"SettingId":"{SETTING}"}}"#)),
            "terminate" => ec2(&format!("Action=TerminateInstances&InstanceId.1={id}")),
            "stop" => ec2(&format!("Action=StopInstances&InstanceId.1={id}")),
            _ => json("ssm", "AmazonSSM.DeregisterManagedInstance", &format!(r#"{{"InstanceId":"{id}"}}"#)),
        };
        let reply = running.send(&running.operator(), &call).await;
        assert_eq!(reply.status, 200, "{end}: {}", reply.body);
        // Without a word from the agent.
        assert_eq!(socket.closed().await, 1000, "{end}");
        opened.say(Message::text(opening(&token))).await;
        assert_eq!(opened.closed().await, 1000, "{end}, of a channel that was being opened");
    }
}

#[tokio::test]
async fn a_session_that_has_expired_is_not_heard_any_more() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let mut socket = running.control_channel(&role, id).await;
    running.clock.set(NOW.plus(3599));
    socket.ping().await;
    running.clock.set(NOW.plus(3600));
    socket.say(Message::Ping("late".into())).await;
    assert_eq!(socket.closed().await, 1000);
}

#[tokio::test]
async fn what_cannot_be_read_closes_the_channel_and_nothing_else() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let payload = b"{}";
    let frame = Frame {
        message_type: "agent_job_ack",
        created_ms: 1,
        sequence: 0,
        flags: 0,
        id: inborn_wire::uuid::Uuid::from_bytes([1; 16]),
        payload_type: 0,
        payload,
    };
    let good = frame.encode().unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let (digest, length) = (with(90, !good[90]), with(119, 200));
    for bytes in [vec![], vec![0; 4], good[..119].to_vec(), digest, length, vec![0xff; 142_000]] {
        let mut socket = running.control_channel(&role, id).await;
        socket.say(Message::binary(bytes)).await;
        assert_eq!(socket.closed().await, 1007);
    }
    let mut socket = running.control_channel(&role, id).await;
    // The region may hang up before all of it is written.
    let _ = futures_util::SinkExt::send(&mut socket.0, Message::binary(vec![0; 142_001])).await;
    assert!([1006, 1009].contains(&socket.closed().await), "longer than any frame");
    let mut socket = running.control_channel(&role, id).await;
    socket.say(Message::binary(good)).await;
    socket.ping().await;
}

#[tokio::test]
async fn a_flood_closes_the_channel() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let mut socket = running.control_channel(&role, id).await;
    for _ in 0..2000 {
        if futures_util::SinkExt::send(&mut socket.0, Message::Ping("x".into())).await.is_err() {
            break;
        }
    }
    assert!([1006, 1008].contains(&socket.closed().await));
    running.control_channel(&role, id).await.ping().await;
}

#[tokio::test]
async fn requests_that_are_none_are_refused() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    for (body, said) in [
        ("{}", "ValidationException"),
        (r#"{"MessageSchemaVersion":"2.0","RequestId":"r"}"#, "ValidationException"),
        (r#"{"MessageSchemaVersion":"1.0","RequestId":""}"#, "ValidationException"),
        (r#"{"MessageSchemaVersion":"1.0","RequestId":"r","ControlChannelId":"i-1"}"#, "SerializationException"),
        ("[]", "SerializationException"),
        ("{", "SerializationException"),
    ] {
        let reply = running.send(&role, &create("control", &id.to_string(), body)).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.body);
        assert!(reply.body.starts_with(&format!("<{said}>")), "{body}: {}", reply.body);
    }
    for query in ["", "?role=subscribe", "?role=publish&stream=input", "?role=subscribe&stream=input&more=1"] {
        let call = open(&format!("/v1/control-channel/{id}{query}"));
        let text = upgrading(&running.signed(&role, &call));
        let Err(reply) = connect(running.address, &text).await else { panic!("{query}") };
        assert_eq!(reply.status, 400, "{query}");
    }
    let call = open(&format!("/v1/control-channel/{id}?role=subscribe&stream=input"));
    let reply = running.send(&role, &call).await;
    assert_eq!(reply.status, 426, "no WebSocket was asked for: {}", reply.body);
    for (method, target) in
        [("GET", "/"), ("POST", "/"), ("POST", "/v1/control-channel/"), ("PUT", "/v1/control-channel/i-1")]
    {
        let reply = running.send(&role, &Call { method, target: target.to_owned(), ..open("") }).await;
        assert_eq!((reply.status, reply.body.as_str()), (404, "<UnknownOperationException/>\n"), "{method} {target}");
    }
}

#[tokio::test]
async fn a_channel_is_audited_without_its_token() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let token = running.control_token(&role, id).await;
    let mut socket = running.control_socket(&role, id).await;
    socket.say(Message::text(opening(&token))).await;
    socket.ping().await;
    let lines = running.audit();
    for name in ["CreateControlChannel", "OpenControlChannel"] {
        let line = lines.iter().find(|line| line["eventName"] == name).unwrap();
        assert_eq!(line["eventSource"], "ssmmessages.amazonaws.com");
        assert_eq!(line["requestParameters"]["controlChannelId"], id.to_string());
    }
    let text = std::fs::read_to_string(running.directory.path().join("audit.jsonl")).unwrap();
    assert!(!text.contains(&token));
}
