//! Opening a token: no bytes panic, and nothing opens but what was minted, under the key id it was minted for.
#![no_main]

use std::sync::LazyLock;

use inborn_credential::{Claims, Delivery, Epoch, EpochId, EpochRoot, Keyring, Kind};
use inborn_identity::{AccountId, InstanceId, Partition, UnixTime};
use libfuzzer_sys::fuzz_target;

static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    let epochs = [1, 2].map(|id| {
        let root = EpochRoot::from_bytes([7; EpochRoot::BYTES]);
        Epoch::new(EpochId(id), &root, Partition::Aws).expect("fixed keys are keys")
    });
    Keyring::new(epochs.into(), EpochId(1)).expect("two epochs are a keyring")
});

/// Claims that follow from the input.
fn claims(seed: &[u8; 24]) -> Claims {
    let [a, b, c, d, e, f, g, h, i, n @ ..] = *seed;
    let [number, ..] = n;
    let issued_at = UnixTime::from_secs(u64::from(u32::from_be_bytes([a, b, c, d])));
    Claims {
        kind: match number % 2 {
            0 => Kind::Identity,
            _ => Kind::Management {
                role: "r".repeat(usize::from(a % 64) + 1).parse().expect("a role name"),
                role_id: "A".repeat(usize::from(b % 32) + 1).into(),
            },
        },
        account: AccountId::new(u64::from(c)).expect("a small account"),
        instance: InstanceId::from_bytes([a, b, c, d, e, f, g, h, i]),
        region: "r".repeat(usize::from(d % 30) + 3).parse().expect("a region"),
        issued_at,
        expires_at: issued_at.plus(u64::from(e) + 1),
        delivery: if f % 2 == 0 { Delivery::V1 } else { Delivery::V2 },
        boot_generation: u32::from(g),
        private_address: (h % 2 == 0).then(|| [1; 16].into()),
    }
}

fuzz_target!(|input: (String, Vec<u8>, [u8; 24], u16, u8)| {
    let (id, token, seed, position, change) = input;
    assert!(KEYRING.open(&id, &token).is_err(), "forged");

    let claims = claims(&seed);
    let credential = KEYRING.mint(&claims).expect("claims that can be");
    let key_id = credential.access_key_id.as_str();
    let mut token = credential.session_token.expose().as_bytes().to_vec();
    let opened = KEYRING.open(key_id, &token).expect("what was minted opens");
    assert_eq!((opened.claims, opened.secret), (claims, credential.secret_access_key));

    assert!(id == key_id || KEYRING.open(&id, &token).is_err(), "another key id");
    let position = usize::from(position) % token.len();
    token[position] ^= change;
    assert_eq!(KEYRING.open(key_id, &token).is_ok(), change == 0, "changed");
});
