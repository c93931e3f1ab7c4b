//! A region server: it says who signed a request, decides whether that kind of caller may do it, and does it.
//!
//! ```text
//! listener ▶ gateway ▶ sigv4 + credential (who) ▶ operation table (may they) ▶ action ▶ store ▶ wire ▶ audit ▶ answer
//! ```
//!
//! How guests are attached to hosts is unknown here: a host is an [`Observer`] that is told of machines, and asks for
//! credentials with [`RegionServer::issue`].
#![forbid(unsafe_code)]

mod accepted;
mod accounts;
mod agents;
mod audit;
mod channels;
mod deployment;
mod detection;
mod documents;
mod doubt;
mod epochs;
mod examine;
mod fence;
mod fleet;
mod forwarding;
mod gateway;
mod guardduty;
mod health;
mod high_water;
mod host_management;
mod hosts;
mod identity;
mod issue;
mod key_command;
mod key_file;
mod lease;
mod machines;
mod metrics;
pub mod network;
mod nodes;
mod operation;
mod quarantine;
mod reload;
mod rewrap;
mod roles;
mod run_command;
mod said;
mod secrets;
mod services;
mod sessions;
mod signal;
mod signers;
mod telemetry;
mod throttle;
mod tunnels;
mod unreadable;
mod user_keys;

use core::sync::atomic::AtomicU8;
use std::path::PathBuf;
use std::sync::Arc;

use inborn_credential::{Authenticator, CryptoError, KekError, KeyringError};
use inborn_identity::{CallerKind, Clock, InstanceId, UnixTime};
use inborn_pki::{Authority, AuthorityError, DocumentSigner, HostsAuthority, InstanceConnectSigner};
use inborn_ssh::HostAuthority;
use inborn_store::{Change, StateReason, Store, StoreError};

use accounts::Accounts;
use agents::Agents;
use channels::Channels;
use deployment::Deployment;
use documents::Documents;
use epochs::Epochs;
use fleet::Fleet;
use forwarding::Forwarding;
use gateway::Bounds;
use guardduty::GuardDuty;
use high_water::HighWater;
use host_management::HostManagement;
use hosts::Hosts;
use nodes::Nodes;
use quarantine::Quarantines;
use roles::Roles;
use run_command::RunCommand;
use sessions::Sessions;
use tunnels::Tunnels;
use user_keys::UserKeys;

pub use audit::{Audit, AuditReader, Entry as AuditEntry, LINE_BYTES_MAX, Rotation as AuditRotation};
pub use deployment::{DeploymentError, REGIONS_MAX};
pub use detection::{Counted, Detection, DetectionSettings, FindingOutput, FindingSink, Recording};
pub use epochs::EpochSettings;
pub use examine::{
    HIGH_WATER_SETTING, HighWaterReport, compare_high_water, compare_store, cut_offs_kept_since, note_restore,
    open_all_sealed,
};
pub use fleet::{FleetSettings, STALE_AFTER, StalePolicy};
pub use forwarding::{AddressError, check_address};
pub use gateway::{BODY_TIMEOUT, RequestOrigin};
pub use guardduty::EventSource;
pub use health::Fault;
pub use high_water::Older;
pub use hosts::HostsEndpoint;
pub use identity::{RegionIdentity, private_address};
pub use inborn_telemetry::Foreign;
pub use issue::Issued;
pub use key_file::{
    KEY_BYTES, KeyFileError, check as check_key_file, create as create_key_file, read as read_key_file,
    read_credential as read_key_credential,
};
pub use machines::{Machines, Observer};
pub use metrics::{Metrics, encode as encode_metrics};
pub use operation::{Effect, NamedByPath, Operation, Protocol, Route, Service, SocketPath};
pub use reload::{Changeable, ReadAgain};
pub use rewrap::{Rewrapped, rewrap};
pub use secrets::{KeySource, OperatorKey};
pub use services::{ARCHITECTURE, ROOT_DEVICE, SERVICES};
pub use telemetry::{Appending, Heard, Kept, Listening, Sink, SinkError, Telemetry, TelemetrySettings};
pub use throttle::{Rate, Rates};
pub use tunnels::{Reach, Reached, Unreachable};
pub use user_keys::{SentKeys, USER_KEY_SECONDS, UserKey};

/// How long a terminated machine is still shown by DescribeInstances: an hour, as on EC2.
pub const TERMINATED_SHOWN_SECONDS: u64 = 3600;

/// How long inventory and compliance are kept that nobody renews. Source: Systems Manager quotas, "inventory data expiration".
const INVENTORY_KEPT_SECONDS: u64 = 30 * 24 * 3600;

/// How long a session of the management role is good. Source: agents ask again half an hour after they were given one.
pub const MANAGEMENT_SESSION_SECONDS: u64 = 3600;

/// Why a region cannot be opened. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key file.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// What is sealed cannot be opened.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// The keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The certificate authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The crypto library.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The store holds something that is not what it should be.
    #[error("{0} in the store is damaged: restore the data directory from a backup")]
    Damaged(&'static str),
    /// The store is older than what was seen here.
    #[error(
        "the store is older than what this server has seen: {older}. Was it put back from a backup? Machines that were \
         terminated, cut off or put into quarantine since then would be let in again. Put back a newer one; or go on with \
         this one by starting once with --accept-older-store: everything issued so far is refused then, and hosts are in \
         quarantine until they are released. What was seen is in {}",
        path.display()
    )]
    Older {
        /// In what.
        older: Older,
        /// The file.
        path: PathBuf,
    },
    /// The file with the high-water mark.
    #[error(
        "cannot use {}, which says how far the store had come: {source}. Mend that; or take the file away and start once \
         with --accept-older-store",
        path.display()
    )]
    HighWater {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store belongs to another region.
    #[error(
        "this data directory belongs to region {region}, account {account}, partition {partition}: start with those \
         (--region {region} --account {account} --partition {partition}), or use another directory (--data DIR)"
    )]
    OtherRegion {
        /// Its partition.
        partition: String,
        /// Its name.
        region: String,
        /// Its account.
        account: String,
    },
    /// It cannot be a region of this deployment.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// The audit file.
    #[error("cannot write the audit file {}: {source}", path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What a region needs to be opened.
#[derive(Debug)]
pub struct Opening {
    /// Which region.
    pub identity: RegionIdentity,
    /// Where the key-encryption key comes from.
    pub key_source: KeySource,
    /// Where audit lines go.
    pub audit_file: PathBuf,
    /// How often one source, and one principal, may call.
    pub rates: Rates,
    /// What is taken of machines that tell what they see.
    pub telemetry: TelemetrySettings,
    /// How epochs follow each other.
    pub epochs: EpochSettings,
    /// Whether a store that is older than what was seen here is taken: then everything that was issued ends.
    pub accept_older_store: bool,
    /// How it takes part, where other servers may have the store open too; `None`: it is alone.
    pub fleet: Option<FleetSettings>,
}

/// A region.
pub struct RegionServer {
    identity: RegionIdentity,
    deployment: Deployment,
    clock: Arc<dyn Clock>,
    store: Arc<dyn Store>,
    authenticator: Arc<Authenticator>,
    epochs: Epochs,
    high_water: HighWater,
    machines: Machines,
    accounts: Arc<Accounts>,
    roles: Arc<Roles>,
    host_management: HostManagement,
    agents: Agents,
    nodes: Nodes,
    quarantines: Quarantines,
    channels: Arc<Channels>,
    user_keys: UserKeys,
    documents: Documents,
    run_command: RunCommand,
    guardduty: GuardDuty,
    sessions: Arc<Sessions>,
    authority: Authority,
    ssh_authority: HostAuthority,
    hosts: Arc<Hosts>,
    hosts_authority: HostsAuthority,
    signers: signers::Signers,
    operator_key: Option<OperatorKey>,
    audit: Audit,
    bounds: Bounds,
    tunnels: Tunnels,
    telemetry: Telemetry,
    detection: Detection,
    fleet: Option<Fleet>,
    forwarding: Forwarding,
    /// What memory may not know; a [`doubt::Doubt`].
    doubt: AtomicU8,
    metrics: Metrics,
}

impl core::fmt::Debug for RegionServer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RegionServer").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl RegionServer {
    /// Opens the region whose truth is `store`, and makes its secrets if the store is new.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing that was there is ever replaced.
    pub async fn open(store: Arc<dyn Store>, opening: Opening, clock: Arc<dyn Clock>) -> Result<Arc<Self>, OpenError> {
        Self::open_in(store, opening, clock, None).await
    }

    /// Opens another region of the deployment of which `home` is the home: accounts, operators and roles are the home's, all
    /// else is its own. From then on each of them answers for all: see [`RegionServer::handle`].
    ///
    /// # Errors
    /// See [`OpenError`]; nothing that was there is ever replaced.
    pub async fn open_beside(
        home: &Arc<Self>,
        store: Arc<dyn Store>,
        opening: Opening,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, OpenError> {
        home.check_may_join(&opening.identity)?;
        Self::open_in(store, opening, clock, Some(home)).await
    }

    async fn open_in(
        store: Arc<dyn Store>,
        opening: Opening,
        clock: Arc<dyn Clock>,
        home: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, OpenError> {
        let Opening { identity, key_source, audit_file, rates, telemetry, epochs, accept_older_store, fleet } = opening;
        let now = clock.now();
        // Before anything is written: a database that was replaced does not hear of this server.
        let compared = high_water::compare(&*store, &key_source, accept_older_store, now).await?;
        // Before anything is loaded: what is changed from here on is heard of.
        let (fleet, reader) = match fleet {
            Some(settings) => Some(Fleet::join(store.as_ref(), settings, now).await?),
            None => None,
        }
        .unzip();
        let of_home = home.map(|home| &home.identity.region);
        let secrets = secrets::Secrets::open(&store, &key_source, &identity, of_home, now, compared).await?;
        let operator_key = secrets::operator_key(&secrets.operators, identity.account);
        let keyring = Arc::new(secrets.keyring);
        let epochs = Epochs::new(secrets.kek, key_source, epochs, secrets.epochs);
        let authenticator = match home {
            None => {
                let own = Authenticator::new(identity.partition, identity.region.clone(), keyring)?;
                own.set_operators(secrets.operators).map_err(|_| OpenError::Damaged("an operator's record"))?;
                own
            }
            Some(home) => home.authenticator.beside(identity.region.clone(), keyring)?,
        };
        let authenticator = Arc::new(authenticator);
        // First, as ever: what is released is gone from here when its cut-offs are there.
        let quarantines = Quarantines::load(&*store, now).await?;
        for recorded in store.cut_offs().await? {
            authenticator.cut_off(secrets::cut_off(recorded.cut_off), recorded.at);
        }
        let channels = Arc::new(Channels::new());
        let sessions = Arc::new(Sessions::new());
        let hosts = Arc::new(Hosts::load(Arc::clone(&store)).await?);
        let watching: Vec<Arc<dyn Observer>> =
            vec![Arc::clone(&channels) as _, Arc::clone(&sessions) as _, Arc::clone(&hosts) as _];
        let (machines, on_hosts) = Machines::load(Arc::clone(&store), Arc::clone(&authenticator), watching).await?;
        hosts.place(on_hosts);
        let (accounts, roles) = match home {
            None => (
                Arc::new(Accounts::load(Arc::clone(&store), identity.account, now).await?),
                Arc::new(Roles::load(Arc::clone(&store), identity.account, now).await?),
            ),
            Some(home) => (Arc::clone(&home.accounts), Arc::clone(&home.roles)),
        };
        let host_management = HostManagement::load(Arc::clone(&store), identity.account).await?;
        let agents = Agents::load(Arc::clone(&store)).await?;
        let nodes = Nodes::load(Arc::clone(&store), machines.iter().map(|machine| machine.id())).await?;
        let documents = Documents::load(Arc::clone(&store), identity.account).await?;
        let guardduty = GuardDuty::load(Arc::clone(&store)).await?;
        let (run_command, engine) = RunCommand::load(Arc::clone(&store)).await?;
        let audit = Audit::open(&audit_file, AuditRotation::DEFAULT, now)
            .map_err(|source| OpenError::Audit { path: audit_file, source })?;
        let metrics = Metrics::default();
        let region = Self {
            identity,
            deployment: home.map_or_else(Deployment::default, Deployment::beside),
            clock,
            store,
            authenticator,
            epochs,
            high_water: secrets.high_water,
            machines,
            accounts,
            roles,
            host_management,
            agents,
            nodes,
            quarantines,
            channels,
            user_keys: UserKeys::default(),
            documents,
            run_command,
            guardduty,
            sessions,
            authority: secrets.authority,
            ssh_authority: secrets.ssh_authority,
            hosts,
            hosts_authority: secrets.hosts_authority,
            signers: secrets.signers,
            operator_key,
            audit,
            bounds: home.map_or_else(|| Bounds::new(rates), |home| Bounds::beside(&home.bounds, rates)),
            tunnels: Tunnels::default(),
            telemetry: Telemetry::new(telemetry, home.map(|home| &home.telemetry)),
            detection: Detection::new(Arc::clone(&metrics.detection)),
            fleet,
            forwarding: Forwarding::default(),
            doubt: AtomicU8::new(0),
            metrics,
        };
        let region = Arc::new(region);
        region.take_over_quarantines().await?;
        services::take_over_metadata_defaults(&region).await?;
        region.deployment.add(&region);
        // What was put at the home between the two reached this region by neither.
        region.take_over_quarantines().await?;
        services::take_over_metadata_defaults(&region).await?;
        engine.start(&region);
        sessions::take_up(&region).await?;
        if let Some(reader) = reader {
            fleet::start(&region, reader);
        }
        epochs::start(&region);
        high_water::start(&region);
        Ok(region)
    }

    /// Which region this is.
    #[must_use]
    pub const fn identity(&self) -> &RegionIdentity {
        &self.identity
    }

    /// The certificate authority of the endpoints, which all regions of a deployment share: that of its home.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.home().authority
    }

    /// Who signs the certificates of SSH host keys.
    pub(crate) const fn ssh_authority(&self) -> &HostAuthority {
        &self.ssh_authority
    }

    /// Who signs identity documents. `None` until [`RegionServer::complete_signers`] has made it.
    #[must_use]
    pub fn document_signer(&self) -> Option<Arc<DocumentSigner>> {
        self.signers.documents()
    }

    /// Who signs the SSH keys that are sent to machines. `None` until [`RegionServer::complete_signers`] has made it.
    #[must_use]
    pub fn instance_connect_signer(&self) -> Option<Arc<InstanceConnectSigner>> {
        self.signers.instance_connect()
    }

    /// Makes the signers that are not there yet, and renews the certificates that are due: to be called at the start,
    /// beside the first requests, and then now and again. Seconds of work at the first start of a region.
    ///
    /// # Errors
    /// The store's, or the crypto library's; what there was stays.
    pub async fn complete_signers(&self) -> Result<(), OpenError> {
        self.signers.complete(&self.store, &self.identity, self.now()).await
    }

    /// The key of the operator that was made at first start.
    #[must_use]
    pub const fn operator_key(&self) -> Option<&OperatorKey> {
        self.operator_key.as_ref()
    }

    /// The machines.
    #[must_use]
    pub const fn machines(&self) -> &Machines {
        &self.machines
    }

    /// The roles that can be passed to machines.
    pub(crate) fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Default Host Management.
    pub(crate) const fn host_management(&self) -> &HostManagement {
        &self.host_management
    }

    /// The agents that registered.
    pub(crate) const fn agents(&self) -> &Agents {
        &self.agents
    }

    /// The machines whose agents have spoken.
    pub(crate) const fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// The agents that are connected.
    pub(crate) fn channels(&self) -> &Channels {
        &self.channels
    }

    /// The sessions that are open.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The tunnels that are open.
    pub(crate) const fn tunnels(&self) -> &Tunnels {
        &self.tunnels
    }

    /// Sets who knows the way to machines. Only the first call counts; before it there is no way.
    pub fn reach_by(&self, reach: Arc<dyn Reach>) {
        self.tunnels.reach_by(reach);
    }

    /// What machines tell of what they see.
    #[must_use]
    pub const fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// What the clients of a service sign for.
    fn signing_name(&self, service: &'static Service) -> &str {
        if service.name == services::TELEMETRY { self.telemetry.signing_name() } else { service.signing_name }
    }

    /// Whether a kind of caller may do an operation: by the table, or where an operator lets more kinds send telemetry.
    fn lets(&self, operation: &Operation, kind: CallerKind) -> bool {
        operation.callers.contains(&kind) || (operation.effect == Effect::Data && self.telemetry.also_lets(kind))
    }

    /// Whether an operation leaves no audit line where nothing is wrong with it.
    fn is_only_counted(&self, operation: Option<&Operation>) -> bool {
        operation.is_some_and(|operation| operation.effect == Effect::Data) && !self.telemetry.is_audited()
    }

    /// What commands run.
    pub(crate) const fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Commands to machines.
    pub(crate) const fn run_command(&self) -> &RunCommand {
        &self.run_command
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The counters.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// Terminates a machine whose command has ended, in the name of the host it ran on.
    ///
    /// # Errors
    /// The store's.
    pub async fn end_of_lease(&self, instance: InstanceId) -> Result<(), StoreError> {
        let at = self.now();
        let reason = StateReason {
            code: "Client.InstanceInitiatedShutdown".to_owned(),
            message: "Client.InstanceInitiatedShutdown: the command of the instance has ended".to_owned(),
        };
        let change = Change::Terminate { at, reason: Some(reason) };
        // Who is gone already has no lease.
        let Some(machine) = self.machines.packed(instance) else { return Ok(()) };
        self.machines.terminate(machine.account(), instance, change).await?;
        Ok(())
    }

    /// Housekeeping, to be called every few minutes: forgets what no longer matters.
    pub async fn tidy(&self) {
        let now = self.now();
        self.authenticator.forget(now);
        self.agents.keep(|instance| self.machines.contains(instance));
        self.nodes.keep(|instance| self.machines.contains(instance));
        self.nodes.tell_owed(now).await;
        self.telemetry.keep(|instance| self.machines.contains(instance));
        self.guardduty.keep_agents(|instance| self.machines.contains(instance));
        self.sessions.look(now);
        self.audit.tidy(now);
        self.user_keys.tidy(now);
        if let Err(error) = self.forget_quarantines_of_the_gone().await {
            tracing::warn!(%error, "the quarantines of machines that are gone have to wait");
        }
        let longest_life = inborn_credential::LIFE_MAX_SECONDS + inborn_credential::WINDOW_SECONDS;
        // Of all servers: one whose clock is far ahead must not make the others forget, at their next start, what still matters.
        let slowest = self.fleet().map_or(now, |fleet| fleet.slowest_clock(now));
        let forgotten = self.store.forget_cut_offs(slowest.minus(2 * longest_life)).await;
        let old = self.store.forget_inventory(now.minus(INVENTORY_KEPT_SECONDS)).await;
        let (purged, commands) = (self.purge(now).await, self.run_command.tidy(now).await);
        let sessions = sessions::tidy(self.store.as_ref(), now).await;
        let findings = self.guardduty.tidy(now).await;
        let news = self.tidy_news(now).await;
        let evictions = self.finish_evictions().await;
        let closed = self.end_closed_accounts().await;
        let quarantines = self.take_over_quarantines().await;
        let defaults = services::take_over_metadata_defaults(self).await;
        let doubts = self.settle_doubts().await;
        let tokens = self.store.forget_join_tokens(now).await;
        let outcomes = [
            evictions.err(),
            closed.err(),
            quarantines.err(),
            defaults.err(),
            doubts.err(),
            tokens.err(),
            findings.err(),
            news.err(),
            forgotten.err(),
            old.err(),
            sessions.err(),
            purged.err(),
            commands.err(),
        ];
        for error in outcomes.into_iter().flatten() {
            tracing::warn!(%error, "housekeeping has to wait");
        }
    }

    /// Forgets machines that are no longer shown, a part at a time, so that launches get their turns in between.
    async fn purge(&self, now: UnixTime) -> Result<(), StoreError> {
        while self.store.purge(now.minus(TERMINATED_SHOWN_SECONDS)).await? >= u64::from(inborn_store::PURGE_MAX) {}
        Ok(())
    }

    /// Brings the gauges up to date, to be called when they are read.
    pub fn measure(&self) {
        self.measure_silence();
        self.metrics.machines.set(i64::try_from(self.machines.count()).unwrap_or(i64::MAX));
        self.metrics.hosts.set(i64::try_from(self.hosts.count()).unwrap_or(i64::MAX));
        self.metrics.control_channels.set(i64::try_from(self.channels.count()).unwrap_or(i64::MAX));
        self.metrics.sessions.set(i64::try_from(self.sessions.all().len()).unwrap_or(i64::MAX));
    }
}
