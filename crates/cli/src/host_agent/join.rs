//! `inborn host join`: a token becomes a key pair, a certificate, and a data directory to serve from.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use inborn_fleet::{JoinToken, Joined, NAME_MAX, RefusalCode};
use inborn_host_agent::{ADDRESSES_MAX, Address, Client, Failure};
use inborn_identity::Clock;
use inborn_pki::{HostKey, tls};
use zeroize::Zeroizing;

use super::EXIT_TOKEN_REFUSED;
use super::identity::{self, HostIdentity, Membership};
use crate::arguments::{self, path};
use crate::clock::SystemClock;
use crate::directory::{self, DataDirectory};
use crate::settings::computer_name;

/// How often an address that asks to come again later is asked.
const TRIES: u32 = 5;
/// The longest pause between two of them, whatever the region says.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Bytes that are read of where a token should be.
const TOKEN_BYTES_MAX: u64 = 4096;

pub(crate) const JOIN_HELP: &str = "\
The token is printed by `inborn host token` at the region. It says which region to trust, and is good once and not for long. \
Who lists processes sees a command line: a token is better read from a file or from standard input.

What is written belongs to the user who runs this, and nobody else can read it: join as the user whom the service runs as. That of the \
packages, inborn-host.service, runs as `inborn`, in /var/lib/inborn-host.

Exit status: 0 if it has joined; 3 if the token is not good (any more); 1 for anything else, which can be tried again.

Examples:
  inborn host token | ssh kvm-1 sudo -u inborn inborn host join --region-endpoint region.example:4544 --data /var/lib/inborn-host
  inborn host join --token-file token --region-endpoint a.example:4544,b.example:4544 --name kvm-1";

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The token [default: standard input]
    #[arg(value_name = "TOKEN", conflicts_with = "token_file", hide_env_values = true)]
    token: Option<String>,
    /// Read the token from this file; - is standard input
    #[arg(long, value_name = "FILE|-")]
    token_file: Option<PathBuf>,
    /// Where servers of the region listen to hosts (`--hosts-port`), with commas between them
    #[arg(long, env = "INBORN_REGION_ENDPOINT", value_name = "HOST:PORT", value_delimiter = ',', required = true)]
    region_endpoint: Vec<Address>,
    /// What people shall call the host [default: the computer's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Keep key, certificate and state in this directory
    #[arg(long, env = "INBORN_DATA", value_name = "DIR", value_parser = path())]
    data: Option<PathBuf>,
}

pub(crate) async fn join(arguments: &Join) -> anyhow::Result<ExitCode> {
    let data = match arguments::named(arguments.data.as_ref()) {
        Some(path) => path.to_owned(),
        None => directory::default_path()?,
    };
    let name = arguments.name.clone().unwrap_or_else(computer_name);
    if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!(
            "the name of a host has 1 to {NAME_MAX} letters, digits and signs, and no spaces: choose one with --name"
        );
    }
    let addresses = arguments.region_endpoint.clone();
    if addresses.len() > ADDRESSES_MAX {
        bail!("a region has at most {ADDRESSES_MAX} addresses here, and {} were named", addresses.len());
    }
    // Before the token is read, let alone used up: what would be in the way in the end.
    let held = DataDirectory::hold(&data, false)?;
    check(held.path())?;
    let token = read_token(arguments)?;
    let key = HostKey::generate()?;
    let asked = inborn_fleet::Join {
        secret: token.secret().to_vec(),
        name: name.clone(),
        public_key: key.public_key().to_vec(),
    };
    let client = Client::new(tls::host_client_config(token.authority(), None)?);
    let joined = match ask(&client, &addresses, &asked).await {
        Ok(joined) => joined,
        Err(Failure::Refused { code: RefusalCode::JoinTokenRefused, message, .. }) => {
            let _ = writeln!(std::io::stderr(), "inborn: {message}");
            return Ok(ExitCode::from(EXIT_TOKEN_REFUSED));
        }
        Err(Failure::Refused { code, message, .. }) => bail!("the region refuses ({}): {message}", code.as_str()),
        Err(Failure::Unreachable(what)) => bail!(
            "no server of the region could be asked: {what}. The token may be tried again; if it is refused then, its answer was \
             lost: make another one"
        ),
    };
    let Joined { host, certificate, region, domain } = joined;
    identity::check(&certificate, host, key.public_key())?;
    let membership =
        Membership { host, name, region, domain, addresses, authority: token.authority(), certificate, key };
    let made = HostIdentity::create(held.path(), membership).with_context(|| {
        format!("the region knows the host as {host}, which can be evicted now (`inborn host evict {host}`)")
    })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "This is host {} ({}) of region {} now.", made.host, made.name, made.region)?;
    writeln!(out, "Start it:  inborn host --data {}", held.path().display())?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a directory that is somebody's already. A host that was cut off, or was away for longer than its certificate, may join
/// anew.
fn check(data: &Path) -> anyhow::Result<()> {
    identity::check_is_no_regions(data)?;
    let is_one = |known: &HostIdentity| !known.is_evicted && !known.has_ended(SystemClock.now());
    if let Some(known) = HostIdentity::read(data)?.filter(is_one) {
        bail!(
            "{0} is that of host {1} of region {2} already: start it with `inborn host --data {0}`, or join from another \
             directory (--data DIR)",
            data.display(),
            known.host,
            known.region
        );
    }
    Ok(())
}

fn read_token(arguments: &Join) -> anyhow::Result<JoinToken> {
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(TOKEN_BYTES_MAX)?));
    let file = arguments.token_file.as_deref().filter(|file| *file != Path::new("-"));
    match (&arguments.token, file) {
        (Some(token), _) if token != "-" => text.push_str(token),
        (_, Some(file)) => {
            let opened =
                std::fs::File::open(file).with_context(|| format!("cannot read the token in {}", file.display()))?;
            opened.take(TOKEN_BYTES_MAX).read_to_string(&mut text).context("the token's file holds no text")?;
        }
        _ => {
            if std::io::stdin().is_terminal() {
                let _ = writeln!(std::io::stderr(), "The token, as `inborn host token` printed it:");
                std::io::stdin().read_line(&mut text).context("no token was read")?;
            } else {
                let input = std::io::stdin().lock();
                input.take(TOKEN_BYTES_MAX).read_to_string(&mut text).context("standard input holds no text")?;
            }
        }
    }
    Ok(text.trim().parse()?)
}

/// Asks one address after the other; who is busy is asked again.
async fn ask(client: &Client, addresses: &[Address], asked: &inborn_fleet::Join) -> Result<Joined, Failure> {
    let mut last = Failure::Unreachable("the region has no address".to_owned());
    for address in addresses {
        for _ in 0..TRIES {
            match client.join(address, asked).await {
                Ok(joined) => return Ok(joined),
                Err(
                    failure @ Failure::Refused {
                        code: RefusalCode::Busy | RefusalCode::Unavailable, retry_after, ..
                    },
                ) => {
                    let pause = Duration::from_secs(retry_after.unwrap_or(1)).min(PAUSE_MAX);
                    last = failure;
                    tokio::time::sleep(pause).await;
                }
                Err(failure @ Failure::Refused { .. }) => return Err(failure),
                Err(failure @ Failure::Unreachable(_)) => {
                    last = failure;
                    break;
                }
            }
        }
    }
    Err(last)
}
