//! Which machines send telemetry, and when they last did: what coverage is told from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use inborn_identity::{InstanceId, UnixTime};
use inborn_store::{AgentReport, Store, StoreError};

/// How long a machine is covered after its agent spoke. Agents speak every minute.
pub(crate) const COVERED_SECONDS: u64 = 10 * 60;
/// How often at most a machine that only goes on speaking is written down.
const WRITTEN_SECONDS: u64 = 4 * 60;

/// Agents, as they are known now; the store has them a little later.
#[derive(Default)]
pub(crate) struct Agents(Mutex<State>);

#[derive(Default)]
struct State {
    known: BTreeMap<InstanceId, Heard>,
    /// Those that the store has not.
    unwritten: BTreeSet<InstanceId>,
}

struct Heard {
    report: AgentReport,
    written_at: UnixTime,
}

impl Agents {
    pub(crate) async fn load(store: &dyn Store) -> Result<Self, StoreError> {
        let heard = |report: AgentReport| (report.instance, Heard { written_at: report.last_at, report });
        let known = store.agent_reports().await?.into_iter().map(heard).collect();
        Ok(Self(Mutex::new(State { known, unwritten: BTreeSet::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down that a machine spoke, and by which agent, if it said so. Whether that is news: it had not, or not for long.
    pub(crate) fn heard(&self, instance: InstanceId, agent: Option<(&str, &str)>, now: UnixTime) -> bool {
        let mut state = self.lock();
        let State { known, unwritten } = &mut *state;
        let is_new = !known.contains_key(&instance);
        let heard = known.entry(instance).or_insert_with(|| Heard {
            report: AgentReport {
                instance,
                agent_name: String::new(),
                agent_version: String::new(),
                first_at: now,
                last_at: now,
            },
            written_at: UnixTime::from_secs(0),
        });
        let was_covered = is_covered(&heard.report, now);
        let mut is_other = false;
        if let Some((name, version)) = agent {
            let (name, version) = (cut(name), cut(version));
            is_other = heard.report.agent_name != name || heard.report.agent_version != version;
            if is_other {
                (heard.report.agent_name, heard.report.agent_version) = (name.to_owned(), version.to_owned());
            }
        }
        heard.report.last_at = heard.report.last_at.max(now);
        // Another agent is not: a machine could say that of each batch.
        let is_news = is_new || !was_covered;
        if is_news || is_other || now.since(heard.written_at) >= WRITTEN_SECONDS {
            heard.written_at = now;
            unwritten.insert(instance);
        }
        is_news
    }

    /// What is known of a machine's agent.
    pub(crate) fn get(&self, instance: InstanceId) -> Option<AgentReport> {
        self.lock().known.get(&instance).map(|heard| heard.report.clone())
    }

    /// Writes down what the store has not. What cannot be written is tried again the next time.
    pub(crate) async fn write(&self, store: &dyn Store) -> Result<(), StoreError> {
        loop {
            let reports: Vec<AgentReport> = {
                let mut state = self.lock();
                let next: BTreeSet<_> = state.unwritten.iter().copied().take(AgentReport::WRITTEN_MAX).collect();
                state.unwritten.retain(|instance| !next.contains(instance));
                next.iter().filter_map(|instance| state.known.get(instance)).map(|heard| heard.report.clone()).collect()
            };
            if reports.is_empty() {
                return Ok(());
            }
            let instances: Vec<InstanceId> = reports.iter().map(|report| report.instance).collect();
            if let Err(error) = store.put_agent_reports(reports).await {
                self.lock().unwritten.extend(instances);
                return Err(error);
            }
        }
    }

    /// Drops what is known of machines that are gone.
    pub(crate) fn keep(&self, is_alive: impl Fn(InstanceId) -> bool) {
        let mut state = self.lock();
        state.known.retain(|instance, _| is_alive(*instance));
        state.unwritten.retain(|instance| is_alive(*instance));
    }
}

/// Whether an agent spoke lately.
pub(crate) fn is_covered(report: &AgentReport, now: UnixTime) -> bool {
    now.since(report.last_at) < COVERED_SECONDS
}

/// As much of a text as is kept.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(AgentReport::TEXT_MAX)).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn id() -> InstanceId {
        "i-0123456789abcdef0".parse().unwrap()
    }

    #[test]
    fn only_changes_are_news() {
        let agents = Agents::default();
        assert!(agents.heard(id(), Some(("sensor", "1")), START));
        assert!(!agents.heard(id(), Some(("sensor", "1")), START.plus(60)));
        assert!(!agents.heard(id(), None, START.plus(120)), "who says nothing takes nothing back");
        assert!(!agents.heard(id(), Some(("sensor", "2")), START.plus(180)));
        assert!(agents.heard(id(), None, START.plus(180 + COVERED_SECONDS)), "it had stopped");
        let report = agents.get(id()).unwrap();
        assert_eq!((report.agent_version.as_str(), report.first_at), ("2", START));
    }

    #[test]
    fn covered_below_at_and_above_the_limit() {
        let agents = Agents::default();
        agents.heard(id(), None, START);
        let covered = |seconds| is_covered(&agents.get(id()).unwrap(), START.plus(seconds));
        assert_eq!(
            [0, COVERED_SECONDS - 1, COVERED_SECONDS, COVERED_SECONDS + 1].map(covered),
            [true, true, false, false]
        );
    }

    #[test]
    fn a_clock_that_goes_back_takes_nothing_back() {
        let agents = Agents::default();
        agents.heard(id(), None, START);
        agents.heard(id(), None, START.minus(100));
        assert_eq!(agents.get(id()).unwrap().last_at, START);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let agents = Agents::default();
        agents.heard(id(), Some((&"é".repeat(500), &"x".repeat(257))), START);
        let report = agents.get(id()).unwrap();
        assert_eq!((report.agent_name.len(), report.agent_version.len()), (256, 256));
    }

    #[tokio::test]
    async fn what_only_goes_on_is_written_rarely() {
        let inner = std::sync::Arc::new(inborn_store::SqliteStore::in_memory().unwrap());
        let store = inborn_testkit::FaultyStore::new(inner);
        let agents = Agents::default();
        for second in 0..WRITTEN_SECONDS {
            agents.heard(id(), None, START.plus(second));
            agents.write(&store).await.unwrap();
        }
        assert_eq!(store.writes(), 1);
        agents.heard(id(), None, START.plus(WRITTEN_SECONDS));
        store.fail_next(inborn_testkit::Fault::io_before());
        assert!(agents.write(&store).await.is_err());
        agents.write(&store).await.unwrap();
        assert_eq!(store.writes(), 3, "what could not be written is written later");
    }
}
