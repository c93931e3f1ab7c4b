//! `inborn run`: a machine that lives as long as a command.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::Context;
use inborn_host::control::{ControlClient, PocketLease, PocketRequest};
use inborn_host::pocket::egress::Egress;
use inborn_host::pocket::signals::{Signals, end_like};
use inborn_host::pocket::terminal::Terminal;
use inborn_host::pocket::{Network, Plan, Pocket, PocketError, Sockets};
use inborn_identity::InstanceId;
use inborn_pki::tls;

use crate::activation::PassedSockets;
use crate::arguments::{Net, Run, named};
use crate::deployment;
use crate::directory::{self, Ready};
use crate::operator::Operator;
use crate::serving::Serving;
use crate::settings::Settings;

/// How often a lost region is looked for, and how many times: for as long as it keeps the machine for us.
const RETURN_ROUND: Duration = Duration::from_millis(250);
const RETURN_ROUNDS: u32 = 110;

/// How the command ended, or that it never began.
enum Ending {
    Of(ExitStatus),
    Never(PocketError),
}

pub(crate) async fn run(arguments: &Run) -> anyhow::Result<ExitCode> {
    let executable = std::env::current_exe().context("cannot find this very program")?;
    let terminal = arguments.tty.then(Terminal::open).transpose()?;
    // First of all, while this process has nothing that a child could inherit.
    let network = match arguments.net {
        Net::None => Network::None,
        Net::HostEgress => Network::HostEgress,
    };
    let opened = Pocket::open(&executable, &arguments.command, network, terminal.as_ref()).await;
    let (pocket, sockets) = match opened {
        Ok(opened) => opened,
        Err(error) => return Ok(Ending::Never(error).exit()),
    };
    let mut signals = Signals::catch(arguments.tty).context("cannot catch signals")?;
    let which = &arguments.region;
    let (ready, own) = Box::pin(region(named(which.data.as_ref()), which.region_name.as_deref())).await?;
    // A region of its own, in memory, knows nobody but its first operator.
    let operator = if own.is_some() { Operator::first_of(&ready)? } else { Operator::of(&ready)? };
    let instance = operator.launch(&arguments.machine, true).await?;
    let ending = Life { ready: &ready, instance, executable, sockets }.live(pocket, terminal, &mut signals).await;
    // The end of the lease would do it too; this way it is done when this command returns.
    if let Err(error) = operator.change("TerminateInstances", &[instance.to_string()]).await {
        tell(&format!("machine {instance} could not be terminated: {error:#}"));
    }
    if let Some(serving) = own {
        serving.stop().await;
    }
    Ok(ending?.exit())
}

/// The `up` that is running, or a region of our own in memory.
async fn region(data: Option<&Path>, name: Option<&str>) -> anyhow::Result<(Ready, Option<Serving>)> {
    // One that was named is meant and is waited for; without a name, a region of our own does as well.
    let found = if data.is_some() { directory::find_soon(data).await? } else { directory::find(data)? };
    if let Some(ready) = found {
        return Ok((name.map_or(Ok(ready.clone()), |name| deployment::find(ready, name))?, None));
    }
    if let Some(data) = data {
        anyhow::bail!(
            "no `inborn up` is running on {}: start one, or leave --data and INBORN_DATA away for a region of its own",
            data.display()
        );
    }
    let serving = Serving::start(&Settings::in_memory(name)?, PassedSockets::default()).await?;
    Ok((serving.ready.clone(), Some(serving)))
}

/// What a machine lives by.
struct Life<'a> {
    ready: &'a Ready,
    instance: InstanceId,
    executable: PathBuf,
    sockets: Sockets,
}

impl Life<'_> {
    /// Attaches the machine, lets the command run in it, and waits for its end.
    async fn live(
        self,
        mut pocket: Pocket,
        terminal: Option<Terminal>,
        signals: &mut Signals,
    ) -> anyhow::Result<Ending> {
        let egress = pocket.take_egress();
        let request = PocketRequest {
            instance: self.instance,
            region: self.ready.region.parse().context("the running `inborn up` is of another version")?,
            domain: self.ready.domain.clone(),
            world: egress.is_some(),
        };
        let control = ControlClient::new(&self.ready.data);
        let lease = control.attach_pocket(request.clone(), &self.sockets).await?;
        let mut running = match pocket.go(&plan(self.ready, &request, self.executable.clone())?).await {
            Ok(running) => running,
            Err(error) => return Ok(Ending::Never(error)),
        };
        let relay = terminal.map(|terminal| terminal.connect(&self.executable)).transpose();
        let relay = relay.context("cannot pass the terminal on")?;
        let status = tokio::select! {
            status = running.wait(signals, relay.as_ref()) => status.context("cannot wait for the command"),
            () = keep(lease, &control, &request, &self.sockets) => unreachable!("a lease is kept for ever"),
            () = watch(egress) => unreachable!("a network is watched for ever"),
        };
        if let Some(relay) = relay {
            relay.finish().await;
        }
        Ok(Ending::Of(status?))
    }
}

/// Holds the way out open, and says so if it fails: the command goes on without.
async fn watch(egress: Option<Egress>) {
    if let Some(mut egress) = egress {
        let error = egress.closed().await;
        tell(&format!("{error}: the command goes on without a network"));
    }
    std::future::pending().await
}

/// A line for the person who waits. A terminal may be raw, and then a line feed alone does not go back to the left.
fn tell(message: &str) {
    let mut errors = std::io::stderr();
    let end = if errors.is_terminal() { "\r\n" } else { "\n" };
    let _ = write!(errors, "inborn: {message}{end}");
}

/// What the command finds in its pocket.
fn plan(ready: &Ready, request: &PocketRequest, executable: PathBuf) -> anyhow::Result<Plan> {
    let authority = std::fs::read_to_string(&ready.ca_bundle)
        .with_context(|| format!("cannot read {}", ready.ca_bundle.display()))?;
    let mut hidden = vec![ready.data.clone()];
    hidden.extend(directory::default_path().ok());
    Ok(Plan {
        instance: request.instance,
        region: request.region.clone(),
        ca_bundle: format!("{}\n{authority}", tls::system_bundle_pem()),
        executable,
        hidden,
    })
}

/// Holds the machine's lease. When the region goes away, the machine is handed to the one that comes back: its
/// credentials are the same, since they follow from what the store remembers.
async fn keep(mut lease: PocketLease, control: &ControlClient, request: &PocketRequest, sockets: &Sockets) {
    loop {
        lease.lost().await;
        match come_back(control, request, sockets).await {
            Some(again) => lease = again,
            None => {
                tell(&format!(
                    "the region is gone, and with it machine {}: the command goes on without metadata",
                    request.instance
                ));
                return std::future::pending().await;
            }
        }
    }
}

async fn come_back(control: &ControlClient, request: &PocketRequest, sockets: &Sockets) -> Option<PocketLease> {
    for _ in 0..RETURN_ROUNDS {
        if let Ok(lease) = control.attach_pocket(request.clone(), sockets).await {
            return Some(lease);
        }
        tokio::time::sleep(RETURN_ROUND).await;
    }
    None
}

impl Ending {
    /// What this process exits with; or ends by the signal that ended the command.
    fn exit(self) -> ExitCode {
        match self {
            Self::Of(status) => end_like(status),
            Self::Never(error) => {
                let _ = writeln!(std::io::stderr(), "inborn: {error}");
                ExitCode::from(error.exit_code())
            }
        }
    }
}
