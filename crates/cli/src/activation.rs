//! Sockets that systemd has opened and passes on (socket activation), for ports that an ordinary user may not take.
//! Source: sd_listen_fds(3).
//!
//! An inherited descriptor is known by nothing but its number, and to own a number is `unsafe`: somebody else might. So the
//! kernel is asked for a new descriptor of the same socket (pidfd_getfd(2), of this very process), which nobody else can
//! have. The inherited one stays open beside it until the process ends.

use std::net::TcpListener;
use std::os::fd::{OwnedFd, RawFd};

use anyhow::{Context, bail};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// The first descriptor that is passed; the others follow.
const FIRST: RawFd = 3;
/// One for each name.
const SOCKETS_MAX: usize = NAMES.len();
const NAMES: [&str; 3] = ["http", "https", "operations"];

/// The sockets that were passed.
#[derive(Debug, Default)]
pub(crate) struct PassedSockets {
    pub(crate) http: Option<tokio::net::TcpListener>,
    pub(crate) https: Option<tokio::net::TcpListener>,
    pub(crate) operations: Option<tokio::net::TcpListener>,
}

impl PassedSockets {
    /// Those of this process's environment.
    pub(crate) fn of_environment() -> anyhow::Result<Self> {
        let variable = |name| std::env::var(name).ok();
        let names = names(
            variable("LISTEN_PID").as_deref(),
            variable("LISTEN_FDS").as_deref(),
            variable("LISTEN_FDNAMES").as_deref(),
            std::process::id(),
        )?;
        let mut passed = Self::default();
        for (name, descriptor) in names.iter().zip(FIRST..) {
            let listener =
                listener(descriptor).with_context(|| format!("the passed socket `{name}` cannot be used"))?;
            match *name {
                "http" => passed.http = Some(listener),
                "https" => passed.https = Some(listener),
                _ => passed.operations = Some(listener),
            }
        }
        Ok(passed)
    }
}

/// The names of the sockets in the order of their descriptors: none where none were passed, or to another process.
fn names(pid: Option<&str>, count: Option<&str>, names: Option<&str>, own: u32) -> anyhow::Result<Vec<&'static str>> {
    let count = count.and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
    if count == 0 || pid.and_then(|pid| pid.parse().ok()) != Some(own) {
        return Ok(Vec::new());
    }
    if count > SOCKETS_MAX {
        bail!("{count} sockets were passed, and there is use for {SOCKETS_MAX}: {}", NAMES.join(", "));
    }
    let given: Vec<&str> = names.unwrap_or_default().split(':').collect();
    let mut known = Vec::with_capacity(count);
    for place in 0..count {
        let given = given.get(place).copied().unwrap_or_default();
        match NAMES.iter().find(|name| **name == given) {
            Some(name) if known.contains(name) => bail!("two sockets named `{name}` were passed"),
            Some(name) => known.push(*name),
            None => bail!(
                "a socket named `{given}` was passed: its unit needs FileDescriptorName= with one of {}",
                NAMES.join(", ")
            ),
        }
    }
    Ok(known)
}

fn listener(descriptor: RawFd) -> anyhow::Result<tokio::net::TcpListener> {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).context("pidfd_open")?;
    let socket = pidfd_getfd(this, descriptor, PidfdGetfdFlags::empty()).context("pidfd_getfd")?;
    Ok(tokio::net::TcpListener::from_std(listening(socket)?)?)
}

fn listening(socket: OwnedFd) -> anyhow::Result<TcpListener> {
    let family = sockopt::socket_domain(&socket).context("it is no socket")?;
    let is_tcp = sockopt::socket_type(&socket)? == SocketType::STREAM
        && (family == AddressFamily::INET || family == AddressFamily::INET6);
    if !is_tcp || !sockopt::socket_acceptconn(&socket)? {
        bail!("it is not a TCP socket that listens: ListenStream= of its unit names an address and a port");
    }
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn only_what_was_passed_to_this_process_is_taken() {
        let ask = |pid, count, given| names(pid, count, given, 7);
        for (pid, count) in
            [(None, None), (Some("8"), Some("1")), (None, Some("1")), (Some("7"), None), (Some("7"), Some("0"))]
        {
            assert!(ask(pid, count, Some("http")).unwrap().is_empty(), "{pid:?} {count:?}");
        }
        assert_eq!(ask(Some("7"), Some("1"), Some("https")).unwrap(), ["https"]);
        assert_eq!(ask(Some("7"), Some("3"), Some("operations:http:https")).unwrap(), ["operations", "http", "https"]);
    }

    #[test]
    fn names_below_at_and_above_what_there_is_use_for() {
        let ask = |count, given| names(Some("7"), Some(count), given, 7);
        assert_eq!(ask("2", Some("http:https")).unwrap().len(), 2);
        assert_eq!(ask("3", Some("http:https:operations")).unwrap().len(), SOCKETS_MAX);
        assert!(ask("4", Some("http:https:operations:http")).is_err());
        for (count, given) in [("1", Some("inborn.socket")), ("1", None), ("2", Some("http")), ("2", Some("http:http"))]
        {
            assert!(ask(count, given).is_err(), "{count} {given:?}");
        }
    }

    #[tokio::test]
    async fn an_inherited_socket_is_served_by_a_descriptor_of_its_own() {
        let inherited = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = inherited.local_addr().unwrap();
        let taken = listener(inherited.as_raw_fd()).unwrap();
        assert_eq!(taken.local_addr().unwrap(), address);
        drop(inherited);
        let (asked, accepted) = tokio::join!(tokio::net::TcpStream::connect(address), taken.accept());
        assert_eq!(asked.unwrap().local_addr().unwrap(), accepted.unwrap().1);
    }

    #[tokio::test]
    async fn what_does_not_listen_is_refused() {
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let local = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        for descriptor in [datagrams.as_raw_fd(), local.as_raw_fd(), file.as_raw_fd(), 1 << 20] {
            assert!(listener(descriptor).is_err(), "{descriptor}");
        }
        let bound = socket_that_does_not_listen();
        assert!(listener(bound.as_raw_fd()).is_err());
    }

    fn socket_that_does_not_listen() -> OwnedFd {
        rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()
    }
}
