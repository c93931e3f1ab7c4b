use super::*;
use proptest::prelude::*;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question as Asked, RCODE, TYPE};

fn zone() -> Zone {
    Zone::new(&"us-east-1".parse().unwrap(), "AmazonAWS.com")
}

fn ask(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(0xbeef);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Asked::new(Name::new_unchecked(name), QTYPE::TYPE(kind), CLASS::IN.into(), false));
    packet.build_bytes_vec().unwrap()
}

/// The code and the addresses answered, as an independent parser reads them.
fn resolve(query: &[u8]) -> (RCODE, Vec<Ipv4Addr>) {
    let bytes = answer(query, &zone()).unwrap();
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.id(), 0xbeef);
    assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE));
    let addresses = packet.answers.iter().map(|record| match &record.rdata {
        RData::A(A { address }) => Ipv4Addr::from(*address),
        other => panic!("{other:?}"),
    });
    (packet.rcode(), addresses.collect())
}

#[test]
fn the_names_of_every_region_of_a_deployment_are_there() {
    let zone = Zone::of_regions(&["us-east-1".parse().unwrap(), "lab".parse().unwrap()], "amazonaws.com");
    for (name, is_there) in [
        ("sts.us-east-1.amazonaws.com", true),
        ("sts.lab.amazonaws.com", true),
        ("lab.amazonaws.com", true),
        ("sts.eu-west-1.amazonaws.com", false),
    ] {
        assert_eq!(zone.address_of(name).is_some(), is_there, "{name}");
        assert!(zone.owns(name), "{name}");
    }
}

#[test]
fn names_that_exist() {
    for name in [
        "sts.us-east-1.amazonaws.com",
        "STS.US-East-1.AmazonAWS.COM",
        "a.b.c.us-east-1.amazonaws.com",
        "sts.amazonaws.com",
        "iam.amazonaws.com",
        "us-east-1.amazonaws.com",
    ] {
        assert_eq!(resolve(&ask(name, TYPE::A)), (RCODE::NoError, vec![ENDPOINTS_ADDRESS]), "{name}");
        assert_eq!(resolve(&ask(name, TYPE::AAAA)), (RCODE::NoError, vec![]), "{name}");
    }
    let metadata = ask("Instance-Data.ec2.internal", TYPE::A);
    assert_eq!(resolve(&metadata), (RCODE::NoError, vec![METADATA_ADDRESS]));
}

#[test]
fn names_that_do_not() {
    for name in [
        "",
        "amazonaws.com",
        "sts.eu-west-1.amazonaws.com",
        "example.com",
        "xus-east-1.amazonaws.com.evil.example",
        "stsamazonaws.com",
        "x.ec2.internal",
        "localhost",
    ] {
        for kind in [TYPE::A, TYPE::AAAA] {
            assert_eq!(resolve(&ask(name, kind)), (RCODE::NameError, vec![]), "{name}");
        }
    }
}

#[test]
fn what_is_below_the_domain_never_goes_elsewhere() {
    for name in ["sts.us-east-1.amazonaws.com", "bucket.s3.eu-west-1.AmazonAWS.com", "amazonaws.com"] {
        assert!(!is_of_the_world(&ask(name, TYPE::A), &zone()), "{name}");
    }
    assert!(!is_of_the_world(&ask("instance-data.ec2.internal", TYPE::A), &zone()));
    for name in ["example.com", "notamazonaws.com", "amazonaws.com.evil.example", "localhost"] {
        let query = ask(name, TYPE::TXT);
        assert!(is_of_the_world(&query, &zone()), "{name}");
        for length in 0..query.len() {
            assert!(!is_of_the_world(&query[..length], &zone()), "{length}");
        }
        let mut answer = query.clone();
        answer[2] |= 0x80;
        assert!(!is_of_the_world(&answer, &zone()), "two servers must not talk to each other");
    }
}

#[test]
fn a_dot_inside_a_label_is_no_separator() {
    let mut query = ask("stsxus-east-1.amazonaws.com", TYPE::A);
    let at = query.iter().position(|byte| *byte == b'x').unwrap();
    query[at] = b'.';
    assert_eq!(resolve(&query).0, RCODE::NameError.clone());
}

#[test]
fn the_question_is_echoed_with_its_case() {
    let query = ask("sTs.AMAZONAWS.com", TYPE::A);
    let answer = answer(&query, &zone()).unwrap();
    assert_eq!(answer[HEADER_BYTES..query.len()], query[HEADER_BYTES..]);
    let packet = Packet::parse(&answer).unwrap();
    assert_eq!(packet.answers[0].name.to_string(), "sTs.AMAZONAWS.com");
    assert_eq!(packet.answers[0].ttl, ANSWER_TTL_SECONDS);
}

#[test]
fn unheard_of_types_and_classes() {
    let mut query = ask("sts.amazonaws.com", TYPE::A);
    let (kind, class) = (query.len() - 4, query.len() - 2);
    query[kind..class].copy_from_slice(&65_280u16.to_be_bytes());
    let bytes = answer(&query, &zone()).unwrap();
    assert_eq!((bytes[3] & 0xf, &bytes[6..8]), (0, &[0, 0][..]), "success without an answer");
    query[kind..class].copy_from_slice(&TYPE_ANY.to_be_bytes());
    assert_eq!(answer(&query, &zone()).unwrap()[7], 1);
    query[class..].copy_from_slice(&3u16.to_be_bytes());
    assert_eq!(answer(&query, &zone()).unwrap()[3] & 0xf, 3, "no such name in another class");
    let any = Asked::new(Name::new_unchecked("sts.amazonaws.com"), QTYPE::ANY, QCLASS::ANY, false);
    let mut packet = Packet::new_query(0xbeef);
    packet.questions.push(any);
    assert_eq!(resolve(&packet.build_bytes_vec().unwrap()).1, vec![ENDPOINTS_ADDRESS]);
}

#[test]
fn what_is_not_a_query() {
    let query = ask("sts.amazonaws.com", TYPE::A);
    for length in 0..HEADER_BYTES {
        assert_eq!(answer(&query[..length], &zone()), None, "{length}");
    }
    for length in HEADER_BYTES..query.len() {
        assert_eq!(resolve(&query[..length]).0, RCODE::FormatError, "{length}");
    }
    let mut response = query.clone();
    response[2] |= 0x80;
    assert_eq!(answer(&response, &zone()), None, "two servers must not talk to each other");
    let mut update = query.clone();
    update[2] |= 5 << 3;
    assert_eq!(answer(&update, &zone()).unwrap()[3] & 0xf, 4);
    let mut two = query.clone();
    two[5] = 2;
    assert_eq!(resolve(&two).0, RCODE::FormatError);
    let mut compressed = query[..HEADER_BYTES].to_vec();
    compressed.extend([0xc0, 0x0c, 0, 1, 0, 1]);
    assert_eq!(resolve(&compressed).0, RCODE::FormatError);
}

#[test]
fn names_and_queries_at_their_limits() {
    // Three labels of 63 and one of 61 are 255 bytes with their lengths and the root's.
    for (last, code) in [(60, RCODE::NameError), (61, RCODE::NameError), (62, RCODE::FormatError)] {
        let mut query = ask("", TYPE::A)[..HEADER_BYTES].to_vec();
        for length in [63u8, 63, 63, last] {
            query.push(length);
            query.extend(vec![b'a'; usize::from(length)]);
        }
        query.extend([0, 0, 1, 0, 1]);
        assert_eq!(resolve(&query).0, code, "{last}");
    }
    for (length, code) in [
        (QUERY_BYTES_MAX - 1, RCODE::NoError),
        (QUERY_BYTES_MAX, RCODE::NoError),
        (QUERY_BYTES_MAX + 1, RCODE::FormatError),
    ] {
        let mut query = ask("sts.amazonaws.com", TYPE::A);
        query.resize(length, 0);
        assert_eq!(resolve(&query).0, code, "{length}");
    }
}

proptest! {
    #[test]
    fn never_panics(query in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = answer(&query, &zone());
    }

    #[test]
    fn answers_are_well_formed(tail in proptest::collection::vec(0u8..70, 0..300), kind in any::<u8>()) {
        let mut query = ask("", TYPE::A)[..HEADER_BYTES].to_vec();
        query.extend(tail);
        query.extend([0, 0, kind, 0, 1]);
        let answer = answer(&query, &zone()).unwrap();
        prop_assert!(answer.len() <= query.len() + 16);
        prop_assert_eq!(&answer[..2], &query[..2]);
        prop_assert!(answer[2] & 0x80 != 0);
    }
}

async fn start() -> (std::net::SocketAddr, std::net::SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    let (stop, stopping) = watch::channel(false);
    (addresses.0, addresses.1, stop, tokio::spawn(serve(udp, tcp, Resolver { zone: zone(), upstream: None }, stopping)))
}

#[tokio::test]
async fn over_udp_and_tcp() {
    let (udp, tcp, stop, serving) = start().await;
    let query = ask("sts.amazonaws.com", TYPE::A);
    let expected = answer(&query, &zone()).unwrap();

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(b"junk", udp).await.unwrap();
    socket.send_to(&query, udp).await.unwrap();
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).await.unwrap();
    assert_eq!(buffer[..length], expected);

    let mut stream = TcpStream::connect(tcp).await.unwrap();
    for _ in 0..2 {
        stream.write_u16(u16::try_from(query.len()).unwrap()).await.unwrap();
        stream.write_all(&query).await.unwrap();
        let length = usize::from(stream.read_u16().await.unwrap());
        stream.read_exact(&mut buffer[..length]).await.unwrap();
        assert_eq!(buffer[..length], expected);
    }
    stream.write_u16(u16::MAX).await.unwrap();
    assert!(stream.read_u8().await.is_err(), "a query over the limit ends the connection");
    stop.send(true).unwrap();
    serving.await.unwrap();
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_room() {
    let (_, tcp, _stop, _serving) = start().await;
    let query = ask("sts.amazonaws.com", TYPE::A);
    let mut held = Vec::new();
    for _ in 0..TCP_CONNECTIONS_MAX {
        held.push(TcpStream::connect(tcp).await.unwrap());
    }
    let mut late = TcpStream::connect(tcp).await.unwrap();
    late.write_u16(u16::try_from(query.len()).unwrap()).await.unwrap();
    late.write_all(&query).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), late.read_u8()).await.is_err());
    held.pop();
    assert!(tokio::time::timeout(Duration::from_secs(2), late.read_u8()).await.unwrap().is_ok());
}
