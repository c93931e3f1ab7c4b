//! A region and a host in one process: what `up` serves, and `run` where no `up` is running.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use inborn_host::Host;
use inborn_host::control::{ControlSocket, Handler};
use inborn_host::pocket::ENDPOINTS_ADDRESS;
use inborn_identity::{Clock, InstanceId, Region};
use inborn_lake::Lake;
use inborn_listener::{Limits, Peer, Sources, serve_from};
use inborn_pki::{ServerNames, tls};
use inborn_region::{HostsEndpoint, Opening, RegionServer, RequestOrigin};
use inborn_store::{SqliteStore, Store};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::activation::PassedSockets;
use crate::balancers::Front;
use crate::bridge::{ControlHandler, HostObserver, LocalIssuer, LocalReach, Residents};
use crate::certificates::{self, Published};
use crate::clock::SystemClock;
use crate::deployment::{self, Member};
use crate::detection;
use crate::directory::{self, DataDirectory, Ready};
use crate::host_agent::HostIdentity;
use crate::operations::Operations;
use crate::settings::{MoreRegion, Settings};

pub(crate) const DATABASE: &str = "inborn.db";
pub(crate) const KEY_FILE: &str = "epoch.key";
pub(crate) const OPERATOR_ENV: &str = "operator.env";
/// What was put into the kernel's network state and has to be taken away.
pub(crate) const NETWORK_RECORD: &str = "network.json";
/// The files of sets of addresses, put there by hand.
const LISTS_DIRECTORY: &str = "lists";
/// What machines told of what they see.
const TELEMETRY_DIRECTORY: &str = "telemetry";
pub(crate) const AUDIT_DIRECTORY: &str = "audit";
pub(crate) const AUDIT_FILE: &str = "audit.jsonl";
/// Connections of hosts at a time: each has one that waits for changes, and now and then a second one. Room for ten thousand hosts,
/// and for those of another server that has gone away.
const HOST_CONNECTIONS_MAX: usize = 32_768;
/// How often what no longer matters is forgotten.
const HOUSEKEEPING_ROUND: Duration = Duration::from_secs(300);
/// How often telemetry is made Parquet of, and what is too old is removed, if it is due.
const TELEMETRY_ROUND: Duration = Duration::from_secs(60);
/// How often what waits is put into the bucket, if there is one.
const DELIVERY_ROUND: Duration = Duration::from_secs(5);
/// How long a clean stop may take, beside what connections are given, before what is left is abandoned.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// What is being served.
pub(crate) struct Serving {
    pub(crate) ready: Ready,
    pub(crate) region: Arc<RegionServer>,
    directory: DataDirectory,
    members: Vec<Member>,
    host: Arc<Host>,
    operations: Arc<Operations>,
    /// How long connections may go on after the stop.
    grace: Duration,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// The bound sockets, before anything is served on them.
pub(crate) struct Listeners {
    plain: TcpListener,
    tls: TcpListener,
    operations: TcpListener,
    /// Where the hosts of a region ask.
    hosts: Vec<(Region, TcpListener)>,
    /// What is before them.
    pub(crate) front: Front,
}

/// As what a region is opened beside its home.
pub(crate) struct Beside<'a> {
    pub(crate) home: &'a Arc<RegionServer>,
    pub(crate) more: &'a MoreRegion,
}

impl Serving {
    /// Opens the region on its data directory and serves it. When this returns, all endpoints answer.
    /// Of the sockets, those that somebody `passed` are used as they are.
    pub(crate) async fn start(settings: &Settings, passed: PassedSockets) -> anyhow::Result<Self> {
        let directory = DataDirectory::hold(&settings.data, settings.ephemeral)?;
        let listeners = Listeners::bind(settings, passed).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (region, members) = deployment::open(settings, &directory, Arc::clone(&clock)).await?;
        let regions = region.regions();

        let mut registry = Registry::default();
        deployment::register(&region, &mut registry);
        let host_metrics = inborn_host::Metrics::default();
        host_metrics.register(&mut registry);
        listeners.front.register(&mut registry);
        let residents = Residents::default();
        let issuer = Arc::new(LocalIssuer { regions: regions.clone(), residents: residents.clone() });
        let record = directory.file(NETWORK_RECORD);
        let host = Host::open(Arc::clone(&clock), issuer, host_metrics, settings.metadata, record.clone())
            .await
            .with_context(|| format!("cannot use {}", record.display()))?;
        for region in &regions {
            let (host, residents, name) = (Arc::clone(&host), residents.clone(), region.identity().region.clone());
            region.reach_by(Arc::new(LocalReach {
                region: name,
                host: Arc::clone(&host),
                residents: residents.clone(),
            }));
            let observer = HostObserver { region: Arc::downgrade(region), host, residents };
            region.machines().observe(Arc::new(observer));
        }

        let addresses = [settings.bind, IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(ENDPOINTS_ADDRESS)];
        let certificate = tls::Certificate::new(region.authority(), server_names(&region, &addresses), clock.now())?;
        let tls_config = tls::server_config(Arc::clone(&certificate))?;
        let (stop, stopping) = watch::channel(false);
        let mut handlers = Vec::new();
        for region in &regions {
            let (region, host, tls) = (Arc::clone(region), Arc::clone(&host), Arc::clone(&tls_config));
            let handler = Arc::new(ControlHandler::new(region, host, residents.clone(), tls, stopping.clone()));
            handlers.push(handler);
        }
        ControlHandler::attach_known(&handlers).await;

        detect(settings, &regions);
        let ready = listeners.ready(&directory, &region)?;
        write_files(&directory, &region, &ready)?;
        let mut tasks = JoinSet::new();
        let operations = Operations::new(Arc::clone(&region), directory.path().to_owned(), registry);
        let limits = Limits { stop_grace: Limits::DEFAULT.stop_grace.max(settings.drain), ..Limits::DEFAULT };
        listeners.serve(&mut tasks, limits, &region, tls_config, &stopping, Arc::clone(&operations))?;
        let directories = [&directory].into_iter().chain(members.iter().map(|member| &member.directory));
        for ((directory, handler), region) in directories.zip(&handlers).zip(&regions) {
            let socket = ControlSocket::bind(directory.path()).context("cannot make the control socket")?;
            tasks.spawn(socket.serve(Arc::clone(handler) as Arc<dyn Handler>, stopping.clone()));
            certificates::publish(directory.path(), region)?;
            tasks.spawn(complete_signers(Arc::clone(region), directory.path().to_owned(), stopping.clone()));
        }
        spawn_chores(&region, &host, &handlers, certificate);
        deployment::announce(&members, &ready)?;
        directory.announce(&ready, settings.ready_file.as_deref())?;
        let grace = limits.stop_grace;
        Ok(Self { ready, region, directory, members, host, operations, grace, stop, tasks })
    }

    /// Says at `/readyz` that this process is about to stop. Everything is still served.
    pub(crate) fn drain(&self) {
        self.operations.drain();
    }

    /// Stops serving: connections get a moment to end, then the store is closed.
    pub(crate) async fn stop(mut self) {
        let _ = self.stop.send(true);
        let all = async {
            self.host.leave_places().await;
            while self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(STOP_TIMEOUT + self.grace, all).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        close(&self.region).await;
        drop(self.members);
        drop(self.directory);
    }
}

/// The names by which clients reach the regions.
pub(crate) fn server_names(home: &RegionServer, addresses: &[IpAddr]) -> ServerNames {
    let mut names = ServerNames { dns: Vec::new(), addresses: Vec::new() };
    for region in home.regions() {
        let identity = region.identity();
        let own = ServerNames::of_region(&identity.region, &identity.domain, addresses);
        names
            .dns
            .extend(own.dns.into_iter().chain(identity.connect_endpoint_domains().map(|domain| format!("*.{domain}"))));
        names.addresses = own.addresses;
    }
    let mut seen = BTreeSet::new();
    names.dns.retain(|name| seen.insert(name.clone()));
    names
}

/// Lets each region look at what its machines tell, if that is wanted.
pub(crate) fn detect(settings: &Settings, regions: &[Arc<RegionServer>]) {
    let Some(detection_settings) = &settings.detection.settings else { return };
    for region in regions {
        region.detection().tell(detection::start(&settings.detection.outputs));
        region.detect(detection_settings.clone());
    }
}

/// What a region needs of its data directory before it serves.
pub(crate) fn prepare(region: &Arc<RegionServer>, directory: &DataDirectory) -> anyhow::Result<()> {
    let lists = directory.file(LISTS_DIRECTORY);
    directory::make_private(&lists)?;
    region.read_lists_from(lists);
    region.keep_findings();
    Ok(())
}

/// Closes what the regions write to, after the last call was answered.
pub(crate) async fn close(home: &RegionServer) {
    for region in home.regions() {
        if let Some(lake) = region.telemetry().lake() {
            lake.close().await;
        }
        if let Err(error) = region.store().close().await {
            tracing::warn!(region = %region.identity().region, %error, "the store was not closed cleanly");
        }
    }
}

/// Opens the home, or a region beside it.
pub(crate) async fn open_region(
    settings: &Settings,
    directory: &DataDirectory,
    beside: Option<Beside<'_>>,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Arc<RegionServer>> {
    if HostIdentity::is_in(directory.path()) {
        bail!(
            "{} is the data directory of a host apart from its region: name another one with --data DIR",
            directory.path().display()
        );
    }
    let named = beside.as_ref().map_or(settings.store.as_ref(), |beside| beside.more.store.as_ref());
    let store: Arc<dyn Store> = match named {
        Some(store) => store.open().await?,
        None if settings.ephemeral => Arc::new(SqliteStore::in_memory()?),
        None => Arc::new(SqliteStore::open(&directory.file(DATABASE))?),
    };
    let audit_directory = directory.file(AUDIT_DIRECTORY);
    directory::make_private(&audit_directory)?;
    let mut identity = settings.identity.clone();
    if let Some(beside) = &beside {
        identity.region = beside.more.region.clone();
    }
    let opening = Opening {
        identity,
        key_source: settings.key.source(directory.path(), directory.file(KEY_FILE), settings.ephemeral),
        audit_file: audit_directory.join(AUDIT_FILE),
        rates: settings.rates,
        telemetry: settings.telemetry.clone(),
        epochs: settings.epochs,
        accept_older_store: settings.accept_older_store,
        fleet: settings.fleet.clone(),
    };
    let region = match beside {
        None => RegionServer::open(store, opening, clock).await?,
        Some(beside) => RegionServer::open_beside(beside.home, store, opening, clock).await?,
    };
    let bucket = settings.telemetry_store.as_ref();
    if let Some(lake_settings) = &settings.lake {
        let path = directory.file(TELEMETRY_DIRECTORY);
        directory::make_private(&path)?;
        let bucket = bucket.map(|store| store.open());
        let lake = Lake::open_with(&path, lake_settings.clone(), bucket, region.now())?;
        if settings.detection.settings.is_none() {
            // What comes while nothing is judged will not be judged later either.
            lake.forget_bookmark().context("what was judged cannot be forgotten")?;
        }
        region.ask_for_events(Arc::new(lake.clone()));
        region.telemetry().keep_in_lake(lake);
    }
    Ok(region)
}

/// What the other commands and the AWS tools need to find in the data directory.
pub(crate) fn write_files(directory: &DataDirectory, region: &RegionServer, ready: &Ready) -> anyhow::Result<()> {
    certificates::publish(directory.path(), region)?;
    let key = region.operator_key().context("the store has no operator of this account")?;
    let mut text = zeroize::Zeroizing::new(Vec::new());
    writeln!(text, "# The operator of this region, for the AWS CLI and SDKs:  . {}", ready.operator_env.display())?;
    writeln!(text, "unset AWS_SESSION_TOKEN AWS_PROFILE")?;
    writeln!(text, "export AWS_ACCESS_KEY_ID={}", key.access_key_id)?;
    writeln!(text, "export AWS_SECRET_ACCESS_KEY={}", key.secret.expose())?;
    writeln!(text, "export AWS_REGION={0}\nexport AWS_DEFAULT_REGION={0}", ready.region)?;
    writeln!(text, "export AWS_ENDPOINT_URL={}", ready.endpoint)?;
    directory::replace_private(&ready.operator_env, &text)
}

impl Listeners {
    pub(crate) async fn bind(settings: &Settings, passed: PassedSockets) -> anyhow::Result<Self> {
        let bind = |passed: Option<TcpListener>, port: u16, flag: &'static str| async move {
            if let Some(listener) = passed {
                return Ok(listener);
            }
            let address = SocketAddr::from((settings.bind, port));
            TcpListener::bind(address).await.with_context(|| {
                format!("cannot listen on {address}: choose another port with {flag} (0 for any free one)")
            })
        };
        Ok(Self {
            plain: bind(passed.http, settings.port, "--port").await?,
            tls: bind(passed.https, settings.tls_port, "--tls-port").await?,
            operations: bind(passed.operations, settings.operations_port, "--operations-port").await?,
            hosts: {
                let home = settings.hosts_port.map(|port| (&settings.identity.region, port));
                let more = settings.more.iter().filter_map(|more| Some((&more.region, more.hosts_port?)));
                let mut hosts = Vec::new();
                for (region, port) in home.into_iter().chain(more) {
                    hosts.push((region.clone(), bind(None, port, "--hosts-port or --region-hosts-port").await?));
                }
                hosts
            },
            front: Front::new(&settings.balancers),
        })
    }

    pub(crate) fn ready(&self, directory: &DataDirectory, region: &RegionServer) -> anyhow::Result<Ready> {
        let identity = region.identity();
        Ok(Ready {
            endpoint: format!("http://{}", self.plain.local_addr()?),
            tls_endpoint: format!("https://{}", self.tls.local_addr()?),
            operations: format!("http://{}", self.operations.local_addr()?),
            operator_env: directory.file(OPERATOR_ENV),
            ca_bundle: directory.file(Published::Tls.file()),
            region: identity.region.to_string(),
            regions: match region.region_names() {
                names if names.len() > 1 => names.iter().map(Region::to_string).collect(),
                _ => Vec::new(),
            },
            account: identity.account.to_string(),
            data: directory.path().to_owned(),
            domain: identity.domain.clone(),
            partition: identity.partition.to_string(),
            pid: std::process::id(),
            node: None,
        })
    }

    /// Where TLS is served.
    pub(crate) fn tls_port(&self) -> anyhow::Result<u16> {
        Ok(self.tls.local_addr()?.port())
    }

    pub(crate) fn serve(
        self,
        tasks: &mut JoinSet<()>,
        limits: Limits,
        region: &Arc<RegionServer>,
        tls: Arc<rustls::ServerConfig>,
        stop: &watch::Receiver<bool>,
        operations: Arc<Operations>,
    ) -> anyhow::Result<()> {
        let regions = region.regions();
        for (name, listener) in self.hosts {
            if let Some(region) = regions.iter().find(|region| region.identity().region == name) {
                serve_hosts(self.front.of_callers(), listener, tasks, limits, region, stop)?;
            }
        }
        for (listener, tls) in [(self.plain, None), (self.tls, Some(tls))] {
            let service = region_service(region, None);
            tasks.spawn(serve_from(self.front.of_callers(), listener, tls, limits, stop.clone(), service));
        }
        let answer = move |request, _peer| Arc::clone(&operations).answer(request);
        let sources = self.front.of_operations();
        tasks.spawn(serve_from(sources, self.operations, None, limits, stop.clone(), answer));
        Ok(())
    }
}

/// The endpoint for hosts, with TLS of its own.
fn serve_hosts(
    sources: Sources,
    listener: TcpListener,
    tasks: &mut JoinSet<()>,
    limits: Limits,
    region: &Arc<RegionServer>,
    stop: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let certificate = tls::HostsEndpointCertificate::new(region.hosts_authority(), region.now())?;
    let config = tls::hosts_server_config(region.hosts_authority(), Arc::clone(&certificate))?;
    let endpoint = HostsEndpoint::new(Arc::clone(region));
    let limits = Limits { connections_max: HOST_CONNECTIONS_MAX, ..limits };
    tracing::info!(address = %listener.local_addr()?, region = %region.identity().region, "hosts are listened to");
    let answer = move |request, peer| Arc::clone(&endpoint).respond(request, peer);
    tasks.spawn(serve_from(sources, listener, Some(config), limits, stop.clone(), answer));
    let region = Arc::clone(region);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(HOUSEKEEPING_ROUND).await;
            if let Err(error) = certificate.renew(region.hosts_authority(), region.now()) {
                tracing::error!(%error, "the certificate of the endpoint for hosts could not be renewed");
            }
        }
    });
    Ok(())
}

type Answering = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;

/// The region as a listener's service; the listener is for one `machine` alone, or for everybody.
pub(crate) fn region_service(
    region: &Arc<RegionServer>,
    machine: Option<InstanceId>,
) -> impl Fn(Request<Incoming>, Arc<Peer>) -> Answering + Clone + Send + Sync + 'static + use<> {
    let region = Arc::clone(region);
    move |request, peer| Box::pin(Arc::clone(&region).handle(request, RequestOrigin { peer, machine }))
}

/// What goes on beside the requests, for as long as the process lives.
fn spawn_chores(
    region: &Arc<RegionServer>,
    host: &Arc<Host>,
    handlers: &[Arc<ControlHandler>],
    certificate: Arc<tls::Certificate>,
) {
    tokio::spawn(Arc::clone(host).rotate());
    tokio::spawn(Arc::clone(host).sign_documents());
    for handler in handlers {
        let chores = Arc::clone(handler);
        tokio::spawn(async move { chores.end_orphans().await });
    }
    tokio::spawn(ControlHandler::look_after_places(Arc::clone(host), handlers.to_vec()));
    spawn_region_chores(region, certificate);
}

/// The regions' own part of that.
pub(crate) fn spawn_region_chores(home: &Arc<RegionServer>, certificate: Arc<tls::Certificate>) {
    for region in home.regions() {
        tokio::spawn(tidy_telemetry(Arc::clone(&region)));
        tokio::spawn(deliver_telemetry(Arc::clone(&region)));
        // Each by itself: where one has to wait for its store, the others do not.
        tokio::spawn(async move {
            loop {
                region.tidy().await;
                tokio::time::sleep(HOUSEKEEPING_ROUND).await;
            }
        });
    }
    let region = Arc::clone(home);
    tokio::spawn(async move {
        loop {
            if let Err(error) = certificate.renew(region.authority(), region.now()) {
                tracing::error!(%error, "the server certificate could not be renewed");
            }
            tokio::time::sleep(HOUSEKEEPING_ROUND).await;
        }
    });
}

/// Looks after telemetry, where nobody waits for it.
async fn tidy_telemetry(region: Arc<RegionServer>) {
    let Some(lake) = region.telemetry().lake().cloned() else { return };
    loop {
        tokio::time::sleep(TELEMETRY_ROUND).await;
        let (lake, now) = (lake.clone(), region.now());
        if let Err(error) = tokio::task::spawn_blocking(move || lake.tidy(now)).await {
            tracing::error!(%error, "telemetry could not be looked after");
        }
    }
}

/// Puts telemetry where it is kept, if that is elsewhere.
async fn deliver_telemetry(region: Arc<RegionServer>) {
    let Some(lake) = region.telemetry().lake().filter(|lake| lake.waiting().is_some()).cloned() else { return };
    loop {
        let (delivering, now) = (lake.clone(), region.now());
        if let Err(error) = tokio::task::spawn_blocking(move || delivering.deliver(now)).await {
            tracing::error!(%error, "telemetry could not be delivered");
        }
        tokio::time::sleep(DELIVERY_ROUND).await;
    }
}

/// Makes the signers that a new region is without, renews what is due, and publishes their certificates.
pub(crate) async fn complete_signers(region: Arc<RegionServer>, data: PathBuf, mut stop: watch::Receiver<bool>) {
    let work = async {
        loop {
            if let Err(error) = region.complete_signers().await {
                tracing::error!(%error, "the region's signers cannot be made or renewed");
            } else if let Err(error) = certificates::publish(&data, &region) {
                tracing::error!("the certificates are not published: {error:#}");
            }
            tokio::time::sleep(HOUSEKEEPING_ROUND).await;
        }
    };
    tokio::select! {
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}
