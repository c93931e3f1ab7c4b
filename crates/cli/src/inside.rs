//! What runs inside a machine: `inborn credentials` and `inborn whoami`.

use std::io::Write;

use inborn_guest::{MetadataClient, Settings};
use inborn_identity::Clock;
use serde_json::json;

use crate::arguments::{Output, WhoAmI};
use crate::clock::SystemClock;
use crate::output;

/// Prints what an AWS `credential_process` prints.
pub(crate) async fn credentials() -> anyhow::Result<()> {
    let mut metadata = MetadataClient::new(&settings()?);
    let credentials = inborn_guest::credentials(&mut metadata).await?;
    let mut out = std::io::stdout().lock();
    out.write_all(credentials.process_json().as_bytes())?;
    writeln!(out)?;
    Ok(())
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
            writeln!(out, "{facts:#}")?;
        }
        Output::Table => output::fields(
            &mut out,
            &[("arn", &identity.arn), ("user id", &identity.user_id), ("account", &identity.account)],
        )?,
    }
    Ok(())
}
