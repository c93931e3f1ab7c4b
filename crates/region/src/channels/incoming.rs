//! What is done with what agents say over their control channels, and when they come.

use core::future::Future;
use core::pin::Pin;
use std::sync::Arc;

use inborn_identity::InstanceId;
use inborn_wire::message_gateway::Frame;
use inborn_wire::message_gateway::payload::{
    self, AGENT_JOB_ACK, AGENT_JOB_REPLY, AGENT_TASK_ACKNOWLEDGE, AGENT_TASK_COMPLETE, AgentTaskAcknowledge,
    AgentTaskComplete, SCHEMA,
};

use crate::{RegionServer, run_command, sessions};

/// What the agent of a machine said. Which machine is known from the channel, and nothing in the frame can change it.
pub(crate) struct Heard<'a> {
    pub(crate) region: &'a Arc<RegionServer>,
    pub(crate) instance: InstanceId,
    pub(crate) frame: Frame<'a>,
}

/// The channel waits until this is done with one message before it reads the next.
pub(crate) type Handler = for<'a> fn(Heard<'a>) -> Done<'a>;
/// What is done when an agent has opened its channel.
pub(crate) type Greeting = for<'a> fn(&'a Arc<RegionServer>, InstanceId) -> Done<'a>;
pub(crate) type Done<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// By message type. What is not here is passed over: agents also send what nobody asked for, such as telemetry.
static HANDLERS: &[(&str, Handler)] = &[
    (AGENT_JOB_ACK, run_command::job_ack),
    (AGENT_JOB_REPLY, run_command::job_reply),
    (AGENT_TASK_COMPLETE, task_complete),
];

/// In this order, each time an agent opens its channel.
static GREETINGS: &[Greeting] = &[run_command::arrived, sessions::arrived];

/// Hands a message to whom it concerns.
pub(super) async fn hear(region: &Arc<RegionServer>, instance: InstanceId, frame: Frame<'_>) {
    match HANDLERS.iter().find(|(message_type, _)| *message_type == frame.message_type) {
        Some((_, handler)) => handler(Heard { region, instance, frame }).await,
        None => tracing::debug!(%instance, "a message of a type that is not known was passed over"),
    }
}

/// An agent has opened its channel.
pub(super) async fn connected(region: &Arc<RegionServer>, instance: InstanceId) {
    for greeting in GREETINGS {
        greeting(region, instance).await;
    }
}

/// The agent says that a session has ended, until it is told that we know.
fn task_complete(heard: Heard<'_>) -> Done<'_> {
    Box::pin(async move {
        let Some(complete) = payload::decode::<AgentTaskComplete>(heard.frame.payload) else { return };
        sessions::completed(heard.region, heard.instance, &complete.task_id, &complete.output);
        let message_id = heard.frame.id.to_string();
        let acknowledge = AgentTaskAcknowledge {
            schema_version: SCHEMA,
            message_id: &message_id,
            task_id: &complete.task_id,
            topic: AGENT_TASK_COMPLETE,
        };
        let payload = payload::encode(&acknowledge);
        if let Err(error) = heard.region.tell_agent(heard.instance, AGENT_TASK_ACKNOWLEDGE, &payload) {
            tracing::debug!(instance = %heard.instance, %error, "the end of a session is not acknowledged");
        }
    })
}
