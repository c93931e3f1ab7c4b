//! A terminal of the command's own, for `inborn run -t`: the command leads a session on it, so that shells have job
//! control, and this computer's terminal passes every key on as it is.
//!
//! The settings of the outer terminal are put back when a [`Terminal`] is dropped. A process that is killed drops nothing:
//! so a second, tiny process, the keeper, waits for this one's end and puts them back instead ([`keeper_main`]).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use tokio::sync::oneshot;

/// The first argument by which the program knows that it is the keeper: `inborn __terminal`.
pub const KEEPER_ARGUMENT: &str = "__terminal";

/// How long the last output may take to reach the outer terminal after the command has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes that are passed on at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// What the keeper says when it has seen the terminal's settings.
const SEEN: u8 = b's';
/// What the keeper is told when there is nothing left for it to do.
const DONE: u8 = b'd';

/// Why there is no terminal.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// A stream is none.
    #[error("-t needs a terminal, and standard {0} is none: leave -t away")]
    None(&'static str),
    /// The system has none left, or will not give one.
    #[error("cannot make a terminal for the command: {0}")]
    Io(#[from] io::Error),
}

/// A pseudoterminal whose inner side is the command's.
#[derive(Debug)]
pub struct Terminal {
    outer: OwnedFd,
    settings: Termios,
    master: OwnedFd,
    /// Until the command has it: as long as anybody holds it, the output does not end.
    inner: Option<OwnedFd>,
}

/// A terminal in use: keys go in, output comes out.
#[derive(Debug)]
pub struct Relay {
    terminal: Terminal,
    keeper: Keeper,
    drained: oneshot::Receiver<()>,
}

impl Terminal {
    /// Makes a terminal as large as the outer one and with its settings.
    ///
    /// # Errors
    /// Input or output is no terminal; or there are no more terminals.
    pub fn open() -> Result<Self, TerminalError> {
        for (is_terminal, name) in [(isatty(io::stdin()), "input"), (isatty(io::stdout()), "output")] {
            if !is_terminal {
                return Err(TerminalError::None(name));
            }
        }
        let outer = io::stdin().as_fd().try_clone_to_owned()?;
        let settings = tcgetattr(&outer).map_err(io::Error::from)?;
        let (master, inner) = pair(&settings)?;
        let terminal = Self { outer, settings, master, inner: Some(inner) };
        terminal.resize();
        Ok(terminal)
    }

    /// The inner side, three times: the command's streams.
    pub(super) fn streams(&self) -> io::Result<[Stdio; 3]> {
        let stream = || {
            let inner = self.inner.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
            Ok::<_, io::Error>(Stdio::from(inner.try_clone()?))
        };
        Ok([stream()?, stream()?, stream()?])
    }

    /// Gives the inner terminal the size of the outer one; its foreground processes are told by SIGWINCH.
    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(&self.outer) {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// Passes every key on as it is, Ctrl-C and Ctrl-Z too.
    fn make_raw(&self) -> io::Result<()> {
        let mut raw = self.settings.clone();
        raw.make_raw();
        Ok(tcsetattr(&self.outer, OptionalActions::Drain, &raw)?)
    }

    /// Lets the keys in and the output out. Call it when the command has its streams. `executable` is this very program,
    /// which is also the keeper.
    ///
    /// # Errors
    /// No thread, no process, or the outer terminal is gone.
    pub fn connect(mut self, executable: &Path) -> io::Result<Relay> {
        self.inner = None;
        let keeper = Keeper::start(executable, &self.outer)?;
        let (drain, drained) = oneshot::channel();
        let (input, output) = (File::from(self.master.try_clone()?), File::from(self.master.try_clone()?));
        self.make_raw()?;
        std::thread::Builder::new().name("keys".into()).spawn(move || pass_on(io::stdin().lock(), input))?;
        std::thread::Builder::new().name("screen".into()).spawn(move || {
            pass_on(output, io::stdout().lock());
            let _ = drain.send(());
        })?;
        Ok(Relay { terminal: self, keeper, drained })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where it was never made raw this changes nothing.
        let _ = tcsetattr(&self.outer, OptionalActions::Drain, &self.settings);
    }
}

impl Relay {
    /// The outer terminal has another size now, or this process was stopped for a while and whoever used the terminal
    /// meanwhile has changed it.
    pub(super) fn refresh(&self) {
        let _ = self.terminal.make_raw();
        self.terminal.resize();
    }

    /// Waits until what the command wrote last is on the outer terminal, and gives that back as it was.
    pub async fn finish(self) {
        // What still runs inside lost its terminal with the command, so the output ends; a screen that is stopped (Ctrl-S)
        // would hold it for ever.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.drained).await;
        drop(self.terminal);
        self.keeper.dismiss();
    }
}

/// Master and inner side of a new terminal.
fn pair(settings: &Termios) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let inner = ioctl_tiocgptpeer(&master, flags)?;
    tcsetattr(&inner, OptionalActions::Now, settings)?;
    Ok((master, inner))
}

/// Copies until either side ends. A terminal whose other side is closed gives an error where a file gives its end.
fn pass_on(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                let chunk = buffer.get(..length).unwrap_or_default();
                if to.write_all(chunk).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// The process that puts the terminal's settings back if this one cannot.
#[derive(Debug)]
struct Keeper {
    process: Child,
    line: UnixStream,
}

impl Keeper {
    /// Returns when it has seen the settings.
    fn start(executable: &Path, outer: &OwnedFd) -> io::Result<Self> {
        let (mut line, theirs) = UnixStream::pair()?;
        let process = Command::new(executable)
            .arg(KEEPER_ARGUMENT)
            .stdin(OwnedFd::from(theirs))
            .stdout(outer.try_clone()?)
            .stderr(Stdio::null())
            .spawn()?;
        let mut byte = [0];
        line.read_exact(&mut byte)?;
        Ok(Self { process, line })
    }

    fn dismiss(mut self) {
        let _ = self.line.write_all(&[DONE]);
        drop(self.line);
        let _ = self.process.wait();
    }
}

/// What the program does when its first argument is [`KEEPER_ARGUMENT`]: standard input is the line to the process that is
/// watched, standard output the terminal.
pub fn keeper_main() -> ExitCode {
    match keep() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(super::EXIT_FAILED),
    }
}

fn keep() -> io::Result<()> {
    let terminal = io::stdout();
    let settings = tcgetattr(&terminal)?;
    // In a session of its own it gets none of the terminal's signals, and may change it without being in the foreground.
    rustix::process::setsid()?;
    let mut line = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    (&line).write_all(&[SEEN])?;
    let mut byte = [0];
    if line.read(&mut byte).unwrap_or(0) == 0 {
        tcsetattr(&terminal, OptionalActions::Now, &settings)?;
    }
    Ok(())
}

/// Makes standard input the terminal that controls this process and those it starts.
pub(super) fn become_controlling() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(rustix::process::ioctl_tiocsctty(io::stdin())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inner_terminal_has_the_settings_it_is_given() {
        let (master, inner) =
            pair(&tcgetattr(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap()).unwrap()).unwrap();
        let mut settings = tcgetattr(&inner).unwrap();
        settings.make_raw();
        let (_master, raw) = pair(&settings).unwrap();
        let found = tcgetattr(&raw).unwrap();
        assert_eq!(found.local_modes, settings.local_modes);
        assert!(isatty(&inner) && isatty(&master));
    }

    #[test]
    fn what_is_passed_on_ends_with_the_terminal() {
        let (master, inner) =
            pair(&tcgetattr(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap()).unwrap()).unwrap();
        File::from(inner).write_all(b"last words").unwrap();
        let mut seen = Vec::new();
        pass_on(File::from(master), &mut seen);
        assert_eq!(seen, b"last words");
    }
}
