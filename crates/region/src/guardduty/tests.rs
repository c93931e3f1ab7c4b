use inborn_detect::finding::{FINDINGS_OF_A_TYPE_MAX, Resource};
use inborn_detect::{AddressList, Finding, FindingType};
use inborn_store::{FindingQuery, SqliteStore};
use inborn_testkit::{Fault, FaultyStore};
use serde_json::{Value, json};

use super::*;
use crate::detection::Counted;
use inborn_lake::Place;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn account() -> AccountId {
    AccountId::new(123_456_789_012).unwrap()
}

fn finding(subject: &str) -> Finding {
    fixtures::finding(subject, NOW)
}

async fn on(store: Arc<dyn Store>) -> GuardDuty {
    GuardDuty::load(store).await.unwrap()
}

async fn fresh() -> (Arc<dyn Store>, GuardDuty) {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    (Arc::clone(&store), on(store).await)
}

impl GuardDuty {
    async fn store_now(&self, findings: Vec<Finding>, now: UnixTime) {
        for finding in findings {
            self.keep_finding(&finding, None, now).await.unwrap();
        }
    }

    async fn documents(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let Some(watched) = self.of(account()) else { return all };
        self.each_finding(&watched.id, |finding| all.push(finding)).await.unwrap();
        all
    }

    async fn archive(&self, id: &str) {
        let change = |row: &mut inborn_store::Finding, document: &mut Value| {
            row.is_archived = true;
            document["service"]["archived"] = true.into();
        };
        let watched = self.of(account()).unwrap();
        assert!(self.change_findings(&watched.id, vec![id.to_owned()], change).await.unwrap());
    }

    async fn filter(&self, archives: bool, criterion: Value) {
        let watched = self.ensure(account(), NOW).await.unwrap().unwrap();
        let given = criterion.as_object().unwrap().clone();
        let criteria = Criteria::parse(&given).unwrap();
        let filter = Filter {
            description: String::new(),
            archives,
            rank: 1,
            criteria: given,
            created_at: 0,
            updated_at: 0,
            version: 1,
            tags: settings::Tags::new(),
            client_token: None,
        };
        let put =
            self.put_filter(account(), &watched.id, "own", |_, _| Ok::<_, ()>((filter.clone(), criteria.clone())));
        assert!(put.await.is_ok());
    }
}

#[tokio::test]
async fn what_is_judged_again_after_a_crash_is_counted_once() {
    let (_store, guardduty) = fresh().await;
    let at = |segment, offset, is_again| {
        Some(Counted { lake: 7, from: 1, to: Place { segment, offset }, oldest: 1, is_again })
    };
    let twice = Finding { count: 2, ..finding("a") };
    let first = guardduty.keep_finding(&twice, at(1, 100, false), NOW).await.unwrap().unwrap();
    assert_eq!(guardduty.keep_finding(&twice, at(1, 60, true), NOW).await, Ok(None), "below");
    assert_eq!(guardduty.keep_finding(&twice, at(1, 100, true), NOW).await, Ok(None), "at");
    let more = guardduty.keep_finding(&twice, at(1, 101, true), NOW).await.unwrap().unwrap();
    assert_eq!((more.id, more.first), (first.id.clone(), false), "above");
    let other = guardduty.keep_finding(&finding("b"), at(1, 60, true), NOW).await.unwrap().unwrap();
    assert!(other.first, "another finding is not counted there");
    // An operator who deals with it, or has something to say, does not make it forget.
    guardduty.archive(&first.id).await;
    assert_eq!(guardduty.keep_finding(&twice, at(1, 101, true), NOW).await, Ok(None));
    assert!(guardduty.keep_finding(&finding("a"), at(2, 1, true), NOW).await.unwrap().unwrap().first);
    let documents = guardduty.documents().await;
    let mut counts: Vec<_> = documents.iter().map(|document| document["service"]["count"].as_u64().unwrap()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 4]);
    assert!(documents.iter().all(|document| document.get("inbornCounted").is_none()));
}

#[tokio::test]
async fn the_same_thing_again_is_counted() {
    let (_store, guardduty) = fresh().await;
    guardduty.store_now(vec![finding("a"), finding("b")], NOW).await;
    let later = Finding { first_seen: NOW.plus(60), last_seen: NOW.plus(60), count: 2, ..finding("a") };
    guardduty.store_now(vec![later], NOW.plus(61)).await;
    let all = guardduty.documents().await;
    assert_eq!(all.len(), 2);
    let a = &all[0];
    assert_eq!(
        (&a["service"]["count"], &a["createdAt"], &a["updatedAt"]),
        (&json!(3), &json!("2027-01-15T08:00:00.000Z"), &json!("2027-01-15T08:01:01.000Z"),)
    );
    assert_eq!(a["service"]["eventFirstSeen"], "2027-01-15T08:00:00.000Z");
    assert_eq!(a["service"]["eventLastSeen"], "2027-01-15T08:01:00.000Z");
    let detector = guardduty.of(account()).unwrap().id.clone();
    let id = a["id"].as_str().unwrap();
    assert_eq!(a["service"]["detectorId"], detector.as_str());
    let arn = format!("arn:aws:guardduty:eu-central-1:123456789012:detector/{detector}/finding/{id}");
    assert_eq!(a["arn"], arn.as_str());
}

#[tokio::test]
async fn what_an_operator_put_aside_is_news_when_it_happens_again() {
    let (_store, guardduty) = fresh().await;
    guardduty.store_now(vec![finding("a")], NOW).await;
    let first = guardduty.documents().await[0]["id"].as_str().unwrap().to_owned();
    guardduty.archive(&first).await;
    guardduty.store_now(vec![finding("a")], NOW.plus(1)).await;
    guardduty.store_now(vec![finding("a")], NOW.plus(2)).await;
    let all = guardduty.documents().await;
    assert_eq!(all.len(), 2);
    assert_eq!((&all[0]["service"]["archived"], &all[0]["service"]["count"]), (&json!(false), &json!(2)));
    assert_eq!((&all[1]["id"], &all[1]["service"]["count"]), (&json!(first), &json!(1)));
}

#[tokio::test]
async fn a_filter_puts_aside_what_meets_it_and_nothing_else() {
    let (store, guardduty) = fresh().await;
    guardduty.filter(true, json!({"severity": {"gte": 9}})).await;
    guardduty.store_now(vec![finding("a")], NOW).await;
    assert_eq!(guardduty.documents().await[0]["service"]["archived"], false);
    guardduty.filter(false, json!({"type": {"eq": ["Execution:Runtime/ReverseShell"]}})).await;
    guardduty.store_now(vec![finding("a")], NOW).await;
    assert_eq!(guardduty.documents().await[0]["service"]["archived"], false, "NOOP");
    guardduty.filter(true, json!({"type": {"eq": ["Execution:Runtime/ReverseShell"]}})).await;
    // What is there already is put aside when it happens again.
    assert_eq!(guardduty.documents().await[0]["service"]["archived"], false);
    let again = on(store).await;
    again.store_now(vec![finding("a"), finding("b")], NOW.plus(1)).await;
    again.store_now(vec![finding("b")], NOW.plus(2)).await;
    let all = again.documents().await;
    assert_eq!(all.iter().map(|one| one["service"]["archived"] == true).collect::<Vec<_>>(), [true, true]);
    assert_eq!(all[0]["service"]["count"], 2, "and is counted where it is");
}

#[tokio::test]
async fn a_detector_makes_itself_and_is_taken_over_but_not_revived() {
    let (store, guardduty) = fresh().await;
    let made = guardduty.ensure(account(), NOW).await.unwrap().unwrap();
    assert!(made.settings.is_automatic);
    let token = |token: &str| Settings { client_token: Some(token.to_owned()), ..Settings::new(1) };
    let create = |settings| guardduty.create(account(), settings, NOW);
    assert_eq!(create(token("a")).await, Ok(Creation::Done(made.id.clone())));
    assert_eq!(create(token("a")).await, Ok(Creation::Done(made.id.clone())), "the answer may have been lost");
    assert_eq!(create(token("b")).await, Ok(Creation::Exists));
    assert_eq!(create(Settings::new(1)).await, Ok(Creation::Exists));
    guardduty.store_now(vec![finding("a")], NOW).await;
    assert_eq!(guardduty.delete(account(), "another").await, Ok(false));
    assert_eq!(guardduty.delete(account(), &made.id).await, Ok(true));
    let again = on(store).await;
    for guardduty in [&guardduty, &again] {
        assert!(guardduty.ensure(account(), NOW).await.unwrap().is_none());
        guardduty.store_now(vec![finding("a")], NOW).await;
        assert!(guardduty.of(account()).is_none());
    }
    assert!(matches!(again.create(account(), Settings::new(1), NOW).await, Ok(Creation::Done(_))));
    assert!(again.documents().await.is_empty(), "what the old one found is gone");
    again.delete(account(), &again.of(account()).unwrap().id).await.unwrap();
    assert!(again.ensure(account(), NOW).await.unwrap().is_none());
}

#[tokio::test]
async fn a_detector_that_is_off_finds_nothing() {
    let (_store, guardduty) = fresh().await;
    let id = guardduty.ensure(account(), NOW).await.unwrap().unwrap().id.clone();
    let exfiltration = || Finding { kind: FindingType::EXFILTRATION_OUTSIDE, ..finding("a") };
    let change = |is_enabled, is_runtime| {
        guardduty.change(account(), &id, NOW, move |settings| {
            settings.is_enabled = is_enabled;
            settings.features.get_mut(settings::RUNTIME_MONITORING).unwrap().is_enabled = is_runtime;
            Ok::<_, ()>(())
        })
    };
    for (is_enabled, is_runtime, found) in [(false, true, 0), (true, false, 1), (true, true, 2)] {
        assert!(change(is_enabled, is_runtime).await.is_ok());
        guardduty.store_now(vec![finding("a"), exfiltration()], NOW).await;
        assert_eq!(guardduty.documents().await.len(), found, "{is_enabled} {is_runtime}");
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_and_counts_when_it_comes_again() {
    let store = Arc::new(FaultyStore::new(Arc::new(SqliteStore::in_memory().unwrap())));
    let guardduty = on(Arc::clone(&store) as Arc<dyn Store>).await;
    guardduty.ensure(account(), NOW).await.unwrap();
    store.fail_next(Fault::full());
    assert_eq!(guardduty.keep_finding(&finding("a"), None, NOW).await, Err(StoreError::Full));
    guardduty.store_now(vec![Finding { count: 2, last_seen: NOW.plus(9), ..finding("a") }], NOW).await;
    let all = guardduty.documents().await;
    assert_eq!((all.len(), &all[0]["service"]["count"]), (1, &json!(2)));
    assert_eq!(all[0]["service"]["eventLastSeen"], "2027-01-15T08:00:09.000Z");
}

#[tokio::test]
async fn a_share_below_at_and_above_the_limit_also_after_a_restart() {
    let (store, guardduty) = fresh().await;
    for number in 0..FINDINGS_OF_A_TYPE_MAX {
        guardduty.store_now(vec![finding(&number.to_string())], NOW).await;
        assert_eq!(guardduty.documents().await.len(), number + 1);
    }
    let of_another = Finding { resource: Resource::machine("i-0123456789abcdef1".parse().unwrap()), ..finding("a") };
    let again = on(store).await;
    let more = (0..10).map(|number| finding(&format!("more {number}")));
    again.store_now(more.chain([finding("0"), of_another]).collect(), NOW.plus(1)).await;
    let all = again.documents().await;
    assert_eq!(all.len(), FINDINGS_OF_A_TYPE_MAX + 2);
    let further = all.iter().find(|one| one["title"].as_str().unwrap().starts_with("Further")).unwrap();
    assert_eq!(further["service"]["count"], 10);
    // One that is there is counted where it is.
    assert_eq!(all.iter().filter(|one| one["service"]["count"] == 2).count(), 1);
    // What an operator has dealt with makes room.
    let id = all.iter().find(|one| one["service"]["count"] == 2).unwrap()["id"].as_str().unwrap();
    again.archive(id).await;
    again.store_now(vec![finding("new")], NOW.plus(2)).await;
    assert_eq!(again.documents().await.len(), FINDINGS_OF_A_TYPE_MAX + 3);
}

#[tokio::test]
async fn more_findings_than_are_kept_are_forgotten_at_once_where_there_are_most() {
    let (store, guardduty) = fresh().await;
    let detector = guardduty.ensure(account(), NOW).await.unwrap().unwrap().id.clone();
    guardduty.store_now(vec![Finding { kind: FindingType::EXFILTRATION_OUTSIDE, ..finding("a") }], NOW).await;
    let machine = |number: u32| format!("i-{number:017x}").parse().ok();
    let row = |number: u32| inborn_store::Finding {
        id: format!("{number:032x}"),
        detector: detector.clone(),
        key: number.to_string(),
        kind: "Execution:Runtime/ReverseShell".to_owned(),
        severity_tenths: 80,
        created_at: NOW.plus(1),
        updated_at: NOW.plus(1),
        is_archived: false,
        // A hundred machines, each with as much as it can have.
        instance: machine(number % 100),
        count: 1,
        document: "{}".to_owned(),
    };
    let rows: Vec<_> = (1..findings::FINDINGS_MAX).map(row).collect();
    for some in rows.chunks(inborn_store::Finding::WRITTEN_MAX) {
        store.put_findings(some.to_vec()).await.unwrap();
    }
    let again = on(Arc::clone(&store)).await;
    let count = async || {
        let mut count = 0;
        again.each_finding(&detector, |_| count += 1).await.unwrap();
        count
    };
    again.store_now(vec![Finding { kind: FindingType::EXFILTRATION_OUTSIDE, ..finding("a") }], NOW.plus(2)).await;
    assert_eq!(count().await, findings::FINDINGS_MAX, "below and at");
    let last = Finding { resource: Resource::machine("i-0123456789abcdef2".parse().unwrap()), ..finding("b") };
    again.store_now(vec![last], NOW.plus(2)).await;
    assert_eq!(count().await, findings::FINDINGS_MAX - findings::FINDINGS_ROOM, "above");
    let query = |key: String| FindingQuery { detector: detector.clone(), key: Some(key), after: None, limit: 1 };
    let away = Finding { kind: FindingType::EXFILTRATION_OUTSIDE, ..finding("a") };
    assert_eq!(
        store.findings(query(away.key().to_string())).await.unwrap()[0].count,
        2,
        "the oldest, and of its own type"
    );
}

#[tokio::test]
async fn a_finding_of_a_machine_with_many_long_tags_is_kept() {
    let (_store, guardduty) = fresh().await;
    let mut tagged = finding("a");
    let details = tagged.resource.instance.as_mut().unwrap();
    details.tags = (0..50).map(|number| (format!("{number:0128}"), "\u{7f}☃".repeat(128))).collect();
    details.tags.extend((0..50).map(|number| (format!("{number:0127}x"), "\u{1}".repeat(256))));
    guardduty.store_now(vec![tagged], NOW).await;
    let all = guardduty.documents().await;
    let info = all[0]["service"]["additionalInfo"]["value"].as_str().unwrap();
    assert!(info.contains("tagsLeftOut"), "{info}");
    assert_eq!(all[0]["resource"]["instanceDetails"]["instanceId"], "i-0123456789abcdef0");
}

#[tokio::test]
async fn findings_are_kept_for_ninety_days() {
    let (store, guardduty) = fresh().await;
    guardduty.store_now(vec![finding("a")], NOW).await;
    guardduty.store_now(vec![finding("b")], NOW.plus(1)).await;
    guardduty.tidy(NOW.plus(findings::KEPT_SECONDS)).await.unwrap();
    assert_eq!(guardduty.documents().await.len(), 2);
    guardduty.tidy(NOW.plus(findings::KEPT_SECONDS + 1)).await.unwrap();
    let detector = guardduty.of(account()).unwrap().id.clone();
    let query = FindingQuery { detector, key: None, after: None, limit: 10 };
    assert_eq!(store.findings(query).await.unwrap().len(), 1);
}

#[tokio::test]
async fn lists_are_read_when_a_set_is_active_and_at_the_start() {
    let (store, guardduty) = fresh().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("bad.txt"), "192.0.2.1\nevil.example\n").unwrap();
    guardduty.read_lists_from(directory.path().to_owned());
    let id = guardduty.ensure(account(), NOW).await.unwrap().unwrap().id.clone();
    let set = |location: &str, is_active| AddressSet {
        name: "ours".to_owned(),
        format: "TXT".to_owned(),
        location: location.to_owned(),
        is_active,
        bucket_owner: None,
        tags: settings::Tags::new(),
        client_token: None,
    };
    let place = (account(), id.as_str(), PartKind::ThreatIntelSet);
    let put =
        |set: AddressSet| guardduty.put_set(place, Some("one"), move |_, _| Ok::<_, ()>(SetChange::To(set.clone())));
    assert!(matches!(put(set("https://example.com/x", false)).await, Err(ChangeError::List(_))));
    assert!(matches!(put(set("file:absent.txt", true)).await, Err(ChangeError::List(_))));
    assert!(put(set("file:bad.txt", false)).await.is_ok());
    let has = |guardduty: &GuardDuty| {
        let entries = guardduty.of(account()).unwrap().threat_sets["one"].entries.clone();
        entries.map(|entries| entries.has_name("a.evil.example"))
    };
    assert_eq!(has(&guardduty), None);
    assert!(put(set("file:bad.txt", true)).await.is_ok());
    assert_eq!(has(&guardduty), Some(true));
    let again = on(Arc::clone(&store)).await;
    assert_eq!(has(&again), None);
    again.read_lists_from(directory.path().to_owned());
    assert_eq!(has(&again), Some(true));
    // When somebody says so, they are read again; one that cannot be read then stays as it was.
    std::fs::write(directory.path().join("bad.txt"), "192.0.2.1\n").unwrap();
    assert_eq!((again.read_lists_again().await, has(&again)), ((1, 0), Some(false)));
    std::fs::remove_file(directory.path().join("bad.txt")).unwrap();
    assert_eq!((again.read_lists_again().await, has(&again)), ((0, 1), Some(false)));
    let without = on(store).await;
    without.read_lists_from(directory.path().to_owned());
    assert_eq!(has(&without), None, "a list that is gone has no effect, and stops nothing");
}
