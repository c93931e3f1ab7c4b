//! Where the machines of this host are: attached by its operator over the control socket, followed as the region changes them.

use std::sync::Arc;

use inborn_credential::Delivery;
use inborn_host::control::{Attachment, BoxFuture, Handler, HostStatus, Lease, PlacedMachine, PocketRequest, Refusal};
use inborn_host::place::Place;
use inborn_host::pocket::Sockets;
use inborn_host::{AttachmentKind, BEGINS_WITHIN_SECONDS, Host, Looked, Lost, Machine};
use inborn_host_agent::{Event, Known, Talk};
use inborn_identity::{Clock, InstanceId, MacAddress};
use tokio::sync::Mutex;

use super::attachments::{Attachments, Remembered};
use super::cache::Kept;
use super::issuer::machine;

/// Serves the control socket of a host apart from its region.
pub(super) struct HostControl {
    talk: Arc<Talk>,
    host: Arc<Host>,
    attachments: Attachments,
    kept: Arc<Kept>,
    clock: Arc<dyn Clock>,
    /// One at a time changes where machines are.
    turn: Mutex<()>,
}

impl HostControl {
    pub(super) fn new(
        talk: Arc<Talk>,
        host: Arc<Host>,
        attachments: Attachments,
        kept: Arc<Kept>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { talk, host, attachments, kept, clock, turn: Mutex::default() }
    }

    /// Attaches again what was attached before a restart, as far as it is known.
    pub(super) async fn attach_known(&self) {
        let _turn = self.turn.lock().await;
        for (instance, remembered) in self.attachments.all() {
            self.attach_again(instance, remembered).await;
        }
    }

    /// Follows what has become different.
    pub(super) async fn follow(&self, event: &Event) {
        match event {
            Event::Changed(instance) => self.follow_change(*instance).await,
            Event::Credentials(instance) => self.host.renew(*instance),
            Event::Forgotten(instance) => {
                let _turn = self.turn.lock().await;
                tracing::warn!(%instance, "the region was not heard for too long: the machine is not served any more");
                self.host.detach(*instance);
            }
            Event::Gone(instance) => {
                let _turn = self.turn.lock().await;
                self.host.detach(*instance);
                self.remember(*instance, None);
                tracing::info!(%instance, "the machine is no more, or not here");
            }
            Event::Document(_) | Event::Renewed(_) | Event::Evicted => {}
        }
    }

    async fn follow_change(&self, instance: InstanceId) {
        let _turn = self.turn.lock().await;
        if self.host.attachment(instance).is_some() {
            let remembered = self.attachments.get(instance);
            let mac = match &remembered {
                Some(remembered) => own_mac(remembered).await,
                None => None,
            };
            if let Some(now) = self.machine(instance, mac) {
                self.host.update(now);
                // What was given may have ended with the change.
                self.host.renew(instance);
            }
        } else if let Some(remembered) = self.attachments.get(instance) {
            self.attach_again(instance, remembered).await;
        }
    }

    /// A port that is taken is not exchanged for another: who points there would be another machine, or nobody.
    async fn attach_again(&self, instance: InstanceId, remembered: Remembered) {
        let Some(now) = self.machine(instance, own_mac(&remembered).await) else { return };
        match &remembered.kind {
            AttachmentKind::Loopback { port } => {
                if let Err(error) = self.host.attach_loopback(now, Some(*port)).await {
                    tracing::error!(%instance, port, %error, "the machine's metadata port is taken: attach it anew (`inborn attach`)");
                }
            }
            AttachmentKind::At(place) => self.attach_place_again(now, place, &remembered).await,
            AttachmentKind::Pocket => {}
        }
    }

    async fn attach_place_again(&self, now: Machine, place: &Place, remembered: &Remembered) {
        let instance = now.id();
        let once = remembered.mark.is_some();
        if once && place.mark().ok().flatten() != remembered.mark {
            tracing::info!(%instance, %place, "what was there is gone: the machine is not attached any more");
            self.remember(instance, None);
            return;
        }
        let Err(error) = self.host.attach_place(now, place.clone(), once).await else { return };
        tracing::warn!(%instance, "not attached at present: {error}");
        let waiting = self.machine(instance, None).filter(|_| !once);
        if let Some(waiting) = waiting
            && let Err(error) = self.host.await_place(waiting, place.clone(), error.to_string()).await
        {
            tracing::error!(%instance, %error, "a machine could not be attached again");
        }
    }

    /// For as long as the host lives, looks after places, and forgets attachments that are over.
    pub(super) async fn look_after_places(&self) {
        loop {
            tokio::time::sleep(Host::LOOK_ROUND).await;
            let Looked { lost, back } = self.host.look_at_places().await;
            for Lost { instance, place } in lost {
                let _turn = self.turn.lock().await;
                // It may have been attached elsewhere, or again, since the look.
                let is_there_still = self.host.attachment(instance) == Some(AttachmentKind::At(place.clone()));
                if is_there_still && self.host.is_silent(instance) {
                    self.host.detach(instance);
                    self.remember(instance, None);
                    tracing::info!(%instance, %place, "detached: what was there is gone");
                }
            }
            for instance in back {
                // Another thing of the same name may have another interface.
                self.follow_change(instance).await;
            }
        }
    }

    fn machine(&self, instance: InstanceId, mac: Option<MacAddress>) -> Option<Machine> {
        let agent = self.talk.agent();
        agent.mirror().get(instance).map(|known| machine(known.record(), mac))
    }

    fn placed(&self, instance: InstanceId, mac: Option<MacAddress>) -> Result<Machine, Refusal> {
        self.machine(instance, mac).ok_or_else(|| {
            let is_known = self.talk.agent().is_connected();
            let why = if is_known { "" } else { ", as far as is known while the region is away" };
            Refusal(format!("there is no machine {instance} on this host{why}: see `inborn host status`"))
        })
    }

    fn remember(&self, instance: InstanceId, remembered: Option<Remembered>) {
        if let Err(error) = self.attachments.set(instance, remembered) {
            tracing::error!(%instance, "where the machine is could not be stored: {error:#}");
        }
    }

    /// Remembers an attachment; one that cannot be is none. The machine may have changed while it was attached.
    async fn keep(&self, instance: InstanceId, remembered: Remembered) -> Result<(), Refusal> {
        if let Err(error) = self.attachments.set(instance, Some(remembered.clone())) {
            self.host.detach(instance);
            return Err(Refusal(format!("where the machine is could not be stored: {error:#}")));
        }
        let mac = own_mac(&remembered).await;
        let now = self.placed(instance, mac).inspect_err(|_| {
            self.host.detach(instance);
            self.remember(instance, None);
        })?;
        self.host.update(now);
        Ok(())
    }

    async fn attach_port(&self, instance: InstanceId, wanted: Option<u16>) -> Result<u16, Refusal> {
        let _turn = self.turn.lock().await;
        let now = self.placed(instance, None)?;
        if let Some(AttachmentKind::Loopback { port }) = self.host.attachment(instance)
            && wanted.is_none_or(|wanted| wanted == port)
        {
            return Ok(port);
        }
        let port = self.host.attach_loopback(now, wanted).await;
        let port = port.map_err(|error| Refusal(format!("no port for the machine's metadata: {error}")))?;
        let kind = AttachmentKind::Loopback { port };
        self.keep(instance, Remembered { kind, mark: None, told: None }).await?;
        Ok(port)
    }

    async fn attach_place(
        &self,
        instance: InstanceId,
        place: Place,
        once: bool,
        told: Option<MacAddress>,
    ) -> Result<(), Refusal> {
        let _turn = self.turn.lock().await;
        let once = place.is_passing() || once && place.can_pass();
        let mut remembered = Remembered { kind: AttachmentKind::At(place.clone()), mark: None, told };
        let now = self.placed(instance, own_mac(&remembered).await)?;
        let attaching = self.host.attach_place(now, place, once);
        let mark = attaching.await.map_err(|error| Refusal(error.to_string()))?;
        remembered.mark = once.then_some(mark);
        self.keep(instance, remembered).await
    }

    fn status_now(&self) -> HostStatus {
        let agent = self.talk.agent();
        let now = self.clock.now();
        let placed = |known: &Known| {
            let record = known.record();
            let begins_by = now.plus(BEGINS_WITHIN_SECONDS);
            let credential =
                known.credential(Delivery::V2, now).filter(|(credential, _)| credential.issued_at <= begins_by);
            PlacedMachine {
                instance: record.instance,
                account: record.account,
                name: record.tags.get("Name").cloned().unwrap_or_default(),
                is_running: record.is_running,
                credentials_until: credential.map(|(credential, _)| credential.expires_at.as_secs()),
            }
        };
        HostStatus {
            is_connected: agent.is_connected(),
            heard_at: agent.heard_at().map(|at| at.as_secs()),
            is_kept: self.kept.is(agent.revision()),
            machines: agent.mirror().all().map(placed).collect(),
        }
    }
}

impl Handler for HostControl {
    fn attach_loopback(&self, instance: InstanceId, port: Option<u16>) -> BoxFuture<'_, Result<u16, Refusal>> {
        Box::pin(self.attach_port(instance, port))
    }

    fn attach(
        &self,
        instance: InstanceId,
        place: Place,
        once: bool,
        mac: Option<MacAddress>,
    ) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(self.attach_place(instance, place, once, mac))
    }

    fn attach_pocket(&self, _: PocketRequest, _: Sockets) -> BoxFuture<'_, Result<Box<dyn Lease>, Refusal>> {
        Box::pin(async {
            let why =
                "a host apart from its region launches no machines: `inborn run` wants an `inborn up` on this computer";
            Err(Refusal(why.to_owned()))
        })
    }

    fn attachments(&self) -> BoxFuture<'_, Vec<Attachment>> {
        Box::pin(async move {
            let wire = |(instance, kind)| Attachment { instance, kind, trouble: self.host.trouble(instance) };
            self.host.attachments().into_iter().map(wire).collect()
        })
    }

    fn status(&self) -> BoxFuture<'_, Result<HostStatus, Refusal>> {
        Box::pin(async move { Ok(self.status_now()) })
    }

    fn detach(&self, instance: InstanceId) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let _turn = self.turn.lock().await;
            if !self.host.detach(instance) && self.attachments.get(instance).is_none() {
                return Err(Refusal(format!("machine {instance} is not attached here")));
            }
            self.host.look_at_places().await;
            let forgotten = self.attachments.set(instance, None);
            forgotten.map_err(|error| Refusal(format!("it is detached, which could not be stored: {error:#}")))
        })
    }
}

/// The interface that a machine has at its place, told or found. A machine is attached also where that cannot be told.
async fn own_mac(remembered: &Remembered) -> Option<MacAddress> {
    if remembered.told.is_some() {
        return remembered.told;
    }
    let AttachmentKind::At(place) = &remembered.kind else { return None };
    match place.own_mac().await {
        Ok(mac) => mac,
        Err(error) => {
            tracing::warn!(%place, %error, "the machine's own interface is not known");
            None
        }
    }
}
