//! Where findings are sent beside the store: standard output, a file, a webhook. One line, or one request, for each: an event
//! of OCSF (Detection Finding).
//!
//! Nobody waits for them. What an output cannot take in time is lost to it, counted and said; the store has it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Uri};
use inborn_guest::http::{Client, Limits};
use inborn_region::FindingOutput;
use tokio::sync::mpsc;

use crate::output::escaped;

/// The most findings that wait for one output.
const WAITING_MAX: usize = 1024;
/// How often a webhook is tried for one finding.
const TRIES_MAX: u32 = 8;
/// The first wait between two tries; each is twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// How long a webhook may take.
const WEBHOOK: Limits = Limits {
    connect_timeout: Duration::from_secs(5),
    answer_timeout: Duration::from_secs(10),
    body_bytes_max: 64 * 1024,
};

/// Where findings go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Standard output.
    Stdout,
    /// The end of a file, which is opened for each: it may be moved away.
    File(PathBuf),
    /// A URL that takes a POST.
    Webhook(Uri),
}

impl FromStr for Destination {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "stdout" {
            return Ok(Self::Stdout);
        }
        if Path::new(text).is_absolute() {
            return Ok(Self::File(PathBuf::from(text)));
        }
        let url = text.parse::<Uri>().ok().filter(|url| url.host().is_some_and(|host| !host.is_empty()));
        match url.as_ref().and_then(Uri::scheme_str) {
            Some("https") => {}
            Some("http") if url.as_ref().and_then(Uri::host).is_some_and(is_loopback) => {}
            Some("http") => return Err("a webhook on another computer needs https".to_owned()),
            _ => return Err("not stdout, an absolute path, or a URL".to_owned()),
        }
        url.map(Self::Webhook).ok_or_else(|| "not a URL".to_owned())
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Destination {
    /// Without what may be secret in a URL.
    fn name(&self) -> String {
        match self {
            Self::Stdout => "stdout".to_owned(),
            Self::File(path) => path.display().to_string(),
            Self::Webhook(url) => format!("the webhook at {}", url.host().unwrap_or_default()),
        }
    }
}

/// One output: the queue before the task that writes.
struct Output {
    name: Arc<str>,
    queue: mpsc::Sender<Arc<str>>,
    lost: AtomicU64,
}

impl FindingOutput for Output {
    fn recorded(&self, line: &Arc<str>) {
        if self.queue.try_send(Arc::clone(line)).is_err() {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            // The first, and then ever more seldom.
            if lost.is_power_of_two() {
                tracing::error!(lost, "findings did not get to {}: it takes them too slowly", self.name);
            }
        }
    }
}

/// Starts the tasks of outputs.
pub(crate) fn start(destinations: &[Destination]) -> Vec<Arc<dyn FindingOutput>> {
    destinations.iter().map(|destination| start_one(destination.clone())).collect()
}

fn start_one(destination: Destination) -> Arc<dyn FindingOutput> {
    let (queue, waiting) = mpsc::channel(WAITING_MAX);
    let name: Arc<str> = destination.name().into();
    match destination {
        Destination::Webhook(url) => drop(tokio::spawn(post_all(url, Arc::clone(&name), waiting))),
        writable => drop(tokio::spawn(write_all(writable, Arc::clone(&name), waiting))),
    }
    Arc::new(Output { name, queue, lost: AtomicU64::new(0) })
}

async fn write_all(destination: Destination, name: Arc<str>, mut waiting: mpsc::Receiver<Arc<str>>) {
    let destination = Arc::new(destination);
    while let Some(line) = waiting.recv().await {
        let to = Arc::clone(&destination);
        let written = tokio::task::spawn_blocking(move || write_line(&to, &line)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("a finding did not get to {name}: {error}"),
            Err(error) => tracing::error!("a finding did not get to {name}: {error}"),
        }
    }
}

fn write_line(destination: &Destination, line: &str) -> std::io::Result<()> {
    let line = format!("{line}\n");
    match destination {
        Destination::Stdout => {
            let mut out = std::io::stdout().lock();
            // Somebody may look at it; a file is for programs.
            out.write_all(escaped(&line).as_bytes())?;
            out.flush()
        }
        Destination::File(path) => {
            OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.write_all(line.as_bytes())
        }
        Destination::Webhook(_) => Ok(()),
    }
}

async fn post_all(url: Uri, name: Arc<str>, mut waiting: mpsc::Receiver<Arc<str>>) {
    let client = Client::new(WEBHOOK, None);
    while let Some(line) = waiting.recv().await {
        if let Err(why) = post(&client, &url, &line).await {
            tracing::error!("a finding did not get to {name}: {why}");
        }
    }
}

/// Posts one finding, again and again while it is worth it.
async fn post(client: &Client, url: &Uri, line: &str) -> Result<(), String> {
    let mut wait = FIRST_WAIT;
    let mut why = String::new();
    for attempt in 1..=TRIES_MAX {
        let request = Request::post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Bytes::copy_from_slice(line.as_bytes()))
            .map_err(|error| error.to_string())?;
        match client.call(request).await {
            Ok(reply) if (200..300).contains(&reply.status) => return Ok(()),
            Ok(reply) => {
                why = format!("it answered {}", reply.status);
                // What is wrong with the request will be wrong with it again.
                if !(reply.status >= 500 || reply.status == 408 || reply.status == 429) {
                    return Err(why);
                }
            }
            Err(error) => why = error.to_string(),
        }
        if attempt < TRIES_MAX {
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2);
        }
    }
    Err(format!("{why}, after {TRIES_MAX} tries"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn destinations_are_stdout_paths_and_urls_that_nobody_can_read_on_the_way() {
        for (text, is_one) in [
            ("stdout", true),
            ("/var/log/findings.jsonl", true),
            ("findings.jsonl", false),
            ("https://siem.example/hook?x=1", true),
            ("http://127.0.0.1:8080/hook", true),
            ("http://[::1]:8080/hook", true),
            ("http://localhost/hook", true),
            ("http://siem.example/hook", false),
            ("http://127.0.0.1.example/hook", false),
            ("ftp://siem.example", false),
            ("https://", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<Destination>().is_ok(), is_one, "{text}");
        }
        let secret = "https://siem.example/hook/SECRET".parse::<Destination>().unwrap();
        assert!(!secret.name().contains("SECRET"));
    }

    /// Answers each connection with the next status, and gives the bodies that came.
    async fn hook(statuses: Vec<u16>) -> (SocketAddr, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (bodies, came) = mpsc::channel(16);
        tokio::spawn(async move {
            for status in statuses {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut text = Vec::new();
                while !text.ends_with(b"}") {
                    let mut part = [0; 4096];
                    let length = stream.read(&mut part).await.unwrap();
                    text.extend_from_slice(&part[..length]);
                }
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                bodies.send(String::from_utf8(text).unwrap()).await.unwrap();
            }
        });
        (address, came)
    }

    #[tokio::test]
    async fn a_webhook_that_fails_is_tried_again_and_one_that_refuses_is_not() {
        let (address, mut came) = hook(vec![503, 200, 400]).await;
        let output = start_one(format!("http://{address}/hook").parse().unwrap());
        output.recorded(&Arc::from(r#"{"a":1}"#));
        for _ in 0..2 {
            let request = came.recv().await.unwrap();
            assert!(request.starts_with("POST /hook HTTP/1.1\r\n"), "{request}");
            assert!(request.contains("content-type: application/json"), "{request}");
            assert!(request.ends_with(r#"{"a":1}"#), "{request}");
        }
        output.recorded(&Arc::from(r#"{"b":1}"#));
        assert!(came.recv().await.unwrap().ends_with(r#"{"b":1}"#));
        assert!(tokio::time::timeout(Duration::from_secs(60), came.recv()).await.is_ok_and(|more| more.is_none()));
    }

    #[tokio::test]
    async fn a_file_has_a_line_for_each_and_may_be_moved_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("findings.jsonl");
        let output = start_one(Destination::File(path.clone()));
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        output.recorded(&Arc::from("{1}"));
        while lines(&path) != "{1}\n" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::fs::rename(&path, directory.path().join("old")).unwrap();
        output.recorded(&Arc::from("{2}"));
        while lines(&path) != "{2}\n" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_waits_below_at_and_above_the_limit() {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let output = Output { name: Arc::from("x"), queue, lost: AtomicU64::new(0) };
        for number in 1..=WAITING_MAX + 1 {
            output.recorded(&Arc::from("x"));
            let lost = output.lost.load(Ordering::Relaxed);
            assert_eq!(lost, u64::from(number > WAITING_MAX), "{number}");
        }
        drop(waiting);
    }
}
