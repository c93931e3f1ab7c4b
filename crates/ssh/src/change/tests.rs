use super::*;
use crate::host_keys::tests::{ECDSA, ED25519, ED25519_OTHER, RSA};
use proptest::prelude::*;

const BOOT: UnixTime = UnixTime::from_secs(1_800_000_000);

fn keys(lines: &[&str]) -> HostKeySet {
    HostKeySet::parse(lines.iter().copied()).unwrap()
}

fn key(line: &str) -> PublicKey {
    PublicKey::parse(line).unwrap()
}

fn offer<'a>(keys: &'a HostKeySet, proven_by: &'a [PublicKey]) -> Offer<'a> {
    let proved_at = (!proven_by.is_empty()).then_some(BOOT.plus(5000));
    Offer { keys, proven_by, proved_at, proofs_until: BOOT, boot_generation: 1, boot_time: BOOT, now: BOOT.plus(5000) }
}

use PendingReason::{NotByOldKey, Unproven};
use Policy::{AcceptUnproven, RequireProof};

#[test]
fn the_first_set_is_free_unless_proof_is_demanded() {
    let set = keys(&[ED25519, RSA]);
    assert_eq!(decide(AcceptUnproven, None, &offer(&set, &[])), Verdict::First);
    assert_eq!(decide(RequireProof, None, &offer(&set, &[])), Verdict::Pending(Unproven));
    assert_eq!(decide(RequireProof, None, &offer(&set, &[key(RSA)])), Verdict::Pending(Unproven));
    assert_eq!(decide(RequireProof, None, &offer(&set, &[key(RSA), key(ED25519)])), Verdict::First);
}

#[test]
fn a_change_needs_the_old_key() {
    let (old, new) = (keys(&[ED25519]), keys(&[ECDSA]));
    let current = Some(Current { keys: &old, is_vouched_for: true, boot_generation: 1 });
    assert_eq!(decide(AcceptUnproven, current, &offer(&old, &[])), Verdict::Same);
    assert_eq!(decide(AcceptUnproven, current, &offer(&new, &[])), Verdict::Pending(NotByOldKey));
    assert_eq!(decide(AcceptUnproven, current, &offer(&new, &[key(ECDSA)])), Verdict::Pending(NotByOldKey));
    assert_eq!(decide(AcceptUnproven, current, &offer(&new, &[key(ED25519_OTHER)])), Verdict::Pending(NotByOldKey));
    assert_eq!(decide(AcceptUnproven, current, &offer(&new, &[key(ED25519)])), Verdict::ProvenByOldKey);
    assert_eq!(decide(RequireProof, current, &offer(&new, &[key(ED25519)])), Verdict::Pending(Unproven));
    assert_eq!(decide(RequireProof, current, &offer(&new, &[key(ED25519), key(ECDSA)])), Verdict::ProvenByOldKey);
    // One more key is a change like any other: whoever adds one could be in the middle with it.
    let more = keys(&[ED25519, ECDSA]);
    assert_eq!(decide(AcceptUnproven, current, &offer(&more, &[key(ECDSA)])), Verdict::Pending(NotByOldKey));
}

#[test]
fn a_proof_counts_once() {
    let (old, new) = (keys(&[ED25519]), keys(&[ECDSA]));
    let current = Some(Current { keys: &old, is_vouched_for: true, boot_generation: 1 });
    let by_old = [key(ED25519)];
    let at = BOOT.plus(5000);
    for (until, verdict) in [
        (at.minus(1), Verdict::ProvenByOldKey),
        (at, Verdict::Pending(NotByOldKey)),
        (at.plus(1), Verdict::Pending(NotByOldKey)),
    ] {
        let offer = Offer { proofs_until: until, ..offer(&new, &by_old) };
        assert_eq!(decide(AcceptUnproven, current, &offer), verdict);
    }
}

#[test]
fn a_fresh_boot_below_at_and_above_its_time() {
    let (old, new) = (keys(&[ED25519]), keys(&[ECDSA]));
    let current = Some(Current { keys: &old, is_vouched_for: true, boot_generation: 1 });
    for (seconds, generation, verdict) in [
        (0, 2, Verdict::FreshBoot),
        (FRESH_BOOT_SECONDS - 1, 2, Verdict::FreshBoot),
        (FRESH_BOOT_SECONDS, 2, Verdict::FreshBoot),
        (FRESH_BOOT_SECONDS + 1, 2, Verdict::Pending(NotByOldKey)),
        (0, 1, Verdict::Pending(NotByOldKey)),
        (0, 0, Verdict::Pending(NotByOldKey)),
    ] {
        let offer = Offer { boot_generation: generation, now: BOOT.plus(seconds), ..offer(&new, &[]) };
        assert_eq!(decide(AcceptUnproven, current, &offer), verdict, "{seconds} {generation}");
        assert_eq!(decide(RequireProof, current, &offer), Verdict::Pending(Unproven));
        // With proof it is the same rule for both policies, but for a set that is vouched for.
        let by_itself = [key(ECDSA)];
        let offer = Offer { proven_by: &by_itself, ..offer };
        assert_eq!(decide(AcceptUnproven, current, &offer), verdict, "{seconds} {generation}");
        assert_eq!(decide(RequireProof, current, &offer), Verdict::Pending(NotByOldKey), "{seconds} {generation}");
        let doubtful = current.map(|current| Current { is_vouched_for: false, ..current });
        assert_eq!(decide(RequireProof, doubtful, &offer), verdict, "{seconds} {generation}");
        // What an old key has signed needs no boot.
        let by_both = [key(ECDSA), key(ED25519)];
        let offer = Offer { proven_by: &by_both, proved_at: Some(BOOT.plus(1)), ..offer };
        assert_eq!(decide(RequireProof, current, &offer), Verdict::ProvenByOldKey);
    }
}

#[test]
fn policies_round_trip() {
    for policy in [AcceptUnproven, RequireProof] {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    assert_eq!("".parse::<Policy>(), Err(PolicyError));
    assert_eq!(Policy::default(), AcceptUnproven);
    let served = [is_served(AcceptUnproven, false, false), is_served(RequireProof, false, false)];
    assert_eq!(served, [true, false]);
    assert!(is_served(RequireProof, true, false) && is_served(RequireProof, false, true));
}

const LINES: [&str; 4] = [ED25519, ED25519_OTHER, ECDSA, RSA];

/// Some of the keys, never none.
fn some() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(LINES.to_vec(), 1..=LINES.len())
}

proptest! {
    /// What a local user can do who has the machine's credentials and none of its host keys: nothing, once the machine has
    /// spoken in this boot, or has keys that are vouched for where proof is demanded.
    #[test]
    fn without_an_old_key_nothing_changes_in_the_boot_that_has_spoken_nor_what_is_vouched_for(
        old in some(), new in some(), seconds in 0..2000_u64, generation in 0..4_u32, spoken in 0..4_u32,
        proved in prop::option::of(0..2000_u64), until in 0..2000_u64, strict in any::<bool>(),
        is_vouched_for in any::<bool>(),
    ) {
        // Nor in any other, where proof is demanded and the set is vouched for.
        prop_assume!(generation <= spoken || (strict && is_vouched_for));
        let (old, new) = (keys(&old), keys(&new));
        // The intruder proves every key of its own, and none of the machine's.
        let proven_by: Vec<PublicKey> = new.iter().filter(|key| !old.contains(key)).cloned().collect();
        let offer = Offer {
            keys: &new, proven_by: &proven_by, proved_at: proved.map(|at| BOOT.plus(at)), proofs_until: BOOT.plus(until),
            boot_generation: generation, boot_time: BOOT, now: BOOT.plus(seconds),
        };
        let policy = if strict { RequireProof } else { AcceptUnproven };
        let current = Current { keys: &old, is_vouched_for, boot_generation: spoken };
        let verdict = decide(policy, Some(current), &offer);
        if old == new {
            prop_assert_eq!(verdict, Verdict::Same);
        } else {
            prop_assert!(matches!(verdict, Verdict::Pending(_)), "{verdict:?}");
        }
    }

    /// Where proof is demanded, no set takes another's place without it.
    #[test]
    fn where_proof_is_demanded_every_new_key_has_given_it(
        old in prop::option::of(some()), is_vouched_for in any::<bool>(), new in some(), proofs in prop::sample::subsequence(LINES.to_vec(), 0..=4),
        generation in 0..3_u32, seconds in 0..2000_u64,
    ) {
        let (old, new) = (old.map(|old| keys(&old)), keys(&new));
        let proven_by: Vec<PublicKey> = proofs.iter().map(|line| key(line)).collect();
        let offer = Offer {
            keys: &new, proven_by: &proven_by, proved_at: Some(BOOT.plus(1)), proofs_until: BOOT,
            boot_generation: generation, boot_time: BOOT, now: BOOT.plus(seconds),
        };
        let current = old.as_ref().map(|keys| Current { keys, is_vouched_for, boot_generation: 1 });
        match decide(RequireProof, current, &offer) {
            Verdict::Pending(_) | Verdict::Same => {}
            taken => prop_assert!(offer.is_proven(), "{taken:?}"),
        }
        // And the weaker policy never refuses what the stricter one takes.
        if !matches!(decide(RequireProof, current, &offer), Verdict::Pending(_)) {
            prop_assert!(!matches!(decide(AcceptUnproven, current, &offer), Verdict::Pending(_)));
        }
    }
}
