//! `inborn sensor`: what runs inside a machine and tells its region what happens there.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use inborn_guest::Settings;
use inborn_guest::sensor::{self, From, Now, Options, Report, Sight};

use crate::arguments::inside::{Sensor, SensorSource};
use crate::clock;
use crate::output::{escaped, printable};
use crate::signals::StopSignals;

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
    let mut signals = StopSignals::catch()?;
    let stop = signals.next();
    let counts = if arguments.print {
        let mut show = |event: &str| show_event(&mut std::io::stdout().lock(), event);
        sensor::print(sources, &now, &report, &mut show, stop).await?
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

/// Names of files and arguments of programs are anybody's words.
fn show_event(out: &mut impl Write, event: &str) -> io::Result<()> {
    writeln!(out, "{}", escaped(event))?;
    out.flush()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_cannot_drive_the_terminal() {
        let mut out = Vec::new();
        show_event(&mut out, "{\"name\":\"a\u{9b}31m\u{202e}b ü\"}").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"name\":\"a\\u009b31m\\u202eb ü\"}\n");
    }
}
