use super::*;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that gives prepared answers, one connection each, and keeps the requests. An empty answer is silence.
pub(crate) struct Script {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Script {
    pub(crate) async fn start(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noting = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut silent = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !complete(&request) {
                    let mut chunk = [0; 1024];
                    let count = stream.read(&mut chunk).await.unwrap();
                    if count == 0 {
                        break;
                    }
                    request.extend_from_slice(&chunk[..count]);
                }
                noting.lock().unwrap().push(String::from_utf8(request).unwrap());
                if answer.is_empty() {
                    silent.push(stream);
                } else {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
            // Whoever comes now waits in the backlog.
            std::future::pending::<()>().await;
        });
        Self { url, seen }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    fn client(&self) -> MetadataClient {
        MetadataClient::new(&settings(&self.url))
    }
}

/// Whether the head has arrived, and as much body as it announces.
fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let announced =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= announced.unwrap_or(0)
}

pub(crate) fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

pub(crate) fn settings(url: &str) -> Settings {
    Settings::read(|name| (name == "AWS_EC2_METADATA_SERVICE_ENDPOINT").then(|| url.to_owned())).unwrap()
}

fn token() -> String {
    answer(200, "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600\r\n", "TOKEN")
}

const PATH: &str = "/latest/meta-data/instance-id";

#[tokio::test]
async fn the_token_is_fetched_once_and_sent_along() {
    let server = Script::start(vec![token(), answer(200, "", "i-1"), answer(404, "", "no")]).await;
    let mut client = server.client();
    assert_eq!(client.require(PATH).await.unwrap(), "i-1");
    assert!(client.get("/latest/x").await.unwrap().is_none());
    let seen = server.seen();
    assert!(seen[0].starts_with("PUT /latest/api/token HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(seen[0].contains("x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"));
    assert!(seen[1].starts_with("GET /latest/meta-data/instance-id HTTP/1.1\r\n"));
    assert!(seen[1].contains("x-aws-ec2-metadata-token: TOKEN\r\n") && seen[2].contains("TOKEN"));
    assert!(!format!("{client:?}").contains("TOKEN"));
}

#[tokio::test]
async fn a_service_without_tokens_is_asked_without() {
    for status in [403, 404, 405] {
        let server = Script::start(vec![answer(status, "", ""), answer(200, "", "i-1")]).await;
        assert_eq!(server.client().require(PATH).await.unwrap(), "i-1", "{status}");
        assert!(!server.seen()[1].contains("x-aws-ec2-metadata-token"), "{status}");
    }
}

#[tokio::test]
async fn a_lost_token_falls_back_too() {
    let server = Script::start(vec![String::new(), answer(200, "", "i-1")]).await;
    assert_eq!(server.client().require(PATH).await.unwrap(), "i-1");
}

/// From a computer that stood still for a second. Where version 1 is switched off nothing else helps.
#[tokio::test]
async fn a_late_token_is_asked_for_again() {
    let server = Script::start(vec![String::new(), answer(401, "", ""), token(), answer(200, "", "i-1")]).await;
    assert_eq!(server.client().require(PATH).await.unwrap(), "i-1");
    assert!(server.seen()[3].contains("x-aws-ec2-metadata-token: TOKEN\r\n"));
    // Not for ever: behind one hop too many it is lost each time.
    let server = Script::start(vec![String::new(), answer(401, "", ""), String::new(), answer(401, "", "")]).await;
    assert!(matches!(server.client().get(PATH).await, Err(MetadataError::TokenRequired)));
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn version_one_may_be_forbidden() {
    let server = Script::start(vec![answer(403, "", "")]).await;
    let mut client = MetadataClient::new(&Settings { metadata_v1: false, ..settings(&server.url()) });
    assert!(matches!(client.get(PATH).await, Err(MetadataError::V1Forbidden)));
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let server = Script::start(vec![token(), answer(401, "", ""), token(), answer(200, "", "i-1")]).await;
    assert_eq!(server.client().require(PATH).await.unwrap(), "i-1");
    let server = Script::start(vec![token(), answer(401, "", ""), token(), answer(401, "", "")]).await;
    assert!(matches!(server.client().get(PATH).await, Err(MetadataError::TokenRequired)));
}

#[tokio::test]
async fn failures_below_at_and_above_the_number_of_attempts() {
    for failures in [1, 2, 3] {
        let mut answers = vec![token()];
        answers.extend((0..failures).map(|_| answer(503, "", "")));
        answers.push(answer(200, "", "i-1"));
        let server = Script::start(answers).await;
        match server.client().require(PATH).await {
            Ok(text) => assert!(failures < ATTEMPTS_MAX && text == "i-1"),
            Err(MetadataError::Status { status: 503, .. }) => assert_eq!(failures, ATTEMPTS_MAX),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn each_refusal_says_what_to_do() {
    for (answers, text) in [
        (vec![token(), answer(403, "", "")], "HttpEndpoint=enabled"),
        (vec![answer(404, "", ""), answer(401, "", "")], "HttpPutResponseHopLimit"),
        (vec![answer(400, "", "")], "status 400"),
        (vec![token(), answer(404, "", "")], "has no /latest/meta-data/instance-id"),
    ] {
        let server = Script::start(answers).await;
        let error = server.client().require(PATH).await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test]
async fn nobody_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = MetadataClient::new(&settings(&url)).get(PATH).await.unwrap_err().to_string();
    assert!(error.contains("inborn run") && error.contains("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "{error}");
}
