//! The thread that writes: gathers what is waiting, commits it at once, answers after the commit.

use core::sync::atomic::Ordering;
use std::fs::File;
use std::sync::Arc;
use std::thread;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::Counters;
use super::fault::{self, Outcome};
use super::queue::{QUEUE_LENGTH_MAX, Queue};
use super::readers::ReadJob;
use crate::StoreError;

/// The most writes in one transaction: bounds how long the first of them waits for the last.
const WRITES_PER_COMMIT_MAX: usize = 256;

/// What the writing thread is asked for.
pub(super) enum WriteJob {
    /// A write, to be committed with others.
    Write(Box<dyn Write>),
    /// A read, when there is no other thread to read. It sees only what is committed.
    Read(ReadJob),
}

/// A write whose result waits for the commit.
pub(super) trait Write: Send {
    /// Does it; if it has an error, what it did is rolled back. May be called again after a rollback.
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError>;
    /// Answers: what `run` gave last, or the error.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Task<T, F> {
    work: F,
    result: Option<T>,
    reply: oneshot::Sender<Outcome<T>>,
}

impl<T: Send, F: FnMut(&Connection) -> Outcome<T> + Send> Write for Task<T, F> {
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError> {
        self.result = None;
        self.result = Some((self.work)(connection)?);
        Ok(())
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        // Without a result and without an error there would be nothing to say: the asker then finds the store closed.
        let answer = match committed {
            Ok(()) => self.result.ok_or(StoreError::Closed),
            Err(error) => Err(error),
        };
        // The asker may have gone away; what is done is done.
        let _ = self.reply.send(answer);
    }
}

/// A job that does `work`.
pub(super) fn write_job<T, F>(work: F) -> (WriteJob, oneshot::Receiver<Outcome<T>>)
where
    T: Send + 'static,
    F: FnMut(&Connection) -> Outcome<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (WriteJob::Write(Box::new(Task { work, result: None, reply })), answer)
}

/// Starts the thread. It keeps `lock` until its connection is closed.
pub(super) fn spawn(
    connection: Connection,
    lock: Option<File>,
    counters: Arc<Counters>,
) -> Result<Queue<WriteJob>, StoreError> {
    let (sender, receiver) = mpsc::channel(QUEUE_LENGTH_MAX);
    let (alive, ended) = oneshot::channel::<()>();
    let writer = Writer { connection, receiver, counters, damage: None };
    let serve = move || {
        writer.serve();
        drop(lock);
        drop(alive);
    };
    thread::Builder::new().name("store-writer".into()).spawn(serve).map_err(fault::io)?;
    Ok(Queue::new(sender, vec![ended]))
}

struct Writer {
    connection: Connection,
    receiver: mpsc::Receiver<WriteJob>,
    counters: Arc<Counters>,
    /// Once the file was found damaged, nothing more is written to it.
    damage: Option<StoreError>,
}

impl Writer {
    fn serve(mut self) {
        while let Some(first) = self.receiver.blocking_recv() {
            let (writes, read) = self.gather(first);
            if !writes.is_empty() {
                self.commit(writes);
            }
            if let Some(read) = read {
                read(&self.connection);
            }
        }
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "store did not close cleanly; the next start recovers it");
        }
    }

    /// The writes that wait, up to the first read, which must see them committed.
    fn gather(&mut self, first: WriteJob) -> (Vec<Box<dyn Write>>, Option<ReadJob>) {
        let mut writes = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                WriteJob::Write(write) => writes.push(write),
                WriteJob::Read(read) => return (writes, Some(read)),
            }
            next = if writes.len() < WRITES_PER_COMMIT_MAX { self.receiver.try_recv().ok() } else { None };
        }
        (writes, None)
    }

    fn commit(&mut self, mut writes: Vec<Box<dyn Write>>) {
        let attempt = match &self.damage {
            Some(damage) => Err(damage.clone()),
            None => self.transaction(&mut writes),
        };
        let results = match attempt {
            Ok(results) => results,
            // One write too large for the disk has taken the others down with it: each gets a chance of its own.
            Err(StoreError::Full) if writes.len() > 1 => {
                writes.iter_mut().map(|write| self.transaction(core::slice::from_mut(write)).and_then(single)).collect()
            }
            Err(error) => vec![Err(error); writes.len()],
        };
        self.counters.writes.fetch_add(writes.len() as u64, Ordering::Relaxed);
        for (write, result) in writes.into_iter().zip(results) {
            if let Err(error @ StoreError::Corrupt(_)) = &result {
                tracing::error!(%error, "store takes no more writes");
                self.damage = Some(error.clone());
            }
            write.finish(result);
        }
    }

    /// Does all writes in one transaction, each of several in a savepoint. `Ok`: it is committed, and this is how each one went.
    /// `Err`: nothing of it happened (or, after `Io`, nothing is known to have happened).
    fn transaction(&self, writes: &mut [Box<dyn Write>]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        fault::run(&self.connection, "BEGIN IMMEDIATE")?;
        let committed = self.savepoints(writes).and_then(|results| {
            fault::run(&self.connection, "COMMIT")?;
            Ok(results)
        });
        match &committed {
            Ok(_) => _ = self.counters.commits.fetch_add(1, Ordering::Relaxed),
            // SQLite has often rolled back already, and says so by being in autocommit mode.
            Err(_) if self.connection.is_autocommit() => {}
            Err(_) => fault::run(&self.connection, "ROLLBACK")?,
        }
        committed
    }

    fn savepoints(&self, writes: &mut [Box<dyn Write>]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        // The transaction of one is all the savepoint that it needs.
        if let [write] = writes {
            return write.run(&self.connection).map(|()| vec![Ok(())]);
        }
        let mut results = Vec::with_capacity(writes.len());
        for write in writes {
            fault::run(&self.connection, "SAVEPOINT job")?;
            let result = write.run(&self.connection);
            match &result {
                Ok(()) => fault::run(&self.connection, "RELEASE job")?,
                // Some errors (disk full, I/O) end the whole transaction, and the neighbours with it.
                Err(error) if self.connection.is_autocommit() => return Err(error.clone()),
                Err(_) => {
                    fault::run(&self.connection, "ROLLBACK TO job")?;
                    fault::run(&self.connection, "RELEASE job")?;
                }
            }
            results.push(result);
        }
        Ok(results)
    }
}

fn single(results: Vec<Result<(), StoreError>>) -> Result<(), StoreError> {
    results.into_iter().next().unwrap_or(Err(StoreError::Closed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::{file, schema};

    type Answer = oneshot::Receiver<Outcome<u32>>;

    fn writer() -> (Writer, mpsc::Sender<WriteJob>) {
        let mut connection = file::connect_memory().unwrap();
        schema::migrate(&mut connection).unwrap();
        let (sender, receiver) = mpsc::channel(QUEUE_LENGTH_MAX);
        (Writer { connection, receiver, counters: Arc::default(), damage: None }, sender)
    }

    /// A write that adds setting `name`, and then does `more`.
    fn job(name: u32, more: fn(&Connection) -> Outcome<()>) -> (WriteJob, Answer) {
        write_job(move |connection| {
            let added =
                connection.execute("INSERT INTO settings (name, value) VALUES (?1, x'00')", (name.to_string(),));
            added.map_err(fault::from_sqlite)?;
            more(connection)?;
            Ok(name)
        })
    }

    fn settings(writer: &Writer) -> Vec<String> {
        let mut names = writer.connection.prepare("SELECT name FROM settings ORDER BY name").unwrap();
        names.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// Commits these in one batch and gives the answers.
    fn commit(writer: &mut Writer, jobs: Vec<(WriteJob, Answer)>) -> Vec<Outcome<u32>> {
        let (jobs, answers): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
        let writes = jobs.into_iter().filter_map(|job| match job {
            WriteJob::Write(write) => Some(write),
            WriteJob::Read(_) => None,
        });
        writer.commit(writes.collect());
        answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect()
    }

    fn nothing(_: &Connection) -> Outcome<()> {
        Ok(())
    }

    #[test]
    fn a_commit_that_fails_is_told_to_all_and_acknowledges_none() {
        let (mut writer, _sender) = writer();
        // A deferred foreign key is found broken by COMMIT itself.
        let broken = |connection: &Connection| {
            let sql = "PRAGMA defer_foreign_keys = ON; INSERT INTO instance_tags VALUES ('i-absent', 'k', 'v')";
            connection.execute_batch(sql).map_err(fault::from_sqlite)
        };
        let answers = commit(&mut writer, vec![job(1, nothing), job(2, broken), job(3, nothing)]);
        for answer in answers {
            assert!(matches!(answer, Err(StoreError::Io(_))), "{answer:?}");
        }
        assert_eq!(settings(&writer), Vec::<String>::new());
        assert_eq!(writer.counters.commits.load(Ordering::Relaxed), 0);
        // And the next batch is as good as any.
        assert_eq!(commit(&mut writer, vec![job(4, nothing)]), [Ok(4)]);
        assert_eq!(settings(&writer), ["4"]);
    }

    #[test]
    fn a_full_disk_that_ends_the_transaction_spares_the_neighbours() {
        let (mut writer, _sender) = writer();
        let full = |connection: &Connection| {
            connection.execute_batch("ROLLBACK").map_err(fault::from_sqlite)?;
            Err(StoreError::Full)
        };
        let answers = commit(&mut writer, vec![job(1, nothing), job(2, full), job(3, nothing)]);
        assert_eq!(answers, [Ok(1), Err(StoreError::Full), Ok(3)]);
        assert_eq!(settings(&writer), ["1", "3"]);
    }

    #[test]
    fn any_other_error_that_ends_the_transaction_is_told_to_all() {
        let (mut writer, _sender) = writer();
        let io = |connection: &Connection| {
            connection.execute_batch("ROLLBACK").map_err(fault::from_sqlite)?;
            Err(StoreError::Io("gone".into()))
        };
        let answers = commit(&mut writer, vec![job(1, nothing), job(2, io), job(3, nothing)]);
        assert_eq!(answers, vec![Err(StoreError::Io("gone".into())); 3]);
        assert_eq!(settings(&writer), Vec::<String>::new());
    }

    #[test]
    fn after_damage_nothing_is_written() {
        let (mut writer, _sender) = writer();
        let damage = |_: &Connection| Err(StoreError::Corrupt("bits".into()));
        assert_eq!(commit(&mut writer, vec![job(1, nothing), job(2, damage)])[1], Err(fault::corrupt("bits")));
        assert_eq!(commit(&mut writer, vec![job(3, nothing)]), [Err(fault::corrupt("bits"))]);
        assert_eq!(settings(&writer), ["1"]);
    }

    #[test]
    fn a_batch_has_its_limit_and_ends_at_a_read() {
        for (waiting, gathered) in [(255, 255), (256, 256), (257, 256)] {
            let (mut writer, sender) = writer();
            for name in 0..waiting {
                sender.try_send(job(name, nothing).0).unwrap_or_else(|_| panic!("the queue is full"));
            }
            let first = writer.receiver.try_recv().unwrap();
            assert_eq!(writer.gather(first).0.len(), gathered, "{waiting}");
        }
        let (mut writer, sender) = writer();
        let read = WriteJob::Read(Box::new(|_| {}));
        for job in [job(1, nothing).0, job(2, nothing).0, read, job(3, nothing).0] {
            sender.try_send(job).unwrap_or_else(|_| panic!("the queue is full"));
        }
        let first = writer.receiver.try_recv().unwrap();
        let (writes, read) = writer.gather(first);
        assert_eq!((writes.len(), read.is_some()), (2, true));
    }

    #[test]
    fn the_queue_has_its_limit() {
        let (_writer, sender) = writer();
        for name in 0..1024 {
            assert!(sender.try_send(job(name, nothing).0).is_ok(), "{name}");
        }
        assert!(sender.try_send(job(1024, nothing).0).is_err());
    }
}
