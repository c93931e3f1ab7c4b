//! Signals between a terminal, `inborn run` and the command in the pocket.
//!
//! The command stands in the same process group as its parent, so what a terminal sends (Ctrl-C) has already reached it.
//! What somebody sends to `inborn run` alone is meant for the command and passed on. A command with a terminal of its own
//! ([`super::terminal`]) has got nothing yet, and is passed everything.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use rustix::process::{Resource, Rlimit, setrlimit};
use signal_hook::consts::{SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::{Handle, SignalsInfo};
use signal_hook::low_level::siginfo::Cause;
use tokio::sync::mpsc;

pub use rustix::process::Signal;

/// The signals that are passed on.
const PASSED_ON: [i32; 8] = [SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM];
/// Signals on their way. Like the kernel's own, those that find no room are lost.
const PENDING_MAX: usize = 64;
/// Exit codes of commands that died of a signal begin above this, as in shells.
const EXIT_SIGNAL_BASE: u8 = 128;

/// The signals this process receives, from the moment this is made. They no longer have their usual effect.
#[derive(Debug)]
pub struct Signals {
    receiver: mpsc::Receiver<Signal>,
    handle: Handle,
}

impl Signals {
    /// Begins to catch signals, except those that the caller chose to ignore: `nohup inborn run` is deaf to SIGHUP, and so
    /// is its command. Call it before [`super::Pocket::go`].
    ///
    /// `own_terminal`: the command will have a terminal of its own.
    ///
    /// # Errors
    /// When the process cannot have handlers, a pipe or another thread.
    pub fn catch(own_terminal: bool) -> io::Result<Self> {
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        let all = PASSED_ON.into_iter().chain(own_terminal.then_some(SIGCONT));
        let caught = all.filter(|signal| ignored & mask(*signal) == 0);
        let mut signals = SignalsInfo::<WithOrigin>::new(caught)?;
        let handle = signals.handle();
        let (sender, receiver) = mpsc::channel(PENDING_MAX);
        let leader = leads_session(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default());
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for origin in signals.forever() {
                let signal =
                    Signal::from_named_raw(origin.signal).filter(|_| own_terminal || is_for_command(&origin, leader));
                if let Some(signal) = signal {
                    let _ = sender.try_send(signal);
                }
            }
        })?;
        Ok(Self { receiver, handle })
    }

    /// The next signal that is for the command.
    pub async fn next(&mut self) -> Signal {
        match self.receiver.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// Whether the command has not already got this signal. A terminal's signals come from the kernel and go to the whole
/// group; when the terminal is gone, the kernel tells the leader of the session alone.
fn is_for_command(origin: &signal_hook::low_level::siginfo::Origin, session_leader: bool) -> bool {
    let from_terminal = origin.cause == Cause::Kernel;
    !from_terminal || origin.signal == SIGALRM || (origin.signal == SIGHUP && session_leader)
}

/// The mask of ignored signals in the text of `/proc/PID/status`.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Whether the text of `/proc/PID/stat` is that of the leader of its session. `getsid` cannot be asked: it answers 0 when the
/// leader stands outside of this process's namespace, as in containers, and rustix takes no process to have the id 0.
fn leads_session(stat: &str) -> bool {
    let pid = stat.split(' ').next();
    // A command's name may hold spaces and parentheses. After it: state, parent, group, session (proc_pid_stat(5)).
    let session = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(3));
    pid.is_some_and(|pid| !pid.is_empty()) && pid == session
}

fn mask(signal: i32) -> u64 {
    u32::try_from(signal - 1).ok().and_then(|shift| 1u64.checked_shl(shift)).unwrap_or(0)
}

/// Ends this process as the command ended: with its exit code, or by the same signal, so that whoever waits for
/// `inborn run` sees what it would have seen of the command. Call it last, when all is cleaned up.
#[must_use]
pub fn end_like(status: ExitStatus) -> ExitCode {
    if let Some(signal) = status.signal() {
        // The command has left its core already; one of this process would only confuse.
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
        let _ = signal_hook::low_level::emulate_default_handler(signal);
        return ExitCode::from(exit_code_of_signal(signal));
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(super::EXIT_FAILED))
}

fn exit_code_of_signal(signal: i32) -> u8 {
    u8::try_from(signal).ok().and_then(|signal| EXIT_SIGNAL_BASE.checked_add(signal)).unwrap_or(super::EXIT_FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let status = "Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t00000000ffffffff\n";
        assert_eq!(ignored(status), mask(SIGHUP) | mask(13));
        assert_eq!((ignored(""), ignored("SigIgn:\tzz\n")), (0, 0));
        assert_eq!((mask(1), mask(64), mask(65), mask(0)), (1, 1 << 63, 0, 0));
    }

    #[test]
    fn a_leader_is_known_from_the_status_line() {
        assert!(leads_session("41 (in) born (x) S 1 41 41 0 -1 4194560"));
        assert!(!leads_session("41 (inborn) S 1 41 40 0 -1 4194560"));
        // The leader is outside of the namespace.
        assert!(!leads_session("41 (inborn) S 1 0 0 0 -1 4194560"));
        assert!(!leads_session("") && !leads_session("41") && !leads_session("41 (inborn) S 1"));
    }

    #[test]
    fn exit_codes_are_those_of_shells() {
        assert_eq!((exit_code_of_signal(9), exit_code_of_signal(15)), (137, 143));
        assert_eq!(exit_code_of_signal(-1), 125);
        assert_eq!(end_like(ExitStatus::from_raw(7 << 8)), ExitCode::from(7));
    }
}
