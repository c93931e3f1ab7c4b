//! Any bytes as a public key that is imported: taken or refused, never a panic; what is taken is one line that is taken
//! again as the same key.
#![no_main]

use inborn_ssh::ImportedKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|material: &[u8]| {
    if let Ok(key) = ImportedKey::read(material, "laptop") {
        assert!(key.line.ends_with(" laptop") && !key.line.contains('\n'));
        assert_eq!(ImportedKey::read(key.line.as_bytes(), "laptop"), Ok(key));
    }
});
