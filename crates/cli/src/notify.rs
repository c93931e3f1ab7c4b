//! What systemd is told of a service of `Type=notify`. Source: sd_notify(3), sd_watchdog_enabled(3).

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Says how the service is to whoever supervises it; to nobody where nobody asked for it.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    socket: Option<UnixDatagram>,
    /// How often it wants a sign of life.
    pub(crate) pulse: Option<Duration>,
}

impl Supervisor {
    /// The one that started this process, by `NOTIFY_SOCKET`.
    pub(crate) fn of_environment() -> Self {
        let variable = |name| std::env::var(name).ok();
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, "NOTIFY_SOCKET cannot be used: nobody is told that this is ready");
                None
            }
        });
        let pulse = pulse(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id());
        Self { pulse: pulse.filter(|_| socket.is_some()), socket }
    }

    /// It serves.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// It reads its settings again; [`Supervisor::ready`] says when it has.
    pub(crate) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let microseconds = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// It is about to end.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// It is alive.
    pub(crate) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            tracing::warn!(%error, "the supervisor cannot be told");
        }
    }
}

fn connect(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        // vsock:… is for virtual machines that report to their host.
        _ => return Err(std::io::Error::other("neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A supervisor that does not listen must not stop what it supervises.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Half of what the supervisor waits for, if it waits for this very process.
fn pulse(microseconds: Option<String>, pid: Option<String>, own: u32) -> Option<Duration> {
    let is_for_us = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let microseconds = microseconds?.parse::<u64>().ok().filter(|wanted| *wanted > 1 && is_for_us)?;
    Some(Duration::from_micros(microseconds / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_supervisor_hears_what_becomes_of_it() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("notify");
        let listening = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor { socket: Some(connect(path.as_os_str()).unwrap()), pulse: None };
        supervisor.ready("region us-east-1");
        assert_eq!(heard(&listening), "READY=1\nSTATUS=region us-east-1");
        supervisor.alive();
        assert_eq!(heard(&listening), "WATCHDOG=1");
        supervisor.reloading();
        let reloading = heard(&listening);
        let since_boot = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(since_boot.parse::<u64>().unwrap() > 0, "{reloading}");
        supervisor.stopping();
        assert_eq!(heard(&listening), "STOPPING=1\nSTATUS=stopping");
    }

    #[test]
    fn abstract_names_are_taken_and_others_are_not() {
        let name = format!("inborn-test-{}", std::process::id());
        let listening = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let supervisor = Supervisor { socket: Some(connect(OsStr::new(&format!("@{name}"))).unwrap()), pulse: None };
        supervisor.alive();
        assert_eq!(heard(&listening), "WATCHDOG=1");
        for name in ["vsock:2:1", "notify", ""] {
            assert!(connect(OsStr::new(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn the_pulse_is_half_of_the_watchdogs_patience() {
        let ask = |usec: &str, pid: Option<&str>| pulse(Some(usec.to_owned()), pid.map(str::to_owned), 7);
        assert_eq!(ask("30000000", None), Some(Duration::from_secs(15)));
        assert_eq!(ask("30000000", Some("7")), Some(Duration::from_secs(15)));
        for (usec, pid) in [("30000000", Some("8")), ("30000000", Some("")), ("0", None), ("1", None), ("x", None)] {
            assert_eq!(ask(usec, pid), None, "{usec} {pid:?}");
        }
        assert_eq!(pulse(None, None, 7), None);
    }
}
