//! `inborn store`: the store of a region, apart from any server.

mod backup;
mod check;
mod copy;
mod migrate;
mod restore;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use inborn_store::StoreError;

use crate::arguments::{self, Output, Region};
use crate::epoch::no_server_runs;
use crate::store_url::StoreUrl;
use crate::{deployment, directory};

pub(crate) const STORE_HELP: &str = "\
The store is inborn.db in the data directory, or what --store or INBORN_STORE names. `check`, `backup` and `migrate --dry-run` work \
beside a region that runs; `migrate`, `restore` and `copy` do not.

A backup holds all that the region remembers, sealed as it is: without the key (epoch.key) nobody can use the secrets in it, and \
neither can you. Back up the key too, once, to another place.

Examples:
  inborn store check
  inborn store backup /mnt/backup/inborn-$(date -u +%Y%m%d).backup
  inborn store restore /mnt/backup/inborn-20260101.backup --data /var/lib/inborn
  inborn store copy --from sqlite:/var/lib/inborn/inborn.db --to postgres://inborn@db.example/inborn";

#[derive(Debug, Args)]
pub(crate) struct StoreArguments {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Look whether the store is whole, without changing anything; exit status 1 if it is not
    Check(Check),
    /// Bring the store to the schema of this program
    Migrate(Migrate),
    /// Write all of the store to one file, while the region runs
    Backup(Backup),
    /// Put a backup into an empty store
    Restore(Restore),
    /// Copy a store that no server runs on into an empty one
    Copy(Copy),
}

/// Which store.
#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    region: Region,
    /// The store, if it is not the one in the data directory: postgres://… or sqlite:PATH; others see a command line, so a
    /// password is better said by the variable
    #[arg(long, env = "INBORN_STORE", value_name = "URL", hide_env_values = true)]
    store: Option<String>,
}

#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    which: Which,
    /// The file with the key that secrets are sealed with, to try it on all of them [default: epoch.key in the data directory,
    /// if it is there]
    #[arg(long, value_name = "FILE", conflicts_with = "key_command")]
    key_file: Option<PathBuf>,
    /// The program and its arguments, told apart by spaces, that prints that key
    #[arg(long, env = "INBORN_KEY_COMMAND", value_name = "PROGRAM ARGS")]
    key_command: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Args)]
struct Migrate {
    #[command(flatten)]
    which: Which,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Backup {
    #[command(flatten)]
    which: Which,
    /// The file to write, with mode 0600; it is there once it is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct Restore {
    #[command(flatten)]
    which: Which,
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Debug, Args)]
struct Copy {
    /// The store to read: postgres://… or sqlite:PATH
    #[arg(long, env = "INBORN_FROM", value_name = "URL", hide_env_values = true)]
    from: String,
    /// The store to fill, which must be empty: postgres://… or sqlite:PATH
    #[arg(long, env = "INBORN_TO", value_name = "URL", hide_env_values = true)]
    to: String,
}

impl Which {
    fn data(&self) -> anyhow::Result<PathBuf> {
        deployment::named_directory(&self.region)?.map_or_else(directory::default_path, Ok)
    }

    /// Whether somebody has said which data directory it is.
    fn is_directory_named(&self) -> bool {
        arguments::named(self.region.data.as_ref()).is_some()
    }

    fn url(&self) -> anyhow::Result<StoreUrl> {
        StoreUrl::named_or_in(self.store.as_deref(), &self.data()?)
    }
}

pub(crate) async fn store(arguments: &StoreArguments) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match &arguments.command {
        StoreCommand::Check(arguments) => check::check(arguments).await,
        StoreCommand::Migrate(arguments) => migrate::migrate(arguments).await.map(done),
        StoreCommand::Backup(arguments) => backup::backup(arguments).await.map(done),
        StoreCommand::Restore(arguments) => restore::restore(arguments).await.map(done),
        StoreCommand::Copy(arguments) => copy::copy(arguments).await.map(done),
    }
}

/// Refuses a database that a server has open: it would not know of what is put there. A file is locked instead.
async fn no_server_has_open(url: &StoreUrl) -> anyhow::Result<()> {
    let StoreUrl::Postgres(_) = url else { return Ok(()) };
    match url.open_to_read().await {
        Ok(store) => {
            no_server_runs(&*store).await?;
            Ok(store.close().await?)
        }
        // Nothing is in it that a server of this program could work with, and what is in it is looked at later.
        Err(StoreError::Older { .. } | StoreError::HalfRestored) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// How a number of rows is said.
fn rows(count: u64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}
