//! Any bytes as host keys and as a proof, as a machine sends them: taken or refused, never a panic; what is taken comes back
//! the same from its own lines. The first empty line parts the keys from the proof.
#![no_main]

use inborn_ssh::{HostKeySet, KEYS_MAX, PublicKey, certified_key, verify_proof};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let (lines, proof) = text.split_once("\n\n").unwrap_or((&text, ""));
    if let Ok(keys) = HostKeySet::parse(lines.split('\n')) {
        assert!((1..=KEYS_MAX).contains(&keys.iter().len()));
        let again = HostKeySet::parse(keys.lines().iter().map(String::as_str)).expect("its own lines are taken");
        assert_eq!((again.lines(), again.digest()), (keys.lines(), keys.digest()));
        for key in keys.iter() {
            assert_eq!(PublicKey::parse(&key.bare_line()).as_ref(), Ok(key));
            assert!(!key.line().contains(['\n', '"', '\u{1b}']));
        }
        // What a region sends back as a certificate goes into a file of sshd.
        if certified_key(proof, &keys).is_some() {
            assert!(!proof.contains('\n'));
        }
    }
    // That a message holds which nobody signed would be a forgery.
    assert!(verify_proof(proof, "a message that was never signed").is_err());
});
