//! `inborn region`: a region server without a host, over a store that others may have open too.

use std::net::IpAddr;
use std::sync::Arc;

use inborn_identity::Clock;
use inborn_listener::Limits;
use inborn_pki::tls;
use inborn_region::RegionServer;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::activation::PassedSockets;
use crate::arguments::ServeRegion;
use crate::certificates;
use crate::clock::SystemClock;
use crate::deployment::{self, Member};
use crate::directory::{DataDirectory, Ready};
use crate::notify::Supervisor;
use crate::operations::Operations;
use crate::reload;
use crate::serving::{self, Listeners, STOP_TIMEOUT};
use crate::settings::Settings;
use crate::signals::StopSignals;
use crate::traces::Traces;
use crate::up;

/// What is being served.
struct Serving {
    ready: Ready,
    region: Arc<RegionServer>,
    directory: DataDirectory,
    members: Vec<Member>,
    operations: Arc<Operations>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

pub(crate) async fn region(arguments: &ServeRegion) -> anyhow::Result<()> {
    let (traces, layer) = Traces::start(arguments.up.otlp_traces_endpoint.as_deref())?;
    up::start_log(arguments.up.log_format, layer);
    inborn_listener::raise_file_descriptor_limit();
    let settings = Settings::gather_region(arguments)?;
    let mut stop = StopSignals::catch_with_reload()?;
    let supervisor = Arc::new(Supervisor::of_environment());
    let limits = Limits { stop_grace: Limits::DEFAULT.stop_grace.max(settings.drain), ..Limits::DEFAULT };
    let serving = Serving::start(&settings, limits).await?;
    let _ = up::greet(&serving.ready, false);
    supervisor.ready(&format!("region {}, account {}", serving.ready.region, serving.ready.account));
    if let Some(pulse) = supervisor.pulse {
        tokio::spawn(up::beat(Arc::clone(&supervisor), pulse, Arc::clone(&serving.region)));
    }
    reload::until_stopped(&mut stop, &serving.region, &supervisor, &settings, || Settings::gather_region(arguments))
        .await;
    tracing::info!("stopping");
    supervisor.stopping();
    serving.operations.drain();
    // Whoever balances calls has this time to notice. A second signal is somebody who does not want to wait.
    let _ = tokio::time::timeout(settings.drain, stop.next()).await;
    serving.stop(limits).await;
    traces.stop().await;
    Ok(())
}

impl Serving {
    /// Opens the region on its store and serves it. When this returns, all endpoints answer.
    async fn start(settings: &Settings, limits: Limits) -> anyhow::Result<Self> {
        let directory = DataDirectory::hold(&settings.data, false)?;
        let listeners = Listeners::bind(settings, PassedSockets::of_environment()?).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (region, members) = deployment::open(settings, &directory, Arc::clone(&clock)).await?;
        let mut registry = Registry::default();
        deployment::register(&region, &mut registry);
        listeners.front.register(&mut registry);

        let addresses: [IpAddr; 1] = [settings.bind];
        let names = serving::server_names(&region, &addresses);
        let certificate = tls::Certificate::new(region.authority(), names, clock.now())?;
        let tls_config = tls::server_config(Arc::clone(&certificate))?;
        serving::detect(settings, &region.regions());
        let node = settings.fleet.as_ref().map(|fleet| fleet.name.clone());
        let ready = Ready { node, ..listeners.ready(&directory, &region)? };
        serving::write_files(&directory, &region, &ready)?;
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let operations = Operations::new(Arc::clone(&region), directory.path().to_owned(), registry);
        let tls_port = listeners.tls_port()?;
        listeners.serve(&mut tasks, limits, &region, tls_config, &stopping, Arc::clone(&operations))?;
        match &settings.advertise {
            Some(advertise) => {
                let address = advertise.address(tls_port);
                tracing::info!(%address, "other servers reach this one here");
                region.regions().iter().for_each(|region| region.advertise(&address));
            }
            None => tracing::info!(
                "other servers are not told where they reach this one (--advertise): a session of Session Manager that it carries is \
                 for calls that come to it"
            ),
        }
        let others = members.iter().map(|member| (&member.region, &member.directory));
        for (region, directory) in [(&region, &directory)].into_iter().chain(others) {
            certificates::publish(directory.path(), region)?;
            let (region, data) = (Arc::clone(region), directory.path().to_owned());
            tasks.spawn(serving::complete_signers(region, data, stopping.clone()));
        }
        serving::spawn_region_chores(&region, certificate);
        deployment::announce(&members, &ready)?;
        directory.announce(&ready, settings.ready_file.as_deref())?;
        Ok(Self { ready, region, directory, members, operations, stop, tasks })
    }

    /// Stops serving: connections get a moment to end, then the store is closed.
    async fn stop(mut self, limits: Limits) {
        let _ = self.stop.send(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT + limits.stop_grace, all).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
        for region in self.region.regions() {
            region.leave().await;
        }
        serving::close(&self.region).await;
        drop(self.members);
        drop(self.directory);
    }
}
