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
    /// Does it, inside a savepoint. May be called again after a rollback.
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

    /// Does all writes in one transaction, each in a savepoint. `Ok`: it is committed, and this is how each one went.
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
