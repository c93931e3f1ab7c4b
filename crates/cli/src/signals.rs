//! Being asked to stop, or to read the settings again.

use std::io::IsTerminal;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals by which a person or a service manager speaks to a program.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// `None`: the signal does what it does to every program.
    hangup: Option<Signal>,
}

/// What is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// To end.
    Stop,
    /// To read settings again.
    Reload,
}

impl StopSignals {
    /// Catches those that say to end from here on: they end nothing by themselves any more.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
        Ok(Self { terminate, interrupt, hangup: None })
    }

    /// Also the one that says to read settings again. Not where a person has a terminal: to close it is to end what runs there.
    pub(crate) fn catch_with_reload() -> anyhow::Result<Self> {
        let is_at_a_terminal = std::io::stdin().is_terminal();
        let hangup =
            (!is_at_a_terminal).then(|| signal(SignalKind::hangup())).transpose().context("cannot catch SIGHUP")?;
        Ok(Self { hangup, ..Self::catch()? })
    }

    /// Waits for the next one that says to end.
    pub(crate) async fn next(&mut self) {
        while self.next_wish().await != Wanted::Stop {}
    }

    /// Waits for the next one that says to end, and leaves the other to whoever asks next.
    pub(crate) async fn next_stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for the next one.
    pub(crate) async fn next_wish(&mut self) -> Wanted {
        tokio::select! {
            _ = self.terminate.recv() => Wanted::Stop,
            _ = self.interrupt.recv() => Wanted::Stop,
            () = next_of(self.hangup.as_mut()) => Wanted::Reload,
        }
    }
}

async fn next_of(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => core::future::pending().await,
    }
}
