//! SIGHUP, as `systemctl reload` sends it: settings are read again by the process that runs, and nothing that is open is closed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod patience;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use patience::until;

struct Up {
    child: Child,
    log: PathBuf,
    ready: serde_json::Value,
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Up {
    fn start(base: &Path) -> Self {
        let (log, ready) = (base.join("log"), base.join("ready.json"));
        let child = Command::new(env!("CARGO_BIN_EXE_inborn"))
            .args(["up", "--port", "0", "--tls-port", "0", "--operations-port", "0", "--telemetry-days", "0"])
            .args(["--more-regions", "eu-west-1"])
            .arg("--config")
            .arg(base.join("inborn.toml"))
            .arg("--data")
            .arg(base.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .env_remove("INBORN_DATA")
            .env_remove("INBORN_CONFIG")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut up = Self { child, log, ready: serde_json::Value::Null };
        up.ready = until("a region is ready", || {
            assert!(up.child.try_wait().unwrap().is_none(), "it has ended: {}", up.said());
            serde_json::from_slice(&std::fs::read(&ready).ok()?).ok()
        });
        up
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Sends the signal, and waits until something is said that was not said so often before.
    fn reload(&mut self, expected: &str) {
        let count = |said: &str| said.matches(expected).count();
        let before = count(&self.said());
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
        until(expected, || {
            assert!(self.child.try_wait().unwrap().is_none(), "the signal has ended it: {}", self.said());
            (count(&self.said()) > before).then_some(())
        });
    }

    fn connect(&self, which: &str) -> BufReader<TcpStream> {
        let address = self.ready[which].as_str().unwrap().strip_prefix("http://").unwrap();
        BufReader::new(TcpStream::connect(address).unwrap())
    }
}

/// A request on a connection that stays open; gives the status.
fn ask(stream: &mut BufReader<TcpStream>, target: &str, region: &str) -> u16 {
    write!(stream.get_mut(), "GET {target} HTTP/1.1\r\nhost: sts.{region}.amazonaws.com\r\n\r\n").unwrap();
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the connection was closed");
        let line = line.trim_end();
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest[..3].parse().unwrap();
        } else if let Some((_, value)) = line.split_once(": ").filter(|(name, _)| *name == "content-length") {
            length = value.parse().unwrap();
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    status
}

#[test]
fn settings_are_read_again_and_nothing_is_closed() {
    let base = tempfile::tempdir().unwrap();
    let config = base.path().join("inborn.toml");
    std::fs::write(&config, "").unwrap();
    let mut up = Up::start(base.path());
    let mut open = up.connect("endpoint");
    let asked_of = |open: &mut BufReader<TcpStream>, region: &str| -> BTreeSet<u16> {
        (0..60).map(|_| ask(open, "/", region)).collect()
    };
    let asked = |open: &mut BufReader<TcpStream>| asked_of(open, "us-east-1");
    let before = asked(&mut open);
    assert_eq!(before.len(), 1, "nobody is held up: {before:?}");
    assert_eq!(asked_of(&mut open, "eu-west-1"), before);

    std::fs::write(&config, "source_rate = 2\ndrain = 5\n").unwrap();
    up.reload("changed: source_rate");
    until("what waits for a start is said", || up.said().contains("by the next start: drain").then_some(()));
    // The same connection, and another answer once there are too many.
    let after = asked(&mut open);
    assert_eq!(after.len(), 2, "{after:?}");
    assert!(after.is_superset(&before), "{after:?}");
    let in_another = asked_of(&mut open, "eu-west-1");
    assert!(in_another.is_superset(&(&after - &before)), "held up in each region: {in_another:?}");

    // A mistake: nothing is taken over, and it is said.
    std::fs::write(&config, "source_rate = 0\nregion = \"no region\"\n").unwrap();
    up.reload("were not read again");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(asked(&mut open).len(), 2, "as it was");
    std::fs::write(&config, "source_rate = 0\n").unwrap();
    up.reload("changed: source_rate");
    assert_eq!(asked(&mut open), before, "no limit any more");

    // Rules and detection.
    let rules = base.path().join("rules");
    std::fs::create_dir(&rules).unwrap();
    std::fs::write(&config, format!("source_rate = 0\n[detection]\nown_rules = false\nrules = {rules:?}\n")).unwrap();
    up.reload("changed: detection");
    until("the rules are others", || up.said().contains("rules=0").then_some(()));
    up.reload("changed: none");
    let mut operations = up.connect("operations");
    assert_eq!(ask(&mut operations, "/readyz", "us-east-1"), 200);
}
