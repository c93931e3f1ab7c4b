//! Large bodies share a bounded memory, whoever sends them; small ones do not wait for it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use core::time::Duration;

use common::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes of a body for EC2, and how many of them fit into 64 MiB.
const LARGE: usize = 256 * 1024;
const AT_A_TIME: usize = 256;
/// Longer than any machine needs, however loaded.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn large_bodies_wait_for_room_and_small_ones_do_not() {
    let running = start().await;
    let filler = "f".repeat(LARGE - 100);
    let large = running.signed(&running.operator(), &ec2(&format!("Action=DescribeInstances&Filler={filler}")));
    let head = large.split_once("\r\n\r\n").unwrap().0.to_owned();
    let mut stalled = Vec::new();
    for count in [AT_A_TIME - 1, AT_A_TIME] {
        while stalled.len() < count {
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            // Well-formed as far as the head tells: the signature itself is looked at after the body.
            stream.write_all(format!("{head}\r\n\r\nA").as_bytes()).await.unwrap();
            stalled.push(stream);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let has_room = count < AT_A_TIME;
        let patience = if has_room { PATIENCE } else { Duration::from_secs(3) };
        let answered = timeout(patience, exchange(running.address, &large)).await.is_ok();
        assert_eq!(answered, has_room, "{count}");
    }
    assert_eq!(running.send(&running.operator(), &call("sts", WHOAMI)).await.status, 200);
    stalled.pop();
    let reply = timeout(PATIENCE, exchange(running.address, &large)).await.unwrap();
    assert_eq!(reply.status, 400, "the filler is not a parameter of EC2");
}

#[tokio::test]
async fn a_body_whose_head_is_refused_is_never_asked_for() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: ec2.eu-central-1.amazonaws.com\r\nexpect: 100-continue";
    stream.write_all(format!("{head}\r\ncontent-length: {LARGE}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("connection: close") && answer.contains("MissingParameter"), "{answer}");
    assert!(!answer.contains("100 Continue"));
}

/// Who waits for `100 Continue` gets it when steps 1 to 13 are passed, and else the refusal.
#[tokio::test]
async fn a_body_is_asked_for_when_its_head_is_in_order() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    let text = running.signed(&machine, &call("sts", WHOAMI)).replace("connection: close", "expect: 100-continue");
    let (head, body) = text.split_at(text.find("\r\n\r\n").unwrap() + 4);
    let mut buffer = [0; 4096];
    let mut read = async |stream: &mut TcpStream| {
        let length = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };

    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    assert!(read(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));

    running.clock.advance(901);
    for (change, to, code) in [
        ("host: ", "host: ", "SignatureDoesNotMatch"),
        ("/eu-central-1/", "/eu-west-1/", "SignatureDoesNotMatch"),
        ("Signature=", "Sig=", "IncompleteSignature"),
        ("authorization: ", "x-authorization: ", "MissingAuthenticationToken"),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(head.replace(change, to).as_bytes()).await.unwrap();
        let answer = read(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 4") && answer.contains(code), "{to}: {answer}");
        assert!(answer.contains("connection: close"), "the body will not be read: {answer}");
    }
}
