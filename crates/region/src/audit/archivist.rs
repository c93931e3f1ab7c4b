//! The thread that compresses and removes archives, so that no call waits for it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use inborn_identity::UnixTime;

use super::archive::{self, Rotation};

/// Works when woken; dropping it ends its thread, which leaves an unfinished archive for the next start.
#[derive(Debug)]
pub(super) struct Archivist {
    wake: Option<SyncSender<UnixTime>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Archivist {
    /// For the archives of the current file `path`.
    pub(super) fn start(path: &Path, rotation: Rotation) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        // One place is enough: a second rotation while a round goes on needs one more round, not two.
        let (wake, woken) = sync_channel(1);
        let (path, flag) = (path.to_owned(), Arc::clone(&stop));
        let work = move || work(&path, rotation, &woken, &flag);
        let thread = std::thread::Builder::new().name("audit-archive".to_owned()).spawn(work)?;
        Ok(Self { wake: Some(wake), stop, thread: Some(thread) })
    }

    /// Has a round done; `now` decides what is past its time.
    pub(super) fn wake(&self, now: UnixTime) {
        if let Some(wake) = &self.wake {
            let _ = wake.try_send(now);
        }
    }
}

impl Drop for Archivist {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(path: &Path, rotation: Rotation, woken: &Receiver<UnixTime>, stop: &AtomicBool) {
    while let Ok(now) = woken.recv() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = archive::tidy(path, rotation, now, stop) {
            tracing::warn!(%error, "old audit files have to wait for compression or removal");
        }
    }
}
