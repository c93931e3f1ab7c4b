//! `inborn account`, `inborn operator`: whose machines the region runs, and who may sign for them. Operations of ours, signed by an
//! operator.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use roxmltree::{Document, Node};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::arguments::{Output, Region};
use crate::directory::Ready;
use crate::operator::{Local, Operator};
use crate::output;

pub(crate) const ACCOUNT_HELP: &str = "\
Machines, key pairs, roles, documents, commands, sessions, findings and the rest are an account's: operators and machines of \
another neither see nor change them. The account that the region was started with is its own: only its operators make and close \
accounts, and decide about hosts and epochs.

Closing is for good: the account must have no machines, and from then on nobody of it is let in. Its id is not used again.

Examples:
  inborn account create 210987654321 --name research --default HttpTokensEnforced=enabled
  inborn operator create admin --account 210987654321 --file research.env
  inborn account list";

pub(crate) const OPERATOR_HELP: &str = "\
An operator is a key pair that may do everything in its account. The secret is shown once, when it is made: to standard output as \
lines for a shell, or with --file into a new file that only you may read.

A key that is disabled or deleted is refused by the server that was asked when the command ends, and by the others of its region \
within two seconds. Nobody can do that to the key that signs the call itself.

The commands of inborn sign with the key in the file that INBORN_OPERATOR names, or in operator.env in the data directory.

Examples:
  inborn operator create alice --file alice.env
  inborn operator create admin --account 210987654321 --file research.env
  INBORN_OPERATOR=research.env inborn ps
  inborn operator disable AKIA…";

#[derive(Debug, Args)]
pub(crate) struct Account {
    #[command(subcommand)]
    command: AccountCommand,
}

#[derive(Debug, Subcommand)]
enum AccountCommand {
    /// Make an account
    Create(CreateAccount),
    /// List the accounts, closed ones among them
    List(List),
    /// Close an account that has no machines, for good
    Close(Named),
}

#[derive(Debug, Args)]
struct CreateAccount {
    #[command(flatten)]
    region: Region,
    /// The account's id: 12 digits
    #[arg(value_name = "ACCOUNT")]
    id: String,
    /// What people call it: at most 50 characters
    #[arg(long)]
    name: Option<String>,
    /// What new machines of the account get that do not say otherwise, as in HttpTokens=required; KEY is HttpTokens, HttpEndpoint,
    /// HttpPutResponseHopLimit, InstanceMetadataTags or HttpTokensEnforced
    #[arg(long = "default", value_name = "KEY=VALUE", value_parser = default)]
    defaults: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct Named {
    #[command(flatten)]
    region: Region,
    /// The account's id
    #[arg(value_name = "ACCOUNT")]
    id: String,
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
pub(crate) struct Operators {
    #[command(subcommand)]
    command: OperatorCommand,
}

#[derive(Debug, Subcommand)]
enum OperatorCommand {
    /// Make an operator and show its key, this once
    Create(CreateOperator),
    /// List the operators of an account, or of all
    List(ListOperators),
    /// Let the key of an operator be good for nothing, until it is enabled
    Disable(Key),
    /// Let the key of an operator be good again
    Enable(Key),
    /// Let the key of an operator be good for nothing, for good
    Delete(Key),
}

#[derive(Debug, Args)]
struct CreateOperator {
    #[command(flatten)]
    region: Region,
    /// What it is called: 1 to 64 letters, digits and +=,.@_-
    #[arg(value_name = "NAME")]
    name: String,
    /// The account that it signs for [default: that of the key that signs the call]
    #[arg(long)]
    account: Option<String>,
    /// Write the key into this new file, which only you may read, instead of to standard output
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ListOperators {
    #[command(flatten)]
    list: List,
    /// Only those of this account
    #[arg(long)]
    account: Option<String>,
}

#[derive(Debug, Args)]
struct Key {
    #[command(flatten)]
    region: Region,
    /// The operator's access key id, as in AKIA…
    #[arg(value_name = "KEY")]
    key: String,
}

fn default(text: &str) -> Result<(String, String), String> {
    const KEYS: [&str; 5] =
        ["HttpTokens", "HttpEndpoint", "HttpPutResponseHopLimit", "InstanceMetadataTags", "HttpTokensEnforced"];
    match text.split_once('=') {
        Some((key, value)) if KEYS.contains(&key) => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("write KEY=VALUE, where KEY is one of {}", KEYS.join(", "))),
    }
}

pub(crate) async fn account(arguments: &Account) -> anyhow::Result<()> {
    match &arguments.command {
        AccountCommand::Create(arguments) => {
            let mut parameters = vec![("AccountId".to_owned(), arguments.id.clone())];
            parameters.extend(arguments.name.clone().map(|name| ("Name".to_owned(), name)));
            parameters.extend(arguments.defaults.iter().cloned());
            let operator = Operator::find(&arguments.region).await?;
            operator.call("Inborn.CreateAccount", &parameters).await.map(drop)
        }
        AccountCommand::List(arguments) => accounts(arguments).await,
        AccountCommand::Close(named) => {
            let operator = Operator::find(&named.region).await?;
            operator.call("Inborn.CloseAccount", &[("AccountId".to_owned(), named.id.clone())]).await.map(drop)
        }
    }
}

async fn accounts(arguments: &List) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.region).await?;
    let answer = operator.call("Inborn.DescribeAccounts", &[]).await?;
    let document = Document::parse(&answer).context("the region's answer is not XML")?;
    let items = items(&document, "accountSet")?;
    let heads = ["ACCOUNT", "NAME", "STATE", "MACHINES", "OPERATORS", "CREATED"];
    print(arguments.output, heads, &items, account_row, account_json)
}

pub(crate) async fn operators(arguments: &Operators) -> anyhow::Result<()> {
    match &arguments.command {
        OperatorCommand::Create(arguments) => create_operator(arguments).await,
        OperatorCommand::List(arguments) => list_operators(arguments).await,
        OperatorCommand::Disable(key) => change("Inborn.ModifyOperator", key, Some("disabled")).await,
        OperatorCommand::Enable(key) => change("Inborn.ModifyOperator", key, Some("enabled")).await,
        OperatorCommand::Delete(key) => change("Inborn.DeleteOperator", key, None).await,
    }
}

async fn create_operator(arguments: &CreateOperator) -> anyhow::Result<()> {
    let mut parameters = vec![("Name".to_owned(), arguments.name.clone())];
    parameters.extend(arguments.account.clone().map(|account| ("AccountId".to_owned(), account)));
    let operator = Operator::find(&arguments.region).await?;
    // Before the key is made: one that cannot be written down would be lost.
    let file = arguments.file.as_deref().map(new_file).transpose()?;
    let answer = match operator.call("Inborn.CreateOperator", &parameters).await {
        Ok(answer) => Zeroizing::new(answer),
        Err(error) => {
            // Nothing was written into it.
            arguments.file.iter().for_each(|path| drop(std::fs::remove_file(path)));
            return Err(error);
        }
    };
    let document = Document::parse(&answer).context("the region's answer is not XML")?;
    let lines = key_lines(document.root_element(), operator.ready());
    match (file, &arguments.file) {
        (Some(mut file), Some(path)) => {
            let written = file.write_all(lines.as_bytes()).and_then(|()| file.sync_all());
            written.with_context(|| format!("cannot write the key into {}: delete the operator", path.display()))
        }
        _ => Ok(std::io::stdout().lock().write_all(lines.as_bytes())?),
    }
}

fn new_file(path: &Path) -> anyhow::Result<std::fs::File> {
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.with_context(|| format!("cannot make the file {}: name one that is not there yet", path.display()))
}

/// The key as lines for a shell, as in `operator.env`.
fn key_lines(root: Node<'_, '_>, ready: &Ready) -> Zeroizing<String> {
    let text = |name: &str| root.child_text(name);
    let secret = Zeroizing::new(text("secretAccessKey"));
    let mut lines = Zeroizing::new(String::with_capacity(512));
    for line in [
        &format!("# {}, for the AWS CLI and SDKs, and for inborn as INBORN_OPERATOR\n", text("arn")),
        "unset AWS_SESSION_TOKEN AWS_PROFILE\n",
        &format!("export AWS_ACCESS_KEY_ID={}\n", text("accessKeyId")),
        "export AWS_SECRET_ACCESS_KEY=",
        &secret,
        &format!("\nexport AWS_REGION={0}\nexport AWS_DEFAULT_REGION={0}\n", ready.region),
        &format!("export AWS_ENDPOINT_URL={}\n", ready.endpoint),
    ] {
        lines.push_str(line);
    }
    lines
}

async fn list_operators(arguments: &ListOperators) -> anyhow::Result<()> {
    let operator = Operator::find(&arguments.list.region).await?;
    let named = arguments.account.clone().map(|account| ("AccountId".to_owned(), account));
    let answer = operator.call("Inborn.DescribeOperators", named.as_slice()).await?;
    let document = Document::parse(&answer).context("the region's answer is not XML")?;
    let items = items(&document, "operatorSet")?;
    print(arguments.list.output, ["KEY", "ACCOUNT", "NAME", "STATE", "CREATED"], &items, operator_row, operator_json)
}

async fn change(action: &str, key: &Key, state: Option<&str>) -> anyhow::Result<()> {
    let operator = Operator::find(&key.region).await?;
    let mut parameters = vec![("AccessKeyId".to_owned(), key.key.clone())];
    parameters.extend(state.map(|state| ("State".to_owned(), state.to_owned())));
    operator.call(action, &parameters).await.map(drop)
}

fn items<'a, 'i>(document: &'a Document<'i>, set: &str) -> anyhow::Result<Vec<Node<'a, 'i>>> {
    let set = document.root_element().child(set).with_context(|| format!("the region's answer has no {set}"))?;
    Ok(set.children().filter(|node| node.has_tag_name_local("item")).collect())
}

fn print<const N: usize>(
    how: Output,
    heads: [&str; N],
    items: &[Node<'_, '_>],
    row: impl Fn(&Node<'_, '_>) -> [String; N],
    json: impl Fn(&Node<'_, '_>) -> Value,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match how {
        Output::Json => writeln!(out, "{:#}", output::Json(&Value::Array(items.iter().map(json).collect())))?,
        Output::Table => {
            let rows: Vec<[String; N]> = items.iter().map(row).collect();
            output::table(&mut out, heads, &rows)?;
        }
    }
    Ok(())
}

fn time(item: &Node<'_, '_>, name: &str) -> String {
    item.child_text(name).replace(".000Z", "Z")
}

fn account_row(item: &Node<'_, '_>) -> [String; 6] {
    let [id, name, state, machines, operators] =
        ["accountId", "name", "state", "instanceCount", "operatorCount"].map(|name| item.child_text(name));
    [id, name, state, machines, operators, time(item, "createTime")]
}

fn account_json(item: &Node<'_, '_>) -> Value {
    let closed = time(item, "closeTime");
    json!({
        "account_id": item.child_text("accountId"),
        "name": item.child_text("name"),
        "state": item.child_text("state"),
        "is_region_own": item.child_text("isRegionOwn") == "true",
        "machines": item.child_text("instanceCount").parse::<u64>().ok(),
        "operators": item.child_text("operatorCount").parse::<u64>().ok(),
        "created": time(item, "createTime"),
        "closed": (!closed.is_empty()).then_some(closed),
    })
}

fn operator_row(item: &Node<'_, '_>) -> [String; 5] {
    let [key, account, name, state] = ["accessKeyId", "accountId", "name", "state"].map(|name| item.child_text(name));
    [key, account, name, state, time(item, "createTime")]
}

fn operator_json(item: &Node<'_, '_>) -> Value {
    let [key, account, name, arn, state] =
        ["accessKeyId", "accountId", "name", "arn", "state"].map(|name| item.child_text(name));
    json!({
        "access_key_id": key,
        "account_id": account,
        "name": name,
        "arn": arn,
        "state": state,
        "created": time(item, "createTime"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_accounts_and_operators() {
        let text = r#"<R xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><accountSet><item><accountId>000000000007</accountId>
            <name>seven</name><state>closed</state><isRegionOwn>false</isRegionOwn><instanceCount>0</instanceCount>
            <operatorCount>2</operatorCount><createTime>2026-11-27T05:00:00.000Z</createTime>
            <closeTime>2026-11-27T06:00:00.000Z</closeTime></item></accountSet></R>"#;
        let document = Document::parse(text).unwrap();
        let items = items(&document, "accountSet").unwrap();
        assert_eq!(account_row(&items[0]), ["000000000007", "seven", "closed", "0", "2", "2026-11-27T05:00:00Z"]);
        let shown = account_json(&items[0]);
        assert_eq!((&shown["machines"], &shown["closed"]), (&json!(0), &json!("2026-11-27T06:00:00Z")));
        assert!(super::items(&document, "operatorSet").is_err());
    }

    #[test]
    fn defaults_are_words_that_ec2_has() {
        let parsed = ("HttpTokens".to_owned(), "required".to_owned());
        assert_eq!(default("HttpTokens=required"), Ok(parsed));
        for text in ["HttpTokens", "Colour=red", "httptokens=required", ""] {
            assert!(default(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_never_written_over_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.env");
        let file = new_file(&path).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert!(new_file(&path).is_err());
    }
}
