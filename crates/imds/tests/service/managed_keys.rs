//! `managed-ssh-keys`: as the login scripts of Instance Connect ask for it, and as it ends.

use inborn_imds::VERSIONS;

use crate::lab::{Lab, NOW, lab, managed_keys};

const ROOT: &str = "/latest/meta-data/managed-ssh-keys";

fn sent() -> Lab {
    let mut lab = lab();
    lab.managed_keys = managed_keys();
    lab
}

#[test]
fn all_that_is_listed_answers() {
    let lab = sent();
    assert!(lab.get("/latest/meta-data/").lines().any(|line| line == "managed-ssh-keys/"));
    assert_eq!(lab.get(ROOT), "active-keys/\nsigner-cert\nsigner-ocsp/");
    assert_eq!(lab.get(&format!("{ROOT}/active-keys/")), "a.user@realm\nroot");
    assert_eq!(lab.get(&format!("{ROOT}/signer-ocsp/")), "0123456789ABCDEF0123456789ABCDEF01234567");
    for path in [
        "",
        "/active-keys",
        "/active-keys/root",
        "/active-keys/a.user@realm",
        "/active-keys/a.user%40realm",
        "/signer-cert",
        "/signer-ocsp",
        "/signer-ocsp/0123456789ABCDEF0123456789ABCDEF01234567",
    ] {
        for method in ["HEAD", "GET"] {
            for slash in ["", "/"] {
                assert_eq!(lab.status(&format!("{method} {ROOT}{path}{slash}")), 200, "{path}{slash}");
            }
        }
    }
    for path in ["/active-keys/roo", "/active-keys/root/x", "/signer-cert/x", "/signer-ocsp/0123", "/x", "/active"] {
        assert_eq!(lab.status(&format!("GET {ROOT}{path}")), 404, "{path}");
    }
}

#[test]
fn the_blocks_of_a_user_come_one_after_the_other() {
    let blocks = sent().get(&format!("{ROOT}/active-keys/root/"));
    let keys: Vec<&str> = blocks.lines().filter(|line| line.starts_with("ssh-")).collect();
    assert_eq!(keys, ["ssh-ed25519 AAAA first", "ssh-ed25519 AAAA second"]);
    assert!(blocks.ends_with("\nc2ln\n\n"), "{blocks:?}");
}

#[test]
fn a_key_is_there_to_its_end_and_the_directory_to_the_last_end() {
    for (second, root, other, first) in
        [(0, 200, 200, true), (19, 200, 200, true), (20, 200, 200, false), (39, 200, 200, false), (40, 404, 200, false)]
    {
        let lab = sent().at(NOW.plus(second));
        assert_eq!(lab.status(&format!("HEAD {ROOT}/active-keys/root/")), root, "{second}");
        assert_eq!(lab.status(&format!("HEAD {ROOT}/active-keys/a.user@realm/")), other, "{second}");
        assert_eq!(lab.get(&format!("{ROOT}/active-keys")).contains("root"), root == 200, "{second}");
        if root == 200 {
            assert_eq!(lab.get(&format!("{ROOT}/active-keys/root")).contains("first"), first, "{second}");
        }
    }
    let over = sent().at(NOW.plus(60));
    for path in ["", "/active-keys", "/signer-cert", "/signer-ocsp"] {
        assert_eq!(over.status(&format!("GET {ROOT}{path}")), 404, "{path}");
    }
    assert!(!over.get("/latest/meta-data/").contains("managed-ssh-keys"));
}

#[test]
fn dated_versions_have_none() {
    let lab = sent();
    for version in VERSIONS.iter().filter(|version| **version != "latest") {
        assert_eq!(lab.status(&format!("GET /{version}/meta-data/managed-ssh-keys/")), 404, "{version}");
        assert_eq!(lab.status(&format!("GET /{version}/meta-data/managed-ssh-keys/active-keys/root/")), 404);
        assert!(!lab.get(&format!("/{version}/meta-data/")).contains("managed-ssh-keys"), "{version}");
    }
}

#[test]
fn where_tokens_are_required_nobody_learns_of_keys_without_one() {
    let lab = sent().required();
    assert_eq!(lab.status(&format!("HEAD {ROOT}/active-keys/root/")), 401);
    assert_eq!(lab.status(&format!("HEAD {ROOT}/active-keys/root/\nX-aws-ec2-metadata-token: {{token}}")), 200);
}
