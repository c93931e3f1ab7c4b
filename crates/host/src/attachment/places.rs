//! Attachments to places: made, looked after while their place comes and goes, and tidied up.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use inborn_identity::{Clock, InstanceId};
use tokio::sync::Mutex as AsyncMutex;

use super::virtual_machines::AbortOnDrop;
use super::{Attached, Host, Kind};
use crate::machine::{Issuer, Machine};
use crate::metadata::MetadataLimits;
use crate::metrics::Metrics;
use crate::place::{Holder, Mark, Place, PlaceError, Traces, open};

/// After how many looks a place that could not be listened at is tried again.
const RETRY_LOOKS: u32 = 10;
/// How long the listeners of an attachment may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A machine whose place has gone for good: its attachment is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Which machine.
    pub instance: InstanceId,
    /// Where it was.
    pub place: Place,
}

/// What a look at every place has shown.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Looked {
    /// Attachments that are over.
    pub lost: Vec<Lost>,
    /// Machines whose place is there again, with another thing of its name.
    pub back: Vec<InstanceId>,
}

/// What a host remembers of places beside its attachments.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) traces: Traces,
    /// Attachments that are over, and have traces.
    leaving: Mutex<Vec<Arc<Attached>>>,
    /// Accepts the connections of virtual machines, once there is one.
    pub(super) virtual_machines: OnceLock<AbortOnDrop>,
    /// One at a time opens, closes and tidies, so that what one takes away is never what another has just found.
    pub(super) turn: AsyncMutex<Looks>,
}

/// How many looks a machine's place is left alone for.
type Looks = std::collections::HashMap<InstanceId, u32>;

impl Places {
    pub(super) fn new(traces: Traces) -> Self {
        Self { traces, leaving: Mutex::default(), virtual_machines: OnceLock::new(), turn: AsyncMutex::default() }
    }

    /// Leaves an attachment that is over to be tidied up.
    pub(super) fn leave(&self, attached: Arc<Attached>) {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).push(attached);
    }

    /// Tidies up after attachments that are over: their sockets are closed when this returns, and their traces gone.
    async fn tidy(&self) {
        let leaving = std::mem::take(&mut *self.leaving.lock().unwrap_or_else(PoisonError::into_inner));
        for attached in leaving {
            self.take_away(&attached).await;
        }
    }

    /// Waits for the sockets of an attachment that has fallen silent, and takes its traces away.
    async fn take_away(&self, attached: &Attached) {
        let tasks = std::mem::take(&mut attached.serving().tasks);
        for task in tasks {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, task).await;
        }
        if let Some(holder) = attached.holder() {
            self.traces.undo(&holder).await;
        }
    }
}

impl Host {
    /// A host that writes down in `record` what it puts into the kernel's network state, and first takes away what an
    /// earlier one has left there.
    ///
    /// # Errors
    /// The record cannot be read; there is no randomness.
    pub async fn open(
        clock: Arc<dyn Clock>,
        issuer: Arc<dyn Issuer>,
        metrics: Metrics,
        limits: MetadataLimits,
        record: PathBuf,
    ) -> io::Result<Arc<Self>> {
        let traces = Traces::open(record)?;
        traces.undo_all().await;
        Self::with_traces(clock, issuer, metrics, limits, traces)
    }

    /// Attaches a machine to a place; says which thing of that name it is. With `once`, the attachment is over when that
    /// thing is gone; else it holds for the next thing of that name too.
    ///
    /// # Errors
    /// The place is not there, is another machine's, or cannot be listened at. An earlier attachment then stays.
    pub async fn attach_place(&self, machine: Machine, place: Place, once: bool) -> Result<Mark, PlaceError> {
        let _turn = self.places.turn.lock().await;
        self.places.tidy().await;
        let instance = machine.id();
        if let Some(mark) = self.is_at(instance, &place, once)? {
            return Ok(mark);
        }
        let is_here = self.attachment(instance).is_some_and(|kind| kind.place() == Some(&place));
        if is_here {
            // Two cannot listen at one place, also if they are one machine's.
            self.detach(instance);
            self.places.tidy().await;
        }
        let holder = Holder { instance, place: place.clone() };
        let opened = match open(&place, &holder, &self.places.traces).await {
            Ok(opened) => opened,
            Err(error) => {
                self.places.traces.undo(&holder).await;
                return Err(error);
            }
        };
        if matches!(place, Place::Vsock { .. }) {
            self.hear_virtual_machines()?;
        }
        let mark = opened.mark.clone();
        let attached = self.insert(machine, Kind::At(place), once);
        attached.serve(opened.listeners, Some(opened.mark), &self.service);
        self.places.tidy().await;
        Ok(mark)
    }

    /// Attaches a machine to a place that is not there or cannot be used now, to be listened at once it can.
    ///
    /// # Errors
    /// The place is another machine's.
    pub async fn await_place(&self, machine: Machine, place: Place, trouble: String) -> Result<(), PlaceError> {
        let _turn = self.places.turn.lock().await;
        self.is_at(machine.id(), &place, false)?;
        let attached = self.insert(machine, Kind::At(place), false);
        attached.serving().trouble = Some(trouble);
        Ok(())
    }

    /// The mark of the place if it is this machine's already and nothing has changed.
    fn is_at(&self, instance: InstanceId, place: &Place, once: bool) -> Result<Option<Mark>, PlaceError> {
        let all = self.lock();
        let holder = all.iter().find(|(_, attached)| attached.kind.place() == Some(place));
        let Some((holder, attached)) = holder else { return Ok(None) };
        if *holder != instance {
            return Err(PlaceError::Taken { place: place.clone(), holder: *holder });
        }
        let mark = attached.serving().mark.clone();
        Ok(mark.filter(|mark| attached.once == once && place.mark().is_ok_and(|now| now.as_ref() == Some(mark))))
    }

    /// Why a machine that is attached is not listened to.
    #[must_use]
    pub fn trouble(&self, id: InstanceId) -> Option<String> {
        let attached = self.lock().get(&id).cloned();
        attached.and_then(|attached| attached.serving().trouble.clone())
    }

    /// Whether nothing listens for a machine that is attached.
    #[must_use]
    pub fn is_silent(&self, id: InstanceId) -> bool {
        let attached = self.lock().get(&id).cloned();
        attached.is_some_and(|attached| attached.serving().stop.is_none())
    }

    /// How often to call [`Host::look_at_places`].
    pub const LOOK_ROUND: Duration = Duration::from_millis(500);

    /// One look at every place: stops listening where a thing has gone, listens again where one is back, and tidies up.
    pub async fn look_at_places(&self) -> Looked {
        let mut looks = self.places.turn.lock().await;
        self.places.tidy().await;
        let all: Vec<Arc<Attached>> =
            self.lock().values().filter(|attached| attached.kind.place().is_some()).cloned().collect();
        let mut looked = Looked::default();
        for attached in all {
            self.look_at(&attached, &mut looks, &mut looked).await;
        }
        looked
    }

    async fn look_at(&self, attached: &Arc<Attached>, looks: &mut Looks, looked: &mut Looked) {
        let Some(holder) = attached.holder() else { return };
        let (instance, place) = (holder.instance, holder.place.clone());
        let before = attached.serving().mark.clone();
        let now = place.mark();
        if before.is_some() && now.as_ref().is_ok_and(|now| *now == before) {
            return;
        }
        if before.is_some() {
            // Whatever has that name now is another thing: nobody is heard before it is known.
            attached.fall_silent();
            self.places.take_away(attached).await;
            tracing::info!(%instance, %place, "what was there is gone");
            looks.remove(&instance);
        }
        if attached.once {
            looked.lost.push(Lost { instance, place });
            return;
        }
        if let Some(left) = looks.get_mut(&instance).filter(|left| **left > 0) {
            *left -= 1;
            return;
        }
        match now {
            Ok(Some(_)) => {
                if self.listen_again(attached, &holder, looks).await {
                    looked.back.push(instance);
                }
            }
            Ok(None) => attached.be_in_trouble(PlaceError::Absent { place }.to_string()),
            Err(error) => attached.be_in_trouble(error.to_string()),
        }
    }

    /// Whether that could be done.
    async fn listen_again(&self, attached: &Arc<Attached>, holder: &Holder, looks: &mut Looks) -> bool {
        match open(&holder.place, holder, &self.places.traces).await {
            Ok(opened) => {
                looks.remove(&holder.instance);
                attached.serve(opened.listeners, Some(opened.mark), &self.service);
                tracing::info!(instance = %holder.instance, place = %holder.place, "attached again");
                true
            }
            Err(error) => {
                self.places.traces.undo(holder).await;
                looks.insert(holder.instance, RETRY_LOOKS);
                attached.be_in_trouble(error.to_string());
                false
            }
        }
    }

    /// Stops listening at places, and leaves nothing behind there.
    pub async fn leave_places(&self) {
        let _turn = self.places.turn.lock().await;
        let ids: Vec<InstanceId> = {
            let all = self.lock();
            all.iter().filter(|(_, attached)| attached.kind.place().is_some()).map(|(id, _)| *id).collect()
        };
        for id in ids {
            self.detach(id);
        }
        self.places.tidy().await;
    }
}

impl Attached {
    pub(super) fn holder(&self) -> Option<Holder> {
        Some(Holder { instance: self.machine().id(), place: self.kind.place()?.clone() })
    }

    fn be_in_trouble(&self, trouble: String) {
        let mut serving = self.serving();
        if serving.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(instance = %self.machine().id(), "not attached at present: {trouble}");
            serving.trouble = Some(trouble);
        }
    }
}
