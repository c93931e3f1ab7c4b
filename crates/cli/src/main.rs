//! The binary `inborn`: arguments, configuration, wiring. What it does is in the other crates.
#![forbid(unsafe_code)]

mod accounts;
mod activation;
mod arguments;
mod attach;
mod audit;
mod balancers;
mod beside;
mod bridge;
mod certificates;
mod clock;
mod completions;
mod deployment;
mod detection;
mod directory;
mod doctor;
mod epoch;
mod exec;
mod guardduty;
mod hook;
mod host_agent;
mod hosts;
mod inside;
mod launch;
mod machines;
mod management;
#[cfg(test)]
mod manual;
mod notify;
mod operations;
mod operator;
mod output;
mod quarantine;
mod region;
mod reload;
mod run;
mod sensor;
mod serving;
mod settings;
mod settled;
mod shell;
mod signals;
mod ssh;
mod store;
mod store_url;
mod telemetry_store;
mod traces;
mod up;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use inborn_host::pocket;

use arguments::{Arguments, Command};

/// What everything that is not the command's own failure exits with, `run` and `exec` excepted.
const EXIT_FAILED: u8 = 1;

fn main() -> ExitCode {
    // The child of `run` enters its namespaces, which a process with a second thread cannot.
    let mut raw = std::env::args_os().skip(1);
    if raw.next().is_some_and(|first| first == pocket::CHILD_ARGUMENT) {
        return pocket::child_main(raw);
    }
    if std::env::args_os().nth(1).is_some_and(|first| first == pocket::terminal::KEEPER_ARGUMENT) {
        return pocket::terminal::keeper_main();
    }
    let arguments = Arguments::parse();
    let failed =
        if matches!(arguments.command, Command::Run(_) | Command::Exec(_)) { pocket::EXIT_FAILED } else { EXIT_FAILED };
    match execute(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "inborn: {error:#}");
            ExitCode::from(failed)
        }
    }
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Up(up) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(up::up(&up)).map(done)
        }
        Command::Region(arguments) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(region::region(&arguments)).map(done)
        }
        Command::Host(arguments) if arguments.serves() => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let result = runtime.block_on(hosts::host(&arguments));
            // A name that is still being looked up is no reason to wait.
            runtime.shutdown_background();
            result
        }
        Command::Sensor(arguments) => {
            // Files are written and /proc is read while the network is waited for.
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let result = runtime.block_on(sensor::sensor(&arguments)).map(done);
            // Standard input that nobody writes to is no reason to wait.
            runtime.shutdown_background();
            result
        }
        other => {
            // The futures of these commands run on the main thread: `run` depends on it.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let result = runtime.block_on(async {
                match other {
                    Command::Run(run) => run::run(&run).await,
                    Command::Launch(launch) => launch::launch(&launch).await.map(done),
                    Command::Attach(attach) => attach::attach(&attach).await.map(done),
                    Command::Detach(detach) => attach::detach(&detach).await.map(done),
                    Command::Hook(hook) => hook::hook(&hook).await.map(done),
                    Command::Ps(ps) => machines::ps(&ps).await.map(done),
                    Command::Describe(describe) => machines::describe(&describe).await.map(done),
                    Command::Terminate(targets) => machines::change("TerminateInstances", &targets).await.map(done),
                    Command::Stop(targets) => machines::change("StopInstances", &targets).await.map(done),
                    Command::Start(targets) => machines::change("StartInstances", &targets).await.map(done),
                    Command::Reboot(targets) => machines::change("RebootInstances", &targets).await.map(done),
                    Command::Quarantine(arguments) => quarantine::quarantine(&arguments).await.map(done),
                    Command::Release(arguments) => quarantine::release(&arguments).await.map(done),
                    Command::Epoch(arguments) => epoch::epoch(&arguments).await.map(done),
                    Command::Account(arguments) => accounts::account(&arguments).await.map(done),
                    Command::Operator(arguments) => accounts::operators(&arguments).await.map(done),
                    Command::Store(arguments) => store::store(&arguments).await,
                    Command::Hosts(arguments) => hosts::hosts(&arguments).await.map(done),
                    Command::Host(arguments) => hosts::host(&arguments).await,
                    Command::Ca(ca) => certificates::ca(&ca).map(done),
                    Command::Exec(command) => exec::exec(&command).await,
                    Command::Role(role) => management::role(&role).await.map(done),
                    Command::Nodes(nodes) => management::nodes(&nodes).await.map(done),
                    Command::Shell(command) => shell::shell(&command).await,
                    Command::Findings(findings) => guardduty::findings(&findings).await.map(done),
                    Command::Events(events) => guardduty::events(&events).await.map(done),
                    Command::Coverage(coverage) => guardduty::coverage(&coverage).await.map(done),
                    Command::Audit(audit) => audit::audit(&audit).await.map(done),
                    Command::HostKeys(host_keys) => ssh::host_keys(&host_keys).await.map(done),
                    Command::KnownHosts(known_hosts) => ssh::known_hosts(&known_hosts).await.map(done),
                    Command::SshConfig(config) => ssh::ssh_config(&config).map(done),
                    Command::Ssh(login) => ssh::ssh(&login).await,
                    Command::Scp(copy) => ssh::scp(&copy).await,
                    Command::OpenTunnel(tunnel) => ssh::open_tunnel(&tunnel).await.map(done),
                    Command::AuthorizedKeys(keys) => ssh::authorized_keys(&keys).await,
                    Command::Doctor(doctor) => doctor::doctor(&doctor).await,
                    Command::Completions(completions) => completions::completions(&completions).map(done),
                    Command::Credentials(arguments) => inside::credentials(&arguments).await.map(done),
                    Command::Whoami(whoami) => inside::whoami(&whoami).await.map(done),
                    Command::Up(_)
                    | Command::Region(_)
                    | Command::Sensor(_)
                    | Command::Pocket { .. }
                    | Command::Terminal => {
                        anyhow::bail!("this form of the command is internal")
                    }
                }
            });
            // A resolver thread that still waits for an answer is no reason to wait.
            runtime.shutdown_background();
            result
        }
    }
}
