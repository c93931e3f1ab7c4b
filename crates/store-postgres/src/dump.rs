//! A database as rows: one moment of it, and an empty one that is being filled.

use deadpool_postgres::{ClientWrapper, Object};
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use inborn_store::dump::{CellKind, Loading, Origin, Row, Snapshot, TABLES, Table};
use inborn_store::{Conflict, Future, StoreError};

use crate::address::Address;
use crate::fault::{self, Fault};
use crate::pool::{self, PostgresOptions};
use crate::schema::{self, HALF_RESTORED, SchemaVersion};
use crate::value::{self, Value};

/// How many rows are on their way at once.
const UNDER_WAY_MAX: usize = 128;

/// One connection is enough, and it is ours: what is left of it when it is dropped is nobody's.
fn options() -> PostgresOptions {
    PostgresOptions { connections: 1, ..PostgresOptions::default() }
}

/// One moment of a database: what a repeatable-read transaction sees, which neither waits for writers nor holds them up.
pub struct PostgresSnapshot {
    client: ClientWrapper,
    schema: SchemaVersion,
}

impl PostgresSnapshot {
    /// Opens the database at `url`, of whatever version. A standby will do.
    ///
    /// # Errors
    /// `Unfit`, `Newer`, `Foreign`, `Unavailable`, `HalfRestored`; `Absent`: there is nothing in it.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let pool = pool::to_read(Address::parse(url)?, &options())?;
        let client = pool.get().await.map_err(|error| fault::from_pool(&error))?;
        let schema = schema::check(&client).await?;
        if schema.version == 0 {
            return Err(StoreError::Absent("in this database".to_owned()));
        }
        let client = Object::take(client);
        run(&client, "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        Ok(Self { client, schema })
    }

    /// What the database says of its schema.
    #[must_use]
    pub const fn schema(&self) -> SchemaVersion {
        self.schema
    }

    /// The version that this program works with.
    #[must_use]
    pub fn known_schema() -> u32 {
        schema::known()
    }

    /// Refuses a database of another version than this program's: what a later one has more would be missing.
    ///
    /// # Errors
    /// `Older`, `Newer`.
    pub fn must_be_current(&self) -> Result<(), StoreError> {
        let (found, known) = (self.schema.version, schema::known());
        match found.cmp(&known) {
            core::cmp::Ordering::Less => Err(StoreError::Older { found, known }),
            core::cmp::Ordering::Equal => Ok(()),
            core::cmp::Ordering::Greater => Err(StoreError::Newer { found, known }),
        }
    }
}

impl Snapshot for PostgresSnapshot {
    fn origin(&self) -> Origin {
        origin(self.schema.version)
    }

    fn page<'a>(&'a mut self, table: &'static Table, after: Option<Row>) -> Future<'a, Vec<Row>> {
        Box::pin(page(&self.client, table, after))
    }

    fn count<'a>(&'a mut self, sql: String) -> Future<'a, u64> {
        Box::pin(count(&self.client, sql))
    }
}

/// A database that is being filled, in one transaction. From its beginning to its commit the database refuses to be opened by any
/// program, and does so for good if it never comes to the commit; another one may begin then.
pub struct PostgresLoading {
    client: ClientWrapper,
}

impl PostgresLoading {
    /// Begins in the database at `url`, which must be empty, or be left by one that broke off.
    ///
    /// # Errors
    /// As of a store; `Conflict`: there is something in it.
    pub async fn begin(url: &str) -> Result<Self, StoreError> {
        let pool = pool::new(Address::parse(url)?, &options())?;
        let client = pool.get().await.map_err(|error| fault::from_pool(&error))?;
        schema::fit(&client).await?;
        let found = schema::version(&client).await?;
        if found.usable_from > schema::known() && found.usable_from != HALF_RESTORED {
            return Err(StoreError::Newer { found: found.version, known: schema::known() });
        }
        schema::migrate(&client).await?;
        let client = Object::take(client);
        // Before anything is marked: what is in use must stay so.
        must_be_empty(&client).await?;
        let before = usable_from(&client).await?;
        if !exchange(&client, before, HALF_RESTORED.into()).await? {
            // Another restore has begun or ended within this moment: whether anything is there has to be asked anew.
            return Err(StoreError::Unavailable(
                "another restore is under way: begin again when it has ended".to_owned(),
            ));
        }
        run(&client, "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE").await?;
        // Again, since somebody may have begun to use it before it was marked: that one must be able to go on.
        if let Err(error) = must_be_empty(&client).await {
            run(&client, "ROLLBACK").await?;
            if before != i64::from(HALF_RESTORED) {
                exchange(&client, HALF_RESTORED.into(), before).await?;
            }
            return Err(error);
        }
        Ok(Self { client })
    }

    async fn finish(self) -> Result<(), StoreError> {
        // Whoever has it open from before is told by another number that it is not what it was.
        let filled = schema::another_filled();
        let sql = format!(
            "UPDATE schema_version SET usable_from = {}, filled = {filled} WHERE one = 1",
            schema::usable_from()
        );
        run(&self.client, &sql).await?;
        self.client.batch_execute("COMMIT").await.map_err(|error| told(fault::from_commit(&error)))
    }
}

impl Snapshot for PostgresLoading {
    fn origin(&self) -> Origin {
        origin(schema::known())
    }

    fn page<'a>(&'a mut self, table: &'static Table, after: Option<Row>) -> Future<'a, Vec<Row>> {
        Box::pin(page(&self.client, table, after))
    }

    fn count<'a>(&'a mut self, sql: String) -> Future<'a, u64> {
        Box::pin(count(&self.client, sql))
    }
}

impl Loading for PostgresLoading {
    fn put<'a>(&'a mut self, table: &'static Table, rows: Vec<Row>) -> Future<'a, ()> {
        Box::pin(async move {
            let sql = table.insert('$');
            let statement = self.client.prepare_cached(&sql).await.map_err(of_statement)?;
            let (client, statement) = (&self.client, &statement);
            for rows in rows.chunks(UNDER_WAY_MAX) {
                let all = rows.iter().map(|row| async move {
                    let values: Vec<Value> = table
                        .columns
                        .iter()
                        .zip(row)
                        .map(|(column, cell)| match (cell.kind(), column.kind) {
                            (None, CellKind::Number) => Value::Number(None),
                            _ => cell.into(),
                        })
                        .collect();
                    let values: Vec<_> = values.iter().map(Value::as_sql).collect();
                    client.execute(statement, &values).await
                });
                try_join_all(all).await.map_err(|error| told(fault::from_insertion(&error, "a row")))?;
            }
            Ok(())
        })
    }

    fn commit(self: Box<Self>) -> Future<'static, ()> {
        Box::pin(self.finish())
    }
}

fn origin(schema: u32) -> Origin {
    Origin { kind: "postgres".to_owned(), schema }
}

async fn page(client: &ClientWrapper, table: &'static Table, after: Option<Row>) -> Result<Vec<Row>, StoreError> {
    let sql = table.select('$', after.is_some());
    let statement = client.prepare_cached(&sql).await.map_err(of_statement)?;
    let key: Vec<Value> = after.iter().flatten().map(Value::from).collect();
    let key: Vec<_> = key.iter().map(Value::as_sql).collect();
    // One after the other as they arrive: the server sends no more than are taken, and those behind the page are let go.
    let rows = client.query_raw(&statement, key).await.map_err(of_statement)?;
    let (mut rows, mut page) = (core::pin::pin!(rows), table.new_page());
    while let Some(row) = rows.try_next().await.map_err(of_statement)? {
        let row = value::Row(row);
        let cells =
            table.columns.iter().map(|column| row.cell(column)).collect::<Result<Row, Fault>>().map_err(told)?;
        if !page.push(cells) {
            break;
        }
    }
    Ok(page.into_rows())
}

async fn count(client: &ClientWrapper, sql: String) -> Result<u64, StoreError> {
    let row = client.query_one(&sql, &[]).await.map_err(of_statement)?;
    let count: i64 = row.try_get(0).map_err(of_statement)?;
    u64::try_from(count).map_err(|_| StoreError::Corrupt("a count".to_owned()))
}

async fn must_be_empty(client: &ClientWrapper) -> Result<(), StoreError> {
    for table in TABLES {
        if count(client, table.count()).await? > 0 {
            return Err(Conflict::NotEmpty(table.name).into());
        }
    }
    Ok(())
}

/// The oldest version whose programs may use the database, as it stands there.
async fn usable_from(client: &ClientWrapper) -> Result<i64, StoreError> {
    let row = client.query_one("SELECT usable_from FROM schema_version WHERE one = 1", &[]).await;
    row.and_then(|row| row.try_get(0)).map_err(of_statement)
}

/// Puts another one in its place, if nobody else has; gives whether it did.
async fn exchange(client: &ClientWrapper, from: i64, to: i64) -> Result<bool, StoreError> {
    let sql = "UPDATE schema_version SET usable_from = $2 WHERE one = 1 AND usable_from = $1";
    Ok(client.execute(sql, &[&from, &to]).await.map_err(of_statement)? == 1)
}

async fn run(client: &ClientWrapper, sql: &str) -> Result<(), StoreError> {
    client.batch_execute(sql).await.map_err(of_statement)
}

fn of_statement(error: tokio_postgres::Error) -> StoreError {
    told(fault::from_statement(&error))
}

fn told(fault: Fault) -> StoreError {
    match fault {
        Fault::Final(error) | Fault::Again(error) => error,
    }
}
