use super::*;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use inborn_identity::{InstanceId, MacAddress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::attachment::Kind as AttachmentKind;
use crate::place::Place;
use crate::pocket::Sockets;

/// Remembers what it was asked.
#[derive(Default, Clone)]
struct Recorder {
    events: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn note(&self, event: impl Into<String>) {
        self.events.lock().unwrap().push(event.into());
    }

    async fn until(&self, event: &str) {
        for _ in 0..500 {
            if self.events.lock().unwrap().iter().any(|noted| noted == event) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{event} never came: {:?}", self.events.lock().unwrap());
    }
}

impl Handler for Recorder {
    fn attach_loopback(&self, instance: InstanceId, port: Option<u16>) -> BoxFuture<'_, Result<u16, Refusal>> {
        self.note(format!("loopback {instance}"));
        Box::pin(async move { Ok(port.unwrap_or(4321)) })
    }

    fn attach(
        &self,
        instance: InstanceId,
        place: Place,
        once: bool,
        mac: Option<MacAddress>,
    ) -> BoxFuture<'_, Result<(), Refusal>> {
        self.note(format!("{instance} at {place}, once: {once}, {mac:?}"));
        Box::pin(async { Ok(()) })
    }

    fn attach_pocket(&self, pocket: PocketRequest, _: Sockets) -> BoxFuture<'_, Result<Box<dyn Lease>, Refusal>> {
        self.note(format!("pocket {}", pocket.instance));
        Box::pin(async { Ok(Box::new(self.clone()) as Box<dyn Lease>) })
    }

    fn attachments(&self) -> BoxFuture<'_, Vec<Attachment>> {
        Box::pin(async {
            vec![Attachment { instance: instance(), kind: AttachmentKind::Loopback { port: 4321 }, trouble: None }]
        })
    }

    fn detach(&self, instance: InstanceId) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move { Err(Refusal(format!("{instance} is not attached"))) })
    }
}

impl Lease for Recorder {
    fn end(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.note("ended") })
    }
}

fn instance() -> InstanceId {
    "i-0123456789abcdef0".parse().unwrap()
}

struct Server {
    recorder: Recorder,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

fn start(directory: &Path) -> Server {
    let recorder = Recorder::default();
    let (stop, stopping) = watch::channel(false);
    let socket = ControlSocket::bind(directory).unwrap();
    let serving = tokio::spawn(socket.serve(Arc::new(recorder.clone()), stopping));
    Server { recorder, stop, serving }
}

async fn raw(directory: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(directory.join(SOCKET_NAME)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_verbs_without_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path());
    let client = ControlClient::new(directory.path());
    assert!(client.is_running().await);
    assert_eq!(client.attach_loopback(instance(), None).await.unwrap(), 4321);
    assert_eq!(client.attach_loopback(instance(), Some(77)).await.unwrap(), 77);
    let tap = Place::Interface { name: "tap0".parse().unwrap() };
    client.attach(instance(), tap.clone(), true, None).await.unwrap();
    server.recorder.until("i-0123456789abcdef0 at network interface tap0, once: true, None").await;
    client.attach(instance(), tap, true, Some(MacAddress::local([1, 2, 3, 4, 5]))).await.unwrap();
    server.recorder.until("i-0123456789abcdef0 at network interface tap0, once: true, Some(02:01:02:03:04:05)").await;
    assert_eq!(client.attachments().await.unwrap()[0].instance, instance());
    let refused = client.detach(instance()).await.unwrap_err();
    assert_eq!(refused.to_string(), "i-0123456789abcdef0 is not attached");
    server.recorder.until("loopback i-0123456789abcdef0").await;
    server.stop.send(true).unwrap();
    server.serving.await.unwrap();
    assert!(!directory.path().join(SOCKET_NAME).exists(), "the socket's file goes with the server");
    assert!(matches!(client.attachments().await, Err(ControlError::NotRunning { .. })));
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_replaces_a_dead_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(SOCKET_NAME);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(std::os::unix::net::UnixListener::bind(directory.path().join("control.sock.new")).unwrap());
    assert!(!ControlClient::new(directory.path()).is_running().await);
    let _server = start(directory.path());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(ControlClient::new(directory.path()).is_running().await);
}

#[tokio::test]
async fn a_directory_whose_path_is_too_long_for_a_socket() {
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&directory).unwrap();
    let _server = start(&directory);
    assert_eq!(ControlClient::new(&directory).attach_loopback(instance(), None).await.unwrap(), 4321);
}

#[tokio::test]
async fn what_is_malformed_gets_a_reason_and_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let _server = start(directory.path());
    for (bytes, reason) in [
        (b"nonsense\n".as_slice(), "is not understood"),
        (b"{\"verb\":\"launch\"}\n", "is not understood"),
        (b"\xff\xff\n", "is not understood"),
        (b"{\"verb\":\"attach_pocket\",\"instance\":\"i-0123456789abcdef0\",\"region\":\"us-east-1\",\"domain\":\"x\"}\n",
            "a pocket has 5 sockets, or 6 with IPv6, and 0 came"),
    ] {
        let answer = raw(directory.path(), bytes).await;
        assert!(answer.starts_with("{\"answer\":\"refused\"") && answer.contains(reason), "{answer}");
        assert!(answer.ends_with("}\n"));
    }
}

#[tokio::test]
async fn requests_below_at_and_above_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let _server = start(directory.path());
    for (length, expected) in [
        (REQUEST_BYTES_MAX - 1, "attachments"),
        (REQUEST_BYTES_MAX, "attachments"),
        (REQUEST_BYTES_MAX + 1, "longer than 4096 bytes"),
    ] {
        let mut request = br#"{"verb":"attachments"}"#.to_vec();
        request.resize(length - 1, b' ');
        request.push(b'\n');
        let answer = raw(directory.path(), &request).await;
        assert!(answer.contains(expected), "{length}: {answer}");
    }
}

#[tokio::test]
async fn a_slow_client_is_told_and_left() {
    let directory = tempfile::tempdir().unwrap();
    let _server = start(directory.path());
    let begun = std::time::Instant::now();
    let answer = raw(directory.path(), b"{\"verb\":").await;
    assert!(answer.contains("did not come in time"), "{answer}");
    assert!(begun.elapsed() >= REQUEST_TIMEOUT);
}

#[tokio::test]
async fn connections_below_at_and_above_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let _server = start(directory.path());
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX - 1 {
        held.push(UnixStream::connect(directory.path().join(SOCKET_NAME)).await.unwrap());
    }
    let request = b"{\"verb\":\"attachments\"}\n";
    assert!(raw(directory.path(), request).await.contains("4321"), "the last place");
    held.push(UnixStream::connect(directory.path().join(SOCKET_NAME)).await.unwrap());
    assert!(raw(directory.path(), request).await.contains("more than 1024 connections"));
}
