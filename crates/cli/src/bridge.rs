//! Between region and host in one process: machines go one way, credentials the other, and leases end machines.

mod places;
mod residents;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use inborn_credential::{Credential, Delivery};
use inborn_host::control::{Attachment, BoxFuture, Handler, Lease, PocketRequest, Refusal};
use inborn_host::place::Place;
use inborn_host::pocket::Sockets;
use inborn_host::pocket::dns::{self, Resolver, Upstream, Zone};
use inborn_host::{AttachmentKind, Host, Issuer, Machine, MachineParts, SentKeys};
use inborn_identity::{InstanceId, MacAddress, Region, UnixTime};
use inborn_imds::{DocumentSignatures, ManagedKey, ManagedKeys};
use inborn_listener::Limits;
use inborn_pki::SignedDocument;
use inborn_region::{Observer, Reach, Reached, RegionServer, Unreachable, UserKey};
use inborn_store::{
    Attachment as StoredAttachment, Change, ChangeRequest, Instance, InstanceState, OwnMac, PackedInstance,
};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use crate::serving;

pub(crate) use residents::Residents;

/// How long a machine whose command may still run is kept after a restart, for `inborn run` to come back with it.
const LEASE_GRACE: Duration = Duration::from_secs(30);

/// What an identity document says of where its machine is.
#[derive(serde::Deserialize)]
struct Located {
    region: String,
}

/// Gives the host credentials of the regions in the same process.
#[derive(Debug)]
pub(crate) struct LocalIssuer {
    pub(crate) regions: Vec<Arc<RegionServer>>,
    pub(crate) residents: Residents,
}

impl LocalIssuer {
    /// The region of a machine that is attached.
    fn region(&self, instance: InstanceId) -> Option<&Arc<RegionServer>> {
        let name = self.residents.region(instance)?;
        self.regions.iter().find(|region| region.identity().region == name)
    }
}

impl Issuer for LocalIssuer {
    fn issue(&self, instance: InstanceId, delivery: Delivery, at: UnixTime) -> Option<(Credential, UnixTime)> {
        self.region(instance)?.issue(instance, delivery, at).map(|issued| (issued.credential, issued.next_at))
    }

    fn withholds(&self, instance: InstanceId) -> bool {
        self.region(instance).is_some_and(|region| region.is_quarantined(instance))
    }

    fn sign_document(&self, document: &Bytes, at: UnixTime) -> Option<DocumentSignatures> {
        let Located { region } = serde_json::from_slice(document).ok()?;
        let region = self.regions.iter().find(|known| known.identity().region.as_str() == region)?;
        let signer = region.document_signer()?;
        match signer.sign(document, at) {
            Ok(SignedDocument { signature, pkcs7 }) => {
                Some(DocumentSignatures { signature: signature.into(), pkcs7: pkcs7.into() })
            }
            Err(error) => {
                tracing::error!(%error, "cannot sign an identity document");
                None
            }
        }
    }

    fn sent_keys(&self, instance: InstanceId, at: UnixTime) -> SentKeys {
        let Some(sent) = self.region(instance).and_then(|region| region.sent_keys(instance, at)) else {
            return SentKeys::default();
        };
        let staples = sent.staples.into_iter().map(|staple| (staple.fingerprint, staple.response.into()));
        let key = |key: UserKey| ManagedKey { user: key.user, block: key.block, expires_at: key.expires_at };
        SentKeys {
            boot_generation: sent.boot_generation,
            keys: ManagedKeys {
                keys: sent.keys.into_iter().map(key).collect(),
                signer_chain: sent.signer_chain.into(),
                staples: staples.collect(),
            },
        }
    }
}

/// The machine as the host wants to know it.
fn machine(region: &RegionServer, instance: &Instance) -> Machine {
    Machine::from(MachineParts {
        id: instance.id,
        is_running: instance.state == InstanceState::Running,
        boot_generation: instance.boot_generation,
        options: instance.metadata_options,
        tags: instance.tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        facts: region.facts(instance),
    })
}

/// Tells the host of every change.
#[derive(Debug)]
pub(crate) struct HostObserver {
    pub(crate) region: Weak<RegionServer>,
    pub(crate) host: Arc<Host>,
    pub(crate) residents: Residents,
}

impl HostObserver {
    /// The region, if the machine is of it and attached here.
    fn region_of(&self, instance: InstanceId) -> Option<Arc<RegionServer>> {
        self.region.upgrade().filter(|region| self.residents.is_of(instance, &region.identity().region))
    }
}

impl Observer for HostObserver {
    fn changed(&self, instance: &Arc<Instance>) {
        let Some(region) = self.region_of(instance.id) else { return };
        if instance.state == InstanceState::Terminated {
            self.host.detach(instance.id);
            self.residents.leave(instance.id, &region.identity().region);
        } else {
            self.host.update(machine(&region, instance));
        }
    }

    fn credentials_ended(&self, machine: &PackedInstance) {
        if self.region_of(machine.id()).is_some() {
            self.host.renew(machine.id());
        }
    }

    fn keys_were_sent(&self, instance: InstanceId) {
        if self.region_of(instance).is_some() {
            self.host.fetch_keys(instance);
        }
    }
}

/// Leads a region to its machines, by the host that has them.
#[derive(Debug)]
pub(crate) struct LocalReach {
    pub(crate) region: Region,
    pub(crate) host: Arc<Host>,
    pub(crate) residents: Residents,
}

impl Reach for LocalReach {
    fn reach(&self, instance: InstanceId, port: u16) -> BoxFuture<'_, Result<Reached, Unreachable>> {
        Box::pin(async move {
            if !self.residents.is_of(instance, &self.region) {
                return Err(Unreachable(
                    "it is not attached here. `inborn attach` it, or use `inborn shell`".to_owned(),
                ));
            }
            let reached = self.host.reach(instance, port).await.map_err(|error| Unreachable(error.to_string()))?;
            let (stream, gone) = reached.into_parts();
            Ok(Reached { stream, gone: Box::pin(gone) })
        })
    }
}

/// Serves the control socket.
pub(crate) struct ControlHandler {
    region: Arc<RegionServer>,
    host: Arc<Host>,
    residents: Residents,
    tls: Arc<rustls::ServerConfig>,
    stop: watch::Receiver<bool>,
    /// The machines whose command is connected right now.
    leased: Arc<Mutex<HashSet<InstanceId>>>,
    attaching: tokio::sync::Mutex<()>,
}

impl ControlHandler {
    pub(crate) fn new(
        region: Arc<RegionServer>,
        host: Arc<Host>,
        residents: Residents,
        tls: Arc<rustls::ServerConfig>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { region, host, residents, tls, stop, leased: Arc::default(), attaching: tokio::sync::Mutex::default() }
    }

    /// Attaches again what was attached before a restart: the machines of all `handlers`, one for each region. Each gets its own
    /// port back before one whose port is taken gets another: a shell that still points at a port must not find another machine
    /// there, of whatever region.
    pub(crate) async fn attach_known(handlers: &[Arc<Self>]) {
        let mut without = Vec::new();
        for handler in handlers {
            without.push((handler, handler.attach_known_ports().await));
        }
        for (handler, without) in without {
            handler.attach_new_ports(without).await;
        }
        for handler in handlers {
            handler.attach_known_places().await;
        }
    }

    /// Gives those that cannot have their port.
    async fn attach_known_ports(&self) -> Vec<(InstanceId, u16)> {
        let mut without = Vec::new();
        for machine in self.region.machines().iter() {
            if let Some(StoredAttachment::LoopbackPort(port)) = machine.attachment()
                && self.attach_port(machine.id(), Some(*port)).await.is_err()
            {
                without.push((machine.id(), *port));
            }
        }
        without
    }

    async fn attach_new_ports(&self, without: Vec<(InstanceId, u16)>) {
        for (instance, port) in without {
            match self.attach_port(instance, None).await {
                Ok(new) => tracing::warn!(%instance, port, new, "a machine's metadata port is taken: it has a new one"),
                Err(refusal) => tracing::error!(%instance, %refusal, "a machine could not be attached again"),
            }
        }
    }

    /// For as long as the server lives, ends machines that were made for a command and have been without one for a while:
    /// it did not come back after a restart, it died before its machine was attached, or the end of its lease could not
    /// be stored.
    pub(crate) async fn end_orphans(&self) {
        let mut orphans = self.orphans();
        loop {
            tokio::time::sleep(LEASE_GRACE).await;
            let still = self.orphans();
            for instance in still.intersection(&orphans) {
                end_machine(&self.region, *instance).await;
            }
            orphans = still;
        }
    }

    /// The machines that are without the command they were made for at this moment.
    fn orphans(&self) -> HashSet<InstanceId> {
        let leased = lock(&self.leased);
        let all = self.region.machines().iter();
        all.map(|machine| (machine.is_leased(), machine.id()))
            .filter(|(is_leased, id)| *is_leased && !leased.contains(id))
            .map(|(_, id)| id)
            .collect()
    }

    fn running(&self, id: InstanceId) -> Result<Arc<Instance>, Refusal> {
        self.region.machines().get(id).ok_or_else(|| Refusal(format!("there is no machine {id}: see `inborn ps`")))
    }

    /// Takes a machine of this computer for this region.
    fn take(&self, id: InstanceId) -> Result<(), Refusal> {
        if self.residents.take(id, &self.region.identity().region) {
            return Ok(());
        }
        Err(Refusal(format!("a machine {id} of another region is attached on this computer: two cannot have one id")))
    }

    /// After an attachment that failed, in the turn that it had: another region may have the machine, unless an earlier attachment
    /// holds.
    fn leave_what_is_not_attached(&self, id: InstanceId) {
        if self.host.attachment(id).is_none() {
            self.residents.leave(id, &self.region.identity().region);
        }
    }

    /// Whether a machine that the host has is this region's.
    fn has(&self, id: InstanceId) -> bool {
        self.residents.is_of(id, &self.region.identity().region)
    }

    fn let_go(&self, id: InstanceId) {
        let_go(&self.host, &self.residents, &self.region, id);
    }

    async fn attach_port(&self, id: InstanceId, wanted: Option<u16>) -> Result<u16, Refusal> {
        // Two at a time for one machine would leave the record with the port of the one that lost.
        let _turn = self.attaching.lock().await;
        self.attach_port_in_turn(id, wanted).await.inspect_err(|_| self.leave_what_is_not_attached(id))
    }

    async fn attach_port_in_turn(&self, id: InstanceId, wanted: Option<u16>) -> Result<u16, Refusal> {
        let instance = self.free(id)?;
        self.take(id)?;
        if let Some(AttachmentKind::Loopback { port }) = self.host.attachment(id)
            && wanted.is_none_or(|wanted| wanted == port)
        {
            return Ok(port);
        }
        let port = self
            .host
            .attach_loopback(machine(&self.region, &instance), wanted)
            .await
            .map_err(|error| Refusal(format!("no port for the machine's metadata: {error}")))?;
        self.record(&instance, StoredAttachment::LoopbackPort(port), None).await?;
        self.catch_up(instance)?;
        Ok(port)
    }

    /// A machine that is not terminated and may be attached elsewhere.
    fn free(&self, id: InstanceId) -> Result<Arc<Instance>, Refusal> {
        let instance = self.running(id)?;
        if instance.lease {
            return Err(Refusal(format!("machine {id} lives inside the command of its `inborn run` and nowhere else")));
        }
        if let Some(host) = instance.host {
            return Err(Refusal(format!("machine {id} was placed on host {host}, not on this computer")));
        }
        Ok(instance)
    }

    /// Stores how a machine is attached; if that cannot be done, it is not attached.
    async fn record(
        &self,
        instance: &Instance,
        attachment: StoredAttachment,
        mac: Option<OwnMac>,
    ) -> Result<(), Refusal> {
        self.remember(instance, attachment, mac).await.inspect_err(|_| self.let_go(instance.id))
    }

    async fn remember(
        &self,
        instance: &Instance,
        attachment: StoredAttachment,
        mac: Option<OwnMac>,
    ) -> Result<(), Refusal> {
        if instance.attachment.as_ref() == Some(&attachment) && instance.mac == mac {
            return Ok(());
        }
        let change = Change::Attach(attachment, mac);
        let request = ChangeRequest { account: instance.account, instances: vec![instance.id], change };
        self.region.machines().change(request).await.map(drop).map_err(|error| Refusal(error.to_string()))
    }

    /// Tells the host what has become of a machine since `known` was read: changes before it was attached went by it.
    fn catch_up(&self, known: Arc<Instance>) -> Result<(), Refusal> {
        let mut known = known;
        loop {
            let now = self.running(known.id).inspect_err(|_| self.let_go(known.id))?;
            if now == known {
                return Ok(());
            }
            self.host.update(machine(&self.region, &now));
            known = now;
        }
    }

    fn attach_sockets(&self, pocket: &PocketRequest, sockets: Sockets) -> Result<PocketLease, Refusal> {
        let identity = self.region.identity();
        if pocket.region != identity.region || pocket.domain != identity.domain {
            return Err(Refusal(format!("this is region {} under {}", identity.region, identity.domain)));
        }
        let instance = self.running(pocket.instance)?;
        self.take(instance.id)?;
        let broken = |error: std::io::Error| Refusal(format!("the machine's sockets cannot be served: {error}"));
        let Sockets { metadata, dns_udp, dns_tcp, tls, plain, metadata_ipv6 } = sockets;
        let metadata_ipv6 = metadata_ipv6.map(TcpListener::from_std).transpose().map_err(broken)?;
        let [metadata, dns_tcp, tls, plain] =
            [metadata, dns_tcp, tls, plain].map(|socket| TcpListener::from_std(socket).map_err(broken));
        let (metadata, dns_tcp, tls, plain) = (metadata?, dns_tcp?, tls?, plain?);
        let dns_udp = UdpSocket::from_std(dns_udp).map_err(broken)?;
        let (end, ended) = watch::channel(false);
        self.host.attach_pocket(machine(&self.region, &instance), [metadata].into_iter().chain(metadata_ipv6));
        self.catch_up(instance)?;
        let zone = Zone::of_regions(&self.region.region_names(), &identity.domain);
        let resolver = Resolver { zone, upstream: pocket.world.then(Upstream::default) };
        tokio::spawn(dns::serve(dns_udp, dns_tcp, resolver, ended.clone()));
        let secure = serving::region_service(&self.region, Some(pocket.instance));
        tokio::spawn(inborn_listener::serve(tls, Some(Arc::clone(&self.tls)), Limits::DEFAULT, ended.clone(), secure));
        let open = serving::region_service(&self.region, Some(pocket.instance));
        tokio::spawn(inborn_listener::serve(plain, None, Limits::DEFAULT, ended, open));
        lock(&self.leased).insert(pocket.instance);
        Ok(PocketLease {
            instance: pocket.instance,
            region: Arc::clone(&self.region),
            host: Arc::clone(&self.host),
            residents: self.residents.clone(),
            leased: Arc::clone(&self.leased),
            stop: self.stop.clone(),
            end,
        })
    }
}

impl Handler for ControlHandler {
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

    fn attach_pocket(&self, pocket: PocketRequest, sockets: Sockets) -> BoxFuture<'_, Result<Box<dyn Lease>, Refusal>> {
        Box::pin(async move {
            let _turn = self.attaching.lock().await;
            let attached = self.attach_sockets(&pocket, sockets);
            let lease = attached.inspect_err(|_| self.leave_what_is_not_attached(pocket.instance))?;
            Ok(Box::new(lease) as Box<dyn Lease>)
        })
    }

    fn attachments(&self) -> BoxFuture<'_, Vec<Attachment>> {
        Box::pin(async move {
            let wire = |(instance, kind)| Attachment { instance, kind, trouble: self.host.trouble(instance) };
            self.host.attachments().into_iter().filter(|(id, _)| self.has(*id)).map(wire).collect()
        })
    }

    fn detach(&self, instance: InstanceId) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let _turn = self.attaching.lock().await;
            let record = self.free(instance)?;
            self.let_go(instance);
            let looked = self.host.look_at_places().await;
            self.look_inside(&looked.back).await;
            self.forget(&record).await
        })
    }
}

/// A machine that lives as long as the connection of its `inborn run`.
struct PocketLease {
    instance: InstanceId,
    region: Arc<RegionServer>,
    host: Arc<Host>,
    residents: Residents,
    leased: Arc<Mutex<HashSet<InstanceId>>>,
    stop: watch::Receiver<bool>,
    /// Dropping it ends the listeners of the pocket.
    end: watch::Sender<bool>,
}

impl Lease for PocketLease {
    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let_go(&self.host, &self.residents, &self.region, self.instance);
            let _ = self.end.send(true);
            lock(&self.leased).remove(&self.instance);
            // When this server stops, the command goes on, and comes back with its machine after a restart.
            if !*self.stop.borrow() {
                end_machine(&self.region, self.instance).await;
            }
        })
    }
}

/// Ends an attachment, unless it is one of another region's machine.
fn let_go(host: &Host, residents: &Residents, region: &RegionServer, id: InstanceId) {
    let own = &region.identity().region;
    if !residents.is_of_another(id, own) {
        host.detach(id);
        residents.leave(id, own);
    }
}

async fn end_machine(region: &RegionServer, instance: InstanceId) {
    match region.end_of_lease(instance).await {
        Ok(()) => tracing::info!(%instance, "terminated: its command has ended"),
        Err(error) => tracing::error!(%instance, %error, "the machine of an ended command could not be terminated"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Sets of ids: consistent between any two statements that can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
