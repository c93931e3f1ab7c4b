//! What a source is, and the one that looks at /proc.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval};

use super::connector::{Connector, Hint};
use super::outlet::{Counts, Outlet};
use super::poll::{Depth, Moment, Poller};

/// How often programs are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Every which look is one at all there is.
const LOOKS_TO_A_FULL_ONE: u32 = 4;

/// Tells the time in milliseconds since 1970.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The end of a source: none, or why it sees nothing any more.
pub(crate) type Running = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// Something that sees what happens.
pub(crate) trait Source: Send {
    /// As people call it.
    fn name(&self) -> &'static str;

    /// Sees, until there is nothing more to see.
    fn run(self: Box<Self>, outlet: Outlet) -> Running;
}

/// Looks at /proc, and hears from the kernel when to look if it may.
pub(crate) struct Watch {
    pub(crate) poller: Poller,
    pub(crate) connector: Option<Connector>,
    pub(crate) now: Now,
}

impl Source for Watch {
    fn name(&self) -> &'static str {
        "proc"
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Running {
        Box::pin(self.watch(outlet))
    }
}

impl Watch {
    async fn watch(mut self, outlet: Outlet) -> io::Result<()> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0;
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    let depth = if count % LOOKS_TO_A_FULL_ONE == 0 { Depth::Full } else { Depth::Quick };
                    count = (count + 1) % LOOKS_TO_A_FULL_ONE;
                    let at = self.moment();
                    // /proc is read without waiting for anybody but the kernel.
                    let seen = self.poller.look(depth, at);
                    seen.iter().for_each(|event| outlet.offer(event));
                    Counts::add(&outlet.counts().lost, self.poller.take_lost());
                }
                hints = Connector::hear(&mut self.connector) => match hints {
                    Ok(hints) => self.follow(hints, &outlet),
                    // The kernel had more to tell than the socket holds: the next look finds what is still there.
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                        Counts::add(&outlet.counts().lost, 1);
                    }
                    Err(_) => self.connector = None,
                },
            }
        }
    }

    fn follow(&mut self, hints: Vec<Hint>, outlet: &Outlet) {
        let at = self.moment();
        for hint in hints {
            match hint {
                Hint::Started(pid) => self.poller.hint(pid, at).iter().for_each(|event| outlet.offer(event)),
                Hint::Ended { pid, code } => {
                    self.poller.ended(pid, code, at).iter().for_each(|event| outlet.offer(event))
                }
            }
        }
    }

    fn moment(&self) -> Moment {
        let now_ms = (self.now)();
        Moment { now_ms, boot_ms: now_ms.saturating_sub(since_boot_ms()) }
    }
}

/// Milliseconds since the computer was started, sleep included, as /proc counts.
pub(crate) fn since_boot_ms() -> i64 {
    let since = clock_gettime(ClockId::Boottime);
    since.tv_sec.saturating_mul(1000).saturating_add(since.tv_nsec / 1_000_000)
}
