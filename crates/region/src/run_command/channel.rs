//! Commands over control channels: what agents say of them, and that they have come.

use std::sync::Arc;

use inborn_identity::InstanceId;
use inborn_wire::message_gateway::payload::{self, AGENT_JOB_REPLY_ACK, AgentJobAck, AgentJobReply, AgentJobReplyAck};
use inborn_wire::message_gateway::report::Report;

use super::read_job_id;
use crate::RegionServer;
use crate::channels::{Done, Heard};

/// What says that an agent has taken a job; anything else is why it has not.
const TAKEN: &str = "200";

/// An agent has its channel open: what it was told over the one before may be lost.
pub(crate) fn arrived(region: &Arc<RegionServer>, instance: InstanceId) -> Done<'_> {
    Box::pin(async move {
        if let Err(error) = region.run_command().arrived(instance).await {
            tracing::debug!(%instance, %error, "a machine that has come is not told of commands");
        }
    })
}

/// `agent_job_ack`: an agent has a job, or refuses it.
pub(crate) fn job_ack(heard: Heard<'_>) -> Done<'_> {
    Box::pin(async move {
        let Some(ack) = payload::decode::<AgentJobAck>(heard.frame.payload) else { return };
        let Some(command) = own(&heard, &ack.job_id) else { return };
        let run_command = heard.region.run_command();
        let stored = if ack.status_code == TAKEN {
            run_command.acknowledged(command, heard.instance).await
        } else {
            let why = format!("The agent refuses the command: {} {}", ack.status_code, ack.error_message);
            run_command.refused(command, heard.instance, &why).await
        };
        if let Err(error) = stored {
            tracing::debug!(instance = %heard.instance, %error, "what an agent says of a job is not stored");
        }
    })
}

/// `agent_job_reply`: how far it is. The agent says it again, every few minutes for two hours, until it is told that we know:
/// within a second.
pub(crate) fn job_reply(heard: Heard<'_>) -> Done<'_> {
    Box::pin(async move {
        let Some(reply) = payload::decode::<AgentJobReply>(heard.frame.payload) else { return };
        if let (Some(command), Some(report)) = (own(&heard, &reply.job_id), Report::read(&reply.content))
            && let Err(error) = heard.region.run_command().reported(command, heard.instance, report).await
        {
            tracing::debug!(instance = %heard.instance, %error, "what an agent says of a job is not stored");
            return;
        }
        // What cannot be read will not be read better next time.
        let message_id = heard.frame.id.to_string();
        let ack = AgentJobReplyAck { job_id: &reply.job_id, acknowledged_message_id: &message_id };
        if let Err(error) = heard.region.tell_agent(heard.instance, AGENT_JOB_REPLY_ACK, &payload::encode(&ack)) {
            tracing::debug!(instance = %heard.instance, %error, "a reply is not acknowledged");
        }
    })
}

/// The command that a job is, if it is the machine's own.
fn own<'a>(heard: &Heard<'_>, job_id: &'a str) -> Option<&'a str> {
    read_job_id(job_id).filter(|(_, instance)| *instance == heard.instance).map(|(command, _)| command)
}
