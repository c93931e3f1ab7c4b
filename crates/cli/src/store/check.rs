//! `inborn store check`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use inborn_identity::Clock;
use inborn_region::{HighWaterReport, KeySource, compare_store, cut_offs_kept_since, open_all_sealed};
use inborn_store::{Checked, SqliteSnapshot, StoreError};
use serde_json::json;

use super::Check;
use crate::arguments::Output;
use crate::clock::SystemClock;
use crate::output;
use crate::serving::KEY_FILE;
use crate::store_url::StoreUrl;

/// What was found.
struct Findings {
    schema: u32,
    known: u32,
    checked: Checked,
    /// How many secrets there are, if a key was tried on them.
    sealed: Option<usize>,
    high_water: Option<HighWaterReport>,
}

pub(super) async fn check(arguments: &Check) -> anyhow::Result<ExitCode> {
    let url = arguments.which.url()?;
    let data = arguments.which.data()?;
    let findings = look(&url, &data, key_source(arguments, &data)).await?;
    print(&findings, &url, arguments.output)?;
    Ok(if findings.checked.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The key to try, if there is one.
fn key_source(arguments: &Check, data: &Path) -> Option<KeySource> {
    let state = data.to_owned();
    match (&arguments.key_command, &arguments.key_file) {
        (Some(command), _) => {
            let argv = command.split_ascii_whitespace().map(str::to_owned).collect();
            Some(KeySource::Command { argv, state })
        }
        (None, Some(file)) => Some(KeySource::File(file.clone())),
        (None, None) => Some(data.join(KEY_FILE)).filter(|path| path.exists()).map(KeySource::File),
    }
}

async fn look(url: &StoreUrl, data: &Path, key: Option<KeySource>) -> anyhow::Result<Findings> {
    let mut faults = Vec::new();
    let (schema, known) = match url {
        StoreUrl::Sqlite(path) => {
            let snapshot = SqliteSnapshot::open(path)?;
            faults.extend(snapshot.faults()?);
            (snapshot.schema(), SqliteSnapshot::known_schema())
        }
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres(url) => {
            let snapshot = inborn_store_postgres::PostgresSnapshot::open(url).await?;
            (snapshot.schema().version, inborn_store_postgres::PostgresSnapshot::known_schema())
        }
        #[cfg(not(feature = "postgres"))]
        StoreUrl::Postgres(_) => return Err(crate::store_url::without_postgres().into()),
    };
    let checked = Checked { rows: Vec::new(), faults };
    let mut findings = Findings { schema, known, checked, sealed: None, high_water: None };
    if schema < known {
        // What cannot be read is not called whole.
        let older = StoreError::Older { found: schema, known };
        findings.checked.faults.push(format!("what is in it was not looked at: {older}"));
        return Ok(findings);
    }
    let now = SystemClock.now();
    let store = url.open_to_read().await?;
    let mut snapshot = open_snapshot(url).await?;
    let Checked { rows, faults } = inborn_store::check(&mut *snapshot, &*store, cut_offs_kept_since(now)).await?;
    findings.checked.rows = rows;
    findings.checked.faults.extend(faults);
    match compare_store(&*store, data, now).await {
        Ok(report) => {
            if let Some(older) = &report.older {
                findings.checked.faults.push(format!(
                    "it is older than what a server has seen with this data directory: {older}; none starts on it without \
                     --accept-older-store"
                ));
            }
            findings.high_water = Some(report);
        }
        Err(error) => findings.checked.faults.push(error.to_string()),
    }
    if let Some(key) = key {
        match open_all_sealed(&store, &key).await {
            Ok((count, closed)) => {
                findings.sealed = Some(count);
                let not_opened = closed.iter().map(|label| format!("the key does not open: {label}"));
                findings.checked.faults.extend(not_opened);
            }
            Err(inborn_region::OpenError::Store(StoreError::Corrupt(_))) => {}
            Err(error) => findings.checked.faults.push(error.to_string()),
        }
    }
    store.close().await?;
    Ok(findings)
}

/// As [`StoreUrl::snapshot`], also of a database that is ahead and may be used all the same.
async fn open_snapshot(url: &StoreUrl) -> Result<Box<dyn inborn_store::dump::Snapshot>, StoreError> {
    match url {
        StoreUrl::Sqlite(path) => Ok(Box::new(SqliteSnapshot::open(path)?)),
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres(url) => Ok(Box::new(inborn_store_postgres::PostgresSnapshot::open(url).await?)),
        #[cfg(not(feature = "postgres"))]
        StoreUrl::Postgres(_) => Err(crate::store_url::without_postgres()),
    }
}

fn print(findings: &Findings, url: &StoreUrl, form: Output) -> anyhow::Result<()> {
    let Findings { schema, known, checked, sealed, high_water } = findings;
    let mut out = std::io::stdout().lock();
    if form == Output::Json {
        let rows: serde_json::Map<_, _> =
            checked.rows.iter().map(|(name, rows)| ((*name).to_owned(), json!(rows))).collect();
        let value = json!({
            "store": url.shown(),
            "schema": { "found": schema, "known": known },
            "rows": rows,
            "secrets_tried": sealed,
            "high_water": high_water.as_ref().map(|report| json!({
                "store": report.store,
                "seen": report.seen,
                "is_older": report.older.is_some(),
            })),
            "faults": checked.faults,
            "ok": checked.faults.is_empty(),
        });
        writeln!(out, "{:#}", output::Json(&value))?;
        return Ok(());
    }
    let count: u64 = checked.rows.iter().map(|(_, rows)| rows).sum();
    let sealed = sealed.map_or_else(
        || "not tried: there is no key here (--key-file)".to_owned(),
        |count| format!("{count}, tried with the key"),
    );
    let number = |count: Option<u64>| count.map_or_else(|| "none".to_owned(), |count| count.to_string());
    let (here, seen) = high_water.as_ref().map_or((None, None), |report| (report.store, report.seen));
    output::fields(
        &mut out,
        &[
            ("store", &url.shown()),
            ("schema", &format!("{schema} (this program's: {known})")),
            ("rows", &count.to_string()),
            ("secrets", &sealed),
            ("high-water mark", &format!("{}, seen here: {}", number(here), number(seen))),
        ],
    )?;
    if !checked.rows.is_empty() {
        writeln!(out)?;
        let filled = checked.rows.iter().filter(|(_, rows)| *rows > 0);
        let filled: Vec<[String; 2]> = filled.map(|(name, rows)| [(*name).to_owned(), rows.to_string()]).collect();
        output::table(&mut out, ["TABLE", "ROWS"], &filled)?;
    }
    writeln!(out)?;
    for fault in &checked.faults {
        writeln!(out, "FAULT  {}", output::printable(fault))?;
    }
    if checked.faults.is_empty() {
        writeln!(out, "it is whole")?;
    }
    Ok(())
}
