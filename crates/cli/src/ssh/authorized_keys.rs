//! `inborn authorized-keys`: which keys were sent to a user a moment ago, for sshd.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail};
use inborn_guest::Settings;
use inborn_guest::authorized_keys::{Answer, Question};
use inborn_identity::{Clock, InstanceId};

use super::arguments::AuthorizedKeys;
use super::sshd;
use crate::clock::SystemClock;
use crate::output::printable;

/// For all that is asked: whoever logs in waits.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest file that is read as a root.
const ROOT_BYTES_MAX: u64 = 64 * 1024;
const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
/// Where syslog listens.
const SYSLOG: &str = "/dev/log";
/// The facility `authpriv`, the severity `warning`. Source: RFC 5424, tables 1 and 2.
const SYSLOG_PRIORITY: u32 = 10 * 8 + 4;
/// The longest message that syslog is sent: what every one takes. Source: RFC 3164.
const SYSLOG_BYTES_MAX: usize = 1024;
/// Where the firmware of a machine on EC2 has its id, and that of QEMU with `-smbios type=2,asset=i-…`. Everybody may read it.
const ASSET_TAG: &str = "/sys/class/dmi/id/board_asset_tag";
/// Others than the owner who may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

pub(crate) async fn authorized_keys(arguments: &AuthorizedKeys) -> anyhow::Result<ExitCode> {
    if arguments.install {
        return sshd::install(arguments).map(|()| ExitCode::SUCCESS);
    }
    let user = arguments.user.as_deref().unwrap_or_default();
    let asked = tokio::time::timeout(TIMEOUT, ask(arguments, user)).await;
    let asked = asked.unwrap_or_else(|_| bail!("the metadata service did not answer within {} s", TIMEOUT.as_secs()));
    let mut has_failed = false;
    let answer = asked.unwrap_or_else(|error| {
        has_failed = true;
        log(&format!("no keys for {user}: {error:#}"));
        Answer::default()
    });
    for refused in &answer.refused {
        has_failed = true;
        log(&format!("a key that was sent to {user} is refused: {refused}"));
    }
    {
        let mut out = std::io::stdout().lock();
        answer.keys.iter().try_for_each(|key| writeln!(out, "{key}"))?;
        out.flush()?;
    }
    // sshd believes nothing of a command that fails. So keys that either has found count, whatever became of the other.
    let is_done = match run_next(&arguments.next) {
        Some(next_is_done) => next_is_done || !answer.keys.is_empty(),
        None => !has_failed || !answer.keys.is_empty(),
    };
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(arguments: &AuthorizedKeys, user: &str) -> anyhow::Result<Answer> {
    let endpoint = arguments.metadata.as_deref();
    let variable = |name: &str| match endpoint {
        Some(endpoint) if name == ENDPOINT => Some(endpoint.to_owned()),
        _ => std::env::var(name).ok(),
    };
    let settings = Settings::read(variable)?;
    let root = trusted(&arguments.root)?;
    let question = Question {
        user,
        fingerprint: arguments.fingerprint.as_deref(),
        any_user: arguments.any_user,
        instance: instance(arguments)?,
        signer: arguments.signer.as_deref(),
        root: &root,
    };
    Ok(inborn_guest::authorized_keys::authorized_keys(&settings, &question, SystemClock.now()).await?)
}

/// Which instance this is: as the person says, else as the firmware does, where it speaks of one as on EC2.
fn instance(arguments: &AuthorizedKeys) -> anyhow::Result<Option<InstanceId>> {
    if let Some(id) = &arguments.instance {
        return id.parse().map(Some).with_context(|| format!("{} is no id of an instance", printable(id)));
    }
    Ok(std::fs::read_to_string(ASSET_TAG).ok().and_then(|tag| tag.trim().parse().ok()))
}

/// Reads a file that nobody but root can have written.
fn trusted(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let real = path.canonicalize().with_context(|| {
        format!("cannot read {shown}, which says whose keys are believed: put the region's there (`inborn ca show instance-connect`)")
    })?;
    for part in real.ancestors() {
        let found = part.metadata().with_context(|| format!("cannot look at {}", part.display()))?;
        if found.uid() != 0 || found.mode() & WRITABLE_BY_OTHERS != 0 {
            bail!("{} is not root's alone, so {shown} says nothing: chown and chmod it", part.display());
        }
    }
    if real.metadata()?.len() > ROOT_BYTES_MAX {
        bail!("{shown} is longer than {ROOT_BYTES_MAX} bytes: it holds one certificate");
    }
    std::fs::read(&real).with_context(|| format!("cannot read {shown}"))
}

/// Runs the command that was there before, if there was one: whether it did well.
fn run_next(command: &[OsString]) -> Option<bool> {
    let (program, arguments) = command.split_first()?;
    Some(match Command::new(program).args(arguments).status() {
        Ok(status) if status.success() => true,
        Ok(status) => {
            log(&format!("{} failed: {status}", Path::new(program).display()));
            false
        }
        Err(error) => {
            log(&format!("{} cannot be run: {error}", Path::new(program).display()));
            false
        }
    })
}

/// sshd throws standard error away, so that it is said to syslog as well.
fn log(text: &str) {
    let line = printable(text);
    let _ = writeln!(std::io::stderr(), "inborn: {line}");
    let mut record = format!("<{SYSLOG_PRIORITY}>inborn[{}]: {line}", std::process::id());
    while record.len() > SYSLOG_BYTES_MAX {
        record.pop();
    }
    if let Ok(socket) = UnixDatagram::unbound() {
        // A system without syslog keeps no such records, and waits for none.
        let _ = socket.set_nonblocking(true);
        let _ = socket.send_to(record.as_bytes(), SYSLOG);
    }
}
