//! A bucket over a real socket, against a store that checks signatures and fails when it is told to.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test fails by panicking; what it signs is judged by the computer's clock"
)]

mod double;

use std::fs::File;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use double::{Double, Fault, KEY_ID, SECRET, TOKEN};
use inborn_lake::Bucket as _;
use inborn_lake_s3::{Credentials, PART_BYTES, S3};

const KEY: &str = "ext/inborn-process/region=eu-west-1/accountId=123456789012/eventDay=20270115/x.parquet";
const WHOLE_KEY: &str = "lake/ext/inborn-process/region=eu-west-1/accountId=123456789012/eventDay=20270115/x.parquet";

fn open(double: &Double) -> S3 {
    S3::open(&double.url().parse().unwrap(), Credentials::fixed(KEY_ID, SECRET, Some(TOKEN))).unwrap()
}

fn bytes(length: u64) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

#[test]
fn what_is_put_is_got_in_parts_and_deleted() {
    let double = Double::start();
    let bucket = open(&double);
    assert!(bucket.address().starts_with("s3://telemetry/lake?endpoint=http://127.0.0.1:"));
    let content = bytes(100_000);
    bucket.put(KEY, file(&content)).unwrap();
    assert_eq!(double.state().objects[WHOLE_KEY], content, "where others look for it");
    assert_eq!(bucket.get(KEY, 0..100_000).unwrap(), content);
    assert_eq!(bucket.get(KEY, 70_000..70_001).unwrap(), content[70_000..70_001]);
    assert_eq!(bucket.get(KEY, 99_999..100_001).map(|part| part.len()).unwrap_or(0) % 2, 1, "no more than there is");
    bucket.delete(KEY).unwrap();
    bucket.delete(KEY).unwrap();
    assert!(double.state().objects.is_empty());
    assert_eq!(bucket.get(KEY, 0..1).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(double.state().refused, Vec::<String>::new());
}

#[test]
fn a_file_below_at_and_above_the_length_of_a_part() {
    let double = Double::start();
    let bucket = open(&double);
    for (length, requests) in [(0, 1), (PART_BYTES - 1, 1), (PART_BYTES, 1), (PART_BYTES + 1, 4), (2 * PART_BYTES, 4)] {
        let content = bytes(length);
        double.state().seen.clear();
        bucket.put(KEY, file(&content)).unwrap();
        assert!(double.state().objects[WHOLE_KEY] == content, "{length}");
        assert_eq!(double.state().seen.len(), requests, "{length}: {:?}", double.state().seen);
        assert!(double.state().uploads.is_empty());
    }
}

#[test]
fn a_store_that_stumbles_is_asked_again() {
    let double = Double::start();
    let bucket = open(&double);
    let content = bytes(5000);
    let faults = [
        Fault::Answer(500, "InternalError"),
        Fault::Answer(503, "SlowDown"),
        Fault::Unanswered,
        Fault::Slow(Duration::from_millis(300)),
        Fault::SlowAnswer(Duration::from_millis(300)),
    ];
    for fault in faults {
        double.state().objects.clear();
        double.fail([fault]);
        bucket.put(KEY, file(&content)).unwrap();
        assert_eq!(double.state().objects[WHOLE_KEY], content, "{fault:?}");
    }
    for fault in faults.into_iter().chain([Fault::Cut]) {
        double.fail([fault]);
        assert_eq!(bucket.get(KEY, 10..4000).unwrap(), content[10..4000], "{fault:?}");
    }
    assert_eq!(double.state().refused, Vec::<String>::new());
}

#[test]
fn a_store_that_fails_on_is_given_up_and_what_it_says_is_told() {
    let double = Double::start();
    let bucket = open(&double);
    let begun = Instant::now();
    double.fail([Fault::Answer(503, "SlowDown"); 3]);
    let error = bucket.put(KEY, file(b"x")).unwrap_err();
    assert_eq!(error.to_string(), "the store says SlowDown: Told to.");
    assert!(begun.elapsed() < Duration::from_secs(20));
    double.fail([Fault::Answer(403, "AccessDenied")]);
    let error = bucket.put(KEY, file(b"x")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().starts_with("the store says AccessDenied: Told to.; let these"), "{error}");
    assert_eq!(double.state().seen.len(), 4, "and what is refused is not tried again");
    assert!(double.state().objects.is_empty());

    let elsewhere = double.url().replace("telemetry/", "nobodys/");
    let bucket = S3::open(&elsewhere.parse().unwrap(), Credentials::fixed(KEY_ID, SECRET, Some(TOKEN))).unwrap();
    let error = bucket.get(KEY, 0..1).unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("NoSuchBucket")), (io::ErrorKind::Other, true));
}

#[test]
fn an_upload_in_parts_that_fails_leaves_nothing() {
    let double = Double::start();
    let bucket = open(&double);
    let content = bytes(2 * PART_BYTES + 1);
    let deny = Fault::Answer(403, "AccessDenied");
    let fine = Fault::Slow(Duration::ZERO);
    // The beginning, each part, the end.
    for before in 0..5 {
        double.fail((0..before).map(|_| fine).chain([deny]));
        assert!(bucket.put(KEY, file(&content)).is_err(), "{before}");
        assert!(double.state().objects.is_empty() && double.state().uploads.is_empty(), "{before}");
    }
    bucket.put(KEY, file(&content)).unwrap();
    assert!(double.state().objects[WHOLE_KEY] == content);
}

#[test]
fn who_has_another_key_is_refused_and_told_no_secret() {
    let double = Double::start();
    let address = double.url().parse().unwrap();
    for (key_id, secret, token) in [
        ("AKIAOTHER", SECRET, Some(TOKEN)),
        (KEY_ID, "another", Some(TOKEN)),
        (KEY_ID, SECRET, Some("TOKEN-IN-HEADER")),
    ] {
        let bucket = S3::open(&address, Credentials::fixed(key_id, secret, token)).unwrap();
        let error = bucket.put(KEY, file(b"x")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other, "of no object, but of the store as it is asked");
        let text = format!("{error} {error:?}");
        assert!(text.contains("SignatureDoesNotMatch") && !text.contains("TOKEN"), "{text}");
    }
    assert_eq!(double.state().refused.len(), 3);
    assert!(double.state().objects.is_empty());
}

#[test]
fn a_file_of_credentials_is_read_anew() {
    let double = Double::start();
    let file_of_keys = tempfile::NamedTempFile::new().unwrap();
    let write = |key_id: &str| {
        let text = format!(
            "[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
        );
        std::fs::write(file_of_keys.path(), text).unwrap();
    };
    write("AKIAOLD");
    let credentials = Credentials::find(Some(file_of_keys.path()), |_| None).unwrap();
    let bucket = S3::open(&double.url().parse().unwrap(), credentials).unwrap();
    assert!(bucket.put(KEY, file(b"x")).is_err());
    write(KEY_ID);
    bucket.put(KEY, file(b"x")).unwrap();
    std::fs::remove_file(file_of_keys.path()).unwrap();
    let error = bucket.put(KEY, file(b"x")).unwrap_err().to_string();
    assert!(error.contains("cannot be read") || error.contains("No such file"), "{error}");
}

#[test]
fn nobody_there_is_told_soon() {
    // Where nobody listens, and nobody is sent by chance.
    let url = "s3://telemetry?endpoint=http://127.0.0.1:1";
    let bucket = S3::open(&url.parse().unwrap(), Credentials::fixed(KEY_ID, SECRET, None)).unwrap();
    let begun = Instant::now();
    let error = bucket.get(KEY, 0..1).unwrap_err().to_string();
    assert!(error.starts_with("it cannot be connected to: ") && error.contains("refused"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_probe_leaves_nothing_and_says_which_step_it_was() {
    let double = Double::start();
    let bucket = open(&double);
    bucket.probe("inborn-doctor-1").unwrap();
    assert!(double.state().objects.is_empty());
    assert_eq!(double.state().seen[0].1, "lake/inborn-doctor-1");
    let deny = Fault::Answer(403, "AccessDenied");
    let fine = Fault::Slow(Duration::ZERO);
    for (before, what) in [(0, "cannot write: "), (1, "cannot read: "), (2, "cannot remove: ")] {
        double.fail((0..before).map(|_| fine).chain([deny]));
        let error = bucket.probe("inborn-doctor-1").unwrap_err().to_string();
        assert!(error.starts_with(what), "{error}");
        assert_eq!(double.state().objects.len(), usize::from(before == 2), "{before}");
    }
}
