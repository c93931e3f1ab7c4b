//! `inborn store restore`.

use std::fs::File;
use std::io::Write;

use anyhow::Context;
use inborn_region::{HIGH_WATER_SETTING, HighWaterReport, compare_high_water};
use inborn_store::dump::{Cell, DumpFile, load};

use super::{Restore, rows};
use crate::directory;
use crate::output::printable;
use crate::store_url::StoreUrl;

pub(super) async fn restore(arguments: &Restore) -> anyhow::Result<()> {
    let url = arguments.which.url()?;
    let place = arguments.file.display();
    // One file all along, whatever is put at its place meanwhile.
    let opened = File::open(&arguments.file).with_context(|| format!("cannot read {place}"))?;
    // Once to the end before anything is begun: what no store can hold is found here, and so is how far it has come.
    let mut mark = None;
    let file = DumpFile::open(&opened).with_context(|| format!("cannot restore {place}"))?;
    let about = file.about().clone();
    file.look_through(|table, row| {
        if let ("settings", [Cell::Text(name), Cell::Bytes(value)]) = (table, row.as_slice())
            && name == HIGH_WATER_SETTING
        {
            mark = Some(value.clone());
        }
    })
    .with_context(|| format!("cannot restore {place}"))?;
    let report = compare_high_water(mark.as_deref(), &arguments.which.data()?)?;
    if let StoreUrl::Sqlite(path) = &url
        && let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists())
    {
        directory::make_private(parent)?;
    }
    let mut file = DumpFile::open(&opened).with_context(|| format!("cannot restore {place}"))?;
    let tables = load(file.frames(), url.loading().await?).await.with_context(|| format!("cannot restore {place}"))?;
    let count = tables.iter().map(|table| table.rows).sum();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} of {} are in {}: a backup of {} by inborn {}, of a {} store",
        rows(count),
        place,
        url.shown(),
        about.made_at,
        printable(&about.program),
        printable(&about.origin.kind)
    )?;
    tell_high_water(&mut out, &report)?;
    Ok(())
}

/// What a server will say to the store at its start.
fn tell_high_water(out: &mut impl Write, report: &HighWaterReport) -> std::io::Result<()> {
    let said = match (&report.older, report.seen) {
        (Some(older), _) => format!(
            "It is older than what a server has seen here ({older}), so that none starts on it: start once with \
             --accept-older-store, and what was issued so far is refused"
        ),
        (None, Some(_)) => "It is as new as what a server has seen here: start as always".to_owned(),
        (None, None) => {
            "Nobody knows here how far the region had come since: start once with --accept-older-store, and what was \
             issued so far is refused"
                .to_owned()
        }
    };
    writeln!(out, "{said}")?;
    writeln!(out, "The key is not in a backup: epoch.key must be in the data directory, or given as before")
}
