//! Host certificates where sshd finds them: a file for each beside its configuration, and one that names them.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use inborn_guest::host_keys::Certificate;

/// Below the directory of sshd's configuration, which is not the one of the keys: that is watched for changes.
const DIRECTORY: &str = "inborn-host-certificates";
const CONFIG_FILE: &str = "60-inborn-host-certificates.conf";
/// Where a server runs that reads what is installed.
const SYSTEM_CONFIG: &str = "/etc/ssh/sshd_config.d";
const PID_FILES: [&str; 2] = ["/run/sshd.pid", "/var/run/sshd.pid"];
const UNITS: [&str; 2] = ["ssh.service", "sshd.service"];

/// Installs these certificates instead of any before, and has the system's sshd read them. Without any, nothing is changed:
/// those that are there end by themselves.
pub(super) fn install(errors: &mut impl Write, config: &Path, certificates: &[Certificate]) -> anyhow::Result<()> {
    if certificates.is_empty() {
        writeln!(
            errors,
            "inborn: no certificates were given: the operator has to allow them (`inborn host-keys policy --certificates \
             enabled`), and each key has to be proven"
        )?;
        return Ok(());
    }
    if !config.is_dir() {
        bail!("there is no directory {}: make it, and have sshd_config include its *.conf", config.display());
    }
    let directory = config.join(DIRECTORY);
    std::fs::DirBuilder::new()
        .recursive(true)
        .create(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mut lines = String::from("# By `inborn host-keys push --certificates`.\n");
    for certificate in certificates {
        let name = certificate.key.file_name().and_then(|name| name.to_str()).context("a key has no name")?;
        let path = directory.join(format!("{name}-cert.pub"));
        replace(&path, &format!("{}\n", certificate.line))?;
        lines.push_str(&format!("HostCertificate {}\n", path.display()));
    }
    let file = config.join(CONFIG_FILE);
    let before = std::fs::read_to_string(&file).ok();
    if before.as_deref() != Some(&lines) {
        replace(&file, &lines)?;
    }
    if config != Path::new(SYSTEM_CONFIG) {
        return Ok(());
    }
    if let Err(error) = check() {
        // A server that does not start again locks everybody out.
        match before {
            Some(before) => replace(&file, &before)?,
            None => std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?,
        }
        return Err(error.context("sshd does not take the certificates: its configuration is as before"));
    }
    reload(errors)
}

/// Writes a file that appears whole or not at all and that everybody may read, as sshd's other public files.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&fresh)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&fresh, path)
    };
    write().with_context(|| format!("cannot write {}: run this as root", path.display()))
}

/// Asks sshd whether it would start with its configuration.
fn check() -> anyhow::Result<()> {
    let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].map(PathBuf::from).into_iter().find(|path| path.exists());
    let sshd = sshd.context("there is no sshd in /usr/sbin")?;
    let checked = Command::new(sshd).arg("-t").stdin(Stdio::null()).output().context("cannot run sshd")?;
    if checked.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&checked.stderr);
    bail!("{}", crate::output::printable(said.lines().next_back().unwrap_or("sshd -t failed without a word")))
}

/// Has a running sshd read its configuration again: by systemd, else by its signal. One that is started for each connection
/// reads it anyhow.
fn reload(errors: &mut impl Write) -> anyhow::Result<()> {
    let systemctl = |words: &[&str]| {
        Command::new("systemctl").args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
    };
    for unit in UNITS {
        let is_active = systemctl(&["--quiet", "is-active", unit]).is_ok_and(|status| status.success());
        if is_active {
            let status = systemctl(&["reload", unit]).context("cannot run systemctl")?;
            return if status.success() { Ok(()) } else { bail!("`systemctl reload {unit}` failed") };
        }
    }
    for path in PID_FILES {
        let pid = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            text => text.with_context(|| format!("cannot read {path}"))?.trim().parse().ok(),
        };
        let name = pid.and_then(|pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw)
            && name.is_some_and(|name| name.trim_end() == "sshd")
        {
            return rustix::process::kill_process(pid, rustix::process::Signal::HUP).context("cannot signal sshd");
        }
    }
    writeln!(errors, "inborn: no sshd is running that could be made to read its certificates: start or reload it")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str, line: &str) -> Certificate {
        Certificate { line: line.to_owned(), key: PathBuf::from("/etc/ssh").join(name) }
    }

    #[test]
    fn certificates_are_named_to_sshd_and_replaced() {
        let place = tempfile::tempdir().unwrap();
        let (first, second) = (certificate("ssh_host_rsa_key", "A"), certificate("ssh_host_ed25519_key", "B"));
        let mut errors = Vec::new();
        install(&mut errors, place.path(), &[first, second.clone()]).unwrap();
        let directory = place.path().join(DIRECTORY);
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(directory.join("ssh_host_rsa_key-cert.pub")), "A\n");
        let config = read(place.path().join(CONFIG_FILE));
        let named: Vec<&str> = config.lines().filter_map(|line| line.strip_prefix("HostCertificate ")).collect();
        assert_eq!(named.len(), 2);
        assert!(named.iter().all(|path| Path::new(path).exists()));
        install(&mut errors, place.path(), &[Certificate { line: "C".to_owned(), ..second }]).unwrap();
        assert_eq!(read(directory.join("ssh_host_ed25519_key-cert.pub")), "C\n");
        assert_eq!(read(place.path().join(CONFIG_FILE)).matches("HostCertificate").count(), 1);
        assert!(errors.is_empty());
    }

    #[test]
    fn without_certificates_nothing_is_touched() {
        let place = tempfile::tempdir().unwrap();
        let mut errors = Vec::new();
        install(&mut errors, place.path(), &[]).unwrap();
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        assert!(String::from_utf8(errors).unwrap().contains("--certificates enabled"));
        let error = install(&mut Vec::new(), Path::new("/nonexistent"), &[certificate("x", "A")]).unwrap_err();
        assert!(error.to_string().contains("make it"), "{error}");
    }
}
