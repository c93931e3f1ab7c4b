//! Any bytes as what a region answers to a host, and as what a host kept: never a panic, never a credential that has ended, and
//! nothing that is served for ever.
#![no_main]

use std::time::Duration;

use inborn_credential::{Delivery, Kek};
use inborn_fleet::{Credentials, Document, Machines};
use inborn_host_agent::{Agent, Ask, CACHE_BYTES_MAX, Dice, Now, decode, open};
use inborn_identity::UnixTime;
use libfuzzer_sys::fuzz_target;

/// A moment long before the last that there is.
const NOW: Now = Now { wall: UnixTime::from_secs(1_800_000_000), up: Duration::from_secs(60) };
const HOST: &str = "h-0123456789abcdef0";

struct Same;

impl Dice for Same {
    fn up_to(&mut self, most: u64) -> u64 {
        most / 2
    }
}

fn check(agent: &mut Agent) {
    for known in agent.mirror().all() {
        if let Some((credential, _)) = known.credential(Delivery::V2, NOW.wall) {
            assert!(known.record().is_running && !known.record().is_withheld && NOW.wall < credential.expires_at);
        }
    }
    let count = agent.mirror().count();
    let later = Now { wall: UnixTime::MAX, up: NOW.up };
    assert_eq!(agent.look_at_the_time(later).len(), count, "nothing is served for ever");
}

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (which, status, bytes) = input;
    let instance = "i-0123456789abcdef0".parse().expect("an id");
    let mut agent = Agent::new(2, NOW.wall, &mut Same);
    if which % 5 == 4 {
        // Sealed as ours are, whatever is inside.
        let key = Kek::from_bytes(&[7; 32]).expect("a key");
        let blob = key.seal_up_to(CACHE_BYTES_MAX, &format!("host-cache {HOST}"), bytes).expect("sealed");
        let Ok(kept) = open(&blob, &key, HOST.parse().expect("an id")) else { return };
        agent.restore(kept, NOW, &mut Same);
    } else {
        let ask = match which % 5 {
            0 => Ask::Machines(Machines::default()),
            1 => Ask::Credentials(Credentials { instances: vec![instance] }),
            2 => Ask::Document(Document { instance }),
            _ => Ask::Renew,
        };
        let status = if status < 600 { status } else { 200 };
        let outcome = decode(&ask, status, Some(u64::from(status)), bytes);
        agent.heard(ask, outcome, NOW, &mut Same);
    }
    let _ = (agent.next(NOW), agent.rests_for(NOW), agent.snapshot());
    check(&mut agent);
});
