//! `inborn store copy`.

use std::io::Write;

use anyhow::{Context, ensure};
use inborn_store::SqliteSnapshot;
use inborn_store::dump::Snapshot;

use super::{Copy, no_server_has_open, rows};
use crate::epoch::no_server_runs;
use crate::store_url::StoreUrl;

pub(super) async fn copy(arguments: &Copy) -> anyhow::Result<()> {
    let from: StoreUrl = arguments.from.parse().map_err(anyhow::Error::msg).context("--from")?;
    let to: StoreUrl = arguments.to.parse().map_err(anyhow::Error::msg).context("--to")?;
    ensure!(from != to, "--from and --to are the same store: name two");
    let mut snapshot = alone(&from).await.with_context(|| format!("cannot read {}", from.shown()))?;
    no_server_has_open(&to).await.with_context(|| format!("cannot fill {}", to.shown()))?;
    let loading = to.loading().await.with_context(|| format!("cannot fill {}", to.shown()))?;
    let tables = inborn_store::dump::copy_if(&mut *snapshot, loading, nobody_came(&from)).await?;
    let count = tables.iter().map(|table| table.rows).sum();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} of {} are in {}, and were read there as they are", rows(count), from.shown(), to.shown())?;
    writeln!(out, "From now on use the other store alone: start no server on {} again", from.shown())?;
    Ok(())
}

/// Of a database no lock can be had: who has begun since has written what is not in the copy.
async fn nobody_came(from: &StoreUrl) -> anyhow::Result<()> {
    if let StoreUrl::Postgres(_) = from {
        let store = from.open_to_read().await?;
        no_server_runs(&*store).await.context(
            "a server began to run while the store was copied, and what it wrote since would be missing in the copy, which \
             was not made",
        )?;
        store.close().await?;
    }
    Ok(())
}

/// One moment of a store that nobody serves.
async fn alone(url: &StoreUrl) -> anyhow::Result<Box<dyn Snapshot>> {
    match url {
        StoreUrl::Sqlite(path) => {
            let snapshot = SqliteSnapshot::open_alone(path)?;
            snapshot.must_be_current()?;
            Ok(Box::new(snapshot))
        }
        StoreUrl::Postgres(_) => {
            let store = url.open_to_read().await?;
            no_server_runs(&*store).await?;
            store.close().await?;
            Ok(url.snapshot().await?)
        }
    }
}
