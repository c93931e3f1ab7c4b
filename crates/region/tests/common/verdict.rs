//! What a server tells a caller of itself, and waiting until it does.

use core::time::Duration;

use super::{Running, Signer, WHOAMI, between, call};

/// Longer than any machine needs, however loaded.
const LONG: Duration = Duration::from_secs(60);

/// Waits until something is so, which it will be whatever else the machine does.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("{what}: not in {LONG:?}"));
}

/// The status of `GetCallerIdentity`, and the code of its error.
pub async fn whoami(at: &Running, signer: &Signer) -> (u16, String) {
    let reply = at.send(signer, &call("sts", WHOAMI)).await;
    let code = if reply.status == 200 { String::new() } else { between(&reply.body, "<Code>", "</Code>").to_owned() };
    (reply.status, code)
}

/// The same, once it can tell: a server that did not hear in time what is new says 503, which says nothing of the caller.
pub async fn verdict(at: &Running, signer: &Signer) -> (u16, String) {
    let mut told = whoami(at, signer).await;
    until("it can tell", async || {
        if told.0 == 503 {
            told = whoami(at, signer).await;
        }
        told.0 != 503
    })
    .await;
    told
}

/// How long something takes must be shorter than this once in three times: a busy computer is slow now and then; what waits too long
/// always is.
pub async fn within(bound: Duration, mut measured: impl AsyncFnMut() -> Duration) {
    let mut times = Vec::new();
    while times.last().is_none_or(|time| *time >= bound) {
        assert!(times.len() < 3, "{times:?}");
        times.push(measured().await);
    }
}

pub fn good() -> (u16, String) {
    (200, String::new())
}

pub fn expired() -> (u16, String) {
    (403, "ExpiredToken".to_owned())
}

pub fn unknown() -> (u16, String) {
    (403, "InvalidClientTokenId".to_owned())
}
