//! The man pages and completions, as packages carry them. A test makes them, so that the program does not carry what
//! makes them: `cargo xtask manual` runs it with `INBORN_MANUAL`, the directory to write to.

use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::arguments::{Arguments, CompletedShell};
use crate::completions::script;

/// The program and its commands, those of two words included, but for what only the program itself calls.
fn commands() -> Vec<clap::Command> {
    fn add(command: &clap::Command, all: &mut Vec<clap::Command>) {
        all.push(command.clone());
        command.get_subcommands().filter(|one| !one.is_hide_set()).for_each(|one| add(one, all));
    }
    let mut root = Arguments::command().disable_help_subcommand(true);
    root.build();
    let mut all = Vec::new();
    add(&root, &mut all);
    all
}

/// The name of a page: `inborn-host-keys-push`.
fn name(command: &clap::Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &clap::Command) -> Vec<u8> {
    let man = Man::new(command.clone())
        .title(name(command).to_uppercase())
        .source(format!("inborn {}", env!("CARGO_PKG_VERSION")))
        .manual("Inborn");
    let mut text = Vec::new();
    man.render_title(&mut text).unwrap();
    man.render_name_section(&mut text).unwrap();
    man.render_synopsis_section(&mut text).unwrap();
    man.render_description_section(&mut text).unwrap();
    man.render_options_section(&mut text).unwrap();
    if command.get_subcommands().any(|one| !one.is_hide_set()) {
        man.render_subcommands_section(&mut text).unwrap();
    }
    if let Some(notes) = command.get_after_help() {
        text.extend(notes_section(&notes.to_string()).to_roff().into_bytes());
    }
    let mut see = Roff::new();
    see.control("SH", ["SEE ALSO"]);
    let parent = name(command).rsplit_once('-').map_or("inborn-up", |_| "inborn");
    see.text([roman(format!("{parent}(1), and the documents in /usr/share/doc/inborn"))]);
    text.extend(see.to_roff().into_bytes());
    text
}

/// What stands below a command's help: prose is filled, and what is indented (examples, tables) stays as it is.
fn notes_section(notes: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["NOTES"]);
    let mut is_literal = false;
    for line in notes.lines() {
        let literal = line.starts_with(' ');
        if literal != is_literal && !line.is_empty() {
            roff.control(if literal { "nf" } else { "fi" }, []);
            is_literal = literal;
        }
        match line {
            "" => roff.control("PP", []),
            line => roff.text([roman(line)]),
        };
    }
    if is_literal {
        roff.control("fi", []);
    }
    roff
}

fn write(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    for command in commands() {
        std::fs::write(directory.join(format!("{}.1", name(&command))), page(&command)).unwrap();
    }
    for (shell, name) in
        [(CompletedShell::Bash, "inborn.bash"), (CompletedShell::Zsh, "_inborn"), (CompletedShell::Fish, "inborn.fish")]
    {
        std::fs::write(directory.join(name), script(shell)).unwrap();
    }
}

#[test]
fn every_command_has_a_page() {
    let made = tempfile::tempdir().unwrap();
    let directory = std::env::var_os("INBORN_MANUAL").map_or_else(|| made.path().to_owned(), Into::into);
    write(&directory);
    for command in Arguments::command().get_subcommands() {
        let path = directory.join(format!("inborn-{}.1", command.get_name()));
        assert_eq!(path.exists(), !command.is_hide_set(), "{}", path.display());
    }
    for name in ["inborn.1", "inborn-ca-show.1", "inborn-host-keys-push.1"] {
        assert!(directory.join(name).exists(), "{name}");
    }
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let up = read("inborn-up.1");
    assert!(up.contains("INBORN_CONFIG") && up.contains("tls\\-port") && up.contains("NOTES"), "{up}");
    assert!(read("inborn-run.1").contains(".nf\n  inborn run \\-\\- aws sts"), "{}", read("inborn-run.1"));
    assert!(!read("inborn.1").contains("__pocket"));
}
