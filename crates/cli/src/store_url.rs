//! Which store a region server opens: a URL.

use core::fmt;
use core::str::FromStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inborn_store::dump::{Loading, Snapshot};
use inborn_store::{SqliteLoading, SqliteSnapshot, SqliteStore, Store, StoreError};
use zeroize::Zeroizing;

use crate::serving::DATABASE;

/// A store. That of a database may hold a password, which is not shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    /// A SQLite file of this computer: one server at a time.
    Sqlite(PathBuf),
    /// A database that speaks the wire of PostgreSQL: any number of servers.
    Postgres(Zeroizing<String>),
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(_) => f.write_str("postgres://…"),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            return Ok(Self::Sqlite(path.into()));
        }
        if ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Ok(Self::Postgres(Zeroizing::new(text.to_owned())));
        }
        Err("a store is postgres://USER:PASSWORD@HOST/DATABASE or sqlite:PATH")
    }
}

impl StoreUrl {
    /// The one that was named, else the database in a data directory.
    pub(crate) fn named_or_in(url: Option<&str>, data: &Path) -> anyhow::Result<Self> {
        match url {
            Some(url) => url.parse().map_err(anyhow::Error::msg),
            None => Ok(Self::Sqlite(data.join(DATABASE))),
        }
    }

    /// Opens it to read, beside whoever serves it.
    pub(crate) async fn open_to_read(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::Sqlite(path) => Arc::new(SqliteStore::open_to_read(path)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => Arc::new(inborn_store_postgres::PostgresStore::open_to_read(url).await?),
            #[cfg(not(feature = "postgres"))]
            Self::Postgres(_) => return Err(without_postgres()),
        })
    }

    /// One moment of it, if it has the version of this program.
    pub(crate) async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(match self {
            Self::Sqlite(path) => {
                let snapshot = SqliteSnapshot::open(path)?;
                snapshot.must_be_current()?;
                Box::new(snapshot)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => {
                let snapshot = inborn_store_postgres::PostgresSnapshot::open(url).await?;
                snapshot.must_be_current()?;
                Box::new(snapshot)
            }
            #[cfg(not(feature = "postgres"))]
            Self::Postgres(_) => return Err(without_postgres()),
        })
    }

    /// It, to be filled; it must be empty.
    pub(crate) async fn loading(&self) -> Result<Box<dyn Loading>, StoreError> {
        Ok(match self {
            Self::Sqlite(path) => Box::new(SqliteLoading::begin(path)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => Box::new(inborn_store_postgres::PostgresLoading::begin(url).await?),
            #[cfg(not(feature = "postgres"))]
            Self::Postgres(_) => return Err(without_postgres()),
        })
    }

    /// As people may see it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(_) => "the PostgreSQL database".to_owned(),
        }
    }

    /// Opens it.
    pub(crate) async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::Sqlite(path) => Arc::new(SqliteStore::open(path)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => Arc::new(inborn_store_postgres::PostgresStore::open(url).await?),
            #[cfg(not(feature = "postgres"))]
            Self::Postgres(_) => return Err(without_postgres()),
        })
    }
}

#[cfg(not(feature = "postgres"))]
pub(crate) fn without_postgres() -> StoreError {
    StoreError::Unfit("this program was built without the feature `postgres`: use one that has it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!("sqlite:/a b/c.db".parse(), Ok(StoreUrl::Sqlite("/a b/c.db".into())));
        for url in ["postgres://inborn:secret@db/inborn", "postgresql://inborn:secret@db/inborn"] {
            let store: StoreUrl = url.parse().unwrap();
            assert_eq!(store, StoreUrl::Postgres(Zeroizing::new(url.to_owned())));
            assert!(!format!("{store:?}").contains("secret"));
        }
        for text in ["", "sqlite:", "/a.db", "mysql://inborn:secret@db/inborn"] {
            let error = text.parse::<StoreUrl>().unwrap_err();
            assert!(!error.contains("secret"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_file_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("region.db");
        let store = StoreUrl::Sqlite(path.clone()).open().await.unwrap();
        assert!(path.is_file());
        store.close().await.unwrap();
    }
}
