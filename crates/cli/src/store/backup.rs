//! `inborn store backup`.

use std::io::{BufWriter, Write};

use anyhow::{Context, bail};
use inborn_identity::Clock;
use inborn_store::dump::{Summary, dump};

use super::{Backup, rows};
use crate::beside::Beside;
use crate::clock::SystemClock;

pub(super) async fn backup(arguments: &Backup) -> anyhow::Result<()> {
    let url = arguments.which.url()?;
    let place = &arguments.file;
    if !arguments.force && place.exists() {
        bail!("there is {} already: name another file, or replace it with --force", place.display());
    }
    let mut snapshot = url.snapshot().await?;
    let cannot_write = || format!("cannot write {}", place.display());
    let beside = Beside::create(place).with_context(cannot_write)?;
    let write = async {
        let mut out = BufWriter::new(beside.file());
        let summary = dump(&mut *snapshot, env!("CARGO_PKG_VERSION"), SystemClock.now(), &mut out).await?;
        out.flush()?;
        drop(out);
        anyhow::Ok(summary)
    };
    let summary: Summary = write.await?;
    let bytes = beside.file().metadata().map(|metadata| metadata.len()).unwrap_or_default();
    let put = if arguments.force { beside.put() } else { beside.put_new() };
    put.with_context(cannot_write)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} of {} are in {} ({bytes} bytes)", rows(summary.rows()), url.shown(), place.display())?;
    writeln!(
        out,
        "Secrets in it are sealed, and the key is not in it: keep a copy of the key (epoch.key) in another place"
    )?;
    Ok(())
}
