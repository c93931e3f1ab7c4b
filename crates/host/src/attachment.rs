//! Attachments: how the host knows which machine is asking. The answer is always "the one whose listener this is".

mod kind;
mod places;
mod reach;
mod rotation;
mod virtual_machines;

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use inborn_identity::{Clock, InstanceId};
use inborn_imds::TokenKey;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::machine::{Issuer, Machine, SentKeys};
use crate::metadata::{self, Load, MetadataLimits, Service};
use crate::metrics::Metrics;
use crate::place::{Mark, Place, Traces};
use crate::wallet::Wallet;

pub use kind::Kind;
pub use places::{Looked, Lost};
pub use reach::{Reached, Unreachable};

/// One machine with listeners of its own.
#[derive(Debug)]
pub(crate) struct Attached {
    kind: Kind,
    machine: ArcSwap<Machine>,
    wallet: ArcSwap<Wallet>,
    sent_keys: ArcSwap<SentKeys>,
    /// One asks the region at a time, so that neither the wallet nor the keys go back to what they were earlier.
    refilling: Mutex<()>,
    load: Load,
    metrics: Metrics,
    /// Whether the attachment is over once what is at its place has gone.
    once: bool,
    serving: Mutex<Serving>,
}

/// What serves an attachment at present.
#[derive(Debug, Default)]
struct Serving {
    /// Dropping it ends the listeners.
    stop: Option<watch::Sender<bool>>,
    tasks: Vec<JoinHandle<()>>,
    /// Which thing is listened at, if it is at a place.
    mark: Option<Mark>,
    /// Why nothing listens.
    trouble: Option<String>,
    /// After the end nothing begins again.
    is_over: bool,
}

impl Attached {
    pub(crate) fn machine(&self) -> Arc<Machine> {
        self.machine.load_full()
    }

    pub(crate) fn wallet(&self) -> Arc<Wallet> {
        self.wallet.load_full()
    }

    pub(crate) fn sent_keys(&self) -> Arc<SentKeys> {
        self.sent_keys.load_full()
    }

    /// Whether programs can ask that know nothing of the machine, such as a browser that shows somebody's page.
    pub(crate) const fn is_open_to_browsers(&self) -> bool {
        matches!(self.kind, Kind::Loopback { .. })
    }

    /// Whether its listeners are inside the machine, and not a hop away.
    pub(crate) const fn is_inside(&self) -> bool {
        matches!(self.kind, Kind::Pocket | Kind::At(Place::Namespace { .. } | Place::Process { .. }))
    }

    /// What the machine asks, over all its listeners together.
    pub(crate) const fn load(&self) -> &Load {
        &self.load
    }

    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn refill(&self, issuer: &dyn Issuer, clock: &dyn Clock) {
        let _turn = self.refilling.lock().unwrap_or_else(PoisonError::into_inner);
        let machine = self.machine();
        if let Some(wallet) = self.wallet.load().refilled(&machine, issuer, clock.now()) {
            self.wallet.store(Arc::new(wallet));
        }
    }

    /// As when it was attached: what was prepared is worth nothing any more.
    fn renew(&self, issuer: &dyn Issuer, clock: &dyn Clock) {
        let _turn = self.refilling.lock().unwrap_or_else(PoisonError::into_inner);
        let wallet = Wallet::default().refilled(&self.machine(), issuer, clock.now());
        self.wallet.store(Arc::new(wallet.unwrap_or_default()));
    }

    fn fetch_keys(&self, issuer: &dyn Issuer, clock: &dyn Clock) {
        let _turn = self.refilling.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = issuer.sent_keys(self.machine().id(), clock.now());
        self.sent_keys.store(Arc::new(sent));
    }
}

type Machines = HashMap<InstanceId, Arc<Attached>>;

/// The host: machines with their listeners.
pub struct Host {
    service: Arc<Service>,
    issuer: Arc<dyn Issuer>,
    limits: MetadataLimits,
    metrics: Metrics,
    attached: Arc<Mutex<Machines>>,
    places: places::Places,
    /// There may be documents to sign.
    unsigned: Notify,
}

impl core::fmt::Debug for Host {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Host").field("attached", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Host {
    /// A host without machines and with the default limits.
    ///
    /// # Errors
    /// As [`Host::with_limits`].
    pub fn new(clock: Arc<dyn Clock>, issuer: Arc<dyn Issuer>, metrics: Metrics) -> io::Result<Arc<Self>> {
        Self::with_limits(clock, issuer, metrics, MetadataLimits::DEFAULT)
    }

    /// A host without machines. Session tokens of the metadata service are good until the process ends: a client whose
    /// token is refused fetches another.
    ///
    /// # Errors
    /// There is no randomness for the key of the session tokens.
    pub fn with_limits(
        clock: Arc<dyn Clock>,
        issuer: Arc<dyn Issuer>,
        metrics: Metrics,
        limits: MetadataLimits,
    ) -> io::Result<Arc<Self>> {
        Self::with_traces(clock, issuer, metrics, limits, Traces::default())
    }

    fn with_traces(
        clock: Arc<dyn Clock>,
        issuer: Arc<dyn Issuer>,
        metrics: Metrics,
        limits: MetadataLimits,
        traces: Traces,
    ) -> io::Result<Arc<Self>> {
        let token_key = TokenKey::generate().map_err(|error| io::Error::other(error.to_string()))?;
        let service = Arc::new(Service::new(clock, token_key));
        let places = places::Places::new(traces);
        let (attached, unsigned) = (Arc::default(), Notify::new());
        Ok(Arc::new(Self { service, issuer, limits, metrics, attached, places, unsigned }))
    }

    /// Attaches a machine to a port of 127.0.0.1: the one it had before, or any.
    ///
    /// # Errors
    /// That port is taken, or none can be had.
    pub async fn attach_loopback(&self, machine: Machine, wanted: Option<u16>) -> io::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted.unwrap_or(0))).await?;
        let port = listener.local_addr()?.port();
        self.attach(machine, Kind::Loopback { port }, [listener]);
        Ok(port)
    }

    /// Attaches a machine to listeners in its own network namespace, one for each protocol.
    pub fn attach_pocket(&self, machine: Machine, listeners: impl IntoIterator<Item = TcpListener>) {
        self.attach(machine, Kind::Pocket, listeners);
    }

    fn attach(&self, machine: Machine, kind: Kind, listeners: impl IntoIterator<Item = TcpListener>) {
        let attached = self.insert(machine, kind, false);
        attached.serve(listeners, None, &self.service);
    }

    /// A machine has one attachment: an earlier one ends.
    fn insert(&self, machine: Machine, kind: Kind, once: bool) -> Arc<Attached> {
        let id = machine.id();
        let attached = Arc::new(Attached {
            kind,
            machine: ArcSwap::from_pointee(machine),
            wallet: ArcSwap::default(),
            sent_keys: ArcSwap::default(),
            refilling: Mutex::default(),
            load: Load::new(self.limits),
            metrics: self.metrics.clone(),
            once,
            serving: Mutex::default(),
        });
        attached.refill(&*self.issuer, &*self.service.clock);
        let earlier = self.lock().insert(id, Arc::clone(&attached));
        // Not before: a key that is sent meanwhile is told to what is in the map.
        attached.fetch_keys(&*self.issuer, &*self.service.clock);
        self.unsigned.notify_one();
        if let Some(earlier) = earlier {
            self.end(earlier);
        }
        attached
    }

    /// Takes a machine's listeners away. What its place was given is taken away a moment later.
    pub fn detach(&self, id: InstanceId) -> bool {
        let attached = self.lock().remove(&id);
        attached.map(|attached| self.end(attached)).is_some()
    }

    fn end(&self, attached: Arc<Attached>) {
        attached.end();
        if attached.kind.place().is_some() {
            self.places.leave(attached);
        }
    }

    /// Replaces what is known of a machine; in force with the next request.
    pub fn update(&self, mut machine: Machine) {
        let attached = self.lock().get(&machine.id()).cloned();
        if let Some(attached) = attached {
            machine.keep_document_of(&attached.machine());
            attached.machine.store(Arc::new(machine));
            attached.refill(&*self.issuer, &*self.service.clock);
            self.unsigned.notify_one();
        }
    }

    /// Throws away what was prepared for a machine, and prepares anew; in force with the next request.
    pub fn renew(&self, id: InstanceId) {
        let attached = self.lock().get(&id).cloned();
        if let Some(attached) = attached {
            attached.renew(&*self.issuer, &*self.service.clock);
        }
    }

    /// Fetches the SSH keys that were sent to a machine; served with the next request.
    pub fn fetch_keys(&self, id: InstanceId) {
        let attached = self.lock().get(&id).cloned();
        if let Some(attached) = attached {
            attached.fetch_keys(&*self.issuer, &*self.service.clock);
        }
    }

    /// How a machine is attached.
    #[must_use]
    pub fn attachment(&self, id: InstanceId) -> Option<Kind> {
        self.lock().get(&id).map(|attached| attached.kind.clone())
    }

    /// All attachments, ordered by instance.
    #[must_use]
    pub fn attachments(&self) -> Vec<(InstanceId, Kind)> {
        let mut all: Vec<_> = self.lock().iter().map(|(id, attached)| (*id, attached.kind.clone())).collect();
        all.sort_by_key(|(id, _)| *id);
        all
    }

    /// Prepares what is due for every machine. [`Host::rotate`] does it once a round.
    pub fn prepare(&self) {
        let all: Vec<_> = self.lock().values().cloned().collect();
        for attached in all {
            attached.refill(&*self.issuer, &*self.service.clock);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Machines> {
        lock(&self.attached)
    }
}

fn lock(attached: &Mutex<Machines>) -> MutexGuard<'_, Machines> {
    // A map of handles: consistent between any two statements that can panic.
    attached.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Attached {
    /// Serves these sockets from now on, instead of any before; not after the end.
    fn serve(
        self: &Arc<Self>,
        listeners: impl IntoIterator<Item = TcpListener>,
        mark: Option<Mark>,
        service: &Arc<Service>,
    ) {
        let mut serving = self.serving();
        if serving.is_over {
            return;
        }
        let (stop, stopping) = watch::channel(false);
        serving.stop = Some(stop);
        serving.mark = mark;
        serving.trouble = None;
        for listener in listeners {
            let serve = metadata::serve(listener, Arc::clone(self), Arc::clone(service), stopping.clone());
            serving.tasks.push(tokio::spawn(serve));
        }
    }

    /// Ends the listeners; others may come.
    fn fall_silent(&self) {
        let mut serving = self.serving();
        serving.stop = None;
        serving.mark = None;
    }

    fn end(&self) {
        self.serving().is_over = true;
        self.fall_silent();
    }

    fn serving(&self) -> MutexGuard<'_, Serving> {
        // Handles and texts: consistent between any two statements that can panic.
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
