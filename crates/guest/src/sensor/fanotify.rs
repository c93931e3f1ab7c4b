//! fanotify: who writes into files that decide about a machine. Takes `CAP_SYS_ADMIN` in the kernel's first user namespace.
//!
//! Files are watched together with their directories, so that one that is written beside and then put in its place is told under
//! the name that it was written with.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::fanotify::{EventFFlags, Fanotify, FanotifyEvent, InitFlags, MarkFlags, MaskFlags};
use tokio::time::{MissedTickBehavior, interval};

use super::event::{Change, Event, Provider, What};
use super::outlet::{Counts, Outlet};
use super::proc::{PATH_BYTES_MAX, Proc};
use super::source::{Now, Running, Source, since_boot_ms};
use super::text::lossy;

/// What is watched: directories with what lies in them, and single files.
const WATCHED: [&str; 14] = [
    "/etc",
    "/etc/ssh",
    "/etc/pam.d",
    "/etc/sudoers.d",
    "/etc/cron.d",
    "/etc/cron.daily",
    "/etc/cron.hourly",
    "/etc/audit",
    "/etc/audit/rules.d",
    "/etc/profile.d",
    "/etc/ld.so.conf.d",
    "/etc/systemd/system",
    "/var/spool/cron",
    "/var/spool/cron/crontabs",
];
/// How often the kernel is asked for what it has gathered: waiting for a descriptor of its kind takes `unsafe` code.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Reads of one turn; the kernel keeps what is over for the next.
const READS_MAX: usize = 64;
/// Users whose home and `.ssh` are watched.
const HOMES_MAX: usize = 256;

/// The source.
pub(crate) struct Files {
    group: Fanotify,
    proc: Proc,
    now: Now,
    /// How many places are watched.
    pub(crate) places: usize,
}

impl Files {
    /// Asks the kernel to tell of writes.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn open(proc: Proc, now: Now) -> io::Result<Self> {
        let flags = InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK | InitFlags::FAN_CLASS_NOTIF;
        let events = EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC | EventFFlags::O_LARGEFILE;
        let group = Fanotify::init(flags, events)?;
        let mask = MaskFlags::FAN_CLOSE_WRITE | MaskFlags::FAN_EVENT_ON_CHILD;
        let homes = proc.homes().into_iter().take(HOMES_MAX).flat_map(|home| [home.join(".ssh"), home]);
        let places = WATCHED.iter().map(PathBuf::from).chain(homes);
        let watched =
            places.filter(|place| group.mark(MarkFlags::FAN_MARK_ADD, mask, AT_FDCWD, Some(place.as_path())).is_ok());
        let places = watched.count();
        if places == 0 {
            return Err(io::Error::other("none of the places can be watched"));
        }
        Ok(Self { group, proc, now, places })
    }

    fn tell(&self, events: &[FanotifyEvent], outlet: &Outlet) {
        let overflows = events.iter().filter(|event| event.mask().contains(MaskFlags::FAN_Q_OVERFLOW)).count();
        Counts::add(&outlet.counts().lost, overflows.try_into().unwrap_or_default());
        events.iter().filter_map(|told| self.event(told)).for_each(|event| outlet.offer(&event));
    }

    fn event(&self, told: &FanotifyEvent) -> Option<Event> {
        let descriptor = told.fd()?;
        let path = std::fs::read_link(Path::new("/proc/self/fd").join(descriptor.as_raw_fd().to_string())).ok()?;
        let pid = u32::try_from(told.pid()).ok().filter(|pid| *pid != std::process::id())?;
        let now_ms = (self.now)();
        let boot_ms = now_ms.saturating_sub(since_boot_ms());
        let actor = self.proc.stat(pid).map(|stat| self.proc.process(pid, &stat, boot_ms).process);
        let path = lossy(path.as_os_str().as_encoded_bytes(), PATH_BYTES_MAX);
        let what = What::Changed { actor, path, change: Change::Modified };
        Some(Event { time_ms: now_ms, provider: Provider::Fanotify, what })
    }
}

impl Source for Files {
    fn name(&self) -> &'static str {
        "fanotify"
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Running {
        Box::pin(async move {
            let mut turns = interval(ASK_EVERY);
            turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                turns.tick().await;
                for _ in 0..READS_MAX {
                    match self.group.read_events() {
                        Ok(events) => self.tell(&events, &outlet),
                        Err(Errno::EAGAIN) => break,
                        Err(Errno::EINTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        })
    }
}
