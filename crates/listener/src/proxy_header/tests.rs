use proptest::prelude::*;

use super::*;

/// As the format has it, with all that follows the fixed part.
fn header(version_and_command: u8, relayed: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[version_and_command, relayed], &length, rest].concat()
}

/// A header of a client.
fn of_client(source: SocketAddr, more: &[u8]) -> Vec<u8> {
    let port = source.port().to_be_bytes();
    match source.ip() {
        IpAddr::V4(address) => {
            header(0x21, 0x11, &[&address.octets()[..], &[10, 0, 0, 2], &port, &[0x11, 0xbf], more].concat())
        }
        IpAddr::V6(address) => {
            header(0x21, 0x21, &[&address.octets()[..], &[0xfd; 16], &port, &[0x11, 0xbf], more].concat())
        }
    }
}

fn whole(source: &str, length: usize) -> Result<Progress, Refusal> {
    Ok(Progress::Whole(Header { source: Some(source.parse().unwrap()), length }))
}

#[test]
fn the_bytes_of_a_client_of_ipv4() {
    let bytes = [
        0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, // the signature
        0x21, 0x11, 0x00, 0x0c, // version 2, PROXY; TCP over IPv4; 12 bytes
        192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01,
        0xbb, // as in the example of version 1: from port 56324 to 443
    ];
    assert_eq!(parse(&bytes), whole("192.168.0.1:56324", 28));
    assert_eq!(
        parse(&[&bytes[..], b"GET / HTTP/1.1\r\n"].concat()),
        whole("192.168.0.1:56324", 28),
        "and no byte more"
    );
    assert_eq!(parse(&[bytes, bytes].concat()), whole("192.168.0.1:56324", 28), "what a client adds is the client's");
}

#[test]
fn the_bytes_of_a_client_of_ipv6() {
    let source = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01];
    let destination = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02];
    let rest = [&source[..], &destination, &[0x30, 0x39, 0x11, 0xbf]].concat();
    assert_eq!(parse(&header(0x21, 0x21, &rest)), whole("[2001:db8::1]:12345", 52));
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7];
    let rest = [&mapped[..], &destination, &[0x30, 0x39, 0x11, 0xbf]].concat();
    assert_eq!(parse(&header(0x21, 0x21, &rest)), whole("192.0.2.7:12345", 52), "unmapped");
}

/// A network balancer of AWS adds the id of an endpoint (0xEA); HAProxy a checksum (0x03), if it is told to. Nothing of it is read.
#[test]
fn what_a_balancer_adds_is_passed_over() {
    let endpoint = [&[0xea, 0x00, 0x17, 0x01][..], b"vpce-08d2bf15fac5001c9"].concat();
    let checksum = [0x03, 0x00, 0x04, 0xde, 0xad, 0xbe, 0xef];
    let broken = [0x04, 0xff, 0xff, 0x00];
    let source = "203.0.113.9:4711".parse().unwrap();
    for more in [&endpoint[..], &checksum, &broken] {
        assert_eq!(parse(&of_client(source, more)), whole("203.0.113.9:4711", 28 + more.len()));
    }
}

#[test]
fn a_balancer_that_looks_itself_is_itself() {
    let local = |relayed: u8, rest: &[u8]| parse(&header(0x20, relayed, rest));
    let is_local = |length| Ok(Progress::Whole(Header { source: None, length }));
    assert_eq!(local(0x00, &[]), is_local(16));
    // Whatever it says of addresses, and in whatever family, is not looked at.
    for relayed in [0x00, 0x11, 0x21, 0x31, 0xff] {
        assert_eq!(local(relayed, &[0xaa; 12]), is_local(28), "{relayed:#x}");
    }
}

#[test]
fn what_no_client_of_ours_says_is_refused() {
    let rest = &[10; 216];
    for (version_and_command, relayed, rest, expected) in [
        (0x21, 0x00, &rest[..0], Refusal::NotTcp), // of a connection of which the balancer knows nothing
        (0x21, 0x10, &rest[..12], Refusal::NotTcp),
        (0x21, 0x01, &rest[..12], Refusal::NotTcp),
        (0x21, 0x12, &rest[..12], Refusal::NotTcp), // UDP
        (0x21, 0x22, &rest[..36], Refusal::NotTcp),
        (0x21, 0x31, &rest[..], Refusal::NotTcp), // a socket with a path
        (0x21, 0x32, &rest[..], Refusal::NotTcp),
        (0x21, 0x13, &rest[..12], Refusal::Malformed),
        (0x21, 0x41, &rest[..12], Refusal::Malformed),
        (0x22, 0x11, &rest[..12], Refusal::Malformed),
        (0x2f, 0x11, &rest[..12], Refusal::Malformed),
        (0x11, 0x11, &rest[..12], Refusal::Malformed),
        (0x31, 0x11, &rest[..12], Refusal::Malformed),
        (0x01, 0x11, &rest[..12], Refusal::Malformed),
    ] {
        let bytes = header(version_and_command, relayed, rest);
        assert_eq!(parse(&bytes), Err(expected), "{version_and_command:#x} {relayed:#x}");
    }
}

#[test]
fn a_source_that_is_no_one_client_is_refused() {
    for source in [
        "0.0.0.0:1",
        "255.255.255.255:1",
        "224.0.0.1:1",
        "239.255.255.255:1",
        "[::]:1",
        "[ff02::1]:1",
        "[::ffff:0.0.0.0]:1",
        "[::ffff:224.0.0.1]:1",
    ] {
        assert_eq!(parse(&of_client(source.parse().unwrap(), &[])), Err(Refusal::NoClient), "{source}");
    }
    for source in ["0.0.0.1:1", "223.255.255.255:1", "255.255.255.254:1", "127.0.0.1:0"] {
        assert_eq!(parse(&of_client(source.parse().unwrap(), &[])), whole(source, 28));
    }
    for source in ["[::1]:1", "[fe80::1]:1", "[feff::1]:1"] {
        assert_eq!(parse(&of_client(source.parse().unwrap(), &[])), whole(source, 52));
    }
}

#[test]
fn addresses_below_at_and_above_their_room() {
    let rest = [10; 40];
    for (relayed, room) in [(0x11, 12), (0x21, 36)] {
        assert_eq!(parse(&header(0x21, relayed, &rest[..room - 1])), Err(Refusal::Malformed));
        for length in [room, room + 1] {
            let found = parse(&header(0x21, relayed, &rest[..length]));
            assert!(matches!(found, Ok(Progress::Whole(header)) if header.length == 16 + length), "{found:?}");
        }
        assert_eq!(parse(&header(0x21, relayed, &[])), Err(Refusal::Malformed));
    }
}

#[test]
fn lengths_below_at_and_above_the_limit() {
    for command in [0x20, 0x21] {
        for length in [REST_BYTES_MAX - 1, REST_BYTES_MAX] {
            let bytes = header(command, 0x11, &vec![10; length]);
            assert!(matches!(parse(&bytes), Ok(Progress::Whole(header)) if header.length == 16 + length));
            assert_eq!(parse(&bytes[..16]), Ok(Progress::Wants(length)));
        }
        for length in [REST_BYTES_MAX + 1, usize::from(u16::MAX)] {
            let bytes = header(command, 0x11, &vec![10; length]);
            assert_eq!(parse(&bytes), Err(Refusal::TooLong));
            assert_eq!(parse(&bytes[..16]), Err(Refusal::TooLong), "before a byte of it is waited for");
        }
    }
}

#[test]
fn what_has_no_header_is_known_by_its_first_bytes() {
    for text in ["GET / HTTP/1.1\r\n", "POST /", "PUT", "PA", "\x16\x03\x01", "\r\n\r\n\r\n", "\r\nGET", "\n", "proxy "]
    {
        assert_eq!(parse(text.as_bytes()), Err(Refusal::Missing), "{text:?}");
    }
    for text in ["PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "PROXY UNKNOWN\r\n", "PROXY"] {
        assert_eq!(parse(text.as_bytes()), Err(Refusal::VersionOne), "{text:?}");
    }
    assert_eq!(parse(b"P"), Ok(Progress::Wants(4)));
    assert_eq!(parse(b"PROX"), Ok(Progress::Wants(1)));
    assert_eq!(parse(b""), Ok(Progress::Wants(16)));
    assert_eq!(parse(&SIGNATURE), Ok(Progress::Wants(4)));
    assert_eq!(parse(&header(0x21, 0x11, &[10; 12])[..17]), Ok(Progress::Wants(11)));
}

#[test]
fn reasons_have_names_of_their_own() {
    let mut names = Refusal::ALL.map(Refusal::as_str).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Refusal::ALL.len());
    assert!(Refusal::VersionOne.advice().contains("switch the balancer to version 2"));
}

/// The header as it is read from a connection: what is wanted, in pieces of any size, and nothing beyond.
fn read_in_pieces(bytes: &[u8], pieces: &[usize]) -> Result<Progress, Refusal> {
    let mut pieces = pieces.iter().copied().cycle();
    let mut read = 0;
    loop {
        match parse(&bytes[..read])? {
            Progress::Wants(wanted) if read < bytes.len() => {
                assert!(wanted > 0);
                read = bytes.len().min(read + wanted.min(pieces.next().unwrap().max(1)));
            }
            Progress::Whole(header) => {
                assert_eq!(header.length, read, "no byte of the client's was taken");
                return Ok(Progress::Whole(header));
            }
            wants => return Ok(wants),
        }
    }
}

fn any_source() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(address, port)| SocketAddr::new(address, port))
}

/// Bytes that get far: most are a header, or begin as one does.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let after = proptest::collection::vec(any::<u8>(), 0..80);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        (0x1f..0x24_u8, any::<u8>(), after.clone()).prop_map(|(command, relayed, rest)| [
            header(command, relayed, &rest),
            rest
        ]
        .concat()),
        (0x20..0x22_u8, prop_oneof![Just(0x11_u8), Just(0x21)], 0..9_u8, any::<u8>(), after).prop_map(
            |(command, relayed, high, low, rest)| [&SIGNATURE[..], &[command, relayed, high, low], &rest].concat()
        ),
        (any_source(), 0..200_usize).prop_map(|(source, kept)| {
            let mut bytes = of_client(source, b"\x04\0\0");
            bytes.truncate(kept);
            bytes
        }),
    ]
}

proptest! {
    #[test]
    fn what_was_written_is_read(source in any_source(), more in proptest::collection::vec(any::<u8>(), 0..64)) {
        let bytes = of_client(source, &more);
        let address = source.ip().to_canonical();
        match parse(&bytes) {
            Ok(Progress::Whole(header)) => {
                prop_assert_eq!(header.source, Some(SocketAddr::new(address, source.port())));
                prop_assert_eq!(header.length, bytes.len());
            }
            other => {
                prop_assert_eq!(other, Err(Refusal::NoClient));
                let is_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
                prop_assert!(address.is_multicast() || address.is_unspecified() || is_broadcast);
            }
        }
    }

    #[test]
    fn pieces_make_no_difference(bytes in likely(), pieces in proptest::collection::vec(1..20_usize, 1..8)) {
        let at_once = parse(&bytes);
        let in_pieces = read_in_pieces(&bytes, &pieces);
        prop_assert_eq!(at_once, in_pieces);
    }

    #[test]
    fn a_refusal_and_a_header_are_final(bytes in likely(), more in proptest::collection::vec(any::<u8>(), 0..40)) {
        let longer = [&bytes[..], &more].concat();
        match parse(&bytes) {
            Ok(Progress::Wants(wanted)) => prop_assert!(wanted > 0 && wanted <= FIXED_BYTES + REST_BYTES_MAX),
            final_answer => prop_assert_eq!(parse(&longer), final_answer),
        }
    }
}
