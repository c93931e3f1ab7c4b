//! What a record costs on its way in, step by step, without sockets and disks: CPU of this thread, the least of several rounds.
//! `perf stat -e instructions:u` of one step alone (its name is the argument) is steady on a busy machine, too.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "figures")]

mod support;

use std::hint::black_box;

use inborn_identity::UnixTime;
use inborn_telemetry::{Encoding, Foreign, Form, Source, Stamp, decode, inflate};
use rustix::time::{ClockId, clock_gettime};
use support::{Noise, event, gzip, request};

const RECORDS: usize = 500;
const RECORD_BYTES: usize = 780;
const BATCHES: usize = 16;
const ROUNDS: usize = 20;

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let batches: Vec<Vec<String>> =
        (0..BATCHES).map(|_| (0..RECORDS).map(|_| event(&mut noise, RECORD_BYTES)).collect()).collect();
    let of = |body: fn(&[String]) -> Vec<u8>| batches.iter().map(|batch| body(batch)).collect::<Vec<_>>();
    let protobuf = of(|batch| request(&[("service.name", "bench")], batch.iter().cloned()));
    let zipped = |bodies: &[Vec<u8>]| bodies.iter().map(|body| gzip(body)).collect::<Vec<_>>();
    println!("{RECORDS} records of {RECORD_BYTES} bytes a request");
    report("inflate", &zipped(&protobuf), |body| {
        black_box(inflate(body, Encoding::Gzip, &mut |_| true).unwrap());
    });
    report("protobuf", &protobuf, |body| stamped(Form::OtlpProtobuf, body));
    report("json", &of(json), |body| stamped(Form::OtlpJson, body));
    report("ocsf", &of(|batch| batch.join("\n").into_bytes()), |body| stamped(Form::Ocsf, body));
}

/// OTLP in JSON, as the SDKs write it: the event is a text in it.
fn json(batch: &[String]) -> Vec<u8> {
    let records: Vec<_> = batch.iter().map(|event| serde_json::json!({"body": {"stringValue": event}})).collect();
    let attribute = serde_json::json!({"key": "service.name", "value": {"stringValue": "bench"}});
    let logs = serde_json::json!({"resource": {"attributes": [attribute]}, "scopeLogs": [{"logRecords": records}]});
    serde_json::json!({"resourceLogs": [logs]}).to_string().into_bytes()
}

fn stamped(form: Form, body: &[u8]) {
    let source = Source {
        account: "123456789012".parse().unwrap(),
        instance: "i-0123456789abcdef0".parse().unwrap(),
        region: "eu-central-1".parse().unwrap(),
    };
    // The events have uids: nothing is hashed.
    let sha256 = |_: &[u8]| [0; 32];
    let stamp =
        Stamp { source: &source, received_at: UnixTime::from_secs(1_800_000_000), sha256, foreign: Foreign::Accept };
    let decoded = decode(form, body, &stamp, &mut |_| true).unwrap();
    assert_eq!((decoded.records.len(), decoded.rejected, decoded.times_off), (RECORDS, 0, 0));
    black_box(decoded);
}

/// Microseconds of a record.
fn report(step: &str, bodies: &[Vec<u8>], work: impl Fn(&[u8])) {
    if std::env::args().skip(1).any(|argument| !argument.starts_with('-') && argument != step) {
        return;
    }
    let round = || {
        let started = cpu_seconds();
        bodies.iter().for_each(|body| work(body));
        cpu_seconds() - started
    };
    let least = (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min);
    println!("  {step:<10} {:>6.3} us a record", least * 1e6 / (bodies.len() * RECORDS) as f64);
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
