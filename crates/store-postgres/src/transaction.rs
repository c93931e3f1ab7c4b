//! One transaction, tried again as often as it may: the one door to the database.

use core::hash::{BuildHasher, Hasher};
use core::pin::Pin;
use core::time::Duration;
use std::hash::RandomState;

use deadpool_postgres::{Object, Pool, Transaction};
use futures_util::future;
use inborn_store::{StoreError, Topic};
use tokio::runtime::Handle;
use tokio_postgres::IsolationLevel;

use crate::fault::{self, Fault, Outcome};
use crate::feed::{self, Node, Turn};
use crate::schema;
use crate::value::{Insertion, Row, Value};

/// The most attempts of one transaction.
const ATTEMPTS_MAX: u32 = 12;
/// The pause after the first attempt that came to nothing; each next one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(2);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// The most statements that are on their way at once on one connection.
const UNDER_WAY_MAX: usize = 128;

/// What a transaction does. A plain function, so that it can be begun again with the same request.
pub(crate) type Work<R, T> =
    for<'s, 't> fn(&'s Session<'t>, &'s R) -> Pin<Box<dyn Future<Output = Outcome<T>> + Send + 's>>;

/// What other nodes are told of it.
pub(crate) type Topics<R, T> = fn(&R, &T) -> Vec<Topic>;

/// What a transaction needs of the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// One moment's state, and no change.
    Read,
    /// To change records that it has read, and to be the only one who does.
    Write,
    /// To change records by what it has read of others.
    WriteByOthers,
    /// To change one record that it has locked before it reads it. It waits for whoever has it, and is never told to begin again: what
    /// others write without end cannot keep it out.
    WriteLocked,
}

impl Access {
    /// `Write` needs no more than that the first who changes a record wins: whoever read it before is told to begin again.
    /// Serializability on top would make strangers on one page of an index wait for each other.
    const fn level(self) -> IsolationLevel {
        match self {
            Self::Read | Self::Write => IsolationLevel::RepeatableRead,
            Self::WriteByOthers => IsolationLevel::Serializable,
            Self::WriteLocked => IsolationLevel::ReadCommitted,
        }
    }
}

/// What is done in a transaction, for whom, and whom it is told.
pub(crate) struct Task<'a, R, T> {
    pub(crate) access: Access,
    pub(crate) request: &'a R,
    pub(crate) work: Work<R, T>,
    pub(crate) told: Option<(&'a Node, Topics<R, T>)>,
    /// What the database said of its last restore when it was opened.
    pub(crate) filled: i64,
}

/// Does a task in a transaction, again and again while it runs into others.
pub(crate) async fn transact<R: Sync, T: Send + Sync>(
    pool: &Pool,
    patience: Duration,
    task: &Task<'_, R, T>,
) -> Result<T, StoreError> {
    let mut attempt = 1;
    loop {
        match once(pool, patience, task).await {
            Ok(value) => return Ok(value),
            Err(Fault::Final(error)) => return Err(error),
            Err(Fault::Again(error)) if attempt >= ATTEMPTS_MAX => return Err(error),
            Err(Fault::Again(error)) => {
                tracing::debug!(%error, attempt, "transaction begins again");
                tokio::time::sleep(pause(attempt, RandomState::new().build_hasher().finish())).await;
                attempt += 1;
            }
        }
    }
}

/// From half of it to all of it: who ran into each other once should not do so again.
fn pause(attempt: u32, random: u64) -> Duration {
    let longest = PAUSE_FIRST.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(PAUSE_MAX);
    let half = longest / 2;
    let nanoseconds = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
    half + Duration::from_nanos(random % nanoseconds.saturating_add(1))
}

async fn once<R: Sync, T: Send + Sync>(pool: &Pool, patience: Duration, task: &Task<'_, R, T>) -> Outcome<T> {
    let client = pool.get().await.map_err(|error| fault::from_pool(&error))?;
    let mut lent = Lent { client: Some(client), patience };
    let running = task.told.and_then(|(node, _)| node.begin());
    let turn = running.as_ref().map(|running| running.turn);
    let outcome = match tokio::time::timeout(patience, begun(&mut lent, task, turn)).await {
        Ok(outcome) => {
            lent.give_back();
            outcome
        }
        Err(_) => {
            lent.close();
            Err(Fault::Final(match task.access {
                Access::Read => StoreError::Unavailable("it did not answer in time".to_owned()),
                _ => StoreError::Io("the database did not answer in time; the write may have taken effect".to_owned()),
            }))
        }
    };
    if let Some(running) = running
        && !matches!(outcome, Err(Fault::Final(StoreError::Io(_))))
    {
        running.over();
    }
    outcome
}

/// A connection in use. Where whoever uses it goes away before the end, what was asked last is still on its way, a commit perhaps that
/// waits for a standby: who came next on this connection would wait behind that, while others are free. So it goes back to the others once
/// it has answered. Until then it keeps its place among them: there are never more connections than there may be, however often somebody
/// goes away.
struct Lent {
    client: Option<Object>,
    patience: Duration,
}

impl Lent {
    /// It has answered all that it was asked.
    fn give_back(mut self) {
        drop(self.client.take());
    }

    /// Nobody knows what is still on its way on it.
    fn close(mut self) {
        drop(self.client.take().map(Object::take));
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(give_back_later(client, self.patience))),
            Err(_) => drop(Object::take(client)),
        }
    }
}

/// Whatever is asked last is answered last: behind a rollback that the transaction has sent as it went.
async fn give_back_later(client: Object, patience: Duration) {
    match tokio::time::timeout(patience, client.batch_execute("")).await {
        Ok(Ok(())) => drop(client),
        Ok(Err(_)) | Err(_) => drop(Object::take(client)),
    }
}

async fn begun<R: Sync, T: Send + Sync>(lent: &mut Lent, task: &Task<'_, R, T>, turn: Option<Turn>) -> Outcome<T> {
    let access = task.access;
    let Some(client) = &mut lent.client else { return Err(Fault::Final(StoreError::Busy)) };
    let builder = client.build_transaction().isolation_level(access.level());
    // Where it writes nothing is said: a database that was made read-only is not to be overruled.
    let builder = if access == Access::Read { builder.read_only(true) } else { builder };
    // Dropped before the end, it is rolled back.
    let transaction = builder.start().await.map_err(|error| fault::from_statement(&error))?;
    let session = Session { transaction };
    let value = match worked(&session, task, turn).await {
        Ok(value) => value,
        Err(fault) => {
            // It fails where the connection is gone, and then there is nothing left to undo.
            let _ = session.transaction.rollback().await;
            return Err(fault);
        }
    };
    match session.transaction.commit().await {
        Ok(()) => Ok(value),
        Err(error) if access == Access::Read => Err(fault::from_statement(&error)),
        Err(error) => Err(fault::from_commit(&error)),
    }
}

/// The work, and what is told of it.
async fn worked<R: Sync, T: Send + Sync>(
    session: &Session<'_>,
    task: &Task<'_, R, T>,
    turn: Option<Turn>,
) -> Outcome<T> {
    let work = (task.work)(session, task.request);
    let value = match task.access {
        Access::Read => work.await?,
        // Asked beside the work, so that nobody waits for it, and before anything is committed.
        Access::Write | Access::WriteByOthers | Access::WriteLocked => {
            future::try_join(schema::must_be_as_opened(session, task.filled), work).await?.1
        }
    };
    if let (Some(turn), Some((_, topics))) = (turn, task.told) {
        feed::enter(session, turn, &topics(task.request, &value)).await?;
    }
    Ok(value)
}

/// A transaction that is open.
pub(crate) struct Session<'t> {
    transaction: Transaction<'t>,
}

impl Session<'_> {
    /// The rows that a query gives.
    pub(crate) async fn rows(&self, sql: &str, values: &[Value]) -> Outcome<Vec<Row>> {
        let statement = self.transaction.prepare_cached(sql).await.map_err(|error| fault::from_statement(&error))?;
        let values: Vec<_> = values.iter().map(Value::as_sql).collect();
        let rows = self.transaction.query(&statement, &values).await.map_err(|error| fault::from_statement(&error))?;
        Ok(rows.into_iter().map(Row).collect())
    }

    /// The first row that a query gives.
    pub(crate) async fn row(&self, sql: &str, values: &[Value]) -> Outcome<Option<Row>> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Runs a statement; gives how many rows it touched.
    pub(crate) async fn run(&self, sql: &str, values: &[Value]) -> Outcome<u64> {
        self.attempt(sql, values).await.map_err(|error| fault::from_statement(&error))
    }

    /// Runs a statement once for each row, without waiting for one before the next is sent. What an error means is for
    /// `meaning` to say; it is that of the first row that has one.
    pub(crate) async fn run_all(
        &self,
        sql: &str,
        rows: &[Vec<Value>],
        meaning: impl Fn(&tokio_postgres::Error) -> Fault,
    ) -> Outcome<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let statement = self.transaction.prepare_cached(sql).await.map_err(|error| fault::from_statement(&error))?;
        let statement = &statement;
        for rows in rows.chunks(UNDER_WAY_MAX) {
            let all = rows.iter().map(|row| async move {
                let values: Vec<_> = row.iter().map(Value::as_sql).collect();
                self.transaction.execute(statement, &values).await
            });
            future::try_join_all(all).await.map_err(|error| meaning(&error))?;
        }
        Ok(())
    }

    /// Inserts rows.
    pub(crate) async fn insert(&self, how: &Insertion, rows: impl IntoIterator<Item = Vec<Value>>) -> Outcome<()> {
        match how.of(rows.into_iter().collect())? {
            (_, values) if values.is_empty() => Ok(()),
            (sql, values) => self.run(sql, &values).await.map(drop),
        }
    }

    /// Inserts or updates `what`. A key that is taken is a conflict.
    pub(crate) async fn put(&self, sql: &str, values: &[Value], what: &'static str) -> Outcome<()> {
        self.attempt(sql, values).await.map(drop).map_err(|error| fault::from_insertion(&error, what))
    }

    /// Runs a statement, and leaves it to the caller what an error means.
    pub(crate) async fn attempt(&self, sql: &str, values: &[Value]) -> Result<u64, tokio_postgres::Error> {
        let statement = self.transaction.prepare_cached(sql).await?;
        let values: Vec<_> = values.iter().map(Value::as_sql).collect();
        self.transaction.execute(&statement, &values).await
    }
}

/// A query that is put together from conditions that are asked for.
pub(crate) struct Query {
    sql: String,
    values: Vec<Value>,
}

impl Query {
    /// A query that ends with its first condition, whose parameters are `values`.
    pub(crate) fn new(sql: &str, values: &[Value]) -> Self {
        Self { sql: sql.to_owned(), values: values.to_vec() }
    }

    /// One more parameter; gives its name.
    pub(crate) fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// More text.
    pub(crate) fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    /// A statement of its own between two texts, if it has anything to say: its parameters, which it counts from `$1`, come
    /// behind those that are there.
    pub(crate) fn push_part(&mut self, before: &str, sql: &str, values: Vec<Value>, behind: &str) {
        if values.is_empty() {
            return;
        }
        self.sql.push_str(before);
        let mut pieces = sql.split('$');
        self.sql.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let (number, rest) = piece.split_at(piece.bytes().take_while(u8::is_ascii_digit).count());
            let number = number.parse().map_or(0, |number: usize| number + self.values.len());
            self.sql.push_str(&format!("${number}{rest}"));
        }
        self.sql.push_str(behind);
        self.values.extend(values);
    }

    /// The text and the values.
    pub(crate) fn into_parts(self) -> (String, Vec<Value>) {
        (self.sql, self.values)
    }

    /// The rows that it gives.
    pub(crate) async fn rows(&self, session: &Session<'_>) -> Outcome<Vec<Row>> {
        session.rows(&self.sql, &self.values).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_of_a_part_come_behind_those_before_it() {
        let mut query = Query::new("SELECT $1", &[Value::from(1_u32)]);
        query.push_part(", (", "a = $1 OR b = $11", vec![Value::from(2_u32); 11], ")");
        query.push_part(", (", "never $1", vec![], ")");
        query.push_part(", ", "$2 + $1", vec![Value::from(3_u32); 2], "");
        let (sql, values) = query.into_parts();
        assert_eq!((sql.as_str(), values.len()), ("SELECT $1, (a = $2 OR b = $12), $14 + $13", 14));
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let (shortest, longest) = (
            |attempt| pause(attempt, 0),
            |attempt| {
                let whole = PAUSE_FIRST.saturating_mul(1_u32 << (attempt - 1)).min(PAUSE_MAX);
                pause(attempt, u64::try_from((whole / 2).as_nanos()).unwrap())
            },
        );
        assert_eq!((shortest(1), longest(1)), (PAUSE_FIRST / 2, PAUSE_FIRST));
        assert_eq!((shortest(3), longest(3)), (PAUSE_FIRST * 2, PAUSE_FIRST * 4));
        assert_eq!((shortest(ATTEMPTS_MAX), longest(ATTEMPTS_MAX)), (PAUSE_MAX / 2, PAUSE_MAX));
        for random in [0, 1, 77, u64::MAX] {
            assert!(pause(u32::MAX, random) <= PAUSE_MAX);
        }
    }
}
