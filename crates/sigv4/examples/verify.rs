//! Verifies a request that it is given as text on its input, method and target first, then the header fields, an empty
//! line and the body; says who signed it, or what is wrong.
//!
//! ```sh
//! cargo run -p inborn-sigv4 --example verify < request.txt
//! ```
//!
//! Without input it verifies the request below, at the moment that it was signed.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program prints, and asks the clock")]

use std::error::Error;
use std::io::{IsTerminal as _, Read as _, stdin};
use std::time::{SystemTime, UNIX_EPOCH};

use inborn_identity::UnixTime;
use inborn_sigv4::{Endpoint, Expires, Fault, Header, PathMode, Presented, Request, Scratch, SigningKey, sha256};

const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const SAMPLE: &str = "GET /?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256\
&X-Amz-Credential=ASIAIOSFODNN7EXAMPLE%2F20261123%2Fus-east-1%2Fsts%2Faws4_request\
&X-Amz-Date=20261123T052900Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id\
&X-Amz-Security-Token=abc\
&X-Amz-Signature=c0bc8350e99d7af40d699a6fec1bfe94f2704eafb1c2ac19743f9c3739aa9ced
host: sts.us-east-1.amazonaws.com
x-k8s-aws-id: c

";

fn main() -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    if !stdin().is_terminal() {
        stdin().read_to_string(&mut text)?;
    }
    let mut now = UnixTime::from_secs(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    if text.is_empty() {
        SAMPLE.clone_into(&mut text);
        now = UnixTime::parse_basic(b"20261123T052900Z")?;
    }

    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let (method, target) = lines.next().and_then(|line| line.split_once(' ')).ok_or("no method and target")?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let fields = lines.map(|line| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value)));
    let fields = fields.collect::<Option<Vec<_>>>().ok_or("a header field without a colon")?;
    let headers: Vec<_> =
        fields.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }).collect();
    let request = Request { method, path: path.as_bytes(), query: query.as_bytes(), headers: &headers };

    let mut scratch = Scratch::new();
    match verify(&request, body.as_bytes(), now, &mut scratch) {
        Ok(access_key_id) => println!("signed with the key {access_key_id}"),
        Err(fault) => {
            println!("{:?}: {fault}", fault.class());
            // Beside what the client computed, this shows the difference.
            println!("{}", String::from_utf8_lossy(scratch.canonical_request()));
        }
    }
    Ok(())
}

fn verify(request: &Request<'_>, body: &[u8], now: UnixTime, scratch: &mut Scratch) -> Result<String, Fault> {
    let endpoint = Endpoint {
        service: "sts",
        regions: &["us-east-1"],
        path_mode: PathMode::Normalized,
        skew_seconds: 900,
        query_auth: true,
        expires: Expires::Ignored,
    };
    let presented = Presented::accept(request, &endpoint, now)?;
    // Here a server looks up the secret of `presented.access_key_id()`, and opens `presented.token()`.
    let scope = presented.scope();
    let key = SigningKey::derive(SECRET, scope.date.as_bytes(), scope.region, scope.service);
    presented.verify(request, &sha256(body), endpoint.path_mode, &key, scratch)?;
    Ok(presented.access_key_id().to_owned())
}
