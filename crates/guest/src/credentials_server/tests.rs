use super::*;
use crate::http::{Client, Reply};
use crate::metadata::tests::{Script, answer, settings};
use std::os::unix::fs::PermissionsExt;

const DOCUMENT: &str = r#"{ "Code" : "Success", "AccessKeyId" : "ASIAQNZGKIQY56JQ7WML",
    "SecretAccessKey" : "SECRET", "Token" : "TOKEN", "Expiration" : "2026-11-23T11:49:00Z" }"#;

/// A server whose metadata service gives these answers after it has said that it knows no tokens.
async fn served(answers: Vec<String>) -> (String, Script, watch::Sender<bool>) {
    let script = Script::start([vec![answer(404, "", "")], answers].concat()).await;
    let token = Secret::new("a-token-of-this-test".into());
    let server = CredentialsServer::open("127.0.0.1:0".parse().unwrap(), token).await.unwrap();
    let (url, settings) = (server.url(), settings(&script.url()));
    let (end, ended) = watch::channel(false);
    tokio::spawn(async move { server.serve(&settings, ended).await });
    (url, script, end)
}

async fn ask(url: &str, method: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Client::new(crate::http::Limits::METADATA, None).call(request.body(Bytes::new()).unwrap()).await.unwrap()
}

const GOOD: (&str, &str) = ("authorization", "a-token-of-this-test");

#[tokio::test]
async fn who_shows_the_token_is_given_credentials() {
    let (url, script, _end) = served(vec![answer(200, "", DOCUMENT)]).await;
    let reply = ask(&url, "GET", &[GOOD]).await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        std::str::from_utf8(&reply.body).unwrap(),
        r#"{"AccessKeyId":"ASIAQNZGKIQY56JQ7WML","SecretAccessKey":"SECRET","Token":"TOKEN","Expiration":"2026-11-23T11:49:00Z"}"#
    );
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert_eq!(ask(&url, "GET", &[GOOD]).await.status, 200, "repeated for a moment");
    assert_eq!(script.seen().len(), 2);
}

#[tokio::test]
async fn who_does_not_is_given_nothing_and_nobody_is_asked() {
    let (url, script, _end) = served(vec![answer(200, "", DOCUMENT)]).await;
    let other = url.replace("/v1/credentials", "/v1/other");
    for (url, method, headers, status) in [
        (&url, "GET", vec![], 401),
        (&url, "GET", vec![("authorization", "")], 401),
        (&url, "GET", vec![("authorization", "a-token-of-this-tesT")], 401),
        (&url, "GET", vec![("authorization", "a-token-of-this-test2")], 401),
        (&url, "GET", vec![("authorization", "Bearer a-token-of-this-test")], 401),
        (&url, "GET", vec![GOOD, GOOD], 401),
        (&url, "GET", vec![GOOD, ("x-forwarded-for", "10.0.0.1")], 403),
        (&other, "GET", vec![], 401),
        (&other, "GET", vec![GOOD], 404),
        (&url, "POST", vec![GOOD], 405),
    ] {
        let reply = ask(url, method, &headers).await;
        assert_eq!(reply.status, status, "{method} {url} {headers:?}");
        assert!(!String::from_utf8_lossy(&reply.body).contains("SECRET"));
    }
    assert!(script.seen().is_empty());
}

#[tokio::test]
async fn a_metadata_service_that_fails_is_told_and_not_remembered() {
    let failing = (0..3).map(|_| answer(404, "", ""));
    let (url, _script, _end) = served(failing.chain([answer(200, "", DOCUMENT)]).collect()).await;
    let reply = ask(&url, "GET", &[GOOD]).await;
    assert_eq!(reply.status, 500);
    assert!(String::from_utf8_lossy(&reply.body).contains("security-credentials"));
}

#[tokio::test]
async fn addresses_that_others_reach_are_refused() {
    for address in ["0.0.0.0:0", "10.0.0.1:0", "[::]:0", "169.254.170.2:0"] {
        let error = CredentialsServer::open(address.parse().unwrap(), Secret::new("x".repeat(16))).await.unwrap_err();
        assert!(matches!(error, ServeError::NotLoopback(_)), "{error}");
    }
}

#[test]
fn tokens_and_their_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let token = token_from(&path).unwrap();
    assert_eq!((token.expose().len(), fs::metadata(&path).unwrap().mode() & 0o777), (64, 0o600));
    assert_eq!(token_from(&path).unwrap().expose(), token.expose(), "the same after a restart");
    assert_ne!(token_from(&directory.path().join("other")).unwrap().expose(), token.expose());
    let chmod = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o640, 0o604, 0o660] {
        chmod(mode);
        assert!(matches!(token_from(&path), Err(ServeError::Exposed(_))), "{mode:o}");
    }
    chmod(0o600);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(token_from(&link), Err(ServeError::Exposed(_))));
    assert!(matches!(token_from(Path::new("/nonexistent/token")), Err(ServeError::TokenFile { .. })));
}

#[test]
fn tokens_below_at_and_above_the_limits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    token_from(&path).unwrap();
    for (length, good) in [
        (TOKEN_LENGTH_MIN - 1, false),
        (TOKEN_LENGTH_MIN, true),
        (TOKEN_LENGTH_MAX, true),
        (TOKEN_LENGTH_MAX + 1, false),
    ] {
        fs::write(&path, "x".repeat(length) + "\n").unwrap();
        assert_eq!(token_from(&path).is_ok(), good, "{length}");
    }
    fs::write(&path, "a token with spaces in it").unwrap();
    assert!(matches!(token_from(&path), Err(ServeError::Token(_))));
}
