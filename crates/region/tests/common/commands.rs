//! Commands, as operators send them and as agents that ask for messages take them.
#![allow(clippy::indexing_slicing, reason = "test harness")]

use std::time::Duration;

use inborn_identity::InstanceId;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Reply, Running, Signer, json as json_call};

/// The body of an answer.
pub fn body(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("{}", reply.body))
}

/// The code of a refusal.
pub fn code(reply: &Reply) -> String {
    body(reply).get("__type").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A reply of an agent to a command.
pub fn reply(status: &str, code: i32, stdout: &str, stderr: &str) -> Value {
    json!({
        "additionalInfo": {"agent": {"lang": "en-US", "name": "amazon-ssm-agent", "ver": "3.3.0.0"}},
        "documentStatus": status,
        "documentTraceOutput": "",
        "runtimeStatus": {"aws:runShellScript": {
            "status": status, "code": code, "name": "aws:runShellScript", "output": stdout,
            "startDateTime": "2027-01-15T08:00:01.500Z", "endDateTime": "2027-01-15T08:00:03.000Z",
            "standardOutput": stdout, "standardError": stderr,
        }},
    })
}

impl Running {
    /// A machine whose agent has registered and spoken, with the session that it was given.
    pub async fn node(&self) -> (InstanceId, Signer) {
        let (id, _agent, session) = self.managed().await;
        self.speaks(id, &session, "Linux").await;
        (id, session)
    }

    pub async fn speaks(&self, id: InstanceId, session: &Signer, platform: &str) {
        let facts = json!({"InstanceId": id.to_string(), "AgentVersion": "3.3.0.0", "PlatformType": platform, "ComputerName": "web-1"});
        let call = json_call("ssm", "AmazonSSM.UpdateInstanceInformation", &facts.to_string());
        assert_eq!(self.send(session, &call).await.status, 200);
    }

    /// A call of Systems Manager by the operator.
    pub async fn ssm(&self, operation: &str, input: Value) -> Reply {
        self.send(&self.operator(), &json_call("ssm", &format!("AmazonSSM.{operation}"), &input.to_string())).await
    }

    /// Sends a command that runs `true`, and gives its id.
    pub async fn command(&self, mut input: Value) -> String {
        input["DocumentName"] = "AWS-RunShellScript".into();
        input["Parameters"] = json!({"commands": ["true"]});
        let reply = self.ssm("SendCommand", input).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        body(&reply)["Command"]["CommandId"].as_str().unwrap().to_owned()
    }

    /// A call of the message delivery by an agent.
    pub async fn message(&self, session: &Signer, operation: &str, input: Value) -> Reply {
        let target = format!("EC2WindowsMessageDeliveryService.{operation}");
        self.send(session, &json_call("ec2messages", &target, &input.to_string())).await
    }

    /// What an agent that asks is told.
    pub async fn poll(&self, id: InstanceId, session: &Signer) -> Vec<Value> {
        let input = json!({"Destination": id.to_string(), "MessagesRequestId": "r", "VisibilityTimeoutInSeconds": 10});
        let reply = self.message(session, "GetMessages", input).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        body(&reply)["Messages"].as_array().unwrap().clone()
    }

    /// Whether an agent that asks is told nothing, and gives up.
    pub async fn waits_in_vain(&self, id: InstanceId, session: &Signer) -> bool {
        let input = json!({"Destination": id.to_string(), "MessagesRequestId": "r"});
        let call = json_call("ec2messages", "EC2WindowsMessageDeliveryService.GetMessages", &input.to_string());
        // As agents do: a server notices the end of a connection only if it would read from it again.
        let text = self.signed(session, &call).replacen("connection: close", "connection: keep-alive", 1);
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(300), stream.read_u8()).await;
        drop(stream);
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer.is_err()
    }

    /// An agent takes its message and says how it went.
    pub async fn answer(&self, session: &Signer, message: &Value, reply: &Value) {
        let id = &message["MessageId"];
        assert_eq!(self.message(session, "AcknowledgeMessage", json!({"MessageId": id})).await.status, 200);
        let input = json!({"MessageId": id, "ReplyId": "1", "Payload": reply.to_string()});
        let answer = self.message(session, "SendReply", input).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// What has become of a command on a machine.
    pub async fn invocation(&self, command: &str, id: InstanceId) -> Value {
        let input = json!({"CommandId": command, "InstanceId": id.to_string()});
        body(&self.ssm("GetCommandInvocation", input).await)
    }

    /// The details of the status of an invocation.
    pub async fn details(&self, command: &str, id: InstanceId) -> String {
        self.invocation(command, id).await["StatusDetails"].as_str().unwrap_or_default().to_owned()
    }

    /// A command as it is listed.
    pub async fn listed(&self, command: &str) -> Value {
        body(&self.ssm("ListCommands", json!({"CommandId": command})).await)["Commands"][0].clone()
    }
}
