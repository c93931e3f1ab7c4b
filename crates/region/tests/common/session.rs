//! Sessions of Session Manager, with an operator at one end and an agent at the other.
#![allow(clippy::indexing_slicing, reason = "test harness")]

use inborn_identity::InstanceId;
use inborn_wire::message_gateway::Frame;
use inborn_wire::uuid::Uuid;
use serde_json::{Value, json as value};
use tokio_tungstenite::tungstenite::Message;

use super::channel::{BODY, Socket, connect, create, open, opening, upgrading};
use super::{Reply, Running, Signer, between, json, start};

/// A machine, its agent's control channel, and a session on it.
pub struct Scene {
    pub running: Running,
    pub id: InstanceId,
    pub role: Signer,
    pub control: Socket,
    pub session: String,
    pub token: String,
}

impl Running {
    pub async fn asked(&self, operation: &str, body: &Value) -> (u16, Value) {
        let call = json("ssm", &format!("AmazonSSM.{operation}"), &body.to_string());
        let reply = self.send(&self.operator(), &call).await;
        (reply.status, serde_json::from_str(&reply.body).unwrap())
    }

    pub async fn done(&self, operation: &str, body: Value) -> Value {
        let (status, answer) = self.asked(operation, &body).await;
        assert_eq!(status, 200, "{operation}: {answer}");
        answer
    }

    pub async fn agent_side(&self, role: &Signer, session: &str) -> Socket {
        let mut socket = self.agent_side_at_once(role, session).await;
        socket.ping().await;
        socket
    }

    /// Without waiting until the region has understood: what waits for the agent may come first.
    pub async fn agent_side_at_once(&self, role: &Signer, session: &str) -> Socket {
        let reply = self.send(role, &create("data", session, BODY)).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        let token = between(&reply.body, "<TokenValue>", "</TokenValue>").to_owned();
        let call = open(&format!("/v1/data-channel/{session}?role=publish_subscribe"));
        let text = upgrading(&self.signed(role, &call));
        let mut socket = connect(self.address, &text).await.unwrap_or_else(|reply| panic!("{}", reply.body));
        socket.say(Message::text(opening(&token))).await;
        socket
    }

    /// The client's side, which signs nothing.
    pub async fn client_socket(&self, session: &str) -> Result<Socket, Reply> {
        let text = format!(
            "GET /v1/data-channel/{session}?role=publish_subscribe HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.address
        );
        connect(self.address, &upgrading(&text)).await
    }

    pub async fn client_side(&self, session: &str, token: &str) -> Socket {
        let mut socket = self.client_side_at_once(session, token).await;
        socket.ping().await;
        socket
    }

    pub async fn client_side_at_once(&self, session: &str, token: &str) -> Socket {
        let mut socket = self.client_socket(session).await.unwrap_or_else(|reply| panic!("{}", reply.body));
        let first = value!({"MessageSchemaVersion": "1.0", "RequestId": "r", "TokenValue": token, "ClientId": "c"});
        socket.say(Message::text(first.to_string())).await;
        socket
    }
}

pub async fn scene() -> Scene {
    scene_on(start().await).await
}

pub async fn scene_on(running: Running) -> Scene {
    let (id, _agent, role) = running.managed().await;
    let mut control = running.control_channel(&role, id).await;
    let started = running.done("StartSession", value!({"Target": id.to_string(), "Reason": "a look"})).await;
    let session = started["SessionId"].as_str().unwrap().to_owned();
    let token = started["TokenValue"].as_str().unwrap().to_owned();
    let told = control.receive().await;
    assert_eq!(told.message_type, "interactive_shell");
    let told: Value = serde_json::from_str(&told.payload).unwrap();
    assert_eq!((&told["SchemaVersion"], &told["TaskId"]), (&value!(1), &value!(session)));
    Scene { running, id, role, control, session, token }
}

pub fn bytes(message_type: &str, sequence: i64, payload: &[u8]) -> Vec<u8> {
    let id = Uuid::from_bytes([7; 16]);
    Frame { message_type, created_ms: 1, sequence, flags: 0, id, payload_type: 1, payload }.encode().unwrap()
}
