//! The threads that read, each with a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::fault::{self, Outcome};
use super::queue::{QUEUE_LENGTH_MAX, Queue};
use crate::StoreError;

/// Something to read, and where to send it.
pub(super) type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// A job that does `work` inside one read transaction, so that all its queries see the same moment.
pub(super) fn read_job<T, F>(work: F) -> (ReadJob, oneshot::Receiver<Outcome<T>>)
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let job = Box::new(move |connection: &Connection| {
        let result = in_transaction(connection, work);
        // The asker may have gone away.
        let _ = reply.send(result);
    });
    (job, answer)
}

fn in_transaction<T>(connection: &Connection, work: impl FnOnce(&Connection) -> Outcome<T>) -> Outcome<T> {
    fault::run(connection, "BEGIN")?;
    let result = work(connection);
    let end = fault::run(connection, "COMMIT");
    if end.is_err() && !connection.is_autocommit() {
        fault::run(connection, "ROLLBACK")?;
    }
    result
}

/// One thread for each connection, all serving one queue.
pub(super) fn spawn(connections: Vec<Connection>) -> Result<Queue<ReadJob>, StoreError> {
    let (sender, receiver) = mpsc::channel::<ReadJob>(QUEUE_LENGTH_MAX);
    let receiver = Arc::new(Mutex::new(receiver));
    let mut ended = Vec::with_capacity(connections.len());
    for connection in connections {
        let receiver = Arc::clone(&receiver);
        let (alive, end) = oneshot::channel::<()>();
        ended.push(end);
        let serve = move || {
            // The lock is held while waiting, not while reading: one thread waits for a job, the idle others for it.
            loop {
                let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                let Some(job) = job else { break };
                job(&connection);
            }
            drop(connection);
            drop(alive);
        };
        thread::Builder::new().name("store-reader".into()).spawn(serve).map_err(fault::io)?;
    }
    Ok(Queue::new(sender, ended))
}
