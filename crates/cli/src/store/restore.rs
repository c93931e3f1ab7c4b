//! `inborn store restore`.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use inborn_region::{HIGH_WATER_SETTING, HighWaterReport, compare_high_water, note_restore};
use inborn_store::dump::{Cell, DumpFile, load, must_be_empty};

use super::{Restore, no_server_has_open, rows};
use crate::directory;
use crate::output::printable;
use crate::serving::KEY_FILE;
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
    let data = arguments.which.data()?;
    let report = compare_high_water(mark.as_deref(), &data)?;
    if let StoreUrl::Sqlite(path) = &url
        && let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists())
    {
        directory::make_private(parent)?;
    }
    let mut file = DumpFile::open(&opened).with_context(|| format!("cannot restore {place}"))?;
    no_server_has_open(&url).await?;
    let mut loading = url.loading().await?;
    // Before anything is taken down: a store that is not filled says nothing of what is in it.
    must_be_empty(&mut *loading).await.with_context(|| format!("cannot restore {place}"))?;
    let is_noted_here = report.older.is_none()
        && !report.is_as_seen()
        && (report.seen.is_some() || is_of_a_server(&url, arguments, &data));
    // Before anything is put back: a server must not start on it as if nothing was missing, whenever this is killed. It stays where this
    // fails: a connection may be lost after all was committed.
    let noted = is_noted_here.then(|| note_restore(mark.as_deref(), &data)).transpose()?;
    let tables = load(file.frames(), loading).await.with_context(|| format!("cannot restore {place}"))?;
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
    tell_high_water(&mut out, &report, noted.as_deref())?;
    Ok(())
}

/// Whether a server will look into the data directory when it starts on the store. A database may be restored from a computer that
/// never has a server, and what is written in its user's own directory would meet the next `inborn up` there.
fn is_of_a_server(url: &StoreUrl, arguments: &Restore, data: &Path) -> bool {
    match url {
        StoreUrl::Sqlite(path) => path.parent() == Some(data) || data.exists(),
        StoreUrl::Postgres(_) => arguments.which.is_directory_named() && data.exists() || data.join(KEY_FILE).exists(),
    }
}

/// What a server will say to the store at its start.
fn tell_high_water(out: &mut impl Write, report: &HighWaterReport, noted: Option<&Path>) -> std::io::Result<()> {
    let said = match (&report.older, report.seen) {
        (Some(older), _) => format!(
            "It is older than what a server has seen here ({older}), so that none starts on it: start once with \
             --accept-older-store, and what was issued so far is refused; hosts are in quarantine until they are released"
        ),
        (None, Some(_)) if report.is_as_seen() => {
            "It is exactly as new as what a server has seen here: start as always".to_owned()
        }
        (None, seen) => {
            let known = match seen {
                Some(_) => {
                    "It is newer than what a server has seen here, and nobody knows how far the region had come since"
                }
                None => "Nobody knows here how far the region had come since",
            };
            let what = match noted {
                Some(file) => format!("{} says so, and no server starts on it here without", file.display()),
                None => "start the first server once with".to_owned(),
            };
            format!(
                "{known}: {what} --accept-older-store, by which what was issued so far is refused, and hosts are in \
                 quarantine until they are released"
            )
        }
    };
    writeln!(out, "{said}")?;
    writeln!(out, "The key is not in a backup: epoch.key must be in the data directory, or given as before")
}
