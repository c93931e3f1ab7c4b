//! `inborn ssh` and `inborn scp`: OpenSSH's own programs, with a key that lives for a minute, a host key that the region knows,
//! and the way through the machine's host.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};

use anyhow::{Context, bail};
use inborn_identity::InstanceId;
use serde_json::json;
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::arguments::{Scp, Ssh, Way};
use super::config::{ask_region, through_host};
use crate::directory;
use crate::operator::{Operator, Refusal};
use crate::output::printable;

/// What ssh exits with if there was no connection.
const EXIT_NO_CONNECTION: u8 = 255;
/// Added to the number of the signal that ended a program, as shells do.
const EXIT_SIGNAL_BASE: i32 = 128;
/// The longest name of a user. Source: `InstanceOSUser` of SendSSHPublicKey.
const USER_BYTES_MAX: usize = 32;

pub(crate) async fn ssh(arguments: &Ssh) -> anyhow::Result<ExitCode> {
    let (user, machine) = match arguments.machine.split_once('@') {
        Some((user, machine)) => (Some(user), machine),
        None => (arguments.login.as_deref(), arguments.machine.as_str()),
    };
    let mut signals = Signals::listen()?;
    let login = match signals.unless(Box::pin(Login::prepare(&arguments.way, user, machine))).await {
        Ok(login) => login?,
        Err(ended) => return Ok(ended),
    };
    let mut command = Command::new("ssh");
    command.args(login.options()?);
    command.args(std::iter::repeat_n("-t", arguments.terminal.into()));
    command.arg("--").arg(login.destination()).args(&arguments.command);
    login.run(command, "ssh", &mut signals).await
}

pub(crate) async fn scp(arguments: &Scp) -> anyhow::Result<ExitCode> {
    let remote = the_remote(&arguments.files)?;
    let mut signals = Signals::listen()?;
    let login = match signals.unless(Box::pin(Login::prepare(&arguments.way, remote.user, remote.machine))).await {
        Ok(login) => login?,
        Err(ended) => return Ok(ended),
    };
    let mut command = Command::new("scp");
    command.args(login.options()?);
    command.args(arguments.recursive.then_some("-r")).args(arguments.preserve.then_some("-p"));
    command.arg("--");
    for file in &arguments.files {
        match Remote::of(file) {
            Some(remote) => command.arg(format!("{}:{}", login.destination(), remote.path)),
            None => command.arg(local(file)),
        };
    }
    login.run(command, "scp", &mut signals).await
}

/// A file of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Remote<'a> {
    user: Option<&'a str>,
    machine: &'a str,
    path: &'a str,
}

impl<'a> Remote<'a> {
    /// As scp tells them apart: a colon that no slash comes before.
    fn of(file: &'a str) -> Option<Self> {
        let (host, path) = file.split_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'))?;
        let (user, machine) = host.split_once('@').map_or((None, host), |(user, machine)| (Some(user), machine));
        Some(Self { user, machine, path })
    }
}

/// The one machine that the files name.
fn the_remote(files: &[String]) -> anyhow::Result<Remote<'_>> {
    let mut all = files.iter().filter_map(|file| Remote::of(file));
    let first = all.next().context("name a machine, as in web-1:/path or admin@web-1:/path")?;
    if all.any(|other| (other.user, other.machine) != (first.user, first.machine)) {
        bail!("only one machine, and one user of it, can be named in a command");
    }
    Ok(first)
}

/// A name that scp takes for a file here, whatever is in it.
fn local(file: &str) -> String {
    if file.starts_with('-') { format!("./{file}") } else { file.to_owned() }
}

/// Everything that a login needs.
struct Login<'a> {
    way: &'a Way,
    user: String,
    instance: String,
    data: PathBuf,
    program: PathBuf,
    key: Option<LoginKey>,
}

impl<'a> Login<'a> {
    async fn prepare(way: &'a Way, user: Option<&str>, machine: &str) -> anyhow::Result<Self> {
        let user = match user {
            Some(user) => user.to_owned(),
            None => own_name().context("who is to log in? Name a user, as in admin@web-1")?,
        };
        if !is_user(&user) {
            bail!("{} is no name of a user", printable(&user));
        }
        let operator = Operator::find(&way.region).await?;
        let found = operator.machine(machine).await?;
        if found.state != "running" {
            bail!("{} is {}: start it with `inborn start {}`", printable(machine), found.state, found.id);
        }
        // Goes into command lines that a shell reads.
        let instance: InstanceId = found.id.parse().context("the region's answer names no instance")?;
        let key = match way.identity {
            Some(_) => None,
            None => {
                let key = LoginKey::make().await?;
                key.send(&operator, &found.id, &user).await?;
                Some(key)
            }
        };
        Ok(Self {
            way,
            user,
            instance: instance.to_string(),
            data: operator.ready().data.clone(),
            program: std::env::current_exe().context("cannot tell where this program is")?,
            key,
        })
    }

    /// The machine is called by its id: a name may be another's tomorrow.
    fn destination(&self) -> String {
        format!("{}@{}", self.user, self.instance)
    }

    fn options(&self) -> anyhow::Result<Vec<OsString>> {
        let instance = &self.instance;
        let mut options: Vec<String> = ask_region(&self.program, &self.data)?;
        options.push(format!("HostKeyAlias {instance}"));
        options.push(format!("Port {}", self.way.port));
        match &self.way.address {
            Some(address) => options.extend([format!("HostName {address}"), "ProxyCommand none".to_owned()]),
            None => {
                let port = self.way.port.to_string();
                options.push(format!("HostName {instance}"));
                options.push(through_host(&self.program, &self.data, &port, instance)?);
            }
        }
        // A connection that is open already, to whatever had the address then, would be used without a look at its key.
        options.extend(["ControlMaster no", "ControlPath none", "IdentitiesOnly yes"].map(str::to_owned));
        // The first that is said counts: what the person says comes after what protects, and before the configuration.
        options.extend(self.way.options.iter().cloned());
        let mut words: Vec<OsString> =
            options.into_iter().flat_map(|option| [OsString::from("-o"), option.into()]).collect();
        let identity = self.key.as_ref().map(LoginKey::path).or_else(|| self.way.identity.clone());
        words.extend(identity.into_iter().flat_map(|path| [OsString::from("-i"), path.into()]));
        Ok(words)
    }

    /// Runs the program to its end. Signals of a terminal reach it by themselves; those of others are passed on, and the key
    /// is removed afterwards.
    async fn run(self, mut command: Command, name: &str, signals: &mut Signals) -> anyhow::Result<ExitCode> {
        let mut child =
            command.spawn().with_context(|| format!("cannot run {name}: install OpenSSH's client (openssh-client)"))?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                kind = signals.next() => if !Signals::is_of_a_terminal(kind) { end(&child) },
            }
        };
        drop(self.key);
        Ok(exit_code(status))
    }
}

/// The signals that would end this program and leave the key behind.
struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them.
    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.quit.recv() => SignalKind::quit(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hangup.recv() => SignalKind::hangup(),
        }
    }

    /// Whether every program at the terminal has it, not this one alone.
    fn is_of_a_terminal(kind: SignalKind) -> bool {
        kind == SignalKind::interrupt() || kind == SignalKind::quit()
    }

    /// What comes of `work`, or the status of a program that a signal has ended. Then the work is dropped, and what it has made
    /// with it.
    async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Result<T, ExitCode> {
        tokio::select! {
            outcome = work => Ok(outcome),
            kind = self.next() => Err(exit_code(ExitStatus::from_raw(kind.as_raw_value()))),
        }
    }
}

fn end(child: &tokio::process::Child) {
    let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| Some(EXIT_SIGNAL_BASE + status.signal()?));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_NO_CONNECTION))
}

/// A key for one login, in a directory that is gone with it. Whoever finds it later finds nothing: it is good for a minute.
struct LoginKey {
    directory: PathBuf,
}

impl LoginKey {
    async fn make() -> anyhow::Result<Self> {
        let key = Self { directory: directory::temporary()? };
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "inborn ssh", "-f"])
            .arg(key.path())
            .stdin(Stdio::null())
            // It must write nothing once the directory is gone.
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot run ssh-keygen: install OpenSSH's client (openssh-client)")?;
        if !made.status.success() {
            bail!("ssh-keygen made no key: {}", printable(String::from_utf8_lossy(&made.stderr).trim()));
        }
        Ok(key)
    }

    fn path(&self) -> PathBuf {
        self.directory.join("key")
    }

    /// Sends the public half to the machine.
    async fn send(&self, operator: &Operator, instance: &str, user: &str) -> anyhow::Result<()> {
        let public = std::fs::read_to_string(self.path().with_extension("pub")).context("ssh-keygen made no key")?;
        let input = json!({ "InstanceId": instance, "InstanceOSUser": user, "SSHPublicKey": public.trim_end() });
        operator.instance_connect("SendSSHPublicKey", &input).await.map(drop).map_err(|error| {
            match error.downcast_ref::<Refusal>() {
                Some(_) => error.context("the machine was not sent a key: log in with one of yours (--identity FILE)"),
                None => error,
            }
        })
    }
}

impl Drop for LoginKey {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            let _ = writeln!(std::io::stderr(), "inborn: cannot remove {}: {error}", self.directory.display());
        }
    }
}

fn own_name() -> Option<String> {
    ["LOGNAME", "USER"].into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// Whether this can be a user, and nothing else where ssh and scp read it.
fn is_user(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-$".contains(&byte);
    (1..=USER_BYTES_MAX).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_machines_are_told_from_those_here() {
        let remote = |user, machine, path| Some(Remote { user, machine, path });
        assert_eq!(Remote::of("web-1:/srv"), remote(None, "web-1", "/srv"));
        assert_eq!(Remote::of("a@web-1:x:y"), remote(Some("a"), "web-1", "x:y"));
        assert_eq!(Remote::of("web-1:"), remote(None, "web-1", ""));
        for file in ["plain", "./web-1:x", "/a:b", ":x", ""] {
            assert_eq!(Remote::of(file), None, "{file}");
        }
        let files = |all: &[&str]| all.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>();
        assert!(the_remote(&files(&["a", "b"])).is_err());
        assert!(the_remote(&files(&["a@m:x", "m:y"])).is_err() && the_remote(&files(&["m:x", "n:y"])).is_err());
        assert_eq!(the_remote(&files(&["m:x", "m:y", "."])).unwrap().machine, "m");
        assert_eq!((local("-r").as_str(), local("r").as_str()), ("./-r", "r"));
    }

    #[test]
    fn users_mean_only_themselves() {
        for name in ["root", "ec2-user", "a.b_c", "svc$", &"n".repeat(USER_BYTES_MAX)] {
            assert!(is_user(name), "{name}");
        }
        for name in ["", "-oProxyCommand=x", "a b", "a@b", "a:b", "a/b", "a'b", "é", &"n".repeat(USER_BYTES_MAX + 1)] {
            assert!(!is_user(name), "{name}");
        }
    }

    #[test]
    fn the_status_is_that_of_the_program() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), ExitCode::from(7));
        assert_eq!(exit_code(ExitStatus::from_raw(15)), ExitCode::from(143));
    }
}
