//! `inborn store migrate`.

use std::io::Write;

use inborn_store::SqliteSnapshot;

use super::Migrate;
use crate::store_url::StoreUrl;

/// Versions of the schema of a store.
struct Versions {
    /// 0: there is nothing in it.
    found: u32,
    known: u32,
}

pub(super) async fn migrate(arguments: &Migrate) -> anyhow::Result<()> {
    let url = arguments.which.url()?;
    let Versions { found, known } = versions(&url).await?;
    let mut out = std::io::stdout().lock();
    let shown = url.shown();
    if found > known {
        writeln!(
            out,
            "{shown} has schema {found}, later than this program's {known}, and can be used by it: nothing to do"
        )?;
    } else if found == known {
        writeln!(out, "{shown} has schema {found} already")?;
    } else if arguments.dry_run {
        writeln!(out, "{shown} would be brought from schema {found} to {known}")?;
    } else {
        url.open().await?.close().await?;
        writeln!(out, "{shown} was brought from schema {found} to {known}")?;
    }
    Ok(())
}

/// What the store says, without changing it. One from the future is refused.
async fn versions(url: &StoreUrl) -> anyhow::Result<Versions> {
    match url {
        StoreUrl::Sqlite(path) => {
            let snapshot = SqliteSnapshot::open(path)?;
            Ok(Versions { found: snapshot.schema(), known: SqliteSnapshot::known_schema() })
        }
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres(url) => {
            let (found, known) = inborn_store_postgres::PostgresStore::check(url).await?;
            Ok(Versions { found: found.version, known })
        }
        #[cfg(not(feature = "postgres"))]
        StoreUrl::Postgres(_) => Err(crate::store_url::without_postgres().into()),
    }
}
