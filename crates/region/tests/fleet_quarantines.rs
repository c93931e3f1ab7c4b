//! Quarantine over several region servers that change the same one at a time: what a server has read, and judged by, is what it changes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::fleet::{Server, two, until};
use common::verdict::{expired, good, whoami};
use common::*;
use inborn_store::Store;

const OTHER: &str = "210987654321";

fn put(subject: &str) -> Call {
    ec2(&format!("Action=Inborn.PutQuarantine&Subject.1={subject}&Reason=a%20test"))
}

fn end(subject: &str) -> Call {
    ec2(&format!("Action=Inborn.EndQuarantine&Subject.1={subject}"))
}

async fn done(at: &Server, call: &Call) {
    let reply = at.send(&at.operator(), call).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

/// What a server answers that is overtaken between what it has read and what it writes.
async fn overtaken<T>(at: &Server, who: &Signer, call: &Call, by: impl Future<Output = T>) -> (Reply, T) {
    let held = at.link.hold_changes().await;
    let overtaking = async {
        until("it is about to write", async || at.link.held_changes() == 1).await;
        let done = by.await;
        drop(held);
        done
    };
    tokio::join!(at.send(who, call), overtaking)
}

/// Whoever has stolen a key of an account, and is as fast as the region's operators.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_region_puts_meanwhile_an_account_neither_ends_nor_changes() {
    for call in [end(OTHER), put(OTHER)] {
        let (fleet, a, b) = &two().await;
        let thief = a.operator_of(OTHER).await;
        until("its key is known", async || whoami(b, &thief).await == good()).await;
        if call.body == end(OTHER).body {
            assert_eq!(b.send(&thief, &put(OTHER)).await.status, 200, "its own");
        }
        let (reply, ()) = overtaken(b, &thief, &call, done(a, &put(OTHER))).await;
        assert_eq!(reply.status, 400, "{}", call.body);
        assert!(reply.body.contains("only they can change that"), "{}", reply.body);
        let by = format!("arn:aws:iam::{}:user/operator", identity().account);
        let found: Vec<_> = fleet.store.quarantines().await.unwrap().into_iter().map(|found| found.by).collect();
        assert_eq!(found, [by], "{}", call.body);
        assert_eq!(b.send(&thief, &end(OTHER)).await.status, 400);
        done(b, &end(OTHER)).await;
    }
}

/// Released elsewhere, given something, and put into quarantine again: the release that is under way ends that, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_ends_what_was_given_while_it_was_under_way() {
    let (fleet, a, b) = &two().await;
    let id = a.launch().await;
    until("it is known", async || whoami(b, &a.machine(id)).await == good()).await;
    let subject = id.to_string();
    // Within a second nothing tells the one quarantine from the other but what was cut off.
    for seconds in [0, 1] {
        done(a, &put(&subject)).await;
        let again = async {
            done(a, &end(&subject)).await;
            let given = a.machine(id);
            assert_eq!(whoami(a, &given).await, good());
            for clock in [&a.clock, &b.clock] {
                clock.advance(seconds);
            }
            done(a, &put(&subject)).await;
            given
        };
        let (reply, given) = overtaken(b, &b.operator(), &end(&subject), again).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(fleet.store.quarantines().await, Ok(vec![]));
        assert_eq!(whoami(b, &given).await, expired(), "after {seconds} s");
        until("the release is known", async || whoami(a, &given).await == expired()).await;
        assert_eq!(whoami(b, &b.machine(id)).await, good());
    }
}
