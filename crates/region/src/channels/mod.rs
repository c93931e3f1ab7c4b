//! Control channels: which agents are connected, and what is said to them and by them.
//!
//! A channel is a WebSocket that an agent keeps open. It belongs to one machine, lives as long as the session that opened it
//! (see [`RegionServer::holds`]), and ends when the agent opens another. What is to be said goes through a queue of its own;
//! what an agent says goes to whom `incoming::HANDLERS` names. Nothing here is stored: an agent that was cut off comes back.

mod control;
mod grants;
mod incoming;
mod openings;
mod sealed;
pub(crate) mod socket;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use inborn_credential::Claims;
use inborn_identity::InstanceId;
use inborn_store::{Instance, InstanceState};
use inborn_wire::message_gateway::Frame;
use inborn_wire::uuid::Uuid;
use tokio::sync::mpsc;

use crate::RegionServer;
use crate::gateway::new_uuid;
use crate::machines::Observer;

pub(crate) use control::{Pace, converse, opening};
pub(crate) use grants::{Grants, GrantsFull};
pub(crate) use incoming::{Done, Heard};
pub(crate) use openings::{Openings, Place};

/// Frames that wait for one agent to take them.
const QUEUE_FRAMES_MAX: usize = 64;
/// Sockets that have not said yet with which token they were opened.
const OPENING_MAX: usize = 1024;

/// Why an agent is not told something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// It has no channel open.
    #[error("the agent is not connected")]
    NotConnected,
    /// It does not take what it was told before.
    #[error("the agent does not take the {QUEUE_FRAMES_MAX} messages that wait for it")]
    Busy,
    /// No frame holds it.
    #[error("the message is too long for a frame")]
    TooLong,
}

/// The channels that are open.
pub(crate) struct Channels {
    open: Mutex<HashMap<InstanceId, Link>>,
    /// Grants of control channels that were not used yet.
    pub(crate) grants: Grants<InstanceId>,
    openings: Openings<InstanceId>,
}

/// Our end of a channel. It closes when this is dropped.
struct Link {
    /// Tells it from the one that the same machine opens next.
    serial: Uuid,
    claims: Arc<Claims>,
    to_agent: mpsc::Sender<Bytes>,
}

impl Channels {
    pub(crate) fn new() -> Self {
        Self { open: Mutex::default(), grants: Grants::default(), openings: Openings::new(OPENING_MAX) }
    }

    /// Whether the agent of a machine has its channel open.
    pub(crate) fn is_connected(&self, instance: InstanceId) -> bool {
        self.links().contains_key(&instance)
    }

    /// Tells an agent something, and gives the name of the frame: queued, not delivered.
    pub(crate) fn send(
        &self,
        instance: InstanceId,
        message_type: &str,
        payload: &[u8],
        created_ms: u64,
    ) -> Result<Uuid, SendError> {
        let id = new_uuid();
        let frame = Frame { message_type, created_ms, sequence: 0, flags: 0, id, payload_type: 0, payload };
        let frame = frame.encode().map_err(|_| SendError::TooLong)?;
        match self.links().get(&instance) {
            None => Err(SendError::NotConnected),
            Some(link) => match link.to_agent.try_send(frame.into()) {
                Ok(()) => Ok(id),
                Err(mpsc::error::TrySendError::Full(_)) => Err(SendError::Busy),
                Err(mpsc::error::TrySendError::Closed(_)) => Err(SendError::NotConnected),
            },
        }
    }

    /// Closes the channels of the sessions that are no longer good.
    pub(crate) fn keep(&self, is_good: impl Fn(&Claims) -> bool) {
        self.links().retain(|_, link| is_good(&link.claims));
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.links().len()
    }

    /// A new channel takes the place of the one that the machine had. Gives its name, and what it is to be told.
    fn enter(&self, claims: &Arc<Claims>) -> (Uuid, mpsc::Receiver<Bytes>) {
        let (to_agent, outgoing) = mpsc::channel(QUEUE_FRAMES_MAX);
        let serial = new_uuid();
        self.links().insert(claims.instance, Link { serial, claims: Arc::clone(claims), to_agent });
        (serial, outgoing)
    }

    /// A channel has ended; the one that took its place has not.
    fn leave(&self, instance: InstanceId, serial: Uuid) {
        let mut links = self.links();
        if links.get(&instance).is_some_and(|link| link.serial == serial) {
            links.remove(&instance);
        }
    }

    fn links(&self) -> std::sync::MutexGuard<'_, HashMap<InstanceId, Link>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A machine that is off or that was started anew has nobody at the other end who may still be heard.
impl Observer for Channels {
    fn changed(&self, instance: &Arc<Instance>) {
        let is_over =
            |claims: &Claims| instance.state != InstanceState::Running || claims.issued_at < instance.launch_time;
        let mut links = self.links();
        if links.get(&instance.id).is_some_and(|link| is_over(&link.claims)) {
            links.remove(&instance.id);
        }
    }
}

impl RegionServer {
    /// Tells an agent something over its control channel, and gives the name of the frame.
    ///
    /// # Errors
    /// See [`SendError`]. What is queued may still get lost with the channel: agents acknowledge what they have.
    pub(crate) fn tell_agent(
        &self,
        instance: InstanceId,
        message_type: &str,
        payload: &[u8],
    ) -> Result<Uuid, SendError> {
        self.channels.send(instance, message_type, payload, self.now().as_secs().saturating_mul(1000))
    }
}

#[cfg(test)]
mod tests;
