//! Changes that take effect late, as a PostgreSQL has them whose commits wait for a standby: what a simulation relies upon.
#![allow(clippy::unwrap_used, reason = "tests")]

use core::time::Duration;
use std::sync::{Arc, Mutex};

use inborn_identity::UnixTime;
use inborn_store::{
    Beat, Heard, NodeId, Quarantine, QuarantineBasis, QuarantineScope, SqliteStore, Store, StoreError, Topic,
};
use inborn_testkit::{Fate, FaultyStore, LateChanges, Link, Passage};
use tokio::time::sleep;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const LATE_BY: Duration = Duration::from_secs(6);

/// A link on which nothing takes any time.
struct Near {
    lateness: Mutex<Option<Duration>>,
    fate: Mutex<Fate>,
    late: Arc<LateChanges>,
}

impl Link for Near {
    fn passage(&self) -> Passage {
        Passage { there: Duration::ZERO, back: Duration::ZERO, fate: *self.fate.lock().unwrap() }
    }

    fn lateness(&self) -> Option<Duration> {
        *self.lateness.lock().unwrap()
    }

    fn late(&self) -> Arc<LateChanges> {
        Arc::clone(&self.late)
    }
}

/// One of several openings, which beats.
async fn opened(store: &SqliteStore, late: &Arc<LateChanges>) -> (FaultyStore, Arc<Near>) {
    let (lateness, fate) = (Mutex::new(None), Mutex::new(Fate::Arrives));
    let link = Arc::new(Near { lateness, fate, late: Arc::clone(late) });
    let opened = FaultyStore::behind(Arc::new(store.another_node()), Arc::clone(&link) as _);
    beat(&opened).await;
    (opened, link)
}

async fn beat(store: &FaultyStore) {
    let beat = Beat { name: "a server".to_owned(), at: NOW, verifies: 1, address: String::new() };
    store.beat(beat).await.unwrap();
}

fn quarantine(scope: QuarantineScope) -> Quarantine {
    Quarantine { scope, reason: String::new(), by: "somebody".to_owned(), since: NOW }
}

/// What a server is told behind this, and how far it has heard then.
async fn told(store: &FaultyStore, heard: &Heard) -> (Vec<(NodeId, Topic)>, Heard) {
    let news = store.news(heard.clone()).await.unwrap();
    let heard = news.heard(heard.except);
    (news.entries.into_iter().map(|entry| (entry.writer, entry.topic)).collect(), heard)
}

#[tokio::test(start_paused = true)]
async fn a_change_takes_effect_late_and_is_told_to_its_own_node() {
    let (store, late) = (SqliteStore::in_memory().unwrap(), Arc::new(LateChanges::default()));
    let ((a, link), (b, _)) = (opened(&store, &late).await, opened(&store, &late).await);
    assert!(a.tells_of_doubtful());
    let (of_a, of_b) = [a.node(), b.node()].map(|node| Heard { except: Some(node), ..Heard::default() }).into();
    let ((_, of_a), (_, of_b)) = (told(&a, &of_a).await, told(&b, &of_b).await);
    a.put_quarantine(quarantine(QuarantineScope::All), QuarantineBasis::Any).await.unwrap();
    assert!(told(&a, &of_a).await.0.is_empty(), "of what was answered nothing is told");

    *link.lateness.lock().unwrap() = Some(LATE_BY);
    let ended = a.end_quarantine(quarantine(QuarantineScope::All), Vec::new()).await;
    assert!(matches!(ended, Err(StoreError::Io(_))), "{ended:?}");
    *link.lateness.lock().unwrap() = None;
    assert!(late.are_to_come());
    assert_eq!(a.quarantines().await.unwrap().len(), 1, "it has not taken effect");
    assert!(told(&a, &of_a).await.0.is_empty());
    assert_eq!(
        b.end_quarantine(quarantine(QuarantineScope::All), Vec::new()).await,
        Err(StoreError::Busy),
        "nobody comes before it"
    );
    let account = QuarantineScope::Account("123456789012".parse().unwrap());
    assert_eq!(b.put_quarantine(quarantine(account), QuarantineBasis::Any).await, Ok(()), "others wait for nothing");

    // Whoever waits comes just after it.
    assert_eq!(b.end_quarantine(quarantine(QuarantineScope::All), Vec::new()).await, Ok(false));
    assert!(!late.are_to_come());
    let [(_, what)] = late.taken_effect().try_into().unwrap();
    assert_eq!((what, late.held_up()), (vec!["quarantine *".to_owned()], 2));
    let entry = (a.node(), Topic::Quarantines);
    for time in ["the first time", "until it is settled"] {
        assert!(told(&a, &of_a).await.0.contains(&entry), "{time}");
    }
    assert_eq!(told(&b, &of_b).await.0, [entry.clone(), entry]);
    beat(&a).await;
    let (_, of_a) = told(&a, &of_a).await;
    assert!(told(&a, &of_a).await.0.iter().all(|(writer, _)| *writer != a.node()), "it has been heard");
}

/// Who asked may be gone by then, and what is not late may be in doubt as well.
#[tokio::test(start_paused = true)]
async fn a_change_takes_effect_without_its_program_and_one_whose_answer_is_lost_is_told() {
    let (store, late) = (SqliteStore::in_memory().unwrap(), Arc::new(LateChanges::default()));
    let ((a, link), (b, of_b)) = (opened(&store, &late).await, opened(&store, &late).await);
    *link.lateness.lock().unwrap() = Some(LATE_BY);
    assert!(a.put_quarantine(quarantine(QuarantineScope::All), QuarantineBasis::Any).await.is_err());
    drop(a);
    sleep(LATE_BY + Duration::from_millis(10)).await;
    assert_eq!(b.quarantines().await.unwrap().len(), 1);

    let heard = Heard { except: Some(b.node()), ..Heard::default() };
    let (_, heard) = told(&b, &heard).await;
    *of_b.fate.lock().unwrap() = Fate::AnswerIsLost;
    let ended = b.end_quarantine(quarantine(QuarantineScope::All), Vec::new()).await;
    assert!(matches!(ended, Err(StoreError::Io(_))), "{ended:?}");
    *of_b.fate.lock().unwrap() = Fate::Arrives;
    assert!(told(&b, &heard).await.0.contains(&(b.node(), Topic::Quarantines)));
}
