use super::*;
use crate::metadata::tests::{Script, answer, settings};
use std::path::Path;

const DOCUMENT: &str = r#"{ "accountId" : "123456789012", "instanceId" : "i-0123456789abcdef0" }"#;
const CREDENTIALS: &str = r#"{ "Code" : "Success", "AccessKeyId" : "ASIAQNZGKIQY56JQ7WML",
    "SecretAccessKey" : "SECRET", "Token" : "TOKEN", "Expiration" : "2026-11-23T11:49:00Z" }"#;
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMd6eplFJygDaby7l9CC2zxVE3VP1nuDKDnsXxR4W99/ root@host";

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

async fn ask(keys: &LocalKeys, reply: String) -> (Result<Pushed, PushError>, Vec<String>) {
    let metadata = Script::start(vec![
        answer(404, "", ""),
        answer(200, "", DOCUMENT),
        answer(200, "", "eu-west-1a"),
        answer(200, "", "eu-west-1"),
        answer(200, "", CREDENTIALS),
    ])
    .await;
    let region = Script::start(vec![reply]).await;
    let settings =
        Settings { instance_connect_endpoint: Some(region.url().parse().unwrap()), ..settings(&metadata.url()) };
    (push(&settings, keys, Certificates::Unwanted, UnixTime::from_secs(1_800_000_000)).await, region.seen())
}

#[tokio::test]
async fn keys_are_sent_as_the_scripts_of_the_package_send_them() {
    let place =
        directory(&[("ssh_host_ed25519_key.pub", KEY), ("ssh_host_x_key-cert.pub", "junk"), ("moduli", "junk")]);
    let keys = LocalKeys::read(place.path(), &[]).unwrap();
    let (pushed, seen) = ask(&keys, answer(200, "", r#"{"Outcome":"first","Digest":"x"}"#)).await;
    let pushed = pushed.unwrap();
    assert_eq!((pushed.outcome.as_deref(), pushed.is_pending()), (Some("first"), false));
    // There is no private key beside it: that is said, and no reason not to publish.
    assert_eq!(pushed.unproven.len(), 1);
    assert!(pushed.unproven[0].contains("ssh_host_ed25519_key: "), "{:?}", pushed.unproven);
    let request = &seen[0];
    assert!(request.starts_with("POST /PutEC2HostKeys/ HTTP/1.1\r\n"), "{request}");
    assert!(
        request.contains("/20270115/eu-west-1/ec2-instance-connect/aws4_request")
            || request.contains("eu-west-1/ec2-instance-connect")
    );
    assert!(request.contains("content-encoding: amz-1.0\r\n"));
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let expected = json!({ "AccountID": "123456789012", "AvailabilityZone": "eu-west-1a", "HostKeys": [KEY],
        "InstanceId": "i-0123456789abcdef0" });
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
}

#[tokio::test]
async fn a_refusal_is_told_and_tried_again_only_where_it_may_help() {
    let place = directory(&[("ssh_host_ed25519_key.pub", KEY)]);
    let keys = LocalKeys::read(place.path(), &[]).unwrap();
    let coral = r#"{"Output":{"__type":"com.amazon.coral.service#AuthException","message":"no"},"Version":"1.0"}"#;
    for (status, body, text, is_transient) in [
        (400, coral, "Instance Connect refused: AuthException: no", false),
        (
            400,
            r#"{"__type":"ThrottlingException","Message":"slow"}"#,
            "Instance Connect refused: ThrottlingException: slow",
            true,
        ),
        (503, "<html>", "Instance Connect refused: status 503: ", true),
    ] {
        let (pushed, _) = ask(&keys, answer(status, "", body)).await;
        let error = pushed.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.is_transient()), (text, is_transient));
    }
    let (pushed, _) = ask(&keys, answer(200, "", r#"{"Outcome":"pending-not-by-old-key"}"#)).await;
    assert!(pushed.unwrap().is_pending());
}

#[test]
fn what_is_no_set_of_host_keys_is_named() {
    let error = LocalKeys::read(Path::new("/nonexistent"), &[]).unwrap_err().to_string();
    assert!(error.contains("/nonexistent"), "{error}");
    let place = directory(&[("id_ed25519.pub", KEY)]);
    let error = LocalKeys::read(place.path(), &[]).unwrap_err().to_string();
    assert!(error.contains("ssh-keygen -A"), "{error}");
}
