//! Any bytes as an agent's key and as the values of its header, a line each: read or refused, never a panic; a key has one
//! form, and no bytes are a signature by a key that did not make them.
#![no_main]

use inborn_credential::{AgentKey, SecondSignature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let text = core::str::from_utf8(lines.next().unwrap_or_default()).unwrap_or_default();
    let key = AgentKey::parse(text);
    if let Some(key) = &key {
        assert!(key.as_der().len() <= AgentKey::BYTES_MAX);
        assert_eq!(AgentKey::from_der(key.as_der().to_vec()).as_ref(), Some(key));
    }
    assert_eq!(AgentKey::from_der(bytes.to_vec()).map(|key| key.as_der().to_vec()).unwrap_or(bytes.to_vec()), bytes);
    if let (Some(signature), Some(key)) = (SecondSignature::read(lines, b"AWS4-HMAC-SHA256 "), key) {
        assert!(!signature.is_by(&key));
    }
});
