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

pub fn good() -> (u16, String) {
    (200, String::new())
}

pub fn expired() -> (u16, String) {
    (403, "ExpiredToken".to_owned())
}

pub fn unknown() -> (u16, String) {
    (403, "InvalidClientTokenId".to_owned())
}
