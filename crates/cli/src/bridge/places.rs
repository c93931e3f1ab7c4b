//! Machines at places of this computer: attached, remembered, attached again after a restart.

use std::sync::Arc;

use inborn_host::control::Refusal;
use inborn_host::place::{Mark, Place};
use inborn_host::{AttachmentKind, Host, Looked, Lost};
use inborn_identity::{InstanceId, MacAddress};
use inborn_store::{Attachment as StoredAttachment, Change, ChangeRequest, Instance, OwnMac};

use super::{ControlHandler, machine};

impl ControlHandler {
    /// Attaches a machine to the place where it is, and remembers it. Its own interface is looked for unless it is told.
    pub(super) async fn attach_place(
        &self,
        id: InstanceId,
        place: Place,
        once: bool,
        told: Option<MacAddress>,
    ) -> Result<(), Refusal> {
        let _turn = self.attaching.lock().await;
        let attached = self.attach_place_in_turn(id, place, once, told).await;
        attached.inspect_err(|_| self.leave_what_is_not_attached(id))
    }

    async fn attach_place_in_turn(
        &self,
        id: InstanceId,
        place: Place,
        once: bool,
        told: Option<MacAddress>,
    ) -> Result<(), Refusal> {
        let instance = self.free(id)?;
        self.take(id)?;
        let once = place.is_passing() || once && place.can_pass();
        let mac = match told {
            Some(mac) => Some(OwnMac::Told(mac)),
            None => found(&place).await,
        };
        // Its first request, too, is answered with the interface that it has.
        let with_mac = machine(&self.region, &Instance { mac, ..Instance::clone(&instance) });
        let attaching = self.host.attach_place(with_mac, place.clone(), once);
        let mark = attaching.await.map_err(|error| Refusal(error.to_string()))?;
        self.record(&instance, stored(&place, once.then_some(mark)), mac).await?;
        self.catch_up(instance)
    }

    /// Stores that a machine is not attached.
    pub(super) async fn forget(&self, instance: &Instance) -> Result<(), Refusal> {
        let request = ChangeRequest { account: instance.account, instances: vec![instance.id], change: Change::Detach };
        self.region.machines().change(request).await.map(drop).map_err(|error| Refusal(error.to_string()))
    }

    /// Attaches again what was at a place before a restart. A place that is gone is waited for, unless what was there was
    /// one thing and not whatever has its name.
    pub(super) async fn attach_known_places(&self) {
        for packed in self.region.machines().iter() {
            let Some((place, mark)) = packed.attachment().and_then(place) else { continue };
            let instance = packed.unpack();
            let id = instance.id;
            if let Err(refusal) = self.take(id) {
                tracing::error!(instance = %id, %refusal, "a machine could not be attached again");
                continue;
            }
            let once = mark.is_some();
            if once && place.mark().ok().flatten() != mark {
                tracing::info!(instance = %id, %place, "what was there is gone: the machine is not attached any more");
                if let Err(refusal) = self.forget(&instance).await {
                    tracing::error!(instance = %id, %refusal, "the end of an attachment could not be stored");
                }
                continue;
            }
            let attaching = self.host.attach_place(machine(&self.region, &instance), place.clone(), once);
            let Err(error) = attaching.await else {
                self.look_inside(&[id]).await;
                continue;
            };
            tracing::warn!(instance = %id, "not attached at present: {error}");
            if !once {
                let waiting = self.host.await_place(machine(&self.region, &instance), place, error.to_string());
                if let Err(error) = waiting.await {
                    tracing::error!(instance = %id, %error, "a machine could not be attached again");
                }
            }
        }
    }

    /// For as long as the server lives, looks after places, and forgets attachments that are over: each of the `handlers`, one for each
    /// region, those of its machines.
    pub(crate) async fn look_after_places(host: Arc<Host>, handlers: Vec<Arc<Self>>) {
        loop {
            tokio::time::sleep(Host::LOOK_ROUND).await;
            let looked = host.look_at_places().await;
            for handler in &handlers {
                handler.looked(&looked).await;
            }
        }
    }

    async fn looked(&self, Looked { lost, back }: &Looked) {
        for lost in lost.iter().filter(|lost| self.has(lost.instance)) {
            self.lose(lost).await;
        }
        if back.iter().any(|id| self.has(*id)) {
            let _turn = self.attaching.lock().await;
            self.look_inside(back).await;
        }
    }

    /// Looks again for the interfaces of machines whose place may have come to be another thing. What was told stays.
    pub(super) async fn look_inside(&self, machines: &[InstanceId]) {
        for id in machines.iter().filter(|id| self.has(**id)) {
            let Some(instance) = self.region.machines().get(*id) else { continue };
            let Some(attachment) = instance.attachment.clone() else { continue };
            let Some((place, _)) = place(&attachment) else { continue };
            if matches!(instance.mac, Some(OwnMac::Told(_))) {
                continue;
            }
            if let Err(refusal) = self.remember(&instance, attachment, found(&place).await).await {
                tracing::error!(instance = %id, %refusal, "the interface of a machine could not be stored");
            }
        }
    }

    async fn lose(&self, Lost { instance, place }: &Lost) {
        let _turn = self.attaching.lock().await;
        // It may have been attached elsewhere, or again, since the look.
        let is_there_still = self.host.attachment(*instance) == Some(AttachmentKind::At(place.clone()));
        if !is_there_still || !self.host.is_silent(*instance) {
            return;
        }
        self.let_go(*instance);
        tracing::info!(%instance, %place, "detached: what was there is gone");
        let Some(record) = self.region.machines().get(*instance) else { return };
        if let Err(refusal) = self.forget(&record).await {
            // The next start finds the place changed, and tries again.
            tracing::error!(%instance, %refusal, "the end of an attachment could not be stored");
        }
    }
}

/// The interface that a machine has at its place. A machine is attached also where that cannot be told.
async fn found(place: &Place) -> Option<OwnMac> {
    match place.own_mac().await {
        Ok(mac) => mac.map(OwnMac::Found),
        Err(error) => {
            tracing::warn!(%place, %error, "the machine's own interface is not known");
            None
        }
    }
}

/// A place as the store keeps it.
fn stored(place: &Place, mark: Option<Mark>) -> StoredAttachment {
    let mark = mark.map(|mark| mark.as_str().to_owned());
    match place {
        Place::Namespace { path } => StoredAttachment::Namespace { path: path.to_string(), mark },
        Place::Process { pid } => StoredAttachment::Process { pid: *pid, mark: mark.unwrap_or_default() },
        Place::Interface { name } => StoredAttachment::Interface { name: name.to_string(), mark },
        Place::Vsock { cid } => StoredAttachment::Vsock(*cid),
    }
}

/// The place that the store keeps; none for ports, and for what no version of this program can have written.
fn place(stored: &StoredAttachment) -> Option<(Place, Option<Mark>)> {
    let mark = |mark: &Option<String>| mark.clone().map(Mark::from_stored);
    match stored {
        StoredAttachment::Namespace { path, mark: text } => {
            Some((Place::Namespace { path: path.parse().ok()? }, mark(text)))
        }
        StoredAttachment::Process { pid, mark } => {
            Some((Place::Process { pid: *pid }, Some(Mark::from_stored(mark.clone()))))
        }
        StoredAttachment::Interface { name, mark: text } => {
            Some((Place::Interface { name: name.parse().ok()? }, mark(text)))
        }
        StoredAttachment::Vsock(cid) => Some((Place::Vsock { cid: *cid }, None)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_comes_back_from_the_store_as_it_was() {
        let mark = Mark::from_stored("boot/1".to_owned());
        for expected in [
            (Place::Namespace { path: "/run/netns/web".parse().unwrap() }, None),
            (Place::Namespace { path: "/run/netns/web".parse().unwrap() }, Some(mark.clone())),
            (Place::Process { pid: 7 }, Some(mark.clone())),
            (Place::Interface { name: "tap0".parse().unwrap() }, None),
            (Place::Interface { name: "tap0".parse().unwrap() }, Some(mark)),
            (Place::Vsock { cid: 3 }, None),
        ] {
            assert_eq!(place(&stored(&expected.0, expected.1.clone())), Some(expected));
        }
        assert_eq!(place(&StoredAttachment::LoopbackPort(80)), None);
        let unknown = StoredAttachment::Interface { name: "a/b".to_owned(), mark: None };
        assert_eq!(place(&unknown), None);
    }
}
