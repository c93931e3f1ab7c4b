//! Names that are not the region's, asked of this computer's own name servers: for pockets with a network.
//!
//! Queries and answers pass as they are, so that every type of record works and nothing here has to understand it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{HEADER_BYTES, read_question, word};

/// Name servers that are asked, one after the other; resolvers heed no more (`MAXNS` of resolv.conf(5)).
pub const SERVERS_MAX: usize = 3;
/// Queries that wait for a name server at a time; further ones are dropped, and asked again by their clients.
pub const WAITING_MAX: usize = 64;
/// How long one server may take. The pocket's `resolv.conf` gives the client twice as long.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// The longest answer there is (RFC 1035 §4.2.2).
const ANSWER_BYTES_MAX: usize = 65_535;

/// This computer's name servers. The file that names them is read for each query: it changes as computers move.
#[derive(Clone, Debug)]
pub struct Upstream {
    resolv_conf: PathBuf,
    port: u16,
}

impl Default for Upstream {
    fn default() -> Self {
        Self { resolv_conf: RESOLV_CONF.into(), port: PORT }
    }
}

impl Upstream {
    /// The first answer that one of them gives to `query`.
    pub(super) async fn ask(&self, query: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
        for server in servers(&text) {
            let server = SocketAddr::new(server, self.port);
            let asked = async { if by_tcp { over_tcp(query, server).await } else { over_udp(query, server).await } };
            if let Ok(Ok(answer)) = timeout(SERVER_TIMEOUT, asked).await {
                return Some(answer);
            }
        }
        None
    }
}

/// The name servers in the text of `resolv.conf`; this computer itself if there are none.
fn servers(text: &str) -> Vec<IpAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        // A link-local address with its interface is of no use without that.
        words.next().filter(|word| *word == "nameserver").and_then(|_| words.next()?.parse().ok())
    });
    let mut servers: Vec<IpAddr> = named.take(SERVERS_MAX).collect();
    if servers.is_empty() {
        servers.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    servers
}

async fn over_udp(query: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    // From then on the kernel drops what comes from anybody else.
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    loop {
        let length = socket.recv(&mut answer).await?;
        if let Some(answer) = answer.get(..length).filter(|answer| answers(query, answer)) {
            return Ok(answer.to_vec());
        }
    }
}

async fn over_tcp(query: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if answers(query, &answer) { Ok(answer) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

/// Whether `answer` is one to `query`: its id, and its question if there is one.
fn answers(query: &[u8], answer: &[u8]) -> bool {
    let same_id = answer.get(..2).is_some_and(|id| query.get(..2) == Some(id));
    let is_answer = answer.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let same_question = match (read_question(query), read_question(answer)) {
        (Some(asked), Some(told)) => (asked.name, asked.kind, asked.class) == (told.name, told.kind, told.class),
        // A refusal may leave the question away.
        (Some(_), None) => answer.len() == HEADER_BYTES && word(answer, 4) == Some(0),
        (None, _) => false,
    };
    same_id && is_answer && same_question
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_resolvers_read_them() {
        let text = "# nameserver 192.0.2.9\nsearch lan\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # two\n\
                    nameserver fe80::1%eth0\nnameserver 192.0.2.2\nnameserver 192.0.2.3\noptions edns0\n";
        let expected: Vec<IpAddr> = ["192.0.2.1", "2001:db8::1", "192.0.2.2"].map(|one| one.parse().unwrap()).into();
        assert_eq!(servers(text), expected);
        assert_eq!(servers(""), [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    }

    const QUERY: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";

    fn reply() -> Vec<u8> {
        let mut reply = QUERY.to_vec();
        reply[2] |= 0x80;
        reply
    }

    #[test]
    fn an_answer_is_to_its_question() {
        assert!(answers(QUERY, &reply()) && !answers(QUERY, QUERY));
        for at in [0, 1, 13, QUERY.len() - 1] {
            let mut other = reply();
            other[at] ^= 1;
            assert!(!answers(QUERY, &other), "{at}");
        }
        let mut refusal = reply()[..HEADER_BYTES].to_vec();
        assert!(!answers(QUERY, &refusal), "it says that it has a question");
        refusal[5] = 0;
        assert!(answers(QUERY, &refusal));
        assert!(!answers(QUERY, b"") && !answers(b"", &reply()));
    }

    #[tokio::test]
    async fn a_server_that_lies_or_is_silent_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let resolv_conf = directory.path().join("resolv.conf");
        // Nobody listens at the first; the second answers another question before ours.
        std::fs::write(&resolv_conf, "nameserver 127.0.0.2\nnameserver 127.0.0.1\n").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let upstream = Upstream { resolv_conf, port: socket.local_addr().unwrap().port() };
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (_, from) = socket.recv_from(&mut buffer).await.unwrap();
            let mut lie = reply();
            lie[13] ^= 1;
            socket.send_to(&lie, from).await.unwrap();
            socket.send_to(&reply(), from).await.unwrap();
        });
        assert_eq!(upstream.ask(QUERY, false).await, Some(reply()));
        assert_eq!(upstream.ask(QUERY, true).await, None, "no server speaks TCP");
    }
}
