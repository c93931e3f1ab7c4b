//! The messages that agents are sent: their names and contents. Source: seen on the wire.

use inborn_identity::InstanceId;
use inborn_store::Command;
use inborn_wire::message_gateway::payload::{self, AgentJob, SCHEMA};
use inborn_wire::message_gateway::{FRAME_BYTES_MAX, HEADER_BYTES};
use serde_json::{Map, Value, json};

/// The longest payload of a frame that agents take.
pub(crate) const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES - 4;

/// What an agent is told about a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Job {
    /// Its name: agents do what they have been told under one name once.
    pub(crate) id: String,
    pub(crate) topic: &'static str,
    /// JSON, as a text.
    pub(crate) content: String,
}

impl Job {
    /// The command itself.
    pub(super) fn run(command: &Command, document: &Value, instance: InstanceId) -> Self {
        let parameters: Map<String, Value> = serde_json::from_str(&command.parameters).unwrap_or_default();
        let content = json!({
            "CommandId": command.id,
            "DocumentName": command.document_name,
            "DocumentContent": document,
            "Parameters": parameters,
            "OutputS3BucketName": "",
            "OutputS3KeyPrefix": "",
            "CloudWatchLogGroupName": "",
            "CloudWatchOutputEnabled": "false",
        });
        Self { id: job_id(&command.id, instance), topic: "aws.ssm.sendCommand", content: content.to_string() }
    }

    /// That the command is to be ended. `name` is a UUID of its own.
    pub(super) fn cancel(command: &str, instance: InstanceId, name: &str) -> Self {
        let content = json!({"CancelMessageId": job_id(command, instance)});
        Self { id: job_id(name, instance), topic: "aws.ssm.cancelCommand", content: content.to_string() }
    }

    /// As the payload of a frame.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let (job_id, topic, content) = (self.id.as_str(), self.topic, self.content.as_str());
        payload::encode(&AgentJob { schema_version: SCHEMA, job_id, topic, content })
    }
}

/// The name of a command's message for a machine.
fn job_id(command: &str, instance: InstanceId) -> String {
    format!("aws.ssm.{command}.{instance}")
}

/// The command and the machine that a message's name tells of.
pub(crate) fn read_job_id(id: &str) -> Option<(&str, InstanceId)> {
    let (command, instance) = id.strip_prefix("aws.ssm.")?.split_once('.')?;
    Some((command, instance.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "i-00fe00000000010001";

    #[test]
    fn names_and_back() {
        let instance: InstanceId = InstanceId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let id = job_id("c-1", instance);
        assert_eq!(read_job_id(&id), Some(("c-1", instance)));
        for bad in ["", "aws.ssm.", "aws.ssm.c", "aws.ssm.c.x", &format!("c.{ID}"), &format!("{id}.x")] {
            assert_eq!(read_job_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_cancellation_names_the_message_that_it_is_about() {
        let instance = InstanceId::from_bytes([0; 9]);
        let job = Job::cancel("c-1", instance, "n-1");
        assert_eq!(job.content, format!(r#"{{"CancelMessageId":"aws.ssm.c-1.{instance}"}}"#));
        assert_eq!((job.id, job.topic), (format!("aws.ssm.n-1.{instance}"), "aws.ssm.cancelCommand"));
    }

    proptest! {
        #[test]
        fn no_name_panics(id in "(aws.ssm.)?[a-z0-9.-]{0,60}") {
            let _ = read_job_id(&id);
        }
    }
}
