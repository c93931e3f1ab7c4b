//! `inborn hosts`, `inborn host`: hosts apart from their region. Operations of ours, signed by the operator.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use roxmltree::{Document, Node};
use serde_json::{Value, json};

use crate::arguments::{Output, Region};
use crate::host_agent;
use crate::operator::{Local, Operator};
use crate::output;

pub(crate) const HOST_HELP: &str = "\
A host joins with a token: a secret that is good once and not for long. It is given finished credentials of the machines that \
are placed on it (`aws ec2 run-instances --placement HostId=h-…`), and nothing that credentials are made from.

Evicting a host cuts it off for good, at once and at every region server: nothing is given to it any more, what was given to \
its machines is refused, and they are terminated. For when it was stolen, or is no more.

Examples:
  inborn host token --account 123456789012
  inborn host drain h-0123456789abcdef0
  inborn host evict h-0123456789abcdef0";

#[derive(Debug, Args)]
pub(crate) struct Hosts {
    #[command(flatten)]
    region: Region,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Host {
    #[command(subcommand)]
    command: Option<HostCommand>,
    #[command(flatten)]
    serve: host_agent::Serve,
}

impl Host {
    /// What serves until it is stopped, rather than asks and is done.
    pub(crate) const fn serves(&self) -> bool {
        self.command.is_none()
    }
}

#[derive(Debug, Subcommand)]
enum HostCommand {
    /// Let this computer join a region as a host, with a token that its operator has made
    #[command(after_help = host_agent::JOIN_HELP)]
    Join(host_agent::Join),
    /// Show what this host serves, and when it last heard its region
    Status(host_agent::Status),
    /// Print a token that lets one host join, once
    Token(Token),
    /// Revoke all tokens that were printed and not used yet: one may be in other hands
    RevokeTokens(Region),
    /// Let a host keep the machines it has, and give it no more
    Drain(Named),
    /// Cut a host off for good, with all that was given to it; its machines are terminated
    Evict(Named),
}

#[derive(Debug, Args)]
struct Token {
    #[command(flatten)]
    region: Region,
    /// Accounts whose machines may be placed on the host, with commas between them [default: the operator's own]
    #[arg(long = "account", value_name = "ACCOUNT", value_delimiter = ',')]
    accounts: Vec<String>,
    /// For how long the token is good: 60 to 86400 [default: 900]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u32>,
}

#[derive(Debug, Args)]
struct Named {
    #[command(flatten)]
    region: Region,
    /// The host's id, as in h-0123456789abcdef0
    #[arg(value_name = "HOST")]
    id: String,
}

pub(crate) async fn host(arguments: &Host) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    let Some(command) = &arguments.command else { return host_agent::serve(&arguments.serve).await };
    match command {
        HostCommand::Status(arguments) => host_agent::status(arguments).await.map(done),
        HostCommand::Join(arguments) => host_agent::join(arguments).await,
        HostCommand::Token(arguments) => token(arguments).await.map(done),
        HostCommand::RevokeTokens(region) => revoke_tokens(region).await.map(done),
        HostCommand::Drain(named) => change("Inborn.DrainHost", named).await.map(done),
        HostCommand::Evict(named) => change("Inborn.EvictHost", named).await.map(done),
    }
}

async fn token(arguments: &Token) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let accounts = arguments.accounts.iter().enumerate();
    let mut parameters: Vec<(String, String)> =
        accounts.map(|(index, account)| (format!("AccountId.{}", index + 1), account.clone())).collect();
    parameters.extend(arguments.seconds.map(|seconds| ("Seconds".to_owned(), seconds.to_string())));
    let answer = operator.call("Inborn.CreateJoinToken", &parameters).await?;
    let document = Document::parse(&answer).context("the region's answer is not XML")?;
    writeln!(std::io::stdout().lock(), "{}", document.root_element().child_text("joinToken"))?;
    Ok(())
}

async fn revoke_tokens(region: &Region) -> anyhow::Result<()> {
    let answer = Operator::find(region).await?.call("Inborn.RevokeJoinTokens", &[]).await?;
    let document = Document::parse(&answer).context("the region's answer is not XML")?;
    let count = document.root_element().child_text("revokedTokenCount");
    writeln!(
        std::io::stdout().lock(),
        "{count} tokens were revoked: hosts that have joined stay (see `inborn hosts`)"
    )?;
    Ok(())
}

async fn change(action: &str, named: &Named) -> anyhow::Result<()> {
    let operator = Operator::find(&named.region).await?;
    operator.call(action, &[("HostId".to_owned(), named.id.clone())]).await.map(drop)
}

pub(crate) async fn hosts(arguments: &Hosts) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let answer = operator.call("Inborn.DescribeHosts", &[]).await?;
    let document = Document::parse(&answer).context("the region's answer is not XML")?;
    let set = document.root_element().child("hostSet").context("the region's answer has no hosts")?;
    let items: Vec<_> = set.children().filter(|node| node.has_tag_name_local("item")).collect();
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => {
            let all = Value::Array(items.into_iter().map(to_json).collect());
            writeln!(out, "{:#}", output::Json(&all))?;
        }
        Output::Table => {
            let rows: Vec<[String; 6]> = items.into_iter().map(to_row).collect();
            output::table(&mut out, ["HOST", "NAME", "STATE", "MACHINES", "SEEN", "ACCOUNTS"], &rows)?;
        }
    }
    Ok(())
}

fn accounts(item: Node<'_, '_>) -> Vec<String> {
    let set = item.child("accountSet").into_iter().flat_map(|set| set.children());
    set.filter(|node| node.is_element()).map(|account| account.child_text("accountId")).collect()
}

fn time(item: Node<'_, '_>, name: &str) -> String {
    item.child_text(name).replace(".000Z", "Z")
}

/// By its own quarantine; its machines may be in another, too.
fn is_quarantined(item: Node<'_, '_>) -> bool {
    item.child_text("isQuarantined") == "true"
}

fn to_json(item: Node<'_, '_>) -> Value {
    json!({
        "host_id": item.child_text("hostId"),
        "name": item.child_text("name"),
        "state": item.child_text("state"),
        "is_quarantined": is_quarantined(item),
        "accounts": accounts(item),
        "machines": item.child_text("instanceCount").parse::<u64>().ok(),
        "joined": time(item, "joinTime"),
        "seen": time(item, "seenTime"),
    })
}

fn to_row(item: Node<'_, '_>) -> [String; 6] {
    let [id, name, mut state, count] = ["hostId", "name", "state", "instanceCount"].map(|name| item.child_text(name));
    if is_quarantined(item) {
        state.push_str(", quarantine");
    }
    [id, name, state, count, time(item, "seenTime"), accounts(item).join(", ")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_host() {
        let text = r#"<R xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><item><hostId>h-1</hostId><name>kvm-1</name>
            <state>active</state><accountSet><item><accountId>000000000007</accountId></item>
            <item><accountId>000000000042</accountId></item></accountSet><instanceCount>3</instanceCount>
            <joinTime>2026-11-27T05:00:00.000Z</joinTime><seenTime>2026-11-27T06:00:00.000Z</seenTime></item></R>"#;
        let document = Document::parse(text).unwrap();
        let item = document.root_element().child("item").unwrap();
        let row = ["h-1", "kvm-1", "active", "3", "2026-11-27T06:00:00Z", "000000000007, 000000000042"];
        assert_eq!(to_row(item), row.map(str::to_owned));
        assert_eq!(to_json(item)["is_quarantined"], json!(false), "a region of before does not say");
        assert_eq!((&to_json(item)["machines"], &to_json(item)["accounts"][1]), (&json!(3), &json!("000000000042")));
        let text = text.replace("</state>", "</state><isQuarantined>true</isQuarantined>");
        let document = Document::parse(&text).unwrap();
        let item = document.root_element().child("item").unwrap();
        assert_eq!((to_row(item)[2].as_str(), &to_json(item)["is_quarantined"]), ("active, quarantine", &json!(true)));
    }
}
