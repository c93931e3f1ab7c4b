//! `OpenTunnel` over real sockets: who is let in, where a tunnel leads, what it carries and when it ends. The machines' side
//! is played by a listener of the test; that the host leads to the machine and to nothing else, `compat/test_tunnels.py` shows.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use futures_util::{SinkExt, StreamExt};
use inborn_identity::InstanceId;
use inborn_region::{Reach, Reached, Unreachable};
use inborn_sigv4::sign::{Credentials, Target, presign};
use inborn_sigv4::{Header, PathMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The longest message that a tunnel takes from a client.
const MESSAGE_BYTES_MAX: usize = 65_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// Leads to a listener, and remembers which machine and port were meant.
struct Way {
    to: SocketAddr,
    meant: Mutex<Vec<(InstanceId, u16)>>,
}

impl Reach for Way {
    fn reach(
        &self,
        instance: InstanceId,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = Result<Reached, Unreachable>> + Send + '_>> {
        self.meant.lock().unwrap().push((instance, port));
        Box::pin(async move {
            let stream = TcpStream::connect(self.to).await.map_err(|error| Unreachable(error.to_string()))?;
            Ok(Reached { stream, gone: Box::pin(std::future::pending()) })
        })
    }
}

struct Tunnels {
    running: Running,
    machine: InstanceId,
    listener: TcpListener,
    way: Arc<Way>,
}

/// A region with one machine, whose ports all lead to one listener.
async fn tunnels() -> Tunnels {
    let running = start().await;
    let machine = running.launch().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way = Arc::new(Way { to: listener.local_addr().unwrap(), meant: Mutex::default() });
    running.region.reach_by(Arc::clone(&way) as Arc<dyn Reach>);
    Tunnels { running, machine, listener, way }
}

type Socket = WebSocketStream<TcpStream>;

/// What the person asks for, as far as tests vary it.
struct Ask {
    query: String,
    host: String,
    expires: u64,
    handshake: bool,
}

impl Tunnels {
    fn endpoint(&self) -> inborn_region::network::ConnectEndpoint {
        self.running
            .region
            .identity()
            .connect_endpoints(self.running.region.identity().account, std::iter::empty())
            .remove(0)
            .1
    }

    fn address(&self) -> String {
        self.running.region.machines().get(self.machine).unwrap().private_address.to_string()
    }

    fn ask(&self) -> Ask {
        let (id, address) = (self.endpoint().id, self.address());
        let query = format!("instanceConnectEndpointId={id}&remotePort=22&privateIpAddress={address}");
        Ask { query, host: self.endpoint().dns_name, expires: 60, handshake: true }
    }

    /// The head of a presigned handshake, as the AWS CLI sends it.
    fn head(&self, signer: &Signer, ask: &Ask) -> String {
        let headers = [Header { name: b"host", value: ask.host.as_bytes() }];
        let request = inborn_sigv4::Request {
            method: "GET",
            path: b"/openTunnel",
            query: ask.query.as_bytes(),
            headers: &headers,
        };
        let credentials = Credentials {
            access_key_id: &signer.access_key_id,
            secret_access_key: signer.secret.as_bytes(),
            session_token: signer.token.as_deref(),
        };
        let target =
            Target { region: "eu-central-1", service: "ec2-instance-connect", path_mode: PathMode::Normalized };
        let query = presign(&request, b"", &credentials, &target, ask.expires, NOW).unwrap();
        let upgrade = if ask.handshake {
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        } else {
            "Connection: close\r\n"
        };
        format!("GET /openTunnel?{query} HTTP/1.1\r\nHost: {}\r\n{upgrade}\r\n", ask.host)
    }

    async fn open(&self, signer: &Signer, ask: &Ask) -> Result<Socket, Reply> {
        let mut stream = TcpStream::connect(self.running.address).await.unwrap();
        stream.write_all(self.head(signer, ask).as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { status, head, body: String::new() };
        if status == 101 {
            assert_eq!(reply.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
            assert!(reply.header("x-amzn-requestid").is_some(), "{}", reply.head);
            return Ok(WebSocketStream::from_raw_socket(stream, Role::Client, None).await);
        }
        let mut body = vec![0; reply.header("content-length").unwrap().parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        reply.body = String::from_utf8(body).unwrap();
        Err(reply)
    }

    /// A tunnel, and the machine's end of it.
    async fn pair(&self, ask: &Ask) -> (Socket, TcpStream) {
        let operator = self.running.operator();
        let opening = self.open(&operator, ask);
        let (socket, accepted) = tokio::join!(opening, self.listener.accept());
        (socket.unwrap_or_else(|reply| panic!("{}", reply.body)), accepted.unwrap().0)
    }

    async fn refused(&self, signer: &Signer, ask: &Ask) -> (u16, serde_json::Value) {
        let Err(reply) = self.open(signer, ask).await else { panic!("a tunnel was opened: {}", ask.query) };
        (reply.status, serde_json::from_str(&reply.body).unwrap())
    }
}

/// The code and the reason with which a tunnel ends; what came before is passed over.
async fn farewell(socket: &mut Socket) -> (u16, String) {
    let last = async {
        loop {
            if let Message::Close(frame) = socket.next().await.unwrap().unwrap() {
                let frame = frame.unwrap();
                return (u16::from(frame.code), frame.reason.to_string());
            }
        }
    };
    tokio::time::timeout(PATIENCE, last).await.unwrap()
}

#[tokio::test]
async fn bytes_go_both_ways_and_nothing_is_lost_at_the_end() {
    let tunnels = tunnels().await;
    let (mut socket, mut machine) = tunnels.pair(&tunnels.ask()).await;
    assert_eq!(*tunnels.way.meant.lock().unwrap(), [(tunnels.machine, 22)]);
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 4]).collect();
    let up = async {
        for part in sent.chunks(MESSAGE_BYTES_MAX) {
            socket.send(Message::Binary(part.to_vec().into())).await.unwrap();
        }
        socket.close(None).await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(up, machine.read_to_end(&mut got));
    read.unwrap();
    assert!(got == sent, "{} of {} bytes came", got.len(), sent.len());

    let (mut socket, mut machine) = tunnels.pair(&tunnels.ask()).await;
    let down = async {
        machine.write_all(&sent).await.unwrap();
        machine.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let read = async {
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(part) => got.extend_from_slice(&part),
                Message::Close(frame) => return frame.unwrap(),
                other => panic!("{other:?}"),
            }
        }
    };
    let (_, frame) = tokio::join!(down, read);
    assert_eq!(u16::from(frame.code), 1000);
    assert!(got == sent, "{} of {} bytes came", got.len(), sent.len());
    let record = tunnels.running.audit().into_iter().rfind(|line| line["eventName"] == "OpenTunnel").unwrap();
    assert_eq!(record["requestParameters"]["remotePort"], "22");
    assert_eq!(record["requestParameters"]["privateIpAddress"], tunnels.address());
    assert_eq!((&record["readOnly"], &record["errorCode"]), (&false.into(), &serde_json::Value::Null));
    assert!(!record.to_string().contains("X-Amz-"), "{record}");
}

#[tokio::test]
async fn messages_below_at_and_above_the_limit() {
    let tunnels = tunnels().await;
    for (length, fits) in [(MESSAGE_BYTES_MAX - 1, true), (MESSAGE_BYTES_MAX, true), (MESSAGE_BYTES_MAX + 1, false)] {
        let (mut socket, mut machine) = tunnels.pair(&tunnels.ask()).await;
        socket.send(Message::Binary(vec![7; length].into())).await.unwrap();
        if fits {
            let mut got = vec![0; length];
            machine.read_exact(&mut got).await.unwrap();
        } else {
            assert_eq!(farewell(&mut socket).await, (1009, "A message has at most 65000 bytes".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_text_ends_the_tunnel_and_so_does_what_is_no_frame() {
    let tunnels = tunnels().await;
    let (mut socket, mut machine) = tunnels.pair(&tunnels.ask()).await;
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(farewell(&mut socket).await.0, 1003);
    assert_eq!(machine.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    let (mut socket, _machine) = tunnels.pair(&tunnels.ask()).await;
    // A frame of a client that is not masked.
    socket.get_mut().write_all(&[0x82, 0x01, 0x41]).await.unwrap();
    assert_eq!(farewell(&mut socket).await.0, 1002);
    let (mut socket, _machine) = tunnels.pair(&tunnels.ask()).await;
    socket.send(Message::Ping(vec![1, 2].into())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(vec![1, 2].into()));
}

#[tokio::test]
async fn a_tunnel_lasts_as_long_as_was_asked_for() {
    let tunnels = tunnels().await;
    let ask = Ask { query: tunnels.ask().query + "&maxTunnelDuration=1", ..tunnels.ask() };
    let begin = tokio::time::Instant::now();
    let (mut socket, _machine) = tunnels.pair(&ask).await;
    let (code, reason) = farewell(&mut socket).await;
    assert_eq!((code, reason.as_str()), (1008, "The maximum duration of the tunnel has passed"));
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_tunnel_ends_with_the_boot_of_its_machine() {
    for action in ["StopInstances", "RebootInstances", "TerminateInstances"] {
        let tunnels = tunnels().await;
        let (mut socket, mut machine) = tunnels.pair(&tunnels.ask()).await;
        let other = tunnels.running.launch().await;
        for id in [other, tunnels.machine] {
            machine.write_all(b"x").await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::Binary(b"x".to_vec().into()), "{action}");
            let change = ec2(&format!("Action={action}&InstanceId.1={id}"));
            assert_eq!(tunnels.running.send(&tunnels.running.operator(), &change).await.status, 200);
        }
        assert_eq!(farewell(&mut socket).await.0, 1001, "{action}");
        assert_eq!(machine.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof, "{action}");
    }
}

#[tokio::test]
async fn a_machine_that_does_not_listen_is_told_of_in_the_farewell() {
    let Tunnels { running, machine, listener, way } = tunnels().await;
    drop(listener);
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tunnels = Tunnels { running, machine, listener: unused, way };
    let mut socket = tunnels.open(&tunnels.running.operator(), &tunnels.ask()).await.ok().unwrap();
    let (code, reason) = farewell(&mut socket).await;
    assert!(code == 1011 && reason.starts_with("Unable to connect to target: Connection refused"), "{code} {reason}");
}

#[tokio::test]
async fn the_handshake_is_refused_with_a_code_and_a_message() {
    let tunnels = tunnels().await;
    let operator = tunnels.running.operator();
    let good = tunnels.ask().query;
    let with = |from: &str, to: &str| Ask { query: good.replace(from, to), ..tunnels.ask() };
    let address = tunnels.address();
    for (ask, part) in [
        (with("remotePort=22", "remotePort=5432"), "Specify either 22 or 3389 as the RemotePort"),
        (with("remotePort=22", "remotePort=0"), "RemotePort is not valid"),
        (with("&remotePort=22", ""), "must contain the parameter remotePort"),
        (with(&address, "169.254.169.254"), "No running instance has"),
        (with(&address, "127.0.0.1"), "No running instance has"),
        (with(&address, "localhost"), "PrivateIpAddress is not valid"),
        (with(&address, "::1"), "PrivateIpAddress is not valid"),
        (with("eice-0", "eice-1"), "InstanceConnectEndpointId does not exist"),
        (with("remotePort=22", "remotePort=22&maxTunnelDuration=3601"), "maxTunnelDuration is not valid"),
        (with("remotePort=22", "remotePort=22&maxTunnelDuration=0"), "maxTunnelDuration is not valid"),
        (with("remotePort=22", "remotePort=22&surprise=1"), "surprise is not recognized"),
        (Ask { expires: 61, ..tunnels.ask() }, "X-Amz-Expires is not valid"),
    ] {
        let (status, body) = tunnels.refused(&operator, &ask).await;
        assert_eq!((status, &body["ErrorCode"]), (400, &"InvalidParameter".into()), "{body}");
        assert!(body["Message"].as_str().unwrap().contains(part), "{body}");
    }
    let (status, body) = tunnels.refused(&operator, &Ask { handshake: false, ..tunnels.ask() }).await;
    assert_eq!((status, &body["ErrorCode"]), (426, &"UpgradeRequired".into()));
    assert!(tunnels.way.meant.lock().unwrap().is_empty(), "somebody was connected to");
}

#[tokio::test]
async fn strangers_machines_and_late_comers_are_not_let_in() {
    let tunnels = tunnels().await;
    let operator = tunnels.running.operator();
    let (status, body) = tunnels.refused(&tunnels.running.machine(tunnels.machine), &tunnels.ask()).await;
    assert_eq!((status, &body["ErrorCode"]), (403, &"UnrecognizedClientException".into()));
    let stranger = Signer { secret: "x".repeat(40), ..operator.clone() };
    let (status, body) = tunnels.refused(&stranger, &tunnels.ask()).await;
    assert_eq!((status, &body["ErrorCode"]), (403, &"InvalidSignatureException".into()));
    let elsewhere = Ask { host: "sts.eu-central-1.amazonaws.com".to_owned(), ..tunnels.ask() };
    assert!(tunnels.open(&operator, &elsewhere).await.is_err());
    // What was signed a minute ago is no longer good.
    for (later, is_good) in [(59, true), (60, true), (61, false)] {
        tunnels.running.clock.set(NOW.plus(later));
        assert_eq!(tunnels.open(&operator, &tunnels.ask()).await.is_ok(), is_good, "{later}");
    }
    tunnels.running.clock.set(NOW);
    // Not by another way than a handshake, nor with another path.
    let post = Call { target: format!("/openTunnel?{}", tunnels.ask().query), ..call("ec2-instance-connect", "") };
    assert_eq!(tunnels.running.send(&operator, &post).await.status, 404);
    let target = json("ec2-instance-connect", "AWSEC2InstanceConnectService.OpenTunnel", "{}");
    assert_ne!(tunnels.running.send(&operator, &target).await.status, 200);
}

#[tokio::test]
async fn a_machine_that_does_not_run_and_two_of_one_address_have_no_tunnel() {
    let tunnels = tunnels().await;
    let operator = tunnels.running.operator();
    let launch = format!(
        "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&PrivateIpAddress={}",
        tunnels.address()
    );
    let reply = tunnels.running.send(&operator, &ec2(&launch)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let (_, body) = tunnels.refused(&operator, &tunnels.ask()).await;
    assert!(body["Message"].as_str().unwrap().starts_with("More than one"), "{body}");
    let twin = between(&reply.body, "<instanceId>", "</instanceId>");
    for id in [twin, &tunnels.machine.to_string()] {
        tunnels.running.send(&operator, &ec2(&format!("Action=StopInstances&InstanceId.1={id}"))).await;
    }
    let (_, body) = tunnels.refused(&operator, &tunnels.ask()).await;
    assert!(body["Message"].as_str().unwrap().starts_with("No running"), "{body}");
}

#[tokio::test]
async fn endpoints_are_described_and_chosen_by_filters() {
    let tunnels = tunnels().await;
    let operator = tunnels.running.operator();
    let endpoint = tunnels.endpoint();
    let describe = async |rest: &str| {
        tunnels.running.send(&operator, &ec2(&format!("Action=DescribeInstanceConnectEndpoints{rest}"))).await
    };
    let all = describe("").await;
    assert_eq!(all.status, 200, "{}", all.body);
    for (start, end, expected) in [
        ("<instanceConnectEndpointId>", "</instanceConnectEndpointId>", endpoint.id.as_str()),
        ("<dnsName>", "</dnsName>", &endpoint.dns_name),
        ("<fipsDnsName>", "</fipsDnsName>", &endpoint.fips_dns_name),
        ("<state>", "</state>", "create-complete"),
    ] {
        assert_eq!(between(&all.body, start, end), expected);
    }
    let vpc = between(&all.body, "<vpcId>", "</vpcId>");
    let filters =
        format!("&Filter.1.Name=state&Filter.1.Value.1=create-complete&Filter.2.Name=vpc-id&Filter.2.Value.1={vpc}");
    assert!(describe(&filters).await.body.contains(&endpoint.id));
    assert!(!describe("&Filter.1.Name=vpc-id&Filter.1.Value.1=vpc-0").await.body.contains(&endpoint.id));
    assert!(describe(&format!("&InstanceConnectEndpointId.1={}", endpoint.id)).await.body.contains(&endpoint.id));
    let unknown = describe("&InstanceConnectEndpointId.1=eice-0").await;
    assert_eq!(between(&unknown.body, "<Code>", "</Code>"), "InvalidInstanceConnectEndpointId.NotFound");
    // Another subnet has another endpoint, and pages follow one another.
    let launch = "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&PrivateIpAddress=192.168.7.7";
    assert_eq!(tunnels.running.send(&operator, &ec2(launch)).await.status, 200);
    let first = describe("&MaxResults=1").await.body;
    let token = between(&first, "<nextToken>", "</nextToken>");
    let second = describe(&format!("&MaxResults=1&NextToken={token}")).await.body;
    let id = |body: &str| between(body, "<instanceConnectEndpointId>", "</instanceConnectEndpointId>").to_owned();
    assert!(id(&first) < id(&second) && !second.contains("nextToken"));
}
