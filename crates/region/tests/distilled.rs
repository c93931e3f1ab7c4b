//! What went wrong elsewhere, as public issues tell it, over a real connection: one test for each that takes a whole
//! server. Those that the signature alone decides are in `inborn-sigv4`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::*;
use inborn_identity::UnixTime;
use inborn_sigv4::sign::{Credentials, Target, presign};
use inborn_sigv4::{Header, PathMode, Request};

const HOST: &str = "sts.eu-central-1.amazonaws.com";

/// A presigned call of GetCallerIdentity without a body.
fn presigned(signer: &Signer, method: &str, headers: &[(&str, &str)], now: UnixTime) -> String {
    let mut all = vec![("host", HOST)];
    all.extend(headers);
    let fields: Vec<_> =
        all.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }).collect();
    let unsigned = Request { method, path: b"/", query: WHOAMI.as_bytes(), headers: &fields };
    let credentials = Credentials {
        access_key_id: &signer.access_key_id,
        secret_access_key: signer.secret.as_bytes(),
        session_token: signer.token.as_deref(),
    };
    let target = Target { region: "eu-central-1", service: "sts", path_mode: PathMode::Normalized };
    let query = presign(&unsigned, b"", &credentials, &target, 60, now).unwrap();
    let mut text = format!("{method} /?{query} HTTP/1.1\r\n");
    for (name, value) in all {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("content-length: 0\r\nconnection: close\r\n\r\n");
    text
}

fn code(reply: &Reply) -> (u16, &str) {
    (reply.status, if reply.status == 200 { "" } else { between(&reply.body, "<Code>", "</Code>") })
}

fn message(reply: &Reply) -> &str {
    between(&reply.body, "<Message>", "</Message>")
}

/// boto/boto3#756: botocore presigns a POST without a body, EKS a GET.
#[tokio::test]
async fn post_presign_against_get() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    for (signed, sent) in [("GET", "GET"), ("POST", "POST"), ("GET", "POST"), ("POST", "GET")] {
        let text = presigned(&machine, signed, &[], NOW).replacen(signed, sent, 1);
        let expected = if signed == sent { (200, "") } else { (403, "SignatureDoesNotMatch") };
        let reply = exchange(running.address, &text).await;
        assert_eq!(code(&reply), expected, "signed for {signed}, sent as {sent}: {}", reply.body);
    }
}

/// kubernetes-sigs/aws-iam-authenticator: the tokens say 60 seconds and are good for 15 minutes, to the second.
#[tokio::test]
async fn skew_on_both_sides_to_the_second() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    for (signed_at, expected) in [
        (NOW.minus(900), (200, "")),
        (NOW.minus(901), (403, "SignatureDoesNotMatch")),
        (NOW.plus(900), (200, "")),
        (NOW.plus(901), (403, "SignatureDoesNotMatch")),
    ] {
        let text = presigned(&machine, "GET", &[("x-k8s-aws-id", "cluster")], signed_at);
        let reply = exchange(running.address, &text).await;
        assert_eq!(code(&reply), expected, "{}", reply.body);
    }
}

/// A presigned request that somebody gave a body is another request.
#[tokio::test]
async fn body_added_to_a_presigned_post() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    let text = presigned(&machine, "POST", &[], NOW);
    let form = format!("content-type: {FORM}\r\ncontent-length: 9\r\n");
    let text = format!("{}Injected=", text.replace("content-length: 0\r\n", &form));
    assert_eq!(code(&exchange(running.address, &text).await), (403, "SignatureDoesNotMatch"));
}

#[tokio::test]
async fn copied_signature_with_another_host() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    let good = running.signed(&machine, &call("sts", WHOAMI));
    assert_eq!(exchange(running.address, &good).await.status, 200);
    for text in [good, presigned(&machine, "GET", &[], NOW)] {
        for other in ["sts.amazonaws.com", "sts.eu-central-1.amazonaws.com:443", "localhost"] {
            let text = text.replace(&format!("host: {HOST}\r\n"), &format!("host: {other}\r\n"));
            assert_eq!(code(&exchange(running.address, &text).await), (403, "SignatureDoesNotMatch"), "{other}");
        }
    }
}

/// The token of another machine, or a changed one, does not get as far as the signature: no full stop at the end.
#[tokio::test]
async fn tampered_token() {
    let running = start().await;
    let (machine, other) = (running.machine(running.launch().await), running.machine(running.launch().await));
    let token = machine.token.clone().unwrap();
    let changed = format!("{}{}", &token[..token.len() - 1], if token.ends_with('A') { "B" } else { "A" });
    for token in [other.token.unwrap(), changed, token[1..].to_owned(), "x".to_owned()] {
        let signer = Signer { token: Some(token), ..machine.clone() };
        let header = running.send(&signer, &call("sts", WHOAMI)).await;
        let query = exchange(running.address, &presigned(&signer, "GET", &[], NOW)).await;
        for reply in [header, query] {
            assert_eq!(code(&reply), (403, "InvalidClientTokenId"));
            assert_eq!(message(&reply), "The security token included in the request is invalid");
        }
    }
}

/// Stores of the kind of s3s let it pass: a temporary key that comes without its token is unknown. With a full stop.
#[tokio::test]
async fn temporary_key_without_a_token() {
    let running = start().await;
    let machine = Signer { token: None, ..running.machine(running.launch().await) };
    let header = running.send(&machine, &call("sts", WHOAMI)).await;
    let query = exchange(running.address, &presigned(&machine, "GET", &[], NOW)).await;
    for reply in [header, query] {
        assert_eq!(code(&reply), (403, "InvalidClientTokenId"));
        assert_eq!(message(&reply), "The security token included in the request is invalid.");
    }
}

#[tokio::test]
async fn credential_with_a_slash_inside_the_key_id() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    let text = running.signed(&machine, &call("sts", WHOAMI)).replace("Credential=ASIA", "Credential=AS/IA");
    let reply = exchange(running.address, &text).await;
    assert_eq!(code(&reply), (400, "IncompleteSignature"));
    assert!(message(&reply).starts_with("Credential must have exactly 5 slash-delimited elements"), "{}", reply.body);
}

/// rustfs/rustfs#7796: what nobody signed changes nothing. An action in an unsigned header is none.
#[tokio::test]
async fn unsigned_header_injection() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    let good = running.signed(&machine, &call("sts", WHOAMI));
    for field in ["x-amz-target: AmazonSSM.GetParameters", "x-amz-security-token-2: t", "x-amz-acl: public-read"] {
        let text = good.replacen("\r\nhost: ", &format!("\r\n{field}\r\nhost: "), 1);
        let reply = exchange(running.address, &text).await;
        assert!(reply.status == 200 && reply.body.contains("<GetCallerIdentityResult>"), "{field}: {}", reply.body);
    }
    let text = good.replacen("\r\nhost: ", "\r\nx-amz-content-sha256: UNSIGNED-PAYLOAD\r\nhost: ", 1);
    assert_eq!(code(&exchange(running.address, &text).await), (403, "SignatureDoesNotMatch"));
}

/// seaweedfs/seaweedfs#6092: JavaScript's SDK adds a slash to an endpoint below a path. The path is verified as sent.
#[tokio::test]
async fn sub_path_prefix() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    let good = running.signed(&machine, &call("sts", WHOAMI));
    let text = good.replacen("POST / ", "POST /sts/ ", 1);
    assert_eq!(code(&exchange(running.address, &text).await), (403, "SignatureDoesNotMatch"));
}

/// seaweedfs/seaweedfs#8434
#[tokio::test]
async fn port_is_kept() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    for host in ["sts.eu-central-1.amazonaws.com:443", "sts.eu-central-1.amazonaws.com:80", "localhost:4580"] {
        let call = Call { host: host.to_owned(), ..call("sts", WHOAMI) };
        assert_eq!(running.send(&machine, &call).await.status, 200, "{host}");
    }
}

/// What a decompressing layer gets wrong : `amz-1.0`, which the host-key script sends, names no compression,
/// and no other name makes anything here be decompressed. What arrived is what is hashed and read.
#[tokio::test]
async fn content_encoding_changes_nothing() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    for encoding in ["amz-1.0", "gzip", "deflate, br"] {
        let mut call = call("sts", WHOAMI);
        call.headers.push(("content-encoding", encoding.to_owned()));
        assert_eq!(running.send(&machine, &call).await.status, 200, "{encoding}");
    }
}

/// The first of AWS's steps: a target that is none has a bare 400, ahead of the bare visitor's 302 and of what the query
/// says.
#[tokio::test]
async fn a_path_that_is_none_is_told_first() {
    let running = start().await;
    for target in ["/%zz", "/%", "/%zz?Action=%zz", "/a%4?Action=GetCallerIdentity"] {
        let text = format!("GET {target} HTTP/1.1\r\nhost: sts.amazonaws.com\r\nconnection: close\r\n\r\n");
        let reply = exchange(running.address, &text).await;
        assert_eq!((reply.status, &*reply.body), (400, ""), "{target}");
        assert!(reply.header("date").is_some() && reply.header("x-amzn-requestid").is_some());
    }
}

/// apache/ozone#4473
#[tokio::test]
async fn missing_signed_header_is_an_error_and_no_panic() {
    let running = start().await;
    let machine = running.machine(running.launch().await);
    let mut call = call("sts", WHOAMI);
    call.headers.push(("x-team", "one".to_owned()));
    let good = running.signed(&machine, &call);
    let text = good.replacen("x-team: one\r\n", "", 1);
    let reply = exchange(running.address, &text).await;
    assert_eq!(code(&reply), (403, "SignatureDoesNotMatch"));
    assert_eq!(message(&reply), "The signed header 'x-team' is not part of the request.");
    assert_eq!(exchange(running.address, &good).await.status, 200, "and the server goes on");
}
