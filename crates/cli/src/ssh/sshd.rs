//! sshd's configuration: the lines by which it asks `inborn authorized-keys`, beside whatever it asked before.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::arguments::AuthorizedKeys;

/// First by its name: of a setting that comes twice, sshd takes the first.
const DROP_IN: &str = "00-inborn.conf";
const SSHD: [&str; 3] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];
/// Who the command runs as where nobody was chosen before: it needs no rights at all.
const NOBODY: &str = "nobody";
/// What stands between our words and the command that was there before.
const NEXT: &str = " -- ";
const PROGRAM: &str = "inborn";
const SUBCOMMAND: &str = "authorized-keys";

/// Writes a drop-in, and takes it back if sshd does not take it.
pub(super) fn install(arguments: &AuthorizedKeys) -> anyhow::Result<()> {
    let sshd = Sshd::find(arguments.sshd_config.clone())?;
    let before = sshd.settings()?;
    let program = std::env::current_exe().context("where is this program?")?;
    let command = chained(&ours(&program, arguments)?, &before);
    let lines = drop_in(&command, &before);
    let path = arguments.directory.join(DROP_IN);
    let old = std::fs::read(&path).ok();
    std::fs::write(&path, &lines).with_context(|| format!("cannot write {}", path.display()))?;
    let taken = sshd.settings().and_then(|after| {
        // Exactly ours: a part of it, behind the dashes, is what sshd asks where it does not read the file.
        if after.command.as_ref() == Some(&command) {
            return Ok(());
        }
        bail!(
            "sshd does not ask this command: let its configuration begin with `Include {}/*.conf`",
            arguments.directory.display()
        )
    });
    if let Err(error) = taken {
        match old {
            Some(old) => std::fs::write(&path, old)?,
            None => std::fs::remove_file(&path)?,
        }
        return Err(error.context(format!("{} is as it was before", path.display())));
    }
    println(&format!("{} is written: reload sshd (`systemctl reload ssh` or `sshd`)", path.display()))
}

fn println(line: &str) -> anyhow::Result<()> {
    use std::io::Write;
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

/// What sshd asks today.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    command: Option<String>,
    user: Option<String>,
}

struct Sshd {
    program: &'static str,
    config: Option<PathBuf>,
}

impl Sshd {
    fn find(config: Option<PathBuf>) -> anyhow::Result<Self> {
        let program = SSHD.into_iter().find(|path| Path::new(path).is_file());
        Ok(Self { program: program.context("sshd is not installed: nothing has to be told")?, config })
    }

    /// What its whole configuration says, includes and all.
    fn settings(&self) -> anyhow::Result<Asked> {
        let mut command = Command::new(self.program);
        command.arg("-T");
        if let Some(config) = &self.config {
            command.arg("-f").arg(config);
        }
        let output = command.output().with_context(|| format!("{} cannot be run", self.program))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("sshd refuses its configuration: {}", crate::output::printable(said.trim()));
        }
        Ok(asked(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// Reads what `sshd -T` prints: names in small letters, and their values.
fn asked(text: &str) -> Asked {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let (_, value) = lines.find(|(key, _)| *key == name)?;
        (value != "none").then(|| value.to_owned())
    };
    Asked { command: value("authorizedkeyscommand"), user: value("authorizedkeyscommanduser") }
}

/// Our words, up to the tokens that sshd fills in.
fn ours(program: &Path, arguments: &AuthorizedKeys) -> anyhow::Result<String> {
    let mut words = vec![program.display().to_string(), SUBCOMMAND.to_owned()];
    words.extend(["--root".to_owned(), arguments.root.display().to_string()]);
    let named =
        [("--signer", &arguments.signer), ("--instance", &arguments.instance), ("--metadata", &arguments.metadata)];
    for (flag, value) in named {
        words.extend(value.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
    }
    if arguments.any_user {
        words.push("--any-user".to_owned());
    }
    if let Some(word) = words.iter().find(|word| word.contains([' ', '"', '\'', '\\', '%', '\n'])) {
        bail!("`{word}` cannot stand in sshd's configuration: choose a name without blanks, quotes and %");
    }
    words.extend(["%u".to_owned(), "%f".to_owned()]);
    Ok(words.join(" "))
}

/// What sshd is to ask: our words, and behind them the command that was there before.
fn chained(ours: &str, before: &Asked) -> String {
    let previous = before.command.as_deref().and_then(|command| {
        // Installed again: what was there before is behind our own words.
        if is_ours(command) { command.split_once(NEXT).map(|(_, next)| next) } else { Some(command) }
    });
    previous.map_or_else(|| ours.to_owned(), |command| format!("{ours}{NEXT}{command}"))
}

/// Told by the program and the first word that it is given: elsewhere the same words are another's.
fn is_ours(command: &str) -> bool {
    let mut words = command.split([' ', '\t']).filter(|word| !word.is_empty());
    let program = words.next().and_then(|word| Path::new(word).file_name());
    program == Some(OsStr::new(PROGRAM)) && words.next() == Some(SUBCOMMAND)
}

/// The file. A command that was there before keeps the user that it had.
fn drop_in(command: &str, before: &Asked) -> String {
    let user = before.user.as_deref().unwrap_or(NOBODY);
    format!(
        "# Written by `inborn authorized-keys --install`. Keys that were sent with SendSSHPublicKey, then what was asked before.\n\
         # A Match block with an AuthorizedKeysCommand of its own still has it.\n\
         AuthorizedKeysCommand {command}\nAuthorizedKeysCommandUser {user}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUR_WORDS: &str = "/usr/bin/inborn authorized-keys --root /r.pem %u %f";

    fn asked_of(command: &str, user: &str) -> Asked {
        asked(&format!("port 22\nauthorizedkeyscommand {command}\nauthorizedkeyscommanduser {user}\n"))
    }

    fn lines(before: &Asked) -> Vec<String> {
        let file = drop_in(&chained(OUR_WORDS, before), before);
        file.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn where_nothing_was_asked_before() {
        assert_eq!(asked_of("none", "none"), Asked::default());
        assert_eq!(asked("port 22\n"), Asked::default());
        let expected = [format!("AuthorizedKeysCommand {OUR_WORDS}"), "AuthorizedKeysCommandUser nobody".to_owned()];
        assert_eq!(lines(&Asked::default()), expected);
    }

    #[test]
    fn a_command_that_was_there_is_asked_too_however_often_it_is_installed() {
        let before = asked_of("/usr/bin/sss_ssh_authorizedkeys \"%u\" x", "sssd");
        let expected = format!("AuthorizedKeysCommand {OUR_WORDS} -- /usr/bin/sss_ssh_authorizedkeys \"%u\" x");
        let once = lines(&before);
        assert_eq!(once, [expected, "AuthorizedKeysCommandUser sssd".to_owned()]);
        let again = asked_of(once[0].strip_prefix("AuthorizedKeysCommand ").unwrap(), "sssd");
        assert_eq!(lines(&again), once);
        assert_eq!(lines(&asked_of(OUR_WORDS, "nobody")), lines(&Asked::default()));
    }

    #[test]
    fn a_command_of_another_is_kept_whatever_words_are_in_it() {
        for command in [
            "/usr/bin/keys --print authorized-keys %u",
            "/usr/bin/keys authorized-keys -- %u",
            "/usr/bin/inborn-keys authorized-keys %u",
            "/opt/inborn/keys authorized-keys %u",
            "/usr/bin/inborn --data authorized-keys %u",
            "/usr/bin/env inborn authorized-keys -- %u",
        ] {
            let expected = format!("AuthorizedKeysCommand {OUR_WORDS} -- {command}");
            let once = lines(&asked_of(command, "nobody"));
            assert_eq!(once[0], expected);
            let again = asked_of(once[0].strip_prefix("AuthorizedKeysCommand ").unwrap(), "nobody");
            assert_eq!(lines(&again), once);
        }
        // Ours from another place, and with other words behind.
        let moved = asked_of("/usr/local/bin/inborn authorized-keys --any-user %u %f -- /bin/true %u", "nobody");
        assert_eq!(lines(&moved)[0], format!("AuthorizedKeysCommand {OUR_WORDS} -- /bin/true %u"));
    }
}
