//! The names that exist inside a pocket: the region's endpoints, and the metadata service.
//!
//! A query is read by hand: it is a header and one question whose name is never compressed, its bytes are echoed as they
//! came (resolvers compare the letters' case), and a question of a type nobody here has heard of still gets an answer.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use inborn_identity::Region;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

use super::{ENDPOINTS_ADDRESS, METADATA_ADDRESS};

/// Bytes of a query that is looked at; no honest one comes near (a name has at most 255).
pub const QUERY_BYTES_MAX: usize = 1024;
/// TCP connections answered at a time; further ones wait.
pub const TCP_CONNECTIONS_MAX: usize = 32;
/// Seconds that an answer may be kept. Nothing changes while a pocket lives.
pub const ANSWER_TTL_SECONDS: u32 = 60;
/// How long a TCP client may take between two queries.
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait when a socket has failed for a reason that passes (no descriptors, no memory).
const BACK_OFF: Duration = Duration::from_millis(50);

const HEADER_BYTES: usize = 12;
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;
const TYPE_A: u16 = 1;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;

const FLAG_RESPONSE: u16 = 0x8000;
const FLAG_AUTHORITATIVE: u16 = 0x0400;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
const OPCODE_MASK: u16 = 0x7800;
const NO_ERROR: u16 = 0;
const FORMAT_ERROR: u16 = 1;
const NO_SUCH_NAME: u16 = 3;
const NOT_IMPLEMENTED: u16 = 4;

/// What a pocket's resolver knows.
#[derive(Clone, Debug)]
pub struct Zone {
    /// `.us-east-1.amazonaws.com` and `us-east-1.amazonaws.com`, lower case.
    region_suffix: String,
    /// `.amazonaws.com`, lower case.
    domain_suffix: String,
}

/// The name of the metadata service in EC2's own resolver.
const METADATA_NAME: &str = "instance-data.ec2.internal";

impl Zone {
    /// The names of `region` under `domain`, for instance `us-east-1` under `amazonaws.com`.
    #[must_use]
    pub fn new(region: &Region, domain: &str) -> Self {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        Self { region_suffix: format!(".{region}.{domain}"), domain_suffix: format!(".{domain}") }
    }

    /// The address of `name` (lower case, no dot at the end): of the region's endpoints for every name below
    /// `REGION.DOMAIN` and for each name directly below `DOMAIN` (`sts.DOMAIN`, `iam.DOMAIN`, …), of the metadata service
    /// for `instance-data.ec2.internal`.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<Ipv4Addr> {
        if name == METADATA_NAME {
            return Some(METADATA_ADDRESS);
        }
        if name.contains(char::REPLACEMENT_CHARACTER) {
            return None;
        }
        let regional = name.strip_suffix(self.region_suffix.as_str()).is_some_and(|host| !host.is_empty());
        let global = name
            .strip_suffix(self.domain_suffix.as_str())
            .is_some_and(|label| !label.is_empty() && !label.contains('.'));
        (regional || global).then_some(ENDPOINTS_ADDRESS)
    }
}

/// One question, and where it ends in the query.
struct Question {
    name: String,
    kind: u16,
    class: u16,
    end: usize,
}

/// The answer to `query`; nothing if it deserves none (too short to have an id, or itself an answer).
///
/// A name that exists has an IPv4 address and nothing else: other types are an empty success. Any other name does not
/// exist (a refusal would make resolvers ask again). What cannot be read is a format error.
#[must_use]
pub fn answer(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let flags = word(query, 2)?;
    if query.len() < HEADER_BYTES || flags & FLAG_RESPONSE != 0 {
        return None;
    }
    if flags & OPCODE_MASK != 0 {
        return reply(query, None, NOT_IMPLEMENTED, None);
    }
    if word(query, 4) != Some(1) || query.len() > QUERY_BYTES_MAX {
        return reply(query, None, FORMAT_ERROR, None);
    }
    let Some(question) = read_question(query) else { return reply(query, None, FORMAT_ERROR, None) };
    let internet = matches!(question.class, CLASS_IN | CLASS_ANY);
    match zone.address_of(&question.name).filter(|_| internet) {
        None => reply(query, Some(&question), NO_SUCH_NAME, None),
        Some(address) => {
            let address = matches!(question.kind, TYPE_A | TYPE_ANY).then_some(address);
            reply(query, Some(&question), NO_ERROR, address)
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The question behind the header, its name in lower case with dots between the labels. Bytes that no host name has
/// become U+FFFD, and no name that holds one exists.
fn read_question(query: &[u8]) -> Option<Question> {
    let mut name = String::new();
    let mut at = HEADER_BYTES;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        let label = query.get(at..at + length)?;
        at += length;
        if length > LABEL_BYTES_MAX || at - HEADER_BYTES >= NAME_BYTES_MAX {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte.to_ascii_lowercase()),
            _ => char::REPLACEMENT_CHARACTER,
        }));
    }
    Some(Question { name, kind: word(query, at)?, class: word(query, at + 2)?, end: at + 4 })
}

/// An answer with the id of `query`, its question if it was understood, and at most one address.
fn reply(query: &[u8], question: Option<&Question>, code: u16, address: Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let kept = word(query, 2)? & (OPCODE_MASK | FLAG_RECURSION_DESIRED);
    let flags = FLAG_RESPONSE | FLAG_AUTHORITATIVE | FLAG_RECURSION_AVAILABLE | kept | code;
    let mut bytes = query.get(..2)?.to_vec();
    bytes.extend(flags.to_be_bytes());
    for count in [u16::from(question.is_some()), u16::from(address.is_some()), 0, 0] {
        bytes.extend(count.to_be_bytes());
    }
    if let Some(question) = question {
        bytes.extend(query.get(HEADER_BYTES..question.end)?);
    }
    if let Some(address) = address {
        // The name is a pointer to the question's.
        bytes.extend([0xc0, 0x0c]);
        bytes.extend(TYPE_A.to_be_bytes());
        bytes.extend(CLASS_IN.to_be_bytes());
        bytes.extend(ANSWER_TTL_SECONDS.to_be_bytes());
        bytes.extend([0, 4]);
        bytes.extend(address.octets());
    }
    Some(bytes)
}

/// Answers queries on both sockets until `stop` turns true or its sender is gone.
pub async fn serve(udp: UdpSocket, tcp: TcpListener, zone: Zone, mut stop: watch::Receiver<bool>) {
    let zone = Arc::new(zone);
    let connections_stop = stop.clone();
    tokio::select! {
        () = serve_udp(&udp, &zone) => {}
        () = serve_tcp(&tcp, &zone, &connections_stop) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// One query at a time: an answer costs a microsecond, and what does not fit the socket's buffer is asked again.
async fn serve_udp(socket: &UdpSocket, zone: &Zone) {
    // One byte more, so that a query over the limit is seen to be over it.
    let mut buffer = [0; QUERY_BYTES_MAX + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                if let Some(answer) = buffer.get(..length).and_then(|query| answer(query, zone)) {
                    // A client that has gone away is no reason to stop.
                    let _ = socket.send_to(&answer, from).await;
                }
            }
            Err(_) => tokio::time::sleep(BACK_OFF).await,
        }
    }
}

async fn serve_tcp(listener: &TcpListener, zone: &Arc<Zone>, stop: &watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (zone, mut stop) = (Arc::clone(zone), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve_connection(stream, &zone) => {}
                        _ = stop.wait_for(|stop| *stop) => {}
                    }
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(BACK_OFF).await,
        }
    }
}

/// Each query and each answer is preceded by its length in two bytes (RFC 1035 §4.2.2).
async fn serve_connection(mut stream: TcpStream, zone: &Zone) {
    loop {
        let Ok(Ok(length)) = tokio::time::timeout(TCP_IDLE_TIMEOUT, stream.read_u16()).await else { return };
        let length = usize::from(length);
        if length > QUERY_BYTES_MAX {
            return;
        }
        let mut query = vec![0; length];
        let Ok(Ok(_)) = tokio::time::timeout(TCP_IDLE_TIMEOUT, stream.read_exact(&mut query)).await else { return };
        let Some(answer) = answer(&query, zone) else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
        let Ok(Ok(())) = tokio::time::timeout(TCP_IDLE_TIMEOUT, stream.write_all(&framed)).await else { return };
    }
}

#[cfg(test)]
mod tests {
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
        (addresses.0, addresses.1, stop, tokio::spawn(serve(udp, tcp, zone(), stopping)))
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
}
