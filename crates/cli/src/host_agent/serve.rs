//! `inborn host`: serves the machines that the region has placed on this computer, until stopped or cut off.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use inborn_host::control::{ControlSocket, Handler};
use inborn_host::{Host, MetadataLimits};
use inborn_host_agent::{Agent, Client, Ended, Event, SystemDice, Talk};
use inborn_identity::Clock;
use inborn_listener::Limits;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::attachments::Attachments;
use super::cache::Cache;
use super::control::HostControl;
use super::eviction;
use super::identity::HostIdentity;
use super::issuer::RemoteIssuer;
use super::operations::Operations;
use crate::arguments::{self, LogFormat, path};
use crate::clock::SystemClock;
use crate::directory::{self, DataDirectory};
use crate::notify::Supervisor;
use crate::serving::{NETWORK_RECORD, STOP_TIMEOUT};
use crate::signals::{StopSignals, Wanted};
use crate::up;

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The directory that was joined from
    #[arg(long, env = "INBORN_DATA", value_name = "DIR", value_parser = path())]
    data: Option<PathBuf>,
    /// The name of the systemd credential that the cache is sealed with [default: the file cache.key in the data directory]
    #[arg(long, env = "INBORN_KEY_CREDENTIAL", value_name = "NAME")]
    key_credential: Option<String>,
    /// Requests a second that one machine may make of its metadata, 0 for any number [default: 500]
    #[arg(long, env = "INBORN_METADATA_RATE", value_name = "NUMBER")]
    metadata_rate: Option<u32>,
    /// The port of 127.0.0.1 for /livez, /readyz and /metrics, 0 for any free one [default: none is listened at]
    #[arg(long, env = "INBORN_OPERATIONS_PORT", value_name = "PORT")]
    operations_port: Option<u16>,
    /// Write a JSON file once all that was kept is served
    #[arg(long, env = "INBORN_READY_FILE", value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// How log lines look on standard error
    #[arg(long, env = "INBORN_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
}

/// What is told once it serves.
#[derive(Serialize)]
struct Ready<'a> {
    host: String,
    region: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<String>,
    data: &'a Path,
    pid: u32,
}

/// What is there while it serves.
struct Serving {
    directory: DataDirectory,
    identity: Mutex<HostIdentity>,
    talk: Arc<Talk>,
    host: Arc<Host>,
    control: Arc<HostControl>,
    cache: Cache,
    operations: Arc<Operations>,
}

/// Waits until it is asked to stop. There is nothing to read again: its certificate and what it serves come from the region.
async fn stopped_by(stop: &mut StopSignals) {
    while stop.next_wish().await == Wanted::Reload {
        tracing::info!("a host has no settings to read again: it goes on as before");
    }
}

pub(crate) async fn serve(arguments: &Serve) -> anyhow::Result<ExitCode> {
    up::start_log(arguments.log_format, None);
    inborn_listener::raise_file_descriptor_limit();
    let mut stop = StopSignals::catch_with_reload()?;
    let supervisor = Arc::new(Supervisor::of_environment());
    let data = match arguments::named(arguments.data.as_ref()) {
        Some(path) => path.to_owned(),
        None => directory::default_path()?,
    };
    let not_joined = || format!("{} is not that of a host: join a region first (`inborn host join`)", data.display());
    if !HostIdentity::is_in(&data) {
        anyhow::bail!(not_joined());
    }
    let directory = DataDirectory::hold(&data, false)?;
    let mut identity = HostIdentity::read(directory.path())?.with_context(not_joined)?;
    if identity.is_evicted {
        // What could not be removed then is now.
        return eviction::end(&mut identity, directory.path());
    }
    if identity.has_ended(SystemClock.now()) {
        anyhow::bail!(
            "the certificate of host {} ended at {}, while it was off or its region away: join anew with another token (`inborn host \
             join`); if the clock of this computer is wrong, set it",
            identity.host,
            identity.certificate_ends().rfc3339()
        );
    }
    let serving = Arc::new(Serving::open(arguments, directory, identity).await?);
    serving.control.attach_known().await;
    let socket = ControlSocket::bind(serving.directory.path()).context("cannot make the control socket")?;
    let (stopping, stopped) = watch::channel(false);
    let operations = match arguments.operations_port {
        Some(port) => Some(serving.spawn_operations(port, stopped.clone()).await?),
        None => None,
    };
    let handler: Arc<dyn Handler> = Arc::clone(&serving.control) as Arc<dyn Handler>;
    let controlled = tokio::spawn(socket.serve(handler, stopped.clone()));
    let chores = serving.spawn_chores();
    serving.greet(arguments, operations, &supervisor)?;
    if let Some(pulse) = supervisor.pulse {
        tokio::spawn(beat(Arc::clone(&supervisor), pulse, Arc::clone(&serving.talk)));
    }
    let talking = Arc::clone(&serving.talk).go_on(stopped, async |event| serving.follow(event).await);
    tokio::pin!(talking);
    let ended = tokio::select! {
        ended = &mut talking => ended,
        () = stopped_by(&mut stop) => {
            tracing::info!("stopping");
            Ended::Stopped
        }
    };
    supervisor.stopping();
    let _ = stopping.send(true);
    for chore in chores {
        chore.abort();
        let _ = chore.await;
    }
    let left = async {
        serving.host.leave_places().await;
        let _ = controlled.await;
    };
    if tokio::time::timeout(STOP_TIMEOUT, left).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    match ended {
        Ended::Stopped => {
            serving.cache.keep_last(&serving.talk).await;
            Ok(ExitCode::SUCCESS)
        }
        Ended::Evicted => serving.be_evicted(),
    }
}

/// A sign of life, given only when nobody holds the agent up.
async fn beat(supervisor: Arc<Supervisor>, pulse: Duration, talk: Arc<Talk>) {
    loop {
        drop(talk.agent());
        supervisor.alive();
        tokio::time::sleep(pulse).await;
    }
}

impl Serving {
    async fn open(arguments: &Serve, directory: DataDirectory, identity: HostIdentity) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let data = directory.path();
        let cache = Cache::open(data, arguments.key_credential.as_deref(), identity.host)?;
        let attachments = Attachments::open(data)?;
        let kept = cache.read();
        let client = Client::new(identity.tls()?);
        let (count, ends) = (identity.addresses.len(), identity.certificate_ends());
        let addresses = identity.addresses.clone();
        let talk = Talk::new(client, addresses, Arc::clone(&clock), Box::new(SystemDice), |now, dice| {
            let mut agent = Agent::new(count, ends, dice);
            if let Some(kept) = kept {
                agent.restore(kept, now, dice);
            }
            agent
        });
        let metrics = inborn_host::Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let limits = arguments.metadata_rate.map_or(MetadataLimits::DEFAULT, MetadataLimits::of_rate);
        let issuer = Arc::new(RemoteIssuer(Arc::clone(&talk)));
        let record = directory.file(NETWORK_RECORD);
        let host = Host::open(Arc::clone(&clock), issuer, metrics, limits, record.clone());
        let host = host.await.with_context(|| format!("cannot use {}", record.display()))?;
        let operations = Operations::new(Arc::clone(&talk), Arc::clone(&clock), registry);
        let control =
            Arc::new(HostControl::new(Arc::clone(&talk), Arc::clone(&host), attachments, cache.kept(), clock));
        Ok(Self { directory, identity: Mutex::new(identity), talk, host, control, cache, operations })
    }

    fn identity(&self) -> std::sync::MutexGuard<'_, HostIdentity> {
        // Each change of it is one call.
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes on beside, for as long as it serves.
    fn spawn_chores(self: &Arc<Self>) -> Vec<tokio::task::JoinHandle<()>> {
        let (places, cache) = (Arc::clone(self), Arc::clone(self));
        vec![
            tokio::spawn(Arc::clone(&self.host).rotate()),
            tokio::spawn(Arc::clone(&self.host).sign_documents()),
            tokio::spawn(async move { places.control.look_after_places().await }),
            tokio::spawn(async move { cache.cache.follow(&cache.talk).await }),
        ]
    }

    /// Serves the operations endpoint; gives its URL.
    async fn spawn_operations(&self, port: u16, stop: watch::Receiver<bool>) -> anyhow::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}: choose another port with --operations-port (0 for any free one)")
        })?;
        let url = format!("http://{}", listener.local_addr()?);
        let operations = Arc::clone(&self.operations);
        let respond = move |request, _peer| Arc::clone(&operations).answer(request);
        tokio::spawn(inborn_listener::serve(listener, None, Limits::DEFAULT, stop, respond));
        Ok(url)
    }

    fn greet(&self, arguments: &Serve, operations: Option<String>, supervisor: &Supervisor) -> anyhow::Result<()> {
        let (host, name, region) = {
            let identity = self.identity();
            (identity.host.to_string(), identity.name.clone(), identity.region.to_string())
        };
        let count = self.talk.agent().mirror().count();
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "Inborn {}: host {host} ({name}) of region {region}", env!("CARGO_PKG_VERSION"));
        let _ = writeln!(out, "Served from what was kept: {count} machines");
        let _ = out.flush();
        if let Some(path) = arguments.ready_file.as_deref() {
            let (host, region) = (host.clone(), region.clone());
            let ready = Ready { host, region, operations, data: self.directory.path(), pid: std::process::id() };
            directory::replace_private(path, &serde_json::to_vec_pretty(&ready)?)?;
        }
        supervisor.ready(&format!("host {host} of region {region}"));
        Ok(())
    }

    async fn follow(&self, event: Event) {
        self.control.follow(&event).await;
        self.cache.changed();
        if let Event::Renewed(certificate) = event {
            let renewed = {
                let mut identity = self.identity();
                let tls = identity.renew(self.directory.path(), certificate).and_then(|()| identity.tls());
                tls.map(|tls| (tls, identity.certificate_ends()))
            };
            match renewed {
                Ok((tls, ends)) => {
                    self.talk.client().become_known_as(tls);
                    self.talk.renewed(ends);
                    tracing::info!("the host's certificate was renewed");
                }
                Err(error) => tracing::error!(
                    "the host's next certificate could not be kept, another is asked for in an hour: {error:#}"
                ),
            }
        }
    }

    /// Forgets everything that was given to it.
    fn be_evicted(&self) -> anyhow::Result<ExitCode> {
        self.cache.close();
        eviction::end(&mut self.identity(), self.directory.path())
    }
}

#[cfg(test)]
mod renewal;
