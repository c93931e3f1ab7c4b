//! `inborn epoch`: the generations of the keys that credentials are made with. Operations of ours, signed by the operator.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use inborn_identity::Clock;
use inborn_region::{KeySource, Rewrapped};
use inborn_store::{Heard, Store};
use roxmltree::Document;
use serde_json::{Value, json};

use crate::arguments::{Output, Region};
use crate::clock::SystemClock;
use crate::operator::{Local, Operator};
use crate::serving::{DATABASE, KEY_FILE};
use crate::store_url::StoreUrl;
use crate::{deployment, directory, output};

/// A server that was heard so lately may run.
const RUNNING_SECONDS: u64 = 60;

pub(crate) const EPOCH_HELP: &str = "\
Credentials are computed from an epoch, 32 secret bytes. A new epoch takes the place of the present one in stages: published, \
once every region server verifies with it acknowledged, then sealing from a moment twenty-one minutes ahead; what was issued \
before stays good until its own end, and then the old one is retired and its bytes are forgotten. By itself that happens every \
90 days (`up --epoch-days`).

Revoking an epoch ends everything that it sealed at once: machines fetch new credentials, control channels and sessions are \
closed. For when its bytes may have got into other hands.

Examples:
  inborn epoch list
  inborn epoch rotate
  inborn epoch revoke 3
  inborn epoch rewrap --new-key-file new.key";

#[derive(Debug, Args)]
pub(crate) struct Epoch {
    #[command(subcommand)]
    command: EpochCommand,
}

#[derive(Debug, Subcommand)]
enum EpochCommand {
    /// List epochs, how far each is, and which servers a rotation waits for
    List(List),
    /// Let a new epoch take the place of the present one, without ending anything
    Rotate(Rotate),
    /// End everything that an epoch sealed, at once
    Revoke(Revoke),
    /// While no server runs: seal all that is secret in the store under another key
    Rewrap(Rewrap),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    region: Region,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Args)]
struct Rotate {
    #[command(flatten)]
    region: Region,
}

#[derive(Debug, Args)]
struct Revoke {
    #[command(flatten)]
    region: Region,
    /// The number of the epoch
    #[arg(value_name = "NUMBER")]
    id: u32,
}

#[derive(Debug, Args)]
struct Rewrap {
    #[command(flatten)]
    region: Region,
    /// The store, if it is not the one in the data directory
    #[arg(long, env = "INBORN_STORE", value_name = "URL", hide_env_values = true)]
    store: Option<String>,
    /// The file with the present key [default: epoch.key in the data directory]
    #[arg(long, value_name = "FILE", conflicts_with = "key_command")]
    key_file: Option<PathBuf>,
    /// The program and its arguments, told apart by spaces, that prints the present key
    #[arg(long, env = "INBORN_KEY_COMMAND", value_name = "PROGRAM ARGS")]
    key_command: Option<String>,
    /// The file with the other key; made if it is not there
    #[arg(long, value_name = "FILE")]
    new_key_file: PathBuf,
}

pub(crate) async fn epoch(arguments: &Epoch) -> anyhow::Result<()> {
    match &arguments.command {
        EpochCommand::List(arguments) => list(arguments).await,
        EpochCommand::Rotate(arguments) => {
            let operator = Operator::find(&arguments.region).await?;
            let answer = operator.call("Inborn.RotateEpoch", &[]).await?;
            let document = Document::parse(&answer).context("the region's answer is not XML")?;
            writeln!(std::io::stdout().lock(), "{}", document.root_element().child_text("epochId"))?;
            Ok(())
        }
        EpochCommand::Revoke(arguments) => {
            let operator = Operator::find(&arguments.region).await?;
            let parameters = [("EpochId".to_owned(), arguments.id.to_string())];
            operator.call("Inborn.RevokeEpoch", &parameters).await.map(drop)
        }
        EpochCommand::Rewrap(arguments) => rewrap(arguments).await,
    }
}

async fn rewrap(arguments: &Rewrap) -> anyhow::Result<()> {
    let data = deployment::named_directory(&arguments.region)?.map_or_else(directory::default_path, Ok)?;
    let url = match &arguments.store {
        Some(url) => url.parse().map_err(anyhow::Error::msg)?,
        None => {
            let path = data.join(DATABASE);
            anyhow::ensure!(path.exists(), "there is no store {}: name its data directory with --data", path.display());
            StoreUrl::Sqlite(path)
        }
    };
    let state = data.clone();
    let old = match (&arguments.key_command, &arguments.key_file) {
        (Some(command), _) => {
            KeySource::Command { argv: command.split_ascii_whitespace().map(str::to_owned).collect(), state }
        }
        (None, Some(file)) => KeySource::File(file.clone()),
        (None, None) => KeySource::File(data.join(KEY_FILE)),
    };
    let store = url.open().await?;
    let outcome = rewrap_store(&store, &old, arguments).await;
    store.close().await?;
    let new = arguments.new_key_file.display();
    match outcome? {
        Rewrapped::Done(count) => writeln!(std::io::stdout().lock(), "{count} secrets are sealed under {new} now")?,
        Rewrapped::Before => writeln!(std::io::stdout().lock(), "all is sealed under {new} already")?,
    }
    Ok(())
}

async fn rewrap_store(store: &Arc<dyn Store>, old: &KeySource, arguments: &Rewrap) -> anyhow::Result<Rewrapped> {
    no_server_runs(&**store).await?;
    Ok(inborn_region::rewrap(store, old, &arguments.new_key_file).await?)
}

/// Refuses a store of which a server was heard lately.
pub(crate) async fn no_server_runs(store: &dyn Store) -> anyhow::Result<()> {
    let news = store.news(Heard::default()).await?;
    let since = SystemClock.now().minus(RUNNING_SECONDS);
    if let Some(node) = news.nodes.iter().find(|node| node.beaten_at >= since) {
        bail!(
            "the server {} has been heard in the last {RUNNING_SECONDS} s: stop all servers, wait so long, and begin again",
            output::printable(&node.name)
        );
    }
    Ok(())
}

async fn list(arguments: &List) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let answer = operator.call("Inborn.DescribeEpochs", &[]).await?;
    let document = Document::parse(&answer).context("the region's answer is not XML")?;
    let set = document.root_element().child("epochSet").context("the region's answer has no epochs")?;
    let apart = document.root_element().child("clocksApartSet");
    let apart = apart.into_iter().flat_map(|set| set.children()).filter(|node| node.has_tag_name_local("item"));
    let apart: Vec<String> = apart.map(|server| output::printable(&server.child_text("name"))).collect();
    let items = set.children().filter(|node| node.has_tag_name_local("item"));
    let all: Vec<Value> = items
        .map(|item| {
            let time = |name: &str| Some(item.child_text(name).replace(".000Z", "Z")).filter(|text| !text.is_empty());
            let waits = item.child("waitsForSet").into_iter().flat_map(|set| set.children());
            let waits: Vec<String> =
                waits.filter(|node| node.is_element()).filter_map(|node| node.text()).map(str::to_owned).collect();
            json!({
                "epoch": item.child_text("epochId").parse::<u32>().ok(),
                "state": item.child_text("state"),
                "created": time("created"),
                "seals_from": time("sealsFrom"),
                "ended": time("ended"),
                "waits_for": waits,
            })
        })
        .collect();
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => writeln!(out, "{:#}", output::Json(&Value::Array(all)))?,
        Output::Table => {
            let text = |epoch: &Value, name: &str| epoch.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
            let rows: Vec<[String; 6]> = all
                .iter()
                .map(|epoch| {
                    let number =
                        epoch.get("epoch").and_then(Value::as_u64).map_or_else(String::new, |id| id.to_string());
                    let waits = epoch.get("waits_for").and_then(Value::as_array);
                    let waits: Vec<&str> = waits.into_iter().flatten().filter_map(Value::as_str).collect();
                    let [state, created] = ["state", "created"].map(|name| text(epoch, name));
                    let [seals_from, ended] = ["seals_from", "ended"].map(|name| text(epoch, name));
                    [number, state, created, seals_from, ended, waits.join(", ")]
                })
                .collect();
            output::table(&mut out, ["EPOCH", "STATE", "CREATED", "SEALS FROM", "ENDED", "WAITS FOR"], &rows)?;
        }
    }
    if !apart.is_empty() {
        let servers = apart.join(", ");
        writeln!(
            std::io::stderr().lock(),
            "No epoch goes on: the clocks of the server that was asked and of {servers} are too far apart. Set the one that is wrong."
        )?;
    }
    Ok(())
}
