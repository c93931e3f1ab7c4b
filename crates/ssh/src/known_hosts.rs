//! What clients are told of host keys: lines of `known_hosts`, and SSHFP records.

use crate::{HostKeySet, PublicKey};

/// `NAMES TYPE BASE64`: a line of `known_hosts`. Several names are divided by commas; who calls has checked that they are
/// names or addresses.
#[must_use]
pub fn known_hosts_line(names: &str, key: &PublicKey) -> String {
    format!("{names} {}", key.bare_line())
}

/// SSHFP records for `name`, one line for each key, with SHA-256 (RFC 6594).
#[must_use]
pub fn sshfp_records(name: &str, keys: &HostKeySet) -> Vec<String> {
    let record = |key: &PublicKey| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.blob());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name} IN SSHFP {} 2 {hex}", key.kind().sshfp_number())
    };
    keys.iter().map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_keys::tests::{ECDSA, ED25519, RSA, SSHFP};

    /// `ssh-keygen -r i-0123456789abcdef0 -f KEY` of OpenSSH 9.2, its SHA-256 records.
    #[test]
    fn sshfp_records_are_those_of_ssh_keygen() {
        let keys = HostKeySet::parse([ED25519, ECDSA, RSA]).unwrap();
        assert_eq!(sshfp_records("i-0123456789abcdef0", &keys), SSHFP);
    }

    #[test]
    fn a_line_has_no_comment() {
        let key = PublicKey::parse(ED25519).unwrap();
        assert_eq!(known_hosts_line("i-1,web-1", &key), format!("i-1,web-1 {}", key.bare_line()));
    }
}
