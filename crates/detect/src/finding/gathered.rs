//! Findings that wait to be stored, so that a flood by one machine hides neither what others do nor what else it does itself.
//!
//! A machine has a share for each type. What differs beyond it is counted in one finding of that machine and type, which says
//! so ([`Finding::into_further`]): nothing is invented, and nothing that was seen goes uncounted.

use super::{Finding, FindingKey, FindingType};
use inborn_identity::{AccountId, InstanceId};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// How many different findings of one type a machine has before further ones are counted together.
pub const FINDINGS_OF_A_TYPE_MAX: usize = 64;

/// The subject of the finding that counts further ones. Those of others have a `|`, a `:` or a digit.
const FURTHER: &str = "further";

/// Whether a finding of this key counts further ones, and takes no place of others. No event can make such a key: subjects of rules have
/// a `|` of their own.
#[must_use]
pub fn counts_further(key: &str) -> bool {
    key.split('|').count() == 4 && key.ends_with(&format!("|{FURTHER}"))
}

/// Whose share a finding counts in.
type Share = (AccountId, Option<InstanceId>, FindingType);

/// Findings that wait, each once.
#[derive(Debug)]
pub struct Gathered {
    findings: HashMap<FindingKey, Finding>,
    shares: HashMap<Share, usize>,
    findings_max: usize,
}

impl Finding {
    /// The machine that it is about, if it is about one.
    #[must_use]
    pub fn instance(&self) -> Option<InstanceId> {
        self.resource.instance.as_ref().map(|details| details.instance)
    }

    /// The finding that counts what differs beyond a machine's share of this type. It shows the last that it counted.
    #[must_use]
    pub fn into_further(self) -> Self {
        if self.is_further() {
            return self;
        }
        let title = format!("Further findings: {}", self.title);
        let description = format!(
            "There are more than {FINDINGS_OF_A_TYPE_MAX} different findings of this type and machine. Further ones are counted \
             here, of which this is the last: {}",
            self.description
        );
        Self { title, description, subject: FURTHER.to_owned(), ..self }
    }

    fn is_further(&self) -> bool {
        self.subject == FURTHER
    }

    fn share(&self) -> Share {
        (self.account, self.instance(), self.kind)
    }
}

impl Gathered {
    /// Room for so many different findings, and for as many again that count further ones: one of each machine and type.
    #[must_use]
    pub fn new(findings_max: usize) -> Self {
        Self { findings: HashMap::new(), shares: HashMap::new(), findings_max }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// Takes a finding in. `false` if there is no room even to count it: more machines are flooding than there are places.
    pub fn add(&mut self, finding: Finding) -> bool {
        if let Some(earlier) = self.findings.get_mut(&finding.key()) {
            earlier.absorb(finding);
            return true;
        }
        if !finding.is_further() && self.findings.len() < self.findings_max {
            let of_a_type = self.shares.entry(finding.share()).or_default();
            if *of_a_type < FINDINGS_OF_A_TYPE_MAX {
                *of_a_type += 1;
                self.findings.insert(finding.key(), finding);
                return true;
            }
        }
        let is_full = self.findings.len() >= self.findings_max.saturating_mul(2);
        let further = finding.into_further();
        match self.findings.entry(further.key()) {
            Entry::Occupied(mut earlier) => earlier.get_mut().absorb(further),
            Entry::Vacant(_) if is_full => return false,
            Entry::Vacant(place) => drop(place.insert(further)),
        }
        true
    }

    /// Gives back what could not be stored. What has come since is later. `false` as of [`Self::add`].
    pub fn give_back(&mut self, mut earlier: Finding) -> bool {
        if let Some(later) = self.findings.remove(&earlier.key()) {
            let key = earlier.key();
            earlier.absorb(later);
            self.findings.insert(key, earlier);
            return true;
        }
        self.add(earlier)
    }

    /// Takes all of them out.
    #[must_use]
    pub fn take(&mut self) -> Vec<Finding> {
        self.shares.clear();
        core::mem::take(&mut self.findings).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Resource;
    use super::super::tests::finding;
    use super::{FINDINGS_OF_A_TYPE_MAX, Finding, FindingType, Gathered, counts_further};
    use inborn_identity::{InstanceId, UnixTime};

    const MAX: usize = 200;

    fn machine(number: u8) -> InstanceId {
        InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, number])
    }

    fn of(number: u8, subject: &str) -> Finding {
        Finding { resource: Resource::machine(machine(number)), subject: subject.to_owned(), ..finding() }
    }

    fn counts(gathered: &mut Gathered, number: u8) -> (usize, u32) {
        let of_machine = gathered.take().into_iter().filter(|finding| finding.instance() == Some(machine(number)));
        of_machine.fold((0, 0), |(findings, count), finding| (findings + 1, count + finding.count))
    }

    #[test]
    fn a_share_below_at_and_above_the_limit() {
        for (added, findings) in [
            (FINDINGS_OF_A_TYPE_MAX - 1, FINDINGS_OF_A_TYPE_MAX - 1),
            (FINDINGS_OF_A_TYPE_MAX, FINDINGS_OF_A_TYPE_MAX),
            (FINDINGS_OF_A_TYPE_MAX + 1, FINDINGS_OF_A_TYPE_MAX + 1),
            (FINDINGS_OF_A_TYPE_MAX + 900, FINDINGS_OF_A_TYPE_MAX + 1),
        ] {
            let mut gathered = Gathered::new(MAX);
            assert!((0..added).all(|number| gathered.add(of(1, &format!("r|{number}")))));
            // Nothing goes uncounted.
            assert_eq!(counts(&mut gathered, 1), (findings, u32::try_from(added).unwrap()));
            assert!(gathered.is_empty());
        }
    }

    #[test]
    fn a_flood_hides_neither_another_machine_nor_another_type() {
        let mut gathered = Gathered::new(MAX);
        for number in 0..10_000 {
            assert!(gathered.add(of(1, &format!("r|{number}"))));
        }
        assert!(gathered.add(of(2, "r|x")));
        assert!(gathered.add(Finding { kind: FindingType::EXFILTRATION_OUTSIDE, ..of(1, "192.0.2.1") }));
        let all = gathered.take();
        let whole = all.iter().filter(|finding| !finding.title.starts_with("Further")).count();
        assert_eq!((all.len(), whole), (FINDINGS_OF_A_TYPE_MAX + 3, FINDINGS_OF_A_TYPE_MAX + 2));
    }

    #[test]
    fn when_all_places_are_taken_who_comes_later_is_counted_still() {
        let mut gathered = Gathered::new(MAX);
        for number in 0..4 {
            for subject in 0..FINDINGS_OF_A_TYPE_MAX {
                assert!(gathered.add(of(number, &format!("r|{subject}"))));
            }
        }
        for number in 4..100 {
            assert!(gathered.add(of(number, "r|x")), "{number}");
            assert!(gathered.add(of(number, "r|y")), "{number}");
        }
        let all = gathered.take();
        assert!(all.len() <= 2 * MAX, "{}", all.len());
        assert_eq!(all.iter().map(|finding| finding.count).sum::<u32>(), 4 * 64 + 96 * 2);
        let further = all.iter().find(|finding| finding.instance() == Some(machine(50))).unwrap();
        assert_eq!((further.count, further.subject.as_str()), (2, "further"));
        assert!(further.description.contains("more than 64 different findings"), "{}", further.description);
    }

    #[test]
    fn places_below_at_and_above_the_limit() {
        let mut gathered = Gathered::new(2);
        let added: Vec<bool> = (0..6).map(|number| gathered.add(of(number, "r|x"))).collect();
        assert_eq!(added, [true, true, true, true, false, false]);
        assert!(gathered.add(of(3, "r|z")), "what is there is counted");
        assert_eq!(gathered.take().len(), 4);
    }

    #[test]
    fn no_other_finding_counts_further_ones() {
        assert!(counts_further(of(1, "r|x").into_further().key().as_str()));
        for subject in ["r|/bin/x|further", "|further", "tool: further", "xfurther", ""] {
            assert!(!counts_further(of(1, subject).key().as_str()), "{subject}");
        }
    }

    #[test]
    fn what_counts_further_ones_takes_no_place_of_others() {
        let mut gathered = Gathered::new(MAX);
        assert!(gathered.add(of(1, "r|x").into_further()));
        assert!((0..FINDINGS_OF_A_TYPE_MAX).all(|number| gathered.add(of(1, &format!("r|{number}")))));
        assert_eq!(counts(&mut gathered, 1), (FINDINGS_OF_A_TYPE_MAX + 1, 65));
    }

    #[test]
    fn what_comes_back_is_the_earlier() {
        let mut gathered = Gathered::new(MAX);
        let later =
            Finding { title: "later".to_owned(), last_seen: UnixTime::from_secs(1_800_000_000), ..of(1, "r|x") };
        assert!(gathered.add(later));
        assert!(gathered.give_back(of(1, "r|x")));
        assert!(gathered.give_back(of(1, "r|y")));
        let mut all = gathered.take();
        all.sort_by_key(|finding| finding.count);
        assert_eq!((all[1].count, all[1].title.as_str()), (2, "later"));
        assert_eq!(all[1].last_seen, UnixTime::from_secs(1_800_000_000));
    }
}
