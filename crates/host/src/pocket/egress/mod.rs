//! The way out of a pocket that is asked for with `--net host-egress`: outgoing connections through this computer's own
//! network, without privileges and with nothing listening.
//!
//! ```text
//! pocket            inborn run                    passt
//!   tap device ────▶ filter ──── length, frame ───▶ sockets of this computer ───▶ the world
//!              ◀──────────────── length, frame ────
//! ```
//!
//! passt (Debian's package of the same name) makes sockets of packets. It stands outside, so it can reach whatever this
//! computer can; what must stay out of reach is dropped before it ([`filter`]), where nothing in the pocket can undo it.

pub mod filter;
pub(super) mod tap;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::AddressAttribute;
use rustix::io::{FdFlags, fcntl_setfd};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// The device's name inside.
const DEVICE: &str = "eth0";
/// From the block for benchmarks of networks (RFC 2544), which nobody's network has.
const GUEST_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 15);
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const NETWORK_BITS_V4: u8 = 24;
const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0xfd69, 0x6e62, 0x6f72, 0x6e00, 0, 0, 0, 0x15);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
const NETWORK_BITS_V6: u8 = 64;
/// Locally administered.
const GUEST_MAC: [u8; 6] = [0x02, 0x69, 0x6e, 0x62, 0x00, 0x15];
const GATEWAY_MAC: [u8; 6] = [0x02, 0x69, 0x6e, 0x62, 0x00, 0x02];
/// The largest that passt takes: fewer, larger frames cost less.
const MTU: u32 = 65_520;
/// A frame with its Ethernet header, and room for what a driver adds.
pub const FRAME_BYTES_MAX: usize = 65_535;
/// Before each frame on passt's socket: its length, most significant byte first (`passt(1)`, as QEMU's stream sockets).
const LENGTH_BYTES: usize = 4;

const HELPER: &str = "passt";
const HELPER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the addresses of this computer are read again.
const OWN_ADDRESSES_ROUND: Duration = Duration::from_secs(5);
/// Of a sentence that the helper leaves.
const HELPER_TEXT_BYTES_MAX: usize = 4096;

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// passt is not installed.
    #[error(
        "a network for the command needs the program passt, which is not here: install the package passt (Debian, \
         Ubuntu, Fedora, Arch, Alpine), or leave --net host-egress away"
    )]
    NoHelper,
    /// passt did not start.
    #[error("cannot start passt: {0}")]
    Spawn(#[source] io::Error),
    /// passt ended.
    #[error("passt, which carries the command's network, ended: {0}")]
    Helper(String),
    /// passt says nothing.
    #[error(
        "passt, which carries the command's network, was not ready in time; the machine may be overloaded: try again"
    )]
    TimedOut,
    /// The device or the conversation failed.
    #[error("the command's network failed: {0}")]
    Io(#[from] io::Error),
    /// The addresses of this computer cannot be read.
    #[error("cannot read this computer's addresses, which the command must not reach: {0}")]
    Addresses(String),
}

/// A way out that is open as long as this lives.
#[derive(Debug)]
pub struct Egress {
    helper: Child,
    tasks: JoinSet<io::Result<()>>,
}

/// Whether this computer has a way to the IPv6 world: without one, programs inside should not see an IPv6 address, since
/// they would try it first.
#[must_use]
pub fn has_ipv6() -> bool {
    routes_ipv6(&std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default())
}

/// Whether the text of `/proc/net/ipv6_route` has a default route. Fields: destination, its bits, source, its bits, next
/// hop, metric, references, uses, flags, device.
fn routes_ipv6(table: &str) -> bool {
    const REJECT: u32 = 0x0200;
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let flags = fields.get(8).and_then(|flags| u32::from_str_radix(flags, 16).ok());
        fields.get(1) == Some(&"00")
            && fields.first().is_some_and(|destination| destination.bytes().all(|byte| byte == b'0'))
            && flags.is_some_and(|flags| flags & REJECT == 0)
            && fields.get(9).is_some_and(|device| *device != "lo")
    })
}

/// Refuses early where the helper is not installed.
///
/// # Errors
/// [`EgressError::NoHelper`].
pub fn check() -> Result<(), EgressError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(HELPER).is_file());
    if found { Ok(()) } else { Err(EgressError::NoHelper) }
}

impl Egress {
    /// Carries frames between the pocket's device and the world from here on.
    ///
    /// # Errors
    /// See [`EgressError`].
    pub async fn start(tap: OwnedFd) -> Result<Self, EgressError> {
        let own = Arc::new(ArcSwap::from_pointee(own_addresses().await?));
        let (mut helper, stream) = spawn()?;
        let (from, to) = stream.into_split();
        let (mut from, mut to) = (BufReader::new(from), to);
        if let Err(error) = greet(&mut from, &mut to).await {
            return Err(match error.kind() {
                io::ErrorKind::TimedOut => EgressError::TimedOut,
                _ => EgressError::Helper(last_words(&mut helper).await),
            });
        }
        #[allow(unsafe_code, reason = "tokio demands it of every descriptor")]
        // SAFETY: an `OwnedFd` is one and the same descriptor, open as long as it lives.
        let tap = Arc::new(unsafe { AsyncFd::register(tap) }.map_err(io::Error::from)?);
        let mut tasks = JoinSet::new();
        tasks.spawn(carry_out(Arc::clone(&tap), to, Arc::clone(&own)));
        tasks.spawn(carry_in(from, tap));
        tasks.spawn(refresh(own));
        Ok(Self { helper, tasks })
    }

    /// Waits until the way out is closed, which happens only if something fails, and says why.
    pub async fn closed(&mut self) -> EgressError {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) if error.kind() == io::ErrorKind::OutOfMemory => error.into(),
            _ => EgressError::Helper(last_words(&mut self.helper).await),
        }
    }
}

/// Starts the helper with one end of a socket pair. It ends when the other is closed, however this process ends.
fn spawn() -> Result<(Child, UnixStream), EgressError> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    fcntl_setfd(theirs.as_fd(), FdFlags::empty()).map_err(io::Error::from)?;
    let (v4, v6) = (GUEST_V4.to_string(), GUEST_V6.to_string());
    let (gateway_v4, gateway_v6) = (GATEWAY_V4.to_string(), GATEWAY_V6.to_string());
    let helper = Command::new(HELPER)
        .args(["--foreground", "--quiet", "--stderr", "--fd"])
        .arg(theirs.as_raw_fd().to_string())
        .args(["--address", &v4, "--netmask", &NETWORK_BITS_V4.to_string(), "--gateway", &gateway_v4])
        .args(["--address", &v6, "--gateway", &gateway_v6])
        // Neither a way to this computer's loopback nor a port of it that leads inside.
        .args(["--no-map-gw", "--tcp-ports", "none", "--udp-ports", "none"])
        .args(["--dns", "none", "--no-dhcp", "--no-dhcpv6", "--no-ra"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // What a terminal sends is for the command: it may live on after Ctrl-C, and so must its network.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => EgressError::NoHelper,
            _ => EgressError::Spawn(error),
        })?;
    drop(theirs);
    Ok((helper, UnixStream::from_std(ours)?))
}

/// Asks for the gateway's hardware address, and waits for any answer: then the helper works.
async fn greet(from: &mut BufReader<OwnedReadHalf>, to: &mut OwnedWriteHalf) -> io::Result<()> {
    let answered = async {
        to.write_all(&framed(&who_has_the_gateway())).await?;
        let mut frame = Vec::new();
        read_frame(from, &mut frame).await
    };
    tokio::time::timeout(HELPER_TIMEOUT, answered).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// An ARP request (RFC 826).
fn who_has_the_gateway() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(GUEST_MAC);
    // ARP, for IPv4 over Ethernet, a request.
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    frame.extend(GUEST_MAC);
    frame.extend(GUEST_V4.octets());
    frame.extend([0; 6]);
    frame.extend(GATEWAY_V4.octets());
    frame
}

fn framed(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap_or_default();
    [&length.to_be_bytes(), frame].concat()
}

async fn read_frame(from: &mut BufReader<OwnedReadHalf>, frame: &mut Vec<u8>) -> io::Result<()> {
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    frame.resize(length, 0);
    from.read_exact(frame).await.map(drop)
}

/// Frames that leave the pocket, those of them that may.
async fn carry_out(
    tap: Arc<AsyncFd<OwnedFd>>,
    mut to: OwnedWriteHalf,
    own: Arc<ArcSwap<BTreeSet<IpAddr>>>,
) -> io::Result<()> {
    let mut buffer = vec![0; LENGTH_BYTES + FRAME_BYTES_MAX];
    loop {
        let (prefix, room) = buffer.split_at_mut(LENGTH_BYTES);
        let length = match tap.async_io(Interest::READABLE, |tap| Ok(rustix::io::read(tap, &mut *room)?)).await {
            Ok(length) => length,
            // The device is down for a moment, or for good: root inside may do that.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let frame = room.get(..length).unwrap_or_default();
        if filter::passes(frame, &own.load()) {
            prefix.copy_from_slice(&u32::try_from(length).unwrap_or_default().to_be_bytes());
            to.write_all(buffer.get(..LENGTH_BYTES + length).unwrap_or_default()).await?;
        }
    }
}

/// Frames that come into the pocket.
async fn carry_in(mut from: BufReader<OwnedReadHalf>, tap: Arc<AsyncFd<OwnedFd>>) -> io::Result<()> {
    let mut frame = Vec::with_capacity(FRAME_BYTES_MAX);
    loop {
        read_frame(&mut from, &mut frame).await?;
        // A frame that the device does not take is lost, as on any network.
        let _ = tap.async_io(Interest::WRITABLE, |tap| Ok(rustix::io::write(tap, &frame)?)).await;
    }
}

async fn refresh(own: Arc<ArcSwap<BTreeSet<IpAddr>>>) -> io::Result<()> {
    loop {
        tokio::time::sleep(OWN_ADDRESSES_ROUND).await;
        // What was known stays in force until there is something newer.
        if let Ok(now) = own_addresses().await {
            own.store(Arc::new(now));
        }
    }
}

/// All addresses of this computer.
async fn own_addresses() -> Result<BTreeSet<IpAddr>, EgressError> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let driver = tokio::spawn(connection);
    let found = handle.address().get().execute().try_fold(BTreeSet::new(), |mut all, message| async move {
        all.extend(message.attributes.iter().filter_map(|attribute| match attribute {
            AddressAttribute::Address(address) | AddressAttribute::Local(address) => Some(*address),
            _ => None,
        }));
        Ok(all)
    });
    let found = found.await.map_err(|error| EgressError::Addresses(error.to_string()));
    driver.abort();
    found
}

/// What the helper said last before it ended.
async fn last_words(helper: &mut Child) -> String {
    let mut text = Vec::new();
    if let Some(stderr) = helper.stderr.take() {
        let mut limited = stderr.take(u64::try_from(HELPER_TEXT_BYTES_MAX).unwrap_or_default());
        let _ = tokio::time::timeout(HELPER_TIMEOUT, limited.read_to_end(&mut text)).await;
    }
    if let Some(words) = sentence(&String::from_utf8_lossy(&text)) {
        return words.to_owned();
    }
    match tokio::time::timeout(HELPER_TIMEOUT, helper.wait()).await {
        Ok(Ok(status)) => status.to_string(),
        _ => "it did not say why".to_owned(),
    }
}

/// The last line that tells something: not what it always says to root, nor that there is no log of the system.
fn sentence(text: &str) -> Option<&str> {
    const ALWAYS: [&str; 2] = ["to syslog", "run as root"];
    text.lines().map(str::trim).rfind(|line| !line.is_empty() && !ALWAYS.iter().any(|always| line.contains(always)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_to_the_ipv6_world_is_a_default_route_that_leads_out() {
        let zero = "0".repeat(32);
        let line = |bits: &str, flags: &str, device: &str| {
            format!("{zero} {bits} {zero} 00 fe800000000000000000000000000001 00000400 1 0 {flags} {device}\n")
        };
        assert!(routes_ipv6(&line("00", "00000003", "eth0")));
        assert!(!routes_ipv6(&line("40", "00000003", "eth0")), "a network");
        assert!(!routes_ipv6(&line("00", "00200200", "lo")), "the kernel's own, which rejects");
        assert!(!routes_ipv6(&line("00", "00000203", "eth0")));
        assert!(!routes_ipv6("") && !routes_ipv6("x\n"));
    }

    #[test]
    fn the_greeting_is_an_arp_request() {
        let frame = who_has_the_gateway();
        assert_eq!((frame.len(), &frame[12..14]), (42, &[0x08, 0x06][..]));
        assert_eq!(frame[28..32], GUEST_V4.octets());
        assert_eq!(frame[38..], GATEWAY_V4.octets());
        assert_eq!(framed(&frame)[..4], [0, 0, 0, 42]);
    }

    #[test]
    fn of_what_the_helper_says_the_reason_is_kept() {
        assert_eq!(
            sentence("No external interface\n\nFailed to send 31 bytes to syslog\n"),
            Some("No external interface")
        );
        assert_eq!(sentence("Don't run as root. Changing to nobody...\n"), None);
        assert_eq!(sentence(""), None);
    }

    #[tokio::test]
    async fn frames_below_at_and_above_their_limit() {
        for (length, fits) in
            [(0, true), (FRAME_BYTES_MAX - 1, true), (FRAME_BYTES_MAX, true), (FRAME_BYTES_MAX + 1, false)]
        {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let sending = tokio::spawn(async move {
                let mut theirs = theirs;
                let _ = theirs.write_all(&framed(&vec![7; length])).await;
            });
            let (from, _to) = ours.into_split();
            let mut frame = Vec::new();
            assert_eq!(read_frame(&mut BufReader::new(from), &mut frame).await.is_ok(), fits, "{length}");
            assert!(!fits || frame.len() == length);
            sending.abort();
        }
    }

    #[tokio::test]
    async fn this_computer_knows_its_own_addresses() {
        assert!(own_addresses().await.unwrap().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
