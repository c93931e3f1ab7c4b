//! Any bytes as what a guest's metadata say of SSH keys: blocks, a chain of certificates, a staple. Taken apart or refused, never
//! a panic; and nothing that was not signed is believed.
#![no_main]

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use inborn_guest::authorized_keys::{BLOCKS_MAX, Wanted, blocks};
use inborn_identity::UnixTime;
use inborn_pki::{InstanceConnectSigner, LoginKeysRoot};
use libfuzzer_sys::fuzz_target;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

static SIGNER: LazyLock<InstanceConnectSigner> = LazyLock::new(|| {
    InstanceConnectSigner::create(&"us-east-1".parse().unwrap(), "amazonaws.com", NOW).unwrap().0
});

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let wanted =
        Wanted { instance: "i-0123456789abcdef0".parse().unwrap(), user: "root", any_user: false, now: NOW };
    let mut count = 0;
    for block in blocks(&text) {
        count += 1;
        let Ok(block) = block else { continue };
        assert!(block.signed.ends_with(&format!("{}\n", block.key)) && !block.key.contains('\n'));
        if block.check(wanted).is_ok() {
            assert!(block.signed.lines().any(|line| line == "#User=root"));
        }
    }
    assert!(count <= BLOCKS_MAX);
    let _ = LoginKeysRoot::from_pem(input);
    let root = LoginKeysRoot::from_pem(SIGNER.root_pem().as_bytes()).unwrap();
    assert!(root.follow(&text, None, NOW).is_err());
    let chain = root.follow(SIGNER.chain_pem(), None, NOW).unwrap();
    assert!(chain.proven_by(&[STANDARD.encode(input)], NOW).is_err());
});
