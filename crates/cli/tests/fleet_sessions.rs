//! Sessions over three `inborn region` processes and one PostgreSQL: they work whichever server a call comes to, outlive the one that
//! carries them, and do not stay open when nobody comes back.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

#[path = "../../store-postgres/tests/common/mod.rs"]
mod postgres;

mod balancer;
mod calls;
mod hosts;
mod patience;
mod servers;

use std::net::Ipv4Addr;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RsaKeyPair};
use balancer::Balancer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt, StreamExt};
use inborn_identity::{InstanceId, MANAGEMENT_ROLE_NAME};
use patience::until;
use serde_json::{Value, json};
use servers::{Mint, REGION, Server, Signer, audit, copy_key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

const PATIENCE: Duration = Duration::from_secs(60);
const SETTING: &str = "/ssm/managed-instance/default-ec2-instance-management-role";
const GATEWAY: (&str, &str) = ("ssmmessages", REGION);

type Socket = WebSocketStream<TcpStream>;

fn host(service: &str) -> String {
    format!("{service}.{REGION}.amazonaws.com")
}

/// A call of Systems Manager, once the server can tell: one that did not hear in time what is new says 503.
fn ssm(at: &Server, signer: &Signer, operation: &str, input: &Value) -> (u16, Value) {
    let target = format!("AmazonSSM.{operation}");
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
    let text = calls::signed(&host("ssm"), signer, ("ssm", REGION), ("POST", "/"), &headers, &input.to_string());
    let asked = || calls::exchange(at.address(), &text).unwrap();
    let (status, body) = until("it can tell", || Some(asked()).filter(|(status, _)| *status != 503));
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

fn done(at: &Server, operation: &str, input: &Value) -> Value {
    let (status, body) = ssm(at, &at.operator, operation, input);
    assert_eq!(status, 200, "{operation}: {body}");
    body
}

/// The token of a channel that an agent asks for.
fn granted(at: &Server, agent: &Signer, path: &str) -> Option<String> {
    let body = r#"{"MessageSchemaVersion":"1.0","RequestId":"1b6eb6d4-9b0c-4d61-b1f0-1fc5f2f1c3a5"}"#;
    let headers = [("content-type", "application/json")];
    let text = calls::signed(&host("ssmmessages"), agent, GATEWAY, ("POST", path), &headers, body);
    let (status, body) = calls::exchange(at.address(), &text).unwrap();
    (status == 201).then(|| body.split_once("<TokenValue>").unwrap().1.split_once('<').unwrap().0.to_owned())
}

/// Makes a WebSocket of a request, and says its token.
async fn opened(at: &Server, text: &str, token: &str) -> Socket {
    let more = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let text = text.replacen("connection: close\r\n", more, 1);
    let mut stream = TcpStream::connect(at.address()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    let first = json!({"MessageSchemaVersion": "1.0", "RequestId": "r", "TokenValue": token, "ClientId": "c"});
    socket.send(Message::text(first.to_string())).await.unwrap();
    socket
}

async fn agent_side(at: &Server, agent: &Signer, path: &str, query: &str) -> Socket {
    let token = until("an agent is granted a channel", || granted(at, agent, path));
    let target = format!("{path}?{query}");
    let text = calls::signed(&host("ssmmessages"), agent, GATEWAY, ("GET", &target), &[], "");
    opened(at, &text.replace("content-length: 0\r\n", ""), &token).await
}

async fn client_side(at: &Server, session: &str, token: &str) -> Socket {
    let host = host("ssmmessages");
    let path = format!("/v1/data-channel/{session}?role=publish_subscribe");
    opened(at, &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"), token).await
}

async fn talk(one: &mut Socket, other: &mut Socket) {
    for (text, is_back) in [("one", false), ("two", true)] {
        let (from, to) = if is_back { (&mut *other, &mut *one) } else { (&mut *one, &mut *other) };
        from.send(Message::binary(text.as_bytes().to_vec())).await.unwrap();
        let heard = tokio::time::timeout(PATIENCE, to.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(heard, Message::binary(text.as_bytes().to_vec()));
    }
}

/// The machine's agent registers, and may be given the management role.
async fn registered(at: &Server, mint: &Mint, id: InstanceId) -> Signer {
    done(at, "UpdateServiceSetting", &json!({"SettingId": SETTING, "SettingValue": MANAGEMENT_ROLE_NAME}));
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let key = BASE64.encode(pair.public_key().as_der().unwrap().as_ref());
    let input = json!({"Fingerprint": id.to_string(), "PublicKey": key, "PublicKeyType": "Rsa"});
    let (status, body) = ssm(at, &mint.machine(id).await, "RegisterManagedInstance", &input);
    assert_eq!(status, 200, "{body}");
    mint.agent(id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_needs_no_one_server() {
    let Some(cluster) = postgres::cluster() else { return };
    let url = cluster.database();
    let directories = ["a", "b", "c"].map(|name| (name, tempfile::tempdir().unwrap()));
    let mut servers = Vec::new();
    for (name, directory) in &directories {
        if *name != "a" {
            copy_key(directories[0].1.path(), directory.path());
        }
        let settings = [("INBORN_STORE", url.as_str()), ("INBORN_ADVERTISE", "127.0.0.1")];
        servers.push(Server::start_with(name, directory.path(), &settings));
    }
    let [a, b, c] = servers.try_into().ok().unwrap();
    let mint = Mint::open(REGION, &url, &directories[0].1.path().join("epoch.key")).await;
    let id = a.launch();
    let agent = registered(&a, &mint, id).await;
    let path = format!("/v1/control-channel/{id}");
    let mut control = agent_side(&a, &agent, &path, "role=subscribe&stream=input").await;
    let target = json!({"Target": id.to_string()});
    for server in [&a, &b, &c] {
        until("an agent is found", || {
            (done(server, "GetConnectionStatus", &target)["Status"] == "connected").then_some(())
        });
    }

    let begun = done(&b, "StartSession", &target);
    let (session, token) = (begun["SessionId"].as_str().unwrap(), begun["TokenValue"].as_str().unwrap());
    let told = tokio::time::timeout(PATIENCE, control.next()).await.unwrap().unwrap().unwrap();
    assert!(String::from_utf8_lossy(&told.into_data()).contains(session));
    let path = format!("/v1/data-channel/{session}");
    let query = "role=publish_subscribe";
    let mut at_agent = agent_side(&b, &agent, &path, query).await;
    let mut at_client = client_side(&c, session, token).await;
    talk(&mut at_agent, &mut at_client).await;

    // The server that carries it is stopped: another one does.
    a.stop();
    let mut at_agent = agent_side(&b, &agent, &path, query).await;
    let resumed = until("a client comes back", || {
        let (status, body) = ssm(&c, &c.operator, "ResumeSession", &json!({"SessionId": session}));
        (status == 200).then_some(body)
    });
    let mut at_client = client_side(&c, session, resumed["TokenValue"].as_str().unwrap()).await;
    talk(&mut at_agent, &mut at_client).await;

    // That one is killed, and nobody comes back.
    drop(b);
    let ended = until("the session is over", || {
        let list = done(&c, "DescribeSessions", &json!({"State": "History"}));
        list["Sessions"].as_array().unwrap().iter().find(|found| found["SessionId"] == session).cloned()
    });
    assert_eq!(ended["Details"], "The server that carried it has gone, and neither side came back.");
    assert_eq!(done(&c, "DescribeSessions", &json!({"State": "Active"}))["Sessions"], json!([]));
}

/// Calls, WebSockets of both kinds and hosts, each connection at the next server. The balancer says where they come from, and no
/// server takes its address for a source, whoever carries what.
#[tokio::test(flavor = "multi_thread")]
async fn all_goes_through_what_balances_tcp() {
    let Some(cluster) = postgres::cluster() else { return };
    let url = cluster.database();
    let directories = ["a", "b"].map(|name| (name, tempfile::tempdir().unwrap()));
    let ports = [hosts::free_port().to_string(), hosts::free_port().to_string()];
    let mut servers = Vec::new();
    for ((name, directory), port) in directories.iter().zip(&ports) {
        if *name != "a" {
            copy_key(directories[0].1.path(), directory.path());
        }
        let settings = [
            ("INBORN_STORE", url.as_str()),
            ("INBORN_ADVERTISE", "127.0.0.1"),
            ("INBORN_HOSTS_PORT", port.as_str()),
            ("INBORN_PROXY_PROTOCOL_FROM", balancer::SOURCE),
        ];
        servers.push(Server::start_with(name, directory.path(), &settings));
    }
    let client = Ipv4Addr::new(203, 0, 113, 7);
    let calls = Balancer::telling(client, servers.iter().map(|server| server.address().to_owned()).collect()).await;
    let for_hosts = Balancer::telling(client, ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()).await;
    let [mut front, other] = servers.try_into().ok().unwrap();
    // Who asks it asks the balancer from here on.
    front.ready["endpoint"] = format!("http://{}", calls.address).into();

    let mint = Mint::open(REGION, &url, &directories[0].1.path().join("epoch.key")).await;
    for _ in 0..2 {
        let id = front.launch();
        let signer = mint.machine(id).await;
        for _ in 0..2 {
            let (status, body) = front.verdict(&signer);
            assert!(status == 200 && body.contains(&id.to_string()), "{body}");
        }
    }

    let id = front.launch();
    let agent = registered(&front, &mint, id).await;
    // As agents do, it tries until each server has heard of it: the next connection is the other one's.
    let path = format!("/v1/control-channel/{id}");
    until("an agent is known at each server", || {
        (0..2).all(|_| granted(&front, &agent, &path).is_some()).then_some(())
    });
    let mut control = agent_side(&front, &agent, &path, "role=subscribe&stream=input").await;
    let target = json!({"Target": id.to_string()});
    for _ in 0..2 {
        until("an agent is found", || {
            (done(&front, "GetConnectionStatus", &target)["Status"] == "connected").then_some(())
        });
    }
    let begun = done(&front, "StartSession", &target);
    let (session, token) = (begun["SessionId"].as_str().unwrap(), begun["TokenValue"].as_str().unwrap());
    let told = tokio::time::timeout(PATIENCE, control.next()).await.unwrap().unwrap().unwrap();
    assert!(String::from_utf8_lossy(&told.into_data()).contains(session));
    let path = format!("/v1/data-channel/{session}");
    let mut at_agent = agent_side(&front, &agent, &path, "role=publish_subscribe").await;
    let mut at_client = client_side(&front, session, token).await;
    talk(&mut at_agent, &mut at_client).await;
    done(&front, "TerminateSession", &json!({"SessionId": session}));

    // A host joins, is given its machine, and the machine is known.
    let (status, body) = front.operate(REGION, "Action=Inborn.CreateJoinToken");
    assert_eq!(status, 200, "{body}");
    let joined_with = hosts::between(&body, "<joinToken>", "</joinToken>");
    let mut host = hosts::Host::joined_at(&for_hosts.address, joined_with);
    host.come_back();
    let body = until("a host that joined is known", || {
        let (status, body) = front.operate(REGION, &hosts::launch(&host.id));
        (status == 200).then_some(body)
    });
    let placed = servers::launched(&body);
    let port = host.attach(&placed.to_string());
    let signer = until("a host has credentials", || hosts::credential(port));
    for _ in 0..2 {
        let (status, body) = front.verdict(&signer);
        assert!(status == 200 && body.contains(&placed.to_string()), "{body}");
    }

    for taken in [calls.taken(), for_hosts.taken()] {
        assert!(taken.iter().all(|taken| *taken > 0), "{taken:?}");
    }
    for (_, directory) in &directories {
        let is_told = || audit(directory.path()).contains(&format!("\"sourceIPAddress\":\"{client}\"")).then_some(());
        until("the client is in the audit", is_told);
        assert!(!audit(directory.path()).contains(balancer::SOURCE));
    }
    drop((host, other));
}
