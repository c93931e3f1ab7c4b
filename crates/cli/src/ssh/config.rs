//! `inborn ssh-config`: the lines of an ssh configuration that make ssh ask the region for host keys.

use std::io::Write;
use std::path::Path;

use anyhow::Context;

use super::arguments::SshConfig;
use crate::deployment;
use crate::directory;

pub(crate) fn ssh_config(arguments: &SshConfig) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let data = match deployment::named_directory(&arguments.region)? {
        Some(data) => data.canonicalize().with_context(|| format!("cannot use {}", data.display()))?,
        None => directory::find(None)?.map_or_else(directory::default_path, |ready| Ok(ready.data))?,
    };
    let mut out = std::io::stdout().lock();
    write!(
        out,
        "# Host keys of machines come from their region. Put this into ~/.ssh/config.\n\
         # A machine that is reached by another name or address needs a `Host` of its own before this one, with\n\
         # `HostName ADDRESS`, `HostKeyAlias i-...` and the lines below.\n\
         Host i-*\n"
    )?;
    for option in ask_region(&program, &data)? {
        writeln!(out, "    {option}")?;
    }
    writeln!(out, "    # Through its host; leave it out where machines have addresses that lead to them.")?;
    writeln!(out, "    # {}", through_host(&program, &data, "%p", "%n")?)?;
    Ok(())
}

/// The options with which ssh asks the region for host keys, and believes nobody else.
pub(super) fn ask_region(program: &Path, data: &Path) -> anyhow::Result<Vec<String>> {
    let (program, data) = (word(program)?, word(data)?);
    // With an alias, %H is the address in the first of ssh's questions and the alias in the second; %k is always the alias.
    let command = format!("KnownHostsCommand {program} known-hosts --data {data} --invocation %I --as %H %k");
    let others = [
        "StrictHostKeyChecking yes",
        "UserKnownHostsFile /dev/null",
        "GlobalKnownHostsFile /dev/null",
        "UpdateHostKeys no",
        "CheckHostIP no",
        "VerifyHostKeyDNS no",
    ];
    Ok([command].into_iter().chain(others.map(str::to_owned)).collect())
}

/// The option with which ssh reaches a machine through its host.
pub(super) fn through_host(program: &Path, data: &Path, port: &str, machine: &str) -> anyhow::Result<String> {
    let (program, data) = (shell_word(program)?, shell_word(data)?);
    Ok(format!("ProxyCommand {program} open-tunnel --data {data} --port {port} {machine}"))
}

/// A path as a shell reads it that ssh gives the command to.
fn shell_word(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().filter(|text| !text.chars().any(|c| c.is_control() || c == '\''));
    let text = text.with_context(|| format!("{} cannot be written in a command of ssh", path.display()))?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+,@=:%".contains(&byte));
    let text = text.replace('%', "%%");
    Ok(if is_plain { text } else { format!("'{text}'") })
}

/// A path as ssh reads it in a command: between quotes, and with its own sign for variables doubled.
fn word(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().filter(|text| !text.chars().any(|c| c.is_control() || matches!(c, '"' | '\\' | '$')));
    let text = text.with_context(|| format!("{} cannot be written in an ssh configuration", path.display()))?;
    let text = text.replace('%', "%%");
    Ok(if text.contains([' ', '\'', '#']) { format!("\"{text}\"") } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_shells_read_them() {
        for (path, expected) in [
            ("/usr/bin/inborn", Some("/usr/bin/inborn")),
            ("/srv/my data", Some("'/srv/my data'")),
            ("/srv/100%", Some("/srv/100%%")),
            ("/srv/`id`;$(id)\"", Some("'/srv/`id`;$(id)\"'")),
            ("/srv/it's", None),
            ("/srv/a\nb", None),
        ] {
            assert_eq!(shell_word(Path::new(path)).ok().as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn paths_are_written_as_ssh_reads_them() {
        for (path, expected) in [
            ("/usr/bin/inborn", Some("/usr/bin/inborn")),
            ("/srv/my data", Some("\"/srv/my data\"")),
            ("/srv/100%", Some("/srv/100%%")),
            ("/srv/a\"b", None),
            ("/srv/$HOSTNAME", None),
            ("/srv/a\nb", None),
        ] {
            assert_eq!(word(Path::new(path)).ok().as_deref(), expected, "{path}");
        }
    }
}
