use super::*;
use crate::metadata::tests::{Script, answer, settings};
use inborn_ssh::{PublicKey, verify_proof};
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

/// One that the region would refuse, and all with it, keeps nobody from being known by the others.
#[tokio::test]
async fn a_key_that_no_region_takes_is_left_out_and_named() {
    let place = directory(&[("ssh_host_ed25519_key.pub", KEY), ("ssh_host_broken_key.pub", "ssh-ed25519 AAAA x")]);
    keygen(&place.path().join("ssh_host_rsa_key"), &["rsa", "-b", "1024"]);
    let keys = LocalKeys::read(place.path(), &[]).unwrap();
    let (pushed, seen) = ask(&keys, answer(200, "", r#"{"Outcome":"first","Digest":"x"}"#)).await;
    let left_out = pushed.unwrap().left_out;
    let [broken, short] = left_out.as_slice() else { panic!("{left_out:?}") };
    assert!(
        broken.ends_with("ssh_host_broken_key.pub: this is not a public key in OpenSSH's form (TYPE BASE64 COMMENT)")
    );
    assert!(short.ends_with("ssh_host_rsa_key.pub: an RSA key has 2048 to 8192 bits, this one has 1024"), "{short}");
    let (_, body) = seen[0].split_once("\r\n\r\n").unwrap();
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["HostKeys"], json!([KEY]));

    std::fs::remove_file(place.path().join("ssh_host_ed25519_key.pub")).unwrap();
    let error = LocalKeys::read(place.path(), &[]).unwrap_err().to_string();
    assert!(error.contains("can be published: ") && error.contains(", this one has 1024; `ssh-keygen -A`"), "{error}");
}

fn keygen(path: &Path, kind: &[&str]) {
    let mut command = std::process::Command::new("ssh-keygen");
    command.args(["-q", "-N", "", "-t"]).args(kind).arg("-f").arg(path);
    assert!(command.status().unwrap().success(), "ssh-keygen -t {kind:?}");
}

#[tokio::test]
async fn keys_of_kinds_that_are_not_taken_sign_nothing() {
    let place = directory(&[("ssh_host_dsa_key.pub", "ssh-dss AAAAB3NzaC1kc3MAAACBAP root@old")]);
    let path = |name: &str| place.path().join(name);
    keygen(&path("ssh_host_ed25519_key"), &["ed25519"]);
    // It could sign, and must not: its public half is passed over.
    std::fs::copy(path("ssh_host_ed25519_key"), path("ssh_host_dsa_key")).unwrap();
    keygen(&path("short"), &["rsa", "-b", "1024"]);
    keygen(&path("replaced"), &["ed25519"]);
    let keys = LocalKeys::read(place.path(), &[path("short"), path("replaced")]).unwrap();
    let (proofs, unproven) = keys.prove("message").await;
    let by = proofs.iter().map(|proof| verify_proof(proof, "message").unwrap());
    let public = |name: &str| PublicKey::parse(&std::fs::read_to_string(path(name)).unwrap()).unwrap();
    assert_eq!(by.collect::<Vec<_>>(), [public("ssh_host_ed25519_key.pub"), public("replaced.pub")]);
    assert_eq!(unproven.len(), 1, "{unproven:?}");
    assert!(unproven[0].contains("short: a proof is made by a key that may be a host key"), "{unproven:?}");
}
