//! The sensor against a double of a machine's metadata and of the region's endpoint for telemetry, which checks signatures.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says what it expects")]

use std::collections::VecDeque;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use inborn_guest::Settings;
use inborn_guest::sensor::{
    BATCH_EVENTS_MAX, Counts, FAULTS_MAX, From, Now, Options, Report, SPOOL_BYTES_MAX, SensorError, open, run,
};
use inborn_identity::UnixTime;
use inborn_listener::{Limits, read_body};
use inborn_sigv4::{Endpoint, Expires, Header, PathMode, Presented, Request as Signed, Scratch, SigningKey, sha256};
use serde_json::Value;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const NOW_MS: i64 = 1_795_411_740_000;
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const INSTANCE: &str = "i-0123456789abcdef0";
const DATA: Endpoint<'static> = Endpoint {
    service: "guardduty",
    regions: &["eu-west-1"],
    path_mode: PathMode::Normalized,
    skew_seconds: 900,
    query_auth: false,
    expires: Expires::Ignored,
};

/// An answer of the region: status, `Retry-After`, body.
type Answer = (u16, Option<&'static str>, &'static str);

#[derive(Default)]
struct State {
    instance: String,
    /// What is answered instead of "stored", in order.
    answers: VecDeque<Answer>,
    /// The events of each batch that was stored, and of each that was not.
    stored: Vec<Vec<String>>,
    refused: Vec<Vec<String>>,
    heartbeats: usize,
}

/// Metadata and region.
struct Double {
    url: String,
    state: Arc<Mutex<State>>,
    _end: watch::Sender<bool>,
}

impl Double {
    async fn start() -> Self {
        let state = Arc::new(Mutex::new(State { instance: INSTANCE.into(), ..State::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (end, ended) = watch::channel(false);
        let shared = Arc::clone(&state);
        tokio::spawn(inborn_listener::serve(listener, None, Limits::DEFAULT, ended, move |request, _| {
            let state = Arc::clone(&shared);
            async move { respond(request, &state).await }
        }));
        Self { url, state, _end: end }
    }

    fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.lock().unwrap().answers.extend(answers);
    }

    fn stored(&self) -> Vec<Vec<String>> {
        self.state.lock().unwrap().stored.clone()
    }

    /// Process numbers of the events that were stored, in the order in which they came.
    fn pids(&self) -> Vec<u64> {
        self.stored().concat().iter().map(|line| pid(line)).collect()
    }

    async fn until_stored(&self, count: usize) {
        let stored = async {
            while self.pids().len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(20), stored).await.unwrap();
    }
}

fn pid(line: &str) -> u64 {
    serde_json::from_str::<Value>(line).unwrap()["process"]["pid"].as_u64().unwrap()
}

async fn respond(request: Request<Incoming>, state: &Mutex<State>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = read_body(body, 4 * 1024 * 1024, Duration::from_secs(5)).await.unwrap();
    let mut state = state.lock().unwrap();
    let (status, retry_after, text) = match head.uri.path() {
        "/latest/meta-data/instance-id" => (200, None, state.instance.clone()),
        "/latest/meta-data/placement/region" => (200, None, "eu-west-1".into()),
        "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance" => {
            let document = serde_json::json!({ "Code": "Success", "AccessKeyId": "ASIAIOSFODNN7EXAMPLE",
                "SecretAccessKey": SECRET, "Token": "TOKEN", "Expiration": "2026-11-23T11:49:00Z" });
            (200, None, document.to_string())
        }
        "/v1/logs" => take(&head, &body, &mut state),
        _ => (404, None, String::new()),
    };
    let mut response = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        response = response.header("retry-after", seconds);
    }
    response.body(Full::new(text.into())).unwrap()
}

fn take(head: &http::request::Parts, body: &[u8], state: &mut State) -> (u16, Option<&'static str>, String) {
    verify(head, body);
    assert_eq!(head.headers["content-type"], "application/json");
    assert_eq!(head.headers["content-encoding"], "gzip");
    let mut text = String::new();
    GzDecoder::new(body).read_to_string(&mut text).unwrap();
    let export: Value = serde_json::from_str(&text).unwrap();
    let scopes = export["resourceLogs"][0]["scopeLogs"].as_array().unwrap();
    if scopes.is_empty() {
        state.heartbeats += 1;
        return (200, None, "{}".into());
    }
    let records = scopes[0]["logRecords"].as_array().unwrap();
    let lines = records.iter().map(|record| record["body"]["stringValue"].as_str().unwrap().to_owned()).collect();
    match state.answers.pop_front() {
        Some((status, retry_after, text)) if status != 200 => {
            state.refused.push(lines);
            (status, retry_after, text.into())
        }
        Some((status, _, text)) => {
            state.stored.push(lines);
            (status, None, text.into())
        }
        None => {
            state.stored.push(lines);
            (200, None, r#"{"partialSuccess":{}}"#.into())
        }
    }
}

/// All that a region checks, with the secret that the metadata gave out.
fn verify(head: &http::request::Parts, body: &[u8]) {
    let headers: Vec<Header<'_>> = head
        .headers
        .iter()
        .map(|(name, value)| Header { name: name.as_str().as_bytes(), value: value.as_bytes() })
        .collect();
    let request =
        Signed { method: head.method.as_str(), path: head.uri.path().as_bytes(), query: b"", headers: &headers };
    let now = UnixTime::from_secs(u64::try_from(NOW_MS / 1000).unwrap());
    let presented = Presented::accept(&request, &DATA, now).unwrap();
    assert_eq!(presented.token(), Some(&b"TOKEN"[..]));
    let scope = presented.scope();
    let key = SigningKey::derive(SECRET.as_bytes(), scope.date.as_bytes(), scope.region, scope.service);
    presented.verify(&request, &sha256(body), DATA.path_mode, &key, &mut Scratch::new()).unwrap();
    for covered in [&b"content-type"[..], b"content-encoding", b"host"] {
        assert!(presented.covers(covered));
    }
}

/// A sensor that is told what happens by lines of laurel.
struct Sensor {
    input: DuplexStream,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<Arc<Counts>, SensorError>>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Sensor {
    fn start(double: &Double, spool: &Path) -> Self {
        Self::with_spool(double, spool, SPOOL_BYTES_MAX)
    }

    fn with_spool(double: &Double, spool: &Path, spool_bytes_max: u64) -> Self {
        let url = double.url.clone();
        let settings = Settings::read(|name| {
            ["AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_ENDPOINT_URL_GUARDDUTY_DATA"]
                .contains(&name)
                .then(|| url.clone())
        });
        let settings = settings.unwrap();
        let (input, output) = tokio::io::duplex(1024 * 1024);
        let now: Now = Arc::new(|| NOW_MS);
        let sources = open(&[From::Laurel], Box::pin(output), &now).unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let saying = Arc::clone(&said);
        let report: Report = Arc::new(move |text| saying.lock().unwrap().push(text.to_owned()));
        let options = Options { spool: spool.to_owned(), spool_bytes_max };
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            run(&settings, &options, sources, &now, &report, stopped).await
        });
        Self { input, stop, running, said }
    }

    async fn tell(&mut self, pids: std::ops::Range<usize>) {
        for pid in pids {
            let line = format!(
                "{{\"ID\":\"1795411740.000:{pid}\",\"SYSCALL\":{{\"SYSCALL\":\"execve\",\"success\":\"yes\",\"pid\":{pid},\"exe\":\"/bin/x\"}}}}\n"
            );
            self.input.write_all(line.as_bytes()).await.unwrap();
        }
    }

    async fn stop(self) -> Result<Arc<Counts>, SensorError> {
        self.stop.send(()).unwrap();
        timeout(Duration::from_secs(20), self.running).await.unwrap().unwrap()
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

fn spool() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    directory
}

fn count(of: &std::sync::atomic::AtomicU64) -> u64 {
    of.load(std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test]
async fn events_arrive_signed_in_order_each_with_a_name_of_its_own() {
    let (double, spool) = (Double::start().await, spool());
    let mut sensor = Sensor::start(&double, spool.path());
    sensor.tell(0..1200).await;
    double.until_stored(1200).await;
    assert_eq!(double.pids(), (0..1200).collect::<Vec<_>>());
    assert!(double.stored().iter().all(|batch| batch.len() <= BATCH_EVENTS_MAX));
    let names: std::collections::HashSet<String> = double
        .stored()
        .concat()
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 1200);
    assert_eq!(double.state.lock().unwrap().heartbeats, 1, "it is told at once that the sensor is there");
    let counts = sensor.stop().await.unwrap();
    assert_eq!((count(&counts.seen), count(&counts.delivered), count(&counts.lost)), (1200, 1200, 0));
}

#[tokio::test]
async fn while_the_region_is_away_events_wait_on_disk_and_follow_in_order() {
    let (double, spool) = (Double::start().await, spool());
    double.answer([(503, Some("1"), "busy"), (429, Some("1"), "slow down")]);
    let mut sensor = Sensor::start(&double, spool.path());
    for first in [0, 10, 20] {
        sensor.tell(first..first + 10).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert!(spool.path().join(INSTANCE).read_dir().unwrap().count() > 1, "something waits beside the lock");
    double.until_stored(30).await;
    assert_eq!(double.pids(), (0..30).collect::<Vec<_>>());
    let refused = double.state.lock().unwrap().refused.clone();
    assert_eq!(refused[0], double.stored()[0], "the same again, to the byte");
    assert_eq!(
        sensor.said().matches("the region takes nothing now (status 503: busy)").count(),
        1,
        "{}",
        sensor.said()
    );
    assert!(sensor.said().contains("the region answers again"));
    sensor.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_not_sent_when_it_stopped_is_sent_by_the_next() {
    let (double, spool) = (Double::start().await, spool());
    double.answer((0..9).map(|_| (503, None, "")));
    let mut sensor = Sensor::start(&double, spool.path());
    sensor.tell(0..5).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    sensor.tell(5..9).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let said = Arc::clone(&sensor.said);
    sensor.stop().await.unwrap();
    assert!(said.lock().unwrap().join("\n").contains("9 events wait on disk"), "{said:?}");
    double.state.lock().unwrap().answers.clear();
    let sensor = Sensor::start(&double, spool.path());
    double.until_stored(9).await;
    assert_eq!(double.pids(), (0..9).collect::<Vec<_>>());
    sensor.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_region_will_never_take_is_not_sent_again() {
    let (double, spool) = (Double::start().await, spool());
    double.answer([(400, None, "malformed")]);
    let mut sensor = Sensor::start(&double, spool.path());
    sensor.tell(0..3).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    double.answer([(200, None, r#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"no class_uid"}}"#)]);
    sensor.tell(3..8).await;
    double.until_stored(5).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(sensor.said().contains("will not take 3 events: malformed"), "{}", sensor.said());
    assert!(sensor.said().contains("will not take 2 events: no class_uid"));
    let counts = sensor.stop().await.unwrap();
    assert_eq!((count(&counts.refused), count(&counts.delivered)), (5, 3));
}

#[tokio::test]
async fn what_is_too_large_is_sent_in_halves() {
    let (double, spool) = (Double::start().await, spool());
    // Of four events: all, the first half, and of that the second event are too large.
    double.answer([(413, None, ""), (413, None, ""), (200, None, "{}"), (413, None, "")]);
    let mut sensor = Sensor::start(&double, spool.path());
    sensor.tell(0..4).await;
    double.until_stored(3).await;
    assert_eq!(double.pids(), [0, 2, 3]);
    let counts = sensor.stop().await.unwrap();
    assert_eq!((count(&counts.delivered), count(&counts.refused)), (3, 1));
}

#[tokio::test]
async fn a_refused_signature_is_made_once_more_with_fresh_credentials() {
    let (double, spool) = (Double::start().await, spool());
    let mut sensor = Sensor::start(&double, spool.path());
    sensor.tell(0..1).await;
    double.until_stored(1).await;
    double.answer([(403, None, "ExpiredToken")]);
    sensor.tell(1..2).await;
    double.until_stored(2).await;
    assert_eq!(sensor.said(), "", "nothing to speak of");
    sensor.stop().await.unwrap();
}

#[tokio::test]
async fn a_batch_that_breaks_the_region_is_given_up() {
    let (double, spool) = (Double::start().await, spool());
    double.answer((0..FAULTS_MAX).map(|_| (500, Some("0"), "oops")));
    let mut sensor = Sensor::start(&double, spool.path());
    sensor.tell(0..2).await;
    let given_up = async {
        while !sensor.said().contains("given up after 5 attempts") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(30), given_up).await.unwrap();
    let counts = sensor.stop().await.unwrap();
    assert_eq!((count(&counts.refused), double.stored().len()), (2, 0));
}

#[tokio::test]
async fn a_full_spool_gives_up_the_oldest() {
    let (double, spool) = (Double::start().await, spool());
    double.answer((0..99).map(|_| (503, Some("300"), "")));
    let mut sensor = Sensor::with_spool(&double, spool.path(), 600);
    for first in 0..6 {
        sensor.tell(first..first + 1).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert!(sensor.said().contains("the spool is full: 1 of the oldest"), "{}", sensor.said());
    let counts = sensor.stop().await.unwrap();
    assert!(count(&counts.dropped) >= 1);
    double.state.lock().unwrap().answers.clear();
    let sensor = Sensor::start(&double, spool.path());
    let left = 6 - count(&counts.dropped);
    double.until_stored(left.try_into().unwrap()).await;
    assert_eq!(double.pids(), (count(&counts.dropped)..6).collect::<Vec<_>>(), "the newest are there");
    sensor.stop().await.unwrap();
}

#[tokio::test]
async fn another_machine_tells_nothing_of_what_this_one_saw() {
    let (double, spool) = (Double::start().await, spool());
    double.answer([(403, None, ""), (403, None, "")]);
    let mut sensor = Sensor::start(&double, spool.path());
    sensor.tell(0..2).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    double.state.lock().unwrap().instance = "i-0fedcba9876543210".into();
    let ended = timeout(Duration::from_secs(20), sensor.running).await.unwrap().unwrap();
    assert!(matches!(ended, Err(SensorError::OtherMachine)), "{ended:?}");
    double.state.lock().unwrap().answers.clear();
    let mut sensor = Sensor::start(&double, spool.path());
    sensor.tell(7..8).await;
    double.until_stored(1).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(double.pids(), [7]);
    sensor.stop().await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_input_is_the_end_of_the_sensor() {
    let (double, spool) = (Double::start().await, spool());
    let mut sensor = Sensor::start(&double, spool.path());
    sensor.tell(0..3).await;
    sensor.input.write_all(b"this is no JSON\n").await.unwrap();
    let Sensor { input, running, stop, .. } = sensor;
    drop(input);
    let counts = timeout(Duration::from_secs(20), running).await.unwrap().unwrap().unwrap();
    drop(stop);
    assert_eq!((count(&counts.delivered), count(&counts.unreadable)), (3, 1));
}
