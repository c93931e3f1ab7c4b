//! The command that runs in the pocket and looks around.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::Duration;

use inborn_host::pocket::{ENDPOINTS_ADDRESS, METADATA_ADDRESS};

use crate::{ANSWER, CA_BUNDLE, ODD_ARGUMENT};

/// Says that every check passed; a panic gives another.
const PASSED: u8 = 42;

pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let word = |at: usize| arguments[at].to_str().unwrap();
    match word(0) {
        "metadata" => metadata(),
        "check" => {
            metadata();
            only_the_pockets_network(word(1).parse().unwrap());
            names();
            files();
            environment();
            same_user(word(2));
            assert_eq!(fs::read_dir(word(3)).unwrap().count(), 0, "the hidden directory looks empty");
            assert!(fs::write(format!("{}/new", word(3)), "").is_err());
            // Not even root can look behind it.
            assert!(rustix::mount::unmount(word(3), rustix::mount::UnmountFlags::DETACH).is_err());
            assert!(fs::read_dir("/proc/1/root/").is_err() || std::process::id() == 1);
            assert_eq!(arguments[4].as_bytes(), ODD_ARGUMENT);
            nothing_was_inherited();
        }
        other => panic!("{other}"),
    }
    ExitCode::from(PASSED)
}

fn metadata() {
    for address in [(METADATA_ADDRESS, 80), (ENDPOINTS_ADDRESS, 80), (ENDPOINTS_ADDRESS, 443)] {
        let mut stream = TcpStream::connect_timeout(&address.into(), Duration::from_secs(5)).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, ANSWER);
    }
}

fn only_the_pockets_network(port_outside: u16) {
    let devices = fs::read_to_string("/proc/net/dev").unwrap();
    let devices: Vec<_> =
        devices.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    // Some kernels put dead tunnel devices into every namespace; none but the loopback may be up.
    for device in devices.iter().filter(|name| **name != "lo") {
        let flags = fs::read_to_string(format!("/sys/class/net/{device}/flags")).unwrap_or_else(|_| "0x0".into());
        assert_eq!(u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap() & 1, 0, "{device} is up");
    }
    assert!(devices.contains(&"lo"));
    assert!(TcpStream::connect(("127.0.0.1", port_outside)).is_err(), "the machine's own ports are not here");
    assert!(TcpStream::connect_timeout(&(Ipv4Addr::new(192, 0, 2, 1), 80).into(), Duration::from_secs(2)).is_err());
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    TcpStream::connect(own.local_addr().unwrap()).unwrap();
    TcpListener::bind("[::1]:0").unwrap();
}

fn names() {
    let resolve = |name: &str| -> BTreeSet<IpAddr> {
        (name, 443).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default()
    };
    let endpoints = BTreeSet::from([IpAddr::V4(ENDPOINTS_ADDRESS)]);
    assert_eq!(resolve("sts.us-east-1.amazonaws.com"), endpoints);
    assert_eq!(resolve("STS.amazonaws.com"), endpoints);
    assert_eq!(resolve("instance-data.ec2.internal"), BTreeSet::from([IpAddr::V4(METADATA_ADDRESS)]));
    assert_eq!(resolve("example.com"), BTreeSet::new());
    assert!(resolve("localhost").contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
}

fn files() {
    let read = |path: &str| fs::read_to_string(path);
    assert_eq!(read("/etc/resolv.conf").unwrap(), "nameserver 169.254.169.253\noptions timeout:2 attempts:2\n");
    assert!(read("/etc/hosts").unwrap().starts_with("127.0.0.1 localhost\n"));
    if let Ok(switch) = read("/etc/nsswitch.conf") {
        assert!(switch.ends_with("hosts: files dns\n"));
    }
    for bundle in ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"] {
        if let Ok(bundle) = read(bundle) {
            assert_eq!(bundle, CA_BUNDLE);
        }
    }
    let config = read(&std::env::var("AWS_CONFIG_FILE").unwrap()).unwrap();
    assert!(config.starts_with("[default]\nregion = us-east-1\ncredential_process = /"), "{config}");
    assert_eq!(read(&std::env::var("AWS_SHARED_CREDENTIALS_FILE").unwrap()).unwrap(), "");
    assert_eq!(read(&std::env::var("SSL_CERT_FILE").unwrap()).unwrap(), CA_BUNDLE);
}

fn environment() {
    let get = |name: &str| std::env::var(name).unwrap_or_default();
    assert_eq!((get("AWS_REGION"), get("INSTANCE_ID")), ("us-east-1".into(), "i-0123456789abcdef0".into()));
    assert!(!get("PATH").is_empty());
}

fn same_user(expected: &str) {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert_eq!(format!("{user} {group}"), expected);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    if user != 0 {
        assert_eq!(line("CapEff:"), "0000000000000000", "a user without powers has none inside either");
    }
    assert_eq!(line("SigBlk:"), "0000000000000000");
}

/// Nothing but the standard streams: neither the parent's socket nor a descriptor of the set-up.
fn nothing_was_inherited() {
    let open: BTreeSet<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| target.starts_with("socket:") || target.contains("eventpoll"))
        .collect();
    let standard: BTreeSet<String> = (0..3)
        .filter_map(|number| fs::read_link(format!("/proc/self/fd/{number}")).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    assert!(open.is_subset(&standard), "{open:?}");
}
