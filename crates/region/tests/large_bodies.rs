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
        let answered = timeout(Duration::from_secs(3), exchange(running.address, &large)).await.is_ok();
        assert_eq!(answered, count < AT_A_TIME, "{count}");
    }
    assert_eq!(running.send(&running.operator(), &call("sts", WHOAMI)).await.status, 200);
    stalled.pop();
    let reply = timeout(Duration::from_secs(5), exchange(running.address, &large)).await.unwrap();
    assert_eq!(reply.status, 400, "the filler is not a parameter of EC2");
}

#[tokio::test]
async fn a_body_whose_head_is_refused_is_never_asked_for() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: ec2.eu-central-1.amazonaws.com\r\nexpect: 100-continue";
    stream.write_all(format!("{head}\r\ncontent-length: {LARGE}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(Duration::from_secs(3), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("connection: close") && answer.contains("MissingParameter"), "{answer}");
    assert!(!answer.contains("100 Continue"));
}
