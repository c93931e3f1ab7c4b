//! This computer's terminal, as a session wants it: every key is the machine's.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// The terminal, passing every key on as it is until this is dropped.
pub(super) struct RawTerminal {
    terminal: OwnedFd,
    settings: Termios,
}

impl RawTerminal {
    /// `None` if input or output is no terminal: then bytes are passed on as they come.
    pub(super) fn open() -> io::Result<Option<Self>> {
        if !isatty(io::stdin()) || !isatty(io::stdout()) {
            return Ok(None);
        }
        let terminal = io::stdin().as_fd().try_clone_to_owned()?;
        let settings = tcgetattr(&terminal)?;
        let mut raw = settings.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(Some(Self { terminal, settings }))
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> Option<(u16, u16)> {
        tcgetwinsize(&self.terminal).ok().map(|size| (size.ws_col, size.ws_row))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.settings);
    }
}
