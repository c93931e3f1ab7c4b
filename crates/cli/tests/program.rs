//! What the program does that no other file looks at: its log as JSON, completions, a key that comes from elsewhere, draining a host.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says aloud what was skipped"
)]

mod calls;
mod hosts;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use hosts::{REGION, Region, inborn, launch, run, text, until};
use serde_json::Value;

/// A region in one process, which is killed when the test ends.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn up(data: &Path) -> Command {
    let mut command =
        inborn(&["up", "--port", "0", "--tls-port", "0", "--operations-port", "0", "--telemetry-days", "0"]);
    for name in
        ["INBORN_STORE", "INBORN_KEY_COMMAND", "INBORN_KEY_CREDENTIAL", "INBORN_LOG_FORMAT", "CREDENTIALS_DIRECTORY"]
    {
        command.env_remove(name);
    }
    command.arg("--data").arg(data).stdout(Stdio::null());
    command
}

impl Up {
    fn start(data: &Path, mut command: Command) -> Self {
        let ready = data.join("told-ready.json");
        let _ = std::fs::remove_file(&ready);
        let mut up = Self(command.arg("--ready-file").arg(&ready).spawn().unwrap());
        until("a region is ready", || {
            assert!(up.0.try_wait().unwrap().is_none(), "it has ended");
            ready.exists().then_some(())
        });
        up
    }

    fn stop(mut self) {
        assert!(Command::new("kill").arg(self.0.id().to_string()).status().unwrap().success());
        let ended = until("a region ends", || self.0.try_wait().unwrap());
        assert!(ended.success(), "{ended}");
    }
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn private(base: &Path, name: &str) -> PathBuf {
    let path = base.join(name);
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path).unwrap();
    path
}

/// Each line is an object that says when, how grave, from where and what, at the finest level too; none has a secret in it.
#[test]
fn the_log_as_json_is_json_and_has_no_secret() {
    let base = tempfile::tempdir().unwrap();
    let data = private(base.path(), "data");
    let path = data.to_str().unwrap();
    let log = base.path().join("log");
    let mut command = up(&data);
    command
        .args(["--region", REGION, "--log-format", "json"])
        .env("RUST_LOG", "trace")
        .stderr(std::fs::File::create(&log).unwrap());
    let region = Up::start(&data, command);
    let exported = done(&run(&["launch", "--name", "web-1", "--export", "--data", path]));
    let endpoint = exported.lines().find_map(|line| line.split_once("AWS_EC2_METADATA_SERVICE_ENDPOINT=")).unwrap().1;
    let port = endpoint.trim_matches(['\'', '"', '/']).rsplit_once(':').unwrap().1.parse().unwrap();
    let machine = until("a machine has a credential", || hosts::credential(port));
    let ready: Value = serde_json::from_slice(&std::fs::read(data.join("told-ready.json")).unwrap()).unwrap();
    let address = ready["endpoint"].as_str().unwrap().strip_prefix("http://").unwrap();
    let whoami = "Action=GetCallerIdentity&Version=2011-06-15";
    let named = format!("sts.{REGION}.amazonaws.com");
    let (status, body) = calls::call(address, &named, &machine, ("sts", REGION), whoami).unwrap();
    assert_eq!(status, 200, "{body}");
    region.stop();

    let said = std::fs::read_to_string(&log).unwrap();
    let mut of_us = 0;
    for line in said.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let word = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        assert!(word(&line["timestamp"]) && word(&line["target"]), "{line}");
        assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&line["level"].as_str().unwrap()), "{line}");
        assert!(line["fields"].is_object(), "{line}");
        if line["target"].as_str().unwrap().starts_with("inborn") {
            assert!(word(&line["fields"]["message"]), "{line}");
            of_us += 1;
        }
    }
    assert!(of_us >= 3 && said.contains("GetCallerIdentity") && said.contains("\"message\":\"stopping\""), "{said}");

    let operator = std::fs::read_to_string(data.join("operator.env")).unwrap();
    let key = std::fs::read_to_string(data.join("epoch.key")).unwrap();
    let of_operator = operator.lines().filter_map(|line| line.split_once("AWS_SECRET_ACCESS_KEY="));
    let of_key = key.split_whitespace().nth(1).map(|hex| ("", hex));
    let of_machine = [machine.secret.as_str(), machine.token.as_deref().unwrap()].map(|secret| ("", secret));
    let all = of_operator.chain(of_key).chain(of_machine);
    let secrets: Vec<&str> = all.map(|(_, secret)| secret.trim_matches(['\'', '"'])).collect();
    assert_eq!(secrets.len(), 4);
    for secret in secrets {
        assert!(secret.len() >= 40 && !said.contains(secret), "a secret is in the log");
    }
}

/// A host that is drained keeps what it has and is given no more.
#[test]
fn a_host_is_drained_by_a_command() {
    let region = Region::start();
    let host = hosts::Host::joined(&region);
    let before = region.launch_on(&host.id);
    let unknown = run(&["host", "drain", "h-0123456789abcdef0", "--data", region.data()]);
    assert!(!unknown.status.success(), "{}", text(&unknown.stdout));
    done(&run(&["host", "drain", &host.id, "--data", region.data()]));
    let listed: Value =
        serde_json::from_str(&done(&run(&["hosts", "--output", "json", "--data", region.data()]))).unwrap();
    let found = listed.as_array().unwrap().iter().find(|found| found["host_id"] == host.id.as_str()).unwrap();
    assert_eq!((&found["state"], &found["machines"]), (&Value::from("draining"), &Value::from(1)), "{listed}");
    let (status, body) = region.ask_in(REGION, &launch(&host.id));
    assert!(status >= 400 && body.contains("<Code>"), "{status}: {body}");
    let described = region.operate(&format!("Action=DescribeInstances&InstanceId.1={before}"));
    assert!(described.contains("<name>running</name>"), "{described}");
}

/// Where a program is; none: said aloud, and only its text is looked at.
fn shell(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!(
            "!! SKIPPED, not run: there is no {name} here (on Debian: apt-get install {name}); the script's text was looked at"
        );
    }
    found
}

fn completions(directory: &Path, shell: &str) -> (PathBuf, String) {
    let script = done(&run(&["completions", shell]));
    let path = directory.join("_inborn");
    std::fs::write(&path, &script).unwrap();
    (path, script)
}

/// Whether each quote and bracket of a script of zsh has its other half, outside of quotes.
fn is_balanced(script: &str) -> bool {
    let (mut open, mut quote, mut is_escaped) = (Vec::new(), None, false);
    for character in script.lines().filter(|line| !line.starts_with('#')).flat_map(|line| line.chars().chain(['\n'])) {
        match (quote, character) {
            _ if is_escaped => is_escaped = false,
            (None | Some('"'), '\\') => is_escaped = true,
            (Some(begun), _) => quote = Some(begun).filter(|begun| *begun != character),
            (None, '\'' | '"') => quote = Some(character),
            (None, '{' | '[') => open.push(character),
            (None, '}') if open.pop() != Some('{') => return false,
            (None, ']') if open.pop() != Some('[') => return false,
            _ => (),
        }
    }
    open.is_empty() && quote.is_none()
}

#[test]
fn completions_of_zsh_are_taken_by_zsh() {
    let directory = tempfile::tempdir().unwrap();
    let (path, script) = completions(directory.path(), "zsh");
    assert!(script.starts_with("#compdef inborn\n") && script.contains("_inborn__subcmd__host"), "{}", &script[..200]);
    assert!(is_balanced(&script));
    assert!(!is_balanced(&script.replacen("'", "", 1)) && !is_balanced(&format!("{script}}}")));
    let Some(zsh) = shell("zsh") else { return };
    done(&Command::new(&zsh).arg("-n").arg(&path).output().unwrap());
    let script = "fpath=($1 $fpath); autoload -Uz compinit; compinit -u -d $1/dump; print -r -- $_comps[inborn]; \
        autoload +X _inborn && print -r -- taken";
    let output = Command::new(zsh).args(["-f", "-c", script, "zsh"]).arg(directory.path()).output().unwrap();
    assert_eq!(done(&output), "_inborn\ntaken\n");
}

#[test]
fn completions_of_fish_are_taken_by_fish() {
    let directory = tempfile::tempdir().unwrap();
    let (path, script) = completions(directory.path(), "fish");
    let commands: Vec<&str> = script.lines().filter(|line| line.starts_with("complete -c inborn ")).collect();
    assert!(commands.len() > 100 && commands.iter().any(|line| line.contains("-a \"host\"")), "{}", commands.len());
    for line in &commands {
        // Each is one line, whose texts end on it.
        let quotes = line.replace("\\'", "").replace("\\\"", "");
        assert!(quotes.matches('\'').count() % 2 == 0, "{line}");
    }
    let Some(fish) = shell("fish") else { return };
    done(&Command::new(&fish).arg("--no-execute").arg(&path).output().unwrap());
    let asked = "source $argv[1]; complete -C 'inborn host dr'";
    let output = Command::new(fish)
        .args(["--no-config", "-c", asked])
        .arg(&path)
        .env("HOME", directory.path())
        .env("XDG_CONFIG_HOME", directory.path())
        .env("XDG_DATA_HOME", directory.path())
        .output()
        .unwrap();
    assert!(done(&output).starts_with("drain\t"), "{}", text(&output.stdout));
}

/// The key that secrets in the store are sealed with, from a program or from the service manager in place of its file.
#[test]
fn the_regions_own_key_comes_from_elsewhere() {
    let base = tempfile::tempdir().unwrap();
    let (data, elsewhere) = (private(base.path(), "data"), private(base.path(), "elsewhere"));
    let path = data.to_str().unwrap();
    Up::start(&data, up(&data)).stop();
    let key = elsewhere.join("key");
    std::fs::rename(data.join("epoch.key"), &key).unwrap();
    let refused = |command: &mut Command| {
        let output = command.stderr(Stdio::piped()).output().unwrap();
        assert!(!output.status.success());
        text(&output.stderr)
    };
    let said = refused(&mut up(&data));
    assert!(said.contains("epoch.key is missing"), "{said}");

    let by_program = || {
        let mut command = up(&data);
        command.arg("--key-command").arg(format!("cat {}", key.display()));
        command
    };
    let region = Up::start(&data, by_program());
    done(&run(&["launch", "--name", "by-program", "--data", path]));
    region.stop();
    let by_credential = || {
        let mut command = up(&data);
        command.args(["--key-credential", "key"]).env("CREDENTIALS_DIRECTORY", &elsewhere);
        command
    };
    let region = Up::start(&data, by_credential());
    let listed = done(&run(&["ps", "--data", path]));
    assert!(listed.contains("by-program"), "{listed}");
    region.stop();
    assert!(!data.join("epoch.key").exists(), "neither makes the file");

    // Another key opens nothing, and is not told.
    let wrong = "inborn-key-1 0202020202020202020202020202020202020202020202020202020202020202";
    std::fs::write(&key, wrong).unwrap();
    for (mut command, what) in [(by_program(), "key command"), (by_credential(), "credential")] {
        let said = refused(&mut command);
        assert!(said.contains("is not the one") && said.contains(what) && !said.contains("0202"), "{said}");
    }
    std::fs::remove_file(&key).unwrap();
    let said = refused(&mut by_program());
    assert!(said.contains("has failed"), "{said}");
    let said = refused(&mut by_credential());
    assert!(said.contains("LoadCredential"), "{said}");
}
