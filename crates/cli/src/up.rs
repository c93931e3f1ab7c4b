//! `inborn up`: a region and a host, until stopped.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use inborn_region::RegionServer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use crate::activation::PassedSockets;
use crate::arguments::{LogFormat, Up};
use crate::directory::Ready;
use crate::notify::Supervisor;
use crate::reload;
use crate::serving::Serving;
use crate::settings::Settings;
use crate::signals::StopSignals;
use crate::traces::{BoxedLayer, Traces};

pub(crate) async fn up(arguments: &Up) -> anyhow::Result<()> {
    let (traces, layer) = Traces::start(arguments.otlp_traces_endpoint.as_deref())?;
    start_log(arguments.log_format, layer);
    inborn_listener::raise_file_descriptor_limit();
    let settings = Settings::gather(arguments)?;
    // Caught before anything is made that a stop has to undo.
    let mut stop = StopSignals::catch_with_reload()?;
    let supervisor = Arc::new(Supervisor::of_environment());
    let serving = Serving::start(&settings, PassedSockets::of_environment()?).await?;
    let _ = greet(&serving.ready, settings.ephemeral);
    supervisor.ready(&format!("region {}, account {}", serving.ready.region, serving.ready.account));
    if let Some(pulse) = supervisor.pulse {
        tokio::spawn(beat(Arc::clone(&supervisor), pulse, Arc::clone(&serving.region)));
    }
    reload::until_stopped(&mut stop, &serving.region, &supervisor, &settings, || Settings::gather(arguments)).await;
    tracing::info!("stopping");
    supervisor.stopping();
    serving.drain();
    // Whoever balances calls has this time to notice. A second signal is somebody who does not want to wait.
    let _ = tokio::time::timeout(settings.drain, stop.next()).await;
    serving.stop().await;
    traces.stop().await;
    Ok(())
}

/// Signs of life, each given only after the region was asked something that no lock holds up for ever.
pub(crate) async fn beat(supervisor: Arc<Supervisor>, pulse: Duration, region: Arc<RegionServer>) {
    loop {
        region.regions().iter().for_each(|region| region.measure());
        supervisor.alive();
        tokio::time::sleep(pulse).await;
    }
}

/// Log lines go to standard error; `RUST_LOG` takes `LEVEL` or `TARGET=LEVEL,…`. It says nothing of what `traces` is told.
pub(crate) fn start_log(format: LogFormat, traces: Option<BoxedLayer>) {
    let default = || Targets::new().with_default(LevelFilter::INFO).with_target("rustls", LevelFilter::WARN);
    let targets = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok()).unwrap_or_else(default);
    let is_colourful =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(is_colourful);
    let log: BoxedLayer = match format {
        LogFormat::Text => layer.with_target(false).with_filter(targets).boxed(),
        LogFormat::Json => layer.json().with_filter(targets).boxed(),
    };
    let layers: Vec<_> = traces.into_iter().chain([log]).collect();
    let _ = tracing_subscriber::registry().with(layers).try_init();
}

/// What a person wants to know at first sight.
pub(crate) fn greet(ready: &Ready, ephemeral: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let kept = if ephemeral { " (nothing is kept)" } else { "" };
    let (version, account) = (env!("CARGO_PKG_VERSION"), &ready.account);
    match ready.regions.as_slice() {
        [] => writeln!(out, "Inborn {version}: region {}, account {account}", ready.region)?,
        all => {
            writeln!(out, "Inborn {version}: regions {} (the first is the home), account {account}", all.join(", "))?
        }
    }
    writeln!(out)?;
    writeln!(out, "  AWS endpoints   {}", ready.endpoint)?;
    writeln!(out, "                  {}  (certificate authority: {})", ready.tls_endpoint, ready.ca_bundle.display())?;
    writeln!(out, "  operations      {}/metrics", ready.operations)?;
    writeln!(out, "  operator key    . {}", ready.operator_env.display())?;
    writeln!(out, "  state           {}{kept}", ready.data.display())?;
    writeln!(out)?;
    writeln!(out, "Try:  inborn run -- aws sts get-caller-identity")?;
    writeln!(out, "      inborn launch --name web-1")?;
    out.flush()
}
