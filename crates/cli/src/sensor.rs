//! `inborn sensor`: what runs inside a machine and tells its region what happens there.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use inborn_guest::Settings;
use inborn_guest::sensor::{self, From, Now, Options, Report, Sight};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::inside::{Sensor, SensorSource};
use crate::clock;
use crate::output::printable;

pub(crate) async fn sensor(arguments: &Sensor) -> anyhow::Result<()> {
    let now: Now = Arc::new(clock::now_ms);
    let sources = sensor::open(&sources(arguments), Box::pin(tokio::io::stdin()), &now)?;
    if arguments.check {
        return show(&mut std::io::stdout().lock(), &sources.sights);
    }
    let report: Report = Arc::new(|text| {
        let _ = writeln!(std::io::stderr().lock(), "inborn: {}", printable(text));
    });
    show(&mut std::io::stderr().lock(), &sources.sights)?;
    let stop = stopped()?;
    let counts = if arguments.print {
        sensor::print(sources, &now, &report, &mut std::io::stdout(), stop).await?
    } else {
        let settings = Settings::read(|name| std::env::var(name).ok())?;
        let spool = match &arguments.spool {
            Some(spool) => spool.clone(),
            None => default_spool().context("there is no place for events that wait; name one with --spool")?,
        };
        let options = Options { spool, spool_bytes_max: arguments.spool_size.saturating_mul(1024 * 1024) };
        sensor::run(&settings, &options, sources, &now, &report, stop).await?
    };
    report(&counts.text());
    Ok(())
}

fn sources(arguments: &Sensor) -> Vec<From> {
    let mut from: Vec<From> = arguments
        .from
        .iter()
        .map(|source| match source {
            SensorSource::Proc => From::Proc,
            SensorSource::Audit => From::Audit,
            SensorSource::Laurel => From::Laurel,
            SensorSource::Falco => From::Falco,
        })
        .collect();
    from.extend(arguments.audit_log.clone().map(From::AuditLog));
    if from.is_empty() {
        from.push(From::Proc);
    }
    from
}

fn show(out: &mut impl Write, sights: &[Sight]) -> anyhow::Result<()> {
    for sight in sights {
        let word = if sight.is_seen { "sees" } else { "does not see" };
        writeln!(out, "{word:<12}  {}: {}", sight.what, sight.how)?;
    }
    Ok(())
}

fn default_spool() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd gives several with colons between; the unit asks for one.
    variable("STATE_DIRECTORY")
        .or_else(|| Some(variable("XDG_STATE_HOME")?.join("inborn-sensor")))
        .or_else(|| Some(variable("HOME")?.join(".local/state/inborn-sensor")))
}

/// Ends when somebody wants this process to.
pub(crate) fn stopped() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
