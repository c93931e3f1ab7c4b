//! `inborn completions`: what completes the commands in a shell.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::aot::{Bash, Fish, Generator, Zsh, generate};

use crate::arguments::{Arguments, CompletedShell, Completions};

pub(crate) fn completions(arguments: &Completions) -> anyhow::Result<()> {
    // Whole before the first byte is printed: what is sourced must not be half of it.
    std::io::stdout().lock().write_all(&script(arguments.shell))?;
    Ok(())
}

/// The script for one shell.
pub(crate) fn script(shell: CompletedShell) -> Vec<u8> {
    match shell {
        CompletedShell::Bash => written(Bash),
        CompletedShell::Zsh => written(Zsh),
        CompletedShell::Fish => written(Fish),
    }
}

fn written(generator: impl Generator) -> Vec<u8> {
    let mut text = Vec::new();
    generate(generator, &mut shown(Arguments::command()).version(env!("CARGO_PKG_VERSION")), "inborn", &mut text);
    text
}

/// The commands without those that only the program itself calls, which the generators would show.
fn shown(command: clap::Command) -> clap::Command {
    let subcommands: Vec<clap::Command> =
        command.get_subcommands().filter(|one| !one.is_hide_set()).cloned().map(shown).collect();
    // clap takes names that live as long as the process, which ends after this.
    let name: &'static str = command.get_name().to_owned().leak();
    let about = command.get_about().cloned().unwrap_or_default();
    let bare = clap::Command::new(name).about(about).subcommands(subcommands);
    bare.args(command.get_arguments()).groups(command.get_groups())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_every_command_and_none_that_is_hidden() {
        for shell in [CompletedShell::Bash, CompletedShell::Zsh, CompletedShell::Fish] {
            let text = String::from_utf8(script(shell)).unwrap();
            for command in Arguments::command().get_subcommands() {
                let is_there = text.contains(command.get_name());
                assert_eq!(is_there, !command.is_hide_set(), "{shell:?}: {}", command.get_name());
            }
            assert!(text.contains("principal-rate"), "{shell:?}");
        }
    }
}
