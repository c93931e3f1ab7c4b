//! What runs inside a machine: `inborn credentials` and `inborn whoami`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use inborn_guest::credentials_server::{CredentialsServer, token_from};
use inborn_guest::{MetadataClient, Settings};
use inborn_identity::Clock;
use serde_json::json;
use tokio::sync::watch;

use crate::arguments::inside::Credentials;
use crate::arguments::{Output, WhoAmI};
use crate::clock::SystemClock;
use crate::output;
use crate::signals::StopSignals;

/// Prints what an AWS `credential_process` prints, or serves the same to SDKs.
pub(crate) async fn credentials(arguments: &Credentials) -> anyhow::Result<()> {
    if let Some(address) = arguments.serve {
        return serve(address, arguments.token_file.as_deref()).await;
    }
    let mut metadata = MetadataClient::new(&settings()?);
    let credentials = inborn_guest::credentials(&mut metadata).await?;
    let mut out = std::io::stdout().lock();
    out.write_all(credentials.process_json().as_bytes())?;
    writeln!(out)?;
    Ok(())
}

/// Prints the variables that point SDKs here, then answers until it is stopped. A token file that was not named is taken away.
async fn serve(address: SocketAddr, token_file: Option<&Path>) -> anyhow::Result<()> {
    let settings = settings()?;
    let own = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let own = own.join(format!("inborn-credentials-{}.token", std::process::id()));
    let path = std::path::absolute(token_file.unwrap_or(&own))?;
    if token_file.is_none() {
        // Left by a process of the same number: its token is nobody's any more.
        let _ = std::fs::remove_file(&path);
    }
    let server = CredentialsServer::open(address, token_from(&path)?).await?;
    let mut stop = StopSignals::catch()?;
    {
        let mut out = std::io::stdout().lock();
        writeln!(out, "export AWS_CONTAINER_CREDENTIALS_FULL_URI={}", server.url())?;
        writeln!(out, "export AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE={}", quoted(&path.to_string_lossy()))?;
        out.flush()?;
    }
    let (_end, ended) = watch::channel(false);
    tokio::select! {
        () = server.serve(&settings, ended) => {}
        () = stop.next() => {}
    }
    if token_file.is_none() {
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn settings() -> anyhow::Result<Settings> {
    Ok(Settings::read(|name| std::env::var(name).ok())?)
}

pub(crate) async fn whoami(arguments: &WhoAmI) -> anyhow::Result<()> {
    let identity = inborn_guest::whoami(&settings()?, SystemClock.now()).await?;
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => {
            let facts = json!({ "Account": identity.account, "Arn": identity.arn, "UserId": identity.user_id });
            writeln!(out, "{:#}", output::Json(&facts))?;
        }
        Output::Table => output::fields(
            &mut out,
            &[("arn", &identity.arn), ("user id", &identity.user_id), ("account", &identity.account)],
        )?,
    }
    Ok(())
}
