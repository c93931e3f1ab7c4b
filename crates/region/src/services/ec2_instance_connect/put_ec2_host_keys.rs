//! `PutEC2HostKeys`: a machine says which host keys it has.

use inborn_identity::UnixTime;
use inborn_ssh::{HostKeySet, Offer, PROOFS_MAX, PendingReason, PublicKey, Verdict, proof_message, verify_proof};
use inborn_store::Instance;
use inborn_wire::error::Problem;
use serde_json::json;

use super::host_keys::{self, Published};
use super::{certificates, policy, refusal, request};
use crate::gateway::PendingHostKeys;
use crate::metrics::HostKeyLabels;
use crate::operation::{JsonCall, Outcome, Reply};

const HOST_KEYS: &str = "HostKeys";
/// Ours: signatures of the set by its keys and by those it replaces, and when they were made. AWS's scripts send none.
const PROOFS: &str = "Proofs";
const PROOF_TIME: &str = "ProofTime";
const CERTIFICATES: &str = certificates::CERTIFICATES;
const WANTED: &str = "wanted";
/// How far from now the time of a proof may be: as far as that of the request.
const PROOF_SKEW_SECONDS: u64 = 15 * 60;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let machine = request::machine(&call)?;
        let lines = call.parameters.texts(HOST_KEYS)?.unwrap_or_default();
        let keys = HostKeySet::parse(lines).map_err(|error| refusal::invalid(error.to_string()))?;
        let (proven_by, proved_at) = proofs(&call, &keys)?;
        let Some(claims) = call.caller.claims.as_deref() else { return Err(Problem::Internal) };
        let published = Published {
            offer: Offer {
                keys: &keys,
                proven_by: &proven_by,
                proved_at,
                proofs_until: UnixTime::MAX,
                boot_generation: claims.boot_generation,
                boot_time: machine.boot_time,
                now: call.now,
            },
            access_key_id: call.caller.access_key_id.as_str(),
            source_address: call.source.to_string(),
        };
        let policy = policy::of(call.region, machine.account).await?;
        let applied = host_keys::update(call.region, machine.id, |record| published.apply(policy, record)).await?;
        let verdict = applied.verdict;
        let outcome = word(verdict);
        call.region.metrics().host_keys.get_or_create(&HostKeyLabels { outcome }).inc();
        if applied.is_new_pending {
            tracing::warn!(
                instance = %machine.id, outcome, digest = keys.digest(),
                "a machine offers host keys that wait for a decision: see `inborn host-keys show`"
            );
            let (caller, source, instance) = (call.caller, call.source, machine.id);
            let pending = PendingHostKeys { caller, source, instance, keys: &keys, outcome, served: applied.served };
            call.region.record_pending_host_keys(&pending, call.now);
        }
        let certificates = match verdict {
            Verdict::Pending(_) => Vec::new(),
            // What is proven in this very call, and serves from now on.
            _ if is_wanted(&call)? && published.offer.is_proven() => certified(&call, &machine, &keys).await?,
            _ => Vec::new(),
        };
        let elements = lower(outcome, &keys, certificates.len());
        let mut output = json!({ "Outcome": outcome, "Digest": keys.digest(), "Proven": published.offer.is_proven() });
        if let Some(members) = output.as_object_mut().filter(|_| !certificates.is_empty()) {
            members.insert(CERTIFICATES.to_owned(), certificates.into());
        }
        Ok(Reply { answer: request::answer(&call, &output), response_elements: elements })
    })
}

/// Whether the machine wants certificates of its keys. Ours, as the proofs are.
fn is_wanted(call: &JsonCall<'_>) -> Result<bool, Problem> {
    match call.parameters.text(CERTIFICATES)? {
        None => Ok(false),
        Some(WANTED) => Ok(true),
        Some(_) => Err(refusal::invalid(format!("{CERTIFICATES} is {WANTED}, or not there"))),
    }
}

async fn certified(call: &JsonCall<'_>, machine: &Instance, keys: &HostKeySet) -> Result<Vec<String>, Problem> {
    let are_enabled = certificates::are_enabled(call.region, machine.account).await?;
    if are_enabled { certificates::of(call, machine, keys) } else { Ok(Vec::new()) }
}

/// The audit tells what became of it, in CloudTrail's spelling of names.
fn lower(outcome: &str, keys: &HostKeySet, certificates: usize) -> serde_json::Value {
    let fingerprints: Vec<String> = keys.iter().map(PublicKey::fingerprint).collect();
    json!({
        "outcome": outcome, "digest": keys.digest(), "fingerprints": fingerprints, "certificates": certificates
    })
}

/// Which keys have signed the set, and when. Only a machine's identity can have: the message names it.
fn proofs(call: &JsonCall<'_>, keys: &HostKeySet) -> Result<(Vec<PublicKey>, Option<UnixTime>), Problem> {
    let texts = call.parameters.texts(PROOFS)?.unwrap_or_default();
    if texts.is_empty() {
        return Ok((Vec::new(), None));
    }
    if texts.len() > PROOFS_MAX {
        return Err(refusal::invalid(format!("A call brings at most {PROOFS_MAX} proofs")));
    }
    let seconds = call.parameters.integer(PROOF_TIME)?.and_then(|seconds| u64::try_from(seconds).ok());
    let at = seconds.map(UnixTime::from_secs).ok_or_else(|| refusal::invalid("Proofs need a ProofTime"))?;
    if at.since(call.now).max(call.now.since(at)) > PROOF_SKEW_SECONDS {
        return Err(refusal::invalid("ProofTime is more than 15 minutes away from now: is the machine's clock right?"));
    }
    let instance = call.caller.principal.instance().ok_or(Problem::Internal)?;
    let message = proof_message(call.caller.principal.account(), instance, at, keys);
    let by = |text: &str| verify_proof(text, &message).map_err(|error| refusal::invalid(error.to_string()));
    Ok((texts.into_iter().map(by).collect::<Result<_, _>>()?, Some(at)))
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::First => "first",
        Verdict::Same => "same",
        Verdict::ProvenByOldKey => "old-key",
        Verdict::FreshBoot => "fresh-boot",
        Verdict::Pending(PendingReason::Unproven) => "pending-unproven",
        Verdict::Pending(PendingReason::NotByOldKey) => "pending-not-by-old-key",
    }
}
