//! Any bytes as the header of a balancer: refused, wanted more of, or read, and never more of than its length. Read in pieces of the
//! size that the first byte says, as wanted, they come to the same end.
#![no_main]

use inborn_listener::proxy_header::{Progress, REST_BYTES_MAX, SIGNATURE, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else { return };
    let size = usize::from(*size).max(1);
    let at_once = parse(bytes);
    if let Ok(Progress::Whole(header)) = at_once {
        assert!(bytes.starts_with(&SIGNATURE) && header.length <= bytes.len() && header.length <= 16 + REST_BYTES_MAX);
        assert_eq!(parse(&bytes[..header.length]), at_once);
        if let Some(source) = header.source {
            assert_eq!(source.ip(), source.ip().to_canonical());
            assert!(!source.ip().is_unspecified() && !source.ip().is_multicast());
        }
    }
    let mut read = 0;
    let in_pieces = loop {
        match parse(&bytes[..read]) {
            Ok(Progress::Wants(wanted)) if read < bytes.len() => read = bytes.len().min(read + wanted.min(size)),
            other => break other,
        }
    };
    assert_eq!(in_pieces, at_once);
    if let Ok(Progress::Whole(header)) = in_pieces {
        assert_eq!(read, header.length, "a byte of the client's was taken");
    }
});
