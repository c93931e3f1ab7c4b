//! The key-encryption key as a program prints it: one that asks a key management service, a TPM or `age`.
//!
//! The program is started without a shell, with nothing on its standard input. What it prints is never logged; what it says on
//! standard error goes to ours.

use std::io::Read;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::key_file::{self, FILE_BYTES_MAX, KEY_BYTES, KeyFileError};

/// How long the program may take: services far away are asked, and people press buttons.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The key that the program `argv` prints, in the form of a key file, within `timeout`.
///
/// # Errors
/// It cannot be started, fails, takes too long, or prints no key.
pub(crate) fn read(argv: &[String], timeout: Duration) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyFileError> {
    let deadline = Instant::now() + timeout;
    let program = argv.first().cloned().unwrap_or_default();
    let failed = |why: String| KeyFileError::Command { program: program.clone(), why };
    let mut child = Command::new(&program)
        .args(argv.iter().skip(1))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    let too_slow = || failed(format!("has not ended after {} s", timeout.as_secs()));
    let printed = child.stdout.take().and_then(|stdout| printed(stdout, deadline));
    let status = printed.is_some().then(|| end(&mut child, deadline)).flatten();
    let (Some(text), Some(status)) = (printed, status) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(too_slow());
    };
    if !status.success() {
        return Err(failed(format!("has failed ({status})")));
    }
    let text = (text.len() as u64 <= FILE_BYTES_MAX).then_some(text);
    let text = text.as_ref().and_then(|text| core::str::from_utf8(text).ok());
    text.and_then(key_file::parse).ok_or_else(|| {
        failed("prints no key: it has to print the line of a key file, `inborn-key-1` and 64 hex digits".to_owned())
    })
}

/// What is printed until the end, or more than a key is; `None`: that takes too long.
fn printed(stdout: ChildStdout, deadline: Instant) -> Option<Zeroizing<Vec<u8>>> {
    let (send, receive) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        // As much as is ever read: no copy is left behind by a buffer that grows.
        let mut text = Zeroizing::new(vec![0; usize::try_from(FILE_BYTES_MAX + 1).unwrap_or_default()]);
        let (mut stdout, mut length) = (stdout, 0);
        while let Some(rest) = text.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match stdout.read(rest) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        text.truncate(length);
        let _ = send.send(text);
    });
    receive.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

fn end(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            Ok(None) | Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "inborn-key-1 0101010101010101010101010101010101010101010101010101010101010101";

    fn of(argv: &[&str]) -> Result<[u8; KEY_BYTES], String> {
        let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
        read(&argv, Duration::from_secs(10)).map(|key| *key).map_err(|error| error.to_string())
    }

    #[test]
    fn what_it_prints_is_the_key() {
        assert_eq!(of(&["echo", LINE]), Ok([1; KEY_BYTES]));
        // No shell: what stands for something there is a word like any other here.
        assert!(of(&["echo", LINE, ";", "true"]).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let long = "0".repeat(10_000);
        for argv in [&["echo", "secret-text"][..], &["true"], &["echo", &long], &["yes", LINE]] {
            let said = of(argv).unwrap_err();
            assert!(said.contains("prints no key") || said.contains("has failed"), "{argv:?}: {said}");
            assert!(!said.contains("secret-text") && !said.contains("0101"), "{said}");
        }
        assert!(of(&["false"]).unwrap_err().contains("has failed"));
        assert!(of(&["sh", "-c", &format!("echo {LINE}; exit 3")]).unwrap_err().contains("has failed"));
        assert!(of(&["/nowhere/at-all"]).unwrap_err().contains("cannot be started"));
        assert!(of(&[]).unwrap_err().contains("cannot be started"));
    }

    #[test]
    fn one_that_does_not_end_is_ended() {
        for script in ["exec sleep 600".to_owned(), format!("echo {LINE}; exec >&-; exec sleep 600")] {
            let argv = ["sh".to_owned(), "-c".to_owned(), script];
            let begun = Instant::now();
            let said = read(&argv, Duration::from_secs(1)).unwrap_err().to_string();
            assert!(said.contains("has not ended after 1 s"), "{said}");
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
    }
}
