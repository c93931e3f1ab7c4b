//! `inborn epoch`: the generations of the keys that credentials are made with. Operations of ours, signed by the operator.

use std::io::Write;

use anyhow::Context;
use clap::{Args, Subcommand};
use roxmltree::Document;
use serde_json::{Value, json};

use crate::arguments::{Output, Region};
use crate::operator::{Local, Operator};
use crate::output;

pub(crate) const EPOCH_HELP: &str = "\
Credentials are computed from an epoch, 32 secret bytes. A new epoch takes the place of the present one in stages: published, \
once every region server verifies with it acknowledged, then sealing from a moment twenty minutes ahead; what was issued \
before stays good until its own end, and then the old one is retired and its bytes are forgotten. By itself that happens every \
90 days (`up --epoch-days`).

Revoking an epoch ends everything that it sealed at once: machines fetch new credentials, control channels and sessions are \
closed. For when its bytes may have got into other hands.

Examples:
  inborn epoch list
  inborn epoch rotate
  inborn epoch revoke 3";

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
    }
}

async fn list(arguments: &List) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let answer = operator.call("Inborn.DescribeEpochs", &[]).await?;
    let document = Document::parse(&answer).context("the region's answer is not XML")?;
    let set = document.root_element().child("epochSet").context("the region's answer has no epochs")?;
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
    Ok(())
}
