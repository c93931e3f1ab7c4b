//! Sessions over several region servers: whatever server a call comes to, it reaches the one that has the agent or carries the session,
//! and nobody is let in by that who would not be let in there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use common::channel::{BODY, Socket, create};
use common::commands::{body, code};
use common::fleet::{Fleet, Server, node, set_time, two, until};
use common::hosts::today;
use common::session::bytes;
use common::verdict::{unknown, whoami};
use common::*;
use inborn_credential::Delivery;
use inborn_identity::InstanceId;
use inborn_listener::Limits;
use inborn_pki::{Authority, ServerNames, tls};
use inborn_region::RequestOrigin;
use inborn_store::{NodeId, SessionQuery, Store};
use serde_json::{Value, json as value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;

/// Three servers that reach each other, and a machine whose agent has its channel at the first.
struct Scene {
    fleet: Fleet,
    a: Server,
    b: Server,
    c: Server,
    id: InstanceId,
    role: Signer,
    control: Socket,
}

fn at(server: &Server) -> String {
    format!("http://{}", server.address)
}

async fn scene() -> Scene {
    let (fleet, a, b) = two().await;
    let c = fleet.server("c").await;
    for server in [&a, &b, &c] {
        server.region.advertise(&at(server));
    }
    scene_of(fleet, a, b, c).await
}

async fn scene_of(fleet: Fleet, a: Server, b: Server, c: Server) -> Scene {
    let (id, role) = node(&a, &b).await;
    let control = a.control_channel(&role, id).await;
    for server in [&b, &c] {
        until("the agent is found", async || connected(server, id).await).await;
    }
    Scene { fleet, a, b, c, id, role, control }
}

async fn connected(at: &Running, id: InstanceId) -> bool {
    let reply = at.ssm("GetConnectionStatus", value!({"Target": id.to_string()})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    body(&reply)["Status"] == "connected"
}

/// Starts a session at a server: its name, and the client's token.
async fn started(at: &Running, id: InstanceId) -> (String, String) {
    let reply = at.ssm("StartSession", value!({"Target": id.to_string()})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let text = |name: &str| body(&reply)[name].as_str().unwrap().to_owned();
    (text("SessionId"), text("TokenValue"))
}

async fn count(fleet: &Fleet, has_ended: bool) -> usize {
    let query = SessionQuery { account: None, has_ended, after: None, limit: SessionQuery::LIMIT_MAX };
    fleet.store.sessions(query).await.unwrap().len()
}

/// Both sides say something, and the other one has it.
async fn talk(agent: &mut Socket, client: &mut Socket) {
    for sent in [bytes("output_stream_data", 0, b"$ "), vec![], vec![0xff; 3], vec![1; 100_000]] {
        agent.say(Message::binary(sent.clone())).await;
        assert_eq!(client.next().await, Ok(Message::binary(sent.clone())));
        client.say(Message::binary(sent.clone())).await;
        assert_eq!(agent.next().await, Ok(Message::binary(sent)));
    }
}

async fn status(at: &Running, session: &str) -> Option<String> {
    let reply = at.ssm("DescribeSessions", value!({"State": "Active"})).await;
    let list = body(&reply)["Sessions"].as_array().unwrap().clone();
    let found = list.iter().find(|found| found["SessionId"] == session)?;
    Some(found["Status"].as_str().unwrap().to_owned())
}

/// Sends a request that is signed already, from an address of its own.
async fn send_from(source: &str, to: SocketAddr, text: &str) -> (u16, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(source.parse().unwrap()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

fn start_session(id: InstanceId) -> Call {
    json("ssm", "AmazonSSM.StartSession", &value!({"Target": id.to_string()}).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_works_whichever_servers_its_calls_come_to() {
    let Scene { fleet, a, b, c, id, role, mut control } = scene().await;
    let (session, token) = started(&b, id).await;
    let told = control.receive().await;
    assert_eq!(told.message_type, "interactive_shell");
    assert_eq!(serde_json::from_str::<Value>(&told.payload).unwrap()["TaskId"], session);
    let mut agent = b.agent_side(&role, &session).await;
    let mut client = c.client_side(&session, &token).await;
    talk(&mut agent, &mut client).await;
    for server in [&a, &b, &c] {
        assert_eq!(status(server, &session).await.as_deref(), Some("Connected"));
    }
    // The client comes back, by another server.
    let resumed = body(&c.ssm("ResumeSession", value!({"SessionId": session})).await);
    let mut again = b.client_side(&session, resumed["TokenValue"].as_str().unwrap()).await;
    assert_eq!(client.closed().await, 1000, "the channel before it is replaced");
    talk(&mut agent, &mut again).await;
    let ended = c.ssm("TerminateSession", value!({"SessionId": session})).await;
    assert_eq!(ended.status, 200, "{}", ended.body);
    for side in [&mut agent, &mut again] {
        assert_eq!(side.receive().await.message_type, "channel_closed");
        assert_eq!(side.closed().await, 1000);
    }
    assert_eq!((count(&fleet, false).await, count(&fleet, true).await), (0, 1));
    // Nobody comes in any more, at any server.
    for server in [&a, &b, &c] {
        assert_eq!(server.ssm("ResumeSession", value!({"SessionId": session})).await.status, 400);
        assert_eq!(server.client_socket(&session).await.err().unwrap().status, 403);
        assert_eq!(server.send(&role, &create("data", &session, BODY)).await.status, 400);
    }
}

/// The server that does it judges and records it, as if it had come by itself.
#[tokio::test(flavor = "multi_thread")]
async fn who_sent_a_call_is_known_where_it_is_done() {
    let Scene { a, b, id, role, mut control, .. } = scene().await;
    let text = b.signed(&b.operator(), &start_session(id));
    let (status, answer) = send_from("127.0.0.9:0", b.address, &text).await;
    assert_eq!(status, 200, "{answer}");
    control.receive().await;
    let lines = |server: &Server| -> Vec<Value> {
        server.audit().into_iter().filter(|line| line["eventName"] == "StartSession").collect()
    };
    let (there, here) = (lines(&a), lines(&b));
    assert_eq!((there.len(), here.len()), (1, 0), "one call, one line");
    assert_eq!(there[0]["sourceIPAddress"], "127.0.0.9");
    // Who is nobody, or may not, is refused at once.
    let wrong = Signer { secret: "wrong".to_owned(), ..b.operator() };
    let refused = b.send(&wrong, &start_session(id)).await;
    assert_eq!((refused.status, code(&refused).as_str()), (400, "InvalidSignatureException"));
    assert_ne!(b.send(&role, &start_session(id)).await.status, 200);
    assert_eq!(lines(&a).len(), 1);
    // Another machine's agent has no part in a session.
    let (session, _) = started(&b, id).await;
    let (_, stranger) = node(&a, &b).await;
    assert_eq!(b.send(&stranger, &create("data", &session, BODY)).await.status, 400);
}

/// What a server is sent, as a wire sees it.
struct Tap {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Whether sessions that are started get lost.
    loses: Arc<AtomicBool>,
}

impl Tap {
    async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, loses) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (all, is_lost) = (Arc::clone(&seen), Arc::clone(&loses));
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (all, is_lost) = (Arc::clone(&all), Arc::clone(&is_lost));
                tokio::spawn(async move {
                    let mut text = vec![0; 16 * 1024];
                    let mut read = 0;
                    while !is_whole(&text[..read]) {
                        match near.read(&mut text[read..]).await {
                            Ok(more) if more > 0 => read += more,
                            _ => return,
                        }
                    }
                    text.truncate(read);
                    let is_start = String::from_utf8_lossy(&text).contains("StartSession");
                    all.lock().unwrap().push(text.clone());
                    if is_start && is_lost.load(Ordering::SeqCst) {
                        return;
                    }
                    let mut far = TcpStream::connect(server).await.unwrap();
                    far.write_all(&text).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { address, seen, loses }
    }

    /// The last call that would start a session.
    fn start(&self) -> String {
        let seen = self.seen.lock().unwrap();
        let text = seen.iter().rev().map(|text| String::from_utf8_lossy(text).into_owned());
        text.into_iter().find(|text| text.contains("StartSession")).unwrap()
    }
}

/// Whether a request has come to its end.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

/// Sends what came over the wire.
async fn replay(to: &Server, text: &str) -> u16 {
    send_from("127.0.0.1:0", to.address, text).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_that_a_server_has_sent_it_is_not_believed() {
    let (fleet, a, b) = two().await;
    let c = fleet.server("c").await;
    let tap = Tap::before(a.address).await;
    a.region.advertise(&format!("http://{}", tap.address));
    for server in [&b, &c] {
        server.region.advertise(&at(server));
    }
    let Scene { fleet, a, b, c, id, role, control } = scene_of(fleet, a, b, c).await;
    started(&b, id).await;
    let taken = tap.start();
    let header = taken.lines().find(|line| line.starts_with("inborn-forwarded: ")).unwrap().to_owned();
    assert_eq!(replay(&a, &taken).await, 421, "a second time");

    // One that got lost is good, once, where it was for.
    tap.loses.store(true, Ordering::SeqCst);
    let lost = async || {
        let refused = b.send(&b.operator(), &start_session(id)).await;
        assert_eq!(refused.status, 503, "{}", refused.body);
        tap.start()
    };
    let fresh = lost().await;
    assert_eq!(replay(&c, &fresh).await, 421, "another server");
    let own = fresh.lines().find(|line| line.starts_with("inborn-forwarded: ")).unwrap().to_owned();
    assert_eq!(replay(&a, &fresh.replace(&own, &header)).await, 421, "that of another request");
    assert_eq!(replay(&a, &fresh.replace(&own, "inborn-forwarded: eu-central-1.AAAA")).await, 421);
    assert_eq!(replay(&a, &fresh.replace(&own, "inborn-forwarded: x")).await, 421);
    assert_eq!(replay(&a, &fresh.replace(&own, &format!("{own}\r\n{own}"))).await, 421);
    assert_eq!(replay(&a, &fresh).await, 200);
    let without = fresh.replace(&format!("{own}\r\n"), "");
    assert_eq!(replay(&a, &without).await, 200, "a call like any other");

    let late = lost().await;
    set_time(&[&a, &b, &c], NOW.plus(31)).await;
    assert_eq!(replay(&a, &late).await, 421, "half a minute later");

    // What was passed on is not passed on again, wherever the agent has gone.
    let moved = lost().await;
    drop(control);
    until("it is gone", async || !connected(&a, id).await).await;
    let _control = c.control_channel(&role, id).await;
    assert!(connected(&a, id).await, "by the other server");
    let before = count(&fleet, false).await;
    let (status, answer) = send_from("127.0.0.1:0", a.address, &moved).await;
    assert!(status == 400 && answer.contains("TargetNotConnected"), "{answer}");
    assert_eq!(count(&fleet, false).await, before);

    // What servers ask each other nobody else is told.
    let ask = format!("GET /inborn/agent/{id} HTTP/1.1\r\nhost: sibling\r\nconnection: close\r\n\r\n");
    assert_eq!(send_from("127.0.0.1:0", c.address, &ask).await.0, 302, "as whoever visits without a key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_reached_is_no_reason_to_be_let_in_or_to_be_forgotten() {
    let Scene { fleet: _fleet, a, b, c: _c, id, control: _control, .. } = scene().await;
    let (session, _) = started(&b, id).await;
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nowhere.local_addr().unwrap();
    drop(nowhere);
    a.region.advertise(&format!("http://{address}"));
    until("it is not found", async || !connected(&b, id).await).await;
    let refused = b.ssm("StartSession", value!({"Target": id.to_string()})).await;
    assert_eq!((refused.status, code(&refused).as_str()), (400, "TargetNotConnected"));
    // It beats: its sessions are its own.
    assert_eq!(b.ssm("ResumeSession", value!({"SessionId": session})).await.status, 503);
    assert_eq!(b.client_socket(&session).await.err().unwrap().status, 503);
    assert_eq!(status(&b, &session).await.as_deref(), Some("Disconnected"));
    a.region.advertise(&at(&a));
    until("it is found", async || connected(&b, id).await).await;
    assert_eq!(b.ssm("ResumeSession", value!({"SessionId": session})).await.status, 200);
}

/// Who opens data channels in silence takes the places of no other session, and of nobody who signs.
#[tokio::test(flavor = "multi_thread")]
async fn channels_that_are_passed_on_are_bounded() {
    let Scene { fleet: _fleet, a, b, c, id, role, control: _control } = scene().await;
    let (session, _) = started(&b, id).await;
    let (other, token) = started(&b, id).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(b.client_socket(&session).await.ok().unwrap());
    }
    let refused = b.client_socket(&session).await.err().unwrap();
    assert!(refused.body.contains("Throttl"), "{} {}", refused.status, refused.body);
    let mut client = b.client_side(&other, &token).await;
    let mut agent = b.agent_side(&role, &other).await;
    talk(&mut agent, &mut client).await;
    // Else no beat differs from the one before it, and who carries the session is soon taken for gone.
    for server in [&a, &b, &c] {
        server.clock.advance(1);
    }
    // They never close their ends: who carries the session closes its own, and that is the end of both.
    until("there is room again", async || b.client_socket(&session).await.is_ok()).await;
    drop(silent);
}

/// Serves a server by TLS, with a certificate for the region's names by `authority`: where, for as long as the sender lives.
async fn serve_tls(server: &Server, authority: &Authority) -> (String, watch::Sender<bool>) {
    let identity = server.region.identity();
    let names = ServerNames::of_region(&identity.region, &identity.domain, &[]);
    let certificate = tls::Certificate::new(authority, names, server.region.now()).unwrap();
    let config = tls::server_config(certificate).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let (stop, stopping) = watch::channel(false);
    let served = Arc::clone(&server.region);
    tokio::spawn(inborn_listener::serve(listener, Some(config), Limits::DEFAULT, stopping, move |request, peer| {
        Arc::clone(&served).handle(request, RequestOrigin { peer, machine: None })
    }));
    (address, stop)
}

/// A server is known by a certificate of the region, whatever its address; and nobody else is told what was asked.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_known_by_the_certificates_of_their_region() {
    let fleet = Fleet::new();
    let now = today();
    let (a, b) = (fleet.server_at("a", now).await, fleet.server_at("b", now).await);
    let (id, role) = node(&a, &b).await;
    let mut control = a.control_channel(&role, id).await;
    let (address, _stop) = serve_tls(&a, a.region.authority()).await;
    a.region.advertise(&address);
    until("the agent is found", async || connected(&b, id).await).await;
    let (session, token) = started(&b, id).await;
    control.receive().await;
    let mut client = b.client_side(&session, &token).await;
    let mut agent = b.agent_side(&role, &session).await;
    talk(&mut agent, &mut client).await;

    let identity = a.region.identity();
    let (stranger, _) = Authority::create(&identity.region, &identity.domain, now).unwrap();
    let (address, _stop) = serve_tls(&a, &stranger).await;
    a.region.advertise(&address);
    until("nobody is asked any more", async || !connected(&b, id).await).await;
    assert_eq!(b.ssm("ResumeSession", value!({"SessionId": session})).await.status, 503);
    // What is open stays so.
    talk(&mut agent, &mut client).await;
}

/// A server that ends leaves its sessions to the others: whichever one of the two sides comes to carries them on.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_its_server() {
    let Scene { fleet, a, b, c, id, role, control } = scene().await;
    let (session, token) = started(&b, id).await;
    let mut agent = a.agent_side(&role, &session).await;
    let mut client = a.client_side(&session, &token).await;
    talk(&mut agent, &mut client).await;
    a.region.leave().await;
    drop((agent, client, control));
    let carrier = async || fleet.store.session(session.clone()).await.unwrap().unwrap().carrier.unwrap();
    assert_eq!(carrier().await, NodeId::NOBODY);
    let mut agent = b.agent_side(&role, &session).await;
    assert_eq!(carrier().await, b.region.store().node());
    let resumed = body(&c.ssm("ResumeSession", value!({"SessionId": session})).await);
    let mut client = c.client_side(&session, resumed["TokenValue"].as_str().unwrap()).await;
    talk(&mut agent, &mut client).await;
    // What the server that left believes ends nothing any more.
    a.clock.advance(24 * 3600);
    a.region.tidy().await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    talk(&mut agent, &mut client).await;
    assert_eq!((count(&fleet, false).await, carrier().await), (1, b.region.store().node()));
}

/// Servers that do not say where they are reached: a session belongs to the one that has the agent, and another one says so at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_refused_where_the_agent_is_not() {
    let (_fleet, a, b) = two().await;
    let (id, session) = node(&a, &b).await;
    let _socket = a.control_channel(&session, id).await;
    assert!(connected(&a, id).await && !connected(&b, id).await);
    let refused = b.ssm("StartSession", value!({"Target": id.to_string()})).await;
    assert_eq!((refused.status, code(&refused).as_str()), (400, "TargetNotConnected"));
}

/// Nor does a server that was started meanwhile end a session that another carries, for nothing is heard of it there.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_not_idle_because_another_server_carries_it() {
    let (fleet, a, b) = two().await;
    let (id, session) = node(&a, &b).await;
    let _socket = a.control_channel(&session, id).await;
    let started = a.ssm("StartSession", value!({"Target": id.to_string()})).await;
    assert_eq!(started.status, 200, "{}", started.body);
    let c = fleet.server("c").await;
    set_time(&[&c], NOW.plus(20 * 60 + 1)).await;
    c.region.tidy().await;
    // What would end it is written down at once.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!((count(&fleet, false).await, count(&fleet, true).await), (1, 0));
    // By its age it ends where it is carried.
    set_time(&[&a], NOW.plus(24 * 3600)).await;
    a.region.tidy().await;
    until("it is over", async || count(&fleet, true).await == 1).await;
}

/// An operator ends a session at any server: the one that carries it hears of that.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_ended_at_any_server() {
    let (fleet, a, b) = two().await;
    let (id, session) = node(&a, &b).await;
    let _socket = a.control_channel(&session, id).await;
    let started = a.ssm("StartSession", value!({"Target": id.to_string()})).await;
    assert_eq!(started.status, 200, "{}", started.body);
    let name = between(&started.body, "\"SessionId\":\"", "\"").to_owned();
    let is_active = async |server: &Running| {
        let shown = server.ssm("DescribeSessions", value!({"State": "Active"})).await;
        assert_eq!(shown.status, 200, "{}", shown.body);
        shown.body.contains(&name)
    };
    let c = fleet.server("c").await;
    assert!(is_active(&a).await && is_active(&b).await && is_active(&c).await);
    let ended = c.ssm("TerminateSession", value!({"SessionId": name})).await;
    assert_eq!(ended.status, 200, "{}", ended.body);
    until("who carries it has ended it", async || !is_active(&a).await).await;
    assert!(!is_active(&c).await);
}

/// What an operator ends is over, also where another server has taken it up and the one that is asked has not noticed.
#[tokio::test(flavor = "multi_thread")]
async fn an_operators_word_ends_a_session_whoever_carries_it() {
    let Scene { fleet, a, b, c: _c, id, role: _role, control: _control } = scene().await;
    let (session, _) = started(&b, id).await;
    let (own, other) = (a.region.store().node(), b.region.store().node());
    assert_eq!(fleet.store.carry_session(session.clone(), Some(own), other).await, Ok(true));
    let ended = a.ssm("TerminateSession", value!({"SessionId": session})).await;
    assert_eq!(ended.status, 200, "{}", ended.body);
    let record = fleet.store.session(session).await.unwrap().unwrap();
    assert_eq!((record.carrier, record.end.unwrap().status.as_str()), (Some(other), "Terminated"));
    assert_eq!((count(&fleet, false).await, count(&fleet, true).await), (0, 1));
}

/// Who carried a session that another has taken up hears of it: both its sockets close, without a word of an end.
#[tokio::test(flavor = "multi_thread")]
async fn who_carries_no_more_lets_both_sides_go() {
    let Scene { fleet, a, b, c: _c, id, role, control: _control } = scene().await;
    let (session, token) = started(&b, id).await;
    let mut agent = a.agent_side(&role, &session).await;
    let mut client = b.client_side(&session, &token).await;
    talk(&mut agent, &mut client).await;
    let (own, other) = (a.region.store().node(), b.region.store().node());
    assert_eq!(b.link.carry_session(session.clone(), Some(own), other).await, Ok(true));
    assert_eq!((let_go(&mut agent).await, let_go(&mut client).await), (1001, 1001));
    assert_eq!((count(&fleet, false).await, count(&fleet, true).await), (1, 0));
    // The other one has it by the store's word alone: whoever comes back finds it there.
    let mut agent = a.agent_side(&role, &session).await;
    let resumed = body(&a.ssm("ResumeSession", value!({"SessionId": session})).await);
    let mut client = a.client_side(&session, resumed["TokenValue"].as_str().unwrap()).await;
    talk(&mut agent, &mut client).await;
    let record = fleet.store.session(session.clone()).await.unwrap().unwrap();
    assert_eq!((record.carrier, record.end), (Some(other), None));
    // So it is where what was told was forgotten before it was heard.
    b.link.deafen().await;
    assert_eq!(a.link.carry_session(session.clone(), Some(other), own).await, Ok(true));
    fleet.store.forget_news(NOW.plus(60), NOW.minus(60)).await.unwrap();
    b.link.silence(false);
    assert_eq!((let_go(&mut agent).await, let_go(&mut client).await), (1001, 1001));
}

/// How a socket closes over which nothing else came.
async fn let_go(socket: &mut Socket) -> u16 {
    match socket.next().await {
        Err(frame) => frame.map_or(1006, |frame| frame.code.into()),
        Ok(message) => panic!("{message}"),
    }
}

/// A claim of which the answer was lost is no reason to leave a session to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_was_lost_is_made_good() {
    let Scene { fleet, a, b, c, id, role, control } = scene().await;
    let (session, _) = started(&b, id).await;
    a.region.leave().await;
    drop(control);
    let node = fleet.store.session(session.clone()).await.unwrap().unwrap().carrier;
    assert_eq!(node, Some(NodeId::NOBODY));
    let own = b.region.store().node();
    assert_eq!(fleet.store.carry_session(session.clone(), node, own).await, Ok(true), "as if by b, who does not know");
    let mut agent = c.agent_side(&role, &session).await;
    let resumed = body(&b.ssm("ResumeSession", value!({"SessionId": session})).await);
    let mut client = b.client_side(&session, resumed["TokenValue"].as_str().unwrap()).await;
    talk(&mut agent, &mut client).await;
    assert_eq!(fleet.store.session(session).await.unwrap().unwrap().carrier, Some(own));
}

/// A session that came with a backup, or whose server was forgotten before any of these came, is carried by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_no_server_end_where_a_server_starts() {
    let fleet = Fleet::new();
    let a = fleet.server("a").await;
    let id = a.launch().await;
    let gone = NodeId::new(77);
    let record = inborn_store::Session {
        id: "operator-0".to_owned(),
        account: identity().account,
        instance: id,
        owner: "arn:aws:iam::123456789012:root".to_owned(),
        document_name: "SSM-SessionManagerRunShell".to_owned(),
        reason: String::new(),
        started_at: NOW,
        end: None,
        carrier: Some(gone),
    };
    fleet.store.put_session(record).await.unwrap();
    let _b = fleet.server("b").await;
    until("it has ended", async || count(&fleet, true).await == 1).await;
    let details = fleet.store.session("operator-0".to_owned()).await.unwrap().unwrap().end.unwrap().details;
    assert!(details.contains("neither side came back"), "{details}");
}

/// Who cannot beat is taken for gone after half a minute, and carries nothing by then. What it had is taken up again by whoever comes.
#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_beat_carries_no_session() {
    let Scene { fleet, a, b: _b, c: _c, id, role, control: _control } = scene().await;
    let (session, token) = started(&a, id).await;
    let mut agent = a.agent_side(&role, &session).await;
    let mut client = a.client_side(&session, &token).await;
    talk(&mut agent, &mut client).await;
    a.link.mute(true);
    until("it carries it no more", async || status(&a, &session).await.as_deref() == Some("Disconnected")).await;
    assert_eq!((let_go(&mut agent).await, let_go(&mut client).await), (1001, 1001));
    assert_eq!(a.ssm("ResumeSession", value!({"SessionId": session})).await.status, 503, "not while it cannot");
    a.link.mute(false);
    until("it beats again", async || a.ssm("ResumeSession", value!({"SessionId": session})).await.status == 200).await;
    let mut agent = a.agent_side(&role, &session).await;
    let resumed = body(&a.ssm("ResumeSession", value!({"SessionId": session})).await);
    let mut client = a.client_side(&session, resumed["TokenValue"].as_str().unwrap()).await;
    talk(&mut agent, &mut client).await;
    assert_eq!(count(&fleet, true).await, 0);
}

/// One record that cannot be read keeps no server from hearing of all else, but where it could be the end of somebody's access.
#[tokio::test(flavor = "multi_thread")]
async fn one_record_that_cannot_be_read_makes_nobody_deaf() {
    let Scene { fleet, a, b, c: _c, id, role, control: _control } = scene().await;
    let (session, token) = started(&b, id).await;
    let mut agent = a.agent_side(&role, &session).await;
    let mut client = b.client_side(&session, &token).await;
    talk(&mut agent, &mut client).await;
    for what in [session.as_str(), &id.to_string(), "nodes", "documents", "sessions", "detectors"] {
        a.link.damage(what);
    }
    // What this one carries no more, as far as it knows, it lets go.
    let (own, other) = (a.region.store().node(), b.region.store().node());
    assert_eq!(b.link.carry_session(session.clone(), Some(own), other).await, Ok(true));
    assert_eq!((let_go(&mut agent).await, let_go(&mut client).await), (1001, 1001));
    let facts = value!({"InstanceId": id.to_string(), "AgentVersion": "3.4.0.0", "ComputerName": "web-2"});
    let call = json("ssm", "AmazonSSM.UpdateInstanceInformation", &facts.to_string());
    assert_eq!(b.send(&role, &call).await.status, 200);
    let content = value!({"schemaVersion": "2.2", "mainSteps": [
        {"action": "aws:runShellScript", "name": "x", "inputs": {"runCommand": ["true"]}}]});
    let document = value!({"Name": "true-only", "DocumentType": "Command", "Content": content.to_string()});
    let reply = b.ssm("CreateDocument", document).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    // Other agents are heard, and ends.
    node(&b, &a).await;
    let terminate = ec2(&format!("Action=TerminateInstances&InstanceId.1={id}"));
    assert_eq!(b.send(&b.operator(), &terminate).await.status, 200);
    until("an end is known", async || whoami(&a, &role).await == unknown()).await;
    // So it is where everything is read again.
    a.link.deafen().await;
    let machine = b.launch().await;
    fleet.store.forget_news(NOW.plus(60), NOW.minus(60)).await.unwrap();
    a.link.silence(false);
    until("a launch is known", async || a.region.machines().get(machine).is_some()).await;
    until("it has heard all", async || a.region.faults().await.is_empty()).await;

    a.link.damage("quarantines");
    let quarantine = ec2(&format!("Action=Inborn.PutQuarantine&Subject.1={machine}"));
    assert_eq!(b.send(&b.operator(), &quarantine).await.status, 200);
    until("it knows that it is deaf", async || !a.region.faults().await.is_empty()).await;
    assert_eq!(a.ssm("StartSession", value!({"Target": id.to_string()})).await.status, 503);
    a.link.mend();
    until("it hears again", async || a.region.faults().await.is_empty()).await;
    assert!(a.region.issue(machine, Delivery::V2, NOW).is_none());
}
