//! Signs a call of GetCallerIdentity and prints it as a `curl` command, in the header or, with `--presign`, in the query.
//!
//! ```sh
//! AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… cargo run -p inborn-sigv4 --example sign -- --presign
//! ```
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program prints, and asks the clock")]

use std::env;
use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use inborn_identity::UnixTime;
use inborn_sigv4::sign::{Credentials, Target, presign, sign};
use inborn_sigv4::{Header, PathMode, Request};

const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

fn main() -> Result<(), Box<dyn Error>> {
    let variable = |name: &str, example: &str| env::var(name).unwrap_or_else(|_| example.to_owned());
    let access_key_id = variable("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE");
    let secret = variable("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    let session_token = env::var("AWS_SESSION_TOKEN").ok();
    let region = variable("AWS_REGION", "us-east-1");
    let host = format!("sts.{region}.amazonaws.com");
    let now = UnixTime::from_secs(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());

    let credentials = Credentials {
        access_key_id: &access_key_id,
        secret_access_key: secret.as_bytes(),
        session_token: session_token.as_deref(),
    };
    let target = Target { region: &region, service: "sts", path_mode: PathMode::Normalized };
    let host_field = Header { name: b"host", value: host.as_bytes() };
    if env::args().any(|argument| argument == "--presign") {
        let request = Request { method: "GET", path: b"/", query: BODY.as_bytes(), headers: &[host_field] };
        let query = presign(&request, b"", &credentials, &target, 900, now)?;
        println!("curl 'https://{host}/?{query}'");
        return Ok(());
    }
    let headers = [host_field, Header { name: b"content-type", value: FORM.as_bytes() }];
    let request = Request { method: "POST", path: b"/", query: b"", headers: &headers };
    println!("curl https://{host}/ \\\n  -d '{BODY}' \\\n  -H 'content-type: {FORM}' \\");
    let added = sign(&request, BODY.as_bytes(), &credentials, &target, now)?;
    let fields: Vec<_> = added.iter().map(|(name, value)| format!("  -H '{name}: {value}'")).collect();
    println!("{}", fields.join(" \\\n"));
    Ok(())
}
