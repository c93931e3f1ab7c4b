//! The JSON in the frames, and in the text with which a channel begins.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A job for an agent.
pub const AGENT_JOB: &str = "agent_job";
/// The agent has it, or refuses it.
pub const AGENT_JOB_ACK: &str = "agent_job_ack";
/// How far the job is.
pub const AGENT_JOB_REPLY: &str = "agent_job_reply";
/// We have that reply.
pub const AGENT_JOB_REPLY_ACK: &str = "agent_job_reply_ack";
/// A session to be opened. All kinds of session come under this name.
pub const INTERACTIVE_SHELL: &str = "interactive_shell";
/// The agent has ended a session.
pub const AGENT_TASK_COMPLETE: &str = "agent_task_complete";
/// We know that it has.
pub const AGENT_TASK_ACKNOWLEDGE: &str = "agent_task_acknowledge";
/// A session is over.
pub const CHANNEL_CLOSED: &str = "channel_closed";
/// Where the agent's side of a session is.
pub const AGENT_SESSION_STATE: &str = "agent_session_state";
/// Bytes towards the agent.
pub const INPUT_STREAM_DATA: &str = "input_stream_data";
/// Bytes from the agent.
pub const OUTPUT_STREAM_DATA: &str = "output_stream_data";
/// One side of a session has a piece of its stream.
pub const ACKNOWLEDGE: &str = "acknowledge";

/// The schema of all payloads that have one.
pub const SCHEMA: u32 = 1;

/// Writes a payload.
#[must_use]
pub fn encode(payload: &impl Serialize) -> Vec<u8> {
    // Texts and numbers in structures: nothing here can fail.
    serde_json::to_vec(payload).unwrap_or_default()
}

/// Reads a payload; `None` if it is not what was asked for. Members that nobody knows are passed over: later agents send
/// more.
#[must_use]
pub fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Option<T> {
    serde_json::from_slice(payload).ok()
}

/// [`AGENT_JOB`], and [`INTERACTIVE_SHELL`] but for the name of its id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentJob<'a> {
    /// [`SCHEMA`].
    pub schema_version: u32,
    /// As in `aws.ssm.COMMAND.INSTANCE`.
    pub job_id: &'a str,
    /// As in `aws.ssm.sendCommand`.
    pub topic: &'a str,
    /// JSON, as a text.
    pub content: &'a str,
}

/// [`AGENT_JOB_ACK`].
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentJobAck {
    /// The job.
    pub job_id: String,
    /// `200`, or why the job is refused: `514xx`.
    #[serde(default)]
    pub status_code: String,
    /// The same in words.
    #[serde(default)]
    pub error_message: String,
}

/// [`AGENT_JOB_REPLY`].
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentJobReply {
    /// The job.
    pub job_id: String,
    /// JSON, as a text.
    #[serde(default)]
    pub content: String,
    /// As in `aws.ssm.sendCommand`.
    #[serde(default)]
    pub topic: String,
}

/// [`AGENT_JOB_REPLY_ACK`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentJobReplyAck<'a> {
    /// The job.
    pub job_id: &'a str,
    /// The frame that carried the reply.
    pub acknowledged_message_id: &'a str,
}

/// [`INTERACTIVE_SHELL`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InteractiveShell<'a> {
    /// [`SCHEMA`].
    pub schema_version: u32,
    /// The session.
    pub task_id: &'a str,
    /// Agents do not look at it.
    pub topic: &'a str,
    /// JSON, as a text.
    pub content: &'a str,
}

/// [`AGENT_TASK_COMPLETE`].
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentTaskComplete {
    /// The session.
    pub task_id: String,
    /// How it ended.
    #[serde(default)]
    pub final_task_status: String,
    /// What the person at the other end should be told; empty when all went well.
    #[serde(default)]
    pub output: String,
}

/// [`AGENT_TASK_ACKNOWLEDGE`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentTaskAcknowledge<'a> {
    /// [`SCHEMA`].
    pub schema_version: u32,
    /// The frame that is acknowledged.
    pub message_id: &'a str,
    /// The session.
    pub task_id: &'a str,
    /// What kind of frame that was.
    pub topic: &'a str,
}

/// [`CHANNEL_CLOSED`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChannelClosed {
    /// [`CHANNEL_CLOSED`] again.
    pub message_type: String,
    /// A UUID.
    pub message_id: String,
    /// The session.
    pub destination_id: String,
    /// The session.
    pub session_id: String,
    /// [`SCHEMA`].
    pub schema_version: u32,
    /// ISO 8601.
    pub created_date: String,
    /// What the person should be told; empty for nothing.
    pub output: String,
}

/// [`AGENT_SESSION_STATE`].
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentSessionState {
    /// `Connected` or `Terminating`.
    pub session_state: String,
    /// The session.
    #[serde(default)]
    pub session_id: String,
}

/// The text with which a channel begins.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OpenChannel {
    /// What the channel was granted with.
    pub token_value: String,
    /// Who opens the agent's side of a session.
    #[serde(default)]
    pub client_instance_id: Option<String>,
    /// Who opens the other side.
    #[serde(default)]
    pub client_id: Option<String>,
}

/// The token opens the channel.
impl fmt::Debug for OpenChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenChannel").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(payload: &impl Serialize) -> String {
        String::from_utf8(encode(payload)).unwrap()
    }

    #[test]
    fn what_agents_are_sent() {
        let job = AgentJob {
            schema_version: SCHEMA,
            job_id: "aws.ssm.c.i",
            topic: "aws.ssm.sendCommand",
            content: "{\"a\":1}",
        };
        let expected =
            r#"{"SchemaVersion":1,"JobId":"aws.ssm.c.i","Topic":"aws.ssm.sendCommand","Content":"{\"a\":1}"}"#;
        assert_eq!(text(&job), expected);
        let ack = AgentJobReplyAck { job_id: "j", acknowledged_message_id: "m" };
        assert_eq!(text(&ack), r#"{"jobId":"j","acknowledgedMessageId":"m"}"#);
        let shell = InteractiveShell { schema_version: SCHEMA, task_id: "s", topic: "t", content: "{}" };
        assert_eq!(text(&shell), r#"{"SchemaVersion":1,"TaskId":"s","Topic":"t","Content":"{}"}"#);
        let done = AgentTaskAcknowledge { schema_version: SCHEMA, message_id: "m", task_id: "s", topic: "t" };
        assert_eq!(text(&done), r#"{"SchemaVersion":1,"MessageId":"m","TaskId":"s","Topic":"t"}"#);
    }

    #[test]
    fn what_agents_send() {
        let ack = br#"{"jobId":"j","acknowledgedMessageId":"m","createdDate":"d","statusCode":"200","errorMessage":"Successful"}"#;
        let ack: AgentJobAck = decode(ack).unwrap();
        assert_eq!((ack.job_id.as_str(), ack.status_code.as_str()), ("j", "200"));
        let reply: AgentJobReply = decode(br#"{"schemaVersion":1,"jobId":"j","content":"{}","topic":"t"}"#).unwrap();
        assert_eq!(reply, AgentJobReply { job_id: "j".into(), content: "{}".into(), topic: "t".into() });
        let state = br#"{"SchemaVersion":1,"SessionState":"Terminating","SessionId":"s"}"#;
        assert_eq!(decode::<AgentSessionState>(state).unwrap().session_state, "Terminating");
        let complete =
            br#"{"SchemaVersion":1,"TaskId":"s","Topic":"t","FinalTaskStatus":"Success","Output":"","Surprise":{}}"#;
        assert_eq!(decode::<AgentTaskComplete>(complete).unwrap().final_task_status, "Success");
        for broken in [&b""[..], b"[]", b"{}", b"{\"jobId\":1}", b"\xff"] {
            assert_eq!(decode::<AgentJobAck>(broken), None);
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let first = br#"{"Cookie":null,"MessageSchemaVersion":"1.0","RequestId":"r","TokenValue":"secret","AgentVersion":"3.3.0.0"}"#;
        let opening: OpenChannel = decode(first).unwrap();
        assert_eq!(opening.token_value, "secret");
        assert!(!format!("{opening:?}").contains("secret"));
    }
}
