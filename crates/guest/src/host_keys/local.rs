//! The host keys in a directory of this machine, and the signatures that `ssh-keygen` makes with them.
//!
//! Wherever OpenSSH's server is, its `ssh-keygen` is: it reads every form of private key that `sshd` does.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use inborn_ssh::{
    COMMENT_BYTES_MAX, HostKeySet, HostKeysError, LINE_BYTES_MAX, NAMESPACE, PublicKey, certified_key, verify_proof,
};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::Certificate;

/// How long a signature may take: RSA keys of 8192 bits on a small machine take half a second.
const SIGN_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there are no host keys.
#[derive(Debug, thiserror::Error)]
pub enum LocalKeysError {
    /// A file or the directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is there is no set of host keys.
    #[error("the host keys in {} cannot be published: {fault}; `ssh-keygen -A` makes those that are missing", path.display())]
    Keys {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        fault: HostKeysError,
    },
    /// None of the keys there would be taken.
    #[error("none of the host keys in {} can be published: {left_out}; `ssh-keygen -A` makes those that are missing", path.display())]
    Unfit {
        /// The directory.
        path: PathBuf,
        /// Each file, and what is wrong with it.
        left_out: String,
    },
}

/// Host keys of this machine: the public ones, and where the private ones are.
#[derive(Debug)]
pub struct LocalKeys {
    set: HostKeySet,
    /// The file of each key of the set, without `.pub`.
    files: Vec<(PublicKey, PathBuf)>,
    /// The files of keys that were replaced.
    old: Vec<PathBuf>,
    /// What stands beside them and is no key that a region takes, with the reason.
    left_out: Vec<String>,
}

impl LocalKeys {
    /// Reads `ssh_host_*_key.pub` in `directory`. The private keys beside those of the set sign, and so do `old`, which were
    /// replaced. A key that a region would refuse, as one that is too short, is left out: it would refuse the others with it,
    /// and a machine of which no key is known is reached by nobody.
    ///
    /// # Errors
    /// See [`LocalKeysError`].
    pub fn read(directory: &Path, old: &[PathBuf]) -> Result<Self, LocalKeysError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LocalKeysError::Read { path, source }
        };
        let mut public = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed(directory))? {
            let path = entry.map_err(failed(directory))?.path();
            if path.file_name().and_then(OsStr::to_str).is_some_and(is_host_key) {
                public.push(path);
            }
        }
        public.sort();
        let (mut lines, mut files, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for path in public {
            let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
            let line = publishable(text.lines().next().unwrap_or_default());
            match HostKeySet::parse([line.as_str()]) {
                Ok(_) => {
                    lines.push(line);
                    files.push(path.with_extension(""));
                }
                // It has a type that is passed over, as DSA keys are: nobody expects it to be published.
                Err(HostKeysError::None) => {}
                Err(HostKeysError::Key { fault, .. }) => left_out.push(format!("{}: {fault}", path.display())),
                Err(fault @ HostKeysError::TooMany) => {
                    return Err(LocalKeysError::Keys { path: directory.to_owned(), fault });
                }
            }
        }
        let set = HostKeySet::parse(lines.iter().map(String::as_str)).map_err(|fault| {
            let path = directory.to_owned();
            if left_out.is_empty() {
                LocalKeysError::Keys { path, fault }
            } else {
                LocalKeysError::Unfit { path, left_out: left_out.join("; ") }
            }
        })?;
        let files = lines.iter().zip(files).filter_map(|(line, file)| Some((PublicKey::parse(line).ok()?, file)));
        let files = files.collect();
        Ok(Self { set, files, old: old.to_vec(), left_out })
    }

    /// A certificate with the file of its key, if it is one of these keys.
    pub(super) fn certified(&self, line: String) -> Option<Certificate> {
        let key = certified_key(&line, &self.set)?;
        let (_, file) = self.files.iter().find(|(of, _)| of == key)?;
        Some(Certificate { key: file.clone(), line })
    }

    /// The public keys.
    #[must_use]
    pub const fn set(&self) -> &HostKeySet {
        &self.set
    }

    /// The files of keys that no region takes, each with the reason.
    pub(super) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Signs `message` with every private key that can be used; and why the others cannot.
    pub(super) async fn prove(&self, message: &str) -> (Vec<String>, Vec<String>) {
        let (mut proofs, mut failures) = (Vec::new(), Vec::new());
        for key in self.files.iter().map(|(_, file)| file).chain(&self.old) {
            let signed = sign(key, message).await;
            // As the region looks at it: it refuses the whole call for one that it does not take.
            let proof = signed.and_then(|proof| match verify_proof(&proof, message) {
                Ok(_) => Ok(proof),
                Err(fault) => Err(fault.to_string()),
            });
            match proof {
                Ok(proof) => proofs.push(proof),
                Err(why) => failures.push(format!("{}: {why}", key.display())),
            }
        }
        (proofs, failures)
    }
}

fn is_host_key(name: &str) -> bool {
    name.starts_with("ssh_host_") && name.ends_with("_key.pub")
}

/// A line without a comment that would be refused: a comment is for people, and no reason to have no host keys.
fn publishable(line: &str) -> String {
    let mut words = line.splitn(3, ' ');
    let bare = [words.next().unwrap_or_default(), words.next().unwrap_or_default()].join(" ");
    let comment = words.next().unwrap_or_default().trim();
    let fits = comment.len() <= COMMENT_BYTES_MAX
        && bare.len() + comment.len() < LINE_BYTES_MAX
        && !comment.chars().any(|c| c.is_control() || matches!(c, '"' | '\\'));
    if fits && !comment.is_empty() { format!("{bare} {comment}") } else { bare }
}

async fn sign(key: &Path, message: &str) -> Result<String, String> {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-Y", "sign", "-q", "-n", NAMESPACE, "-f"])
        .arg(key)
        // Neither an agent nor a person is to be asked.
        .env_remove("SSH_AUTH_SOCK")
        .env("SSH_ASKPASS_REQUIRE", "never")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("ssh-keygen cannot be run: {error}"))?;
    let signing = async {
        if let Some(mut stdin) = child.stdin.take() {
            // One that has ended already says why on its standard error.
            let _ = stdin.write_all(message.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = timeout(SIGN_TIMEOUT, signing).await.map_err(|_| "ssh-keygen did not sign in time".to_owned())?;
    let output = output.map_err(|error| error.to_string())?;
    match String::from_utf8(output.stdout) {
        Ok(proof) if output.status.success() => Ok(proof),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("ssh-keygen failed without a word");
            Err(line.chars().filter(|c| !c.is_control()).take(200).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_keys_are_told_by_their_names() {
        for (name, is_one) in [
            ("ssh_host_ed25519_key.pub", true),
            ("ssh_host_rsa_key.pub", true),
            ("ssh_host_rsa_key", false),
            ("ssh_host_rsa_key-cert.pub", false),
            ("id_ed25519.pub", false),
            ("moduli", false),
        ] {
            assert_eq!(is_host_key(name), is_one, "{name}");
        }
    }

    #[test]
    fn a_comment_that_would_be_refused_is_left_out() {
        for (line, kept) in [
            ("ssh-rsa AAAA root@host", "ssh-rsa AAAA root@host"),
            ("ssh-rsa AAAA", "ssh-rsa AAAA"),
            ("ssh-rsa AAAA the \"first\"", "ssh-rsa AAAA"),
            ("ssh-rsa AAAA a\\b", "ssh-rsa AAAA"),
            ("ssh-rsa AAAA \u{1b}[2J", "ssh-rsa AAAA"),
        ] {
            assert_eq!(publishable(line), kept);
        }
        assert_eq!(publishable(&format!("ssh-rsa AAAA {}", "c".repeat(COMMENT_BYTES_MAX + 1))), "ssh-rsa AAAA");
    }
}
