//! Epochs that follow each other, on one server and on several: nobody ever disagrees about a credential, none is lost by a
//! rotation, all are ended by a revocation, and nothing goes back.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use core::time::Duration;
use std::sync::Arc;

use common::verdict::*;
use common::*;
use inborn_credential::{Credential, Delivery, LIFE_MAX_SECONDS};
use inborn_identity::{Clock, InstanceId, UnixTime};
use inborn_region::{EpochSettings, FleetSettings, KeySource, Opening, Rates, TelemetrySettings};
use inborn_store::{EpochState, SealedEpoch, SqliteStore, Store};
use inborn_testkit::{Fault, FaultyStore};

/// How far ahead an epoch is said to seal, and how long after that the one before is retired.
const SEALS_AHEAD_SECONDS: u64 = 1260;
const RETIRED_AFTER_SECONDS: u64 = LIFE_MAX_SECONDS + 900;
/// How far ahead what is issued after a revocation is dated: as far as hosts are given credentials ahead of their time, and
/// clocks of servers may be apart.
const REVOKED_AHEAD_SECONDS: u64 = 370 + 60;

async fn ask(at: &Running, action: &str) -> Reply {
    at.send(&at.operator(), &ec2(&format!("Action=Inborn.{action}"))).await
}

fn issue(at: &Running, id: InstanceId, moment: UnixTime) -> Credential {
    at.region.issue(id, Delivery::V2, moment).unwrap().credential
}

/// The number of the epoch that sealed, as the token says it in clear.
fn epoch_of(credential: &Credential) -> u32 {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let text = &credential.session_token.expose().as_bytes()[4..10];
    let value = |byte: &u8| digits.iter().position(|digit| digit == byte).unwrap() as u64;
    u32::try_from(text.iter().fold(0, |all, byte| all << 6 | value(byte)) >> 4).unwrap()
}

fn stages(epochs: &[SealedEpoch]) -> Vec<(u32, EpochState)> {
    epochs.iter().map(|epoch| (epoch.id, epoch.state)).collect()
}

async fn is_at(store: &dyn Store, id: u32, state: EpochState) -> bool {
    store.epochs().await.unwrap().iter().any(|epoch| epoch.id == id && epoch.state == state)
}

#[tokio::test]
async fn a_rotation_changes_nothing_before_its_moment_and_ends_nothing() {
    let running = start().await;
    let id = running.launch().await;
    let before = issue(&running, id, NOW);
    let horizon = NOW.plus(SEALS_AHEAD_SECONDS);
    let prepared: Vec<Credential> = (0..5).map(|round| issue(&running, id, NOW.plus(round * 300))).collect();
    let reply = ask(&running, "RotateEpoch").await;
    assert_eq!((reply.status, between(&reply.body, "<epochId>", "<")), (200, "2"));
    assert_eq!(ask(&running, "RotateEpoch").await.status, 400, "one is on its way");
    let store = Arc::clone(running.region.store());
    assert_eq!(stages(&store.epochs().await.unwrap()), [(1, EpochState::Sealing), (2, EpochState::Sealing)]);
    for (round, prepared) in (0..).zip(&prepared) {
        let now = NOW.plus(round * 300);
        if prepared.issued_at < horizon {
            assert_eq!(issue(&running, id, now), *prepared, "what was prepared ahead is what is issued");
        }
    }
    running.clock.set(horizon.plus(7200));
    let after = issue(&running, id, running.clock.now());
    assert_eq!((epoch_of(&before), epoch_of(&after)), (1, 2));
    for credential in [&before, &after] {
        assert_eq!(whoami(&running, &credential.into()).await, good());
    }
    // By hand, so that the test does not depend on when the server looks.
    running.clock.set(horizon.plus(RETIRED_AFTER_SECONDS - 1));
    assert!(is_at(&*store, 1, EpochState::Sealing).await);
    running.clock.set(horizon.plus(RETIRED_AFTER_SECONDS));
    until("the first is retired", async || is_at(&*store, 1, EpochState::Retired).await).await;
    let first = store.epochs().await.unwrap().remove(0);
    assert!(first.blob.as_bytes().is_empty() && !first.revoked, "nothing is left of its root");
    let described = ask(&running, "DescribeEpochs").await.body;
    assert_eq!(described.matches("<state>retired</state>").count(), 1, "{described}");
    let now = issue(&running, id, running.clock.now());
    assert_eq!(whoami(&running, &(&now).into()).await, good());
}

#[tokio::test]
async fn a_revocation_ends_all_that_was_sealed_at_once() {
    let running = start().await;
    let (id, _agent, role) = running.managed().await;
    let before = issue(&running, id, NOW);
    let mut control = running.control_channel(&role, id).await;
    assert_eq!(ask(&running, "RevokeEpoch&EpochId=2").await.status, 400, "there is none");
    assert_eq!(ask(&running, "RevokeEpoch&EpochId=1").await.status, 200);
    for old in [&Signer::from(&before), &role] {
        assert_eq!(whoami(&running, old).await, expired());
    }
    assert_eq!(control.closed().await, 1000);
    assert_eq!(ask(&running, "RevokeEpoch&EpochId=1").await.status, 400, "it is over");
    let epochs = running.region.store().epochs().await.unwrap();
    assert_eq!(stages(&epochs), [(1, EpochState::Retired), (2, EpochState::Sealing)]);
    assert!(epochs[0].revoked && epochs[0].blob.as_bytes().is_empty());
    let after = issue(&running, id, running.clock.now());
    assert_eq!((epoch_of(&after), after.issued_at), (2, NOW.plus(REVOKED_AHEAD_SECONDS)));
    assert_eq!(whoami(&running, &(&after).into()).await, good());
    running.clock.advance(REVOKED_AHEAD_SECONDS);
    assert_eq!(issue(&running, id, running.clock.now()), after, "it is had before its time");
    let record = running.audit().into_iter().rfind(|line| line["eventName"] == "Inborn.RevokeEpoch").unwrap();
    assert_eq!(record["requestParameters"]["EpochId"], "1");
}

/// What a host has it drops by the moment of issue: also what it was given ahead of its time, and what was launched by a clock that
/// is ahead.
#[tokio::test]
async fn what_a_revocation_ends_was_issued_before_it_by_any_clock() {
    let running = start().await;
    for ahead in [0, 60, REVOKED_AHEAD_SECONDS - 1, REVOKED_AHEAD_SECONDS, REVOKED_AHEAD_SECONDS + 1] {
        let now = running.clock.now();
        let epoch = running.region.known_epochs().await.last().unwrap().id;
        running.clock.set(now.plus(ahead));
        let id = running.launch().await;
        let before = issue(&running, id, running.clock.now());
        running.clock.set(now);
        assert_eq!(ask(&running, &format!("RevokeEpoch&EpochId={epoch}")).await.status, 200, "{ahead}");
        let after = issue(&running, id, now);
        assert!(after.issued_at > before.issued_at, "{ahead}: a host would go on with what nobody lets in");
        assert!(after.issued_at >= now.plus(REVOKED_AHEAD_SECONDS), "{ahead}: or with what it has for later");
        assert_eq!((epoch_of(&before), epoch_of(&after)), (epoch, epoch + 1), "{ahead}");
        assert_eq!(whoami(&running, &(&before).into()).await, expired(), "{ahead}");
        assert_eq!(whoami(&running, &(&after).into()).await, good(), "{ahead}");
        running.clock.set(now.plus(3600));
    }
}

/// One that was made by mistake, or leaked before it began: nobody loses anything.
#[tokio::test]
async fn an_epoch_that_has_not_sealed_yet_is_revoked_without_a_cut_off() {
    let running = start().await;
    let id = running.launch().await;
    let before = issue(&running, id, NOW);
    assert_eq!(ask(&running, "RotateEpoch").await.status, 200);
    assert_eq!(ask(&running, "RevokeEpoch&EpochId=2").await.status, 200);
    assert_eq!(running.region.store().cut_offs().await.unwrap(), []);
    assert_eq!(whoami(&running, &(&before).into()).await, good());
    assert_eq!(ask(&running, "RotateEpoch").await.status, 200);
    let epochs = running.region.store().epochs().await.unwrap();
    assert_eq!(stages(&epochs).last(), Some(&(3, EpochState::Sealing)), "a number is used once");
}

/// After a revocation it is never an earlier one that seals, and what the later ones sealed stays good.
#[tokio::test]
async fn an_old_epoch_is_revoked_and_the_present_one_goes_on() {
    let running = start().await;
    let id = running.launch().await;
    let old = issue(&running, id, NOW);
    assert_eq!(ask(&running, "RotateEpoch").await.status, 200);
    running.clock.set(NOW.plus(SEALS_AHEAD_SECONDS + 3600));
    let present = issue(&running, id, running.clock.now());
    assert_eq!((epoch_of(&old), epoch_of(&present)), (1, 2));
    assert_eq!(ask(&running, "RevokeEpoch&EpochId=1").await.status, 200);
    assert_eq!(whoami(&running, &(&old).into()).await, expired());
    assert_eq!(whoami(&running, &(&present).into()).await, good());
    assert_eq!(issue(&running, id, running.clock.now()), present);
    assert_eq!(ask(&running, "RevokeEpoch&EpochId=2").await.status, 200);
    assert_eq!(epoch_of(&issue(&running, id, running.clock.now())), 3);
}

/// Every write of a rotation and of a revocation fails once, with and without effect: the server that comes after it goes on
/// from there, and what was issued stays as it was.
#[tokio::test]
async fn a_crash_between_any_two_stages() {
    for revoked in [false, true] {
        for (failing, after) in (0..5).flat_map(|failing| [(failing, false), (failing, true)]) {
            let name = format!("write {failing}, after it: {after}, revoked: {revoked}");
            let keys = tempfile::tempdir().unwrap();
            let key_source = || KeySource::File(keys.path().join("epoch.key"));
            let inner: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
            let faulty = Arc::new(FaultyStore::new(Arc::clone(&inner)));
            let running = start_on(Arc::clone(&faulty) as _, key_source()).await;
            let id = running.launch().await;
            let before = issue(&running, id, NOW);
            let fault = if after { Fault::io_after() } else { Fault::io_before() };
            faulty.fail(faulty.writes() + failing, fault);
            let action = if revoked { "RevokeEpoch&EpochId=1" } else { "RotateEpoch" };
            let first = ask(&running, action).await.status;
            drop(running);

            let again = start_on(Arc::clone(&inner), key_source()).await;
            let mut epochs = inner.epochs().await.unwrap();
            if first != 200 && (epochs.len() == 1 || (revoked && !epochs[0].revoked)) {
                assert_eq!(ask(&again, action).await.status, 200, "{name}");
            }
            until(&name, async || {
                epochs = inner.epochs().await.unwrap();
                epochs.last().is_some_and(|epoch| epoch.id == 2 && epoch.state == EpochState::Sealing)
            })
            .await;
            let expected = if revoked { expired() } else { good() };
            assert_eq!(whoami(&again, &(&before).into()).await, expected, "{name}");
            again.clock.set(NOW.plus(SEALS_AHEAD_SECONDS + 3601));
            // The first server may have written the last stage at its very end: this one reads it with its next look.
            until(&name, async || epoch_of(&issue(&again, id, again.clock.now())) == 2).await;
            let later = issue(&again, id, again.clock.now());
            assert_eq!(whoami(&again, &(&later).into()).await, good(), "{name}");
        }
    }
}

/// Nothing has ended by a revocation that came to nothing; one that took effect has ended all, whatever its answer was.
#[tokio::test]
async fn a_revocation_of_which_nobody_knows() {
    let store = Arc::new(FaultyStore::new(Arc::new(SqliteStore::in_memory().unwrap())));
    let running = start_on(Arc::clone(&store) as _, KeySource::Ephemeral).await;
    let id = running.launch().await;
    let before = issue(&running, id, NOW);
    // The first write makes the epoch that comes after it.
    store.fail(store.writes() + 1, Fault::io_before());
    assert_eq!(ask(&running, "RevokeEpoch&EpochId=1").await.status, 500);
    assert_eq!(whoami(&running, &(&before).into()).await, good());
    assert_eq!(issue(&running, id, NOW), before);
    // The epoch was made all the same, and each of its stages is a write.
    until("no more is written", async || is_at(&*store, 2, EpochState::Sealing).await).await;
    store.fail_next(Fault::io_after());
    assert_eq!(ask(&running, "RevokeEpoch&EpochId=1").await.status, 500);
    assert_eq!(whoami(&running, &(&before).into()).await, expired());
    assert_eq!(issue(&running, id, NOW).issued_at, NOW.plus(REVOKED_AHEAD_SECONDS));
}

#[tokio::test]
async fn an_epoch_is_rotated_by_its_age() {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let running = start_on(Arc::clone(&store), KeySource::Ephemeral).await;
    let age = EpochSettings::DEFAULT.rotate_after_seconds.unwrap();
    running.clock.set(NOW.plus(age));
    until("a second", async || is_at(&*store, 2, EpochState::Sealing).await).await;
}

/// Servers over one store, each as a program of its own.
struct Fleet {
    servers: Vec<Running>,
    stores: Vec<Arc<FaultyStore>>,
    store: Arc<dyn Store>,
    _keys: tempfile::TempDir,
}

async fn fleet(count: usize) -> Fleet {
    let inner = SqliteStore::in_memory().unwrap();
    let keys = tempfile::tempdir().unwrap();
    let (mut servers, mut stores) = (Vec::new(), Vec::new());
    for number in 0..count {
        let directory = tempfile::tempdir().unwrap();
        let opening = Opening {
            identity: identity(),
            key_source: KeySource::File(keys.path().join("epoch.key")),
            audit_file: directory.path().join("audit.jsonl"),
            rates: Rates::default(),
            telemetry: TelemetrySettings::default(),
            epochs: EpochSettings::DEFAULT,
            accept_older_store: false,
            fleet: Some(FleetSettings { name: format!("server {number}"), ..FleetSettings::default() }),
        };
        let store = Arc::new(FaultyStore::new(Arc::new(inner.another_node())));
        servers.push(start_opening(directory, Arc::clone(&store) as _, opening).await);
        stores.push(store);
    }
    Fleet { servers, stores, store: Arc::new(inner), _keys: keys }
}

impl Fleet {
    async fn set(&self, at: UnixTime) {
        for server in &self.servers {
            server.clock.set(at);
        }
        for server in &self.servers {
            until("all hear", async || server.region.faults().await.is_empty()).await;
        }
    }
}

/// By one of two clocks that are a day apart an epoch would seal from a day before on, and the one before it, with all that it has issued, be
/// retired as soon as that clock is set.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_until_clocks_are_together_and_ends_nothing() {
    let fleet = fleet(2).await;
    let (a, b) = (&fleet.servers[0], &fleet.servers[1]);
    let id = a.launch().await;
    until("the machine is known", async || b.region.machines().get(id).is_some()).await;
    let machine = a.machine(id);
    // A beat of another time: so it is seen to beat, who was only found when the other one started.
    let now = NOW.plus(1);
    a.clock.set(now);
    b.clock.set(now.minus(24 * 3600));
    let is_told = async |server: &Running, other: u8| {
        let told = format!("<clocksApartSet><item><name>server{other}</name></item></clocksApartSet>");
        let described = ask(server, "DescribeEpochs").await.body;
        described.split_whitespace().collect::<String>().contains(&told)
    };
    for (server, other) in [(a, 1), (b, 0)] {
        until("it is heard, and said", async || is_told(server, other).await).await;
    }
    assert_eq!(ask(a, "RotateEpoch").await.status, 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(is_at(&*fleet.store, 2, EpochState::Published).await, "neither has gone on");
    b.clock.set(now);
    until("all verify", async || is_at(&*fleet.store, 2, EpochState::Sealing).await).await;
    let seals_from = fleet.store.epochs().await.unwrap()[1].seals_from.unwrap();
    assert_eq!(seals_from, now.plus(SEALS_AHEAD_SECONDS));
    for server in [a, b] {
        let described = async || ask(server, "DescribeEpochs").await.body;
        until("it is heard, too", async || !described().await.contains("clocksApartSet")).await;
        until("it is let in", async || whoami(server, &machine).await == good()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_servers_agree_before_during_and_after_a_rotation() {
    let fleet = fleet(3).await;
    let id = fleet.servers[0].launch().await;
    for server in &fleet.servers {
        until("the machine is known", async || server.region.machines().get(id).is_some()).await;
    }
    assert_eq!(ask(&fleet.servers[1], "RotateEpoch").await.status, 200);
    until("all verify", async || is_at(&*fleet.store, 2, EpochState::Sealing).await).await;
    let seals_from = fleet.store.epochs().await.unwrap()[1].seals_from.unwrap();
    assert_eq!(seals_from, NOW.plus(SEALS_AHEAD_SECONDS));
    for at in [NOW, seals_from.minus(1), seals_from, seals_from.plus(3600)] {
        fleet.set(at).await;
        for server in &fleet.servers {
            let credential = issue(server, id, at);
            assert_eq!(credential, issue(&fleet.servers[0], id, at), "{at:?}");
            assert_eq!(epoch_of(&credential), if credential.issued_at < seals_from { 1 } else { 2 });
            for verifier in &fleet.servers {
                assert_eq!(whoami(verifier, &(&credential).into()).await, good(), "{at:?}");
            }
        }
    }
}

/// Who beats and has not said that it verifies with the new epoch holds up the rotation, and is named; nothing is sealed before.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_for_every_server_that_lives() {
    let fleet = fleet(2).await;
    // It hears nothing, and goes on beating.
    fleet.stores[1].deafen().await;
    let described = async || ask(&fleet.servers[0], "DescribeEpochs").await.body;
    assert_eq!(ask(&fleet.servers[0], "RotateEpoch").await.status, 200);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(is_at(&*fleet.store, 2, EpochState::Published).await);
    let waits = described().await;
    assert_eq!(
        between(&waits, "<waitsForSet>", "</waitsForSet>").matches("<name>server 1</name>").count(),
        1,
        "{waits}"
    );
    fleet.stores[1].silence(false);
    until("it is waited for", async || is_at(&*fleet.store, 2, EpochState::Sealing).await).await;
}

/// A server that has not heard for long gives nothing and lets no session in, until it has heard; then it knows the epochs.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_neither_seals_nor_verifies() {
    let fleet = fleet(2).await;
    let [a, b] = &fleet.servers[..] else { panic!() };
    let id = a.launch().await;
    until("the machine is known", async || b.region.machines().get(id).is_some()).await;
    let before = issue(b, id, NOW);
    let begun = tokio::time::Instant::now();
    fleet.stores[1].deafen().await;
    let unavailable = (503, "ServiceUnavailable".to_owned());
    for (silence, issues, verifies) in [(4, true, true), (7, false, true), (17, false, false)] {
        b.clock.set(NOW.plus(silence));
        let has_issued = b.region.issue(id, Delivery::V2, NOW).is_some();
        // The seconds that a busy computer takes count as well.
        let is_late = issues && begun.elapsed() > Duration::from_secs(3);
        assert!(has_issued == issues || is_late, "{silence}");
        let (status, code) = whoami(b, &(&before).into()).await;
        assert_eq!(status == 200, verifies, "{silence}: {code}");
        assert!(verifies || (status, code.clone()) == unavailable, "{silence}: {status} {code}");
    }
    assert_eq!(b.send(&b.operator(), &ec2("Action=DescribeInstances")).await.status, 200, "operators have no epoch");
    assert_eq!(ask(a, "RevokeEpoch&EpochId=1").await.status, 200);
    a.clock.set(NOW.plus(17));
    until("the first hears", async || a.region.faults().await.is_empty()).await;
    let after = issue(a, id, a.clock.now());
    fleet.stores[1].silence(false);
    until("it hears again", async || b.region.faults().await.is_empty()).await;
    assert_eq!(verdict(b, &(&before).into()).await, expired());
    assert_eq!(verdict(b, &(&after).into()).await, good());
    assert_eq!(issue(b, id, b.clock.now()), after);
}

/// Who is shown a credential of an epoch that was made a moment ago asks before it refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_heard_of_everywhere_and_what_follows_is_good_at_once() {
    let fleet = fleet(2).await;
    let [a, b] = &fleet.servers[..] else { panic!() };
    let id = a.launch().await;
    until("the machine is known", async || b.region.machines().get(id).is_some()).await;
    let before = issue(a, id, NOW);
    for server in [a, b] {
        server.clock.advance(1);
    }
    assert_eq!(ask(a, "RevokeEpoch&EpochId=1").await.status, 200);
    for server in [a, b] {
        server.clock.advance(1);
    }
    let after = issue(a, id, a.clock.now());
    assert_eq!(verdict(b, &(&after).into()).await, good(), "without a wait");
    until("the end is known", async || whoami(b, &(&before).into()).await == expired()).await;
    assert_eq!(issue(b, id, b.clock.now()), after);
}
