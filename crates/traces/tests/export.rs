//! Spans over a real socket, to a collector that says what it is told to say.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use inborn_traces::{Exporter, Settings, Spans, TARGET};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tracing_subscriber::prelude::*;

/// Longer than any machine needs, however loaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a collector was sent: the head of each request, and what it holds.
type Received = Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>;

/// A collector that gives these answers one after the other, and then 200.
async fn collector(answers: &'static [&'static str]) -> (String, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let received = Received::default();
    let (keeping, mut answers) = (Arc::clone(&received), answers.iter());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let (head, body) = loop {
                assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "the request broke off");
                let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if bytes.len() == end + 4 + length.parse::<usize>().unwrap() {
                    break (head, bytes[end + 4..].to_vec());
                }
            };
            keeping.lock().unwrap().push((head, ExportTraceServiceRequest::decode(body.as_slice()).unwrap()));
            let answer = answers.next().copied().unwrap_or("200 OK\r\n");
            let answer = format!("HTTP/1.1 {answer}content-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, received)
}

fn start(url: &str) -> (Exporter, impl tracing::Subscriber + use<>) {
    let headers = |name: &str| (name == "OTEL_EXPORTER_OTLP_HEADERS").then(|| "api-key=SECRET".to_owned());
    let settings = Settings::gather(Some(url), headers).unwrap().unwrap();
    let (exporter, spans) = Exporter::start(settings, || 1_800_000_000_000_000_000).unwrap();
    (exporter, tracing_subscriber::registry().with(spans.with_filter(Spans::filter())))
}

fn requests(subscriber: impl tracing::Subscriber + Send + Sync + 'static, count: usize) {
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..count {
            drop(tracing::trace_span!(target: TARGET, "request", "rpc.method" = "X").entered());
        }
    });
}

fn spans(request: &ExportTraceServiceRequest) -> usize {
    request.resource_spans[0].scope_spans[0].spans.len()
}

#[tokio::test]
async fn what_has_ended_is_sent_and_a_stop_sends_what_waits() {
    let (url, received) = collector(&[]).await;
    let (exporter, subscriber) = start(&url);
    requests(subscriber, 3);
    exporter.stop(PATIENCE).await;
    // More than one where the machine is slow: what has ended goes out each few seconds.
    let received = received.lock().unwrap();
    for (head, request) in received.iter() {
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        for line in ["content-type: application/x-protobuf", "api-key: secret", "user-agent: inborn/"] {
            assert!(head.contains(line), "{head}");
        }
        assert_eq!(request.resource_spans[0].scope_spans[0].spans[0].start_time_unix_nano, 1_800_000_000_000_000_000);
    }
    assert_eq!(received.iter().map(|(_, request)| spans(request)).sum::<usize>(), 3);
}

#[tokio::test]
async fn without_a_stop_it_is_sent_within_seconds() {
    let (url, received) = collector(&[]).await;
    let (exporter, subscriber) = start(&url);
    requests(subscriber, 1);
    tokio::time::timeout(PATIENCE, async {
        while received.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    exporter.stop(PATIENCE).await;
    assert_eq!(received.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn exports_are_of_bounded_length() {
    let (url, received) = collector(&[]).await;
    let (exporter, subscriber) = start(&url);
    requests(subscriber, 1000);
    exporter.stop(PATIENCE).await;
    let all: Vec<_> = received.lock().unwrap().iter().map(|(_, request)| spans(request)).collect();
    assert_eq!(all.iter().sum::<usize>(), 1000);
    assert!(all.iter().all(|spans| *spans <= 512), "{all:?}");
}

#[tokio::test]
async fn a_collector_that_asks_to_come_again_is_asked_again_and_one_that_refuses_is_not() {
    for (answers, tries) in [
        (&["503 Service Unavailable\r\nretry-after: 0\r\n"][..], 2),
        (&["429 Too Many Requests\r\nretry-after: 0\r\n", "502 Bad Gateway\r\nretry-after: 0\r\n"], 3),
        (&["504 Gateway Timeout\r\nretry-after: 0\r\n"; 5], 3),
        (&["400 Bad Request\r\n"], 1),
        (&["401 Unauthorized\r\n"], 1),
        (&["500 Internal Server Error\r\n"], 1),
    ] {
        let (url, received) = collector(answers).await;
        let (exporter, subscriber) = start(&url);
        requests(subscriber, 1);
        exporter.stop(PATIENCE).await;
        let received = received.lock().unwrap();
        assert_eq!(received.len(), tries, "{answers:?}");
        assert!(received.iter().all(|(_, request)| *request == received[0].1), "the same is sent again");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    drop(listener);
    let (exporter, subscriber) = start(&url);
    let begun = std::time::Instant::now();
    requests(subscriber, 5000);
    assert!(begun.elapsed() < PATIENCE / 2, "who tells spans waited");
    exporter.stop(Duration::from_millis(100)).await;
}
